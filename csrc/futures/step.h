/* step.h - a step of a task: sends or throws into its coroutine, and handles
 * what that yields, returns or raises.
 *
 * Behaviour and error messages are those of asyncio.tasks.Task.__step.
 * PyIter_Send() drives coroutines. */
#ifndef CL_FUTURES_STEP_H
#define CL_FUTURES_STEP_H

#include "base/compat.h"
#include "core/loop.h"
#include "futures/layout.h"
#include "futures/state.h"

/* Schedules a step, which throws `exception` into the coroutine unless that is
 * NULL. 0/-1 Runs Python. */
int cl_step_soon(TaskObject *task, PyObject *exception);

/* Runs a step of the current task; the task's context must be entered. Throws
 * `exception` into the coroutine unless that is NULL. 0/-1 Runs Python. */
int cl_step(cl_state *st, TaskObject *task, PyObject *exception);

/* Makes the task the current one and runs a step. `ours` is the running loop,
 * or NULL if that is not cloop's. 0/-1 Runs Python. */
int cl_step_enter(cl_state *st, TaskObject *task, LoopObject *ours,
                  PyObject *exception);

/* Runs the step that follows when the future that the task waited for is done.
 * 0/-1 Runs Python. */
int cl_step_after(cl_state *st, TaskObject *task, LoopObject *ours,
                  PyObject *future);

#endif
