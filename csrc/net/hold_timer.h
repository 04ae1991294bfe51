/* hold_timer.h - an end to what a callback holds, if it blocks or computes.
 *
 * Bytes that are held (gather.h) go when their callback returns, and it may not return for
 * long, or may wait for the answer to them. So a thread looks, every 5 ms while a loop
 * holds writes, whether the same bytes are still there; then it takes the GIL, which a
 * callback that blocks has given up, and sends them. It costs a callback that holds two
 * stores. It starts with the first such callback, sleeps when there is none for a while,
 * and ends with the loop and before a fork. Signals are not for it. */
#ifndef CL_NET_HOLD_TIMER_H
#define CL_NET_HOLD_TIMER_H

#include "base/compat.h"

#include <stdatomic.h>

#include "core/loop.h"

typedef struct cl_hold_timer {
    atomic_uint ht_holds; /* begun so far */
    atomic_bool ht_holding;
    atomic_bool ht_asleep;
    pid_t ht_pid; /* the process that the thread is in */
} cl_hold_timer;

/* Starts the thread. NULL, without an exception, if there can't be one. */
cl_hold_timer *cl_hold_timer_start(LoopObject *loop);

/* Ends it, with the GIL given up meanwhile. */
void cl_hold_timer_stop(cl_hold_timer *timer); /* or NULL */

void cl_hold_timer_wake(cl_hold_timer *timer);

/* Something is held from now on. */
static inline void
cl_hold_timer_begin(cl_hold_timer *timer)
{
    atomic_store_explicit(&timer->ht_holding, true, memory_order_relaxed);
    /* Before the look at whether it sleeps, as the thread does it the other way round. */
    atomic_fetch_add_explicit(&timer->ht_holds, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&timer->ht_asleep, memory_order_seq_cst) &&
        atomic_exchange(&timer->ht_asleep, false))
        cl_hold_timer_wake(timer);
}

/* Nothing is. */
static inline void
cl_hold_timer_end(cl_hold_timer *timer)
{
    atomic_store_explicit(&timer->ht_holding, false, memory_order_relaxed);
}

#endif
