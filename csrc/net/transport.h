/* transport.h - what stream, datagram and pipe transports share.
 *
 * A transport owns its file descriptor. If it was given a socket object, or
 * somebody asked for one, it closes the descriptor through that object;
 * otherwise by number. It does so exactly once, after connection_lost(). While
 * the transport lives, its watch claims the descriptor. While it reads or has
 * data to send, the loop keeps it alive.
 *
 * Protocol callbacks run in one context, copied when the connection was made.
 * A callback may do anything to the transport, including close it, so callers
 * keep only a reference to the transport across one.
 *
 * Transports derive from asyncio's own classes. The slots of those come first
 * in the struct, and each has a getter of ours. */
#ifndef CL_NET_TRANSPORT_H
#define CL_NET_TRANSPORT_H

#include "base/compat.h"

#include <sys/socket.h>

#include "base/platform.h"
#include "core/claim.h"
#include "core/loop.h"
#include "core/watch.h"
#include "net/address.h"
#include "net/buffer.h"
#include "net/flow.h"
#include "net/gather.h"
#include "net/state.h"

/* asyncio's max_size of a read, if the program sets no other. */
#define CL_READ_MAX (256 * 1024)

/* The default high-water mark, in bytes. */
#define CL_WRITE_HIGH (64 * 1024)

/* Bits of a transport's ready node, besides CL_READ and CL_WRITE: the
 * transport starts, or connection_lost() is due. */
enum { CL_START = 4, CL_LOST = 8 };

enum {
    CL_T_CLOSING = 1,   /* close() or abort() was called, or it failed */
    CL_T_PAUSED = 2,    /* after pause_reading() */
    CL_T_EOF = 4,       /* after write_eof() */
    CL_T_CONNECTED = 8, /* connection_lost() must still be called */
    CL_T_PROTOCOL_PAUSED = 16, /* after pause_writing() */
    CL_T_BUFFERED = 32,        /* see cl_protocol_is_buffered() */
    CL_T_NOT_OPEN = 64,        /* owns no descriptor: not yet, or no longer */
    CL_T_BULK = 128,           /* the last read was large */
    CL_T_TLS = 256,            /* the protocol is one of our TLS transports */
    CL_T_PIPE = 512,           /* tr_file is a file object, not a socket */
    CL_T_STREAMS = 1024,       /* the protocol is a StreamReaderProtocol */
    CL_T_EXPOSED = 2048,       /* the program has seen the descriptor */
    CL_T_KIND = 4096, /* times CL_KIND_..., while it is counted as open */
    CL_T_KIND_MASK = 7 * 4096,
};

_Static_assert(CL_KIND_COUNT <= 8, "the kind is three bits of tr_flags");

/* The first fields of every transport's struct, TLS included. */
typedef struct {
    PyObject_HEAD
    PyObject *th_slots[5]; /* of asyncio.transports._FlowControlMixin */
    PyObject *th_dict;     /* owned; NULL until an attribute is set */
    PyObject *th_weakrefs;
    LoopObject *th_loop; /* owned */
} cl_transport_head;

/* At the beginning of what the program calls: see core/claim.h. */
#define CL_CLAIM_TRANSPORT(self, failed) \
    CL_CLAIM(((cl_transport_head *)(self))->th_loop, failed)

#define CL_HAS_TRANSPORT_HEAD(type, first, dict, weakrefs, loop) \
    (offsetof(type, first) == offsetof(cl_transport_head, th_slots) && \
     offsetof(type, dict) == offsetof(cl_transport_head, th_dict) && \
     offsetof(type, weakrefs) == offsetof(cl_transport_head, th_weakrefs) && \
     offsetof(type, loop) == offsetof(cl_transport_head, th_loop))

