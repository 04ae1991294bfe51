/* wqueue.h - what a stream transport still has to send: bytes objects, in order.
 *
 * The queue owns a reference to each chunk. Only the first can have been sent
 * in part. Bytes are immutable, so nobody changes what waits here. */
#ifndef CL_NET_WQUEUE_H
#define CL_NET_WQUEUE_H

#include "base/compat.h"

#include <sys/uio.h>

typedef struct {
    PyObject **wq_chunks; /* a ring of wq_capacity (a power of two) places */
    uint32_t wq_capacity;
    uint32_t wq_first;
    uint32_t wq_count;
    size_t wq_sent; /* of the first chunk */
    size_t wq_size; /* bytes left in all */
} cl_wqueue;

/* Append the bytes object, of which `sent` bytes are gone already (only if the
 * queue is empty). Takes a reference of its own. 0 or -1 with MemoryError. */
int cl_wqueue_append(cl_wqueue *queue, PyObject *bytes, size_t sent);

/* Fill up to `max` entries with what is to be sent first; returns how many. */
int cl_wqueue_peek(const cl_wqueue *queue, struct iovec *parts, int max);

/* The first `count` bytes are sent. Frees chunks: bytes, so no Python runs. */
void cl_wqueue_consume(cl_wqueue *queue, size_t count);

#ifdef CL_DEBUG
/* The invariants: the sizes are those of the chunks. */
void cl_wqueue_check(const cl_wqueue *queue);
#endif

/* Drop everything, and the memory. */
void cl_wqueue_clear(cl_wqueue *queue);

#endif
