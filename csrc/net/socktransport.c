/* socktransport.c - see socktransport.h. */
#include "net/socktransport.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>

#include "core/args.h"
#include "core/errors.h"
#include "core/fork.h"
#include "net/sock.h"
#include "net/stream.h"

static const char *const data_argument[] = {"data"};
static const char *const lines_argument[] = {"list_of_data"};

static inline TransportObject *
base_of(StreamObject *self)
{
    return &self->s_base;
}

/* ------------------------------------------------------------- starting and closing */

static int
at_eof(StreamObject *self)
{
    TransportObject *base = base_of(self);
    PyObject *answer;
    if (cl_transport_debug(base, "%r received EOF") < 0)
        return -1;
    int keep_open = cl_transport_tell(
        base, cl_net_of(base->tr_loop->l_st)->str_eof_received, NULL, &answer);
    if (keep_open == 0) {
        keep_open = PyObject_IsTrue(answer);
        Py_DECREF(answer);
    }
    if (keep_open < 0)
        return cl_transport_fatal(
            base, "Fatal error: protocol.eof_received() call failed.");
    if (keep_open) {
        cl_transport_want(base, CL_READ, false);
        return 0;
    }
    PyObject *closed = PyObject_CallMethodNoArgs(
        (PyObject *)self, cl_net_of(base->tr_loop->l_st)->str_close);
    Py_XDECREF(closed);
    return closed == NULL ? -1 : 0;
}

static int
send_eof(StreamObject *self)
{
    int fd = cl_transport_fd(base_of(self));
    if (cl_fork_is_parents(self->s_base.tr_loop, &self->s_base.tr_watch))
        return 0;
    if (fd < 0 || shutdown(fd, SHUT_WR) < 0)
        return cl_raise_errno(fd < 0 ? fd : -errno);
    cl_loop_poll_soon(self->s_base.tr_loop);
    return 0;
}

static int
drained(StreamObject *self)
{
    return self->s_base.tr_flags & CL_T_EOF ? send_eof(self) : 0;
}

static const cl_stream_ops socket_ops = {
    .transport = {.watch = {CL_TRANSPORT_WATCH},
                  .readable = cl_stream_readable,
                  .writable = cl_outbox_writable,
                  .write_buffer_size = cl_outbox_size,
                  .flush = cl_outbox_flush,
                  .drop_buffer = cl_outbox_drop,
                  .gone = cl_outbox_gone,
                  CL_TRANSPORT_CHECK(cl_outbox_check)},
    .at_eof = at_eof,
    .drained = drained,
    .read_failed = "Fatal read error on socket transport",
    .write_failed = "Fatal write error on socket transport",
    .lost_write = "socket.send() raised exception.",
};

/* ------------------------------------------------------------------- methods */

/* Whether asyncio refuses writes now: then its own method raises the error. */
static inline bool
refuses(const StreamObject *self)
{
    return (self->s_base.tr_flags & CL_T_EOF) ||
           self->s_out.out_empty_waiter != NULL;
}

/* Calls asyncio's method on our transport, for an argument or a state that it
 * refuses: the error is that of this Python version. */
static PyObject *
call_asyncio(StreamObject *self, const char *method, PyObject *arg)
{
    return PyObject_CallMethod(
        cl_net_of(self->s_base.tr_loop->l_st)->asyncio_SocketTransport, method,
        "OO", self, arg);
}

PyDoc_STRVAR(
    SocketTransport_write_doc,
    "write($self, data)\n--\n\n"
    "Send a bytes-like object, and buffer what the socket does not take. Does "
    "not block.\n"
    "Raises TypeError for other data, RuntimeError after write_eof(). Raises "
    "no error once\n"
    "the connection is lost. See asyncio's WriteTransport.write.");

