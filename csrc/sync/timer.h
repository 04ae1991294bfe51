/* timer.h - timers of asyncio's functions, without a call of call_later(). */
#ifndef CL_SYNC_TIMER_H
#define CL_SYNC_TIMER_H

#include "base/compat.h"
#include "sync/sync.h"

/* What a loop must not override so that timers can be made here; time() is
 * called. */
#define CL_OVERRIDES_TIMERS (CL_OVERRIDES_CALL_LATER | CL_OVERRIDES_CALL_AT)

/* loop.call_later(delay, function, *args). Returns a new reference. Calls
 * an overridden time(). Runs Python. */
PyObject *cl_timer_start(LoopObject *loop, double delay, PyObject *function,
                         PyObject *const *args, Py_ssize_t nargs);

/* handle.cancel(), of our timer, or of anything else that call_later() has
 * returned; of nothing if it is NULL. 0/-1 Runs Python. */
int cl_timer_cancel(cl_state *st, PyObject *handle);

/* Whether it is a float or an int that fits one, without a look at subclasses.
 * Runs no Python. */
bool cl_timer_delay(PyObject *object, double *delay);

#endif
