/* wait.c - asyncio.wait(), of futures that are all ours and of the running
 * loop. */
#include "sync/wait.h"

#include "core/args.h"
#include "futures/registry.h"
#include "sync/callback.h"
#include "sync/child.h"
#include "sync/deque.h"
#include "sync/op.h"
#include "sync/timer.h"

/* The versions of the text: up to 3.13; with awaiters, 3.14. */
enum { FIRST = 1, WITH_AWAITED_BY };

enum { UNTIL_ALL, UNTIL_FIRST, UNTIL_EXCEPTION };

/* ------------------------------------------------------------- _release_waiter() */

int
cl_release_waiter(cl_state *st, PyObject *waiter)
{
    int done = cl_waiter_done(st, waiter);
    return done != 0 ? (done < 0 ? -1 : 0)
                     : cl_waiter_finish(st, waiter, Py_None);
}

PyObject *
cl_sync_release_waiter(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    if (nargs == 0 || kwnames != NULL || cl_sync_loop(st) == NULL ||
        !cl_future_is_plain(st, args[0]))
        return cl_sync_original(st, CL_BODY_RELEASE_WAITER, args, nargs,
                                kwnames);
    PyObject *waiter = Py_NewRef(args[0]);
    int status = cl_release_waiter(st, waiter);
    Py_DECREF(waiter);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
cl_release_waiter_later(cl_state *st, LoopObject *loop, double delay,
                        PyObject *waiter)
{
    return cl_timer_start(
        loop, delay, cl_sync_function(st, CL_BODY_RELEASE_WAITER), &waiter, 1);
}

/* ------------------------------------------------------------------ a child is done */

/* Whether the child, which is not the last, ends the wait: 1, 0, -1. */
static int
ends_wait(SyncCallbackObject *callback, PyObject *child)
{
    cl_state *st = callback->cb_st;
    if (callback->cb_option != UNTIL_EXCEPTION)
        return callback->cb_option == UNTIL_FIRST;
    int cancelled = cl_child_cancelled(st, child);
    if (cancelled != 0)
        return cancelled < 0 ? -1 : 0;
    PyObject *exception = cl_child_exception(st, child);
    int failed = exception == NULL ? -1 : exception != Py_None;
    Py_XDECREF(exception);
    return failed;
}

/* _on_completion(f): cb_first is the waiter, cb_second the timer, cb_third the
 * task; cb_count children are pending. */
static int
on_completion(SyncCallbackObject *callback, PyObject *const *args)
{
    cl_state *st = callback->cb_st;
    int ends = --callback->cb_count <= 0 ? 1 : ends_wait(callback, args[0]);
    if (ends < 0)
        return -1;
    if (ends > 0) {
        PyObject *waiter = Py_NewRef(callback->cb_first);
        int status = cl_timer_cancel(st, callback->cb_second);
        if (status == 0)
            status = cl_release_waiter(st, waiter);
        Py_DECREF(waiter);
        if (status < 0)
            return -1;
    }
    return cl_child_forget_awaited_by(st, args[0], callback->cb_third);
}

static const cl_callback_kind completion = {
    .k_name = "_on_completion",
    .k_qualname = "_wait.<locals>._on_completion",
    .k_closure = CL_CLOSURE_WAIT,
    .k_nargs = 1,
    .k_call = on_completion,
};

/* ---------------------------------------------------------------------------- wait() */

/* Calls visit(callback, child) for each child. 0/-1 */
static int
each_child(SyncOpObject *op,
           int (*visit)(SyncCallbackObject *callback, PyObject *child))
{
    SyncCallbackObject *callback = (SyncCallbackObject *)op->o_more;
    PyObject *iter = PyObject_GetIter(op->o_self), *child;
    int status = iter == NULL ? -1 : 0;
    while (status == 0 && (child = PyIter_Next(iter)) != NULL) {
        status = visit(callback, child);
        Py_DECREF(child);
    }
    Py_XDECREF(iter);
    return PyErr_Occurred() ? -1 : status;
}

static int
watch(SyncCallbackObject *callback, PyObject *child)
{
    cl_state *st = callback->cb_st;
    return cl_child_add_callback(st, child, (PyObject *)callback) < 0
               ? -1
               : cl_child_note_awaited_by(st, child, callback->cb_third);
}

static int
unwatch(SyncCallbackObject *callback, PyObject *child)
{
    cl_state *st = callback->cb_st;
    return cl_child_remove_callback(st, child, (PyObject *)callback) < 0
               ? -1
               : cl_child_forget_awaited_by(st, child, callback->cb_third);
}

/* set(fs), if `fs` is of a type that runs no Python; NULL if not, with an
 * exception only on error. */
static PyObject *
as_set(PyObject *fs)
{
    if (PyAnySet_CheckExact(fs)  ? PySet_GET_SIZE(fs) == 0
        : PyList_CheckExact(fs)  ? PyList_GET_SIZE(fs) == 0
        : PyTuple_CheckExact(fs) ? PyTuple_GET_SIZE(fs) == 0
                                 : true)
        return NULL;
    return PySet_New(fs);
}

static cl_op_outcome
wait_begin(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    cl_state *st = op->o_coro.c_st;
    cl_op_outcome outcome = CL_OP_FAILED;
    PyObject *waiter = NULL, *timer = NULL, *task = NULL;
    LoopObject *loop =
        cl_sync_pinned(st, CL_PINS_WAIT)
            ? cl_sync_running_loop(st, CL_OVERRIDES_CREATE_FUTURE |
                                           CL_OVERRIDES_TIMERS)
            : NULL;
    PyObject *set = loop == NULL ? NULL : as_set(op->o_self);
    int ours = set == NULL ? 0 : cl_children_are_ours(st, set, loop);
    if (cl_sync_of(st)->sy_variants[CL_VARIANT_WAIT] >= WITH_AWAITED_BY &&
        ours > 0 && (task = cl_registry_current_task(st, loop)) == NULL)
        ours = 0;
    if (ours == 0 && !PyErr_Occurred()) {
        if (set != NULL) /* the program's items are not hashed again */
            Py_SETREF(op->o_self, set);
        return CL_OP_HAND_OVER;
    }
    Py_XINCREF(task);
    if (PyErr_Occurred() || (waiter = cl_future_new(loop)) == NULL ||
        (op->o_arg != NULL && (timer = cl_release_waiter_later(
                                   st, loop, op->o_number, waiter)) == NULL))
        goto done;
    SyncCallbackObject *callback =
        cl_callback_new(st, &completion, waiter, timer, task);
    if (callback == NULL)
        goto done;
    callback->cb_count = PySet_GET_SIZE(set);
    callback->cb_option = op->o_stage;
    Py_XSETREF(op->o_more, (PyObject *)callback);
    Py_SETREF(op->o_self, Py_NewRef(set));
    if (each_child(op, watch) == 0 && cl_coro_wait(&op->o_coro, waiter) == 0)
        outcome = CL_OP_WAIT;
done:
    Py_XDECREF(set);
    Py_XDECREF(waiter);
    Py_XDECREF(timer);
    Py_XDECREF(task);
    return outcome;
}

/* The finally block. 0/-1 */
static int
stop_waiting(SyncOpObject *op)
{
    SyncCallbackObject *callback = (SyncCallbackObject *)op->o_more;
    return cl_timer_cancel(op->o_coro.c_st, callback->cb_second) < 0
               ? -1
               : each_child(op, unwatch);
}

static cl_op_outcome
wait_woken(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *done, *pending = NULL, *iter = NULL, *child;
    if (stop_waiting(op) < 0)
        return CL_OP_FAILED;
    if ((done = PySet_New(NULL)) != NULL &&
        (pending = PySet_New(NULL)) != NULL)
        iter = PyObject_GetIter(op->o_self);
    int status = iter == NULL ? -1 : 0;
    while (status == 0 && (child = PyIter_Next(iter)) != NULL) {
        int is_done = cl_child_done(st, child);
        status = is_done < 0 ? -1 : PySet_Add(is_done ? done : pending, child);
        Py_DECREF(child);
    }
    if (status == 0 && !PyErr_Occurred())
        *result = PyTuple_Pack(2, done, pending);
    Py_XDECREF(iter);
    Py_XDECREF(done);
    Py_XDECREF(pending);
    return *result == NULL ? CL_OP_FAILED : CL_OP_DONE;
}

static cl_op_outcome
wait_failed(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    PyObject *error = PyErr_GetRaisedException();
    (void)stop_waiting(op);
    cl_op_chain(error);
    return CL_OP_FAILED;
}

static PyObject *
return_when(const SyncOpObject *op)
{
    cl_sync *sync = cl_sync_of(op->o_coro.c_st);
    return op->o_stage == UNTIL_ALL     ? sync->str_ALL_COMPLETED
           : op->o_stage == UNTIL_FIRST ? sync->str_FIRST_COMPLETED
                                        : sync->str_FIRST_EXCEPTION;
}

static PyObject *
wait_args(const SyncOpObject *op)
{
    return PyTuple_Pack(1, op->o_self);
}

static PyObject *wait_original(SyncOpObject *op);

static const cl_op_kind waiting = {
    .k_ops = CL_OP_OPS(NULL),
    .k_name = "wait",
    .k_body = CL_BODY_WAIT,
    .k_class = CL_OP_OF_TASKS,
    .k_begin = wait_begin,
    .k_woken = wait_woken,
    .k_failed = wait_failed,
    .k_args = wait_args,
    .k_original = wait_original,
};

/* The options are keywords. */
static PyObject *
wait_original(SyncOpObject *op)
{
    cl_sync *sync = cl_sync_of(op->o_coro.c_st);
    PyObject *args[] = {op->o_self, op->o_arg == NULL ? Py_None : op->o_arg,
                        return_when(op)};
    return cl_sync_original(op->o_coro.c_st, CL_BODY_WAIT, args, 1,
                            sync->kwnames_timeout_return_when);
}

/* Which of the three it is; -1 for anything else. */
static int
until(cl_state *st, PyObject *option)
{
    cl_sync *sync = cl_sync_of(st);
    if (option == sync->str_ALL_COMPLETED)
        return UNTIL_ALL;
    if (option == sync->str_FIRST_COMPLETED)
        return UNTIL_FIRST;
    if (option == sync->str_FIRST_EXCEPTION)
        return UNTIL_EXCEPTION;
    if (!PyUnicode_CheckExact(option))
        return -1;
    return PyUnicode_Compare(option, sync->str_ALL_COMPLETED) == 0 ? UNTIL_ALL
           : PyUnicode_Compare(option, sync->str_FIRST_COMPLETED) == 0
               ? UNTIL_FIRST
           : PyUnicode_Compare(option, sync->str_FIRST_EXCEPTION) == 0
               ? UNTIL_EXCEPTION
               : -1;
}

PyObject *
cl_sync_wait(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    cl_sync *sync = cl_sync_of(st);
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject *timeout = Py_None;
    int option = UNTIL_ALL;
    double delay = 0.0;
    bool known = nargs == 1 && cl_sync_loop(st) != NULL;
    for (Py_ssize_t i = 0; known && i < named; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i), *value = args[nargs + i];
        if (cl_is_keyword(key, sync->str_timeout)) {
            timeout = value;
            known = timeout == Py_None || cl_timer_delay(timeout, &delay);
        }
        else if (cl_is_keyword(key, sync->str_return_when))
            known = (option = until(st, value)) >= 0;
        else
            known = false;
    }
    if (!known || delay != delay)
        return cl_sync_original(st, CL_BODY_WAIT, args, nargs, kwnames);
    SyncOpObject *op = (SyncOpObject *)cl_op_new(
        st, &waiting, args[0], timeout == Py_None ? NULL : timeout);
    if (op != NULL) {
        op->o_stage = option;
        op->o_number = delay;
    }
    return (PyObject *)op;
}
