/* faults.c - makes cloop's system calls and allocations fail.
 *
 * For LD_PRELOAD. After faults_arm(kinds, first, last, error), calls of these
 * kinds from cloop's extension module fail with `error`, from number `first`
 * to `last`. faults_seen() returns how many there were. Calls from other code
 * are not affected. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

enum {
    ADD = 1,
    CHANGE = 2,
    REMOVE = 4,
    STAT = 8,
    MEMORY = 16,
    READ = 32,
    WRITE = 64,
    ACCEPT = 128,
    WAIT = 256,
    ASK = 512,
    MAKE = 1024,
    CHILD = 2048
};

static atomic_uint armed;
static atomic_long seen, first, last;
static atomic_int error;

void
faults_arm(unsigned kinds, long from, long to, int number)
{
    atomic_store(&seen, 0);
    atomic_store(&first, from);
    atomic_store(&last, to);
    atomic_store(&error, number);
    atomic_store(&armed, kinds);
}

long
faults_seen(void)
{
    return atomic_load(&seen);
}

/* Whether a call of this kind from this address must fail. */
static int
fails(unsigned kind, void *caller)
{
    Dl_info info;
    if ((atomic_load(&armed) & kind) == 0 || dladdr(caller, &info) == 0 ||
        info.dli_fname == NULL || strstr(info.dli_fname, "_cloop") == NULL)
        return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (number < atomic_load(&first) || number > atomic_load(&last))
        return 0;
    errno = atomic_load(&error);
    return 1;
}

#define FAILS(kind) fails(kind, __builtin_return_address(0))

int
epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
    if (FAILS(op == EPOLL_CTL_ADD   ? ADD
              : op == EPOLL_CTL_MOD ? CHANGE
                                    : REMOVE))
        return -1;
    static int (*real)(int, int, int, struct epoll_event *);
    if (real == NULL)
        real = (int (*)(int, int, int, struct epoll_event *))dlsym(
            RTLD_NEXT, "epoll_ctl");
    return real(ep, op, fd, event);
}

/* The poll(2) back end calls it to examine a descriptor. */
int
fstat(int fd, struct stat *status)
{
    static int (*real)(int, struct stat *);
    if (FAILS(STAT))
        return -1;
    if (real == NULL)
        real = (int (*)(int, struct stat *))dlsym(RTLD_NEXT, "fstat");
    return real(fd, status);
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *
malloc(size_t size)
{
    return FAILS(MEMORY) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    return FAILS(MEMORY) ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *memory, size_t size)
{
    return FAILS(MEMORY) ? NULL : __libc_realloc(memory, size);
}

/* The other calls of the module. */
#define CALL(kind, type, name, parameters, arguments) \
    type name parameters \
    { \
        static type(*real) parameters; \
        if (FAILS(kind)) \
            return -1; \
        if (real == NULL) \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
        return real arguments; \
    }

CALL(READ, ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
CALL(READ, ssize_t, recv, (int fd, void *to, size_t n, int flags),
     (fd, to, n, flags))
CALL(READ, ssize_t, recvmsg, (int fd, struct msghdr *to, int flags),
     (fd, to, flags))
CALL(READ, ssize_t, recvfrom,
     (int fd, void *to, size_t n, int flags, struct sockaddr *address,
      socklen_t *size),
     (fd, to, n, flags, address, size))
CALL(WRITE, ssize_t, write, (int fd, const void *from, size_t n),
     (fd, from, n))
CALL(WRITE, ssize_t, writev, (int fd, const struct iovec *from, int n),
     (fd, from, n))
CALL(WRITE, ssize_t, send, (int fd, const void *from, size_t n, int flags),
     (fd, from, n, flags))
CALL(WRITE, ssize_t, sendmsg, (int fd, const struct msghdr *from, int flags),
     (fd, from, flags))
CALL(WRITE, ssize_t, sendto,
     (int fd, const void *from, size_t n, int flags,
      const struct sockaddr *address, socklen_t size),
     (fd, from, n, flags, address, size))
CALL(ACCEPT, int, accept4,
     (int fd, struct sockaddr *address, socklen_t *size, int flags),
     (fd, address, size, flags))
CALL(WAIT, int, epoll_wait,
     (int ep, struct epoll_event *to, int n, int timeout),
     (ep, to, n, timeout))
CALL(WAIT, int, ppoll,
     (struct pollfd * of, nfds_t n, const struct timespec *timeout,
      const sigset_t *mask),
     (of, n, timeout, mask))
CALL(ASK, int, getsockopt,
     (int fd, int level, int name, void *to, socklen_t *size),
     (fd, level, name, to, size))
CALL(ASK, int, setsockopt,
     (int fd, int level, int name, const void *from, socklen_t size),
     (fd, level, name, from, size))
CALL(ASK, int, getsockname, (int fd, struct sockaddr *to, socklen_t *size),
     (fd, to, size))
CALL(ASK, int, getpeername, (int fd, struct sockaddr *to, socklen_t *size),
     (fd, to, size))
CALL(ASK, int, shutdown, (int fd, int how), (fd, how))
CALL(ASK, int, fcntl, (int fd, int what, long argument), (fd, what, argument))
CALL(ASK, int, fcntl64, (int fd, int what, long argument),
     (fd, what, argument))
CALL(ASK, int, ioctl, (int fd, unsigned long what, void *argument),
     (fd, what, argument))
CALL(MAKE, int, connect, (int fd, const struct sockaddr *to, socklen_t size),
     (fd, to, size))
CALL(MAKE, int, socket, (int family, int type, int protocol),
     (family, type, protocol))
CALL(MAKE, int, socketpair, (int family, int type, int protocol, int fds[2]),
     (family, type, protocol, fds))
CALL(MAKE, int, pipe2, (int fds[2], int flags), (fds, flags))
CALL(MAKE, int, epoll_create1, (int flags), (flags))

/* For epoll_pwait2() and pidfd_open(), which take up to six arguments. */
long
syscall(long number, ...)
{
    static long (*real)(long, ...);
    long of[6];
    va_list arguments;
    if (FAILS(number == SYS_pidfd_open ? CHILD : WAIT))
        return -1;
    if (real == NULL)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        of[i] = va_arg(arguments, long);
    va_end(arguments);
    return real(number, of[0], of[1], of[2], of[3], of[4], of[5]);
}
