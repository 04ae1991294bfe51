/* state.h - what one instance of the module owns.
 *
 * Each list below is expanded into fields, setup, traverse and clear (module.c):
 * a line there is all that a new type, import or name needs. Nothing writable
 * lives at file scope, so every interpreter has its own. An object reaches the
 * state through its loop; only constructors look it up from the type. */
#ifndef CL_CORE_STATE_H
#define CL_CORE_STATE_H

#include "base/compat.h"
#include "core/guard.h"
#include "core/wakeup.h"

#include <sys/types.h>

/* Processes that we descend from and remember; see core/fork.h. */
#define CL_ANCESTORS_MAX 8

/* clang-format off */

/* type, function that makes it */
#define CL_STATE_TYPES(X) \
    X(NativeMethod, cl_native_method_setup) \
    X(Handle, cl_handle_setup) \
    X(TimerHandle, cl_timer_handle_setup) \
    X(Future, cl_future_setup) \
    X(Task, cl_task_setup) \
    X(FutureIter, cl_future_iter_setup) \
    X(SocketTransport, cl_socket_transport_setup) \
    X(DatagramTransport, cl_datagram_setup) \
    X(ReadPipeTransport, cl_read_pipe_setup) \
    X(WritePipeTransport, cl_write_pipe_setup) \
    X(Listener, cl_listener_setup) \
    X(SSLTransport, cl_tls_setup) \
    X(SockOp, cl_sockop_setup) \
    X(ReaderFields, cl_reader_setup) \
    X(StreamOp, cl_stream_op_setup) \
    X(SyncEntry, cl_entry_setup) \
    X(SyncOp, cl_op_setup) \
    X(Gather, cl_gather_setup) \
    X(Loop, cl_loop_setup)

/* kind of ready node, its table (core/node.h): CL_NODE_kind */
#define CL_STATE_NODES(X) \
    X(HANDLE, cl_handle_node) \
    X(FOREIGN, cl_foreign_node) \
    X(WATCH, cl_watch_node) \
    X(TASK_STEP, cl_task_step_node) \
    X(TASK_WAKEUP, cl_task_wakeup_node)

/* field, module, attribute: fetched once, at import. cloop/_abi.py says what is done if
 * asyncio has no such name. */
#define CL_STATE_IMPORTS(X) \
    X(asyncio_Handle, "asyncio.events", "Handle") \
    X(asyncio_TimerHandle, "asyncio.events", "TimerHandle") \
    X(SelectorEventLoop, "asyncio", "SelectorEventLoop") \
    X(events_module, "asyncio", "events") \
    X(base_events_module, "asyncio", "base_events") \
    X(format_callback_source, "asyncio.format_helpers", "_format_callback_source") \
    X(extract_stack, "asyncio.format_helpers", "extract_stack") \
    X(format_handle, "asyncio.base_events", "_format_handle") \
    X(run_until_complete_cb, "asyncio.base_events", "_run_until_complete_cb") \
    X(ensure_future, "asyncio.tasks", "ensure_future") \
    X(isfuture, "asyncio.futures", "isfuture") \
    X(tasks_module, "asyncio", "tasks") \
    X(asyncio_Future, "asyncio", "Future") \
    X(asyncio_Task, "asyncio", "Task") \
    X(CancelledError, "asyncio", "CancelledError") \
    X(InvalidStateError, "asyncio", "InvalidStateError") \
    X(iscoroutine, "asyncio.coroutines", "iscoroutine") \
    X(get_running_loop, "asyncio.events", "_get_running_loop") \
    X(set_running_loop, "asyncio.events", "_set_running_loop") \
    X(enter_task, "asyncio.tasks", "_enter_task") \
    X(leave_task, "asyncio.tasks", "_leave_task") \
    CL_IF_EAGER_TASKS( \
        X(swap_current_task, "asyncio.tasks", "_swap_current_task") \
        X(register_eager_task, "asyncio.tasks", "_register_eager_task") \
        X(unregister_eager_task, "asyncio.tasks", "_unregister_eager_task") \
        X(eager_task_factory, "asyncio", "eager_task_factory")) \
    CL_IF_AWAITED_BY( \
        X(future_add_to_awaited_by, "asyncio.futures", "future_add_to_awaited_by") \
        X(future_discard_from_awaited_by, "asyncio.futures", "future_discard_from_awaited_by")) \
    X(futures_module, "asyncio", "futures") \
    X(constants_module, "asyncio", "constants") \
    X(sendfile_modes, "asyncio.constants", "_SendfileMode") \
    X(FlowControlMixin, "asyncio.transports", "_FlowControlMixin") \
    X(asyncio_SocketTransport, "asyncio.selector_events", "_SelectorSocketTransport") \
    X(asyncio_DatagramTransport, "asyncio.selector_events", "_SelectorDatagramTransport") \
    X(asyncio_DatagramBase, "asyncio", "DatagramTransport") \
    X(asyncio_BufferedProtocol, "asyncio", "BufferedProtocol") \
    X(asyncio_Protocol, "asyncio", "Protocol") \
    X(asyncio_ReadTransport, "asyncio", "ReadTransport") \
    X(asyncio_WriteTransport, "asyncio", "WriteTransport") \
    X(TimeoutError, "asyncio", "TimeoutError") \
    X(IncompleteReadError, "asyncio", "IncompleteReadError") \
    X(LimitOverrunError, "asyncio", "LimitOverrunError") \
    X(StreamReader, "asyncio", "StreamReader") \
    X(StreamReaderProtocol, "asyncio", "StreamReaderProtocol") \
    X(StreamWriter, "asyncio", "StreamWriter") \
    X(TransportSocket, "asyncio.trsock", "TransportSocket") \
    X(OwnTransportSocket, "cloop._trsock", "TransportSocket") \
    X(Server, "asyncio.base_events", "Server") \
    X(set_wakeup_fd, "signal", "set_wakeup_fd") \
    X(getswitchinterval, "sys", "getswitchinterval") \
    X(socket_type, "socket", "socket") \
    X(socket_getaddrinfo, "socket", "getaddrinfo") \
    X(socket_AF_INET, "socket", "AF_INET") \
    X(socket_AF_INET6, "socket", "AF_INET6") \
    X(socket_SOCK_STREAM, "socket", "SOCK_STREAM") \
    X(socket_SOCK_DGRAM, "socket", "SOCK_DGRAM") \
    X(socket_SOCK_RAW, "socket", "SOCK_RAW") \
    X(QueueEmpty, "asyncio.queues", "QueueEmpty") \
    X(QueueFull, "asyncio.queues", "QueueFull") \
    X(partial, "functools", "partial") \
    X(heappush, "heapq", "heappush") \
    X(heappop, "heapq", "heappop") \
    X(WeakSet, "weakref", "WeakSet") \
    X(WeakValueDictionary, "weakref", "WeakValueDictionary")

