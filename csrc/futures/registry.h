/* registry.h - makes cloop's tasks visible to asyncio.current_task() and
 * asyncio.all_tasks().
 *
 * Both are asyncio's own functions; cloop's tasks are entered where they look.
 * Up to 3.13 that is a dict {loop: task} and a WeakSet of all tasks. From 3.14
 * on it is two slots and a list in the thread state, which debuggers also read
 * from outside. The offsets of these are found by experiment, never assumed.
 *
 * Dict operations are expensive compared with the rest of a step. So after a
 * step of a task that is not done, its entry stays (task_entry) and is
 * corrected before anything else can see it. cl_loop_rest() sets it to None,
 * which reads like no entry, before other Python code runs.
 * cl_loop_forget_task() removes it before a handle is called, as that may be a
 * step of asyncio's own task, which requires that there is none; and when the
 * loop stops. */
#ifndef CL_FUTURES_REGISTRY_H
#define CL_FUTURES_REGISTRY_H

#include "base/compat.h"
#include "core/loop.h"
#include "core/state.h"
#include "futures/layout.h"

/* 0/-1 */
int cl_registry_setup(cl_state *st);

/* Finds where asyncio keeps the running loop and task. `first` and `second`
 * are pending asyncio tasks that are not entered, the last ones created in
 * this thread, in this order. `loop` is their loop and the running one; from
 * 3.14 on it is no longer running afterwards. Returns 1 if found, 0 if not, -1
 * on error. */
int cl_registry_find_slots(cl_state *st, PyObject *first, PyObject *second,
                           PyObject *loop);

/* Makes the task the current one of its loop, or ends that. 0, or -1 with
 * asyncio's RuntimeError if another one is current, or the loop does not run
 * here. `loop` is the task's; `ours` is the same, or NULL if it is not cloop's
 * or within a step. */
int cl_registry_enter(cl_state *st, PyObject *loop, LoopObject *ours,
                      PyObject *task);
int cl_registry_leave(cl_state *st, PyObject *loop, LoopObject *ours,
                      PyObject *task);

#if CL_HAS_AWAITED_BY
static inline PyObject **
cl_registry_slot(PyThreadState *thread, size_t offset)
{
    return (PyObject **)((char *)thread + offset);
}

static inline bool
cl_registry_is_at(const cl_state *st, PyThreadState *thread, PyObject *loop,
                  PyObject *task)
{
    return *cl_registry_slot(thread, cl_futures_of(st)->running_loop_offset) ==
               loop &&
           *cl_registry_slot(thread, cl_futures_of(st)->running_task_offset) ==
               task;
}

/* Makes the task the current one of the thread, or ends that, if that is all
 * there is to do: else returns false. */
static inline bool
cl_registry_set(const cl_state *st, PyThreadState *thread, PyObject *loop,
                PyObject *task)
{
    if (!cl_registry_is_at(st, thread, loop, NULL))
        return false;
    *cl_registry_slot(thread, cl_futures_of(st)->running_task_offset) =
        Py_NewRef(task);
    return true;
}

static inline bool
cl_registry_unset(const cl_state *st, PyThreadState *thread, PyObject *loop,
                  PyObject *task)
{
    if (!cl_registry_is_at(st, thread, loop, task))
        return false;
    *cl_registry_slot(thread, cl_futures_of(st)->running_task_offset) = NULL;
    Py_DECREF(task);
    return true;
}
#else
#define cl_registry_set(st, thread, loop, task) ((void)(thread), false)
#define cl_registry_unset(st, thread, loop, task) ((void)(thread), false)
#endif

/* Adds a pending task to the list of all tasks, and removes it when it is done
 * (unless CL_LISTS_DONE_TASKS) or freed. May be called repeatedly. */
int cl_registry_add(cl_state *st, TaskObject *task);
void cl_registry_remove(cl_state *st, TaskObject *task);

/* asyncio._get_running_loop(). Returns a new reference, or NULL, with an
 * exception only on error. */
PyObject *cl_registry_running_loop(cl_state *st);

/* Whether it is that loop. False if unknown. Runs no Python. */
static inline bool
cl_registry_runs(const cl_state *st, const LoopObject *loop)
{
#if CL_HAS_AWAITED_BY
    return *cl_registry_slot(PyThreadState_Get(),
                             cl_futures_of(st)->running_loop_offset) ==
           (PyObject *)loop;
#elif CL_HAS_RUNNING_LOOP_HOLDER
    const cl_running_loop_holder *holder =
        cl_futures_of(st)->running_loop_holder;
    PyObject *dict = PyThreadState_GetDict();
    return dict != NULL && holder != NULL &&
           cl_dict_version(dict) == cl_futures_of(st)->running_loop_version &&
           holder->rl_loop == (PyObject *)loop &&
           holder->rl_pid == (int)st->pid;
#else
    (void)st;
    (void)loop;
    return false;
#endif
}

/* Returns the current task of the loop, which runs in this thread. Borrowed;
 * NULL if there is none, or it is not one of ours. */
PyObject *cl_registry_current_task(cl_state *st, LoopObject *loop);

/* For the layer's table: see core/layer.h. */
void cl_registry_forked(LoopObject *loop);

static inline void
cl_registry_done(cl_state *st, TaskObject *task)
{
    if (!CL_LISTS_DONE_TASKS)
        cl_registry_remove(st, task);
}

#endif
