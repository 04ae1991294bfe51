/* common.h - what the load generator and the floor servers share. */
#ifndef BENCHMARKS_LOAD_COMMON_H
#define BENCHMARKS_LOAD_COMMON_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* What one operation of a bulk row moves. */
#define CHUNK (64 * 1024)
/* The largest message, and the most that one recv takes. */
#define BUFFER (1024 * 1024)

static inline _Noreturn void
die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline _Noreturn void
refuse(const char *why)
{
    fprintf(stderr, "%s\n", why);
    exit(1);
}

/* Fails on unix sockets, which need none. */
static inline void
set_nodelay(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Closing will reset the connection: no end of it stays in TIME_WAIT, where
 * thousands would use up the ports. */
static inline void
set_reset_on_close(int fd)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) < 0) {
        die("SO_LINGER");
    }
}

static inline void
watch(int epoll, int op, int fd, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(epoll, op, fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static inline void
raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

#endif
