/* test_poller.c - the contract of poller.h, for every back end.
 *
 * Each test gets a new poller and must leave no descriptor open. */
#include "poller/poller.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "check.h"

#define BOTH (CL_READ | CL_WRITE)
#define MS (CL_NS_PER_S / 1000)
#define LONG (20 * CL_NS_PER_S) /* a longer wait means a lost event */
#define MANY (2 * CL_EVENTS_MAX + 88)

/* ------------------------------------------------------------------ helpers */

static int
set_generation(cl_poller *poller, int fd, uint32_t generation, unsigned have,
               unsigned want)
{
    return poller->ops->set(poller, fd, generation, have, want);
}

static int
set(cl_poller *poller, int fd, unsigned have, unsigned want)
{
    return set_generation(poller, fd, 1, have, want);
}

static int
wait_for(cl_poller *poller, int64_t timeout_ns, cl_event *events)
{
    return poller->ops->wait(poller, timeout_ns, events, CL_EVENTS_MAX);
}

/* Called when poll(2) has returned, before the back end gets the result. */
static void (*seen_by_poll)(void);

#ifdef __linux__
#include <sys/syscall.h>

int
ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
      const sigset_t *mask)
{
    struct timespec left;
    if (timeout != NULL)
        left = *timeout; /* the kernel writes to it */
    int ready = (int)syscall(SYS_ppoll, fds, count,
                             timeout == NULL ? NULL : &left, mask, _NSIG / 8);
    if (seen_by_poll != NULL)
        seen_by_poll();
    return ready;
}
#endif

/* Returns the event that is reported for fd now; its events are 0 if there is
 * none. */
static cl_event
event_of(cl_poller *poller, int fd)
{
    cl_event events[CL_EVENTS_MAX], found = {fd, 0, 0};
    int count = wait_for(poller, 0, events);
    CHECK(count >= 0);
    for (int i = 0; i < count; i++) {
        CHECK(events[i].events != 0);
        if (events[i].fd != fd)
            continue;
        CHECK_INT(found.events, 0);
        found = events[i];
    }
    return found;
}

static unsigned
ready(cl_poller *poller, int fd)
{
    return event_of(poller, fd).events;
}

