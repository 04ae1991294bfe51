/* transport.c - see transport.h. */
#include "net/transport.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "core/args.h"
#include "core/errors.h"
#include "net/address.h"
#include "net/sock.h"
#include "streams/streams.h"

static const char *const protocol_argument[] = {"protocol"};

/* ------------------------------------------------------------------- shared */

cl_net *
cl_net_of(LoopObject *loop)
{
    if (loop->l_net == NULL) {
        cl_net *net = PyMem_Calloc(1, sizeof(*net));
        if (net != NULL) {
            /* glibc maps large blocks one by one until it has once freed one of
             * that size: buffers of large reads would cost a page fault per page. */
            PyMem_RawFree(PyMem_RawMalloc(2 * CL_READ_MAX));
            net->n_read_buffer = PyMem_RawMalloc(CL_READ_MAX);
            net->n_rest = PyMem_RawMalloc(CL_GATHER_MAX);
        }
        loop->l_net = net;
        if (net == NULL || net->n_read_buffer == NULL || net->n_rest == NULL) {
            cl_net_free(loop);
            PyErr_NoMemory();
        }
    }
    return loop->l_net;
}

void
cl_net_free(LoopObject *loop)
{
    cl_net *net = loop->l_net;
    loop->l_net = NULL;
    if (net == NULL)
        return;
    Py_XDECREF(net->n_writer);
    Py_XDECREF(net->n_first);
    PyMem_RawFree(net->n_read_buffer);
    PyMem_RawFree(net->n_rest);
    PyMem_Free(net);
}

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
    unsigned want = self->t_watch.w_want;
    want = on ? want | direction : want & ~direction;
    cl_watch_want(self->t_loop, &self->t_watch, want);
}

/* The socket object, made when somebody asks for it; borrowed. */
static PyObject *
socket_of(TransportObject *self)
{
    cl_state *st = self->t_loop->l_st;
    if (self->t_sock != NULL)
        return self->t_sock;
    int fd = self->t_fd;
    if (self->t_flags & CL_T_GONE) {
        /* One that is closed, as its owner would find it in asyncio. */
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            cl_raise_errno(-errno);
            return NULL;
        }
    }
    PyObject *sock =
        PyObject_CallFunction(st->socket_type, "iiii", self->t_family,
                              self->t_type, self->t_proto, fd);
    if (sock == NULL) {
        if (fd != self->t_fd)
            close(fd);
        return NULL;
    }
    self->t_sock = sock;
    PyObject *result =
        self->t_flags & CL_T_GONE
            ? PyObject_CallMethodNoArgs(sock, st->str_close)
            : PyObject_CallMethodOneArg(sock, st->str_setblocking, Py_False);
    Py_XDECREF(result);
    return result == NULL ? NULL : sock;
}

static int
close_descriptor(TransportObject *self)
{
    PyObject *sock = self->t_sock;
    cl_loop_poll_soon(self->t_loop);
    if (cl_transport_ops_of(self)->closing != NULL)
        cl_transport_ops_of(self)->closing(self);
    if (sock == NULL) {
        close(self->t_fd);
        return 0;
    }
    self->t_sock = NULL;
    PyObject *result =
        PyObject_CallMethodNoArgs(sock, self->t_loop->l_st->str_close);
    Py_DECREF(sock);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* --------------------------------------------------------------- extra info */

static int
set_extra(TransportObject *self, PyObject *name, PyObject *value)
{
    if (self->t_extra == NULL && (self->t_extra = PyDict_New()) == NULL)
        return -1;
    return PyDict_SetItem(self->t_extra, name, value);
}

/* Keeps an address of either end: compactly if it is an internet one. */
static int
keep_address(TransportObject *self, cl_inet_address *compact, PyObject *name,
             const struct sockaddr *address, socklen_t len)
{
    if ((address->sa_family == AF_INET && len >= sizeof(compact->in)) ||
        (address->sa_family == AF_INET6 && len >= sizeof(compact->in6))) {
        memcpy(compact, address,
               address->sa_family == AF_INET ? sizeof(compact->in)
                                             : sizeof(compact->in6));
        return 0;
    }
    PyObject *value =
        cl_address_from_sockaddr(self->t_loop->l_st, address, len);
    if (value == NULL && !PyErr_Occurred()) {
        /* A family that only the socket module knows. */
        PyObject *sock = socket_of(self);
        value = sock == NULL
                    ? NULL
                    : PyObject_CallMethodNoArgs(
                          sock, name == self->t_loop->l_st->str_sockname
                                    ? self->t_loop->l_st->str_getsockname
                                    : self->t_loop->l_st->str_getpeername);
        if (value == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear();
            value = Py_NewRef(Py_None);
        }
    }
    int err = value == NULL ? -1 : set_extra(self, name, value);
    Py_XDECREF(value);
    return err;
}

static int
find_addresses(TransportObject *self, const cl_transport_args *args)
{
    cl_state *st = self->t_loop->l_st;
    struct sockaddr_storage storage;
    struct sockaddr *address = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);
    if (getsockname(self->t_fd, address, &len) == 0) {
        self->t_family = address->sa_family;
        if (keep_address(self, &self->t_sockname, st->str_sockname, address,
                         len) < 0)
            return -1;
    }
    if (args->extra != NULL) {
        int known = PyDict_Contains(args->extra, st->str_peername);
        if (known != 0)
            return known < 0 ? -1 : 0;
    }
    if (args->peer != NULL)
        return keep_address(self, &self->t_peername, st->str_peername,
                            args->peer, args->peer_len);
    len = sizeof(storage);
    if (getpeername(self->t_fd, address, &len) == 0)
        return keep_address(self, &self->t_peername, st->str_peername, address,
                            len);
    return 0;
}

