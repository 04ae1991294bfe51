/* pipe.h - transports for pipe ends, which may also be FIFOs, sockets or
 * character devices such as terminals.
 *
 * They make the same system calls as asyncio's. In addition, a descriptor that
 * was blocking is made blocking again on close, since others may share its
 * file, as a shell shares its terminal. If another transport already uses the
 * descriptor, as when one terminal is read and written, this one uses a
 * duplicate. */
#ifndef CL_NET_PIPE_H
#define CL_NET_PIPE_H

#include "net/transport.h"

/* Creates a transport. `args` holds what is common to all transports (type,
 * ops and pipe are set here); `sock` is the file object, which the transport
 * then owns. On failure the caller still does. Raises ValueError for a file of
 * another kind. Runs Python. */
TransportObject *cl_pipe_new(cl_transport_args *args, unsigned direction);

PyTypeObject *cl_read_pipe_setup(PyObject *module, cl_state *st);
PyTypeObject *cl_write_pipe_setup(PyObject *module, cl_state *st);

#endif
