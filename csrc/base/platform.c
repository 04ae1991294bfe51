/* platform.c - see platform.h. */
#include "base/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#ifdef CL_HAVE_SENDFILE
#include <sys/sendfile.h>
#endif
#ifdef CL_HAVE_PIDFD
#include <sys/syscall.h>
#endif
#ifdef CL_HAVE_KQUEUE
#include <signal.h>
#include <sys/event.h>
#endif

/* ---------------------------------------------------------------- descriptors */

#ifndef CL_HAVE_ACCEPT4
/* Closes what cannot be prepared, and keeps errno. */
static int
prepared(int fd)
{
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    if (flags >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
        fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0)
        return fd;
    if (fd >= 0) {
        int error = errno;
        close(fd);
        errno = error;
    }
    return -1;
}

static int
both_prepared(int fds[2])
{
    int first = prepared(fds[0]), second = prepared(fds[1]);
    if (first >= 0 && second >= 0)
        return 0;
    int error = errno;
    if (first >= 0)
        close(first);
    if (second >= 0)
        close(second);
    fds[0] = fds[1] = -1;
    errno = error;
    return -1;
}

int
cl_accept(int fd, struct sockaddr *peer, socklen_t *len)
{
    int accepted = prepared(accept(fd, peer, len));
    if (accepted >= 0)
        cl_no_sigpipe(accepted);
    return accepted;
}

int
cl_socket(int family, int type, int proto)
{
    int fd = prepared(socket(family, type, proto));
    if (fd >= 0)
        cl_no_sigpipe(fd);
    return fd;
}

int
cl_socketpair(int family, int type, int fds[2])
{
    return socketpair(family, type, 0, fds) < 0 ? -1 : both_prepared(fds);
}

int
cl_pipe(int fds[2])
{
    return pipe(fds) < 0 ? -1 : both_prepared(fds);
}
#endif

/* -------------------------------------------------------------------- sockets */

int
cl_socket_kind(int fd, int *family, int *type, int *proto)
{
    socklen_t len = sizeof(int);
#ifdef CL_HAVE_KIND
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, family, &len) < 0)
        return -errno;
#else
    struct sockaddr_storage name;
    socklen_t size = sizeof(name);
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0)
        return -errno;
    *family = name.ss_family;
#endif
    len = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, type, &len) < 0)
        return -errno;
#ifdef CL_HAVE_KIND
    len = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, proto, &len) < 0)
        return -errno;
#else
    *proto = 0;
#endif
    return 0;
}

void
cl_ask_for_writers(int fd)
{
#ifdef CL_HAVE_CREDENTIALS
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
#else
    (void)fd;
#endif
}

bool
cl_is_written_here(struct msghdr *message)
{
#ifdef CL_HAVE_CREDENTIALS
    const struct cmsghdr *part = CMSG_FIRSTHDR(message); /* the only one */
    if (part != NULL && part->cmsg_level == SOL_SOCKET &&
        part->cmsg_type == SCM_CREDENTIALS) {
        struct ucred writer;
        memcpy(&writer, CMSG_DATA(part), sizeof(writer));
        return writer.pid == getpid();
    }
#else
    (void)message;
#endif
    return true;
}

/* -------------------------------------------------------------- time, processes */

int
cl_poll(struct pollfd *fds, int count, int64_t timeout_ns)
{
#ifdef CL_HAVE_PPOLL
    struct timespec ts = {(time_t)(timeout_ns / 1000000000),
                          (long)(timeout_ns % 1000000000)};
    return ppoll(fds, (nfds_t)count, timeout_ns < 0 ? NULL : &ts, NULL);
#else
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return poll(fds, (nfds_t)count,
                timeout_ns < 0 ? -1
                : ms < INT_MAX ? (int)ms
                               : INT_MAX);
#endif
}

void
cl_cond_init(pthread_cond_t *cond)
{
#ifdef CL_HAVE_COND_CLOCK
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CL_CLOCK);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
#else
    pthread_cond_init(cond, NULL);
#endif
}

int
cl_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until_ns)
{
#ifdef CL_HAVE_COND_CLOCK
    struct timespec until = {(time_t)(until_ns / 1000000000),
                             (long)(until_ns % 1000000000)};
    return pthread_cond_timedwait(cond, lock, &until);
#else
    /* POSIX has no other clock than this one, which may be set meanwhile. */
    struct timespec now, wall;
    clock_gettime(CL_CLOCK, &now);
    int64_t left_ns =
        until_ns - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    if (left_ns <= 0)
        return ETIMEDOUT;
#ifdef __APPLE__
    (void)wall;
    struct timespec left = {(time_t)(left_ns / 1000000000),
                            (long)(left_ns % 1000000000)};
    return pthread_cond_timedwait_relative_np(cond, lock, &left);
#else
    clock_gettime(CLOCK_REALTIME, &wall);
    left_ns += wall.tv_nsec;
    wall.tv_sec += (time_t)(left_ns / 1000000000);
    wall.tv_nsec = (long)(left_ns % 1000000000);
    return pthread_cond_timedwait(cond, lock, &wall);
#endif
#endif
}

#if defined(CL_HAVE_PIDFD) && defined(SYS_pidfd_open)

int
cl_pidfd_open(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0u);
    return fd < 0 ? -errno : fd;
}

#elif defined(CL_HAVE_KQUEUE)

/* A queue is readable while it has an event. If the process has ended, macOS
 * does not find it; its parent has not waited for it yet if kill() does. Then
 * the event is one of ours. */
static int
expect_end(int queue, pid_t pid)
{
    struct kevent end;
    EV_SET(&end, (uintptr_t)pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
    if (kevent(queue, &end, 1, NULL, 0, NULL) == 0)
        return 0;
    int error = errno;
    if (error != ESRCH || kill(pid, 0) < 0)
        return -error;
    EV_SET(&end, (uintptr_t)pid, EVFILT_USER, EV_ADD, 0, 0, NULL);
    if (kevent(queue, &end, 1, NULL, 0, NULL) < 0)
        return -errno;
    EV_SET(&end, (uintptr_t)pid, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
    return kevent(queue, &end, 1, NULL, 0, NULL) < 0 ? -errno : 0;
}

int
cl_pidfd_open(pid_t pid)
{
    int queue = kqueue();
    if (queue < 0)
        return -errno;
    int err = fcntl(queue, F_SETFD, FD_CLOEXEC) < 0 ? -errno
                                                    : expect_end(queue, pid);
    if (err < 0) {
        close(queue);
        return err;
    }
    return queue;
}

#else

int
cl_pidfd_open(pid_t pid)
{
    (void)pid;
    return -ENOSYS;
}

#endif

ssize_t
cl_send_file(int fd, int file, int64_t offset, size_t size)
{
#ifdef CL_HAVE_SENDFILE
    off_t at = (off_t)offset;
    if (at == offset)
        return sendfile(fd, file, &at, size);
#else
    (void)fd, (void)file, (void)offset, (void)size;
#endif
    errno = ENOSYS;
    return -1;
}