static PyObject *
inet_address(TransportObject *self, const cl_inet_address *compact)
{
    if (compact->family == AF_UNSPEC)
        return Py_NewRef(Py_None);
    return cl_address_from_sockaddr(
        self->t_loop->l_st, (const struct sockaddr *)compact,
        compact->family == AF_INET ? sizeof(compact->in)
                                   : sizeof(compact->in6));
}

/* What is known but not yet in the dictionary; NULL without exception if the
 * name is another. */
static PyObject *
make_extra(TransportObject *self, PyObject *name)
{
    cl_state *st = self->t_loop->l_st;
    PyObject *value = NULL;
    if (self->t_flags & CL_T_PIPE)
        return NULL;
    if (PyUnicode_Compare(name, st->str_peername) == 0) {
        value = inet_address(self, &self->t_peername);
    }
    else if (PyUnicode_Compare(name, st->str_sockname) == 0) {
        value = inet_address(self, &self->t_sockname);
    }
    else if (PyUnicode_Compare(name, st->str_socket) == 0) {
        PyObject *sock = socket_of(self);
        if (sock != NULL)
            value = PyObject_CallOneArg(st->TransportSocket, sock);
    }
    if (value != NULL && set_extra(self, name, value) < 0)
        Py_CLEAR(value);
    return value;
}

/* New reference; NULL without exception if there is no such information. */
static PyObject *
extra_info(TransportObject *self, PyObject *name)
{
    /* Who takes it may shut it down: what was written goes first. */
    if (name == self->t_loop->l_st->str_socket)
        (void)cl_transport_ops_of(self)->buffered(self);
    if (self->t_extra != NULL) {
        PyObject *value = PyDict_GetItemWithError(self->t_extra, name);
        if (value != NULL || PyErr_Occurred())
            return Py_XNewRef(value);
    }
    return PyUnicode_Check(name) ? make_extra(self, name) : NULL;
}

PyDoc_STRVAR(Transport_get_extra_info_doc,
             "get_extra_info($self, name, default=None)\n--\n\n"
             "Return what is known of the connection: 'peername', 'sockname', "
             "'socket';\n"
             "default for any other name. See asyncio's "
             "BaseTransport.get_extra_info.");

static PyObject *
Transport_get_extra_info(TransportObject *self, PyObject *args,
                         PyObject *kwargs)
{
    static char *keywords[] = {"name", "default", NULL};
    PyObject *name, *fallback = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info",
                                     keywords, &name, &fallback))
        return NULL;
    PyObject *value = extra_info(self, name);
    if (value == NULL && !PyErr_Occurred())
        value = Py_NewRef(fallback);
    return value;
}

