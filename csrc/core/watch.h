/* watch.h - which descriptors we want to hear about, and which the kernel knows.
 *
 * A cl_watch is embedded in its owner; the table never allocates or frees one.
 * `want` is what the owner asked for, `have` what the poller was told. What a
 * watch starts with and its end are told at once (the one so that a bad
 * descriptor is refused where it is named, the other because the owner may
 * close it next); changes between are told once, before the next poll.
 *
 * The poller may refuse a change (docs/decisions/0014). A watch whose want and
 * have differ is in the list of changes until they agree or the owner was told,
 * and the loop does not sleep past the next attempt:
 *   - out of memory or of watches (-ENOMEM, -ENOSPC) may pass. It is tried again
 *     after 1, 2, 4, ... 128 ms, a quarter of a second in all; then the owner's
 *     refused() hears of it, and attempts go on as long as it wants the same;
 *   - with any other error refused() is called at once, and nothing is tried
 *     again, unless it says that the descriptor is always ready (-EPERM: a device
 *     that cannot be polled);
 *   - an interest that nobody has any more is withdrawn until that succeeds.
 * The list has a place for each watch from its start on: cl_watch_want() cannot
 * fail.
 *
 * A descriptor has one watch at most, which claims it even while it wants
 * nothing. Each watch gets a generation of its own that comes back with its
 * events: an event for a watch that ended, or for a descriptor that was closed
 * and given out again within the batch, finds no match and is dropped here, in
 * one place.
 *
 * ready() puts nodes into the ready ring. It may drop the last reference to
 * something, and so run a destructor that starts or stops any watch: nothing of
 * the table is kept across it. When it fails, the exception leaves the loop; what
 * is left of the batch, and the event itself, are asked for again before the next
 * poll (cl_watch_again), since an edge is not reported twice.
 *
 * A watch inside a Python object names it in w_owner. The table then keeps the
 * object alive while something is wanted, and cl_watch_push() is its ready():
 * the watch itself becomes the ready node, which owns another reference. Whoever
 * looks at the ready queue sees a handle of the object's method _on_ready(). */
#ifndef CL_CORE_WATCH_H
#define CL_CORE_WATCH_H

#include "base/compat.h"
#include "core/state.h"
#include "poller/poller.h"

typedef struct LoopObject LoopObject;
typedef struct cl_watch cl_watch;

typedef struct {
    /* The descriptor is ready for some of what is wanted. 0/-1 */
    int (*ready)(LoopObject *loop, cl_watch *watch, unsigned events);
    /* The turn reached a watch that was pushed with these bits. 0, or -1 for
     * what must leave the loop. Runs Python. NULL if it is never pushed. */
    int (*run)(LoopObject *loop, cl_watch *watch, unsigned bits);
    /* The poller does not take what is wanted: -errno. 0; 1 to be reported ready at
     * each poll instead; or -1. Runs Python. NULL if it never changes. */
    int (*refused)(LoopObject *loop, cl_watch *watch, int err);
    /* The watch was ended, because another took the descriptor over or the loop
     * closes. The owner may be gone after it. */
    void (*evicted)(LoopObject *loop, cl_watch *watch);
    /* Whether the descriptor is its owner's alone, so that add_reader() and a
     * second transport are refused. NULL: it is not. */
    bool (*claims)(const cl_watch *watch);
#ifdef CL_DEBUG
    /* Checks what its owner's module knows of a watch that is in the table. NULL: no
     * more than is known here. */
    void (*check)(LoopObject *loop, const cl_watch *watch);
#endif
} cl_watch_ops;

/* In a table, for builds that check. */
#ifdef CL_DEBUG
#define CL_WATCH_CHECK(function) .check = function,
#else
#define CL_WATCH_CHECK(function)
#endif

struct cl_watch {
    const cl_watch_ops *w_ops;
    PyObject *w_owner; /* borrowed; NULL if the owner is no Python object */
    int w_fd;          /* -1 while not started */
    uint32_t w_generation;
    int w_change; /* its place in the list of changes, -1 if it is not there */
    uint8_t w_want;
    uint8_t w_have;
    uint8_t w_pending; /* bits it was pushed with; a node exists if not 0 */
    uint8_t w_refused; /* how often the last change was */
#ifdef CL_DEBUG
    bool w_known; /* used by cl_loop_check_poller() */
    uint64_t
        w_file; /* inode of the socket that the poller was told of, or 0 */
#endif
};

/* In w_have: the poller must be told again. */
#define CL_STALE 8

typedef struct {
    cl_watch **wt_by_fd; /* NULL where nobody watches */
    int wt_size;
    int wt_count;
    uint32_t wt_generation;
    cl_watch **wt_changes; /* want and have differ; NULL: not any more */
    int wt_change_count;
    int wt_change_capacity; /* at least wt_count */
    int64_t
        wt_retry_ns; /* when to ask again what was refused; 0: nothing was */
    int wt_retries;  /* how often it was asked again */
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
    *watch =
        (cl_watch){.w_ops = ops, .w_owner = owner, .w_fd = -1, .w_change = -1};
}

static inline bool
cl_watch_claims(const cl_watch *watch)
{
    cl_assert(watch->w_ops != NULL);
    return watch->w_ops->claims != NULL && watch->w_ops->claims(watch);
}

#ifdef CL_DEBUG
/* The table, and each watch in it. */
void cl_watch_check(LoopObject *loop);

/* Whether the descriptor may have been closed, or be another file now, behind our back:
 * then the poller has forgotten it. */
bool cl_watch_is_replaced(const cl_watch *watch);
#endif

/* Start watching; `watch` was initialised. Evicts another watch of
 * the descriptor, unless it fails. With `want` 0 the poller is not asked, so any
 * number passes. 0 or -errno (-EBADF, -EPERM). Runs Python. */
int cl_watch_start(LoopObject *loop, cl_watch *watch, int fd, unsigned want);

/* Change what is wanted; told before the next poll. A watch that ended ignores
 * it. The caller holds a reference to the owner. */
void cl_watch_want(LoopObject *loop, cl_watch *watch, unsigned want);

/* Ask the poller at once whether it still knows the descriptor, which may have
 * been closed and given out again behind our back. 0 or -errno. */
int cl_watch_confirm(LoopObject *loop, cl_watch *watch);

/* End watching; the owner may free the watch and close the descriptor. Twice does
 * no harm. The caller holds a reference to the owner. */
void cl_watch_stop(LoopObject *loop, cl_watch *watch);

/* Make the watch a ready node, or add the bits (any but 0) to the node that it
 * is already. 0 or -1 with MemoryError. */
int cl_watch_push(LoopObject *loop, cl_watch *watch, unsigned bits);

/* Runs a watch that was pushed, if it has not been run since: what its owner's
 * method _on_ready() does, which a handle in the node's place calls. 0/-1 */
int cl_watch_run(LoopObject *loop, cl_watch *watch);

/* The nodes that are watches; each keeps the watch's owner alive. */
extern const cl_node_ops cl_watch_node;

/* Tell the poller what changed. 0 or -1 with an exception that refused() raised: the
 * rest stays in the list. Runs Python if something is refused. */
int cl_watch_apply(LoopObject *loop);

/* How long a poll may sleep, in ns, if it were timeout_ns (-1: no limit) without what
 * was refused. */
int64_t cl_watch_timeout(const LoopObject *loop, int64_t timeout_ns);

/* Whether what was refused with -errno may be taken later. */
bool cl_watch_may_pass(int err);

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

/* The event could not be handed over: have it reported again. */
void cl_watch_again(LoopObject *loop, const cl_event *event);

#endif
