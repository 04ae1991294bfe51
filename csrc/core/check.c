/* check.c - see check.h. */
#include "core/check.h"

#ifdef CL_DEBUG

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/mutex.h"
#include "core/fork.h"
#include "core/loop.h"
#include "core/signals.h"

/* One turn in PERIOD is checked, and fewer when there is much to check: the
 * period grows by one for each SIZE entries. */
#define PERIOD CL_TINY(1, 64)
#define SIZE CL_TINY(256, 64)

/* One check in KERNEL_PERIOD also asks the kernel. */
#define KERNEL_PERIOD CL_TINY(8, 64)

/* ------------------------------------------------------------------ references */

/* The objects to which the queues own references, one entry per reference. The
 * memory is mapped, because tests make allocations fail. */
typedef struct {
    PyObject **r_objects;
    size_t r_count;
    size_t r_capacity;
} references;

static int
note(PyObject *object, void *arg)
{
    references *found = arg;
    if (object == NULL)
        return 0;
    if (found->r_count == found->r_capacity) {
        size_t capacity = found->r_capacity ? 2 * found->r_capacity : 4096;
        void *objects =
            found->r_objects == NULL
                ? mmap(NULL, capacity * sizeof(PyObject *),
                       PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                       0)
                : mremap(found->r_objects,
                         found->r_capacity * sizeof(PyObject *),
                         capacity * sizeof(PyObject *), MREMAP_MAYMOVE);
        if (objects == MAP_FAILED)
            return -1;
        found->r_objects = objects;
        found->r_capacity = capacity;
    }
    found->r_objects[found->r_count++] = object;
    return 0;
}

static int
by_address(const void *left, const void *right)
{
    uintptr_t a = (uintptr_t) * (PyObject *const *)left;
    uintptr_t b = (uintptr_t) * (PyObject *const *)right;
    return (a > b) - (a < b);
}

/* Without a GIL a count has two halves, read one after the other. While other
 * threads pass references on, the sum may be too low, but not each time. */
static bool
has_references(PyObject *object, size_t count)
{
    for (int reads = CL_FREE_THREADED ? 1000 : 1; reads > 0; reads--) {
        if (Py_REFCNT(object) >= (Py_ssize_t)count)
            return true;
    }
    return false;
}

static void
compare_references(references *found)
{
    if (found->r_count > 0)
        qsort(found->r_objects, found->r_count, sizeof(PyObject *),
              by_address);
    for (size_t first = 0, next; first < found->r_count; first = next) {
        PyObject *object = found->r_objects[first];
        for (next = first + 1;
             next < found->r_count && found->r_objects[next] == object; next++)
            ;
        cl_assertf(has_references(object, next - first),
                   "%s object at %p has %zd references, and is queued %zu "
                   "times",
                   Py_TYPE(object)->tp_name, (void *)object, Py_REFCNT(object),
                   next - first);
    }
}

static int
note_all(LoopObject *loop, references *found)
{
    const cl_ring *ready = &loop->l_ready;
    int err = 0;
    for (uint64_t at = ready->r_head; at != ready->r_tail && err == 0; at++) {
        cl_node node = cl_ring_at(ready, at);
        err = note(cl_node_check(loop->l_st, loop, node), found);
    }
    for (size_t i = 0; i < loop->l_timers.count && err == 0; i++)
        err = note(
            (PyObject *)cl_timer_from_node(loop->l_timers.entries[i].node),
            found);
    for (int fd = 0; fd < loop->l_watches.wt_size && err == 0; fd++) {
        const cl_watch *watch = loop->l_watches.wt_by_fd[fd];
        if (watch != NULL && watch->w_want != 0)
            err = note(watch->w_owner, found);
    }
    cl_mutex_lock(&loop->l_inbox.i_lock);
    for (size_t i = 0; i < loop->l_inbox.i_count && err == 0; i++) {
        cl_node node = loop->l_inbox.i_nodes[i];
        err = note(cl_node_check(loop->l_st, loop, node), found);
    }
    cl_mutex_unlock(&loop->l_inbox.i_lock);
    return err;
}

static void
check_references(LoopObject *loop)
{
    references found = {NULL, 0, 0};
    if (note_all(loop, &found) == 0)
        compare_references(&found);
    if (found.r_objects != NULL)
        munmap(found.r_objects, found.r_capacity * sizeof(PyObject *));
}

/* ---------------------------------------------------------------------- queues */

static void
check_ready(LoopObject *loop)
{
    const cl_ring *ready = &loop->l_ready;
    cl_ring_check(ready);
    cl_assertf(loop->l_scanned <= ready->r_tail, "%llu of %llu",
               (unsigned long long)loop->l_scanned,
               (unsigned long long)ready->r_tail);
    for (uint64_t at = ready->r_head; at != ready->r_tail; at++) {
        cl_node node = cl_ring_at(ready, at);
        cl_assertf(cl_node_pointer(node) != NULL, "node %llx",
                   (unsigned long long)node);
        (void)cl_node_check(loop->l_st, loop, node);
    }
}

