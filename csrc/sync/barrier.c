/* barrier.c - asyncio.Barrier.
 *
 * Its methods are those of asyncio's code, one coroutine for each that awaits
 * something. The barrier's attributes are read and set by name, since a
 * program may have changed anything while they wait. */
#include "sync/locks.h"

enum { COND, PARTIES, STATE, COUNT };

/* What the coroutines await, by stage. In ENTER: the lock of the condition. */
enum { ENTER, BLOCK, FILL };
static const char *const wait_awaits[] = {"_cond", "_block", "_wait"};
static const char *const aenter_awaits[] = {"wait"};
static const char *const inner_awaits[] = {"wait_for"};

static PyObject *
state_named(cl_state *st, int state)
{
    return cl_sync_of(st)->sy_barrier_states[state];
}

/* Gets the attributes, if all that the object would call is asyncio's. */
static bool
look(cl_state *st, PyObject *self, cl_view *view)
{
    return cl_sync_pinned(st, CL_PINS_BARRIER) &&
           cl_sync_look(st, self, CL_CLASS_BARRIER, view);
}

static bool
knows(cl_state *st, PyObject *self)
{
    cl_view view;
    return look(st, self, &view);
}

/* --------------------------------------------------------------------- attributes */

/* self._state in (one, other): 1, 0, -1. */
static int
is_in(cl_state *st, PyObject *self, int one, int other)
{
    PyObject *state = PyObject_GetAttr(self, cl_sync_of(st)->str__state);
    if (state == NULL)
        return -1;
    int found = PyObject_RichCompareBool(state, state_named(st, one), Py_EQ);
    if (found == 0)
        found = PyObject_RichCompareBool(state, state_named(st, other), Py_EQ);
    Py_DECREF(state);
    return found;
}

/* self._state is state: 1, 0, -1. */
static int
is_state(cl_state *st, PyObject *self, int state)
{
    PyObject *now = PyObject_GetAttr(self, cl_sync_of(st)->str__state);
    Py_XDECREF(now);
    return now == NULL ? -1 : now == state_named(st, state);
}

static int
set_state(cl_state *st, PyObject *self, int state)
{
    return PyObject_SetAttr(self, cl_sync_of(st)->str__state,
                            state_named(st, state));
}

/* self._count += change, which is 1 or -1. Returns the old value. */
static PyObject *
add(cl_state *st, PyObject *self, int change)
{
    PyObject *name = cl_sync_of(st)->str__count;
    PyObject *before = PyObject_GetAttr(self, name);
    PyObject *after = before == NULL ? NULL
                      : change > 0   ? PyNumber_InPlaceAdd(before, st->one)
                                   : PyNumber_InPlaceSubtract(before, st->one);
    if (after == NULL || PyObject_SetAttr(self, name, after) < 0)
        Py_CLEAR(before);
    Py_XDECREF(after);
    return before;
}

/* index + 1 == self._parties: 1, 0, -1. */
static int
is_last(cl_state *st, PyObject *self, PyObject *index)
{
    PyObject *number = PyNumber_Add(index, st->one);
    PyObject *parties =
        number == NULL ? NULL
                       : PyObject_GetAttr(self, cl_sync_of(st)->str__parties);
    int last = parties == NULL
                   ? -1
                   : PyObject_RichCompareBool(number, parties, Py_EQ);
    Py_XDECREF(number);
    Py_XDECREF(parties);
    return last;
}

static int
broken(const char *message)
{
    PyObject *module = PyImport_ImportModule("asyncio.exceptions");
    PyObject *error =
        module == NULL ? NULL
                       : PyObject_GetAttrString(module, "BrokenBarrierError");
    if (error != NULL)
        PyErr_SetString(error, message);
    Py_XDECREF(error);
    Py_XDECREF(module);
    return -1;
}

static int
call(PyObject *self, PyObject *name)
{
    PyObject *called = PyObject_CallMethodNoArgs(self, name);
    Py_XDECREF(called);
    return called == NULL ? -1 : 0;
}

/* ------------------------------------------------------------------- the condition */

/* self._cond.notify_all() */
static int
notify_all(cl_state *st, PyObject *self)
{
    PyObject *cond = PyObject_GetAttr(self, cl_sync_of(st)->str__cond);
    int done = cond == NULL ? -1 : cl_condition_notify_all(st, cond);
    if (done == 0)
        done = call(cond, cl_sync_of(st)->str_notify_all) < 0 ? -1 : 1;
    Py_XDECREF(cond);
    return done < 0 ? -1 : 0;
}

/* Begins `async with self._cond`, which stays in o_more. Returns DONE if the
 * lock is taken already. */
