/* task.c - see task.h. */
#include "futures/task.h"

#include "core/args.h"
#include "core/errors.h"
#include "core/spares.h"
#include "futures/future.h"
#include "futures/iter.h"
#include "futures/registry.h"
#include "futures/remote.h"

#include <string.h>

static inline FutureObject *
as_future(TaskObject *task)
{
    return (FutureObject *)task;
}

/* Whether the object is of one of our types, and not of a subclass. */
static inline bool
is_ours(const cl_state *st, PyObject *object)
{
    return Py_TYPE(object) == cl_futures_of(st)->FutureType ||
           Py_TYPE(object) == cl_futures_of(st)->TaskType;
}

/* --------------------------------------------------------------------- callables */

static PyObject *Task_step(PyObject *self, PyObject *const *args,
                           Py_ssize_t nargs);
static PyObject *Task_wakeup(PyObject *self, PyObject *future);

static PyMethodDef step_def = {"task_step", CL_FAST(Task_step), METH_FASTCALL,
                               NULL};
static PyMethodDef wakeup_def = {"task_wakeup", Task_wakeup, METH_O, NULL};

PyObject *
cl_task_step_callable(TaskObject *task)
{
    return PyCFunction_New(&step_def, (PyObject *)task);
}

PyObject *
cl_task_wakeup_callable(TaskObject *task)
{
    return PyCFunction_New(&wakeup_def, (PyObject *)task);
}

PyObject *
cl_task_woken_by(cl_state *st, PyObject *callback, PyObject *future)
{
    if (!is_ours(st, future) ||
        ((FutureObject *)future)->f_state == CL_PENDING ||
        ((TaskObject *)callback)->t_fut_waiter != future)
        return NULL;
    return cl_task_wakeup_callable((TaskObject *)callback);
}

/* -------------------------------------------------------------------- scheduling */

/* Has the loop run a step, which throws `exception` into the coroutine unless that
 * is NULL. 0 or -1. */
static int
step_soon(TaskObject *task, PyObject *exception)
{
    LoopObject *loop = cl_loop_cast(task->f_loop);
    cl_assert_of(task, task->t_coro != NULL);
    if (exception == NULL && loop != NULL && cl_task_fits_node(task, loop))
        return cl_loop_push(loop,
                            cl_node_make(Py_NewRef(task), CL_NODE_TASK_STEP));
    PyObject *callable = cl_task_step_callable(task);
    PyObject *context = Py_XNewRef(task->t_context);
    int status = callable == NULL
                     ? -1
                     : cl_future_call_soon(as_future(task), callable,
                                           exception, context);
    Py_XDECREF(context);
    Py_XDECREF(callable);
    return status;
}

/* The next step throws a RuntimeError with that text. */
static int
fail_soon(TaskObject *task, const char *format, PyObject *first,
          PyObject *second)
{
    PyObject *message = PyUnicode_FromFormat(format, first, second);
    PyObject *error = message == NULL
                          ? NULL
                          : PyObject_CallOneArg(PyExc_RuntimeError, message);
    int status = error == NULL ? -1 : step_soon(task, error);
    Py_XDECREF(message);
    Py_XDECREF(error);
    return status;
}

/* ---------------------------------------------------------------- what was yielded */

