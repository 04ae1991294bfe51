/* pipe.c - see pipe.h. */
#include "net/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/args.h"
#include "core/errors.h"
#include "net/sock.h"

static const char *const data_argument[] = {"data"};
static const char *const lines_argument[] = {"list_of_data"};

/* Chunks in one writev(). */
#define PARTS_MAX 64

/* At least this is read at once, and from this size on straight into the bytes object
 * that the protocol gets. */
#define READ_MIN (64 * 1024)

typedef struct {
    TransportObject p_base;
    cl_wqueue p_queue; /* of one that writes */
    size_t p_read_max; /* of one that reads: what the pipe holds */
    int p_lent; /* the file object's descriptor, where ours is a duplicate */
    uint32_t p_refused; /* writes, for nobody reads them any more */
    bool p_was_blocking;
} PipeObject;

static inline TransportObject *
base_of(PipeObject *self)
{
    return &self->p_base;
}

/* The descriptor to use in the next system call, or -EBADF if the file object was
 * closed behind our back. */
static int
descriptor(PipeObject *self)
{
    TransportObject *base = base_of(self);
    if ((base->t_flags & CL_T_GONE) || base->t_sock == NULL)
        return -EBADF;
    if (self->p_lent >= 0)
        return base->t_fd;
    int fd = cl_sock_fd(base->t_loop->l_st, base->t_sock);
    if (fd < -1)
        PyErr_Clear(); /* a closed file says it by an exception */
    return fd == base->t_fd ? fd : -EBADF;
}

/* asyncio's _fatal_error(): 0, or -1 for what must leave the loop. Of those that
 * read only EIO is nothing special: a terminal says so at its end. */
static int
fatal(TransportObject *base, const char *message)
{
    PipeObject *self = (PipeObject *)base;
    LoopObject *loop = base->t_loop;
    if (cl_error_is_exit())
        return -1;
    PyObject *exception = PyErr_GetRaisedException(), *error = NULL;
    bool reads = Py_TYPE(self) == loop->l_st->ReadPipeTransportType;
    bool quiet = PyErr_GivenExceptionMatches(exception, PyExc_OSError);
    if (quiet && reads) {
        PyObject *number = PyObject_GetAttrString(exception, "errno");
        quiet = number != NULL && PyLong_Check(number) &&
                PyLong_AsLong(number) == EIO;
        Py_XDECREF(number);
        PyErr_Clear();
    }
    int status =
        quiet ? cl_log_os_error(loop, (PyObject *)self, message, exception)
              : cl_report_transport(loop, message, exception, (PyObject *)self,
                                    base->t_protocol);
    cl_first_error(&error, status);
    cl_first_error(&error, cl_transport_force_close(base, exception));
    Py_DECREF(exception);
    return cl_raise_first(error);
}

static int
log_closed_by_peer(PipeObject *self)
{
    LoopObject *loop = self->p_base.t_loop;
    return loop->l_debug
               ? cl_log(loop, loop->l_st->str_info, "%r was closed by peer",
                        (PyObject *)self, NULL, NULL)
               : 0;
}

static inline bool
not_now(ssize_t result)
{
    return result == -EAGAIN || result == -EWOULDBLOCK || result == -EINTR;
}

/* ------------------------------------------------------------------------ reading */

static int
at_eof(PipeObject *self)
{
    TransportObject *base = base_of(self);
    cl_state *st = base->t_loop->l_st;
    if (log_closed_by_peer(self) < 0)
        return -1;
    PyObject *eof = PyObject_GetAttr(base->t_protocol, st->str_eof_received);
    int status = eof == NULL ? -1
                             : cl_loop_call_soon(base->t_loop, eof, NULL, 0,
                                                 base->t_context);
    Py_XDECREF(eof);
    return status < 0 ? -1 : cl_transport_force_close(base, NULL);
}

/* What could be read, as bytes; *got is the number, 0 at the end, or -errno. NULL
 * with an exception only if *got is positive. */
