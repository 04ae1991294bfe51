/* op.h - stream methods in C: read(), readexactly(), readuntil(), readline(),
 * __anext__(), write(), drain() and the protocol's _drain_helper().
 *
 * Where asyncio has a coroutine, these return one too (futures/coro.h). It
 * takes the same steps: it starts, waits and touches attributes at the same
 * points. asyncio's own coroutine takes over whenever something is unusual: an
 * object that the program changed, a separator that is not bytes, or a drain
 * that has to wait. */
#ifndef CL_STREAMS_OP_H
#define CL_STREAMS_OP_H

#include "base/compat.h"
#include "core/state.h"

/* For the classes that derive from asyncio's. */
extern PyMethodDef cl_reader_methods[];
extern PyMethodDef cl_protocol_methods[];
extern PyMethodDef cl_writer_methods[];

PyTypeObject *cl_stream_op_setup(PyObject *module, cl_state *st);

#endif
