/* listener.h - accepts connections on a listening socket and makes a transport
 * of each.
 *
 * The socket stays the server's. A turn accepts a bounded number, so that a
 * storm of clients does not starve the connections there are. When the system
 * is out of descriptors or memory, the listener says so once and tries again
 * every ACCEPT_RETRY_DELAY (asyncio.constants) until it gets through. */
#ifndef CL_NET_LISTENER_H
#define CL_NET_LISTENER_H

#include "core/loop.h"
#include "net/gather.h"

/* What LoopCore._listen(sock, protocol_factory, server, accept, context) does:
 * start accepting. With `accept` not None, accept(socket, address, listener) is
 * called for each connection instead of making a transport. 0/-1 */
int cl_listener_start(LoopObject *loop, PyObject *sock, PyObject *factory,
                      PyObject *server, PyObject *accept, PyObject *context);

/* What the connections of that listener have learnt, borrowed; NULL if it is none. */
cl_habits *cl_listener_habits(LoopObject *loop, PyObject *listener);

/* Stops the listener of a descriptor: 1, or 0 if there is none. */
int cl_listener_stop(LoopObject *loop, int fd);

PyTypeObject *cl_listener_setup(PyObject *module, cl_state *st);

#endif
