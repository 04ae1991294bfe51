/* test_heap.c - compares the timer heap with a sorted array. */
#include "base/heap.h"

#include <math.h>
#include <string.h>

#include "check.h"

#define MEMBERS 600

typedef struct {
    cl_heap_node node;
    double key;
} member;

typedef struct {
    cl_heap heap;
    member members[MEMBERS];
    member *sorted[MEMBERS]; /* those in the heap, in the expected order */
    size_t count;
} fixture;

static void
fixture_open(fixture *f)
{
    cl_heap_init(&f->heap);
    for (size_t i = 0; i < MEMBERS; i++)
        f->members[i].node.slot = CL_HEAP_OUT;
    f->count = 0;
}

static void
fixture_check(const fixture *f)
{
    const cl_heap_entry *first = cl_heap_peek(&f->heap);
    cl_heap_check(&f->heap);
    CHECK_INT(f->heap.count, f->count);
    if (f->count == 0) {
        CHECK(first == NULL);
        return;
    }
    CHECK(first->node == &f->sorted[0]->node);
    CHECK(first->key == f->sorted[0]->key);
}

static void
push(fixture *f, member *m, double key)
{
    size_t at = f->count++;
    m->key = key;
    for (; at > 0 && f->sorted[at - 1]->key > key; at--)
        f->sorted[at] = f->sorted[at - 1];
    f->sorted[at] = m;
    CHECK(!cl_heap_contains(&m->node));
    CHECK_INT(cl_heap_push(&f->heap, &m->node, key), 0);
    CHECK(cl_heap_contains(&m->node));
    fixture_check(f);
}

static void
remove_nth(fixture *f, size_t at)
{
    member *m = f->sorted[at];
    size_t behind = --f->count - at;
    memmove(&f->sorted[at], &f->sorted[at + 1], behind * sizeof(member *));
    cl_heap_remove(&f->heap, &m->node);
    CHECK(!cl_heap_contains(&m->node));
    fixture_check(f);
}

/* Pops the remaining members, and checks their order. */
static void
fixture_close(fixture *f)
{
    while (f->count > 0)
        remove_nth(f, 0);
    cl_heap_free(&f->heap);
}

static void
test_empty(void)
{
    fixture f;
    fixture_open(&f);
    fixture_check(&f);
    push(&f, &f.members[0], 1.0);
    remove_nth(&f, 0);
    fixture_close(&f);
}

static void
test_ties_in_order_of_insertion(void)
{
    fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < 300; i++)
        push(&f, &f.members[i], (double)(i % 3));
    fixture_close(&f);
}

/* A member that is pushed again comes after its equals. */
static void
test_pushed_again_is_behind_its_equals(void)
{
    fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < 20; i++)
        push(&f, &f.members[i], 5.0);
    remove_nth(&f, 0);
    push(&f, &f.members[0], 5.0);
    CHECK(f.sorted[19] == &f.members[0]);
    fixture_close(&f);
}

static void
test_remove_from_anywhere(void)
{
    fixture f;
    uint32_t seed = 7;
    for (size_t count = 1; count <= 40; count++) {
        for (size_t victim = 0; victim < count; victim++) {
            fixture_open(&f);
            for (size_t i = 0; i < count; i++)
                push(&f, &f.members[i], check_random(&seed) % 20);
            remove_nth(&f, victim);
            fixture_close(&f);
        }
    }
}

/* The last entry of the heap fills the hole. It may come from below another
 * parent, and then must rise instead of sink:
 *
 *             0
 *    100 1 2 3          removing a child of 100 moves the last, a child
 *    101.. 2..          of 1, under 100 */
static void
test_remove_that_makes_another_rise(void)
{
    fixture f;
    const double keys[] = {0, 100, 1, 2, 3, 101, 102, 103, 104, 2};
    fixture_open(&f);
    for (size_t i = 0; i < 10; i++)
        push(&f, &f.members[i], keys[i]);
    CHECK_INT(f.members[5].node.slot, 5);
    CHECK(f.sorted[6] == &f.members[5]);
    remove_nth(&f, 6);
    CHECK_INT(f.members[9].node.slot, 1);
    fixture_close(&f);
}

