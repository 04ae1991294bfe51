/* clock.h - the two clocks of the loop.
 *
 * cl_now_ns() is CLOCK_MONOTONIC, the clock of time.monotonic(), in ns.
 *
 * cl_ticks() is a counter that is cheaper to read and good for one question
 * only: has about so much time gone by? A cl_rate turns ticks into
 * nanoseconds. It learns the counter's speed from pairs of readings; until it
 * has, it assumes a speed (1 per ns) below that of any machine whose counter
 * is used here, which errs on the side of looking at the real clock too
 * early.
 *
 * The counter may be set back or forward at any time: by a virtual machine that
 * is restored or moved, or between processors. So readings are never compared,
 * only the time since one of them (cl_ticks_within). */
#ifndef CL_BASE_CLOCK_H
#define CL_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define CL_NS_PER_S 1000000000LL

static inline int64_t
cl_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * CL_NS_PER_S + ts.tv_nsec;
}

/* The same in seconds, by the arithmetic of time.monotonic(): both always agree. */
static inline double
cl_now_s(void)
{
    return (double)cl_now_ns() / 1e9;
}

static inline uint64_t
cl_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return (uint64_t)cl_now_ns();
#endif
}

/* Whether fewer than `length` ticks have gone by between two readings; not if the
 * counter was set back meanwhile: the difference is then very large. */
static inline bool
cl_ticks_within(uint64_t start, uint64_t now, uint64_t length)
{
    return now - start < length;
}

typedef struct {
    uint64_t base_ticks;
    int64_t base_ns;
    double ticks_per_ns;
} cl_rate;

void cl_rate_init(cl_rate *rate);

/* Tell the rate of a pair of readings taken at the same moment. A speed that no
 * counter has teaches nothing: it was set. */
void cl_rate_learn(cl_rate *rate, uint64_t ticks, int64_t now_ns);

/* `delta_ns` (not negative) as ticks. */
static inline uint64_t
cl_rate_ticks(const cl_rate *rate, int64_t delta_ns)
{
    return (uint64_t)((double)delta_ns * rate->ticks_per_ns);
}

#endif
