/* heap.c - the timer heap; see heap.h. */
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Four children per node: half the levels of a binary heap, and a node's
 * children fit in two cache lines. */
#define ARITY 4
#define MIN_CAPACITY 32

static inline bool
before(const cl_heap_entry *a, const cl_heap_entry *b)
{
    return a->key < b->key || (a->key == b->key && a->order < b->order);
}

static inline void
place(cl_heap *heap, size_t slot, cl_heap_entry entry)
{
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
    free(heap->entries);
    memset(heap, 0, sizeof(*heap));
}

int
cl_heap_push(cl_heap *heap, cl_heap_node *node, double key)
{
    if (heap->count == heap->capacity) {
        int err =
            resize(heap, heap->capacity ? heap->capacity * 2 : MIN_CAPACITY);
        if (err < 0)
            return err;
    }
    cl_heap_entry entry = {key, heap->inserted++, node};
    sift_up(heap, heap->count++, entry);
    return 0;
}

void
cl_heap_remove(cl_heap *heap, cl_heap_node *node)
{
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
}

bool
cl_heap_check(const cl_heap *heap)
{
    for (size_t at = 0; at < heap->count; at++) {
        if (heap->entries[at].node->slot != at)
            return false;
        if (at > 0 &&
            before(&heap->entries[at], &heap->entries[(at - 1) / ARITY]))
            return false;
    }
    return heap->count <= heap->capacity;
}
