/* locks.h - what the primitives of asyncio.locks share.
 *
 * Functions that stand for a method return 1 if done, 0 if the object is not
 * as expected and nothing was done, -1 with an exception. */
#ifndef CL_SYNC_LOCKS_H
#define CL_SYNC_LOCKS_H

#include "base/compat.h"
#include "sync/deque.h"
#include "sync/op.h"
#include "sync/sync.h"

/* Their first attributes, in the order of sync.c. */
enum { CL_LOCK_WAITERS, CL_LOCK_VALUE };

/* Gets the attributes of an object of the class, for which cl_sync_knows()
 * holds, if its waiters are a deque or None. */
static CL_INLINED bool
cl_lock_look_known(cl_state *st, PyObject *self, int class, cl_view *view)
{
    cl_shape *shape = &cl_sync_of(st)->sy_classes[class].sc_shape;
    return (class == CL_CLASS_EVENT || class == CL_CLASS_LOCK
                ? cl_shape_look_first(shape, self, view, 3)
                : cl_shape_look(shape, self, view)) &&
           (view->v_at[CL_LOCK_WAITERS] == Py_None ||
            cl_deque_check(st, view->v_at[CL_LOCK_WAITERS]));
}

/* The same of any object. */
static CL_INLINED bool
cl_lock_look(cl_state *st, PyObject *self, int class, cl_view *view)
{
    return cl_sync_knows(st, self, class) &&
           cl_lock_look_known(st, self, class, view);
}

static inline bool
cl_no_waiters(const cl_view *view)
{
    PyObject *waiters = view->v_at[CL_LOCK_WAITERS];
    return waiters == Py_None || cl_deque_size(waiters) == 0;
}

/* Whether it is clear from the first waiter, of some, that not all are
 * cancelled. Runs no Python. */
static inline bool
cl_lock_is_awaited(cl_state *st, PyObject *waiters)
{
    PyObject *first = cl_deque_first(waiters);
    Py_XDECREF(first); /* the deque still has a reference */
    if (first == NULL)
        PyErr_Clear();
    return first != NULL && cl_future_is_plain(st, first) &&
           ((FutureObject *)first)->f_state != CL_CANCELLED;
}

/* The method's only argument is `self`. */
static inline bool
cl_takes_none(Py_ssize_t nargs, PyObject *kwnames)
{
    return nargs == 1 && kwnames == NULL;
}

/* The end of a body that returns None. `done` is the result of a function as
 * described above. */
static inline PyObject *
cl_sync_settle(cl_state *st, int body, int done, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames)
{
    if (done == 0)
        return cl_sync_original(st, body, args, nargs, kwnames);
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

/* self._waiters.remove(fut), where `fut` is what the coroutine waits for. 0/-1 */
int cl_lock_remove(SyncOpObject *op, int class);

/* Returns a new reference to the deque. If `waiters` is None, it is created
 * and set. */
PyObject *cl_lock_waiters(cl_state *st, PyObject *self, PyObject *waiters);

/* Whether all waiters are cancelled, or it is None: 1, 0, -1. */
int cl_lock_all_cancelled(cl_state *st, PyObject *waiters);

/* k_args of methods without arguments that use o_arg for something else. */
PyObject *cl_lock_only_self(const SyncOpObject *op);

int cl_event_set(cl_state *st, PyObject *self);
int cl_event_clear(cl_state *st, PyObject *self);

/* These return the coroutine of a method, for code that awaits it; NULL
 * without an exception if the object is not as expected. */
PyObject *cl_event_wait(cl_state *st, PyObject *event);
PyObject *cl_lock_acquire(cl_state *st, PyObject *lock);
PyObject *cl_condition_enter(cl_state *st, PyObject *self); /* __aenter__() */
PyObject *cl_condition_wait_for(cl_state *st, PyObject *self,
                                PyObject *predicate);

/* Takes the lock if it is free and nobody waits for it. */
bool cl_lock_take(cl_state *st, PyObject *lock);
int cl_lock_release(cl_state *st, PyObject *self);
int cl_condition_release(cl_state *st, PyObject *self);
int cl_condition_notify_all(cl_state *st, PyObject *self);

/* Returns a new reference to the condition's lock, if both are as expected;
 * NULL without an exception if not. */
PyObject *cl_condition_lock(cl_state *st, PyObject *self);

/* Which semaphore class this is exactly, or -1. */
int cl_semaphore_class(cl_state *st, PyObject *self);
int cl_semaphore_release(cl_state *st, PyObject *self);
extern const cl_op_kind cl_semaphore_aenter;

#endif