static void
open_pipe(int ends[2])
{
    CHECK_INT(pipe(ends), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(fcntl(ends[i], F_SETFL, O_NONBLOCK), 0);
}

static void
open_sockets(int ends[2])
{
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(fcntl(ends[i], F_SETFL, O_NONBLOCK), 0);
}

static void
close_both(const int ends[2])
{
    CHECK_INT(close(ends[0]), 0);
    CHECK_INT(close(ends[1]), 0);
}

static void
put_byte(int fd)
{
    CHECK_INT(write(fd, "x", 1), 1);
}

static void
fill(int fd)
{
    char bytes[4096] = {0};
    while (write(fd, bytes, sizeof(bytes)) > 0)
        continue;
    CHECK_INT(errno, EAGAIN);
}

static void
empty(int fd)
{
    char bytes[4096];
    while (read(fd, bytes, sizeof(bytes)) > 0)
        continue;
    CHECK_INT(errno, EAGAIN);
}

/* Closes `number` and reuses it for a duplicate of fd. */
static void
give_out_again(int number, int fd)
{
    CHECK_INT(dup2(fd, number), number);
}

static int
open_regular_file(void)
{
    char name[] = "/tmp/cloop-test-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    CHECK_INT(unlink(name), 0);
    return fd;
}

/* ---------------------------------------------------------------- readiness */

static void
test_readable(cl_poller *poller)
{
    int ends[2];
    open_pipe(ends);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    CHECK_INT(ready(poller, ends[0]), 0);
    put_byte(ends[1]);
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    CHECK_INT(ready(poller, ends[0]), CL_READ); /* level-triggered */
    empty(ends[0]);
    CHECK_INT(ready(poller, ends[0]), 0);
    close_both(ends);
}

/* Each change is reported at least once, even one from before the interest. A
 * back end may report more. */
static void
test_edge_reports_each_change(cl_poller *poller)
{
    int ends[2];
    open_pipe(ends);
    put_byte(ends[1]);
    CHECK_INT(set(poller, ends[0], 0, CL_READ | CL_EDGE), 0);
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    unsigned unchanged = ready(poller, ends[0]);
    if (strcmp(poller->ops->name, "poll") != 0) /* which has no such thing */
        CHECK_INT(unchanged, 0);
    put_byte(ends[1]); /* while the first is still unread */
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    CHECK_INT(set(poller, ends[0], CL_READ | CL_EDGE, CL_READ), 0);
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    CHECK_INT(ready(poller, ends[0]), CL_READ); /* level-triggered again */
    CHECK_INT(set(poller, ends[0], CL_READ, CL_READ | CL_EDGE), 0);
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    empty(ends[0]);
    CHECK_INT(ready(poller, ends[0]), 0);
    close_both(ends);
}

static void
test_writable(cl_poller *poller)
{
    int ends[2];
    open_pipe(ends);
    CHECK_INT(set(poller, ends[1], 0, CL_WRITE), 0);
    CHECK_INT(ready(poller, ends[1]), CL_WRITE);
    fill(ends[1]);
    CHECK_INT(ready(poller, ends[1]), 0);
    empty(ends[0]);
    CHECK_INT(ready(poller, ends[1]), CL_WRITE);
    close_both(ends);
}

static void
test_readable_and_writable(cl_poller *poller)
{
    int ends[2];
    open_sockets(ends);
    CHECK_INT(set(poller, ends[0], 0, BOTH), 0);
    CHECK_INT(ready(poller, ends[0]), CL_WRITE);
    put_byte(ends[1]);
    CHECK_INT(ready(poller, ends[0]), BOTH);
    fill(ends[0]);
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    close_both(ends);
}

static void
test_half_close_is_readable(cl_poller *poller)
{
    int ends[2];
    open_sockets(ends);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    CHECK_INT(shutdown(ends[1], SHUT_WR), 0);
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    close_both(ends);
}

/* Both events are reported, whatever the interest. */
static void
test_hangup(cl_poller *poller)
{
    for (unsigned want = CL_READ; want <= BOTH; want++) {
        int pipes[2], sockets[2];
        open_pipe(pipes);
        open_sockets(sockets);
        CHECK_INT(set(poller, pipes[0], 0, want), 0);
        CHECK_INT(set(poller, sockets[0], 0, want), 0);
        CHECK_INT(close(pipes[1]), 0);
        CHECK_INT(close(sockets[1]), 0);
        CHECK_INT(ready(poller, pipes[0]), BOTH);
        CHECK_INT(ready(poller, sockets[0]), BOTH);
        CHECK_INT(close(pipes[0]), 0);
        CHECK_INT(close(sockets[0]), 0);
    }
}

/* As test_hangup(), but the other end was closed before the interest. */
static void
test_hangup_before_the_interest(cl_poller *poller)
{
    for (unsigned want = CL_READ; want <= BOTH; want++) {
        int pipes[2], broken[2], sockets[2];
        open_pipe(pipes);
        open_pipe(broken);
        open_sockets(sockets);
        int fds[] = {pipes[0], broken[1], sockets[0]};
        CHECK_INT(close(pipes[1]), 0);
        CHECK_INT(close(broken[0]), 0);
        CHECK_INT(close(sockets[1]), 0);
        for (int i = 0; i < 3; i++) {
            CHECK_INT(set(poller, fds[i], 0, want), 0);
            CHECK_INT(ready(poller, fds[i]), BOTH);
            CHECK_INT(ready(poller, fds[i]), BOTH); /* level-triggered */
            CHECK_INT(set_generation(poller, fds[i], 2, want, want), 0);
            CHECK_INT(event_of(poller, fds[i]).generation, 2);
            CHECK_INT(set(poller, fds[i], want, 0), 0);
            CHECK_INT(ready(poller, fds[i]), 0);
            /* Closed without a word. */
            CHECK_INT(set(poller, fds[i], 0, want), 0);
            CHECK_INT(close(fds[i]), 0);
            CHECK_INT(ready(poller, fds[i]), 0);
        }
    }
}

/* A pipe that breaks when it is watched already, for something else. */
static void
test_broken_pipe_gets_another_interest(cl_poller *poller)
{
    int ends[2];
    open_pipe(ends);
    CHECK_INT(set(poller, ends[1], 0, CL_READ), 0);
    CHECK_INT(close(ends[0]), 0);
    CHECK_INT(set(poller, ends[1], CL_READ, BOTH), 0);
    CHECK_INT(ready(poller, ends[1]), BOTH);
    CHECK_INT(set(poller, ends[1], BOTH, CL_READ), 0);
    CHECK_INT(ready(poller, ends[1]), BOTH);
    CHECK_INT(set(poller, ends[1], CL_READ, 0), 0);
    CHECK_INT(ready(poller, ends[1]), 0);
    CHECK_INT(close(ends[1]), 0);
}

static void
test_error(cl_poller *poller)
{
    for (unsigned want = CL_READ; want <= BOTH; want++) {
        int pipes[2], sockets[2];
        open_pipe(pipes);
        open_sockets(sockets);
        CHECK_INT(set(poller, pipes[1], 0, want), 0);
        CHECK_INT(set(poller, sockets[0], 0, want), 0);
        CHECK_INT(close(pipes[0]), 0); /* EPIPE */
        put_byte(sockets[0]);
        CHECK_INT(close(sockets[1]), 0); /* unread: ECONNRESET */
        CHECK_INT(ready(poller, pipes[1]), BOTH);
        CHECK_INT(ready(poller, sockets[0]), BOTH);
        CHECK_INT(close(pipes[1]), 0);
        CHECK_INT(close(sockets[0]), 0);
    }
}

/* ----------------------------------------------------------------- interest */

static void
test_change_of_interest(cl_poller *poller)
{
    int ends[2];
    open_sockets(ends);
    put_byte(ends[1]);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    CHECK_INT(set(poller, ends[0], CL_READ, CL_WRITE), 0);
    CHECK_INT(ready(poller, ends[0]), CL_WRITE);
    CHECK_INT(set(poller, ends[0], CL_WRITE, BOTH), 0);
    CHECK_INT(ready(poller, ends[0]), BOTH);
    CHECK_INT(set(poller, ends[0], BOTH, CL_READ), 0);
    empty(ends[0]);
    CHECK_INT(ready(poller, ends[0]), 0);
    close_both(ends);
}

static void
test_forget(cl_poller *poller)
{
    int ends[2];
    open_sockets(ends);
    CHECK_INT(set(poller, ends[0], 0, CL_WRITE), 0);
    CHECK_INT(set(poller, ends[1], 0, CL_WRITE), 0);
    CHECK_INT(set(poller, ends[0], CL_WRITE, 0), 0);
    CHECK_INT(ready(poller, ends[0]), 0);
    CHECK_INT(ready(poller, ends[1]), CL_WRITE);
    CHECK_INT(set(poller, ends[0], 0, CL_WRITE), 0);
    CHECK_INT(ready(poller, ends[0]), CL_WRITE);
    CHECK_INT(ready(poller, ends[1]), CL_WRITE);
    close_both(ends);
}

static void
test_forget_what_is_not_known(cl_poller *poller)
{
    int ends[2];
    open_pipe(ends);
    CHECK_INT(set(poller, ends[0], CL_READ, 0), 0);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    CHECK_INT(set(poller, ends[0], CL_READ, 0), 0);
    CHECK_INT(set(poller, ends[0], CL_READ, 0), 0);
    CHECK_INT(set(poller, ends[1] + 1000, CL_READ, 0), 0);
    close_both(ends);
}

static void
test_generation_comes_back(cl_poller *poller)
{
    const uint32_t generations[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff};
    int ends[2];
    open_pipe(ends);
    put_byte(ends[1]);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(
            set_generation(poller, ends[0], generations[i], CL_READ, BOTH), 0);
        CHECK_INT(event_of(poller, ends[0]).generation, generations[i]);
    }
    CHECK_INT(set(poller, ends[0], BOTH, 0), 0);
    CHECK_INT(set_generation(poller, ends[0], 9, 0, CL_READ), 0);
    CHECK_INT(event_of(poller, ends[0]).generation, 9);
    close_both(ends);
}

