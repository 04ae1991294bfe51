/* hold_timer.h - sends held bytes if their callback blocks or computes.
 *
 * Held bytes (gather.h) are sent when their callback returns. It may not
 * return for long, or may wait for the answer to them. So while a loop holds
 * writes, a thread checks every 5 ms whether something was held for longer
 * than that. If so, it takes the GIL, which a blocking callback has released,
 * and sends. A callback that holds pays two stores. The thread starts with the
 * first such callback, sleeps when there was none for a while, and ends with
 * the loop and before a fork. It blocks all signals. */
#ifndef CL_NET_HOLD_TIMER_H
#define CL_NET_HOLD_TIMER_H

#include "base/compat.h"

#include <stdatomic.h>

#include "core/loop.h"

/* Bytes held for longer than this are sent within twice that time. */
#define CL_HOLD_PERIOD_NS (5 * 1000 * 1000)

typedef struct cl_hold_timer {
    _Atomic(uint64_t) ht_deadline; /* ticks; 0 while nothing is held */
    atomic_bool ht_asleep;
    pid_t ht_pid; /* the process of the thread */
} cl_hold_timer;

/* Starts the thread. Returns NULL, without an exception, if there can't be
 * one. */
cl_hold_timer *cl_hold_timer_start(LoopObject *loop);

/* Stops the thread; releases the GIL while waiting for it. */
void cl_hold_timer_stop(cl_hold_timer *timer); /* may be NULL */

void cl_hold_timer_wake(cl_hold_timer *timer);

/* Something is held, until `deadline` at most. */
static inline void
cl_hold_timer_begin(cl_hold_timer *timer, uint64_t deadline)
{
    /* Store the deadline first, then look whether the thread sleeps. The
     * thread does it in the opposite order. */
    atomic_store_explicit(&timer->ht_deadline, deadline, memory_order_seq_cst);
    if (atomic_load_explicit(&timer->ht_asleep, memory_order_seq_cst) &&
        atomic_exchange_explicit(&timer->ht_asleep, false,
                                 memory_order_seq_cst))
        cl_hold_timer_wake(timer);
}

/* Nothing is held any more. */
static inline void
cl_hold_timer_end(cl_hold_timer *timer)
{
    atomic_store_explicit(&timer->ht_deadline, 0, memory_order_relaxed);
}

#endif
