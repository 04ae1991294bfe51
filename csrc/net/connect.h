/* connect.h - the coroutine of loop.create_connection(), for the calls that
 * asyncio would answer without a resolver and without a race: a numeric host
 * and port, or a connected socket, and no TLS; and of what follows the
 * resolver, for all others.
 *
 * It makes the descriptor, connects it and makes the transport, without a
 * socket object. The program's code runs where it does in asyncio: the
 * protocol factory in the task, connection_made() from the loop, before the
 * task goes on. If anything that asyncio would call was replaced (a method of
 * the loop, of sockets or of the socket module), if there are audit hooks, and
 * in debug mode, it hands over to the Python method behind LoopCore. */
#ifndef CL_NET_CONNECT_H
#define CL_NET_CONNECT_H

#include "core/loop.h"

/* Creates a coroutine that has not started, with the method's arguments.
 * Returns NULL without an exception if the Python method must be called. */
PyObject *cl_connect_new(LoopObject *loop, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames);

/* The same for several addresses (net/race.h), which `infos` has, a list in the
 * order in which they are to be tried; `local` is a list for local_addr, or
 * None; `delay` seconds, or None. The result of the coroutine is that of
 * create_connection(), or the connected socket if `factory` is None, or the
 * list of all errors. Returns NULL without an exception if asyncio's methods
 * must be called. Runs Python. */
PyObject *cl_connect_race(LoopObject *loop, PyObject *factory, PyObject *infos,
                          PyObject *local, PyObject *delay);

/* Says which class is cloop.Loop: its methods are those that are bypassed.
 * `have_context`: whether this asyncio copies the context before it calls the
 * protocol factory. Without this call, nothing is bypassed. 0/-1 */
int cl_connect_know_loop(cl_state *st, PyTypeObject *type, bool have_context);

PyTypeObject *cl_connect_setup(PyObject *module, cl_state *st);

#endif
