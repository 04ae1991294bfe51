/* sock.h - direct access to the fields of a socket object.
 *
 * Asking a socket for its descriptor or family takes a method call each, but
 * the numbers are at the start of the object. cl_sock_setup() compares the
 * layout with the methods at import. Only objects of exactly socket.socket are
 * read like this, since a subclass may override the methods. If the layout is
 * not the expected one, the methods are always called. */
#ifndef CL_NET_SOCK_H
#define CL_NET_SOCK_H

#include "net/state.h"

/* The first fields of PySocketSockObject (Modules/socketmodule.h). */
typedef struct {
    PyObject_HEAD
    int sk_fd; /* -1 for good once closed or detached */
    int sk_family;
    int sk_type;
    int sk_proto;
    void *sk_error_handler;
    int64_t sk_timeout; /* ns; 0: non-blocking, negative: blocks for ever */
} cl_sock;

/* Returns the fields of `sock`, or NULL if its methods must be called. */
static inline const cl_sock *
cl_sock_inside(const cl_state *st, PyObject *sock)
{
    return (PyObject *)Py_TYPE(sock) == cl_net_of(st)->socket_type &&
                   cl_net_of(st)->sock_known
               ? (const cl_sock *)sock
               : NULL;
}

int cl_sock_ask_fd(cl_state *st, PyObject *sock);

/* Returns the descriptor of a socket or of anything with fileno(); -1 without
 * an exception if it is closed, -2 with an exception on error. Runs Python. */
static inline int
cl_sock_fd(cl_state *st, PyObject *sock)
{
    const cl_sock *inside = cl_sock_inside(st, sock);
    return inside != NULL ? inside->sk_fd : cl_sock_ask_fd(st, sock);
}

/* Whether socket.socket still has its original methods. A program may replace
 * one, to watch or forbid connections, and expects it to be called. */
static inline bool
cl_sock_is_stock(cl_state *st)
{
    return cl_guard_holds(&cl_net_of(st)->socket_guard);
}

/* Errors of connect() while it is in progress, those of BlockingIOError and
 * InterruptedError. */
bool cl_sock_is_in_progress(int error);

/* Raises OSError(error, message). Steals `message`, which may be NULL with an
 * exception set. */
void cl_sock_raise(int error, PyObject *message);

/* Raises asyncio's OSError for a connection that failed later. Steals
 * `address`, which may be NULL with an exception set. */
void cl_sock_raise_failed(int error, PyObject *address);

/* Returns a new socket object that is closed, without a descriptor for it. NULL
 * without an exception if the layout is not known, or a method is replaced.
 * Runs Python. */
PyObject *cl_sock_new_closed(cl_state *st, int family, int type, int proto);

/* Finds out whether the layout is as above. Needs cl_net_of(st)->socket_type. 0/-1 */
int cl_sock_setup(cl_state *st);

#endif
