/* pipe.c - see pipe.h. */
#include "net/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "core/args.h"
#include "core/errors.h"
#include "core/fork.h"
#include "net/extra.h"
#include "net/sock.h"
#include "net/stream.h"

static const char *const data_argument[] = {"data"};
static const char *const lines_argument[] = {"list_of_data"};

/* Bytes to read at once, at least. */
#define READ_MIN (64 * 1024)

typedef struct {
    StreamObject pi_stream;
    int pi_lent; /* the file object's descriptor, if ours is a duplicate */
    bool pi_was_blocking;
} PipeObject;

static inline TransportObject *
base_of(PipeObject *self)
{
    return &self->pi_stream.s_base;
}

/* Returns the descriptor for the next system call, or -EBADF if the program
 * closed the file object. */
static int
descriptor(StreamObject *stream)
{
    PipeObject *self = (PipeObject *)stream;
    TransportObject *base = base_of(self);
    if ((base->tr_flags & CL_T_NOT_OPEN) || base->tr_file == NULL)
        return -EBADF;
    return self->pi_lent >= 0 ? base->tr_fd : cl_transport_fd(base);
}

/* For a reader only EIO is quiet: a terminal reports it at its end. */
static bool
is_quiet(TransportObject *base, PyObject *exception)
{
    if (!PyErr_GivenExceptionMatches(exception, PyExc_OSError))
        return false;
    if (Py_TYPE(base) != cl_net_of(base->tr_loop->l_st)->ReadPipeTransportType)
        return true;
    PyObject *number = PyObject_GetAttrString(exception, "errno");
    bool quiet =
        number != NULL && PyLong_Check(number) && PyLong_AsLong(number) == EIO;
    Py_XDECREF(number);
    PyErr_Clear();
    return quiet;
}

static int
log_closed_by_peer(TransportObject *self)
{
    LoopObject *loop = self->tr_loop;
    return loop->l_debug
               ? cl_log(loop, cl_net_of(loop->l_st)->str_info,
                        "%r was closed by peer", (PyObject *)self, NULL, NULL)
               : 0;
}

static int
at_eof(StreamObject *stream)
{
    TransportObject *base = &stream->s_base;
    cl_state *st = base->tr_loop->l_st;
    if (log_closed_by_peer(base) < 0)
        return -1;
    PyObject *protocol = Py_XNewRef(base->tr_protocol), *error = NULL;
    if (protocol == NULL) /* closed meanwhile, by the log */
        return 0;
    base->tr_flags |=
        CL_T_CLOSING; /* before what asks the protocol closes it */
    PyObject *eof =
        PyObject_GetAttr(protocol, cl_net_of(st)->str_eof_received);
    cl_first_error(&error, eof == NULL
                               ? -1
                               : cl_loop_call_soon(base->tr_loop, eof, NULL, 0,
                                                   base->tr_context));
    Py_XDECREF(eof);
    Py_DECREF(protocol);
    /* Also without the method: it would be reported for ever. */
    cl_first_error(&error, cl_transport_force_close(base, NULL));
    return cl_raise_first(error);
}

/* The reader closed its end. */
static int
hung_up(TransportObject *base, bool Py_UNUSED(alone))
{
    PyObject *error = NULL;
    if (log_closed_by_peer(base) < 0)
        return -1;
    if (cl_outbox_size(base) > 0 &&
        (error = PyObject_CallNoArgs(PyExc_BrokenPipeError)) == NULL)
        return -1;
    int status = cl_transport_force_close(base, error);
    Py_XDECREF(error);
    return status;
}

static int
write_object(PipeObject *self, PyObject *data)
{
    if (PyBytes_Check(data) || PyByteArray_Check(data) ||
        PyMemoryView_Check(data)) {
        /* A class of the program's may say that there is nothing; asyncio asks
         * a view of a bytearray. */
        int any = PyBytes_CheckExact(data) || PyByteArray_Check(data)
                      ? 1
                      : PyObject_IsTrue(data);
        return any > 0 ? cl_outbox_write(&self->pi_stream, data) : any;
    }
    PyObject *text = PyObject_Repr(data);
    if (text != NULL)
        PyErr_SetObject(PyExc_AssertionError, text);
    Py_XDECREF(text);
    return -1;
}

PyDoc_STRVAR(Pipe_write_doc, "write($self, data)\n--\n\n"
                             "Write a bytes-like object, and buffer what the "
                             "pipe does not take. Does not block.\n"
                             "Raises AssertionError for other data. Raises no "
                             "error once the pipe is closed. See\n"
                             "asyncio's WriteTransport.write.");

