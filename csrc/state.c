/* state.c - see state.h. */
#include "state.h"

#include "core/layer.h"
#include "loop_type.h"
#include "metrics.h"

#define CL_LAYER_STRUCT cl_top

static const cl_type_row types[] = {CL_TOP_TYPES(CL_TYPE_ROW){0}};
static const cl_import_row imports[] = {CL_TOP_IMPORTS(CL_IMPORT_ROW){0}};
static const cl_name_row names[] = {CL_TOP_NAMES(CL_NAME_ROW){0}};
static const cl_name_row keywords[] = {CL_TOP_KEYWORDS(CL_KEYWORDS_ROW){0}};
static const cl_object_row objects[] = {CL_TOP_OBJECTS(CL_OBJECT_ROW){0}};

/* Returns the dictionary of a module; NULL with an exception if it is none. */
static PyObject *
dict_of(PyObject *module)
{
    return Py_XNewRef(PyModule_GetDict(module));
}

static int
setup(PyObject *Py_UNUSED(module), cl_state *st)
{
    cl_top *top = cl_top_of(st);
    top->tasks_dict = dict_of(cl_futures_of(st)->tasks_module);
    top->futures_dict = dict_of(cl_futures_of(st)->futures_module);
    return top->tasks_dict == NULL || top->futures_dict == NULL ? -1 : 0;
}

static int
loop_init(LoopObject *loop)
{
    cl_top_on(loop)->since_ns = cl_now_ns();
    return cl_loop_choose_tasks(loop);
}

static void
loop_free(LoopObject *loop)
{
    PyMem_Free(cl_top_on(loop)->reset);
}

const cl_layer cl_top_layer = {
    .name = "top",
    .types = types,
    .imports = imports,
    .names = names,
    .keywords = keywords,
    .objects = objects,
    .setup = setup,
    .loop_init = loop_init,
    .loop_free = loop_free,
};
