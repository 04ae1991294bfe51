/* socktransport.h - the transport of a connected stream socket, TCP or Unix.
 * It reads with stream.h and writes with outbox.h. */
#ifndef CL_NET_SOCKTRANSPORT_H
#define CL_NET_SOCKTRANSPORT_H

#include "net/transport.h"

/* Creates and starts a transport. `args` holds what is common to all
 * transports (type and ops are set here). Sets TCP_NODELAY unless
 * `nodelay_known`. The transport owns the descriptor; on failure the caller
 * still does. Runs Python. */
TransportObject *cl_socket_transport_new(cl_transport_args *args,
                                         bool nodelay_known);

PyTypeObject *cl_socket_transport_setup(PyObject *module, cl_state *st);

#endif
