/* gather.h - holds the writes of a callback, to send them together.
 *
 * A server that answers in several writes spends most of its time in as many
 * system calls. Holding a write until the callback returns saves those calls.
 * It is wrong if the callback then blocks, computes or ends the process: on
 * asyncio the peer would have the bytes by then. So a transport sends each
 * write at once, until several of its callbacks have written more than once
 * and returned soon. A held write that was late turns that off for many
 * callbacks (docs/decisions/0007). If the callback does not return, a thread
 * sends what it holds (hold_timer.h).
 *
 * CLOOP_GATHER=0 turns holding off. CLOOP_GATHER=always holds whatever may be
 * held, for any time; it is for tests.
 *
 * In a callback one transport holds bytes at a time; a write to another sends
 * them first. Held bytes fit below the high-water mark and count as sent: no
 * write buffer size includes them.
 *
 * Where the callbacks of a turn answer one connection after the other, each
 * send may wake a peer, which is most of its cost. So once many have done so
 * quickly, what a callback holds is deferred: it waits for the tasks and
 * transports that follow in the turn, until one returns after 200 us
 * (docs/decisions/0021). What is deferred goes out in the order it was written,
 * and before anything that is not held. */
#ifndef CL_NET_GATHER_H
#define CL_NET_GATHER_H

#include "base/compat.h"

#include <string.h>

#include "core/loop.h"

/* If a write finds bytes that were held for longer than this, everything is
 * sent. A callback that has run for longer than this holds nothing: the system
 * call it could save is a small part of its time. */
#define CL_HOLD_MAX_NS (100 * 1000)

/* Bytes held for longer than this were late. */
#define CL_LATE_NS (200 * 1000)

/* Bytes held at most. Of a callback that writes more, the peer reads the first
 * part while the next is written. */
#define CL_GATHER_MAX (32 * 1024)

/* Larger writes are sent, not copied: the copy would cost more than the system
 * call. */
#define CL_COPY_MAX (16 * 1024)

/* A second write of this size or more, larger than the first, is not copied if it
 * is a bytes object, and as long as no other follows it: a second part costs the
 * kernel less. */
#define CL_REFER_MIN (4 * 1024)

/* While a filled buffer is to be followed by another, a first write of up to this
 * size is held by reference: with the next it takes one system call. */
#define CL_HOLD_READ_MAX (64 * 1024)

/* What the connections of a listener have learnt; reference counted. */
typedef struct cl_habits cl_habits;

/* What the callbacks of a transport have taught it. */
typedef struct {
    cl_habits *hb_shared; /* owned, or NULL */
    int16_t hb_score;     /* good callbacks, minus penalties */
    int16_t hb_penalty;   /* cost of the next late write */
    bool hb_deferred;     /* the transport's bytes wait for other callbacks */
} cl_habit;

/* NULL without an exception on failure, and without a GIL */
cl_habits *cl_habits_new(void);
cl_habits *
cl_habits_ref(cl_habits *shared); /* returns `shared`, which may be NULL */
void cl_habits_drop(cl_habits *shared); /* may be NULL */

/* Initialises `habit` with what `shared` knows (borrowed, may be NULL). */
void cl_habit_init(cl_habit *habit, cl_habits *shared);
void cl_habit_clear(cl_habit *habit);

/* How long bytes may wait for the callbacks that follow, and when they were
 * late; how many transports may wait at once, and with how many bytes. */
#define CL_DEFER_NS (200 * 1000)
#define CL_DEFER_LATE_NS (400 * 1000)
#define CL_DEFER_COUNT 32
#define CL_DEFER_MAX CL_COPY_MAX

/* Held bytes, in this order: a reference to the first write, copies of others, a
 * reference to a large last one. */
typedef struct {
    PyObject *first; /* owned, or NULL */
    PyObject *last;  /* owned, or NULL; only behind `first` alone */
    char *rest;      /* owned memory, or NULL */
    size_t rest_size;
} cl_held;

/* 0 for NULL */
static inline size_t
cl_held_size(PyObject *bytes)
{
    return bytes == NULL ? 0 : (size_t)PyBytes_GET_SIZE(bytes);
}

/* Sends what the transport holds, to which the caller has a reference. The
 * transport deals with a failed send, since the running callback is not to
 * blame. Returns -1 only for KeyboardInterrupt and SystemExit. Runs Python. */
typedef int (*cl_gather_send)(PyObject *owner);

/* What a callback wrote, which waits for those that follow in its turn. */
typedef struct {
    PyObject *owner; /* owned */
    PyObject *bytes; /* owned */
    PyObject *last;  /* owned, or NULL: what follows them */
    cl_gather_send send;
    cl_habit *habit; /* the owner's */
} cl_deferred;

/* The writes of the running callback to the transport it wrote to last. */
typedef struct {
    PyObject *gw_owner; /* owned; NULL if nothing was written */
    cl_gather_send gw_send;
    cl_habit *gw_habit;     /* the owner's */
    uint64_t gw_began;      /* ticks, at the first write */
    uint64_t gw_asked;      /* ticks, until the caller has sent; else 0 */
    uint64_t gw_sending;    /* ticks that sending took, as nothing was held */
    uint64_t gw_held_since; /* ticks, when the first byte was held */
    uint64_t gw_patience;   /* ticks that bytes may be held for */
    size_t gw_room;         /* bytes that may be added; 0 if nothing is held */
    size_t gw_room_behind;  /* the same while there is a last write; else 0 */
    unsigned gw_again;      /* writes after the first */
    bool gw_reads_on;       /* the callback goes on to receive */
    bool gw_may_hold;
    bool gw_may_defer;
    bool gw_late;
    bool gw_untimed; /* no timer can run: hold nothing */
    cl_held gw_held;
    struct cl_hold_timer *gw_timer; /* hold_timer.h; NULL until needed */
    /* The callbacks of a turn. */
    cl_habit gw_turns;          /* what they have taught */
    uint64_t gw_last_turn;      /* l_turns when a callback wrote last */
    uint64_t gw_last_ticks;     /* at that time */
    const void *gw_last_owner;  /* not a reference: to compare only */
    uint64_t gw_deferred_since; /* ticks, when the first was held */
    unsigned gw_deferred_first, gw_deferred_end; /* equal, and 0, if empty */
    cl_deferred gw_deferred[CL_DEFER_COUNT];
} cl_gather;

