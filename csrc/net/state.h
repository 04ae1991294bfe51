/* state.h - the net layer's part of the module state and of loops; see
 * core/layer.h. */
#ifndef CL_NET_STATE_H
#define CL_NET_STATE_H

#include "base/compat.h"

#include "base/probe.h"
#include "core/guard.h"
#include "core/loop.h"
#include "net/gather.h"
#include "sync/state.h"

/* clang-format off */

/* As in core/state.h. */
#define CL_NET_TYPES(X) \
    X(SocketTransport, cl_socket_transport_setup, "SocketTransport") \
    X(DatagramTransport, cl_datagram_setup, "DatagramTransport") \
    X(ReadPipeTransport, cl_read_pipe_setup, "ReadPipeTransport") \
    X(WritePipeTransport, cl_write_pipe_setup, "WritePipeTransport") \
    X(Listener, cl_listener_setup, NULL) \
    X(SockOp, cl_sockop_setup, NULL) \
    X(Connect, cl_connect_setup, NULL)

#define CL_NET_IMPORTS(X) \
    X(SelectorEventLoop, "asyncio", "SelectorEventLoop") \
    X(FlowControlMixin, "asyncio.transports", "_FlowControlMixin") \
    X(asyncio_SocketTransport, "asyncio.selector_events", "_SelectorSocketTransport") \
    X(asyncio_DatagramTransport, "asyncio.selector_events", "_SelectorDatagramTransport") \
    X(asyncio_DatagramBase, "asyncio", "DatagramTransport") \
    X(asyncio_BufferedProtocol, "asyncio", "BufferedProtocol") \
    X(asyncio_ReadTransport, "asyncio", "ReadTransport") \
    X(asyncio_WriteTransport, "asyncio", "WriteTransport") \
    X(constants_module, "asyncio", "constants") \
    X(TransportSocket, "asyncio.trsock", "TransportSocket") \
    X(OwnTransportSocket, "cloop._trsock", "TransportSocket") \
    X(Server, "asyncio.base_events", "Server") \
    X(set_result_unless_cancelled, "asyncio.futures", "_set_result_unless_cancelled") \
    X(sendfile_try_native, "asyncio.constants", "_SendfileMode.TRY_NATIVE") \
    X(sendfile_fallback, "asyncio.constants", "_SendfileMode.FALLBACK") \
    X(socket_type, "socket", "socket") \
    X(socket_getaddrinfo, "socket", "getaddrinfo") \
    X(socket_AF_INET, "socket", "AF_INET") \
    X(socket_AF_INET6, "socket", "AF_INET6") \
    X(socket_SOCK_STREAM, "socket", "SOCK_STREAM") \
    X(socket_SOCK_DGRAM, "socket", "SOCK_DGRAM") \
    X(socket_SOCK_RAW, "socket", "SOCK_RAW")

#define CL_NET_NAMES(X) \
    X(LOG_THRESHOLD_FOR_CONNLOST_WRITES) \
    X(_active_count) X(_attach) X(_call_connection_lost) X(_clients) X(_detach) \
    X(_header_size) X(_pending_removals) X(_remove) X(_sockets) \
    X(_set_result_unless_cancelled) X(addr) X(buffer_updated) X(close) \
    X(connection_lost) X(connection_made) X(create_future) X(data) \
    X(data_received) X(datagram_received) X(debug) X(done) X(eof_received) \
    X(error_received) X(exception) X(fileno) X(get_buffer) X(get_extra_info) X(getaddrinfo) X(getpeername) \
    X(getsockname) X(info) X(join) X(logger) X(message) X(pause_writing) \
    X(peername) X(pipe) X(protocol) X(resume_writing) X(sendto) \
    X(set_exception) X(set_result) X(setblocking) X(socket) X(sockname) \
    X(warning)

#define CL_NET_COUNTS(X) \
    X(transports, "Transport") \
    X(sockops, "SockOp") \
    X(connects, "Connect")

/* cloop.Loop, asyncio.Server, weakref.WeakSet, socket.socket */
#define CL_NET_GUARDS(X) \
    X(loop) \
    X(server) \
    X(set) \
    X(socket)

/* clang-format on */