/* interned attribute and keyword names, kept as str_NAME */
#define CL_STATE_NAMES(X) \
    X(FALLBACK) X(Future) X(_GatheringFuture) X(TRY_NATIVE) X(Task) X(_ThreadSafeHandle) \
    X(__class__) X(__eq__) X(__ge__) X(__gt__) X(__kwdefaults__) X(__le__) X(__lt__) X(__ne__) \
    X(__repr__) X(_add_callback) X(_after_fork) X(_ask) X(_asyncgen_finalizer_hook) X(_asyncgen_firstiter_hook) \
    X(_process_events) X(_remove_reader) X(_remove_writer) \
    X(__asyncio_running_event_loop__) X(_asyncio_future_blocking) X(_attach) X(_buffer) X(_call_connection_lost) X(_callbacks) X(_cancel_message) \
    X(_cancel_requested)     X(_cancelled) X(_cancelling) X(_check_callback) X(_check_handshake_timeout) X(_check_shutdown_timeout) \
    X(_check_thread) X(_client_connected_cb) X(_cloop) X(_connection_lost) X(_detach) X(_discard_awaited_by) \
    X(_do_read) X(_drain_helper) X(_eof) X(_exception) X(_finished) X(_force_close) X(_get_loop) X(_get_running_loop) X(_getters) \
    X(_handle_signal) X(_header_size) X(_limit) X(_locked) X(_log_destroy_pending) X(_loop) \
    X(_make_cancelled_error) X(_msg_callback) X(_on_ready) X(_on_timeout) X(_paused) X(_protocol) X(_putters) X(_reader) X(_repr_info) \
    X(_resume) X(_run) X(_run_once) X(_set_coroutine_origin_tracking) \
    X(_set_result_unless_cancelled) X(_set_running_loop) X(_sslobj) X(_stream_reader_wr) \
    X(_timeout_handler) X(_transport) X(_unfinished_tasks) X(_value) X(_waiter) X(_waiters) X(_wake_up_first) X(_wake_up_next) X(_wakeup_next) X(abort) X(add_done_callback) X(addr) X(append) X(args) X(buffer_updated) \
    X(call_at) X(call_exception_handler) X(call_later) X(call_soon) X(cancel) X(cancelled) \
    X(cipher) X(clear) X(close) X(compression) X(connection_lost) X(connection_made) X(consumed) \
    X(context) X(create_future) X(create_task) X(data) X(data_received) X(datagram_received) \
    X(debug) X(do_handshake) X(done) X(eager_start) X(empty) X(eof_received) X(error_received) \
    X(exc_info) X(exception) X(feed_data) X(fileno) X(full) X(get_buffer) X(get_debug) \
    X(get_extra_info) X(get_loop) X(getaddrinfo) X(getpeercert) X(getpeername) X(getsockname) \
    X(handle) X(info) X(is_closing) X(is_running) X(join) X(logger) X(loop) X(message) X(msg) \
    X(name) X(pause_reading) X(pause_writing) X(peercert) X(peername) X(pending) X(pipe) X(popleft) \
    X(protocol) X(read) X(remove) X(remove_done_callback) X(result) X(resume_reading) X(resume_writing) X(return_exceptions) \
    X(run) X(run_forever) X(sendto) X(set) X(set_exception) X(set_result) X(setblocking) X(socket) \
    X(sockname) X(source_traceback) X(ssl_object) X(sslcontext) X(throw) X(time) X(transport) \
    X(unwrap) X(warning) X(wrap_bio) X(write)

