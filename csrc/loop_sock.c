/* loop_sock.c - LoopCore: addresses, create_connection() and the sock_*
 * methods. */
#include "loop_type.h"

#include <limits.h>

#include "core/claim.h"
#include "core/args.h"
#include "core/loop.h"
#include "net/addrinfo.h"
#include "net/connect.h"
#include "net/sockop.h"
#include "state.h"

/* ------------------------------------------------------------------ addresses */

/* Whether asyncio would call the socket.getaddrinfo that we replace: 1, 0, -1. */
static int
resolver_is_known(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    cl_net *net = cl_net_of(st);
    PyObject *socket_module =
        PyObject_GetAttr(st->base_events_module, net->str_socket);
    PyObject *function =
        socket_module == NULL
            ? NULL
            : PyObject_GetAttr(socket_module, net->str_getaddrinfo);
    int known = function == NULL ? -1 : function == net->socket_getaddrinfo;
    Py_XDECREF(socket_module);
    Py_XDECREF(function);
    return known;
}

/* Gets the four numbers of a query; false if one is not an int. */
static bool
query_numbers(PyObject *const *args, cl_addrinfo_query *query)
{
    int *fields[] = {&query->family, &query->type, &query->proto,
                     &query->flags};
    for (int i = 0; i < 4; i++) {
        int overflow;
        long number;
        if (!PyLong_Check(args[i]))
            return false;
        number = PyLong_AsLongAndOverflow(args[i], &overflow);
        if (overflow || number < 0 || number > INT_MAX)
            return false;
        *fields[i] = (int)number;
    }
    return true;
}

PyDoc_STRVAR(
    Loop_numeric_addrinfo_doc,
    "_numeric_addrinfo($self, host, port, family, type, proto, flags, /)\n"
    "--\n\n"
    "What socket.getaddrinfo() returns, if that takes no resolver; None if it "
    "must be\n"
    "asked.");

static PyObject *
Loop_numeric_addrinfo(LoopObject *loop, PyObject *const *args,
                      Py_ssize_t nargs)
{
    cl_addrinfo_query query;
    if (nargs != 6) {
        PyErr_Format(PyExc_TypeError,
                     "_numeric_addrinfo() takes 6 arguments (%zd given)",
                     nargs);
        return NULL;
    }
    query.host = args[0];
    query.port = args[1];
    /* asyncio's code runs if the executor would refuse, and in debug mode,
     * which logs slow look-ups. */
    if (loop->l_debug || loop->l_closed || loop->l_executor_shutdown ||
        !query_numbers(args + 2, &query))
        Py_RETURN_NONE;
    int known = resolver_is_known(loop);
    if (known < 0)
        return NULL;
    PyObject *list = known ? cl_addrinfo(loop->l_st, &query) : NULL;
    if (list == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    if (list != NULL &&
        PySys_Audit("socket.getaddrinfo", "OOiii", query.host, query.port,
                    query.family, query.type, query.proto) < 0)
        Py_CLEAR(list);
    return list;
}

/* ----------------------------------------------------------------- operations */

/* Calls the method of the class behind LoopCore, which also raises the errors
 * for invalid arguments. */
static PyObject *
inherited(LoopObject *loop, const char *method, PyObject *const *args,
          Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *bound = cl_loop_inherited(loop, method);
    PyObject *result =
        bound == NULL
            ? NULL
            : PyObject_Vectorcall(bound, args, (size_t)nargs, kwnames);
    Py_XDECREF(bound);
    return result;
}

static PyObject *
operate(LoopObject *loop, cl_sockop_kind kind, PyObject *const *args,
        Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, cl_sockop_name(kind), args, nargs, kwnames,
                         &result))
        return result;
    CL_CLAIM(loop, NULL);
    if (nargs == cl_sockop_nargs(kind) && kwnames == NULL) {
        PyObject *op = cl_sockop_new(loop, kind, args);
        if (op != NULL || PyErr_Occurred())
            return op;
    }
    return inherited(loop, cl_sockop_name(kind), args, nargs, kwnames);
}

#define METHOD(name, kind) \
    static PyObject *name(LoopObject *loop, PyObject *const *args, \
                          Py_ssize_t nargs, PyObject *kwnames) \
    { \
        return operate(loop, kind, args, nargs, kwnames); \
    }

METHOD(Loop_sock_recv, CL_SOCK_RECV)
METHOD(Loop_sock_recv_into, CL_SOCK_RECV_INTO)
METHOD(Loop_sock_recvfrom, CL_SOCK_RECVFROM)
METHOD(Loop_sock_sendall, CL_SOCK_SENDALL)
METHOD(Loop_sock_sendto, CL_SOCK_SENDTO)
METHOD(Loop_sock_connect, CL_SOCK_CONNECT)
METHOD(Loop_sock_accept, CL_SOCK_ACCEPT)

#undef METHOD