typedef struct TransportObject {
    PyObject_HEAD
    /* The slots of asyncio.transports._FlowControlMixin. */
    PyObject *tr_extra;    /* owned dict; NULL if it would be empty */
    PyObject *tr_protocol; /* owned; NULL once closed */
    PyObject *tr_server;   /* owned, or NULL */
    PyObject *tr_context;  /* owned */
    PyObject *tr_file;     /* owned socket.socket, file object, or NULL */
    /* Our own fields. */
    PyObject *tr_dict; /* owned; NULL until an attribute is set */
    PyObject *tr_weakrefs;
    LoopObject *tr_loop; /* owned */
    PyObject *tr_waiter; /* owned future of the creator, or NULL */
    PyObject *tr_error;  /* owned; exception for connection_lost(), or NULL */
    cl_watch tr_watch;
    int tr_fd; /* meaningless once closed */
    uint16_t tr_flags;
    uint8_t tr_type;      /* SOCK_STREAM and so on */
    uint8_t tr_file_refs; /* references to tr_file held by cloop */
    uint16_t tr_family;
    uint16_t tr_proto;
    uint32_t tr_conn_lost; /* asyncio's _conn_lost */
    cl_limits tr_limits;
    cl_inet_address tr_sockname;
    cl_inet_address tr_peername;
} TransportObject;

typedef struct {
    cl_watch_ops watch; /* must be first: tr_watch.w_ops points here */
    /* The descriptor is ready for what the transport wants; `alone`: it is not
     * writable as well. 0/-1 Run Python. */
    int (*readable)(TransportObject *self, bool alone);
    bool only_writes; /* readable: the other end hung up */
    int (*writable)(TransportObject *self);
    /* Bytes in the write buffer, without held ones (gather.h). */
    size_t (*write_buffer_size)(TransportObject *self);
    /* Sends the held bytes; a failed send breaks the transport. -1 only for
     * KeyboardInterrupt and SystemExit. NULL if this kind never holds bytes.
     * Runs Python. */
    int (*flush)(TransportObject *self);
    /* Discards the write buffer. */
    void (*drop_buffer)(TransportObject *self);
    /* Whether the exception that broke the transport is logged in debug mode
     * only. If NULL, that is so for an OSError. */
    bool (*is_quiet)(TransportObject *self, PyObject *exception);
    /* Called after connection_lost(): wakes whoever waits for an empty write
     * buffer. May be NULL. 0/-1 */
    int (*gone)(TransportObject *self);
    /* Called just before the descriptor is closed. May be NULL. Runs Python. */
    void (*closing)(TransportObject *self);
#ifdef CL_DEBUG
    /* Checks what is the kind's own. */
    void (*check)(const TransportObject *self);
#endif
} cl_transport_ops;

#ifdef CL_DEBUG
#define CL_TRANSPORT_CHECK(function) .check = function,
#else
#define CL_TRANSPORT_CHECK(function)
#endif

/* The watch's part of cl_transport_ops. */
#define CL_TRANSPORT_WATCH \
    .ready = cl_watch_push, .run = cl_transport_run, \
    .refused = cl_transport_refused, .evicted = cl_transport_evicted, \
    .claims = cl_transport_claims, .keeps_reading = true, \
    CL_WATCH_CHECK(cl_transport_check_watch)

static inline const cl_transport_ops *
cl_transport_ops_of(const TransportObject *self)
{
    return (const cl_transport_ops *)self->tr_watch.w_ops;
}

static inline size_t
cl_transport_write_buffer_size(TransportObject *self)
{
    return cl_transport_ops_of(self)->write_buffer_size(self);
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
    return (self->tr_flags & (CL_T_CLOSING | CL_T_PAUSED)) == 0;
}

/* The arguments of cl_transport_new(). All borrowed; unused ones are NULL or
 * 0. */
