/* datagram.h - the transport of a datagram socket: UDP or Unix.
 *
 * An event is worth several datagrams, but no more than there probably are: one
 * that finds nothing costs a system call. A datagram is sent when sendto() is
 * called, or waits its turn behind those that the socket did not take. */
#ifndef CL_NET_DATAGRAM_H
#define CL_NET_DATAGRAM_H

#include "net/transport.h"

/* `address` is the peer of a connected endpoint as its maker named it, or None.
 * The rest is as for cl_socket_transport_new(). */
TransportObject *cl_datagram_new(cl_transport_args *args, PyObject *address);

PyTypeObject *cl_datagram_setup(PyObject *module, cl_state *st);

#endif
