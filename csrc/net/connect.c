/* connect.c - see connect.h. */
#include "net/connect.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/platform.h"
#include "core/args.h"
#include "core/errors.h"
#include "futures/coro.h"
#include "futures/future.h"
#include "net/addrinfo.h"
#include "net/address.h"
#include "net/race.h"
#include "net/sock.h"
#include "net/socktransport.h"
#include "sync/timer.h"

/* What it does next. */
typedef enum { BEGIN, CONNECTING, STARTING } stage;

/* Where it connects to. */
typedef struct {
    cl_inet_address address;
    cl_inet_address local; /* AF_UNSPEC: none */
    int proto;
} target;

typedef struct {
    CoroObject cn_coro;
    PyObject *cn_weakrefs;
    LoopObject *cn_loop;    /* owned; kept until the end */
    PyObject *cn_factory;   /* owned; NULL once done, as the next ones; in a
                               race: NULL if a socket is wanted */
    PyObject *cn_host;      /* owned, or NULL */
    PyObject *cn_port;      /* owned, or NULL */
    PyObject *cn_options;   /* owned; dict of the keywords, or NULL */
    PyObject *cn_sock;      /* owned; the socket passed in, or NULL */
    PyObject *cn_transport; /* owned, or NULL */
    PyObject *cn_protocol;  /* owned, or NULL */
    cl_race *cn_race;       /* owned; among several addresses, or NULL */
    cl_watch cn_watch;
    target cn_target;
    int cn_fd; /* owned; -1: none, or the transport's or socket's */
    stage cn_stage;
    bool cn_expected; /* the poller is not asked first: see connect_now() */
} ConnectObject;

/* The result of a part of a step. */
typedef enum { FAILED = -1, WAIT, GO_ON, HAND_OVER } outcome;

/* ------------------------------------------------- whether anything was replaced */

/* What asyncio's create_connection() calls or looks at. The last two are
 * Loop's own. A race begins once the first two have been called. */
#define BEFORE_RACES 2
static const char *const bypassed[] = {"create_connection",
                                       "getaddrinfo",
                                       "sock_connect",
                                       "_connect_sock",
                                       "_create_connection_transport",
                                       "_ensure_resolved",
                                       "_make_socket_transport",
                                       "_makes_transports",
                                       "_put_selector",
                                       NULL};

int
cl_connect_know_loop(cl_state *st, PyTypeObject *type, bool have_context)
{
    cl_guard *guard = &cl_net_of(st)->loop_guard;
    cl_guard_clear(guard);
    cl_net_of(st)->connections_have_context = have_context;
    return cl_guard_init(guard, type, bypassed, NULL);
}

/* `first`: where in the list to begin with a subclass and the object. */
static bool
is_stock_loop(LoopObject *loop, int first)
{
    cl_guard *guard = &cl_net_of(loop->l_st)->loop_guard;
    if (!cl_guard_holds(guard))
        return false;
    /* A subclass may override create_connection() and call ours. */
    bool same = true;
    for (int i = first;
         i < guard->g_count && Py_TYPE(loop) != guard->g_type && same; i++) {
        PyObject *value = cl_type_lookup(Py_TYPE(loop), guard->g_keys[i]);
        same = value == guard->g_known[i];
        Py_XDECREF(value);
    }
    PyObject *dict = loop->l_dict;
    if (dict == NULL || PyDict_GET_SIZE(dict) == 0)
        return same;
    for (int i = first; i < guard->g_count && same; i++)
        same = PyDict_Contains(dict, guard->g_keys[i]) == 0;
    return same;
}

/* Whether asyncio would call the socket and the resolver that we bypass. */
static bool
is_stock_module(cl_state *st, bool resolves)
{
    cl_net *net = cl_net_of(st);
    PyObject *module =
        PyObject_GetAttr(st->base_events_module, net->str_socket);
    PyObject *type =
        module == NULL ? NULL : PyObject_GetAttr(module, net->str_socket);
    PyObject *resolver = type == NULL || !resolves
                             ? NULL
                             : PyObject_GetAttr(module, net->str_getaddrinfo);
    bool stock = type == net->socket_type &&
                 (!resolves || resolver == net->socket_getaddrinfo);
    Py_XDECREF(module);
    Py_XDECREF(type);
    Py_XDECREF(resolver);
    return stock;
}

