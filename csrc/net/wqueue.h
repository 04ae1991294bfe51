/* wqueue.h - queued writes of a stream transport: bytes objects, in order.
 *
 * The queue owns a reference to each chunk. Only the first may be partly sent. */
#ifndef CL_NET_WQUEUE_H
#define CL_NET_WQUEUE_H

#include "base/compat.h"

#include <sys/uio.h>

typedef struct {
    PyObject **wq_chunks; /* ring; wq_capacity is a power of two */
    uint32_t wq_capacity;
    uint32_t wq_first;
    uint32_t wq_count;
    size_t wq_sent; /* of the first chunk */
    size_t wq_size; /* unsent bytes in total */
} cl_wqueue;

/* Appends a bytes object, taking a new reference. Its first `sent` bytes are
 * sent already, which is allowed only if the queue is empty. Returns 0, or -1
 * with MemoryError. */
int cl_wqueue_append(cl_wqueue *queue, PyObject *bytes, size_t sent);

/* Fills in up to `max` entries with the next data to send. Returns how many. */
int cl_wqueue_peek(const cl_wqueue *queue, struct iovec *parts, int max);

/* Removes the first `count` bytes, which were sent. Frees bytes objects only,
 * so no Python code runs. */
void cl_wqueue_consume(cl_wqueue *queue, size_t count);

/* Empties the queue and frees its memory. */
void cl_wqueue_clear(cl_wqueue *queue);

#endif
