/* heap.c - an allocator that costs the same whatever was allocated before.
 *
 * Above its caches, malloc() of libc searches and merges, and what that takes
 * depends on which blocks happen to be neighbours: a tenth of a row can come and
 * go with a string that another row left behind. Here each size has its list of
 * free blocks, and nothing is given back. Python's own allocator for small
 * objects is as ever; this is what lies below it. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of each block, in front of what the caller gets. */
typedef struct header {
    struct header *next; /* while it is free */
    size_t size;         /* that the caller may use */
} header;

/* Classes: 16, 32, ... 1024, then four to each doubling. */
#define STEP 16
#define FINE_MAX 1024
#define FINE (FINE_MAX / STEP)
#define CLASSES (FINE + 4 * 48)
#define ARENA ((size_t)256 << 20)

static header *free_blocks[CLASSES];
static char *arena, *arena_end;
static atomic_flag lock = ATOMIC_FLAG_INIT;

static inline unsigned
class_of(size_t size, size_t *rounded)
{
    if (size <= FINE_MAX) {
        unsigned number = size == 0 ? 0 : (unsigned)((size - 1) / STEP);
        *rounded = (number + 1) * (size_t)STEP;
        return number;
    }
    unsigned top = 63 - (unsigned)__builtin_clzll(size - 1); /* 10 or more */
    unsigned shift = top - 2;
    unsigned quarter = (unsigned)((size - 1) >> shift) & 3;
    *rounded = ((size_t)(4 + quarter) + 1) << shift;
    return FINE + 4 * (top - 10) + quarter;
}

static void *
from_arena(size_t size)
{
    if ((size_t)(arena_end - arena) < size) {
        size_t room = size > ARENA ? (size + 4095) & ~(size_t)4095 : ARENA;
        void *fresh = mmap(NULL, room, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fresh == MAP_FAILED) {
            return NULL;
        }
        arena = fresh;
        arena_end = arena + room;
    }
    void *taken = arena;
    arena += size;
    return taken;
}

/* *is_fresh: whether it is all zeros. */
static void *
take(size_t size, int *is_fresh)
{
    size_t rounded;
    if (size > PTRDIFF_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }
    unsigned number = class_of(size, &rounded);
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {
    }
    header *block = free_blocks[number];
    *is_fresh = block == NULL;
    if (block != NULL) {
        free_blocks[number] = block->next;
    }
    else if ((block = from_arena(sizeof(header) + rounded)) != NULL) {
        block->size = rounded;
    }
    atomic_flag_clear_explicit(&lock, memory_order_release);
    if (block == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    return block + 1;
}

void *
malloc(size_t size)
{
    int is_fresh;
    return take(size, &is_fresh);
}

void
free(void *memory)
{
    if (memory == NULL) {
        return;
    }
    header *block = (header *)memory - 1;
    size_t rounded;
    if (block->size == 0) { /* aligned: a header in front of the real block */
        free(block->next);
        return;
    }
    unsigned number = class_of(block->size, &rounded);
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {
    }
    block->next = free_blocks[number];
    free_blocks[number] = block;
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

void *
calloc(size_t count, size_t size)
{
    size_t total;
    int is_fresh;
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    void *memory = take(total, &is_fresh);
    if (memory != NULL && !is_fresh) {
        memset(memory, 0, total);
    }
    return memory;
}

size_t
malloc_usable_size(void *memory)
{
    if (memory == NULL) {
        return 0;
    }
    header *block = (header *)memory - 1;
    if (block->size != 0) {
        return block->size;
    }
    header *real = (header *)(void *)block->next - 1;
    return (size_t)((char *)block->next + real->size - (char *)memory);
}

void *
realloc(void *memory, size_t size)
{
    size_t room = malloc_usable_size(memory);
    if (memory != NULL && size <= room && size > room / 2) {
        return memory;
    }
    void *moved = malloc(size);
    if (moved != NULL && memory != NULL) {
        memcpy(moved, memory, room < size ? room : size);
        free(memory);
    }
    return moved;
}

void *
aligned_alloc(size_t alignment, size_t size)
{
    if (alignment <= STEP) {
        return malloc(size);
    }
    char *real = malloc(size + alignment + sizeof(header));
    if (real == NULL) {
        return NULL;
    }
    uintptr_t place = (uintptr_t)(real + sizeof(header) + alignment - 1) &
                      ~(uintptr_t)(alignment - 1);
    header *block = (header *)place - 1;
    block->next = (header *)(void *)real;
    block->size = 0;
    return (void *)place;
}

void *
memalign(size_t alignment, size_t size)
{
    return aligned_alloc(alignment, size);
}

int
posix_memalign(void **memory, size_t alignment, size_t size)
{
    *memory = aligned_alloc(alignment, size);
    return *memory == NULL ? ENOMEM : 0;
}

void *
valloc(size_t size)
{
    return aligned_alloc(4096, size);
}

void *
pvalloc(size_t size)
{
    return aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
}
