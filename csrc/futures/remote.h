/* remote.h - tasks of coroutines in C, as other processes see them.
 *
 * `python -m asyncio ps` and similar tools (Python 3.14) read the memory of a
 * process. They treat the coroutine of a task as a Python coroutine, read its
 * frame, and follow what it awaits while that has the same type. Our
 * coroutines have space for such a frame (coro.h). It is filled in for those
 * that become a task: with the code and position of asyncio's coroutine, taken
 * from a similar one that waits for ever (cloop/_frames.py), and with what
 * that awaits, which is faked by memory blocks with the type and the frame
 * that are not objects.
 *
 * If the layout is not as expected, nothing is filled in, and the stack is
 * empty. A Python coroutine that awaits one of ours has another type: other
 * processes see its own frame, and none below. */
#ifndef CL_FUTURES_REMOTE_H
#define CL_FUTURES_REMOTE_H

#include "base/compat.h"
#include "core/state.h"
#include "futures/coro.h"

/* Makes the coroutine of a task visible. 0, or -1 for exceptions that are no
 * Exception. Runs Python. */
int cl_remote_show(cl_coro *coro);

int cl_remote_traverse(cl_state *st, visitproc visit, void *arg);
void cl_remote_clear(cl_state *st);
void cl_remote_free(cl_state *st);

#endif