/* clang-format on */

/* No more than CL_NODE_KIND_MASK has room for. */
enum {
#define KIND(kind, ops) CL_NODE_##kind,
    CL_STATE_NODES(KIND)
#undef KIND
        CL_NODE_KINDS
};

typedef struct cl_node_ops cl_node_ops;

typedef struct cl_state {
    PyObject *module; /* borrowed: this is its state */
#define FIELD(type, setup) PyTypeObject *type##Type;
    CL_STATE_TYPES(FIELD)
#undef FIELD
#define FIELD(field, module, attribute) PyObject *field;
    CL_STATE_IMPORTS(FIELD)
#undef FIELD
#define FIELD(name) PyObject *str_##name;
    CL_STATE_NAMES(FIELD)
#undef FIELD
    const cl_node_ops *node_ops[CL_NODE_KINDS];
    PyObject *asyncio_ThreadSafeHandle; /* NULL before 3.14 */
    PyObject *kwnames_context;          /* ("context",) */
    PyObject *kwnames_loop;             /* ("loop",) */
    PyObject *kwnames_debug;            /* ("debug",) */
    PyObject *kwnames_exc_info;         /* ("exc_info",) */
    PyObject *kwnames_wrap_bio; /* ("server_side", "server_hostname") */
    PyObject *stop_true;        /* futures/coro.c */
    PyObject *empty_bytes;
    PyObject *minus_one;
    PyObject *one;
    PyObject *one_byte;            /* b"\0" */
    PyObject *sendfile_try_native; /* asyncio.constants' */
    PyObject *sendfile_fallback;   /* the same */
    struct cl_tls *tls; /* tls/tls.h; NULL until the first connection of TLS */
    struct cl_streams *streams;  /* streams/streams.h */
    struct cl_sync *sync;        /* sync/sync.h */
    size_t datagram_header_size; /* what asyncio adds to each that waits */
    bool server_takes_transport; /* Server._attach() does, from 3.13 on */
    bool callback_source_takes_debug; /* 3.13 and some 3.12 */
    cl_guard socket_guard;            /* see net/sock.h, and the next */
    bool sock_known;
    uint64_t loop_looks;       /* times a class of loops was looked up */
    unsigned long main_thread; /* threading.main_thread().ident */
    enum { CL_GATHER_NEVER, CL_GATHER_LEARNT, CL_GATHER_ALWAYS } gathers;
    unsigned forks; /* how many this process is away from the first */
    struct LoopObject *loops; /* borrowed, linked: those that are open */
    pid_t pid;                /* of this process */
    pid_t ancestors[CL_ANCESTORS_MAX]; /* it was forked from; the last first */
    int ancestor_count;
    int armed_fd; /* what we gave signal.set_wakeup_fd, or -1 */
    cl_wakeup wakeup;
    /* futures/: whether asyncio's classes are laid out as we know them, and whether
     * ours are used (cloop/_futures.py decides) */
    bool layouts_fit;
    bool own_tasks;
    uint64_t task_count;      /* of names given */
    struct cl_remote *remote; /* futures/remote.h */
    PyObject *spare_futures;  /* memory for reuse, linked */
    PyObject *spare_tasks;
    PyObject *spare_iters;
    PyObject *spare_stream_ops;
    PyObject *spare_sync_ops;
    int spare_future_count;
    int spare_task_count;
    int spare_iter_count;
    int spare_stream_op_count;
    int spare_sync_op_count;
    PyObject *current_tasks; /* see futures/registry.h; up to 3.13 */
    PyObject *all_tasks;
    PyObject *all_tasks_iterating;
    PyObject *all_tasks_removals;
    Py_ssize_t lost_tasks;   /* references to none in all_tasks, at most */
    size_t task_list_offset; /* in the state of a thread; from 3.14 on */
    size_t running_loop_offset;
    size_t running_task_offset;
    Py_ssize_t live_futures;
    Py_ssize_t live_tasks;
    Py_ssize_t live_handles; /* live objects, for leak checks */
    Py_ssize_t live_timers;
    Py_ssize_t live_transports;
    Py_ssize_t live_sockops;
    Py_ssize_t live_stream_ops;
    Py_ssize_t live_sync_ops;
    Py_ssize_t live_loops;
} cl_state;

extern PyModuleDef cl_module_def; /* module.c */

#endif
