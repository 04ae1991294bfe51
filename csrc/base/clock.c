/* clock.c - learns how fast the cheap counter runs; see clock.h. */
#include "base/clock.h"

/* Over a shorter time the two readings are too far apart to divide. After a
 * longer one (a suspended machine, a moved virtual machine) start again. */
#define LEARN_MIN_NS (100 * 1000)
#define LEARN_MAX_NS (10 * CL_NS_PER_S)

/* Ticks per ns; no processor counts faster, or slower. */
#define LEARN_MAX_RATE 16.0
#define LEARN_MIN_RATE 0.5

static void
set_speed(cl_rate *rate, double ticks_per_ns)
{
    rate->ticks_per_ns = ticks_per_ns;
    /* Not more than 1, so that cl_rate_ns() does not wrap around. */
    rate->ns_per_tick =
        (uint64_t)(4294967296.0 / (ticks_per_ns < 1 ? 1 : ticks_per_ns));
}

void
cl_rate_init(cl_rate *rate)
{
    rate->base_ticks = cl_ticks();
    rate->base_ns = cl_now_ns();
    rate->learnt = false;
    set_speed(rate, 1.0);
}

void
cl_rate_learn(cl_rate *rate, uint64_t ticks, int64_t now_ns)
{
    int64_t ns = now_ns - rate->base_ns;
    if (ns < LEARN_MIN_NS)
        return;
    double speed = (double)(ticks - rate->base_ticks) / (double)ns;
    /* A doubtful speed is better than none. */
    if ((ns <= LEARN_MAX_NS || !rate->learnt) && speed >= LEARN_MIN_RATE &&
        speed <= LEARN_MAX_RATE) {
        set_speed(rate, speed);
        rate->learnt = true;
    }
    rate->base_ticks = ticks;
    rate->base_ns = now_ns;
}
