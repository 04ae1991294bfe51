/* gather.c - see gather.h. */
#include "net/gather.h"

#include "net/hold_timer.h"
#include "net/transport.h"

/* Good callbacks before writes are held: one may be chance. */
#define SCORE_LEARNT 3

/* Past this, good callbacks teach nothing new, and old faults are forgotten. */
#define SCORE_MAX 1024

/* What a late write costs, in good callbacks; each further one costs twice as much. A
 * thread that lost its core for a moment looks like a callback that blocked: the first
 * must not cost a busy connection more than some ms. */
#define PENALTY_MIN 256
#define PENALTY_MAX 8192

struct cl_habits {
    size_t refs;
    int score;
};

/* -------------------------------------------------------------------- habits */

cl_habits *
cl_habits_new(void)
{
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
    *habit = (cl_habit){.b_shared = cl_habits_ref(shared),
                        .b_score = learnt ? SCORE_LEARNT : 0,
                        .b_penalty = PENALTY_MIN};
}

void
cl_habit_clear(cl_habit *habit)
{
    cl_habits_drop(habit->b_shared);
    habit->b_shared = NULL;
}

/* A callback wrote more than once and ended soon. */
static void
praise(cl_habit *habit)
{
    if (habit->b_score < SCORE_MAX)
        habit->b_score++;
    else
        habit->b_penalty = PENALTY_MIN;
    if (habit->b_shared != NULL && habit->b_shared->score < SCORE_MAX)
        habit->b_shared->score++;
}

/* It wrote more than once and took long, but nothing was late. */
static void
doubt(cl_habit *habit)
{
    if (habit->b_score > 0)
        habit->b_score = 0;
}

/* What was held was late. */
static void
punish(cl_habit *habit)
{
    habit->b_score = (int16_t)-habit->b_penalty;
    if (habit->b_penalty < PENALTY_MAX)
        habit->b_penalty = (int16_t)(2 * habit->b_penalty);
    if (habit->b_shared != NULL)
        habit->b_shared->score = -PENALTY_MIN;
}

/* ---------------------------------------------------------------- the callback */

static inline cl_gather *
gather_of(const LoopObject *loop)
{
    return &cl_net_on(loop)->n_gather;
}

static inline bool
holds(const cl_gather *gather)
{
    return gather->g_held.first != NULL || gather->g_held.rest_size > 0;
}

