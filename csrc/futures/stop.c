/* stop.c - see stop.h. */
#include "futures/stop.h"

#include "core/errors.h"

static inline PyObject **
value_of(PyObject *stop)
{
    return &((PyStopIterationObject *)stop)->value;
}

/* Whether nobody else refers to the exception, nor has changed it. */
static bool
is_free(PyObject *object)
{
    PyBaseExceptionObject *stop = (PyBaseExceptionObject *)object;
    return stop != NULL && Py_REFCNT(stop) == 1 && stop->traceback == NULL &&
           stop->context == NULL && stop->cause == NULL &&
           stop->dict == NULL && !stop->suppress_context;
}

PyObject *
cl_stop_true(cl_state *st)
{
    cl_futures *futures = cl_futures_of(st);
    if (CL_FREE_THREADED) { /* the others share one */
        cl_raise_stop_iteration(Py_True);
        return NULL;
    }
    if (!is_free(futures->stop_true) ||
        *value_of(futures->stop_true) != Py_True) {
        PyObject *made = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
        if (made == NULL)
            return NULL;
        Py_XSETREF(futures->stop_true, made);
    }
    PyErr_SetRaisedException(Py_NewRef(futures->stop_true));
    return NULL;
}

/* Whether it is free, and its args are a tuple that only it has, of its value. */
static bool
can_be_filled(PyObject *stop)
{
    if (!is_free(stop))
        return false;
    PyObject *args = ((PyBaseExceptionObject *)stop)->args;
    return args != NULL && PyTuple_CheckExact(args) && Py_REFCNT(args) == 1 &&
           PyTuple_GET_SIZE(args) == 1 &&
           PyTuple_GET_ITEM(args, 0) == *value_of(stop);
}

/* Puts the value into the exception, which can be filled. Returns the former
 * one, whose reference is the caller's. Steals nothing. */
static PyObject *
put(PyObject *stop, PyObject *value)
{
    PyObject *before = *value_of(stop);
    PyObject *args = ((PyBaseExceptionObject *)stop)->args;
    PyObject *item = PyTuple_GET_ITEM(args, 0);
    *value_of(stop) = Py_NewRef(value);
    cl_tuple_put_first(args, Py_NewRef(value));
    Py_XDECREF(item); /* `before` is the same, so this frees nothing */
    /* gc.freeze() may have taken it from the collector. */
    if (PyType_IS_GC(Py_TYPE(value))) {
        PyObject_GC_UnTrack(stop);
        PyObject_GC_Track(stop);
    }
    return before;
}

PyObject *
cl_stop_with(cl_state *st, PyObject *result)
{
    cl_futures *futures = cl_futures_of(st);
    PyObject *stop = futures->stop_item, *before = NULL;
    if (CL_FREE_THREADED) {
        cl_raise_stop_iteration(result);
        Py_DECREF(result);
        return NULL;
    }
    if (!can_be_filled(stop)) {
        stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        if (stop != NULL) {
            before = futures->stop_item;
            futures->stop_item = stop;
        }
    }
    else {
        before = put(stop, result);
    }
    Py_DECREF(result);
    if (stop != NULL) {
        futures->stop_is_full = true;
        Py_INCREF(stop);
    }
    Py_XDECREF(before); /* may run Python code */
    (void)cl_raise_first(stop);
    return NULL;
}

void
cl_stop_empty(cl_futures *futures)
{
    PyObject *stop = futures->stop_item;
    futures->stop_is_full = false;
    if (can_be_filled(stop)) {
        Py_DECREF(put(stop, Py_None));
        return;
    }
    futures->stop_item = NULL; /* somebody has it */
    Py_XDECREF(stop);
}
