/* watch.h - which descriptors we want to hear about, and which the kernel knows.
 *
 * A cl_watch is embedded in its owner; the table never allocates or frees one.
 * `want` is what the owner asked for, `have` what the poller was told. What a
 * watch starts with and its end are told at once (the one so that a bad
 * descriptor is refused where it is named, the other because the owner may
 * close it next); changes between are told once, before the next poll.
 *
 * A descriptor has one watch at most, which claims it even while it wants
 * nothing. Each watch gets a generation of its own that comes back with its
 * events: an event for a watch that ended, or for a descriptor that was closed
 * and given out again within the batch, finds no match and is dropped here, in
 * one place.
 *
 * ready() puts nodes into the ready ring. It may drop the last reference to
 * something, and so run a destructor that starts or stops any watch: nothing of
 * the table is kept across it.
 *
 * A watch inside a Python object names it in w_owner. The table then keeps the
 * object alive while something is wanted, and cl_watch_push() is its ready():
 * the watch itself becomes the ready node, which owns another reference. */
#ifndef CL_CORE_WATCH_H
#define CL_CORE_WATCH_H

#include "base/compat.h"
#include "poller/poller.h"

typedef struct LoopObject LoopObject;
typedef struct cl_watch cl_watch;

typedef struct {
    /* The descriptor is ready for some of what is wanted. 0/-1 */
    int (*ready)(LoopObject *loop, cl_watch *watch, unsigned events);
    /* The turn reached a watch that was pushed with these bits. 0, or -1 for
     * what must leave the loop. Runs Python. NULL if it is never pushed. */
    int (*run)(LoopObject *loop, cl_watch *watch, unsigned bits);
    /* The watch was ended, because another took the descriptor over or the loop
     * closes. The owner may be gone after it. */
    void (*evicted)(LoopObject *loop, cl_watch *watch);
    /* Whether the descriptor is its owner's alone, so that add_reader() and a
     * second transport are refused. NULL: it is not. */
    bool (*claims)(const cl_watch *watch);
} cl_watch_ops;

struct cl_watch {
    const cl_watch_ops *w_ops;
    PyObject *w_owner; /* borrowed; NULL if the owner is no Python object */
    int w_fd;          /* -1 while not started */
    uint32_t w_generation;
    uint8_t w_want;
    uint8_t w_have;
    bool w_changed;    /* in the list of changes */
    uint8_t w_pending; /* bits it was pushed with; a node exists if not 0 */
};

typedef struct {
    cl_watch **wt_by_fd; /* NULL where nobody watches */
    int wt_size;
    int wt_count;
    uint32_t wt_generation;
    int *wt_changes; /* descriptors whose want and have differ */
    int wt_change_count;
    int wt_change_capacity;
} cl_watch_table;

void cl_watch_table_init(cl_watch_table *table);
void cl_watch_table_free(cl_watch_table *table);

/* The watch of a descriptor, or NULL. */
static inline cl_watch *
cl_watch_find(const cl_watch_table *table, int fd)
{
    return fd >= 0 && fd < table->wt_size ? table->wt_by_fd[fd] : NULL;
}

static inline void
cl_watch_init(cl_watch *watch, const cl_watch_ops *ops, PyObject *owner)
{
    *watch = (cl_watch){.w_ops = ops, .w_owner = owner, .w_fd = -1};
}

static inline bool
cl_watch_claims(const cl_watch *watch)
{
    return watch->w_ops->claims != NULL && watch->w_ops->claims(watch);
}

/* Start watching; `watch` was initialised. Evicts another watch of
 * the descriptor. With `want` 0 the poller is not asked, so any number passes.
 * 0 or -errno (-EBADF, -EPERM). */
int cl_watch_start(LoopObject *loop, cl_watch *watch, int fd, unsigned want);

/* Change what is wanted; told before the next poll. A watch that ended ignores
 * it. 0 or -ENOMEM. The caller holds a reference to the owner. */
int cl_watch_want(LoopObject *loop, cl_watch *watch, unsigned want);

/* Ask the poller at once whether it still knows the descriptor, which may have
 * been closed and given out again behind our back. 0 or -errno. */
int cl_watch_confirm(LoopObject *loop, cl_watch *watch);

/* End watching; the owner may free the watch and close the descriptor. Twice does
 * no harm. The caller holds a reference to the owner. */
void cl_watch_stop(LoopObject *loop, cl_watch *watch);

/* Make the watch a ready node, or add the bits (any but 0) to the node that it
 * is already. 0 or -1 with MemoryError. */
int cl_watch_push(LoopObject *loop, cl_watch *watch, unsigned bits);

/* Tell the poller what changed; what it refuses is reported as ready, so that
 * the owner finds out by trying. 0 or -1 with an exception. */
int cl_watch_apply(LoopObject *loop);

/* End all watches. */
void cl_watch_clear(LoopObject *loop);

/* There is another poller, which knows none: nothing is told to it, and what the old
 * one has reported and nobody has looked at is dropped. */
void cl_watch_forget_poller(LoopObject *loop);

/* Tell such a poller of all watches, a descriptor that is closed excepted. Those that
 * it refuses remain to be told before the next poll. */
void cl_watch_tell_all(LoopObject *loop);

/* The owners that the table keeps. */
int cl_watch_traverse(LoopObject *loop, visitproc visit, void *arg);

/* Hand an event to its watch, if it still has one. 0 or -1. */
int cl_watch_dispatch(LoopObject *loop, const cl_event *event);

#endif