static PyObject *
note(void *seen)
{
    *(bool *)seen = true;
    PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

/* Hooks are told of the socket object, which we do not make. The arguments of
 * an event are only built if there are hooks. */
static bool
is_audited(void)
{
    bool seen = false;
    if (PySys_Audit("socket.connect", "(O&)", note, &seen) < 0)
        PyErr_Clear();
    return seen;
}

/* Whether all is as in asyncio. Clears exceptions: the Python method raises
 * them again. */
static bool
is_stock(LoopObject *loop, bool races)
{
    cl_state *st = loop->l_st;
    bool stock = !loop->l_debug && loop->l_open && !loop->l_closed &&
                 !loop->l_executor_shutdown && cl_futures_are_ours(st) &&
                 !cl_loop_overrides(loop, CL_OVERRIDES_CREATE_FUTURE) &&
                 is_stock_loop(loop, races ? BEFORE_RACES : 1) &&
                 cl_sock_is_stock(st) && is_stock_module(st, !races) &&
                 !is_audited();
    PyErr_Clear();
    return stock;
}

/* ------------------------------------------------------------------- waiting */

/* Finishes the future that it waits for while it connects. 0/-1 */
static int
wake(PyObject *self)
{
    ConnectObject *op = (ConnectObject *)self;
    PyObject *future = op->cn_coro.c_future;
    if (op->cn_coro.c_state != CL_CORO_WAITING || future == NULL ||
        op->cn_stage != CONNECTING ||
        ((FutureObject *)future)->f_state != CL_PENDING)
        return 0;
    Py_INCREF(future);
    int status = cl_loop_reserve(op->cn_loop, 1);
    if (status == 0)
        status = cl_future_finish((FutureObject *)future, Py_None);
    Py_DECREF(future);
    return status;
}

static int wake_soon(PyObject *self);

static PyObject *
answered(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (wake(self) == 0)
        Py_RETURN_NONE;
    PyObject *error = PyErr_GetRaisedException();
    if (wake_soon(self) < 0) /* else it would wait for ever */
        PyErr_Clear();
    PyErr_SetRaisedException(error);
    return NULL;
}

static PyMethodDef answered_def = {"_connected", answered, METH_NOARGS, NULL};

/* The same by a callback of this turn, as asyncio does when it finds that the
 * descriptor is ready: the task goes on in the next. 0/-1 */
static int
wake_soon(PyObject *self)
{
    return cl_loop_push_method(((ConnectObject *)self)->cn_loop, &answered_def,
                               self);
}

static int
watch_ready(LoopObject *loop, cl_watch *watch, unsigned Py_UNUSED(events))
{
    PyObject *op = Py_NewRef(watch->w_owner);
    int status = wake_soon(op);
    if (status == 0)
        cl_watch_want(loop, watch, 0);
    Py_DECREF(op);
    return status;
}

/* Removing the interest failed. */
static int
watch_refused(LoopObject *loop, cl_watch *watch, int Py_UNUSED(err))
{
    PyObject *op = Py_NewRef(watch->w_owner);
    cl_watch_stop(loop, watch);
    Py_DECREF(op);
    return 0;
}

/* The transport has taken the descriptor over. */
static void
watch_evicted(LoopObject *Py_UNUSED(loop), cl_watch *Py_UNUSED(watch))
{
}

static const cl_watch_ops watch_ops = {
    .ready = watch_ready, .refused = watch_refused, .evicted = watch_evicted};

/* Waits for a new future. */
static outcome
wait_on(ConnectObject *op, PyObject *future)
{
    return cl_coro_wait(&op->cn_coro, future) < 0 ? FAILED : WAIT;
}

static outcome
wait_until_connected(ConnectObject *op)
{
    LoopObject *loop = op->cn_loop;
    PyObject *future = cl_future_new(loop);
    outcome status = future == NULL ? FAILED : wait_on(op, future);
    Py_XDECREF(future);
    if (status == FAILED || cl_loop_check_open(loop) < 0)
        return FAILED;
    op->cn_stage = CONNECTING;
    if (op->cn_watch.w_fd >= 0) {
        cl_watch_want(loop, &op->cn_watch, CL_WRITE);
        return WAIT;
    }
    int err = cl_watch_start(loop, &op->cn_watch, op->cn_fd,
                             op->cn_expected ? 0 : CL_WRITE);
    if (err < 0) {
        cl_raise_os_error(err);
        return FAILED;
    }
    if (op->cn_expected)
        cl_watch_report(loop, &op->cn_watch);
    return WAIT;
}

/* ---------------------------------------------------------------- connecting */

/* Raises asyncio's OSError for a connection that failed later. */
static outcome
connect_failed(ConnectObject *op, int error)
{
    PyObject *address = cl_address_from_sockaddr(
        op->cn_coro.c_st, (const struct sockaddr *)&op->cn_target.address,
        cl_inet_size(&op->cn_target.address));
    const char *host =
        op->cn_host == NULL ? NULL : cl_address_ascii(op->cn_host);
    /* asyncio shows an IPv6 address as it was written, if it has no zone. */
    if (address != NULL && host != NULL && strchr(host, '%') == NULL &&
        op->cn_target.address.family == AF_INET6)
        Py_SETREF(address,
                  Py_BuildValue("(siii)", host,
                                ntohs(op->cn_target.address.in6.sin6_port), 0,
                                0));
    cl_sock_raise_failed(error, address);
    return FAILED;
}

/* Looks whether a connection that was expected has been made. */
static outcome
ask_again(ConnectObject *op)
{
    int error = 0;
    op->cn_expected = false; /* if it waits, the poller is told */
    if (connect(op->cn_fd, (const struct sockaddr *)&op->cn_target.address,
                cl_inet_size(&op->cn_target.address)) < 0)
        error = errno;
    if (error == 0 || error == EISCONN)
        return GO_ON;
    return cl_sock_is_in_progress(error) ? WAIT : connect_failed(op, error);
}

static outcome
ask_kernel(ConnectObject *op)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(op->cn_fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return FAILED;
    }
    if (cl_sock_is_in_progress(error))
        return WAIT;
    return error == 0 ? GO_ON : connect_failed(op, error);
}

