/* sock.c - see sock.h. */
#include "net/sock.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/platform.h"

int
cl_sock_ask_fd(cl_state *st, PyObject *sock)
{
    PyObject *number =
        PyObject_CallMethodNoArgs(sock, cl_net_of(st)->str_fileno);
    if (number == NULL)
        return -2;
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred())
        return -2;
    if (fd > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError,
                        "signed integer is greater than maximum");
        return -2;
    }
    return fd < 0 ? -1 : (int)fd;
}

bool
cl_sock_is_in_progress(int error)
{
    return error == EINPROGRESS || error == EALREADY ||
           cl_would_block(error) || error == EINTR;
}

void
cl_sock_raise(int error, PyObject *message)
{
    PyObject *exception =
        message == NULL
            ? NULL
            : PyObject_CallFunction(PyExc_OSError, "iO", error, message);
    if (exception != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_XDECREF(message);
    Py_XDECREF(exception);
}

void
cl_sock_raise_failed(int error, PyObject *address)
{
    cl_sock_raise(
        error, address == NULL
                   ? NULL
                   : PyUnicode_FromFormat("Connect call failed %S", address));
    Py_XDECREF(address);
}

/* The methods that cloop bypasses. All but the first ones belong to
 * socket.socket's base class in C, which cannot be changed. */
static const char *const replaceable[] = {
    "accept",      "close",         "__init__",    "recv",       "recv_into",
    "recvfrom",    "recvfrom_into", "send",        "sendmsg",    "sendto",
    "connect",     "bind",          "fileno",      "gettimeout", "shutdown",
    "setblocking", "getpeername",   "getsockname", "setsockopt", NULL};

/* So many, at the start, are socket.socket's own, in Python. */
#define OWN_METHODS 3

/* Whether an attribute, called if it is a method, is this number: 1, 0, -1. */
static int
is_number(PyObject *sock, const char *name, long expected)
{
    PyObject *value = PyObject_GetAttrString(sock, name);
    if (value != NULL && PyCallable_Check(value))
        Py_SETREF(value, PyObject_CallNoArgs(value));
    if (value == NULL)
        return -1;
    long number = PyLong_AsLong(value);
    Py_DECREF(value);
    if (number == -1 && PyErr_Occurred())
        return -1;
    return number == expected;
}

static int
is_as_known(PyObject *sock)
{
    const cl_sock *inside = (const cl_sock *)sock;
    int same = is_number(sock, "fileno", inside->sk_fd);
    if (same > 0)
        same = is_number(sock, "family", inside->sk_family);
    if (same > 0)
        same = is_number(sock, "type", inside->sk_type);
    return same > 0 ? is_number(sock, "proto", inside->sk_proto) : same;
}

/* Whether the timeout is where sk_timeout is: 1, 0, -1. */
static int
keeps_timeout(PyObject *sock)
{
    static const double seconds[] = {-1, 7, 0};
    const int64_t *timeout = &((const cl_sock *)sock)->sk_timeout;
    for (size_t n = 0; n < Py_ARRAY_LENGTH(seconds); n++) {
        PyObject *value = seconds[n] < 0 ? Py_NewRef(Py_None)
                                         : PyFloat_FromDouble(seconds[n]);
        PyObject *set = value == NULL ? NULL
                                      : PyObject_CallMethod(sock, "settimeout",
                                                            "O", value);
        Py_XDECREF(value);
        if (set == NULL)
            return -1;
        Py_DECREF(set);
        if (seconds[n] < 0 ? *timeout >= 0
                           : *timeout != (int64_t)seconds[n] * 1000000000)
            return 0;
    }
    return 1;
}

/* Compares fields and methods of a socket of this kind, open and closed: 1, 0,
 * -1. */
static int
probe(cl_state *st, int family, int type, int proto)
{
    PyObject *sock = PyObject_CallFunction(cl_net_of(st)->socket_type, "iii",
                                           family, type, proto);
    if (sock == NULL)
        return -1;
    int same = is_as_known(sock);
    if (same > 0 && ((const cl_sock *)sock)->sk_fd < 0)
        same = 0;
    if (same > 0)
        same = keeps_timeout(sock);
    PyObject *closed = PyObject_CallMethod(sock, "close", NULL);
    if (closed == NULL)
        same = -1;
    else if (same > 0 && ((const cl_sock *)sock)->sk_fd != -1)
        same = 0;
    Py_XDECREF(closed);
    Py_DECREF(sock);
    return same;
}

PyObject *
cl_sock_new_closed(cl_state *st, int family, int type, int proto)
{
    cl_net *net = cl_net_of(st);
    if (!net->sock_known || !cl_sock_is_stock(st))
        return NULL;
    /* Without __init__(), which wants a descriptor. */
    PyTypeObject *class = (PyTypeObject *)net->socket_type;
    PyObject *sock = class->tp_new(class, st->empty_tuple, NULL);
    PyObject *zero = sock == NULL ? NULL : PyLong_FromLong(0);
    if (zero == NULL || Py_TYPE(sock) != class ||
        PyObject_SetAttrString(sock, "_io_refs", zero) < 0 ||
        PyObject_SetAttrString(sock, "_closed", Py_True) < 0) {
        Py_XDECREF(zero);
        Py_XDECREF(sock);
        return NULL;
    }
    Py_DECREF(zero);
    cl_sock *inside = (cl_sock *)sock;
    inside->sk_family = family;
    inside->sk_type = type;
    inside->sk_proto = proto;
    inside->sk_timeout = 0;
    return sock;
}

static bool
is_of_module(PyObject *function, PyObject *module)
{
    return function != NULL && PyFunction_Check(function) &&
           PyFunction_GET_GLOBALS(function) == PyModule_GetDict(module);
}

/* If a program replaced a method before the import, the guard never holds. */
static int
guard_methods(cl_state *st, PyTypeObject *type)
{
    cl_guard *guard = &cl_net_of(st)->socket_guard;
    PyObject *module = PyImport_ImportModule("socket");
    if (module == NULL ||
        cl_guard_init(guard, type, replaceable, type->tp_base) < 0) {
        Py_XDECREF(module);
        return -1;
    }
    /* Its own close() and __init__() hide those of the base class. */
    bool stock = true;
    for (int i = 0; i < OWN_METHODS; i++) {
        Py_XSETREF(guard->g_known[i], cl_type_lookup(type, guard->g_keys[i]));
        stock = stock && is_of_module(guard->g_known[i], module);
    }
    if (!stock)
        cl_guard_clear(guard);
    Py_DECREF(module);
    return 0;
}

int
cl_sock_setup(cl_state *st)
{
    PyTypeObject *type = (PyTypeObject *)cl_net_of(st)->socket_type;
    cl_net_of(st)->sock_known = false;
    if (!PyType_Check(cl_net_of(st)->socket_type) || type->tp_base == NULL ||
        type->tp_base->tp_basicsize < (Py_ssize_t)sizeof(cl_sock))
        return 0; /* replaced by the program */
    int same = probe(st, AF_UNIX, SOCK_DGRAM, 0);
    if (same > 0)
        same = probe(st, AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (same < 0) {
        /* No sockets here, or no free descriptors: not an error of the import. */
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyErr_Clear();
    }
    cl_net_of(st)->sock_known = same > 0;
    return guard_methods(st, type);
}
