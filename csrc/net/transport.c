/* transport.c - see transport.h. */
#include "net/transport.h"

#include <errno.h>
#include <unistd.h>

#include "core/args.h"
#include "core/errors.h"
#include "core/fork.h"
#include "net/extra.h"
#include "net/sock.h"
#include "streams/streams.h"

/* ---------------------------------------------------------------- contracts */

#ifdef CL_DEBUG
#define cl_assert_flow(self, condition) \
    cl_assertf(condition, \
               "%s object at %p of descriptor %d: flags %x, %zu bytes wait, " \
               "marks %zu and %zu, wants %u, lost %u", \
               Py_TYPE(self)->tp_name, (void *)(self), (self)->t_fd, \
               (self)->t_flags, cl_transport_buffered(self), \
               (self)->t_limits.low, (self)->t_limits.high, \
               (self)->t_watch.w_want, (self)->t_conn_lost)

/* The paused flag against the water marks and what waits; what waits against what the
 * transport wants to hear of. */
static void
check_flow(TransportObject *self)
{
    size_t waits = cl_transport_buffered(self);
    bool paused = (self->t_flags & CL_T_PROTOCOL_PAUSED) != 0;
    cl_assert_flow(self, self->t_limits.low <= self->t_limits.high);
    cl_assert_flow(self, self->t_conn_lost == 0 || waits == 0);
    cl_assert_flow(self,
                   self->t_conn_lost == 0 || (self->t_flags & CL_T_CLOSING));
    if (self->t_conn_lost > 0)
        return;
    cl_assert_flow(self, paused || waits <= self->t_limits.high);
    /* Else nothing would come that lets it go on; */
    cl_assert_flow(self, !paused || waits > 0);
    /* or sends it. */
    cl_assert_flow(self, waits == 0 || self->t_watch.w_fd < 0 ||
                             (self->t_watch.w_want & CL_WRITE));
}

void
cl_transport_check(TransportObject *self)
{
    cl_state *st = self->t_loop->l_st;
    cl_assert_of(self, Py_REFCNT(self) > 0);
    cl_assert_of(self, self->t_watch.w_owner == (PyObject *)self);
    if (self->t_flags & CL_T_GONE) {
        cl_assert_of(self, self->t_watch.w_fd < 0);
        return;
    }
    cl_assert_of(self, self->t_protocol != NULL && self->t_context != NULL);
    cl_assert_of(self,
                 self->t_watch.w_fd < 0 || self->t_watch.w_fd == self->t_fd);
    cl_assert_of(self,
                 !(self->t_flags & CL_T_TLS) ||
                     Py_TYPE(self->t_protocol) == cl_net_of(st)->tls_type);
    cl_assert_of(self, !(self->t_flags & CL_T_CLOSING) ||
                           !cl_transport_is_reading(self));
    check_flow(self);
    if (cl_transport_ops_of(self)->check != NULL)
        cl_transport_ops_of(self)->check(self);
}

void
cl_transport_check_watch(LoopObject *loop, const cl_watch *watch)
{
    TransportObject *self = (TransportObject *)watch->w_owner;
    cl_assert_of(self, self->t_loop == loop && &self->t_watch == watch);
    cl_transport_check(self);
    cl_gather_check(loop);
}
#endif

/* -------------------------------------------------------------- descriptors */

int
cl_transport_fd(TransportObject *self)
{
    if (self->t_flags & CL_T_GONE)
        return -EBADF;
    if (self->t_sock != NULL &&
        cl_sock_fd(self->t_loop->l_st, self->t_sock) != self->t_fd)
        return -EBADF;
    return self->t_fd;
}

void
cl_transport_want(TransportObject *self, unsigned direction, bool on)
{
    cl_assertf((direction & ~(CL_READ | CL_WRITE)) == 0 && direction != 0,
               "%u", direction);
    unsigned want = self->t_watch.w_want;
    want = on ? want | direction : want & ~direction;
    cl_watch_want(self->t_loop, &self->t_watch, want);
}