/* It waits for the future now; if cancel() came first, that is passed on. */
static int
now_waits_for(cl_state *st, TaskObject *task, PyObject *future)
{
    Py_XSETREF(task->t_fut_waiter, Py_NewRef(future));
    if (!task->t_must_cancel)
        return 0;
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

/* A future of ours. */
static int
wait_for_ours(cl_state *st, TaskObject *task, FutureObject *future)
{
    cl_assert_of(future, is_ours(st, (PyObject *)future));
    if (future->f_loop != task->f_loop)
        return refuse_other_loop(task, (PyObject *)future);
    if (!future->f_blocking)
        return refuse_yield(task, (PyObject *)future);
    if (cl_future_note_awaited_by(st, future, (PyObject *)task) < 0)
        return -1;
    future->f_blocking = 0;
    if (future->f_callback0 == NULL && future->f_callbacks == NULL &&
        future->f_state == CL_PENDING &&
        Py_TYPE(task) == cl_futures_of(st)->TaskType &&
        task->t_context != NULL && cl_loop_cast(task->f_loop) != NULL) {
        future->f_callback0 = Py_NewRef(task);
        /* Not used by us, but asyncio's own methods expect one beside a callback. */
        future->f_context0 = Py_NewRef(task->t_context);
        return now_waits_for(st, task, (PyObject *)future);
    }
    PyObject *wakeup = cl_task_wakeup_callable(task);
    if (wakeup == NULL)
        return -1;
    int status = future->f_state == CL_PENDING
                     ? cl_future_append(future, wakeup, task->t_context)
                     : cl_future_call_soon(future, wakeup, (PyObject *)future,
                                           task->t_context);
    Py_DECREF(wakeup);
    return status < 0 ? -1 : now_waits_for(st, task, (PyObject *)future);
}

/* asyncio.futures._get_loop(): new reference. */
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

/* Anything with _asyncio_future_blocking, whose value is given. */
static int
wait_for_foreign(cl_state *st, TaskObject *task, PyObject *future,
                 PyObject *blocking)
{
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
    /* Does nothing for what is no future of asyncio's. */
    if (cl_call_void(cl_futures_of(st)->future_add_to_awaited_by, future,
                     (PyObject *)task) < 0)
        return -1;
#endif
    if (PyObject_SetAttr(future,
                         cl_futures_of(st)->str__asyncio_future_blocking,
                         Py_False) < 0)
        return -1;
    PyObject *wakeup = cl_task_wakeup_callable(task);
    if (wakeup == NULL)
        return -1;
    PyObject *args[] = {future, wakeup, task->t_context};
    PyObject *result =
        PyObject_VectorcallMethod(cl_futures_of(st)->str_add_done_callback,
                                  args, 2, st->kwnames_context);
    Py_DECREF(wakeup);
    Py_XDECREF(result);
    return result == NULL ? -1 : now_waits_for(st, task, future);
}

/* What the coroutine yielded. 0 or -1. */
static int
handle_yielded(cl_state *st, TaskObject *task, PyObject *yielded)
{
    PyObject *blocking = NULL;
    if (yielded == Py_None)
        return step_soon(task, NULL);
    if (yielded == (PyObject *)task)
        return fail_soon(task, "Task cannot await on itself: %R", yielded,
                         NULL);
    if (is_ours(st, yielded))
        return wait_for_ours(st, task, (FutureObject *)yielded);
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
    if (PyObject_TypeCheck(yielded, &PyGen_Type))
        return fail_soon(task,
                         "yield was used instead of yield from for generator "
                         "in task %R with %R",
                         (PyObject *)task, yielded);
    return fail_soon(task, "Task got bad yield: %R", yielded, NULL);
}

/* -------------------------------------------------------------------------- steps */

/* The coroutine has ended, but the task was done before: by asyncio's methods
 * called by name, as asyncio.Future.set_result(task, x). */
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
    if (!task->t_must_cancel)
        return task->f_state == CL_PENDING
                   ? cl_future_finish(as_future(task), result)
                   : done_before(st);
    /* Cancelled right before the coroutine stopped. */
    task->t_must_cancel = 0;
    if (task->f_state != CL_PENDING)
        return 0;
    PyObject *message = Py_XNewRef(cl_task_message(task));
    int status = cl_future_end_cancelled(as_future(task), message);
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
    if (task->f_state != CL_PENDING) {
        Py_DECREF(error);
        return cancelled ? 0 : done_before(st);
    }
    if (cancelled) {
        cl_task_keep_cancelled(task, error);
        return cl_future_end_cancelled(as_future(task), NULL);
    }
    Py_INCREF(error);
    cl_future_keep_exception(as_future(task), error);
    task->f_state = CL_FINISHED;
    int status = cl_future_schedule(as_future(task));
    if (status == 0) {
        task->f_log_tb = 1;
        if (leaves) { /* KeyboardInterrupt, SystemExit: the loop's as well */
            PyErr_SetRaisedException(error);
            return -1;
        }
    }
    Py_DECREF(error);
    return status;
}

/* One step of a task that is the current one. `exception` is thrown into the
 * coroutine unless it is NULL. */