static PyObject *
read_bytes(PipeObject *self, ssize_t *got)
{
    TransportObject *base = base_of(self);
    cl_net *net = base->t_loop->l_net;
    int fd = descriptor(self);
    *got = fd;
    if (fd < 0)
        return NULL;
    if (!(base->t_flags & CL_T_BULK) && !net->n_read_lent) {
        *got = read(fd, net->n_read_buffer, self->p_read_max);
        if (*got < 0)
            *got = -errno;
        if (*got >= READ_MIN / 2)
            base->t_flags |= CL_T_BULK;
        return *got > 0 ? PyBytes_FromStringAndSize(net->n_read_buffer, *got)
                        : NULL;
    }
    PyObject *data =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)self->p_read_max);
    *got = 1;
    if (data == NULL)
        return NULL;
    *got = read(fd, PyBytes_AS_STRING(data), self->p_read_max);
    if (*got < 0)
        *got = -errno;
    if (*got < READ_MIN / 2)
        base->t_flags &= (uint16_t)~CL_T_BULK;
    if (*got <= 0)
        Py_CLEAR(data);
    else if ((size_t)*got < self->p_read_max)
        (void)_PyBytes_Resize(&data, *got);
    return data;
}

static int
read_ready(PipeObject *self)
{
    TransportObject *base = base_of(self);
    ssize_t got;
    PyObject *data = read_bytes(self, &got);
    if (got == 0)
        return at_eof(self);
    if (got < 0) {
        if (not_now(got))
            return 0;
        cl_raise_errno((int)got);
        return fatal(base, "Fatal read error on pipe transport");
    }
    if (data == NULL)
        return fatal(base, "Fatal read error on pipe transport");
    /* What it raises is the loop's, and the transport goes on. */
    int status = cl_transport_tell(base, base->t_loop->l_st->str_data_received,
                                   data, NULL);
    Py_DECREF(data);
    return status;
}

/* ------------------------------------------------------------------------ writing */

/* The reader is gone. */
static int
hung_up(PipeObject *self)
{
    PyObject *error = NULL;
    if (log_closed_by_peer(self) < 0)
        return -1;
    if (self->p_queue.wq_size > 0 &&
        (error = PyObject_CallNoArgs(PyExc_BrokenPipeError)) == NULL)
        return -1;
    int status = cl_transport_force_close(base_of(self), error);
    Py_XDECREF(error);
    return status;
}

/* One system call for all parts: bytes written, 0 if none can be now, or -errno. */
static ssize_t
write_parts(PipeObject *self, struct iovec *parts, int count)
{
    int fd = descriptor(self);
    if (fd < 0)
        return fd;
    ssize_t written = count == 1 ? write(fd, parts->iov_base, parts->iov_len)
                                 : writev(fd, parts, count);
    if (written < 0)
        written = -errno;
    cl_loop_poll_soon(self->p_base.t_loop);
    return not_now(written) ? 0 : written;
}

static int
write_failed(PipeObject *self, ssize_t err)
{
    self->p_refused++;
    cl_raise_errno((int)err);
    return fatal(base_of(self), "Fatal write error on pipe transport");
}

static int
write_ready(PipeObject *self)
{
    TransportObject *base = base_of(self);
    struct iovec parts[PARTS_MAX];
    int count = cl_wqueue_peek(&self->p_queue, parts, PARTS_MAX);
    if (count == 0) {
        cl_transport_want(base, CL_WRITE, false);
        return 0;
    }
    ssize_t written = write_parts(self, parts, count);
    if (written < 0) {
        cl_wqueue_clear(&self->p_queue);
        cl_transport_want(base, CL_WRITE, false);
        return write_failed(self, written);
    }
    cl_wqueue_consume(&self->p_queue, (size_t)written);
    if (self->p_queue.wq_size > 0)
        return 0;
    cl_transport_want(base, CL_WRITE, false);
    if (cl_transport_maybe_resume(base) < 0)
        return -1;
    if (!(base->t_flags & CL_T_CLOSING) || base->t_conn_lost ||
        self->p_queue.wq_size > 0)
        return 0;
    base->t_conn_lost++;
    return cl_transport_lost(base, NULL);
}

