/* semaphore.c - asyncio.Semaphore and BoundedSemaphore.
 *
 * There are four versions of their text. From 3.10 on, release() hands the
 * semaphore over to a waiter; 3.13 wakes as many waiters as there is room for.
 * Before, a waiter that was woken has to compete for it, and in 3.9 nobody can
 * acquire the semaphore meanwhile. */
#include "sync/locks.h"

enum { WAITERS = CL_LOCK_WAITERS, VALUE = CL_LOCK_VALUE, BOUND = 2 };
enum { WAKES_ONE = 1, WAKES_ALL, COMPETES, SCHEDULES }; /* variants */

int
cl_semaphore_class(cl_state *st, PyObject *self)
{
    if (cl_sync_knows(st, self, CL_CLASS_SEMAPHORE))
        return CL_CLASS_SEMAPHORE;
    return cl_sync_knows(st, self, CL_CLASS_BOUNDED) ? CL_CLASS_BOUNDED : -1;
}

static inline int
variant_of(cl_state *st, int class)
{
    return cl_sync_of(st)->sy_classes[class].sc_variant;
}

/* Where _wakeup_scheduled is, in SCHEDULES. */
static inline int
scheduled_of(int class)
{
    return class == CL_CLASS_BOUNDED ? BOUND + 2 : BOUND + 1;
}

/* Gets its attributes, class and value; false if it is not as expected. */
static bool
look(cl_state *st, PyObject *self, cl_view *view, int *class, long *value)
{
    int overflow = 0;
    *class = cl_semaphore_class(st, self);
    if (*class < 0 || !cl_lock_look_known(st, self, *class, view) ||
        !PyLong_CheckExact(view->v_at[VALUE]))
        return false;
    if (variant_of(st, *class) >= COMPETES && view->v_at[WAITERS] == Py_None)
        return false;
    if (cl_long_small(view->v_at[VALUE], value))
        return true;
    *value = PyLong_AsLongAndOverflow(view->v_at[VALUE], &overflow);
    return overflow == 0 && *value < LONG_MAX && *value > LONG_MIN;
}

static int
set_value(cl_state *st, cl_view *view, int class, long value)
{
    PyObject *number = PyLong_FromLong(value);
    int status =
        number == NULL ? -1 : cl_sync_set(st, view, class, VALUE, number);
    Py_XDECREF(number);
    return status;
}

/* self._value += change */
static int
add(cl_state *st, PyObject *self, long change)
{
    cl_view view;
    int class, status = -1;
    long value;
    if (look(st, self, &view, &class, &value))
        return set_value(st, &view, class, value + change);
    PyObject *before = PyObject_GetAttr(self, cl_sync_of(st)->str__value);
    PyObject *after = before == NULL ? NULL
                      : change > 0   ? PyNumber_InPlaceAdd(before, st->one)
                                   : PyNumber_InPlaceSubtract(before, st->one);
    if (after != NULL)
        status = PyObject_SetAttr(self, cl_sync_of(st)->str__value, after);
    Py_XDECREF(before);
    Py_XDECREF(after);
    return status;
}

/* self._value > 0 */
static int
has_room(cl_state *st, PyObject *self)
{
    cl_view view;
    int class;
    long value;
    if (look(st, self, &view, &class, &value))
        return value > 0;
    PyObject *number = PyObject_GetAttr(self, cl_sync_of(st)->str__value);
    PyObject *zero = number == NULL ? NULL : PyLong_FromLong(0);
    int more =
        zero == NULL ? -1 : PyObject_RichCompareBool(number, zero, Py_GT);
    Py_XDECREF(number);
    Py_XDECREF(zero);
    return more;
}

static int
wake(cl_state *st, PyObject *waiter, void *self)
{
    int done = cl_waiter_done(st, waiter);
    if (done != 0)
        return done < 0 ? -1 : 0;
    return add(st, self, -1) < 0 || cl_waiter_finish(st, waiter, Py_True) < 0
               ? -1
               : 1;
}

/* self._wakeup_scheduled = value */
static int
set_scheduled(cl_state *st, PyObject *self, PyObject *value)
{
    cl_view view;
    int class;
    long number;
    if (look(st, self, &view, &class, &number))
        return cl_sync_set(st, &view, class, scheduled_of(class), value);
    return PyObject_SetAttr(self, cl_sync_of(st)->str__wakeup_scheduled,
                            value);
}

/* The same of the older texts. */
static int
wake_up_one(cl_state *st, PyObject *self, PyObject *waiters, int variant)
{
    int woken = 0;
    while (woken == 0 && cl_deque_size(waiters) > 0) {
        PyObject *waiter = cl_deque_popleft(st, waiters);
        int done = waiter == NULL ? -1 : cl_waiter_done(st, waiter);
        if (done < 0)
            woken = -1;
        else if (done == 0)
            woken = cl_waiter_finish(st, waiter, Py_None) < 0 ? -1 : 1;
        Py_XDECREF(waiter);
    }
    if (woken > 0 && variant == SCHEDULES)
        woken = set_scheduled(st, self, Py_True) < 0 ? -1 : 1;
    return woken;
}