static outcome
connect_now(ConnectObject *op)
{
    const struct sockaddr *address =
        (const struct sockaddr *)&op->cn_target.address;
    /* What was written to another connection before arrives before. */
    if (cl_gather_flush(op->cn_loop) < 0)
        return FAILED;
    op->cn_fd =
        cl_socket(address->sa_family, SOCK_STREAM, op->cn_target.proto);
    if (op->cn_fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return FAILED;
    }
    if (op->cn_target.local.family != AF_UNSPEC &&
        bind(op->cn_fd, (const struct sockaddr *)&op->cn_target.local,
             cl_inet_size(&op->cn_target.local)) < 0) {
        /* asyncio tries again, and raises its own error. */
        close(op->cn_fd);
        op->cn_fd = -1;
        return HAND_OVER;
    }
    cl_loop_poll_soon(op->cn_loop);
    if (connect(op->cn_fd, address, cl_inet_size(&op->cn_target.address)) == 0)
        return GO_ON;
    /* The other end of a loopback connection has mostly answered by now. Then
     * the poller need not be told of the descriptor, but we go on in the turn in
     * which it would have reported it: a program can tell the turns. */
    op->cn_expected =
        errno == EINPROGRESS && cl_inet_is_loopback(&op->cn_target.address);
    if (cl_sock_is_in_progress(errno))
        return WAIT;
    PyErr_SetFromErrno(PyExc_OSError);
    return FAILED;
}

/* --------------------------------------------------------------- the transport */

/* The factory has closed the socket. asyncio makes a transport all the same, which
 * fails when it is to be watched. */
