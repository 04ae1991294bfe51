/* watch.h - which descriptors are watched, and what the kernel knows of them.
 *
 * A cl_watch is embedded in its owner; the table never allocates or frees one.
 * `want` is what the owner asked for, `have` what the poller was told. The
 * poller is told at once when a watch starts (so that a bad descriptor is
 * refused there) and when it ends (since the owner may close it next); changes
 * in between are told once, before the next poll. Pausing and resuming costs no
 * system call: where w_ops->keeps_reading, the poller is told that reading is
 * no longer wanted when it next reports that the descriptor is readable.
 *
 * The poller may refuse a change (docs/decisions/0014). A watch whose want and
 * have differ stays in the list of changes until they agree or the owner was
 * told, and the loop does not sleep past the next attempt:
 *
 *   - out of memory or watches (-ENOMEM, -ENOSPC): retried after 1, 2, 4, ... 128 ms,
 *     a quarter of a second in all; then refused() is called, and attempts continue
 *     as long as the owner wants the same;
 *   - any other error: refused() is called at once, and there are no retries, unless
 *     it says that the descriptor is always ready (-EPERM: a device that cannot be
 *     polled);
 *   - an interest without a watch is removed until that succeeds.
 *
 * The list has a place for each watch from its start, so cl_watch_want()
 * cannot fail.
 *
 * A descriptor has at most one watch, which claims it even while it wants
 * nothing. Each watch gets its own generation, which comes back with its
 * events. An event for a watch that ended, or for a descriptor that was closed
 * and reused within the batch, does not match and is dropped, in this one
 * place.
 *
 * ready() pushes nodes to the ready ring. It may drop a last reference, and so
 * run a destructor that starts or stops any watch: nothing of the table is
 * kept across it. If it fails, the exception leaves the loop. The rest of the
 * batch, and the event itself, are requested again before the next poll
 * (cl_watch_again), since an edge is not reported twice.
 *
 * A watch inside a Python object sets w_owner. The table then keeps the object
 * alive while something is wanted, and its ready() is cl_watch_push(): the
 * watch itself becomes the ready node, which owns another reference. In the
 * ready queue it looks like a handle for the object's method _on_ready(). */
#ifndef CL_CORE_WATCH_H
#define CL_CORE_WATCH_H

#include "base/compat.h"
#include "core/state.h"
#include "poller/poller.h"

typedef struct LoopObject LoopObject;
typedef struct cl_watch cl_watch;

typedef struct {
    /* The descriptor is ready for something that is wanted. 0/-1 */
    int (*ready)(LoopObject *loop, cl_watch *watch, unsigned events);
    /* Runs a watch that was pushed with these bits. Returns -1 only for
     * exceptions that must leave the loop. NULL if it is never pushed. Runs
     * Python. */
    int (*run)(LoopObject *loop, cl_watch *watch, unsigned bits);
    /* The poller refused the interest with `err` (-errno). Returns 0; 1 to be
     * reported ready at each poll instead; or -1. NULL if the interest never
     * changes. Runs Python. */
    int (*refused)(LoopObject *loop, cl_watch *watch, int err);
    /* The watch was ended because another took over the descriptor, or the
     * loop closes. The owner may be freed after this. */
    void (*evicted)(LoopObject *loop, cl_watch *watch);
    /* The owner alone closes the descriptor, and ends the watch first. */
    bool keeps_reading;
    /* Whether the owner claims the descriptor, so that add_reader() and a
     * second transport are refused. NULL: it does not. */
    bool (*claims)(const cl_watch *watch);
#ifdef CL_DEBUG
    /* Checks a watch that is in the table, in its owner's module. May be NULL. */
    void (*check)(LoopObject *loop, const cl_watch *watch);
#endif
} cl_watch_ops;

/* For the tables, in builds with checks. */
#ifdef CL_DEBUG
#define CL_WATCH_CHECK(function) .check = function,
#else
#define CL_WATCH_CHECK(function)
#endif

struct cl_watch {
    const cl_watch_ops *w_ops;
    PyObject *w_owner; /* borrowed; NULL if the owner is not a Python object */
    int w_fd;          /* -1 while not started */
    uint32_t w_generation;
    int w_change; /* index in the list of changes, -1 if not there */
    uint8_t w_want;
    uint8_t w_have;
    uint8_t w_pending; /* bits it was pushed with; 0 if there is no node */
    uint8_t w_refused; /* how often the last change was refused */
#ifdef CL_DEBUG
    bool w_known;    /* used by cl_loop_check_poller() */
    uint64_t w_file; /* inode of the socket the poller was told of, or 0 */
#endif
};

