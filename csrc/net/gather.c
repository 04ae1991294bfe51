/* gather.c - see gather.h. */
#include "net/gather.h"

#include "net/hold_timer.h"
#include "net/transport.h"

/* Good callbacks needed before writes are held; one may be chance. */
#define SCORE_LEARNT 3

/* At this score, good callbacks teach nothing new and old faults are
 * forgotten. */
#define SCORE_MAX 1024

/* The cost of a late write in good callbacks; it doubles each time. A thread
 * that lost its core for a moment looks like a callback that blocked, so the
 * first late write must not cost a busy connection more than a few ms. */
#define PENALTY_MIN 256
#define PENALTY_MAX 8192

/* Callbacks that have written one right after the other before what they write
 * is deferred, and before old faults are forgotten: a busy loop runs a thousand
 * in a few milliseconds. */
#define TURNS_LEARNT 16
#define TURNS_MAX 32000

struct cl_habits {
    size_t refs;
    int score;
};

/* ------------------------------------------------------------------ learning */

cl_habits *
cl_habits_new(void)
{
    if (CL_FREE_THREADED) /* nothing is held; and any thread may drop it */
        return NULL;
    cl_habits *shared = PyMem_RawCalloc(1, sizeof(*shared));
    if (shared != NULL)
        shared->refs = 1;
    return shared;
}

cl_habits *
cl_habits_ref(cl_habits *shared)
{
    if (shared != NULL)
        shared->refs++;
    return shared;
}

void
cl_habits_drop(cl_habits *shared)
{
    cl_assert(shared == NULL || shared->refs > 0);
    if (shared != NULL && --shared->refs == 0)
        PyMem_RawFree(shared);
}

void
cl_habit_init(cl_habit *habit, cl_habits *shared)
{
    bool learnt = shared != NULL && shared->score >= SCORE_LEARNT;
    *habit = (cl_habit){.hb_shared = cl_habits_ref(shared),
                        .hb_score = learnt ? SCORE_LEARNT : 0,
                        .hb_penalty = PENALTY_MIN};
}

void
cl_habit_clear(cl_habit *habit)
{
    cl_habits_drop(habit->hb_shared);
    habit->hb_shared = NULL;
}

/* A callback wrote, and more could have been sent with it. */
static void
praise(cl_habit *habit, int16_t most)
{
    if (habit->hb_score < most)
        habit->hb_score++;
    else
        habit->hb_penalty = PENALTY_MIN;
    if (habit->hb_shared != NULL && habit->hb_shared->score < SCORE_MAX)
        habit->hb_shared->score++;
}

/* A callback took long, but nothing was late. */
static void
doubt(cl_habit *habit)
{
    if (habit->hb_score > 0)
        habit->hb_score = 0;
}

/* Held bytes were late. */
static void
punish(cl_habit *habit)
{
    habit->hb_score = (int16_t)-habit->hb_penalty;
    if (habit->hb_penalty < PENALTY_MAX)
        habit->hb_penalty = (int16_t)(2 * habit->hb_penalty);
    if (habit->hb_shared != NULL)
        habit->hb_shared->score = -PENALTY_MIN;
}

/* ---------------------------------------------------------------- one callback */

static inline cl_gather *
gather_of(const LoopObject *loop)
{
    return &cl_net_on(loop)->n_gather;
}

/* The running callback's transport holds something. */
static inline bool
holds(const cl_gather *gather)
{
    return gather->gw_held.first != NULL || gather->gw_held.rest_size > 0;
}

/* Returns the place of what the transport has deferred, or -1. */
static inline int
find_deferred(const cl_gather *gather, PyObject *owner)
{
    for (unsigned i = gather->gw_deferred_first; i < gather->gw_deferred_end;
         i++) {
        if (gather->gw_deferred[i].owner == owner)
            return (int)i;
    }
    return -1;
}