static PyObject *
asyncios_transport(ConnectObject *op, const cl_transport_args *args)
{
    PyObject *method =
        cl_loop_inherited(op->cn_loop, "_make_socket_transport");
    PyObject *given =
        PyTuple_Pack(3, args->sock, args->protocol, args->waiter);
    PyObject *options = PyDict_New(), *result = NULL;
    if (method != NULL && given != NULL && options != NULL &&
        (args->context == NULL ||
         PyDict_SetItemString(options, "context", args->context) == 0))
        result = PyObject_Call(method, given, options);
    Py_XDECREF(method);
    Py_XDECREF(given);
    Py_XDECREF(options);
    return result;
}

static outcome
make_transport(ConnectObject *op)
{
    cl_state *st = op->cn_coro.c_st;
    PyObject *context = NULL;
    cl_transport_args args = {.loop = op->cn_loop,
                              .sock = op->cn_sock,
                              .fd = op->cn_fd,
                              .family = op->cn_target.address.family,
                              .socktype = SOCK_STREAM,
                              .proto = op->cn_target.proto};
    op->cn_stage = STARTING;
    if (cl_net_of(st)->connections_have_context &&
        (context = PyContext_CopyCurrent()) == NULL)
        return FAILED;
    outcome status = FAILED;
    PyObject *waiter = NULL;
    op->cn_protocol = PyObject_CallNoArgs(op->cn_factory);
    if (op->cn_protocol == NULL || cl_loop_check_open(op->cn_loop) < 0 ||
        (waiter = cl_future_new(op->cn_loop)) == NULL)
        goto done;
    args.protocol = op->cn_protocol;
    args.waiter = waiter;
    args.context = context;
    if (op->cn_sock != NULL) {
        args.fd = cl_sock_fd(st, op->cn_sock);
        if (args.fd < -1)
            goto done;
    }
    op->cn_transport = args.fd < 0
                           ? asyncios_transport(op, &args)
                           : (PyObject *)cl_socket_transport_new(&args, false);
    if (op->cn_transport == NULL)
        goto done;
    op->cn_fd = -1; /* the transport's */
    status = wait_on(op, waiter);
done:
    Py_XDECREF(waiter);
    Py_XDECREF(context);
    return status;
}

/* asyncio sets the mode of a socket that it is given. */
static outcome
take_socket(ConnectObject *op)
{
    PyObject *result = PyObject_CallMethodOneArg(
        op->cn_sock, cl_net_of(op->cn_coro.c_st)->str_setblocking, Py_False);
    Py_XDECREF(result);
    return result == NULL ? FAILED : GO_ON;
}

/* ---------------------------------------------------------------- one step */

/* From here on, the Python method's coroutine runs. */
static outcome
hand_over(ConnectObject *op)
{
    PyObject *none = Py_None;
    PyObject *args =
        op->cn_host == NULL && op->cn_port == NULL
            ? PyTuple_Pack(1, op->cn_factory)
            : PyTuple_Pack(3, op->cn_factory,
                           op->cn_host == NULL ? none : op->cn_host,
                           op->cn_port == NULL ? none : op->cn_port);
    PyObject *method =
        args == NULL ? NULL
                     : cl_loop_inherited(op->cn_loop, "create_connection");
    if (method != NULL)
        op->cn_coro.c_inner = PyObject_Call(method, args, op->cn_options);
    Py_XDECREF(method);
    Py_XDECREF(args);
    return op->cn_coro.c_inner == NULL ? FAILED : WAIT;
}

/* For metrics(): connecting had this outcome, which is returned. */
static outcome
counted(const ConnectObject *op, outcome status)
{
    cl_net_counts *counts = cl_net_counts_of(op->cn_loop);
    counts->nc_connected += status == GO_ON;
    counts->nc_connect_failed += status == FAILED;
    return status;
}

static outcome
begin(ConnectObject *op)
{
    if (!is_stock(op->cn_loop, false))
        return HAND_OVER;
    return op->cn_sock != NULL ? take_socket(op)
                               : counted(op, connect_now(op));
}

