/* poll.c - poll(2), for every Unix.
 *
 * `watched` is what set() was told. wait() passes a copy to the kernel, so
 * another thread may call set() meanwhile (it takes effect at the next wait).
 * The lock covers `watched`, and is not held while waiting.
 *
 * As with epoll, a descriptor that turns out to be closed is not reported. Its
 * entry stays, negated, so that poll(2) skips it until it is set again or
 * removed. */
#include "poller/backends.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "base/mutex.h"

typedef struct {
    struct pollfd *fds;
    uint32_t *generations;
    int count;
    int capacity;
} poll_array;

typedef struct {
    pthread_mutex_t lock;
    poll_array watched;
    int *slot_of; /* descriptor -> index in watched, -1 if absent */
    int slots;
    poll_array waiting; /* the copy; only wait() uses it */
    int first; /* where the next scan starts, so that no descriptor is starved */
} poll_set;

/* poll(2) skips negative descriptors. Applied twice it returns fd. */
static inline int
negated(int fd)
{
    return -1 - fd;
}

#ifdef CL_DEBUG
static int
fd_in(const poll_array *array, int slot)
{
    int fd = array->fds[slot].fd;
    return fd < 0 ? negated(fd) : fd;
}

/* With the lock held: places and descriptors name each other. */
static void
check_set(const poll_set *set)
{
    const poll_array *watched = &set->watched;
    int found = 0;
    cl_assertf(watched->count >= 0 && watched->count <= watched->capacity,
               "%d of %d", watched->count, watched->capacity);
    for (int slot = 0; slot < watched->count; slot++) {
        int fd = fd_in(watched, slot);
        cl_assertf(fd < set->slots && set->slot_of[fd] == slot,
                   "descriptor %d is in place %d", fd, slot);
        cl_assertf((watched->fds[slot].events & ~(POLLIN | POLLOUT)) == 0,
                   "descriptor %d", fd);
    }
    for (int fd = 0; fd < set->slots; fd++)
        found += set->slot_of[fd] >= 0;
    cl_assertf(found == watched->count, "%d places for %d", watched->count,
               found);
}
#endif

static bool
widen(void **array, size_t size, int count)
{
    void *fresh = cl_realloc(*array, size * (size_t)count);
    if (fresh != NULL)
        *array = fresh;
    return fresh != NULL;
}

static int
reserve(poll_array *array, int count)
{
    if (count <= array->capacity)
        return 0;
    int capacity = array->capacity ? array->capacity : CL_TINY(1, 16);
    while (capacity < count)
        capacity *= 2;
    if (!widen((void **)&array->fds, sizeof(*array->fds), capacity) ||
        !widen((void **)&array->generations, sizeof(*array->generations),
               capacity))
        return -ENOMEM;
    array->capacity = capacity;
    return 0;
}

static int
reserve_slot(poll_set *set, int fd)
{
    int slots = set->slots ? set->slots : CL_TINY(1, 64);
    if (fd < set->slots)
        return 0;
    while (slots <= fd)
        slots *= 2;
    if (!widen((void **)&set->slot_of, sizeof(*set->slot_of), slots))
        return -ENOMEM;
    for (int i = set->slots; i < slots; i++)
        set->slot_of[i] = -1;
    set->slots = slots;
    return 0;
}

static int
po_open(cl_poller *poller)
{
    poll_set *set = cl_calloc(1, sizeof(*set));
    if (set == NULL)
        return -ENOMEM;
    int err = cl_mutex_init(&set->lock);
    if (err != 0) {
        cl_free(set);
        return -err;
    }
    poller->impl = set;
    return 0;
}

static void
po_close(cl_poller *poller)
{
    poll_set *set = poller->impl;
    pthread_mutex_destroy(&set->lock);
    cl_free(set->watched.fds);
    cl_free(set->watched.generations);
    cl_free(set->waiting.fds);
    cl_free(set->waiting.generations);
    cl_free(set->slot_of);
    cl_free(set);
}

static void
forget(poll_set *set, int fd)
{
    if (fd < 0 || fd >= set->slots || set->slot_of[fd] < 0)
        return;
    poll_array *watched = &set->watched;
    int slot = set->slot_of[fd], last = --watched->count;
    cl_assertf(slot <= last, "place %d of %d", slot, last + 1);
    set->slot_of[fd] = -1;
    if (slot != last) {
        watched->fds[slot] = watched->fds[last];
        watched->generations[slot] = watched->generations[last];
        int moved = watched->fds[slot].fd;
        set->slot_of[moved < 0 ? negated(moved) : moved] = slot;
    }
}

