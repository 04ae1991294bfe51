/* transport.h - what stream and datagram transports have in common.
 *
 * A transport owns its descriptor: through a Python socket object if it was
 * given one or somebody asked for one, else by its number. It closes it exactly
 * once, after connection_lost(). While it lives its watch claims the descriptor;
 * while it reads or has something to send, the loop keeps it alive.
 *
 * Callbacks of the protocol run in one context, copied when the connection was
 * made. Each may do anything to the transport, closing it included: nothing but
 * a reference to the transport itself is kept across them.
 *
 * Transports derive from asyncio's own classes, whose slots are the first
 * fields of the struct; every attribute that lives there has a getter of ours. */
#ifndef CL_NET_TRANSPORT_H
#define CL_NET_TRANSPORT_H

#include "base/compat.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "core/loop.h"
#include "core/watch.h"
#include "net/buffer.h"
#include "net/flow.h"
#include "net/gather.h"
#include "net/state.h"

/* As asyncio's max_size of a read. */
#define CL_READ_MAX (256 * 1024)

/* The standard high-water mark, in bytes. */
#define CL_WRITE_HIGH (64 * 1024)

/* Neither waits nor raises SIGPIPE. */
#ifdef MSG_NOSIGNAL
#define CL_SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#else
#define CL_SEND_FLAGS MSG_DONTWAIT
#endif

/* Bits of a transport's ready node, beside CL_READ and CL_WRITE: it begins, or
 * connection_lost() is due. */
enum { CL_START = 4, CL_LOST = 8 };

enum {
    CL_T_CLOSING = 1,          /* close() or abort() was called, or it broke */
    CL_T_PAUSED = 2,           /* pause_reading() */
    CL_T_EOF = 4,              /* write_eof() */
    CL_T_CONNECTED = 8,        /* the protocol is owed connection_lost() */
    CL_T_PROTOCOL_PAUSED = 16, /* pause_writing() */
    CL_T_BUFFERED = 32,        /* see cl_protocol_is_buffered() */
    CL_T_GONE = 64,            /* closed, and everything let go */
    CL_T_BULK = 128,           /* the last read was a large one */
    CL_T_TLS = 256,            /* the protocol is a TLS transport of ours */
    CL_T_PIPE = 512,           /* no socket: t_sock is any file object */
    CL_T_STREAMS = 1024,       /* the protocol is a StreamReaderProtocol */
    CL_T_EXPOSED = 2048, /* the program has had the descriptor in its hands */
};

/* An IPv4 or IPv6 address as the kernel gave it. */
typedef union {
    sa_family_t family; /* AF_UNSPEC where there is none */
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} cl_inet_address;

/* How the struct of every transport begins, that of TLS too. */
typedef struct {
    PyObject_HEAD
    PyObject *h_slots[5]; /* of asyncio.transports._FlowControlMixin */
    PyObject *h_dict;     /* owned; NULL until an attribute is set */
    PyObject *h_weakrefs;
    LoopObject *h_loop; /* owned */
} cl_transport_head;

#define CL_HAS_TRANSPORT_HEAD(type, first, dict, weakrefs, loop) \
    (offsetof(type, first) == offsetof(cl_transport_head, h_slots) && \
     offsetof(type, dict) == offsetof(cl_transport_head, h_dict) && \
     offsetof(type, weakrefs) == offsetof(cl_transport_head, h_weakrefs) && \
     offsetof(type, loop) == offsetof(cl_transport_head, h_loop))

typedef struct TransportObject {
    PyObject_HEAD
    /* Here lie the slots of asyncio.transports._FlowControlMixin. */
    PyObject *t_extra;    /* owned dict, or NULL: nothing but what is below */
    PyObject *t_protocol; /* owned; NULL when gone */
    PyObject *t_server;   /* owned, or NULL */
    PyObject *t_context;  /* owned */
    PyObject *t_sock;     /* owned socket.socket, or NULL: see above */
    /* Ours from here on. */
    PyObject *t_dict; /* owned; NULL until an attribute is set */
    PyObject *t_weakrefs;
    LoopObject *t_loop; /* owned */
    PyObject *t_waiter; /* owned future of who made it, or NULL */
    PyObject *t_error;  /* owned; with CL_LOST: what to tell, or NULL */
    cl_watch t_watch;
    int t_fd; /* of no meaning once gone */
    uint16_t t_flags;
    uint8_t t_type;      /* SOCK_STREAM and so on */
    uint8_t t_sock_refs; /* to t_sock, that are not the program's */
    uint16_t t_family;
    uint16_t t_proto;
    uint32_t t_conn_lost; /* as asyncio's _conn_lost */
    cl_limits t_limits;
    cl_inet_address t_sockname;
    cl_inet_address t_peername;
} TransportObject;

