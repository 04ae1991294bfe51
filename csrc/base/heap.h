/* heap.h - the timer heap: an array heap with four children per node.
 *
 * Nodes are ordered by key, and by insertion if keys are equal. A cl_heap_node
 * is embedded in its owner; the heap never allocates or frees one. It copies
 * the key next to the pointer, so sifting reads only the array.
 *
 * Each node knows its slot, so removing one from the middle is as cheap as
 * popping. Cancelled timers are removed at once, and no purge is needed.
 *
 * Invariants: node->slot is the index of the node, or CL_HEAP_OUT if it is in
 * no heap; no entry orders before its parent. Keys are never NaN. */
#ifndef CL_BASE_HEAP_H
#define CL_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

#define CL_HEAP_OUT SIZE_MAX

typedef struct {
    size_t slot;
} cl_heap_node;

typedef struct {
    double key;
    uint64_t order;
    cl_heap_node *node;
} cl_heap_entry;

typedef struct {
    cl_heap_entry *entries;
    size_t count;
    size_t capacity;
    uint64_t inserted;
} cl_heap;

void cl_heap_init(cl_heap *heap);
void cl_heap_free(cl_heap *heap);

/* The node must not be in a heap. Returns 0 or -ENOMEM. */
int cl_heap_push(cl_heap *heap, cl_heap_node *node, double key);

/* The node must be in this heap. Cannot fail. */
void cl_heap_remove(cl_heap *heap, cl_heap_node *node);

/* The first entry, or NULL. Valid until the heap changes. */
static inline const cl_heap_entry *
cl_heap_peek(const cl_heap *heap)
{
    cl_assert(heap->count <= heap->capacity);
    return heap->count ? &heap->entries[0] : NULL;
}

static inline bool
cl_heap_contains(const cl_heap_node *node)
{
    return node->slot != CL_HEAP_OUT;
}

#ifdef CL_DEBUG
/* Check the invariants: of all entries, or of one. */
void cl_heap_check(const cl_heap *heap);
void cl_heap_check_member(const cl_heap *heap, const cl_heap_node *node);
#endif

#endif