#ifdef CL_DEBUG
void
cl_gather_check(const LoopObject *loop)
{
    const cl_gather *gather = gather_of(loop);
    const cl_held *held = &gather->gw_held;
    cl_assertf(held->rest_size <= CL_GATHER_MAX, "%zu", held->rest_size);
    cl_assertf(held->rest != NULL || held->rest_size == 0, "%zu",
               held->rest_size);
    size_t room = gather->gw_room + gather->gw_room_behind;
    cl_assertf(room + held->rest_size + cl_held_size(held->last) <=
                   CL_GATHER_MAX,
               "room for %zu beside %zu", room, held->rest_size);
    cl_assert(held->last == NULL || (holds(gather) && gather->gw_room == 0));
    cl_assertf(held->last != NULL || gather->gw_room_behind == 0,
               "room for %zu behind nothing", gather->gw_room_behind);
    cl_assert(!holds(gather) || gather->gw_owner != NULL);
    cl_assertf(holds(gather) || gather->gw_room == 0, "room for %zu",
               gather->gw_room);
    if (gather->gw_owner != NULL) {
        cl_assert_of(gather->gw_owner, Py_REFCNT(gather->gw_owner) > 0);
        cl_assert_of(gather->gw_owner,
                     gather->gw_send != NULL && gather->gw_habit != NULL);
    }
    if (held->first != NULL)
        cl_assert_of(held->first, Py_REFCNT(held->first) > 0);
    if (held->last != NULL)
        cl_assert_of(held->last, Py_REFCNT(held->last) > 0);
    cl_assertf(gather->gw_deferred_end <= CL_DEFER_COUNT &&
                   (gather->gw_deferred_end == 0 ||
                    gather->gw_deferred_first < gather->gw_deferred_end),
               "%u to %u", gather->gw_deferred_first, gather->gw_deferred_end);
    for (unsigned i = gather->gw_deferred_first; i < gather->gw_deferred_end;
         i++) {
        const cl_deferred *at = &gather->gw_deferred[i];
        cl_assert_of(at->owner, Py_REFCNT(at->owner) > 0);
        cl_assert_of(at->owner, at->habit->hb_deferred);
        cl_assert_of(at->owner, find_deferred(gather, at->owner) == (int)i);
        cl_assert_of(at->owner,
                     !holds(gather) || gather->gw_owner != at->owner);
        cl_assert_of(at->bytes, PyBytes_CheckExact(at->bytes) &&
                                    PyBytes_GET_SIZE(at->bytes) > 0);
        cl_assertf(
            cl_held_size(at->bytes) + cl_held_size(at->last) <= CL_DEFER_MAX,
            "%zu and %zu", cl_held_size(at->bytes), cl_held_size(at->last));
    }
}
#endif

/* The hold timer waits for the oldest bytes that are held. */
static void
set_timer(LoopObject *loop)
{
    cl_gather *gather = gather_of(loop);
    if (gather->gw_timer == NULL)
        return;
    if (cl_gather_has_deferred(gather) || holds(gather))
        cl_hold_timer_begin(
            gather->gw_timer,
            (cl_gather_has_deferred(gather) ? gather->gw_deferred_since
                                            : gather->gw_held_since) +
                cl_rate_ticks(&loop->l_rate, CL_HOLD_PERIOD_NS));
    else
        cl_hold_timer_end(gather->gw_timer);
}

/* The bytes held in this callback are somebody else's now. */
static inline void
hand_over(cl_gather *gather)
{
    gather->gw_held.first = gather->gw_held.last = NULL;
    gather->gw_held.rest_size = 0;
    gather->gw_room = gather->gw_room_behind = 0;
}

/* Nothing is held in this callback any more. */
static void
forget_held(LoopObject *loop)
{
    hand_over(gather_of(loop));
    set_timer(loop);
}

/* Moves what is deferred at this place to the caller. */
static cl_deferred
take_deferred(LoopObject *loop, int place)
{
    cl_gather *gather = gather_of(loop);
    unsigned at = (unsigned)place;
    cl_deferred taken = gather->gw_deferred[at];
    taken.habit->hb_deferred = false;
    if (at == gather->gw_deferred_first) {
        gather->gw_deferred_first++;
    }
    else {
        gather->gw_deferred_end--;
        memmove(&gather->gw_deferred[at], &gather->gw_deferred[at + 1],
                (gather->gw_deferred_end - at) * sizeof(taken));
    }
    if (gather->gw_deferred_first == gather->gw_deferred_end) {
        gather->gw_deferred_first = gather->gw_deferred_end = 0;
        set_timer(loop);
    }
    return taken;
}

/* cl_rate_ticks() of a short time: a signed conversion is one instruction. */
static inline uint64_t
ticks_of(const LoopObject *loop, int64_t ns)
{
    return (uint64_t)(int64_t)((double)ns * loop->l_rate.ticks_per_ns);
}

