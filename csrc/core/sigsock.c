/* sigsock.c - see sigsock.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* struct ucred */
#endif
#include "core/sigsock.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"

#ifndef SOCK_NONBLOCK
#include <fcntl.h>
#endif

static int
open_pair(int fds[2])
{
#ifdef SOCK_NONBLOCK
    int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    return socketpair(AF_UNIX, type, 0, fds) < 0 ? -errno : 0;
#else
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    return 0;
#endif
}

int
cl_sigsock_open(cl_sigsock *sock)
{
    int fds[2] = {-1, -1};
    int err = open_pair(fds);
    sock->sg_read_fd = fds[0];
    sock->sg_write_fd = fds[1];
#ifdef SO_PASSCRED
    int on = 1;
    if (err == 0)
        (void)setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
#endif
    return err;
}

void
cl_sigsock_close(cl_sigsock *sock)
{
    cl_assertf((sock->sg_read_fd < 0) == (sock->sg_write_fd < 0), "%d and %d",
               sock->sg_read_fd, sock->sg_write_fd);
    if (sock->sg_read_fd >= 0) {
        close(sock->sg_read_fd);
        close(sock->sg_write_fd);
    }
    sock->sg_read_fd = sock->sg_write_fd = -1;
}

/* Whether this process has written what the message brought. */
static bool
is_ours(struct msghdr *message)
{
#ifdef SO_PASSCRED
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

int
cl_sigsock_read(cl_sigsock *sock, unsigned char *buffer, int size)
{
    union {
        struct cmsghdr header; /* for its alignment */
#ifdef SO_PASSCRED
        char space[CMSG_SPACE(sizeof(struct ucred))];
#endif
    } control;
    ssize_t count;
    struct msghdr message;
    cl_assertf(size > 0, "%d", size);
    /* One call brings bytes of one process only. */
    do {
        struct iovec part = {buffer, (size_t)size};
        memset(&message, 0, sizeof(message));
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        count = recvmsg(sock->sg_read_fd, &message, MSG_DONTWAIT);
    } while (count < 0 ? errno == EINTR : count > 0 && !is_ours(&message));
    return count > 0 ? (int)count : 0;
}
