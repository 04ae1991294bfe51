/* args.c - see args.h. */
#include "core/args.h"

#include "core/loop.h"

PyObject *
cl_call_module(PyObject *module, PyObject *name, PyObject *const *args,
               size_t nargs, PyObject *kwnames)
{
    PyObject *callable = PyObject_GetAttr(module, name);
    if (callable == NULL)
        return NULL;
    PyObject *result = PyObject_Vectorcall(callable, args, nargs, kwnames);
    Py_DECREF(callable);
    return result;
}

int
cl_call_void(PyObject *function, PyObject *first, PyObject *second)
{
    PyObject *args[] = {first, second};
    PyObject *result =
        PyObject_Vectorcall(function, args, second == NULL ? 1 : 2, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cl_loop_check_open(LoopObject *loop)
{
    /* Checks l_open too: Python code can reset _closed, or skip __init__(). */
    if (!loop->l_closed && loop->l_open)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return -1;
}

int
cl_loop_check_debug(LoopObject *loop, PyObject *callback, const char *method,
                    bool anywhere)
{
    PyObject *name = NULL, *result = NULL;
    if (!anywhere) {
        result = PyObject_CallMethodNoArgs((PyObject *)loop,
                                           loop->l_st->str__check_thread);
        if (result == NULL)
            return -1;
        Py_CLEAR(result);
    }
    if ((name = PyUnicode_FromString(method)) == NULL)
        return -1;
    PyObject *argv[] = {(PyObject *)loop, callback, name};
    result = PyObject_VectorcallMethod(loop->l_st->str__check_callback, argv,
                                       3, NULL);
    Py_DECREF(name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
take_keyword(cl_call_args *call, cl_state *st, PyObject *key, PyObject *value)
{
    if (cl_is_keyword(key, st->str_context)) {
        call->context = value;
        return 0;
    }
    if (!PyUnicode_Check(key)) {
        PyErr_Format(PyExc_TypeError, "%s() keywords must be strings",
                     call->method);
        return -1;
    }
    for (int i = 0; i < call->count; i++) {
        if (!PyUnicode_CompareWithASCIIString(key, call->names[i])) {
            if (call->named[i] != NULL) {
                PyErr_Format(PyExc_TypeError,
                             "%s() got multiple values for argument '%s'",
                             call->method, call->names[i]);
                return -1;
            }
            call->named[i] = value;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError,
                 "%s() got an unexpected keyword argument '%U'", call->method,
                 key);
    return -1;
}

int
cl_call_args_parse(cl_call_args *call, cl_state *st, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t given = nargs < call->count ? nargs : call->count;
    call->named[0] = call->named[1] = call->context = NULL;
    for (Py_ssize_t i = 0; i < given; i++)
        call->named[i] = args[i];
    call->rest = args + given;
    call->nrest = nargs - given;
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        if (take_keyword(call, st, PyTuple_GET_ITEM(kwnames, i),
                         args[nargs + i]) < 0)
            return -1;
    }
    for (int i = 0; i < call->count; i++) {
        if (call->named[i] == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() missing 1 required positional argument: '%s'",
                         call->method, call->names[i]);
            return -1;
        }
    }
    return 0;
}

int
cl_call_args_refuse_context(const cl_call_args *call)
{
    if (call->context == NULL)
        return 0;
    PyErr_Format(PyExc_TypeError,
                 "%s() got an unexpected keyword argument 'context'",
                 call->method);
    return -1;
}

PyObject *
cl_call_args_only(cl_state *st, const char *method, const char *const *names,
                  PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    cl_call_args call = {.method = method, .names = names, .count = 1};
    if (nargs == 1 && kwnames == NULL)
        return args[0];
    if (cl_call_args_parse(&call, st, args, nargs, kwnames) < 0 ||
        cl_call_args_refuse_context(&call) < 0)
        return NULL;
    if (call.nrest > 0) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes 2 positional arguments but %zd were given",
                     method, nargs + 1);
        return NULL;
    }
    return call.named[0];
}