static inline bool
longer_than(const LoopObject *loop, uint64_t ticks, int64_t ns)
{
    return ticks > ticks_of(loop, ns);
}

/* Whether a callback's bytes may wait for others of its turn. */
static inline bool
turns_have_taught(const LoopObject *loop)
{
    return gather_of(loop)->gw_turns.hb_score >= TURNS_LEARNT ||
           cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS;
}

/* Lets what the callback holds wait for those that follow, with the callback's
 * reference to the owner. False if it can't. The hold timer is right as it is:
 * the oldest bytes are the same. */
static bool
defer(LoopObject *loop)
{
    cl_gather *gather = gather_of(loop);
    cl_held *held = &gather->gw_held;
    PyObject *bytes = held->first;
    size_t first = cl_held_size(bytes);
    if (!gather->gw_may_defer || !turns_have_taught(loop) ||
        gather->gw_deferred_end == CL_DEFER_COUNT ||
        first + held->rest_size + cl_held_size(held->last) > CL_DEFER_MAX)
        return false;
    if (held->rest_size > 0) {
        bytes = PyBytes_FromStringAndSize(NULL, first + held->rest_size);
        if (bytes == NULL) {
            PyErr_Clear();
            return false;
        }
        if (first > 0)
            memcpy(PyBytes_AS_STRING(bytes), PyBytes_AS_STRING(held->first),
                   first);
        memcpy(PyBytes_AS_STRING(bytes) + first, held->rest, held->rest_size);
        Py_XDECREF(held->first);
    }
    if (!cl_gather_has_deferred(gather))
        gather->gw_deferred_since = gather->gw_held_since;
    gather->gw_deferred[gather->gw_deferred_end++] =
        (cl_deferred){gather->gw_owner, bytes, held->last, gather->gw_send,
                      gather->gw_habit};
    gather->gw_habit->hb_deferred = true;
    gather->gw_owner = NULL;
    hand_over(gather);
    return true;
}

/* Whether bytes have been deferred for longer than this; `now` is 0 if it is not
 * known. */
static inline bool
deferred_longer_than(const LoopObject *loop, uint64_t now, int64_t ns)
{
    if (cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS)
        return false;
    return longer_than(loop,
                       (now == 0 ? cl_ticks() : now) -
                           gather_of(loop)->gw_deferred_since,
                       ns);
}

/* A callback has written. Where another connection's did so just before, in the
 * same turn, the turn's writes could have been sent together. Returns when the
 * callback ended, or 0 if it did not look. */
static uint64_t
learn_of_turn(LoopObject *loop)
{
    cl_gather *gather = gather_of(loop);
    uint64_t now = 0;
    if (gather->gw_last_turn == loop->l_turns &&
        gather->gw_last_owner != gather->gw_owner) {
        now = cl_ticks();
        if (longer_than(loop, now - gather->gw_last_ticks, CL_DEFER_NS))
            doubt(&gather->gw_turns);
        else
            praise(&gather->gw_turns, TURNS_MAX);
        loop->l_mark_ticks = now;
    }
    gather->gw_last_turn = loop->l_turns;
    gather->gw_last_ticks = now == 0 ? gather->gw_began : now;
    gather->gw_last_owner = gather->gw_owner;
    return now;
}

/* The callback ends: learns from it whether its writes could be held. */
static inline void
judge(LoopObject *loop)
{
    cl_gather *gather = gather_of(loop);
    if (gather->gw_again == 0 || gather->gw_late)
        return;
    uint64_t now = cl_ticks();
    if (longer_than(loop, now - gather->gw_began - gather->gw_sending,
                    CL_LATE_NS))
        doubt(gather->gw_habit);
    else
        praise(gather->gw_habit, SCORE_MAX);
    loop->l_mark_ticks = now;
}

/* Ends the owner's writes of this callback. If it fails, they may have to be
 * ended again. */
