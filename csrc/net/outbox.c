/* outbox.c - see outbox.h. */
#include "net/outbox.h"

#include <errno.h>
#include <unistd.h>

#include "base/probe.h"
#include "core/args.h"
#include "core/errors.h"
#include "net/extra.h"
#include "net/stream.h"

/* Chunks per writev(). IOV_MAX is larger, but a socket's buffer is full long
 * before. */
#define PARTS_MAX 64

static inline TransportObject *
base_of(StreamObject *self)
{
    return &self->s_base;
}

static inline bool
is_pipe(const StreamObject *self)
{
    return self->s_base.tr_flags & CL_T_PIPE;
}

static inline size_t
queued(const StreamObject *self)
{
    return self->s_out.out_queue.wq_size;
}

/* For metrics(): so many bytes were queued before, and now it is another
 * number. */
static inline void
count_queued(const StreamObject *self, size_t before)
{
    cl_net_count_buffered(self->s_base.tr_loop, queued(self) - before);
}

#ifdef CL_DEBUG
void
cl_outbox_check(const TransportObject *base)
{
    const StreamObject *self = (const StreamObject *)base;
    const cl_outbox *outbox = &self->s_out;
    if (self->s_read_max == 0) /* half made */
        return;
    cl_assertf(outbox->out_hold_max <= CL_GATHER_MAX, "%u",
               outbox->out_hold_max);
    cl_assertf(self->s_read_max <= CL_READ_MAX || (base->tr_flags & CL_T_BULK),
               "%u", self->s_read_max);
    if (outbox->out_queue.wq_count <= CL_TINY(UINT32_MAX, 64))
        cl_wqueue_check(&outbox->out_queue);
    /* What is held goes before what is queued: there is but one of them. */
    cl_assert_of(self, outbox->out_queue.wq_count == 0 ||
                           !cl_gather_holds(base->tr_loop, (PyObject *)self));
}
#endif

/* --------------------------------------------------------------- the empty waiter */

