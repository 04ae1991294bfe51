/* stage.c - the world around a loop whose instructions are counted.
 *
 * Preloaded into the process. The world moves only while the loop polls and
 * finds nothing: then its partner, a program of ../load, has its turn, and if
 * still nothing is there to be found, the clock jumps to the end of the poll's
 * timeout. Between the polls each look at the clock takes 20 ns. So a run is
 * the same each time, at any speed. None of this is counted.
 *
 * Its marks are calls of getpgid() with a number that no process has; they, and
 * the system calls between them, can be read in what valgrind traces. */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <valgrind/callgrind.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

#define NS_PER_S 1000000000LL
#define LOOK_NS 20
/* Of a millisecond each, when neither side has anything to do: what the kernel
 * does by its own clock, such as a delayed acknowledgement, comes sooner. */
#define IDLE_TURNS_MAX 5000

enum mark {
    MARK_BEGIN = 1000000001, /* from here on system calls are counted */
    MARK_END,
    MARK_ASIDE, /* those until MARK_BACK are the stage's own */
    MARK_BACK
};

static int partner = -1;
static int counting;
static int clock_is_ours; /* in the thread that asked for it */
static pthread_t clock_thread;
static int64_t now_ns;   /* of the monotonic clock */
static int64_t epoch_ns; /* what the wall clock is ahead of it */

static int64_t
real_ns(clockid_t id)
{
    struct timespec ts;
    syscall(SYS_clock_gettime, id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void
mark(enum mark what)
{
    (void)getpgid((pid_t)what);
}

static _Noreturn void
fail(const char *why)
{
    fprintf(stderr, "stage: %s\n", why);
    _exit(1);
}

/* ------------------------------------------------------------ for counted.py */

/* The descriptor of the turns that the program at its other end takes; -1: none. */
void
stage_partner(int fd)
{
    partner = fd;
}

void
stage_clock(int ours)
{
    clock_is_ours = ours;
    clock_thread = pthread_self();
    now_ns = real_ns(CLOCK_MONOTONIC);
    epoch_ns = real_ns(CLOCK_REALTIME) - now_ns;
}

/* From the first call on the process is instrumented, which makes it ten times
 * slower. */
void
stage_begin(void)
{
    if (!counting) {
        CALLGRIND_START_INSTRUMENTATION;
    }
    counting = 1;
    mark(MARK_BEGIN);
    CALLGRIND_ZERO_STATS;
}

void
stage_end(const char *name)
{
    CALLGRIND_DUMP_STATS_AT(name);
    mark(MARK_END);
}

/* --------------------------------------------------------------------- clock */

int
clock_gettime(clockid_t id, struct timespec *ts)
{
    if (!clock_is_ours || !pthread_equal(pthread_self(), clock_thread) ||
        (id != CLOCK_MONOTONIC && id != CLOCK_REALTIME)) {
        return (int)syscall(SYS_clock_gettime, id, ts);
    }
    now_ns += LOOK_NS;
    int64_t ns = id == CLOCK_MONOTONIC ? now_ns : now_ns + epoch_ns;
    ts->tv_sec = ns / NS_PER_S;
    ts->tv_nsec = ns % NS_PER_S;
    return 0;
}

/* ---------------------------------------------------------------------- poll */

/* The partner's turn, from beginning to end. */
static void
give_turn(void)
{
    char c = 0;
    if (send(partner, &c, 1, MSG_NOSIGNAL) != 1 ||
        recv(partner, &c, 1, 0) != 1) {
        partner = -1; /* it has ended */
    }
}

static int
is_ready(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, 0) == 1;
}

/* Have the world move until a poll has something to find, or is to find nothing:
 * 0, and else -1, for one that is to wait for other threads, or for children. */
static int64_t
settle(int fd, int64_t timeout_ns)
{
    for (int idle = 0; !is_ready(fd); idle++) {
        if (partner >= 0) {
            give_turn();
            if (is_ready(fd)) {
                break;
            }
        }
        if (timeout_ns >= 0 && clock_is_ours) {
            now_ns += timeout_ns;
            break;
        }
        if (partner < 0) {
            return timeout_ns;
        }
        if (idle > IDLE_TURNS_MAX) {
            fail("the loop and the load wait for each other");
        }
        usleep(1000);
    }
    return 0;
}

static int64_t
before_poll(int fd, int64_t timeout_ns)
{
    if (timeout_ns == 0) {
        return 0;
    }
    if (counting) {
        CALLGRIND_TOGGLE_COLLECT;
        mark(MARK_ASIDE);
    }
    timeout_ns = settle(fd, timeout_ns);
    if (counting) {
        mark(MARK_BACK);
        CALLGRIND_TOGGLE_COLLECT;
    }
    return timeout_ns;
}

static int
timeout_ms(int64_t ns)
{
    return ns < 0 ? -1 : (int)((ns + 999999) / 1000000);
}

int
epoll_pwait(int fd, struct epoll_event *events, int most, int timeout,
            const sigset_t *mask)
{
    int64_t ns = before_poll(fd, timeout < 0 ? -1 : timeout * 1000000LL);
    return (int)syscall(SYS_epoll_pwait, fd, events, most, timeout_ms(ns),
                        mask, (size_t)8);
}

int
epoll_wait(int fd, struct epoll_event *events, int most, int timeout)
{
    return epoll_pwait(fd, events, most, timeout, NULL);
}

/* What cloop and libuv call, for a timeout in nanoseconds. */
long
syscall(long number, ...)
{
    static long (*real)(long, ...);
    long a[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(args, long);
    }
    va_end(args);
    if (real == NULL) {
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    }
    if (number == SYS_epoll_pwait2 && clock_is_ours) {
        const struct timespec *ts = (const struct timespec *)a[3];
        int64_t ns =
            ts == NULL ? -1 : (int64_t)ts->tv_sec * NS_PER_S + ts->tv_nsec;
        ns = before_poll((int)a[0], ns);
        return epoll_pwait((int)a[0], (struct epoll_event *)a[1], (int)a[2],
                           timeout_ms(ns), (const sigset_t *)a[4]);
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
