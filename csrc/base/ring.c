/* ring.c - grows and shrinks the ready ring; see ring.h. */
#include "base/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Enough for most turns of most programs (4 KiB). */
#define MIN_SLOTS CL_TINY(2, 512)

#ifdef CL_DEBUG
void
cl_ring_check(const cl_ring *ring)
{
    uint64_t slots = ring->r_mask + 1;
    cl_assert(ring->r_slots != NULL);
    cl_assertf((slots & ring->r_mask) == 0 && slots >= MIN_SLOTS, "%llu slots",
               (unsigned long long)slots);
    cl_assertf(
        ring->r_head <= ring->r_tail && ring->r_tail - ring->r_head <= slots,
        "head %llu, tail %llu, %llu slots", (unsigned long long)ring->r_head,
        (unsigned long long)ring->r_tail, (unsigned long long)slots);
}
#endif

static int
resize(cl_ring *ring, uint64_t slots)
{
    cl_assert(cl_ring_count(ring) <= slots || ring->r_slots == NULL);
    cl_node *fresh = malloc(slots * sizeof(cl_node));
    if (fresh == NULL)
        return -ENOMEM;
    /* Nodes keep their positions, so each moves to its own slot in the new
     * ring. */
    for (uint64_t at = ring->r_head; at != ring->r_tail; at++)
        fresh[at & (slots - 1)] = ring->r_slots[at & ring->r_mask];
    free(ring->r_slots);
    ring->r_slots = fresh;
    ring->r_mask = slots - 1;
    cl_check(cl_ring_check(ring));
    return 0;
}

int
cl_ring_init(cl_ring *ring)
{
    memset(ring, 0, sizeof(*ring));
    return resize(ring, MIN_SLOTS);
}

void
cl_ring_free(cl_ring *ring)
{
    free(ring->r_slots);
    memset(ring, 0, sizeof(*ring));
}

int
cl_ring_grow(cl_ring *ring)
{
    cl_check(cl_ring_check(ring));
    return resize(ring, (ring->r_mask + 1) * 2);
}

void
cl_ring_trim(cl_ring *ring)
{
    cl_check(cl_ring_check(ring));
    uint64_t slots = ring->r_mask + 1;
    /* Shrink at a quarter, so that a varying load does not resize every time.
     * Failing to shrink is no error. */
    if (slots > MIN_SLOTS && cl_ring_count(ring) <= slots / 4)
        (void)resize(ring, slots / 2);
}