static int
end(LoopObject *loop, bool may_wait)
{
    cl_gather *gather = gather_of(loop);
    cl_assert_gil();
    cl_assert(gather->gw_owner != NULL);
    if (holds(gather) && may_wait && defer(loop)) {
        judge(loop);
        return 0;
    }
    PyObject *owner = gather->gw_owner;
    int status = 0;
    if (holds(gather)) {
        Py_INCREF(owner);
        status = cl_gather_flush(loop);
        /* Python code may have ended it meanwhile, and an exit while others'
         * bytes were sent leaves these to be sent. */
        bool ends = gather->gw_owner == owner && !holds(gather);
        Py_DECREF(owner);
        if (!ends)
            return status;
    }
    judge(loop);
    gather->gw_owner = NULL;
    Py_DECREF(owner);
    return status;
}

/* Whether what the callback holds has waited too long already. */
static bool
held_too_long(const LoopObject *loop, uint64_t *now)
{
    const cl_gather *gather = gather_of(loop);
    if (!holds(gather) || cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS)
        return false;
    if (*now == 0)
        *now = cl_ticks();
    return longer_than(loop, *now - gather->gw_held_since, CL_DEFER_NS);
}

/* An l_afterwards of the loop. */
static int
callback_ended(LoopObject *loop, bool may_wait)
{
    cl_gather *gather = gather_of(loop);
    int status = 0;
    uint64_t now = 0;
    if (gather->gw_owner != NULL) {
        now = learn_of_turn(loop);
        status = end(loop, may_wait && !held_too_long(loop, &now));
    }
    if (status == 0 && cl_gather_has_deferred(gather)) {
        if (may_wait && !deferred_longer_than(loop, now, CL_DEFER_NS))
            return 1;
        status = cl_gather_send_deferred(loop);
    }
    if (status < 0 &&
        (gather->gw_owner != NULL || cl_gather_has_deferred(gather)))
        loop->l_afterwards = callback_ended; /* for the others */
    return status;
}

static inline uint64_t
later(uint64_t ticks, uint64_t by, uint64_t now)
{
    return now - ticks > by ? ticks + by : now;
}

/* What sending others' bytes took counts for nobody. */
static void
forget_time(LoopObject *loop, uint64_t began)
{
    cl_gather *gather = gather_of(loop);
    uint64_t now = cl_ticks(), taken = now - began;
    loop->l_mark_ticks = now;
    gather->gw_last_ticks = later(gather->gw_last_ticks, taken, now);
    gather->gw_held_since = later(gather->gw_held_since, taken, now);
    if (gather->gw_asked == 0) /* else cl_gather_sent() adds it */
        gather->gw_sending += taken;
}

int
cl_gather_send_deferred(LoopObject *loop)
{
    cl_gather *gather = gather_of(loop);
    if (!cl_gather_has_deferred(gather))
        return 0;
    uint64_t began = cl_ticks();
    if (deferred_longer_than(loop, began, CL_DEFER_LATE_NS))
        punish(&gather->gw_turns);
    while (cl_gather_has_deferred(gather)) {
        const cl_deferred *first =
            &gather->gw_deferred[gather->gw_deferred_first];
        PyObject *owner = Py_NewRef(first->owner);
        int status = first->send(owner);
        Py_DECREF(owner);
        if (status < 0)
            return -1;
    }
    forget_time(loop, began);
    return 0;
}

int
cl_gather_end_others(LoopObject *loop, PyObject *owner, const cl_habit *habit)
{
    cl_gather *gather = gather_of(loop);
    while (gather->gw_owner != NULL && gather->gw_owner != owner) {
        if (end(loop, false) < 0)
            return -1;
    }
    return habit->hb_deferred ? cl_gather_send_deferred(loop) : 0;
}

int
cl_gather_flush(LoopObject *loop)
{
    cl_assert_gil();
    cl_check(cl_gather_check(loop));
    if (cl_gather_send_deferred(loop) < 0)
        return -1;
    while (holds(gather_of(loop))) {
        PyObject *owner = Py_NewRef(gather_of(loop)->gw_owner);
        int status = gather_of(loop)->gw_send(owner);
        Py_DECREF(owner);
        if (status < 0)
            return -1;
    }
    return 0;
}

bool
cl_gather_holds(const LoopObject *loop, PyObject *owner)
{
    const cl_gather *gather = gather_of(loop);
    return (gather->gw_owner == owner && holds(gather)) ||
           find_deferred(gather, owner) >= 0;
}

/* ------------------------------------------------------------------- one write */

static inline bool
has_learnt(const LoopObject *loop, const cl_habit *habit)
{
    return habit->hb_score >= SCORE_LEARNT ||
           cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS;
}