/* Returns a non-blocking socket object that owns the descriptor. */
static PyObject *
socket_object(ConnectObject *op)
{
    cl_net *net = cl_net_of(op->cn_coro.c_st);
    PyObject *sock = PyObject_CallFunction(
        net->socket_type, "iiii", op->cn_target.address.family, SOCK_STREAM,
        op->cn_target.proto, op->cn_fd);
    if (sock == NULL)
        return NULL;
    op->cn_fd = -1; /* the object's */
    PyObject *set =
        PyObject_CallMethodOneArg(sock, net->str_setblocking, Py_False);
    if (set == NULL)
        Py_CLEAR(sock);
    Py_XDECREF(set);
    return sock;
}

/* A step while it connects to one of several addresses. Its result is the list
 * of all errors if none can be connected to, or the socket if one is wanted. */
static PySendResult
race_step(ConnectObject *op, PyObject **result)
{
    outcome status = FAILED;
    cl_race_state state = cl_race_run(op->cn_race);
    if (state == CL_RACE_LOST) {
        *result = cl_race_errors(op->cn_race);
        return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    if (state == CL_RACE_WAITS) {
        PyObject *future = cl_future_new(op->cn_loop);
        status = future == NULL ? FAILED : wait_on(op, future);
        Py_XDECREF(future);
        op->cn_stage = CONNECTING;
    }
    else if (state == CL_RACE_WON) {
        op->cn_fd = cl_race_take(op->cn_race, &op->cn_target.address,
                                 &op->cn_target.proto);
        if (op->cn_factory == NULL) {
            cl_race *race = op->cn_race;
            op->cn_race = NULL;
            cl_race_free(race); /* watches it no more */
            *result = socket_object(op);
            return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
        }
        status = make_transport(op);
    }
    return status == FAILED ? PYGEN_ERROR : PYGEN_NEXT;
}

static PySendResult
step(CoroObject *coro, PyObject *Py_UNUSED(sent), PyObject **result)
{
    ConnectObject *op = (ConnectObject *)coro;
    outcome status = GO_ON;
    if (op->cn_stage != BEGIN && cl_coro_resume(coro) < 0)
        return PYGEN_ERROR;
    if (op->cn_race != NULL && op->cn_stage != STARTING)
        return race_step(op, result);
    if (op->cn_stage == STARTING) {
        *result = PyTuple_Pack(2, op->cn_transport, op->cn_protocol);
        return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    status =
        op->cn_stage == BEGIN
            ? begin(op)
            : counted(op, op->cn_expected ? ask_again(op) : ask_kernel(op));
    if (status == GO_ON)
        status = make_transport(op);
    else if (status == WAIT)
        status = wait_until_connected(op);
    else if (status == HAND_OVER)
        status = hand_over(op);
    return status == FAILED ? PYGEN_ERROR : PYGEN_NEXT;
}

/* Closes what was opened. */
static void
fail(CoroObject *coro)
{
    ConnectObject *op = (ConnectObject *)coro;
    PyObject *error = PyErr_GetRaisedException();
    PyObject *open = op->cn_transport != NULL ? op->cn_transport : op->cn_sock;
    if (op->cn_stage == STARTING && open != NULL) {
        PyObject *closed =
            PyObject_CallMethodNoArgs(open, cl_net_of(coro->c_st)->str_close);
        if (closed == NULL)
            Py_SETREF(error, PyErr_GetRaisedException());
        Py_XDECREF(closed);
    }
    PyErr_SetRaisedException(error);
}

/* Runs destructors. */
static void
drop(CoroObject *coro)
{
    ConnectObject *op = (ConnectObject *)coro;
    cl_watch_stop(op->cn_loop, &op->cn_watch);
    if (op->cn_race != NULL) {
        cl_race *race = op->cn_race;
        op->cn_race = NULL;
        cl_race_free(race);
    }
    if (op->cn_fd >= 0) {
        cl_loop_poll_soon(op->cn_loop);
        close(op->cn_fd);
        op->cn_fd = -1;
    }
    Py_CLEAR(op->cn_factory);
    Py_CLEAR(op->cn_host);
    Py_CLEAR(op->cn_port);
    Py_CLEAR(op->cn_options);
    Py_CLEAR(op->cn_sock);
    Py_CLEAR(op->cn_transport);
    Py_CLEAR(op->cn_protocol);
}

static const char *
name(const CoroObject *Py_UNUSED(coro))
{
    return "create_connection";
}

static PyObject *
stock(const CoroObject *coro)
{
    return cl_net_of(coro->c_st)->SelectorEventLoop;
}

static PyObject *
arguments(const CoroObject *coro)
{
    const ConnectObject *op = (const ConnectObject *)coro;
    return PyTuple_Pack(4, op->cn_loop, op->cn_factory,
                        op->cn_host == NULL ? Py_None : op->cn_host,
                        op->cn_port == NULL ? Py_None : op->cn_port);
}

static LoopObject *
loop_of(const CoroObject *coro)
{
    return ((const ConnectObject *)coro)->cn_loop;
}

static const cl_coro_ops coro_ops = {.owner = "BaseEventLoop",
                                     .name = name,
                                     .stock = stock,
                                     .args = arguments,
                                     .step = step,
                                     .fail = fail,
                                     .loop = loop_of,
                                     .drop = drop,
                                     .closes = true};

/* A race is shown as the attempt that began last. */
static const char *
attempt_name(const CoroObject *Py_UNUSED(coro))
{
    return "_connect_sock";
}

static PyObject *
attempt_arguments(const CoroObject *coro)
{
    const ConnectObject *op = (const ConnectObject *)coro;
    PyObject *errors = PyList_New(0);
    PyObject *args =
        errors == NULL
            ? NULL
            : PyTuple_Pack(3, op->cn_loop, errors,
                           op->cn_race == NULL ? Py_None
                                               : cl_race_latest(op->cn_race));
    Py_XDECREF(errors);
    return args;
}

static const cl_coro_ops race_ops = {.owner = "BaseEventLoop",
                                     .name = attempt_name,
                                     .stock = stock,
                                     .args = attempt_arguments,
                                     .step = step,
                                     .fail = fail,
                                     .loop = loop_of,
                                     .drop = drop,
                                     .closes = true};

static PyObject *
time_has_come(ConnectObject *op, PyObject *Py_UNUSED(ignored))
{
    if (op->cn_race != NULL && cl_race_time_has_come(op->cn_race) &&
        wake((PyObject *)op) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef time_has_come_def = {
    "_begin_next_attempt", (PyCFunction)time_has_come, METH_NOARGS, NULL};

static const cl_race_owner race_owner = {.wake_soon = wake_soon,
                                         .time_has_come = &time_has_come_def};

/* ------------------------------------------------------------------ arguments */

/* The options that are taken; all others, and all other values, are the Python
 * method's. Borrowed. */
typedef struct {
    PyObject *host, *port, *sock, *local_addr;
    int family, proto, flags;
} options;

static bool
is_none(PyObject *value)
{
    return value == Py_None;
}

static bool
is_off(PyObject *value)
{
    return value == Py_None || value == Py_False;
}

static bool
take_number(PyObject *value, int *number)
{
    int overflow;
    if (!PyLong_Check(value))
        return false;
    long wide = PyLong_AsLongAndOverflow(value, &overflow);
    *number = (int)wide;
    return overflow == 0 && wide >= 0 && wide <= INT_MAX;
}

static bool
take_option(options *taken, PyObject *key, PyObject *value)
{
    static const char *const absent[] = {"server_hostname",
                                         "ssl_handshake_timeout",
                                         "ssl_shutdown_timeout", NULL};
    double delay;
    const struct {
        const char *name;
        PyObject **object;
        int *number;
    } known[] = {{"host", &taken->host, NULL},
                 {"port", &taken->port, NULL},
                 {"sock", &taken->sock, NULL},
                 {"local_addr", &taken->local_addr, NULL},
                 {"family", NULL, &taken->family},
                 {"proto", NULL, &taken->proto},
                 {"flags", NULL, &taken->flags}};
    if (!PyUnicode_Check(key)) /* possible on Python 3.8 */
        return false;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(known); i++) {
        if (PyUnicode_CompareWithASCIIString(key, known[i].name) != 0)
            continue;
        if (known[i].number != NULL)
            return take_number(value, known[i].number);
        if (*known[i].object != NULL) /* given twice */
            return false;
        *known[i].object = value;
        return true;
    }
    if (PyUnicode_CompareWithASCIIString(key, "ssl") == 0)
        return is_off(value);
    /* These matter only where there are several addresses. */
    if (PyUnicode_CompareWithASCIIString(key, "happy_eyeballs_delay") == 0)
        return is_none(value) ||
               (cl_timer_delay(value, &delay) && isfinite(delay));
    if (PyUnicode_CompareWithASCIIString(key, "interleave") == 0)
        return is_none(value) || PyLong_CheckExact(value);
    for (int i = 0; absent[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(key, absent[i]) == 0)
            return is_none(value);
    }
    return false;
}

static bool
take_options(options *taken, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    *taken = (options){0};
    if (nargs < 1 || nargs > 3)
        return false;
    if (nargs > 1)
        taken->host = args[1];
    if (nargs > 2)
        taken->port = args[2];
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!take_option(taken, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]))
            return false;
    }
    PyObject **objects[] = {&taken->host, &taken->port, &taken->sock,
                            &taken->local_addr};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(objects); i++) {
        if (*objects[i] == Py_None)
            *objects[i] = NULL;
    }
    return true;
}

