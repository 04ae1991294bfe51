/* kqueue.c - kqueue(2) of macOS and the BSDs.
 *
 * kqueue knows reading and writing of a descriptor apart, as two filters, and
 * reports each by itself; wait() makes one event of both. A descriptor that is
 * closed is forgotten with both, also if its file is open under another number.
 *
 * What was added with EV_CLEAR stays so when it is added again, and macOS and
 * FreeBSD differ in whether that reports an old change again. So for CL_EDGE a
 * filter is removed and added in the same call.
 *
 * The end of input sets EV_EOF on EVFILT_READ, whether or not the peer still
 * reads. Only a socket can be closed half; it is still connected then.
 *
 * A pipe whose other end is closed cannot be watched for writing (EPIPE), but
 * must be reported. EVFILT_USER stands in for it: an event with the number of
 * the descriptor that we trigger ourselves. */
#include "poller/backends.h"

#ifdef CL_HAVE_KQUEUE

#include <errno.h>
#include <fcntl.h>
#include <sys/event.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Longer timeouts are refused. */
#define TIMEOUT_MAX_S 100000000

/* The kernel rounds a timeout down to ticks of its clock, of 42 ns at most. */
#define TICK_NS 42

/* At most: remove and add two filters, and remove the stand-in. */
#define CHANGES_MAX 5

typedef struct {
    struct kevent list[CHANGES_MAX];
    int count;
} changes;

static int
kq_open(cl_poller *poller)
{
    poller->fd = kqueue();
    if (poller->fd < 0)
        return -errno;
    if (fcntl(poller->fd, F_SETFD, FD_CLOEXEC) < 0) {
        int err = -errno;
        close(poller->fd);
        return err;
    }
    poller->impl = (void *)(intptr_t)getpid();
    return 0;
}

/* The child of a fork does not have the queue, and its number may already be
 * another file's. */
static void
kq_close(cl_poller *poller)
{
    cl_assert(poller->fd >= 0);
    if ((pid_t)(intptr_t)poller->impl == getpid())
        close(poller->fd);
}

static void
change(changes *all, int fd, int filter, unsigned flags, unsigned fflags,
       uint32_t generation)
{
    cl_assertf(all->count < CHANGES_MAX, "of %d", fd);
    struct kevent *next = &all->list[all->count++];
    EV_SET(next, (uintptr_t)fd, (short)filter,
           (unsigned short)(flags | EV_RECEIPT), fflags, 0,
           (void *)(uintptr_t)generation);
}

/* Makes the changes. With EV_RECEIPT, each is answered by an event that has
 * its error, and one that fails does not keep the others from being made. What
 * was not there to be removed is no error. */
static int
commit(cl_poller *poller, changes *all)
{
    struct kevent answers[CHANGES_MAX];
    int err = 0;
    int count = kevent(poller->fd, all->list, all->count, answers, all->count,
                       &(struct timespec){0, 0});
    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++) {
        int error = (int)answers[i].data;
        bool removes = (all->list[i].flags & EV_DELETE) != 0;
        if (error != 0 && !(removes && (error == ENOENT || error == EBADF)) &&
            err == 0)
            err = -error;
    }
    return err;
}

static void
change_filter(changes *all, int fd, int filter, uint32_t generation,
              unsigned bit, unsigned have, unsigned want)
{
    bool wanted = (want & bit) != 0;
    if (have != 0 && (!wanted || ((have | want) & CL_EDGE)))
        change(all, fd, filter, EV_DELETE, 0, generation);
    if (wanted)
        change(all, fd, filter, EV_ADD | (want & CL_EDGE ? EV_CLEAR : 0), 0,
               generation);
}

/* Reports fd until it is removed or closed. */
static int
report_always(cl_poller *poller, int fd, uint32_t generation)
{
    changes all = {.count = 0};
    change(&all, fd, EVFILT_READ, EV_DELETE, 0, generation);
    change(&all, fd, EVFILT_USER, EV_ADD, 0, generation);
    change(&all, fd, EVFILT_USER, 0, NOTE_TRIGGER, generation);
    return commit(poller, &all);
}

