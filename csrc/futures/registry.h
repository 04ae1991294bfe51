/* registry.h - what asyncio.current_task() and asyncio.all_tasks() find.
 *
 * Both are asyncio's own functions; here cloop's tasks are entered where these
 * look. Up to 3.13 that is a dict {loop: task} and a WeakSet of all tasks; from
 * 3.14 on two slots and a list in the state of the thread, which debuggers read from
 * outside as well. The places of the latter are found by experiment
 * (cl_registry_find_slots), never assumed.
 *
 * Dict operations are dear beside the rest of a step. So after a step of a task that
 * is not done yet the entry stays as it is, task_entry, and is looked at again
 * before anything else can see it: cl_loop_rest() sets it to None, which reads as no
 * entry does, before other Python code runs; cl_loop_forget_task() takes it out
 * before a handle is called, as that may be a step of a task of asyncio's, which
 * wants none there, and when the loop stops. */
#ifndef CL_FUTURES_REGISTRY_H
#define CL_FUTURES_REGISTRY_H

#include "base/compat.h"
#include "core/loop.h"
#include "core/state.h"
#include "futures/layout.h"

/* 0 or -1. */
int cl_registry_setup(cl_state *st);

/* From 3.14 on: finds the slots, given a pending task of asyncio's, not entered,
 * whose loop is `loop`, and which was made last in this thread. 1 found, 0 not, -1
 * error. Before 3.14: 1. */
int cl_registry_find_slots(cl_state *st, PyObject *task, PyObject *loop);

/* The task becomes the current one of its loop, or stops being it. 0, or -1 with
 * asyncio's RuntimeError if another is, or the loop does not run here. `loop` is
 * `task`'s; `ours` is it, too, or NULL if it is none of cloop's or within a step. */
int cl_registry_enter(cl_state *st, PyObject *loop, LoopObject *ours,
                      PyObject *task);
int cl_registry_leave(cl_state *st, PyObject *loop, LoopObject *ours,
                      PyObject *task);

/* A pending task enters the list of all, and leaves it when it is done, unless
 * CL_LISTS_DONE_TASKS, or about to be freed. All may be called again. */
int cl_registry_add(cl_state *st, TaskObject *task);
void cl_registry_remove(cl_state *st, TaskObject *task);

/* asyncio._get_running_loop(): new reference, or NULL; with an exception only if it was
 * an error. */
PyObject *cl_registry_running_loop(cl_state *st);

/* The current task of the loop, which runs in this thread: borrowed, or NULL if there is
 * none, or it is not one of ours that this knows. */
PyObject *cl_registry_current_task(cl_state *st, LoopObject *loop);

/* Of the layer: see core/layer.h. */
void cl_registry_forked(LoopObject *loop);

static inline void
cl_registry_done(cl_state *st, TaskObject *task)
{
    if (!CL_LISTS_DONE_TASKS)
        cl_registry_remove(st, task);
}

#endif
