/* outbox.h - the way out of a byte stream: what transports of sockets and pipes do with
 * what is written.
 *
 * It goes to the kernel at once, unless the callback in progress may hold it, to be sent
 * with what else it writes (gather.h). What the kernel does not take waits in a queue,
 * until the descriptor is writable; then water marks rule (flow.h). Whoever acts on the
 * connection has what is held sent first: cl_outbox_flush(). What is held counts as sent:
 * it is in no size. */
#ifndef CL_NET_OUTBOX_H
#define CL_NET_OUTBOX_H

#include "base/compat.h"

#include "net/gather.h"
#include "net/wqueue.h"

typedef struct TransportObject TransportObject;
typedef struct StreamObject StreamObject;

typedef struct {
    cl_wqueue o_queue;
    PyObject *o_empty_waiter; /* owned future of sendfile(), or NULL */
    cl_habit o_habit;
    uint32_t o_hold_max; /* bytes; 0: each write is a system call of its own */
    uint32_t o_lost_writes;
} cl_outbox;

/* As transport.write() of bytes, a bytearray or a memoryview. 0/-1 */
int cl_outbox_write(StreamObject *self, PyObject *data);

/* As transport.writelines() of a tuple of bytes-like objects. 0/-1 */
int cl_outbox_write_items(StreamObject *self, PyObject *items);

/* The same for records of TLS: sent at once, and copied where they must wait. 0/-1 */
int cl_outbox_send(StreamObject *self, const char *data, size_t size);

/* The future that sendfile() waits for: the queue is empty. */
PyObject *cl_outbox_make_empty_waiter(StreamObject *self);

/* Of a stream's cl_transport_ops. */
int cl_outbox_writable(TransportObject *self);
size_t cl_outbox_size(TransportObject *self);
int cl_outbox_flush(TransportObject *self);
void cl_outbox_drop(TransportObject *self);
int cl_outbox_gone(TransportObject *self);

void cl_outbox_clear(cl_outbox *outbox);

#ifdef CL_DEBUG
void cl_outbox_check(const TransportObject *self);
#endif

#endif