typedef struct {
    cl_watch_ops watch; /* first: t_watch.w_ops points here */
    /* The descriptor is ready, for what is wanted. 0/-1 */
    int (*readable)(TransportObject *self);
    int (*writable)(TransportObject *self);
    /* Bytes that wait in user space, but for those that are held. */
    size_t (*buffered)(TransportObject *self);
    /* Sends what is held; a failure to send breaks the transport. 0, or -1 for
     * what must leave the loop. Runs Python. NULL if nothing ever is held. */
    int (*flush)(TransportObject *self);
    /* Forget what waits to be sent. */
    void (*drop_buffer)(TransportObject *self);
    /* Whether the exception that broke the transport is shown in debug mode alone.
     * NULL: an OSError is. */
    bool (*is_quiet)(TransportObject *self, PyObject *exception);
    /* connection_lost() is over: wake up who waits for the buffer to be empty. NULL:
     * nobody does. */
    int (*gone)(TransportObject *self);
    /* The descriptor is about to be closed. NULL: that is all there is to do. */
    void (*closing)(TransportObject *self);
#ifdef CL_DEBUG
    /* Checks what is the kind's own. */
    void (*check)(const TransportObject *self);
#endif
} cl_transport_ops;

/* In a table, for builds that check. */
#ifdef CL_DEBUG
#define CL_TRANSPORT_CHECK(function) .check = function,
#else
#define CL_TRANSPORT_CHECK(function)
#endif

/* The watch's part of it. */
#define CL_TRANSPORT_WATCH \
    .ready = cl_watch_push, .run = cl_transport_run, \
    .refused = cl_transport_refused, .evicted = cl_transport_evicted, \
    .claims = cl_transport_claims, CL_WATCH_CHECK(cl_transport_check_watch)

static inline const cl_transport_ops *
cl_transport_ops_of(const TransportObject *self)
{
    return (const cl_transport_ops *)self->t_watch.w_ops;
}

static inline size_t
cl_transport_buffered(TransportObject *self)
{
    return cl_transport_ops_of(self)->buffered(self);
}

static inline int
cl_transport_flush(TransportObject *self)
{
    const cl_transport_ops *ops = cl_transport_ops_of(self);
    return ops->flush == NULL ? 0 : ops->flush(self);
}

static inline TransportObject *
cl_transport_from_watch(cl_watch *watch)
{
    cl_assert(watch->w_owner != NULL);
    return (TransportObject *)watch->w_owner;
}

static inline bool
cl_transport_is_reading(const TransportObject *self)
{
    return (self->t_flags & (CL_T_CLOSING | CL_T_PAUSED)) == 0;
}

/* What a new transport is made of. All borrowed; NULL or 0 where there is none. */
typedef struct {
    PyTypeObject *type;
    const cl_transport_ops *ops;
    LoopObject *loop;
    PyObject *sock; /* a socket.socket, or NULL: fd is the transport's then */
    bool pipe;      /* sock is a file object of another kind */
    int fd;
    int family, socktype, proto; /* of fd, without sock */
    const struct sockaddr *peer; /* of an accepted connection */
    socklen_t peer_len;
    cl_habits *habits; /* of the listener's connections */
    PyObject *protocol;
    PyObject *waiter;
    PyObject *extra; /* dict */
    PyObject *server;
    PyObject *context;
} cl_transport_args;

/* Makes a transport and claims the descriptor, which it owns from then on: on
 * failure it is still the caller's. RuntimeError if another transport has it. */
TransportObject *cl_transport_new(const cl_transport_args *args);

/* call_soon(connection_made), then start reading and wake the waiter. 0/-1 */
int cl_transport_begin(TransportObject *self);

/* The descriptor to use in the next system call, or -EBADF if the socket object
 * was closed behind our back: its number may be another's by now. */
int cl_transport_fd(TransportObject *self);

/* Starts or stops wanting CL_READ or CL_WRITE. */
void cl_transport_want(TransportObject *self, unsigned direction, bool on);

/* The exception that is set broke the transport: asyncio's _fatal_error(). 0, or
 * -1 if it, or one raised on the way, must leave the loop. */
int cl_transport_fatal(TransportObject *self, const char *message);

/* The same for a system call that failed with `err` (-errno). */
int cl_transport_fatal_errno(TransportObject *self, int err,
                             const char *message);

/* asyncio's _force_close(); `exception` may be NULL. 0/-1 */
int cl_transport_force_close(TransportObject *self, PyObject *exception);

/* Delivers connection_lost() and lets everything go. 0/-1 */
int cl_transport_lost(TransportObject *self, PyObject *exception);

/* logger.warning() about writes to a lost connection, after five of them. 0/-1 */
int cl_transport_write_when_lost(TransportObject *self);

