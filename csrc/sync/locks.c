/* locks.c - asyncio.Event and asyncio.Lock. */
#include "sync/locks.h"

#include "sync/deque.h"

enum { WAITERS = CL_LOCK_WAITERS, VALUE = CL_LOCK_VALUE, LOOP = 2 };

/* --------------------------------------------------------------------- for any object */

/* self._waiters.remove(fut) */
static int
remove_waiter(SyncOpObject *op)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *waiters =
        PyObject_GetAttr(op->o_self, cl_sync_of(st)->str__waiters);
    int status = waiters == NULL
                     ? -1
                     : cl_deque_remove(st, waiters, op->o_coro.c_future);
    Py_XDECREF(waiters);
    return status;
}

int
cl_lock_remove(SyncOpObject *op, int class)
{
    cl_state *st = op->o_coro.c_st;
    cl_view view;
    if (!cl_lock_look(st, op->o_self, class, &view) ||
        view.v_at[WAITERS] == Py_None)
        return remove_waiter(op);
    PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
    int status = cl_deque_remove(st, waiters, op->o_coro.c_future);
    Py_DECREF(waiters);
    return status;
}

PyObject *
cl_lock_waiters(cl_state *st, PyObject *self, PyObject *waiters)
{
    if (waiters != Py_None)
        return Py_NewRef(waiters);
    PyObject *made = PyObject_CallNoArgs((PyObject *)cl_sync_of(st)->sy_deque);
    if (made != NULL &&
        PyObject_GenericSetAttr(self, cl_sync_of(st)->str__waiters, made) < 0)
        Py_CLEAR(made);
    return made;
}

/* all(w.cancelled() for w in waiters), as -1, 0, 1. */
static int
not_cancelled(cl_state *st, PyObject *waiter, void *Py_UNUSED(arg))
{
    int cancelled = cl_waiter_cancelled(st, waiter);
    return cancelled < 0 ? -1 : !cancelled;
}

int
cl_lock_all_cancelled(cl_state *st, PyObject *waiters)
{
    int found = waiters == Py_None
                    ? 0
                    : cl_waiters_each(st, waiters, not_cancelled, NULL);
    return found < 0 ? -1 : !found;
}

PyObject *
cl_lock_only_self(const SyncOpObject *op)
{
    return PyTuple_Pack(1, op->o_self);
}

/* The truth value of an attribute. */
static int
is_true(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(self, name);
    int truth = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    return truth;
}

static inline bool
is_bool(PyObject *value)
{
    return value == Py_True || value == Py_False;
}

/* -------------------------------------------------------------------------- Event */

static cl_op_outcome
event_wait_begin(SyncOpObject *op, PyObject **result)
{
    cl_view view;
    if (!cl_lock_look(op->o_coro.c_st, op->o_self, CL_CLASS_EVENT, &view) ||
        view.v_at[WAITERS] == Py_None || !is_bool(view.v_at[VALUE]))
        return CL_OP_HAND_OVER;
    return view.v_at[VALUE] == Py_True
               ? cl_op_done(result, Py_True)
               : cl_op_wait_in(op, op->o_self, view.v_at[LOOP],
                               view.v_at[WAITERS]);
}

static cl_op_outcome
event_wait_woken(SyncOpObject *op, PyObject **result)
{
    return cl_lock_remove(op, CL_CLASS_EVENT) < 0
               ? CL_OP_FAILED
               : cl_op_done(result, Py_True);
}

static cl_op_outcome
event_wait_failed(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    PyObject *error = PyErr_GetRaisedException();
    (void)cl_lock_remove(op, CL_CLASS_EVENT);
    cl_op_chain(error);
    return CL_OP_FAILED;
}

/* asyncio.wait() has the same name. */
static const char *const event_awaits[] = {"fut"};

static const cl_op_kind event_wait = {
    .k_ops = CL_OP_OPS("Event"),
    .k_name = "wait",
    .k_body = CL_BODY_EVENT_WAIT,
    .k_class = CL_CLASS_EVENT,
    .k_awaits = event_awaits,
    .k_begin = event_wait_begin,
    .k_woken = event_wait_woken,
    .k_failed = event_wait_failed,
    .k_args = cl_op_args_of_method,
};

PyObject *
cl_sync_event_wait(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return cl_takes_none(nargs, kwnames) && cl_sync_may_begin(st) &&
                   cl_sync_knows(st, args[0], CL_CLASS_EVENT)
               ? cl_op_new(st, &event_wait, args[0], NULL)
               : cl_sync_original(st, CL_BODY_EVENT_WAIT, args, nargs,
                                  kwnames);
}

