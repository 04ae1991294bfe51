/* threads.c - asyncio.to_thread() and run_coroutine_threadsafe(). */
#include "core/args.h"
#include "core/errors.h"
#include "futures/registry.h"
#include "sync/callback.h"
#include "sync/child.h"
#include "sync/deque.h"
#include "sync/op.h"

#include <string.h>

/* ----------------------------------------------------------------------- to_thread() */

/* loop.run_in_executor(None, functools.partial(ctx.run, func, *args, **kwargs)).
 * o_arg has func and all arguments, o_more the names of the last ones. */
static PyObject *
start_in_executor(SyncOpObject *op, LoopObject *loop)
{
    cl_state *st = op->o_coro.c_st;
    Py_ssize_t count = PyTuple_GET_SIZE(op->o_arg);
    Py_ssize_t named = op->o_more == NULL ? 0 : PyTuple_GET_SIZE(op->o_more);
    PyObject **all = PyMem_New(PyObject *, (size_t)count + 1), *future = NULL;
    PyObject *context = PyContext_CopyCurrent(), *call = NULL;
    PyObject *run =
        context == NULL ? NULL : PyObject_GetAttr(context, st->str_run);
    if (all == NULL) {
        PyErr_NoMemory();
    }
    else if (run != NULL) {
        all[0] = run;
        memcpy(all + 1, ((PyTupleObject *)op->o_arg)->ob_item,
               (size_t)count * sizeof(*all));
        call = PyObject_Vectorcall(cl_sync_of(st)->partial, all,
                                   (size_t)(count + 1 - named), op->o_more);
    }
    if (call != NULL) {
        PyObject *args[] = {(PyObject *)loop, Py_None, call};
        future = PyObject_VectorcallMethod(cl_sync_of(st)->str_run_in_executor,
                                           args, 3, NULL);
    }
    PyMem_Free(all);
    Py_XDECREF(context);
    Py_XDECREF(run);
    Py_XDECREF(call);
    return future;
}

static cl_op_outcome
to_thread_begin(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    cl_state *st = op->o_coro.c_st;
    LoopObject *loop = cl_sync_pinned(st, CL_PINS_TO_THREAD)
                           ? cl_sync_running_loop(st, 0)
                           : NULL;
    if (loop == NULL)
        return PyErr_Occurred() ? CL_OP_FAILED : CL_OP_HAND_OVER;
    return cl_op_await(op, start_in_executor(op, loop));
}

static PyObject *
to_thread_args(const SyncOpObject *op)
{
    return PyTuple_GetSlice(op->o_arg, 0, 1);
}

static PyObject *
to_thread_original(SyncOpObject *op)
{
    Py_ssize_t named = op->o_more == NULL ? 0 : PyTuple_GET_SIZE(op->o_more);
    return cl_sync_original(op->o_coro.c_st, CL_BODY_TO_THREAD,
                            ((PyTupleObject *)op->o_arg)->ob_item,
                            PyTuple_GET_SIZE(op->o_arg) - named, op->o_more);
}

static const char *const to_thread_awaits[] = {"run_in_executor"};

static const cl_op_kind to_thread = {
    .k_ops = CL_OP_OPS(NULL),
    .k_name = "to_thread",
    .k_body = CL_BODY_TO_THREAD,
    .k_class = CL_OP_OF_ASYNCIO,
    .k_awaits = to_thread_awaits,
    .k_begin = to_thread_begin,
    .k_woken = cl_op_got,
    .k_args = to_thread_args,
    .k_original = to_thread_original,
};