#ifdef CL_DEBUG
/* What a loop holds is whole. */
void cl_gather_check(const LoopObject *loop);
#endif

/* A write, as the transport passes it in. */
typedef struct {
    PyObject *owner; /* the transport */
    cl_gather_send send;
    cl_habit *habit;
    bool allowed;     /* the program can't reach the descriptor */
    bool defers;      /* may wait for other callbacks */
    PyObject *object; /* bytes object that owns data; NULL: copy it */
    const char *data;
    size_t size;
    size_t limit;       /* of all held bytes: CL_GATHER_MAX at most */
    size_t first_limit; /* of the first, while gw_reads_on */
} cl_gather_write;

/* Notes a write of the transport, after cl_gather_make_way(). Returns true if
 * the bytes are now held; otherwise the caller sends them, after those that
 * are held, and then calls cl_gather_sent(). */
bool cl_gather_hold(LoopObject *loop, const cl_gather_write *write);

/* Sending takes the time that holding saves, so a callback is not slow by it. */
static inline void
cl_gather_sent(cl_gather *gather, PyObject *owner)
{
    if (gather->gw_owner == owner && gather->gw_asked != 0) {
        gather->gw_sending += cl_ticks() - gather->gw_asked;
        gather->gw_asked = 0;
    }
}

/* Whether a bytes object of this size is held by reference: a body behind its
 * head. Of many writes of one size, all but the first are copied. */
static inline bool
cl_gather_refers(const cl_held *held, size_t size)
{
    return size >= CL_REFER_MIN && held->rest_size == 0 &&
           held->last == NULL && cl_held_size(held->first) < size;
}

/* cl_gather_hold() for bytes that are copied behind those the transport holds.
 * Nothing that forbids holding can have happened since, as that would have sent
 * them. */
static inline bool
cl_gather_join(LoopObject *loop, cl_gather *gather, PyObject *owner,
               const char *data, size_t size)
{
    if (gather->gw_owner != owner || size > gather->gw_room ||
        size > CL_COPY_MAX || cl_gather_refers(&gather->gw_held, size) ||
        !cl_loop_in_callback(loop) ||
        cl_ticks() - gather->gw_held_since > gather->gw_patience)
        return false;
    cl_assertf(gather->gw_held.rest != NULL && gather->gw_held.last == NULL &&
                   gather->gw_held.rest_size + size <= CL_GATHER_MAX,
               "%zu and %zu", gather->gw_held.rest_size, size);
    memcpy(gather->gw_held.rest + gather->gw_held.rest_size, data, size);
    gather->gw_held.rest_size += size;
    gather->gw_room -= size;
    gather->gw_again++;
    return true;
}

/* Moves what the transport holds, if anything, to the caller, who sends and
 * releases it. */
void cl_gather_take(LoopObject *loop, PyObject *owner, cl_held *held);
void cl_gather_release(LoopObject *loop, cl_held *held);

/* Discards what the transport holds. */
void cl_gather_drop(LoopObject *loop, PyObject *owner);

/* For cl_gather_make_way(). */
int cl_gather_end_others(LoopObject *loop, PyObject *owner,
                         const cl_habit *habit);

/* Called before a write of `owner`: ends the writes of another transport, and
 * sends what that holds, and what the owner has deferred. 0/-1 Runs Python. */
static inline int
cl_gather_make_way(LoopObject *loop, cl_gather *gather, PyObject *owner,
                   const cl_habit *habit)
{
    cl_assert_gil();
    cl_check(cl_gather_check(loop));
    bool other = gather->gw_owner != NULL && gather->gw_owner != owner;
    return other || habit->hb_deferred
               ? cl_gather_end_others(loop, owner, habit)
               : 0;
}

/* Sends what is held by any transport. 0/-1 Runs Python. */
int cl_gather_flush(LoopObject *loop);

static inline bool
cl_gather_has_deferred(const cl_gather *gather)
{
    return gather->gw_deferred_end > 0;
}

/* Sends what is deferred, before bytes of another connection that are not
 * held. 0/-1 Runs Python. */
int cl_gather_send_deferred(LoopObject *loop);

/* Stops the hold timer, until something is held again. */
void cl_gather_stop_timer(LoopObject *loop);

/* Whether the transport holds something, in this callback or deferred. */
bool cl_gather_holds(const LoopObject *loop, PyObject *owner);

/* For the loop's parts: initialise, visit and clear; and forget what the parent
 * of a fork sends, if its loop ran in another thread than the one that forked. */
void cl_gather_init(cl_gather *gather);
void cl_gather_forked(cl_gather *gather);
int cl_gather_traverse(const cl_gather *gather, visitproc visit, void *arg);
void cl_gather_clear(cl_gather *gather);

#endif
