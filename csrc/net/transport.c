/* transport.c - see transport.h. */
#include "net/transport.h"

#include <errno.h>
#include <unistd.h>

#include "core/args.h"
#include "core/errors.h"
#include "core/fork.h"
#include "futures/future.h"
#include "net/extra.h"
#include "net/server.h"
#include "net/sock.h"
#include "streams/streams.h"

/* --------------------------------------------------------------- invariants */

#ifdef CL_DEBUG
#define cl_assert_flow(self, condition) \
    cl_assertf(condition, \
               "%s object at %p of descriptor %d: flags %x, %zu bytes wait, " \
               "marks %zu and %zu, wants %u, lost %u", \
               Py_TYPE(self)->tp_name, (void *)(self), (self)->tr_fd, \
               (self)->tr_flags, cl_transport_write_buffer_size(self), \
               (self)->tr_limits.low, (self)->tr_limits.high, \
               (self)->tr_watch.w_want, (self)->tr_conn_lost)

/* The paused flag against the water marks and what waits; what waits against what the
 * transport wants to hear of. */
static void
check_flow(TransportObject *self)
{
    size_t waits = cl_transport_write_buffer_size(self);
    bool paused = (self->tr_flags & CL_T_PROTOCOL_PAUSED) != 0;
    cl_assert_flow(self, self->tr_limits.low <= self->tr_limits.high);
    /* A datagram that is sent after abort() may wait until connection_lost(). */
    cl_assert_flow(
        self, self->tr_conn_lost == 0 || waits == 0 ||
                  Py_TYPE(self) ==
                      cl_net_of(self->tr_loop->l_st)->DatagramTransportType);
    cl_assert_flow(self,
                   self->tr_conn_lost == 0 || (self->tr_flags & CL_T_CLOSING));
    if (self->tr_conn_lost > 0)
        return;
    cl_assert_flow(self, paused || waits <= self->tr_limits.high);
    /* Else nothing would come that lets it go on; */
    cl_assert_flow(self,
                   !paused || waits > 0 || (self->tr_watch.w_want & CL_WRITE));
    /* or sends it. */
    cl_assert_flow(self, waits == 0 || self->tr_watch.w_fd < 0 ||
                             (self->tr_watch.w_want & CL_WRITE));
}

void
cl_transport_check(TransportObject *self)
{
    cl_state *st = self->tr_loop->l_st;
    cl_assert_of(self, Py_REFCNT(self) > 0);
    cl_assert_of(self, self->tr_watch.w_owner == (PyObject *)self);
    if (self->tr_flags & CL_T_NOT_OPEN) {
        cl_assert_of(self, self->tr_watch.w_fd < 0);
        return;
    }
    cl_assert_of(self, self->tr_protocol != NULL && self->tr_context != NULL);
    cl_assert_of(self, self->tr_watch.w_fd < 0 ||
                           self->tr_watch.w_fd == self->tr_fd);
    cl_assert_of(self,
                 !(self->tr_flags & CL_T_TLS) ||
                     Py_TYPE(self->tr_protocol) == cl_net_of(st)->tls_type);
    cl_assert_of(self, !(self->tr_flags & CL_T_CLOSING) ||
                           !cl_transport_is_reading(self));
    check_flow(self);
    if (cl_transport_ops_of(self)->check != NULL)
        cl_transport_ops_of(self)->check(self);
}

void
cl_transport_check_watch(LoopObject *loop, const cl_watch *watch)
{
    TransportObject *self = (TransportObject *)watch->w_owner;
    cl_assert_of(self, self->tr_loop == loop && &self->tr_watch == watch);
    cl_transport_check(self);
    cl_gather_check(loop);
}
#endif

/* -------------------------------------------------------------- descriptors */

