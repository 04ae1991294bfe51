/* clock.h - the two clocks of the loop.
 *
 * cl_now_ns() is the clock of time.monotonic(), in ns.
 *
 * cl_ticks() is a counter that is cheaper to read. It answers one question
 * only: has about this much time passed? A cl_rate converts between ticks and
 * nanoseconds. It learns the counter's speed from pairs of readings. Until
 * then it assumes one tick per ns, which is less than any counter used here,
 * so the real clock is read too early rather than too late.
 *
 * The counter may jump at any time: when a virtual machine is restored or
 * moved, or between processors. So readings are never compared; only the time
 * since one of them is (cl_ticks_within). */
#ifndef CL_BASE_CLOCK_H
#define CL_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/platform.h"

#define CL_NS_PER_S 1000000000LL

static inline int64_t
cl_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CL_CLOCK, &ts);
    return (int64_t)ts.tv_sec * CL_NS_PER_S + ts.tv_nsec;
}

/* The same in seconds, computed like time.monotonic(), so both always agree. */
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

/* Whether fewer than `length` ticks passed between two readings. False if the
 * counter was set back, since the difference is then very large. */
static inline bool
cl_ticks_within(uint64_t start, uint64_t now, uint64_t length)
{
    return now - start < length;
}

typedef struct {
    uint64_t base_ticks;
    int64_t base_ns;
    double ticks_per_ns;
    uint64_t ns_per_tick; /* in units of 2^-32 */
    bool learnt;
} cl_rate;

void cl_rate_init(cl_rate *rate);

/* Learns from a pair of readings taken at the same moment. An impossible speed
 * is ignored: the counter was set. */
void cl_rate_learn(cl_rate *rate, uint64_t ticks, int64_t now_ns);

/* Converts `delta_ns` (not negative) to ticks. */
static inline uint64_t
cl_rate_ticks(const cl_rate *rate, int64_t delta_ns)
{
    return (uint64_t)((double)delta_ns * rate->ticks_per_ns);
}

/* Converts a difference of ticks to ns. One that is negative becomes an
 * impossibly large number, 2^56 at least. */
static inline uint64_t
cl_rate_ns(const cl_rate *rate, uint64_t ticks)
{
#ifdef __SIZEOF_INT128__
    return (uint64_t)((unsigned __int128)ticks * rate->ns_per_tick >> 32);
#else
    return (uint64_t)(int64_t)((double)(int64_t)ticks *
                               (double)rate->ns_per_tick / 4294967296.0);
#endif
}

/* Returns cl_now_ns() at the moment of this reading, which is a recent one:
 * without looking at the clock, if the rate has just been learnt. Then it is
 * right within 2 us. */
static inline int64_t
cl_rate_now_ns(const cl_rate *rate, uint64_t ticks)
{
    uint64_t since = ticks - rate->base_ticks;
    return rate->learnt && since < ((uint64_t)1 << 24)
               ? rate->base_ns + (int64_t)cl_rate_ns(rate, since)
               : cl_now_ns();
}

#endif