static PyObject *
Pipe_write(PipeObject *self, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    PyObject *data =
        cl_call_args_only(self->pi_stream.s_base.tr_loop->l_st, "write",
                          data_argument, args, nargs, kwnames);
    if (data == NULL || write_object(self, data) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    Pipe_writelines_doc,
    "writelines($self, list_of_data)\n--\n\n"
    "Write the items of an iterable of bytes-like objects, in order.");

static PyObject *
Pipe_writelines(PipeObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    cl_state *st = self->pi_stream.s_base.tr_loop->l_st;
    PyObject *lines = cl_call_args_only(st, "writelines", lines_argument, args,
                                        nargs, kwnames);
    PyObject *data =
        lines == NULL ? NULL
                      : PyObject_CallMethodOneArg(
                            st->empty_bytes, cl_net_of(st)->str_join, lines);
    int status = data == NULL ? -1 : write_object(self, data);
    Py_XDECREF(data);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Pipe_write_eof_doc, "write_eof($self, /)\n--\n\n"
                                 "The same as close().");

static PyObject *
Pipe_write_eof(PipeObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyObject_CallMethodNoArgs(
        (PyObject *)self,
        cl_net_of(self->pi_stream.s_base.tr_loop->l_st)->str_close);
}

/* For cloop/_process.py. Popen also holds the file object, and tells when the
 * program reaches it; nobody else writes to a child's stdin. */
static PyObject *
Pipe_is_childs(PipeObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    StreamObject *stream = &self->pi_stream;
    stream->s_base.tr_file_refs++;
    if (stream->s_out.out_hold_max > 0)
        stream->s_out.out_hold_max = CL_GATHER_MAX;
    Py_RETURN_NONE;
}

static PyObject *
Pipe_can_write_eof(PipeObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* ------------------------------------------------------------------ the watch */

/* As in asyncio, add_reader() on the descriptor takes it over. */
static void
evicted(LoopObject *loop, cl_watch *watch)
{
    if (!loop->l_open)
        cl_gather_drop(loop, watch->w_owner);
}

static void
set_blocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL,
                    on ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static void
closing(TransportObject *base)
{
    PipeObject *self = (PipeObject *)base;
    int fd = descriptor(&self->pi_stream);
    if (fd < 0)
        return;
    /* The mode belongs to the file, which a parent shares. */
    if (self->pi_was_blocking &&
        !cl_fork_is_shared(base->tr_loop, &base->tr_watch))
        set_blocking(fd, true);
    if (self->pi_lent >= 0) {
        close(fd);
        base->tr_fd = self->pi_lent;
        self->pi_lent = -1;
    }
}

#ifdef CL_DEBUG
static void
check(const TransportObject *base)
{
    const PipeObject *self = (const PipeObject *)base;
    cl_outbox_check(base);
    cl_assert_of(self, base->tr_flags & CL_T_PIPE);
    cl_assertf(self->pi_stream.s_read_max == 0 || self->pi_lent != base->tr_fd,
               "%d", self->pi_lent);
}
#endif

#define PIPE_OPS(on_readable, is_writer) \
    .transport = {.watch = {.ready = cl_watch_push, \
                            .run = cl_transport_run, \
                            .refused = cl_transport_refused, \
                            .evicted = evicted, \
                            CL_WATCH_CHECK(cl_transport_check_watch)}, \
                  .readable = on_readable, \
                  .only_writes = is_writer, \
                  .writable = cl_outbox_writable, \
                  .write_buffer_size = cl_outbox_size, \
                  .flush = cl_outbox_flush, \
                  .drop_buffer = cl_outbox_drop, \
                  .is_quiet = is_quiet, \
                  .closing = closing, \
                  CL_TRANSPORT_CHECK(check)}, \
    .descriptor = descriptor, .at_eof = at_eof, \
    .read_failed = "Fatal read error on pipe transport", \
    .write_failed = "Fatal write error on pipe transport", \
    .lost_write = \
        "pipe closed by peer or os.write(pipe, data) raised exception."

static const cl_stream_ops reading_ops = {PIPE_OPS(cl_stream_readable, false)};
static const cl_stream_ops writing_ops = {PIPE_OPS(hung_up, true)};

/* ----------------------------------------------------------------------- creation */

static uint32_t
capacity_of(int fd)
{
    int size = cl_pipe_size(fd);
    if (size > CL_READ_MAX)
        return CL_READ_MAX;
    if (size > READ_MIN)
        return (uint32_t)size;
    return READ_MIN;
}

/* Returns how many bytes may be held and sent with one system call. The
 * readers of a terminal, a device, a packet socket or a pipe in packet mode
 * can tell one write from two. With a FIFO that has several writers, they can
 * tell for more than PIPE_BUF bytes. */
static uint32_t
hold_max(int fd, mode_t mode, int flags)
{
    int type;
    socklen_t size = sizeof(type);
    if (S_ISFIFO(mode))
        return flags & CL_PIPE_PACKETS ? 0 : PIPE_BUF;
    return S_ISSOCK(mode) &&
                   getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
                   type == SOCK_STREAM
               ? CL_GATHER_MAX
               : 0;
}

/* Checks that the descriptor is of a kind that can be polled. */
static int
check_kind(int fd, unsigned direction, mode_t *mode)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return cl_raise_errno(-errno);
    *mode = info.st_mode;
    if (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode) ||
        S_ISCHR(info.st_mode))
        return 0;
    PyErr_SetString(PyExc_ValueError,
                    direction == CL_READ
                        ? "Pipe transport is for pipes/sockets only."
                        : "Pipe transport is only for pipes, sockets and "
                          "character devices");
    return -1;
}

