/* watch.h - which descriptors we want to hear about, and which the kernel knows.
 *
 * A cl_watch is embedded in its owner; the table never allocates or frees one.
 * `want` is what the owner asked for, `have` what the poller was told. The
 * first interest in a descriptor and the end of the last are told at once (the
 * one so that a bad descriptor is refused where it is named, the other because
 * the owner may close it next); changes between are told once, before the next
 * poll.
 *
 * A descriptor has one watch at most. Each watch gets a generation of its own
 * that comes back with its events: an event for a watch that ended, or for a
 * descriptor that was closed and given out again within the batch, finds no
 * match and is dropped here, in one place.
 *
 * w_ready() puts nodes into the ready ring. It may drop the last reference to
 * something, and so run a destructor that starts or stops any watch: nothing of
 * the table is kept across it. */
#ifndef CL_CORE_WATCH_H
#define CL_CORE_WATCH_H

#include "base/compat.h"
#include "poller/poller.h"

typedef struct LoopObject LoopObject;
typedef struct cl_watch cl_watch;

struct cl_watch {
    int (*w_ready)(LoopObject *loop, cl_watch *watch,
                   unsigned events); /* 0/-1 */
    int w_fd;
    uint32_t w_generation;
    uint8_t w_want;
    uint8_t w_have;
    bool w_changed; /* in the list of changes */
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

/* Start watching; `watch` has its w_ready set. 0 or -errno (-EBADF, -EPERM). */
int cl_watch_start(LoopObject *loop, cl_watch *watch, int fd, unsigned want);

/* Change what is wanted (not 0); told before the next poll. 0 or -ENOMEM. */
int cl_watch_want(LoopObject *loop, cl_watch *watch, unsigned want);

/* Ask the poller at once whether it still knows the descriptor, which may have
 * been closed and given out again behind our back. 0 or -errno. */
int cl_watch_confirm(LoopObject *loop, cl_watch *watch);

/* End watching; the owner may free the watch and close the descriptor. */
void cl_watch_stop(LoopObject *loop, cl_watch *watch);

/* Tell the poller what changed; what it refuses is reported as ready, so that
 * the owner finds out by trying. 0 or -1 with an exception. */
int cl_watch_apply(LoopObject *loop);

/* Hand an event to its watch, if it still has one. 0 or -1. */
int cl_watch_dispatch(LoopObject *loop, const cl_event *event);

#endif
