/* test_sigsock.c - signal numbers and the process that wrote them. */
#include "core/sigsock.h"

#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void
write_in_child(cl_sigsock *sock, const char *text)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(write(sock->sg_write_fd, text, strlen(text)) < 0);
    CHECK(pid > 0);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

static void
write_here(cl_sigsock *sock, const char *text)
{
    CHECK_INT(write(sock->sg_write_fd, text, strlen(text)), strlen(text));
}

static void
check_reads(cl_sigsock *sock, int size, const char *expected)
{
    unsigned char buffer[64];
    char got[64] = "";
    int count;
    while ((count = cl_sigsock_read(sock, buffer, size)) > 0) {
        CHECK(count <= size);
        strncat(got, (char *)buffer, (size_t)count);
    }
    CHECK_INT(strcmp(got, expected), 0);
}

static void
test_descriptors(cl_sigsock *sock)
{
    int fds[] = {sock->sg_read_fd, sock->sg_write_fd};
    for (int i = 0; i < 2; i++) {
        CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
    }
    check_reads(sock, 64, "");
}

static void
test_all_of_this_process_come_through(cl_sigsock *sock)
{
    write_here(sock, "a");
    write_here(sock, "bcd");
    check_reads(sock, 2, "abcd");
}

static void
test_those_of_a_child_are_dropped(cl_sigsock *sock)
{
    write_in_child(sock, "12345");
    check_reads(sock, 2, "");
    write_here(sock, "a");
    write_in_child(sock, "1");
    write_here(sock, "b");
    write_in_child(sock, "23");
    check_reads(sock, 64, "ab");
}

static void
with_sigsock(void (*test)(cl_sigsock *sock))
{
    cl_sigsock sock;
    CHECK_INT(cl_sigsock_open(&sock), 0);
    test(&sock);
    cl_sigsock_close(&sock);
    CHECK_INT(sock.sg_read_fd, -1);
    CHECK_INT(sock.sg_write_fd, -1);
    cl_sigsock_close(&sock);
}

int
main(void)
{
    with_sigsock(test_descriptors);
    with_sigsock(test_all_of_this_process_come_through);
    with_sigsock(test_those_of_a_child_are_dropped);
    return 0;
}
