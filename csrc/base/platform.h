/* platform.h - what differs between systems.
 *
 * This file and platform.c are the only ones that ask which system this is, or
 * name a call that not every Unix has (tests/test_source.py). What remains is
 * in the poller's back ends. A system that is not named here gets poll(2) and
 * nothing beyond POSIX. docs/porting.md says how to add one.
 *
 * CL_MODEL is Linux that pretends to be such a system, with a model of
 * kqueue(2); see tests/c/model. */
#ifndef CL_BASE_PLATFORM_H
#define CL_BASE_PLATFORM_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/*   ACCEPT4      accept4(), pipe2(), SOCK_NONBLOCK and SOCK_CLOEXEC
 *   PPOLL        ppoll(), whose timeout is in ns
 *   KIND         SO_DOMAIN and SO_PROTOCOL
 *   CREDENTIALS  SO_PASSCRED
 *   PIDFD        pidfd_open()
 *   COND_CLOCK   pthread_condattr_setclock()
 *   SENDFILE     sendfile() with four arguments
 *   VFORK        vfork(), and the child may do what fork(2) allows it
 *   ELF          dl_iterate_phdr() shows CPython's variables */
#if defined(CL_MODEL)
#define CL_HAVE_KQUEUE
#define CL_HAVE_COND_CLOCK
#elif defined(__linux__)
#define CL_HAVE_EPOLL
#define CL_HAVE_ACCEPT4
#define CL_HAVE_PPOLL
#define CL_HAVE_KIND
#define CL_HAVE_CREDENTIALS
#define CL_HAVE_PIDFD
#define CL_HAVE_COND_CLOCK
#define CL_HAVE_SENDFILE
#define CL_HAVE_VFORK
#define CL_HAVE_ELF
#elif defined(__APPLE__)
#define CL_HAVE_KQUEUE
#elif defined(__FreeBSD__)
#define CL_HAVE_KQUEUE
#define CL_HAVE_ACCEPT4
#define CL_HAVE_PPOLL
#define CL_HAVE_KIND
#define CL_HAVE_COND_CLOCK
#endif

/* Whether the error of a system call may say that there is no such call: an old
 * kernel has not, and sandboxes refuse those that they do not know (seccomp of
 * Docker and systemd, gVisor). */
static inline bool
cl_is_refused(int error)
{
    return error == ENOSYS || error == EPERM || error == EACCES;
}

/* ---------------------------------------------------------------- descriptors */

/* These are accept(), socket(), socketpair() and pipe(). What they return is
 * non-blocking and closed by exec(). Where that takes calls of its own, another
 * thread may fork() before them. */
#ifndef CL_HAVE_ACCEPT4
int cl_accept(int fd, struct sockaddr *peer, socklen_t *len);
int cl_socket(int family, int type, int proto);
int cl_socketpair(int family, int type, int fds[2]);
int cl_pipe(int fds[2]);
#else
/* cl_accept() where accept4() is refused. */
int cl_accept_plainly(int fd, struct sockaddr *peer, socklen_t *len);

static inline int
cl_accept(int fd, struct sockaddr *peer, socklen_t *len)
{
    int accepted = accept4(fd, peer, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return accepted < 0 && cl_is_refused(errno)
               ? cl_accept_plainly(fd, peer, len)
               : accepted;
}

static inline int
cl_socket(int family, int type, int proto)
{
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, proto);
}

