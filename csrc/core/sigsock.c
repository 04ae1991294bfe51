/* sigsock.c - see sigsock.h. */
#include "core/sigsock.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/platform.h"

int
cl_sigsock_open(cl_sigsock *sock)
{
    int fds[2] = {-1, -1};
    int err = cl_socketpair(AF_UNIX, SOCK_STREAM, fds) < 0 ? -errno : 0;
    sock->sg_read_fd = fds[0];
    sock->sg_write_fd = fds[1];
    if (err == 0)
        cl_ask_for_writers(fds[0]);
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

int
cl_sigsock_read(cl_sigsock *sock, unsigned char *buffer, int size)
{
    cl_credentials control;
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
        /* Some sandboxes refuse it, as it may bring descriptors. */
        if (count < 0 && cl_is_refused(errno)) {
            count = recv(sock->sg_read_fd, buffer, (size_t)size, MSG_DONTWAIT);
            return count > 0 ? (int)count : 0;
        }
    } while (count < 0 ? errno == EINTR
                       : count > 0 && !cl_is_written_here(&message));
    return count > 0 ? (int)count : 0;
}
