/* inbox.h - nodes that other threads push to a loop, and the pipe that wakes
 * it.
 *
 * Any thread may push. The loop's thread drains the inbox at the start of each
 * turn and before each push of its own, so nodes keep their order. A byte is
 * written to the pipe only if the loop sleeps or is about to. CPython may also
 * write signal numbers there, to wake the loop (core/signals.h). */
#ifndef CL_CORE_INBOX_H
#define CL_CORE_INBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/assert.h"
#include "base/ring.h"

typedef struct {
    pthread_mutex_t i_lock;
    cl_node *i_nodes;     /* guarded by i_lock */
    size_t i_count;       /* guarded */
    size_t i_capacity;    /* guarded */
    bool i_asleep;        /* guarded: the loop may sleep until it is woken */
    bool i_shut;          /* guarded: nothing can be pushed any more */
    atomic_bool i_filled; /* hint: i_count > 0 */
    int i_read_fd;        /* both -1 after a fork; see cl_inbox_after_fork() */
    int i_write_fd;
} cl_inbox;

/* Returns 0 or -errno. */
int cl_inbox_open(cl_inbox *inbox);

/* From now on, nothing can be pushed. */
void cl_inbox_shut(cl_inbox *inbox);

/* Closes the pipe and frees the array, which must be empty. Other threads may
 * still try to push. */
void cl_inbox_close(cl_inbox *inbox);

/* The end, when nobody can use it any more. */
void cl_inbox_destroy(cl_inbox *inbox);

/* In the child of a fork: closes its copy of the pipe, whose other end wakes
 * the parent, and keeps the nodes. The loop must not sleep until
 * cl_inbox_reopen() has created another pipe (0 or -errno). */
void cl_inbox_after_fork(cl_inbox *inbox);
int cl_inbox_reopen(cl_inbox *inbox);

/* Returns 0, -ENOMEM, or -ESHUTDOWN if it is shut. From any thread. */
int cl_inbox_push(cl_inbox *inbox, cl_node node);

/* Wakes the loop, or keeps it from falling asleep. From any thread. */
void cl_inbox_wake(cl_inbox *inbox);

static inline bool
cl_inbox_filled(cl_inbox *inbox)
{
    return atomic_load_explicit(&inbox->i_filled, memory_order_relaxed);
}

/* Moves all nodes to the end of the ring. Returns 0, or -ENOMEM with nothing
 * moved. */
int cl_inbox_drain(cl_inbox *inbox, cl_ring *ring);

#ifdef CL_DEBUG
/* Checks the invariants. From any thread. */
void cl_inbox_check(cl_inbox *inbox);

/* The number of nodes. From any thread. */
size_t cl_inbox_count(cl_inbox *inbox);
#endif

/* Announces that the loop will sleep. Returns false if there is something to
 * do. */
bool cl_inbox_sleep(cl_inbox *inbox);
void cl_inbox_awake(cl_inbox *inbox);

/* Empties the pipe into `buffer`. Returns the number of bytes, 0 when it is
 * empty. */
int cl_inbox_read(cl_inbox *inbox, unsigned char *buffer, int size);

#endif
