/* guard.c - see guard.h. */
#include "core/guard.h"

#include <string.h>

int
cl_guard_init(cl_guard *guard, PyTypeObject *type, const char *const *names,
              PyTypeObject *source)
{
    guard->g_names = names;
    guard->g_version = CL_GUARD_UNKNOWN;
    for (int i = 0; names[i] != NULL; i++) {
        PyObject *key = PyUnicode_InternFromString(names[i]);
        if (key == NULL)
            return -1;
        PyObject *value = source == NULL ? NULL : cl_type_lookup(source, key);
        guard->g_keys[i] = key;
        guard->g_known[i] = value != NULL ? value : cl_type_lookup(type, key);
        guard->g_count = i + 1;
    }
    guard->g_type = (PyTypeObject *)Py_NewRef(type);
    return 0;
}

int
cl_guard_traverse(const cl_guard *guard, visitproc visit, void *arg)
{
    Py_VISIT(guard->g_type);
    for (int i = 0; i < guard->g_count; i++)
        Py_VISIT(guard->g_known[i]);
    return 0;
}

void
cl_guard_clear(cl_guard *guard)
{
    Py_CLEAR(guard->g_type);
    guard->g_version = CL_GUARD_UNKNOWN;
    for (int i = 0; i < guard->g_count; i++) {
        Py_CLEAR(guard->g_keys[i]);
        Py_CLEAR(guard->g_known[i]);
    }
}

bool
cl_guard_look(cl_guard *guard)
{
    bool same = true;
    unsigned version = cl_type_version(guard->g_type);
    if (!CL_FREE_THREADED && version != 0 && version == guard->g_failed)
        return false;
    /* Comparing keys may run Python code that modifies the class, so the
     * version is read first. A look-up assigns one if the class has none. */
    version = cl_type_fresh_version(guard->g_type, guard->g_keys[0]);
    for (int i = 0; i < guard->g_count && same; i++) {
        PyObject *value = cl_type_lookup(guard->g_type, guard->g_keys[i]);
        same = value == guard->g_known[i];
        Py_XDECREF(value);
    }
    guard->g_version = same && version != 0 ? version : CL_GUARD_UNKNOWN;
    if (!CL_FREE_THREADED) /* threads may read and write one word */
        guard->g_failed = same ? 0 : version;
    CL_COUNT(guard->g_looks, 1);
    return same;
}

/* Whether it was defined in one of asyncio's modules; a wrapper is not, whatever
 * its __module__ says. */
static bool
is_of_asyncio(PyObject *function)
{
    PyObject *globals = PyFunction_GET_GLOBALS(function);
    PyObject *name = PyDict_GetItemString(globals, "__name__");
    const char *text =
        name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    if (text == NULL)
        PyErr_Clear();
    return text != NULL && strncmp(text, "asyncio.", strlen("asyncio.")) == 0;
}

int
cl_original_init(cl_original *original, PyObject *type,
                 const char *const *names)
{
    cl_guard *guard = &original->or_guard;
    if (!PyType_Check(type))
        return 0;
    if (cl_guard_init(guard, (PyTypeObject *)type, names, NULL) < 0)
        return -1;
    PyObject *function = guard->g_known[0];
    if (function == NULL || Py_TYPE(function) == &PyMethodDescr_Type)
        return 0;
    if (PyFunction_Check(function) && is_of_asyncio(function))
        original->or_code = Py_NewRef(PyFunction_GET_CODE(function));
    else
        Py_CLEAR(guard->g_known[0]); /* it never holds */
    return 0;
}

int
cl_original_traverse(const cl_original *original, visitproc visit, void *arg)
{
    Py_VISIT(original->or_code);
    return cl_guard_traverse(&original->or_guard, visit, arg);
}

void
cl_original_clear(cl_original *original)
{
    cl_guard_clear(&original->or_guard);
    Py_CLEAR(original->or_code);
}
