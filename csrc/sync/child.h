/* child.h - the futures and tasks that asyncio's functions wait for.
 *
 * Those that are exactly ours are used directly; of others, methods are
 * called. */
#ifndef CL_SYNC_CHILD_H
#define CL_SYNC_CHILD_H

#include "base/compat.h"
#include "futures/future.h"
#include "sync/sync.h"

/* future.done() and future.cancelled(): 1, 0 or -1. Run Python. */
int cl_child_done(cl_state *st, PyObject *child);
int cl_child_cancelled(cl_state *st, PyObject *child);

/* future.exception(), Py_None if there is none, and future.result(). New
 * references. Run Python. */
PyObject *cl_child_exception(cl_state *st, PyObject *child);
PyObject *cl_child_result(cl_state *st, PyObject *child);

/* future.add_done_callback(callback), remove_done_callback(callback) and
 * cancel(). 0/-1 Run Python. */
int cl_child_add_callback(cl_state *st, PyObject *child, PyObject *callback);
int cl_child_remove_callback(cl_state *st, PyObject *child,
                             PyObject *callback);
int cl_child_cancel(cl_state *st, PyObject *child);

/* future_add_to_awaited_by(child, task) and future_discard_from_awaited_by();
 * nothing if the task is NULL. 0/-1 Run Python. */
int cl_child_note_awaited_by(cl_state *st, PyObject *child, PyObject *task);
int cl_child_forget_awaited_by(cl_state *st, PyObject *child, PyObject *task);

/* futures._get_loop(child). Returns a new reference. Runs Python. */
PyObject *cl_child_loop(cl_state *st, PyObject *child);

/* Whether create_task() of the loop, which has no task factory, would make a
 * cloop.Task of the coroutine. */
bool cl_child_fits_task(LoopObject *loop, PyObject *coro);

/* ensure_future(arg, loop=loop), by this name in asyncio.tasks unless it is a
 * coroutine or ours. `ours` is the running loop; `loop` is NULL for None.
 * Returns a new reference. Runs Python. */
PyObject *cl_child_ensure(cl_state *st, PyObject *name, LoopObject *ours,
                          PyObject *loop, PyObject *arg);

/* Whether all items of the set are exactly ours, and of this loop: 1, 0, -1. */
int cl_children_are_ours(cl_state *st, PyObject *set, LoopObject *loop);

#endif
