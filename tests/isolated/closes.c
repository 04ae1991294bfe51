/* closes.c - counts calls of close(2) for descriptors that are not open.
 *
 * For LD_PRELOAD. The second close() of a descriptor fails with EBADF. If the
 * number was reused meanwhile, it closes the other's descriptor, and the
 * close() of that fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long good, bad;
static atomic_int last_bad = -1;

int
close(int fd)
{
    int result = (int)syscall(SYS_close, fd);
    if (result < 0 && errno == EBADF) {
        atomic_fetch_add(&bad, 1);
        atomic_store(&last_bad, fd);
    }
    else {
        atomic_fetch_add(&good, 1);
    }
    return result;
}

long
good_closes(void)
{
    return atomic_load(&good);
}

long
bad_closes(void)
{
    return atomic_load(&bad);
}

int
last_bad_close(void)
{
    return atomic_load(&last_bad);
}
