/* condition.c - asyncio.Condition. Its async with is in locks.c.
 *
 * A condition stores its lock's methods as attributes of its own. It is
 * handled here only if these are the methods of an unchanged Lock.
 *
 * There are two versions of the text of wait(). From 3.13 on it creates the
 * future before it releases the lock, raises the CancelledError that it
 * caught instead of a new one, and notifies somebody else if it fails. */
#include "sync/locks.h"

enum { WAITERS = CL_LOCK_WAITERS, LOCK, LOCKED, ACQUIRE, RELEASE, LOOP };
enum { RAISES_NEW = 1, NOTIFIES = 2 }; /* variants */

/* Whether `method` is a method of the lock: the class's current one, or
 * asyncio's original function behind it. */
static bool
is_method(PyObject *method, PyObject *lock, PyObject *known,
          PyObject *original)
{
    if (!PyMethod_Check(method) || PyMethod_GET_SELF(method) != lock)
        return false;
    PyObject *function = PyMethod_GET_FUNCTION(method);
    return function == known || function == original;
}

/* Gets the condition's attributes, if its lock is exactly asyncio's class. */
static bool
look(cl_state *st, PyObject *self, cl_view *view)
{
    cl_sync *sync = cl_sync_of(st);
    cl_guard *guard = &sync->sy_classes[CL_CLASS_LOCK].sc_guard;
    if (!cl_lock_look(st, self, CL_CLASS_CONDITION, view) ||
        view->v_at[WAITERS] == Py_None)
        return false;
    PyObject *lock = view->v_at[LOCK];
    /* They are the first three names in sync.c. */
    return cl_sync_knows(st, lock, CL_CLASS_LOCK) &&
           is_method(view->v_at[ACQUIRE], lock, guard->g_known[0],
                     sync->sy_functions[CL_BODY_LOCK_ACQUIRE]) &&
           is_method(view->v_at[RELEASE], lock, guard->g_known[1],
                     sync->sy_functions[CL_BODY_LOCK_RELEASE]) &&
           is_method(view->v_at[LOCKED], lock, guard->g_known[2], NULL);
}

PyObject *
cl_condition_lock(cl_state *st, PyObject *self)
{
    cl_view view;
    return look(st, self, &view) ? Py_NewRef(view.v_at[LOCK]) : NULL;
}

/* self.locked(); asyncio's function handles all other types. */
static bool
is_locked(cl_state *st, PyObject *lock)
{
    cl_view view;
    return cl_lock_look(st, lock, CL_CLASS_LOCK, &view) &&
           view.v_at[CL_LOCK_VALUE] == Py_True;
}

typedef struct {
    Py_ssize_t most, woken;
} notification;

static int
wake(cl_state *st, PyObject *waiter, void *arg)
{
    notification *told = arg;
    if (told->woken >= told->most)
        return 1;
    int done = cl_waiter_done(st, waiter);
    if (done != 0)
        return done < 0 ? -1 : 0;
    told->woken++;
    return cl_waiter_finish(st, waiter, Py_False);
}

/* notify(n), or notify_all() if `most` is -1, with the lock held. */
static int
notify(cl_state *st, PyObject *self, Py_ssize_t most)
{
    cl_view view;
    if (!look(st, self, &view) || !is_locked(st, view.v_at[LOCK]))
        return 0;
    PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
    notification told = {most < 0 ? cl_deque_size(waiters) : most, 0};
    int status = cl_waiters_each(st, waiters, wake, &told);
    Py_DECREF(waiters);
    return status < 0 ? -1 : 1;
}

PyObject *
cl_sync_condition_notify(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames)
{
    Py_ssize_t most = 1;
    int done = 0;
    if (kwnames == NULL && cl_sync_loop_again(st) != NULL &&
        (nargs == 1 || (nargs == 2 && PyLong_CheckExact(args[1])))) {
        if (nargs == 2)
            most = PyLong_AsSsize_t(args[1]);
        if (most < 0) /* none, or too large */
            PyErr_Clear();
        else
            done = notify(st, args[0], most);
    }
    return cl_sync_settle(st, CL_BODY_CONDITION_NOTIFY, done, args, nargs,
                          kwnames);
}

PyObject *
cl_sync_condition_notify_all(cl_state *st, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames)
{
    int done = cl_takes_none(nargs, kwnames) && cl_sync_loop_again(st) != NULL
                   ? notify(st, args[0], -1)
                   : 0;
    return cl_sync_settle(st, CL_BODY_CONDITION_NOTIFY_ALL, done, args, nargs,
                          kwnames);
}

