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

/* A callback wrote more than once and returned soon. */
static void
praise(cl_habit *habit)
{
    if (habit->hb_score < SCORE_MAX)
        habit->hb_score++;
    else
        habit->hb_penalty = PENALTY_MIN;
    if (habit->hb_shared != NULL && habit->hb_shared->score < SCORE_MAX)
        habit->hb_shared->score++;
}

/* A callback wrote more than once and took long, but nothing was late. */
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

static inline bool
holds(const cl_gather *gather)
{
    return gather->gw_held.first != NULL || gather->gw_held.rest_size > 0;
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
    cl_assertf(gather->gw_room + held->rest_size <= CL_GATHER_MAX,
               "room for %zu beside %zu", gather->gw_room, held->rest_size);
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
}
#endif

static inline bool
longer_than(const LoopObject *loop, uint64_t ticks, int64_t ns)
{
    return ticks > cl_rate_ticks(&loop->l_rate, ns);
}

/* Ends the owner's writes of this callback. */
static int
end(LoopObject *loop)
{
    cl_gather *gather = gather_of(loop);
    cl_assert_gil();
    cl_assert(gather->gw_owner != NULL);
    PyObject *owner = Py_NewRef(gather->gw_owner);
    int status = holds(gather) ? gather->gw_send(owner) : 0;
    if (gather->gw_owner ==
        owner) { /* unless Python code ended it meanwhile */
        if (gather->gw_again > 0 && !gather->gw_late) {
            uint64_t now = cl_ticks();
            if (longer_than(loop, now - gather->gw_began - gather->gw_sending,
                            CL_LATE_NS))
                doubt(gather->gw_habit);
            else
                praise(gather->gw_habit);
            loop->l_mark_ticks = now;
        }
        gather->gw_owner = NULL;
        Py_DECREF(owner);
    }
    Py_DECREF(owner);
    return status;
}

static int
callback_ended(LoopObject *loop)
{
    return gather_of(loop)->gw_owner == NULL ? 0 : end(loop);
}

int
cl_gather_make_way(LoopObject *loop, PyObject *owner)
{
    cl_gather *gather = gather_of(loop);
    cl_assert_gil();
    cl_check(cl_gather_check(loop));
    while (gather->gw_owner != NULL && gather->gw_owner != owner) {
        if (end(loop) < 0)
            return -1;
    }
    return 0;
}

int
cl_gather_flush(LoopObject *loop)
{
    cl_assert_gil();
    cl_check(cl_gather_check(loop));
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
    return gather_of(loop)->gw_owner == owner && holds(gather_of(loop));
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

/* Holds the bytes, if they fit behind those already held. */
static bool
keep(LoopObject *loop, const cl_gather_write *write, uint64_t now)
{
    cl_gather *gather = gather_of(loop);
    cl_held *held = &gather->gw_held;
    bool is_first = !holds(gather);
    cl_assert_of(write->owner, gather->gw_owner == write->owner);
    cl_assertf(write->limit <= CL_GATHER_MAX, "%zu", write->limit);
    size_t room = is_first ? write->limit : gather->gw_room;
    if (write->size > room || (is_first && !is_timed(loop, gather)) ||
        (held->rest == NULL &&
         (held->rest = PyMem_RawMalloc(CL_GATHER_MAX)) == NULL))
        return false;
    if (is_first && write->object != NULL) {
        held->first = Py_NewRef(write->object);
    }
    else if (write->size <= CL_COPY_MAX) {
        memcpy(held->rest + held->rest_size, write->data, write->size);
        held->rest_size += write->size;
    }
    else {
        return false;
    }
    if (is_first) {
        gather->gw_held_since = now;
        if (gather->gw_timer != NULL)
            cl_hold_timer_begin(
                gather->gw_timer,
                now + cl_rate_ticks(&loop->l_rate, CL_HOLD_PERIOD_NS));
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
                : cl_rate_ticks(&loop->l_rate, CL_HOLD_MAX_NS);
        gather->gw_may_hold = write->allowed &&
                              has_learnt(loop, write->habit) &&
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

static void
forget_held(cl_gather *gather)
{
    gather->gw_held.first = NULL;
    gather->gw_held.rest_size = 0;
    gather->gw_room = 0;
    if (gather->gw_timer != NULL)
        cl_hold_timer_end(gather->gw_timer);
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
    if (!cl_gather_holds(loop, owner))
        return;
    cl_gather *gather = gather_of(loop);
    uint64_t now = cl_ticks();
    loop->l_mark_ticks = now;
    if (longer_than(loop, now - gather->gw_held_since, CL_LATE_NS)) {
        gather->gw_may_hold = false;
        gather->gw_late = true;
        punish(gather->gw_habit);
    }
    *held = gather->gw_held;
    forget_held(gather);
    gather->gw_held.rest = NULL;
    cl_check(cl_gather_check(loop));
}

void
cl_gather_release(LoopObject *loop, cl_held *held)
{
    Py_XDECREF(held->first);
    if (held->rest != NULL && gather_of(loop)->gw_held.rest == NULL)
        gather_of(loop)->gw_held.rest = held->rest;
    else
        PyMem_RawFree(held->rest);
}

void
cl_gather_drop(LoopObject *loop, PyObject *owner)
{
    if (gather_of(loop)->gw_owner != owner)
        return;
    cl_gather *gather = gather_of(loop);
    PyObject *first = gather->gw_held.first;
    forget_held(gather);
    gather->gw_owner = NULL;
    Py_XDECREF(first);
    Py_DECREF(owner);
}