static int
kq_set(cl_poller *poller, int fd, uint32_t generation, unsigned have,
       unsigned want)
{
    cl_assertf(want < 8, "of %d: %u to %u", fd, have, want);
    cl_assertf((want & (CL_READ | CL_WRITE)) != 0 || want == 0, "of %d: %u",
               fd, want);
    int err = want == 0 ? 0 : cl_poller_check_fd(fd);
    if (err < 0)
        want = 0;
    changes all = {.count = 0};
    if (have != 0)
        change(&all, fd, EVFILT_USER, EV_DELETE, 0, generation);
    change_filter(&all, fd, EVFILT_READ, generation, CL_READ, have, want);
    change_filter(&all, fd, EVFILT_WRITE, generation, CL_WRITE, have, want);
    int status = all.count == 0 ? 0 : commit(poller, &all);
    if (status == -EPIPE)
        status = report_always(poller, fd, generation);
    return err < 0 ? err : status;
}

/* Whether nothing can be sent either, at the end of input. */
static bool
is_hung_up(int fd)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    return getpeername(fd, (struct sockaddr *)&peer, &len) < 0;
}

/* Fills in the event, or returns false if there is none. */
static bool
convert(cl_poller *poller, const struct kevent *raw, cl_event *event)
{
    event->fd = (int)raw->ident;
    event->generation = (uint32_t)(uintptr_t)raw->udata;
    event->events = raw->filter == EVFILT_READ ? CL_READ : CL_WRITE;
    if (raw->flags & EV_ERROR)
        return false;
    if (raw->filter == EVFILT_USER) {
        event->events = CL_READ | CL_WRITE;
        if (fcntl(event->fd, F_GETFD) >= 0)
            return true;
        changes all = {.count = 0};
        change(&all, event->fd, EVFILT_USER, EV_DELETE, 0, 0);
        (void)commit(poller, &all);
        return false;
    }
    if ((raw->flags & EV_EOF) && is_hung_up(event->fd))
        event->events = CL_READ | CL_WRITE;
    return true;
}

/* The places of events by descriptor: a table of twice their number, which is
 * filled only if there are events of both filters. */
#define PLACES (2 * CL_EVENTS_MAX)

/* Makes one event of those that have the same descriptor. Returns how many
 * remain. */
static int
merge(cl_event *events, int count)
{
    int16_t places[PLACES] = {0}; /* index + 1 */
    int kept = 0;
    for (int i = 0; i < count; i++) {
        unsigned at = (unsigned)events[i].fd % PLACES;
        while (places[at] != 0 && events[places[at] - 1].fd != events[i].fd)
            at = (at + 1) % PLACES;
        if (places[at] != 0) {
            events[places[at] - 1].events |= events[i].events;
            continue;
        }
        events[kept++] = events[i];
        places[at] = (int16_t)kept;
    }
    return kept;
}

static int
kq_wait(cl_poller *poller, int64_t timeout_ns, cl_event *events, int max)
{
    struct kevent raw[CL_EVENTS_MAX];
    struct timespec ts = {0, 0};
    cl_assert(poller->fd >= 0 && max > 0);
    if (max > CL_EVENTS_MAX)
        max = CL_EVENTS_MAX;
    if (timeout_ns > 0) {
        int64_t sec = timeout_ns / 1000000000, nsec = timeout_ns % 1000000000;
        nsec += TICK_NS;
        ts.tv_sec = (time_t)(sec < TIMEOUT_MAX_S ? sec + nsec / 1000000000
                                                 : TIMEOUT_MAX_S);
        ts.tv_nsec = (long)(sec < TIMEOUT_MAX_S ? nsec % 1000000000 : 0);
    }
    int found =
        kevent(poller->fd, NULL, 0, raw, max, timeout_ns < 0 ? NULL : &ts);
    if (found < 0)
        return -errno;
    int count = 0;
    unsigned filters = 0;
    for (int i = 0; i < found; i++) {
        if (!convert(poller, &raw[i], &events[count]))
            continue;
        filters |= 1u << (raw[i].filter == EVFILT_READ    ? 0
                          : raw[i].filter == EVFILT_WRITE ? 1
                                                          : 2);
        count++;
    }
    return (filters & (filters - 1)) != 0 ? merge(events, count) : count;
}

const cl_poller_ops cl_poller_kqueue = {
    .name = "kqueue",
    .open = kq_open,
    .close = kq_close,
    .set = kq_set,
    .wait = kq_wait,
    /* There is no `known`: a queue cannot be asked what it holds. */
};

#endif
