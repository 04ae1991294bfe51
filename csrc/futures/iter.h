/* iter.h - the iterator of an awaited future: yields the future once while it
 * is pending, then returns its result. Cached, since each await creates one. */
#ifndef CL_FUTURES_ITER_H
#define CL_FUTURES_ITER_H

#include "base/compat.h"
#include "core/state.h"

/* __iter__ and __await__ of both types. */
PyObject *cl_future_iter(PyObject *future);

PyTypeObject *cl_future_iter_setup(PyObject *module, cl_state *st);

#endif