typedef struct {
    PyTypeObject *type;
    const cl_transport_ops *ops;
    LoopObject *loop;
    PyObject *sock; /* socket.socket; NULL: the transport owns fd */
    bool pipe;      /* sock is a file object, not a socket */
    int fd;
    int family, socktype, proto; /* of fd, if sock is NULL */
    const struct sockaddr *peer; /* of an accepted connection */
    socklen_t peer_len;
    cl_habits *habits; /* of the listener */
    PyObject *protocol;
    PyObject *waiter;
    PyObject *extra; /* dict */
    PyObject *server;
    PyObject *context;
} cl_transport_args;

/* Creates a transport, which claims and owns the descriptor. On failure the
 * caller still owns it. Raises RuntimeError if another transport uses it. Runs
 * Python. */
TransportObject *cl_transport_new(const cl_transport_args *args);

/* Schedules connection_made(); then reading starts and the waiter is woken.
 * 0/-1 */
int cl_transport_begin(TransportObject *self);

/* Returns the descriptor for the next system call, or -EBADF if the program
 * closed the socket object: the number may belong to another file by now. An
 * object of a class of the program's is asked for it. Runs Python. */
int cl_transport_fd(TransportObject *self);

/* Starts or stops waiting for CL_READ or CL_WRITE. */
void cl_transport_want(TransportObject *self, unsigned direction, bool on);

/* asyncio's _fatal_error(): breaks the transport, with the exception that is
 * set. Returns -1 only for KeyboardInterrupt and SystemExit. Runs Python. */
int cl_transport_fatal(TransportObject *self, const char *message);

/* The same for a system call that failed with `err` (-errno). Runs Python. */
int cl_transport_fatal_errno(TransportObject *self, int err,
                             const char *message);

/* asyncio's _force_close(); `exception` may be NULL. 0/-1 Runs Python. */
int cl_transport_force_close(TransportObject *self, PyObject *exception);

/* Calls connection_lost(), then closes the descriptor and releases everything
 * but the loop. 0/-1 Runs Python. */
int cl_transport_lost(TransportObject *self, PyObject *exception);

/* Logs a warning about writes to a lost connection, from the sixth on. 0/-1
 * Runs Python. */
int cl_transport_write_when_lost(TransportObject *self);

/* Calls the protocol's method `name` with `arg`, or without arguments if that
 * is NULL. The result goes to *result, unless that is NULL. 0/-1 Runs Python. */
int cl_transport_tell(TransportObject *self, PyObject *name, PyObject *arg,
                      PyObject **result);

/* Returns 1 if the protocol receives with get_buffer() and buffer_updated(), 0
 * if not, -1 on error. It does if it has both and no data_received(), or if it
 * is a BufferedProtocol and `by_class` is true (false for pipes: asyncio calls
 * data_received() of any protocol there). Runs Python. */
int cl_protocol_is_buffered(cl_state *st, PyObject *protocol, bool by_class);

/* Calls protocol.get_buffer(hint) and exports the result for writing. Returns
 * 1; 0 if it is not a writable buffer; -1 if the call failed or it is empty. 0
 * and -1 set an exception, whose message starts with `culprit`. Runs Python. */
int cl_protocol_get_buffer(cl_state *st, PyObject *protocol, PyObject *hint,
                           const char *culprit, Py_buffer *view);

/* Calls protocol.buffer_updated(count). 0/-1 Runs Python. */
int cl_transport_buffer_updated(TransportObject *self, Py_ssize_t count);

/* Enters the connection's context, or a copy of it in a nested turn inside one
 * of its callbacks; NULL on error. Pass the result to cl_transport_leave(),
 * with the status of what was done in between; it returns 0/-1. */
PyObject *cl_transport_enter(TransportObject *self);
int cl_transport_leave(PyObject *context, int status);

/* The same for work that another callback or task set off. Returns NULL
 * without an exception inside one of the connection's own callbacks: then
 * there is nothing to leave. */
PyObject *cl_transport_enter_from_outside(TransportObject *self);

/* Reports the exception that is set to the loop's exception handler. Returns
 * -1 only for KeyboardInterrupt and SystemExit. Runs Python. */