static cl_op_outcome
enter(SyncOpObject *op)
{
    cl_state *st = op->o_coro.c_st;
    cl_view view;
    if (!look(st, op->o_self, &view))
        return CL_OP_HAND_OVER;
    PyObject *cond = Py_NewRef(view.v_at[COND]);
    PyObject *lock = cl_condition_lock(st, cond), *inner = NULL;
    bool taken = lock != NULL && cl_lock_take(st, lock);
    if (lock != NULL && !taken)
        inner = cl_condition_enter(st, cond);
    Py_XDECREF(lock);
    if (!taken && inner == NULL) {
        Py_DECREF(cond);
        return PyErr_Occurred() ? CL_OP_FAILED : CL_OP_HAND_OVER;
    }
    Py_XSETREF(op->o_more, cond);
    return taken ? CL_OP_DONE : cl_op_await(op, inner);
}

/* Ends it, also if an exception is set, which stays. 0/-1 */
static int
leave(SyncOpObject *op)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *error = PyErr_GetRaisedException();
    int released = cl_condition_release(st, op->o_more);
    if (released == 0)
        released = call(op->o_more, cl_sync_of(st)->str_release) < 0 ? -1 : 1;
    if (error != NULL)
        cl_op_chain(error);
    return error != NULL || released < 0 ? -1 : 0;
}

/* ----------------------------------------------------------- _block() and _wait() */

/* The predicates of their wait_for(). `pair` is (module, barrier). */
static PyObject *
is_not_draining(PyObject *pair, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = PyModule_GetState(PyTuple_GET_ITEM(pair, 0));
    int found = is_in(st, PyTuple_GET_ITEM(pair, 1), CL_BARRIER_DRAINING,
                      CL_BARRIER_RESETTING);
    return found < 0 ? NULL : PyBool_FromLong(!found);
}

static PyObject *
is_not_filling(PyObject *pair, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = PyModule_GetState(PyTuple_GET_ITEM(pair, 0));
    int found = is_state(st, PyTuple_GET_ITEM(pair, 1), CL_BARRIER_FILLING);
    return found < 0 ? NULL : PyBool_FromLong(!found);
}

static PyMethodDef is_not_draining_def = {"<lambda>", is_not_draining,
                                          METH_NOARGS, NULL};
static PyMethodDef is_not_filling_def = {"<lambda>", is_not_filling,
                                         METH_NOARGS, NULL};

/* await self._cond.wait_for(predicate) */
static cl_op_outcome
wait_for(SyncOpObject *op, PyMethodDef *predicate)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *cond = PyObject_GetAttr(op->o_self, cl_sync_of(st)->str__cond);
    PyObject *pair =
        cond == NULL ? NULL : PyTuple_Pack(2, st->module, op->o_self);
    PyObject *function =
        pair == NULL ? NULL : PyCFunction_New(predicate, pair);
    PyObject *inner = NULL;
    if (function != NULL) {
        inner = cl_condition_wait_for(st, cond, function);
        if (inner == NULL && !PyErr_Occurred())
            inner = PyObject_CallMethodOneArg(
                cond, cl_sync_of(st)->str_wait_for, function);
    }
    Py_XDECREF(cond);
    Py_XDECREF(pair);
    Py_XDECREF(function);
    return cl_op_await(op, inner);
}

static inline bool
is_block(const SyncOpObject *op)
{
    const cl_op_kind *kind = (const cl_op_kind *)op->o_coro.c_ops;
    return kind->k_body == CL_BODY_BARRIER_BLOCK;
}

static cl_op_outcome
pass_begin(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    return knows(op->o_coro.c_st, op->o_self)
               ? wait_for(op, is_block(op) ? &is_not_draining_def
                                           : &is_not_filling_def)
               : CL_OP_HAND_OVER;
}

static cl_op_outcome
pass_woken(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    int is = is_block(op) ? is_state(st, op->o_self, CL_BARRIER_BROKEN)
                          : is_in(st, op->o_self, CL_BARRIER_BROKEN,
                                  CL_BARRIER_RESETTING);
    if (is > 0)
        is = broken(is_block(op) ? "Barrier aborted"
                                 : "Abort or reset of barrier");
    return is < 0 ? CL_OP_FAILED : cl_op_done(result, Py_None);
}

#define KIND(name, body, awaits, begin, woken, failed) \
    { \
        .k_ops = CL_OP_OPS("Barrier"), \
        .k_name = name, \
        .k_body = body, \
        .k_class = CL_CLASS_BARRIER, \
        .k_awaits = awaits, \
        .k_begin = begin, \
        .k_woken = woken, \
        .k_failed = failed, \
        .k_args = cl_lock_only_self, \
    }

static const cl_op_kind block_kind =
    KIND("_block", CL_BODY_BARRIER_BLOCK, inner_awaits, pass_begin, pass_woken,
         NULL);
static const cl_op_kind fill_kind =
    KIND("_wait", CL_BODY_BARRIER_WAITS, inner_awaits, pass_begin, pass_woken,
         NULL);

