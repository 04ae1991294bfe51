/* histogram.h - how often a duration was measured, by its order of magnitude.
 *
 * Bucket n counts the durations from 2^n to 2^(n+1) - 1 ns; the first has 0 as
 * well. Adding one takes a few instructions and no branch, so there is a place
 * for every 64-bit number. The places from CL_HISTOGRAM_VOID on are negative
 * differences: the counter was set back (clock.h). They are not shown. The last
 * bucket that is shown has all that is longer. */
#ifndef CL_BASE_HISTOGRAM_H
#define CL_BASE_HISTOGRAM_H

#include <stdint.h>

/* Shown: up to 2^36 ns, a minute, and what is longer. */
#define CL_HISTOGRAM_BUCKETS 37

/* 2^56 ns are two years. */
#define CL_HISTOGRAM_VOID 56

typedef struct {
    uint64_t counts[64];
} cl_histogram;

static inline unsigned
cl_histogram_bucket(uint64_t ns)
{
    return 63U ^ (unsigned)__builtin_clzll(ns | 1);
}

static inline void
cl_histogram_add(cl_histogram *histogram, uint64_t ns)
{
    histogram->counts[cl_histogram_bucket(ns)]++;
}

/* Writes what is shown to `counts`, and returns the sum of it. */
uint64_t cl_histogram_show(const cl_histogram *histogram,
                           uint64_t counts[CL_HISTOGRAM_BUCKETS]);

#endif
