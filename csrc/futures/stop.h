/* stop.h - StopIteration with the result of an await, without a new exception
 * each time.
 *
 * Before 3.10 and from 3.12 on, `await` takes a result from tp_iternext as a
 * StopIteration, and drops that at once. So one instance is used again, while
 * nobody else refers to it. It must not keep a result alive: the coroutine or
 * iterator whose result it has, and which has no other reference than that of
 * whoever awaits it, lets go of it when it is freed. */
#ifndef CL_FUTURES_STOP_H
#define CL_FUTURES_STOP_H

#include "base/compat.h"
#include "futures/state.h"

/* Raises StopIteration(True). Returns NULL. */
PyObject *cl_stop_true(cl_state *st);

/* Raises StopIteration(result), and steals the result. Returns NULL. The caller
 * has one reference and calls cl_stop_forget() when it is freed. */
PyObject *cl_stop_with(cl_state *st, PyObject *result);

void cl_stop_empty(cl_futures *futures);

/* Lets go of the result of cl_stop_with(). Runs Python. */
static inline void
cl_stop_forget(cl_state *st)
{
    if (cl_futures_of(st)->stop_is_full)
        cl_stop_empty(cl_futures_of(st));
}

#endif
