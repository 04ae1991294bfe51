/* server.h - tells an asyncio.Server of its connections.
 *
 * From 3.13 on, the server keeps them in a WeakSet; before, it counts them. Its
 * methods and those of the set are Python functions, up to five for each
 * connection. For a server and a
 * set of exactly asyncio's classes, with methods of the known text that nobody
 * has replaced, the references go into the set here, and out of it. */
#ifndef CL_NET_SERVER_H
#define CL_NET_SERVER_H

#include "base/compat.h"

#include "core/state.h"

/* server._attach() and server._detach(). 0/-1 Run Python. */
int cl_server_attach(cl_state *st, PyObject *server, PyObject *transport);
int cl_server_detach(cl_state *st, PyObject *server, PyObject *transport);

/* Finds out which server this asyncio has. 0/-1 */
int cl_server_setup(cl_state *st);

#endif
