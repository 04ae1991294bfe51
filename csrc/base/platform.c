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
#ifdef CL_HAVE_VFORK
#include <sys/resource.h>
#endif
#ifdef CL_HAVE_KQUEUE
#include <signal.h>
#include <sys/event.h>
#endif

/* ---------------------------------------------------------------- descriptors */

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

#ifdef CL_HAVE_ACCEPT4

int
cl_accept_plainly(int fd, struct sockaddr *peer, socklen_t *len)
{
    return prepared(accept(fd, peer, len));
}

#else

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
    int ready = ppoll(fds, (nfds_t)count, timeout_ns < 0 ? NULL : &ts, NULL);
    if (ready >= 0 || !cl_is_refused(errno))
        return ready;
#endif
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return poll(fds, (nfds_t)count,
                timeout_ns < 0 ? -1
                : ms < INT_MAX ? (int)ms
                               : INT_MAX);
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

#ifdef CL_HAVE_VFORK

/* close_range(2), Linux 5.9. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static bool
is_kept(int fd, const int *kept, int count)
{
    for (int i = 0; i < count; i++) {
        if (kept[i] == fd)
            return true;
    }
    return false;
}

/* What getdents64() writes. */
typedef struct {
    uint64_t ino;
    int64_t off;
    unsigned short length;
    unsigned char type;
    char name[1];
} entry;

static int
number_of(const char *name)
{
    int number = 0;
    for (; *name >= '0' && *name <= '9'; name++)
        number = number * 10 + (*name - '0');
    return *name == '\0' ? number : -1;
}

/* Closes those that /proc lists. Returns false if there is no /proc. */
static bool
close_listed(int first, const int *kept, int count)
{
    union {
        entry first;
        char bytes[1024];
    } buffer;
    long got;
    int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return false;
    while ((got = syscall(SYS_getdents64, folder, buffer.bytes,
                          sizeof(buffer.bytes))) > 0) {
        for (long at = 0; at < got;) {
            const entry *one = (const entry *)(buffer.bytes + at);
            int fd = number_of(one->name);
            if (fd >= first && fd != folder && !is_kept(fd, kept, count))
                (void)close(fd);
            at += one->length;
        }
    }
    (void)close(folder);
    return got == 0;
}

static void
close_each(int first, const int *kept, int count)
{
    struct rlimit limit;
    int last =
        getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < INT_MAX
            ? (int)limit.rlim_cur
            : 1 << 20;
    for (int fd = first; fd < last; fd++) {
        if (!is_kept(fd, kept, count))
            (void)close(fd);
    }
}

void
cl_close_all_but(int first, const int *kept, int count)
{
    int from = first;
    for (int i = 0; i <= count; i++) {
        unsigned last = i < count ? (unsigned)kept[i] - 1 : UINT_MAX;
        if ((i == count || kept[i] > from) &&
            syscall(SYS_close_range, (unsigned)from, last, 0u) < 0) {
            if (!close_listed(first, kept, count))
                close_each(first, kept, count);
            return;
        }
        if (i < count && kept[i] >= from)
            from = kept[i] + 1;
    }
}

#endif

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
