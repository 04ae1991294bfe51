/* wait_for.c - asyncio.wait_for(), with a timeout that is not due at once.
 *
 * Up to 3.11 it waits for a task and a timer; since 3.12 it awaits its
 * argument within a timeout(). */
#include "core/args.h"
#include "core/errors.h"
#include "futures/iter.h"
#include "sync/callback.h"
#include "sync/child.h"
#include "sync/op.h"
#include "sync/timeouts.h"
#include "sync/timer.h"
#include "sync/wait.h"

/* The versions of the text: 3.8; with the result of what ends while it is
 * cancelled, 3.9; with timeout(), 3.12. */
enum { FIRST = 1, WITH_LATE_RESULT, WITH_TIMEOUT };

static inline int
variant(const cl_state *st)
{
    return cl_sync_of(st)->sy_variants[CL_VARIANT_WAIT_FOR];
}

static PyObject *
wait_for_args(const SyncOpObject *op)
{
    return PyTuple_Pack(2, op->o_self,
                        op->o_arg == NULL ? Py_None : op->o_arg);
}

/* ------------------------------------------------------------------------ with a timer */

/* What it waits for, in o_stage. */
enum { OF_FUTURE, OF_TIMED_OUT, OF_CANCELLED };

static int
release(SyncCallbackObject *callback, PyObject *const *Py_UNUSED(args))
{
    PyObject *waiter = Py_NewRef(callback->cb_first);
    int status = cl_release_waiter(callback->cb_st, waiter);
    Py_DECREF(waiter);
    return status;
}

static const cl_callback_kind releaser = {
    "_release_waiter", NULL, CL_CLOSURE_RELEASE_WAITER, -1, release};

/* functools.partial(_release_waiter, waiter), to be added to the future in o_self;
 * it becomes o_last. 0/-1 */
static int
expect(SyncOpObject *op, PyObject *waiter)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *partial =
        (PyObject *)cl_callback_new(st, &releaser, waiter, NULL, NULL);
    if (partial == NULL)
        return -1;
    Py_XSETREF(op->o_last, partial);
    return 0;
}

static int
add(SyncOpObject *op)
{
    return cl_child_add_callback(op->o_coro.c_st, op->o_self, op->o_last);
}

static int
forget(SyncOpObject *op)
{
    return cl_child_remove_callback(op->o_coro.c_st, op->o_self, op->o_last);
}

/* timeout_handle.cancel(), of the outer finally block; takes the exception
 * that is set, or the result. */
static cl_op_outcome
finish(SyncOpObject *op, PyObject **result)
{
    PyObject *error = *result == NULL ? PyErr_GetRaisedException() : NULL;
    int status = cl_timer_cancel(op->o_coro.c_st, op->o_more);
    if (error != NULL)
        cl_op_chain(error);
    else if (status < 0)
        Py_CLEAR(*result);
    return *result == NULL ? CL_OP_FAILED : CL_OP_DONE;
}

/* fut.remove_done_callback(cb), then the first half of _cancel_and_wait(fut). */
static cl_op_outcome
cancel_and_wait(SyncOpObject *op, int stage)
{
    cl_state *st = op->o_coro.c_st;
    if (forget(op) < 0)
        return CL_OP_FAILED;
    PyObject *loop = Py_XNewRef(((FutureObject *)op->o_coro.c_future)->f_loop);
    PyObject *waiter = loop == NULL ? NULL : cl_future_create(st, loop);
    if (loop == NULL)
        PyErr_SetString(PyExc_RuntimeError, "the loop is gone");
    Py_XDECREF(loop);
    if (waiter == NULL)
        return CL_OP_FAILED;
    int status = expect(op, waiter);
    if (status == 0 && (status = add(op)) == 0) {
        op->o_stage = stage;
        status = cl_child_cancel(st, op->o_self);
        if (status == 0)
            status = cl_coro_wait(&op->o_coro, waiter);
        if (status < 0) {
            PyObject *error = PyErr_GetRaisedException();
            (void)forget(op);
            cl_op_chain(error);
        }
    }
    Py_DECREF(waiter);
    return status < 0 ? CL_OP_FAILED : CL_OP_WAIT;
}

static cl_op_outcome
timer_begin(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    cl_state *st = op->o_coro.c_st;
    cl_op_outcome outcome = CL_OP_FAILED;
    LoopObject *loop =
        cl_sync_pinned(st, CL_PINS_WAIT_FOR)
            ? cl_sync_running_loop(st, CL_OVERRIDES_CREATE_FUTURE |
                                           CL_OVERRIDES_CREATE_TASK |
                                           CL_OVERRIDES_TIMERS)
            : NULL;
    if (loop == NULL)
        return PyErr_Occurred() ? CL_OP_FAILED : CL_OP_HAND_OVER;
    Py_INCREF(loop); /* ensure_future() may run Python code */
    PyObject *waiter = cl_future_new(loop), *future = NULL;
    if (waiter != NULL)
        op->o_more = cl_release_waiter_later(st, loop, op->o_number, waiter);
    if (op->o_more != NULL && expect(op, waiter) == 0)
        future = cl_child_ensure(st, cl_sync_of(st)->str_ensure_future, loop,
                                 (PyObject *)loop, op->o_self);
    if (future != NULL) {
        Py_SETREF(op->o_self, future);
        if (add(op) == 0 && cl_coro_wait(&op->o_coro, waiter) == 0)
            outcome = CL_OP_WAIT;
    }
    Py_XDECREF(waiter);
    Py_DECREF(loop);
    return outcome;
}

