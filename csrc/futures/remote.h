/* remote.h - tasks of coroutines in C, as other processes see them.
 *
 * `python -m asyncio ps` and its kin (Python 3.14) read the memory of a process. They
 * take the coroutine of a task for one of Python's, whose frame they read, and follow
 * what it awaits as long as that is of the very same type. A coroutine of ours has the
 * space for such a frame (coro.h). Here it is filled for those that become a task: with
 * the code and the place of asyncio's coroutine, which another one like it, that waits
 * for ever, has (cloop/_frames.py); and with what asyncio's awaits in turn, which is
 * made of blocks of memory that have the type and the frame, and are no objects.
 *
 * Where the layout is not as expected nothing is filled in, and the stack is empty.
 * A coroutine of Python that awaits one of ours is of another type: other processes see
 * its own frame, and none below. */
#ifndef CL_FUTURES_REMOTE_H
#define CL_FUTURES_REMOTE_H

#include "base/compat.h"
#include "core/state.h"
#include "futures/coro.h"

/* Shows the coroutine, of which a task is made; 0, or -1 for what is no Exception. */
int cl_remote_show(cl_coro *coro);

int cl_remote_traverse(cl_state *st, visitproc visit, void *arg);
void cl_remote_clear(cl_state *st);
void cl_remote_free(cl_state *st);

#endif
