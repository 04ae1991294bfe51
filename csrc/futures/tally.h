/* tally.h - what each task of a loop does, while somebody wants to know: its
 * steps, how long they took, and how long they waited for their turn.
 *
 * A task has no room for this (future.h), so it is in a table beside the loop.
 * A loop has one only while its callbacks are timed for it (CL_TIMED_TASKS);
 * otherwise a task pays for a look at that bit each time that it is scheduled,
 * and when it is created and freed. If there is no memory for a task's entry,
 * it is not counted.
 *
 * A step in the ready ring is timed with the other nodes (core/loop.c); one
 * that is called, and an eager first step, here. Only cloop.Task is counted. */
#ifndef CL_FUTURES_TALLY_H
#define CL_FUTURES_TALLY_H

#include "base/compat.h"

#include "core/loop.h"
#include "futures/layout.h"

typedef struct {
    const TaskObject
        *tc_task;       /* borrowed: it removes the entry when it goes */
    int64_t tc_made_ns; /* the time on the monotonic clock; 0: unknown, it was
                           there before */
    uint64_t tc_due_ticks; /* since when its step is scheduled; 0: it is not */
    uint64_t tc_next_ticks; /* the same of the step after one that runs */
    uint64_t tc_steps;
    uint64_t tc_busy_ns;
    uint64_t tc_waits;    /* steps whose delay is known */
    uint64_t tc_delay_ns; /* the sum, from being scheduled to running */
    uint64_t tc_delay_max_ns;
    uint64_t tc_delay_last_ns;
} cl_task_counts;

/* Begins, and ends: what was counted is gone. 0, or -1 with MemoryError. */
int cl_tally_begin(LoopObject *loop);
void cl_tally_end(LoopObject *loop);

static inline bool
cl_tally_is_on(const LoopObject *loop)
{
    return (loop->l_timed & CL_TIMED_TASKS) != 0;
}

/* Returns what was counted for the task, borrowed until anything is counted;
 * NULL if there is nothing. */
const cl_task_counts *cl_tally_of(const LoopObject *loop,
                                  const PyObject *task);

/* The following are called only if it is on. */

/* The task was created, or is going to be freed. */
void cl_tally_made(LoopObject *loop, const TaskObject *task);
void cl_tally_gone(LoopObject *loop, const TaskObject *task);

/* A step of the task was scheduled, and has run between these ticks.
 * `waited`: it was scheduled before, as all are but an eager first step. */
void cl_tally_due(LoopObject *loop, const TaskObject *task);
void cl_tally_ran(LoopObject *loop, const TaskObject *task, uint64_t began,
                  uint64_t ended, bool waited);

#endif
