/* deque.h - collections.deque by its own functions, and the waiters that are in it.
 *
 * Waiters are futures, mostly ours; whatever else a program has put there is asked by
 * its methods. */
#ifndef CL_SYNC_DEQUE_H
#define CL_SYNC_DEQUE_H

#include "base/compat.h"
#include "futures/future.h"
#include "sync/sync.h"

int cl_deque_setup(cl_sync *sync);

static inline bool
cl_deque_check(const cl_state *st, PyObject *object)
{
    return Py_TYPE(object) == cl_sync_of(st)->s_deque;
}

static inline Py_ssize_t
cl_deque_size(PyObject *deque)
{
    return Py_TYPE(deque)->tp_as_sequence->sq_length(deque);
}

/* New reference; the deque is not empty. */
static inline PyObject *
cl_deque_first(PyObject *deque)
{
    return Py_TYPE(deque)->tp_as_sequence->sq_item(deque, 0);
}

int cl_deque_append(cl_state *st, PyObject *deque, PyObject *item);
PyObject *cl_deque_popleft(cl_state *st, PyObject *deque);

/* deque.remove(item) of anything: 0, or -1 with ValueError if it is not there. */
int cl_deque_remove(cl_state *st, PyObject *deque, PyObject *item);

/* waiter.done(), cancelled(): 1, 0 or -1. */
int cl_waiter_done(cl_state *st, PyObject *waiter);
int cl_waiter_cancelled(cl_state *st, PyObject *waiter);

/* waiter.set_result(value), cancel(): 0 or -1. */
int cl_waiter_finish(cl_state *st, PyObject *waiter, PyObject *value);
int cl_waiter_cancel(cl_state *st, PyObject *waiter);

/* Calls visit(st, waiter, arg) for each, until that is not 0; returns that, or 0. As a
 * for loop, fails if the deque changes meanwhile. */
int cl_waiters_each(cl_state *st, PyObject *deque,
                    int (*visit)(cl_state *st, PyObject *waiter, void *arg),
                    void *arg);

#endif