static PyObject *
SocketTransport_write(StreamObject *self, PyObject *const *args,
                      Py_ssize_t nargs, PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    cl_state *st = self->s_base.tr_loop->l_st;
    PyObject *data =
        cl_call_args_only(st, "write", data_argument, args, nargs, kwnames);
    if (data == NULL)
        return NULL;
    if (refuses(self) || !(PyBytes_Check(data) || PyByteArray_Check(data) ||
                           PyMemoryView_Check(data)))
        return call_asyncio(self, "write", data);
    /* A class of the program's may say that there is nothing. */
    int any = PyBytes_CheckExact(data) ? 1 : PyObject_IsTrue(data);
    if (any < 0 || (any > 0 && cl_outbox_write(self, data) < 0))
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(SocketTransport_writelines_doc,
             "writelines($self, list_of_data)\n--\n\n"
             "Like write() for each item, but with one system call if the "
             "socket takes everything.");

static PyObject *
SocketTransport_writelines(StreamObject *self, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    PyObject *lines =
        cl_call_args_only(self->s_base.tr_loop->l_st, "writelines",
                          lines_argument, args, nargs, kwnames);
    int any = lines == NULL ? -1 : PyObject_IsTrue(lines);
    if (any < 0)
        return NULL;
    if (refuses(self) || !any) /* None counts as empty from 3.12 on */
        return call_asyncio(self, "writelines", lines);
    if (self->s_base.tr_conn_lost &&
        cl_net_of(self->s_base.tr_loop->l_st)->writelines_asks_first)
        return cl_none_or_error(cl_flow_lost_write(self->s_base.tr_loop,
                                                   &self->s_base.tr_conn_lost,
                                                   socket_ops.lost_write));
    /* A list could change while the buffer of an item is taken. */
    PyObject *items = PySequence_Tuple(lines);
    int status = 0;
    if (items == NULL)
        return NULL;
    if (!CL_WRITELINES_BUFFERS_FIRST && refuses(self)) { /* by now */
        PyObject *result = call_asyncio(self, "writelines", items);
        Py_DECREF(items);
        return result;
    }
    if (PyTuple_GET_SIZE(items) > 0)
        status = cl_outbox_write_items(self, items);
    Py_DECREF(items);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(SocketTransport_write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Half-close the connection after the write buffer is sent; "
             "receiving goes on.");

static PyObject *
SocketTransport_write_eof(StreamObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    TransportObject *base = base_of(self);
    if (base->tr_flags & (CL_T_CLOSING | CL_T_EOF))
        Py_RETURN_NONE;
    base->tr_flags |= CL_T_EOF;
    /* Also what was written to others before. */
    if (cl_gather_flush(base->tr_loop) < 0 ||
        (self->s_out.out_queue.wq_size == 0 && !base->tr_conn_lost &&
         send_eof(self) < 0))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
SocketTransport_can_write_eof(StreamObject *Py_UNUSED(self),
                              PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

static PyObject *
SocketTransport_make_empty_waiter(StreamObject *self,
                                  PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_outbox_make_empty_waiter(self);
}

static PyObject *
SocketTransport_reset_empty_waiter(StreamObject *self,
                                   PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    Py_CLEAR(self->s_out.out_empty_waiter);
    Py_RETURN_NONE;
}

/* _fails_if_lost(future): as does the empty waiter, whose place it takes. */
static PyObject *
SocketTransport_fails_if_lost(StreamObject *self, PyObject *future)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    Py_XSETREF(self->s_out.out_empty_waiter, Py_NewRef(future));
    Py_RETURN_NONE;
}

/* _send_file(file, offset, size): sends so much of the file, or less, if nothing
 * is in its way. Returns the number of bytes; 0 if it fails, or the rest has to
 * wait: then sendfile() finds out why. */
static PyObject *
SocketTransport_send_file(StreamObject *self, PyObject *args)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    TransportObject *base = base_of(self);
    cl_net_counts *counts = cl_net_counts_of(base->tr_loop);
    int file;
    long long offset;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "iLn:_send_file", &file, &offset, &size) ||
        cl_gather_flush(base->tr_loop) < 0)
        return NULL;
    int fd = cl_transport_fd(base);
    if (fd < 0 || refuses(self) || base->tr_conn_lost || size <= 0 ||
        (base->tr_flags & CL_T_CLOSING) || self->s_out.out_queue.wq_size > 0)
        return PyLong_FromLong(0);
    ssize_t sent;
    Py_BEGIN_ALLOW_THREADS /* it may have to read the file */
    sent = cl_send_file(fd, file, offset, (size_t)size);
    Py_END_ALLOW_THREADS
    if (sent <= 0)
        return PyLong_FromLong(0);
    counts->nc_writes++;
    counts->nc_bytes_out += (size_t)sent;
    return PyLong_FromSsize_t(sent);
}

/* ------------------------------------------------------------------- the type */