/* Whether the hold timer would send if the callback blocks. The child of a
 * fork has no such thread. */
static bool
is_timed(LoopObject *loop, cl_gather *gather)
{
    if (cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS)
        return true;
    if (gather->gw_timer == NULL && !gather->gw_untimed) {
        gather->gw_timer = cl_hold_timer_start(loop);
        gather->gw_untimed = gather->gw_timer == NULL;
    }
    return gather->gw_timer != NULL &&
           gather->gw_timer->ht_pid == loop->l_st->pid;
}

/* Other bytes follow the last write. */
static void
copy_last(cl_gather *gather)
{
    cl_held *held = &gather->gw_held;
    PyObject *last = held->last;
    size_t size = cl_held_size(last);
    memcpy(held->rest + held->rest_size, PyBytes_AS_STRING(last), size);
    held->rest_size += size;
    held->last = NULL;
    gather->gw_room = gather->gw_room_behind;
    gather->gw_room_behind = 0;
    Py_DECREF(last);
}

/* Holds the bytes, if they fit behind those already held. */
static bool
keep(LoopObject *loop, const cl_gather_write *write, uint64_t now)
{
    cl_gather *gather = gather_of(loop);
    cl_held *held = &gather->gw_held;
    bool is_first = !holds(gather);
    cl_assert_of(write->owner, gather->gw_owner == write->owner);
    cl_assertf(write->limit <= CL_GATHER_MAX, "%zu", write->limit);
    size_t room = is_first             ? write->limit
                  : held->last == NULL ? gather->gw_room
                                       : gather->gw_room_behind;
    if (is_first && gather->gw_reads_on && write->object != NULL &&
        write->size > room && write->size <= write->first_limit)
        room = write->size;
    if (write->size > room || (is_first && !is_timed(loop, gather)) ||
        (held->rest == NULL &&
         (held->rest = PyMem_RawMalloc(CL_GATHER_MAX)) == NULL))
        return false;
    if (is_first && write->object != NULL) {
        held->first = Py_NewRef(write->object);
    }
    else if (write->size > CL_COPY_MAX) {
        return false;
    }
    else if (write->object != NULL && held->first != NULL &&
             cl_gather_refers(held, write->size)) {
        held->last = Py_NewRef(write->object);
        gather->gw_room_behind = room - write->size;
        gather->gw_room = 0;
        return true;
    }
    else {
        if (held->last != NULL)
            copy_last(gather);
        memcpy(held->rest + held->rest_size, write->data, write->size);
        held->rest_size += write->size;
    }
    if (is_first) {
        gather->gw_held_since = now;
        if (!cl_gather_has_deferred(gather))
            set_timer(loop);
    }
    gather->gw_room = room - write->size;
    return true;
}

bool
cl_gather_hold(LoopObject *loop, const cl_gather_write *write)
{
    cl_gather *gather = gather_of(loop);
    if (cl_net_of(loop->l_st)->gathers == CL_GATHER_NEVER ||
        !cl_loop_in_callback(loop))
        return false;
    cl_assert_of(write->owner, write->size > 0 && write->data != NULL);
    cl_check(cl_gather_check(loop));
    uint64_t now = cl_ticks();
    if (gather->gw_owner == NULL) {
        gather->gw_owner = Py_NewRef(write->owner);
        gather->gw_send = write->send;
        gather->gw_habit = write->habit;
        gather->gw_began = now;
        gather->gw_sending = 0;
        gather->gw_again = 0;
        gather->gw_late = false;
        gather->gw_patience =
            cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS
                ? UINT64_MAX
                : ticks_of(loop, CL_HOLD_MAX_NS);
        gather->gw_may_defer = write->defers && turns_have_taught(loop);
        gather->gw_may_hold =
            write->allowed &&
            (has_learnt(loop, write->habit) ||
             (gather->gw_may_defer && cl_ring_count(&loop->l_ready) > 0)) &&
            now - loop->l_mark_ticks <= gather->gw_patience;
    }
    else if (gather->gw_owner != write->owner) {
        return false; /* Python code wrote elsewhere meanwhile */
    }
    else {
        gather->gw_again++;
        if (!write->allowed || (holds(gather) && now - gather->gw_held_since >
                                                     gather->gw_patience))
            gather->gw_may_hold = false;
    }
    loop->l_afterwards = callback_ended; /* the child of a fork resets this */
    bool held = gather->gw_may_hold && keep(loop, write, now);
    gather->gw_asked = held ? 0 : now;
    return held;
}

