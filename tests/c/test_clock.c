/* test_clock.c - the monotonic clock, and how the rate of the counter is
 * measured. */
#include "base/clock.h"

#include <math.h>

#include "check.h"

#define MS (CL_NS_PER_S / 1000)

/* Returns a rate that starts at known readings. Tests pass it invented ones.
 */
static cl_rate
rate_from(uint64_t ticks, int64_t now_ns)
{
    cl_rate rate;
    cl_rate_init(&rate);
    rate.base_ticks = ticks;
    rate.base_ns = now_ns;
    return rate;
}

static void
test_now_is_the_monotonic_clock(void)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int64_t now = cl_now_ns(), later = cl_now_ns();
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(before.tv_sec * CL_NS_PER_S + before.tv_nsec <= now);
    CHECK(now <= later);
    CHECK(later <= after.tv_sec * CL_NS_PER_S + after.tv_nsec);
}

static void
test_assumes_a_tick_per_ns(void)
{
    cl_rate rate;
    cl_rate_init(&rate);
    CHECK_INT(cl_rate_ticks(&rate, 0), 0);
    CHECK_INT(cl_rate_ticks(&rate, 250000), 250000);
}

static void
test_learns(void)
{
    cl_rate rate = rate_from(5000, 70 * MS);
    cl_rate_learn(&rate, 5000 + 3 * MS, 71 * MS);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 3000);
    /* Measured anew, from the previous readings. */
    cl_rate_learn(&rate, 5000 + 5 * MS, 72 * MS);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 2000);
}

/* Polls may follow each other closely, so short stretches are added up. */
static void
test_learns_from_many_short_stretches(void)
{
    cl_rate rate = rate_from(0, 0);
    for (int i = 1; i <= 2000; i++)
        cl_rate_learn(&rate, (uint64_t)i * 4000, i * 1000);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 4000);
}

static void
test_too_short_a_stretch_says_nothing(void)
{
    cl_rate rate = rate_from(0, 0);
    cl_rate_learn(&rate, 1000000, 1);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 1000);
}

/* Like after a suspend, when one of the clocks may have stopped. */
static void
test_starts_anew_after_too_long_a_stretch(void)
{
    cl_rate rate = rate_from(0, 0);
    cl_rate_learn(&rate, 2 * MS, 1 * MS);
    cl_rate_learn(&rate, 3 * MS, 60 * CL_NS_PER_S);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 2000);
    cl_rate_learn(&rate, 8 * MS, 60 * CL_NS_PER_S + MS);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 5000);
}

/* Like on another processor, or after a virtual machine migrated. */
static void
test_counter_that_runs_backwards(void)
{
    cl_rate rate = rate_from(100 * MS, 0);
    cl_rate_learn(&rate, 102 * MS, 1 * MS);
    cl_rate_learn(&rate, 1, 2 * MS);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 2000);
    cl_rate_learn(&rate, 1 + 3 * MS, 3 * MS);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 3000);
}

/* Like after a virtual machine was restored or migrated: the rate of that
 * stretch would be a million ticks per ns. */
static void
test_counter_that_was_set_forward(void)
{
    cl_rate rate = rate_from(0, 0);
    cl_rate_learn(&rate, 2 * MS, 1 * MS);
    cl_rate_learn(&rate, 1000000 * (uint64_t)MS, 2 * MS);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 2000);
    cl_rate_learn(&rate, 1000000 * (uint64_t)MS + 3 * MS, 3 * MS);
    CHECK_INT(cl_rate_ticks(&rate, 1000), 3000);
}

static void
test_time_gone_by(void)
{
    const uint64_t starts[] = {0, 1000, UINT64_MAX - 10, UINT64_MAX};
    for (int i = 0; i < 4; i++) {
        uint64_t start = starts[i]; /* the counter may overflow */
        CHECK(cl_ticks_within(start, start, 1));
        CHECK(cl_ticks_within(start, start + 99, 100));
        CHECK(!cl_ticks_within(start, start + 100, 100));
        CHECK(!cl_ticks_within(start, start, 0));
        /* Set back by a little, and by a lot. */
        CHECK(!cl_ticks_within(start, start - 1, 100));
        CHECK(!cl_ticks_within(start, start - ((uint64_t)1 << 62), 100));
    }
}

static void
test_whatever_is_read_the_rate_is_positive(void)
{
    uint32_t seed = 20240229;
    cl_rate rate = rate_from(1u << 31, 1u << 31);
    for (int i = 0; i < 100000; i++) {
        cl_rate_learn(&rate, check_random(&seed), check_random(&seed));
        CHECK(rate.ticks_per_ns > 0.0 && isfinite(rate.ticks_per_ns));
    }
}

/* Reads both clocks, and repeats if a busy machine interrupted that. */
static int64_t
read_both(uint64_t *ticks)
{
    int64_t before, after;
    do {
        before = cl_now_ns();
        *ticks = cl_ticks();
        after = cl_now_ns();
    } while (after - before > 20000);
    return before;
}

static void
test_predicts_the_real_counter(void)
{
    const struct timespec pause = {0, 20 * MS};
    uint64_t start, middle, end;
    int64_t start_ns = read_both(&start);
    cl_rate rate = rate_from(start, start_ns);
    nanosleep(&pause, NULL);
    int64_t middle_ns = read_both(&middle);
    cl_rate_learn(&rate, middle, middle_ns);
    nanosleep(&pause, NULL);
    int64_t end_ns = read_both(&end);
    double predicted = (double)cl_rate_ticks(&rate, end_ns - middle_ns);
    CHECK(fabs((double)(end - middle) / predicted - 1.0) < 0.05);
}

int
main(void)
{
    test_now_is_the_monotonic_clock();
    test_assumes_a_tick_per_ns();
    test_learns();
    test_learns_from_many_short_stretches();
    test_too_short_a_stretch_says_nothing();
    test_starts_anew_after_too_long_a_stretch();
    test_counter_that_runs_backwards();
    test_counter_that_was_set_forward();
    test_time_gone_by();
    test_whatever_is_read_the_rate_is_positive();
    test_predicts_the_real_counter();
    return 0;
}