static int
step(cl_state *st, TaskObject *task, PyObject *exception)
{
    PyObject *result = NULL, *cancellation = NULL;
    PySendResult state;
    cl_assert_gil();
    cl_assert_of(task, !PyErr_Occurred());

    if (task->f_state != CL_PENDING) {
        PyErr_Format(cl_futures_of(st)->InvalidStateError,
                     CL_STEP_NAME "(): already done: %R %R", (PyObject *)task,
                     exception == NULL ? Py_None : exception);
        return -1;
    }
    if (task->t_must_cancel) {
        if (exception == NULL ||
            !PyErr_GivenExceptionMatches(exception,
                                         cl_futures_of(st)->CancelledError)) {
            cancellation = cl_future_take_cancellation(st, as_future(task));
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
        result = PyObject_CallMethodOneArg(coro, cl_futures_of(st)->str_throw,
                                           exception);
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

/* Raises what is wrong with leaving, unless an exception is set already. */
static int
leave(cl_state *st, TaskObject *task, PyObject *loop, LoopObject *ours,
      int status)
{
    if (status == 0)
        return cl_registry_leave(st, loop, ours, (PyObject *)task);
    PyObject *error = PyErr_GetRaisedException();
    if (cl_registry_leave(st, loop, ours, (PyObject *)task) < 0)
        PyErr_Clear();
    PyErr_SetRaisedException(error);
    return -1;
}

/* One step, in the task's context already. */
static int
enter_and_step(cl_state *st, TaskObject *task, LoopObject *ours,
               PyObject *exception)
{
    if (task->f_loop == NULL) { /* within its second __init__() */
        PyErr_SetString(PyExc_RuntimeError, "uninitialized Task object");
        return -1;
    }
    PyObject *loop = Py_NewRef(task->f_loop);
    /* After a second __init__() the loop that runs may be the former one. */
    if (ours != NULL &&
        (cl_futures_on(ours)->in_task || (PyObject *)ours != loop))
        ours = NULL;
    int status = cl_registry_enter(st, loop, ours, (PyObject *)task);
    if (status == 0) {
        status = step(st, task, exception);
        status = leave(st, task, loop, ours, status);
    }
    Py_DECREF(loop);
    return status;
}

/* What a future that is done makes the next step throw: NULL without exception for
 * a result. */
static PyObject *
outcome(cl_state *st, PyObject *future)
{
    FutureObject *ours = (FutureObject *)future;
    PyObject *result;
    if (is_ours(st, future) && ours->f_state == CL_FINISHED) {
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
    if (is_ours(st, future))
        return cl_future_forget_awaited_by(st, (FutureObject *)future,
                                           (PyObject *)task);
#if CL_HAS_AWAITED_BY
    return cl_call_void(cl_futures_of(st)->future_discard_from_awaited_by,
                        future, (PyObject *)task);
#else
    return 0;
#endif
}

/* The step after `future` is done. */
static int
wake_up(cl_state *st, TaskObject *task, LoopObject *ours, PyObject *future)
{
    if (forget_awaited_by(st, task, future) < 0)
        return -1;
    PyObject *exception = outcome(st, future);
    if (exception == NULL && PyErr_Occurred())
        return -1;
    int status = enter_and_step(st, task, ours, exception);
    Py_XDECREF(exception);
    return status;
}

/* A step that is called for, with a future that is done or else an exception, or
 * neither. The caller may look at the current task next. */
static PyObject *
called_step(PyObject *self, PyObject *future, PyObject *exception)
{
    TaskObject *task = (TaskObject *)self;
    cl_state *st = cl_future_state(self);
    if (st == NULL)
        return NULL;
    LoopObject *ours = cl_loop_cast(task->f_loop);
    Py_XINCREF(ours);
    int status = future != NULL ? wake_up(st, task, ours, future)
                                : enter_and_step(st, task, ours, exception);
    if (ours != NULL)
        cl_loop_forget_task(ours);
    Py_XDECREF(ours);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
Task_step(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return called_step(self, NULL, nargs > 0 ? args[0] : NULL);
}

static PyObject *
Task_wakeup(PyObject *self, PyObject *future)
{
    return called_step(self, future, NULL);
}

/* ------------------------------------------------------------------- ready nodes */

static PyObject *
node_as_handle(LoopObject *loop, cl_node node)
{
    TaskObject *task = cl_node_pointer(node);
    bool wakes = cl_node_kind(node) == CL_NODE_TASK_WAKEUP &&
                 task->t_fut_waiter != NULL;
    PyObject *callable =
        wakes ? cl_task_wakeup_callable(task) : cl_task_step_callable(task);
    /* Held: a collection may run, and change the task. */
    PyObject *waiter = wakes ? Py_NewRef(task->t_fut_waiter) : NULL;
    PyObject *context = Py_XNewRef(task->t_context);
    PyObject *handle = callable == NULL
                           ? NULL
                           : (PyObject *)cl_handle_new(loop, callable, &waiter,
                                                       wakes, context);
    Py_XDECREF(callable);
    Py_XDECREF(waiter);
    Py_XDECREF(context);
    if (handle != NULL)
        cl_handle_track((HandleObject *)handle);
    return handle;
}

/* The exception that is set goes to the loop's exception handler, unless it must
 * leave the loop. */
static int
report(LoopObject *loop, cl_node node)
{
    cl_assert(PyErr_Occurred() != NULL);
    if (cl_error_is_exit())
        return -1;
    PyObject *error = PyErr_GetRaisedException();
    PyObject *handle = node_as_handle(loop, node);
    int status = -1;
    if (handle == NULL) {
        Py_DECREF(error);
        return -1;
    }
    PyErr_SetRaisedException(error);
    status = cl_handle_report((HandleObject *)handle);
    Py_DECREF(handle);
    return status;
}

/* Whether a destructor may run with the last reference to a future that is done. */
static inline bool
may_run_python(PyObject *object)
{
    FutureObject *future = (FutureObject *)object;
    PyObject *result = future->f_result;
    return Py_REFCNT(object) == 1 &&
           (future->f_exception != NULL ||
            (result != NULL && Py_REFCNT(result) == 1 &&
             PyType_HasFeature(Py_TYPE(result),
                               Py_TPFLAGS_HEAPTYPE | Py_TPFLAGS_HAVE_GC)));
}

static int
node_run(LoopObject *loop, cl_node node)
{
    TaskObject *task = cl_node_pointer(node);
    cl_state *st = loop->l_st;
    cl_assert_of(task, Py_REFCNT(task) > 0);
    cl_assert_of(task, !PyErr_Occurred());
    PyObject *context = Py_XNewRef(task->t_context);
    int status = -1;
    if (context == NULL) { /* cleared by the garbage collector */
        PyErr_SetString(PyExc_RuntimeError, "uninitialized Task object");
    }
    else if (PyContext_Enter(context) == 0) {
        PyObject *future = Py_XNewRef(cl_node_kind(node) == CL_NODE_TASK_WAKEUP
                                          ? task->t_fut_waiter
                                          : NULL);
        if (future != NULL) {
            status = wake_up(st, task, loop, future);
            if (!is_ours(st, future) || may_run_python(future))
                cl_loop_rest(loop);
            Py_DECREF(future);
        }
        else {
            status = enter_and_step(st, task, loop, NULL);
        }
        if (PyContext_Exit(context) < 0)
            status = -1;
    }
    Py_XDECREF(context);
    return status < 0 ? report(loop, node) : 0;
}

static void
node_drop(cl_node node, bool Py_UNUSED(lost))
{
    Py_DECREF((PyObject *)cl_node_pointer(node));
}

static int
node_visit(cl_node node, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)cl_node_pointer(node));
    return 0;
}

static PyObject *
node_name(LoopObject *Py_UNUSED(loop), cl_node node)
{
    return PyObject_Str(cl_node_pointer(node));
}

#ifdef CL_DEBUG
static PyObject *
node_check(const LoopObject *loop, cl_node node)
{
    TaskObject *task = cl_node_pointer(node);
    cl_assert_of(task, Py_REFCNT(task) > 0);
    cl_assert_of(task, cl_future_state((PyObject *)task) == loop->l_st);
    return (PyObject *)task;
}
#endif

#define TASK_NODE \
    {.run = node_run, \
     .drop = node_drop, \
     .visit = node_visit, \
     .as_handle = node_as_handle, \
     .name = node_name, \
     CL_NODE_CHECK(node_check)}

const cl_node_ops cl_task_step_node = TASK_NODE;
const cl_node_ops cl_task_wakeup_node = TASK_NODE;

/* ------------------------------------------------------------------ make and free */

static int
check_coroutine(cl_state *st, PyObject *coro)
{
    if (PyCoro_CheckExact(coro))
        return 0;
    if (cl_coro_check(coro))
        return cl_remote_show((cl_coro *)coro);
    PyObject *result =
        PyObject_CallOneArg(cl_futures_of(st)->iscoroutine, coro);
    int is_coroutine = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (is_coroutine == 0)
        PyErr_Format(PyExc_TypeError, "a coroutine was expected, got %R",
                     coro);
    return is_coroutine > 0 ? 0 : -1;
}

/* NULL and None ask for a copy of the current one. */
static int
check_context(PyObject *context)
{
#if CL_TASK_INIT_IS_STRICT
    if (context != NULL && context != Py_None &&
        !PyContext_CheckExact(context)) {
        PyErr_Format(PyExc_TypeError,
                     "a contextvars.Context was expected, got %T", context);
        return -1;
    }
#else
    (void)context;
#endif
    return 0;
}

/* "Task-N". From 3.12 on it is made of the number when somebody asks for it, also by
 * asyncio.Task.get_name(task), which before has to find the string. */
static PyObject *
numbered_name(uint64_t number)
{
#if CL_HAS_EAGER_TASKS
    return PyLong_FromUnsignedLongLong(number);
#else
    char text[5 + 20], *end = text + sizeof(text), *at = end;
    do {
        *--at = (char)('0' + number % 10);
    } while ((number /= 10) != 0);
    at -= 5;
    memcpy(at, "Task-", 5);
    PyObject *name = PyUnicode_New(end - at, 127);
    if (name != NULL)
        memcpy(PyUnicode_1BYTE_DATA(name), at, (size_t)(end - at));
    return name;
#endif
}

static PyObject *
new_name(cl_state *st, PyObject *name)
{
    if (name == NULL || name == Py_None)
        return numbered_name(++cl_futures_of(st)->task_count);
    return PyUnicode_CheckExact(name) ? Py_NewRef(name) : PyObject_Str(name);
}

/* The first step, at once, within the caller's. */
static int
start_eagerly(cl_state *st, TaskObject *task)
{
#if CL_HAS_EAGER_TASKS
    PyObject *loop = Py_NewRef(task->f_loop),
             *context = Py_NewRef(task->t_context);
    PyObject *args[] = {loop, (PyObject *)task};
    PyObject *before = PyObject_Vectorcall(
                 cl_futures_of(st)->swap_current_task, args, 2, NULL),
             *result;
    int status = -1;
    if (before == NULL)
        goto done;
    result = PyObject_CallOneArg(cl_futures_of(st)->register_eager_task,
                                 (PyObject *)task);
    Py_XDECREF(result);
    if (result != NULL && PyContext_Enter(context) == 0) {
        status = step(st, task, NULL);
        if (PyContext_Exit(context) < 0)
            status = -1;
    }
    PyObject *error = status < 0 ? PyErr_GetRaisedException() : NULL;
#if !CL_HAS_AWAITED_BY /* else the list is one, and who is done has left it */
    result = PyObject_CallOneArg(cl_futures_of(st)->unregister_eager_task,
                                 (PyObject *)task);
    Py_XDECREF(result);
    status = result == NULL ? -1 : status;
#endif
    args[1] = before;
    result = PyObject_Vectorcall(cl_futures_of(st)->swap_current_task, args, 2,
                                 NULL);
    Py_XDECREF(result);
    status = result == NULL ? -1 : status;
    if (error != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(error);
    }
    if (task->f_state != CL_PENDING)
        Py_CLEAR(task->t_coro);
    else if (status == 0)
        status = cl_registry_add(st, task);
done:
    Py_XDECREF(before);
    Py_DECREF(loop);
    Py_DECREF(context);
    return status;
#else
    (void)st;
    (void)task;
    return 0;
#endif
}

/* Fills in a task whose future fields are set, for a coroutine that was checked, and
 * schedules its first step. */
static int
start(cl_state *st, TaskObject *task, PyObject *coro, PyObject *name,
      PyObject *context, bool eager)
{
    cl_task_init_rest(task);
    if (check_context(context) < 0)
        return -1;
    Py_XSETREF(task->t_context, context == NULL || context == Py_None
                                    ? PyContext_CopyCurrent()
                                    : Py_NewRef(context));
    if (task->t_context == NULL)
        return -1;
    task->t_log_destroy_pending = 1;
    Py_XSETREF(task->t_coro, Py_NewRef(coro));
    Py_XSETREF(task->t_name, new_name(st, name));
    if (task->t_name == NULL)
        return -1;
    if (eager)
        return start_eagerly(st, task);
    return step_soon(task, NULL) < 0 ? -1 : cl_registry_add(st, task);
}

PyObject *
cl_task_new(LoopObject *loop, PyObject *coro, PyObject *name,
            PyObject *context, bool eager)
{
    cl_state *st = loop->l_st;
    PyObject *self =
        cl_spares_take(&cl_futures_on(loop)->spare_tasks,
                       cl_futures_of(st)->TaskType, sizeof(TaskObject));
    if (self == NULL)
        return NULL;
    cl_futures_of(st)->live_tasks++;
    int status = cl_future_init(st, (FutureObject *)self, (PyObject *)loop);
    PyObject_GC_Track(self);
    if (status < 0 || check_coroutine(st, coro) < 0 ||
        start(st, (TaskObject *)self, coro, name, context, eager) < 0)
        Py_CLEAR(self);
    return self;
}

static int
Task_clear(PyObject *self)
{
    cl_task_drop((TaskObject *)self);
    return 0;
}

static PyObject *
Task_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    PyObject *self = type->tp_alloc(type, 0);
    cl_state *st = self == NULL ? NULL : cl_future_state(self);
    if (st != NULL)
        cl_futures_of(st)->live_tasks++;
    return self;
}

/* asyncio.Future(loop=loop)'s way to find the loop: new reference. */
static PyObject *
default_loop(cl_state *st)
{
    PyObject *future = PyObject_CallNoArgs(cl_futures_of(st)->asyncio_Future);
    PyObject *loop =
        future == NULL
            ? NULL
            : PyObject_GetAttr(future, cl_futures_of(st)->str__loop);
    Py_XDECREF(future);
    return loop;
}

static int
loop_is_running(cl_state *st, PyObject *loop)
{
    PyObject *result =
        PyObject_CallMethodNoArgs(loop, cl_futures_of(st)->str_is_running);
    int running = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return running;
}

static int
Task_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"coro",        "loop", "name",
#if CL_HAS_TASK_CONTEXT
                               "context",
#endif
#if CL_HAS_EAGER_TASKS
                               "eager_start",
#endif
                               NULL};
    TaskObject *task = (TaskObject *)self;
    PyObject *coro, *loop = Py_None, *name = NULL, *context = NULL;
    int eager = 0, status;
    cl_state *st = cl_future_state(self);
    if (st == NULL)
        return -1;
    /* Surplus arguments are not touched. */
    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
#if CL_HAS_EAGER_TASKS
                                     "O|$OOOp:Task",
#elif CL_HAS_TASK_CONTEXT
                                     "O|$OOO:Task",
#else
                                     "O|$OO:Task",
#endif
                                     keywords, &coro, &loop, &name, &context,
                                     &eager))
        return -1;