/* self._wake_up_next(): 1 if it woke a waiter, 0 if not, -1 on error. */
static int
wake_up_next(cl_state *st, PyObject *self)
{
    cl_view view;
    int class;
    long value;
    if (look(st, self, &view, &class, &value)) {
        PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
        int variant = variant_of(st, class);
        int woken = waiters == Py_None ? 0
                    : variant >= COMPETES
                        ? wake_up_one(st, self, waiters, variant)
                        : cl_waiters_each(st, waiters, wake, self);
        Py_DECREF(waiters);
        return woken;
    }
    PyObject *result =
        PyObject_CallMethodNoArgs(self, cl_sync_of(st)->str__wake_up_next);
    int woken = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return woken;
}

/* ------------------------------------------------------------------------ acquire */

/* Of the older texts, at the start and after each wait, like their loop. */
static cl_op_outcome
compete(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    cl_view view;
    int class;
    long value;
    if (!look(st, op->o_self, &view, &class, &value))
        return CL_OP_HAND_OVER;
    op->o_stage = variant_of(st, class);
    bool waits = value <= 0;
    if (op->o_stage == SCHEDULES) {
        PyObject *scheduled = view.v_at[scheduled_of(class)];
        if (scheduled != Py_True && scheduled != Py_False)
            return CL_OP_HAND_OVER;
        waits = waits || scheduled == Py_True;
    }
    if (waits)
        return cl_op_wait_in(
            op, op->o_self,
            view.v_at[class == CL_CLASS_BOUNDED ? BOUND + 1 : BOUND],
            view.v_at[WAITERS]);
    return set_value(st, &view, class, value - 1) < 0
               ? CL_OP_FAILED
               : cl_op_done(result, op->o_arg);
}

/* Their handling of an exception. */
static cl_op_outcome
stop_competing(SyncOpObject *op)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *error = PyErr_GetRaisedException();
    if (op->o_stage == COMPETES) {
        PyObject *future = op->o_coro.c_future;
        int room =
            cl_waiter_cancel(st, future) < 0 ? -1 : has_room(st, op->o_self);
        if (room > 0 && cl_waiter_cancelled(st, future) == 0)
            (void)wake_up_next(st, op->o_self);
    }
    else if (PyErr_GivenExceptionMatches(error,
                                         cl_futures_of(st)->CancelledError)) {
        (void)wake_up_next(st, op->o_self);
    }
    cl_op_chain(error);
    return CL_OP_FAILED;
}

static cl_op_outcome
begin(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    cl_view view;
    int class;
    long value;
    if (!look(st, op->o_self, &view, &class, &value))
        return CL_OP_HAND_OVER;
    if (variant_of(st, class) >= COMPETES)
        return compete(op, result);
    if (value != 0 && cl_no_waiters(&view))
        return set_value(st, &view, class, value - 1) < 0
                   ? CL_OP_FAILED
                   : cl_op_done(result, op->o_arg);
    if (value != 0 && /* else it is locked() */
        !cl_lock_is_awaited(st, view.v_at[WAITERS])) {
        PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
        int all = cl_lock_all_cancelled(st, waiters);
        Py_DECREF(waiters);
        if (all < 0)
            return CL_OP_FAILED;
        if (all)
            return add(st, op->o_self, -1) < 0 ? CL_OP_FAILED
                                               : cl_op_done(result, op->o_arg);
        if (!look(st, op->o_self, &view, &class, &value))
            return CL_OP_HAND_OVER;
    }
    PyObject *bound = view.v_at[class == CL_CLASS_BOUNDED ? BOUND + 1 : BOUND];
    PyObject *waiters = cl_lock_waiters(st, op->o_self, view.v_at[WAITERS]);
    op->o_stage = variant_of(st, class);
    cl_op_outcome outcome =
        waiters == NULL ? CL_OP_FAILED
                        : cl_op_wait_in(op, op->o_self, bound, waiters);
    Py_XDECREF(waiters);
    return outcome;
}

/* Wakes waiters for which there is room: one, or all with the newer text. */
static int
pass_on(SyncOpObject *op)
{
    cl_state *st = op->o_coro.c_st;
    int room, woken = 1;
    while (woken > 0 && (room = has_room(st, op->o_self)) != 0) {
        if (room < 0 || (woken = wake_up_next(st, op->o_self)) < 0)
            return -1;
        if (op->o_stage == WAKES_ONE)
            break;
    }
    return 0;
}

static int
remove_waiter(SyncOpObject *op)
{
    int class = cl_semaphore_class(op->o_coro.c_st, op->o_self);
    return cl_lock_remove(op, class < 0 ? CL_CLASS_SEMAPHORE : class);
}

