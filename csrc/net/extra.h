/* extra.h - what get_extra_info() knows of a connection, and what the program then has.
 *
 * Addresses are kept as the kernel gave them, and a socket object is made when somebody
 * asks for one. Whoever has that, or a pipe's file object, can use the descriptor without
 * the transport: from then on it holds nothing back (gather.h). */
#ifndef CL_NET_EXTRA_H
#define CL_NET_EXTRA_H

#include "net/transport.h"

/* Asks the kernel for both addresses of a new transport's socket, but for those that
 * args tells. 0/-1 */
int cl_extra_find_addresses(TransportObject *self,
                            const cl_transport_args *args);

/* New reference; NULL without an exception if there is no such information. */
PyObject *cl_extra_get(TransportObject *self, PyObject *name);

/* All of it, the transport's own dictionary. New reference, or NULL with an exception. */
PyObject *cl_extra_all(TransportObject *self);

/* The socket object, borrowed; NULL with an exception. */
PyObject *cl_extra_socket(TransportObject *self);

/* Whether the program can use the descriptor by itself, so that nothing may be held
 * for it. */
bool cl_transport_is_exposed(const TransportObject *self);

/* It can from now on: what was written goes first. Runs Python. 0/-1 */
int cl_transport_expose(TransportObject *self);

#endif