PyObject *
cl_event_wait(cl_state *st, PyObject *event)
{
    cl_view view;
    return cl_sync_loop(st) != NULL &&
                   cl_lock_look(st, event, CL_CLASS_EVENT, &view)
               ? cl_op_new(st, &event_wait, event, NULL)
               : NULL;
}

static int
wake(cl_state *st, PyObject *waiter, void *value)
{
    int done = cl_waiter_done(st, waiter);
    return done != 0 ? (done < 0 ? -1 : 0)
                     : cl_waiter_finish(st, waiter, value);
}

/* Wakes a waiter of which we have no reference. */
static inline int
finish(FutureObject *waiter, PyObject *value)
{
    Py_INCREF(waiter);
    int status = cl_future_finish(waiter, value);
    Py_DECREF(waiter);
    return status;
}

int
cl_event_set(cl_state *st, PyObject *self)
{
    cl_view view;
    if (!cl_lock_look(st, self, CL_CLASS_EVENT, &view) ||
        view.v_at[WAITERS] == Py_None || !is_bool(view.v_at[VALUE]))
        return 0;
    if (view.v_at[VALUE] == Py_True)
        return 1;
    PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
    int status = cl_sync_set(st, &view, CL_CLASS_EVENT, VALUE, Py_True);
    FutureObject *only = status == 0 ? cl_waiters_only(st, waiters) : NULL;
    if (only != NULL)
        status = finish(only, Py_True);
    else if (status == 0)
        status = cl_waiters_each(st, waiters, wake, Py_True);
    Py_DECREF(waiters);
    return status < 0 ? -1 : 1;
}

int
cl_event_clear(cl_state *st, PyObject *self)
{
    cl_view view;
    if (!cl_lock_look(st, self, CL_CLASS_EVENT, &view) ||
        !is_bool(view.v_at[VALUE]))
        return 0;
    if (view.v_at[VALUE] == Py_False)
        return 1;
    return cl_sync_set(st, &view, CL_CLASS_EVENT, VALUE, Py_False) < 0 ? -1
                                                                       : 1;
}

PyObject *
cl_sync_event_set(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    int done = cl_takes_none(nargs, kwnames) && cl_sync_loop_again(st) != NULL
                   ? cl_event_set(st, args[0])
                   : 0;
    return cl_sync_settle(st, CL_BODY_EVENT_SET, done, args, nargs, kwnames);
}

PyObject *
cl_sync_event_clear(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    int done = cl_takes_none(nargs, kwnames) && cl_sync_loop_again(st) != NULL
                   ? cl_event_clear(st, args[0])
                   : 0;
    return cl_sync_settle(st, CL_BODY_EVENT_CLEAR, done, args, nargs, kwnames);
}

/* --------------------------------------------------------------------------- Lock */

static cl_op_outcome
lock_begin(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    cl_view view;
    if (!cl_lock_look(st, op->o_self, CL_CLASS_LOCK, &view) ||
        !is_bool(view.v_at[VALUE]))
        return CL_OP_HAND_OVER;
    if (view.v_at[VALUE] == Py_False && cl_no_waiters(&view))
        return cl_sync_set(st, &view, CL_CLASS_LOCK, VALUE, Py_True) < 0
                   ? CL_OP_FAILED
                   : cl_op_done(result, op->o_arg);
    if (view.v_at[VALUE] == Py_False &&
        !cl_lock_is_awaited(st, view.v_at[WAITERS])) {
        PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
        int all = cl_lock_all_cancelled(st, waiters);
        bool same = cl_lock_look(st, op->o_self, CL_CLASS_LOCK, &view) &&
                    view.v_at[WAITERS] == waiters;
        Py_DECREF(waiters);
        if (all < 0)
            return CL_OP_FAILED;
        if (all) {
            if ((same ? cl_sync_set(st, &view, CL_CLASS_LOCK, VALUE, Py_True)
                      : PyObject_SetAttr(op->o_self,
                                         cl_sync_of(st)->str__locked,
                                         Py_True)) < 0)
                return CL_OP_FAILED;
            return cl_op_done(result, op->o_arg);
        }
        if (!same) /* a waiter of the program changed it */
            return CL_OP_HAND_OVER;
    }
    PyObject *bound = view.v_at[LOOP];
    PyObject *waiters = cl_lock_waiters(st, op->o_self, view.v_at[WAITERS]);
    cl_op_outcome outcome =
        waiters == NULL ? CL_OP_FAILED
                        : cl_op_wait_in(op, op->o_self, bound, waiters);
    Py_XDECREF(waiters);
    return outcome;
}

