/* buffer.c - see buffer.h. */
#include "net/buffer.h"

#define CAPACITY_MIN CL_TINY(1, 1024)

int
cl_buffer_append(cl_buffer *buffer, const char *data, size_t size)
{
    cl_assert(size == 0 || data != NULL);
    size_t have = cl_buffer_size(buffer);
    if (buffer->b_start > 0 && buffer->b_end + size > buffer->b_capacity) {
        memmove(buffer->b_data, cl_buffer_first(buffer), have);
        buffer->b_start = 0;
        buffer->b_end = have;
    }
    if (have + size > buffer->b_capacity) {
        size_t capacity =
            buffer->b_capacity == 0 ? CAPACITY_MIN : 2 * buffer->b_capacity;
        if (capacity < have + size)
            capacity = have + size;
        char *grown = PyMem_RawRealloc(buffer->b_data, capacity);
        if (grown == NULL)
            return -1;
        buffer->b_data = grown;
        buffer->b_capacity = capacity;
    }
    if (size > 0)
        memcpy(buffer->b_data + buffer->b_end, data, size);
    buffer->b_end += size;
    cl_check(cl_buffer_check(buffer));
    return 0;
}

void
cl_buffer_drop(cl_buffer *buffer, size_t size)
{
    cl_assertf(size <= cl_buffer_size(buffer), "%zu of %zu", size,
               cl_buffer_size(buffer));
    buffer->b_start += size;
    if (buffer->b_start == buffer->b_end)
        cl_buffer_clear(buffer);
}

size_t
cl_buffer_take(cl_buffer *buffer, char *into, size_t size)
{
    size_t have = cl_buffer_size(buffer);
    if (size > have)
        size = have;
    if (size > 0) {
        memcpy(into, cl_buffer_first(buffer), size);
        cl_buffer_drop(buffer, size);
    }
    return size;
}

void
cl_buffer_clear(cl_buffer *buffer)
{
    PyMem_RawFree(buffer->b_data);
    *buffer = (cl_buffer){NULL};
}
