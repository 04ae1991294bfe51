/* guard.c - see guard.h. */
#include "core/guard.h"

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
