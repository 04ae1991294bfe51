/* faults.c - makes cloop's system calls and allocations fail.
 *
 * For LD_PRELOAD. After faults_arm(kinds, first, last, error), calls of these
 * kinds from cloop's extension module fail with `error`, from number `first`
 * to `last`; faults_also(number, error) adds one more. faults_seen() returns
 * how many there were, and faults_name() what one of them was. Calls from
 * other code are not affected.
 *
 * SHORT is an error, too: a read or write of a stream transfers one byte, and
 * a wait reports nothing. After EAGAIN the kernel reports the descriptor again,
 * as it would if it had been right. A close() or an interrupted connect() is
 * done all the same.
 *
 * After faults_place(kinds), the first call fails at a place, with an error,
 * where none has failed so before. A place is a line of C code, and the caller
 * of its function, or two callers further up of which one has called the other;
 * faults_errors() says what a call may say. Once, until
 * faults_place() is called again. The calling code needs frame pointers.
 * What has failed so is kept in the file FAULTS_PLACES, if the environment names
 * one, for all processes. After faults_record(kinds), nothing fails, but
 * faults_reached() knows the places, with each of the errors, and faults_left()
 * whether one is still to fail.
 *
 * With -DNO_MEMORY, allocations never fail: AddressSanitizer's are its own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
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
    CHILD = 2048,
    CLOSE = 1 << 13,
    FILES = 1 << 14,
    THREAD = 1 << 15
};

enum { SHORT = -1 };

#define NAMES (1 << 18)
#define PLACES (1 << 16)
#define ERRORS_MAX 16
#define CALLS_MAX 64
#define PAIRS_MAX 32
#define FDS 4096

static atomic_uint armed;
static atomic_long seen, first, last, also;
static atomic_int error, also_error;
static const char *_Atomic names[NAMES];

/* What fails by its place. */
static atomic_bool by_place;
static atomic_bool recording;
static atomic_long failed_places;
static atomic_uintptr_t places[PLACES], seen_places[PLACES]; /* by hash; 0: free */
static atomic_uintptr_t *shared; /* instead of `places`, or NULL */
static struct {
    const char *name;
    int count, errors[ERRORS_MAX];
} known[CALLS_MAX];
static int known_count;

void
faults_arm(unsigned kinds, long from, long to, int number)
{
    atomic_store(&armed, 0);
    atomic_store(&seen, 0);
    atomic_store(&first, from);
    atomic_store(&last, to);
    atomic_store(&error, number);
    atomic_store(&also, 0);
    atomic_store(&armed, kinds);
}

void
faults_also(long number, int with)
{
    atomic_store(&also_error, with);
    atomic_store(&also, number);
}

/* What the calls of this name may say. Before anything is armed; the name
 * stays. */
void
faults_errors(const char *name, const int *errors, int count)
{
    if (known_count == CALLS_MAX || count > ERRORS_MAX)
        abort();
    known[known_count].name = name;
    known[known_count].count = count;
    memcpy(known[known_count++].errors, errors, (size_t)count * sizeof(int));
}

void
faults_place(unsigned kinds)
{
    faults_arm(0, 0, 0, 0);
    atomic_store(&recording, false);
    atomic_store(&by_place, kinds != 0);
    atomic_store(&armed, kinds);
}

void
faults_record(unsigned kinds)
{
    faults_place(0);
    memset((void *)seen_places, 0, sizeof(seen_places));
    atomic_store(&recording, true);
    atomic_store(&by_place, true);
    atomic_store(&armed, kinds);
}

static __attribute__((constructor)) void
share(void)
{
    const char *path = getenv("FAULTS_PLACES");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof(places), PROT_READ | PROT_WRITE,
                        MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        shared = memory;
}

/* How many have failed, each with each of its errors. */
long
faults_places(void)
{
    return atomic_load(&failed_places);
}

long
faults_seen(void)
{
    return atomic_load(&seen);
}

/* Of a call since faults_arm(); they count from 1. */
const char *
faults_name(long number)
{
    return number > 0 && number < NAMES ? atomic_load(&names[number]) : "";
}

/* Returns whether it was not in the table. */
static bool
add(atomic_uintptr_t *table, uintptr_t place)
{
    for (size_t n = 0; n < PLACES; n++) {
        atomic_uintptr_t *slot = &table[(place + n) % PLACES];
        uintptr_t found = 0;
        if (atomic_compare_exchange_strong(slot, &found, place))
            return true;
        if (found == place)
            return false;
    }
    return false;
}

