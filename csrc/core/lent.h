/* lent.h - add_reader and add_writer, and socket operations that wait:
 * descriptors that are lent to the loop.
 *
 * A lent descriptor stays its owner's: we never close it or touch its blocking
 * mode. It has one place for reading and one for writing, and in each at most
 * one handle or one waiter; who comes later takes the place. The record goes
 * when both are empty.
 *
 * But where waiters were, it stays as it is until an event comes that nobody
 * waits for: when another operation on the same socket waits before that, the
 * poller need not be told anything. That it is the same, and so still open since,
 * is known by a weak reference to the socket object and by its descriptor, which
 * is -1 for ever once closed.
 *
 * A descriptor that the poller refuses when it is named raises at once. If it is
 * refused later, a waiter gets the exception; a handle cannot, so the loop's
 * exception handler does and the loop goes on trying, unless the descriptor is
 * unusable: then the handle is called, to find out.
 *
 * Waiters are told once of each change (CL_EDGE). The socket may be closed right
 * after an operation, before the poller is told; if the file lives on under
 * another descriptor, in a forked child say, the kernel keeps an interest that
 * nobody can withdraw, and would report it without end. */
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
     * cl_lent_leave(); if it stays, it has tried until it would block. 0 or -1.
     * Runs Python. */
    int (*ready)(LoopObject *loop, PyObject *waiter);
    /* Another has the place, or the descriptor. 0 or -1. Runs Python. */
    int (*lost)(LoopObject *loop, PyObject *waiter);
    /* The descriptor cannot be watched; the waiter is still in its place. 0 or -1. Runs
     * Python. */
    int (*failed)(LoopObject *loop, PyObject *waiter, PyObject *error);
} cl_waiter_ops;

/* Put `waiter`, who would block, into the place for `direction` of fd, which is
 * that of the socket object `sock`; who is there loses it, a handle is cancelled.
 * The record keeps the waiter alive. 0 or -1. */
int cl_lent_wait(LoopObject *loop, int fd, PyObject *sock, unsigned direction,
                 PyObject *waiter, const cl_waiter_ops *ops);

/* Take the waiter out of its place, if it is there. The caller holds a reference
 * to it. */
void cl_lent_leave(LoopObject *loop, int fd, unsigned direction,
                   PyObject *waiter);

/* Drop the record of fd, and the poller's interest in it, if its places are
 * empty: the descriptor is likely to be closed next. */
void cl_lent_settle(LoopObject *loop, int fd);

/* How many records have empty places. */
int cl_lent_idle(LoopObject *loop);

/* RuntimeError, as asyncio raises it, if a transport owns fd; `file` is what
 * the descriptor was named by, NULL for fd itself. 0 or -1. Runs Python. */
int cl_lent_check_free(LoopObject *loop, PyObject *file, int fd);

int cl_lent_traverse(LoopObject *loop, visitproc visit, void *arg);

#endif