#ifdef CL_DEBUG
void
cl_gather_check(const LoopObject *loop)
{
    const cl_gather *gather = gather_of(loop);
    const cl_held *held = &gather->g_held;
    cl_assertf(held->rest_size <= CL_GATHER_MAX, "%zu", held->rest_size);
    cl_assertf(held->rest != NULL || held->rest_size == 0, "%zu",
               held->rest_size);
    cl_assertf(gather->g_room + held->rest_size <= CL_GATHER_MAX,
               "room for %zu beside %zu", gather->g_room, held->rest_size);
    cl_assert(!holds(gather) || gather->g_owner != NULL);
    cl_assertf(holds(gather) || gather->g_room == 0, "room for %zu",
               gather->g_room);
    if (gather->g_owner != NULL) {
        cl_assert_of(gather->g_owner, Py_REFCNT(gather->g_owner) > 0);
        cl_assert_of(gather->g_owner,
                     gather->g_send != NULL && gather->g_habit != NULL);
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

/* The writes of g_owner in this callback are over. */
static int
end(LoopObject *loop)
{
    cl_gather *gather = gather_of(loop);
    cl_assert_gil();
    cl_assert(gather->g_owner != NULL);
    PyObject *owner = Py_NewRef(gather->g_owner);
    int status = holds(gather) ? gather->g_send(owner) : 0;
    if (gather->g_owner == owner) { /* not ended by Python that ran */
        if (gather->g_again > 0 && !gather->g_late) {
            uint64_t now = cl_ticks();
            if (longer_than(loop, now - gather->g_began, CL_LATE_NS))
                doubt(gather->g_habit);
            else
                praise(gather->g_habit);
            loop->l_mark_ticks = now;
        }
        gather->g_owner = NULL;
        Py_DECREF(owner);
    }
    Py_DECREF(owner);
    return status;
}

static int
callback_ended(LoopObject *loop)
{
    return gather_of(loop)->g_owner == NULL ? 0 : end(loop);
}

int
cl_gather_make_way(LoopObject *loop, PyObject *owner)
{
    cl_gather *gather = gather_of(loop);
    cl_assert_gil();
    cl_check(cl_gather_check(loop));
    while (gather->g_owner != NULL && gather->g_owner != owner) {
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
        PyObject *owner = Py_NewRef(gather_of(loop)->g_owner);
        int status = gather_of(loop)->g_send(owner);
        Py_DECREF(owner);
        if (status < 0)
            return -1;
    }
    return 0;
}

bool
cl_gather_holds(const LoopObject *loop, PyObject *owner)
{
    return gather_of(loop)->g_owner == owner && holds(gather_of(loop));
}

/* ------------------------------------------------------------------- one write */

static inline bool
has_learnt(const LoopObject *loop, const cl_habit *habit)
{
    return habit->b_score >= SCORE_LEARNT ||
           cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS;
}

/* Whether what is held would be sent although the callback blocks. A child of a fork has
 * no such thread. */
static bool
is_timed(LoopObject *loop, cl_gather *gather)
{
    if (cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS)
        return true;
    if (gather->g_timer == NULL && !gather->g_untimed) {
        gather->g_timer = cl_hold_timer_start(loop);
        gather->g_untimed = gather->g_timer == NULL;
    }
    return gather->g_timer != NULL &&
           gather->g_timer->ht_pid == loop->l_st->pid;
}

/* Whether the bytes fit behind those that are held; then they are. */
static bool
keep(LoopObject *loop, const cl_gather_write *write, uint64_t now)
{
    cl_gather *gather = gather_of(loop);
    cl_held *held = &gather->g_held;
    bool is_first = !holds(gather);
    cl_assert_of(write->owner, gather->g_owner == write->owner);
    size_t room = is_first ? write->limit : gather->g_room;
    if (room > CL_GATHER_MAX)
        room = CL_GATHER_MAX;
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
        gather->g_held_since = now;
        if (gather->g_timer != NULL)
            cl_hold_timer_begin(
                gather->g_timer,
                now + cl_rate_ticks(&loop->l_rate, CL_HOLD_PERIOD_NS));
    }
    gather->g_room = room - write->size;
    return true;
}

bool
cl_gather_hold(LoopObject *loop, const cl_gather_write *write)
{
    cl_gather *gather = gather_of(loop);
    if (cl_net_of(loop->l_st)->gathers == CL_GATHER_NEVER ||
        !cl_loop_in_callback(loop))
        return false;
    uint64_t now = cl_ticks();
    if (gather->g_owner == NULL) {
        gather->g_owner = Py_NewRef(write->owner);
        gather->g_send = write->send;
        gather->g_habit = write->habit;
        gather->g_began = now;
        gather->g_again = 0;
        gather->g_late = false;
        gather->g_patience =
            cl_net_of(loop->l_st)->gathers == CL_GATHER_ALWAYS
                ? UINT64_MAX
                : cl_rate_ticks(&loop->l_rate, CL_HOLD_MAX_NS);
        gather->g_may_hold = write->allowed &&
                             has_learnt(loop, write->habit) &&
                             now - loop->l_mark_ticks <= gather->g_patience;
    }
    else if (gather->g_owner != write->owner) {
        return false; /* Python that ran meanwhile has written elsewhere */
    }
    else {
        gather->g_again++;
        if (!write->allowed ||
            (holds(gather) && now - gather->g_held_since > gather->g_patience))
            gather->g_may_hold = false;
    }
    loop->l_afterwards = callback_ended; /* a fork has its child forget it */
    cl_assert_of(write->owner, write->size > 0 && write->data != NULL);
    cl_check(cl_gather_check(loop));
    return gather->g_may_hold && keep(loop, write, now);
}

static void
forget_held(cl_gather *gather)
{
    gather->g_held.first = NULL;
    gather->g_held.rest_size = 0;
    gather->g_room = 0;
    if (gather->g_timer != NULL)
        cl_hold_timer_end(gather->g_timer);
}

void
cl_gather_stop_timer(LoopObject *loop)
{
    cl_hold_timer *timer = gather_of(loop)->g_timer;
    gather_of(loop)->g_timer = NULL;
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
    if (longer_than(loop, now - gather->g_held_since, CL_LATE_NS)) {
        gather->g_may_hold = false;
        gather->g_late = true;
        punish(gather->g_habit);
    }
    *held = gather->g_held;
    forget_held(gather);
    gather->g_held.rest = NULL;
    cl_check(cl_gather_check(loop));
}

void
cl_gather_release(LoopObject *loop, cl_held *held)
{
    Py_XDECREF(held->first);
    if (held->rest != NULL && gather_of(loop)->g_held.rest == NULL)
        gather_of(loop)->g_held.rest = held->rest;
    else
        PyMem_RawFree(held->rest);
}

void
cl_gather_drop(LoopObject *loop, PyObject *owner)
{
    if (gather_of(loop)->g_owner != owner)
        return;
    cl_gather *gather = gather_of(loop);
    PyObject *first = gather->g_held.first;
    forget_held(gather);
    gather->g_owner = NULL;
    Py_XDECREF(first);
    Py_DECREF(owner);
}