/* Finds the addresses; false if one is not numeric. */
static bool
find_addresses(const options *taken, target *target)
{
    cl_addrinfo_query query = {.host = taken->host,
                               .port = taken->port,
                               .family = taken->family,
                               .type = SOCK_STREAM,
                               .proto = taken->proto,
                               .flags = taken->flags};
    PyObject *local = taken->local_addr;
    if (!cl_addrinfo_one(&query, &target->address, &target->proto))
        return false;
    if (local == NULL)
        return true;
    if (!PyTuple_CheckExact(local) || PyTuple_GET_SIZE(local) != 2)
        return false;
    query.host = PyTuple_GET_ITEM(local, 0);
    query.port = PyTuple_GET_ITEM(local, 1);
    query.family = target->address.family;
    query.proto = target->proto;
    return cl_addrinfo_one(&query, &target->local, &target->proto);
}

/* Whether asyncio would accept the socket without asking it. */
static bool
is_plain_socket(cl_state *st, PyObject *sock)
{
    const cl_sock *inside = cl_sock_inside(st, sock);
    return inside != NULL && inside->sk_type == SOCK_STREAM &&
           inside->sk_fd >= 0;
}

/* Whether the arguments are for us. */
static bool
suits(cl_state *st, const options *taken, target *target)
{
    if (taken->sock != NULL)
        return taken->host == NULL && taken->port == NULL &&
               is_plain_socket(st, taken->sock);
    return taken->host != NULL && taken->port != NULL &&
           find_addresses(taken, target);
}