static PyObject *
extra_with_pipe(cl_transport_args *args)
{
    PyObject *extra =
        args->extra == NULL ? PyDict_New() : PyDict_Copy(args->extra);
    if (extra != NULL &&
        PyDict_SetItem(extra, cl_net_of(args->loop->l_st)->str_pipe,
                       args->sock) < 0)
        Py_CLEAR(extra);
    return extra;
}

/* Makes the descriptor non-blocking; *flags gets its previous flags. As in
 * asyncio it is an error if that fails, since a write would block the loop.
 * 0/-1 */
static int
stop_blocking(int fd, int *flags)
{
    *flags = fcntl(fd, F_GETFL);
    if (*flags >= 0 && ((*flags & O_NONBLOCK) ||
                        fcntl(fd, F_SETFL, *flags | O_NONBLOCK) >= 0))
        return 0;
    cl_raise_errno(-errno);
    return -1;
}

TransportObject *
cl_pipe_new(cl_transport_args *args, unsigned direction)
{
    cl_state *st = args->loop->l_st;
    int lent = -1, flags = 0;
    mode_t mode = 0;
    if (check_kind(args->fd, direction, &mode) < 0)
        return NULL;
    if (cl_watch_find(&args->loop->l_watches, args->fd) != NULL) {
        lent = args->fd;
        args->fd = fcntl(lent, F_DUPFD_CLOEXEC, 0);
        if (args->fd < 0) {
            cl_raise_errno(-errno);
            return NULL;
        }
    }
    if (stop_blocking(args->fd, &flags) < 0) {
        if (lent >= 0)
            close(args->fd);
        return NULL;
    }
    bool was_blocking = !(flags & O_NONBLOCK);
    args->type = direction == CL_READ ? cl_net_of(st)->ReadPipeTransportType
                                      : cl_net_of(st)->WritePipeTransportType;
    args->ops =
        &(direction == CL_READ ? &reading_ops : &writing_ops)->transport;
    args->pipe = true;
    PyObject *extra = extra_with_pipe(args);
    args->extra = extra;
    PipeObject *self =
        extra == NULL ? NULL : (PipeObject *)cl_transport_new(args);
    Py_XDECREF(extra);
    if (self == NULL) {
        if (was_blocking)
            set_blocking(args->fd, true);
        if (lent >= 0)
            close(args->fd);
        return NULL;
    }
    self->pi_lent = lent;
    self->pi_was_blocking = was_blocking;
    StreamObject *stream = &self->pi_stream;
    stream->s_read_max = capacity_of(args->fd);
    stream->s_base.tr_file_refs++; /* tr_extra holds one */
    stream->s_out.out_hold_max = hold_max(args->fd, mode, flags);
    cl_habit_init(&stream->s_out.out_habit, NULL);
    if (direction == CL_WRITE && S_ISCHR(mode))
        self->pi_stream.s_base.tr_flags |= CL_T_PAUSED; /* nothing to read */
    if (cl_transport_begin(base_of(self)) < 0) {
        PyObject *error = PyErr_GetRaisedException();
        closing(base_of(self));
        PyErr_SetRaisedException(error);
        cl_transport_disown(base_of(self), true);
        Py_CLEAR(self);
    }
    return (TransportObject *)self;
}

/* ------------------------------------------------------------------------ the types */

static PyObject *
Pipe_repr(PipeObject *self)
{
    TransportObject *base = base_of(self);
    CL_CLAIM_REPR(base->tr_loop, self);
    cl_state *st = base->tr_loop->l_st;
    bool reads = Py_TYPE(self) == cl_net_of(st)->ReadPipeTransportType;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.') + 1;
    if (base->tr_flags & CL_T_NOT_OPEN)
        return PyUnicode_FromFormat("<%s closed fd=%d closed>", name,
                                    base->tr_fd);
    const char *state = base->tr_flags & CL_T_CLOSING ? " closing" : "";
    int fd = self->pi_lent >= 0 ? self->pi_lent : base->tr_fd;
    if (base->tr_loop->l_closed)
        return PyUnicode_FromFormat("<%s%s fd=%d open>", name, state, fd);
    bool polling = base->tr_watch.w_want & (reads ? CL_READ : CL_WRITE);
    const char *activity = polling ? "polling" : "idle";
    return reads ? PyUnicode_FromFormat("<%s%s fd=%d %s>", name, state, fd,
                                        activity)
                 : PyUnicode_FromFormat("<%s%s fd=%d %s bufsize=%zu>", name,
                                        state, fd, activity,
                                        cl_outbox_size(base));
}

