/* tally.c - see tally.h. */
#include "futures/tally.h"

#include "base/clock.h"
#include "base/mem.h"
#include "futures/state.h"

/* A hash table with open addressing: entries are moved when one before them
 * goes, so that there are no gaps between an entry and its own place. */
struct cl_tally {
    cl_task_counts *entries; /* owned */
    size_t mask;             /* the number of places, a power of two, - 1 */
    size_t count;            /* two thirds of the places at most */
};

#define PLACES_MIN CL_TINY(4, 64)

static inline struct cl_tally *
tally_of(const LoopObject *loop)
{
    return cl_futures_on(loop)->tally;
}

static inline size_t
own_place(const struct cl_tally *tally, const void *task)
{
    /* The low bits are those of the alignment. */
    uint64_t hash = ((uint64_t)(uintptr_t)task >> 4) * 0x9E3779B97F4A7C15U;
    return (size_t)(hash >> 32) & tally->mask;
}

/* Returns the task's entry, or the free one where it would be. */
static cl_task_counts *
place_of(const struct cl_tally *tally, const void *task)
{
    size_t at = own_place(tally, task);
    while (tally->entries[at].tc_task != NULL &&
           (const void *)tally->entries[at].tc_task != task)
        at = (at + 1) & tally->mask;
    return &tally->entries[at];
}

/* 0 or -ENOMEM. */
static int
resize(struct cl_tally *tally, size_t places)
{
    struct cl_tally fresh = {.mask = places - 1, .count = tally->count};
    fresh.entries = cl_calloc(places, sizeof(*fresh.entries));
    if (fresh.entries == NULL)
        return -ENOMEM;
    for (size_t i = 0; tally->entries != NULL && i <= tally->mask; i++) {
        const cl_task_counts *entry = &tally->entries[i];
        if (entry->tc_task != NULL)
            *place_of(&fresh, entry->tc_task) = *entry;
    }
    cl_free(tally->entries);
    *tally = fresh;
    return 0;
}

/* Returns the task's entry, which it creates; NULL if it can't. */
static cl_task_counts *
entry_of(struct cl_tally *tally, const TaskObject *task)
{
    cl_task_counts *entry = place_of(tally, task);
    if (entry->tc_task != NULL)
        return entry;
    if (3 * (tally->count + 1) > 2 * (tally->mask + 1)) {
        if (resize(tally, 2 * (tally->mask + 1)) < 0)
            return NULL;
        entry = place_of(tally, task);
    }
    *entry = (cl_task_counts){.tc_task = task};
    tally->count++;
    return entry;
}

static void
remove_entry(struct cl_tally *tally, cl_task_counts *entry)
{
    size_t gap = (size_t)(entry - tally->entries), at = gap;
    tally->count--;
    for (;;) {
        at = (at + 1) & tally->mask;
        if (tally->entries[at].tc_task == NULL)
            break;
        /* It may go into the gap if that is not before its own place. */
        size_t own = own_place(tally, tally->entries[at].tc_task);
        if (((at - own) & tally->mask) >= ((at - gap) & tally->mask)) {
            tally->entries[gap] = tally->entries[at];
            gap = at;
        }
    }
    tally->entries[gap] = (cl_task_counts){0};
}

/* ------------------------------------------------------------------- begin, end */

int
cl_tally_begin(LoopObject *loop)
{
    cl_assert_gil();
    if (tally_of(loop) != NULL)
        return 0;
    struct cl_tally *tally = cl_calloc(1, sizeof(*tally));
    if (tally == NULL || resize(tally, PLACES_MIN) < 0) {
        cl_free(tally);
        PyErr_NoMemory();
        return -1;
    }
    cl_futures_on(loop)->tally = tally;
    cl_loop_time_callbacks(loop, CL_TIMED_TASKS, true);
    return 0;
}

void
cl_tally_end(LoopObject *loop)
{
    struct cl_tally *tally = tally_of(loop);
    if (tally == NULL)
        return;
    cl_loop_time_callbacks(loop, CL_TIMED_TASKS, false);
    cl_futures_on(loop)->tally = NULL;
    cl_free(tally->entries);
    cl_free(tally);
}

const cl_task_counts *
cl_tally_of(const LoopObject *loop, const PyObject *task)
{
    const struct cl_tally *tally = tally_of(loop);
    if (tally == NULL)
        return NULL;
    const cl_task_counts *entry = place_of(tally, task);
    return entry->tc_task == NULL ? NULL : entry;
}

/* --------------------------------------------------------------------- counting */

void
cl_tally_made(LoopObject *loop, const TaskObject *task)
{
    cl_task_counts *entry = entry_of(tally_of(loop), task);
    if (entry != NULL) /* it may be initialised for a second time */
        *entry = (cl_task_counts){.tc_task = task, .tc_made_ns = cl_now_ns()};
}

void
cl_tally_gone(LoopObject *loop, const TaskObject *task)
{
    cl_task_counts *entry = place_of(tally_of(loop), task);
    if (entry->tc_task != NULL)
        remove_entry(tally_of(loop), entry);
}

void
cl_tally_due(LoopObject *loop, const TaskObject *task)
{
    cl_task_counts *entry = entry_of(tally_of(loop), task);
    if (entry == NULL)
        return;
    if (entry->tc_due_ticks == 0)
        entry->tc_due_ticks = cl_ticks();
    else /* by the step that was due then, which runs */
        entry->tc_next_ticks = cl_ticks();
}

void
cl_tally_ran(LoopObject *loop, const TaskObject *task, uint64_t began,
             uint64_t ended, bool waited)
{
    cl_task_counts *entry = entry_of(tally_of(loop), task);
    if (entry == NULL)
        return;
    entry->tc_steps++;
    /* The counter may have been set back. */
    if ((int64_t)(ended - began) > 0)
        entry->tc_busy_ns += cl_rate_ns(&loop->l_rate, ended - began);
    if (!waited || entry->tc_due_ticks == 0)
        return;
    uint64_t delay = began - entry->tc_due_ticks;
    delay = (int64_t)delay > 0 ? cl_rate_ns(&loop->l_rate, delay) : 0;
    entry->tc_waits++;
    entry->tc_delay_ns += delay;
    entry->tc_delay_last_ns = delay;
    if (delay > entry->tc_delay_max_ns)
        entry->tc_delay_max_ns = delay;
    entry->tc_due_ticks = entry->tc_next_ticks;
    entry->tc_next_ticks = 0;
}