static PyObject *
keep_options(PyObject *const *values, PyObject *kwnames)
{
    PyObject *dict = PyDict_New();
    for (Py_ssize_t i = 0; dict != NULL && i < PyTuple_GET_SIZE(kwnames);
         i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(key, "host") == 0 ||
            PyUnicode_CompareWithASCIIString(key, "port") == 0)
            continue; /* passed by position */
        if (PyDict_SetItem(dict, key, values[i]) < 0)
            Py_CLEAR(dict);
    }
    return dict;
}

/* Returns a coroutine without arguments, untracked. */
static ConnectObject *
allocate(LoopObject *loop, const cl_coro_ops *ops)
{
    cl_state *st = loop->l_st;
    ConnectObject *op =
        PyObject_GC_New(ConnectObject, cl_net_of(st)->ConnectType);
    if (op == NULL)
        return NULL;
    memset((char *)op + sizeof(PyObject), 0, sizeof(*op) - sizeof(PyObject));
    op->cn_coro.c_ops = ops;
    op->cn_coro.c_st = st;
    op->cn_loop = (LoopObject *)Py_NewRef(loop);
    op->cn_fd = -1;
    cl_watch_init(&op->cn_watch, &watch_ops, (PyObject *)op);
    cl_live_add(&cl_net_of(st)->live_connects, 1);
    return op;
}