#if CL_TASK_INIT_IS_STRICT
    if (task->f_loop != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%T object is already initialized",
                     self);
        return -1;
    }
#endif
    loop = loop == Py_None ? default_loop(st) : Py_NewRef(loop);
    if (loop == NULL)
        return -1;
    if (check_coroutine(st, coro) <
        0) { /* before a former task is forgotten */
        Py_DECREF(loop);
        return -1;
    }
    cl_registry_remove(st, task);
    cl_task_forget(task); /* a former __init__() */
    task->f_state = CL_PENDING;
    task->f_log_tb = task->f_blocking = 0;
    task->t_must_cancel = task->t_log_destroy_pending = 0;
    status = cl_future_init(st, (FutureObject *)self, loop);
    if (status == 0 && eager)
        status = eager = loop_is_running(st, loop);
    if (status >= 0)
        status = start(st, task, coro, name, context, eager);
    Py_DECREF(loop);
    return status;
}

void
cl_task_dealloc(PyObject *self)
{
    TaskObject *task = (TaskObject *)self;
    cl_state *st = cl_future_state(self);
    bool exact = Py_TYPE(self) == cl_futures_of(st)->TaskType;
    /* For a subclass that was done by its own dealloc. */
    if (exact &&
        (task->f_log_tb ||
         (task->f_state == CL_PENDING && task->t_log_destroy_pending)) &&
        PyObject_CallFinalizerFromDealloc(self) < 0)
        return;
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, cl_task_dealloc);
    cl_futures_of(st)->live_tasks--;
    /* One that is done is there, too, after Future.set_result(task, ...). */
    cl_registry_remove(st, task);
    cl_clear_weakrefs(self);
    LoopObject *loop = exact ? cl_future_leave_loop(as_future(task)) : NULL;
    cl_task_drop(task);
    cl_spares_give(loop == NULL ? NULL : &cl_futures_on(loop)->spare_tasks,
                   self);
    Py_XDECREF(loop);
    Py_TRASHCAN_END;
}

