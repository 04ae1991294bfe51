/* datagram.h - the transport of a datagram socket, UDP or Unix.
 *
 * An event reads several datagrams, but no more than are likely to be there:
 * each empty read costs a system call. sendto() sends at once, or queues the
 * datagram behind those that the socket did not take. */
#ifndef CL_NET_DATAGRAM_H
#define CL_NET_DATAGRAM_H

#include "net/transport.h"

/* Creates and starts a transport. `address` is the peer as the program gave
 * it, or None. `args` is as for cl_socket_transport_new(). Runs Python. */
TransportObject *cl_datagram_new(cl_transport_args *args, PyObject *address);

PyTypeObject *cl_datagram_setup(PyObject *module, cl_state *st);

#endif