static void
check_timers(LoopObject *loop)
{
    cl_heap_check(&loop->l_timers);
    for (size_t i = 0; i < loop->l_timers.count; i++) {
        const cl_heap_entry *entry = &loop->l_timers.entries[i];
        TimerHandleObject *timer = cl_timer_from_node(entry->node);
        cl_handle_check(loop, &timer->tm_handle);
        cl_assert_of(timer, timer->tm_handle.h_flags & CL_HANDLE_TIMER);
        cl_assert_of(timer,
                     entry->key == timer->tm_when ||
                         (isnan(timer->tm_when) && entry->key == -HUGE_VAL));
    }
    cl_assertf((loop->l_context == NULL) == (loop->l_context_users == 0),
               "%zd share a context", loop->l_context_users);
    cl_assertf(loop->l_fresh_count >= 0 &&
                   loop->l_fresh_count <= loop->l_fresh_capacity,
               "%zd of %zd", loop->l_fresh_count, loop->l_fresh_capacity);
    for (Py_ssize_t i = 0; i < loop->l_fresh_count; i++)
        cl_assertf(loop->l_fresh[i] == NULL || loop->l_fresh[i]->tm_fresh == i,
                   "fresh timer %zd says it is %zd", i,
                   loop->l_fresh[i]->tm_fresh);
}

static void
check_open_loops(cl_state *st)
{
    LoopObject *const *link = &st->loops;
    Py_ssize_t count = 0;
    CL_MUTEX_LOCK(
        &st->loops_lock); /* other threads make loops and close them */
    for (; *link != NULL; link = &(*link)->l_next_open) {
        const LoopObject *loop = *link;
        cl_assert_of(loop, loop->l_open_link == link);
        /* One that another thread opens or closes is listed meanwhile. */
        cl_assert_of(loop, CL_FREE_THREADED || loop->l_open);
        cl_assert_of(loop, loop->l_st == st);
        count++;
    }
    cl_assertf(count <= cl_live_count(&st->live_loops), "%zd of %zd loops",
               count, cl_live_count(&st->live_loops));
    CL_MUTEX_UNLOCK(&st->loops_lock);
}

static void
check_turn(const LoopObject *loop)
{
    cl_assert_of(loop, loop->l_made);
    cl_assertf(loop->l_depth >= 0, "depth %d", loop->l_depth);
    cl_assertf(loop->l_waiters >= 0, "%d waiters", loop->l_waiters);
    cl_assertf(loop->l_polls_owed >= 0 && loop->l_polls_owed <= CL_POLLS_OWED,
               "%d polls", loop->l_polls_owed);
    cl_assertf(loop->l_overridden < 1u << CL_OVERRIDABLE_COUNT, "%x",
               loop->l_overridden);
}

void
cl_loop_check(LoopObject *loop)
{
    cl_assert_gil();
    cl_assert_of(loop, loop->l_open);
    check_turn(loop);
    check_ready(loop);
    check_timers(loop);
    cl_inbox_check(&loop->l_inbox);
    cl_watch_check(loop);
    cl_signals_check(loop);
    cl_fork_check(loop);
    cl_handle_check_spares(loop);
    check_open_loops(loop->l_st);
    check_references(loop);
}

/* ------------------------------------------------------------------ the kernel */

static void
compare(void *arg, int fd, uint32_t generation, unsigned interest)
{
    const LoopObject *loop = arg;
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    /* The registration is of an earlier file or watch with this number. The
     * kernel keeps it while a duplicate of the descriptor is open. */
    if (watch == NULL || watch->w_generation != generation)
        return;
    watch->w_known = true;
    unsigned told = watch->w_have;
    if (loop->l_poller.ops != cl_poller_find("epoll"))
        told &= ~(unsigned)CL_EDGE;
    /* An interest whose descriptor was closed first cannot be removed. */
    cl_assertf((watch->w_have & CL_STALE) || interest == told ||
                   (told == 0 && cl_watch_is_replaced(watch)),
               "descriptor %d: the kernel knows %u, the watch says %u", fd,
               interest, told);
}

void
cl_loop_check_poller(LoopObject *loop)
{
    cl_watch_table *table = &loop->l_watches;
    cl_poller *poller = &loop->l_poller;
    if (poller->ops == NULL || poller->ops->known == NULL)
        return;
    for (int fd = 0; fd < table->wt_size; fd++) {
        if (table->wt_by_fd[fd] != NULL)
            table->wt_by_fd[fd]->w_known = false;
    }
    if (poller->ops->known(poller, compare, loop) < 0)
        return;
    for (int fd = 0; fd < table->wt_size; fd++) {
        const cl_watch *watch = table->wt_by_fd[fd];
        cl_assertf(
            watch == NULL || watch->w_known || watch->w_have == 0 ||
                (watch->w_have & CL_STALE) || cl_watch_is_replaced(watch),
            "descriptor %d: the kernel has forgotten %u", fd, watch->w_have);
    }
}

static size_t
size_of(LoopObject *loop)
{
    return cl_ring_count(&loop->l_ready) + loop->l_timers.count +
           cl_inbox_count(&loop->l_inbox) +
           (size_t)loop->l_watches.wt_size / 8 +
           (size_t)loop->l_spare_handle_count / 8 +
           (size_t)loop->l_spare_timer_count / 8;
}

void
cl_loop_check_sometimes(LoopObject *loop)
{
    uint64_t period = PERIOD + size_of(loop) / SIZE;
    if (!loop->l_open || loop->l_turns % period != 0)
        return;
    cl_loop_check(loop);
    if (loop->l_turns / period % KERNEL_PERIOD == 0)
        cl_loop_check_poller(loop);
}

#endif
