/* listener.h - accepts connections on a listening socket and makes a transport
 * for each.
 *
 * The server keeps the socket. Each turn accepts a bounded number, so that a
 * burst of clients does not starve the existing connections. When the system
 * runs out of descriptors or memory, the listener reports that once, and
 * retries every ACCEPT_RETRY_DELAY (asyncio.constants) until it succeeds. */
#ifndef CL_NET_LISTENER_H
#define CL_NET_LISTENER_H

#include "core/loop.h"
#include "net/gather.h"

/* LoopCore._listen(sock, protocol_factory, server, accept, context): starts
 * accepting. If `accept` is not None, accept(socket, address, listener) is
 * called for each connection instead of making a transport. 0/-1 */
int cl_listener_start(LoopObject *loop, PyObject *sock, PyObject *factory,
                      PyObject *server, PyObject *accept, PyObject *context);

/* Returns what the connections of the listener have learnt, borrowed; NULL if
 * `listener` is no listener. */
cl_habits *cl_listener_habits(LoopObject *loop, PyObject *listener);

/* Stops the listener of a descriptor. Returns 1, or 0 if there is none. */
int cl_listener_stop(LoopObject *loop, int fd);

PyTypeObject *cl_listener_setup(PyObject *module, cl_state *st);

#endif
