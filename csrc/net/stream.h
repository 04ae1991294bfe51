/* stream.h - what byte stream transports (sockets and pipes) share. Reading is
 * here, writing in outbox.h.
 *
 * Each event gets one system call, of at most s_read_max bytes, so one busy
 * peer cannot starve the others; two for a BufferedProtocol whose buffer is
 * filled while nothing else has to run. Small reads go through the loop's buffer into
 * a bytes object of the right size. After a large one, the next goes straight
 * into a new bytes object. The buffer of a BufferedProtocol, and memory lent
 * by a StreamReader, are filled in place too. */
#ifndef CL_NET_STREAM_H
#define CL_NET_STREAM_H

#include "base/compat.h"
#include "base/platform.h"

#include "net/outbox.h"
#include "net/transport.h"

typedef struct StreamObject {
    TransportObject s_base;
    cl_outbox s_out;
    uint32_t s_read_max; /* bytes; see cl_transport_set_attribute() */
    uint8_t
        s_wait; /* events until a filled buffer may be followed by another */
} StreamObject;

/* What differs between kinds of streams. */
typedef struct {
    cl_transport_ops transport; /* must be first */
    /* Like cl_transport_fd(), which is used if this is NULL. */
    int (*descriptor)(StreamObject *self);
    /* The peer sent EOF. 0/-1 Runs Python. */
    int (*at_eof)(StreamObject *self);
    /* The write buffer is empty, and the stream stays open. May be NULL. 0/-1
     * Runs Python. */
    int (*drained)(StreamObject *self);
    /* asyncio's messages for failed system calls. */
    const char *read_failed;
    const char *write_failed;
    const char *lost_write;
} cl_stream_ops;

static inline const cl_stream_ops *
cl_stream_ops_of(const StreamObject *self)
{
    return (const cl_stream_ops *)self->s_base.tr_watch.w_ops;
}

/* Returns the descriptor for the next system call, or -errno. */
static inline int
cl_stream_fd(StreamObject *self)
{
    const cl_stream_ops *ops = cl_stream_ops_of(self);
    return ops->descriptor == NULL ? cl_transport_fd(&self->s_base)
                                   : ops->descriptor(self);
}

/* Whether the system call must wait for readiness. */
static inline bool
cl_stream_not_now(ssize_t result)
{
    return cl_would_block((int)-result) || result == -EINTR;
}

/* For cl_transport_ops. Runs Python. */
int cl_stream_readable(TransportObject *self, bool alone);

/* For the types. */
int cl_stream_setattro(PyObject *self, PyObject *name, PyObject *value);
int cl_stream_traverse(PyObject *self, visitproc visit, void *arg);
int cl_stream_clear(PyObject *self);

#endif
