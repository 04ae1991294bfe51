/* iter.c - see iter.h. */
#include "futures/iter.h"

#include "core/errors.h"
#include "core/spares.h"
#include "futures/future.h"
#include "futures/stop.h"

typedef struct {
    PyObject_HEAD
    FutureObject *fi_future; /* owned; NULL when exhausted */
    LoopObject *fi_loop;     /* owned; NULL if it is not ours */
} FutureIterObject;

PyObject *
cl_future_iter(PyObject *future)
{
    LoopObject *loop = cl_loop_cast(((FutureObject *)future)->f_loop);
    cl_state *st = loop != NULL ? loop->l_st : cl_future_state(future);
    if (st == NULL)
        return NULL;
    if (((FutureObject *)future)->f_loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Future object is not initialized.");
        return NULL;
    }
    FutureIterObject *iter = (FutureIterObject *)cl_spares_take(
        loop == NULL ? NULL : &cl_futures_on(loop)->spare_iters,
        cl_futures_of(st)->FutureIterType, sizeof(*iter));
    if (iter == NULL)
        return NULL;
    iter->fi_future = (FutureObject *)Py_NewRef(future);
    iter->fi_loop = (LoopObject *)Py_XNewRef(loop);
    PyObject_GC_Track(iter);
    return (PyObject *)iter;
}

static int
FutureIter_traverse(FutureIterObject *iter, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(iter);
    Py_VISIT(iter->fi_future);
    Py_VISIT(iter->fi_loop);
    return 0;
}

static int
FutureIter_clear(FutureIterObject *iter)
{
    Py_CLEAR(iter->fi_future);
    Py_CLEAR(iter->fi_loop);
    return 0;
}

static void
FutureIter_dealloc(FutureIterObject *iter)
{
    PyObject_GC_UnTrack(iter);
    Py_TRASHCAN_BEGIN(iter, FutureIter_dealloc);
    LoopObject *loop = iter->fi_loop;
    if (loop != NULL)
        cl_stop_forget(loop->l_st);
    Py_CLEAR(iter->fi_future);
    cl_spares_give_plain(loop == NULL ? NULL
                                      : &cl_futures_on(loop)->spare_iters,
                         (PyObject *)iter);
    Py_XDECREF(loop);
    Py_TRASHCAN_END;
}

/* Returns the result of a future that is done, or raises its exception. */
static PyObject *
result_of(FutureObject *future)
{
    if (future->f_state == CL_FINISHED && future->f_exception == NULL) {
        future->f_log_tb = 0;
        return Py_NewRef(future->f_result);
    }
    cl_state *st = cl_future_state((PyObject *)future);
    return cl_future_inherited(cl_futures_of(st)->asyncio_Future,
                               (PyObject *)future,
                               cl_futures_of(st)->str_result, NULL, 0, NULL);
}

static PySendResult
advance(FutureIterObject *iter, PyObject **value)
{
    FutureObject *future = iter->fi_future;
    *value = NULL;
    if (future == NULL) {
        *value = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (future->f_state == CL_PENDING) {
        if (future->f_blocking) {
            PyErr_SetString(PyExc_RuntimeError,
                            "await wasn't used with future");
            return PYGEN_ERROR;
        }
        future->f_blocking = 1;
        *value = Py_NewRef(future);
        return PYGEN_NEXT;
    }
    iter->fi_future = NULL; /* like a generator, returns its result once */
    *value = result_of(future);
    Py_DECREF(future);
    return *value == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* NULL without an exception means None. */
static PyObject *
iternext(PyObject *self)
{
    PyObject *value;
    PySendResult status = advance((FutureIterObject *)self, &value);
    if (status != PYGEN_RETURN)
        return value;
    const LoopObject *loop = ((FutureIterObject *)self)->fi_loop;
    if (value != Py_None && loop != NULL && Py_REFCNT(self) == 1)
        return cl_stop_with(loop->l_st, value);
    if (value != Py_None)
        cl_raise_stop_iteration(value);
    Py_DECREF(value);
    return NULL;
}

#if CL_HAS_AM_SEND
static PySendResult
am_send(PyObject *self, PyObject *Py_UNUSED(sent), PyObject **value)
{
    return advance((FutureIterObject *)self, value);
}
#endif

static PyObject *
FutureIter_send(PyObject *self, PyObject *Py_UNUSED(sent))
{
    PyObject *value = iternext(self);
    if (value == NULL && !PyErr_Occurred())
        PyErr_SetNone(PyExc_StopIteration);
    return value;
}

static PyObject *
FutureIter_close(FutureIterObject *iter, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(iter->fi_future);
    Py_RETURN_NONE;
}

static PyObject *
FutureIter_throw(FutureIterObject *iter, PyObject *args)
{
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback))
        return NULL;
#if CL_THROW_TAKES_ONE
    if (value != NULL &&
        PyErr_WarnEx(PyExc_DeprecationWarning,
                     "the (type, exc, tb) signature of throw() is deprecated, "
                     "use the single-arg signature instead.",
                     1) < 0)
        return NULL;
#endif
    Py_CLEAR(iter->fi_future);
    cl_raise_thrown(type, value, traceback);
    return NULL;
}

static PyMethodDef FutureIter_methods[] = {
    {"send", FutureIter_send, METH_O, NULL},
    {"throw", (PyCFunction)FutureIter_throw, METH_VARARGS, NULL},
    {"close", (PyCFunction)FutureIter_close, METH_NOARGS, NULL},
    {NULL}};

static PyType_Slot FutureIter_slots[] = {
    {Py_tp_dealloc, FutureIter_dealloc}, {Py_tp_traverse, FutureIter_traverse},
    {Py_tp_clear, FutureIter_clear},     {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iternext},          {Py_tp_methods, FutureIter_methods},
    CL_AM_SEND(am_send){0, NULL}};

static PyType_Spec FutureIter_spec = {
    .name = "cloop.FutureIter",
    .basicsize = sizeof(FutureIterObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = FutureIter_slots,
};

PyTypeObject *
cl_future_iter_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &FutureIter_spec, NULL, 0, 0);
}
