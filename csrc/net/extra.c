/* extra.c - see extra.h. */
#include "net/extra.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/errors.h"
#include "net/address.h"

PyObject *
cl_extra_socket(TransportObject *self)
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
        PyObject_CallFunction(cl_net_of(st)->socket_type, "iiii",
                              self->t_family, self->t_type, self->t_proto, fd);
    if (sock == NULL) {
        if (fd != self->t_fd)
            close(fd);
        return NULL;
    }
    self->t_sock = sock;
    PyObject *result =
        self->t_flags & CL_T_GONE
            ? PyObject_CallMethodNoArgs(sock, cl_net_of(st)->str_close)
            : PyObject_CallMethodOneArg(sock, cl_net_of(st)->str_setblocking,
                                        Py_False);
    Py_XDECREF(result);
    return result == NULL ? NULL : sock;
}

bool
cl_transport_is_exposed(const TransportObject *self)
{
    if (self->t_flags & CL_T_EXPOSED)
        return true;
    /* An object that came from outside may still be somebody's. Tests that have
     * everything held keep their sockets. */
    return self->t_sock != NULL &&
           (cl_net_of(self->t_loop->l_st)->gathers != CL_GATHER_ALWAYS ||
            (self->t_flags & CL_T_PIPE)) &&
           Py_REFCNT(self->t_sock) > self->t_sock_refs;
}

int
cl_transport_expose(TransportObject *self)
{
    self->t_flags |= CL_T_EXPOSED;
    /* Not its own alone: TLS over it may hold something. */
    return cl_gather_flush(self->t_loop);
}

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
        PyObject *sock = cl_extra_socket(self);
        value =
            sock == NULL
                ? NULL
                : PyObject_CallMethodNoArgs(
                      sock,
                      name == cl_net_of(self->t_loop->l_st)->str_sockname
                          ? cl_net_of(self->t_loop->l_st)->str_getsockname
                          : cl_net_of(self->t_loop->l_st)->str_getpeername);
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
    cl_state *st = self->t_loop->l_st;
    struct sockaddr_storage storage;
    struct sockaddr *address = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);
    if (getsockname(self->t_fd, address, &len) == 0) {
        self->t_family = address->sa_family;
        if (keep_address(self, &self->t_sockname, cl_net_of(st)->str_sockname,
                         address, len) < 0)
            return -1;
    }
    if (args->extra != NULL) {
        int known = PyDict_Contains(args->extra, cl_net_of(st)->str_peername);
        if (known != 0)
            return known < 0 ? -1 : 0;
    }
    if (args->peer != NULL)
        return keep_address(self, &self->t_peername,
                            cl_net_of(st)->str_peername, args->peer,
                            args->peer_len);
    len = sizeof(storage);
    if (getpeername(self->t_fd, address, &len) == 0)
        return keep_address(self, &self->t_peername,
                            cl_net_of(st)->str_peername, address, len);
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
    if (PyUnicode_Compare(name, cl_net_of(st)->str_peername) == 0) {
        value = inet_address(self, &self->t_peername);
    }
    else if (PyUnicode_Compare(name, cl_net_of(st)->str_sockname) == 0) {
        value = inet_address(self, &self->t_sockname);
    }
    else if (PyUnicode_Compare(name, cl_net_of(st)->str_socket) == 0) {
        PyObject *sock = cl_extra_socket(self);
        if (sock != NULL && cl_transport_ops_of(self)->flush != NULL)
            value = PyObject_CallFunctionObjArgs(
                cl_net_of(st)->OwnTransportSocket, sock, self, NULL);
        else if (sock != NULL)
            value = PyObject_CallOneArg(cl_net_of(st)->TransportSocket, sock);
        if (value != NULL)
            self->t_sock_refs++;
    }
    if (value != NULL && set_extra(self, name, value) < 0)
        Py_CLEAR(value);
    return value;
}

PyObject *
cl_extra_get(TransportObject *self, PyObject *name)
{
    if (self->t_extra != NULL) {
        PyObject *value =
            Py_XNewRef(PyDict_GetItemWithError(self->t_extra, name));
        if (value != NULL && value == self->t_sock &&
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
    cl_state *st = self->t_loop->l_st;
    PyObject *names[] = {cl_net_of(st)->str_socket,
                         cl_net_of(st)->str_sockname,
                         cl_net_of(st)->str_peername};
    bool pipe = self->t_flags & CL_T_PIPE;
    if (pipe && self->t_sock != NULL && cl_transport_expose(self) < 0)
        return NULL;
    for (int i = 0; i < 3 && !pipe; i++) {
        PyObject *value = cl_extra_get(self, names[i]);
        if (value == NULL)
            return NULL;
        Py_DECREF(value);
    }
    return Py_NewRef(self->t_extra);
}
