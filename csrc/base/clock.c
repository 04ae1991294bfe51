/* clock.c - learns how fast the cheap counter runs; see clock.h. */
#include "base/clock.h"

/* Over a shorter stretch the two readings are too far apart to divide; after a
 * longer one (suspended machine, moved virtual machine) start anew. */
#define LEARN_MIN_NS (100 * 1000)
#define LEARN_MAX_NS (10 * CL_NS_PER_S)

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
    if (ns <= LEARN_MAX_NS && ticks > rate->base_ticks)
        rate->ticks_per_ns = (double)(ticks - rate->base_ticks) / (double)ns;
    rate->base_ticks = ticks;
    rate->base_ns = now_ns;
}