static int
close_descriptor(TransportObject *self)
{
    PyObject *sock = self->t_sock;
    cl_assert_of(self, !(self->t_flags & CL_T_GONE));
    cl_loop_poll_soon(self->t_loop);
    if (cl_transport_ops_of(self)->closing != NULL)
        cl_transport_ops_of(self)->closing(self);
    if (sock == NULL) {
        close(self->t_fd);
        return 0;
    }
    self->t_sock = NULL;
    PyObject *result = PyObject_CallMethodNoArgs(
        sock, cl_net_of(self->t_loop->l_st)->str_close);
    Py_DECREF(sock);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ---------------------------------------------------------------- the making */

static int
check_free(LoopObject *loop, int fd, PyObject *sock)
{
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    if (watch == NULL || !cl_watch_claims(watch))
        return 0;
    TransportObject *other = cl_transport_from_watch(watch);
    if (cl_transport_fd(other) < 0)
        return 0; /* its socket was closed by hand, and the number is free */
    PyObject *number = sock == NULL ? PyLong_FromLong(fd) : Py_NewRef(sock);
    if (number != NULL)
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", number,
                     other);
    Py_XDECREF(number);
    return -1;
}

/* server._attach() or _detach(), which take the transport from 3.13 on. */
static int
tell_server(TransportObject *self, PyObject *server, PyObject *name)
{
    PyObject *args[] = {server, (PyObject *)self};
    PyObject *result = PyObject_VectorcallMethod(
        name, args,
        cl_net_of(self->t_loop->l_st)->server_takes_transport ? 2 : 1, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
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
    TransportObject *self =
        (TransportObject *)args->type->tp_alloc(args->type, 0);
    if (self == NULL)
        return NULL;
    /* Gone until the descriptor is ours. */
    self->t_flags = CL_T_GONE | (args->pipe ? CL_T_PIPE : 0);
    self->t_loop = (LoopObject *)Py_NewRef(args->loop);
    cl_net_of(st)->live_transports++;
    self->t_sock = Py_XNewRef(args->sock);
    self->t_sock_refs = 1;
    self->t_waiter = Py_XNewRef(args->waiter);
    self->t_fd = args->fd;
    self->t_family = (uint16_t)args->family;
    self->t_type = (uint8_t)args->socktype;
    self->t_proto = (uint16_t)args->proto;
    self->t_limits = (cl_limits){CL_WRITE_HIGH, CL_WRITE_HIGH / 4};
    cl_watch_init(&self->t_watch, &args->ops->watch, (PyObject *)self);
    if (args->extra != NULL &&
        (self->t_extra = PyDict_Copy(args->extra)) == NULL)
        goto failed;
    self->t_context = args->context != NULL ? Py_NewRef(args->context)
                                            : PyContext_CopyCurrent();
    if (self->t_context == NULL ||
        cl_transport_set_protocol(self, args->protocol) < 0)
        goto failed;
    self->t_flags &= (uint16_t)~CL_T_GONE;
    if (!args->pipe && cl_extra_find_addresses(self, args) < 0)
        goto failed;
    if (args->server != NULL) {
        if (tell_server(self, args->server, cl_net_of(st)->str__attach) < 0)
            goto failed;
        self->t_server = Py_NewRef(args->server);
    }
    int err = cl_watch_start(args->loop, &self->t_watch, args->fd, 0);
    if (err < 0) {
        cl_raise_errno(err);
        goto failed;
    }
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
    PyObject *server = self->t_server, *result;
    self->t_server = NULL;
    self->t_flags |= CL_T_GONE;
    cl_watch_stop(self->t_loop, &self->t_watch);
    if (!sock_given && self->t_sock != NULL) {
        /* Made to ask for an address: it must not close what is the caller's. */
        result = PyObject_CallMethod(self->t_sock, "detach", NULL);
        Py_XDECREF(result);
    }
    if (server != NULL)
        (void)tell_server(self, server,
                          cl_net_of(self->t_loop->l_st)->str__detach);
    Py_XDECREF(server);
    PyErr_Clear();
    PyErr_SetRaisedException(error);
}

bool
cl_transport_claims(const cl_watch *watch)
{
    /* One that is closing claims it as long as there is something to send. */
    const TransportObject *self = (const TransportObject *)watch->w_owner;
    return self->t_conn_lost == 0 && !(self->t_flags & CL_T_GONE);
}

void
cl_transport_evicted(LoopObject *loop, cl_watch *watch)
{
    TransportObject *self = cl_transport_from_watch(watch);
    if (!loop->l_open)
        cl_transport_ops_of(self)->drop_buffer(self);
    if (!loop->l_open || self->t_conn_lost || (self->t_flags & CL_T_GONE))
        return;
    /* Its socket was closed by hand, and the number is another's now. */
    if (cl_transport_fatal_errno(self, -EBADF, "Fatal error on transport") < 0)
        PyErr_WriteUnraisable((PyObject *)self);
}

int
cl_transport_refused(LoopObject *Py_UNUSED(loop), cl_watch *watch, int err)
{
    TransportObject *self = cl_transport_from_watch(watch);
    if (err == -EPERM && (self->t_flags & CL_T_PIPE))
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
    cl_state *st = self->t_loop->l_st;
    cl_assert_of(self, !(self->t_flags & (CL_T_GONE | CL_T_CLOSING)));
    cl_assert_of(self, self->t_watch.w_fd == self->t_fd);
    /* Room for both nodes: connection_made() alone would be half a beginning. */
    if (cl_streams_expect_writer(st, self->t_protocol) < 0 ||
        cl_loop_reserve(self->t_loop, 2) < 0)
        return -1;
    PyObject *made =
        PyObject_GetAttr(self->t_protocol, cl_net_of(st)->str_connection_made);
    PyObject *transport = (PyObject *)self;
    int status = made == NULL
                     ? -1
                     : cl_loop_call_soon(self->t_loop, made, &transport, 1,
                                         self->t_context);
    Py_XDECREF(made);
    return status < 0 ? -1
                      : cl_watch_push(self->t_loop, &self->t_watch, CL_START);
}

/* Who made the transport waits no longer, unless that fails. 0/-1 */
static int
wake_waiter(TransportObject *self)
{
    cl_state *st = self->t_loop->l_st;
    PyObject *waiter = Py_XNewRef(self->t_waiter);
    if (waiter == NULL)
        return 0;
    PyObject *args[] = {waiter, Py_None};
    PyObject *result = cl_call_module(
        cl_futures_of(st)->futures_module,
        cl_net_of(st)->str__set_result_unless_cancelled, args, 2, NULL);
    if (result != NULL && self->t_waiter == waiter)
        Py_CLEAR(self->t_waiter);
    Py_DECREF(waiter);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The same with the exception that ended the transport. */
static int
fail_waiter(TransportObject *self, PyObject *exception)
{
    cl_state *st = self->t_loop->l_st;
    PyObject *waiter = self->t_waiter;
    self->t_waiter = NULL;
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
    if (!cl_error_is_exit() && !(self->t_flags & CL_T_GONE))
        /* The waiter hears of it with connection_lost(). */
        return cl_transport_fatal(
            self, "Fatal error: the transport could not be started");
    PyObject *error = PyErr_GetRaisedException();
    if (PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        int status = fail_waiter(self, error);
        Py_DECREF(error);
        return status;
    }
    /* Once the loop runs again. */
    cl_first_error(&error,
                   cl_watch_push(self->t_loop, &self->t_watch, CL_START));
    return cl_raise_first(error);
}

/* It begins, or connection_lost() is due. 0/-1 */
static int
begin_or_end(TransportObject *self, unsigned bits)
{
    if ((bits & CL_START) && started(self) < 0)
        return -1;
    if ((bits & CL_LOST) == 0)
        return 0;
    PyObject *exception = self->t_error;
    self->t_error = NULL;
    int status = cl_transport_lost(self, exception);
    Py_XDECREF(exception);
    return status;
}

static int
run_events(TransportObject *self, unsigned bits)
{
    const cl_transport_ops *ops = cl_transport_ops_of(self);
    cl_assertf((bits & ~(CL_READ | CL_WRITE | CL_START | CL_LOST)) == 0, "%x",
               bits);
    if ((bits & (CL_START | CL_LOST)) && begin_or_end(self, bits) < 0)
        return -1;
    /* What was paused or closed since the event came has asked for silence. */
    if ((bits & CL_READ) && (self->t_watch.w_want & CL_READ) &&
        !self->t_conn_lost && ops->readable(self) < 0)
        return -1;
    if ((bits & CL_WRITE) && (self->t_watch.w_want & CL_WRITE))
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
    LoopObject *loop = self->t_loop;
    return loop->l_debug ? cl_log(loop, cl_net_of(loop->l_st)->str_debug,
                                  format, (PyObject *)self, NULL, NULL)
                         : 0;
}

int
cl_transport_write_when_lost(TransportObject *self)
{
    return cl_flow_lost_write(self->t_loop, &self->t_conn_lost,
                              "socket.send() raised exception.");
}

/* ----------------------------------------------------------------- the ending */

/* call_soon(self._call_connection_lost, exception) */
static int
call_lost_soon(TransportObject *self, PyObject *exception)
{
    /* A copy: the context itself can't be entered again in a nested turn that runs
     * inside a callback, and connection_lost() would never come. */
    PyObject *context = PyContext_Copy(self->t_context);
    PyObject *callback =
        context == NULL
            ? NULL
            : PyObject_GetAttr(
                  (PyObject *)self,
                  cl_net_of(self->t_loop->l_st)->str__call_connection_lost);
    PyObject *arg = exception == NULL ? Py_None : exception;
    int status = callback == NULL ? -1
                                  : cl_loop_call_soon(self->t_loop, callback,
                                                      &arg, 1, context);
    Py_XDECREF(callback);
    Py_XDECREF(context);
    return status;
}

/* The same, whatever fails: connection_lost() must come, and is the last thing that the
 * protocol hears. Without memory for a handle the transport's own node does it; without
 * that as well, it comes now. 0/-1 */
static int
schedule_lost(TransportObject *self, PyObject *exception)
{
    PyObject *error = NULL;
    cl_first_error(&error, call_lost_soon(self, exception));
    if (error == NULL || !self->t_loop->l_open)
        return cl_raise_first(error);
    Py_XSETREF(self->t_error, Py_XNewRef(exception));
    if (cl_watch_push(self->t_loop, &self->t_watch, CL_LOST) < 0) {
        PyErr_Clear();
        Py_CLEAR(self->t_error);
        cl_first_error(&error, cl_transport_lost(self, exception));
    }
    /* An overridden call_soon() has failed, which its caller should know. */
    if (PyErr_GivenExceptionMatches(error, PyExc_MemoryError))
        Py_CLEAR(error);
    return cl_raise_first(error);
}

int
cl_transport_force_close(TransportObject *self, PyObject *exception)
{
    if (self->t_conn_lost || (self->t_flags & CL_T_GONE))
        return 0;
    cl_assert_gil();
    cl_transport_ops_of(self)->drop_buffer(self);
    cl_assert_of(self, cl_transport_buffered(self) == 0);
    self->t_flags |= CL_T_CLOSING;
    self->t_conn_lost++;
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
    /* What the callback had written before it raised is sent. */
    int status = cl_loop_afterwards(self->t_loop, 0);
    if (status == 0)
        status = is_quiet(self, exception)
                     ? cl_log_os_error(self->t_loop, (PyObject *)self, message,
                                       exception)
                     : cl_report_transport(self->t_loop, message, exception,
                                           (PyObject *)self, self->t_protocol);
    cl_first_error(&error, status);
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
    if (self->t_flags & CL_T_CLOSING)
        return 0;
    if (cl_transport_flush(self) < 0)
        return -1;
    if (self->t_flags & CL_T_CLOSING) /* that failed */
        return 0;
    if (cl_transport_buffered(self) > 0 &&
        cl_fork_is_parents(self->t_loop, &self->t_watch))
        cl_transport_ops_of(self)->drop_buffer(self); /* the parent sends it */
    self->t_flags |= CL_T_CLOSING;
    cl_transport_want(self, CL_READ, false);
    if (cl_transport_buffered(self) > 0)
        return 0;
    self->t_conn_lost++;
    return schedule_lost(self, NULL);
}

static int
let_go(TransportObject *self)
{
    PyObject *protocol = self->t_protocol, *server = self->t_server;
    cl_assert_of(self, !(self->t_flags & CL_T_GONE));
    cl_transport_ops_of(self)->drop_buffer(self);
    cl_watch_stop(self->t_loop, &self->t_watch);
    PyObject *error = NULL;
    cl_first_error(&error, close_descriptor(self));
    self->t_flags |= CL_T_GONE | CL_T_CLOSING;
    self->t_protocol = self->t_server = NULL;
    Py_XDECREF(protocol);
    if (server != NULL)
        cl_first_error(
            &error, tell_server(self, server,
                                cl_net_of(self->t_loop->l_st)->str__detach));
    Py_XDECREF(server);
    return cl_raise_first(error);
}

int
cl_transport_lost(TransportObject *self, PyObject *exception)
{
    cl_state *st = self->t_loop->l_st;
    PyObject *error = NULL;
    if (self->t_flags & CL_T_GONE)
        return 0;
    Py_INCREF(self); /* let_go() may drop the loop's reference */
    if (self->t_flags & CL_T_CONNECTED)
        cl_first_error(
            &error, cl_transport_tell(self, cl_net_of(st)->str_connection_lost,
                                      exception ? exception : Py_None, NULL));
    cl_first_error(&error, fail_waiter(self, exception));
    if (!(self->t_flags & CL_T_GONE))
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
    Py_VISIT(self->t_extra);
    Py_VISIT(self->t_protocol);
    Py_VISIT(self->t_server);
    Py_VISIT(self->t_context);
    Py_VISIT(self->t_sock);
    Py_VISIT(self->t_dict);
    Py_VISIT(self->t_loop);
    Py_VISIT(self->t_waiter);
    Py_VISIT(self->t_error);
    return 0;
}

/* The loop stays: other destructors may still call us. */
int
cl_transport_clear(TransportObject *self)
{
    Py_CLEAR(self->t_extra);
    Py_CLEAR(self->t_protocol);
    Py_CLEAR(self->t_server);
    Py_CLEAR(self->t_context);
    Py_CLEAR(self->t_sock);
    Py_CLEAR(self->t_dict);
    Py_CLEAR(self->t_waiter);
    Py_CLEAR(self->t_error);
    return 0;
}

/* Dropped without close(): as asyncio's __del__. */
void
cl_transport_finalize(PyObject *op)
{
    TransportObject *self = (TransportObject *)op;
    if (self->t_loop == NULL || (self->t_flags & CL_T_GONE))
        return;
    PyObject *error = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0)
        PyErr_WriteUnraisable(op);
    if (let_go(self) < 0)
        PyErr_WriteUnraisable(op);
    if (error != NULL)
        PyErr_SetRaisedException(error);
}

void
cl_transport_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0)
        return;
    PyObject_GC_UnTrack(op);
    if (((cl_transport_head *)op)->h_weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    type->tp_clear(op);
    LoopObject *loop = ((cl_transport_head *)op)->h_loop;
    if (loop != NULL)
        cl_net_of(loop->l_st)->live_transports--;
    type->tp_free(op);
    Py_XDECREF(loop);
    Py_DECREF(type);
}
