/* state.h - the streams layer's part of the module state; see core/layer.h. */
#ifndef CL_STREAMS_STATE_H
#define CL_STREAMS_STATE_H

#include "base/compat.h"

#include "core/guard.h"
#include "futures/state.h"

/* clang-format off */

/* As in core/state.h. */
#define CL_STREAMS_TYPES(X) \
    X(ReaderFields, cl_reader_setup, NULL) \
    X(StreamOp, cl_stream_op_setup, NULL)

#define CL_STREAMS_IMPORTS(X) \
    X(IncompleteReadError, "asyncio", "IncompleteReadError") \
    X(LimitOverrunError, "asyncio", "LimitOverrunError") \
    X(StreamReader, "asyncio", "StreamReader") \
    X(StreamReaderProtocol, "asyncio", "StreamReaderProtocol") \
    X(StreamWriter, "asyncio", "StreamWriter")

#define CL_STREAMS_NAMES(X) \
    X(__class__) X(_buffer) X(_client_connected_cb) X(_cloop) \
    X(_connection_lost) X(_drain_helper) X(_eof) X(_exception) X(_limit) \
    X(_loop) X(_paused) X(_protocol) X(_reader) X(_stream_reader_wr) \
    X(_transport) X(_waiter) X(args) X(cancelled) X(consumed) \
    X(data_received) X(exception) X(feed_data) X(is_closing) X(pause_reading) \
    X(resume_reading) X(set_result) X(write)

#define CL_STREAMS_COUNTS(X) \
    X(stream_ops, "StreamOp")

/* clang-format on */

/* asyncio's classes and ours. */
#define CL_STREAMS_GUARDS(X) \
    X(reader) \
    X(own_reader) \
    X(protocol) \
    X(own_protocol) \
    X(writer) \
    X(own_writer)

typedef struct cl_streams {
    cl_futures lower;
    CL_STREAMS_TYPES(CL_TYPE_FIELD)
    CL_STREAMS_IMPORTS(CL_IMPORT_FIELD)
    CL_STREAMS_NAMES(CL_NAME_FIELD)
    bool ss_on;
#define FIELD(name) cl_guard ss_##name;
    CL_STREAMS_GUARDS(FIELD)
#undef FIELD
    CL_STREAMS_COUNTS(CL_COUNT_FIELD)
} cl_streams;

static inline cl_streams *
cl_streams_of(const cl_state *st)
{
    return (cl_streams *)st;
}

typedef struct cl_loop_streams {
    cl_loop_futures lower;
    cl_spares spare_ops;
} cl_loop_streams;

static inline cl_loop_streams *
cl_streams_on(const LoopObject *loop)
{
    return (cl_loop_streams *)loop;
}

extern const cl_layer cl_streams_layer;

#endif