int
cl_condition_notify_all(cl_state *st, PyObject *self)
{
    return notify(st, self, -1);
}

/* ------------------------------------------------------------------------- wait() */

/* What wait() awaits, by stage. */
enum { FUTURE, LOCKING };
static const char *const wait_awaits[] = {"fut", "acquire"};

static inline int
variant(cl_state *st)
{
    return cl_sync_of(st)->sy_classes[CL_CLASS_CONDITION].sc_variant;
}

/* self._notify(1), of the newer text. */
static int
notify_another(cl_state *st, PyObject *self)
{
    cl_view view;
    if (!look(st, self, &view)) {
        PyObject *called = PyObject_CallMethodOneArg(
            self, cl_sync_of(st)->str__notify, st->one);
        Py_XDECREF(called);
        return called == NULL ? -1 : 0;
    }
    PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
    notification told = {1, 0};
    int status = cl_waiters_each(st, waiters, wake, &told);
    Py_DECREF(waiters);
    return status < 0 ? -1 : 0;
}

/* wait() ends with the exception that is set. */
static cl_op_outcome
leave_failed(SyncOpObject *op)
{
    if (variant(op->o_coro.c_st) == NOTIFIES) {
        PyObject *error = PyErr_GetRaisedException();
        (void)notify_another(op->o_coro.c_st, op->o_self);
        cl_op_chain(error);
    }
    return CL_OP_FAILED;
}

/* The lock is taken again. o_more is the exception of the wait, or NULL; o_arg
 * the last cancellation since, or NULL. */
static cl_op_outcome
leave(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *error = op->o_more, *cancelled = op->o_arg;
    op->o_more = op->o_arg = NULL;
    if (error == NULL && cancelled == NULL)
        return cl_op_done(result, Py_True);
    if (cancelled == NULL) {
        PyErr_SetRaisedException(error);
        return leave_failed(op);
    }
    /* Raises while it handles `error`, which becomes the context. */
    PyObject *before = error == NULL ? NULL : cl_swap_handled(error);
    if (variant(st) == NOTIFIES)
        PyErr_SetObject((PyObject *)Py_TYPE(cancelled), cancelled);
    else
        PyErr_SetNone(cl_futures_of(st)->CancelledError);
    Py_DECREF(cancelled);
    if (error != NULL)
        Py_DECREF(cl_swap_handled(before));
    return leave_failed(op);
}

/* await self.acquire() has failed. Returns whether it was cancelled, so that
 * it is tried again. */
static bool
may_try_again(SyncOpObject *op)
{
    cl_state *st = op->o_coro.c_st;
    bool again = PyErr_ExceptionMatches(cl_futures_of(st)->CancelledError);
    cl_op_chain_handled(op);
    if (again)
        Py_XSETREF(op->o_arg, PyErr_GetRaisedException());
    else
        Py_CLEAR(op->o_more);
    return again;
}

static cl_op_outcome
take_lock(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    cl_op_outcome outcome;
    op->o_stage = LOCKING;
    do {
        PyObject *lock = cl_condition_lock(st, op->o_self), *acquire = NULL;
        bool taken = lock != NULL && cl_lock_take(st, lock);
        if (!taken && lock != NULL)
            acquire = cl_lock_acquire(st, lock);
        Py_XDECREF(lock);
        if (taken)
            return leave(op, result);
        if (acquire == NULL && !PyErr_Occurred())
            acquire = PyObject_CallMethodNoArgs(op->o_self,
                                                cl_sync_of(st)->str_acquire);
        outcome = cl_op_await(op, acquire);
    } while (outcome == CL_OP_FAILED && may_try_again(op));
    return outcome == CL_OP_FAILED ? leave_failed(op) : outcome;
}

/* The wait is over; an exception may be set. */
static cl_op_outcome
after_wait(SyncOpObject *op, PyObject **result)
{
    cl_assert_of(op, op->o_more == NULL && op->o_arg == NULL);
    if (PyErr_Occurred())
        op->o_more = PyErr_GetRaisedException();
    return take_lock(op, result);
}