/* ------------------------------------------------------------------------ methods */

/* As asyncio's methods would call each other down a chain of tasks that wait for
 * one another, which may be of any length. 1 if cancelled, 0 if done already. */
static int
cancel(cl_state *st, TaskObject *task, PyObject *message)
{
    TaskObject *behind = task; /* meets us again if the chain is a ring */
    task->f_log_tb = 0;
    if (task->f_state != CL_PENDING)
        return 0;
    for (size_t n = 1;; n++) {
        PyObject *waiter = task->t_fut_waiter;
        cl_task_count_cancel(task);
        if (waiter == NULL)
            break;
        if (!is_ours(st, waiter)) {
            PyObject *args[] = {waiter, message};
            Py_INCREF(task);
            PyObject *result =
                PyObject_VectorcallMethod(cl_futures_of(st)->str_cancel, args,
                                          CL_HAS_CANCEL_MESSAGE ? 2 : 1, NULL);
            int cancelled = result == NULL ? -1 : PyObject_IsTrue(result);
            Py_XDECREF(result);
            if (cancelled == 0) {
                task->t_must_cancel = 1;
                cl_future_set_message(as_future(task), message);
            }
            Py_DECREF(task);
            return cancelled < 0 ? -1 : 1;
        }
        ((FutureObject *)waiter)->f_log_tb = 0;
        if (((FutureObject *)waiter)->f_state != CL_PENDING)
            break;
        if (Py_TYPE(waiter) == cl_futures_of(st)->FutureType) {
            /* What is scheduled can drop the last reference to it. */
            Py_INCREF(waiter);
            int status =
                cl_future_end_cancelled((FutureObject *)waiter, message);
            Py_DECREF(waiter);
            return status < 0 ? -1 : 1;
        }
        task = (TaskObject *)waiter;
        if (n % 2 == 0)
            behind = (TaskObject *)behind->t_fut_waiter;
        if (task == behind) {
            PyErr_SetString(PyExc_RecursionError,
                            "maximum recursion depth exceeded while calling a "
                            "Python object");
            return -1;
        }
    }
    task->t_must_cancel = 1;
    cl_future_set_message(as_future(task), message);
    return 1;
}