PyObject *
cl_sync_to_thread(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    Py_ssize_t count =
        nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    if (nargs == 0 || cl_sync_loop(st) == NULL)
        return cl_sync_original(st, CL_BODY_TO_THREAD, args, nargs, kwnames);
    PyObject *all = PyTuple_New(count);
    if (all == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SET_ITEM(all, i, Py_NewRef(args[i]));
    SyncOpObject *op = (SyncOpObject *)cl_op_new(st, &to_thread, NULL, all);
    Py_DECREF(all);
    if (op != NULL && count > nargs)
        op->o_more = Py_NewRef(kwnames);
    return (PyObject *)op;
}

/* ------------------------------------------------------- _chain_future(), to a thread */

/* The versions of the text: up to 3.13; with a look at which loop is running,
 * 3.14. */
enum { FIRST = 1, ASKS_RUNNING_LOOP };

static int
call_method(PyObject *object, PyObject *name, PyObject *arg)
{
    PyObject *result = arg == NULL
                           ? PyObject_CallMethodNoArgs(object, name)
                           : PyObject_CallMethodOneArg(object, name, arg);
    int truth = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return truth;
}

/* _call_check_cancel(destination), in any thread: cb_first is the source,
 * cb_second its loop. */
static int
check_cancel(SyncCallbackObject *callback, PyObject *const *args)
{
    cl_state *st = callback->cb_st;
    cl_sync *sync = cl_sync_of(st);
    int cancelled = call_method(args[0], sync->str_cancelled, NULL);
    if (cancelled <= 0 || callback->cb_second == NULL)
        return cancelled < 0 ? -1 : 0;
    PyObject *source = Py_NewRef(callback->cb_first),
             *loop = Py_NewRef(callback->cb_second), *running = NULL;
    int status = 0;
    if (sync->sy_variants[CL_VARIANT_CHAIN] >= ASKS_RUNNING_LOOP &&
        (running = cl_registry_running_loop(st)) == NULL && PyErr_Occurred())
        status = -1;
    else if (running == loop) {
        status = cl_child_cancel(st, source);
    }
    else {
        PyObject *cancel = PyObject_GetAttr(source, sync->str_cancel);
        status =
            cancel == NULL
                ? -1
                : call_method(loop, sync->str_call_soon_threadsafe, cancel);
        Py_XDECREF(cancel);
    }
    Py_XDECREF(running);
    Py_DECREF(source);
    Py_DECREF(loop);
    return status < 0 ? -1 : 0;
}

/* concurrent.set_exception(_convert_future_exc(exception)) */
static int
set_exception(cl_state *st, PyObject *destination, PyObject *exception)
{
    PyObject *converted = cl_call_module(
        cl_futures_of(st)->futures_module,
        cl_sync_of(st)->str__convert_future_exc, &exception, 1, NULL);
    int status =
        converted == NULL
            ? -1
            : call_method(destination, cl_sync_of(st)->str_set_exception,
                          converted);
    Py_XDECREF(converted);
    return status;
}

/* _set_concurrent_future_state(destination, source) */
static int
copy_state(cl_state *st, PyObject *destination, PyObject *source)
{
    cl_sync *sync = cl_sync_of(st);
    int status = cl_child_cancelled(st, source);
    if (status > 0)
        status = call_method(destination, sync->str_cancel, NULL);
    if (status < 0)
        return -1;
    status =
        call_method(destination, sync->str_set_running_or_notify_cancel, NULL);
    if (status <= 0)
        return status;
    PyObject *exception = cl_child_exception(st, source), *value = NULL;
    if (exception == NULL)
        return -1;
    if (exception != Py_None)
        status = set_exception(st, destination, exception);
    else if ((value = cl_child_result(st, source)) == NULL)
        status = -1;
    else
        status = call_method(destination, sync->str_set_result, value);
    Py_DECREF(exception);
    Py_XDECREF(value);
    return status;
}

/* _call_set_state(source): cb_first is the destination. */
static int
call_set_state(SyncCallbackObject *callback, PyObject *const *args)
{
    PyObject *destination = Py_NewRef(callback->cb_first);
    int status = copy_state(callback->cb_st, destination, args[0]);
    Py_DECREF(destination);
    return status < 0 ? -1 : 0;
}

static const cl_callback_kind
    on_destination = {"_call_check_cancel",
                      "_chain_future.<locals>._call_check_cancel",
                      CL_CLOSURE_CHECK_CANCEL, 1, check_cancel},
    on_source = {"_call_set_state", "_chain_future.<locals>._call_set_state",
                 CL_CLOSURE_SET_STATE, 1, call_set_state};

/* futures._chain_future(source, destination) */
static int
chain(cl_state *st, PyObject *source, PyObject *destination)
{
    cl_futures *futures = cl_futures_of(st);
    PyObject *args[] = {source, destination}, *result;
    SyncCallbackObject *check, *set = NULL;
    int status = -1;
    if (!cl_future_is_ours(st, source) ||
        ((FutureObject *)source)->f_loop == NULL) {
        result =
            cl_call_module(futures->futures_module,
                           cl_sync_of(st)->str__chain_future, args, 2, NULL);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    check = cl_callback_new(st, &on_destination, source,
                            ((FutureObject *)source)->f_loop, NULL);
    if (check != NULL &&
        (set = cl_callback_new(st, &on_source, destination, NULL, NULL)) !=
            NULL &&
        call_method(destination, cl_sync_of(st)->str_add_done_callback,
                    (PyObject *)check) >= 0)
        status = cl_child_add_callback(st, source, (PyObject *)set);
    Py_XDECREF(check);
    Py_XDECREF(set);
    return status;
}

/* ------------------------------------------------------ run_coroutine_threadsafe() */

/* Tells the concurrent future of the exception that is set, which stays. */
static void
tell(cl_state *st, PyObject *future)
{
    if (cl_error_is_exit())
        return;
    PyObject *error = PyErr_GetRaisedException();
    int runs = call_method(
        future, cl_sync_of(st)->str_set_running_or_notify_cancel, NULL);
    if (runs > 0)
        (void)call_method(future, cl_sync_of(st)->str_set_exception, error);
    cl_op_chain(error);
}

/* callback(): cb_first is the coroutine, cb_second the concurrent future,
 * cb_third the loop, in whose thread it runs. */
static int
start_task(SyncCallbackObject *callback, PyObject *const *Py_UNUSED(args))
{
    cl_state *st = callback->cb_st;
    PyObject *name = cl_sync_of(st)->str_ensure_future;
    if (callback->cb_second == NULL || callback->cb_third == NULL)
        return 0;
    PyObject *coro = Py_NewRef(callback->cb_first),
             *future = Py_NewRef(callback->cb_second),
             *loop = Py_NewRef(callback->cb_third), *task;
    PyObject *ensure[] = {coro, loop};
    if ((PyObject *)cl_sync_loop(st) == loop &&
        cl_sync_pinned(st, CL_PINS_RUN_THREADSAFE) &&
        !cl_loop_overrides((LoopObject *)loop, CL_OVERRIDES_CREATE_TASK))
        task = cl_child_ensure(st, name, (LoopObject *)loop, loop, coro);
    else
        task = cl_call_module(cl_futures_of(st)->tasks_module, name, ensure, 1,
                              cl_sync_of(st)->kwnames_loop);
    int status = task == NULL ? -1 : chain(st, task, future);
    if (status < 0)
        tell(st, future);
    Py_XDECREF(task);
    Py_DECREF(coro);
    Py_DECREF(future);
    Py_DECREF(loop);
    return status;
}

static const cl_callback_kind starter = {
    "callback", "run_coroutine_threadsafe.<locals>.callback",
    CL_CLOSURE_RUN_THREADSAFE, 0, start_task};

PyObject *
cl_sync_run_threadsafe(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    LoopObject *loop =
        nargs == 2 && kwnames == NULL ? cl_loop_cast(args[1]) : NULL;
    /* Usually called where no loop runs: it is the argument that counts. */
    if (loop == NULL || loop->l_closed || !cl_loop_is_plain(loop) ||
        !cl_futures_are_ours(st) || !cl_tasks_are_ours(st) ||
        cl_is_traced(PyThreadState_Get()) ||
        !cl_child_fits_task(loop, args[0]) ||
        !cl_sync_pinned(st, CL_PINS_RUN_THREADSAFE))
        return cl_sync_original(st, CL_BODY_RUN_THREADSAFE, args, nargs,
                                kwnames);
    PyObject *future = PyObject_CallNoArgs(cl_sync_of(st)->ConcurrentFuture);
    PyObject *callback =
        future == NULL ? NULL
                       : (PyObject *)cl_callback_new(st, &starter, args[0],
                                                     future, args[1]);
    if (callback == NULL ||
        call_method(args[1], cl_sync_of(st)->str_call_soon_threadsafe,
                    callback) < 0)
        Py_CLEAR(future);
    Py_XDECREF(callback);
    return future;
}
