/* lent.h - descriptors that the program lends to the loop: with add_reader and
 * add_writer, and with waiting socket operations.
 *
 * The owner keeps a lent descriptor: the loop never closes it or changes its
 * blocking mode. A record has one place for reading and one for writing, each
 * with at most one handle or waiter; a new one replaces the old. The record is
 * removed when both are empty.
 *
 * But where waiters were, it stays until an event comes that nobody waits for.
 * If another operation on the same socket waits before that, the poller need
 * not be told. A weak reference to the socket object, and its descriptor,
 * which is -1 for good once closed, show that it is the same and still open.
 *
 * If the poller refuses a descriptor at registration, that raises. If it
 * refuses later, a waiter gets the exception. A handle cannot; the loop's
 * exception handler gets it, and the loop keeps trying, unless the descriptor
 * is unusable: then the handle is called, to find out.
 *
 * Waiters get one event per change (CL_EDGE). The socket may be closed right
 * after an operation, before the poller is told. If its file is still open
 * under another descriptor, for example in a forked child, nobody can remove
 * the kernel's interest any more, and it would be reported for ever. */
#ifndef CL_CORE_LENT_H
#define CL_CORE_LENT_H

#include "core/handle.h"
#include "core/watch.h"

/* Watches fd for CL_READ or CL_WRITE. Steals `handle`, also on failure, and
 * cancels the previous one. `file` is what the caller passed as the
 * descriptor. 0/-1 Runs Python. */
int cl_lent_add(LoopObject *loop, int fd, PyObject *file, unsigned direction,
                HandleObject *handle);

/* Stops watching one direction. Returns 1 if it was watched, 0 if not, -1 on
 * error. */
int cl_lent_remove(LoopObject *loop, int fd, unsigned direction);

/* Returns the descriptor under which `file` is watched, although it is closed
 * now; -1 if it is not. */
int cl_lent_find_file(LoopObject *loop, PyObject *file);

/* Gets the handles of add_reader and add_writer, borrowed or NULL. Returns 1,
 * or 0 if the descriptor is not lent. */
int cl_lent_handles(LoopObject *loop, int fd, HandleObject **reader,
                    HandleObject **writer);

/* A waiter: takes a place instead of a handle. */
typedef struct {
    /* The descriptor is ready. The waiter is still in its place, and leaves
     * with cl_lent_leave(). If it stays, it has tried until the call would
     * block. 0/-1 Runs Python. */
    int (*ready)(LoopObject *loop, PyObject *waiter);
    /* Another one has taken the place, or the descriptor. 0/-1 Runs Python. */
    int (*lost)(LoopObject *loop, PyObject *waiter);
    /* The descriptor cannot be watched; the waiter is still in its place. 0/-1
     * Runs Python. */
    int (*failed)(LoopObject *loop, PyObject *waiter, PyObject *error);
} cl_waiter_ops;

/* Puts `waiter` into the place of fd for `direction`; fd belongs to the socket
 * object `sock`. A waiter there loses the place, a handle is cancelled. The
 * record keeps the waiter alive. 0/-1 Runs Python. */
int cl_lent_wait(LoopObject *loop, int fd, PyObject *sock, unsigned direction,
                 PyObject *waiter, const cl_waiter_ops *ops);

/* Takes the waiter out of its place, if it is there. The caller holds a
 * reference. */
void cl_lent_leave(LoopObject *loop, int fd, unsigned direction,
                   PyObject *waiter);

/* Drops fd's record and the poller's interest if its places are empty: the
 * descriptor will probably be closed next. */
void cl_lent_settle(LoopObject *loop, int fd);

/* The number of records with empty places. */
int cl_lent_idle(LoopObject *loop);

/* Raises asyncio's RuntimeError if a transport owns fd. `file` is what the
 * caller passed as the descriptor, NULL for fd itself. 0/-1 Runs Python. */
int cl_lent_check_free(LoopObject *loop, PyObject *file, int fd);

int cl_lent_traverse(LoopObject *loop, visitproc visit, void *arg);

#endif