int
cl_transport_fd(TransportObject *self)
{
    if (self->tr_flags & CL_T_NOT_OPEN)
        return -EBADF;
    if (self->tr_file == NULL)
        return self->tr_fd;
    int fd = cl_sock_fd(self->tr_loop->l_st, self->tr_file);
    if (fd < -1)
        PyErr_Clear(); /* a closed file object raises */
    return fd == self->tr_fd && !(self->tr_flags & CL_T_NOT_OPEN) ? fd
                                                                  : -EBADF;
}

void
cl_transport_want(TransportObject *self, unsigned direction, bool on)
{
    cl_assertf((direction & ~(CL_READ | CL_WRITE)) == 0 && direction != 0,
               "%u", direction);
    unsigned want = self->tr_watch.w_want;
    want = on ? want | direction : want & ~direction;
    cl_watch_want(self->tr_loop, &self->tr_watch, want);
}

static int
close_descriptor(TransportObject *self)
{
    cl_loop_poll_soon(self->tr_loop);
    cl_assert_of(self, !(self->tr_flags & CL_T_NOT_OPEN));
    if (cl_transport_ops_of(self)->closing != NULL)
        cl_transport_ops_of(self)->closing(self);
    if (self->tr_flags & CL_T_NOT_OPEN) /* the file's fileno() took it away */
        return 0;
    PyObject *sock = self->tr_file;
    if (sock == NULL) {
        close(self->tr_fd);
        return 0;
    }
    self->tr_file = NULL;
    PyObject *result = PyObject_CallMethodNoArgs(
        sock, cl_net_of(self->tr_loop->l_st)->str_close);
    Py_DECREF(sock);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ------------------------------------------------------------------ creation */

static int
check_free(LoopObject *loop, int fd, PyObject *sock)
{
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    if (watch == NULL || !cl_watch_claims(watch))
        return 0;
    TransportObject *other = cl_transport_from_watch(watch);
    if (cl_transport_fd(other) < 0)
        return 0; /* the program closed the socket, and the number is free */
    PyObject *number = sock == NULL ? PyLong_FromLong(fd) : Py_NewRef(sock);
    if (number != NULL)
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", number,
                     other);
    Py_XDECREF(number);
    return -1;
}

static unsigned
kind_of(const TransportObject *self)
{
    cl_net *net = cl_net_of(self->tr_loop->l_st);
    if (self->tr_flags & CL_T_PIPE)
        return CL_KIND_PIPE;
    if (self->tr_family == AF_UNIX)
        return CL_KIND_UNIX;
    if (self->tr_family != AF_INET && self->tr_family != AF_INET6)
        return CL_KIND_OTHER;
    return Py_TYPE(self) == net->DatagramTransportType ? CL_KIND_UDP
                                                       : CL_KIND_TCP;
}

static void
count_open(TransportObject *self)
{
    unsigned kind = kind_of(self);
    self->tr_flags |= (uint16_t)(kind * CL_T_KIND);
    cl_net_counts_of(self->tr_loop)->nc_open[kind]++;
}

void
cl_transport_count_closed(TransportObject *self)
{
    unsigned kind = (self->tr_flags & CL_T_KIND_MASK) / CL_T_KIND;
    self->tr_flags &= (uint16_t)~CL_T_KIND_MASK;
    if (kind != CL_KIND_NONE)
        cl_net_counts_of(self->tr_loop)->nc_open[kind]--;
}

