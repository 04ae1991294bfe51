/* step.h - one step of a task: what is sent or thrown into its coroutine, and
 * what is done with what it yields, returns or raises.
 *
 * The rules, the errors and their words are those of asyncio.tasks.Task.__step.
 * PyIter_Send() drives coroutines. */
#ifndef CL_FUTURES_STEP_H
#define CL_FUTURES_STEP_H

#include "base/compat.h"
#include "core/loop.h"
#include "futures/layout.h"
#include "futures/state.h"

/* Schedules a step, which throws `exception` into the coroutine unless that is
 * NULL. 0 or -1. Runs Python. */
int cl_step_soon(TaskObject *task, PyObject *exception);

/* Does a step of the current task, in its context: throws `exception` into the
 * coroutine unless that is NULL. 0 or -1. Runs Python. */
int cl_step(cl_state *st, TaskObject *task, PyObject *exception);

/* Makes the task the current one for a step. `ours` is the loop that runs, NULL
 * if that is not of cloop. 0 or -1. Runs Python. */
int cl_step_enter(cl_state *st, TaskObject *task, LoopObject *ours,
                  PyObject *exception);

/* Does the step that follows when the future that the task waited for is done.
 * 0 or -1. Runs Python. */
int cl_step_after(cl_state *st, TaskObject *task, LoopObject *ours,
                  PyObject *future);

#endif