/* What does not fit now waits; `object` is the bytes object of the data, or NULL if
 * it may change. 0/-1 */
static int
write_buffer(PipeObject *self, PyObject *object, const char *data, size_t size)
{
    ssize_t written = 0;
    bool first = self->p_queue.wq_size == 0;
    if (first) {
        struct iovec part = {(char *)data, size};
        written = write_parts(self, &part, 1);
        if (written < 0)
            return write_failed(self, written);
        if ((size_t)written == size)
            return 0;
    }
    PyObject *rest =
        object != NULL ? Py_NewRef(object)
                       : PyBytes_FromStringAndSize(data + written,
                                                   (Py_ssize_t)size - written);
    int status = rest == NULL
                     ? -1
                     : cl_wqueue_append(&self->p_queue, rest,
                                        object == NULL ? 0 : (size_t)written);
    Py_XDECREF(rest);
    if (status < 0)
        return -1;
    if (first)
        cl_transport_want(base_of(self), CL_WRITE, true);
    return cl_transport_maybe_pause(base_of(self));
}

static int
write_when_lost(PipeObject *self)
{
    LoopObject *loop = self->p_base.t_loop;
    if (self->p_refused++ < CL_LOG_LOST_WRITES)
        return 0;
    return cl_log(loop, loop->l_st->str_warning,
                  "pipe closed by peer or os.write(pipe, data) raised "
                  "exception.",
                  NULL, NULL, NULL);
}

static int
write_object(PipeObject *self, PyObject *data)
{
    Py_buffer view;
    int status = 0;
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) &&
        !PyMemoryView_Check(data)) {
        PyObject *text = PyObject_Repr(data);
        if (text != NULL)
            PyErr_SetObject(PyExc_AssertionError, text);
        Py_XDECREF(text);
        return -1;
    }
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return -1;
    if (view.len > 0)
        status =
            self->p_base.t_flags & CL_T_CLOSING
                ? write_when_lost(self)
                : write_buffer(self, PyBytes_CheckExact(data) ? data : NULL,
                               view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return status;
}

PyDoc_STRVAR(
    Pipe_write_doc,
    "write($self, data)\n--\n\n"
    "Write bytes, or whatever has their buffer, as soon as the pipe takes "
    "them; never\n"
    "blocks. Raises AssertionError for other data. Quiet when the pipe is "
    "closed. See\n"
    "asyncio's WriteTransport.write.");

static PyObject *
Pipe_write(PipeObject *self, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames)
{
    PyObject *data = cl_call_args_only(self->p_base.t_loop->l_st, "write",
                                       data_argument, args, nargs, kwnames);
    if (data == NULL)
        return NULL;
    Py_INCREF(data); /* Python may run, and drop it */
    int status = write_object(self, data);
    Py_DECREF(data);
    if (status < 0)
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
    cl_state *st = self->p_base.t_loop->l_st;
    PyObject *lines = cl_call_args_only(st, "writelines", lines_argument, args,
                                        nargs, kwnames);
    PyObject *data =
        lines == NULL
            ? NULL
            : PyObject_CallMethodOneArg(st->empty_bytes, st->str_join, lines);
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
    return PyObject_CallMethodNoArgs((PyObject *)self,
                                     self->p_base.t_loop->l_st->str_close);
}

