/* tls.h - the TLS transport: what the protocol of an application writes to, and at
 * the same time the protocol of the transport below it.
 *
 * asyncio has two objects for this, SSLProtocol and _SSLProtocolTransport. Here it is
 * one, which does what they do in the running Python, and knows their attributes.
 *
 * The TLS itself is the ssl module's: sslcontext.wrap_bio() makes the SSLObject that
 * the application sees, and handshakes and shutdowns are calls of its methods. The
 * bytes between them go one of two ways (engine.h). Below may lie any transport; if
 * it is a SocketTransport of ours, what it receives and sends passes without Python.
 *
 * What is held of a callback's writes (net/gather.h) is plain text, and becomes records
 * and one system call when it returns. */
#ifndef CL_TLS_TLS_H
#define CL_TLS_TLS_H

#include "base/compat.h"

#include "core/loop.h"
#include "net/buffer.h"
#include "net/transport.h"
#include "tls/openssl.h"
#include "tls/state.h"

/* As asyncio's SSLProtocolState. */
enum {
    CL_TLS_UNWRAPPED,
    CL_TLS_HANDSHAKE,
    CL_TLS_WRAPPED,
    CL_TLS_FLUSHING,
    CL_TLS_SHUTDOWN,
};

/* As asyncio's AppProtocolState. */
enum {
    CL_TLS_APP_INIT,
    CL_TLS_APP_MADE,
    CL_TLS_APP_EOF,
    CL_TLS_APP_LOST,
};

enum {
    CL_X_SERVER_SIDE = 1,
    CL_X_CLOSED = 2,          /* close() or abort() was called, or it broke */
    CL_X_EOF = 4,             /* the transport below has received EOF */
    CL_X_READING_PAUSED = 8,  /* by the application */
    CL_X_WRITING_PAUSED = 16, /* the application is */
    CL_X_RAW_READING_PAUSED = 32,
    CL_X_RAW_WRITING_PAUSED = 64,
    CL_X_BUFFERED = 128,         /* see cl_protocol_is_buffered() */
    CL_X_RAW_IS_STREAM = 256,    /* below is a SocketTransport of ours */
    CL_X_ESTABLISHED = 512,      /* the handshake is over */
    CL_X_NO_MEMORY = 1024,       /* the BIO had none */
    CL_X_MUTE = 2048,            /* the BIO takes nothing more */
    CL_X_FORGET = 4096,          /* nobody will ask what is known of it */
    CL_X_BUSY = 8192,            /* the library is at work for it */
    CL_X_RAW_PAUSED_APP = 16384, /* the transport below had, before TLS came */
    CL_X_MAY_OWE_RESUME = 32768, /* perhaps it had */
};

/* Of the ssl module; SSLSocket of _ssl, `again` a tuple of exceptions that mean: not now. */
#define CL_TLS_LIBRARY_OBJECTS(X) \
    X(SSLObject) \
    X(SSLSocket) \
    X(MemoryBIO) \
    X(SSLError) \
    X(CertificateError) \
    X(again)

/* What all TLS transports of a module share. */
typedef struct cl_tls_library {
#define FIELD(name) PyObject *k_##name;
    CL_TLS_LIBRARY_OBJECTS(FIELD)
#undef FIELD
    cl_openssl k_openssl;
    bool k_direct; /* else only the way through Python */
} cl_tls_library;

typedef struct TLSObject {
    PyObject_HEAD
    /* Here lie the slots of asyncio.transports._FlowControlMixin. */
    PyObject *x_protocol; /* owned; the application's; NULL when gone */
    PyObject *x_raw; /* owned; the transport below; NULL before and after */
    PyObject *x_sslcontext; /* owned */
    PyObject *x_sslobj;     /* owned SSLObject, or NULL */
    PyObject *x_waiter;     /* owned future of who made it, or NULL */
    /* Ours from here on. */
    PyObject *x_dict; /* owned; NULL until an attribute is set */
    PyObject *x_weakrefs;
    LoopObject *x_loop;   /* owned */
    PyObject *x_extra;    /* owned dict, or NULL: what was asked for */
    PyObject *x_hostname; /* owned; None on the server's side */
    PyObject *x_timer; /* owned handle: of the handshake, then the shutdown */
    PyObject *x_handshake_timeout; /* owned number of seconds */
    PyObject *x_shutdown_timeout;  /* owned, the same */
    PyObject *x_incoming; /* owned MemoryBIOs, or NULL: then there is x_ssl */
    PyObject *x_outgoing;
    SSL *x_ssl;     /* of x_sslobj */
    BIO *x_bio;     /* of x_ssl */
    cl_buffer x_in; /* received, and not yet read by TLS */
    const char
        *x_window; /* and what follows it, in the loop's buffer: only in ... */
    size_t x_window_size; /* ... cl_tls_received() */
    cl_buffer x_out;      /* made by TLS, and not yet given to x_raw */
    cl_buffer x_backlog;  /* written, and not yet taken by TLS */
    cl_limits
        x_writing; /* water marks; not used where the protocol below rules */
    cl_limits x_reading;
    cl_habit x_habit;
    double x_started; /* the handshake, in debug mode */
    uint32_t x_conn_lost;
    uint16_t x_flags;
    uint8_t x_state;
    uint8_t x_app_state;
} TLSObject;

void cl_tls_free(cl_state *st);
int cl_tls_traverse(cl_state *st, visitproc visit, void *arg);

/* What a new one is made of: all borrowed. */
typedef struct {
    LoopObject *loop;
    PyObject *protocol;
    PyObject *sslcontext;
    PyObject *waiter; /* a future, or None */
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
