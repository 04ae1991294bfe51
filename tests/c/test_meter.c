/* test_meter.c - what a loop measures: buckets, where the time goes, lateness. */
#include "core/meter.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "check.h"

#define MS (1000 * 1000)

/* ------------------------------------------------------------------ histograms */

static int
bucket_of(uint64_t ns)
{
    cl_histogram histogram = {{0}};
    uint64_t counts[CL_HISTOGRAM_BUCKETS];
    cl_histogram_add(&histogram, ns);
    uint64_t total = cl_histogram_show(&histogram, counts);
    for (int i = 0; i < CL_HISTOGRAM_BUCKETS; i++) {
        if (counts[i] != 0) {
            CHECK_INT(total, 1);
            return i;
        }
    }
    CHECK_INT(total, 0);
    return -1;
}

static void
test_bounds_of_the_buckets(void)
{
    CHECK_INT(bucket_of(0), 0);
    CHECK_INT(bucket_of(1), 0);
    for (int i = 1; i < 36; i++) {
        CHECK_INT(bucket_of((uint64_t)1 << i), i);
        CHECK_INT(bucket_of(((uint64_t)2 << i) - 1), i);
    }
    CHECK_INT(bucket_of((uint64_t)1 << 36), 36);
    CHECK_INT(bucket_of((uint64_t)1 << 50), 36); /* the last has all above */
    CHECK_INT(bucket_of(((uint64_t)1 << 56) - 1), 36);
}

static void
test_negative_durations_are_not_shown(void)
{
    cl_rate rate;
    cl_rate_init(&rate);
    CHECK_INT(bucket_of((uint64_t)-1), -1);
    /* However fast the counter is. */
    for (int speed = 1; speed <= 16; speed++) {
        cl_rate_init(&rate);
        rate.base_ticks = 0;
        rate.base_ns = 0;
        cl_rate_learn(&rate, (uint64_t)speed * MS, MS);
        CHECK_INT(bucket_of(cl_rate_ns(&rate, (uint64_t)-1)), -1);
        CHECK_INT(bucket_of(cl_rate_ns(&rate, (uint64_t)-1 << 50)), -1);
        uint64_t ns = cl_rate_ns(&rate, (uint64_t)speed * 1000);
        CHECK(ns == 999 || ns == 1000); /* rounded down */
    }
}

/* ------------------------------------------------------------ where the time goes */

static void
sleep_ms(int ms)
{
    struct timespec pause = {0, ms * MS};
    nanosleep(&pause, NULL);
}

static cl_rate
learnt(void)
{
    cl_rate rate;
    cl_rate_init(&rate);
    sleep_ms(5);
    cl_rate_learn(&rate, cl_ticks(), cl_now_ns());
    return rate;
}

static void
test_sleep_is_idle_and_the_rest_is_busy(void)
{
    cl_rate rate = learnt();
    cl_meter meter;
    cl_meter_init(&meter);
    int64_t began = cl_now_ns();
    cl_meter_begin(&meter, &rate);
    cl_meter_turn(&meter, &rate, cl_ticks());
    sleep_ms(20);
    cl_meter_sleep(&meter);
    sleep_ms(20);
    cl_meter_wake(&meter, cl_ticks());
    cl_meter_end(&meter, &rate);
    int64_t took = cl_now_ns() - began;
    int64_t sum = (int64_t)(meter.me_busy_ns + meter.me_idle_ns);
    CHECK(sum <= took + 10000 && sum >= 40 * MS - 10000);
    CHECK(meter.me_busy_ns >= 19 * MS && meter.me_idle_ns >= 19 * MS);
    uint64_t counts[CL_HISTOGRAM_BUCKETS];
    CHECK_INT(cl_histogram_show(&meter.me_turn_time, counts), 1);
    CHECK_INT(counts[34] + counts[35] + counts[36], 0);
}

