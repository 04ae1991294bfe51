/* stream.c - see stream.h. */
#include "net/stream.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>

#include "core/args.h"
#include "core/errors.h"
#include "core/fork.h"
#include "streams/feed.h"
#include "streams/reader.h"

static const char *const data_argument[] = {"data"};
static const char *const lines_argument[] = {"list_of_data"};

/* From this size on, copying what was received costs more than giving back what a
 * bytes object of the largest size has too much. */
#define BULK_MIN (32 * 1024)

/* Chunks in one writev(); IOV_MAX is the limit of the kernel, but the socket's
 * buffer is full long before. */
#define PARTS_MAX 64

#ifdef MSG_NOSIGNAL
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#else
#define SEND_FLAGS MSG_DONTWAIT
#endif

static inline TransportObject *
base_of(StreamObject *self)
{
    return &self->s_base;
}

static inline cl_net *
net_of(StreamObject *self)
{
    return self->s_base.t_loop->l_net;
}

static int wake_empty_waiter(StreamObject *self, PyObject *exception);

/* ------------------------------------------------------------------- sending */

/* One system call for all parts: bytes sent, or -errno; 0 if none can be now. */
static ssize_t
send_parts(StreamObject *self, struct iovec *parts, int count)
{
    int fd = cl_transport_fd(base_of(self));
    ssize_t sent;
    if (fd < 0)
        return fd;
#ifdef CL_STRESS
    /* The kernel takes a part of what is large. */
    if (parts[0].iov_len > 1024) {
        count = 1;
        parts[0].iov_len = parts[0].iov_len / 2;
    }
#endif
    do {
        if (count == 1) {
            sent = send(fd, parts->iov_base, parts->iov_len, SEND_FLAGS);
        }
        else {
            struct msghdr message = {.msg_iov = parts,
                                     .msg_iovlen = (size_t)count};
            sent = sendmsg(fd, &message, SEND_FLAGS);
        }
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        cl_loop_poll_soon(self->s_base.t_loop);
        return sent;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
}

/* Queues what is left of a chunk after *sent bytes of all are gone. `object` is
 * the bytes object that `data` lies in, or NULL: then it is copied. */
static int
queue_rest(StreamObject *self, PyObject *object, const char *data, size_t size,
           size_t *sent)
{
    if (*sent >= size) {
        *sent -= size;
        return 0;
    }
    size_t skip = *sent;
    *sent = 0;
    if (object != NULL)
        return cl_wqueue_append(&self->s_queue, object, skip);
    object = PyBytes_FromStringAndSize(data + skip, (Py_ssize_t)(size - skip));
    int err =
        object == NULL ? -1 : cl_wqueue_append(&self->s_queue, object, 0);
    Py_XDECREF(object);
    return err;
}

/* What failed while sending or queueing breaks the transport. 0/-1 */
static int
write_failed(StreamObject *self, ssize_t err)
{
    if (err < 0)
        cl_raise_errno((int)err);
    return cl_transport_fatal(base_of(self),
                              "Fatal write error on socket transport");
}

/* Sends what is held for this transport, and then `data` (of `object`, as in
 * queue_rest()); what the kernel does not take is queued. Nothing is queued yet.
 * 0/-1; a failure to send is dealt with here. */
static int
send_now(StreamObject *self, PyObject *object, const char *data, size_t size)
{
    LoopObject *loop = self->s_base.t_loop;
    cl_held held;
    struct iovec parts[3];
    int count = 0, status = 0;
    cl_gather_take(loop, (PyObject *)self, &held);
    size_t first =
        held.first == NULL ? 0 : (size_t)PyBytes_GET_SIZE(held.first);
    if (first > 0) {
        parts[count].iov_base = PyBytes_AS_STRING(held.first);
        parts[count++].iov_len = first;
    }
    if (held.rest_size > 0) {
        parts[count].iov_base = held.rest;
        parts[count++].iov_len = held.rest_size;
    }
    if (size > 0) {
        parts[count].iov_base = (char *)data;
        parts[count++].iov_len = size;
    }
    ssize_t result = count > 0 ? send_parts(self, parts, count) : 0;
    if (result < 0) {
        status = write_failed(self, result);
    }
    else {
        size_t sent = (size_t)result;
        if ((first > 0 &&
             queue_rest(self, held.first, NULL, first, &sent) < 0) ||
            queue_rest(self, NULL, held.rest, held.rest_size, &sent) < 0 ||
            queue_rest(self, object, data, size, &sent) < 0)
            status = write_failed(self, 0);
        else if (self->s_queue.wq_size > 0)
            cl_transport_want(base_of(self), CL_WRITE, true);
    }
    cl_gather_release(loop, &held);
    return status;
}

/* A cl_gather_send. */
static int
send_held(PyObject *op)
{
    Py_INCREF(op);
    int status = send_now((StreamObject *)op, NULL, NULL, 0);
    if (status < 0)
        status = cl_transport_report_stray((TransportObject *)op);
    Py_DECREF(op);
    return status;
}

/* Whether the data is held, to be sent with what else this callback writes. */
static bool
hold(StreamObject *self, PyObject *object, const char *data, size_t size)
{
    cl_gather_write write = {
        .owner = (PyObject *)self,
        .send = send_held,
        .habit = &self->s_habit,
        .allowed = !cl_transport_is_exposed(base_of(self)),
        .object = object,
        .data = data,
        .size = size,
        .limit = self->s_base.t_limits.high,
    };
    return cl_gather_hold(self->s_base.t_loop, &write);
}

/* As transport.write() after its checks, for a buffer that is not empty, but for
 * the call of pause_writing(). */
static int
write_buffer(StreamObject *self, PyObject *object, const char *data,
             size_t size)
{
    LoopObject *loop = self->s_base.t_loop;
    size_t none = 0;
    if (cl_gather_join(loop, &loop->l_net->n_gather, (PyObject *)self, data,
                       size))
        return 0;
    if (!PyBytes_CheckExact(object))
        object = NULL; /* it may change: what is not sent now is copied */
    if (cl_gather_make_way(loop, (PyObject *)self) < 0)
        return -1;
    if (self->s_base.t_conn_lost)
        return cl_transport_write_when_lost(base_of(self));
    if (self->s_queue.wq_size > 0)
        return queue_rest(self, object, data, size, &none);
    return hold(self, object, data, size) ? 0
                                          : send_now(self, object, data, size);
}

/* What is held is below the high-water mark: only the queue can be above. */
static int
pause_if_full(StreamObject *self)
{
    return self->s_queue.wq_size > self->s_base.t_limits.high
               ? cl_transport_maybe_pause(base_of(self))
               : 0;
}

int
cl_stream_send(TransportObject *base, const char *data, size_t size)
{
    StreamObject *self = (StreamObject *)base;
    size_t none = 0;
    int status;
    if (cl_gather_flush(base->t_loop) < 0)
        return -1;
    if (base->t_conn_lost)
        return cl_transport_write_when_lost(base);
    status = self->s_queue.wq_size > 0
                 ? queue_rest(self, NULL, data, size, &none)
                 : send_now(self, NULL, data, size);
    return status < 0 ? -1 : pause_if_full(self);
}

/* Whether asyncio would refuse to take more: its own method then says so. */
static inline bool
refuses(const StreamObject *self)
{
    return (self->s_base.t_flags & CL_T_EOF) || self->s_empty_waiter != NULL;
}

/* asyncio's method on our transport, for an argument or a state that it refuses,
 * in the words of this version. */
static PyObject *
call_asyncio(StreamObject *self, const char *method, PyObject *arg)
{
    return PyObject_CallMethod(
        self->s_base.t_loop->l_st->asyncio_SocketTransport, method, "OO", self,
        arg);
}

PyDoc_STRVAR(
    Stream_write_doc,
    "write($self, data)\n--\n\n"
    "Send bytes, or whatever has their buffer, as soon as the socket takes "
    "them; never\n"
    "blocks. Raises TypeError for other data, RuntimeError after write_eof(). "
    "Quiet\n"
    "when the connection is lost. See asyncio's WriteTransport.write.");

static PyObject *
Stream_write(StreamObject *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    cl_state *st = self->s_base.t_loop->l_st;
    PyObject *data =
        cl_call_args_only(st, "write", data_argument, args, nargs, kwnames);
    Py_buffer view = {0};
    const char *bytes;
    size_t size;
    if (data == NULL)
        return NULL;
    if (refuses(self))
        return call_asyncio(self, "write", data);
    if (PyBytes_Check(data)) {
        bytes = PyBytes_AS_STRING(data);
        size = (size_t)PyBytes_GET_SIZE(data);
    }
    else if (PyByteArray_Check(data) || PyMemoryView_Check(data)) {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
            return NULL;
        bytes = view.buf;
        size = (size_t)view.len;
    }
    else {
        return call_asyncio(self, "write", data);
    }
    int status = 0;
    if (size > 0) {
        Py_INCREF(data); /* Python may run, and drop it */
        status = write_buffer(self, data, bytes, size);
        Py_DECREF(data);
    }
    if (view.obj != NULL) /* first: pause_writing() may change the buffer */
        PyBuffer_Release(&view);
    if (status < 0 || pause_if_full(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Moves what is held into the queue. */
static int
queue_held(StreamObject *self)
{
    cl_held held;
    size_t none = 0;
    cl_gather_take(self->s_base.t_loop, (PyObject *)self, &held);
    int status = held.first == NULL
                     ? 0
                     : queue_rest(self, held.first, NULL,
                                  (size_t)PyBytes_GET_SIZE(held.first), &none);
    if (status == 0 && held.rest_size > 0)
        status = queue_rest(self, NULL, held.rest, held.rest_size, &none);
    cl_gather_release(self->s_base.t_loop, &held);
    return status;
}

/* One writev() of what is queued: 1 if something is left, 0 if not; -1 on error,
 * with the transport's failure dealt with in *broken. */
static int
send_queued(StreamObject *self, bool *broken)
{
    struct iovec parts[PARTS_MAX];
    int count = cl_wqueue_peek(&self->s_queue, parts, PARTS_MAX);
    ssize_t sent = send_parts(self, parts, count);
    if (sent < 0) {
        *broken = true;
        cl_transport_want(base_of(self), CL_WRITE, false);
        cl_wqueue_clear(&self->s_queue);
        cl_raise_errno((int)sent);
        PyObject *error = PyErr_GetRaisedException();
        PyErr_SetRaisedException(Py_NewRef(error));
        int status = cl_transport_fatal(
            base_of(self), "Fatal write error on socket transport");
        if (status == 0)
            status = wake_empty_waiter(self, error);
        Py_DECREF(error);
        return status;
    }
    cl_wqueue_consume(&self->s_queue, (size_t)sent);
    return self->s_queue.wq_size > 0;
}

/* Appends each item of the sequence to the queue. 0/-1 */
static int
queue_items(StreamObject *self, PyObject *items)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(items, i), *bytes = NULL;
        if (PyBytes_CheckExact(item))
            bytes = Py_NewRef(item);
        else
            bytes = PyBytes_FromObject(item);
        int status = bytes == NULL ? -1
                     : PyBytes_GET_SIZE(bytes) == 0
                         ? 0
                         : cl_wqueue_append(&self->s_queue, bytes, 0);
        Py_XDECREF(bytes);
        if (status < 0)
            return -1;
    }
    return 0;
}

/* Raises the TypeError of a wrong item before any is taken; the total size
 * through *size. */
static int
check_items(PyObject *items, size_t *size)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    *size = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(items, i);
        Py_buffer view;
        if (PyBytes_Check(item)) {
            *size += (size_t)PyBytes_GET_SIZE(item);
            continue;
        }
        if (!PyObject_CheckBuffer(item)) {
            PyErr_Format(PyExc_TypeError,
                         "sequence item %zd: expected a bytes-like object, %s "
                         "found",
                         i, Py_TYPE(item)->tp_name);
            return -1;
        }
        if (PyObject_GetBuffer(item, &view, PyBUF_SIMPLE) < 0)
            return -1;
        *size += (size_t)view.len;
        PyBuffer_Release(&view);
    }
    return 0;
}

