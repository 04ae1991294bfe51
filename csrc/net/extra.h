/* extra.h - what get_extra_info() returns, and whether the program can reach
 * the descriptor.
 *
 * Addresses are kept in the kernel's format, and the socket object is created
 * when somebody asks for it. A program that has that, or a pipe's file object,
 * can use the descriptor without the transport. From then on the transport
 * holds no writes back (gather.h). */
#ifndef CL_NET_EXTRA_H
#define CL_NET_EXTRA_H

#include "net/transport.h"

/* Gets both addresses of a new transport's socket from the kernel, except
 * those in `args`. 0/-1 */
int cl_extra_find_addresses(TransportObject *self,
                            const cl_transport_args *args);

/* Returns a new reference, or NULL without an exception if there is no such
 * name. */
PyObject *cl_extra_get(TransportObject *self, PyObject *name);

/* Returns a new reference to the transport's dictionary, with all names filled
 * in, or NULL with an exception. */
PyObject *cl_extra_all(TransportObject *self);

/* Returns the socket object, borrowed, or NULL with an exception. */
PyObject *cl_extra_socket(TransportObject *self);

/* Whether the program can use the descriptor by itself. Then nothing may be
 * held. */
bool cl_transport_is_exposed(const TransportObject *self);

/* Marks the descriptor as exposed, after sending held bytes. 0/-1 Runs Python. */
int cl_transport_expose(TransportObject *self);

#endif
