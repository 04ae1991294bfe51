/* wqueue.c - see wqueue.h. */
#include "net/wqueue.h"

static inline PyObject **
place(const cl_wqueue *queue, uint32_t index)
{
    return &queue->wq_chunks[(queue->wq_first + index) &
                             (queue->wq_capacity - 1)];
}

#ifdef CL_DEBUG
static void
check_shape(const cl_wqueue *queue)
{
    uint32_t capacity = queue->wq_capacity;
    cl_assertf((capacity & (capacity - 1)) == 0, "%u places", capacity);
    cl_assertf((capacity == 0) == (queue->wq_chunks == NULL), "%u places",
               capacity);
    cl_assertf(queue->wq_count <= capacity, "%u of %u", queue->wq_count,
               capacity);
    cl_assertf(capacity == 0 || queue->wq_first < capacity, "%u of %u",
               queue->wq_first, capacity);
    cl_assertf((queue->wq_count == 0) == (queue->wq_size == 0),
               "%u chunks, %zu bytes", queue->wq_count, queue->wq_size);
    cl_assertf(queue->wq_count > 0 || queue->wq_sent == 0, "%zu",
               queue->wq_sent);
}

void
cl_wqueue_check(const cl_wqueue *queue)
{
    size_t size = 0;
    check_shape(queue);
    for (uint32_t i = 0; i < queue->wq_count; i++) {
        PyObject *chunk = *place(queue, i);
        cl_assertf(chunk != NULL && PyBytes_Check(chunk) &&
                       Py_REFCNT(chunk) > 0,
                   "chunk %u of %u", i, queue->wq_count);
        cl_assertf(PyBytes_GET_SIZE(chunk) > 0, "chunk %u of %u", i,
                   queue->wq_count);
        cl_assertf(i > 0 || queue->wq_sent < (size_t)PyBytes_GET_SIZE(chunk),
                   "%zu of %zd", queue->wq_sent, PyBytes_GET_SIZE(chunk));
        size += (size_t)PyBytes_GET_SIZE(chunk);
    }
    cl_assertf(size - queue->wq_sent == queue->wq_size,
               "%zu bytes, %zu sent, %zu said to be left", size,
               queue->wq_sent, queue->wq_size);
}
#endif

#ifdef CL_STRESS
static void
check_if_short(const cl_wqueue *queue)
{
    if (queue->wq_count <= 64)
        cl_wqueue_check(queue);
}
#endif

static int
grow(cl_wqueue *queue)
{
    uint32_t capacity =
        queue->wq_capacity ? queue->wq_capacity * 2 : CL_TINY(1, 4);
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
    cl_check(check_shape(queue));
    cl_assert_of(bytes, PyBytes_Check(bytes));
    cl_assertf(sent < (size_t)PyBytes_GET_SIZE(bytes), "%zu of %zd", sent,
               PyBytes_GET_SIZE(bytes));
    cl_assertf(sent == 0 || queue->wq_count == 0, "%u chunks before it",
               queue->wq_count);
    if (queue->wq_count == queue->wq_capacity && grow(queue) < 0)
        return -1;
    *place(queue, queue->wq_count) = Py_NewRef(bytes);
    if (queue->wq_count++ == 0)
        queue->wq_sent = sent;
    queue->wq_size += (size_t)PyBytes_GET_SIZE(bytes) - sent;
    cl_check_stress(check_if_short(queue));
    return 0;
}

int
cl_wqueue_peek(const cl_wqueue *queue, struct iovec *parts, int max)
{
    cl_check(check_shape(queue));
    cl_assertf(max > 0, "%d", max);
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
    cl_check(check_shape(queue));
    cl_assertf(count <= queue->wq_size, "%zu of %zu", count, queue->wq_size);
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
    cl_check_stress(check_if_short(queue));
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
