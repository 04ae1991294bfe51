/* signals.h - signals reach a loop that may be asleep.
 *
 * While a loop sleeps in the main thread, its pipe is the process's wakeup
 * descriptor. CPython's signal handler writes a byte there, so no signal is
 * missed between the last check and the sleep, and plain signal.signal()
 * handlers and Ctrl-C work on an idle loop. A wakeup descriptor that somebody
 * else has set is left alone (the signal then interrupts the poll, as in
 * asyncio). add_signal_handler() replaces it, and remove_signal_handler()
 * restores it.
 *
 * Bytes in the pipe only wake the loop. add_signal_handler() sets a pair of
 * sockets instead, which transfers the numbers (core/sigsock.h). */
#ifndef CL_CORE_SIGNALS_H
#define CL_CORE_SIGNALS_H

#include "core/loop.h"

/* Call before the first sleep of a run, and after the run: a run that never
 * sleeps costs nothing. No effect outside of the main thread. */
void cl_signals_arm(LoopObject *loop);
void cl_signals_disarm(LoopObject *loop);

/* Returns the process's wakeup descriptor, -1 if there is none, and whether it
 * warns when full; without changing it where possible (core/wakeup.h). Main
 * thread only. */
int cl_signals_wakeup_fd(cl_state *st, bool *warns);

/* Whether the loop has handlers of add_signal_handler(). */
bool cl_signals_handled(const LoopObject *loop);

/* The watches of the pipe and of the sockets. cl_signals_watch() opens the
 * sockets if there are handlers. Returns 0 or -errno. */
void cl_signals_init(LoopObject *loop);
int cl_signals_watch(LoopObject *loop);
void cl_signals_unwatch(LoopObject *loop);

/* Returns the descriptor for the loop's signal numbers, opened on first use,
 * or -errno. */
int cl_signals_fd(LoopObject *loop);

/* Reads what woke the loop, lets Python run its handlers, and schedules those
 * of add_signal_handler(). 0/-1 Runs Python. */
int cl_signals_deliver(LoopObject *loop);

/* In the child of a fork: signals must not reach the parent's loop, and those
 * for a loop's handlers wait until the child runs it. */
void cl_signals_after_fork(cl_state *st);

#ifdef CL_DEBUG
/* Checks the watches of the pipe and the sockets of an open loop. */
void cl_signals_check(const LoopObject *loop);
#endif

#endif
