/* task_node.c - a task in the loop's ready ring, and the callables that
 * represent it in handles and among a future's callbacks; see task.h. */
#include "core/errors.h"
#include "futures/future.h"
#include "futures/step.h"
#include "futures/tally.h"
#include "futures/task.h"

/* --------------------------------------------------------------------- callables */

/* Runs a step for one of the callables below, with a future that is done, an
 * exception, or neither. The caller may look up the current task next, so its
 * entry is removed. */
static PyObject *
called_step(PyObject *self, PyObject *future, PyObject *exception)
{
    TaskObject *task = (TaskObject *)self;
    cl_state *st = cl_future_state(self);
    if (st == NULL)
        return NULL;
    LoopObject *ours = cl_loop_cast(task->f_loop);
    Py_XINCREF(ours);
    if (ours != NULL)
        cl_futures_on(ours)->steps++;
    bool counts = ours != NULL && cl_tally_is_on(ours);
    uint64_t began = counts ? cl_ticks() : 0;
    int status = future != NULL ? cl_step_after(st, task, ours, future)
                                : cl_step_enter(st, task, ours, exception);
    if (counts && cl_tally_is_on(ours))
        cl_tally_ran(ours, task, began, cl_ticks(), true);
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
cl_task_of_callable(PyObject *callable)
{
    if (!PyCFunction_CheckExact(callable))
        return NULL;
    PyCFunction function = PyCFunction_GET_FUNCTION(callable);
    return function == step_def.ml_meth || function == wakeup_def.ml_meth
               ? PyCFunction_GET_SELF(callable)
               : NULL;
}

PyObject *
cl_task_of_wakeup(PyObject *callable)
{
    return PyCFunction_CheckExact(callable) &&
                   PyCFunction_GET_FUNCTION(callable) == wakeup_def.ml_meth
               ? PyCFunction_GET_SELF(callable)
               : NULL;
}

PyObject *
cl_task_woken_by(cl_state *st, PyObject *callback, PyObject *future)
{
    if (!cl_future_is_ours(st, future) ||
        ((FutureObject *)future)->f_state == CL_PENDING ||
        ((TaskObject *)callback)->t_fut_waiter != future)
        return NULL;
    return cl_task_wakeup_callable((TaskObject *)callback);
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
    /* A new reference, because a garbage collection may change the task. */
    PyObject *waiter = wakes ? Py_NewRef(task->t_fut_waiter) : NULL;
    PyObject *context = Py_XNewRef(task->t_context);
    PyObject *handle = callable == NULL
                           ? NULL
                           : (PyObject *)cl_handle_of_node(
                                 loop, callable, &waiter, wakes, context);
    Py_XDECREF(callable);
    Py_XDECREF(waiter);
    Py_XDECREF(context);
    if (handle != NULL)
        cl_handle_track((HandleObject *)handle);
    return handle;
}

/* Passes the exception that is set to the loop's exception handler, unless it
 * must leave the loop. 0/-1 */
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

/* Whether dropping our reference to a finished future may run a destructor. */
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
    cl_futures_on(loop)->steps++;
    if (context == NULL) { /* cleared by the garbage collector */
        PyErr_SetString(PyExc_RuntimeError, "uninitialized Task object");
    }
    else if (PyContext_Enter(context) == 0) {
        PyObject *future = Py_XNewRef(cl_node_kind(node) == CL_NODE_TASK_WAKEUP
                                          ? task->t_fut_waiter
                                          : NULL);
        if (future != NULL) {
            status = cl_step_after(st, task, loop, future);
            if (!cl_future_is_ours(st, future) || may_run_python(future))
                cl_loop_rest(loop);
            Py_DECREF(future);
        }
        else {
            status = cl_step_enter(st, task, loop, NULL);
        }
        if (PyContext_Exit(context) < 0)
            status = -1;
    }
    Py_XDECREF(context);
    return status < 0 ? report(loop, node) : 0;
}

static void
node_ran(LoopObject *loop, cl_node node, uint64_t began, uint64_t ended)
{
    cl_tally_ran(loop, cl_node_pointer(node), began, ended, true);
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
     .ran = node_ran, \
     CL_NODE_CHECK(node_check)}

const cl_node_ops cl_task_step_node = TASK_NODE;
const cl_node_ops cl_task_wakeup_node = TASK_NODE;
