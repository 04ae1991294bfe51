/* step.c - see step.h. */
#include "futures/step.h"

#include "base/probe.h"
#include "core/args.h"
#include "core/errors.h"
#include "futures/future.h"
#include "futures/iter.h"
#include "futures/registry.h"
#include "futures/tally.h"
#include "futures/task.h"

/* -------------------------------------------------------------------- scheduling */

int
cl_step_soon(TaskObject *task, PyObject *exception)
{
    LoopObject *loop = cl_loop_cast(task->f_loop);
    cl_assert_of(task, task->t_coro != NULL);
    if (exception == NULL && loop != NULL && cl_task_fits_node(task, loop)) {
        if (cl_tally_is_on(loop))
            cl_tally_due(loop, task);
        return cl_loop_push(loop,
                            cl_node_make(Py_NewRef(task), CL_NODE_TASK_STEP));
    }
    PyObject *callable = cl_task_step_callable(task);
    PyObject *context = Py_XNewRef(task->t_context);
    int status = callable == NULL
                     ? -1
                     : cl_future_call_soon(cl_task_future(task), callable,
                                           exception, context);
    Py_XDECREF(context);
    Py_XDECREF(callable);
    return status;
}

/* Schedules a step that throws a RuntimeError with this message. */
static int
fail_soon(TaskObject *task, const char *format, PyObject *first,
          PyObject *second)
{
    PyObject *message = PyUnicode_FromFormat(format, first, second);
    PyObject *error = message == NULL
                          ? NULL
                          : PyObject_CallOneArg(PyExc_RuntimeError, message);
    int status = error == NULL ? -1 : cl_step_soon(task, error);
    Py_XDECREF(message);
    Py_XDECREF(error);
    return status;
}

/* ----------------------------------------------------------------- yielded objects */

/* The task was cancelled before it waits for this: passes that on. */
static __attribute__((noinline)) int
cancel_waiter(cl_state *st, TaskObject *task, PyObject *future)
{
    PyObject *message = Py_XNewRef(cl_task_message(task));
    PyObject *args[] = {future, message};
    PyObject *result = PyObject_VectorcallMethod(
        cl_futures_of(st)->str_cancel, args, message == NULL ? 1 : 2, NULL);
    Py_XDECREF(message);
    int cancelled = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (cancelled > 0)
        task->t_must_cancel = 0;
    return cancelled < 0 ? -1 : 0;
}

/* Sets what the task waits for. */
static inline int
now_waits_for(cl_state *st, TaskObject *task, PyObject *future)
{
    Py_XSETREF(task->t_fut_waiter, Py_NewRef(future));
    return task->t_must_cancel ? cancel_waiter(st, task, future) : 0;
}

static int
refuse_other_loop(TaskObject *task, PyObject *future)
{
    return fail_soon(task,
                     "Task %R got Future %R attached to a different loop",
                     (PyObject *)task, future);
}

static int
refuse_yield(TaskObject *task, PyObject *future)
{
    return fail_soon(task,
                     "yield was used instead of yield from in task %R with %R",
                     (PyObject *)task, future);
}

/* Whether it is a _GatheringFuture whose fields can be used, as those of ours. */
static inline bool
is_gathering(cl_state *st, PyObject *future)
{
    const cl_futures *futures = cl_futures_of(st);
    cl_guard *guard = futures->gathering;
    return guard != NULL && Py_TYPE(future) == guard->g_type &&
           (PyObject *)guard->g_type->tp_base == futures->asyncio_Future &&
           cl_loop_cast(((FutureObject *)future)->f_loop) != NULL &&
           cl_guard_holds(guard);
}

