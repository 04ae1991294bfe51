/* inject.c - see inject.h. */
#include "inject.h"

#ifdef CL_INJECT

#include <unistd.h>

#include "base/stress.h"

PyDoc_STRVAR(
    stress_doc,
    "_stress(*, nomem=0, lasting=1, then=0, place=False, pairs=False, "
    "record=False, calls=False, round=0, collect=0, send=0, receive=0)"
    "\n--\n\n"
    "Make the nomem-th allocation from now on fail, `lasting` in all, and the "
    "then-th; or the first one at a\n"
    "place where none has failed so yet, and the `lasting` - 1 after it. With "
    "`calls`, those of Python "
    "fail, too. Collect garbage at every "
    "collect-th allocation of an\n"
    "object, or at the first one at a place where that was not so in this "
    "round; limit the bytes that a stream sends or receives in a call. 0 "
    "turns each off. Return the number of allocations "
    "since the last\n"
    "call. See csrc/base/stress.h.");

static PyObject *
inject_stress(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"nomem",   "lasting", "then",    "place",
                               "pairs",   "record",  "calls",   "round",
                               "collect", "send",    "receive", NULL};
    cl_stress_orders orders = {.lasting = 1};
    long count = cl_stress_count();
    int place = 0, pairs = 0, record = 0, calls = 0;
    Py_ssize_t send = 0, receive = 0;
    cl_stress_set(&orders);
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "|$lllppppllnn:_stress", keywords, &orders.nomem,
            &orders.lasting, &orders.then, &place, &pairs, &record, &calls,
            &orders.round, &orders.collect, &send, &receive))
        return NULL;
    orders.place = place;
    orders.pairs = pairs;
    orders.record = record;
    orders.calls = calls;
    orders.send = (size_t)send;
    orders.receive = (size_t)receive;
    PyObject *result = (PyLong_FromLong)(count);
    cl_stress_set(&orders);
    return result;
}

PyDoc_STRVAR(places_doc,
             "_stress_places()\n--\n\n"
             "Return the number of places where an allocation has failed by "
             "_stress(place=True).");

static PyObject *
inject_places(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return (PyLong_FromLong)(cl_stress_places());
}

PyDoc_STRVAR(seen_doc,
             "_stress_seen(objects)\n--\n\n"
             "Return the places that were reached since _stress(record=True), "
             "as the bytes of an array\nof addresses: all, or those that "
             "allocate an object that the collector knows.");

static PyObject *
inject_seen(PyObject *Py_UNUSED(module), PyObject *objects)
{
    const size_t most = (size_t)1 << CL_STRESS_PLACES_BITS;
    uintptr_t *places = malloc(most * sizeof(uintptr_t));
    if (places == NULL)
        return PyErr_NoMemory();
    size_t count = cl_stress_seen(objects == Py_True, places, most);
    PyObject *found =
        (PyBytes_FromStringAndSize)((const char *)places,
                                    (Py_ssize_t)(count * sizeof(uintptr_t)));
    free(places);
    return found;
}

PyDoc_STRVAR(left_doc,
             "_stress_left(places, pairs, several, round)\n--\n\n"
             "Return those of the places where none has failed, or no row of "
             "several, or where nothing\nwas collected in this round; with or "
             "without those of pairs of callers.");

static PyObject *
inject_left(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *data;
    Py_ssize_t size, kept = 0;
    int pairs, several;
    long round;
    PyObject *bytes;
    if (!PyArg_ParseTuple(args, "Sppl:_stress_left", &bytes, &pairs, &several,
                          &round))
        return NULL;
    data = PyBytes_AS_STRING(bytes);
    size = PyBytes_GET_SIZE(bytes) / (Py_ssize_t)sizeof(uintptr_t);
    PyObject *left =
        (PyBytes_FromStringAndSize)(NULL, PyBytes_GET_SIZE(bytes));
    if (left == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < size; i++) {
        uintptr_t place;
        memcpy(&place, data + i * (Py_ssize_t)sizeof(place), sizeof(place));
        if (cl_stress_is_left(place, pairs, several, round))
            memcpy(PyBytes_AS_STRING(left) +
                       kept++ * (Py_ssize_t)sizeof(place),
                   &place, sizeof(place));
    }
    (void)(_PyBytes_Resize)(&left, kept * (Py_ssize_t)sizeof(uintptr_t));
    return left;
}

PyDoc_STRVAR(sites_doc,
             "_stress_sites()\n--\n\n"
             "Return the lines that allocate, each with its file, its number, "
             "and how often it was\nreached and failed.");

static PyObject *
inject_sites(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    size_t count;
    cl_stress_site *sites = cl_stress_sites(&count);
    PyObject *list = (PyList_New)(0);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *site = CL_STRESS_SIZED(Py_BuildValue)(
            "slll", sites[i].file, sites[i].line,
            atomic_load(&sites[i].reached), atomic_load(&sites[i].failed));
        if (site == NULL || (PyList_Append)(list, site) < 0)
            Py_CLEAR(list);
        Py_XDECREF(site);
    }
    return list;
}

#ifdef CL_COVERAGE
void __gcov_dump(void);
void __gcov_reset(void);

PyDoc_STRVAR(exit_doc, "_exit(status)\n--\n\n"
                       "os._exit(), which writes first what was counted.");

static PyObject *
inject_exit(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"status", NULL};
    int status;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i:_exit", keywords,
                                     &status))
        return NULL;
    __gcov_dump();
    _exit(status);
}

PyDoc_STRVAR(save_counters_doc,
             "_save_counters()\n--\n\n"
             "Write what was counted, and count from 0 again.");

static PyObject *
inject_save_counters(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    __gcov_dump();
    __gcov_reset();
    Py_RETURN_NONE;
}

/* Returns 0/-1. Runs Python. */
static int
replace_exit(PyObject *module)
{
    PyObject *os = PyImport_ImportModule("os"), *function = NULL;
    int err = -1;
    if (os != NULL &&
        (function = PyObject_GetAttrString(module, "_exit")) != NULL)
        err = PyObject_SetAttrString(os, "_exit", function);
    Py_XDECREF(os);
    Py_XDECREF(function);
    return err;
}
#endif

static PyMethodDef methods[] = {
    {"_stress", (PyCFunction)(void (*)(void))inject_stress,
     METH_VARARGS | METH_KEYWORDS, stress_doc},
    {"_stress_places", inject_places, METH_NOARGS, places_doc},
    {"_stress_seen", inject_seen, METH_O, seen_doc},
    {"_stress_left", inject_left, METH_VARARGS, left_doc},
    {"_stress_sites", inject_sites, METH_NOARGS, sites_doc},
#ifdef CL_COVERAGE
    {"_exit", (PyCFunction)(void (*)(void))inject_exit,
     METH_VARARGS | METH_KEYWORDS, exit_doc},
    {"_save_counters", inject_save_counters, METH_NOARGS, save_counters_doc},
#endif
    {NULL}};

int
cl_inject_setup(PyObject *module)
{
    if (PyModule_AddFunctions(module, methods) < 0)
        return -1;
#ifdef CL_COVERAGE
    return replace_exit(module);
#else
    return 0;
#endif
}

#endif