/* In w_have: tell the poller again. */
#define CL_STALE 8

typedef struct {
    cl_watch **wt_by_fd; /* NULL where there is no watch */
    int wt_size;
    int wt_count;
    uint32_t wt_generation;
    cl_watch **wt_changes; /* want and have differ; NULL: removed */
    int wt_change_count;
    int wt_change_capacity; /* at least wt_count */
    int64_t wt_retry_ns;    /* time of the next retry; 0: none */
    int wt_retries;         /* number of retries */
    bool wt_reported;       /* one of the changes may be a cl_watch_report() */
} cl_watch_table;

void cl_watch_table_init(cl_watch_table *table);
void cl_watch_table_free(cl_watch_table *table);

/* Returns the watch of a descriptor, or NULL. */
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
/* Checks the table and each watch in it. */
void cl_watch_check(LoopObject *loop);

/* Whether the descriptor may have been closed, or refer to another file now,
 * so that the poller has forgotten it. */
bool cl_watch_is_replaced(const cl_watch *watch);
#endif

/* Starts watching; `watch` was initialised. Evicts another watch of the
 * descriptor, unless starting fails. If `want` is 0 the poller is not told,
 * and any number is accepted. Returns 0 or -errno (-EBADF, -EPERM). Runs
 * Python. */
int cl_watch_start(LoopObject *loop, cl_watch *watch, int fd, unsigned want);

/* Changes what is wanted, from the next poll on. Ignored if the watch has
 * ended. The caller holds a reference to the owner. */
void cl_watch_want(LoopObject *loop, cl_watch *watch, unsigned want);

/* The watch wants CL_WRITE. Calls ready() with that after the next poll, which
 * does not sleep, and after what that poll has found; the poller is not asked,
 * unless it has to forget what was wanted of the same number before. Nothing is
 * called if the watch ends first, or wants something else. */
void cl_watch_report(LoopObject *loop, cl_watch *watch);

/* Calls ready() for all of these. 0/-1 */
int cl_watch_tell_reported(LoopObject *loop);

/* Asks the poller at once whether it still knows the descriptor, which may
 * have been closed and reused. Returns 0 or -errno. */
int cl_watch_confirm(LoopObject *loop, cl_watch *watch);

/* Ends the watch; the owner may then free it and close the descriptor. May be
 * called twice. The caller holds a reference to the owner. */
void cl_watch_stop(LoopObject *loop, cl_watch *watch);

/* Makes the watch a ready node, or adds bits (not 0) to its node. 0, or -1
 * with MemoryError. */
int cl_watch_push(LoopObject *loop, cl_watch *watch, unsigned bits);

/* Runs a watch that was pushed, unless it was run since: the owner's method
 * _on_ready(), which the handle that replaces the node calls. 0/-1 Runs
 * Python. */
int cl_watch_run(LoopObject *loop, cl_watch *watch);

/* Nodes that are watches; each keeps the watch's owner alive. */
extern const cl_node_ops cl_watch_node;

/* Tells the poller what changed. 0, or -1 with an exception that refused()
 * raised; the rest stays in the list. Runs Python. */
int cl_watch_apply(LoopObject *loop);

/* Returns how long a poll may sleep, in ns: at most timeout_ns (-1: no limit),
 * and not past the next retry. */
int64_t cl_watch_timeout(const LoopObject *loop, int64_t timeout_ns);

/* Whether the error (-errno) may be temporary. */
bool cl_watch_may_pass(int err);

/* Ends all watches. Runs Python. */
void cl_watch_clear(LoopObject *loop);

/* The poller was replaced by one that knows nothing: nothing is told to it,
 * and unhandled reports of the old one are dropped. */
void cl_watch_forget_poller(LoopObject *loop);

/* Tells such a poller of all watches, except for closed descriptors. What it
 * refuses is told again before the next poll. */
void cl_watch_tell_all(LoopObject *loop);

/* Visits the owners that the table keeps alive. */
int cl_watch_traverse(LoopObject *loop, visitproc visit, void *arg);

/* Passes an event to its watch, if there still is one. 0/-1 */
int cl_watch_dispatch(LoopObject *loop, const cl_event *event);

/* Requests an event again that could not be passed on. */
void cl_watch_again(LoopObject *loop, const cl_event *event);

#endif