/* return fut.result() */
static cl_op_outcome
take_result(SyncOpObject *op, PyObject **result)
{
    *result = cl_child_result(op->o_coro.c_st, op->o_self);
    return *result == NULL ? CL_OP_FAILED : CL_OP_DONE;
}

/* What comes after the time has run out, and the future is done:
 * raise TimeoutError() [from exc] */
static cl_op_outcome
time_out(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *cause, *error;
    if (variant(st) < WITH_LATE_RESULT) {
        PyErr_SetNone(cl_sync_of(st)->TimeoutError);
        return CL_OP_FAILED;
    }
    cl_op_outcome outcome = take_result(op, result);
    if (outcome == CL_OP_DONE ||
        !PyErr_ExceptionMatches(cl_futures_of(st)->CancelledError))
        return outcome;
    cause = PyErr_GetRaisedException();
    error = PyObject_CallNoArgs(cl_sync_of(st)->TimeoutError);
    if (error == NULL) {
        cl_op_chain(cause);
        return CL_OP_FAILED;
    }
    PyException_SetCause(error, Py_NewRef(cause));
    PyException_SetContext(error, cause);
    PyErr_SetRaisedException(error);
    return CL_OP_FAILED;
}

static cl_op_outcome
timer_woken(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    cl_op_outcome outcome = CL_OP_FAILED;
    if (op->o_stage == OF_FUTURE) {
        int done = cl_child_done(st, op->o_self);
        if (done == 0)
            outcome = cancel_and_wait(op, OF_TIMED_OUT);
        else if (done > 0)
            outcome = take_result(op, result);
        if (outcome == CL_OP_WAIT)
            return outcome;
    }
    else if (forget(op) < 0) { /* the end of _cancel_and_wait() */
        if (op->o_stage == OF_CANCELLED)
            cl_op_chain(Py_NewRef(op->o_arg));
    }
    else if (op->o_stage == OF_TIMED_OUT)
        outcome = time_out(op, result);
    else
        PyErr_SetRaisedException(Py_NewRef(op->o_arg)); /* raise */
    return finish(op, result);
}

static cl_op_outcome
timer_failed(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    cl_op_outcome outcome = CL_OP_FAILED;
    PyObject *error = PyErr_GetRaisedException();
    if (op->o_stage != OF_FUTURE) {
        (void)forget(op); /* the end of _cancel_and_wait() */
        cl_op_chain(error);
        cl_op_chain_handled(op);
        return finish(op, result);
    }
    if (!PyErr_GivenExceptionMatches(error,
                                     cl_futures_of(st)->CancelledError)) {
        PyErr_SetRaisedException(error);
        return finish(op, result);
    }
    /* What is raised now gets `error` as its context. */
    PyObject *before = cl_swap_handled(Py_NewRef(error));
    int done = cl_child_done(st, op->o_self);
    if (done > 0)
        outcome = take_result(op, result);
    else if (done == 0)
        outcome = cancel_and_wait(op, OF_CANCELLED);
    Py_XDECREF(cl_swap_handled(before));
    if (outcome == CL_OP_WAIT) {
        /* Raised again afterwards. The timeout is no longer needed. */
        Py_XSETREF(op->o_arg, error);
        return outcome;
    }
    if (outcome == CL_OP_DONE)
        Py_DECREF(error);
    else
        cl_op_chain(error);
    return finish(op, result);
}

/* --------------------------------------------------------------------- with timeout() */

/* Returns what `await object` steps, a new reference; NULL without an
 * exception if that is up to asyncio. Runs no Python. */
static PyObject *
awaited(cl_state *st, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyTypeObject *future = (PyTypeObject *)cl_futures_of(st)->asyncio_Future;
    if (PyCoro_CheckExact(object)) {
        PyObject *other =
            PyObject_GetAttr(object, cl_sync_of(st)->str_cr_await);
        bool idle = other == Py_None; /* nobody else awaits it */
        Py_XDECREF(other);
        return idle ? Py_NewRef(object) : NULL;
    }
    if (cl_coro_check(object))
        return ((CoroObject *)object)->c_state == CL_CORO_WAITING
                   ? NULL
                   : Py_NewRef(object);
    if (cl_future_is_ours(st, object))
        return ((FutureObject *)object)->f_loop == NULL
                   ? NULL
                   : cl_future_iter(object);
    /* asyncio's own future, or of a class that does not override __await__(). */
    return PyType_IsSubtype(type, future) && type->tp_as_async != NULL &&
                   type->tp_as_async->am_await ==
                       future->tp_as_async->am_await &&
                   ((FutureObject *)object)->f_loop != NULL
               ? type->tp_as_async->am_await(object)
               : NULL;
}

