/* fork.h - loops in the child of a fork.
 *
 * A forked child has a copy of each loop, but shares with its parent what the kernel
 * keeps: the epoll set, the pipe, the connections. os.register_at_fork() tells us, and
 * each open loop then forgets the poller and the pipe (CL_FORK_INHERITED): from there
 * on nothing in the child can change what the parent waits for, whatever it closes,
 * stops or frees. What it would cost to have them again is paid when the child first
 * polls or watches a descriptor.
 *
 * A loop that did not run at the fork then belongs to the child like any other
 * (CL_FORK_NONE), and hears of all its descriptors.
 *
 * One that was running is still the parent's, which goes on with the connections and
 * listeners it had; but the child may come back to it, if only because SystemExit
 * unwinds through asyncio.run(), which cancels its tasks. So the child's copy
 * hears of nothing from before the fork (CL_FORK_PARENTS) but of what it asks for anew,
 * and closes quietly: no shutdown(), no goodbye of TLS. When the last process that it
 * was forked from has ended (a daemon that was started by fork), all is its own. */
#ifndef CL_CORE_FORK_H
#define CL_CORE_FORK_H

#include "core/loop.h"

enum {
    CL_FORK_NONE = 0,
    CL_FORK_INHERITED = 1,
    CL_FORK_PARENTS = 2,
};

/* Has Python call cl_fork_in_child(). 0/-1 */
int cl_fork_setup(PyObject *module, cl_state *st);

/* A loop enters the list of those that are open, and leaves it. */
void cl_fork_register(LoopObject *loop);
void cl_fork_unregister(LoopObject *loop);

/* In a child, right after the fork. Calls _after_fork() of each loop. Runs
 * Python. */
void cl_fork_in_child(cl_state *st);

/* Gives an inherited loop a poller and a pipe of its own; does nothing to others. 0 or
 * -errno, and then it may be tried again. */
int cl_fork_adopt(LoopObject *loop);

/* The same and the rest of what has to be done before the loop can go on: to be
 * called by a poll if l_forked is set. 0, or -1 with an exception. Runs Python. */
int cl_fork_resume(LoopObject *loop);

/* A fork takes the mark of the running loop away, and the callback that has forked is
 * to find it so. Puts it back for a loop that goes on; others are left alone. 0/-1 */
int cl_fork_mark_running(LoopObject *loop);

/* Whether what owns the watch was made before a fork, and the loop was not taken over
 * since. */
static inline bool
cl_fork_is_parents(const LoopObject *loop, const cl_watch *watch)
{
    return loop->l_fork != CL_FORK_NONE &&
           (int32_t)(watch->w_generation - loop->l_fork_generation) <= 0;
}

/* Whether a process is alive that had the loop before this one. */
bool cl_fork_ancestor_lives(const LoopObject *loop);

/* Whether it is from before a fork, and such a process may be using it, whoever has
 * this process's copy of the loop. */
static inline bool
cl_fork_is_shared(const LoopObject *loop, const cl_watch *watch)
{
    return (int32_t)(watch->w_generation - loop->l_fork_generation) <= 0 &&
           cl_fork_ancestor_lives(loop);
}

#endif
