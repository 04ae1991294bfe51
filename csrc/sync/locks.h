/* locks.h - what the primitives of asyncio.locks have in common, and do for each other.
 *
 * Functions that do what a method does return 1 if they did, 0 if the object is not as
 * they know it and nothing was done, -1 with an exception. */
#ifndef CL_SYNC_LOCKS_H
#define CL_SYNC_LOCKS_H

#include "base/compat.h"
#include "sync/deque.h"
#include "sync/op.h"
#include "sync/sync.h"

/* Their first attributes, as sync.c lists them. */
enum { CL_LOCK_WAITERS, CL_LOCK_VALUE };

/* What an object of the class has, if its waiters are in a deque, or None. */
static inline bool
cl_lock_look(cl_state *st, PyObject *self, int class, cl_view *view)
{
    return cl_sync_look(st, self, class, view) &&
           (view->v_at[CL_LOCK_WAITERS] == Py_None ||
            cl_deque_check(st, view->v_at[CL_LOCK_WAITERS]));
}

/* The only argument of a method is `self`. */
static inline bool
cl_takes_none(Py_ssize_t nargs, PyObject *kwnames)
{
    return nargs == 1 && kwnames == NULL;
}

/* The end of a body that returns None: of what a function as above has returned. */
static inline PyObject *
cl_sync_settle(cl_state *st, int body, int done, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames)
{
    if (done == 0)
        return cl_sync_original(st, body, args, nargs, kwnames);
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

/* self._waiters.remove(fut), of what the coroutine waits for. 0/-1 */
int cl_lock_remove(SyncOpObject *op, int class);

/* The deque, which is made and set if `waiters` is None; new reference. */
PyObject *cl_lock_waiters(cl_state *st, PyObject *self, PyObject *waiters);

/* Whether all waiters are cancelled, or None: 1, 0, -1. */
int cl_lock_all_cancelled(cl_state *st, PyObject *waiters);

/* k_args of methods whose o_arg is no argument. */
PyObject *cl_lock_only_self(const SyncOpObject *op);

int cl_event_set(cl_state *st, PyObject *self);
int cl_event_clear(cl_state *st, PyObject *self);

/* The lock of a condition that is as we know it, new reference; or NULL, without an
 * exception. */
PyObject *cl_condition_lock(cl_state *st, PyObject *self);

/* Which class of semaphores that we know it is exactly of, or -1. */
int cl_semaphore_class(cl_state *st, PyObject *self);
int cl_semaphore_release(cl_state *st, PyObject *self);
extern const cl_op_kind cl_semaphore_aenter;

#endif
