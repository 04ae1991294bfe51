/* addrinfo.c - see addrinfo.h. */
#include "net/addrinfo.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "net/address.h"
#include "net/state.h"

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
        return CL_ADDRINFO_HAS_RAW;
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
        return cl_address_number(port, 0xffff, number);
    text = cl_address_ascii(port);
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

/* Finds the address; false if the query is unusual. */
static bool
numeric_address(const cl_addrinfo_query *query, cl_inet_address *address)
{
    unsigned long port;
    int family = query->family;
    bool passive = (query->flags & AI_PASSIVE) != 0;
    memset(address, 0, sizeof(*address));
    if (!port_of(query->port, &port))
        return false;
    if (query->host == Py_None) {
        /* The order of the two families depends on the routes. */
        if (family == AF_UNSPEC || query->port == Py_None)
            return false;
        if (family == AF_INET)
            address->in.sin_addr.s_addr =
                htonl(passive ? INADDR_ANY : INADDR_LOOPBACK);
        else
            address->in6.sin6_addr = passive ? in6addr_any : in6addr_loopback;
    }
    else {
        const char *host = cl_address_ascii(query->host);
        if (host == NULL)
            return false;
        /* inet_pton() accepts only what inet_ntop() would write. */
        if (family != AF_INET6 &&
            inet_pton(AF_INET, host, &address->in.sin_addr) == 1)
            family = AF_INET;
        else if (family != AF_INET && inet6_of(host, &address->in6))
            family = AF_INET6;
        else
            return false;
    }
    address->family = (sa_family_t)family;
    if (family == AF_INET)
        address->in.sin_port = htons((uint16_t)port);
    else
        address->in6.sin6_port = htons((uint16_t)port);
    return true;
}

/* Finds the address and the range of `kinds`; false if the query is unusual. */
static bool
answer(const cl_addrinfo_query *query, cl_inet_address *address, int *first,
       int *count)
{
    return !(query->flags & ~(AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV)) &&
           (query->family == AF_UNSPEC || query->family == AF_INET ||
            query->family == AF_INET6) &&
           choose_kinds(query->type, query->proto, first, count) &&
           numeric_address(query, address);
}

bool
cl_addrinfo_one(const cl_addrinfo_query *query, cl_inet_address *address,
                int *proto)
{
    int first, count;
    if (!answer(query, address, &first, &count) || count != 1)
        return false;
    *proto = kinds[first].proto;
    return true;
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
cl_addrinfo(cl_state *st, const cl_addrinfo_query *query)
{
    int first, count;
    cl_inet_address found;
    if (!answer(query, &found, &first, &count))
        return NULL;
    PyObject *address =
        found.family == AF_INET && query->host != Py_None
            ? cl_address_inet(
                  PyUnicode_FromString(cl_address_ascii(query->host)),
                  ntohs(found.in.sin_port))
            : cl_address_from_sockaddr(st, (const struct sockaddr *)&found,
                                       found.family == AF_INET
                                           ? sizeof(found.in)
                                           : sizeof(found.in6));
    PyObject *list = address == NULL ? NULL : PyList_New(count);
    for (int i = 0; list != NULL && i < count; i++) {
        PyObject *entry =
            info_entry(st, found.family, &kinds[first + i], address);
        if (entry == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, entry);
    }
    Py_XDECREF(address);
    return list;
}
