/* inbox.c - see inbox.h. */
#include "core/inbox.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/mutex.h"
#include "base/platform.h"

#define MIN_CAPACITY CL_TINY(1, 64)

#ifdef CL_DEBUG
/* Call with the lock held. */
static void
check_locked(cl_inbox *inbox)
{
    cl_assertf(inbox->i_count <= inbox->i_capacity, "%zu of %zu",
               inbox->i_count, inbox->i_capacity);
    cl_assert(inbox->i_capacity == 0 || inbox->i_nodes != NULL);
    cl_assertf(cl_inbox_filled(inbox) == (inbox->i_count > 0), "%zu nodes",
               inbox->i_count);
    cl_assertf(!inbox->i_asleep || inbox->i_count == 0,
               "it sleeps over %zu nodes", inbox->i_count);
    cl_assertf((inbox->i_read_fd < 0) == (inbox->i_write_fd < 0), "%d and %d",
               inbox->i_read_fd, inbox->i_write_fd);
}

void
cl_inbox_check(cl_inbox *inbox)
{
    cl_mutex_lock(&inbox->i_lock);
    check_locked(inbox);
    cl_mutex_unlock(&inbox->i_lock);
}

size_t
cl_inbox_count(cl_inbox *inbox)
{
    cl_mutex_lock(&inbox->i_lock);
    size_t count = inbox->i_count;
    cl_mutex_unlock(&inbox->i_lock);
    return count;
}
#endif

int
cl_inbox_open(cl_inbox *inbox)
{
    int fds[2];
    memset(inbox, 0, sizeof(*inbox));
    inbox->i_read_fd = inbox->i_write_fd = -1;
    int err = cl_mutex_init(&inbox->i_lock);
    if (err != 0)
        return -err;
    if (cl_pipe(fds) < 0) {
        err = -errno;
        pthread_mutex_destroy(&inbox->i_lock);
        return err;
    }
    inbox->i_read_fd = fds[0];
    inbox->i_write_fd = fds[1];
    return 0;
}

static void
close_pipe(cl_inbox *inbox)
{
    if (inbox->i_read_fd >= 0) {
        close(inbox->i_read_fd);
        close(inbox->i_write_fd);
    }
    inbox->i_read_fd = inbox->i_write_fd = -1;
}

void
cl_inbox_after_fork(cl_inbox *inbox)
{
    close_pipe(inbox);
    /* Its holder does not exist in the child. */
    (void)cl_mutex_init(&inbox->i_lock);
    inbox->i_asleep = false;
}

int
cl_inbox_reopen(cl_inbox *inbox)
{
    cl_assertf(inbox->i_read_fd < 0 && inbox->i_write_fd < 0, "%d and %d",
               inbox->i_read_fd, inbox->i_write_fd);
    int fds[2];
    if (cl_pipe(fds) < 0)
        return -errno;
    inbox->i_read_fd = fds[0];
    inbox->i_write_fd = fds[1];
    return 0;
}

void
cl_inbox_shut(cl_inbox *inbox)
{
    cl_mutex_lock(&inbox->i_lock);
    inbox->i_shut = true;
    cl_mutex_unlock(&inbox->i_lock);
}

void
cl_inbox_close(cl_inbox *inbox)
{
    cl_mutex_lock(&inbox->i_lock);
    inbox->i_shut = true;
    close_pipe(inbox);
    cl_free(inbox->i_nodes);
    inbox->i_nodes = NULL;
    inbox->i_count = inbox->i_capacity = 0;
    cl_mutex_unlock(&inbox->i_lock);
}

void
cl_inbox_destroy(cl_inbox *inbox)
{
    pthread_mutex_destroy(&inbox->i_lock);
}

static int
grow(cl_inbox *inbox)
{
    size_t capacity = inbox->i_capacity ? inbox->i_capacity * 2 : MIN_CAPACITY;
    cl_node *fresh = cl_realloc(inbox->i_nodes, capacity * sizeof(cl_node));
    if (fresh == NULL)
        return -ENOMEM;
    inbox->i_nodes = fresh;
    inbox->i_capacity = capacity;
    return 0;
}

/* The lock is held: the descriptor is not closed meanwhile. */
static void
write_byte(cl_inbox *inbox)
{
    /* A full pipe wakes the loop as well. */
    ssize_t written;
    if (inbox->i_write_fd < 0)
        return;
    do {
        written = write(inbox->i_write_fd, "", 1);
    } while (written < 0 && errno == EINTR);
}

int
cl_inbox_push(cl_inbox *inbox, cl_node node)
{
    int err = 0;
    bool asleep = false;
    cl_mutex_lock(&inbox->i_lock);
    if (inbox->i_shut)
        err = -ESHUTDOWN;
    else if (inbox->i_count == inbox->i_capacity)
        err = grow(inbox);
    cl_check_stress(check_locked(inbox));
    if (err == 0) {
        inbox->i_nodes[inbox->i_count++] = node;
        atomic_store_explicit(&inbox->i_filled, true, memory_order_relaxed);
        asleep = inbox->i_asleep;
        inbox->i_asleep = false;
    }
    if (asleep)
        write_byte(inbox);
    cl_mutex_unlock(&inbox->i_lock);
    return err;
}

void
cl_inbox_wake(cl_inbox *inbox)
{
    cl_mutex_lock(&inbox->i_lock);
    write_byte(inbox);
    cl_mutex_unlock(&inbox->i_lock);
}

int
cl_inbox_drain(cl_inbox *inbox, cl_ring *ring)
{
    int err = 0;
    cl_mutex_lock(&inbox->i_lock);
    cl_check_stress(check_locked(inbox));
    while (err == 0 && ring->r_mask + 1 - cl_ring_count(ring) < inbox->i_count)
        err = cl_ring_grow(ring);
    if (err == 0) {
        for (size_t i = 0; i < inbox->i_count; i++)
            (void)cl_ring_push(
                ring, inbox->i_nodes[i]); /* cannot fail: there is room */
        inbox->i_count = 0;
        atomic_store_explicit(&inbox->i_filled, false, memory_order_relaxed);
    }
    cl_mutex_unlock(&inbox->i_lock);
    return err;
}

bool
cl_inbox_sleep(cl_inbox *inbox)
{
    cl_mutex_lock(&inbox->i_lock);
    bool empty = inbox->i_count == 0;
    inbox->i_asleep = empty;
    cl_mutex_unlock(&inbox->i_lock);
    return empty;
}

void
cl_inbox_awake(cl_inbox *inbox)
{
    cl_mutex_lock(&inbox->i_lock);
    inbox->i_asleep = false;
    cl_mutex_unlock(&inbox->i_lock);
}

int
cl_inbox_read(cl_inbox *inbox, unsigned char *buffer, int size)
{
    cl_assertf(size > 0, "%d", size);
    ssize_t count;
    do {
        count = read(inbox->i_read_fd, buffer, (size_t)size);
    } while (count < 0 && errno == EINTR);
    return count > 0 ? (int)count : 0;
}
