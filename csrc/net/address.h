/* address.h - socket addresses: the kernel's, Python's, and numeric names.
 *
 * Only what needs no resolver and no thread is done here. Whatever is unusual,
 * wrong or to be looked up is left to the socket module, so that its errors and
 * its answers are the ones users see. */
#ifndef CL_NET_ADDRESS_H
#define CL_NET_ADDRESS_H

#include "core/state.h"

#include <sys/socket.h>

/* The address as the socket module makes it: (host, port), the four of IPv6, a
 * path or the bytes of an abstract one, None where there is none (len 0). New
 * reference. NULL without an exception for another family: then the caller asks
 * the socket object (getsockname() and the like). */
PyObject *cl_address_from_sockaddr(cl_state *st, const struct sockaddr *sa,
                                   socklen_t len);

/* A Python address of AF_INET, AF_INET6 (both with a numeric host only) or AF_UNIX
 * into *sa and *len: 1 done, 0 ask the socket module (without an exception),
 * -1 error. */
int cl_address_to_sockaddr(cl_state *st, int family, PyObject *address,
                           struct sockaddr_storage *sa, socklen_t *len);

/* The arguments of getaddrinfo(); the objects are borrowed. */
typedef struct {
    PyObject *host;
    PyObject *port;
    int family;
    int type;
    int proto;
    int flags;
} cl_address_query;

/* socket.getaddrinfo()'s list if the host is numeric (or None, of one family), the
 * port too, and nothing is unusual; else NULL without an exception. */
PyObject *cl_address_info(cl_state *st, const cl_address_query *query);

#endif