static PyObject *
Task_cancel(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    cl_state *st = cl_future_state(self);
    if (st == NULL)
        return NULL;
    PyObject *message = cl_future_cancel_args(st, args, nargs, kwnames);
    if (message == NULL)
        return cl_future_inherited(cl_futures_of(st)->asyncio_Task, self,
                                   cl_futures_of(st)->str_cancel, args, nargs,
                                   kwnames);
    int cancelled = cancel(st, (TaskObject *)self, message);
    return cancelled < 0 ? NULL : PyBool_FromLong(cancelled);
}

static PyObject *
Task_get_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    TaskObject *task = (TaskObject *)self;
    if (task->t_name == NULL)
        Py_RETURN_NONE;
    if (PyLong_CheckExact(task->t_name)) {
        PyObject *name = PyUnicode_FromFormat("Task-%S", task->t_name);
        if (name == NULL)
            return NULL;
        Py_SETREF(task->t_name, name);
    }
    return Py_NewRef(task->t_name);
}

/* asyncio's own crash, in some versions, on an object whose __init__() never ran. */
static PyObject *
Task_get_coro(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *coro = ((TaskObject *)self)->t_coro;
    return Py_NewRef(coro == NULL ? Py_None : coro);
}

#if CL_HAS_GET_CONTEXT
static PyObject *
Task_get_context(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *context = ((TaskObject *)self)->t_context;
    return Py_NewRef(context == NULL ? Py_None : context);
}
#endif