/* await self._block() or self._wait(); o_stage tells which. */
static cl_op_outcome
await_method(SyncOpObject *op, int stage)
{
    cl_sync *sync = cl_sync_of(op->o_coro.c_st);
    bool known = cl_sync_loop(op->o_coro.c_st) != NULL &&
                 knows(op->o_coro.c_st, op->o_self);
    op->o_stage = stage;
    return cl_op_await(
        op, known ? cl_op_new(op->o_coro.c_st,
                              stage == BLOCK ? &block_kind : &fill_kind,
                              op->o_self, NULL)
                  : PyObject_CallMethodNoArgs(
                        op->o_self,
                        stage == BLOCK ? sync->str__block : sync->str__wait));
}

/* ------------------------------------------------------------------------- wait() */

/* self._exit() */
static int
tell_of_exit(cl_state *st, PyObject *self)
{
    if (!knows(st, self))
        return call(self, cl_sync_of(st)->str__exit);
    PyObject *count = PyObject_GetAttr(self, cl_sync_of(st)->str__count);
    PyObject *zero = count == NULL ? NULL : PyLong_FromLong(0);
    int none =
        zero == NULL ? -1 : PyObject_RichCompareBool(count, zero, Py_EQ);
    Py_XDECREF(count);
    Py_XDECREF(zero);
    if (none <= 0)
        return none;
    int ends = is_in(st, self, CL_BARRIER_RESETTING, CL_BARRIER_DRAINING);
    if (ends < 0 || (ends > 0 && set_state(st, self, CL_BARRIER_FILLING) < 0))
        return -1;
    return notify_all(st, self);
}

/* The end of wait(), also if an exception is set. o_arg is the index, or NULL
 * if it was not counted. */
static cl_op_outcome
finish(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *index = op->o_arg;
    op->o_arg = NULL;
    if (index != NULL) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *before = add(st, op->o_self, -1);
        Py_XDECREF(before);
        if (before != NULL)
            (void)tell_of_exit(st, op->o_self);
        if (error != NULL)
            cl_op_chain(error);
    }
    int status = leave(op);
    if (status == 0)
        *result = Py_NewRef(index);
    Py_XDECREF(index);
    return status < 0 ? CL_OP_FAILED : CL_OP_DONE;
}

/* Between _block() and _wait(). */
static cl_op_outcome
count_in(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *self = op->o_self;
    PyObject *index = PyObject_GetAttr(self, cl_sync_of(st)->str__count);
    if (index == NULL)
        return finish(op, result);
    Py_XSETREF(op->o_arg, index);
    PyObject *before = add(st, self, 1);
    int last = before == NULL ? -1 : is_last(st, self, index);
    Py_XDECREF(before);
    if (last == 0) {
        cl_op_outcome outcome = await_method(op, FILL);
        return outcome == CL_OP_FAILED ? finish(op, result) : outcome;
    }
    if (last > 0 && knows(st, self)) {
        if (set_state(st, self, CL_BARRIER_DRAINING) == 0)
            (void)notify_all(st, self);
    }
    else if (last > 0) {
        op->o_stage = FILL;
        if (cl_op_await(op, PyObject_CallMethodNoArgs(
                                self, cl_sync_of(st)->str__release)) ==
            CL_OP_AWAIT)
            return CL_OP_AWAIT;
    }
    return finish(op, result);
}

/* Whether its condition is the one whose lock was taken, and unchanged: a
 * program may have set another one meanwhile. */
static bool
keeps_condition(SyncOpObject *op)
{
    cl_state *st = op->o_coro.c_st;
    cl_view view;
    PyObject *lock =
        look(st, op->o_self, &view) && view.v_at[COND] == op->o_more
            ? cl_condition_lock(st, op->o_more)
            : NULL;
    Py_XDECREF(lock);
    return lock != NULL;
}

/* The lock is taken. */
static cl_op_outcome
entered(SyncOpObject *op, PyObject **result)
{
    cl_op_outcome outcome = CL_OP_FAILED;
    cl_state *st = op->o_coro.c_st;
    op->o_stage = BLOCK;
    if (cl_sync_loop(st) != NULL && keeps_condition(op)) {
        int is = is_state(st, op->o_self, CL_BARRIER_FILLING);
        if (is > 0) /* _block() returns at once */
            return count_in(op, result);
        if (is == 0)
            outcome = await_method(op, BLOCK);
    }
    else {
        outcome = await_method(op, BLOCK);
    }
    return outcome == CL_OP_FAILED ? finish(op, result) : outcome;
}

static cl_op_outcome
wait_begin(SyncOpObject *op, PyObject **result)
{
    cl_op_outcome outcome = enter(op);
    return outcome == CL_OP_DONE ? entered(op, result) : outcome;
}