static PyObject *
Pipe_can_write_eof(PipeObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* ------------------------------------------------------------------ the watch */

static int
run_events(PipeObject *self, unsigned bits, bool reads)
{
    TransportObject *base = base_of(self);
    if ((bits & (CL_START | CL_LOST)) && cl_transport_run(base, bits) < 0)
        return -1;
    if ((bits & CL_READ) && (base->t_watch.w_want & CL_READ) &&
        (reads ? read_ready(self) : hung_up(self)) < 0)
        return -1;
    if ((bits & CL_WRITE) && (base->t_watch.w_want & CL_WRITE))
        return write_ready(self);
    return 0;
}

static int
run(LoopObject *loop, cl_watch *watch, unsigned bits)
{
    PipeObject *self = (PipeObject *)watch->w_owner;
    PyObject *context = cl_transport_enter(base_of(self));
    if (context == NULL)
        return -1;
    int status = run_events(
        self, bits, Py_TYPE(self) == loop->l_st->ReadPipeTransportType);
    if (status < 0)
        status = cl_transport_report_stray(base_of(self));
    return cl_transport_leave(context, status);
}

/* add_reader() on the descriptor takes it over, as in asyncio. */
static void
evicted(LoopObject *loop, cl_watch *watch)
{
    if (!loop->l_open)
        cl_wqueue_clear(&((PipeObject *)watch->w_owner)->p_queue);
}

static size_t
buffered(TransportObject *base)
{
    return ((PipeObject *)base)->p_queue.wq_size;
}

static void
drop_buffer(TransportObject *base)
{
    cl_wqueue_clear(&((PipeObject *)base)->p_queue);
}

static int
gone(TransportObject *Py_UNUSED(base))
{
    return 0;
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
    int fd = descriptor(self);
    if (fd < 0)
        return;
    if (self->p_was_blocking)
        set_blocking(fd, true);
    if (self->p_lent >= 0) {
        close(fd);
        base->t_fd = self->p_lent;
        self->p_lent = -1;
    }
}

static const cl_transport_ops pipe_ops = {
    .watch = {.ready = cl_watch_push,
              .run = run,
              .refused = cl_transport_refused,
              .evicted = evicted},
    .buffered = buffered,
    .fatal = fatal,
    .drop_buffer = drop_buffer,
    .gone = gone,
    .closing = closing,
};

/* --------------------------------------------------------------------- the making */

static size_t
capacity_of(int fd)
{
#ifdef F_GETPIPE_SZ
    int size = fcntl(fd, F_GETPIPE_SZ);
    if (size > CL_READ_MAX)
        return CL_READ_MAX;
    if (size > READ_MIN)
        return (size_t)size;
#endif
    return READ_MIN;
}

/* Whether the descriptor is of a kind that can be waited for. */
static int
check_kind(int fd, unsigned direction, bool *hangs_up)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return cl_raise_errno(-errno);
    if (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode) ||
        S_ISCHR(info.st_mode)) {
        *hangs_up = !S_ISCHR(info.st_mode);
        return 0;
    }
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
        PyDict_SetItem(extra, args->loop->l_st->str_pipe, args->sock) < 0)
        Py_CLEAR(extra);
    return extra;
}

TransportObject *
cl_pipe_new(cl_transport_args *args, unsigned direction)
{
    cl_state *st = args->loop->l_st;
    int lent = -1;
    bool hangs_up = false;
    if (check_kind(args->fd, direction, &hangs_up) < 0)
        return NULL;
    if (cl_watch_find(&args->loop->l_watches, args->fd) != NULL) {
        lent = args->fd;
        args->fd = fcntl(lent, F_DUPFD_CLOEXEC, 0);
        if (args->fd < 0) {
            cl_raise_errno(-errno);
            return NULL;
        }
    }
    args->type = direction == CL_READ ? st->ReadPipeTransportType
                                      : st->WritePipeTransportType;
    args->ops = &pipe_ops;
    args->pipe = true;
    PyObject *extra = extra_with_pipe(args);
    args->extra = extra;
    PipeObject *self =
        extra == NULL ? NULL : (PipeObject *)cl_transport_new(args);
    Py_XDECREF(extra);
    if (self == NULL) {
        if (lent >= 0)
            close(args->fd);
        return NULL;
    }
    self->p_lent = lent;
    self->p_read_max = capacity_of(args->fd);
    int flags = fcntl(args->fd, F_GETFL);
    self->p_was_blocking = flags >= 0 && !(flags & O_NONBLOCK);
    if (self->p_was_blocking)
        set_blocking(args->fd, false);
    if (direction == CL_WRITE && !hangs_up)
        self->p_base.t_flags |= CL_T_PAUSED; /* nothing to hear */
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
    cl_state *st = base->t_loop->l_st;
    bool reads = Py_TYPE(self) == st->ReadPipeTransportType;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.') + 1;
    if (base->t_flags & CL_T_GONE)
        return PyUnicode_FromFormat("<%s closed fd=%d closed>", name,
                                    base->t_fd);
    const char *state = base->t_flags & CL_T_CLOSING ? " closing" : "";
    int fd = self->p_lent >= 0 ? self->p_lent : base->t_fd;
    if (base->t_loop->l_closed)
        return PyUnicode_FromFormat("<%s%s fd=%d open>", name, state, fd);
    bool polling = base->t_watch.w_want & (reads ? CL_READ : CL_WRITE);
    const char *activity = polling ? "polling" : "idle";
    return reads ? PyUnicode_FromFormat("<%s%s fd=%d %s>", name, state, fd,
                                        activity)
                 : PyUnicode_FromFormat("<%s%s fd=%d %s bufsize=%zu>", name,
                                        state, fd, activity,
                                        self->p_queue.wq_size);
}