TransportObject *
cl_transport_new(const cl_transport_args *args)
{
    cl_state *st = args->loop->l_st;
    cl_assert_gil();
    cl_assertf(args->fd >= 0, "%d", args->fd);
    cl_assert(args->type != NULL && args->ops != NULL);
    cl_assert(args->protocol != NULL);
    if (check_free(args->loop, args->fd, args->sock) < 0 ||
        cl_net_prepare(args->loop) < 0)
        return NULL;
    TransportObject *self = (TransportObject *)cl_type_alloc(args->type);
    if (self == NULL)
        return NULL;
    /* Not open until the descriptor is ours. */
    self->tr_flags = CL_T_NOT_OPEN | (args->pipe ? CL_T_PIPE : 0);
    self->tr_loop = (LoopObject *)Py_NewRef(args->loop);
    cl_live_add(&cl_net_of(st)->live_transports, 1);
    self->tr_file = Py_XNewRef(args->sock);
    self->tr_file_refs = 1;
    self->tr_waiter = Py_XNewRef(args->waiter);
    self->tr_fd = args->fd;
    self->tr_family = (uint16_t)args->family;
    self->tr_type = (uint8_t)args->socktype;
    self->tr_proto = (uint16_t)args->proto;
    self->tr_limits = (cl_limits){CL_WRITE_HIGH, CL_WRITE_HIGH / 4};
    cl_watch_init(&self->tr_watch, &args->ops->watch, (PyObject *)self);
    if (args->extra != NULL &&
        (self->tr_extra = PyDict_Copy(args->extra)) == NULL)
        goto failed;
    self->tr_context = args->context != NULL ? Py_NewRef(args->context)
                                             : PyContext_CopyCurrent();
    if (self->tr_context == NULL ||
        cl_transport_set_protocol(self, args->protocol) < 0)
        goto failed;
    self->tr_flags &= (uint16_t)~CL_T_NOT_OPEN;
    if (!args->pipe && cl_extra_find_addresses(self, args) < 0)
        goto failed;
    if (args->server != NULL) {
        if (cl_server_attach(st, args->server, (PyObject *)self) < 0)
            goto failed;
        self->tr_server = Py_NewRef(args->server);
    }
    int err = cl_watch_start(args->loop, &self->tr_watch, args->fd, 0);
    if (err < 0) {
        cl_raise_errno(err);
        goto failed;
    }
    count_open(self);
    return self;
failed:
    cl_transport_disown(self, args->sock != NULL);
    Py_DECREF(self);
    return NULL;
}

void
cl_transport_disown(TransportObject *self, bool sock_given)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *server = self->tr_server, *result;
    self->tr_server = NULL;
    self->tr_flags |= CL_T_NOT_OPEN;
    cl_transport_count_closed(self);
    cl_watch_stop(self->tr_loop, &self->tr_watch);
    if (!sock_given && self->tr_file != NULL) {
        /* It was made to ask for an address. It must not close the caller's
         * descriptor. */
        result = PyObject_CallMethod(self->tr_file, "detach", NULL);
        Py_XDECREF(result);
    }
    if (server != NULL)
        (void)cl_server_detach(self->tr_loop->l_st, server, (PyObject *)self);
    Py_XDECREF(server);
    PyErr_Clear();
    PyErr_SetRaisedException(error);
}

bool
cl_transport_claims(const cl_watch *watch)
{
    /* A closing transport claims it while there is something to send. */
    const TransportObject *self = (const TransportObject *)watch->w_owner;
    return self->tr_conn_lost == 0 && !(self->tr_flags & CL_T_NOT_OPEN);
}

void
cl_transport_evicted(LoopObject *loop, cl_watch *watch)
{
    TransportObject *self = cl_transport_from_watch(watch);
    if (!loop->l_open)
        cl_gather_drop(loop, (PyObject *)self);
    if (!loop->l_open || self->tr_conn_lost ||
        (self->tr_flags & CL_T_NOT_OPEN))
        return;
    /* The program closed the socket, and the number belongs to another file. */
    if (cl_transport_fatal_errno(self, -EBADF, "Fatal error on transport") < 0)
        PyErr_WriteUnraisable((PyObject *)self);
}

int
cl_transport_refused(LoopObject *Py_UNUSED(loop), cl_watch *watch, int err)
{
    TransportObject *self = cl_transport_from_watch(watch);
    if (err == -EPERM && (self->tr_flags & CL_T_PIPE))
        return 1; /* such as /dev/null */
    Py_INCREF(self);
    PyObject *context = cl_transport_enter(self);
    int status = -1;
    if (context != NULL) {
        cl_raise_os_error(err);
        status = cl_transport_fatal(
            self, "Fatal error: the transport cannot be watched");
        status = cl_transport_leave(context, status);
    }
    Py_DECREF(self);
    return status;
}

