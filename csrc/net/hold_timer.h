/* hold_timer.h - an end to what a callback holds, if it blocks or computes.
 *
 * Bytes that are held (gather.h) go when their callback returns, and it may not return for
 * long, or may wait for the answer to them. So a thread looks, every 5 ms while a loop
 * holds writes, whether something is held for longer than that; then it takes the GIL,
 * which a callback that blocks has given up, and sends it. It costs a callback that holds
 * two stores. It starts with the first such callback, sleeps when there is none for a
 * while, and ends with the loop and before a fork. Signals are not for it. */
#ifndef CL_NET_HOLD_TIMER_H
#define CL_NET_HOLD_TIMER_H

#include "base/compat.h"

#include <stdatomic.h>

#include "core/loop.h"

/* What may be held for so long is sent within twice that. */
#define CL_HOLD_PERIOD_NS (5 * 1000 * 1000)

typedef struct cl_hold_timer {
    _Atomic(uint64_t) ht_deadline; /* ticks; 0 while nothing is held */
    atomic_bool ht_asleep;
    pid_t ht_pid; /* the process that the thread is in */
} cl_hold_timer;

/* Starts the thread. NULL, without an exception, if there can't be one. */
cl_hold_timer *cl_hold_timer_start(LoopObject *loop);

/* Ends it, with the GIL given up meanwhile. */
void cl_hold_timer_stop(cl_hold_timer *timer); /* or NULL */

void cl_hold_timer_wake(cl_hold_timer *timer);

/* Something is held, until then at most. */
static inline void
cl_hold_timer_begin(cl_hold_timer *timer, uint64_t deadline)
{
    /* Before the look at whether it sleeps, as the thread does it the other way round. */
    atomic_store_explicit(&timer->ht_deadline, deadline, memory_order_seq_cst);
    if (atomic_load_explicit(&timer->ht_asleep, memory_order_seq_cst) &&
        atomic_exchange(&timer->ht_asleep, false))
        cl_hold_timer_wake(timer);
}

/* Nothing is. */
static inline void
cl_hold_timer_end(cl_hold_timer *timer)
{
    atomic_store_explicit(&timer->ht_deadline, 0, memory_order_relaxed);
}

#endif