/* -------------------------------------------------------------- descriptors */

static void
test_bad_descriptor(cl_poller *poller)
{
    int ends[2];
    open_pipe(ends);
    close_both(ends);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), -EBADF);
    CHECK_INT(set(poller, ends[0], CL_READ, CL_WRITE), -EBADF);
    CHECK_INT(set(poller, -1, 0, CL_READ), -EBADF);
    CHECK_INT(ready(poller, ends[0]), 0);
}

static void
test_always_ready_is_refused(cl_poller *poller)
{
    int fds[] = {open_regular_file(), open(".", O_RDONLY)};
    for (int i = 0; i < 2; i++) {
        CHECK(fds[i] >= 0);
        CHECK_INT(set(poller, fds[i], 0, CL_READ), -EPERM);
        CHECK_INT(set(poller, fds[i], CL_READ, BOTH), -EPERM);
        CHECK_INT(ready(poller, fds[i]), 0);
    }
    close_both(fds);
}

static void
test_forget_after_close(cl_poller *poller)
{
    int ends[2];
    open_pipe(ends);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    CHECK_INT(close(ends[0]), 0);
    CHECK_INT(set(poller, ends[0], CL_READ, 0), 0);
    CHECK_INT(ready(poller, ends[0]), 0);
    CHECK_INT(close(ends[1]), 0);
}