int
cl_transport_begin(TransportObject *self)
{
    cl_state *st = self->tr_loop->l_st;
    /* A collection may have closed it, by server.abort_clients(). */
    cl_assert_of(self, !(self->tr_flags & CL_T_NOT_OPEN));
    cl_assert_of(self, self->tr_watch.w_fd == self->tr_fd);
    /* Room for both nodes, so that connection_made() is never alone. */
    if (cl_streams_expect_writer(st, self->tr_protocol) < 0 ||
        cl_loop_check_open(self->tr_loop) < 0 ||
        cl_loop_reserve(self->tr_loop, 2) < 0)
        return -1;
    PyObject *made = PyObject_GetAttr(self->tr_protocol,
                                      cl_net_of(st)->str_connection_made);
    PyObject *transport = (PyObject *)self;
    int status = made == NULL
                     ? -1
                     : cl_loop_call_soon(self->tr_loop, made, &transport, 1,
                                         self->tr_context);
    Py_XDECREF(made);
    return status < 0 || cl_loop_check_open(self->tr_loop) < 0
               ? -1
               : cl_watch_push(self->tr_loop, &self->tr_watch, CL_START);
}

/* Wakes the transport's creator. 0/-1 */
static int
wake_waiter(TransportObject *self)
{
    cl_state *st = self->tr_loop->l_st;
    PyObject *waiter = Py_XNewRef(self->tr_waiter);
    if (waiter == NULL)
        return 0;
    int status = -1;
    PyObject *args[] = {waiter, Py_None};
    PyObject *wake =
        PyObject_GetAttr(cl_futures_of(st)->futures_module,
                         cl_net_of(st)->str__set_result_unless_cancelled);
    if (wake == cl_net_of(st)->set_result_unless_cancelled &&
        cl_future_is_plain(st, waiter) &&
        ((FutureObject *)waiter)->f_state != CL_FINISHED) {
        FutureObject *future = (FutureObject *)waiter;
        status = future->f_state == CL_CANCELLED
                     ? 0
                     : cl_future_finish(future, Py_None);
    }
    else if (wake != NULL) {
        PyObject *result = PyObject_Vectorcall(wake, args, 2, NULL);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    if (status == 0 && self->tr_waiter == waiter)
        Py_CLEAR(self->tr_waiter);
    Py_XDECREF(wake);
    Py_DECREF(waiter);
    return status;
}

/* The same, with the exception that broke the transport. */
static int
fail_waiter(TransportObject *self, PyObject *exception)
{
    cl_state *st = self->tr_loop->l_st;
    PyObject *waiter = self->tr_waiter;
    self->tr_waiter = NULL;
    if (waiter == NULL)
        return 0;
    PyObject *done =
        PyObject_CallMethodNoArgs(waiter, cl_net_of(st)->str_done);
    int status = done == NULL ? -1 : PyObject_IsTrue(done);
    if (status == 0) {
        PyObject *error =
            exception != NULL
                ? Py_NewRef(exception)
                : PyObject_CallFunction(PyExc_ConnectionAbortedError, "s",
                                        "the transport was closed before it "
                                        "could be used");
        PyObject *set =
            error == NULL
                ? NULL
                : PyObject_CallMethodOneArg(
                      waiter, cl_net_of(st)->str_set_exception, error);
        Py_XDECREF(error);
        Py_XDECREF(set);
        status = set == NULL ? -1 : 0;
    }
    Py_XDECREF(done);
    Py_DECREF(waiter);
    return status < 0 ? -1 : 0;
}

static int
started(TransportObject *self)
{
    if (cl_transport_is_reading(self))
        cl_transport_want(self, CL_READ, true);
    if (wake_waiter(self) == 0)
        return 0;
    if (!cl_error_is_exit() && !(self->tr_flags & CL_T_NOT_OPEN))
        /* The waiter gets the exception with connection_lost(). */
        return cl_transport_fatal(
            self, "Fatal error: the transport could not be started");
    PyObject *error = PyErr_GetRaisedException();
    if (PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        int status = fail_waiter(self, error);
        Py_DECREF(error);
        return status;
    }
    /* When the loop runs again. */
    cl_first_error(&error,
                   cl_watch_push(self->tr_loop, &self->tr_watch, CL_START));
    return cl_raise_first(error);
}

/* Starts the transport, or calls connection_lost(). 0/-1 */
static int
begin_or_end(TransportObject *self, unsigned bits)
{
    PyObject *error = NULL;
    if (bits & CL_START)
        cl_first_error(&error, started(self));
    if (bits & CL_LOST) {
        PyObject *exception = self->tr_error;
        self->tr_error = NULL;
        cl_first_error(&error, cl_transport_lost(self, exception));
        Py_XDECREF(exception);
    }
    return cl_raise_first(error);
}

static int
run_events(TransportObject *self, unsigned bits)
{
    const cl_transport_ops *ops = cl_transport_ops_of(self);
    cl_assertf((bits & ~(CL_READ | CL_WRITE | CL_START | CL_LOST)) == 0, "%x",
               bits);
    if ((bits & (CL_START | CL_LOST)) && begin_or_end(self, bits) < 0)
        return -1;
    /* It may have been paused or closed since the event came. */
    if ((bits & CL_READ) && (self->tr_watch.w_want & CL_READ) &&
        !self->tr_conn_lost && ops->readable(self, !(bits & CL_WRITE)) < 0)
        return -1;
    if ((bits & CL_WRITE) && (self->tr_watch.w_want & CL_WRITE))
        return ops->writable(self);
    return 0;
}

int
cl_transport_run(LoopObject *Py_UNUSED(loop), cl_watch *watch, unsigned bits)
{
    TransportObject *self = cl_transport_from_watch(watch);
    PyObject *context = cl_transport_enter(self);
    if (context == NULL)
        return -1;
    int status = run_events(self, bits);
    cl_assert_of(self, (status < 0) == (PyErr_Occurred() != NULL));
    if (status < 0)
        status = cl_transport_report_stray(self);
    cl_check(cl_transport_check(self));
    return cl_transport_leave(context, status);
}

/* ------------------------------------------------------------------- logging */

int
cl_transport_debug(TransportObject *self, const char *format)
{
    LoopObject *loop = self->tr_loop;
    return loop->l_debug ? cl_log(loop, cl_net_of(loop->l_st)->str_debug,
                                  format, (PyObject *)self, NULL, NULL)
                         : 0;
}

int
cl_transport_write_when_lost(TransportObject *self)
{
    return cl_flow_lost_write(self->tr_loop, &self->tr_conn_lost,
                              "socket.send() raised exception.");
}

/* -------------------------------------------------------------------- closing */

/* call_soon(self._call_connection_lost, exception) */
static int
call_lost_soon(TransportObject *self, PyObject *exception)
{
    /* A copy: a nested turn inside a callback cannot enter the same context
     * again, and connection_lost() would never come. */
    PyObject *context = PyContext_Copy(self->tr_context);
    PyObject *callback =
        context == NULL
            ? NULL
            : PyObject_GetAttr(
                  (PyObject *)self,
                  cl_net_of(self->tr_loop->l_st)->str__call_connection_lost);
    PyObject *arg = exception == NULL ? Py_None : exception;
    int status = callback == NULL ? -1
                                  : cl_loop_call_soon(self->tr_loop, callback,
                                                      &arg, 1, context);
    Py_XDECREF(callback);
    Py_XDECREF(context);
    return status;
}

/* The same, whatever fails: connection_lost() must come, and come last. If
 * there is no memory for a handle, the transport's own node is pushed; if that
 * fails too, connection_lost() is called now. 0/-1 */
static int
schedule_lost(TransportObject *self, PyObject *exception)
{
    PyObject *error = NULL;
    cl_first_error(&error, call_lost_soon(self, exception));
    if (error == NULL || !self->tr_loop->l_open)
        return cl_raise_first(error);
    Py_XSETREF(self->tr_error, Py_XNewRef(exception));
    if (cl_watch_push(self->tr_loop, &self->tr_watch, CL_LOST) < 0) {
        PyErr_Clear();
        Py_CLEAR(self->tr_error);
        cl_first_error(&error, cl_transport_lost(self, exception));
    }
    /* If an overridden call_soon() failed, the caller should know. */
    if (PyErr_GivenExceptionMatches(error, PyExc_MemoryError))
        Py_CLEAR(error);
    return cl_raise_first(error);
}

int
cl_transport_force_close(TransportObject *self, PyObject *exception)
{
    if (self->tr_conn_lost || (self->tr_flags & CL_T_NOT_OPEN))
        return 0;
    cl_assert_gil();
    cl_transport_ops_of(self)->drop_buffer(self);
    cl_assert_of(self, cl_transport_write_buffer_size(self) == 0);
    self->tr_flags |= CL_T_CLOSING;
    self->tr_conn_lost++;
    cl_transport_want(self, CL_READ | CL_WRITE, false);
    return schedule_lost(self, exception);
}

static bool
is_quiet(TransportObject *self, PyObject *exception)
{
    const cl_transport_ops *ops = cl_transport_ops_of(self);
    return ops->is_quiet != NULL
               ? ops->is_quiet(self, exception)
               : PyErr_GivenExceptionMatches(exception, PyExc_OSError);
}

int
cl_transport_fatal(TransportObject *self, const char *message)
{
    cl_assert_of(self, PyErr_Occurred() != NULL);
    if (cl_error_is_exit())
        return -1;
    PyObject *exception = PyErr_GetRaisedException(), *error = NULL;
    /* Send what the callback wrote before it raised. */
    int status = cl_loop_afterwards(self->tr_loop, 0);
    if (status == 0)
        status =
            is_quiet(self, exception)
                ? cl_log_os_error(self->tr_loop, (PyObject *)self, message,
                                  exception)
                : cl_report_transport(self->tr_loop, message, exception,
                                      (PyObject *)self, self->tr_protocol);
    cl_first_error(&error, status);
    /* And what the exception handler wrote. */
    cl_first_error(&error, cl_loop_afterwards(self->tr_loop, 0));
    cl_first_error(&error, cl_transport_force_close(self, exception));
    Py_DECREF(exception);
    return cl_raise_first(error);
}

int
cl_transport_fatal_errno(TransportObject *self, int err, const char *message)
{
    cl_assertf(err < 0, "%d", err);
    cl_raise_errno(err);
    return cl_transport_fatal(self, message);
}

int
cl_transport_close(TransportObject *self)
{
    cl_assert_gil();
    if (self->tr_flags & CL_T_CLOSING)
        return 0;
    if (cl_transport_flush(self) < 0)
        return -1;
    if (self->tr_flags & CL_T_CLOSING) /* that failed */
        return 0;
    if (cl_transport_write_buffer_size(self) > 0 &&
        cl_fork_is_parents(self->tr_loop, &self->tr_watch))
        cl_transport_ops_of(self)->drop_buffer(self); /* the parent sends it */
    self->tr_flags |= CL_T_CLOSING;
    bool writes = cl_transport_write_buffer_size(self) > 0;
    if (!writes || !cl_transport_ops_of(self)->only_writes)
        cl_transport_want(self, CL_READ, false);
    if (writes)
        return 0;
    self->tr_conn_lost++;
    return schedule_lost(self, NULL);
}

static int
let_go(TransportObject *self)
{
    cl_assert_of(self, !(self->tr_flags & CL_T_NOT_OPEN));
    cl_transport_ops_of(self)->drop_buffer(self);
    cl_watch_stop(self->tr_loop, &self->tr_watch);
    PyObject *error = NULL;
    cl_first_error(&error, close_descriptor(self));
    self->tr_flags |= CL_T_NOT_OPEN | CL_T_CLOSING;
    cl_transport_count_closed(self);
    /* Only now: another thread may have set a protocol meanwhile. */
    PyObject *protocol = self->tr_protocol, *server = self->tr_server;
    self->tr_protocol = self->tr_server = NULL;
    Py_XDECREF(protocol);
    if (server != NULL)
        cl_first_error(&error, cl_server_detach(self->tr_loop->l_st, server,
                                                (PyObject *)self));
    Py_XDECREF(server);
    return cl_raise_first(error);
}

int
cl_transport_lost(TransportObject *self, PyObject *exception)
{
    cl_state *st = self->tr_loop->l_st;
    PyObject *error = NULL;
    if (self->tr_flags & CL_T_NOT_OPEN)
        return 0;
    Py_INCREF(self); /* let_go() may drop the loop's reference */
    if (self->tr_flags & CL_T_CONNECTED)
        cl_first_error(
            &error, cl_transport_tell(self, cl_net_of(st)->str_connection_lost,
                                      exception ? exception : Py_None, NULL));
    cl_first_error(&error, fail_waiter(self, exception));
    if (!(self->tr_flags & CL_T_NOT_OPEN))
        cl_first_error(&error, let_go(self));
    if (cl_transport_ops_of(self)->gone != NULL)
        cl_first_error(&error, cl_transport_ops_of(self)->gone(self));
    int status = cl_raise_first(error);
    Py_DECREF(self);
    return status;
}

int
cl_transport_traverse(TransportObject *self, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(self);
    Py_VISIT(self->tr_extra);
    Py_VISIT(self->tr_protocol);
    Py_VISIT(self->tr_server);
    Py_VISIT(self->tr_context);
    Py_VISIT(self->tr_file);
    Py_VISIT(self->tr_dict);
    Py_VISIT(self->tr_loop);
    Py_VISIT(self->tr_waiter);
    Py_VISIT(self->tr_error);
    return 0;
}

/* Keeps the loop: other finalizers may still call this transport. */
int
cl_transport_clear(TransportObject *self)
{
    Py_CLEAR(self->tr_extra);
    Py_CLEAR(self->tr_protocol);
    Py_CLEAR(self->tr_server);
    Py_CLEAR(self->tr_context);
    Py_CLEAR(self->tr_file);
    Py_CLEAR(self->tr_dict);
    Py_CLEAR(self->tr_waiter);
    Py_CLEAR(self->tr_error);
    return 0;
}

/* Not closed: warns like asyncio's __del__. */
void
cl_transport_finalize(PyObject *op)
{
    TransportObject *self = (TransportObject *)op;
    if (self->tr_loop == NULL || (self->tr_flags & CL_T_NOT_OPEN))
        return;
    CL_CLAIM_TO_FINALIZE(self->tr_loop, op);
    if (CL_FREE_THREADED && (self->tr_flags & CL_T_NOT_OPEN))
        return; /* meanwhile */
    PyObject *error = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0)
        PyErr_WriteUnraisable(op);
    if (let_go(self) < 0)
        PyErr_WriteUnraisable(op);
    (void)cl_raise_first(error);
}

void
cl_transport_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0)
        return;
    PyObject_GC_UnTrack(op);
    if (((cl_transport_head *)op)->th_weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    type->tp_clear(op);
    LoopObject *loop = ((cl_transport_head *)op)->th_loop;
    if (loop != NULL)
        cl_live_add(&cl_net_of(loop->l_st)->live_transports, -1);
    type->tp_free(op);
    Py_XDECREF(loop);
    Py_DECREF(type);
}