typedef struct cl_net {
    cl_sync lower;
    CL_NET_TYPES(CL_TYPE_FIELD)
    CL_NET_IMPORTS(CL_IMPORT_FIELD)
    CL_NET_NAMES(CL_NAME_FIELD)
    size_t
        datagram_header_size; /* what asyncio adds to the size of each queued datagram */
    bool server_takes_transport;   /* from 3.13 on, Server._attach() does */
    bool connections_have_context; /* see connect.h */
    bool writelines_skips; /* asyncio's writelines() leaves out falsy items */
    bool bind_errors_have_number; /* see race.h */
    bool writelines_asks_first;   /* of newer versions: whether it is lost */
#define FIELD(name) cl_guard name##_guard;
    CL_NET_GUARDS(FIELD)
#undef FIELD
    cl_original get_extra_info; /* of asyncio.Transport */
    bool sock_known;
    enum { CL_GATHER_NEVER, CL_GATHER_LEARNT, CL_GATHER_ALWAYS } gathers;
    /* Protocols of this type get received data directly; borrowed, NULL if
     * tls/ has none. `data` is valid during the call. Returns 0, or -1 to
     * break the transport. Runs Python. */
    PyTypeObject *tls_type;
    int (*tls_received)(PyObject *protocol, const char *data, size_t size);
    CL_NET_COUNTS(CL_COUNT_FIELD)
} cl_net;

static inline cl_net *
cl_net_of(const cl_state *st)
{
    return (cl_net *)st;
}

/* Kinds of transports, as metrics() names them; 0: not counted. */
#define CL_NET_KINDS(X) \
    X(TCP, "tcp") \
    X(UNIX, "unix") X(UDP, "udp") X(PIPE, "pipe") X(OTHER, "other")

enum {
    CL_KIND_NONE,
#define KIND(id, name) CL_KIND_##id,
    CL_NET_KINDS(KIND)
#undef KIND
        CL_KIND_COUNT
};

/* For metrics(). System calls and bytes are those of transports and of the
 * sock_ methods. */
typedef struct {
    uint64_t nc_reads;
    uint64_t nc_writes;
    uint64_t nc_bytes_in;
    uint64_t nc_bytes_out;
    uint64_t nc_accepted;
    uint64_t nc_connected;
    uint64_t nc_connect_failed;
    uint64_t nc_pauses;        /* calls of pause_writing() */
    uint64_t nc_accept_pauses; /* of listeners that ran out of descriptors */
    size_t nc_buffered;        /* bytes in write buffers now */
    uint64_t nc_open[CL_KIND_COUNT]; /* transports now */
} cl_net_counts;

/* What the transports of a loop share. */
typedef struct cl_loop_net {
    cl_loop_sync lower;
    cl_net_counts n_counts;
    char *
        n_read_buffer; /* CL_READ_MAX bytes; NULL until there is a transport */
    bool n_read_lent;  /* an outer read is still using it */
    cl_gather n_gather;
} cl_loop_net;

static inline cl_loop_net *
cl_net_on(const LoopObject *loop)
{
    return (cl_loop_net *)loop;
}

static inline cl_net_counts *
cl_net_counts_of(const LoopObject *loop)
{
    return &cl_net_on(loop)->n_counts;
}

/* A system call has received or sent so many bytes, or failed (-1). */
static inline void
cl_net_count_read(const LoopObject *loop, int fd, ssize_t got)
{
    cl_net_counts *counts = cl_net_counts_of(loop);
    (void)fd;
    CL_PROBE3(read, loop, fd, got);
    counts->nc_reads++;
    counts->nc_bytes_in += got > 0 ? (size_t)got : 0;
}

static inline void
cl_net_count_write(const LoopObject *loop, int fd, ssize_t sent)
{
    cl_net_counts *counts = cl_net_counts_of(loop);
    (void)fd;
    CL_PROBE3(write, loop, fd, sent);
    counts->nc_writes++;
    counts->nc_bytes_out += sent > 0 ? (size_t)sent : 0;
}

/* The transports hold so many more bytes; wraps around if it is fewer. A
 * transport may die in another thread than the loop's. */
static inline void
cl_net_count_buffered(const LoopObject *loop, size_t more)
{
    if (!CL_FREE_THREADED || more != 0)
        CL_COUNT(cl_net_counts_of(loop)->nc_buffered, more);
}

/* Call before the loop's first transport is created. 0, or -1 with
 * MemoryError. */
int cl_net_prepare(LoopObject *loop);

/* Applies CLOOP_GATHER; `choice` is NULL if it is not set. */
void cl_net_choose_gather(cl_state *st, const char *choice);

extern const cl_layer cl_net_layer;

#endif
