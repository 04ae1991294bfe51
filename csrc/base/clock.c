/* clock.c - learns how fast the cheap counter runs; see clock.h. */
#include "base/clock.h"

/* Over a shorter time the two readings are too far apart to divide. After a
 * longer one (a suspended machine, a moved virtual machine) start again. */
#define LEARN_MIN_NS (100 * 1000)
#define LEARN_MAX_NS (10 * CL_NS_PER_S)

/* Ticks per ns; no processor counts faster. */
#define LEARN_MAX_RATE 16.0

void
cl_rate_init(cl_rate *rate)
{
    rate->base_ticks = cl_ticks();
    rate->base_ns = cl_now_ns();
    rate->ticks_per_ns = 1.0;
}

void
cl_rate_learn(cl_rate *rate, uint64_t ticks, int64_t now_ns)
{
    int64_t ns = now_ns - rate->base_ns;
    if (ns < LEARN_MIN_NS)
        return;
    double speed = (double)(ticks - rate->base_ticks) / (double)ns;
    if (ns <= LEARN_MAX_NS && speed > 0 && speed <= LEARN_MAX_RATE)
        rate->ticks_per_ns = speed;
    rate->base_ticks = ticks;
    rate->base_ns = now_ns;
}
