/* follow.c - see follow.h. */
#include "core/follow.h"

#include <limits.h>

/* No version of a class. */
#define NO_VERSION UINT_MAX

static PyObject *
codes_of(PyObject *functions)
{
    PyObject *codes = PyTuple_New(PyTuple_GET_SIZE(functions));
    for (Py_ssize_t i = 0; codes != NULL && i < PyTuple_GET_SIZE(functions);
         i++) {
        PyObject *function = PyTuple_GET_ITEM(functions, i);
        if (!PyFunction_Check(function)) {
            PyErr_Format(PyExc_TypeError, "%R is not a function", function);
            Py_CLEAR(codes);
        }
        else {
            PyTuple_SET_ITEM(codes, i,
                             Py_NewRef(PyFunction_GET_CODE(function)));
        }
    }
    return codes;
}

int
cl_follow_begin(cl_follow *follow, PyTypeObject *loop, PyTypeObject *behind,
                PyObject *functions, PyObject *known, PyObject *apply)
{
    PyObject *codes = codes_of(functions);
    if (codes == NULL)
        return -1;
    cl_follow_clear(follow);
    follow->fo_loop = (PyTypeObject *)Py_NewRef(loop);
    follow->fo_functions = Py_NewRef(functions);
    follow->fo_codes = codes;
    follow->fo_known = Py_NewRef(known);
    follow->fo_apply = Py_NewRef(apply);
    follow->fo_version = follow->fo_loop_version = NO_VERSION;
    follow->fo_behind = (PyTypeObject *)Py_NewRef(behind);
    return 0;
}

int
cl_follow_traverse(const cl_follow *follow, visitproc visit, void *arg)
{
    Py_VISIT(follow->fo_behind);
    Py_VISIT(follow->fo_loop);
    Py_VISIT(follow->fo_functions);
    Py_VISIT(follow->fo_codes);
    Py_VISIT(follow->fo_known);
    Py_VISIT(follow->fo_apply);
    return 0;
}

void
cl_follow_clear(cl_follow *follow)
{
    Py_CLEAR(follow->fo_behind);
    Py_CLEAR(follow->fo_loop);
    Py_CLEAR(follow->fo_functions);
    Py_CLEAR(follow->fo_codes);
    Py_CLEAR(follow->fo_known);
    Py_CLEAR(follow->fo_apply);
}

static int
apply(cl_follow *follow)
{
    PyObject *function = Py_NewRef(follow->fo_apply);
    PyObject *result = PyObject_CallNoArgs(function);
    Py_DECREF(function);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether the loop's class is as apply() has left it; a class that gets no
 * versions any more counts as that. */
static bool
is_loop_known(const cl_follow *follow, PyObject *name)
{
    unsigned version = cl_type_fresh_version(follow->fo_loop, name);
    return version == 0 || version == follow->fo_loop_version;
}

int
cl_follow_classes(cl_follow *follow, PyObject *name)
{
    /* While the interpreter ends, modules are cleared, and classes with them. */
    if (follow->fo_behind == NULL || cl_is_finalizing())
        return 0;
    unsigned version = cl_type_version(follow->fo_behind);
    if (version != 0 && version == follow->fo_version &&
        is_loop_known(follow, name))
        return 0;
    /* Before, so that what is replaced meanwhile is noticed the next time. */
    version = cl_type_fresh_version(follow->fo_behind, name);
    if (apply(follow) < 0)
        return -1;
    follow->fo_version = version;
    /* After it, since it modifies the class. */
    follow->fo_loop_version = cl_type_fresh_version(follow->fo_loop, name);
    return 0;
}

int
cl_follow_codes(cl_follow *follow)
{
    if (follow->fo_behind == NULL)
        return 0;
    PyObject *functions = follow->fo_functions, *codes = follow->fo_codes;
    Py_ssize_t i = 0, count = PyTuple_GET_SIZE(codes);
    while (i < count && PyFunction_GET_CODE(PyTuple_GET_ITEM(functions, i)) ==
                            PyTuple_GET_ITEM(codes, i))
        i++;
    return i == count ? 0 : apply(follow);
}

bool
cl_follow_is_as_known(const cl_follow *follow, PyObject *name)
{
    if (follow->fo_behind == NULL)
        return true;
    PyObject *value = cl_type_lookup(follow->fo_behind, name);
    PyObject *known = PyDict_GetItemWithError(follow->fo_known, name);
    bool same = value == known && value != NULL;
    if (known == NULL)
        PyErr_Clear();
    Py_XDECREF(value);
    return same;
}
