/* heap.c - the timer heap; see heap.h. */
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Four children per node: half the levels of a binary heap, and a node's
 * children fit in two cache lines. */
#define ARITY 4
#define MIN_CAPACITY CL_TINY(2, 32)

/* In stress builds a heap of up to this many is looked at as a whole after each
 * operation, a larger one only near the member concerned. */
#define SMALL 64

static inline bool
before(const cl_heap_entry *a, const cl_heap_entry *b)
{
    return a->key < b->key || (a->key == b->key && a->order < b->order);
}

#ifdef CL_DEBUG
static void
check_entry(const cl_heap *heap, size_t slot)
{
    const cl_heap_entry *entry = &heap->entries[slot];
    cl_assertf(entry->node->slot == slot, "slot %zu, its node says %zu", slot,
               entry->node->slot);
    cl_assertf(entry->key == entry->key, "the key of slot %zu is NaN", slot);
    cl_assertf(entry->order < heap->inserted, "slot %zu", slot);
    cl_assertf(slot == 0 || !before(entry, &heap->entries[(slot - 1) / ARITY]),
               "slot %zu: %.9f is before %.9f above it", slot, entry->key,
               heap->entries[(slot - 1) / ARITY].key);
}

void
cl_heap_check(const cl_heap *heap)
{
    cl_assertf(heap->count <= heap->capacity, "%zu of %zu", heap->count,
               heap->capacity);
    cl_assert(heap->capacity == 0 || heap->entries != NULL);
    for (size_t slot = 0; slot < heap->count; slot++)
        check_entry(heap, slot);
}

void
cl_heap_check_member(const cl_heap *heap, const cl_heap_node *node)
{
    size_t slot = node->slot;
    cl_assertf(slot < heap->count, "slot %zu of %zu", slot, heap->count);
    cl_assert(heap->entries[slot].node == node);
    for (size_t at = slot * ARITY + 1;
         at <= slot * ARITY + ARITY && at < heap->count; at++)
        check_entry(heap, at);
    check_entry(heap, slot);
}
#endif

#ifdef CL_STRESS
static void
check_if_small(const cl_heap *heap)
{
    if (heap->count <= SMALL)
        cl_heap_check(heap);
}
#endif

static inline void
place(cl_heap *heap, size_t slot, cl_heap_entry entry)
{
    cl_assert(slot < heap->count);
    heap->entries[slot] = entry;
    entry.node->slot = slot;
}

static void
sift_up(cl_heap *heap, size_t slot, cl_heap_entry entry)
{
    while (slot > 0) {
        size_t parent = (slot - 1) / ARITY;
        if (!before(&entry, &heap->entries[parent]))
            break;
        place(heap, slot, heap->entries[parent]);
        slot = parent;
    }
    place(heap, slot, entry);
}

static void
sift_down(cl_heap *heap, size_t slot, cl_heap_entry entry)
{
    for (;;) {
        size_t child = slot * ARITY + 1;
        if (child >= heap->count)
            break;
        size_t end = child + ARITY < heap->count ? child + ARITY : heap->count;
        size_t least = child;
        for (size_t at = child + 1; at < end; at++) {
            if (before(&heap->entries[at], &heap->entries[least]))
                least = at;
        }
        if (!before(&heap->entries[least], &entry))
            break;
        place(heap, slot, heap->entries[least]);
        slot = least;
    }
    place(heap, slot, entry);
}

static int
resize(cl_heap *heap, size_t capacity)
{
    cl_assert(capacity >= heap->count && capacity >= MIN_CAPACITY);
    cl_heap_entry *fresh = realloc(heap->entries, capacity * sizeof(*fresh));
    if (fresh == NULL)
        return -ENOMEM;
    heap->entries = fresh;
    heap->capacity = capacity;
    return 0;
}

void
cl_heap_init(cl_heap *heap)
{
    memset(heap, 0, sizeof(*heap));
}

void
cl_heap_free(cl_heap *heap)
{
    cl_assertf(heap->count == 0, "%zu members are left", heap->count);
    free(heap->entries);
    memset(heap, 0, sizeof(*heap));
}

int
cl_heap_push(cl_heap *heap, cl_heap_node *node, double key)
{
    cl_assertf(!cl_heap_contains(node), "slot %zu", node->slot);
    cl_assert(key == key); /* no NaN */
    if (heap->count == heap->capacity) {
        int err =
            resize(heap, heap->capacity ? heap->capacity * 2 : MIN_CAPACITY);
        if (err < 0)
            return err;
    }
    cl_heap_entry entry = {key, heap->inserted++, node};
    sift_up(heap, heap->count++, entry);
    cl_check(cl_heap_check_member(heap, node));
    cl_check_stress(check_if_small(heap));
    return 0;
}

void
cl_heap_remove(cl_heap *heap, cl_heap_node *node)
{
    cl_check(cl_heap_check_member(heap, node));
    size_t slot = node->slot;
    cl_heap_entry last = heap->entries[--heap->count];
    node->slot = CL_HEAP_OUT;
    if (last.node != node) {
        if (slot > 0 && before(&last, &heap->entries[(slot - 1) / ARITY]))
            sift_up(heap, slot, last);
        else
            sift_down(heap, slot, last);
    }
    /* A quarter full: free half. Failing to shrink is no error. */
    if (heap->capacity > MIN_CAPACITY && heap->count <= heap->capacity / 4)
        (void)resize(heap, heap->capacity / 2);
    cl_check_stress(check_if_small(heap));
}