static PyObject *
Loop_sock_recvfrom_into(LoopObject *loop, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "sock_recvfrom_into", args, nargs, kwnames,
                         &result))
        return result;
    if (nargs != 2 || kwnames != NULL)
        return operate(loop, CL_SOCK_RECVFROM_INTO, args, nargs, kwnames);
    PyObject *zero = PyLong_FromLong(0); /* nbytes=0 */
    if (zero == NULL)
        return NULL;
    PyObject *all[] = {args[0], args[1], zero};
    PyObject *op = operate(loop, CL_SOCK_RECVFROM_INTO, all, 3, NULL);
    Py_DECREF(zero);
    return op;
}

PyDoc_STRVAR(Loop_create_connection_doc,
             "create_connection($self, protocol_factory, host=None, "
             "port=None, **options)\n--\n\n"
             "Connect to a TCP server; return (transport, protocol).\n\n"
             "The keywords are those of this Python's asyncio: ssl=, family=, "
             "sock=, timeouts in\n"
             "seconds and so on. Raises OSError if no address can be "
             "connected to. See asyncio's\n"
             "loop.create_connection.");

static PyObject *
Loop_create_connection(LoopObject *loop, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "create_connection", args, nargs, kwnames,
                         &result))
        return result;
    PyObject *op = cl_connect_new(loop, args, nargs, kwnames);
    return op != NULL || PyErr_Occurred()
               ? op
               : inherited(loop, "create_connection", args, nargs, kwnames);
}

PyDoc_STRVAR(
    Loop_race_doc,
    "_race_addresses($self, protocol_factory, infos, local, delay, /)\n--\n\n"
    "Connect to one of the addresses that getaddrinfo() has found, and bind "
    "to "
    "one of the\n"
    "local ones, if that is not None. Return a coroutine that returns "
    "(transport, protocol),\n"
    "or a socket if the factory is None, or a list of OSErrors if none can be "
    "connected to;\n"
    "None if asyncio's methods must be called.");

static PyObject *
Loop_race(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4)
        return PyErr_Format(PyExc_TypeError,
                            "_race_addresses() takes 4 arguments (%zd given)",
                            nargs);
    CL_CLAIM(loop, NULL);
    PyObject *op = cl_connect_race(loop, args[0], args[1], args[2], args[3]);
    if (op == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return op;
}

PyDoc_STRVAR(Loop_sock_recv_doc, "sock_recv($self, sock, n)\n--\n\n"
                                 "Receive at most n bytes. Return a coroutine "
                                 "that returns them, b'' at end of file.\n"
                                 "The caller keeps the socket, which should "
                                 "be non-blocking (checked in debug mode).\n"
                                 "See asyncio's loop.sock_recv.");
PyDoc_STRVAR(Loop_sock_recv_into_doc,
             "sock_recv_into($self, sock, buf)\n--\n\n"
             "Receive into a writable buffer. Return a coroutine that returns "
             "the number of bytes.");
PyDoc_STRVAR(Loop_sock_recvfrom_doc,
             "sock_recvfrom($self, sock, bufsize)\n--\n\n"
             "Receive a datagram of at most bufsize bytes. Return a coroutine "
             "that returns (bytes,\n"
             "address).");
PyDoc_STRVAR(Loop_sock_recvfrom_into_doc,
             "sock_recvfrom_into($self, sock, buf, nbytes=0)\n--\n\n"
             "Receive a datagram into a writable buffer, at most nbytes "
             "unless that is 0. Return a\n"
             "coroutine that returns (number of bytes, address).");
PyDoc_STRVAR(Loop_sock_sendall_doc, "sock_sendall($self, sock, data)\n--\n\n"
                                    "Send all of a bytes-like object. Return "
                                    "a coroutine that returns None. After an\n"
                                    "error it is unknown how much was sent.");
PyDoc_STRVAR(Loop_sock_sendto_doc,
             "sock_sendto($self, sock, data, address)\n--\n\n"
             "Send a datagram to the address. Return a coroutine that returns "
             "the number of bytes.");
PyDoc_STRVAR(Loop_sock_connect_doc,
             "sock_connect($self, sock, address)\n--\n\n"
             "Connect. Return a coroutine that returns None. A numeric "
             "address is not looked up.");
PyDoc_STRVAR(
    Loop_sock_accept_doc,
    "sock_accept($self, sock)\n--\n\n"
    "Accept a connection. Return a coroutine that returns (socket, address); "
    "the socket\n"
    "is non-blocking. If it is cancelled, the next call gets the connection.");

/* ------------------------------------------------------------------- methods */

#define METHOD(name) \
    {#name, CL_FAST(Loop_##name), METH_FASTCALL | METH_KEYWORDS, \
     Loop_##name##_doc}

static PyMethodDef methods[] = {
    {"_numeric_addrinfo", CL_FAST(Loop_numeric_addrinfo), METH_FASTCALL,
     Loop_numeric_addrinfo_doc},
    {"_race_addresses", CL_FAST(Loop_race), METH_FASTCALL, Loop_race_doc},
    METHOD(create_connection),
    METHOD(sock_recv),
    METHOD(sock_recv_into),
    METHOD(sock_recvfrom),
    METHOD(sock_recvfrom_into),
    METHOD(sock_sendall),
    METHOD(sock_sendto),
    METHOD(sock_connect),
    METHOD(sock_accept),
    {NULL}};

#undef METHOD

int
cl_loop_sock_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