/* --------------------------------------------------------------------------- type */

static PyMethodDef Task_methods[] = {
    {"cancel", CL_FAST(Task_cancel), METH_FASTCALL | METH_KEYWORDS,
     CL_CANCEL_SIGNATURE
     "Arrange for CancelledError to be thrown into the coroutine in the next "
     "turn; return\n"
     "False if the task is done. See asyncio's Task.cancel."},
    {"add_done_callback", CL_FAST(cl_future_add_done_callback),
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"remove_done_callback", cl_future_remove_done_callback, METH_O,
     CL_REMOVE_DONE_CALLBACK_DOC},
    {"get_name", Task_get_name, METH_NOARGS,
     "get_name($self, /)\n--\n\n"
     "Return the task's name, Task-N unless it was given one."},
    {"get_coro", Task_get_coro, METH_NOARGS,
     "get_coro($self, /)\n--\n\n"
     "Return the coroutine that the task runs."},
#if CL_HAS_GET_CONTEXT
    {"get_context", Task_get_context, METH_NOARGS,
     "get_context($self, /)\n--\n\n"
     "Return the context that the coroutine runs in."},
#endif
    {NULL}};

static PyGetSetDef Task_getset[] = {
    {"_callbacks", cl_future_callbacks, NULL, NULL, NULL}, {NULL}};

