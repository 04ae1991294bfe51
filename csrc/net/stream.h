/* stream.h - the transport of a connected stream socket: TCP or Unix.
 *
 * Reading: one recv() for each event, of at most CL_READ_MAX bytes, so that one
 * busy peer cannot starve the rest; a BufferedProtocol's buffer is filled in
 * place.
 *
 * Writing: what the socket does not take at once is queued. Transports whose
 * callbacks write several times and end soon hold what a callback writes and send
 * it together (net/gather.h). Whoever acts on the connection has it sent first. */
#ifndef CL_NET_STREAM_H
#define CL_NET_STREAM_H

#include "net/transport.h"

typedef struct {
    TransportObject s_base;
    cl_wqueue s_queue;        /* waits until the socket takes more */
    PyObject *s_empty_waiter; /* owned future of sendfile(), or NULL */
    cl_habit s_habit;
} StreamObject;

/* What is common to all transports in *args (type and ops are set here); sets
 * TCP_NODELAY unless `nodelay_known`, and begins. The descriptor is the
 * transport's from then on; on failure the caller's. */
TransportObject *cl_stream_new(cl_transport_args *args, bool nodelay_known);

/* As write(), for records of TLS: sent at once, and copied where they must wait. 0/-1 */
int cl_stream_send(TransportObject *self, const char *data, size_t size);

/* What tls/ does, when the protocol is its transport: `data` may be read until this
 * returns. 0, or -1 if the transport below is to break. Runs Python. */
int cl_tls_received(PyObject *tls, const char *data, size_t size);

PyTypeObject *cl_stream_setup(PyObject *module, cl_state *st);

#endif
