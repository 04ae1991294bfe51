/* sleep.c - asyncio.sleep(). */
#include "core/args.h"
#include "futures/future.h"
#include "futures/registry.h"
#include "sync/deque.h"
#include "sync/op.h"
#include "sync/sync.h"
#include "sync/timer.h"

#include <math.h>

/* ------------------------------------------------------------------------- timers */

/* futures._set_result_unless_cancelled(fut, result) */
static PyObject *
fire(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    cl_state *st = PyModule_GetState(module);
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "a future and a result, please");
        return NULL;
    }
    int cancelled = cl_waiter_cancelled(st, args[0]);
    if (cancelled == 0 && cl_waiter_finish(st, args[0], args[1]) < 0)
        cancelled = -1;
    return cancelled < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef fire_def = {"_set_result_unless_cancelled", CL_FAST(fire),
                               METH_FASTCALL, NULL};

static PyObject *
fire_of(cl_state *st)
{
    cl_sync *sync = cl_sync_of(st);
    if (sync->sy_fire == NULL)
        sync->sy_fire = PyCFunction_New(&fire_def, st->module);
    return sync->sy_fire;
}

static int
cancel_timer(SyncOpObject *op)
{
    PyObject *timer = op->o_more;
    op->o_more = NULL;
    int status = cl_timer_cancel(op->o_coro.c_st, timer);
    Py_XDECREF(timer);
    return status;
}

/* loop.call_later(delay, futures._set_result_unless_cancelled, future, result) */
static PyObject *
start_timer(SyncOpObject *op, LoopObject *loop, PyObject *future)
{
    cl_state *st = op->o_coro.c_st;
    if (cl_loop_overrides(loop, CL_OVERRIDES_TIMERS)) {
        PyObject *function =
            PyObject_GetAttr(cl_futures_of(st)->futures_module,
                             cl_sync_of(st)->str__set_result_unless_cancelled);
        PyObject *args[] = {(PyObject *)loop, op->o_self, function, future,
                            op->o_arg};
        PyObject *made =
            function == NULL
                ? NULL
                : PyObject_VectorcallMethod(cl_sync_of(st)->str_call_later,
                                            args, 5, NULL);
        Py_XDECREF(function);
        return made;
    }
    PyObject *function = fire_of(st), *args[] = {future, op->o_arg};
    return function == NULL
               ? NULL
               : cl_timer_start(loop, op->o_number, function, args, 2);
}

/* -------------------------------------------------------------------------- sleep */

/* What it awaits, by stage. */
enum { OF_FUTURE, OF_SLEEP_0 };
static const char *const sleep_awaits[] = {"future", "__sleep0"};

static cl_op_outcome
sleep_begin(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    cl_state *st = op->o_coro.c_st;
    if (!cl_sync_pinned(st, CL_PINS_SLEEP))
        return CL_OP_HAND_OVER;
    if (op->o_number <= 0) {
        op->o_stage = OF_SLEEP_0;
        op->o_coro.c_future = Py_NewRef(Py_None);
        return CL_OP_WAIT;
    }
    PyObject *running = cl_registry_running_loop(st);
    if (running == NULL)
        return PyErr_Occurred() ? CL_OP_FAILED : CL_OP_HAND_OVER;
    LoopObject *loop = cl_loop_cast(running);
    cl_op_outcome outcome = CL_OP_HAND_OVER;
    if (loop != NULL && cl_loop_is_plain(loop) &&
        cl_futures_are_ours(loop->l_st) && !loop->l_closed &&
        !cl_loop_overrides(loop, CL_OVERRIDES_CREATE_FUTURE)) {
        PyObject *future = cl_future_new(loop);
        if (future != NULL)
            op->o_more = start_timer(op, loop, future);
        outcome = op->o_more != NULL && cl_coro_wait(&op->o_coro, future) == 0
                      ? CL_OP_WAIT
                      : CL_OP_FAILED;
        Py_XDECREF(future);
    }
    Py_DECREF(running);
    return outcome;
}

static cl_op_outcome
sleep_woken(SyncOpObject *op, PyObject **result)
{
    PyObject *future = op->o_coro.c_future;
    if (future == Py_None)
        return cl_op_done(result, op->o_arg);
    *result = Py_NewRef(((FutureObject *)future)->f_result);
    if (cancel_timer(op) == 0)
        return CL_OP_DONE;
    Py_CLEAR(*result);
    return CL_OP_FAILED;
}

static cl_op_outcome
sleep_failed(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    PyObject *error = PyErr_GetRaisedException();
    (void)cancel_timer(op);
    cl_op_chain(error);
    return CL_OP_FAILED;
}

static PyObject *
sleep_args(const SyncOpObject *op)
{
    return Py_BuildValue("NO", Py_NewRef(op->o_self), op->o_arg);
}

static const cl_op_kind sleeping = {
    .k_ops = CL_OP_OPS(NULL),
    .k_name = "sleep",
    .k_body = CL_BODY_SLEEP,
    .k_class = CL_OP_OF_TASKS,
    .k_awaits = sleep_awaits,
    .k_begin = sleep_begin,
    .k_woken = sleep_woken,
    .k_failed = sleep_failed,
    .k_args = sleep_args, /* o_self is the delay, as given */
};

PyObject *
cl_sync_sleep(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject *result = nargs + named == 2 ? args[1] : Py_None;
    double delay = NAN;
    bool known = named == 0 ? nargs == 1 || nargs == 2
                            : nargs == 1 && named == 1 &&
                                  cl_is_keyword(PyTuple_GET_ITEM(kwnames, 0),
                                                cl_sync_of(st)->str_result);
    if (known && cl_sync_may_begin(st)) {
        if (PyFloat_CheckExact(args[0]))
            delay = PyFloat_AS_DOUBLE(args[0]);
        else if (PyLong_CheckExact(args[0]))
            delay = PyLong_AsDouble(args[0]);
        if (delay == -1.0)
            PyErr_Clear(); /* asyncio handles a number that is too large */
    }
    if (isnan(delay) || delay == -1.0)
        return cl_sync_original(st, CL_BODY_SLEEP, args, nargs, kwnames);
    SyncOpObject *op =
        (SyncOpObject *)cl_op_new(st, &sleeping, args[0], result);
    if (op != NULL)
        op->o_number = delay;
    return (PyObject *)op;
}
