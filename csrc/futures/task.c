/* task.c - the type cloop.Task and its methods; see task.h. */
#include "futures/task.h"

#include "core/args.h"
#include "core/errors.h"
#include "core/spares.h"
#include "futures/future.h"
#include "futures/iter.h"
#include "futures/registry.h"
#include "futures/remote.h"
#include "futures/step.h"
#include "futures/tally.h"

#include <string.h>

/* ------------------------------------------------------ creation and deallocation */

static int
check_coroutine(cl_state *st, PyObject *coro)
{
    if (PyCoro_CheckExact(coro))
        return 0;
    if (cl_coro_check(coro))
        return cl_remote_show((CoroObject *)coro);
    PyObject *result =
        PyObject_CallOneArg(cl_futures_of(st)->iscoroutine, coro);
    int is_coroutine = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (is_coroutine == 0)
        PyErr_Format(PyExc_TypeError, "a coroutine was expected, got %R",
                     coro);
    return is_coroutine > 0 ? 0 : -1;
}

/* NULL and None stand for a copy of the current context. */
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

/* Returns "Task-N". From 3.12 on, returns N: get_name() formats the name when
 * it is called, and so does asyncio.Task.get_name(). Before, that expects a
 * string. */
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

/* Runs the first step at once, within the caller's step. */
static int
start_eagerly(cl_state *st, TaskObject *task)
{
#if CL_HAS_EAGER_TASKS
    cl_futures *futures = cl_futures_of(st);
    PyObject *loop = Py_NewRef(task->f_loop),
             *context = Py_NewRef(task->t_context);
    PyObject *args[] = {loop, (PyObject *)task};
    LoopObject *ours = cl_loop_cast(loop);
    if (ours != NULL)
        cl_futures_on(ours)->steps++;
    uint64_t began = ours != NULL && cl_tally_is_on(ours) ? cl_ticks() : 0;
    PyObject *before = PyObject_Vectorcall(futures->swap_current_task, args, 2,
                                           NULL),
             *result;
    int status = -1;
    if (before == NULL)
        goto done;
    result =
        PyObject_CallOneArg(futures->register_eager_task, (PyObject *)task);
    Py_XDECREF(result);
    if (result != NULL && PyContext_Enter(context) == 0) {
        status = cl_step(st, task, NULL);
        if (PyContext_Exit(context) < 0)
            status = -1;
    }
    if (began != 0 && cl_tally_is_on(ours))
        cl_tally_ran(ours, task, began, cl_ticks(), false);
    PyObject *error = status < 0 ? PyErr_GetRaisedException() : NULL;
#if !CL_HAS_AWAITED_BY /* else there is one list, and a task that is done has left it */
    result =
        PyObject_CallOneArg(futures->unregister_eager_task, (PyObject *)task);
    Py_XDECREF(result);
    status = result == NULL ? -1 : status;
#endif
    args[1] = before;
    result = PyObject_Vectorcall(futures->swap_current_task, args, 2, NULL);
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

/* For metrics(): the task has a coroutine from here on. */
static inline void
count_start(const TaskObject *task)
{
    LoopObject *loop = cl_loop_cast(task->f_loop);
    if (loop == NULL)
        return;
    cl_futures_on(loop)->tasks_made++;
    if (cl_tally_is_on(loop))
        cl_tally_made(loop, task);
}

/* The same for a task whose coroutine is about to be dropped; `loop` is its
 * loop if that is cloop's. */
static inline void
count_end(const TaskObject *task, LoopObject *loop)
{
    if (loop == NULL)
        return;
    if (task->f_state == CL_PENDING && task->t_coro != NULL)
        cl_futures_on(loop)->tasks_lost++;
    if (cl_tally_is_on(loop))
        cl_tally_gone(loop, task);
}

/* Initialises a task whose future fields are set, and schedules or runs its
 * first step. `coro` has been checked. */
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
    count_start(task);
    PyObject *own_name = new_name(st, name);
    if (own_name == NULL)
        return -1;
    Py_XSETREF(task->t_name, own_name);
    if (eager)
        return start_eagerly(st, task);
    return cl_step_soon(task, NULL) < 0 ? -1 : cl_registry_add(st, task);
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
    cl_live_add(&cl_futures_of(st)->live_tasks, 1);
    int status = 0;
    if (loop->l_debug || cl_loop_overrides(loop, CL_OVERRIDES_GET_DEBUG))
        status = cl_future_init(st, (FutureObject *)self, (PyObject *)loop);
    else
        ((FutureObject *)self)->f_loop = Py_NewRef((PyObject *)loop);
    PyObject_GC_Track(self);
    if (status < 0 || check_coroutine(st, coro) < 0 ||
        start(st, (TaskObject *)self, coro, name, context, eager) < 0)
        Py_CLEAR(self);
    return self;
}

