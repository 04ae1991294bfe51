/* listener.c - see listener.h. */
#include "net/listener.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/probe.h"
#include "core/claim.h"
#include "core/errors.h"
#include "net/address.h"
#include "net/sock.h"
#include "net/socktransport.h"
#include "streams/served.h"

/* Connections accepted per turn at most: about 0.5 ms of work. */
#define ACCEPT_MAX 32

typedef struct {
    PyObject_HEAD
    LoopObject *ln_loop;  /* owned */
    PyObject *ln_sock;    /* owned; the listening socket object */
    PyObject *ln_factory; /* owned */
    PyObject *ln_server;  /* owned, or NULL */
    PyObject *ln_accept;  /* owned; NULL: we make the transport */
    PyObject *ln_context; /* owned; each connection gets a copy */
    cl_watch ln_watch;
    cl_habits *ln_habits; /* of its connections; or NULL */
    int ln_family, ln_type, ln_proto;
    int ln_expected;   /* connections to accept at once: see run() */
    int ln_failed;     /* attempts that failed, one after the other */
    bool ln_exhausted; /* that it can't accept was reported, and lasts */
    bool ln_nodelay;   /* accepted sockets inherit TCP_NODELAY */
    bool ln_nodelay_checked;
} ListenerObject;

/* ----------------------------------------------------------------- accepting */

static int
set_item(PyObject *details, PyObject *name, PyObject *value)
{
    return value == NULL ? 0 : PyDict_SetItem(details, name, value);
}

/* Calls call_exception_handler({message, exception, ...}) with the exception
 * that is set. Returns -1 only for KeyboardInterrupt and SystemExit. */
static int
report(ListenerObject *self, const char *text, PyObject *sock,
       PyObject *protocol)
{
    cl_state *st = self->ln_loop->l_st;
    if (cl_error_is_exit())
        return -1;
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *message = PyUnicode_FromString(text), *details = PyDict_New();
    int status = -1;
    if (message != NULL && details != NULL &&
        set_item(details, cl_net_of(st)->str_message, message) == 0 &&
        set_item(details, cl_net_of(st)->str_exception, exception) == 0 &&
        set_item(details, cl_net_of(st)->str_socket, sock) == 0 &&
        set_item(details, cl_net_of(st)->str_protocol, protocol) == 0)
        status = cl_report(self->ln_loop, details, exception);
    Py_XDECREF(message);
    Py_XDECREF(details);
    Py_DECREF(exception);
    return status;
}

/* A new socket usually inherits TCP_NODELAY from its listener, which saves a
 * system call for each. The first connection tells whether it does. */
static bool
has_nodelay(ListenerObject *self, int fd)
{
    if (!self->ln_nodelay_checked) {
        int on = 0;
        socklen_t len = sizeof(on);
        self->ln_nodelay_checked = true;
        self->ln_nodelay =
            getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0 && on;
    }
    return self->ln_nodelay;
}

