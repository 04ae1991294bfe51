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

static int
setup(PyObject *Py_UNUSED(module), cl_state *st)
{
    static const char *const replaceable[] = {"create_task", NULL};
    return cl_original_init(&cl_top_of(st)->create_task,
                            cl_net_of(st)->SelectorEventLoop, replaceable);
}

static int
traverse(cl_state *st, visitproc visit, void *arg)
{
    return cl_original_traverse(&cl_top_of(st)->create_task, visit, arg);
}

static void
clear(cl_state *st)
{
    cl_original_clear(&cl_top_of(st)->create_task);
}

static int
loop_init(LoopObject *loop)
{
    cl_top_on(loop)->since_ns = cl_now_ns();
    return 0;
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
    .setup = setup,
    .traverse = traverse,
    .clear = clear,
    .loop_init = loop_init,
    .loop_free = loop_free,
};
