/* sigsock.h - a pair of sockets through which signal numbers reach a loop with
 * signal handlers.
 *
 * CPython's signal handler writes the number to the process's wakeup
 * descriptor. A child shares that until it calls exec() or sets its own, so
 * its signals would look like ours. Linux tells which process wrote each byte;
 * bytes of others are dropped. Where the kernel does not tell, all are
 * accepted. */
#ifndef CL_CORE_SIGSOCK_H
#define CL_CORE_SIGSOCK_H

typedef struct {
    int sg_read_fd; /* both -1 while closed */
    int sg_write_fd;
} cl_sigsock;

/* Returns 0, or -errno with the pair closed. */
int cl_sigsock_open(cl_sigsock *sock);

/* Closes it, if it is open. */
void cl_sigsock_close(cl_sigsock *sock);

/* Reads without blocking. Returns the number of bytes in `buffer`, 0 if no
 * byte of this process is left. */
int cl_sigsock_read(cl_sigsock *sock, unsigned char *buffer, int size);

#endif