/* Whether none has failed at this place yet; from now on, one has. */
static bool
is_new_place(uintptr_t place)
{
    if (atomic_load(&recording)) {
        (void)add(seen_places, place);
        return false;
    }
    if (!add(shared != NULL ? shared : places, place))
        return false;
    atomic_fetch_add(&failed_places, 1);
    return true;
}

size_t
faults_reached(uintptr_t *to, size_t most)
{
    size_t count = 0;
    for (size_t n = 0; n < PLACES && count < most; n++) {
        uintptr_t place = atomic_load(&seen_places[n]);
        if (place != 0)
            to[count++] = place;
    }
    return count;
}

bool
faults_left(uintptr_t place)
{
    const atomic_uintptr_t *table = shared != NULL ? shared : places;
    for (size_t n = 0; n < PLACES; n++) {
        uintptr_t found = atomic_load(&table[(place + n) % PLACES]);
        if (found == 0 || found == place)
            return found == 0;
    }
    return false;
}

/* The first of the call's errors with which none has failed here, or 0. One
 * that cloop passes on is also for its callers: the pairs after the first,
 * whatever the error. */
static int
error_for(const char *name, const uintptr_t *pairs, int count)
{
    for (int i = 0; i < known_count; i++) {
        if (strcmp(known[i].name, name) != 0)
            continue;
        for (int n = 0; n < known[i].count; n++) {
            int number = known[i].errors[n];
            int passes = number != EINTR && number != EAGAIN && number != SHORT;
            bool is_new = is_new_place((pairs[0] * 31 + (uintptr_t)n) | 1);
            for (int k = 1; passes && k < count; k++)
                is_new |= is_new_place((pairs[k] * 31 + ERRORS_MAX) | 1);
            if (is_new)
                return number;
        }
    }
    return 0;
}

/* Pairs of a call in cloop, and of who has called the function that it is in,
 * from `caller` up; `fbase` is where cloop is loaded. Returns their number. Our
 * code has frame pointers, and so has cloop. */
static int
pairs_above(const void *const *frame, const void *caller, const void *fbase,
            uintptr_t *pairs)
{
    Dl_info info;
    int count = 0;
    while (frame[1] != caller)
        frame = frame[0];
    do {
        uintptr_t below = (uintptr_t)frame[1] - (uintptr_t)fbase;
        frame = frame[0];
        pairs[count++] = below * 1000003 + (uintptr_t)frame[1] -
                         (uintptr_t)fbase;
    } while (count < PAIRS_MAX && dladdr(frame[1], &info) != 0 &&
             info.dli_fbase == fbase);
    return count;
}

/* Whether a call of this kind from this address must fail: 0, or its error,
 * which is in errno, too. */
static __attribute__((noinline)) int
fails(unsigned kind, const char *name, void *caller)
{
    Dl_info info;
    int before = errno, number_error;
    if ((atomic_load(&armed) & kind) == 0 || dladdr(caller, &info) == 0 ||
        info.dli_fname == NULL || strstr(info.dli_fname, "_cloop") == NULL)
        return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (number < NAMES)
        atomic_store(&names[number], name);
    errno = before;
    if (atomic_load(&by_place)) {
        uintptr_t pairs[PAIRS_MAX];
        int count = pairs_above(__builtin_frame_address(0),
                                __builtin_extract_return_addr(caller),
                                info.dli_fbase, pairs);
        number_error = error_for(name, pairs, count);
        errno = before;
        if (number_error == 0)
            return 0;
        atomic_store(&by_place, false);
    }
    else if (number >= atomic_load(&first) && number <= atomic_load(&last))
        number_error = atomic_load(&error);
    else if (number == atomic_load(&also))
        number_error = atomic_load(&also_error);
    else
        return 0;
    if (number_error == SHORT) /* the order of calls varies a little */
        return kind & (READ | WRITE | WAIT) ? SHORT : 0;
    errno = number_error;
    return number_error;
}

#define FAILS(kind, name) fails(kind, name, __builtin_return_address(0))

#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) \
    real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* ------------------------------------------------------------------- interests */

/* What the kernel was last told of a descriptor. */
static struct {
    int ep;
    struct epoll_event event;
} told[FDS];

int
epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    if (FAILS(op == EPOLL_CTL_ADD   ? ADD
              : op == EPOLL_CTL_MOD ? CHANGE
                                    : REMOVE,
              op == EPOLL_CTL_ADD   ? "epoll_ctl(ADD)"
              : op == EPOLL_CTL_MOD ? "epoll_ctl(MOD)"
                                    : "epoll_ctl(DEL)"))
        return -1;
    int status = real(ep, op, fd, event);
    if (status == 0 && fd >= 0 && fd < FDS) {
        told[fd].ep = op == EPOLL_CTL_DEL ? 0 : ep;
        told[fd].event = *event;
    }
    return status;
}

