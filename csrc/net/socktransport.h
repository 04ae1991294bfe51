/* socktransport.h - the transport of a connected stream socket: TCP or Unix. What it reads
 * and writes is stream.h's and outbox.h's. */
#ifndef CL_NET_SOCKTRANSPORT_H
#define CL_NET_SOCKTRANSPORT_H

#include "net/transport.h"

/* What is common to all transports in *args (type and ops are set here); sets
 * TCP_NODELAY unless `nodelay_known`, and begins. The descriptor is the
 * transport's from then on; on failure the caller's. */
TransportObject *cl_socket_transport_new(cl_transport_args *args,
                                         bool nodelay_known);

PyTypeObject *cl_socket_transport_setup(PyObject *module, cl_state *st);

#endif
