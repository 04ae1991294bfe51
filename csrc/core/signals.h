/* signals.h - how signals reach a loop that may be asleep.
 *
 * While a loop that runs in the main thread sleeps, its pipe is the process's wakeup
 * descriptor: CPython's C-level handler writes a byte there, so that no signal
 * is missed between the last look and the sleep, and plain signal.signal()
 * handlers and Ctrl-C work on an idle loop. A wakeup descriptor that somebody
 * else has set is left alone (the signal then interrupts the poll, as it does
 * in asyncio); add_signal_handler() takes it over and remove_signal_handler()
 * gives it back.
 *
 * Bytes in the pipe only wake the loop. What add_signal_handler() takes it over with
 * is a pair of sockets of its own, which tells the numbers (core/sigsock.h). */
#ifndef CL_CORE_SIGNALS_H
#define CL_CORE_SIGNALS_H

#include "core/loop.h"

/* Before the first sleep of a run, and after the run: one that never sleeps pays
 * nothing. No-ops outside the main thread. */
void cl_signals_arm(LoopObject *loop);
void cl_signals_disarm(LoopObject *loop);

/* The process's wakeup descriptor, -1 if there is none, without touching it where that is
 * possible (core/wakeup.h), and whether it warns when it is full. Main thread only. */
int cl_signals_wakeup_fd(cl_state *st, bool *warns);

/* Whether add_signal_handler() has been used and not undone. */
bool cl_signals_handled(const LoopObject *loop);

/* The watches of the pipe and of the sockets. cl_signals_watch() opens the sockets if
 * there are handlers; 0 or -errno. */
void cl_signals_init(LoopObject *loop);
int cl_signals_watch(LoopObject *loop);
void cl_signals_unwatch(LoopObject *loop);

/* The descriptor that takes signal numbers for handlers of this loop, opened when first
 * asked for; or -errno. */
int cl_signals_fd(LoopObject *loop);

/* Reads what woke us, lets Python run its handlers, and schedules those of
 * add_signal_handler(). Runs Python. 0 or -1. */
int cl_signals_deliver(LoopObject *loop);

/* In the child of a fork: signals must not reach the parent's loop, and those for a
 * loop's handlers wait for the child to run it. */
void cl_signals_after_fork(cl_state *st);

#endif