static cl_op_outcome
woken(SyncOpObject *op, PyObject **result)
{
    if (op->o_stage >= COMPETES)
        return op->o_stage == SCHEDULES &&
                       set_scheduled(op->o_coro.c_st, op->o_self, Py_False) < 0
                   ? CL_OP_FAILED
                   : compete(op, result);
    int removed = remove_waiter(op);
    if (removed < 0 && op->o_stage == WAKES_ALL) {
        PyObject *error = PyErr_GetRaisedException();
        (void)pass_on(op);
        cl_op_chain(error);
    }
    return removed < 0 || pass_on(op) < 0 ? CL_OP_FAILED
                                          : cl_op_done(result, op->o_arg);
}

/* For a waiter that got the semaphore and will not use it. */
static int
give_back(SyncOpObject *op)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *future = op->o_coro.c_future;
    int done = op->o_stage == WAKES_ONE ? 1 : cl_waiter_done(st, future);
    int cancelled = done > 0 ? cl_waiter_cancelled(st, future) : done;
    if (done <= 0 || cancelled != 0)
        return done < 0 || cancelled < 0 ? -1 : 0;
    if (add(st, op->o_self, 1) < 0)
        return -1;
    return op->o_stage == WAKES_ONE && wake_up_next(st, op->o_self) < 0 ? -1
                                                                        : 0;
}

static cl_op_outcome
failed(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    if (op->o_stage >= COMPETES)
        return stop_competing(op);
    cl_state *st = op->o_coro.c_st;
    PyObject *error = PyErr_GetRaisedException();
    if (remove_waiter(op) == 0 &&
        PyErr_GivenExceptionMatches(error, cl_futures_of(st)->CancelledError))
        (void)give_back(op);
    cl_op_chain(error);
    if (op->o_stage == WAKES_ALL) {
        error = PyErr_GetRaisedException();
        (void)pass_on(op);
        cl_op_chain(error);
    }
    return CL_OP_FAILED;
}

#define KIND(name, body) \
    { \
        .k_ops = CL_OP_OPS("Semaphore"), \
        .k_name = name, \
        .k_body = body, \
        .k_class = CL_CLASS_SEMAPHORE, \
        .k_begin = begin, \
        .k_woken = woken, \
        .k_failed = failed, \
        .k_args = cl_lock_only_self, \
    }

static const cl_op_kind acquire = KIND("acquire", CL_BODY_SEMAPHORE_ACQUIRE);
const cl_op_kind cl_semaphore_aenter = KIND("__aenter__", CL_BODY_AENTER);

PyObject *
cl_sync_semaphore_acquire(cl_state *st, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    return cl_takes_none(nargs, kwnames) && cl_sync_may_begin(st) &&
                   cl_semaphore_class(st, args[0]) >= 0
               ? cl_op_new(st, &acquire, args[0], Py_True)
               : cl_sync_original(st, CL_BODY_SEMAPHORE_ACQUIRE, args, nargs,
                                  kwnames);
}

/* ------------------------------------------------------------------------ release */

int
cl_semaphore_release(cl_state *st, PyObject *self)
{
    cl_view view;
    int class, overflow = 0;
    long value;
    if (!look(st, self, &view, &class, &value))
        return 0;
    if (class == CL_CLASS_BOUNDED) {
        PyObject *bound = view.v_at[BOUND];
        cl_guard *base =
            &cl_sync_of(st)->sy_classes[CL_CLASS_SEMAPHORE].sc_guard;
        if (!PyLong_CheckExact(bound) || !cl_guard_holds(base))
            return 0;
        long most = PyLong_AsLongAndOverflow(bound, &overflow);
        if (overflow != 0 || value >= most)
            return 0; /* asyncio's function raises the error */
    }
    if (set_value(st, &view, class, value + 1) < 0)
        return -1;
    if (cl_no_waiters(&view))
        return 1;
    return wake_up_next(st, self) < 0 ? -1 : 1;
}

PyObject *
cl_sync_semaphore_release(cl_state *st, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    /* A bounded semaphore calls this as its base's method, which checks no
     * bound. */
    int released = cl_takes_none(nargs, kwnames) &&
                           cl_sync_loop_again(st) != NULL &&
                           cl_sync_knows(st, args[0], CL_CLASS_SEMAPHORE)
                       ? cl_semaphore_release(st, args[0])
                       : 0;
    return cl_sync_settle(st, CL_BODY_SEMAPHORE_RELEASE, released, args, nargs,
                          kwnames);
}

PyObject *
cl_sync_bounded_release(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    int released = cl_takes_none(nargs, kwnames) &&
                           cl_sync_loop_again(st) != NULL &&
                           cl_sync_knows(st, args[0], CL_CLASS_BOUNDED)
                       ? cl_semaphore_release(st, args[0])
                       : 0;
    return cl_sync_settle(st, CL_BODY_BOUNDED_RELEASE, released, args, nargs,
                          kwnames);
}
