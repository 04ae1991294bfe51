/* pidfd.h - a file descriptor for the end of a process. */
#ifndef CL_BASE_PIDFD_H
#define CL_BASE_PIDFD_H

#include <errno.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Returns a close-on-exec descriptor that is readable once the process has
 * ended, or -errno: -ESRCH if there is no such process, -ENOSYS if pidfds are
 * not supported. */
static inline int
cl_pidfd_open(pid_t pid)
{
#ifdef SYS_pidfd_open
    int fd = (int)syscall(SYS_pidfd_open, pid, 0u);
    return fd < 0 ? -errno : fd;
#else
    (void)pid;
    return -ENOSYS;
#endif
}

#endif