static void
test_a_sleep_that_is_read_goes_on(void)
{
    cl_rate rate = learnt();
    cl_meter meter;
    cl_meter_init(&meter);
    cl_meter_begin(&meter, &rate);
    cl_meter_turn(&meter, &rate, cl_ticks());
    cl_meter_sleep(&meter);
    sleep_ms(10);
    uint64_t woke = cl_ticks();
    cl_meter_settle(&meter, &rate);
    uint64_t first = meter.me_idle_ns;
    CHECK(first >= 9 * MS);
    /* Woken before the reading, but seen after it: nothing is taken back. */
    cl_meter_wake(&meter, woke);
    cl_meter_settle(&meter, &rate);
    CHECK(meter.me_idle_ns >= first);
    cl_meter_sleep(&meter);
    sleep_ms(10);
    cl_meter_settle(&meter, &rate);
    CHECK(meter.me_idle_ns >= first + 9 * MS);
    cl_meter_wake(&meter, cl_ticks());
    cl_meter_end(&meter, &rate);
}

static void
test_a_counter_that_jumps(void)
{
    cl_rate rate = learnt();
    cl_meter meter;
    cl_meter_init(&meter);
    cl_meter_begin(&meter, &rate);
    for (int i = 0; i < 2; i++) {
        meter.me_settled_ticks += (uint64_t)(i == 0 ? 1 : -1) << 40;
        meter.me_slept += 1000;
        uint64_t busy = meter.me_busy_ns, idle = meter.me_idle_ns;
        int64_t settled = meter.me_settled_ns;
        sleep_ms(1);
        cl_meter_settle(&meter, &rate);
        CHECK_INT(meter.me_busy_ns + meter.me_idle_ns - busy - idle,
                  (uint64_t)(meter.me_settled_ns - settled));
    }
}

static void
test_nothing_passes_while_it_does_not_run(void)
{
    cl_rate rate = learnt();
    cl_meter meter;
    cl_meter_init(&meter);
    cl_meter_settle(&meter, &rate);
    sleep_ms(1);
    cl_meter_settle(&meter, &rate);
    CHECK_INT(meter.me_busy_ns + meter.me_idle_ns, 0);
}

/* ---------------------------------------------------------------------- the rest */

static void
test_lateness(void)
{
    cl_meter meter;
    cl_meter_init(&meter);
    cl_meter_late(&meter, 0.001);
    cl_meter_late(&meter, 0.003);
    cl_meter_late(&meter, -1.0);
    cl_meter_late(&meter, INFINITY);
    cl_meter_late(&meter, NAN);
    cl_meter_late(&meter, 8e7); /* it would be shown as negative */
    CHECK_INT(meter.me_lateness_ns, 4 * MS);
    CHECK_INT(meter.me_lateness_max_ns, 3 * MS);
    CHECK_INT(meter.me_lateness.counts[0], 4);
}

/* Turns of the same order of magnitude are only counted down. */
static void
test_each_turn_is_in_its_bucket(void)
{
    cl_rate rate = learnt();
    cl_meter meter;
    cl_meter_init(&meter);
    cl_histogram expected = {{0}};
    uint64_t ticks = cl_ticks(), random = 1, samples = 0;
    uint64_t counts[CL_HISTOGRAM_BUCKETS], wanted[CL_HISTOGRAM_BUCKETS];
    meter.me_turn_ticks = ticks;
    for (int i = 0; i < 100000; i++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        /* A run of about 100 turns takes as long as its first. */
        int64_t ns = (int64_t)3
                     << (random >> 40) % 100 / (i / 100 % 2 ? 3 : 90);
        ticks += cl_rate_ticks(&rate, ns);
        cl_histogram_add(&expected,
                         cl_rate_ns(&rate, ticks - meter.me_turn_ticks));
        if (cl_meter_turn(&meter, &rate, ticks)) {
            samples++;
            cl_meter_next_sample(&meter, &rate, ticks);
        }
        if (i % 7777 == 0)
            cl_meter_settle(&meter, &rate);
    }
    cl_meter_settle(&meter, &rate);
    CHECK_INT(cl_histogram_show(&meter.me_turn_time, counts), 100000);
    CHECK_INT(cl_histogram_show(&expected, wanted), 100000);
    for (int i = 0; i < CL_HISTOGRAM_BUCKETS; i++)
        CHECK_INT(counts[i], wanted[i]);
    CHECK(samples > 100000 / 260 && samples < 100000 / 30);
}

