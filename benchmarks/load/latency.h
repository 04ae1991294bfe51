/* latency.h - latencies as a log-linear histogram, in the manner of HdrHistogram.
 *
 * Each power of two is divided into 32 bins of the same width, so that a value
 * is known to within 3 %. Adding one allocates nothing. */
#ifndef BENCHMARKS_LOAD_LATENCY_H
#define BENCHMARKS_LOAD_LATENCY_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define LATENCY_BITS 5
#define LATENCY_EACH (1 << LATENCY_BITS)
/* Up to 2^36 ns, which is longer than the load generator waits. */
#define LATENCY_BINS ((36 - LATENCY_BITS + 1) * LATENCY_EACH)

typedef struct {
    uint32_t bins[LATENCY_BINS];
    uint64_t count;
    uint64_t most;
} latencies;

static inline uint64_t
clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline unsigned
latency_bin(uint64_t ns)
{
    if (ns < LATENCY_EACH) {
        return (unsigned)ns; /* bins of one nanosecond each */
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - LATENCY_BITS;
    unsigned bin = (shift << LATENCY_BITS) + (unsigned)(ns >> shift);
    return bin < LATENCY_BINS ? bin : LATENCY_BINS - 1;
}

/* The middle of a bin. */
static inline uint64_t
latency_of_bin(unsigned bin)
{
    if (bin < LATENCY_EACH) {
        return bin;
    }
    unsigned shift = (bin >> LATENCY_BITS) - 1;
    uint64_t least = (uint64_t)(bin - (shift << LATENCY_BITS)) << shift;
    return least + ((uint64_t)1 << shift) / 2;
}

static inline void
latency_add(latencies *all, uint64_t ns)
{
    all->bins[latency_bin(ns)]++;
    all->count++;
    if (ns > all->most) {
        all->most = ns;
    }
}

/* The value that a part of them, in thousandths, does not exceed. */
static inline uint64_t
latency_percentile(const latencies *all, unsigned thousandths)
{
    /* Of few values the highest: never one that none was as slow as. */
    uint64_t rank = (all->count * thousandths + 999) / 1000, seen = 0;
    for (unsigned bin = 0; bin < LATENCY_BINS; bin++) {
        seen += all->bins[bin];
        if (seen >= rank) {
            uint64_t ns = latency_of_bin(bin);
            return ns < all->most ? ns : all->most;
        }
    }
    return all->most;
}

/* As one more member of a JSON object; nothing if nothing was added. */
static inline void
latency_print(const latencies *all)
{
    if (all->count > 0) {
        printf(", \"latency_ns\": {\"p50\": %" PRIu64 ", \"p99\": %" PRIu64
               ", \"p99.9\": %" PRIu64 ", \"max\": %" PRIu64 "}",
               latency_percentile(all, 500), latency_percentile(all, 990),
               latency_percentile(all, 999), all->most);
    }
}

#endif