static int
log_connection(ListenerObject *self, TransportObject *transport)
{
    cl_state *st = self->ln_loop->l_st;
    if (!self->ln_loop->l_debug)
        return 0;
    PyObject *logger =
        PyObject_GetAttr(st->base_events_module, cl_net_of(st)->str_logger);
    PyObject *address =
        logger == NULL
            ? NULL
            : PyObject_CallMethod((PyObject *)transport, "get_extra_info", "O",
                                  cl_net_of(st)->str_peername);
    PyObject *result =
        address == NULL
            ? NULL
            : PyObject_CallMethod(logger, "debug", "sOOO",
                                  "%r got a new connection from %r: %r",
                                  self->ln_server ? self->ln_server : Py_None,
                                  address, transport);
    Py_XDECREF(logger);
    Py_XDECREF(address);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Calls protocol_factory() in the context of the new connection. */
static PyObject *
make_protocol(ListenerObject *self, PyObject *context)
{
    if (PyContext_Enter(context) < 0)
        return NULL;
    PyObject *protocol = cl_served_protocol(self->ln_loop, self->ln_factory);
    PyObject *error = NULL;
    cl_first_error(&error, protocol == NULL ? -1 : 0);
    cl_first_error(&error, PyContext_Exit(context));
    if (cl_raise_first(error) < 0)
        Py_CLEAR(protocol);
    return protocol;
}

/* Makes a transport, which then owns fd. Errors are reported, and -1 is only
 * for KeyboardInterrupt and SystemExit. */
static int
serve(ListenerObject *self, int fd, const struct sockaddr *peer,
      socklen_t peer_len)
{
    PyObject *context = PyContext_Copy(self->ln_context), *protocol = NULL;
    TransportObject *transport = NULL;
    if (context != NULL)
        protocol = make_protocol(self, context);
    if (protocol != NULL) {
        cl_transport_args args = {
            .loop = self->ln_loop,
            .fd = fd,
            .family = self->ln_family,
            .socktype = self->ln_type,
            .proto = self->ln_proto,
            .peer = peer,
            .peer_len = peer_len,
            .habits = self->ln_habits,
            .protocol = protocol,
            .server = self->ln_server,
            .context = context,
        };
        transport = cl_socket_transport_new(&args, has_nodelay(self, fd));
    }
    int status = 0;
    if (transport == NULL) {
        close(fd);
        if (self->ln_loop->l_debug || cl_error_is_exit())
            status = report(self,
                            "Error on transport creation for incoming "
                            "connection",
                            NULL, protocol);
        else
            PyErr_Clear();
    }
    else if (log_connection(self, transport) < 0) {
        status = cl_transport_report_stray(transport);
    }
    Py_XDECREF(context);
    Py_XDECREF(protocol);
    Py_XDECREF(transport);
    return status;
}

/* Calls ln_accept with a socket object, its address and the listener. */
static int
pass_on(ListenerObject *self, int fd, const struct sockaddr *peer,
        socklen_t peer_len)
{
    cl_state *st = self->ln_loop->l_st;
    PyObject *result = NULL, *address = NULL;
    PyObject *sock = PyObject_CallFunction(cl_net_of(st)->socket_type, "iiii",
                                           self->ln_family, self->ln_type,
                                           self->ln_proto, fd);
    if (sock == NULL) {
        close(fd);
        return report(self, "socket.accept() failed", NULL, NULL);
    }
    PyObject *args[] = {sock, NULL, (PyObject *)self};
    result = PyObject_CallMethodOneArg(sock, cl_net_of(st)->str_setblocking,
                                       Py_False);
    if (result != NULL) {
        Py_DECREF(result);
        address = cl_address_from_sockaddr(st, peer, peer_len);
        if (address == NULL && !PyErr_Occurred())
            address = PyObject_CallMethodNoArgs(
                sock, cl_net_of(st)->str_getpeername);
    }
    result = NULL;
    if (address != NULL) {
        args[1] = address;
        result = PyObject_Vectorcall(self->ln_accept, args, 3, NULL);
    }
    Py_DECREF(sock);
    Py_XDECREF(address);
    Py_XDECREF(result);
    return result != NULL ? 0
                          : report(self, "socket.accept() failed", NULL, NULL);
}

/* Reports the text, and stops accepting for a while, since the descriptor would
 * stay ready. If no timer can be set, accepting goes on. */
static int
rest(ListenerObject *self, int err, const char *text)
{
    cl_state *st = self->ln_loop->l_st;
    PyObject *delay = NULL, *resume = NULL, *timer = NULL;
    int status;
    if (!self->ln_exhausted) {
        PyObject *sock =
            PyObject_CallOneArg(cl_net_of(st)->TransportSocket, self->ln_sock);
        if (sock == NULL)
            return -1;
        self->ln_exhausted = true;
        cl_raise_os_error(err); /* like asyncio */
        status = report(self, text, sock, NULL);
        Py_DECREF(sock);
        if (status < 0)
            return -1;
    }
    if (self->ln_watch.w_fd < 0) /* closed by the exception handler */
        return 0;
    delay = PyObject_GetAttrString(cl_net_of(st)->constants_module,
                                   "ACCEPT_RETRY_DELAY");
    if (delay != NULL)
        resume = PyObject_GetAttrString((PyObject *)self, "_resume");
    if (resume != NULL)
        timer = PyObject_CallMethod((PyObject *)self->ln_loop, "call_later",
                                    "OO", delay, resume);
    Py_XDECREF(delay);
    Py_XDECREF(resume);
    Py_XDECREF(timer);
    if (timer == NULL)
        return -1;
    cl_net_counts_of(self->ln_loop)->nc_accept_pauses++;
    cl_watch_want(self->ln_loop, &self->ln_watch, 0);
    return 0;
}

static PyObject *
Listener_resume(ListenerObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(self->ln_loop, NULL);
    cl_watch_want(self->ln_loop, &self->ln_watch, CL_READ);
    Py_RETURN_NONE;
}

/* Accepts one connection. Returns 1 if there was one, 0 if not; -1 only for
 * KeyboardInterrupt and SystemExit. */
static int
accept_one(ListenerObject *self)
{
    struct sockaddr_storage storage;
    struct sockaddr *peer = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);
    int listening = cl_sock_fd(self->ln_loop->l_st, self->ln_sock);
    if (listening != self->ln_watch.w_fd) { /* the program closed it */
        cl_watch_stop(self->ln_loop, &self->ln_watch);
        return listening == -2
                   ? report(self, "socket.accept() failed", NULL, NULL)
                   : 0;
    }
    int fd = cl_accept(listening, peer, &len);
    if (fd < 0) {
        switch (errno) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            return rest(self, -errno,
                        "socket.accept() out of system resource");
        case EAGAIN:
        case EINTR:
            self->ln_failed = 0;
            return 0;
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
        case EFAULT:
            cl_raise_errno(-errno);
            return report(self, "socket.accept() failed", NULL, NULL);
        default:
            /* The client is gone, or Linux passes on a network error. Try the
             * next one. If none of many is there, it is something that lasts,
             * such as a sandbox that refuses the call. */
            return ++self->ln_failed < ACCEPT_MAX
                       ? 1
                       : rest(self, -errno, "socket.accept() failed");
        }
    }
    self->ln_failed = 0;
    CL_PROBE2(accept, self->ln_loop, fd);
    self->ln_exhausted = false;
    cl_net_counts_of(self->ln_loop)->nc_accepted++;
    int status = self->ln_accept != NULL ? pass_on(self, fd, peer, len)
                                         : serve(self, fd, peer, len);
    return status < 0 ? -1 : 1;
}

