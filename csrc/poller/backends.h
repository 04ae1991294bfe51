/* backends.h - all back ends, and what they share; poller.c orders them. */
#ifndef CL_POLLER_BACKENDS_H
#define CL_POLLER_BACKENDS_H

#include <errno.h>
#include <sys/stat.h>

#include "base/platform.h"
#include "poller/poller.h"

#ifdef CL_HAVE_EPOLL
extern const cl_poller_ops cl_poller_epoll;
#endif
#ifdef CL_HAVE_KQUEUE
extern const cl_poller_ops cl_poller_kqueue;
#endif
extern const cl_poller_ops cl_poller_poll;

/* For back ends whose system does not do it: like epoll, refuses files that
 * are always ready, and closed descriptors. Returns 0 or -errno. */
static inline int
cl_poller_check_fd(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    return S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ? -EPERM : 0;
}

#endif
