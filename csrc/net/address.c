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

#include "net/state.h"

/* ------------------------------------------------------------- from the kernel */

static PyObject *
unix_address(const struct sockaddr_un *un, socklen_t len)
{
    size_t room = 0;
    if (len > offsetof(struct sockaddr_un, sun_path))
        room = len - offsetof(struct sockaddr_un, sun_path);
    if (room > 0 && un->sun_path[0] == '\0') /* abstract */
        return PyBytes_FromStringAndSize(un->sun_path, (Py_ssize_t)room);
    /* A path that fills its field has no NUL. */
    return PyUnicode_DecodeFSDefaultAndSize(
        un->sun_path, (Py_ssize_t)strnlen(un->sun_path, room));
}

/* Steals `host`, which may be NULL with an exception set. */
static PyObject *
inet_address(PyObject *host, unsigned port)
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
        return inet_address(PyUnicode_FromString(text), ntohs(in->sin_port));
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

/* Returns the characters of an ASCII str or of bytes, borrowed; NULL if there
 * is a NUL among them, or for anything else. */
static const char *
ascii_of(PyObject *text)
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

/* Reads an int between 0 and `max`; false for anything else. */
static bool
number_of(PyObject *object, unsigned long max, unsigned long *number)
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
    const char *host = ascii_of(PyTuple_GET_ITEM(address, 0));
    if (host == NULL ||
        !number_of(PyTuple_GET_ITEM(address, 1), 0xffff, &port) ||
        (size > 2 &&
         !number_of(PyTuple_GET_ITEM(address, 2), 0xfffff, &flowinfo)) ||
        (size > 3 &&
         !number_of(PyTuple_GET_ITEM(address, 3), UINT32_MAX, &scope)))
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
        /* A path includes its NUL; an abstract address has none. */
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

/* --------------------------------------------------------------- getaddrinfo */

/* What the C library returns for a given type and protocol. If neither is
 * given, glibc returns all three. Everything else is left to it. */
typedef struct {
    int type;
    int proto;
} kind;

static const kind kinds[] = {
    {SOCK_STREAM, IPPROTO_TCP}, {SOCK_DGRAM, IPPROTO_UDP}, {SOCK_RAW, 0}};

/* Finds the range of `kinds` to return; false if the query is unusual. */
static bool
choose_kinds(int type, int proto, int *first, int *count)
{
    if (type == 0 && proto == 0) {
        *first = 0;
        *count = 3;
#ifdef __GLIBC__
        return true;
#else
        return false;
#endif
    }
    for (int i = 0; i < 2; i++) {
        if ((type == 0 || type == kinds[i].type) &&
            (proto == 0 || proto == kinds[i].proto)) {
            *first = i;
            *count = 1;
            return true;
        }
    }
    return false;
}

static bool
port_of(PyObject *port, unsigned long *number)
{
    const char *text;
    char *end;
    if (port == Py_None) {
        *number = 0;
        return true;
    }
    if (PyLong_CheckExact(port)) /* other types use their str() */
        return number_of(port, 0xffff, number);
    text = ascii_of(port);
    /* strtoul() accepts a sign and white space; getaddrinfo() does not. */
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    *number = strtoul(text, &end, 10);
    return *end == '\0' && *number <= 0xffff;
}

/* Reads a zone as glibc does: an interface name for a link-local address,
 * otherwise a number. */
static bool
zone_of(const char *text, const struct in6_addr *in6, uint32_t *zone)
{
    char *end;
    if ((IN6_IS_ADDR_LINKLOCAL(in6) || IN6_IS_ADDR_MC_LINKLOCAL(in6)) &&
        (*zone = if_nametoindex(text)) != 0)
        return true;
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long number = strtoul(text, &end, 10);
    *zone = (uint32_t)number;
    return *end == '\0' && number <= UINT32_MAX;
}

