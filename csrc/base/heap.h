/* heap.h - the timers: an array heap with four children a node, whose members
 * know their slots.
 *
 * Members are ordered by key, and by order of insertion where keys are equal.
 * A member is a cl_heap_node embedded in its owner; the heap never allocates
 * or frees one. It copies the key next to the pointer, so that sifting reads
 * the array alone.
 *
 * Because each member knows its slot, removing one from the middle costs as
 * little as popping: a cancelled timer leaves at once and no purge is needed.
 *
 * Invariants: node->slot is the index of the node, CL_HEAP_OUT outside; no
 * entry orders before its parent. Keys are never NaN. */
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

/* 0 or -ENOMEM; the node must be out of every heap. */
int cl_heap_push(cl_heap *heap, cl_heap_node *node, double key);

/* The node must be in this heap. Cannot fail. */
void cl_heap_remove(cl_heap *heap, cl_heap_node *node);

/* The first entry, or NULL; valid until the heap changes. */
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
/* The invariants, of every entry; and of one member alone. */
void cl_heap_check(const cl_heap *heap);
void cl_heap_check_member(const cl_heap *heap, const cl_heap_node *node);
#endif

#endif
