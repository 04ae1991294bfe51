/* loop_net.c - LoopCore's methods for transports and listeners, for
 * cloop/_loop.py. */
#include "loop_type.h"

#include "core/claim.h"
#include "core/args.h"
#include "core/loop.h"
#include "net/datagram.h"
#include "net/listener.h"
#include "net/pipe.h"
#include "net/sock.h"
#include "net/socktransport.h"
#include "tls/tls.h"

static PyObject *
none_as_null(PyObject *object)
{
    return object == Py_None ? NULL : object;
}

static int
check_count(const char *method, Py_ssize_t nargs, Py_ssize_t count)
{
    if (nargs == count)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)",
                 method, count, nargs);
    return -1;
}

/* Parses the arguments that _new_stream() and _new_datagram() share. */
static int
take_socket(LoopObject *loop, PyObject *const *args, cl_transport_args *made)
{
    if (cl_loop_check_open(loop) < 0) {
        /* asyncio looks for the protocol's method first. */
        PyObject *error = PyErr_GetRaisedException();
        PyObject *method = PyObject_GetAttr(
            args[1], cl_net_of(loop->l_st)->str_connection_made);
        if (method != NULL)
            PyErr_SetRaisedException(error);
        else
            Py_DECREF(error);
        Py_XDECREF(method);
        return -1;
    }
    int fd = cl_sock_fd(loop->l_st, args[0]);
    if (fd == -1)
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", args[0]);
    if (fd < 0)
        return -1;
    *made = (cl_transport_args){.loop = loop,
                                .sock = args[0],
                                .fd = fd,
                                .protocol = args[1],
                                .waiter = none_as_null(args[2]),
                                .extra = none_as_null(args[3])};
    return 0;
}

PyDoc_STRVAR(Loop_new_stream_doc,
             "_new_stream($self, sock, protocol, waiter, extra, server, "
             "context, listener, /)\n--\n\n"
             "Create the transport of a connected stream socket, and own the "
             "socket from then on.\n"
             "listener is the listener that accepted it, or None.");

static PyObject *
Loop_new_stream(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs)
{
    CL_CLAIM(loop, NULL);
    cl_transport_args made;
    if (check_count("_new_stream", nargs, 7) < 0 ||
        take_socket(loop, args, &made) < 0)
        return NULL;
    made.server = none_as_null(args[4]);
    made.context = none_as_null(args[5]);
    made.habits = cl_listener_habits(loop, args[6]);
    return (PyObject *)cl_socket_transport_new(&made, false);
}

PyDoc_STRVAR(Loop_new_datagram_doc,
             "_new_datagram($self, sock, protocol, waiter, extra, address, "
             "/)\n--\n\n"
             "Create the transport of a datagram socket of AF_INET, AF_INET6 "
             "or AF_UNIX, and own\n"
             "the socket from then on.");

static PyObject *
Loop_new_datagram(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs)
{
    CL_CLAIM(loop, NULL);
    cl_transport_args made;
    if (check_count("_new_datagram", nargs, 5) < 0 ||
        take_socket(loop, args, &made) < 0)
        return NULL;
    return (PyObject *)cl_datagram_new(&made, args[4]);
}

PyDoc_STRVAR(
    Loop_new_pipe_doc,
    "_new_pipe($self, pipe, protocol, waiter, extra, reads, /)\n--\n\n"
    "Create the transport of one end of a pipe, a file object, and own the "
    "file from then\n"
    "on.");

static PyObject *
Loop_new_pipe(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs)
{
    CL_CLAIM(loop, NULL);
    cl_transport_args made;
    if (check_count("_new_pipe", nargs, 5) < 0 ||
        take_socket(loop, args, &made) < 0)
        return NULL;
    int reads = PyObject_IsTrue(args[4]);
    return reads < 0
               ? NULL
               : (PyObject *)cl_pipe_new(&made, reads ? CL_READ : CL_WRITE);
}

PyDoc_STRVAR(Loop_listen_doc,
             "_listen($self, sock, protocol_factory, server, accept, context, "
             "/)\n--\n\n"
             "Accept connections on a listening socket until "
             "_remove_reader(fd). Create a\n"
             "transport for each or, if accept is not None, call accept(sock, "
             "address, listener).");

static PyObject *
Loop_listen(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs)
{
    CL_CLAIM(loop, NULL);
    if (check_count("_listen", nargs, 5) < 0 || cl_loop_check_open(loop) < 0 ||
        cl_listener_start(loop, args[0], args[1], args[2], args[3], args[4]) <
            0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Loop_new_tls_doc,
             "_new_tls($self, protocol, sslcontext, waiter, server_side, "
             "server_hostname,\n"
             "         call_connection_made, handshake_timeout, "
             "shutdown_timeout, /)\n--\n\n"
             "Create a TLS transport, which is the protocol of another "
             "transport. Timeouts are in\n"
             "seconds.");

static PyObject *
Loop_new_tls(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs)
{
    CL_CLAIM(loop, NULL);
    if (check_count("_new_tls", nargs, 8) < 0)
        return NULL;
    int server_side = PyObject_IsTrue(args[3]);
    int call_connection_made = PyObject_IsTrue(args[5]);
    if (server_side < 0 || call_connection_made < 0)
        return NULL;
    cl_tls_args made = {.loop = loop,
                        .protocol = args[0],
                        .sslcontext = args[1],
                        .waiter = args[2],
                        .server_side = server_side,
                        .server_hostname = args[4],
                        .call_connection_made = call_connection_made,
                        .handshake_timeout = args[6],
                        .shutdown_timeout = args[7]};
    return (PyObject *)cl_tls_new(&made);
}

PyDoc_STRVAR(Loop_send_held_doc,
             "_send_held($self, /)\n--\n\n"
             "Send what the running callback holds, before something outside "
             "of this thread acts.");

static PyObject *
Loop_send_held(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    if (CL_FREE_THREADED || !cl_loop_in_callback(loop)) /* nothing is held */
        Py_RETURN_NONE;
    return cl_none_or_error(cl_gather_flush(loop));
}

static PyMethodDef methods[] = {
    {"_new_stream", CL_FAST(Loop_new_stream), METH_FASTCALL,
     Loop_new_stream_doc},
    {"_new_datagram", CL_FAST(Loop_new_datagram), METH_FASTCALL,
     Loop_new_datagram_doc},
    {"_new_pipe", CL_FAST(Loop_new_pipe), METH_FASTCALL, Loop_new_pipe_doc},
    {"_new_tls", CL_FAST(Loop_new_tls), METH_FASTCALL, Loop_new_tls_doc},
    {"_send_held", (PyCFunction)Loop_send_held, METH_NOARGS,
     Loop_send_held_doc},
    {"_listen", CL_FAST(Loop_listen), METH_FASTCALL, Loop_listen_doc},
    {NULL}};

int
cl_loop_net_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
