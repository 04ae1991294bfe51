/* task.h - cloop.Task: asyncio.Task whose steps are ready nodes of the loop.
 *
 * It derives from asyncio.Task and adds no field (see future.h). A task that is to
 * run is in the loop's ready ring itself, which owns a reference: as
 * CL_NODE_TASK_STEP, or as CL_NODE_TASK_WAKEUP when what it waited for,
 * t_fut_waiter, is done. On a loop that is not plain (cl_loop_is_plain), or not
 * ours, callables go through its call_soon() instead, as asyncio's do.
 * step.h has what a step does. */
#ifndef CL_FUTURES_TASK_H
#define CL_FUTURES_TASK_H

#include "base/compat.h"
#include "core/loop.h"
#include "core/state.h"
#include "futures/layout.h"

/* loop.create_task() without a factory: new reference. `name` and `context` may be
 * NULL. Runs Python only in debug mode, with a name that is no string, for what is
 * not a plain coroutine, or if `eager`. */
PyObject *cl_task_new(LoopObject *loop, PyObject *coro, PyObject *name,
                      PyObject *context, bool eager);

/* Whether the ready ring of this loop takes the task itself. */
static inline bool
cl_task_fits_node(const TaskObject *task, const LoopObject *loop)
{
    return cl_loop_is_plain(loop) && !loop->l_closed &&
           task->t_context != NULL && PyContext_CheckExact(task->t_context);
}

/* The nodes that are tasks: see above. */
extern const cl_node_ops cl_task_step_node, cl_task_wakeup_node;

/* What asyncio passes to add_done_callback() and call_soon() for a task: a callable
 * that takes the future, and one that takes nothing. Their __self__ is the task. */
PyObject *cl_task_wakeup_callable(TaskObject *task);
PyObject *cl_task_step_callable(TaskObject *task);

/* If a cloop.Task is given to call_soon() with the future that it waited for, then
 * by a method of asyncio.Future that was called by name, as asyncio.Future.cancel(f):
 * it took f_callback0 for a callable. The one that it should have been, or NULL (with
 * an exception only if there is no memory). */
PyObject *cl_task_woken_by(cl_state *st, PyObject *callback, PyObject *future);

PyTypeObject *cl_task_setup(PyObject *module, cl_state *st);

#endif
