/* buffer.h - a byte queue: append at the end, take from the front.
 *
 * Memory is allocated with the first byte and freed with the last, so an idle
 * connection holds none. */
#ifndef CL_NET_BUFFER_H
#define CL_NET_BUFFER_H

#include "base/compat.h"

#include <string.h>

typedef struct {
    char *b_data; /* owned; NULL while empty */
    size_t b_start;
    size_t b_end;
    size_t b_capacity;
} cl_buffer;

static inline size_t
cl_buffer_size(const cl_buffer *buffer)
{
    return buffer->b_end - buffer->b_start;
}

static inline const char *
cl_buffer_first(const cl_buffer *buffer)
{
    return buffer->b_data + buffer->b_start;
}

/* Returns 0, or -1 without an exception if out of memory. */
int cl_buffer_append(cl_buffer *buffer, const char *data, size_t size);

/* Removes the first `size` bytes. */
void cl_buffer_drop(cl_buffer *buffer, size_t size);

/* Moves up to `size` bytes from the front to `into`. Returns how many. */
size_t cl_buffer_take(cl_buffer *buffer, char *into, size_t size);

void cl_buffer_clear(cl_buffer *buffer);

#endif
