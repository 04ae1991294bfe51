/* state.c - see state.h. */
#include "tls/state.h"

#include "core/layer.h"
#include "tls/machine.h"
#include "tls/tls.h"

#define CL_LAYER_STRUCT cl_tls

static const cl_type_row types[] = {CL_TLS_TYPES(CL_TYPE_ROW){0}};
static const cl_import_row imports[] = {CL_TLS_IMPORTS(CL_IMPORT_ROW){0}};
static const cl_name_row names[] = {CL_TLS_NAMES(CL_NAME_ROW){0}};
static const cl_name_row keywords[] = {CL_TLS_KEYWORDS(CL_KEYWORDS_ROW){0}};

static int
setup(PyObject *Py_UNUSED(module), cl_state *st)
{
    cl_net_of(st)->tls_type = cl_tls_of(st)->SSLTransportType;
    cl_net_of(st)->tls_received = cl_tls_received;
    return 0;
}

static void
loop_free(LoopObject *loop)
{
    cl_buffer_clear(&cl_tls_on(loop)->spare);
}

const cl_layer cl_tls_layer = {
    .name = "tls",
    .types = types,
    .imports = imports,
    .names = names,
    .keywords = keywords,
    .setup = setup,
    .traverse = cl_tls_traverse,
    .clear = cl_tls_free,
    .loop_free = loop_free,
};
