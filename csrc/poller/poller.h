/* poller.h - the interface between the loop and the kernel's readiness
 * notification.
 *
 * A back end is a name and four functions. For each descriptor it knows the
 * interest (CL_READ, CL_WRITE) and a generation number that is returned with
 * each event. Who waits, and whether an event is stale, is up to core/watch.c.
 * No Python here.
 *
 * All functions return 0 (wait: the number of events) or -errno. Readiness is
 * level-triggered unless CL_EDGE is set. An error or a hang-up is reported as
 * both CL_READ and CL_WRITE, so that the waiter finds it by trying. */
#ifndef CL_POLLER_POLLER_H
#define CL_POLLER_POLLER_H

#include <stdint.h>

#include "base/assert.h"

enum {
    CL_READ = 1,
    CL_WRITE = 2,
    /* With the others, for owners that try before they wait: one report per
     * change is enough. A hint only; the back end may report again. */
    CL_EDGE = 4,
};

typedef struct {
    int fd;
    uint32_t generation;
    unsigned events;
} cl_event;

/* Events per wait. If there are more, the next poll follows at once and starts
 * with them. */
#define CL_EVENTS_MAX CL_TINY(1, 256)

typedef struct cl_poller cl_poller;

#ifdef CL_DEBUG
typedef void (*cl_poller_visit)(void *arg, int fd, uint32_t generation,
                                unsigned interest);
#endif

typedef struct {
    const char *name;
    int (*open)(cl_poller *poller);
    void (*close)(cl_poller *poller);
    /* Changes the interest in fd from `have` to `want`; 0 means none, and that
     * the kernel does not know fd. Returns -EBADF for a bad descriptor, -EPERM
     * for one that is always ready, such as a regular file. Removing (want 0)
     * a closed descriptor is no error. */
    int (*set)(cl_poller *poller, int fd, uint32_t generation, unsigned have,
               unsigned want);
    /* Waits up to timeout_ns (negative: for ever). It returns early without
     * events only if a descriptor turns out to be closed, and with -EINTR on a
     * signal. This is the only call that blocks; with a timeout, call it
     * without the GIL. */
    int (*wait)(cl_poller *poller, int64_t timeout_ns, cl_event *events,
                int max);
#ifdef CL_DEBUG
    /* Calls `visit` for all that the kernel has been told and still knows. 0, or
     * -errno if that cannot be found out. */
    int (*known)(cl_poller *poller, cl_poller_visit visit, void *arg);
#endif
} cl_poller_ops;

struct cl_poller {
    const cl_poller_ops *ops;
    int fd;     /* the kernel object's descriptor, -1 if none */
    void *impl; /* owned by the back end */
};

/* Returns the back end with that name, or the best one if `name` is NULL; NULL
 * if unknown. */
const cl_poller_ops *cl_poller_find(const char *name);

/* The name of the n-th back end, best first; NULL after the last. */
const char *cl_poller_name(int n);

int cl_poller_open(cl_poller *poller, const cl_poller_ops *ops);

/* Opens the best one that the system does not refuse, as Python's selectors
 * module does. */
int cl_poller_open_best(cl_poller *poller);

void cl_poller_close(cl_poller *poller);

#endif
