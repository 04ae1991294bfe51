/* op.h - the methods of streams that are done here: read(), readexactly(), readuntil(),
 * readline(), __anext__(), write(), drain() and the protocol's _drain_helper().
 *
 * Those that asyncio has as coroutines return coroutines (futures/coro.h) that do the
 * same step by step: when they begin, when they wait, on which attributes. Whatever is
 * not plain (an object that a program has changed, a separator that is not bytes, a
 * drain that has to wait) is handed over to asyncio's own coroutine. */
#ifndef CL_STREAMS_OP_H
#define CL_STREAMS_OP_H

#include "base/compat.h"
#include "core/state.h"

/* Of the classes that derive from asyncio's. */
extern PyMethodDef cl_reader_methods[];
extern PyMethodDef cl_protocol_methods[];
extern PyMethodDef cl_writer_methods[];

PyTypeObject *cl_stream_op_setup(PyObject *module, cl_state *st);

#endif