/* Waits for a future of ours, or that one. */
static int
wait_for_known(cl_state *st, TaskObject *task, FutureObject *future)
{
    cl_assert_of(future, cl_future_is_ours(st, (PyObject *)future) ||
                             is_gathering(st, (PyObject *)future));
    if (future->f_loop != task->f_loop)
        return refuse_other_loop(task, (PyObject *)future);
    if (!future->f_blocking)
        return refuse_yield(task, (PyObject *)future);
    if (cl_future_note_awaited_by(st, future, (PyObject *)task) < 0)
        return -1;
    future->f_blocking = 0;
    if (future->f_callback0 == NULL && future->f_context0 == NULL &&
        future->f_callbacks == NULL && future->f_state == CL_PENDING &&
        cl_future_is_ours(st, (PyObject *)future) &&
        Py_TYPE(task) == cl_futures_of(st)->TaskType &&
        task->t_context != NULL && cl_loop_cast(task->f_loop) != NULL) {
        future->f_callback0 = Py_NewRef(task);
        /* Unused by cloop, but asyncio's own methods expect a context with a
         * callback. */
        future->f_context0 = Py_NewRef(task->t_context);
        return now_waits_for(st, task, (PyObject *)future);
    }
    PyObject *wakeup = cl_task_wakeup_callable(task);
    if (wakeup == NULL)
        return -1;
    PyObject *context = Py_XNewRef(task->t_context);
    int status =
        future->f_state == CL_PENDING
            ? cl_future_append(future, wakeup, context)
            : cl_future_call_soon(future, wakeup, (PyObject *)future, context);
    Py_XDECREF(context);
    Py_DECREF(wakeup);
    return status < 0 ? -1 : now_waits_for(st, task, (PyObject *)future);
}

/* asyncio.futures._get_loop(). Returns a new reference. */
static PyObject *
loop_of(cl_state *st, PyObject *future)
{
    PyObject *get_loop, *loop;
    int found = PyObject_GetOptionalAttr(
        future, cl_futures_of(st)->str_get_loop, &get_loop);
    if (found < 0)
        return NULL;
    if (found == 0)
        return PyObject_GetAttr(future, cl_futures_of(st)->str__loop);
    loop = PyObject_CallNoArgs(get_loop);
    Py_DECREF(get_loop);
    return loop;
}

/* Waits for any other object with _asyncio_future_blocking, whose value is
 * `blocking`. */
static int
wait_for_foreign(cl_state *st, TaskObject *task, PyObject *future,
                 PyObject *blocking)
{
    cl_futures *futures = cl_futures_of(st);
    int truth = PyObject_IsTrue(blocking);
    PyObject *loop = truth < 0 ? NULL : loop_of(st, future);
    if (loop == NULL)
        return -1;
    Py_DECREF(loop);
    if (loop != task->f_loop)
        return refuse_other_loop(task, future);
    if (!truth)
        return refuse_yield(task, future);
#if CL_HAS_AWAITED_BY
    /* Does nothing unless it is one of asyncio's own futures. */
    if (cl_call_void(futures->future_add_to_awaited_by, future,
                     (PyObject *)task) < 0)
        return -1;
#endif
    if (PyObject_SetAttr(future, futures->str__asyncio_future_blocking,
                         Py_False) < 0)
        return -1;
    PyObject *wakeup = cl_task_wakeup_callable(task);
    if (wakeup == NULL)
        return -1;
    PyObject *args[] = {future, wakeup, Py_XNewRef(task->t_context)};
    PyObject *result = PyObject_VectorcallMethod(
        futures->str_add_done_callback, args, 2, st->kwnames_context);
    Py_XDECREF(args[2]);
    Py_DECREF(wakeup);
    Py_XDECREF(result);
    return result == NULL ? -1 : now_waits_for(st, task, future);
}

/* Handles what the coroutine yielded. 0/-1 */
static int
handle_yielded(cl_state *st, TaskObject *task, PyObject *yielded)
{
    PyObject *blocking = NULL;
    if (yielded == Py_None)
        return cl_step_soon(task, NULL);
    if (yielded == (PyObject *)task)
        return fail_soon(task, "Task cannot await on itself: %R", yielded,
                         NULL);
    if (cl_future_is_ours(st, yielded) || is_gathering(st, yielded))
        return wait_for_known(st, task, (FutureObject *)yielded);
    if (PyObject_GetOptionalAttr(
            yielded, cl_futures_of(st)->str__asyncio_future_blocking,
            &blocking) < 0)
        return -1;
    if (blocking != NULL && blocking != Py_None) {
        int status = wait_for_foreign(st, task, yielded, blocking);
        Py_DECREF(blocking);
        return status;
    }
    Py_XDECREF(blocking);
    int is_generator = PyObject_IsInstance(yielded, (PyObject *)&PyGen_Type);
    if (is_generator < 0)
        return -1;
    if (is_generator)
        return fail_soon(task,
                         "yield was used instead of yield from for generator "
                         "in task %R with %R",
                         (PyObject *)task, yielded);
    return fail_soon(task, "Task got bad yield: %R", yielded, NULL);
}

