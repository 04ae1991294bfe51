/* remote.h - makes tasks of coroutines in C visible to other processes.
 *
 * `python -m asyncio ps` and similar tools (Python 3.14) read the memory of a
 * process. They treat the coroutine of a task as a Python coroutine, read its
 * frame, and follow what it awaits while that has the same type. Our
 * coroutines have space for such a frame (coro.h). When one becomes a task,
 * the frame gets the code and position of asyncio's coroutine, taken from one
 * that waits for ever (cloop/_frames.py). What that awaits is represented by
 * memory blocks with a type and a frame, which are not objects.
 *
 * If the layout is not as expected, nothing is filled in, and the stack is
 * empty. A Python coroutine that awaits one of ours has another type: other
 * processes see its own frame, and none below. */
#ifndef CL_FUTURES_REMOTE_H
#define CL_FUTURES_REMOTE_H

#include "base/compat.h"
#include "core/state.h"
#include "futures/coro.h"

/* Makes the coroutine of a task visible. 0, or -1 for an exception that is not
 * an Exception. Runs Python. */
int cl_remote_show(CoroObject *coro);

int cl_remote_traverse(cl_state *st, visitproc visit, void *arg);
void cl_remote_clear(cl_state *st);
void cl_remote_free(cl_state *st);

#endif