static PyObject *
get_extra(TransportObject *self, void *Py_UNUSED(closure))
{
    cl_state *st = self->t_loop->l_st;
    PyObject *names[] = {st->str_socket, st->str_sockname, st->str_peername};
    for (int i = 0; i < 3 && !(self->t_flags & CL_T_PIPE); i++) {
        PyObject *value = extra_info(self, names[i]);
        if (value == NULL)
            return NULL;
        Py_DECREF(value);
    }
    return Py_NewRef(self->t_extra);
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

static int
set_protocol(TransportObject *self, PyObject *protocol)
{
    cl_state *st = self->t_loop->l_st;
    int buffered = PyObject_IsInstance(protocol, st->asyncio_BufferedProtocol);
    if (buffered < 0 || cl_streams_adopt(st, protocol) < 0)
        return -1;
    bool tls = Py_TYPE(protocol) == st->SSLTransportType;
    bool streams = cl_streams_owns(st, protocol);
    self->t_flags =
        (uint16_t)((self->t_flags &
                    ~(CL_T_BUFFERED | CL_T_TLS | CL_T_STREAMS)) |
                   (buffered ? CL_T_BUFFERED : 0) | (tls ? CL_T_TLS : 0) |
                   (streams ? CL_T_STREAMS : 0) | CL_T_CONNECTED);
    Py_XSETREF(self->t_protocol, Py_NewRef(protocol));
    return 0;
}

/* server._attach() or _detach(), which take the transport from 3.13 on. */
static int
tell_server(TransportObject *self, PyObject *server, PyObject *name)
{
    PyObject *args[] = {server, (PyObject *)self};
    PyObject *result = PyObject_VectorcallMethod(
        name, args, self->t_loop->l_st->server_takes_transport ? 2 : 1, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

TransportObject *
cl_transport_new(const cl_transport_args *args)
{
    cl_state *st = args->loop->l_st;
    if (check_free(args->loop, args->fd, args->sock) < 0 ||
        cl_net_of(args->loop) == NULL)
        return NULL;
    TransportObject *self =
        (TransportObject *)args->type->tp_alloc(args->type, 0);
    if (self == NULL)
        return NULL;
    self->t_flags = CL_T_GONE; /* until the descriptor is ours */
    self->t_loop = (LoopObject *)Py_NewRef(args->loop);
    st->live_transports++;
    self->t_sock = Py_XNewRef(args->sock);
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
    if (self->t_context == NULL || set_protocol(self, args->protocol) < 0)
        goto failed;
    self->t_flags &= (uint16_t)~CL_T_GONE;
    if (args->pipe)
        self->t_flags =
            (uint16_t)((self->t_flags & ~CL_T_BUFFERED) | CL_T_PIPE);
    else if (find_addresses(self, args) < 0)
        goto failed;
    if (args->server != NULL) {
        if (tell_server(self, args->server, st->str__attach) < 0)
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
        (void)tell_server(self, server, self->t_loop->l_st->str__detach);
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
        status = cl_transport_ops_of(self)->fatal(
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
    /* Room for both nodes: connection_made() alone would be half a beginning. */
    if (cl_streams_expect_writer(st, self->t_protocol) < 0 ||
        cl_loop_reserve(self->t_loop, 2) < 0)
        return -1;
    PyObject *made =
        PyObject_GetAttr(self->t_protocol, st->str_connection_made);
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
    PyObject *result =
        cl_call_module(st->futures_module,
                       st->str__set_result_unless_cancelled, args, 2, NULL);
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
    PyObject *done = PyObject_CallMethodNoArgs(waiter, st->str_done);
    int status = done == NULL ? -1 : PyObject_IsTrue(done);
    if (status == 0) {
        PyObject *error =
            exception != NULL
                ? Py_NewRef(exception)
                : PyObject_CallFunction(PyExc_ConnectionAbortedError, "s",
                                        "the transport was closed before it "
                                        "could be used");
        PyObject *set = error == NULL
                            ? NULL
                            : PyObject_CallMethodOneArg(
                                  waiter, st->str_set_exception, error);
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
        return cl_transport_ops_of(self)->fatal(
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

int
cl_transport_run(TransportObject *self, unsigned bits)
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

/* ------------------------------------------------------ calls of the protocol */

int
cl_transport_tell(TransportObject *self, PyObject *name, PyObject *arg,
                  PyObject **result)
{
    PyObject *protocol = Py_XNewRef(self->t_protocol);
    PyObject *args[] = {protocol, arg};
    PyObject *returned =
        protocol == NULL /* lost meanwhile, in a nested run of the loop */
            ? Py_NewRef(Py_None)
            : PyObject_VectorcallMethod(name, args, arg == NULL ? 1 : 2, NULL);
    Py_XDECREF(protocol);
    if (result != NULL)
        *result = returned;
    else
        Py_XDECREF(returned);
    return returned == NULL ? -1 : 0;
}

/* The exception that is set goes to the loop's exception handler, unless it must
 * leave the loop. 0/-1 */
static int
report(TransportObject *self, PyObject *exception, const char *text)
{
    return cl_report_transport(self->t_loop, text, exception, (PyObject *)self,
                               self->t_protocol);
}

int
cl_transport_report_stray(TransportObject *self)
{
    if (cl_error_is_exit())
        return -1;
    PyObject *exception = PyErr_GetRaisedException();
    int status =
        report(self, exception, "Exception in callback of a transport");
    Py_DECREF(exception);
    return status;
}

PyObject *
cl_transport_enter_from_outside(TransportObject *self)
{
    PyObject *context = Py_NewRef(self->t_context);
    if (PyContext_Enter(context) < 0) {
        PyErr_Clear();
        Py_CLEAR(context);
    }
    return context;
}

static int
tell_flow(TransportObject *self, PyObject *name, const char *failure)
{
    PyObject *context = cl_transport_enter_from_outside(self);
    int called = cl_transport_tell(self, name, NULL, NULL);
    if (context != NULL)
        called = cl_transport_leave(context, called);
    if (called == 0)
        return 0;
    if (cl_error_is_exit())
        return -1;
    PyObject *exception = PyErr_GetRaisedException();
    int status = report(self, exception, failure);
    Py_DECREF(exception);
    return status;
}

int
cl_transport_maybe_pause(TransportObject *self)
{
    if ((self->t_flags & (CL_T_PROTOCOL_PAUSED | CL_T_GONE)) != 0 ||
        cl_transport_ops_of(self)->buffered(self) <= self->t_limits.high)
        return 0;
    self->t_flags |= CL_T_PROTOCOL_PAUSED;
    return tell_flow(self, self->t_loop->l_st->str_pause_writing,
                     "protocol.pause_writing() failed");
}

int
cl_transport_maybe_resume(TransportObject *self)
{
    if ((self->t_flags & CL_T_PROTOCOL_PAUSED) == 0 ||
        (self->t_flags & CL_T_GONE) != 0 ||
        cl_transport_ops_of(self)->buffered(self) > self->t_limits.low)
        return 0;
    self->t_flags &= (uint16_t)~CL_T_PROTOCOL_PAUSED;
    return tell_flow(self, self->t_loop->l_st->str_resume_writing,
                     "protocol.resume_writing() failed");
}

PyObject *
cl_transport_enter(TransportObject *self)
{
    PyObject *context = Py_NewRef(self->t_context);
    if (PyContext_Enter(context) == 0)
        return context;
    PyErr_Clear();
    Py_SETREF(context, PyContext_Copy(self->t_context));
    if (context != NULL && PyContext_Enter(context) < 0)
        Py_CLEAR(context);
    return context;
}

int
cl_transport_leave(PyObject *context, int status)
{
    if (status == 0) {
        status = PyContext_Exit(context);
    }
    else {
        PyObject *error = NULL;
        cl_first_error(&error, status);
        cl_first_error(&error, PyContext_Exit(context));
        status = cl_raise_first(error);
    }
    Py_DECREF(context);
    return status;
}

/* ------------------------------------------------------------------- logging */

int
cl_transport_debug(TransportObject *self, const char *format)
{
    LoopObject *loop = self->t_loop;
    return loop->l_debug ? cl_log(loop, loop->l_st->str_debug, format,
                                  (PyObject *)self, NULL, NULL)
                         : 0;
}

int
cl_transport_write_when_lost(TransportObject *self)
{
    LoopObject *loop = self->t_loop;
    if (self->t_conn_lost++ < CL_LOG_LOST_WRITES)
        return 0;
    return cl_log(loop, loop->l_st->str_warning,
                  "socket.send() raised exception.", NULL, NULL, NULL);
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
            : PyObject_GetAttr((PyObject *)self,
                               self->t_loop->l_st->str__call_connection_lost);
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
    cl_transport_ops_of(self)->drop_buffer(self);
    self->t_flags |= CL_T_CLOSING;
    self->t_conn_lost++;
    cl_transport_want(self, CL_READ | CL_WRITE, false);
    return schedule_lost(self, exception);
}

int
cl_transport_fatal(TransportObject *self, const char *message)
{
    if (cl_error_is_exit())
        return -1;
    PyObject *exception = PyErr_GetRaisedException(), *error = NULL;
    /* What the callback had written before it raised is sent. */
    int status = cl_loop_afterwards(self->t_loop, 0);
    if (status == 0)
        status = PyErr_GivenExceptionMatches(exception, PyExc_OSError)
                     ? cl_log_os_error(self->t_loop, (PyObject *)self, message,
                                       exception)
                     : report(self, exception, message);
    cl_first_error(&error, status);
    cl_first_error(&error, cl_transport_force_close(self, exception));
    Py_DECREF(exception);
    return cl_raise_first(error);
}

int
cl_transport_fatal_errno(TransportObject *self, int err, const char *message)
{
    cl_raise_errno(err);
    return cl_transport_fatal(self, message);
}

static int
let_go(TransportObject *self)
{
    PyObject *protocol = self->t_protocol, *server = self->t_server;
    cl_transport_ops_of(self)->drop_buffer(self);
    cl_watch_stop(self->t_loop, &self->t_watch);
    PyObject *error = NULL;
    cl_first_error(&error, close_descriptor(self));
    self->t_flags |= CL_T_GONE | CL_T_CLOSING;
    self->t_protocol = self->t_server = NULL;
    Py_XDECREF(protocol);
    if (server != NULL)
        cl_first_error(&error, tell_server(self, server,
                                           self->t_loop->l_st->str__detach));
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
            &error, cl_transport_tell(self, st->str_connection_lost,
                                      exception ? exception : Py_None, NULL));
    cl_first_error(&error, fail_waiter(self, exception));
    if (!(self->t_flags & CL_T_GONE))
        cl_first_error(&error, let_go(self));
    cl_first_error(&error, cl_transport_ops_of(self)->gone(self));
    int status = cl_raise_first(error);
    Py_DECREF(self);
    return status;
}

static PyObject *
Transport_call_connection_lost(TransportObject *self, PyObject *exception)
{
    if (cl_transport_lost(self, exception) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------- methods */

static PyObject *
Transport_on_ready(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    if (cl_watch_run(self->t_loop, &self->t_watch) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Transport_close_doc,
             "close($self, /)\n--\n\n"
             "Send what is buffered, then close the connection and call "
             "connection_lost(None).");

static PyObject *
Transport_close(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->t_flags & CL_T_CLOSING)
        Py_RETURN_NONE;
    size_t buffered = cl_transport_ops_of(self)->buffered(self);
    if (self->t_flags & CL_T_CLOSING) /* that failed */
        Py_RETURN_NONE;
    self->t_flags |= CL_T_CLOSING;
    cl_transport_want(self, CL_READ, false);
    if (buffered == 0) {
        self->t_conn_lost++;
        if (schedule_lost(self, NULL) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    Transport_abort_doc,
    "abort($self, /)\n--\n\n"
    "Close the connection at once, without sending what is buffered.");

static PyObject *
Transport_abort(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    (void)cl_transport_ops_of(self)->buffered(
        self); /* sends what is gathered */
    if (cl_transport_force_close(self, NULL) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
Transport_force_close(TransportObject *self, PyObject *exception)
{
    (void)cl_transport_ops_of(self)->buffered(self); /* as abort() */
    if (cl_transport_force_close(self,
                                 exception == Py_None ? NULL : exception) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Transport_is_closing_doc,
             "is_closing($self, /)\n--\n\n"
             "Return whether the transport is closed or on its way there.");

static PyObject *
Transport_is_closing(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->t_flags & CL_T_CLOSING);
}

PyDoc_STRVAR(Transport_set_protocol_doc,
             "set_protocol($self, protocol)\n--\n\n"
             "Change the protocol that is called from now on.");

static PyObject *
Transport_set_protocol(TransportObject *self, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol =
        cl_call_args_only(self->t_loop->l_st, "set_protocol",
                          protocol_argument, args, nargs, kwnames);
    if (protocol == NULL || set_protocol(self, protocol) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Transport_get_protocol_doc, "get_protocol($self, /)\n--\n\n"
                                         "Return the current protocol.");

static PyObject *
Transport_get_protocol(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->t_protocol ? self->t_protocol : Py_None);
}

PyDoc_STRVAR(Transport_is_reading_doc,
             "is_reading($self, /)\n--\n\n"
             "Return whether data is received: not paused, not closing.");

static PyObject *
Transport_is_reading(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(cl_transport_is_reading(self));
}

PyDoc_STRVAR(Transport_pause_reading_doc,
             "pause_reading($self, /)\n--\n\n"
             "Receive nothing until resume_reading(). Twice does no harm.");

static PyObject *
Transport_pause_reading(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    if (cl_transport_is_reading(self)) {
        self->t_flags |= CL_T_PAUSED;
        cl_transport_want(self, CL_READ, false);
        if (cl_transport_debug(self, "%r pauses reading") < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Transport_resume_reading_doc,
             "resume_reading($self, /)\n--\n\n"
             "Receive again after pause_reading(). Twice does no harm.");

static PyObject *
Transport_resume_reading(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    if ((self->t_flags & (CL_T_CLOSING | CL_T_PAUSED)) == CL_T_PAUSED) {
        self->t_flags &= (uint16_t)~CL_T_PAUSED;
        cl_transport_want(self, CL_READ, true);
        if (cl_transport_debug(self, "%r resumes reading") < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Transport_get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "Return how many bytes wait to be sent.");

static PyObject *
Transport_get_write_buffer_size(TransportObject *self,
                                PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(cl_transport_ops_of(self)->buffered(self));
}

PyDoc_STRVAR(Transport_get_write_buffer_limits_doc,
             "get_write_buffer_limits($self, /)\n--\n\n"
             "Return the (low, high) water marks, in bytes.");

static PyObject *
Transport_get_write_buffer_limits(TransportObject *self,
                                  PyObject *Py_UNUSED(ignored))
{
    return cl_flow_limits_tuple(&self->t_limits);
}

/* What asyncio computes: *high and *low are owned, NULL where not given; 1 if they
 * are valid, 0 if not, -1 on error. */
static int
complete_limits(PyObject **high, PyObject **low, size_t standard)
{
    PyObject *four = PyLong_FromLong(4), *zero = PyLong_FromLong(0);
    int valid = -1;
    if (four == NULL || zero == NULL)
        goto done;
    if (*high == NULL)
        *high = *low == NULL ? PyLong_FromSize_t(standard)
                             : PyNumber_Multiply(four, *low);
    if (*high != NULL && *low == NULL)
        *low = PyNumber_FloorDivide(*high, four);
    if (*high == NULL || *low == NULL)
        goto done;
    valid = PyObject_RichCompareBool(*high, *low, Py_GE);
    if (valid > 0)
        valid = PyObject_RichCompareBool(*low, zero, Py_GE);
done:
    Py_XDECREF(four);
    Py_XDECREF(zero);
    return valid;
}

int
cl_flow_limits(const char *format, PyObject *args, PyObject *kwargs,
               size_t standard, cl_limits *limits)
{
    static char *keywords[] = {"high", "low", NULL};
    PyObject *high = Py_None, *low = Py_None;
    int status = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, keywords, &high,
                                     &low))
        return -1;
    high = high == Py_None ? NULL : Py_NewRef(high);
    low = low == Py_None ? NULL : Py_NewRef(low);
    int valid = complete_limits(&high, &low, standard);
    if (valid == 0)
        PyErr_Format(PyExc_ValueError,
                     "high (%R) must be >= low (%R) must be >= 0", high, low);
    if (valid <= 0)
        goto done;
    /* In whole bytes, and clipped: no buffer gets larger. */
    Py_SETREF(high, PyNumber_Long(high));
    Py_SETREF(low, PyNumber_Long(low));
    if (high == NULL || low == NULL)
        goto done;
    cl_limits clipped = {(size_t)PyNumber_AsSsize_t(high, NULL),
                         (size_t)PyNumber_AsSsize_t(low, NULL)};
    if (PyErr_Occurred())
        goto done;
    *limits = clipped;
    status = 0;
done:
    Py_XDECREF(high);
    Py_XDECREF(low);
    return status;
}

PyObject *
cl_flow_limits_tuple(const cl_limits *limits)
{
    return Py_BuildValue("(nn)", (Py_ssize_t)limits->low,
                         (Py_ssize_t)limits->high);
}

PyDoc_STRVAR(
    Transport_set_write_buffer_limits_doc,
    "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
    "Set the water marks, in bytes: above high the protocol's pause_writing() "
    "is\n"
    "called, at or below low its resume_writing(). Raises ValueError unless\n"
    "high >= low >= 0.");

static PyObject *
Transport_set_write_buffer_limits(TransportObject *self, PyObject *args,
                                  PyObject *kwargs)
{
    if (cl_flow_limits("|OO:set_write_buffer_limits", args, kwargs,
                       CL_WRITE_HIGH, &self->t_limits) < 0 ||
        cl_transport_maybe_pause(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* asyncio's sendfile() works on the bare socket: the loop lets it. */
static PyObject *
Transport_lend_descriptor(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    cl_watch_stop(self->t_loop, &self->t_watch);
    Py_RETURN_NONE;
}

static PyObject *
Transport_take_descriptor_back(TransportObject *self,
                               PyObject *Py_UNUSED(ignored))
{
    if (!(self->t_flags & CL_T_GONE) && self->t_watch.w_fd < 0 &&
        self->t_loop->l_open) {
        int err = cl_watch_start(self->t_loop, &self->t_watch, self->t_fd, 0);
        if (err < 0) {
            cl_raise_errno(err);
            return NULL;
        }
        /* The protocol may have resumed reading meanwhile. */
        if (cl_transport_is_reading(self))
            cl_transport_want(self, CL_READ, true);
    }
    Py_RETURN_NONE;
}

static PyMethodDef common_methods[] = {
    {"get_extra_info", CL_FAST(Transport_get_extra_info),
     METH_VARARGS | METH_KEYWORDS, Transport_get_extra_info_doc},
    {"close", (PyCFunction)Transport_close, METH_NOARGS, Transport_close_doc},
    {"is_closing", (PyCFunction)Transport_is_closing, METH_NOARGS,
     Transport_is_closing_doc},
    {"set_protocol", CL_FAST(Transport_set_protocol),
     METH_FASTCALL | METH_KEYWORDS, Transport_set_protocol_doc},
    {"get_protocol", (PyCFunction)Transport_get_protocol, METH_NOARGS,
     Transport_get_protocol_doc},
    {"_call_connection_lost", (PyCFunction)Transport_call_connection_lost,
     METH_O, NULL},
    {"_on_ready", (PyCFunction)Transport_on_ready, METH_NOARGS, NULL},
    {NULL}};

static PyMethodDef reading_methods[] = {
    {"is_reading", (PyCFunction)Transport_is_reading, METH_NOARGS,
     Transport_is_reading_doc},
    {"pause_reading", (PyCFunction)Transport_pause_reading, METH_NOARGS,
     Transport_pause_reading_doc},
    {"resume_reading", (PyCFunction)Transport_resume_reading, METH_NOARGS,
     Transport_resume_reading_doc},
    {NULL}};

static PyMethodDef writing_methods[] = {
    {"abort", (PyCFunction)Transport_abort, METH_NOARGS, Transport_abort_doc},
    {"get_write_buffer_size", (PyCFunction)Transport_get_write_buffer_size,
     METH_NOARGS, Transport_get_write_buffer_size_doc},
    {"get_write_buffer_limits", (PyCFunction)Transport_get_write_buffer_limits,
     METH_NOARGS, Transport_get_write_buffer_limits_doc},
    {"set_write_buffer_limits", CL_FAST(Transport_set_write_buffer_limits),
     METH_VARARGS | METH_KEYWORDS, Transport_set_write_buffer_limits_doc},
    {"_force_close", (PyCFunction)Transport_force_close, METH_O, NULL},
    {"_lend_descriptor", (PyCFunction)Transport_lend_descriptor, METH_NOARGS,
     NULL},
    {"_take_descriptor_back", (PyCFunction)Transport_take_descriptor_back,
     METH_NOARGS, NULL},
    {NULL}};

/* ---------------------------------------- attributes that asyncio's classes have */

static PyObject *
or_none(PyObject *value)
{
    return Py_NewRef(value == NULL ? Py_None : value);
}

static PyObject *
get_loop(TransportObject *self, void *Py_UNUSED(closure))
{
    return or_none(self->t_flags & CL_T_GONE ? NULL
                                             : (PyObject *)self->t_loop);
}

static PyObject *
get_sock(TransportObject *self, void *Py_UNUSED(closure))
{
    if (self->t_flags & CL_T_GONE)
        return or_none(NULL);
    (void)cl_transport_ops_of(self)->buffered(self);
    return Py_XNewRef(socket_of(self));
}

static PyObject *
get_object(TransportObject *self, void *offset)
{
    return or_none(*(PyObject **)((char *)self + (size_t)offset));
}

static PyObject *
get_flag(TransportObject *self, void *flag)
{
    return PyBool_FromLong(self->t_flags & (int)(size_t)flag);
}

static PyObject *
get_high(TransportObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->t_limits.high);
}

static PyObject *
get_low(TransportObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->t_limits.low);
}

static PyObject *
get_buffer_size(TransportObject *self, void *Py_UNUSED(closure))
{
    return Transport_get_write_buffer_size(self, NULL);
}

#define OBJECT(name, field) \
    {name, (getter)get_object, NULL, NULL, \
     (void *)offsetof(TransportObject, field)}
#define FLAG(name, flag) {name, (getter)get_flag, NULL, NULL, (void *)flag}

static PyGetSetDef common_getset[] = {
    {"_extra", (getter)get_extra},
    {"_loop", (getter)get_loop},
    {"_sock", (getter)get_sock},
    OBJECT("_protocol", t_protocol),
    OBJECT("_server", t_server),
    OBJECT("_context", t_context),
    FLAG("_closing", CL_T_CLOSING),
    FLAG("_paused", CL_T_PAUSED),
    FLAG("_eof", CL_T_EOF),
    FLAG("_protocol_connected", CL_T_CONNECTED),
    FLAG("_protocol_paused", CL_T_PROTOCOL_PAUSED),
    {"_high_water", (getter)get_high},
    {"_low_water", (getter)get_low},
    {"_buffer_size", (getter)get_buffer_size},
    {NULL}};

PyMemberDef cl_transport_members[] = {
    {"_sock_fd", T_INT, offsetof(TransportObject, t_fd), READONLY, NULL},
    {"_conn_lost", T_UINT, offsetof(TransportObject, t_conn_lost), READONLY,
     NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(TransportObject, t_dict), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TransportObject, t_weakrefs),
     READONLY, NULL},
    {NULL}};

/* --------------------------------------------------------------------- slots */

PyObject *
cl_transport_repr(PyObject *op)
{
    TransportObject *self = (TransportObject *)op;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    name = name == NULL ? Py_TYPE(self)->tp_name : name + 1;
    if (self->t_flags & CL_T_GONE)
        return PyUnicode_FromFormat("<%s closed fd=%d>", name, self->t_fd);
    const char *closing = self->t_flags & CL_T_CLOSING ? " closing" : "";
    if (self->t_loop->l_closed)
        return PyUnicode_FromFormat("<%s%s fd=%d>", name, closing, self->t_fd);
    unsigned want = self->t_watch.w_want;
    return PyUnicode_FromFormat("<%s%s fd=%d read=%s write=<%s, bufsize=%zu>>",
                                name, closing, self->t_fd,
                                want & CL_READ ? "polling" : "idle",
                                want & CL_WRITE ? "polling" : "idle",
                                cl_transport_ops_of(self)->buffered(self));
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
cl_transport_free(PyObject *op)
{
    TransportObject *self = (TransportObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    LoopObject *loop = self->t_loop;
    if (self->t_weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    cl_transport_clear(self);
    if (loop != NULL)
        loop->l_st->live_transports--;
    type->tp_free(op);
    Py_XDECREF(loop);
    Py_DECREF(type);
}

PyTypeObject *
cl_transport_type(PyObject *module, cl_state *st, PyType_Spec *spec,
                  PyObject *bases, unsigned directions)
{
    PyTypeObject *base = (PyTypeObject *)st->FlowControlMixin;
    if (base->tp_basicsize > (Py_ssize_t)offsetof(TransportObject, t_dict) ||
        base->tp_itemsize != 0 || base->tp_dictoffset != 0 ||
        base->tp_weaklistoffset != 0) {
        PyErr_SetString(PyExc_ImportError,
                        "cloop does not know the layout of this version's "
                        "asyncio transports");
        return NULL;
    }
    PyTypeObject *type =
        cl_type_new(module, st, spec, bases, offsetof(TransportObject, t_dict),
                    offsetof(TransportObject, t_weakrefs));
    if (type == NULL)
        return NULL;
    PyObject *max_size = PyLong_FromLong(CL_READ_MAX);
    if (max_size == NULL ||
        PyObject_SetAttrString((PyObject *)type, "max_size", max_size) < 0 ||
        cl_type_add_methods(type, common_methods) < 0 ||
        ((directions & CL_READ) &&
         cl_type_add_methods(type, reading_methods) < 0) ||
        ((directions & CL_WRITE) &&
         cl_type_add_methods(type, writing_methods) < 0) ||
        cl_type_add_getset(type, common_getset) < 0)
        Py_CLEAR(type);
    Py_XDECREF(max_size);
    return type;
}
