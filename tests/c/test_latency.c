/* test_latency.c - the histogram of the load generator. */
#include "check.h"

#include "../../benchmarks/load/latency.h"

#include <string.h>

static latencies all;

static void
test_bins_are_narrow(void)
{
    for (uint64_t ns = 1; ns < (uint64_t)1 << 36; ns += 1 + ns / 7) {
        uint64_t near = latency_of_bin(latency_bin(ns));
        uint64_t off = near > ns ? near - ns : ns - near;
        CHECK(off * 64 <= ns);
        CHECK(latency_bin(ns) <= latency_bin(ns + 1));
    }
}

static void
test_bins_cover_all(void)
{
    CHECK(latency_bin(0) == 0);
    CHECK(latency_bin(((uint64_t)1 << 36) - 1) == LATENCY_BINS - 1);
    CHECK(latency_bin(UINT64_MAX) == LATENCY_BINS - 1);
}

static void
test_percentiles(void)
{
    /* 1 to 1000 us, unordered. */
    memset(&all, 0, sizeof all);
    for (uint64_t i = 0; i < 1000; i++) {
        latency_add(&all, (1 + i * 7919 % 1000) * 1000);
    }
    CHECK(all.count == 1000 && all.most == 1000000);
    const struct {
        unsigned thousandths;
        uint64_t is;
    } expected[] = {{500, 500000}, {990, 990000}, {999, 999000}};
    for (int i = 0; i < 3; i++) {
        uint64_t found = latency_percentile(&all, expected[i].thousandths);
        CHECK(found * 100 >= expected[i].is * 98 &&
              found * 100 <= expected[i].is * 102);
    }
}

static void
test_percentiles_of_one(void)
{
    memset(&all, 0, sizeof all);
    latency_add(&all, 4097);
    CHECK(latency_percentile(&all, 500) == 4097);
    CHECK(latency_percentile(&all, 999) == 4097);
}

int
main(void)
{
    test_bins_are_narrow();
    test_bins_cover_all();
    test_percentiles();
    test_percentiles_of_one();
    return 0;
}
