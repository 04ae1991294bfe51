/* extra.c - see extra.h. */
#include "net/extra.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/platform.h"
#include "core/errors.h"
#include "net/address.h"
#include "net/sock.h"

/* Returns a closed socket object, as asyncio's transport has; its number may be
 * another file's by now. */
static PyObject *
closed_socket(TransportObject *self)
{
    cl_net *net = cl_net_of(self->tr_loop->l_st);
    PyObject *sock = cl_sock_new_closed(self->tr_loop->l_st, self->tr_family,
                                        self->tr_type, self->tr_proto);
    if (sock != NULL || PyErr_Occurred())
        return sock;
    /* Made by its class, which asks for an open one. */
    int fd = cl_socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) /* a sandbox may have no such sockets */
        fd = cl_socket(self->tr_family, SOCK_STREAM, 0);
    if (fd < 0) {
        cl_raise_errno(-errno);
        return NULL;
    }
    sock = PyObject_CallFunction(net->socket_type, "iiii", self->tr_family,
                                 self->tr_type, self->tr_proto, fd);
    if (sock == NULL) {
        close(fd);
        return NULL;
    }
    PyObject *result = PyObject_CallMethodNoArgs(sock, net->str_close);
    if (result == NULL)
        Py_CLEAR(sock);
    Py_XDECREF(result);
    return sock;
}

PyObject *
cl_extra_socket(TransportObject *self)
{
    cl_net *net = cl_net_of(self->tr_loop->l_st);
    if (self->tr_file != NULL)
        return self->tr_file;
    if (self->tr_flags & CL_T_NOT_OPEN) {
        self->tr_file = closed_socket(self);
        return self->tr_file;
    }
    PyObject *sock =
        PyObject_CallFunction(net->socket_type, "iiii", self->tr_family,
                              self->tr_type, self->tr_proto, self->tr_fd);
    if (sock == NULL)
        return NULL;
    self->tr_file = sock;
    PyObject *result =
        PyObject_CallMethodOneArg(sock, net->str_setblocking, Py_False);
    Py_XDECREF(result);
    return result == NULL ? NULL : sock;
}

bool
cl_transport_is_exposed(const TransportObject *self)
{
    if (self->tr_flags & CL_T_EXPOSED)
        return true;
    /* An object that the program passed in may still be in use there. With
     * CLOOP_GATHER=always this does not count, since tests keep their sockets. */
    return self->tr_file != NULL &&
           (cl_net_of(self->tr_loop->l_st)->gathers != CL_GATHER_ALWAYS ||
            (self->tr_flags & CL_T_PIPE)) &&
           Py_REFCNT(self->tr_file) > self->tr_file_refs;
}

int
cl_transport_expose(TransportObject *self)
{
    self->tr_flags |= CL_T_EXPOSED;
    /* Flush the whole loop: TLS on top may hold bytes. */
    return cl_gather_flush(self->tr_loop);
}

static int
set_extra(TransportObject *self, PyObject *name, PyObject *value)
{
    if (self->tr_extra == NULL && (self->tr_extra = PyDict_New()) == NULL)
        return -1;
    return PyDict_SetItem(self->tr_extra, name, value);
}

/* Stores an address of one end; IPv4 and IPv6 compactly. */
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
        cl_address_from_sockaddr(self->tr_loop->l_st, address, len);
    if (value == NULL && !PyErr_Occurred()) {
        /* Only the socket module knows the family. */
        PyObject *sock = cl_extra_socket(self);
        value =
            sock == NULL
                ? NULL
                : PyObject_CallMethodNoArgs(
                      sock,
                      name == cl_net_of(self->tr_loop->l_st)->str_sockname
                          ? cl_net_of(self->tr_loop->l_st)->str_getsockname
                          : cl_net_of(self->tr_loop->l_st)->str_getpeername);
        if (value == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear();
            value = Py_NewRef(Py_None);
        }
    }
    int err = value == NULL ? -1 : set_extra(self, name, value);
    Py_XDECREF(value);
    return err;
}

