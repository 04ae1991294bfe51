/* histogram.c - see histogram.h. */
#include "base/histogram.h"

uint64_t
cl_histogram_show(const cl_histogram *histogram,
                  uint64_t counts[CL_HISTOGRAM_BUCKETS])
{
    uint64_t total = 0;
    for (int i = 0; i < CL_HISTOGRAM_BUCKETS; i++) {
        counts[i] = histogram->counts[i];
        total += counts[i];
    }
    for (int i = CL_HISTOGRAM_BUCKETS; i < CL_HISTOGRAM_VOID; i++) {
        counts[CL_HISTOGRAM_BUCKETS - 1] += histogram->counts[i];
        total += histogram->counts[i];
    }
    return total;
}
