/* step.h - one step of a task: what is sent or thrown into its coroutine, and what becomes of
 * that which it yields, returns or raises.
 *
 * The rules, the errors and their words are those of asyncio.tasks.Task.__step. Coroutines
 * are driven by PyIter_Send(). All of this runs Python. */
#ifndef CL_FUTURES_STEP_H
#define CL_FUTURES_STEP_H

#include "base/compat.h"
#include "core/loop.h"
#include "futures/layout.h"
#include "futures/state.h"

/* Has the loop run a step, which throws `exception` into the coroutine unless that is
 * NULL. 0 or -1. */
int cl_step_soon(TaskObject *task, PyObject *exception);

/* One step of a task that is the current one, in its context. `exception` is thrown into
 * the coroutine unless it is NULL. 0 or -1. */
int cl_step(cl_state *st, TaskObject *task, PyObject *exception);

/* The same of a task that is not the current one yet. `ours` is the loop that runs, if that
 * is ours. */
int cl_step_enter(cl_state *st, TaskObject *task, LoopObject *ours,
                  PyObject *exception);

/* The same after the future that it waited for is done. */
int cl_step_after(cl_state *st, TaskObject *task, LoopObject *ours,
                  PyObject *future);

#endif
