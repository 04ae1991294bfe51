/* sockop.h - the coroutines of loop.sock_recv() and the other sock_ methods.
 *
 * A coroutine starts when it is first stepped. It tries its system call at
 * once. If that would block, it registers for the descriptor (core/lent.h), as
 * asyncio's add_reader would, and yields a future. When the descriptor is
 * ready the future gets its result and the task resumes; only then is the call
 * repeated. So a cancelled task has consumed no byte and no connection. Only
 * sock_sendall() goes on sending without its task until everything is sent.
 *
 * The descriptor is read from the socket object before each call, so a reused
 * number is never touched. */
#ifndef CL_NET_SOCKOP_H
#define CL_NET_SOCKOP_H

#include "core/state.h"

typedef struct LoopObject LoopObject;

typedef enum {
    CL_SOCK_RECV,
    CL_SOCK_RECV_INTO,
    CL_SOCK_RECVFROM,
    CL_SOCK_RECVFROM_INTO,
    CL_SOCK_SENDALL,
    CL_SOCK_SENDTO,
    CL_SOCK_CONNECT,
    CL_SOCK_ACCEPT,
    CL_SOCK_COUNT,
} cl_sockop_kind;

/* The method's name, and its number of arguments, the socket included. */
const char *cl_sockop_name(cl_sockop_kind kind);
int cl_sockop_nargs(cl_sockop_kind kind);

/* Creates a coroutine that has not started, with the method's arguments.
 * Returns NULL without an exception if asyncio's implementation must be used:
 * only plain sockets, plain arguments and numeric addresses are handled here. */
PyObject *cl_sockop_new(LoopObject *loop, cl_sockop_kind kind,
                        PyObject *const *args);

PyTypeObject *cl_sockop_setup(PyObject *module, cl_state *st);

#endif