/* Few small ones are copied together with what else the callback writes. */
static int
write_items(StreamObject *self, PyObject *items)
{
    size_t size;
    if (check_items(items, &size) < 0)
        return -1;
    if (size == 0)
        return 0;
    if (cl_gather_make_way(self->s_base.t_loop, (PyObject *)self) < 0)
        return -1;
    if (self->s_base.t_conn_lost)
        return cl_transport_write_when_lost(base_of(self));
    if (self->s_queue.wq_size == 0 && size <= CL_COPY_MAX &&
        cl_loop_in_callback(self->s_base.t_loop)) {
        PyObject *joined = PyObject_CallMethodOneArg(
            self->s_base.t_loop->l_st->empty_bytes,
            self->s_base.t_loop->l_st->str_join, items);
        int status =
            joined == NULL
                ? -1
                : write_buffer(self, joined, PyBytes_AS_STRING(joined),
                               (size_t)PyBytes_GET_SIZE(joined));
        Py_XDECREF(joined);
        return status < 0 ? -1 : pause_if_full(self);
    }
    bool waiting = self->s_queue.wq_size > 0, broken = false;
    if (queue_held(self) < 0 || queue_items(self, items) < 0)
        return write_failed(self, 0);
    int left = waiting ? 1 : send_queued(self, &broken);
    if (left < 0 || broken)
        return left;
    if (left > 0)
        cl_transport_want(base_of(self), CL_WRITE, true);
    return pause_if_full(self);
}