int
cl_extra_find_addresses(TransportObject *self, const cl_transport_args *args)
{
    cl_state *st = self->tr_loop->l_st;
    struct sockaddr_storage storage;
    struct sockaddr *address = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);
    if (getsockname(self->tr_fd, address, &len) == 0) {
        self->tr_family = address->sa_family;
        if (keep_address(self, &self->tr_sockname, cl_net_of(st)->str_sockname,
                         address, len) < 0)
            return -1;
    }
    if (args->extra != NULL) {
        int known = PyDict_Contains(args->extra, cl_net_of(st)->str_peername);
        if (known != 0)
            return known < 0 ? -1 : 0;
    }
    if (args->peer != NULL)
        return keep_address(self, &self->tr_peername,
                            cl_net_of(st)->str_peername, args->peer,
                            args->peer_len);
    len = sizeof(storage);
    if (getpeername(self->tr_fd, address, &len) == 0)
        return keep_address(self, &self->tr_peername,
                            cl_net_of(st)->str_peername, address, len);
    return 0;
}

static PyObject *
inet_address(TransportObject *self, const cl_inet_address *compact)
{
    if (compact->family == AF_UNSPEC)
        return Py_NewRef(Py_None);
    return cl_address_from_sockaddr(
        self->tr_loop->l_st, (const struct sockaddr *)compact,
        compact->family == AF_INET ? sizeof(compact->in)
                                   : sizeof(compact->in6));
}

/* Makes a value that is not yet in the dictionary. NULL without an exception
 * if there is no such name. */
static PyObject *
make_extra(TransportObject *self, PyObject *name)
{
    cl_state *st = self->tr_loop->l_st;
    PyObject *value = NULL;
    if (self->tr_flags & CL_T_PIPE)
        return NULL;
    if (PyUnicode_Compare(name, cl_net_of(st)->str_peername) == 0) {
        value = inet_address(self, &self->tr_peername);
    }
    else if (PyUnicode_Compare(name, cl_net_of(st)->str_sockname) == 0) {
        value = inet_address(self, &self->tr_sockname);
    }
    else if (PyUnicode_Compare(name, cl_net_of(st)->str_socket) == 0) {
        PyObject *sock = cl_extra_socket(self);
        if (sock != NULL && cl_transport_ops_of(self)->flush != NULL)
            value = PyObject_CallFunctionObjArgs(
                cl_net_of(st)->OwnTransportSocket, sock, self, NULL);
        else if (sock != NULL)
            value = PyObject_CallOneArg(cl_net_of(st)->TransportSocket, sock);
        if (value != NULL)
            self->tr_file_refs++;
    }
    if (value != NULL && set_extra(self, name, value) < 0)
        Py_CLEAR(value);
    return value;
}

PyObject *
cl_extra_get(TransportObject *self, PyObject *name)
{
    if (self->tr_extra != NULL) {
        PyObject *value = cl_dict_get(self->tr_extra, name);
        if (value != NULL && value == self->tr_file &&
            cl_transport_expose(self) < 0)
            Py_CLEAR(value);
        if (value != NULL || PyErr_Occurred())
            return value;
    }
    return PyUnicode_Check(name) ? make_extra(self, name) : NULL;
}

PyObject *
cl_extra_all(TransportObject *self)
{
    cl_state *st = self->tr_loop->l_st;
    PyObject *names[] = {cl_net_of(st)->str_socket,
                         cl_net_of(st)->str_sockname,
                         cl_net_of(st)->str_peername};
    bool pipe = self->tr_flags & CL_T_PIPE;
    if (pipe && self->tr_file != NULL && cl_transport_expose(self) < 0)
        return NULL;
    for (int i = 0; i < 3 && !pipe; i++) {
        PyObject *value = cl_extra_get(self, names[i]);
        if (value == NULL)
            return NULL;
        Py_DECREF(value);
    }
    return Py_NewRef(self->tr_extra);
}
