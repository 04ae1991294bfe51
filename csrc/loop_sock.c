/* loop_sock.c - LoopCore's addresses and sock_* methods. */
#include "loop_type.h"

#include <limits.h>

#include "core/args.h"
#include "core/loop.h"
#include "net/address.h"

/* ------------------------------------------------------------------ addresses */

/* Whether asyncio would call the socket.getaddrinfo that we imitate: 1, 0, -1. */
static int
resolver_is_known(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    PyObject *socket_module =
        PyObject_GetAttr(st->base_events_module, st->str_socket);
    PyObject *function =
        socket_module == NULL
            ? NULL
            : PyObject_GetAttr(socket_module, st->str_getaddrinfo);
    int known = function == NULL ? -1 : function == st->socket_getaddrinfo;
    Py_XDECREF(socket_module);
    Py_XDECREF(function);
    return known;
}

/* The four numbers of a query; false if one is no int. */
static bool
query_numbers(PyObject *const *args, cl_address_query *query)
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
    cl_address_query query;
    if (nargs != 6) {
        PyErr_Format(PyExc_TypeError,
                     "_numeric_addrinfo() takes 6 arguments (%zd given)",
                     nargs);
        return NULL;
    }
    query.host = args[0];
    query.port = args[1];
    /* Where the executor would refuse, and in debug mode, which logs how long
     * an answer took, the question goes its usual way. */
    if (loop->l_debug || loop->l_closed || loop->l_executor_shutdown ||
        !query_numbers(args + 2, &query))
        Py_RETURN_NONE;
    int known = resolver_is_known(loop);
    if (known < 0)
        return NULL;
    PyObject *list = known ? cl_address_info(loop->l_st, &query) : NULL;
    if (list == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    if (list != NULL &&
        PySys_Audit("socket.getaddrinfo", "OOiii", query.host, query.port,
                    query.family, query.type, query.proto) < 0)
        Py_CLEAR(list);
    return list;
}

/* ------------------------------------------------------------------- methods */

static PyMethodDef methods[] = {{"_numeric_addrinfo",
                                 CL_FAST(Loop_numeric_addrinfo), METH_FASTCALL,
                                 Loop_numeric_addrinfo_doc},
                                {NULL}};

int
cl_loop_sock_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
