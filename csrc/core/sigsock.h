/* sigsock.h - the pair of sockets through which signal numbers reach a loop that has
 * signal handlers.
 *
 * CPython's C-level handler writes the number into the process's wakeup descriptor.
 * That is shared with every child until it has called exec() or has set its own, so
 * a signal to a child would look like one to us. The kernel says which process has
 * written each byte (SO_PASSCRED), and those of others are dropped. Where it
 * doesn't, all are taken. */
#ifndef CL_CORE_SIGSOCK_H
#define CL_CORE_SIGSOCK_H

typedef struct {
    int s_read_fd; /* -1 while closed, as the other */
    int s_write_fd;
} cl_sigsock;

/* 0 or -errno, and then it is closed. */
int cl_sigsock_open(cl_sigsock *sock);

/* Closes it, if it is open. */
void cl_sigsock_close(cl_sigsock *sock);

/* Reads without blocking: the number of bytes put into `buffer`, 0 when nothing of
 * this process is left. */
int cl_sigsock_read(cl_sigsock *sock, unsigned char *buffer, int size);

#endif
