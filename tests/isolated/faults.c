/* faults.c - makes system calls and allocations of cloop's fail.
 *
 * To be preloaded. faults_arm(kinds, first, last, error) has the calls of these kinds
 * that cloop's extension module makes fail with `error`, from the first-th to the last-th;
 * faults_seen() says how many there were. Calls of others are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ADD = 1, CHANGE = 2, REMOVE = 4, STAT = 8, MEMORY = 16 };

static atomic_uint armed;
static atomic_long seen, first, last;
static atomic_int error;

void
faults_arm(unsigned kinds, long from, long to, int number)
{
    atomic_store(&seen, 0);
    atomic_store(&first, from);
    atomic_store(&last, to);
    atomic_store(&error, number);
    atomic_store(&armed, kinds);
}

long
faults_seen(void)
{
    return atomic_load(&seen);
}

/* Whether a call of this kind, made from this address, is to fail. */
static int
fails(unsigned kind, void *caller)
{
    Dl_info info;
    if ((atomic_load(&armed) & kind) == 0 || dladdr(caller, &info) == 0 ||
        info.dli_fname == NULL || strstr(info.dli_fname, "_cloop") == NULL)
        return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (number < atomic_load(&first) || number > atomic_load(&last))
        return 0;
    errno = atomic_load(&error);
    return 1;
}

#define FAILS(kind) fails(kind, __builtin_return_address(0))

int
epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
    if (FAILS(op == EPOLL_CTL_ADD   ? ADD
              : op == EPOLL_CTL_MOD ? CHANGE
                                    : REMOVE))
        return -1;
    return (int)syscall(SYS_epoll_ctl, ep, op, fd, event);
}

/* What the poller that uses poll(2) looks at a descriptor with. */
int
fstat(int fd, struct stat *status)
{
    static int (*real)(int, struct stat *);
    if (FAILS(STAT))
        return -1;
    if (real == NULL)
        real = (int (*)(int, struct stat *))dlsym(RTLD_NEXT, "fstat");
    return real(fd, status);
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *
malloc(size_t size)
{
    return FAILS(MEMORY) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    return FAILS(MEMORY) ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *memory, size_t size)
{
    return FAILS(MEMORY) ? NULL : __libc_realloc(memory, size);
}