static int
Pipe_traverse(PyObject *self, visitproc visit, void *arg)
{
    return cl_transport_traverse((TransportObject *)self, visit, arg);
}

static int
Pipe_clear(PyObject *self)
{
    return cl_transport_clear((TransportObject *)self);
}

static void
Pipe_dealloc(PyObject *op)
{
    if (PyObject_CallFinalizerFromDealloc(op) < 0)
        return;
    PyObject_GC_UnTrack(op);
    cl_wqueue_clear(&((PipeObject *)op)->p_queue);
    cl_transport_free(op);
}

static PyObject *
get_pipe(PipeObject *self, void *Py_UNUSED(closure))
{
    PyObject *pipe = self->p_base.t_sock;
    return Py_NewRef(pipe == NULL ? Py_None : pipe);
}

/* None makes the transport forget its file object, as asyncio's tests do with those
 * of a loop that is closed. */
static int
set_pipe(PipeObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    TransportObject *base = base_of(self);
    if (value != Py_None) {
        PyErr_SetString(PyExc_AttributeError, "_pipe can be set to None only");
        return -1;
    }
    cl_watch_stop(base->t_loop, &base->t_watch);
    drop_buffer(base);
    closing(base);
    base->t_flags |= CL_T_GONE | CL_T_CLOSING;
    Py_CLEAR(base->t_sock);
    Py_CLEAR(base->t_protocol);
    return 0;
}

static PyObject *
get_fileno(PipeObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->p_lent >= 0 ? self->p_lent
                                             : self->p_base.t_fd);
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
    {"can_write_eof", (PyCFunction)Pipe_can_write_eof, METH_NOARGS,
     "can_write_eof($self, /)\n--\n\nReturn True."},
    {NULL}};

#define COMMON_SLOTS \
    {Py_tp_dealloc, Pipe_dealloc}, {Py_tp_finalize, cl_transport_finalize}, \
        {Py_tp_traverse, Pipe_traverse}, {Py_tp_clear, Pipe_clear}, \
        {Py_tp_repr, Pipe_repr}, {Py_tp_getset, pipe_getset}, \
    { \
        Py_tp_members, cl_transport_members \
    }

static PyType_Slot read_pipe_slots[] = {
    {Py_tp_doc, "The transport of a pipe's reading end; made by the loop."},
    COMMON_SLOTS,
    {0, NULL}};

static PyType_Slot write_pipe_slots[] = {
    {Py_tp_doc, "The transport of a pipe's writing end; made by the loop."},
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
                     PyTuple_Pack(1, st->asyncio_ReadTransport), CL_READ);
}

PyTypeObject *
cl_write_pipe_setup(PyObject *module, cl_state *st)
{
    return make_type(
        module, st, &write_pipe_spec,
        PyTuple_Pack(2, st->FlowControlMixin, st->asyncio_WriteTransport),
        CL_WRITE);
}
