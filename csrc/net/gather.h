/* gather.h - writes of a callback that are held back, to be sent together.
 *
 * A server that answers in several writes spends most of its time in as many
 * system calls. Holding a write until its callback returns saves those, and is
 * wrong if the callback blocks, computes or ends the process: asyncio's peer
 * would have the bytes by then. So a transport sends every write at once until
 * several of its callbacks have written more than once and ended soon; a held
 * write that had to wait long ends that for many callbacks (docs/decisions/0007).
 * If its callback does not return at all, a thread sends it (hold_timer.h).
 *
 * CLOOP_GATHER=0 turns holding off. CLOOP_GATHER=always holds whatever may be held,
 * for any time, and is for tests.
 *
 * One transport of a loop holds bytes at a time: a write to another sends them
 * first. What is held fits below the high-water mark and counts as sent: no
 * write buffer's size includes it. */
#ifndef CL_NET_GATHER_H
#define CL_NET_GATHER_H

#include "base/compat.h"

#include <string.h>

#include "core/loop.h"

/* A later write finds bytes that were held for longer than this, and all go. A
 * callback that has taken longer holds nothing: the call it could save is no
 * longer a large part of it. */
#define CL_HOLD_MAX_NS (100 * 1000)

/* Bytes that were held for longer than this were late. */
#define CL_LATE_NS (200 * 1000)

/* How much is held at most. A socket's own buffer is not much larger, and this is
 * the default high-water mark. */
#define CL_GATHER_MAX (64 * 1024)

/* More than this goes out by itself instead of being copied: the copy would cost
 * more than the system call it saves. */
#define CL_COPY_MAX (16 * 1024)

/* What the connections of one listener have taught; counted references. */
typedef struct cl_habits cl_habits;

/* What a transport's callbacks have taught. */
typedef struct {
    cl_habits *b_shared; /* owned, or NULL */
    int16_t b_score;     /* good callbacks, less penalties */
    int16_t b_penalty;   /* what the next late write costs */
} cl_habit;

cl_habits *cl_habits_new(void); /* NULL, without an exception, if it failed */
cl_habits *cl_habits_ref(cl_habits *shared); /* NULL is passed on */
void cl_habits_drop(cl_habits *shared);      /* or NULL */

/* Starts with what `shared` (borrowed, or NULL) knows. */
void cl_habit_init(cl_habit *habit, cl_habits *shared);
void cl_habit_clear(cl_habit *habit);

/* Bytes that were held: the first write by reference, copies of the rest. */
typedef struct {
    PyObject *first; /* owned, or NULL */
    char *rest;      /* owned memory, or NULL */
    size_t rest_size;
} cl_held;

/* Sends what the transport holds. 0, or -1 for what must leave the loop: a failure
 * to send is dealt with, for whoever runs now is not to blame. Runs Python. */
typedef int (*cl_gather_send)(PyObject *owner);

/* The writes of the callback in progress, of the transport that wrote last. */
typedef struct {
    PyObject *g_owner; /* owned; NULL if nothing was written */
    cl_gather_send g_send;
    cl_habit *g_habit;     /* the owner's */
    uint64_t g_began;      /* ticks, at the first write */
    uint64_t g_held_since; /* ticks, if something is held */
    uint64_t g_patience;   /* ticks that it may be held for */
    size_t g_room;         /* bytes that may join it; 0 if nothing is held */
    unsigned g_again;      /* writes after the first */
    bool g_may_hold;
    bool g_late;
    bool g_untimed; /* there can't be a timer: nothing is held */
    cl_held g_held;
    struct cl_hold_timer *g_timer; /* hold_timer.h; NULL until it is needed */
} cl_gather;

/* One write as the transport sees it. */
typedef struct {
    PyObject *owner; /* the transport */
    cl_gather_send send;
    cl_habit *habit;
    bool allowed;     /* the program can't reach the descriptor by itself */
    PyObject *object; /* the bytes object that data lies in, or NULL: copy */
    const char *data;
    size_t size;
    size_t limit; /* more than this is not to be held in all */
} cl_gather_write;

/* Notes a write of the transport, for which others have made way. Returns whether the
 * bytes are held; if not, they are to be sent after those that are. */
bool cl_gather_hold(LoopObject *loop, const cl_gather_write *write);

/* The same for bytes that may join those which the transport holds already: nothing
 * that forbids it can have happened since, for that sends what is held. */
static inline bool
cl_gather_join(LoopObject *loop, cl_gather *gather, PyObject *owner,
               const char *data, size_t size)
{
    if (gather->g_owner != owner || size > gather->g_room ||
        size > CL_COPY_MAX || !cl_loop_in_callback(loop) ||
        cl_ticks() - gather->g_held_since > gather->g_patience)
        return false;
    cl_assertf(gather->g_held.rest != NULL &&
                   gather->g_held.rest_size + size <= CL_GATHER_MAX,
               "%zu and %zu", gather->g_held.rest_size, size);
    memcpy(gather->g_held.rest + gather->g_held.rest_size, data, size);
    gather->g_held.rest_size += size;
    gather->g_room -= size;
    gather->g_again++;
    return true;
}

/* What the transport holds, if anything, is the caller's to send, and to release. */
void cl_gather_take(LoopObject *loop, PyObject *owner, cl_held *held);
void cl_gather_release(LoopObject *loop, cl_held *held);

/* Forgets what the transport holds. */
void cl_gather_drop(LoopObject *loop, PyObject *owner);

/* Before a write of `owner`: another transport's writes come to their end, and what
 * it holds is sent. Runs Python, which may write anywhere. 0/-1 */
int cl_gather_make_way(LoopObject *loop, PyObject *owner);

/* Sends what is held, whoever holds it. Runs Python. 0/-1 */
int cl_gather_flush(LoopObject *loop);

#ifdef CL_DEBUG
/* What a loop holds is whole. */
void cl_gather_check(const LoopObject *loop);
#endif

/* Ends the thread that sends what is held for long, until something is held again. */
void cl_gather_stop_timer(LoopObject *loop);

/* Whether the transport holds something. */
bool cl_gather_holds(const LoopObject *loop, PyObject *owner);

#endif
