/* check.h - checks the whole loop between its turns; see base/assert.h.
 *
 * Stress builds check after each turn, debug and asan builds after some turns,
 * and both less often when there is much to check, so that the cost per turn
 * is bounded. Each kind of node and of watch has its own checker in its table. */
#ifndef CL_CORE_CHECK_H
#define CL_CORE_CHECK_H

#include "base/compat.h"

#ifdef CL_DEBUG

typedef struct LoopObject LoopObject;

/* Checks the loop if it is due. Call at the end of a turn. */
void cl_loop_check_sometimes(LoopObject *loop);

/* Checks an open loop: the ready ring, timers, watches, inbox, spares, and
 * that each queued object has a reference for each time it is queued. */
void cl_loop_check(LoopObject *loop);

/* Checks that the poller knows what the watches say it was told, as far as
 * that can be found out. */
void cl_loop_check_poller(LoopObject *loop);

#endif

#endif