/* The number is reused before its old owner calls forget. */
static void
test_forget_after_number_is_given_out_again(cl_poller *poller)
{
    int ends[2], others[2];
    open_pipe(ends);
    open_pipe(others);
    put_byte(others[1]);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    give_out_again(ends[0], others[0]);
    CHECK_INT(set(poller, ends[0], CL_READ, 0), 0);
    CHECK_INT(ready(poller, ends[0]), 0);
    close_both(ends);
    close_both(others);
}

/* The caller still assumes that the kernel has the interest. */
static void
test_set_after_number_is_given_out_again(cl_poller *poller)
{
    int ends[2], others[2];
    open_pipe(ends);
    open_pipe(others);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    give_out_again(ends[0], others[0]);
    CHECK_INT(set_generation(poller, ends[0], 2, CL_READ, CL_READ), 0);
    CHECK_INT(ready(poller, ends[0]), 0);
    put_byte(others[1]);
    CHECK_INT(event_of(poller, ends[0]).generation, 2);
    close_both(ends);
    close_both(others);
}

/* The number is reused for a regular file:
 *
 *     set(5, pipe)   close(5)   open(file) = 5   set(5) = -EPERM
 *
 * A bug before: poll kept the old interest, so the file was ready in every
 * wait, and epoll refused to forget the number. */
static void
test_number_is_given_out_to_a_regular_file(cl_poller *poller)
{
    int ends[2], file = open_regular_file();
    open_pipe(ends);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    give_out_again(ends[0], file);
    CHECK_INT(set(poller, ends[0], CL_READ, CL_READ), -EPERM);
    CHECK_INT(ready(poller, ends[0]), 0);
    CHECK_INT(set(poller, ends[0], CL_READ, 0), 0);
    CHECK_INT(set(poller, -1, CL_READ, 0), 0);
    CHECK_INT(close(file), 0);
    close_both(ends);
}

/* The caller assumes that the kernel dropped the interest when the descriptor
 * was closed. But the file is still open elsewhere, and gets the same number
 * again. */
static void
test_same_file_comes_back_under_its_number(cl_poller *poller)
{
    int ends[2];
    open_pipe(ends);
    int other = dup(ends[0]);
    CHECK(other >= 0);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    CHECK_INT(close(ends[0]), 0);
    give_out_again(ends[0], other);
    CHECK_INT(set_generation(poller, ends[0], 2, 0, BOTH), 0);
    put_byte(ends[1]);
    CHECK_INT(event_of(poller, ends[0]).generation, 2);
    CHECK_INT(close(other), 0);
    close_both(ends);
}

static void
test_closed_descriptor_does_not_spin(cl_poller *poller)
{
    cl_event events[CL_EVENTS_MAX];
    int ends[2], others[2];
    open_pipe(ends);
    open_pipe(others);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    CHECK_INT(set(poller, others[1], 0, CL_WRITE), 0);
    CHECK_INT(close(ends[0]), 0);
    /* The first wait may return early, when it finds the closed number. */
    CHECK_INT(ready(poller, others[1]), CL_WRITE);
    CHECK_INT(set(poller, others[1], CL_WRITE, 0), 0);
    int64_t start = cl_now_ns();
    CHECK_INT(wait_for(poller, 5 * MS, events), 0);
    CHECK(cl_now_ns() - start >= 5 * MS);
    /* The number is valid again once it is set again. */
    give_out_again(ends[0], others[0]);
    put_byte(others[1]);
    CHECK_INT(set(poller, ends[0], CL_READ, CL_READ), 0);
    CHECK_INT(ready(poller, ends[0]), CL_READ);
    close_both(ends);
    close_both(others);
}

