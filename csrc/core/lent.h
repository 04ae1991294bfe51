/* lent.h - add_reader and add_writer, and socket operations that wait:
 * descriptors that are lent to the loop.
 *
 * A lent descriptor stays its owner's: we never close it or touch its blocking
 * mode. It has one place for reading and one for writing, and in each at most
 * one handle or one waiter; who comes later takes the place. The record goes
 * when both are empty.
 *
 * But where waiters were, it stays, wanting nothing: when the next operation on
 * the same socket waits within the turn, the poller need not be told anything.
 * That it is the same, and so still open since, is known by a weak reference to
 * the socket object and by its descriptor, which is -1 for ever once closed. */
#ifndef CL_CORE_LENT_H
#define CL_CORE_LENT_H

#include "core/handle.h"
#include "core/watch.h"

/* Watch fd for CL_READ or CL_WRITE; takes over the reference to `handle`, also
 * on failure. A handle that was there is cancelled. `file` is what the caller
 * named the descriptor by. 0 or -1. */
int cl_lent_add(LoopObject *loop, int fd, PyObject *file, unsigned direction,
                HandleObject *handle);

/* Stop watching one direction: 1 if it was watched, 0 if not, -1 on error. */
int cl_lent_remove(LoopObject *loop, int fd, unsigned direction);

/* The descriptor under which `file` is watched, though it is closed by now; -1
 * if it is not. */
int cl_lent_find_file(LoopObject *loop, PyObject *file);

/* What add_reader and add_writer were given: 1 with borrowed handles (NULL where
 * there is none), 0 if the descriptor is not lent to us. */
int cl_lent_handles(LoopObject *loop, int fd, HandleObject **reader,
                    HandleObject **writer);

/* What can wait in a place instead of a handle. */
typedef struct {
    /* The descriptor is ready. The waiter is still in its place, and leaves it by
     * cl_lent_leave(). 0 or -1. Runs Python. */
    int (*ready)(LoopObject *loop, PyObject *waiter);
} cl_waiter_ops;

/* Put `waiter` into the place for `direction` of fd, which is that of the socket
 * object `sock`; who is there loses it, a handle is cancelled. The record keeps
 * the waiter alive. 0 or -1. */
int cl_lent_wait(LoopObject *loop, int fd, PyObject *sock, unsigned direction,
                 PyObject *waiter, const cl_waiter_ops *ops);

/* Take the waiter out of its place, if it is there. The caller holds a reference
 * to it. */
void cl_lent_leave(LoopObject *loop, int fd, unsigned direction,
                   PyObject *waiter);

/* Drop the record of fd if its places are empty, and tell the poller so: the
 * descriptor may be closed next, and if it was duplicated the kernel would go
 * on reporting what cannot be withdrawn any more. */
void cl_lent_settle(LoopObject *loop, int fd);

/* How many records have empty places. */
int cl_lent_idle(LoopObject *loop);

/* RuntimeError, as asyncio raises it, if a transport owns fd; `file` is what
 * the descriptor was named by, NULL for fd itself. 0 or -1. Runs Python. */
int cl_lent_check_free(LoopObject *loop, PyObject *file, int fd);

int cl_lent_traverse(LoopObject *loop, visitproc visit, void *arg);

#endif