PyObject *
cl_connect_race(LoopObject *loop, PyObject *factory, PyObject *infos,
                PyObject *local, PyObject *delay)
{
    if (!is_stock(loop, true) || cl_loop_overrides(loop, CL_OVERRIDES_TIMERS))
        return NULL;
    cl_race *race = cl_race_new(loop, &race_owner, infos, local, delay);
    if (race == NULL)
        return NULL;
    ConnectObject *op = allocate(loop, &race_ops);
    if (op == NULL) {
        cl_race_free(race);
        return NULL;
    }
    op->cn_factory = factory == Py_None ? NULL : Py_NewRef(factory);
    op->cn_race = race;
    cl_race_give(race, (PyObject *)op);
    PyObject_GC_Track(op);
    return (PyObject *)op;
}

PyObject *
cl_connect_new(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    cl_state *st = loop->l_st;
    options taken;
    target target = {0};
    PyObject *kept = NULL;
    if (!take_options(&taken, args, nargs, kwnames) ||
        !suits(st, &taken, &target))
        return NULL;
    if (kwnames != NULL &&
        (kept = keep_options(args + nargs, kwnames)) == NULL)
        return NULL;
    ConnectObject *op = allocate(loop, &coro_ops);
    if (op == NULL) {
        Py_XDECREF(kept);
        return NULL;
    }
    op->cn_factory = Py_NewRef(args[0]);
    op->cn_host = Py_XNewRef(taken.host);
    op->cn_port = Py_XNewRef(taken.port);
    op->cn_options = kept;
    op->cn_sock = Py_XNewRef(taken.sock);
    op->cn_target = target;
    PyObject_GC_Track(op);
    return (PyObject *)op;
}

/* ------------------------------------------------------------------- the type */

static int
Connect_traverse(ConnectObject *op, visitproc visit, void *arg)
{
    Py_VISIT(op->cn_loop);
    Py_VISIT(op->cn_factory);
    Py_VISIT(op->cn_host);
    Py_VISIT(op->cn_port);
    Py_VISIT(op->cn_options);
    Py_VISIT(op->cn_sock);
    Py_VISIT(op->cn_transport);
    Py_VISIT(op->cn_protocol);
    if (op->cn_race != NULL) {
        int status = cl_race_traverse(op->cn_race, visit, arg);
        if (status != 0)
            return status;
    }
    return cl_coro_traverse(&op->cn_coro, visit, arg);
}

static void
Connect_dealloc(ConnectObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (!cl_coro_dying(&op->cn_coro))
        return;
    cl_clear_weakrefs((PyObject *)op);
    LoopObject *loop = op->cn_loop;
    cl_live_add(&cl_net_of(loop->l_st)->live_connects, -1);
    PyObject_GC_Del(op);
    Py_DECREF(loop);
    Py_DECREF(type);
}

static PyMemberDef Connect_members[] = {{"__weaklistoffset__", T_PYSSIZET,
                                         offsetof(ConnectObject, cn_weakrefs),
                                         READONLY, NULL},
                                        {0}};

/* clang-format off */
static PyType_Slot Connect_slots[] = {
    {Py_tp_doc, "The coroutine of loop.create_connection()."},
    {Py_tp_dealloc, Connect_dealloc},
    {Py_tp_traverse, Connect_traverse},
    {Py_tp_members, Connect_members},
    CL_CORO_SLOTS,
    {0, NULL}};
/* clang-format on */

static PyType_Spec Connect_spec = {
    .name = "cloop._cloop.Connect",
    .basicsize = sizeof(ConnectObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = Connect_slots,
};

PyTypeObject *
cl_connect_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &Connect_spec, NULL, 0,
                       offsetof(ConnectObject, cn_weakrefs));
}