/* -------------------------------------------------------------------------- steps */

/* For metrics(): the task is done. */
static inline void
count_end(TaskObject *task, bool failed, bool cancelled)
{
    LoopObject *loop = cl_loop_cast(task->f_loop);
    if (loop == NULL)
        return;
    cl_loop_futures *on = cl_futures_on(loop);
    on->tasks_done++;
    on->tasks_failed += failed;
    on->tasks_cancelled += cancelled;
}

/* The coroutine has ended, but the task was already done, after a call like
 * asyncio.Future.set_result(task, x). */
static int
done_before(cl_state *st)
{
    PyErr_SetString(cl_futures_of(st)->InvalidStateError, "invalid state");
    return -1;
}

/* The coroutine returned `result`. */
static int
finish(cl_state *st, TaskObject *task, PyObject *result)
{
    cl_registry_done(st, task);
    if (!task->t_must_cancel) {
        count_end(task, false, false);
        return task->f_state == CL_PENDING
                   ? cl_future_finish(cl_task_future(task), result)
                   : done_before(st);
    }
    count_end(task, false, true);
    /* Cancelled right before the coroutine stopped. */
    task->t_must_cancel = 0;
    if (task->f_state != CL_PENDING)
        return 0;
    PyObject *message = Py_XNewRef(cl_task_message(task));
    int status = cl_future_end_cancelled(cl_task_future(task), message);
    Py_XDECREF(message);
    return status;
}

/* The coroutine ended with the exception that is set. */
static int
finish_with_error(cl_state *st, TaskObject *task)
{
    cl_assert_of(task, PyErr_Occurred() != NULL);
    bool cancelled = PyErr_ExceptionMatches(cl_futures_of(st)->CancelledError),
         leaves = cl_error_is_exit();
    PyObject *error = PyErr_GetRaisedException();
    cl_registry_done(st, task);
    count_end(task, !cancelled, cancelled);
    if (task->f_state != CL_PENDING) {
        Py_DECREF(error);
        return cancelled ? 0 : done_before(st);
    }
    if (cancelled) {
        cl_task_keep_cancelled(task, error);
        return cl_future_end_cancelled(cl_task_future(task), NULL);
    }
    Py_INCREF(error);
    cl_future_keep_exception(cl_task_future(task), error);
    task->f_state = CL_FINISHED;
    int status = cl_future_schedule(cl_task_future(task));
    if (status == 0) {
        task->f_log_tb = 1;
        if (leaves) { /* KeyboardInterrupt and SystemExit also leave the loop */
            PyErr_SetRaisedException(error);
            return -1;
        }
    }
    Py_DECREF(error);
    return status;
}

int
cl_step(cl_state *st, TaskObject *task, PyObject *exception)
{
    cl_futures *futures = cl_futures_of(st);
    PyObject *result = NULL, *cancellation = NULL;
    PySendResult state;
    cl_assert_gil();
    cl_assert_of(task, !PyErr_Occurred());
    CL_PROBE2(task_step, task->f_loop, task);

    if (task->f_state != CL_PENDING) {
        PyErr_Format(futures->InvalidStateError,
                     CL_STEP_NAME "(): already done: %R %R", (PyObject *)task,
                     exception == NULL ? Py_None : exception);
        return -1;
    }
    if (task->t_must_cancel) {
        if (exception == NULL ||
            !PyErr_GivenExceptionMatches(exception, futures->CancelledError)) {
            cancellation =
                cl_future_take_cancellation(st, cl_task_future(task));
            if (cancellation == NULL)
                return -1;
            exception = cancellation;
        }
        task->t_must_cancel = 0;
    }
    Py_CLEAR(task->t_fut_waiter);
    if (task->t_coro == NULL) {
        Py_XDECREF(cancellation);
        PyErr_SetString(PyExc_RuntimeError, "uninitialized Task object");
        return -1;
    }
    PyObject *coro = Py_NewRef(task->t_coro);
    if (exception == NULL) {
        state = cl_iter_send(coro, &result);
    }
    else {
        result =
            PyObject_CallMethodOneArg(coro, futures->str_throw, exception);
        state = cl_iter_status(&result);
        Py_XDECREF(cancellation);
    }
    Py_DECREF(coro);
    cl_assert_of(task, (state == PYGEN_ERROR) == (result == NULL));
    cl_assert_of(task, (state == PYGEN_ERROR) == (PyErr_Occurred() != NULL));
    if (state == PYGEN_ERROR)
        return finish_with_error(st, task);
    int status = state == PYGEN_RETURN ? finish(st, task, result)
                                       : handle_yielded(st, task, result);
    Py_DECREF(result);
    return status;
}

