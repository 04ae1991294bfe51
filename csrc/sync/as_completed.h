/* as_completed.h - the iterator that asyncio.as_completed() returns. */
#ifndef CL_SYNC_AS_COMPLETED_H
#define CL_SYNC_AS_COMPLETED_H

#include "base/compat.h"
#include "core/state.h"

PyTypeObject *cl_as_completed_setup(PyObject *module, cl_state *st);

#endif