/* An extra accept() that finds nothing costs as much as it may save. So accept
 * as many as came last time, and more only while there are more. */
static int
run(LoopObject *Py_UNUSED(loop), cl_watch *watch, unsigned Py_UNUSED(bits))
{
    ListenerObject *self = (ListenerObject *)watch->w_owner;
    int count = 0, got = 1;
    while (count < self->ln_expected && got > 0 && watch->w_want != 0) {
        got = accept_one(self);
        count += got > 0;
    }
    if (count == self->ln_expected)
        count *= 2;
    self->ln_expected = count < 1            ? 1
                        : count > ACCEPT_MAX ? ACCEPT_MAX
                                             : count;
    return got < 0 ? report(self, "socket.accept() failed", NULL, NULL) : 0;
}

/* Keep trying if the error may be temporary. */
static int
refused(LoopObject *loop, cl_watch *watch, int err)
{
    ListenerObject *self = (ListenerObject *)watch->w_owner;
    Py_INCREF(self);
    if (!cl_watch_may_pass(err))
        cl_watch_stop(loop, watch);
    cl_raise_os_error(err);
    int status =
        report(self, "the listening socket cannot be watched", NULL, NULL);
    Py_DECREF(self);
    return status;
}

static void
evicted(LoopObject *Py_UNUSED(loop), cl_watch *Py_UNUSED(watch))
{
}

static const cl_watch_ops listener_ops = {.ready = cl_watch_push,
                                          .run = run,
                                          .refused = refused,
                                          .evicted = evicted};

/* ------------------------------------------------------------ start and stop */