static cl_op_outcome
lock_woken(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    cl_view view;
    if (cl_lock_remove(op, CL_CLASS_LOCK) < 0 ||
        (cl_lock_look(st, op->o_self, CL_CLASS_LOCK, &view)
             ? cl_sync_set(st, &view, CL_CLASS_LOCK, VALUE, Py_True)
             : PyObject_SetAttr(op->o_self, cl_sync_of(st)->str__locked,
                                Py_True)) < 0)
        return CL_OP_FAILED;
    return cl_op_done(result, op->o_arg);
}

/* self._wake_up_first() of an unchanged lock, with these waiters. */
static int
wake_up_first(cl_state *st, PyObject *waiters)
{
    if (waiters == Py_None || cl_deque_size(waiters) == 0)
        return 0;
    PyObject *first = cl_deque_first(waiters);
    int status = first == NULL ? -1 : wake(st, first, Py_True);
    Py_XDECREF(first);
    return status;
}

static int
call_wake_up_first(cl_state *st, PyObject *self)
{
    cl_view view;
    if (cl_lock_look(st, self, CL_CLASS_LOCK, &view))
        return wake_up_first(st, view.v_at[WAITERS]);
    PyObject *called =
        PyObject_CallMethodNoArgs(self, cl_sync_of(st)->str__wake_up_first);
    Py_XDECREF(called);
    return called == NULL ? -1 : 0;
}

static cl_op_outcome
lock_failed(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    cl_state *st = op->o_coro.c_st;
    PyObject *error = PyErr_GetRaisedException();
    if (cl_lock_remove(op, CL_CLASS_LOCK) == 0 &&
        PyErr_GivenExceptionMatches(error,
                                    cl_futures_of(st)->CancelledError)) {
        int locked = is_true(op->o_self, cl_sync_of(st)->str__locked);
        if (locked == 0)
            (void)call_wake_up_first(st, op->o_self);
    }
    cl_op_chain(error);
    return CL_OP_FAILED;
}

/* o_arg is the result. */
#define LOCK_KIND(name, body) \
    { \
        .k_ops = CL_OP_OPS("Lock"), \
        .k_name = name, \
        .k_body = body, \
        .k_class = CL_CLASS_LOCK, \
        .k_begin = lock_begin, \
        .k_woken = lock_woken, \
        .k_failed = lock_failed, \
        .k_args = cl_lock_only_self, \
    }

static const cl_op_kind lock_acquire =
                            LOCK_KIND("acquire", CL_BODY_LOCK_ACQUIRE),
                        lock_aenter = LOCK_KIND("__aenter__", CL_BODY_AENTER);

bool
cl_lock_take(cl_state *st, PyObject *lock)
{
    cl_view view;
    if (!cl_lock_look(st, lock, CL_CLASS_LOCK, &view) ||
        view.v_at[VALUE] != Py_False || !cl_no_waiters(&view))
        return false;
    if (cl_sync_set(st, &view, CL_CLASS_LOCK, VALUE, Py_True) == 0)
        return true;
    PyErr_Clear(); /* the caller tries again */
    return false;
}

PyObject *
cl_lock_acquire(cl_state *st, PyObject *lock)
{
    cl_view view;
    return cl_sync_loop(st) != NULL &&
                   cl_lock_look(st, lock, CL_CLASS_LOCK, &view)
               ? cl_op_new(st, &lock_acquire, lock, Py_True)
               : NULL;
}

PyObject *
cl_sync_lock_acquire(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    return cl_takes_none(nargs, kwnames) && cl_sync_may_begin(st) &&
                   cl_sync_knows(st, args[0], CL_CLASS_LOCK)
               ? cl_op_new(st, &lock_acquire, args[0], Py_True)
               : cl_sync_original(st, CL_BODY_LOCK_ACQUIRE, args, nargs,
                                  kwnames);
}

int
cl_lock_release(cl_state *st, PyObject *self)
{
    cl_view view;
    if (!cl_lock_look(st, self, CL_CLASS_LOCK, &view) ||
        view.v_at[VALUE] != Py_True)
        return 0;
    PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
    int status = cl_sync_set(st, &view, CL_CLASS_LOCK, VALUE, Py_False);
    if (status == 0)
        status = wake_up_first(st, waiters);
    Py_DECREF(waiters);
    return status < 0 ? -1 : 1;
}

PyObject *
cl_sync_lock_release(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    int released =
        cl_takes_none(nargs, kwnames) && cl_sync_loop_again(st) != NULL
            ? cl_lock_release(st, args[0])
            : 0;
    return cl_sync_settle(st, CL_BODY_LOCK_RELEASE, released, args, nargs,
                          kwnames);
}