static void
test_any_number_is_a_key(void)
{
    fixture f;
    const double keys[] = {INFINITY, 0.0,   -INFINITY, -0.0,
                           -1.5,     1e300, INFINITY,  0.0};
    fixture_open(&f);
    for (size_t i = 0; i < 8; i++)
        push(&f, &f.members[i], keys[i]);
    fixture_close(&f);
}

static void
test_random_pushes_and_removals(void)
{
    fixture f;
    member *out[MEMBERS];
    size_t outside = MEMBERS;
    uint32_t seed = 20240229;
    fixture_open(&f);
    for (size_t i = 0; i < MEMBERS; i++)
        out[i] = &f.members[i];
    for (int step = 0; step < 20000; step++) {
        uint32_t choice = check_random(&seed);
        /* Alternately mostly grows and mostly shrinks. */
        bool grows = choice % 8 < (step / 2000 % 2 ? 3 : 5);
        if (f.count == 0 || (grows && outside > 0)) {
            push(&f, out[--outside], check_random(&seed) % 64);
            continue;
        }
        size_t victim = choice & 256 ? 0 : check_random(&seed) % f.count;
        out[outside++] = f.sorted[victim];
        remove_nth(&f, victim);
    }
    fixture_close(&f);
}

static void
test_shrinks_and_grows_again(void)
{
    fixture f;
    fixture_open(&f);
    push(&f, &f.members[0], 0.0);
    size_t least = f.heap.capacity;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 1; i < MEMBERS; i++)
            push(&f, &f.members[i], (double)i);
        CHECK(f.heap.capacity >= MEMBERS);
        while (f.count > 1)
            remove_nth(&f, f.count - 1);
        CHECK_INT(f.heap.capacity, least);
    }
    fixture_close(&f);
}

static void
test_check_finds_what_is_broken(void)
{
    fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < 10; i++)
        push(&f, &f.members[i], (double)i);
    f.members[9].node.slot = 3;
    CHECK_ASSERTS(cl_heap_check(&f.heap), "slot 9, its node says 3");
    f.members[9].node.slot = 9;
    f.heap.entries[9].key = -1.0;
    CHECK_ASSERTS(cl_heap_check(&f.heap), "slot 9: -1.0");
    f.heap.entries[9].key = 9.0;
    f.heap.entries[8].order = 1000;
    CHECK_ASSERTS(cl_heap_check(&f.heap), "heap->inserted [slot 8]");
    f.heap.entries[8].order = 8;
    f.heap.count = f.heap.capacity + 1;
    CHECK_ASSERTS(cl_heap_check(&f.heap), "heap->count <= heap->capacity");
    f.heap.count = 10;
    cl_heap_check(&f.heap);
    fixture_close(&f);
}

static void
test_what_callers_promise(void)
{
    fixture f;
    fixture_open(&f);
    push(&f, &f.members[0], 1.0);
    CHECK_ASSERTS(cl_heap_push(&f.heap, &f.members[0].node, 2.0),
                  "!cl_heap_contains(node) [slot 0]");
    CHECK_ASSERTS(cl_heap_push(&f.heap, &f.members[1].node, NAN),
                  "key == key");
    CHECK_ASSERTS(cl_heap_remove(&f.heap, &f.members[1].node),
                  "slot < heap->count");
    f.members[1].node.slot = 0; /* of another heap */
    CHECK_ASSERTS(cl_heap_remove(&f.heap, &f.members[1].node),
                  "entries[slot].node == node");
    f.members[1].node.slot = CL_HEAP_OUT;
    CHECK_ASSERTS(cl_heap_free(&f.heap), "1 members are left");
    fixture_close(&f);
}

int
main(void)
{
    test_empty();
    test_ties_in_order_of_insertion();
    test_pushed_again_is_behind_its_equals();
    test_remove_from_anywhere();
    test_remove_that_makes_another_rise();
    test_any_number_is_a_key();
    test_random_pushes_and_removals();
    test_shrinks_and_grows_again();
    test_check_finds_what_is_broken();
    test_what_callers_promise();
    return 0;
}