void
cl_gather_stop_timer(LoopObject *loop)
{
    cl_hold_timer *timer = gather_of(loop)->gw_timer;
    gather_of(loop)->gw_timer = NULL;
    cl_hold_timer_stop(timer);
}

void
cl_gather_take(LoopObject *loop, PyObject *owner, cl_held *held)
{
    cl_assert_gil();
    cl_check(cl_gather_check(loop));
    *held = (cl_held){NULL};
    cl_gather *gather = gather_of(loop);
    int place = find_deferred(gather, owner);
    if (place >= 0) {
        cl_deferred taken = take_deferred(loop, place);
        held->first = taken.bytes;
        held->last = taken.last;
        Py_DECREF(taken.owner);
        return;
    }
    if (gather->gw_owner != owner || !holds(gather))
        return;
    uint64_t now = cl_ticks();
    loop->l_mark_ticks = now;
    if (longer_than(loop, now - gather->gw_held_since, CL_LATE_NS)) {
        gather->gw_may_hold = false;
        gather->gw_late = true;
        punish(gather->gw_habit);
        if (gather->gw_may_defer) /* maybe they were held for that */
            punish(&gather->gw_turns);
    }
    *held = gather->gw_held;
    forget_held(loop);
    gather->gw_held.rest = NULL;
    cl_check(cl_gather_check(loop));
}

void
cl_gather_release(LoopObject *loop, cl_held *held)
{
    Py_XDECREF(held->first);
    Py_XDECREF(held->last);
    if (held->rest != NULL && gather_of(loop)->gw_held.rest == NULL)
        gather_of(loop)->gw_held.rest = held->rest;
    else if (held->rest != NULL)
        PyMem_RawFree(held->rest);
}

void
cl_gather_drop(LoopObject *loop, PyObject *owner)
{
    cl_gather *gather = gather_of(loop);
    int place = find_deferred(gather, owner);
    if (place >= 0) {
        cl_deferred taken = take_deferred(loop, place);
        Py_DECREF(taken.bytes);
        Py_XDECREF(taken.last);
        Py_DECREF(taken.owner);
    }
    if (gather->gw_owner != owner)
        return;
    PyObject *first = gather->gw_held.first, *last = gather->gw_held.last;
    forget_held(loop);
    gather->gw_owner = NULL;
    Py_XDECREF(first);
    Py_XDECREF(last);
    Py_DECREF(owner);
}

/* --------------------------------------------------------------- the loop's part */

void
cl_gather_init(cl_gather *gather)
{
    cl_habit_init(&gather->gw_turns, NULL);
}

/* Drops what is deferred; the transports only if `owners`. */
static void
drop_deferred(cl_gather *gather, bool owners)
{
    unsigned first = gather->gw_deferred_first, end = gather->gw_deferred_end;
    gather->gw_deferred_first = gather->gw_deferred_end = 0;
    for (unsigned i = first; i < end; i++) {
        cl_deferred dropped = gather->gw_deferred[i];
        dropped.habit->hb_deferred = false;
        Py_DECREF(dropped.bytes);
        Py_XDECREF(dropped.last);
        if (owners)
            Py_DECREF(dropped.owner);
    }
}

void
cl_gather_forked(cl_gather *gather)
{
    gather->gw_owner = NULL; /* a leak: no destructor must run now */
    Py_CLEAR(gather->gw_held.first);
    Py_CLEAR(gather->gw_held.last);
    hand_over(gather);
    drop_deferred(gather, false);
}

int
cl_gather_traverse(const cl_gather *gather, visitproc visit, void *arg)
{
    Py_VISIT(gather->gw_owner);
    for (unsigned i = gather->gw_deferred_first; i < gather->gw_deferred_end;
         i++)
        Py_VISIT(gather->gw_deferred[i].owner);
    return 0;
}

void
cl_gather_clear(cl_gather *gather)
{
    Py_CLEAR(gather->gw_owner);
    Py_CLEAR(gather->gw_held.first);
    Py_CLEAR(gather->gw_held.last);
    PyMem_RawFree(gather->gw_held.rest);
    drop_deferred(gather, true);
}
