/* state.c - see state.h. */
#include "net/state.h"

#include <stdlib.h>
#include <string.h>

#include "core/abi.h"
#include "core/layer.h"
#include "net/connect.h"
#include "net/datagram.h"
#include "net/listener.h"
#include "net/pipe.h"
#include "net/server.h"
#include "net/sock.h"
#include "net/sockop.h"
#include "net/socktransport.h"

#define CL_LAYER_STRUCT cl_net

static const cl_type_row types[] = {CL_NET_TYPES(CL_TYPE_ROW){0}};
static const cl_import_row imports[] = {CL_NET_IMPORTS(CL_IMPORT_ROW){0}};
static const cl_name_row names[] = {CL_NET_NAMES(CL_NAME_ROW){0}};
static const cl_count_row counts[] = {CL_NET_COUNTS(CL_COUNT_ROW){0}};

/* ----------------------------------------------------------------- module state */

void
cl_net_choose_gather(cl_state *st, const char *choice)
{
    if (CL_FREE_THREADED) { /* the hold timer relies on the GIL */
        cl_net_of(st)->gathers = CL_GATHER_NEVER;
        return;
    }
    cl_net_of(st)->gathers = choice == NULL             ? CL_GATHER_LEARNT
                             : strcmp(choice, "0") == 0 ? CL_GATHER_NEVER
                             : strcmp(choice, "always") == 0
                                 ? CL_GATHER_ALWAYS
                                 : CL_GATHER_LEARNT;
}

static int
probe_datagrams(cl_net *net)
{
    PyObject *header = NULL;
    int found = PyObject_GetOptionalAttr(net->asyncio_DatagramTransport,
                                         net->str__header_size, &header);
    if (found > 0)
        net->datagram_header_size = PyLong_AsSize_t(header);
    Py_XDECREF(header);
    return found < 0 || PyErr_Occurred() ? -1 : 0;
}

/* Whether writelines() looks at the connection before the lines. Clears
 * exceptions. */
static void
look_at_writelines(cl_net *net)
{
    PyObject *function =
        PyObject_GetAttrString(net->asyncio_SocketTransport, "writelines");
    PyObject *code =
        function == NULL ? NULL : PyObject_GetAttrString(function, "__code__");
    PyObject *names =
        code == NULL ? NULL : PyObject_GetAttrString(code, "co_names");
    PyObject *name = names == NULL ? NULL : PyUnicode_FromString("_conn_lost");
    net->writelines_asks_first =
        name != NULL && PySequence_Contains(names, name) > 0;
    Py_XDECREF(function);
    Py_XDECREF(code);
    Py_XDECREF(names);
    Py_XDECREF(name);
    PyErr_Clear();
}

static int
setup(PyObject *Py_UNUSED(module), cl_state *st)
{
    cl_net *net = cl_net_of(st);
    static const char *const names[] = {"get_extra_info", NULL};
    cl_net_choose_gather(st, getenv("CLOOP_GATHER"));
    look_at_writelines(net);
    if (cl_original_init(&net->get_extra_info, net->FlowControlMixin, names) <
        0)
        return -1;
    if ((probe_datagrams(net) < 0 || cl_server_setup(st) < 0) &&
        cl_abi_lacks("transports") < 0)
        return -1;
    return cl_sock_setup(st);
}

static int
traverse(cl_state *st, visitproc visit, void *arg)
{
    int status = 0;
#define VISIT(name) \
    if (status == 0) \
        status = cl_guard_traverse(&cl_net_of(st)->name##_guard, visit, arg);
    CL_NET_GUARDS(VISIT)
#undef VISIT
    if (status == 0)
        status =
            cl_original_traverse(&cl_net_of(st)->get_extra_info, visit, arg);
    return status;
}

static void
clear(cl_state *st)
{
#define CLEAR(name) cl_guard_clear(&cl_net_of(st)->name##_guard);
    CL_NET_GUARDS(CLEAR)
#undef CLEAR
    cl_original_clear(&cl_net_of(st)->get_extra_info);
}

/* ------------------------------------------------------------------ loop state */

int
cl_net_prepare(LoopObject *loop)
{
    cl_loop_net *net = cl_net_on(loop);
    if (net->n_read_buffer != NULL)
        return 0;
    /* Until it has freed one block of this size, glibc maps large blocks one by
     * one, and buffers for large reads cost one page fault per page. A
     * bytearray that it has mapped, such as that of a StreamReader, stays so
     * for as long as it lives. */
    PyMem_RawFree(PyMem_RawMalloc(8 * CL_READ_MAX));
    net->n_read_buffer = PyMem_RawMalloc(CL_READ_MAX);
    if (net->n_read_buffer != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static int
loop_init(LoopObject *loop)
{
    cl_gather_init(&cl_net_on(loop)->n_gather);
    return 0;
}

static int
loop_traverse(LoopObject *loop, visitproc visit, void *arg)
{
    return cl_gather_traverse(&cl_net_on(loop)->n_gather, visit, arg);
}

static void
loop_forked(LoopObject *loop)
{
    cl_gather_forked(&cl_net_on(loop)->n_gather);
}

static void
loop_free(LoopObject *loop)
{
    cl_loop_net *net = cl_net_on(loop);
    cl_gather_stop_timer(loop);
    cl_gather_clear(&net->n_gather);
    PyMem_RawFree(net->n_read_buffer);
}

const cl_layer cl_net_layer = {
    .name = "net",
    .types = types,
    .imports = imports,
    .names = names,
    .counts = counts,
    .setup = setup,
    .traverse = traverse,
    .clear = clear,
    .loop_init = loop_init,
    .loop_traverse = loop_traverse,
    .loop_free = loop_free,
    .loop_forked = loop_forked,
};
