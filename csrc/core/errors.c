/* errors.c - see errors.h. */
#include "core/errors.h"

#include <errno.h>

#include "core/loop.h"

int
cl_raise_os_error(int err)
{
    errno = -err;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

int
cl_raise_errno(int err)
{
    if (err != -ENOMEM)
        return cl_raise_os_error(err);
    PyErr_NoMemory();
    return -1;
}

int
cl_report(LoopObject *loop, PyObject *details, PyObject *exception)
{
    cl_loop_rest(loop);
    PyObject *before = cl_swap_handled(Py_NewRef(exception));
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)loop, loop->l_st->str_call_exception_handler, details);
    Py_XDECREF(cl_swap_handled(before));
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cl_report_transport(LoopObject *loop, const char *text, PyObject *exception,
                    PyObject *transport, PyObject *protocol)
{
    cl_state *st = loop->l_st;
    PyObject *message = PyUnicode_FromString(text), *details = PyDict_New();
    int status = -1;
    if (message != NULL && details != NULL &&
        PyDict_SetItem(details, st->str_message, message) == 0 &&
        PyDict_SetItem(details, st->str_exception, exception) == 0 &&
        PyDict_SetItem(details, st->str_transport,
                       transport ? transport : Py_None) == 0 &&
        PyDict_SetItem(details, st->str_protocol,
                       protocol ? protocol : Py_None) == 0)
        status = cl_report(loop, details, exception);
    Py_XDECREF(message);
    Py_XDECREF(details);
    return status;
}

int
cl_log(LoopObject *loop, PyObject *level, const char *format, PyObject *first,
       PyObject *second, PyObject *exception)
{
    cl_state *st = loop->l_st;
    PyObject *text = PyUnicode_FromString(format), *result = NULL;
    PyObject *logger = text == NULL ? NULL
                                    : PyObject_GetAttr(st->base_events_module,
                                                       st->str_logger);
    PyObject *args[5] = {logger, text};
    size_t nargs = 2;
    if (first != NULL)
        args[nargs++] = first;
    if (second != NULL)
        args[nargs++] = second;
    args[nargs] = exception;
    if (logger != NULL)
        result = PyObject_VectorcallMethod(
            level, args, nargs, exception ? st->kwnames_exc_info : NULL);
    Py_XDECREF(text);
    Py_XDECREF(logger);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cl_log_os_error(LoopObject *loop, PyObject *transport, const char *message,
                PyObject *exception)
{
    if (!loop->l_debug)
        return 0;
    PyObject *text = PyUnicode_FromString(message);
    int status = text == NULL ? -1
                              : cl_log(loop, loop->l_st->str_debug, "%r: %s",
                                       transport, text, exception);
    Py_XDECREF(text);
    return status;
}

bool
cl_error_is_exit(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
           PyErr_ExceptionMatches(PyExc_SystemExit);
}

int
cl_check_thrown(PyObject *type, PyObject *value, PyObject *traceback)
{
    if (traceback != NULL && traceback != Py_None &&
        !PyTraceBack_Check(traceback))
        PyErr_SetString(PyExc_TypeError,
                        "throw() third argument must be a traceback object");
    else if (PyExceptionInstance_Check(type) && value != NULL &&
             value != Py_None)
        PyErr_SetString(PyExc_TypeError,
                        "instance exception may not have a separate value");
    else if (!PyExceptionInstance_Check(type) && !PyExceptionClass_Check(type))
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s",
                     Py_TYPE(type)->tp_name);
    else
        return 0;
    return -1;
}

void
cl_raise_thrown(PyObject *type, PyObject *value, PyObject *traceback)
{
    if (cl_check_thrown(type, value, traceback) < 0)
        return;
    if (PyExceptionInstance_Check(type))
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    else
        PyErr_SetObject(type, value == Py_None ? NULL : value);
    if (traceback != NULL && traceback != Py_None) {
        PyObject *error = PyErr_GetRaisedException();
        if (PyException_SetTraceback(error, traceback) < 0)
            Py_DECREF(error);
        else
            PyErr_SetRaisedException(error);
    }
}
