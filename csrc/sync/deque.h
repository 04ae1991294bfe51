/* deque.h - collections.deque through its own C functions, and the waiters in
 * it.
 *
 * Waiters are futures, usually ours. For anything else that a program put
 * there, methods are called. */
#ifndef CL_SYNC_DEQUE_H
#define CL_SYNC_DEQUE_H

#include "base/compat.h"
#include "futures/future.h"
#include "sync/sync.h"

int cl_deque_setup(cl_sync *sync);

static inline bool
cl_deque_check(const cl_state *st, PyObject *object)
{
    return Py_TYPE(object) == cl_sync_of(st)->sy_deque;
}

static inline Py_ssize_t
cl_deque_size(PyObject *deque)
{
    return Py_TYPE(deque)->tp_as_sequence->sq_length(deque);
}

/* Returns a new reference. The deque must not be empty. */
static inline PyObject *
cl_deque_first(PyObject *deque)
{
    cl_assert(cl_deque_size(deque) > 0);
    return Py_TYPE(deque)->tp_as_sequence->sq_item(deque, 0);
}

int cl_deque_append(cl_state *st, PyObject *deque, PyObject *item);
PyObject *cl_deque_popleft(cl_state *st, PyObject *deque);

/* deque.remove(item) of any item. 0, or -1 with ValueError if it is missing.
 * Runs Python. */
int cl_deque_remove(cl_state *st, PyObject *deque, PyObject *item);

/* waiter.done() and cancelled(): 1, 0 or -1. Run Python. */
int cl_waiter_done(cl_state *st, PyObject *waiter);
int cl_waiter_cancelled(cl_state *st, PyObject *waiter);

/* waiter.set_result(value) and cancel(). 0/-1 Run Python. */
int cl_waiter_finish(cl_state *st, PyObject *waiter, PyObject *value);
int cl_waiter_cancel(cl_state *st, PyObject *waiter);

/* Returns the only waiter of a deque, borrowed, if it is plain and pending; else
 * NULL. cl_future_finish() may be called for it. */
static inline FutureObject *
cl_waiters_only(cl_state *st, PyObject *deque)
{
    if (!cl_deque_check(st, deque) || cl_deque_size(deque) != 1)
        return NULL;
    FutureObject *only = (FutureObject *)cl_deque_first(deque);
    Py_XDECREF(only); /* the deque still has a reference */
    return only != NULL && cl_future_is_plain(st, (PyObject *)only) &&
                   only->f_state == CL_PENDING && only->f_loop != NULL
               ? only
               : NULL;
}

/* Calls visit(st, waiter, arg) for each waiter until it returns other than 0,
 * and returns that, or 0. Like a for loop, fails if the deque changes
 * meanwhile. */
int cl_waiters_each(cl_state *st, PyObject *deque,
                    int (*visit)(cl_state *st, PyObject *waiter, void *arg),
                    void *arg);

#endif