static int
find_kind(ListenerObject *self, int fd)
{
    int err =
        cl_socket_kind(fd, &self->ln_family, &self->ln_type, &self->ln_proto);
    const cl_sock *inside = cl_sock_inside(self->ln_loop->l_st, self->ln_sock);
    if (err < 0 && cl_is_refused(-err) && inside != NULL) {
        self->ln_family = inside->sk_family;
        self->ln_type = inside->sk_type;
        self->ln_proto = inside->sk_proto;
    }
    else if (err < 0) {
        return cl_raise_errno(err);
    }
    if (self->ln_family == AF_INET || self->ln_family == AF_INET6) {
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    return 0;
}

int
cl_listener_start(LoopObject *loop, PyObject *sock, PyObject *factory,
                  PyObject *server, PyObject *accept, PyObject *context)
{
    PyTypeObject *type = cl_net_of(loop->l_st)->ListenerType;
    int fd = cl_sock_fd(loop->l_st, sock);
    if (fd < 0) {
        if (fd == -1)
            PyErr_SetString(PyExc_ValueError, "Invalid file descriptor: -1");
        return -1;
    }
    ListenerObject *self = (ListenerObject *)cl_type_alloc(type);
    if (self == NULL)
        return -1;
    cl_watch_init(&self->ln_watch, &listener_ops, (PyObject *)self);
    self->ln_loop = (LoopObject *)Py_NewRef(loop);
    self->ln_sock = Py_NewRef(sock);
    self->ln_factory = Py_NewRef(factory);
    self->ln_server = server == Py_None ? NULL : Py_NewRef(server);
    self->ln_accept = accept == Py_None ? NULL : Py_NewRef(accept);
    self->ln_context =
        context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    self->ln_expected = 1;
    self->ln_habits = cl_habits_new();
    int status = self->ln_context == NULL ? -1 : find_kind(self, fd);
    if (status == 0) {
        int err = cl_watch_start(loop, &self->ln_watch, fd, CL_READ);
        if (err < 0)
            status = cl_raise_errno(err);
    }
    Py_DECREF(self); /* the watch table keeps it */
    return status;
}

cl_habits *
cl_listener_habits(LoopObject *loop, PyObject *listener)
{
    return Py_TYPE(listener) == cl_net_of(loop->l_st)->ListenerType
               ? ((ListenerObject *)listener)->ln_habits
               : NULL;
}

int
cl_listener_stop(LoopObject *loop, int fd)
{
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    if (watch == NULL || watch->w_ops != &listener_ops)
        return 0;
    PyObject *owner = Py_NewRef(watch->w_owner);
    cl_watch_stop(loop, watch);
    Py_DECREF(owner);
    return 1;
}

/* ------------------------------------------------------------------- the type */

static int
Listener_traverse(ListenerObject *self, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(self);
    Py_VISIT(self->ln_loop);
    Py_VISIT(self->ln_sock);
    Py_VISIT(self->ln_factory);
    Py_VISIT(self->ln_server);
    Py_VISIT(self->ln_accept);
    Py_VISIT(self->ln_context);
    return 0;
}

static int
Listener_clear(ListenerObject *self)
{
    Py_CLEAR(self->ln_sock);
    Py_CLEAR(self->ln_factory);
    Py_CLEAR(self->ln_server);
    Py_CLEAR(self->ln_accept);
    Py_CLEAR(self->ln_context);
    return 0;
}

static void
Listener_dealloc(PyObject *op)
{
    ListenerObject *self = (ListenerObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->ln_loop != NULL)
        cl_watch_stop(self->ln_loop, &self->ln_watch);
    Listener_clear(self);
    Py_CLEAR(self->ln_loop);
    cl_habits_drop(self->ln_habits);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
Listener_on_ready(ListenerObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(self->ln_loop, NULL);
    if (cl_watch_run(self->ln_loop, &self->ln_watch) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef listener_methods[] = {
    {"_on_ready", (PyCFunction)Listener_on_ready, METH_NOARGS, NULL},
    {"_resume", (PyCFunction)Listener_resume, METH_NOARGS, NULL},
    {NULL}};

static PyType_Slot listener_slots[] = {
    {Py_tp_doc, "Accepts connections; created by the loop."},
    {Py_tp_dealloc, Listener_dealloc},
    {Py_tp_traverse, Listener_traverse},
    {Py_tp_clear, Listener_clear},
    {Py_tp_methods, listener_methods},
    {0, NULL}};

static PyType_Spec listener_spec = {
    .name = "cloop._cloop.Listener",
    .basicsize = sizeof(ListenerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = listener_slots,
};

PyTypeObject *
cl_listener_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &listener_spec, NULL, 0, 0);
}
