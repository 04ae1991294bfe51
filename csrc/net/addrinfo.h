/* addrinfo.h - socket.getaddrinfo() for numeric hosts, without a resolver and
 * without a thread.
 *
 * Everything unusual or invalid goes to the socket module, so users see its
 * results and its errors. */
#ifndef CL_NET_ADDRINFO_H
#define CL_NET_ADDRINFO_H

#include "core/state.h"
#include "net/address.h"

/* The arguments of getaddrinfo(). Objects are borrowed. */
typedef struct {
    PyObject *host;
    PyObject *port;
    int family;
    int type;
    int proto;
    int flags;
} cl_addrinfo_query;

/* Returns the list that socket.getaddrinfo() returns, if host and port are
 * numeric (or the host is None, for one family). Otherwise NULL without an
 * exception. */
PyObject *cl_addrinfo(cl_state *st, const cl_addrinfo_query *query);

/* Finds the address and the protocol of a query that has one answer; false if
 * cl_addrinfo() would return NULL or several. */
bool cl_addrinfo_one(const cl_addrinfo_query *query, cl_inet_address *address,
                     int *proto);

#endif