static cl_op_outcome
wait_woken(SyncOpObject *op, PyObject **result)
{
    return op->o_stage == ENTER   ? entered(op, result)
           : op->o_stage == BLOCK ? count_in(op, result)
                                  : finish(op, result);
}

static cl_op_outcome
wait_failed(SyncOpObject *op, PyObject **result)
{
    return op->o_stage == ENTER ? CL_OP_FAILED : finish(op, result);
}

static const cl_op_kind wait_kind =
    KIND("wait", CL_BODY_BARRIER_WAIT, wait_awaits, wait_begin, wait_woken,
         wait_failed);

/* ---------------------------------------------------------------------- async with */

/* return await self.wait() */
static cl_op_outcome
aenter_begin(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    cl_state *st = op->o_coro.c_st;
    return knows(st, op->o_self)
               ? cl_op_await(op, cl_op_new(st, &wait_kind, op->o_self, NULL))
               : CL_OP_HAND_OVER;
}

static const cl_op_kind aenter_kind =
    KIND("__aenter__", CL_BODY_BARRIER_AENTER, aenter_awaits, aenter_begin,
         cl_op_got, NULL);

static cl_op_outcome
aexit_begin(SyncOpObject *Py_UNUSED(op), PyObject **result)
{
    return cl_op_done(result, Py_None);
}

static const cl_op_kind aexit_kind =
    KIND("__aexit__", CL_BODY_BARRIER_AEXIT, NULL, aexit_begin, NULL, NULL);

/* -------------------------------------------------------------- reset() and abort() */

/* The body of the method, with the lock held. */
static int
change(cl_state *st, PyObject *self, bool aborts)
{
    int status = 0;
    if (aborts) {
        status = set_state(st, self, CL_BARRIER_BROKEN);
    }
    else {
        PyObject *count = PyObject_GetAttr(self, cl_sync_of(st)->str__count);
        PyObject *zero = count == NULL ? NULL : PyLong_FromLong(0);
        int some =
            zero == NULL ? -1 : PyObject_RichCompareBool(count, zero, Py_GT);
        Py_XDECREF(count);
        Py_XDECREF(zero);
        /* Setting RESETTING again changes nothing. */
        status = some < 0 ? -1
                          : set_state(st, self,
                                      some > 0 ? CL_BARRIER_RESETTING
                                               : CL_BARRIER_FILLING);
    }
    return status < 0 ? -1 : notify_all(st, self);
}

static cl_op_outcome
change_woken(SyncOpObject *op, PyObject **result)
{
    const cl_op_kind *kind = (const cl_op_kind *)op->o_coro.c_ops;
    (void)change(op->o_coro.c_st, op->o_self,
                 kind->k_body == CL_BODY_BARRIER_ABORT);
    return leave(op) < 0 ? CL_OP_FAILED : cl_op_done(result, Py_None);
}

static cl_op_outcome
change_begin(SyncOpObject *op, PyObject **result)
{
    cl_op_outcome outcome = enter(op);
    return outcome == CL_OP_DONE ? change_woken(op, result) : outcome;
}

static const cl_op_kind reset_kind =
    KIND("reset", CL_BODY_BARRIER_RESET, wait_awaits, change_begin,
         change_woken, NULL);
static const cl_op_kind abort_kind =
    KIND("abort", CL_BODY_BARRIER_ABORT, wait_awaits, change_begin,
         change_woken, NULL);

/* ------------------------------------------------------------------------- bodies */

static bool
is_known(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
         Py_ssize_t expected, PyObject *kwnames)
{
    return nargs == expected && kwnames == NULL && cl_sync_loop(st) != NULL &&
           cl_sync_knows(st, args[0], CL_CLASS_BARRIER);
}

#define BODY(function, body, kind, expected) \
    PyObject *function(cl_state *st, PyObject *const *args, Py_ssize_t nargs, \
                       PyObject *kwnames) \
    { \
        return is_known(st, args, nargs, expected, kwnames) \
                   ? cl_op_new(st, &kind, args[0], NULL) \
                   : cl_sync_original(st, body, args, nargs, kwnames); \
    }

BODY(cl_sync_barrier_aenter, CL_BODY_BARRIER_AENTER, aenter_kind, 1)
BODY(cl_sync_barrier_aexit, CL_BODY_BARRIER_AEXIT, aexit_kind, 4)
BODY(cl_sync_barrier_wait, CL_BODY_BARRIER_WAIT, wait_kind, 1)
BODY(cl_sync_barrier_block, CL_BODY_BARRIER_BLOCK, block_kind, 1)
BODY(cl_sync_barrier_waits, CL_BODY_BARRIER_WAITS, fill_kind, 1)
BODY(cl_sync_barrier_reset, CL_BODY_BARRIER_RESET, reset_kind, 1)
BODY(cl_sync_barrier_abort, CL_BODY_BARRIER_ABORT, abort_kind, 1)
