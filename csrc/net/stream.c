/* stream.c - see stream.h. */
#include "net/stream.h"

#include <errno.h>
#include <unistd.h>

#include "base/probe.h"
#include "core/errors.h"
#include "streams/feed.h"
#include "streams/reader.h"

/* From this size on, copying costs more than shrinking a bytes object of the
 * maximum size. */
#define BULK_MIN (32 * 1024)

/* Where there was nothing behind a buffer that had been filled, so many events
 * pass before it is looked for again. */
#define READS_WAITED 16

static inline TransportObject *
base_of(StreamObject *self)
{
    return &self->s_base;
}

/* Returns the number of bytes received, 0 at EOF, or -errno. `fd` is that of
 * cl_stream_fd(), which may run Python code: call it before `into` is lent. */
static ssize_t
receive(StreamObject *self, int fd, char *into, size_t size)
{
    cl_assert_of(self, into != NULL);
#ifdef CL_STRESS
    size = cl_stress_receive(size);
#endif
    if (fd < 0)
        return fd;
    ssize_t got = self->s_base.tr_flags & CL_T_PIPE
                      ? read(fd, into, size)
                      : recv(fd, into, size, MSG_DONTWAIT);
    cl_net_counts *counts = cl_net_counts_of(self->s_base.tr_loop);
    CL_PROBE3(read, self->s_base.tr_loop, fd, got);
    counts->nc_reads++;
    if (got < 0)
        return -errno;
    counts->nc_bytes_in += (size_t)got;
    return got;
}

/* Bytes to receive into the loop's buffer at most. */
static inline size_t
buffered_max(const StreamObject *self)
{
    return self->s_read_max < CL_READ_MAX ? self->s_read_max : CL_READ_MAX;
}

/* Receives into a bytes object; *got is the result of receive(). NULL with an
 * exception set only if *got is positive.
 *
 * Most reads are small: they go into the loop's buffer, and from there into a
 * bytes object of the right size. After a large one, the next goes straight
 * into a bytes object; with a max_size that is larger than the buffer, all do. */
static PyObject *
receive_bytes(StreamObject *self, ssize_t *got)
{
    cl_loop_net *net = cl_net_on(base_of(self)->tr_loop);
    char *buffer = net->n_read_buffer;
    int fd = cl_stream_fd(self);
    PyObject *data = NULL;
    cl_assert_of(self, self->s_read_max <= CL_READ_MAX ||
                           (self->s_base.tr_flags & CL_T_BULK));
    if (!(self->s_base.tr_flags & CL_T_BULK) && !net->n_read_lent) {
        *got = receive(self, fd, buffer, self->s_read_max);
        if (*got >= BULK_MIN)
            self->s_base.tr_flags |= CL_T_BULK;
        return *got > 0 ? PyBytes_FromStringAndSize(buffer, *got) : NULL;
    }
    data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)self->s_read_max);
    *got = data == NULL
               ? 1
               : receive(self, fd, PyBytes_AS_STRING(data), self->s_read_max);
    if (*got < BULK_MIN && self->s_read_max <= CL_READ_MAX)
        self->s_base.tr_flags &= (uint16_t)~CL_T_BULK;
    if (data != NULL && *got <= 0)
        Py_CLEAR(data);
    else if (data != NULL && *got < (ssize_t)self->s_read_max)
        (void)_PyBytes_Resize(&data, *got);
    return data;
}

/* The exception that is set, or -errno, broke the transport while reading.
 * 0/-1 */
static int
read_failed(StreamObject *self, ssize_t err)
{
    if (err < 0)
        cl_raise_errno((int)err);
    return cl_transport_fatal(base_of(self),
                              cl_stream_ops_of(self)->read_failed);
}

/* Whether a read asks for max_size bytes at most. In asyncio, TLS and protocols
 * with a buffer of their own do not. */
static bool
asks_for_max_size(const StreamObject *self)
{
    unsigned flags = self->s_base.tr_flags;
    return !(flags & CL_T_BUFFERED) &&
           !(CL_HAS_TLS_SHUTDOWN_TIMEOUT && (flags & CL_T_TLS));
}

