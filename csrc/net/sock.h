/* sock.h - what is inside a Python socket object.
 *
 * Asking a socket for its descriptor or family is a method call each; the
 * numbers are at the start of the object. Where they are was checked against
 * the methods when the module was imported (cl_sock_setup), and only objects of
 * exactly socket.socket are read so: a subclass may say something else, and
 * where the layout is not as we know it, all goes through the methods. */
#ifndef CL_NET_SOCK_H
#define CL_NET_SOCK_H

#include "net/state.h"

/* How PySocketSockObject of Modules/socketmodule.h begins. */
typedef struct {
    PyObject_HEAD
    int s_fd; /* -1 once closed or detached, and then for ever */
    int s_family;
    int s_type;
    int s_proto;
    void *s_error_handler;
    int64_t
        s_timeout; /* in ns; 0 does not block, less than 0 blocks for ever */
} cl_sock;

/* The inside of `sock`, or NULL if it must be asked by its methods. */
static inline const cl_sock *
cl_sock_inside(const cl_state *st, PyObject *sock)
{
    return (PyObject *)Py_TYPE(sock) == cl_net_of(st)->socket_type &&
                   cl_net_of(st)->sock_known
               ? (const cl_sock *)sock
               : NULL;
}

int cl_sock_ask_fd(cl_state *st, PyObject *sock);

/* The descriptor of a socket object or anything with fileno(): -1, without an
 * exception, if it is closed, -2 with one if it cannot be told. May run Python
 * if `sock` is not exactly a socket.socket. */
static inline int
cl_sock_fd(cl_state *st, PyObject *sock)
{
    const cl_sock *inside = cl_sock_inside(st, sock);
    return inside != NULL ? inside->s_fd : cl_sock_ask_fd(st, sock);
}

/* Whether socket.socket still has the methods it had: a program may replace one,
 * to watch or forbid connections, and expects it to be called. */
static inline bool
cl_sock_is_stock(cl_state *st)
{
    return cl_guard_holds(&cl_net_of(st)->socket_guard);
}

/* Finds out whether the layout is as above. Needs cl_net_of(st)->socket_type. 0/-1 */
int cl_sock_setup(cl_state *st);

#endif