static bool
inet6_of(const char *host, struct sockaddr_in6 *in6)
{
    char text[INET6_ADDRSTRLEN];
    const char *percent = strchr(host, '%');
    if (percent == NULL)
        return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
    size_t size = (size_t)(percent - host);
    if (size >= sizeof(text))
        return false;
    memcpy(text, host, size);
    text[size] = '\0';
    return inet_pton(AF_INET6, text, &in6->sin6_addr) == 1 &&
           zone_of(percent + 1, &in6->sin6_addr, &in6->sin6_scope_id);
}

/* Returns the Python address of the query, and its family in *family; NULL
 * without an exception if the query is unusual. */
static PyObject *
numeric_address(const cl_address_query *query, int *family)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct in_addr in;
    unsigned long port;
    bool passive = (query->flags & AI_PASSIVE) != 0;
    *family = query->family;
    if (!port_of(query->port, &port))
        return NULL;
    if (query->host == Py_None) {
        /* The order of the two families depends on the routes. */
        if (*family == AF_INET && query->port != Py_None)
            return inet_address(
                PyUnicode_FromString(passive ? "0.0.0.0" : "127.0.0.1"),
                (unsigned)port);
        if (*family != AF_INET6 || query->port == Py_None)
            return NULL;
        in6.sin6_addr = passive ? in6addr_any : in6addr_loopback;
    }
    else {
        const char *host = ascii_of(query->host);
        if (host == NULL)
            return NULL;
        /* inet_pton() accepts only what inet_ntop() would write. */
        if (*family != AF_INET6 && inet_pton(AF_INET, host, &in) == 1) {
            *family = AF_INET;
            return inet_address(PyUnicode_FromString(host), (unsigned)port);
        }
        if (*family == AF_INET || !inet6_of(host, &in6))
            return NULL;
        *family = AF_INET6;
    }
    in6.sin6_port = htons((uint16_t)port);
    return inet6_address(&in6);
}

static PyObject *
info_entry(cl_state *st, int family, const kind *kind, PyObject *address)
{
    PyObject *type =
        kind->type == SOCK_STREAM  ? cl_net_of(st)->socket_SOCK_STREAM
        : kind->type == SOCK_DGRAM ? cl_net_of(st)->socket_SOCK_DGRAM
                                   : cl_net_of(st)->socket_SOCK_RAW;
    PyObject *proto = PyLong_FromLong(kind->proto);
    PyObject *canonical = PyUnicode_FromString("");
    PyObject *entry = PyTuple_New(5);
    if (proto == NULL || canonical == NULL || entry == NULL) {
        Py_XDECREF(proto);
        Py_XDECREF(canonical);
        Py_XDECREF(entry);
        return NULL;
    }
    PyTuple_SET_ITEM(entry, 0,
                     Py_NewRef(family == AF_INET
                                   ? cl_net_of(st)->socket_AF_INET
                                   : cl_net_of(st)->socket_AF_INET6));
    PyTuple_SET_ITEM(entry, 1, Py_NewRef(type));
    PyTuple_SET_ITEM(entry, 2, proto);
    PyTuple_SET_ITEM(entry, 3, canonical);
    PyTuple_SET_ITEM(entry, 4, Py_NewRef(address));
    return entry;
}

PyObject *
cl_address_info(cl_state *st, const cl_address_query *query)
{
    int first, count, family;
    PyObject *address = NULL, *list = NULL;
    if ((query->flags & ~(AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV)) ||
        (query->family != AF_UNSPEC && query->family != AF_INET &&
         query->family != AF_INET6) ||
        !choose_kinds(query->type, query->proto, &first, &count) ||
        (address = numeric_address(query, &family)) == NULL)
        return NULL;
    if ((list = PyList_New(count)) == NULL)
        goto done;
    for (int i = 0; i < count; i++) {
        PyObject *entry = info_entry(st, family, &kinds[first + i], address);
        if (entry == NULL) {
            Py_CLEAR(list);
            goto done;
        }
        PyList_SET_ITEM(list, i, entry);
    }
done:
    Py_DECREF(address);
    return list;
}
