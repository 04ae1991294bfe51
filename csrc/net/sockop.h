/* sockop.h - one operation on a socket of the caller's: the coroutines that
 * loop.sock_recv() and its like return.
 *
 * A coroutine starts when it is first stepped. It tries its system call at once
 * and waits only if that would block: then it takes its place in the record of
 * the descriptor (core/lent.h), exactly as asyncio's add_reader would, and
 * yields a future. When the descriptor is ready the future gets its result, the
 * task resumes, and only then does the call come again: whoever is cancelled
 * meanwhile has taken no byte and no connection. sock_sendall() alone goes on
 * sending without its task until all is sent.
 *
 * The descriptor is asked of the socket object before each call, so a number
 * that was given out again is never touched. */
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

/* Its name as a method, and how many arguments that has, the socket included. */
const char *cl_sockop_name(cl_sockop_kind kind);
int cl_sockop_nargs(cl_sockop_kind kind);

/* A coroutine that has not started; `args` are those of the method. NULL without
 * an exception if asyncio's own implementation must do it: for anything but
 * plain sockets, plain arguments and numeric addresses. */
PyObject *cl_sockop_new(LoopObject *loop, cl_sockop_kind kind,
                        PyObject *const *args);

PyTypeObject *cl_sockop_setup(PyObject *module, cl_state *st);

#endif