PyDoc_STRVAR(Stream_writelines_doc,
             "writelines($self, list_of_data)\n--\n\n"
             "Like write() for each item, sent by one system call where the "
             "socket takes it.");

static PyObject *
Stream_writelines(StreamObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    PyObject *lines =
        cl_call_args_only(self->s_base.t_loop->l_st, "writelines",
                          lines_argument, args, nargs, kwnames);
    int any = lines == NULL ? -1 : PyObject_IsTrue(lines);
    if (any < 0)
        return NULL;
    if (refuses(self) || !any) /* None, too, is nothing from 3.12 on */
        return call_asyncio(self, "writelines", lines);
    /* A list could change under us while an item's buffer is taken. */
    PyObject *items = PySequence_Tuple(lines);
    int status = 0;
    if (items == NULL)
        return NULL;
    if (PyTuple_GET_SIZE(items) > 0)
        status = write_items(self, items);
    Py_DECREF(items);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int
send_eof(StreamObject *self)
{
    int fd = cl_transport_fd(base_of(self));
    if (cl_fork_is_parents(self->s_base.t_loop, &self->s_base.t_watch))
        return 0;
    if (fd < 0 || shutdown(fd, SHUT_WR) < 0)
        return cl_raise_errno(fd < 0 ? fd : -errno);
    cl_loop_poll_soon(self->s_base.t_loop);
    return 0;
}

/* After everything queued was sent: what was waiting for that. */
static int
all_sent(StreamObject *self)
{
    TransportObject *base = base_of(self);
    cl_transport_want(base, CL_WRITE, false);
    if (wake_empty_waiter(self, NULL) < 0)
        return -1;
    if ((base->t_flags & CL_T_CLOSING) && !base->t_conn_lost) {
        base->t_conn_lost++;
        return cl_transport_lost(base, NULL);
    }
    if ((base->t_flags & CL_T_EOF) && !base->t_conn_lost)
        return send_eof(self);
    return 0;
}

static int
write_ready(StreamObject *self)
{
    bool broken = false;
    if (self->s_base.t_conn_lost || self->s_queue.wq_size == 0)
        return 0;
    if (send_queued(self, &broken) < 0)
        return -1;
    if (broken)
        return 0;
    if (cl_transport_maybe_resume(base_of(self)) < 0)
        return -1;
    /* Which may have written again: what follows needs that sent as well. */
    if (cl_transport_flush(base_of(self)) < 0)
        return -1;
    return self->s_queue.wq_size == 0 ? all_sent(self) : 0;
}

PyDoc_STRVAR(Stream_write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Send what is buffered, then close the sending side only.");

static PyObject *
Stream_write_eof(StreamObject *self, PyObject *Py_UNUSED(ignored))
{
    TransportObject *base = base_of(self);
    if (base->t_flags & (CL_T_CLOSING | CL_T_EOF))
        Py_RETURN_NONE;
    base->t_flags |= CL_T_EOF;
    if (cl_transport_flush(base) < 0 ||
        (self->s_queue.wq_size == 0 && !base->t_conn_lost &&
         send_eof(self) < 0))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
Stream_can_write_eof(StreamObject *Py_UNUSED(self),
                     PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* ------------------------------------------------------------------ sendfile */

static int
wake_empty_waiter(StreamObject *self, PyObject *exception)
{
    cl_state *st = self->s_base.t_loop->l_st;
    PyObject *waiter = Py_XNewRef(self->s_empty_waiter);
    if (waiter == NULL)
        return 0;
    PyObject *result =
        exception == NULL
            ? PyObject_CallMethodOneArg(waiter, st->str_set_result, Py_None)
            : PyObject_CallMethodOneArg(waiter, st->str_set_exception,
                                        exception);
    Py_DECREF(waiter);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *
Stream_make_empty_waiter(StreamObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->s_empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    TransportObject *base = base_of(self);
    self->s_empty_waiter = PyObject_CallMethodNoArgs(
        (PyObject *)base->t_loop, base->t_loop->l_st->str_create_future);
    if (self->s_empty_waiter == NULL)
        return NULL;
    if (cl_transport_flush(base) < 0 ||
        (self->s_queue.wq_size == 0 && wake_empty_waiter(self, NULL) < 0))
        return NULL;
    return Py_NewRef(self->s_empty_waiter);
}

static PyObject *
Stream_reset_empty_waiter(StreamObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(self->s_empty_waiter);
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------- reading */

static int
at_eof(StreamObject *self)
{
    TransportObject *base = base_of(self);
    PyObject *answer;
    if (cl_transport_debug(base, "%r received EOF") < 0)
        return -1;
    int keep_open = cl_transport_tell(
        base, base->t_loop->l_st->str_eof_received, NULL, &answer);
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
        (PyObject *)self, base->t_loop->l_st->str_close);
    Py_XDECREF(closed);
    return closed == NULL ? -1 : 0;
}

/* Bytes received, 0 at the end, -errno. */
static ssize_t
receive(StreamObject *self, char *into, size_t size)
{
    int fd = cl_transport_fd(base_of(self));
    if (fd < 0)
        return fd;
    ssize_t got = recv(fd, into, size, MSG_DONTWAIT);
    return got < 0 ? -errno : got;
}

static inline bool
not_yet(ssize_t got)
{
    return got == -EAGAIN || got == -EWOULDBLOCK || got == -EINTR;
}

/* What is received, as bytes; *got as of receive(). NULL with an exception only if
 * *got is positive.
 *
 * Into the loop's buffer and from there into a bytes object of the right size:
 * most reads are small. After a large one, straight into the bytes object. */
static PyObject *
receive_bytes(StreamObject *self, ssize_t *got)
{
    char *buffer = net_of(self)->n_read_buffer;
    PyObject *data = NULL;
    if (!(self->s_base.t_flags & CL_T_BULK) && !net_of(self)->n_read_lent) {
        *got = receive(self, buffer, CL_READ_MAX);
        if (*got >= BULK_MIN)
            self->s_base.t_flags |= CL_T_BULK;
        return *got > 0 ? PyBytes_FromStringAndSize(buffer, *got) : NULL;
    }
    data = PyBytes_FromStringAndSize(NULL, CL_READ_MAX);
    *got =
        data == NULL ? 1 : receive(self, PyBytes_AS_STRING(data), CL_READ_MAX);
    if (*got < BULK_MIN)
        self->s_base.t_flags &= (uint16_t)~CL_T_BULK;
    if (data != NULL && *got <= 0)
        Py_CLEAR(data);
    else if (data != NULL && *got < CL_READ_MAX)
        (void)_PyBytes_Resize(&data, *got);
    return data;
}

/* Nothing was received: 0/-1 */
static int
got_nothing(StreamObject *self, ssize_t got)
{
    if (got == 0)
        return at_eof(self);
    return not_yet(got) ? 0
                        : cl_transport_fatal_errno(
                              base_of(self), (int)got,
                              "Fatal read error on socket transport");
}

static int
tell_data_received(StreamObject *self, int status)
{
    return status >= 0
               ? 0
               : cl_transport_fatal(
                     base_of(self),
                     "Fatal error: protocol.data_received() call failed.");
}

static int
read_bytes(StreamObject *self)
{
    TransportObject *base = base_of(self);
    ssize_t got;
    PyObject *data = receive_bytes(self, &got);
    if (got <= 0)
        return got_nothing(self, got);
    if (data == NULL)
        return cl_transport_fatal(base,
                                  "Fatal read error on socket transport");
    int status = cl_transport_tell(base, base->t_loop->l_st->str_data_received,
                                   data, NULL);
    Py_DECREF(data);
    return tell_data_received(self, status);
}

static int
read_into_buffer(StreamObject *self)
{
    TransportObject *base = base_of(self);
    Py_buffer view;
    int held = cl_transport_get_buffer(base, &view);
    if (held <= 0)
        return cl_transport_fatal(
            base, held < 0 ? "Fatal error: protocol.get_buffer() call failed."
                           : "Fatal read error on socket transport");
    ssize_t got = receive(self, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    if (got <= 0)
        return got_nothing(self, got);
    return cl_transport_buffer_updated(base, got) == 0
               ? 0
               : cl_transport_fatal(
                     base,
                     "Fatal error: protocol.buffer_updated() call failed.");
}

/* What a reader waits for, received into memory that it lent. */
static int
read_directly(StreamObject *self, PyObject *reader, char *lent, size_t room)
{
    ssize_t got = receive(self, lent, room);
    if (got <= 0)
        return got_nothing(self, got);
    return tell_data_received(
        self,
        cl_reader_filled(base_of(self)->t_loop->l_st, reader, (size_t)got));
}

/* Into the buffer of the protocol's reader, which is NULL if it is gone or not known.
 * Where feed_data() can't be done here the protocol is called. */
static int
read_and_feed(StreamObject *self, PyObject *protocol, PyObject *reader)
{
    cl_state *st = base_of(self)->t_loop->l_st;
    cl_net *net = net_of(self);
    char *data = net->n_read_buffer;
    ssize_t got = receive(self, data, CL_READ_MAX);
    if (got <= 0)
        return got_nothing(self, got);
    net->n_read_lent = true;
    int status = reader == NULL
                     ? cl_feed(st, protocol, data, (size_t)got)
                     : cl_reader_feed(st, reader, data, (size_t)got);
    net->n_read_lent = false;
    if (status == 0) {
        PyObject *bytes = PyBytes_FromStringAndSize(data, got);
        status = bytes == NULL
                     ? -1
                     : cl_transport_tell(base_of(self), st->str_data_received,
                                         bytes, NULL);
        Py_XDECREF(bytes);
    }
    return tell_data_received(self, status);
}

static int
read_for_reader(StreamObject *self)
{
    cl_state *st = base_of(self)->t_loop->l_st;
    PyObject *protocol = Py_NewRef(base_of(self)->t_protocol);
    PyObject *reader = cl_feed_reader(st, protocol);
    size_t room;
    char *lent = reader == NULL ? NULL : cl_reader_lend(st, reader, &room);
    int status;
    if (lent != NULL)
        status = read_directly(self, reader, lent, room);
    else if (net_of(self)->n_read_lent)
        status = read_bytes(self);
    else
        status = read_and_feed(self, protocol, reader);
    Py_XDECREF(reader);
    Py_DECREF(protocol);
    return status;
}

/* What is received stays in the loop's buffer, where TLS reads it; in a turn within
 * that, in one of its own. */
static int
read_for_tls(StreamObject *self)
{
    TransportObject *base = base_of(self);
    cl_net *net = net_of(self);
    bool lent = net->n_read_lent;
    char *buffer = lent ? PyMem_RawMalloc(CL_READ_MAX) : net->n_read_buffer;
    int status = 0;
    if (buffer == NULL) {
        PyErr_NoMemory();
        return cl_transport_fatal(base,
                                  "Fatal read error on socket transport");
    }
    ssize_t got = receive(self, buffer, CL_READ_MAX);
    if (got > 0) {
        PyObject *tls = Py_NewRef(base->t_protocol);
        net->n_read_lent = true;
        status = cl_tls_received(tls, buffer, (size_t)got);
        Py_DECREF(tls);
    }
    net->n_read_lent = lent;
    if (lent)
        PyMem_RawFree(buffer);
    if (got <= 0)
        return got_nothing(self, got);
    return status == 0 ? 0
                       : cl_transport_fatal(
                             base, "Fatal error: protocol." CL_TLS_RECEIVE_NAME
                                   "() call failed.");
}

/* ------------------------------------------------------------------ the watch */

static int
receive_some(StreamObject *self)
{
    unsigned flags = self->s_base.t_flags;
    return flags & CL_T_BUFFERED  ? read_into_buffer(self)
           : flags & CL_T_TLS     ? read_for_tls(self)
           : flags & CL_T_STREAMS ? read_for_reader(self)
                                  : read_bytes(self);
}

static int
run_events(StreamObject *self, unsigned bits)
{
    TransportObject *base = base_of(self);
    /* What was paused or closed since the event came has asked for silence. */
    if ((bits & (CL_START | CL_LOST)) && cl_transport_run(base, bits) < 0)
        return -1;
    if ((bits & CL_READ) && (base->t_watch.w_want & CL_READ) &&
        !base->t_conn_lost && receive_some(self) < 0)
        return -1;
    if ((bits & CL_WRITE) && (base->t_watch.w_want & CL_WRITE))
        return write_ready(self);
    return 0;
}

static int
run(LoopObject *Py_UNUSED(loop), cl_watch *watch, unsigned bits)
{
    StreamObject *self = (StreamObject *)watch->w_owner;
    PyObject *context = cl_transport_enter(base_of(self));
    if (context == NULL)
        return -1;
    int status = run_events(self, bits);
    if (status < 0)
        status = cl_transport_report_stray(base_of(self));
    return cl_transport_leave(context, status);
}

static size_t
buffered(TransportObject *base)
{
    return ((StreamObject *)base)->s_queue.wq_size;
}

static int
flush(TransportObject *base)
{
    return cl_gather_holds(base->t_loop, (PyObject *)base)
               ? send_held((PyObject *)base)
               : 0;
}

static void
drop_buffer(TransportObject *base)
{
    cl_wqueue_clear(&((StreamObject *)base)->s_queue);
    cl_gather_drop(base->t_loop, (PyObject *)base);
}

static int
gone(TransportObject *base)
{
    StreamObject *self = (StreamObject *)base;
    if (self->s_empty_waiter == NULL)
        return 0;
    PyObject *error = PyObject_CallFunction(PyExc_ConnectionError, "s",
                                            "Connection is closed by peer");
    int status = error == NULL ? -1 : wake_empty_waiter(self, error);
    Py_XDECREF(error);
    return status;
}

static const cl_transport_ops stream_ops = {
    .watch = {.ready = cl_watch_push,
              .run = run,
              .refused = cl_transport_refused,
              .evicted = cl_transport_evicted,
              .claims = cl_transport_claims},
    .buffered = buffered,
    .flush = flush,
    .fatal = cl_transport_fatal,
    .drop_buffer = drop_buffer,
    .gone = gone,
};

/* ------------------------------------------------------------------- the type */

TransportObject *
cl_stream_new(cl_transport_args *args, bool nodelay_known)
{
    args->type = args->loop->l_st->SocketTransportType;
    args->ops = &stream_ops;
    TransportObject *self = cl_transport_new(args);
    if (self == NULL)
        return NULL;
    cl_habit_init(&((StreamObject *)self)->s_habit, args->habits);
    if (!nodelay_known &&
        (self->t_family == AF_INET || self->t_family == AF_INET6)) {
        int on = 1; /* fails for what is not TCP, and does no harm */
        (void)setsockopt(self->t_fd, IPPROTO_TCP, TCP_NODELAY, &on,
                         sizeof(on));
    }
    if (cl_transport_begin(self) < 0) {
        cl_transport_disown(self, args->sock != NULL);
        Py_CLEAR(self);
    }
    return self;
}

static int
Stream_traverse(StreamObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->s_empty_waiter);
    return cl_transport_traverse(base_of(self), visit, arg);
}

static int
Stream_clear(StreamObject *self)
{
    Py_CLEAR(self->s_empty_waiter);
    return cl_transport_clear(base_of(self));
}

static void
Stream_dealloc(PyObject *op)
{
    if (PyObject_CallFinalizerFromDealloc(op) < 0)
        return;
    PyObject_GC_UnTrack(op);
    cl_wqueue_clear(&((StreamObject *)op)->s_queue);
    cl_habit_clear(&((StreamObject *)op)->s_habit);
    Py_CLEAR(((StreamObject *)op)->s_empty_waiter);
    cl_transport_free(op);
}

static PyObject *
get_empty_waiter(StreamObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->s_empty_waiter ? self->s_empty_waiter : Py_None);
}

static PyGetSetDef stream_getset[] = {
    {"_empty_waiter", (getter)get_empty_waiter}, {NULL}};

static PyMethodDef stream_methods[] = {
    {"write", CL_FAST(Stream_write), METH_FASTCALL | METH_KEYWORDS,
     Stream_write_doc},
    {"writelines", CL_FAST(Stream_writelines), METH_FASTCALL | METH_KEYWORDS,
     Stream_writelines_doc},
    {"write_eof", (PyCFunction)Stream_write_eof, METH_NOARGS,
     Stream_write_eof_doc},
    {"can_write_eof", (PyCFunction)Stream_can_write_eof, METH_NOARGS,
     "can_write_eof($self, /)\n--\n\nReturn True."},
    {"_make_empty_waiter", (PyCFunction)Stream_make_empty_waiter, METH_NOARGS,
     NULL},
    {"_reset_empty_waiter", (PyCFunction)Stream_reset_empty_waiter,
     METH_NOARGS, NULL},
    {NULL}};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, "The transport of a stream socket; made by the loop."},
    {Py_tp_dealloc, Stream_dealloc},
    {Py_tp_finalize, cl_transport_finalize},
    {Py_tp_traverse, Stream_traverse},
    {Py_tp_clear, Stream_clear},
    {Py_tp_repr, cl_transport_repr},
    {Py_tp_getset, stream_getset},
    {Py_tp_methods, stream_methods},
    {Py_tp_members, cl_transport_members},
    {0, NULL}};

static PyType_Spec stream_spec = {
    .name = "cloop._cloop.SocketTransport",
    .basicsize = sizeof(StreamObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = stream_slots,
};

PyTypeObject *
cl_stream_setup(PyObject *module, cl_state *st)
{
    PyObject *bases = PyTuple_Pack(1, st->FlowControlMixin);
    PyTypeObject *type = bases == NULL
                             ? NULL
                             : cl_transport_type(module, st, &stream_spec,
                                                 bases, CL_READ | CL_WRITE);
    Py_XDECREF(bases);
    if (type != NULL &&
        (PyObject_SetAttrString((PyObject *)type, "_start_tls_compatible",
                                Py_True) < 0 ||
         PyObject_SetAttrString((PyObject *)type, "_sendfile_compatible",
                                st->sendfile_try_native) < 0))
        Py_CLEAR(type);
    return type;
}