/* ------------------------------------------------------------------ waiting */

/* After poll(2) has found the number closed, and before the wait returns,
 * another thread reuses and watches it. The new interest must not be taken for
 * the closed one. */
static struct {
    cl_poller *poller;
    int fd, other;
} reopened;

static void
reopen(void)
{
    seen_by_poll = NULL;
    give_out_again(reopened.fd, reopened.other);
    CHECK_INT(set_generation(reopened.poller, reopened.fd, 2, 0, CL_READ), 0);
}

static void
test_number_reopened_while_it_is_found_closed(cl_poller *poller)
{
    int ends[2], others[2];
    open_pipe(ends);
    open_pipe(others);
    CHECK_INT(set_generation(poller, ends[0], 1, 0, CL_READ), 0);
    CHECK_INT(close(ends[0]), 0);
    reopened.poller = poller;
    reopened.fd = ends[0];
    reopened.other = others[0];
    seen_by_poll = reopen;
    CHECK_INT(ready(poller, ends[0]), 0);
    if (seen_by_poll != NULL) /* the back end did not call poll(2) */
        reopen();
    put_byte(others[1]);
    CHECK_INT(event_of(poller, ends[0]).generation, 2);
    close_both(ends);
    close_both(others);
}

static void
test_never_early(cl_poller *poller)
{
    const int64_t timeouts[] = {0,      1,  999,    50000,
                                MS - 1, MS, MS + 1, 7 * MS + 500000};
    cl_event events[CL_EVENTS_MAX];
    int ends[2];
    open_pipe(ends);
    for (int watched = 0; watched < 2; watched++) {
        for (int i = 0; i < 8; i++) {
            int64_t start = cl_now_ns();
            CHECK_INT(wait_for(poller, timeouts[i], events), 0);
            int64_t waited = cl_now_ns() - start;
            CHECK(waited >= timeouts[i]);
            CHECK(waited < timeouts[i] + LONG);
        }
        CHECK_INT(set(poller, ends[0], watched ? CL_READ : 0, CL_READ), 0);
    }
    close_both(ends);
}

static void
test_ready_ends_the_wait(cl_poller *poller)
{
    const int64_t timeouts[] = {-1, 1, LONG, 24 * 3600 * CL_NS_PER_S,
                                INT64_MAX};
    cl_event events[CL_EVENTS_MAX];
    int ends[2];
    open_pipe(ends);
    put_byte(ends[1]);
    CHECK_INT(set(poller, ends[0], 0, CL_READ), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(wait_for(poller, timeouts[i], events), 1);
        CHECK_INT(events[0].fd, ends[0]);
    }
    close_both(ends);
}

static void
on_alarm(int number)
{
}

static void
test_signal_interrupts(cl_poller *poller)
{
    /* Repeated, because the first signal may come before the wait. */
    const struct itimerval every = {{0, 5000}, {0, 5000}},
                           never = {{0, 0}, {0, 0}};
    struct sigaction action, before;
    cl_event events[CL_EVENTS_MAX];
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART;
    CHECK_INT(sigaction(SIGALRM, &action, &before), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &every, NULL), 0);
    int limited = wait_for(poller, LONG, events);
    int unlimited = wait_for(poller, -1, events);
    CHECK_INT(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_INT(sigaction(SIGALRM, &before, NULL), 0);
    CHECK_INT(limited, -EINTR);
    CHECK_INT(unlimited, -EINTR);
}

/* A readable pipe that is watched through many descriptors. The generation of
 * an event is the index of its descriptor. */
typedef struct {
    int ends[2];
    int fds[MANY];
} crowd;

