/* state.c - see state.h. */
#include "state.h"

#include "core/layer.h"
#include "loop_type.h"

#define CL_LAYER_STRUCT cl_top

static const cl_type_row types[] = {CL_TOP_TYPES(CL_TYPE_ROW){0}};
static const cl_import_row imports[] = {CL_TOP_IMPORTS(CL_IMPORT_ROW){0}};
static const cl_name_row names[] = {CL_TOP_NAMES(CL_NAME_ROW){0}};
static const cl_name_row keywords[] = {CL_TOP_KEYWORDS(CL_KEYWORDS_ROW){0}};

const cl_layer cl_top_layer = {
    .name = "top",
    .types = types,
    .imports = imports,
    .names = names,
    .keywords = keywords,
};