/* An edge-triggered interest does not report twice what has not changed. */
static void
report_again(int fd)
{
    static int (*real)(int, int, int, struct epoll_event *);
    if (errno != EAGAIN || fd < 0 || fd >= FDS || told[fd].ep == 0)
        return;
    if (real == NULL)
        real = (int (*)(int, int, int, struct epoll_event *))dlsym(
            RTLD_NEXT, "epoll_ctl");
    (void)real(told[fd].ep, EPOLL_CTL_MOD, fd, &told[fd].event);
    errno = EAGAIN;
}

/* The poll(2) back end calls it to examine a descriptor. */
int
fstat(int fd, struct stat *status)
{
    REAL(fstat);
    return FAILS(STAT, "fstat") ? -1 : real(fd, status);
}

/* ----------------------------------------------------------------- allocations */

#ifndef NO_MEMORY
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *
malloc(size_t size)
{
    return FAILS(MEMORY, "malloc") ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    return FAILS(MEMORY, "calloc") ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *memory, size_t size)
{
    return FAILS(MEMORY, "realloc") ? NULL : __libc_realloc(memory, size);
}

#endif

/* ------------------------------------------------------------------- transfers */

/* One that takes a buffer, which SHORT makes a byte long if the descriptor is
 * a stream. */
static bool
is_stream(int fd)
{
    static int (*real)(int, int, int, void *, socklen_t *);
    int type = SOCK_STREAM;
    socklen_t size = sizeof(type);
    if (real == NULL)
        real = (int (*)(int, int, int, void *, socklen_t *))dlsym(
            RTLD_NEXT, "getsockopt");
    int before = errno;
    (void)real(fd, SOL_SOCKET, SO_TYPE, &type, &size); /* a pipe is one */
    errno = before;
    return type == SOCK_STREAM;
}

static size_t
most(int fd, size_t n)
{
    return n > 1 && is_stream(fd) ? 1 : n;
}

#define TRANSFER(kind, name, parameters, fd, n, arguments) \
    ssize_t name parameters \
    { \
        REAL(name); \
        int failure = FAILS(kind, #name); \
        if (failure == SHORT) \
            n = most(fd, n); \
        else if (failure != 0) { \
            report_again(fd); \
            return -1; \
        } \
        return real arguments; \
    }

TRANSFER(READ, read, (int fd, void *to, size_t n), fd, n, (fd, to, n))
TRANSFER(READ, recv, (int fd, void *to, size_t n, int flags), fd, n,
         (fd, to, n, flags))
TRANSFER(READ, recvfrom,
         (int fd, void *to, size_t n, int flags, struct sockaddr *address,
          socklen_t *size),
         fd, n, (fd, to, n, flags, address, size))
TRANSFER(WRITE, send, (int fd, const void *from, size_t n, int flags), fd, n,
         (fd, from, n, flags))
TRANSFER(WRITE, sendto,
         (int fd, const void *from, size_t n, int flags,
          const struct sockaddr *address, socklen_t size),
         fd, n, (fd, from, n, flags, address, size))

/* One byte wakes a loop. Both ends of that pipe are open, and if it is full it
 * is readable. */
ssize_t
write(int fd, const void *from, size_t n)
{
    REAL(write);
    int failure = FAILS(WRITE, "write");
    if (n == 1 && failure != 0 && failure != EINTR) {
        ssize_t status = real(fd, from, n);
        errno = failure == EAGAIN ? EAGAIN : errno;
        return failure == EAGAIN ? -1 : status;
    }
    if (failure == SHORT)
        n = most(fd, n);
    else if (failure != 0) {
        report_again(fd);
        return -1;
    }
    return real(fd, from, n);
}

/* One that takes several buffers: of the first that is not empty, one byte. */
static int
shorten(int fd, const struct iovec *parts, int count, struct iovec *one)
{
    if (!is_stream(fd))
        return 0;
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > 0) {
            one->iov_base = parts[i].iov_base;
            one->iov_len = 1;
            return 1;
        }
    }
    return 0;
}

ssize_t
writev(int fd, const struct iovec *from, int n)
{
    REAL(writev);
    struct iovec one;
    int failure = FAILS(WRITE, "writev");
    if (failure == SHORT && shorten(fd, from, n, &one))
        return real(fd, &one, 1);
    if (failure != 0 && failure != SHORT) {
        report_again(fd);
        return -1;
    }
    return real(fd, from, n);
}

