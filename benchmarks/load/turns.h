/* turns.h - taking turns with the server, so that each run of it meets the same.
 *
 * Under benchmarks.instr the variable LOAD_TURNS names a descriptor. Then this
 * program runs only while the server's loop has nothing to do, and never waits
 * for anything but its next turn: what the server finds at each poll does not
 * depend on time. The other half is instr/stage.c. */
#ifndef BENCHMARKS_LOAD_TURNS_H
#define BENCHMARKS_LOAD_TURNS_H

#include "common.h"

static int turns_fd = -1;

static inline int
turns_taken(void)
{
    return turns_fd >= 0;
}

/* The server's turn, until it has nothing more to do. */
static inline void
turns_yield(void)
{
    char c = 0;
    if (send(turns_fd, &c, 1, MSG_NOSIGNAL) != 1 ||
        recv(turns_fd, &c, 1, 0) != 1) {
        exit(0); /* it has ended */
    }
}

static inline void
turns_setup(void)
{
    const char *name = getenv("LOAD_TURNS");
    char c;
    if (name != NULL) {
        turns_fd = atoi(name);
        if (recv(turns_fd, &c, 1, 0) != 1) {
            exit(0);
        }
    }
}

/* Whether to try again what would have waited, after a turn of the server. */
static inline int
turns_again(int flags)
{
    if (!turns_taken() || errno != EAGAIN || (flags & MSG_DONTWAIT)) {
        return 0;
    }
    turns_yield();
    return 1;
}

static inline int
turns_flags(int flags)
{
    return turns_taken() ? flags | MSG_DONTWAIT : flags;
}

static inline int
turns_epoll_wait(int epoll, struct epoll_event *events, int most)
{
    for (;;) {
        int n = epoll_wait(epoll, events, most, turns_taken() ? 0 : -1);
        if (n < 0) {
            die("epoll_wait");
        }
        if (n > 0) {
            return n;
        }
        turns_yield();
    }
}

/* What was received is acknowledged now, and not when a timer of the kernel says so:
 * it has left the server's buffer before the server's next turn. */
static inline void
turns_acknowledge(int fd)
{
    int on = 1;
    int error = errno; /* of recv; a datagram socket has no such option */
    if (turns_taken()) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
        errno = error;
    }
}

/* Buffers that do not grow with what the kernel measures. */
static inline void
turns_fix_buffers(int fd)
{
    int size = 200 * 1000;
    if (turns_taken()) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
}

#endif