static void
crowd_open(cl_poller *poller, crowd *many)
{
    open_pipe(many->ends);
    put_byte(many->ends[1]);
    for (uint32_t i = 0; i < MANY; i++) {
        many->fds[i] = dup(many->ends[0]);
        CHECK(many->fds[i] >= 0);
        CHECK_INT(set_generation(poller, many->fds[i], i, 0, CL_READ), 0);
    }
}

static void
crowd_close(const crowd *many)
{
    for (int i = 0; i < MANY; i++)
        CHECK_INT(close(many->fds[i]), 0);
    close_both(many->ends);
}

/* Receives `total` events, at most `max` per wait, and counts them by
 * descriptor. */
static void
count_events(cl_poller *poller, const crowd *many, int max, int total,
             int counts[MANY])
{
    cl_event events[CL_EVENTS_MAX];
    memset(counts, 0, MANY * sizeof(int));
    while (total > 0) {
        int wanted = max < total ? max : total;
        int count = poller->ops->wait(poller, LONG, events, wanted);
        CHECK_INT(count, wanted);
        for (int i = 0; i < count; i++) {
            CHECK(events[i].generation < MANY);
            CHECK_INT(events[i].fd, many->fds[events[i].generation]);
            counts[events[i].generation]++;
        }
        total -= count;
    }
}

/* More descriptors are ready than one wait can report. The next wait starts
 * with the others, so that each is reported equally often. */
static void
test_none_is_starved(cl_poller *poller)
{
    const int maxima[] = {CL_EVENTS_MAX, CL_EVENTS_MAX - 1, 1};
    int counts[MANY];
    crowd many;
    crowd_open(poller, &many);
    for (int i = 0; i < 3; i++) {
        count_events(poller, &many, maxima[i], 3 * MANY, counts);
        for (int at = 0; at < MANY; at++)
            CHECK_INT(counts[at], 3);
    }
    crowd_close(&many);
}

/* ------------------------------------------------------------------ threads */

typedef struct {
    cl_poller *poller;
    crowd many;
    atomic_bool done;
} shared;

static void *
change_all(void *arg)
{
    shared *with = arg;
    for (int round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < MANY; i++) {
            unsigned have = round % 2 ? 0 : CL_READ,
                     want = round % 2 ? CL_READ : 0;
            int fd = with->many.fds[i];
            CHECK_INT(set_generation(with->poller, fd, i, have, want), 0);
        }
    }
    atomic_store(&with->done, true);
    return NULL;
}

