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
    X(StreamWriter, "asyncio", "StreamWriter") \
    X(deque, "collections", "deque")

#define CL_STREAMS_NAMES(X) \
    X(StreamReader) X(StreamReaderProtocol) X(StreamWriter) X(__class__) \
    X(__del__) X(_buffer) X(_client_connected_cb) X(_cloop) X(_closed) \
    X(_complete_fut) X(_connection_lost) X(_drain_helper) X(_drain_waiters) \
    X(_eof) X(_exception) X(_limit) \
    X(_loop) X(_over_ssl) X(_paused) X(_protocol) X(_reader) \
    X(_reject_connection) X(_stream_reader_wr) X(_stream_writer) \
    X(_strong_reader) X(_task) X(_transport) X(_waiter) X(add_done_callback) \
    X(args) X(cancelled) X(close) X(connection_lost) X(connection_made) \
    X(consumed) X(data_received) X(eof_received) X(exception) X(feed_data) \
    X(feed_eof) X(get_extra_info) X(is_closing) X(pause_reading) \
    X(resume_reading) X(set_result) X(set_transport) X(sslcontext) X(write)

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
    X(own_writer) \
    X(mixin)

/* What asyncio's __init__() sets: see served.h. */
#define CL_RECIPE_MAX 16

typedef struct {
    PyObject *rc_keys[CL_RECIPE_MAX];      /* owned strings */
    PyObject *rc_constants[CL_RECIPE_MAX]; /* None, True or False; borrowed */
    uint8_t rc_kinds[CL_RECIPE_MAX];
    int rc_count;
    bool rc_known;
    bool rc_failed; /* there is something in it that is not understood */
} cl_recipe;

/* How this asyncio's code differs from that of other versions: see served.c. */
enum {
    CL_SERVED_KNOWN = 1,        /* the text is one of those known */
    CL_SERVED_KEEPS_WRITER = 2, /* there is a _stream_writer */
    CL_SERVED_KEEPS_TASK = 4,   /* there is a _task */
    CL_SERVED_CALLBACK = 8,     /* the task gets a callback */
    CL_SERVED_CATCHES = 16,     /* exceptions of the handler are reported */
};

typedef struct cl_streams {
    cl_futures lower;
    CL_STREAMS_TYPES(CL_TYPE_FIELD)
    CL_STREAMS_IMPORTS(CL_IMPORT_FIELD)
    CL_STREAMS_NAMES(CL_NAME_FIELD)
    bool ss_on;
#define FIELD(name) cl_guard ss_##name;
    CL_STREAMS_GUARDS(FIELD)
#undef FIELD
    cl_recipe ss_protocol_recipe;
    cl_recipe ss_writer_recipe;
    bool ss_reader_known; /* the same for readers */
    unsigned ss_made;     /* connection_made(): CL_SERVED_ flags */
    unsigned ss_lost;     /* connection_lost() */
    PyObject *ss_globals; /* owned; of asyncio.streams */
    /* Owned; code, or NULL: of asyncio's factories, and of the callback of the
     * handler's task, whose name is below. */
    PyObject *ss_factories[2];
    PyObject *ss_callback;
    PyObject *ss_callback_name;
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