/* EOF or an error. 0/-1 */
static int
got_nothing(StreamObject *self, ssize_t got)
{
    bool pipe = self->s_base.tr_flags & CL_T_PIPE;
    if (got == 0 && self->s_read_max == 0 && asks_for_max_size(self) &&
        cl_transport_check_max_size(base_of(self), pipe ? NULL : "recv") < 0)
        return pipe && !PyErr_ExceptionMatches(PyExc_OSError)
                   ? -1
                   : read_failed(self, 0);
    if (got == 0)
        return cl_stream_ops_of(self)->at_eof(self);
    return cl_stream_not_now(got) ? 0 : read_failed(self, got);
}

/* The protocol got the data. If it raised, a socket transport breaks; for a
 * pipe, the loop reports the exception. */
static int
delivered(StreamObject *self, int status)
{
    if (status >= 0)
        return 0;
    if (self->s_base.tr_flags & CL_T_PIPE)
        return -1;
    return cl_transport_fatal(
        base_of(self), "Fatal error: protocol.data_received() call failed.");
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
        return read_failed(self, 0);
    int status = cl_transport_tell(
        base, cl_net_of(base->tr_loop->l_st)->str_data_received, data, NULL);
    Py_DECREF(data);
    return delivered(self, status);
}

/* Whether the buffer that was just filled may be followed by another at once.
 * Not if a program could tell: nothing else may be waiting for its turn. A
 * pipe's read() may block. */
static bool
may_read_on(StreamObject *self)
{
    TransportObject *base = base_of(self);
    return self->s_wait == 0 &&
           (base->tr_flags & (CL_T_BUFFERED | CL_T_PIPE)) == CL_T_BUFFERED &&
           (base->tr_watch.w_want & CL_READ) && !base->tr_conn_lost &&
           cl_loop_is_quiet(base->tr_loop);
}

/* The second get_buffer() of an event has failed. Whether that counts: asyncio
 * calls it once something has come. If not, clears the exception. */
static bool
has_failed(StreamObject *self)
{
    char byte;
    if (cl_error_is_exit())
        return true;
    PyObject *error = PyErr_GetRaisedException();
    int fd = cl_stream_fd(self);
    if (fd >= 0 && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
        cl_would_block(errno)) {
        self->s_wait = READS_WAITED;
        Py_DECREF(error);
        return false;
    }
    PyErr_SetRaisedException(error);
    return true;
}

/* Calls get_buffer(), receives, and calls buffer_updated(). *follows is set if the
 * buffer is filled and another may follow; NULL for the second of an event. 0/-1 */
static int
fill_buffer(StreamObject *self, bool may_follow, bool *follows)
{
    TransportObject *base = base_of(self);
    cl_gather *gather = &cl_net_on(base->tr_loop)->n_gather;
    Py_buffer view;
    PyObject *protocol = Py_NewRef(base->tr_protocol);
    int held = cl_protocol_get_buffer(base->tr_loop->l_st, protocol,
                                      base->tr_loop->l_st->minus_one,
                                      "get_buffer() must return", &view);
    Py_DECREF(protocol);
    if (held <= 0 && follows == NULL && !has_failed(self))
        return 0;
    if (held < 0 || (held == 0 && (base->tr_flags & CL_T_PIPE)))
        return cl_transport_fatal(
            base, "Fatal error: protocol.get_buffer() call failed.");
    if (held == 0) /* like recv_into() of a socket */
        return read_failed(self, 0);
    /* One without bytes, though its len() is not 0, looks like EOF. */
    ssize_t got = view.len == 0 ? 0
                                : receive(self, cl_stream_fd(self), view.buf,
                                          (size_t)view.len);
    bool full = got == view.len;
    PyBuffer_Release(&view);
    if (got <= 0) {
        if (follows == NULL)
            self->s_wait = READS_WAITED;
        return got_nothing(self, got);
    }
    if (follows != NULL)
        *follows = full && may_follow;
    gather->gw_reads_on = follows != NULL && *follows && may_read_on(self);
    int status = cl_transport_buffer_updated(base, got);
    gather->gw_reads_on = false;
    return status == 0
               ? 0
               : cl_transport_fatal(
                     base,
                     "Fatal error: protocol.buffer_updated() call failed.");
}

/* Two buffers at most, so that what the first call of buffer_updated() makes ready
 * elsewhere comes one buffer later at most; one if resume_writing() may be next. */
static int
read_into_buffer(StreamObject *self, bool alone)
{
    bool follows = false;
    if (self->s_wait > 0)
        self->s_wait--;
    int status = fill_buffer(self, alone, &follows);
    return status == 0 && follows && may_read_on(self)
               ? fill_buffer(self, false, NULL)
               : status;
}

