/* errors.c - see errors.h. */
#include "core/errors.h"

#include <errno.h>

#include "core/loop.h"

int
cl_raise_errno(int err)
{
    if (err == -ENOMEM) {
        PyErr_NoMemory();
    }
    else {
        errno = -err;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return -1;
}

int
cl_report(LoopObject *loop, PyObject *details, PyObject *exception)
{
    PyObject *type, *value, *traceback;
    cl_loop_rest(loop);
    PyErr_GetExcInfo(&type, &value, &traceback);
    PyErr_SetExcInfo(Py_NewRef(Py_TYPE(exception)), Py_NewRef(exception),
                     PyException_GetTraceback(exception));
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)loop, loop->l_st->str_call_exception_handler, details);
    PyErr_SetExcInfo(type, value, traceback);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

bool
cl_error_is_exit(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
           PyErr_ExceptionMatches(PyExc_SystemExit);
}

void
cl_raise_thrown(PyObject *type, PyObject *value, PyObject *traceback)
{
    if (PyExceptionInstance_Check(type)) {
        if (value != NULL && value != Py_None) {
            PyErr_SetString(
                PyExc_TypeError,
                "instance exception may not have a separate value");
            return;
        }
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    }
    else if (PyExceptionClass_Check(type)) {
        PyErr_SetObject(type, value == Py_None ? NULL : value);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s",
                     Py_TYPE(type)->tp_name);
        return;
    }
    if (traceback != NULL && traceback != Py_None) {
        PyObject *error = PyErr_GetRaisedException();
        if (PyException_SetTraceback(error, traceback) < 0)
            Py_DECREF(error);
        else
            PyErr_SetRaisedException(error);
    }
}
