/* state.c - see state.h. */
#include "streams/state.h"

#include "core/layer.h"
#include "streams/op.h"
#include "streams/reader.h"
#include "streams/streams.h"

#define CL_LAYER_STRUCT cl_streams

static const cl_type_row types[] = {CL_STREAMS_TYPES(CL_TYPE_ROW){0}};
static const cl_import_row imports[] = {CL_STREAMS_IMPORTS(CL_IMPORT_ROW){0}};
static const cl_name_row names[] = {CL_STREAMS_NAMES(CL_NAME_ROW){0}};
static const cl_count_row counts[] = {CL_STREAMS_COUNTS(CL_COUNT_ROW){0}};

static void
loop_free(LoopObject *loop)
{
    cl_spares_free(&cl_streams_on(loop)->spare_ops);
}

const cl_layer cl_streams_layer = {
    .name = "streams",
    .types = types,
    .imports = imports,
    .names = names,
    .counts = counts,
    .setup = cl_streams_setup,
    .traverse = cl_streams_traverse,
    .clear = cl_streams_clear,
    .loop_free = loop_free,
};