static cl_op_outcome
timeout_begin(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    cl_state *st = op->o_coro.c_st;
    PyObject *inner =
        cl_sync_pinned(st, CL_PINS_WAIT_FOR) ? awaited(st, op->o_self) : NULL;
    if (inner != NULL)
        op->o_more =
            cl_timeout_entered(st, op->o_arg == NULL ? Py_None : op->o_arg);
    if (op->o_more == NULL) {
        Py_XDECREF(inner);
        return PyErr_Occurred() ? CL_OP_FAILED : CL_OP_HAND_OVER;
    }
    return cl_op_await_iter(op, inner);
}

/* await timeout.__aexit__(...), as asyncio has it; `error` is being handled.
 * Returns 0 to go on, 1 if that is to be forgotten, -1 with an exception. */
static int
leave_as_asyncio(cl_state *st, PyObject *timeout, PyObject *error)
{
    PyObject *traceback =
        error == NULL ? NULL : PyException_GetTraceback(error);
    PyObject *args[] = {timeout,
                        error == NULL ? Py_None : (PyObject *)Py_TYPE(error),
                        error == NULL ? Py_None : error,
                        traceback == NULL ? Py_None : traceback};
    PyObject *before = NULL, *coro, *value = NULL;
    int forgotten = -1;
    if (error != NULL)
        before = cl_swap_handled(Py_NewRef(error));
    coro = PyObject_VectorcallMethod(cl_sync_of(st)->str___aexit__, args, 4,
                                     NULL);
    if (coro != NULL) {
        PySendResult status = cl_iter_send(coro, &value);
        if (status == PYGEN_RETURN)
            forgotten = PyObject_IsTrue(value);
        else if (status == PYGEN_NEXT)
            PyErr_SetString(PyExc_RuntimeError, "__aexit__() awaits");
    }
    if (error != NULL)
        Py_XDECREF(cl_swap_handled(before));
    Py_XDECREF(traceback);
    Py_XDECREF(coro);
    Py_XDECREF(value);
    return forgotten;
}

/* What it awaits has ended, with *result, or with the exception that is set. */
static cl_op_outcome
leave(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *error = *result == NULL ? PyErr_GetRaisedException() : NULL;
    int left = cl_timeout_leave(st, op->o_more), forgotten = 0;
    if (left == 0)
        left = forgotten = leave_as_asyncio(st, op->o_more, error);
    if (left < 0) {
        Py_CLEAR(*result);
        if (error != NULL)
            cl_op_chain(error);
        return CL_OP_FAILED;
    }
    if (error == NULL)
        return CL_OP_DONE;
    if (forgotten) {
        Py_DECREF(error);
        return cl_op_done(result, Py_None);
    }
    PyErr_SetRaisedException(error);
    return CL_OP_FAILED;
}

static cl_op_outcome
timeout_woken(SyncOpObject *op, PyObject **result)
{
    (void)cl_op_got(op, result);
    return leave(op, result);
}

/* -------------------------------------------------------------------------- wait_for() */

/* The cancellation, while it waits for what it has cancelled. */
static PyObject *
timer_handles(const SyncOpObject *op)
{
    return op->o_stage == OF_CANCELLED ? op->o_arg : NULL;
}

#define KIND(begin, woken, failed, handles) \
    { \
        .k_ops = CL_OP_OPS(NULL), \
        .k_name = "wait_for", \
        .k_body = CL_BODY_WAIT_FOR, \
        .k_class = CL_OP_OF_TASKS, \
        .k_begin = begin, \
        .k_woken = woken, \
        .k_failed = failed, \
        .k_args = wait_for_args, \
        .k_handles = handles, \
    }

static const cl_op_kind with_timer = KIND(timer_begin, timer_woken,
                                          timer_failed, timer_handles),
                        with_timeout =
                            KIND(timeout_begin, timeout_woken, leave, NULL);

PyObject *
cl_sync_wait_for(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    double delay = 0.0;
    bool known = cl_sync_loop(st) != NULL && nargs + named == 2 &&
                 (named == 0 ||
                  (named == 1 && cl_is_keyword(PyTuple_GET_ITEM(kwnames, 0),
                                               cl_sync_of(st)->str_timeout)));
    if (known && args[1] == Py_None)
        known = variant(st) >= WITH_TIMEOUT;
    else if (known)
        known = cl_timer_delay(args[1], &delay) && delay > 0;
    if (!known)
        return cl_sync_original(st, CL_BODY_WAIT_FOR, args, nargs, kwnames);
    SyncOpObject *op = (SyncOpObject *)cl_op_new(
        st, variant(st) >= WITH_TIMEOUT ? &with_timeout : &with_timer, args[0],
        args[1]);
    if (op != NULL)
        op->o_number = delay;
    return (PyObject *)op;
}
