/* test_ring.c - compares the ready ring with a plain queue.
 *
 * Nodes are consecutive numbers (of kind 0), which show the order. */
#include "base/ring.h"

#include "check.h"

static cl_node
numbered(uint64_t number)
{
    return (cl_node)(number * (CL_NODE_KIND_MASK + 1));
}

static void
push_numbers(cl_ring *ring, uint64_t first, uint64_t end)
{
    for (uint64_t number = first; number < end; number++)
        CHECK_INT(cl_ring_push(ring, numbered(number)), 0);
}

static void
pop_numbers(cl_ring *ring, uint64_t first, uint64_t end)
{
    for (uint64_t number = first; number < end; number++)
        CHECK(cl_ring_pop(ring) == numbered(number));
}

static size_t
capacity(const cl_ring *ring)
{
    return (size_t)(ring->r_mask + 1);
}

static void
test_first_in_first_out(void)
{
    cl_ring ring;
    CHECK_INT(cl_ring_init(&ring), 0);
    CHECK_INT(cl_ring_count(&ring), 0);
    push_numbers(&ring, 0, 3000);
    CHECK_INT(cl_ring_count(&ring), 3000);
    pop_numbers(&ring, 0, 3000);
    CHECK_INT(cl_ring_count(&ring), 0);
    push_numbers(&ring, 3000, 3010);
    cl_ring_free(&ring);
    CHECK_INT(cl_ring_count(&ring), 0);
    CHECK(ring.r_slots == NULL);
    cl_ring_free(&ring); /* frees nothing twice */
}

/* The oldest node may be in any slot of the full ring. */
static void
test_growth_while_wrapped(void)
{
    cl_ring ring;
    CHECK_INT(cl_ring_init(&ring), 0);
    size_t slots = capacity(&ring);
    cl_ring_free(&ring);
    for (size_t shift = 0; shift <= slots; shift++) {
        CHECK_INT(cl_ring_init(&ring), 0);
        push_numbers(&ring, 0, shift);
        pop_numbers(&ring, 0, shift);
        push_numbers(&ring, shift, shift + slots);
        CHECK_INT(capacity(&ring), slots);
        push_numbers(&ring, shift + slots, shift + slots + 1);
        CHECK_INT(capacity(&ring), 2 * slots);
        pop_numbers(&ring, shift, shift + slots + 1);
        cl_ring_free(&ring);
    }
}

static void
test_positions_stay_meaningful(void)
{
    cl_ring ring;
    CHECK_INT(cl_ring_init(&ring), 0);
    CHECK_INT(ring.r_head, 0);
    push_numbers(&ring, 0, 700);
    pop_numbers(&ring, 0, 600);
    push_numbers(&ring, 700, 5000);
    pop_numbers(&ring, 600, 4900);
    cl_ring_trim(&ring);
    CHECK_INT(ring.r_head, 4900);
    CHECK_INT(ring.r_tail, 5000);
    for (uint64_t at = ring.r_head; at != ring.r_tail; at++)
        CHECK(cl_ring_at(&ring, at) == numbered(at));
    cl_ring_free(&ring);
}

static void
test_trim_gives_back_what_a_burst_took(void)
{
    cl_ring ring;
    CHECK_INT(cl_ring_init(&ring), 0);
    size_t slots = capacity(&ring);
    push_numbers(&ring, 0, 8 * slots);
    CHECK_INT(capacity(&ring), 8 * slots);
    /* More than a quarter of the slots is in use. */
    pop_numbers(&ring, 0, 6 * slots - 1);
    cl_ring_trim(&ring);
    CHECK_INT(capacity(&ring), 8 * slots);
    pop_numbers(&ring, 6 * slots - 1, 6 * slots);
    cl_ring_trim(&ring);
    CHECK_INT(capacity(&ring), 4 * slots);
    pop_numbers(&ring, 6 * slots, 8 * slots);
    for (int i = 0; i < 5; i++)
        cl_ring_trim(&ring);
    CHECK_INT(capacity(&ring), slots);
    cl_ring_free(&ring);
}