static int
wake_empty_waiter(StreamObject *self, PyObject *exception)
{
    cl_state *st = self->s_base.tr_loop->l_st;
    PyObject *waiter = Py_XNewRef(self->s_out.out_empty_waiter);
    if (waiter == NULL)
        return 0;
    /* It is done already if sendfile() goes on, or has just been cancelled. */
    PyObject *done =
        PyObject_CallMethodNoArgs(waiter, cl_net_of(st)->str_done);
    int status = done == NULL ? -1 : PyObject_IsTrue(done);
    if (status == 0) {
        PyObject *result =
            exception == NULL
                ? PyObject_CallMethodOneArg(
                      waiter, cl_net_of(st)->str_set_result, Py_None)
                : PyObject_CallMethodOneArg(
                      waiter, cl_net_of(st)->str_set_exception, exception);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    Py_XDECREF(done);
    Py_DECREF(waiter);
    return status < 0 ? -1 : 0;
}

PyObject *
cl_outbox_make_empty_waiter(StreamObject *self)
{
    TransportObject *base = base_of(self);
    if (self->s_out.out_empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    self->s_out.out_empty_waiter = PyObject_CallMethodNoArgs(
        (PyObject *)base->tr_loop,
        cl_net_of(base->tr_loop->l_st)->str_create_future);
    if (self->s_out.out_empty_waiter == NULL || cl_outbox_flush(base) < 0 ||
        (queued(self) == 0 && wake_empty_waiter(self, NULL) < 0)) {
        Py_CLEAR(self->s_out.out_empty_waiter);
        return NULL;
    }
    return Py_NewRef(self->s_out.out_empty_waiter);
}

int
cl_outbox_gone(TransportObject *base)
{
    StreamObject *self = (StreamObject *)base;
    if (self->s_out.out_empty_waiter == NULL)
        return 0;
    PyObject *error = PyObject_CallFunction(PyExc_ConnectionError, "s",
                                            "Connection is closed by peer");
    int status = error == NULL ? -1 : wake_empty_waiter(self, error);
    Py_XDECREF(error);
    return status;
}

/* ------------------------------------------------------------------- sending */

/* Returns how many of the parts one segment takes, and their *size. The last of
 * them may be cut, to be continued: *cut is the size of its rest. */
static int
fill_segment(struct iovec *parts, int count, size_t *size, size_t *cut)
{
    int fit = 0;
    *size = *cut = 0;
    while (fit < count && *size < CL_SEGMENT_MAX) {
        size_t room = CL_SEGMENT_MAX - *size;
        if (parts[fit].iov_len > room) {
            *cut = parts[fit].iov_len - room;
            parts[fit].iov_len = room;
        }
        *size += parts[fit++].iov_len;
    }
    return fit;
}

static ssize_t
write_parts(int fd, const struct iovec *parts, int count)
{
    if (count > 1) {
        ssize_t written = writev(fd, parts, count);
        if (written >= 0 || !cl_is_refused(errno))
            return written;
    }
    return write(fd, parts->iov_base, parts->iov_len);
}

static ssize_t
send_message(int fd, struct iovec *parts, int count)
{
    if (count > 1) {
        struct msghdr message = {.msg_iov = parts,
                                 .msg_iovlen = (size_t)count};
        ssize_t sent = sendmsg(fd, &message, CL_SEND_FLAGS);
        if (sent >= 0 || !cl_is_refused(errno))
            return sent;
    }
    return send(fd, parts->iov_base, parts->iov_len, CL_SEND_FLAGS);
}

/* One system call, with the first part only where a sandbox refuses those for
 * several: sendmsg() may pass descriptors on. Like asyncio, does not retry an
 * interrupted write to a pipe at once. */
static ssize_t
send_once(int fd, bool pipe, struct iovec *parts, int count)
{
    if (pipe)
        return write_parts(fd, parts, count);
    ssize_t sent;
    do {
        sent = send_message(fd, parts, count);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

/* Sends the parts, which it changes, a segment at a time until one is not taken
 * whole. Like send(), but adds the number of system calls to *calls. */
static ssize_t
send_segments(int fd, struct iovec *parts, int count, uint64_t *calls)
{
    ssize_t total = 0;
    for (;;) {
        size_t size, cut;
        int fit = fill_segment(parts, count, &size, &cut);
        ssize_t sent = send_once(fd, false, parts, fit);
        ++*calls;
        if (sent < 0)
            return total > 0 ? total : sent;
        total += sent;
        if ((size_t)sent < size || (fit == count && cut == 0))
            return total;
        if (cut > 0) {
            struct iovec *last = &parts[--fit];
            last->iov_base = (char *)last->iov_base + last->iov_len;
            last->iov_len = cut;
        }
        parts += fit;
        count -= fit;
    }
}

static inline bool
is_tcp(const StreamObject *self)
{
    return !is_pipe(self) &&
           cl_is_tcp(self->s_base.tr_family, self->s_base.tr_type,
                     self->s_base.tr_proto);
}

/* Sends the parts, which it may change. Returns the number of bytes, 0 if it
 * would block, or -errno. `fd` is that of cl_stream_fd(), which may run Python
 * code: call it before the parts are taken from the queue. */
static ssize_t
send_parts(StreamObject *self, int fd, struct iovec *parts, int count)
{
    cl_assertf(count > 0 && parts[0].iov_len > 0, "%d parts", count);
    if (fd < 0)
        return fd;
#ifdef CL_STRESS
    size_t most = cl_stress_send(parts[0].iov_len);
    if (most < parts[0].iov_len) {
        count = 1;
        parts[0].iov_len = most;
    }
#endif
    cl_net_counts *counts = cl_net_counts_of(self->s_base.tr_loop);
    ssize_t sent;
    if (is_tcp(self)) {
        sent = send_segments(fd, parts, count, &counts->nc_writes);
    }
    else {
        sent = send_once(fd, is_pipe(self), parts, count);
        counts->nc_writes++;
    }
    CL_PROBE3(write, self->s_base.tr_loop, fd, sent);
    if (sent < 0)
        return cl_stream_not_now(-errno) ? 0 : -errno;
    counts->nc_bytes_out += (size_t)sent;
    cl_loop_poll_soon(self->s_base.tr_loop);
    return sent;
}

/* cl_wqueue_append() to the queue. */
static int
append(StreamObject *self, PyObject *bytes, size_t sent)
{
    size_t before = queued(self);
    int status = cl_wqueue_append(&self->s_out.out_queue, bytes, sent);
    count_queued(self, before);
    return status;
}

/* Empties the queue. */
static void
clear(StreamObject *self)
{
    size_t before = queued(self);
    cl_wqueue_clear(&self->s_out.out_queue);
    count_queued(self, before);
}

/* Queues the rest of a chunk, given that *sent bytes were sent in all.
 * `object` is the bytes object that owns `data`; if NULL, the data is copied. */
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
        return append(self, object, skip);
    object = PyBytes_FromStringAndSize(data + skip, (Py_ssize_t)(size - skip));
    int err = object == NULL ? -1 : append(self, object, 0);
    Py_XDECREF(object);
    return err;
}

/* Queues what was held, given that *sent bytes were sent in all. */
static int
queue_taken(StreamObject *self, const cl_held *held, size_t *sent)
{
    if (queue_rest(self, held->first, NULL, cl_held_size(held->first), sent) <
            0 ||
        queue_rest(self, NULL, held->rest, held->rest_size, sent) < 0)
        return -1;
    return queue_rest(self, held->last, NULL, cl_held_size(held->last), sent);
}

/* An error while sending or queueing breaks the transport. 0/-1 */
static int
write_failed(StreamObject *self, ssize_t err)
{
    if (err < 0)
        cl_raise_errno((int)err);
    self->s_out.out_lost_writes++;
    return cl_transport_fatal(base_of(self),
                              cl_stream_ops_of(self)->write_failed);
}

/* Sends the data, and queues what the kernel does not take; that is an error if
 * the loop is closed. `object` is as for queue_rest(). Nothing may be queued or
 * held before. A failed send breaks the transport; 0/-1 */
static int
send_alone(StreamObject *self, PyObject *object, const char *data, size_t size)
{
    cl_assert_of(self, queued(self) == 0);
    cl_assert_of(self,
                 !cl_gather_holds(self->s_base.tr_loop, (PyObject *)self));
    struct iovec part = {(char *)data, size};
    ssize_t result = send_parts(self, cl_stream_fd(self), &part, 1);
    if (result == (ssize_t)size)
        return 0;
    size_t sent = (size_t)result;
    if (result >= 0 && cl_loop_check_open(self->s_base.tr_loop) < 0)
        return -1;
    if (result < 0 || queue_rest(self, object, data, size, &sent) < 0)
        return write_failed(self, result);
    cl_transport_want(base_of(self), CL_WRITE, true);
    return 0;
}

/* The same, but sends what the transport holds first. `size` may be 0. */
static int
send_with_held(StreamObject *self, PyObject *object, const char *data,
               size_t size)
{
    LoopObject *loop = self->s_base.tr_loop;
    cl_held held;
    struct iovec parts[4];
    int count = 0, status = 0;
    cl_assert_of(self, queued(self) == 0);
    cl_gather_take(loop, (PyObject *)self, &held);
    size_t first = cl_held_size(held.first), last = cl_held_size(held.last);
    if (first > 0) {
        parts[count].iov_base = PyBytes_AS_STRING(held.first);
        parts[count++].iov_len = first;
    }
    if (held.rest_size > 0) {
        parts[count].iov_base = held.rest;
        parts[count++].iov_len = held.rest_size;
    }
    if (last > 0) {
        parts[count].iov_base = PyBytes_AS_STRING(held.last);
        parts[count++].iov_len = last;
    }
    if (size > 0) {
        parts[count].iov_base = (char *)data;
        parts[count++].iov_len = size;
    }
    ssize_t result = send_parts(self, cl_stream_fd(self), parts, count);
    size_t sent = (size_t)result;
    if (result < (ssize_t)(first + held.rest_size + last + size)) {
        if (result < 0 || queue_taken(self, &held, &sent) < 0 ||
            queue_rest(self, object, data, size, &sent) < 0)
            status = write_failed(self, result);
        else
            cl_transport_want(base_of(self), CL_WRITE, true);
    }
    cl_gather_release(loop, &held);
    return status;
}

/* A cl_gather_send. */
static int
send_held(PyObject *op)
{
    int status = send_with_held((StreamObject *)op, NULL, NULL, 0);
    return status < 0 ? cl_transport_report_stray((TransportObject *)op) : 0;
}

int
cl_outbox_flush(TransportObject *base)
{
    return cl_gather_holds(base->tr_loop, (PyObject *)base)
               ? cl_gather_flush(base->tr_loop)
               : 0;
}

/* Whether the data is now held, to be sent with the callback's other writes. */
static bool
hold(StreamObject *self, PyObject *object, const char *data, size_t size)
{
    TransportObject *base = base_of(self);
    size_t high = base->tr_limits.high, most = self->s_out.out_hold_max;
    cl_gather_write write = {
        .owner = (PyObject *)self,
        .send = send_held,
        .habit = &self->s_out.out_habit,
        .allowed = most > 0 && !cl_transport_is_exposed(base),
        .defers = most == CL_GATHER_MAX,
        .object = object,
        .data = data,
        .size = size,
        .limit = most < high ? most : high,
        .first_limit = most < CL_GATHER_MAX      ? 0
                       : high < CL_HOLD_READ_MAX ? high
                                                 : CL_HOLD_READ_MAX,
    };
    return cl_gather_hold(base->tr_loop, &write);
}

/* -------------------------------------------------------------------- writing */

/* After close() a socket accepts writes while something is queued. As in
 * asyncio, a pipe does not. */
static inline bool
takes_nothing(const StreamObject *self)
{
    return self->s_base.tr_conn_lost ||
           (is_pipe(self) && (self->s_base.tr_flags & CL_T_CLOSING));
}

static int
write_when_lost(StreamObject *self)
{
    return cl_flow_lost_write(self->s_base.tr_loop,
                              is_pipe(self) ? &self->s_out.out_lost_writes
                                            : &self->s_base.tr_conn_lost,
                              cl_stream_ops_of(self)->lost_write);
}

/* Held bytes stay below the high-water mark, so only the queue matters. */
static int
pause_if_full(StreamObject *self)
{
    return queued(self) > self->s_base.tr_limits.high
               ? cl_transport_maybe_pause(base_of(self))
               : 0;
}

/* Writes data of a transport that holds nothing. `object` is as for
 * queue_rest(). 0/-1 */
static int
write_unheld(StreamObject *self, PyObject *object, const char *data,
             size_t size)
{
    size_t none = 0;
    cl_assert_of(self, size > 0);
    if (takes_nothing(self))
        return write_when_lost(self);
    return queued(self) > 0 ? queue_rest(self, object, data, size, &none)
                            : send_alone(self, object, data, size);
}

/* Writes data that cl_gather_hold() does not hold. 0/-1 */
static int
write_now(StreamObject *self, PyObject *object, const char *data, size_t size)
{
    if (!cl_gather_holds(self->s_base.tr_loop, (PyObject *)self))
        return send_alone(self, object, data, size);
    if (self->s_out.out_hold_max == CL_GATHER_MAX)
        return send_with_held(self, object, data, size);
    /* TLS records must not be joined with held bytes. */
    if (cl_outbox_flush(base_of(self)) < 0)
        return -1;
    return write_unheld(self, object, data, size);
}

/* The same, after what is deferred. */
static int
write_last(StreamObject *self, PyObject *object, const char *data, size_t size)
{
    LoopObject *loop = self->s_base.tr_loop;
    if (cl_gather_send_deferred(loop) < 0)
        return -1;
    return cl_gather_holds(loop, (PyObject *)self)
               ? write_now(self, object, data, size)
               : write_unheld(self, object, data, size);
}

/* Writes the data of `object`, which is not empty. Unless it is a bytes
 * object, it may change afterwards. 0/-1 */
static int
write_buffer(StreamObject *self, PyObject *object, const char *data,
             size_t size)
{
    LoopObject *loop = self->s_base.tr_loop;
    cl_gather *gather = &cl_net_on(loop)->n_gather;
    size_t none = 0;
    if (cl_gather_join(loop, gather, (PyObject *)self, data, size))
        return 0;
    if (!PyBytes_CheckExact(object))
        object = NULL; /* may change: copy what is not sent now */
    if (cl_gather_make_way(loop, gather, (PyObject *)self,
                           &self->s_out.out_habit) < 0)
        return -1;
    if (takes_nothing(self))
        return write_when_lost(self);
    if (queued(self) > 0)
        return queue_rest(self, object, data, size, &none);
    if (hold(self, object, data, size))
        return 0;
    int status = cl_gather_has_deferred(gather)
                     ? write_last(self, object, data, size)
                     : write_now(self, object, data, size);
    cl_gather_sent(gather, (PyObject *)self);
    return status;
}

int
cl_outbox_write(StreamObject *self, PyObject *data)
{
    Py_buffer view = {0};
    const char *bytes;
    size_t size;
    cl_assert_gil();
    cl_assert_of(self, !PyErr_Occurred());
    if (PyBytes_CheckExact(data)) { /* a subclass may export another buffer */
        bytes = PyBytes_AS_STRING(data);
        size = (size_t)PyBytes_GET_SIZE(data);
    }
    else {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
            return -1;
        bytes = view.buf;
        size = (size_t)view.len;
    }
    int status = 0;
    if (size > 0) {
        Py_INCREF(data); /* Python code may run and drop it */
        status = write_buffer(self, data, bytes, size);
        Py_DECREF(data);
    }
    cl_assert_of(self, (status < 0) == (PyErr_Occurred() != NULL));
    if (view.obj != NULL) /* first: pause_writing() may resize the object */
        PyBuffer_Release(&view);
    status = status < 0 ? -1 : pause_if_full(self);
    cl_check_stress(status == 0 ? cl_transport_check(base_of(self)) : (void)0);
    return status;
}

int
cl_outbox_send(StreamObject *self, const char *data, size_t size)
{
    cl_assert_gil();
    if (cl_gather_flush(self->s_base.tr_loop) < 0 ||
        write_unheld(self, NULL, data, size) < 0)
        return -1;
    return pause_if_full(self);
}

/* Moves held bytes into the queue. */
static int
queue_held(StreamObject *self)
{
    cl_held held;
    size_t none = 0;
    cl_gather_take(self->s_base.tr_loop, (PyObject *)self, &held);
    int status = queue_taken(self, &held, &none);
    cl_gather_release(self->s_base.tr_loop, &held);
    return status;
}

/* Sends queued data with one system call. Returns 1 if some is left, 0 if not,
 * -1 on error. If sending failed, *broken is set and the transport is broken. */
static int
send_queued(StreamObject *self, bool *broken)
{
    struct iovec parts[PARTS_MAX];
    cl_assert_of(self, queued(self) > 0);
    int fd = cl_stream_fd(self);
    *broken = queued(self) == 0; /* the program's fileno() has ended it */
    if (*broken)
        return 0;
    int count = cl_wqueue_peek(&self->s_out.out_queue, parts, PARTS_MAX);
    ssize_t sent = send_parts(self, fd, parts, count);
    if (sent < 0) {
        *broken = true;
        cl_transport_want(base_of(self), CL_WRITE, false);
        clear(self);
        cl_raise_errno((int)sent);
        PyObject *error = PyErr_GetRaisedException();
        PyErr_SetRaisedException(Py_NewRef(error));
        int status = write_failed(self, 0);
        if (status == 0)
            status = wake_empty_waiter(self, error);
        Py_DECREF(error);
        return status;
    }
    size_t before = queued(self);
    cl_wqueue_consume(&self->s_out.out_queue, (size_t)sent);
    count_queued(self, before);
    return queued(self) > 0;
}

/* Appends each item to the queue. 0/-1 */
static int
queue_items(StreamObject *self, PyObject *items)
{
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i), *bytes = NULL;
        if (PyBytes_CheckExact(item))
            bytes = Py_NewRef(item);
        else
            bytes = PyBytes_FromObject(item);
        int status = bytes == NULL                  ? -1
                     : PyBytes_GET_SIZE(bytes) == 0 ? 0
                                                    : append(self, bytes, 0);
        Py_XDECREF(bytes);
        if (status < 0)
            return -1;
    }
    return 0;
}

/* Whether asyncio leaves an item out before it looks at its type: 1, 0, -1. */
static int
is_left_out(const StreamObject *self, PyObject *item)
{
    if (!cl_net_of(self->s_base.tr_loop->l_st)->writelines_skips)
        return 0;
    int truth = PyObject_IsTrue(item);
    return truth < 0 ? -1 : !truth;
}

/* Raises TypeError for a wrong item before any is written; the total size goes
 * to *size. *extra: some are to be left out, and are not bytes-like, or are of a
 * class that may run Python code when it is asked for its bytes. 0/-1 */
static int
check_items(const StreamObject *self, PyObject *items, size_t *size,
            bool *extra)
{
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    *size = 0;
    *extra = false;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        Py_buffer view;
        if (PyBytes_CheckExact(item)) {
            *size += (size_t)PyBytes_GET_SIZE(item);
            continue;
        }
        if (!PyByteArray_CheckExact(item) && !PyMemoryView_Check(item))
            *extra = true;
        if (!PyObject_CheckBuffer(item)) {
            int left_out = is_left_out(self, item);
            if (left_out < 0)
                return -1;
            if (left_out)
                continue;
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

/* A few small items are copied and sent with the callback's other writes. */
static int
write_joined(StreamObject *self, PyObject *items)
{
    cl_state *st = self->s_base.tr_loop->l_st;
    PyObject *joined = PyObject_CallMethodOneArg(
        st->empty_bytes, cl_net_of(st)->str_join, items);
    int status = joined == NULL ? -1 : cl_outbox_write(self, joined);
    Py_XDECREF(joined);
    return status;
}

/* Returns the item, or a copy of its bytes if its class may run Python code. */
static PyObject *
plain(PyObject *item)
{
    return PyBytes_CheckExact(item) || PyByteArray_CheckExact(item) ||
                   PyMemoryView_Check(item)
               ? Py_NewRef(item)
               : PyBytes_FromObject(item);
}

/* Writes those of the items that are bytes-like. Whatever Python code does for
 * that, it does before. 0/-1 */
static int
write_bytes_like(StreamObject *self, PyObject *items)
{
    PyObject *list = PyList_New(0), *rest = NULL;
    int status = list == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items) && status == 0; i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        if (!PyObject_CheckBuffer(item))
            continue;
        PyObject *bytes = plain(item);
        status = bytes == NULL ? -1 : PyList_Append(list, bytes);
        Py_XDECREF(bytes);
    }
    if (status == 0)
        rest = PyList_AsTuple(list);
    status = rest == NULL ? -1 : cl_outbox_write_items(self, rest);
    Py_XDECREF(list);
    Py_XDECREF(rest);
    return status;
}

int
cl_outbox_write_items(StreamObject *self, PyObject *items)
{
    bool extra;
    LoopObject *loop = self->s_base.tr_loop;
    size_t size;
    cl_assert_of(items, PyTuple_CheckExact(items));
    if (check_items(self, items, &size, &extra) < 0)
        return -1;
    if (extra)
        return write_bytes_like(self, items);
    if (size == 0)
        return 0;
    if (cl_gather_make_way(loop, &cl_net_on(loop)->n_gather, (PyObject *)self,
                           &self->s_out.out_habit) < 0 ||
        (size > CL_COPY_MAX && cl_gather_send_deferred(loop) < 0))
        return -1;
    if (takes_nothing(self))
        return write_when_lost(self);
    bool waiting = queued(self) > 0, broken = false;
    if (!waiting && size <= CL_COPY_MAX && cl_loop_in_callback(loop))
        return write_joined(self, items);
    if (queue_held(self) < 0 || queue_items(self, items) < 0)
        return write_failed(self, 0);
    int left = waiting ? 1 : send_queued(self, &broken);
    if (left < 0 || broken)
        return left;
    if (left > 0 && (CL_WRITELINES_BUFFERS_FIRST || !waiting) &&
        cl_loop_check_open(loop) < 0) {
        if (!CL_WRITELINES_BUFFERS_FIRST)
            clear(self);
        return -1;
    }
    if (left > 0)
        cl_transport_want(base_of(self), CL_WRITE, true);
    return pause_if_full(self);
}

/* -------------------------------------------------------- when the socket is writable */

/* The write buffer is empty: does what was waiting for that. */
static int
all_sent(StreamObject *self)
{
    TransportObject *base = base_of(self);
    const cl_stream_ops *ops = cl_stream_ops_of(self);
    cl_assert_of(self, queued(self) == 0);
    cl_transport_want(base, CL_WRITE, false);
    if (wake_empty_waiter(self, NULL) < 0)
        return -1;
    if (base->tr_conn_lost)
        return 0;
    if (base->tr_flags & CL_T_CLOSING) {
        base->tr_conn_lost++;
        return cl_transport_lost(base, NULL);
    }
    return ops->drained == NULL ? 0 : ops->drained(self);
}

int
cl_outbox_writable(TransportObject *base)
{
    StreamObject *self = (StreamObject *)base;
    bool broken = false;
    /* Some may have been written after what is deferred. */
    if (cl_gather_send_deferred(base->tr_loop) < 0)
        return -1;
    if (base->tr_conn_lost || queued(self) == 0)
        return 0;
    int left = send_queued(self, &broken);
    if (left < 0 || broken)
        return left;
    /* asyncio resumes a pipe's protocol only when nothing is left. */
    if (left > 0 && is_pipe(self))
        return 0;
    if (cl_transport_maybe_resume(base) < 0)
        return -1;
    /* resume_writing() may have written again: send that first. */
    if (cl_outbox_flush(base) < 0)
        return -1;
    return queued(self) == 0 ? all_sent(self) : 0;
}

/* ------------------------------------------------------------ size and clearing */

size_t
cl_outbox_size(TransportObject *base)
{
    return queued((StreamObject *)base);
}

void
cl_outbox_drop(TransportObject *base)
{
    clear((StreamObject *)base);
    cl_gather_drop(base->tr_loop, (PyObject *)base);
}

void
cl_outbox_clear(StreamObject *self)
{
    clear(self);
    cl_habit_clear(&self->s_out.out_habit);
    Py_CLEAR(self->s_out.out_empty_waiter);
}
