/* epoll.c - Linux's epoll, level-triggered.
 *
 * epoll_pwait2 (Linux 5.11) has timeouts in ns. Older kernels, and sandboxes
 * that refuse it, get epoll_wait, with timeouts rounded up to ms so that no
 * timer is early. */
#include "poller/backends.h"

#ifdef CL_HAVE_EPOLL

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The number is the same on every architecture; old headers lack it. */
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

/* impl is REFUSED once epoll_pwait2 was refused, NULL before. */
#define REFUSED ((void *)1)

static int
ep_open(cl_poller *poller)
{
    poller->fd = epoll_create1(EPOLL_CLOEXEC);
    return poller->fd < 0 ? -errno : 0;
}

static void
ep_close(cl_poller *poller)
{
    cl_assert(poller->fd >= 0);
    close(poller->fd);
}

static int
ep_set(cl_poller *poller, int fd, uint32_t generation, unsigned have,
       unsigned want)
{
    cl_assertf(want < 8, "of %d: %u to %u", fd, have, want);
    cl_assertf((want & (CL_READ | CL_WRITE)) != 0 || want == 0, "of %d: %u",
               fd, want);
    cl_assert(poller->fd >= 0);
    struct epoll_event event = {0};
    event.events = (want & CL_READ ? (uint32_t)EPOLLIN : 0) |
                   (want & CL_WRITE ? (uint32_t)EPOLLOUT : 0) |
                   (want & CL_EDGE ? (uint32_t)EPOLLET : 0);
    event.data.u64 = (uint64_t)generation << 32 | (uint32_t)fd;
    if (want == 0) {
        /* EPERM: it was closed, and the number now belongs to a regular file. */
        if (epoll_ctl(poller->fd, EPOLL_CTL_DEL, fd, &event) == 0 ||
            errno == EBADF || errno == ENOENT || errno == EPERM)
            return 0;
        return -errno;
    }
    int op = have ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(poller->fd, op, fd, &event) == 0)
        return 0;
    /* The descriptor was closed and its number reused. The kernel either
     * forgot it with the old file (ENOENT), or still knows it because the file
     * is open under another descriptor (EEXIST). */
    if (op == EPOLL_CTL_MOD && errno == ENOENT)
        op = EPOLL_CTL_ADD;
    else if (op == EPOLL_CTL_ADD && errno == EEXIST)
        op = EPOLL_CTL_MOD;
    else
        return -errno;
    return epoll_ctl(poller->fd, op, fd, &event) == 0 ? 0 : -errno;
}

static int
wait_ms(cl_poller *poller, int64_t timeout_ns, struct epoll_event *raw,
        int max)
{
    int timeout_ms = -1;
    if (timeout_ns >= 0) {
        int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
        timeout_ms = ms < INT_MAX ? (int)ms : INT_MAX;
    }
    return epoll_wait(poller->fd, raw, max, timeout_ms);
}

static int
wait_raw(cl_poller *poller, int64_t timeout_ns, struct epoll_event *raw,
         int max)
{
    if (timeout_ns > 0 && poller->impl != REFUSED) {
        /* The kernel's own layout: 64-bit on every architecture. */
        struct {
            int64_t sec;
            int64_t nsec;
        } ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        int count = (int)syscall(SYS_epoll_pwait2, poller->fd, raw, max, &ts,
                                 NULL, (size_t)0);
        if (count >= 0 || !cl_is_refused(errno))
            return count;
        poller->impl = REFUSED;
    }
    return wait_ms(poller, timeout_ns, raw, max);
}

static int
ep_wait(cl_poller *poller, int64_t timeout_ns, cl_event *events, int max)
{
    struct epoll_event raw[CL_EVENTS_MAX];
    cl_assert(poller->fd >= 0 && max > 0);
    if (max > CL_EVENTS_MAX)
        max = CL_EVENTS_MAX;
    int count = wait_raw(poller, timeout_ns, raw, max);
    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++) {
        uint32_t bits = raw[i].events;
        events[i].fd = (int)(uint32_t)raw[i].data.u64;
        events[i].generation = (uint32_t)(raw[i].data.u64 >> 32);
        events[i].events = (bits & ~(uint32_t)EPOLLOUT ? CL_READ : 0) |
                           (bits & ~(uint32_t)EPOLLIN ? CL_WRITE : 0);
    }
    return count;
}

#ifdef CL_DEBUG
static int
ep_known(cl_poller *poller, cl_poller_visit visit, void *arg)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", poller->fd);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -errno;
    while (fgets(line, sizeof(line), file) != NULL) {
        int fd;
        unsigned events;
        unsigned long long data;
        if (sscanf(line, "tfd: %d events: %x data: %llx", &fd, &events,
                   &data) == 3)
            visit(arg, fd, (uint32_t)(data >> 32),
                  (events & EPOLLIN ? CL_READ : 0) |
                      (events & EPOLLOUT ? CL_WRITE : 0) |
                      (events & EPOLLET ? CL_EDGE : 0));
    }
    fclose(file);
    return 0;
}
#endif

const cl_poller_ops cl_poller_epoll = {
    .name = "epoll",
    .open = ep_open,
    .close = ep_close,
    .set = ep_set,
    .wait = ep_wait,
#ifdef CL_DEBUG
    .known = ep_known,
#endif
};

#endif
