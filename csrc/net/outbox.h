/* outbox.h - the write buffer of a byte stream, for sockets and pipes.
 *
 * A write goes to the kernel at once, unless it is held to be sent together
 * with what the callback writes next (gather.h). What the kernel does not take
 * is queued until the descriptor is writable, under flow control (flow.h).
 * Whatever acts on the connection first calls cl_outbox_flush(), which sends
 * held bytes. Held bytes count as sent: no size includes them. */
#ifndef CL_NET_OUTBOX_H
#define CL_NET_OUTBOX_H

#include "base/compat.h"

#include "net/gather.h"
#include "net/wqueue.h"

typedef struct TransportObject TransportObject;
typedef struct StreamObject StreamObject;

typedef struct {
    cl_wqueue out_queue;
    PyObject *out_empty_waiter; /* owned future of sendfile(), or NULL */
    cl_habit out_habit;
    uint32_t out_hold_max; /* bytes; 0: never hold */
    uint32_t out_lost_writes;
} cl_outbox;

/* transport.write() of bytes, a bytearray or a memoryview. 0/-1 Runs Python. */
int cl_outbox_write(StreamObject *self, PyObject *data);

/* transport.writelines() of a tuple of bytes-like objects. 0/-1 Runs Python. */
int cl_outbox_write_items(StreamObject *self, PyObject *items);

/* The same for TLS records: sent at once, copied if they must wait. 0/-1 Runs
 * Python. */
int cl_outbox_send(StreamObject *self, const char *data, size_t size);

/* Returns the future that sendfile() waits on; it is done when the queue is
 * empty. */
PyObject *cl_outbox_make_empty_waiter(StreamObject *self);

/* For the cl_transport_ops of streams. */
size_t cl_outbox_size(TransportObject *self);
void cl_outbox_drop(TransportObject *self);

/* Also for cl_transport_ops. Run Python. */
int cl_outbox_writable(TransportObject *self);
int cl_outbox_flush(TransportObject *self);
int cl_outbox_gone(TransportObject *self);

void cl_outbox_clear(StreamObject *self);

#ifdef CL_DEBUG
void cl_outbox_check(const TransportObject *self);
#endif

#endif