ssize_t
sendmsg(int fd, const struct msghdr *from, int flags)
{
    REAL(sendmsg);
    struct iovec one;
    struct msghdr shorter = *from;
    int failure = FAILS(WRITE, "sendmsg");
    if (failure == SHORT &&
        shorten(fd, from->msg_iov, (int)from->msg_iovlen, &one)) {
        shorter.msg_iov = &one;
        shorter.msg_iovlen = 1;
        return real(fd, &shorter, flags);
    }
    if (failure != 0 && failure != SHORT) {
        report_again(fd);
        return -1;
    }
    return real(fd, from, flags);
}

ssize_t
recvmsg(int fd, struct msghdr *to, int flags)
{
    REAL(recvmsg);
    int failure = FAILS(READ, "recvmsg");
    if (failure != 0 && failure != SHORT) {
        report_again(fd);
        return -1;
    }
    return real(fd, to, flags);
}

int
accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    REAL(accept4);
    int failure = FAILS(ACCEPT, "accept4");
    if (failure != 0 && failure != SHORT) {
        report_again(fd);
        return -1;
    }
    return real(fd, address, size, flags);
}

/* --------------------------------------------------------------- the other calls */

#define CALL(kind, type, name, parameters, arguments) \
    type name parameters \
    { \
        REAL(name); \
        int failure = FAILS(kind, #name); \
        return failure != 0 ? (failure == SHORT ? 0 : -1) : real arguments; \
    }

CALL(WAIT, int, epoll_wait,
     (int ep, struct epoll_event *to, int n, int timeout),
     (ep, to, n, timeout))
CALL(WAIT, int, ppoll,
     (struct pollfd * of, nfds_t n, const struct timespec *timeout,
      const sigset_t *mask),
     (of, n, timeout, mask))
CALL(WAIT, int, poll, (struct pollfd * of, nfds_t n, int timeout),
     (of, n, timeout))
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
CALL(MAKE, int, socket, (int family, int type, int protocol),
     (family, type, protocol))
CALL(MAKE, int, socketpair, (int family, int type, int protocol, int fds[2]),
     (family, type, protocol, fds))
CALL(MAKE, int, bind, (int fd, const struct sockaddr *to, socklen_t size),
     (fd, to, size))
CALL(MAKE, int, pipe2, (int fds[2], int flags), (fds, flags))
CALL(MAKE, int, epoll_create1, (int flags), (flags))
CALL(FILES, int, ftruncate, (int fd, off_t size), (fd, size))
CALL(FILES, int, ftruncate64, (int fd, off64_t size), (fd, size))

/* Those that take any argument. */
#define ASKING(name, type) \
    int name(int fd, type what, ...) \
    { \
        static int (*real)(int, type, ...); \
        va_list arguments; \
        if (FAILS(ASK, #name)) \
            return -1; \
        if (real == NULL) \
            real = (int (*)(int, type, ...))dlsym(RTLD_NEXT, #name); \
        va_start(arguments, what); \
        void *argument = va_arg(arguments, void *); \
        va_end(arguments); \
        return real(fd, what, argument); \
    }
ASKING(fcntl, int)
ASKING(fcntl64, int)
ASKING(ioctl, unsigned long)

int
connect(int fd, const struct sockaddr *to, socklen_t size)
{
    REAL(connect);
    int failure = FAILS(MAKE, "connect");
    if (failure == EINTR) {
        if (real(fd, to, size) == 0 || errno == EINPROGRESS)
            errno = EINTR;
        return -1;
    }
    return failure != 0 ? -1 : real(fd, to, size);
}

int
close(int fd)
{
    REAL(close);
    int failure = FAILS(CLOSE, "close"), status = real(fd);
    if (failure == 0 || status < 0)
        return status;
    errno = failure;
    return -1;
}

int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
               void *(*run)(void *), void *argument)
{
    REAL(pthread_create);
    int failure = FAILS(THREAD, "pthread_create");
    return failure != 0 ? failure : real(thread, attributes, run, argument);
}

/* For epoll_pwait2() and pidfd_open(), which take up to six arguments. */
long
syscall(long number, ...)
{
    static long (*real)(long, ...);
    long of[6];
    va_list arguments;
    int failure = number == SYS_pidfd_open ? FAILS(CHILD, "pidfd_open")
                                           : FAILS(WAIT, "epoll_pwait2");
    if (failure != 0)
        return failure == SHORT ? 0 : -1;
    if (real == NULL)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        of[i] = va_arg(arguments, long);
    va_end(arguments);
    return real(number, of[0], of[1], of[2], of[3], of[4], of[5]);
}