static void
test_grow_makes_room_and_moves_nothing(void)
{
    cl_ring ring;
    CHECK_INT(cl_ring_init(&ring), 0);
    size_t slots = capacity(&ring);
    push_numbers(&ring, 0, slots);
    CHECK_INT(cl_ring_grow(&ring), 0);
    CHECK(capacity(&ring) > slots);
    CHECK_INT(cl_ring_count(&ring), slots);
    pop_numbers(&ring, 0, slots);
    cl_ring_free(&ring);
}

static void
test_kinds(void)
{
    uint64_t owner = 0;
    void *pointers[] = {&owner, NULL};
    for (int i = 0; i < 2; i++) {
        for (unsigned kind = 0; kind <= CL_NODE_KIND_MASK; kind++) {
            cl_node node = cl_node_make(pointers[i], kind);
            CHECK(cl_node_pointer(node) == pointers[i]);
            CHECK_INT(cl_node_kind(node), kind);
        }
    }
}

/* Bursts of random sizes, trimmed at random times. */
static void
test_random_traffic(void)
{
    cl_ring ring;
    uint32_t seed = 20240229;
    uint64_t pushed = 0, popped = 0;
    CHECK_INT(cl_ring_init(&ring), 0);
    for (int round = 0; round < 2000; round++) {
        uint64_t burst = check_random(&seed) % (round % 16 ? 64 : 4096);
        push_numbers(&ring, pushed, pushed + burst);
        pushed += burst;
        uint64_t taken = check_random(&seed) % (pushed - popped + 1);
        pop_numbers(&ring, popped, popped + taken);
        popped += taken;
        cl_ring_trim(&ring);
        CHECK_INT(cl_ring_count(&ring), pushed - popped);
        CHECK(cl_ring_count(&ring) <= capacity(&ring));
    }
    pop_numbers(&ring, popped, pushed);
    cl_ring_free(&ring);
}

static void
test_check_finds_what_is_broken(void)
{
    cl_ring ring;
    CHECK_INT(cl_ring_init(&ring), 0);
    push_numbers(&ring, 0, 10);
    cl_ring broken = ring;
    broken.r_mask = 510;
    CHECK_ASSERTS(cl_ring_check(&broken), "511 slots");
    broken = ring;
    broken.r_head = 11;
    CHECK_ASSERTS(cl_ring_check(&broken), "head 11, tail 10");
    CHECK_ASSERTS(cl_ring_count(&broken), "head 11, tail 10");
    broken = ring;
    broken.r_tail = ring.r_mask + 2;
    CHECK_ASSERTS(cl_ring_push(&broken, numbered(1)), "head 0, tail");
    broken = ring;
    broken.r_slots = NULL;
    CHECK_ASSERTS(cl_ring_check(&broken), "r_slots != NULL");
    cl_ring_check(&ring);
    cl_ring_free(&ring);
}

static void
test_what_callers_promise(void)
{
    cl_ring ring;
    char byte;
    CHECK_INT(cl_ring_init(&ring), 0);
    CHECK_ASSERTS(cl_ring_pop(&ring), "cl_ring_count(ring) > 0");
    push_numbers(&ring, 0, 5);
    pop_numbers(&ring, 0, 2);
    CHECK_ASSERTS(cl_ring_at(&ring, 1), "position 1, head 2, tail 5");
    CHECK_ASSERTS(cl_ring_at(&ring, 5), "position 5, head 2, tail 5");
    CHECK_ASSERTS(cl_node_make(NULL, CL_NODE_KIND_MASK + 1), "kind <=");
    CHECK_ASSERTS(cl_node_make(&byte + ((uintptr_t)&byte % 2 == 0), 0),
                  "CL_NODE_KIND_MASK) == 0");
    cl_ring_free(&ring);
}

int
main(void)
{
    test_first_in_first_out();
    test_growth_while_wrapped();
    test_positions_stay_meaningful();
    test_trim_gives_back_what_a_burst_took();
    test_grow_makes_room_and_moves_nothing();
    test_kinds();
    test_random_traffic();
    test_check_finds_what_is_broken();
    test_what_callers_promise();
    return 0;
}
