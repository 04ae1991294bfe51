/* state.c - see state.h. */
#include "sync/state.h"

#include "core/layer.h"
#include "sync/as_completed.h"
#include "sync/callback.h"
#include "sync/entry.h"
#include "sync/gather.h"
#include "sync/op.h"
#include "sync/sync.h"

#define CL_LAYER_STRUCT cl_sync

static const cl_type_row types[] = {CL_SYNC_TYPES(CL_TYPE_ROW){0}};
static const cl_import_row imports[] = {CL_SYNC_IMPORTS(CL_IMPORT_ROW){0}};
static const cl_name_row names[] = {CL_SYNC_NAMES(CL_NAME_ROW){0}};
static const cl_name_row keywords[] = {CL_SYNC_KEYWORDS(CL_KEYWORDS_ROW){0}};
static const cl_count_row counts[] = {CL_SYNC_COUNTS(CL_COUNT_ROW){0}};

static const cl_node_row nodes[] = {{CL_NODE_CHILD_DONE, &cl_gather_node},
                                    {0, NULL}};

static void
loop_free(LoopObject *loop)
{
    cl_spares_free(&cl_sync_on(loop)->spare_ops);
}

const cl_layer cl_sync_layer = {
    .name = "sync",
    .types = types,
    .imports = imports,
    .names = names,
    .keywords = keywords,
    .counts = counts,
    .nodes = nodes,
    .setup = cl_sync_setup,
    .traverse = cl_sync_traverse,
    .clear = cl_sync_clear,
    .free = cl_sync_free,
    .loop_free = loop_free,
};