TransportObject *
cl_socket_transport_new(cl_transport_args *args, bool nodelay_known)
{
    args->type = cl_net_of(args->loop->l_st)->SocketTransportType;
    args->ops = &socket_ops.transport;
    TransportObject *self = cl_transport_new(args);
    if (self == NULL)
        return NULL;
    StreamObject *stream = (StreamObject *)self;
    stream->s_read_max = CL_READ_MAX;
    stream->s_out.out_hold_max = CL_GATHER_MAX;
    cl_habit_init(&stream->s_out.out_habit, args->habits);
    cl_no_sigpipe(self->tr_fd);
    const cl_sock *inside = args->sock == NULL
                                ? NULL
                                : cl_sock_inside(args->loop->l_st, args->sock);
    if (inside != NULL) {
        self->tr_type = (uint8_t)inside->sk_type;
        self->tr_proto = (uint16_t)inside->sk_proto;
    }
    if (!nodelay_known &&
        (self->tr_family == AF_INET || self->tr_family == AF_INET6)) {
        int on = 1; /* fails harmlessly unless it is TCP */
        (void)setsockopt(self->tr_fd, IPPROTO_TCP, TCP_NODELAY, &on,
                         sizeof(on));
    }
    if (cl_transport_begin(self) < 0) {
        cl_transport_disown(self, args->sock != NULL);
        Py_CLEAR(self);
    }
    return self;
}

static PyObject *
get_empty_waiter(StreamObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return Py_NewRef(
        self->s_out.out_empty_waiter ? self->s_out.out_empty_waiter : Py_None);
}

static PyGetSetDef socket_getset[] = {
    {"_empty_waiter", (getter)get_empty_waiter}, {NULL}};

static PyMethodDef socket_methods[] = {
    {"write", CL_FAST(SocketTransport_write), METH_FASTCALL | METH_KEYWORDS,
     SocketTransport_write_doc},
    {"writelines", CL_FAST(SocketTransport_writelines),
     METH_FASTCALL | METH_KEYWORDS, SocketTransport_writelines_doc},
    {"write_eof", (PyCFunction)SocketTransport_write_eof, METH_NOARGS,
     SocketTransport_write_eof_doc},
    {"can_write_eof", (PyCFunction)SocketTransport_can_write_eof, METH_NOARGS,
     "can_write_eof($self, /)\n--\n\nReturn True."},
    {"_make_empty_waiter", (PyCFunction)SocketTransport_make_empty_waiter,
     METH_NOARGS, NULL},
    {"_fails_if_lost", (PyCFunction)SocketTransport_fails_if_lost, METH_O,
     NULL},
    {"_reset_empty_waiter", (PyCFunction)SocketTransport_reset_empty_waiter,
     METH_NOARGS, NULL},
    {"_send_file", (PyCFunction)SocketTransport_send_file, METH_VARARGS, NULL},
    {NULL}};

static PyType_Slot socket_slots[] = {
    {Py_tp_doc, "The transport of a stream socket; created by the loop."},
    {Py_tp_dealloc, cl_transport_dealloc},
    {Py_tp_finalize, cl_transport_finalize},
    {Py_tp_traverse, cl_stream_traverse},
    {Py_tp_clear, cl_stream_clear},
    {Py_tp_repr, cl_transport_repr},
    {Py_tp_setattro, cl_stream_setattro},
    {Py_tp_getset, socket_getset},
    {Py_tp_methods, socket_methods},
    {Py_tp_members, cl_transport_members},
    {0, NULL}};

static PyType_Spec socket_spec = {
    .name = "cloop._cloop.SocketTransport",
    .basicsize = sizeof(StreamObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = socket_slots,
};

PyTypeObject *
cl_socket_transport_setup(PyObject *module, cl_state *st)
{
    PyObject *bases = PyTuple_Pack(1, cl_net_of(st)->FlowControlMixin);
    PyTypeObject *type = bases == NULL
                             ? NULL
                             : cl_transport_type(module, st, &socket_spec,
                                                 bases, CL_READ | CL_WRITE);
    Py_XDECREF(bases);
    if (type != NULL &&
        (PyObject_SetAttrString((PyObject *)type, "_start_tls_compatible",
                                Py_True) < 0 ||
         PyObject_SetAttrString((PyObject *)type, "_sendfile_compatible",
                                cl_net_of(st)->sendfile_try_native) < 0))
        Py_CLEAR(type);
    return type;
}
