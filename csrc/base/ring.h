/* ring.h - the ready queue: a growable FIFO ring of tagged pointers.
 *
 * A node is an address with its kind in the low bits (cl_node_make). What a
 * kind means, and who owns the reference, is up to the caller. The ring owns
 * only its slots.
 *
 * Positions count all nodes ever pushed: r_head is the oldest node, r_tail the
 * next push. They do not wrap in practice (2^64), so a position stays valid
 * while nodes come and go.
 *
 * Invariants: r_mask + 1 is a power of two; r_tail - r_head <= r_mask + 1. */
#ifndef CL_BASE_RING_H
#define CL_BASE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

typedef uintptr_t cl_node;

#define CL_NODE_KIND_MASK ((uintptr_t)7)

static inline cl_node
cl_node_make(void *pointer, unsigned kind)
{
    cl_assert(((uintptr_t)pointer & CL_NODE_KIND_MASK) == 0);
    cl_assert(kind <= CL_NODE_KIND_MASK);
    return (uintptr_t)pointer | kind;
}

static inline void *
cl_node_pointer(cl_node node)
{
    return (void *)(node & ~CL_NODE_KIND_MASK);
}

static inline unsigned
cl_node_kind(cl_node node)
{
    return (unsigned)(node & CL_NODE_KIND_MASK);
}

typedef struct {
    cl_node *r_slots;
    uint64_t r_head;
    uint64_t r_tail;
    uint64_t r_mask;
} cl_ring;

/* 0 or -ENOMEM. */
int cl_ring_init(cl_ring *ring);
void cl_ring_free(cl_ring *ring);

/* Makes room for one more node. Returns 0 or -ENOMEM. */
int cl_ring_grow(cl_ring *ring);

#ifdef CL_DEBUG
/* The invariants. */
void cl_ring_check(const cl_ring *ring);
#endif

static inline size_t
cl_ring_count(const cl_ring *ring)
{
    cl_assertf(ring->r_tail - ring->r_head <= ring->r_mask + 1,
               "head %llu, tail %llu, %llu slots",
               (unsigned long long)ring->r_head,
               (unsigned long long)ring->r_tail,
               (unsigned long long)ring->r_mask + 1);
    return (size_t)(ring->r_tail - ring->r_head);
}

/* 0 or -ENOMEM. */
static inline int
cl_ring_push(cl_ring *ring, cl_node node)
{
    cl_check(cl_ring_check(ring));
    if (ring->r_tail - ring->r_head > ring->r_mask) {
        int err = cl_ring_grow(ring);
        if (err < 0)
            return err;
    }
    ring->r_slots[ring->r_tail & ring->r_mask] = node;
    ring->r_tail++;
    return 0;
}

/* The ring must not be empty. */
static inline cl_node
cl_ring_pop(cl_ring *ring)
{
    cl_check(cl_ring_check(ring));
    cl_assert(cl_ring_count(ring) > 0);
    uint64_t at = ring->r_head;
    /* The watchdog's thread reads it. */
    __atomic_store_n(&ring->r_head, at + 1, __ATOMIC_RELAXED);
    return ring->r_slots[at & ring->r_mask];
}

/* Asks the processor for the memory of the node after the next, 128 bytes. If
 * there is none, for that of an older one, which does no harm. */
static inline void
cl_ring_prefetch(const cl_ring *ring)
{
    const char *memory =
        cl_node_pointer(ring->r_slots[(ring->r_head + 1) & ring->r_mask]);
    __builtin_prefetch(memory);
    __builtin_prefetch(memory + 64);
}

/* The slot of a position between r_head and r_tail, valid until the next push. */
static inline cl_node *
cl_ring_slot(const cl_ring *ring, uint64_t position)
{
    cl_assertf(position - ring->r_head < cl_ring_count(ring),
               "position %llu, head %llu, tail %llu",
               (unsigned long long)position, (unsigned long long)ring->r_head,
               (unsigned long long)ring->r_tail);
    return &ring->r_slots[position & ring->r_mask];
}

static inline cl_node
cl_ring_at(const cl_ring *ring, uint64_t position)
{
    return *cl_ring_slot(ring, position);
}

/* Frees memory after a burst; call it when few nodes are left. */
void cl_ring_trim(cl_ring *ring);

#endif
