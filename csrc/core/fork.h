/* fork.h - loops in the child of a fork.
 *
 * The child has a copy of each loop, but shares kernel objects with its
 * parent: the epoll set, the pipe, the connections. os.register_at_fork()
 * notifies us, and each open loop drops its poller and pipe
 * (CL_FORK_INHERITED). From then on nothing that the child closes, stops or
 * frees can change what the parent waits for. New ones are created when the
 * child first polls or watches a descriptor.
 *
 * A loop that did not run at the fork belongs to the child like any other
 * (CL_FORK_NONE), and gets events for all its descriptors.
 *
 * A loop that was running is still the parent's, which goes on with its
 * connections and listeners. The child may return to its copy, if only because
 * SystemExit unwinds through asyncio.run(), which cancels its tasks. So the
 * copy gets no events for anything from before the fork (CL_FORK_PARENTS)
 * unless it asks again, and closes quietly: no shutdown(), no close_notify.
 * When the last process that had the loop before has exited (for a daemon, its
 * parent), everything belongs to the child. */
#ifndef CL_CORE_FORK_H
#define CL_CORE_FORK_H

#include "core/loop.h"

enum {
    CL_FORK_NONE = 0,
    CL_FORK_INHERITED = 1,
    CL_FORK_PARENTS = 2,
};

/* Registers cl_fork_in_child() with os.register_at_fork(). 0/-1 */
int cl_fork_setup(PyObject *module, cl_state *st);

/* Adds a loop to the list of open loops, and removes it. */
void cl_fork_register(LoopObject *loop);
void cl_fork_unregister(LoopObject *loop);

/* For os.register_at_fork(after_in_child). Calls _after_fork() of each loop.
 * Runs Python. */
void cl_fork_in_child(cl_state *st);

/* Gives an inherited loop its own poller and pipe; does nothing to others.
 * Returns 0 or -errno; on error the caller may try again. */
int cl_fork_adopt(LoopObject *loop);

/* The same, and whatever else the loop needs before it can run. Called before
 * a poll if l_forked is set. 0/-1 Runs Python. */
int cl_fork_resume(LoopObject *loop);

/* A fork resets the running loop, but the callback that forked must find it.
 * Sets it again for a loop that goes on; others are left alone. 0/-1 */
int cl_fork_mark_running(LoopObject *loop);

#ifdef CL_DEBUG
/* Checks what an open loop knows of forks, between its turns. */
void cl_fork_check(const LoopObject *loop);
#endif

/* Whether the watch's owner was created before the fork, and the loop was not
 * taken over since. */
static inline bool
cl_fork_is_parents(const LoopObject *loop, const cl_watch *watch)
{
    return loop->l_fork != CL_FORK_NONE &&
           (int32_t)(watch->w_generation - loop->l_fork_generation) <= 0;
}

/* Whether a process that had the loop before this one is alive. */
bool cl_fork_ancestor_lives(const LoopObject *loop);

/* Whether the owner was created before a fork and such a process may be using
 * it, even if this process has taken over the loop. */
static inline bool
cl_fork_is_shared(const LoopObject *loop, const cl_watch *watch)
{
    return (int32_t)(watch->w_generation - loop->l_fork_generation) <= 0 &&
           cl_fork_ancestor_lives(loop);
}

#endif
