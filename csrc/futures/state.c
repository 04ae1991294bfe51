/* state.c - see state.h. */
#include "futures/state.h"

#include "core/layer.h"
#include "futures/future.h"
#include "futures/iter.h"
#include "futures/registry.h"
#include "futures/remote.h"
#include "futures/tally.h"
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

int
cl_futures_use_own(cl_state *st)
{
    cl_futures *futures = cl_futures_of(st);
    cl_assert(futures->layouts_fit);
    if (futures->own_tasks)
        return 0;
    if (cl_global_init(st, &futures->future_class, futures->futures_module,
                       futures->str_Future, futures->asyncio_Future) < 0 ||
        cl_global_init(st, &futures->task_class, futures->tasks_module,
                       futures->str_Task, futures->asyncio_Task) < 0)
        return -1;
    futures->own_tasks = true;
    return 0;
}

static int
traverse(cl_state *st, visitproc visit, void *arg)
{
    const cl_futures *futures = cl_futures_of(st);
    int status = cl_global_traverse(&futures->future_class, visit, arg);
    if (status == 0)
        status = cl_global_traverse(&futures->task_class, visit, arg);
    return status != 0 ? status : cl_remote_traverse(st, visit, arg);
}

static void
clear(cl_state *st)
{
    cl_global_clear(st, &cl_futures_of(st)->future_class);
    cl_global_clear(st, &cl_futures_of(st)->task_class);
    cl_remote_clear(st);
}

static void
loop_free(LoopObject *loop)
{
    cl_tally_end(loop);
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
    .traverse = traverse,
    .clear = clear,
    .free = cl_remote_free,
    .loop_free = loop_free,
    .loop_forked = cl_registry_forked,
};