int cl_transport_report_stray(TransportObject *self);

/* close() and set_protocol(). 0/-1 Run Python. */
int cl_transport_close(TransportObject *self);
int cl_transport_set_protocol(TransportObject *self, PyObject *protocol);

/* The watch functions of every transport. run() delivers the bits that the
 * watch was pushed with; refused() breaks the transport. */
int cl_transport_run(LoopObject *loop, cl_watch *watch, unsigned bits);
int cl_transport_refused(LoopObject *loop, cl_watch *watch, int err);
void cl_transport_evicted(LoopObject *loop, cl_watch *watch);
bool cl_transport_claims(const cl_watch *watch);

/* For metrics(): the transport owns no descriptor any more. */
void cl_transport_count_closed(TransportObject *self);

/* Undoes cl_transport_new() for a transport that could not start; the caller
 * then drops its reference. Keeps the exception that is set. Runs Python. */
void cl_transport_disown(TransportObject *self, bool sock_given);

/* Calls logger.debug(format, self) in debug mode. 0/-1 Runs Python. */
int cl_transport_debug(TransportObject *self, const char *format);

#ifdef CL_DEBUG
/* The transport between two operations: its flags, its buffer, what it wants to hear of,
 * and that the protocol is paused if and only if it ought to be. */
void cl_transport_check(TransportObject *self);
void cl_transport_check_watch(LoopObject *loop, const cl_watch *watch);
#endif

/* For the types' slots and tables. */
int cl_transport_traverse(TransportObject *self, visitproc visit, void *arg);
int cl_transport_clear(TransportObject *self);
void cl_transport_finalize(PyObject *self);
PyObject *cl_transport_repr(PyObject *self);

/* tp_dealloc of every transport, TLS included. tp_clear must keep the loop. */
void cl_transport_dealloc(PyObject *self);
extern PyMemberDef cl_transport_members[];

/* Parses the arguments of get_extra_info(). 0/-1 */
int cl_extra_arguments(PyObject *args, PyObject *kwargs, PyObject **name,
                       PyObject **fallback);

/* Returns the attribute at that offset, or None. */
PyObject *cl_transport_get_object(PyObject *self, void *offset);

/* For tp_setattro of what reads: stores the attribute. If it is max_size,
 * *read_max becomes the bytes to read at most; 0 if that is no positive number.
 * 0/-1 Runs Python. */
int cl_transport_set_attribute(PyObject *self, PyObject *name, PyObject *value,
                               uint32_t *read_max);

/* After 0 bytes were read, because max_size is no positive number: 0 if it is
 * 0, else -1 with the exception that `call` of asyncio's socket raises; of
 * os.read() if that is NULL. Runs Python. */
int cl_transport_check_max_size(TransportObject *self, const char *call);

/* Docstrings of methods that all transports have. */
#define CL_DOC_ABORT \
    "abort($self, /)\n--\n\n" \
    "Close the connection at once, and discard the write buffer."
#define CL_DOC_IS_CLOSING \
    "is_closing($self, /)\n--\n\n" \
    "Return whether the transport is closing or closed."
#define CL_DOC_SET_PROTOCOL \
    "set_protocol($self, protocol)\n--\n\n" \
    "Set the protocol whose methods are called from now on."
#define CL_DOC_GET_PROTOCOL \
    "get_protocol($self, /)\n--\n\nReturn the current protocol."
#define CL_DOC_GET_WRITE_BUFFER_LIMITS \
    "get_write_buffer_limits($self, /)\n--\n\n" \
    "Return the (low, high) water marks, in bytes."

/* Makes a transport type. It has the attributes of all transports, and the
 * methods for the `directions` (CL_READ, CL_WRITE). `bases` is a borrowed
 * tuple. */
PyTypeObject *cl_transport_type(PyObject *module, cl_state *st,
                                PyType_Spec *spec, PyObject *bases,
                                unsigned directions);

#endif
