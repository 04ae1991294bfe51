/* tls.h - the TLS transport. The application sees a transport; the transport
 * below sees a protocol.
 *
 * asyncio uses two objects, SSLProtocol and _SSLProtocolTransport. Here one
 * object does what both do in the running Python, and has their attributes.
 *
 * The ssl module does the TLS: sslcontext.wrap_bio() makes the SSLObject that
 * the application sees, and its methods do handshake and shutdown. Data takes
 * one of two ways (engine.h). The transport below may be of any kind; if it is
 * our SocketTransport, data passes without calls into Python.
 *
 * The held writes of a callback (net/gather.h) are plain text. They are
 * encrypted, and sent with one system call, when it returns. */
#ifndef CL_TLS_TLS_H
#define CL_TLS_TLS_H

#include "base/compat.h"

#include "core/guard.h"
#include "core/loop.h"
#include "net/buffer.h"
#include "net/transport.h"
#include "tls/openssl.h"
#include "tls/state.h"

/* asyncio's SSLProtocolState. */
enum {
    CL_TLS_UNWRAPPED,
    CL_TLS_HANDSHAKE,
    CL_TLS_WRAPPED,
    CL_TLS_FLUSHING,
    CL_TLS_SHUTDOWN,
};

/* asyncio's AppProtocolState. */
enum {
    CL_TLS_APP_INIT,
    CL_TLS_APP_MADE,
    CL_TLS_APP_EOF,
    CL_TLS_APP_LOST,
};

enum {
    CL_X_SERVER_SIDE = 1,
    CL_X_CLOSED = 2,          /* close() or abort() was called, or it failed */
    CL_X_EOF = 4,             /* the transport below got EOF */
    CL_X_READING_PAUSED = 8,  /* by the application */
    CL_X_WRITING_PAUSED = 16, /* the application was told to pause */
    CL_X_RAW_READING_PAUSED = 32,
    CL_X_RAW_WRITING_PAUSED = 64,
    CL_X_BUFFERED = 128,      /* see cl_protocol_is_buffered() */
    CL_X_RAW_IS_STREAM = 256, /* the transport below is our SocketTransport */
    CL_X_ESTABLISHED = 512,   /* the handshake is over */
    CL_X_NO_MEMORY = 1024,    /* the BIO ran out of memory */
    CL_X_MUTE = 2048,         /* the BIO discards what is written to it */
    CL_X_FORGET = 4096,       /* get_extra_info() will not be called */
    CL_X_BUSY = 8192,         /* inside a call of the library */
    CL_X_RAW_PAUSED_APP =
        16384, /* the transport below had paused before start_tls() */
    CL_X_MAY_OWE_RESUME = 32768, /* it may have paused */
};

/* Of the ssl module; SSLSocket of _ssl, `again` a tuple of exceptions that mean: not now. */
#define CL_TLS_LIBRARY_OBJECTS(X) \
    X(SSLObject) \
    X(SSLSocket) \
    X(MemoryBIO) \
    X(SSLError) \
    X(CertificateError) \
    X(again)

/* Shared by all TLS transports of a module. */
typedef struct cl_tls_library {
#define FIELD(name) PyObject *tls_##name;
    CL_TLS_LIBRARY_OBJECTS(FIELD)
#undef FIELD
    cl_openssl tls_openssl;
    cl_guard tls_methods; /* holds while SSLObject reads and writes by the ssl
                             module's own methods */
    bool tls_direct;      /* the direct way is available */
} cl_tls_library;

typedef struct TLSObject {
    PyObject_HEAD
    /* The slots of asyncio.transports._FlowControlMixin. */
    PyObject *x_protocol; /* owned; the application's; NULL once closed */
    PyObject *x_raw; /* owned; the transport below; NULL before and after */
    PyObject *x_sslcontext; /* owned */
    PyObject *x_sslobj;     /* owned SSLObject, or NULL */
    PyObject *x_waiter;     /* owned future of the creator, or NULL */
    /* Our own fields. */
    PyObject *x_dict; /* owned; NULL until an attribute is set */
    PyObject *x_weakrefs;
    LoopObject *x_loop;   /* owned */
    PyObject *x_extra;    /* owned dict of names already asked for, or NULL */
    PyObject *x_hostname; /* owned; None for a server */
    PyObject *
        x_timer; /* owned handle of the handshake's or the shutdown's timeout */
    PyObject *x_handshake_timeout; /* owned; seconds */
    PyObject *x_shutdown_timeout;  /* owned; seconds */
    PyObject *x_incoming; /* owned MemoryBIOs; NULL in the direct way */
    PyObject *x_outgoing;
    SSL *x_ssl;             /* of x_sslobj; NULL without the direct way */
    PyObject *x_ssl_socket; /* owned; the _SSLSocket that owns x_ssl, which a
                               program may take away from x_sslobj; or NULL */
    BIO *x_bio;             /* of x_ssl */
    cl_buffer x_in;         /* received, not yet read by TLS */
    const char *x_window;   /* follows x_in, in the loop's read buffer; */
    size_t x_window_size;   /* only inside cl_tls_received() */
    cl_buffer x_out;        /* records, not yet passed to x_raw */
    cl_buffer x_backlog;    /* plain text, not yet encrypted */
    cl_limits
        x_writing; /* not used where the transport below does flow control */
    cl_limits x_reading;
    cl_habit x_habit;
    double x_started; /* start of the handshake, in debug mode */
    size_t x_counted; /* bytes in nc_buffered */
    uint32_t x_conn_lost;
    uint16_t x_flags;
    uint8_t x_state;
    uint8_t x_app_state;
    bool x_begun; /* the handshake */
} TLSObject;

void cl_tls_free(cl_state *st);
int cl_tls_traverse(cl_state *st, visitproc visit, void *arg);

/* The arguments of cl_tls_new(), all borrowed. */
typedef struct {
    LoopObject *loop;
    PyObject *protocol;
    PyObject *sslcontext;
    PyObject *waiter; /* future or None */
    bool server_side;
    PyObject *server_hostname; /* or None */
    bool call_connection_made;
    PyObject *handshake_timeout; /* seconds */
    PyObject *shutdown_timeout;
} cl_tls_args;

#ifdef CL_DEBUG
/* Buffers, flags and states between two operations. */
void cl_tls_check(const TLSObject *self);
#endif

TLSObject *cl_tls_new(const cl_tls_args *args);

PyTypeObject *cl_tls_setup(PyObject *module, cl_state *st);

#endif
