/* gather.h - the callback of the children of asyncio.gather(). */
#ifndef CL_SYNC_GATHER_H
#define CL_SYNC_GATHER_H

#include "base/compat.h"
#include "core/node.h"

/* CL_NODE_CHILD_DONE */
extern const cl_node_ops cl_gather_node;

PyTypeObject *cl_gather_setup(PyObject *module, cl_state *st);

#endif
