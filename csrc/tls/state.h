/* state.h - the TLS layer's part of the module state and of loops; see
 * core/layer.h. */
#ifndef CL_TLS_STATE_H
#define CL_TLS_STATE_H

#include "base/compat.h"

#include "net/buffer.h"
#include "net/state.h"

/* clang-format off */

/* As in core/state.h. */
#define CL_TLS_TYPES(X) \
    X(SSLTransport, cl_tls_setup, "SSLTransport")

#define CL_TLS_IMPORTS(X) \
    X(asyncio_Protocol, "asyncio", "Protocol") \
    X(TimeoutError, "asyncio", "TimeoutError")

#define CL_TLS_NAMES(X) \
    X(FLOW_CONTROL_HIGH_WATER_SSL_READ) X(FLOW_CONTROL_HIGH_WATER_SSL_WRITE) \
    X(_check_handshake_timeout) X(_check_shutdown_timeout) X(_do_read) \
    X(_force_close) X(_msg_callback) X(_resume) X(_sslobj) X(abort) \
    X(buffer_updated) X(call_later) X(cancel) X(cancelled) X(cipher) X(close) \
    X(compression) X(connection_lost) X(connection_made) X(data_received) \
    X(debug) X(do_handshake) X(eof_received) X(get_extra_info) X(getpeercert) \
    X(is_closing) X(join) X(pause_reading) X(pause_writing) X(peercert) X(pending) X(read) \
    X(resume_reading) X(resume_writing) X(set_exception) X(set_result) \
    X(ssl_object) X(sslcontext) X(unwrap) X(warning) X(wrap_bio) X(write)

#define CL_TLS_KEYWORDS(X) \
    X(wrap_bio, "server_side,server_hostname")

/* clang-format on */

typedef struct cl_tls {
    cl_net lower;
    CL_TLS_TYPES(CL_TYPE_FIELD)
    CL_TLS_IMPORTS(CL_IMPORT_FIELD)
    CL_TLS_NAMES(CL_NAME_FIELD)
    CL_TLS_KEYWORDS(CL_KEYWORDS_FIELD)
    /* tls.h; NULL until the first connection */
    CL_SHARED(struct cl_tls_library *) library;
} cl_tls;

static inline cl_tls *
cl_tls_of(const cl_state *st)
{
    return (cl_tls *)st;
}

typedef struct cl_loop_tls {
    cl_loop_net lower;
    cl_buffer spare; /* empty: spare memory for records sent at once */
    /* for metrics() */
    uint64_t handshakes;
    uint64_t handshakes_failed;
    uint64_t open; /* connections with a transport below */
} cl_loop_tls;

static inline cl_loop_tls *
cl_tls_on(const LoopObject *loop)
{
    return (cl_loop_tls *)loop;
}

extern const cl_layer cl_tls_layer;

#endif
