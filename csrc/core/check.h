/* check.h - looks at all that a loop has, between its turns; see base/assert.h.
 *
 * Stress builds look after each turn, debug and asan builds after one in some, and both
 * less often where there is much to look at, so that a turn costs a bounded number of
 * steps more. Each kind of node and of watch has a checker of its own in its table, for
 * what its module knows of it. */
#ifndef CL_CORE_CHECK_H
#define CL_CORE_CHECK_H

#include "base/compat.h"

#ifdef CL_DEBUG

typedef struct LoopObject LoopObject;

/* Looks at the loop, if it is due. At the end of a turn. */
void cl_loop_check_sometimes(LoopObject *loop);

/* Looks at the loop: the ready ring, timers, watches, inbox, spares, and that what is
 * queued has a reference for each time that it is. It must be open. */
void cl_loop_check(LoopObject *loop);

/* What the poller knows is what the watches say it was told, so far as that can be found
 * out. */
void cl_loop_check_poller(LoopObject *loop);

#endif

#endif
