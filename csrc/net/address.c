/* address.c - see address.h. */
#include "net/address.h"

#include <arpa/inet.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/platform.h"
#include "net/state.h"

/* ------------------------------------------------------------- from the kernel */

static PyObject *
unix_address(const struct sockaddr_un *un, socklen_t len)
{
    size_t room = 0;
    if (len > offsetof(struct sockaddr_un, sun_path))
        room = len - offsetof(struct sockaddr_un, sun_path);
    if (CL_ABSTRACT_NAMES && room > 0 && un->sun_path[0] == '\0')
        return PyBytes_FromStringAndSize(un->sun_path, (Py_ssize_t)room);
    /* A path that fills its field has no NUL. */
    return PyUnicode_DecodeFSDefaultAndSize(
        un->sun_path, (Py_ssize_t)strnlen(un->sun_path, room));
}

PyObject *
cl_address_inet(PyObject *host, unsigned port)
{
    PyObject *number = host == NULL ? NULL : PyLong_FromLong((long)port);
    PyObject *address = number == NULL ? NULL : PyTuple_New(2);
    if (address == NULL) {
        Py_XDECREF(number);
        Py_XDECREF(host);
        return NULL;
    }
    PyTuple_SET_ITEM(address, 0, host);
    PyTuple_SET_ITEM(address, 1, number);
    return address;
}

static PyObject *
inet6_address(const struct sockaddr_in6 *in6)
{
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text)) == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    /* As in the socket module, only the fourth field has the zone. */
    return Py_BuildValue("(siII)", text, (int)ntohs(in6->sin6_port),
                         (unsigned)ntohl(in6->sin6_flowinfo),
                         (unsigned)in6->sin6_scope_id);
}

PyObject *
cl_address_from_sockaddr(cl_state *Py_UNUSED(st), const struct sockaddr *sa,
                         socklen_t len)
{
    char text[INET_ADDRSTRLEN];
    if (len == 0)
        Py_RETURN_NONE;
    switch (sa->sa_family) {
    case AF_INET: {
        const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
        if (inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text)) == NULL)
            return PyErr_SetFromErrno(PyExc_OSError);
        return cl_address_inet(PyUnicode_FromString(text),
                               ntohs(in->sin_port));
    }
    case AF_INET6:
        return inet6_address((const struct sockaddr_in6 *)sa);
    case AF_UNIX:
        return unix_address((const struct sockaddr_un *)sa, len);
    default:
        return NULL;
    }
}

/* ---------------------------------------------------------------- from Python */

const char *
cl_address_ascii(PyObject *text)
{
    const char *chars;
    Py_ssize_t size;
    if (PyUnicode_CheckExact(text)) {
        if (!PyUnicode_IS_COMPACT_ASCII(text))
            return NULL;
        chars = (const char *)PyUnicode_1BYTE_DATA(text);
        size = PyUnicode_GET_LENGTH(text);
    }
    else if (PyBytes_CheckExact(text)) {
        chars = PyBytes_AS_STRING(text);
        size = PyBytes_GET_SIZE(text);
    }
    else {
        return NULL;
    }
    return strlen(chars) == (size_t)size ? chars : NULL;
}

bool
cl_address_number(PyObject *object, unsigned long max, unsigned long *number)
{
    if (!PyLong_Check(object))
        return false;
    *number = PyLong_AsUnsignedLong(object);
    if (*number == (unsigned long)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return *number <= max;
}

static int
inet_to_sockaddr(int family, PyObject *address, struct sockaddr_storage *sa,
                 socklen_t *len)
{
    unsigned long port, flowinfo = 0, scope = 0;
    Py_ssize_t size = PyTuple_Check(address) ? PyTuple_GET_SIZE(address) : 0;
    if (size < 2 || size > (family == AF_INET ? 2 : 4))
        return 0;
    const char *host = cl_address_ascii(PyTuple_GET_ITEM(address, 0));
    if (host == NULL ||
        !cl_address_number(PyTuple_GET_ITEM(address, 1), 0xffff, &port) ||
        (size > 2 && !cl_address_number(PyTuple_GET_ITEM(address, 2), 0xfffff,
                                        &flowinfo)) ||
        (size > 3 &&
         !cl_address_number(PyTuple_GET_ITEM(address, 3), UINT32_MAX, &scope)))
        return 0;
    if (family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port)};
        memcpy(sa, &in, *len = sizeof(in));
        return inet_pton(AF_INET, host,
                         &((struct sockaddr_in *)sa)->sin_addr) == 1;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                               .sin6_port = htons((uint16_t)port),
                               .sin6_flowinfo = htonl((uint32_t)flowinfo),
                               .sin6_scope_id = (uint32_t)scope};
    memcpy(sa, &in6, *len = sizeof(in6));
    return inet_pton(AF_INET6, host,
                     &((struct sockaddr_in6 *)sa)->sin6_addr) == 1;
}

static int
unix_to_sockaddr(PyObject *address, struct sockaddr_storage *sa,
                 socklen_t *len)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    PyObject *path = NULL;
    if (PyUnicode_CheckExact(address)) {
        if ((path = PyUnicode_EncodeFSDefault(address)) == NULL) {
            PyErr_Clear();
            return 0;
        }
    }
    else if (PyBytes_CheckExact(address)) {
        path = Py_NewRef(address);
    }
    else {
        return 0;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(path);
    bool fits = size < sizeof(un.sun_path);
    if (fits) {
        memcpy(un.sun_path, PyBytes_AS_STRING(path), size);
        /* A path includes its NUL; an abstract name has none. */
        *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size +
                           (un.sun_path[0] != '\0'));
        memcpy(sa, &un, sizeof(un));
    }
    Py_DECREF(path);
    return fits;
}

int
cl_address_to_sockaddr(cl_state *Py_UNUSED(st), int family, PyObject *address,
                       struct sockaddr_storage *sa, socklen_t *len)
{
    if (family == AF_INET || family == AF_INET6)
        return inet_to_sockaddr(family, address, sa, len);
    return family == AF_UNIX ? unix_to_sockaddr(address, sa, len) : 0;
}
