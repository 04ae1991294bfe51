/* address.h - socket addresses: conversion between the kernel's and Python's.
 *
 * This handles only what needs no resolver and no thread. Everything unusual
 * or invalid goes to the socket module, so users see its results and its
 * errors. */
#ifndef CL_NET_ADDRESS_H
#define CL_NET_ADDRESS_H

#include "core/state.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* An IPv4 or IPv6 address in the kernel's format. */
typedef union {
    sa_family_t family; /* AF_UNSPEC if there is none */
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} cl_inet_address;

/* Its size. */
static inline socklen_t
cl_inet_size(const cl_inet_address *address)
{
    return address->family == AF_INET ? sizeof(address->in)
                                      : sizeof(address->in6);
}

static inline bool
cl_inet_is_loopback(const cl_inet_address *address)
{
    return address->family == AF_INET
               ? (ntohl(address->in.sin_addr.s_addr) >> 24) == 127
               : IN6_IS_ADDR_LOOPBACK(&address->in6.sin6_addr);
}

/* Returns the address as the socket module makes it: (host, port), a 4-tuple
 * for IPv6, a path, the bytes of an abstract address, or None if `len` is 0.
 * Returns NULL without an exception for other families: then the caller asks
 * the socket object, for example with getsockname(). */
PyObject *cl_address_from_sockaddr(cl_state *st, const struct sockaddr *sa,
                                   socklen_t len);

/* Converts a Python address of AF_INET or AF_INET6 (with a numeric host), or
 * AF_UNIX. Returns 1 if done, 0 without an exception if the socket module must
 * do it, -1 on error. */
int cl_address_to_sockaddr(cl_state *st, int family, PyObject *address,
                           struct sockaddr_storage *sa, socklen_t *len);

/* Returns (host, port). Steals `host`, which may be NULL with an exception
 * set. */
PyObject *cl_address_inet(PyObject *host, unsigned port);

/* Returns the characters of an ASCII str or of bytes, borrowed; NULL without
 * an exception if there is a NUL among them, or for anything else. */
const char *cl_address_ascii(PyObject *text);

/* Reads an int between 0 and `max`; false without an exception for anything
 * else. */
bool cl_address_number(PyObject *object, unsigned long max,
                       unsigned long *number);

#endif
