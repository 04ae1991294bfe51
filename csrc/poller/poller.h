/* poller.h - the seam between the loop and the kernel's readiness interface.
 *
 * A back end is a table of four functions and a name. It knows descriptors,
 * what to tell of each (CL_READ, CL_WRITE) and a generation number that comes
 * back with each event; who waits for what, and whether an event is still
 * wanted, is core/watch.c's business. No Python here.
 *
 * All functions return 0 (wait: the number of events) or -errno. Readiness is
 * level-triggered, unless CL_EDGE is asked for. An error or a hang-up is reported as both CL_READ and
 * CL_WRITE, so that whoever waits finds it out by trying. */
#ifndef CL_POLLER_POLLER_H
#define CL_POLLER_POLLER_H

#include <stdint.h>

#include "base/assert.h"

enum {
    CL_READ = 1,
    CL_WRITE = 2,
    /* Beside the others, for owners that try before they wait: hearing once of
     * each change is enough. Only a back end's favour: it may report again. */
    CL_EDGE = 4,
};

typedef struct {
    int fd;
    uint32_t generation;
    unsigned events;
} cl_event;

/* Events taken from the kernel at once. More than that wait for the next poll,
 * which comes at once and starts with them. */
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
    /* Change the interest in fd from `have` to `want`; 0 means unknown to the
     * kernel and none. -EBADF for a bad descriptor, -EPERM for one that is
     * always ready, such as a regular file. Forgetting (want 0) a descriptor
     * that was closed meanwhile is no error. */
    int (*set)(cl_poller *poller, int fd, uint32_t generation, unsigned have,
               unsigned want);
    /* Wait up to timeout_ns (negative: without limit); without an event less only
     * when a descriptor turns out to be closed. -EINTR when a signal came. The one call that blocks: with a timeout it is made
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
    int fd;     /* descriptor of the kernel's object, -1 if it has none */
    void *impl; /* owned by the back end */
};

/* The back end of that name, or the platform's best for NULL; NULL if unknown. */
const cl_poller_ops *cl_poller_find(const char *name);

/* The name of the n-th back end, best first; NULL after the last. */
const char *cl_poller_name(int n);

int cl_poller_open(cl_poller *poller, const cl_poller_ops *ops);
void cl_poller_close(cl_poller *poller);

#endif
