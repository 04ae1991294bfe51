/* state.c - see state.h. */
#include "futures/state.h"

#include "core/layer.h"
#include "futures/future.h"
#include "futures/iter.h"
#include "futures/registry.h"
#include "futures/remote.h"
#include "futures/task.h"

#define CL_LAYER_STRUCT cl_futures

static const cl_type_row types[] = {CL_FUTURES_TYPES(CL_TYPE_ROW){0}};
static const cl_import_row imports[] = {CL_FUTURES_IMPORTS(CL_IMPORT_ROW){0}};
static const cl_name_row names[] = {CL_FUTURES_NAMES(CL_NAME_ROW){0}};
static const cl_name_row keywords[] = {
    CL_FUTURES_KEYWORDS(CL_KEYWORDS_ROW){0}};
static const cl_object_row objects[] = {CL_FUTURES_OBJECTS(CL_OBJECT_ROW){0}};
static const cl_count_row counts[] = {CL_FUTURES_COUNTS(CL_COUNT_ROW){0}};
static const cl_node_row nodes[] = {
    {CL_NODE_TASK_STEP, &cl_task_step_node},
    {CL_NODE_TASK_WAKEUP, &cl_task_wakeup_node},
    {0}};

_Static_assert(CL_NODE_FUTURES_KINDS <= CL_NODE_KIND_MASK + 1,
               "a node's kind is in the low bits of a pointer");

static int
setup(PyObject *Py_UNUSED(module), cl_state *st)
{
    if (cl_futures_of(st)->layouts_fit)
        st->stepless_type = cl_futures_of(st)->FutureType;
    return cl_registry_setup(st);
}

static void
loop_free(LoopObject *loop)
{
    cl_spares_free(&cl_futures_on(loop)->spare_futures);
    cl_spares_free(&cl_futures_on(loop)->spare_tasks);
    cl_spares_free(&cl_futures_on(loop)->spare_iters);
}

const cl_layer cl_futures_layer = {
    .name = "futures",
    .types = types,
    .imports = imports,
    .names = names,
    .keywords = keywords,
    .objects = objects,
    .counts = counts,
    .nodes = nodes,
    .setup = setup,
    .traverse = cl_remote_traverse,
    .clear = cl_remote_clear,
    .free = cl_remote_free,
    .loop_free = loop_free,
    .loop_forked = cl_registry_forked,
};