static PyObject *
get_pipe(PipeObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    PyObject *pipe = self->pi_stream.s_base.tr_file;
    if (pipe != NULL && cl_transport_expose(base_of(self)) < 0)
        return NULL;
    return Py_NewRef(pipe == NULL ? Py_None : pipe);
}

/* None makes the transport forget its file object, as asyncio's tests do after
 * the loop is closed. */
static int
set_pipe(PipeObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, -1);
    TransportObject *base = base_of(self);
    if (value != Py_None) {
        PyErr_SetString(PyExc_AttributeError, "_pipe can be set to None only");
        return -1;
    }
    cl_watch_stop(base->tr_loop, &base->tr_watch);
    cl_outbox_drop(base);
    closing(base);
    base->tr_flags |= CL_T_NOT_OPEN | CL_T_CLOSING;
    cl_transport_count_closed(base);
    Py_CLEAR(base->tr_file);
    Py_CLEAR(base->tr_protocol);
    return 0;
}

static PyObject *
get_fileno(PipeObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (cl_transport_expose(base_of(self)) < 0)
        return NULL;
    return PyLong_FromLong(self->pi_lent >= 0 ? self->pi_lent
                                              : self->pi_stream.s_base.tr_fd);
}

static PyGetSetDef pipe_getset[] = {
    {"_pipe", (getter)get_pipe, (setter)set_pipe},
    {"_fileno", (getter)get_fileno},
    {NULL}};

static PyMethodDef write_pipe_methods[] = {
    {"write", CL_FAST(Pipe_write), METH_FASTCALL | METH_KEYWORDS,
     Pipe_write_doc},
    {"writelines", CL_FAST(Pipe_writelines), METH_FASTCALL | METH_KEYWORDS,
     Pipe_writelines_doc},
    {"write_eof", (PyCFunction)Pipe_write_eof, METH_NOARGS,
     Pipe_write_eof_doc},
    {"_is_childs", (PyCFunction)Pipe_is_childs, METH_NOARGS, NULL},
    {"can_write_eof", (PyCFunction)Pipe_can_write_eof, METH_NOARGS,
     "can_write_eof($self, /)\n--\n\nReturn True."},
    {NULL}};

#define COMMON_SLOTS \
    {Py_tp_dealloc, cl_transport_dealloc}, \
        {Py_tp_finalize, cl_transport_finalize}, \
        {Py_tp_traverse, cl_stream_traverse}, {Py_tp_clear, cl_stream_clear}, \
        {Py_tp_repr, Pipe_repr}, {Py_tp_setattro, cl_stream_setattro}, \
        {Py_tp_getset, pipe_getset}, \
    { \
        Py_tp_members, cl_transport_members \
    }

static PyType_Slot read_pipe_slots[] = {
    {Py_tp_doc, "The transport of a pipe's reading end; created by the loop."},
    COMMON_SLOTS,
    {0, NULL}};

static PyType_Slot write_pipe_slots[] = {
    {Py_tp_doc, "The transport of a pipe's writing end; created by the loop."},
    {Py_tp_methods, write_pipe_methods},
    COMMON_SLOTS,
    {0, NULL}};

static PyType_Spec read_pipe_spec = {
    .name = "cloop._cloop.ReadPipeTransport",
    .basicsize = sizeof(PipeObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = read_pipe_slots,
};

static PyType_Spec write_pipe_spec = {
    .name = "cloop._cloop.WritePipeTransport",
    .basicsize = sizeof(PipeObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = write_pipe_slots,
};

static PyTypeObject *
make_type(PyObject *module, cl_state *st, PyType_Spec *spec, PyObject *bases,
          unsigned direction)
{
    PyTypeObject *type =
        bases == NULL ? NULL
                      : cl_transport_type(module, st, spec, bases, direction);
    Py_XDECREF(bases);
    return type;
}

PyTypeObject *
cl_read_pipe_setup(PyObject *module, cl_state *st)
{
    return make_type(module, st, &read_pipe_spec,
                     PyTuple_Pack(1, cl_net_of(st)->asyncio_ReadTransport),
                     CL_READ);
}

PyTypeObject *
cl_write_pipe_setup(PyObject *module, cl_state *st)
{
    return make_type(module, st, &write_pipe_spec,
                     PyTuple_Pack(2, cl_net_of(st)->FlowControlMixin,
                                  cl_net_of(st)->asyncio_WriteTransport),
                     CL_WRITE);
}
