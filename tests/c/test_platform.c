/* test_platform.c - what platform.h promises on every system. run.py also runs
 * it on the model, where nothing is there that is Linux's own. */
#include "base/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "base/clock.h"
#include "check.h"

#define MS (CL_NS_PER_S / 1000)

static void
check_prepared(int fd)
{
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void
close_both(const int fds[2])
{
    CHECK_INT(close(fds[0]), 0);
    CHECK_INT(close(fds[1]), 0);
}

static void
test_descriptors_are_prepared(void)
{
    int fds[2];
    CHECK_INT(cl_pipe(fds), 0);
    check_prepared(fds[0]);
    check_prepared(fds[1]);
    close_both(fds);
    CHECK_INT(cl_socketpair(AF_UNIX, SOCK_STREAM, fds), 0);
    check_prepared(fds[0]);
    check_prepared(fds[1]);
    close_both(fds);
    int fd = cl_socket(AF_INET, SOCK_STREAM, 0);
    check_prepared(fd);
    close(fd);
    errno = 0;
    CHECK_INT(cl_socket(12345, SOCK_STREAM, 0), -1);
    CHECK(errno != 0);
}

static void
test_accepted_is_prepared(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET}, peer;
    socklen_t len = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(bind(listening, (struct sockaddr *)&address, len), 0);
    CHECK_INT(listen(listening, 1), 0);
    CHECK_INT(getsockname(listening, (struct sockaddr *)&address, &len), 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(connect(client, (struct sockaddr *)&address, len), 0);
    CHECK_INT(cl_poll(&(struct pollfd){.fd = listening, .events = POLLIN}, 1,
                      10 * CL_NS_PER_S),
              1);
    len = sizeof(peer);
    int fd = cl_accept(listening, (struct sockaddr *)&peer, &len);
    check_prepared(fd);
    CHECK_INT(peer.sin_family, AF_INET);
    CHECK_INT(fcntl(listening, F_SETFL, O_NONBLOCK), 0);
    CHECK_INT(cl_accept(listening, (struct sockaddr *)&peer, &len), -1);
    CHECK_INT(errno, EAGAIN);
    CHECK_INT(close(fd), 0);
    CHECK_INT(close(client), 0);
    CHECK_INT(close(listening), 0);
}

/* With room for one more only, both ends of a pair are closed. */
static void
test_pair_without_descriptors(void)
{
    struct rlimit before, few;
    int fds[2], lowest = lowest_free_descriptor();
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = (rlim_t)lowest + 1;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_INT(cl_pipe(fds), -1);
    CHECK_INT(errno, EMFILE);
    CHECK_INT(cl_socketpair(AF_UNIX, SOCK_STREAM, fds), -1);
    CHECK_INT(errno, EMFILE);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void
test_kind(void)
{
    const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    for (int i = 0; i < 3; i++) {
        int family = -1, type = -1, proto = -1;
        int fd = socket(families[i], SOCK_DGRAM, 0);
        if (fd < 0) /* no IPv6 here */
            continue;
        CHECK_INT(cl_socket_kind(fd, &family, &type, &proto), 0);
        CHECK_INT(family, families[i]);
        CHECK_INT(type, SOCK_DGRAM);
        CHECK(proto == 0 || proto == IPPROTO_UDP);
        CHECK_INT(close(fd), 0);
    }
    int ends[2], ignored;
    CHECK_INT(pipe(ends), 0);
    CHECK_INT(cl_socket_kind(ends[0], &ignored, &ignored, &ignored),
              -ENOTSOCK);
    close_both(ends);
}

static void
test_poll_is_never_early(void)
{
    const int64_t timeouts[] = {0, 1, 999, MS - 1, MS, MS + 1, 3 * MS + 1};
    for (int i = 0; i < 7; i++) {
        int64_t start = cl_now_ns();
        CHECK_INT(cl_poll(NULL, 0, timeouts[i]), 0);
        CHECK(cl_now_ns() - start >= timeouts[i]);
    }
    int ends[2];
    CHECK_INT(cl_pipe(ends), 0);
    CHECK_INT(write(ends[1], "x", 1), 1);
    CHECK_INT(
        cl_poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, -1), 1);
    close_both(ends);
}

static void
test_condition_waits_by_our_clock(void)
{
    const int64_t waits[] = {-CL_NS_PER_S, 0, 1, MS, 5 * MS};
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    cl_cond_init(&cond);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 5; i++) {
        int64_t start = cl_now_ns();
        int error;
        do {
            error = cl_cond_wait(&cond, &lock, start + waits[i]);
        } while (error == 0); /* woken for no reason */
        CHECK_INT(error, ETIMEDOUT);
        CHECK(cl_now_ns() - start >= waits[i]);
        CHECK(cl_now_ns() - start < waits[i] + 20 * CL_NS_PER_S);
    }
    pthread_mutex_unlock(&lock);
    CHECK_INT(pthread_cond_destroy(&cond), 0);
    CHECK_INT(pthread_mutex_destroy(&lock), 0);
}

/* The descriptor can be polled, and is not inherited. */
static void
test_end_of_a_process(void)
{
    int ends[2], status;
    CHECK_INT(cl_pipe(ends), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct pollfd told = {.fd = ends[0], .events = POLLIN};
        close(ends[1]);
        (void)cl_poll(&told, 1, -1);
        _exit(7);
    }
    int fd = cl_pidfd_open(child);
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    if (fd == -ENOSYS) /* an old kernel */
        goto reap;
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_INT(cl_poll(&watched, 1, 0), 0);
    CHECK_INT(close(ends[1]), 0);
    ends[1] = -1;
    CHECK_INT(cl_poll(&watched, 1, 20 * CL_NS_PER_S), 1);
    CHECK_INT(cl_poll(&watched, 1, 0), 1); /* for as long as it is open */
    CHECK_INT(close(fd), 0);
    /* It has ended, and nobody has waited for it yet. */
    watched.fd = fd = cl_pidfd_open(child);
    CHECK(fd >= 0);
    CHECK_INT(cl_poll(&watched, 1, 20 * CL_NS_PER_S), 1);
    CHECK_INT(close(fd), 0);
reap:
    if (ends[1] >= 0)
        close(ends[1]);
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(WEXITSTATUS(status), 7);
    if (fd != -ENOSYS)
        CHECK_INT(cl_pidfd_open(child), -ESRCH);
    CHECK_INT(close(ends[0]), 0);
}

static void (*const tests[])(void) = {
    test_descriptors_are_prepared, test_accepted_is_prepared,
    test_pair_without_descriptors, test_kind,
    test_poll_is_never_early,      test_condition_waits_by_our_clock,
    test_end_of_a_process,
};

int
main(void)
{
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        int lowest = lowest_free_descriptor();
        tests[i]();
        CHECK_INT(lowest_free_descriptor(), lowest);
    }
    return 0;
}