static void
test_set_from_another_thread_during_a_wait(cl_poller *poller)
{
    shared with = {.poller = poller};
    cl_event events[CL_EVENTS_MAX];
    int counts[MANY];
    pthread_t thread;
    crowd_open(poller, &with.many);
    CHECK_INT(pthread_create(&thread, NULL, change_all, &with), 0);
    while (!atomic_load(&with.done)) {
        int count = wait_for(poller, MS, events);
        CHECK(count >= 0);
        for (int i = 0; i < count; i++) {
            CHECK(events[i].generation < MANY);
            CHECK_INT(events[i].fd, with.many.fds[events[i].generation]);
        }
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    /* The last round set all of them. */
    count_events(poller, &with.many, CL_EVENTS_MAX, MANY, counts);
    crowd_close(&with.many);
}

/* ------------------------------------------------------------------ choosing */

/* The interest that known() reports. */
typedef struct {
    int fd;
    uint32_t generation;
    unsigned interest;
    int count; /* number of descriptors reported */
} known;

static void
note_known(void *arg, int fd, uint32_t generation, unsigned interest)
{
    known *found = arg;
    found->count++;
    if (fd == found->fd) {
        found->generation = generation;
        found->interest = interest;
    }
}

static void
check_known(cl_poller *poller, int fd, uint32_t generation, unsigned interest,
            int count)
{
    known found = {.fd = fd};
    CHECK_INT(poller->ops->known(poller, note_known, &found), 0);
    CHECK_INT(found.generation, generation);
    CHECK_INT(found.interest, interest);
    CHECK_INT(found.count, count);
}

static void
test_what_the_kernel_knows(cl_poller *poller)
{
    int ends[2];
    if (poller->ops->known == NULL)
        return;
    open_sockets(ends);
    check_known(poller, ends[0], 0, 0, 0);
    CHECK_INT(set_generation(poller, ends[0], 7, 0, CL_READ), 0);
    check_known(poller, ends[0], 7, CL_READ, 1);
    CHECK_INT(set_generation(poller, ends[1], UINT32_MAX, 0, CL_WRITE), 0);
    CHECK_INT(set_generation(poller, ends[0], 8, CL_READ, BOTH), 0);
    check_known(poller, ends[0], 8, BOTH, 2);
    check_known(poller, ends[1], UINT32_MAX, CL_WRITE, 2);
    CHECK_INT(set(poller, ends[0], BOTH, 0), 0);
    check_known(poller, ends[0], 0, 0, 1);
    close_both(ends);
    cl_event events[CL_EVENTS_MAX];
    CHECK_INT(wait_for(poller, 0, events), 0);
    check_known(poller, ends[1], 0, 0, 0);
}

static void
test_what_callers_promise(cl_poller *poller)
{
    cl_event events[CL_EVENTS_MAX];
    CHECK_ASSERTS(set(poller, 0, 0, CL_EDGE), "of 0: 4");
    CHECK_ASSERTS(set(poller, 0, 0, 8), "of 0: 0 to 8");
    CHECK_ASSERTS(poller->ops->wait(poller, 0, events, 0), "max > 0");
}

static void
test_names(void)
{
    int count = 0;
    while (cl_poller_name(count) != NULL)
        count++;
    CHECK(count > 0);
    CHECK(cl_poller_find(NULL) == cl_poller_find(cl_poller_name(0)));
    CHECK(cl_poller_find("no such") == NULL);
    CHECK(cl_poller_find("") == NULL);
    CHECK(strcmp(cl_poller_name(count - 1), "poll") == 0);
}

static void
test_poller_descriptor_is_not_inherited(cl_poller *poller)
{
    if (poller->fd >= 0)
        CHECK(fcntl(poller->fd, F_GETFD) & FD_CLOEXEC);
}

/* A back end that needs a descriptor fails cleanly if none is available. */
static void
test_open_without_descriptors(const cl_poller_ops *ops)
{
    struct rlimit before, none;
    cl_poller poller;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)lowest_free_descriptor();
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    int err = cl_poller_open(&poller, ops);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK(err == -EMFILE ? poller.ops == NULL : err == 0 && poller.fd < 0);
    cl_poller_close(&poller);
    cl_poller_close(&poller);
}

static void
raise_descriptor_limit(void)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 2 * MANY && limit.rlim_max >= 2 * MANY) {
        limit.rlim_cur = 2 * MANY;
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    }
}

static void (*const tests[])(cl_poller *poller) = {
    test_readable,
    test_edge_reports_each_change,
    test_writable,
    test_readable_and_writable,
    test_half_close_is_readable,
    test_hangup,
    test_hangup_before_the_interest,
    test_broken_pipe_gets_another_interest,
    test_error,
    test_change_of_interest,
    test_forget,
    test_forget_what_is_not_known,
    test_generation_comes_back,
    test_bad_descriptor,
    test_always_ready_is_refused,
    test_forget_after_close,
    test_forget_after_number_is_given_out_again,
    test_set_after_number_is_given_out_again,
    test_number_is_given_out_to_a_regular_file,
    test_same_file_comes_back_under_its_number,
    test_closed_descriptor_does_not_spin,
    test_number_reopened_while_it_is_found_closed,
    test_never_early,
    test_ready_ends_the_wait,
    test_signal_interrupts,
    test_none_is_starved,
    test_set_from_another_thread_during_a_wait,
    test_poller_descriptor_is_not_inherited,
    test_what_the_kernel_knows,
    test_what_callers_promise,
};

static void
run_all(const char *name)
{
    check_context = name;
    test_open_without_descriptors(cl_poller_find(name));
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        cl_poller poller;
        int lowest = lowest_free_descriptor();
        CHECK_INT(cl_poller_open(&poller, cl_poller_find(name)), 0);
        tests[i](&poller);
        cl_poller_close(&poller);
        CHECK_INT(lowest_free_descriptor(), lowest);
    }
}

int
main(void)
{
    test_names();
    raise_descriptor_limit();
    for (int n = 0; cl_poller_name(n) != NULL; n++)
        run_all(cl_poller_name(n));
    return 0;
}