/* ---------------------------------------------------------- async with, of all locks */

static PyObject *
aexit_args(const SyncOpObject *op)
{
    return op->o_arg != NULL
               ? Py_NewRef(op->o_arg)
               : PyTuple_Pack(4, op->o_self, Py_None, Py_None, Py_None);
}

/* For a condition: o_more is the lock, o_self the condition. */
static cl_op_outcome
condition_begin(SyncOpObject *op, PyObject **result)
{
    PyObject *lock = cl_condition_lock(op->o_coro.c_st, op->o_more);
    bool same = lock == op->o_self;
    Py_XDECREF(lock);
    return same ? lock_begin(op, result) : CL_OP_HAND_OVER;
}

static PyObject *
condition_args(const SyncOpObject *op)
{
    return PyTuple_Pack(1, op->o_more);
}

static const cl_op_kind condition_aenter = {
    .k_ops = CL_OP_OPS("_ContextManagerMixin"),
    .k_name = "__aenter__",
    .k_body = CL_BODY_AENTER,
    .k_class = CL_CLASS_CONDITION,
    .k_begin = condition_begin,
    .k_woken = lock_woken,
    .k_failed = lock_failed,
    .k_args = condition_args,
};

/* Returns a new coroutine; NULL without an exception if `self` is not a
 * condition we can handle. */
static PyObject *
enter_condition(cl_state *st, PyObject *self)
{
    PyObject *lock = cl_condition_lock(st, self);
    SyncOpObject *op =
        lock == NULL
            ? NULL
            : (SyncOpObject *)cl_op_new(st, &condition_aenter, lock, Py_None);
    if (op != NULL)
        op->o_more = Py_NewRef(self);
    Py_XDECREF(lock);
    return (PyObject *)op;
}

PyObject *
cl_condition_enter(cl_state *st, PyObject *self)
{
    return cl_sync_loop(st) == NULL ? NULL : enter_condition(st, self);
}

int
cl_condition_release(cl_state *st, PyObject *self)
{
    PyObject *lock = cl_condition_lock(st, self);
    int released = lock == NULL ? 0 : cl_lock_release(st, lock);
    Py_XDECREF(lock);
    return released;
}

/* self.release() */
static cl_op_outcome
aexit_begin(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *self = op->o_self;
    int released = cl_sync_is(st, self, CL_CLASS_LOCK)
                       ? cl_lock_release(st, self)
                   : cl_sync_knows(st, self, CL_CLASS_CONDITION)
                       ? cl_condition_release(st, self)
                       : cl_semaphore_release(st, self);
    if (released == 0)
        return CL_OP_HAND_OVER;
    return released < 0 ? CL_OP_FAILED : cl_op_done(result, Py_None);
}

static const cl_op_kind aexit_kind = {
    .k_ops = CL_OP_OPS("_ContextManagerMixin"),
    .k_name = "__aexit__",
    .k_body = CL_BODY_AEXIT,
    .k_class = CL_CLASS_LOCK,
    .k_begin = aexit_begin,
    .k_args = aexit_args,
};

PyObject *
cl_sync_aenter(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    if (cl_takes_none(nargs, kwnames) && cl_sync_may_begin(st)) {
        if (cl_sync_knows(st, args[0], CL_CLASS_LOCK))
            return cl_op_new(st, &lock_aenter, args[0], Py_None);
        if (cl_semaphore_class(st, args[0]) >= 0)
            return cl_op_new(st, &cl_semaphore_aenter, args[0], Py_None);
        PyObject *op = enter_condition(st, args[0]);
        if (op != NULL || PyErr_Occurred())
            return op;
    }
    return cl_sync_original(st, CL_BODY_AENTER, args, nargs, kwnames);
}

PyObject *
cl_sync_aexit(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    if (nargs != 4 || kwnames != NULL || !cl_sync_may_begin(st) ||
        !(cl_sync_knows(st, args[0], CL_CLASS_LOCK) ||
          cl_sync_knows(st, args[0], CL_CLASS_CONDITION) ||
          cl_semaphore_class(st, args[0]) >= 0))
        return cl_sync_original(st, CL_BODY_AEXIT, args, nargs, kwnames);
    PyObject *all =
        args[1] == Py_None && args[2] == Py_None && args[3] == Py_None
            ? NULL
            : PyTuple_Pack(4, args[0], args[1], args[2], args[3]);
    if (all == NULL && PyErr_Occurred())
        return NULL;
    PyObject *op = cl_op_new(st, &aexit_kind, args[0], all);
    Py_XDECREF(all);
    return op;
}
