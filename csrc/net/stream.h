/* stream.h - what the transports of byte streams have in common, sockets and pipes: how
 * they read here, how they write in outbox.h.
 *
 * One system call for each event, of at most s_read_max bytes, so that one busy peer
 * cannot starve the rest. Small reads come into the loop's buffer and become bytes objects
 * of the right size; after a large one, the bytes object is filled in place. So is the
 * buffer of a BufferedProtocol, and memory that a StreamReader lends. */
#ifndef CL_NET_STREAM_H
#define CL_NET_STREAM_H

#include "base/compat.h"

#include "net/outbox.h"
#include "net/transport.h"

typedef struct StreamObject {
    TransportObject s_base;
    cl_outbox s_out;
    uint32_t s_read_max; /* bytes */
} StreamObject;

/* What a kind of stream does in its own way. */
typedef struct {
    cl_transport_ops transport; /* first */
    /* As cl_transport_fd(), which it is if NULL. */
    int (*descriptor)(StreamObject *self);
    /* There will be no more. 0/-1 */
    int (*at_eof)(StreamObject *self);
    /* All was sent, of a stream that stays open. 0/-1. NULL: nothing follows. */
    int (*drained)(StreamObject *self);
    /* What asyncio says of system calls that fail. */
    const char *read_failed;
    const char *write_failed;
    const char *lost_write;
} cl_stream_ops;

static inline const cl_stream_ops *
cl_stream_ops_of(const StreamObject *self)
{
    return (const cl_stream_ops *)self->s_base.t_watch.w_ops;
}

/* The descriptor to use in the next system call, or -errno. */
static inline int
cl_stream_fd(StreamObject *self)
{
    const cl_stream_ops *ops = cl_stream_ops_of(self);
    return ops->descriptor == NULL ? cl_transport_fd(&self->s_base)
                                   : ops->descriptor(self);
}

/* Whether a system call is to be tried again when the descriptor is ready. */
static inline bool
cl_stream_not_now(ssize_t result)
{
    return result == -EAGAIN || result == -EWOULDBLOCK || result == -EINTR;
}

/* Of a cl_transport_ops. */
int cl_stream_readable(TransportObject *self);

/* For the types. */
int cl_stream_traverse(PyObject *self, visitproc visit, void *arg);
int cl_stream_clear(PyObject *self);

#endif
