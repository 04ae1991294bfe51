/* abi.c - see abi.h. */
#include "core/abi.h"

#define ABI_MODULE "cloop._abi"

/* Calls a function of that module. Returns a new reference or NULL. */
static PyObject *
ask(const char *function, const char *format, ...)
{
    PyObject *module = NULL, *callable = NULL, *args = NULL, *result = NULL;
    va_list values;
    va_start(values, format);
    args = Py_VaBuildValue(format, values);
    va_end(values);
    if (args != NULL && (module = PyImport_ImportModule(ABI_MODULE)) != NULL &&
        (callable = PyObject_GetAttrString(module, function)) != NULL)
        result = PyObject_CallObject(callable, args);
    Py_XDECREF(args);
    Py_XDECREF(module);
    Py_XDECREF(callable);
    return result;
}

static bool
is_about_asyncio(void)
{
    return PyErr_ExceptionMatches(PyExc_AttributeError) ||
           PyErr_ExceptionMatches(PyExc_TypeError) ||
           PyErr_ExceptionMatches(PyExc_ImportError);
}

PyObject *
cl_abi_stand_in(const char *module, const char *attribute)
{
    if (!is_about_asyncio())
        return NULL;
    PyObject *error = PyErr_GetRaisedException();
    PyObject *value = ask("stand_in", "(ssO)", module, attribute, error);
    Py_DECREF(error);
    return value;
}

int
cl_abi_lacks(const char *part)
{
    if (!is_about_asyncio())
        return -1;
    PyObject *error = PyErr_GetRaisedException();
    PyObject *result = ask("lacks", "(sO)", part, error);
    Py_DECREF(error);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cl_abi_has(const char *part)
{
    PyObject *result = ask("has", "(s)", part);
    int answer = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return answer;
}
