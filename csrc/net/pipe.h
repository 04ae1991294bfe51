/* pipe.h - the transports of the two ends of a pipe, which may as well be a FIFO, a
 * socket or a character device such as a terminal.
 *
 * They do what asyncio's do, system call for system call. Beyond that, a descriptor
 * that was blocking is so again when it is closed: others may share its file, as a
 * shell does its terminal. A descriptor that has a transport already, as when one
 * terminal is read and written, is used through a duplicate. */
#ifndef CL_NET_PIPE_H
#define CL_NET_PIPE_H

#include "net/transport.h"

/* What is common to all transports in *args (type, ops and pipe are set here), `sock`
 * being the file object, which is the transport's from then on; on failure the
 * caller's. ValueError if it is of another kind. */
TransportObject *cl_pipe_new(cl_transport_args *args, unsigned direction);

PyTypeObject *cl_read_pipe_setup(PyObject *module, cl_state *st);
PyTypeObject *cl_write_pipe_setup(PyObject *module, cl_state *st);

#endif