static int
Task_clear(PyObject *self)
{
    count_end((TaskObject *)self, cl_loop_cast(((TaskObject *)self)->f_loop));
    cl_task_drop((TaskObject *)self);
    return 0;
}

static PyObject *
Task_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    PyObject *self = cl_type_alloc(type);
    cl_state *st = self == NULL ? NULL : cl_future_state(self);
    if (st != NULL)
        cl_live_add(&cl_futures_of(st)->live_tasks, 1);
    return self;
}

/* Returns the loop that asyncio.Future() finds; a new reference. */
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
    /* Surplus variables are left alone. */
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
    if (check_coroutine(st, coro) < 0) { /* before the fields are reset */
        Py_DECREF(loop);
        return -1;
    }
    cl_registry_remove(st, task);
    /* Of a previous __init__(). */
    count_end(task, cl_loop_cast(task->f_loop));
    cl_task_forget(task);
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
    LoopObject *loop = cl_loop_cast(task->f_loop);
    cl_state *st = loop != NULL ? loop->l_st : cl_future_state(self);
    bool exact = Py_TYPE(self) == cl_futures_of(st)->TaskType;
    /* For a subclass, subtype_dealloc() has called the finalizer. */
    if (exact && (task->f_log_tb || (task->f_state == CL_PENDING &&
                                     task->t_log_destroy_pending))) {
        if (PyObject_CallFinalizerFromDealloc(self) < 0)
            return;
        loop = cl_loop_cast(task->f_loop);
    }
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, cl_task_dealloc);
    cl_live_add(&cl_futures_of(st)->live_tasks, -1);
    /* A task that is done is still listed after Future.set_result(task, ...). */
    cl_registry_remove(st, task);
    cl_clear_weakrefs(self);
    count_end(task, loop);
    if (!exact)
        loop = NULL;
    else if (loop != NULL)
        task->f_loop = NULL; /* the reference is ours now */
    cl_task_drop(task);
    cl_spares_give(loop == NULL ? NULL : &cl_futures_on(loop)->spare_tasks,
                   self);
    Py_XDECREF(loop);
    Py_TRASHCAN_END;
}

/* ------------------------------------------------------------------------ methods */

/* Cancels a chain of tasks that wait for one another, of any length: a loop in
 * place of the recursion of asyncio's methods. Returns 1 if cancelled, 0 if
 * the task was done, -1 on error. */
static int
cancel(cl_state *st, TaskObject *task, PyObject *message)
{
    TaskObject *behind = task; /* detects a cycle: moves at half the speed */
    task->f_log_tb = 0;
    if (task->f_state != CL_PENDING)
        return 0;
    for (size_t n = 1;; n++) {
        PyObject *waiter = task->t_fut_waiter;
        cl_task_count_cancel(task);
        if (waiter == NULL)
            break;
        if (!cl_future_is_ours(st, waiter)) {
            PyObject *args[] = {waiter, message};
            Py_INCREF(task);
            PyObject *result =
                PyObject_VectorcallMethod(cl_futures_of(st)->str_cancel, args,
                                          CL_HAS_CANCEL_MESSAGE ? 2 : 1, NULL);
            int cancelled = result == NULL ? -1 : PyObject_IsTrue(result);
            Py_XDECREF(result);
            if (cancelled == 0) {
                task->t_must_cancel = 1;
                cl_future_set_message(cl_task_future(task), message);
            }
            Py_DECREF(task);
            return cancelled < 0 ? -1 : 1;
        }
        ((FutureObject *)waiter)->f_log_tb = 0;
        if (((FutureObject *)waiter)->f_state != CL_PENDING)
            break;
        if (Py_TYPE(waiter) == cl_futures_of(st)->FutureType) {
            /* Scheduling its callbacks may drop the last reference. */
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
    cl_future_set_message(cl_task_future(task), message);
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

/* In some versions, asyncio's own method crashes if __init__() has not run. */
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
     "Return the task's name, by default Task-N."},
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
    "A faster asyncio.Task for cloop's loops; loop.create_task() returns it.");

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
    cl_futures *futures = cl_futures_of(st);
    if (!futures->layouts_fit)
        return (PyTypeObject *)Py_NewRef(futures->asyncio_Task);
    /* cloop.Task is a subclass of cloop.Future, but asyncio.Task comes first
     * in its MRO. */
    PyObject *bases =
        PyTuple_Pack(2, futures->asyncio_Task, futures->FutureType);
    if (bases == NULL)
        return NULL;
    PyTypeObject *type = cl_type_new(module, st, &Task_spec, bases, 0, 0);
    Py_DECREF(bases);
    return type;
}