static int
watch(poll_set *set, int fd, uint32_t generation, unsigned want)
{
    poll_array *watched = &set->watched;
    int err = cl_poller_check_fd(fd);
    /* The file that was watched is gone. poll(2) would watch whatever has the
     * number now, and a regular file is always ready. */
    if (err < 0)
        forget(set, fd);
    if (err == 0)
        err = reserve_slot(set, fd);
    if (err == 0 && set->slot_of[fd] < 0)
        err = reserve(watched, watched->count + 1);
    if (err < 0)
        return err;
    int slot = set->slot_of[fd];
    if (slot < 0)
        slot = set->slot_of[fd] = watched->count++;
    watched->fds[slot].fd = fd;
    watched->fds[slot].revents = 0;
    watched->fds[slot].events = (short)((want & CL_READ ? POLLIN : 0) |
                                        (want & CL_WRITE ? POLLOUT : 0));
    watched->generations[slot] = generation;
    return 0;
}

static int
po_set(cl_poller *poller, int fd, uint32_t generation, unsigned have,
       unsigned want)
{
    poll_set *set = poller->impl;
    int err = 0;
    (void)have;
    cl_assertf(want < 8, "of %d: %u to %u", fd, have, want);
    cl_assertf((want & (CL_READ | CL_WRITE)) != 0 || want == 0, "of %d: %u",
               fd, want);
    cl_mutex_lock(&set->lock);
    if (want == 0)
        forget(set, fd);
    else
        err = watch(set, fd, generation, want);
    cl_check_stress(check_set(set));
    cl_mutex_unlock(&set->lock);
    return err;
}

static int
copy_watched(poll_set *set)
{
    poll_array *from = &set->watched, *to = &set->waiting;
    cl_mutex_lock(&set->lock);
    cl_check_stress(check_set(set));
    int err = reserve(to, from->count);
    if (err == 0) {
        to->count = from->count;
        if (from->count > 0) {
            memcpy(to->fds, from->fds, (size_t)from->count * sizeof(*to->fds));
            memcpy(to->generations, from->generations,
                   (size_t)from->count * sizeof(*to->generations));
        }
    }
    cl_mutex_unlock(&set->lock);
    return err;
}

static void
skip_closed(poll_set *set, int fd, uint32_t generation)
{
    cl_mutex_lock(&set->lock);
    int slot = set->slot_of[fd]; /* it was watched, and no table shrinks */
    if (slot >= 0 && set->watched.generations[slot] == generation)
        set->watched.fds[slot].fd = negated(fd);
    cl_mutex_unlock(&set->lock);
}

static int
po_wait(cl_poller *poller, int64_t timeout_ns, cl_event *events, int max)
{
    poll_set *set = poller->impl;
    poll_array *waiting = &set->waiting;
    cl_assert(max > 0);
    int err = copy_watched(set);
    if (err < 0)
        return err;
    int ready = cl_poll(waiting->fds, waiting->count, timeout_ns);
    if (ready < 0)
        return -errno;
    int count = 0, start = waiting->count ? set->first % waiting->count : 0;
    for (int n = 0; n < waiting->count && ready > 0 && count < max; n++) {
        int at = (start + n) % waiting->count;
        const struct pollfd *entry = &waiting->fds[at];
        if (entry->revents == 0)
            continue;
        ready--;
        set->first = at + 1;
        if (entry->revents & POLLNVAL) {
            skip_closed(set, entry->fd, waiting->generations[at]);
            continue;
        }
        events[count].fd = entry->fd;
        events[count].generation = waiting->generations[at];
        events[count].events = (entry->revents & ~POLLOUT ? CL_READ : 0) |
                               (entry->revents & ~POLLIN ? CL_WRITE : 0);
        count++;
    }
    return count;
}

#ifdef CL_DEBUG
static int
po_known(cl_poller *poller, cl_poller_visit visit, void *arg)
{
    poll_set *set = poller->impl;
    cl_mutex_lock(&set->lock);
    check_set(set);
    for (int slot = 0; slot < set->watched.count; slot++) {
        const struct pollfd *entry = &set->watched.fds[slot];
        if (entry->fd >= 0)
            visit(arg, entry->fd, set->watched.generations[slot],
                  (entry->events & POLLIN ? CL_READ : 0) |
                      (entry->events & POLLOUT ? CL_WRITE : 0));
    }
    cl_mutex_unlock(&set->lock);
    return 0;
}
#endif

const cl_poller_ops cl_poller_poll = {
    .name = "poll",
    .open = po_open,
    .close = po_close,
    .set = po_set,
    .wait = po_wait,
#ifdef CL_DEBUG
    .known = po_known,
#endif
};