/* Reads into memory that the protocol's reader lent. */
static int
read_directly(StreamObject *self, int fd, PyObject *reader, char *lent,
              size_t room)
{
    ssize_t got = receive(self, fd, lent,
                          room < self->s_read_max ? room : self->s_read_max);
    if (got <= 0)
        return got_nothing(self, got);
    return delivered(self, cl_reader_filled(base_of(self)->tr_loop->l_st,
                                            reader, (size_t)got));
}

/* Reads into the buffer of the protocol's reader. If that is NULL, or
 * feed_data() can't be done here, calls the protocol. */
static int
read_and_feed(StreamObject *self, int fd, PyObject *protocol, PyObject *reader)
{
    cl_state *st = base_of(self)->tr_loop->l_st;
    cl_loop_net *net = cl_net_on(base_of(self)->tr_loop);
    char *data = net->n_read_buffer;
    ssize_t got = receive(self, fd, data, buffered_max(self));
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
                     : cl_transport_tell(base_of(self),
                                         cl_net_of(st)->str_data_received,
                                         bytes, NULL);
        Py_XDECREF(bytes);
    }
    return delivered(self, status);
}

static int
read_for_reader(StreamObject *self)
{
    cl_state *st = base_of(self)->tr_loop->l_st;
    int fd = cl_stream_fd(self);
    if (fd < 0)
        return read_failed(self, fd);
    PyObject *protocol = Py_NewRef(base_of(self)->tr_protocol);
    PyObject *reader = cl_feed_reader(st, protocol);
    size_t room;
    char *lent = reader == NULL ? NULL : cl_reader_lend(st, reader, &room);
    int status;
    if (lent != NULL)
        status = read_directly(self, fd, reader, lent, room);
    else if (cl_net_on(base_of(self)->tr_loop)->n_read_lent)
        status = read_bytes(self);
    else
        status = read_and_feed(self, fd, protocol, reader);
    Py_XDECREF(reader);
    Py_DECREF(protocol);
    return status;
}

/* TLS reads the data in the loop's buffer. In a nested turn, memory of its own
 * is used. */
static int
read_for_tls(StreamObject *self)
{
    TransportObject *base = base_of(self);
    cl_loop_net *net = cl_net_on(base_of(self)->tr_loop);
    bool lent = net->n_read_lent;
    char *buffer = lent ? PyMem_RawMalloc(CL_READ_MAX) : net->n_read_buffer;
    int status = 0;
    if (buffer == NULL) {
        PyErr_NoMemory();
        return read_failed(self, 0);
    }
    ssize_t got = receive(self, cl_stream_fd(self), buffer,
                          CL_HAS_TLS_SHUTDOWN_TIMEOUT ? CL_READ_MAX
                                                      : buffered_max(self));
    if (got > 0) {
        PyObject *tls = Py_NewRef(base->tr_protocol);
        net->n_read_lent = true;
        status = cl_net_of(base->tr_loop->l_st)
                     ->tls_received(tls, buffer, (size_t)got);
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

int
cl_stream_readable(TransportObject *base, bool alone)
{
    StreamObject *self = (StreamObject *)base;
    unsigned flags = base->tr_flags;
    return flags & CL_T_BUFFERED  ? read_into_buffer(self, alone)
           : flags & CL_T_TLS     ? read_for_tls(self)
           : flags & CL_T_STREAMS ? read_for_reader(self)
                                  : read_bytes(self);
}

/* ------------------------------------------------------------------- the types */

int
cl_stream_setattro(PyObject *op, PyObject *name, PyObject *value)
{
    StreamObject *self = (StreamObject *)op;
    if (cl_transport_set_attribute(op, name, value, &self->s_read_max) < 0)
        return -1;
    if (self->s_read_max > CL_READ_MAX)
        self->s_base.tr_flags |= CL_T_BULK;
    return 0;
}

int
cl_stream_traverse(PyObject *op, visitproc visit, void *arg)
{
    StreamObject *self = (StreamObject *)op;
    Py_VISIT(self->s_out.out_empty_waiter);
    return cl_transport_traverse(base_of(self), visit, arg);
}

int
cl_stream_clear(PyObject *op)
{
    StreamObject *self = (StreamObject *)op;
    cl_outbox_clear(self);
    return cl_transport_clear(base_of(self));
}