/* protocol.NAME(*args): 0 if it returned, -1 if not; the result through *result
 * unless that is NULL. */
int cl_transport_tell(TransportObject *self, PyObject *name, PyObject *arg,
                      PyObject **result);

/* Whether the protocol receives by get_buffer() and buffer_updated(): 1, 0 or -1. So
 * does a BufferedProtocol, unless `by_class` is false (pipes, where asyncio calls
 * data_received() of any protocol), and whatever has both and no data_received(). */
int cl_protocol_is_buffered(cl_state *st, PyObject *protocol, bool by_class);

/* protocol.get_buffer(hint), held for writing: 1; 0 if it cannot be written to, -1 if
 * there is none, both with an exception; `culprit` begins what it says then. */
int cl_protocol_get_buffer(cl_state *st, PyObject *protocol, PyObject *hint,
                           const char *culprit, Py_buffer *view);

/* protocol.buffer_updated(count). 0/-1 */
int cl_transport_buffer_updated(TransportObject *self, Py_ssize_t count);

/* Enter the connection's context, or a copy of it in a nested turn that runs
 * inside one of its callbacks; NULL on error. What was entered goes, with the
 * status of what was done in it, to cl_transport_leave(), which returns 0/-1. */
PyObject *cl_transport_enter(TransportObject *self);
int cl_transport_leave(PyObject *context, int status);

/* The same for what somebody else's callback or task sets off; NULL without an exception
 * if it is one of the connection's own: then there is nothing to leave. */
PyObject *cl_transport_enter_from_outside(TransportObject *self);

/* What was raised and has no other place to go is reported as a callback's
 * exception. 0, or -1 if it must leave the loop. */
int cl_transport_report_stray(TransportObject *self);

/* close() and set_protocol(). 0/-1 */
int cl_transport_close(TransportObject *self);
int cl_transport_set_protocol(TransportObject *self, PyObject *protocol);

/* Of every transport's watch. The first delivers the bits it was pushed with, the second
 * breaks the transport. */
int cl_transport_run(LoopObject *loop, cl_watch *watch, unsigned bits);
int cl_transport_refused(LoopObject *loop, cl_watch *watch, int err);
void cl_transport_evicted(LoopObject *loop, cl_watch *watch);
bool cl_transport_claims(const cl_watch *watch);

/* Takes the descriptor away from a transport that could not be begun with; the
 * caller then drops it. Keeps the exception that is set. */
void cl_transport_disown(TransportObject *self, bool sock_given);

/* logger.debug(format, self) in debug mode. 0/-1 */
int cl_transport_debug(TransportObject *self, const char *format);

#ifdef CL_DEBUG
/* The transport between two operations: its flags, its buffer, what it wants to hear of,
 * and that the protocol is paused if and only if it ought to be. */
void cl_transport_check(TransportObject *self);
void cl_transport_check_watch(LoopObject *loop, const cl_watch *watch);
#endif

/* For the types' own slots and tables. */
int cl_transport_traverse(TransportObject *self, visitproc visit, void *arg);
int cl_transport_clear(TransportObject *self);
void cl_transport_finalize(PyObject *self);
PyObject *cl_transport_repr(PyObject *self);

/* Of every transport, that of TLS too: tp_clear lets everything go but the loop. */
void cl_transport_dealloc(PyObject *self);
extern PyMemberDef cl_transport_members[];

/* The arguments of get_extra_info(). 0/-1 */
int cl_extra_arguments(PyObject *args, PyObject *kwargs, PyObject **name,
                       PyObject **fallback);

/* The attribute at that offset, or None. */
PyObject *cl_transport_get_object(PyObject *self, void *offset);

/* Docstrings of methods that all transports have. */
#define CL_DOC_ABORT \
    "abort($self, /)\n--\n\n" \
    "Close the connection at once, without sending what is buffered."
#define CL_DOC_IS_CLOSING \
    "is_closing($self, /)\n--\n\n" \
    "Return whether the transport is closed or on its way there."
#define CL_DOC_SET_PROTOCOL \
    "set_protocol($self, protocol)\n--\n\n" \
    "Change the protocol that is called from now on."
#define CL_DOC_GET_PROTOCOL \
    "get_protocol($self, /)\n--\n\nReturn the current protocol."
#define CL_DOC_GET_WRITE_BUFFER_LIMITS \
    "get_write_buffer_limits($self, /)\n--\n\n" \
    "Return the (low, high) water marks, in bytes."

/* Makes the type, with the attributes that all transports have and the methods of
 * those that do what `directions` (CL_READ, CL_WRITE) says. `bases` is a tuple,
 * borrowed. */
PyTypeObject *cl_transport_type(PyObject *module, cl_state *st,
                                PyType_Spec *spec, PyObject *bases,
                                unsigned directions);

#endif