/* Ends the step. An exception of the step becomes the context of one of
 * cl_registry_leave(). */
static int
leave(cl_state *st, TaskObject *task, PyObject *loop, LoopObject *ours,
      int status)
{
    if (status == 0)
        return cl_registry_leave(st, loop, ours, (PyObject *)task);
    PyObject *error = PyErr_GetRaisedException();
    if (cl_registry_leave(st, loop, ours, (PyObject *)task) < 0) {
        PyObject *later = PyErr_GetRaisedException();
        PyException_SetContext(later, error);
        error = later;
    }
    PyErr_SetRaisedException(error);
    return -1;
}

int
cl_step_enter(cl_state *st, TaskObject *task, LoopObject *ours,
              PyObject *exception)
{
    if (task->f_loop == NULL) { /* during a second __init__() */
        PyErr_SetString(PyExc_RuntimeError, "uninitialized Task object");
        return -1;
    }
    /* After a second __init__(), the running loop may be the previous one. */
    if (ours != NULL &&
        (cl_futures_on(ours)->in_task || (PyObject *)ours != task->f_loop))
        ours = NULL;
    /* Ours is running, so it stays. */
    if (CL_HAS_AWAITED_BY && ours != NULL) {
        PyThreadState *thread = PyThreadState_Get();
        if (cl_registry_set(st, thread, (PyObject *)ours, (PyObject *)task)) {
            int status = cl_step(st, task, exception);
            return status == 0 &&
                           cl_registry_unset(st, thread, (PyObject *)ours,
                                             (PyObject *)task)
                       ? 0
                       : leave(st, task, (PyObject *)ours, ours, status);
        }
    }
    PyObject *loop = Py_NewRef(task->f_loop);
    int status = cl_registry_enter(st, loop, ours, (PyObject *)task);
    if (status == 0) {
        status = cl_step(st, task, exception);
        status = leave(st, task, loop, ours, status);
    }
    Py_DECREF(loop);
    return status;
}

/* Returns the exception that the next step throws for a future that is done.
 * NULL without an exception if it has a result. */
static PyObject *
outcome(cl_state *st, PyObject *future)
{
    FutureObject *ours = (FutureObject *)future;
    PyObject *result;
    if ((cl_future_is_ours(st, future) || is_gathering(st, future)) &&
        ours->f_state == CL_FINISHED) {
        if (ours->f_exception != NULL)
            return cl_future_take_exception(ours);
        ours->f_log_tb = 0;
        return NULL;
    }
    result = PyObject_CallMethodNoArgs(future, cl_futures_of(st)->str_result);
    Py_XDECREF(result);
    return result == NULL ? PyErr_GetRaisedException() : NULL;
}

static int
forget_awaited_by(cl_state *st, TaskObject *task, PyObject *future)
{
    if (cl_future_is_ours(st, future) || is_gathering(st, future))
        return cl_future_forget_awaited_by(st, (FutureObject *)future,
                                           (PyObject *)task);
#if CL_HAS_AWAITED_BY
    return cl_call_void(cl_futures_of(st)->future_discard_from_awaited_by,
                        future, (PyObject *)task);
#else
    return 0;
#endif
}

int
cl_step_after(cl_state *st, TaskObject *task, LoopObject *ours,
              PyObject *future)
{
    if (forget_awaited_by(st, task, future) < 0)
        return -1;
    PyObject *exception = outcome(st, future);
    if (exception == NULL && PyErr_Occurred())
        return -1;
    int status = cl_step_enter(st, task, ours, exception);
    Py_XDECREF(exception);
    return status;
}
