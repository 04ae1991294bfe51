/* wait.h - _release_waiter(), which ends the waits of asyncio.tasks. */
#ifndef CL_SYNC_WAIT_H
#define CL_SYNC_WAIT_H

#include "base/compat.h"
#include "sync/sync.h"

/* _release_waiter(waiter). 0/-1 Runs Python. */
int cl_release_waiter(cl_state *st, PyObject *waiter);

/* loop.call_later(delay, _release_waiter, waiter). Returns a new reference. */
PyObject *cl_release_waiter_later(cl_state *st, LoopObject *loop, double delay,
                                  PyObject *waiter);

#endif