/* How many turns of this length are sampled, of so many. */
static uint64_t
samples_of(const cl_rate *rate, uint64_t turns, int64_t ns)
{
    cl_meter meter;
    cl_meter_init(&meter);
    uint64_t ticks = cl_ticks(), samples = 0;
    for (uint64_t i = 0; i < turns; i++) {
        ticks += cl_rate_ticks(rate, ns);
        if (cl_meter_turn(&meter, rate, ticks)) {
            samples++;
            cl_meter_next_sample(&meter, rate, ticks);
        }
    }
    return samples;
}

static void
test_distance_of_samples(void)
{
    cl_rate rate = learnt();
    uint64_t few = samples_of(&rate, 1000000, 1000);
    uint64_t some = samples_of(&rate, 1000000, 100 * 1000);
    uint64_t many = samples_of(&rate, 1000000, 2 * MS);
    CHECK(few > 1000000 / 262 && few < 1000000 / 250);
    CHECK(some > 1000000 / 262 && some < 1000000 / 60);
    CHECK(many > 1000000 / 33 && many < 1000000 / 31);
}

static void
test_processor_time(void)
{
    cl_rate rate = learnt();
    cl_meter meter;
    cl_meter_init(&meter);
    cl_meter_begin(&meter, &rate);
    meter.me_hook_ns = cl_meter_threshold(0.01);
    cl_meter_look_for(&meter, &rate);
    uint64_t began = cl_ticks();
    cl_meter_open_window(&meter, began);
    sleep_ms(20);
    CHECK(cl_meter_cpu_taken(&meter, &rate, began, 20 * MS) < 10 * MS);
    struct timespec now;
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while ((int64_t)now.tv_sec * CL_NS_PER_S + now.tv_nsec <
             meter.me_cpu_ns + 20 * MS);
    CHECK(cl_meter_cpu_taken(&meter, &rate, began, 1000 * (int64_t)MS) >=
          15 * MS);
    CHECK_INT(cl_meter_cpu_taken(&meter, &rate, began, MS), MS); /* not more */
}

static void
test_when_callbacks_are_looked_at(void)
{
    cl_rate rate = learnt();
    cl_meter meter;
    uint64_t ms = cl_rate_ticks(&rate, MS);
    cl_meter_init(&meter);
    CHECK(!cl_meter_window_is_over(&meter, (uint64_t)1 << 60));
    meter.me_note_ns = 2 * MS;
    cl_meter_look_for(&meter, &rate);
    cl_meter_look_at_all(&meter, false);
    CHECK_INT(meter.me_slow_ns, 2 * MS);
    cl_meter_open_window(&meter, 1000);
    CHECK(!cl_meter_window_is_over(&meter, 1000 + ms));
    CHECK(cl_meter_window_is_over(&meter, 1000 + 3 * ms));
    CHECK(cl_meter_window_is_over(&meter, 1)); /* it was set back */
    /* With a hook, processor time is read in between. */
    meter.me_hook_ns = 64 * MS;
    cl_meter_look_for(&meter, &rate);
    cl_meter_look_at_all(&meter, false);
    CHECK_INT(meter.me_slow_ns, 2 * MS);
    CHECK(!cl_meter_window_is_over(&meter, 1000 + ms / 2));
    CHECK(cl_meter_window_is_over(&meter, 1000 + ms + ms / 2));
    cl_meter_look_at_all(&meter, true);
    CHECK(cl_meter_window_is_over(&meter, 1000));
    meter.me_note_ns = CL_NEVER;
    cl_meter_look_for(&meter, &rate);
    CHECK_INT(meter.me_slow_ns, 64 * MS);
    CHECK_INT(cl_meter_threshold(INFINITY), 1000000000000000000);
    CHECK_INT(cl_meter_threshold(0), 0);
}

int
main(void)
{
    test_bounds_of_the_buckets();
    test_negative_durations_are_not_shown();
    test_sleep_is_idle_and_the_rest_is_busy();
    test_a_sleep_that_is_read_goes_on();
    test_a_counter_that_jumps();
    test_nothing_passes_while_it_does_not_run();
    test_lateness();
    test_each_turn_is_in_its_bucket();
    test_distance_of_samples();
    test_processor_time();
    test_when_callbacks_are_looked_at();
    return 0;
}
