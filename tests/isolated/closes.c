/* closes.c - counts the calls of close(2) for descriptors that are not open.
 *
 * To be preloaded. Whoever closes a number twice gets EBADF the second time, or closes what
 * somebody else has been given under that number meanwhile, who then gets EBADF in turn. */
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
