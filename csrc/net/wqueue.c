/* wqueue.c - see wqueue.h. */
#include "net/wqueue.h"

static inline PyObject **
place(const cl_wqueue *queue, uint32_t index)
{
    return &queue->wq_chunks[(queue->wq_first + index) &
                             (queue->wq_capacity - 1)];
}

static int
grow(cl_wqueue *queue)
{
    uint32_t capacity = queue->wq_capacity ? queue->wq_capacity * 2 : 4;
    PyObject **chunks =
        capacity ? PyMem_Malloc(capacity * sizeof(*chunks)) : NULL;
    if (chunks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < queue->wq_count; i++)
        chunks[i] = *place(queue, i);
    PyMem_Free(queue->wq_chunks);
    queue->wq_chunks = chunks;
    queue->wq_capacity = capacity;
    queue->wq_first = 0;
    return 0;
}

int
cl_wqueue_append(cl_wqueue *queue, PyObject *bytes, size_t sent)
{
    if (queue->wq_count == queue->wq_capacity && grow(queue) < 0)
        return -1;
    *place(queue, queue->wq_count) = Py_NewRef(bytes);
    if (queue->wq_count++ == 0)
        queue->wq_sent = sent;
    queue->wq_size += (size_t)PyBytes_GET_SIZE(bytes) - sent;
    return 0;
}

int
cl_wqueue_peek(const cl_wqueue *queue, struct iovec *parts, int max)
{
    size_t skip = queue->wq_sent;
    int count = queue->wq_count < (uint32_t)max ? (int)queue->wq_count : max;
    for (int i = 0; i < count; i++) {
        PyObject *chunk = *place(queue, (uint32_t)i);
        parts[i].iov_base = PyBytes_AS_STRING(chunk) + skip;
        parts[i].iov_len = (size_t)PyBytes_GET_SIZE(chunk) - skip;
        skip = 0;
    }
    return count;
}

void
cl_wqueue_consume(cl_wqueue *queue, size_t count)
{
    queue->wq_size -= count;
    count += queue->wq_sent;
    while (queue->wq_count > 0) {
        PyObject *chunk = *place(queue, 0);
        size_t size = (size_t)PyBytes_GET_SIZE(chunk);
        if (count < size)
            break;
        count -= size;
        queue->wq_first = (queue->wq_first + 1) & (queue->wq_capacity - 1);
        queue->wq_count--;
        Py_DECREF(chunk);
    }
    queue->wq_sent = count;
    /* An idle connection keeps no memory. */
    if (queue->wq_count == 0)
        cl_wqueue_clear(queue);
}

void
cl_wqueue_clear(cl_wqueue *queue)
{
    cl_wqueue old = *queue;
    *queue = (cl_wqueue){0};
    for (uint32_t i = 0; i < old.wq_count; i++)
        Py_DECREF(*place(&old, i));
    PyMem_Free(old.wq_chunks);
}
