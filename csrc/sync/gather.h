/* gather.h - the callback of the children of asyncio.gather(). */
#ifndef CL_SYNC_GATHER_H
#define CL_SYNC_GATHER_H

#include "base/compat.h"
#include "core/state.h"

PyTypeObject *cl_gather_setup(PyObject *module, cl_state *st);

#endif