static inline int
cl_socketpair(int family, int type, int fds[2])
{
    return socketpair(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
}

/* Some sandboxes have no pipes, such as services of systemd without the group
 * @ipc of calls. A loop does with sockets, as asyncio's. */
static inline int
cl_pipe(int fds[2])
{
    int status = pipe2(fds, O_CLOEXEC | O_NONBLOCK);
    return status < 0 && cl_is_refused(errno)
               ? cl_socketpair(AF_UNIX, SOCK_STREAM, fds)
               : status;
}
#endif

/* Whether the error of a system call says that it would have to wait. POSIX
 * has two names for it, which are mostly the same number. */
static inline bool
cl_would_block(int error)
{
#if EAGAIN != EWOULDBLOCK
    if (error == EWOULDBLOCK)
        return true;
#endif
    return error == EAGAIN;
}

#ifdef CL_HAVE_VFORK
/* Closes all descriptors from `first` on, except those of an ascending list.
 * For a child between vfork() and exec(). */
void cl_close_all_but(int first, const int *kept, int count);
#endif

/* How many bytes a pipe holds, or -1 if the kernel does not tell. */
static inline int
cl_pipe_size(int fd)
{
#ifdef F_GETPIPE_SZ
    return fcntl(fd, F_GETPIPE_SZ);
#else
    (void)fd;
    return -1;
#endif
}

/* The flag of a pipe in packet mode, or 0. */
#ifdef __linux__
#define CL_PIPE_PACKETS O_DIRECT
#else
#define CL_PIPE_PACKETS 0
#endif

/* -------------------------------------------------------------------- sockets */

/* Flags for send(): do not block, and do not raise SIGPIPE. */
#ifdef MSG_NOSIGNAL
#define CL_SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#else
#define CL_SEND_FLAGS MSG_DONTWAIT
#endif

/* What a segment of a loopback device of MTU 65536 carries. The rest of a longer
 * send() travels in a small segment of its own that wakes the receiver again. */
#define CL_SEGMENT_MAX 65483

/* Whether a socket is TCP, whose send() may be made in parts. */
static inline bool
cl_is_tcp(int family, int type, int proto)
{
    return (family == AF_INET || family == AF_INET6) && type == SOCK_STREAM &&
           (proto == 0 || proto == IPPROTO_TCP);
}

/* Sends bytes of the file from the offset on. Like send(); ENOSYS if this system
 * does it in another way. */
ssize_t cl_send_file(int fd, int file, int64_t offset, size_t size);

/* For sockets that others have made, on systems whose send() may not know
 * MSG_NOSIGNAL. */
static inline void
cl_no_sigpipe(int fd)
{
#ifdef SO_NOSIGPIPE
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
#else
    (void)fd;
#endif
}

/* The arguments of the socket() that made it. 0 or -errno. The protocol is 0
 * where the kernel does not tell, as in socket.socket. */
int cl_socket_kind(int fd, int *family, int *type, int *proto);

/* Whether getaddrinfo() without a kind has raw sockets too, last, as glibc's. */
#ifdef __GLIBC__
#define CL_ADDRINFO_HAS_RAW 1
#else
#define CL_ADDRINFO_HAS_RAW 0
#endif

/* Whether a Unix socket's name that begins with a NUL is one. Elsewhere it is
 * that of a socket without a name. */
#ifdef __linux__
#define CL_ABSTRACT_NAMES 1
#else
#define CL_ABSTRACT_NAMES 0
#endif

/* The kernel adds to each message who wrote it, if it can do that. */
#ifdef CL_HAVE_CREDENTIALS
typedef union {
    struct cmsghdr header; /* for its alignment */
    char space[CMSG_SPACE(sizeof(struct ucred))];
} cl_credentials;
#else
typedef struct cmsghdr cl_credentials;
#endif

void cl_ask_for_writers(int fd);

/* Whether this process wrote the message; true if the kernel does not tell. */
bool cl_is_written_here(struct msghdr *message);

/* -------------------------------------------------------------- time, processes */

/* The clock of time.monotonic(). */
#ifdef __APPLE__
#define CL_CLOCK CLOCK_UPTIME_RAW
#else
#define CL_CLOCK CLOCK_MONOTONIC
#endif

/* poll() with a timeout in ns, negative: for ever. It is never early. */
struct pollfd;
int cl_poll(struct pollfd *fds, int count, int64_t timeout_ns);

/* A condition whose waits end by CL_CLOCK. */
void cl_cond_init(pthread_cond_t *cond);

/* Waits until cl_now_ns() (base/clock.h) is until_ns. 0, or an error such as
 * ETIMEDOUT. */
int cl_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock,
                 int64_t until_ns);

/* Returns a close-on-exec descriptor that is readable once the process has
 * ended, or -errno: -ESRCH if there is no such process, -ENOSYS if there are
 * no such descriptors. */
int cl_pidfd_open(pid_t pid);

#endif
