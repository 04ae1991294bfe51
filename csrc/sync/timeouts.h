/* timeouts.h - asyncio.Timeout, for functions that use one. */
#ifndef CL_SYNC_TIMEOUTS_H
#define CL_SYNC_TIMEOUTS_H

#include "base/compat.h"
#include "sync/sync.h"

/* timeout(delay), entered; `delay` is None, a float or an int. Returns a new
 * reference; NULL without an exception if that is up to asyncio: then nothing
 * was done. */
PyObject *cl_timeout_entered(cl_state *st, PyObject *delay);

/* timeout.__aexit__() without a look at exceptions, if it has not expired: 1
 * if left, 0 if that is up to asyncio, -1 with an exception. */
int cl_timeout_leave(cl_state *st, PyObject *timeout);

#endif
