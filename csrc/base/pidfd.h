/* pidfd.h - a descriptor that tells the end of a process. */
#ifndef CL_BASE_PIDFD_H
#define CL_BASE_PIDFD_H

#include <errno.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* The descriptor, close-on-exec and ready for reading once the process has ended; or
 * -errno: -ESRCH if there is no such process, -ENOSYS where there is no such thing. */
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
