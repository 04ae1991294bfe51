/* watchdog.h - reports a callback that blocks its loop, while it does.
 *
 * A thread looks at every open loop a few times per threshold. Callbacks pay
 * nothing for it: it reads what the loop counts anyway (nodes taken from the
 * ready ring, turns, polls), and l_pulse, which is set around a poll. If a
 * loop does not sleep and nothing has changed for the threshold, its callback
 * blocks.
 *
 * That thread never takes the GIL. For each report it starts another one,
 * which does, and calls a Python function (cloop/_watch.py). If the GIL can't
 * be had for a while, C code keeps it. Then the first thread writes the stack
 * itself, by the function of the faulthandler module that signals call, which
 * needs no GIL: Python passes its address and a file to which it writes.
 *
 * There is one watchdog for each module state. It stops before a fork and at
 * exit; both is up to cloop/_watch.py. Its threads block all signals. */
#ifndef CL_CORE_WATCHDOG_H
#define CL_CORE_WATCHDOG_H

#include "base/compat.h"

#include "core/loop.h"

/* Values of l_pulse. */
enum {
    CL_PULSE_RUNS = 0,   /* callbacks, or what a turn does between them */
    CL_PULSE_SLEEPS = 1, /* in a poll */
    CL_PULSE_WAKES = 2,  /* after it, waiting for the GIL */
};

/* Loops that are opened and closed while there is a watchdog. */
void cl_watchdog_add(LoopObject *loop);
void cl_watchdog_remove(LoopObject *loop);

/* Waits for reports that were still being written when their watchdog was
 * stopped. Other interpreters than the main one cannot end before that. */
void cl_watchdog_at_exit(cl_state *st);

/* For core's layer. */
int cl_watchdog_traverse(cl_state *st, visitproc visit, void *arg);
void cl_watchdog_clear(cl_state *st);

/* Functions of the module. */
extern PyMethodDef cl_watchdog_methods[];

#endif