/* asyncio's older code creates the future after the release; nothing can tell. */
static cl_op_outcome
wait_begin(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *self = op->o_self;
    cl_view view;
    if (!look(st, self, &view) || !is_locked(st, view.v_at[LOCK]))
        return CL_OP_HAND_OVER;
    PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
    PyObject *future = cl_op_future(op, self, view.v_at[LOOP]);
    cl_op_outcome outcome = PyErr_Occurred() ? CL_OP_FAILED : CL_OP_HAND_OVER;
    int released = future == NULL ? 0 : cl_condition_release(st, self);
    if (released < 0) {
        outcome = CL_OP_FAILED;
    }
    else if (released > 0) {
        if (cl_deque_append(st, waiters, future) < 0)
            outcome = after_wait(op, result);
        else if (cl_coro_wait(&op->o_coro, future) == 0)
            outcome = CL_OP_WAIT;
    }
    Py_DECREF(waiters);
    Py_XDECREF(future);
    return outcome;
}

static cl_op_outcome
wait_woken(SyncOpObject *op, PyObject **result)
{
    if (op->o_stage == LOCKING)
        return leave(op, result);
    (void)cl_lock_remove(op, CL_CLASS_CONDITION);
    return after_wait(op, result);
}

static cl_op_outcome
wait_failed(SyncOpObject *op, PyObject **result)
{
    if (op->o_stage == LOCKING)
        return may_try_again(op) ? take_lock(op, result) : leave_failed(op);
    PyObject *error = PyErr_GetRaisedException();
    (void)cl_lock_remove(op, CL_CLASS_CONDITION);
    cl_op_chain(error);
    return after_wait(op, result);
}

/* That of the wait, while it takes the lock again. */
static PyObject *
wait_handles(const SyncOpObject *op)
{
    return op->o_stage == LOCKING ? op->o_more : NULL;
}

static const cl_op_kind wait_kind = {
    .k_ops = CL_OP_OPS("Condition"),
    .k_name = "wait",
    .k_body = CL_BODY_CONDITION_WAIT,
    .k_class = CL_CLASS_CONDITION,
    .k_awaits = wait_awaits,
    .k_begin = wait_begin,
    .k_woken = wait_woken,
    .k_failed = wait_failed,
    .k_args = cl_lock_only_self,
    .k_handles = wait_handles,
};

PyObject *
cl_sync_condition_wait(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    return cl_takes_none(nargs, kwnames) && cl_sync_may_begin(st) &&
                   cl_sync_knows(st, args[0], CL_CLASS_CONDITION)
               ? cl_op_new(st, &wait_kind, args[0], NULL)
               : cl_sync_original(st, CL_BODY_CONDITION_WAIT, args, nargs,
                                  kwnames);
}

/* --------------------------------------------------------------------- wait_for() */

static const char *const wait_for_awaits[] = {"wait"};

/* Runs at the start and after each wait, like the loop in asyncio's code. */
static cl_op_outcome
wait_for_step(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    cl_view view;
    PyObject *value = PyObject_CallNoArgs(op->o_arg), *wait;
    int truth = value == NULL ? -1 : PyObject_IsTrue(value);
    if (truth > 0) {
        *result = value;
        return CL_OP_DONE;
    }
    Py_XSETREF(op->o_more, value); /* asyncio's code keeps it, too */
    if (truth < 0)
        return CL_OP_FAILED;
    if (cl_sync_loop(st) != NULL && look(st, op->o_self, &view))
        wait = cl_op_new(st, &wait_kind, op->o_self, NULL);
    else
        wait = PyObject_CallMethodNoArgs(op->o_self, cl_sync_of(st)->str_wait);
    return cl_op_await(op, wait);
}

static const cl_op_kind wait_for_kind = {
    .k_ops = CL_OP_OPS("Condition"),
    .k_name = "wait_for",
    .k_body = CL_BODY_CONDITION_WAIT_FOR,
    .k_class = CL_CLASS_CONDITION,
    .k_awaits = wait_for_awaits,
    .k_begin = wait_for_step,
    .k_woken = wait_for_step,
    .k_args = cl_op_args_of_method,
};

PyObject *
cl_condition_wait_for(cl_state *st, PyObject *self, PyObject *predicate)
{
    cl_view view;
    return cl_sync_loop(st) != NULL && look(st, self, &view)
               ? cl_op_new(st, &wait_for_kind, self, predicate)
               : NULL;
}

PyObject *
cl_sync_condition_wait_for(cl_state *st, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    return nargs == 2 && kwnames == NULL && cl_sync_may_begin(st) &&
                   cl_sync_knows(st, args[0], CL_CLASS_CONDITION)
               ? cl_op_new(st, &wait_for_kind, args[0], args[1])
               : cl_sync_original(st, CL_BODY_CONDITION_WAIT_FOR, args, nargs,
                                  kwnames);
}
