/* layer.c - see layer.h. */
#include "core/layer.h"

#include <string.h>

#include "core/abi.h"

static inline PyObject **
field(cl_state *st, size_t at)
{
    return (PyObject **)((char *)st + at);
}

/* For each row of a table, which may be NULL. */
#define FOR_EACH(type, row, table) \
    for (const type *row = (table); row != NULL && row->at != 0; row++)

/* --------------------------------------------------------------------- setup */

/* 0/-1 */
static int
import(const cl_import_row *row, PyObject **value)
{
    PyObject *found = PyImport_ImportModule(row->module);
    const char *rest = row->attribute;
    while (found != NULL && *rest != '\0') {
        size_t length = strcspn(rest, ".");
        PyObject *name = PyUnicode_FromStringAndSize(rest, (Py_ssize_t)length);
        Py_SETREF(found, name == NULL ? NULL : PyObject_GetAttr(found, name));
        Py_XDECREF(name);
        rest += length + (rest[length] == '.');
    }
    if (found == NULL && row->optional &&
        PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Clear();
    else if (found == NULL)
        found = cl_abi_stand_in(row->module, row->attribute);
    *value = found;
    return PyErr_Occurred() ? -1 : 0;
}

/* Returns a tuple of the strings in `text`, which are separated by commas. A
 * new reference. */
static PyObject *
keyword_names(const char *text)
{
    PyObject *all = PyUnicode_FromString(text), *list = NULL, *tuple = NULL;
    PyObject *comma = PyUnicode_FromString(",");
    if (all != NULL && comma != NULL &&
        (list = PyUnicode_Split(all, comma, -1)) != NULL)
        tuple = PyList_AsTuple(list);
    Py_XDECREF(all);
    Py_XDECREF(comma);
    Py_XDECREF(list);
    for (Py_ssize_t i = 0; tuple != NULL && i < PyTuple_GET_SIZE(tuple); i++)
        PyUnicode_InternInPlace(&((PyTupleObject *)tuple)->ob_item[i]);
    return tuple;
}

static int
make_types(PyObject *module, cl_state *st, const cl_layer *layer)
{
    FOR_EACH (cl_type_row, row, layer->types) {
        PyObject *type = (PyObject *)row->make(module, st);
        if ((*field(st, row->at) = type) == NULL ||
            (row->shown != NULL &&
             PyModule_AddObjectRef(module, row->shown, type) < 0))
            return -1;
    }
    return 0;
}

static int
setup(PyObject *module, cl_state *st, const cl_layer *layer)
{
    for (const cl_node_row *row = layer->nodes;
         row != NULL && row->ops != NULL; row++)
        st->node_ops[row->kind] = row->ops;
    FOR_EACH (cl_import_row, row, layer->imports) {
        if (import(row, field(st, row->at)) < 0)
            return -1;
    }
    FOR_EACH (cl_name_row, row, layer->names) {
        PyObject *name = PyUnicode_InternFromString(row->text);
        if ((*field(st, row->at) = name) == NULL)
            return -1;
    }
    FOR_EACH (cl_name_row, row, layer->keywords) {
        if ((*field(st, row->at) = keyword_names(row->text)) == NULL)
            return -1;
    }
    if (make_types(module, st, layer) < 0)
        return -1;
    return layer->setup == NULL ? 0 : layer->setup(module, st);
}

int
cl_layers_setup(PyObject *module, cl_state *st, const cl_layer *const *layers)
{
    st->module = module;
    st->layers = layers;
    CL_FOR_EACH_LAYER (at, st) {
        if (setup(module, st, *at) < 0)
            return -1;
    }
    return 0;
}

PyObject *
cl_layers_counts(const cl_state *st)
{
    PyObject *counts = PyDict_New();
    CL_FOR_EACH_LAYER (at, st) {
        FOR_EACH (cl_count_row, row, (*at)->counts) {
            PyObject *count = PyLong_FromSsize_t(
                cl_live_count((const cl_live *)((const char *)st + row->at)));
            if (counts != NULL &&
                (count == NULL ||
                 PyDict_SetItemString(counts, row->name, count) < 0))
                Py_CLEAR(counts);
            Py_XDECREF(count);
        }
    }
    return counts;
}

/* ---------------------------------------------------------- garbage collection */

/* Returns NULL if the import failed early. */
static cl_state *
state_of(void *module)
{
    return PyModule_GetState(module);
}

static int
traverse(cl_state *st, const cl_layer *layer, visitproc visit, void *arg)
{
    int status = layer->traverse == NULL ? 0 : layer->traverse(st, visit, arg);
    if (status != 0)
        return status;
    FOR_EACH (cl_type_row, row, layer->types)
        Py_VISIT(*field(st, row->at));
    FOR_EACH (cl_import_row, row, layer->imports)
        Py_VISIT(*field(st, row->at));
    FOR_EACH (cl_object_row, row, layer->objects)
        Py_VISIT(*field(st, row->at));
    return 0;
}

static void
clear(cl_state *st, const cl_layer *layer)
{
    if (layer->clear != NULL)
        layer->clear(st);
    FOR_EACH (cl_object_row, row, layer->objects)
        Py_CLEAR(*field(st, row->at));
    FOR_EACH (cl_type_row, row, layer->types)
        Py_CLEAR(*field(st, row->at));
    FOR_EACH (cl_import_row, row, layer->imports)
        Py_CLEAR(*field(st, row->at));
}

/* Strings cannot be in a cycle, and a destructor that runs late may still need
 * them. */
static void
free_layer(cl_state *st, const cl_layer *layer)
{
    if (layer->free != NULL)
        layer->free(st);
    FOR_EACH (cl_name_row, row, layer->keywords)
        Py_CLEAR(*field(st, row->at));
    FOR_EACH (cl_name_row, row, layer->names)
        Py_CLEAR(*field(st, row->at));
}

int
cl_layers_traverse(PyObject *module, visitproc visit, void *arg)
{
    cl_state *st = state_of(module);
    int status = 0;
    if (st == NULL)
        return 0;
    CL_FOR_EACH_LAYER (at, st) {
        if (status == 0)
            status = traverse(st, *at, visit, arg);
    }
    return status;
}

/* Calls the function for each layer, from the highest down, since layers use
 * those below them. */
static void
from_top(cl_state *st, void (*function)(cl_state *, const cl_layer *))
{
    int count = 0;
    CL_FOR_EACH_LAYER (at, st)
        count++;
    while (count-- > 0)
        function(st, st->layers[count]);
}

int
cl_layers_clear(PyObject *module)
{
    cl_state *st = state_of(module);
    if (st != NULL)
        from_top(st, clear);
    return 0;
}

void
cl_layers_free(void *module)
{
    cl_state *st = state_of(module);
    if (st == NULL)
        return;
    from_top(st, clear);
    from_top(st, free_layer);
}