#if CL_HAS_EAGER_TASKS
#define TASK_OPTIONS ", context=None, eager_start=False"
#elif CL_HAS_TASK_CONTEXT
#define TASK_OPTIONS ", context=None"
#else
#define TASK_OPTIONS ""
#endif
PyDoc_STRVAR(
    Task_doc,
    "Task(coro, *, loop=None, name=None" TASK_OPTIONS ")\n--\n\n"
    "asyncio.Task, faster on a loop of cloop; what loop.create_task() "
    "returns.");

static PyType_Slot Task_slots[] = {{Py_tp_doc, (void *)Task_doc},
                                   {Py_tp_new, Task_new},
                                   {Py_tp_init, Task_init},
                                   {Py_tp_dealloc, cl_task_dealloc},
                                   {Py_tp_finalize, cl_future_finalize},
                                   {Py_tp_traverse, cl_task_visit},
                                   {Py_tp_clear, Task_clear},
                                   {Py_tp_iter, cl_future_iter},
                                   {Py_am_await, cl_future_iter},
                                   {Py_tp_methods, Task_methods},
                                   {Py_tp_getset, Task_getset},
                                   {0, NULL}};

static PyType_Spec Task_spec = {
    .name = "cloop.Task",
    .basicsize = sizeof(TaskObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Task_slots,
};

PyTypeObject *
cl_task_setup(PyObject *module, cl_state *st)
{
    if (!cl_futures_of(st)->layouts_fit)
        return (PyTypeObject *)Py_NewRef(cl_futures_of(st)->asyncio_Task);
    /* A cloop.Task is a cloop.Future, but its methods are asyncio.Task's first. */
    PyObject *bases = PyTuple_Pack(2, cl_futures_of(st)->asyncio_Task,
                                   cl_futures_of(st)->FutureType);
    if (bases == NULL)
        return NULL;
    PyTypeObject *type = cl_type_new(module, st, &Task_spec, bases, 0, 0);
    Py_DECREF(bases);
    return type;
}
