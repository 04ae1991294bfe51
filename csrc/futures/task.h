/* task.h - cloop.Task: asyncio.Task whose steps are ready nodes of the loop.
 *
 * It derives from asyncio.Task and adds no field (see future.h). A task that
 * is ready to run is in the loop's ready ring itself, which owns a reference:
 * as CL_NODE_TASK_STEP, or as CL_NODE_TASK_WAKEUP if the future it waited for,
 * t_fut_waiter, is done. On a loop that is not plain (cl_loop_is_plain), or
 * not ours, callables go through call_soon() instead, as in asyncio.
 *
 * step.h has the steps. */
#ifndef CL_FUTURES_TASK_H
#define CL_FUTURES_TASK_H

#include "base/compat.h"
#include "core/loop.h"
#include "core/state.h"
#include "futures/layout.h"

/* loop.create_task() without a factory. Returns a new reference. `name` and
 * `context` may be NULL. For a plain coroutine and a str as name, outside of
 * debug mode and unless `eager`, no Python code runs. Otherwise: Runs Python. */
PyObject *cl_task_new(LoopObject *loop, PyObject *coro, PyObject *name,
                      PyObject *context, bool eager);

/* Whether this loop's ready ring takes the task itself. */
static inline bool
cl_task_fits_node(const TaskObject *task, const LoopObject *loop)
{
    return cl_loop_is_plain(loop) && !loop->l_closed &&
           task->t_context != NULL && PyContext_CheckExact(task->t_context);
}

/* The nodes described above. */
extern const cl_node_ops cl_task_step_node, cl_task_wakeup_node;

/* The callables that asyncio passes to add_done_callback() and call_soon() for
 * a task: one takes the future, the other nothing. Their __self__ is the task.
 * Return new references. */
PyObject *cl_task_wakeup_callable(TaskObject *task);
PyObject *cl_task_step_callable(TaskObject *task);

/* Returns the task of such a callable, borrowed; NULL for any other. */
PyObject *cl_task_of_callable(PyObject *callable);

/* The same for the first kind only. */
PyObject *cl_task_of_wakeup(PyObject *callable);

/* For a cloop.Task that was passed to call_soon() with the future it waited
 * for: a method of asyncio.Future that was called by name, such as
 * asyncio.Future.cancel(f), took f_callback0 for a callable. Returns the
 * callable that should have been there; NULL with an exception only if out of
 * memory. */
PyObject *cl_task_woken_by(cl_state *st, PyObject *callback, PyObject *future);

PyTypeObject *cl_task_setup(PyObject *module, cl_state *st);

#endif
