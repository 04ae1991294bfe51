/* meter.c - see meter.h. */
#include "core/meter.h"

#include <string.h>
#include <time.h>

/* Adds the usual turns that were only counted. */
static void
add_usual(cl_meter *meter)
{
    meter->me_turn_time.counts[meter->me_usual] +=
        meter->me_counted - meter->me_until_sample;
    meter->me_counted = meter->me_until_sample;
}

static void
sample_after(cl_meter *meter, uint32_t turns)
{
    add_usual(meter);
    meter->me_until_sample = meter->me_counted = turns;
}

/* Numerical Recipes' generator; its high bits are good enough. */
static void
draw(cl_meter *meter)
{
    uint32_t turns = meter->me_sample_turns;
    meter->me_random = meter->me_random * 1664525 + 1013904223;
    sample_after(meter, turns / 2 + (meter->me_random >> 16) % turns);
}

void
cl_meter_init(cl_meter *meter)
{
    memset(meter, 0, sizeof(*meter));
    meter->me_random = (uint32_t)cl_ticks();
    meter->me_hook_ns = meter->me_note_ns = CL_NEVER;
    meter->me_slow_ns = meter->me_slow_ticks = CL_NEVER;
    meter->me_period = meter->me_window = CL_NEVER;
    meter->me_sample_turns = CL_SAMPLE_TURNS;
    draw(meter);
}

/* ---------------------------------------------------------- where the time goes */

static void
start_from(cl_meter *meter, int64_t now_ns, uint64_t ticks)
{
    meter->me_settled_ns = now_ns;
    meter->me_settled_ticks = ticks;
    meter->me_settled_slept = meter->me_slept;
}

void
cl_meter_begin(cl_meter *meter, const cl_rate *rate)
{
    uint64_t ticks = cl_ticks();
    start_from(meter, cl_rate_now_ns(rate, ticks), ticks);
    meter->me_running = true;
    meter->me_asleep_ticks = 0;
    cl_meter_open_window(meter, ticks); /* it may be another thread */
    /* No turn ends when the first one begins. This is in the future, so what
     * is noted then is void (histogram.h). */
    meter->me_turn_ticks = ticks + ((uint64_t)1 << 50);
}

/* The time since it was settled last is over; the poll does not sleep. */
static void
settle(cl_meter *meter, const cl_rate *rate, uint64_t ticks)
{
    int64_t passed = cl_rate_now_ns(rate, ticks) - meter->me_settled_ns;
    if (passed <= 0)
        return;
    uint64_t slept = meter->me_slept - meter->me_settled_slept;
    uint64_t idle = 0;
    if (slept > 0) {
        double all = (double)(int64_t)(ticks - meter->me_settled_ticks);
        double share = all > (double)slept ? (double)slept / all : 1;
        idle = (uint64_t)((double)passed * share);
    }
    meter->me_idle_ns += idle;
    meter->me_busy_ns += (uint64_t)passed - idle;
    start_from(meter, meter->me_settled_ns + passed, ticks);
}

bool
cl_meter_unusual_turn(cl_meter *meter, const cl_rate *rate, uint64_t taken)
{
    add_usual(meter);
    unsigned bucket = cl_histogram_bucket(cl_rate_ns(rate, taken));
    meter->me_turn_time.counts[bucket]++;
    if (bucket < CL_HISTOGRAM_BUCKETS) {
        int64_t least = (int64_t)1 << bucket;
        meter->me_usual = bucket;
        meter->me_usual_ticks = cl_rate_ticks(rate, least);
    }
    meter->me_counted = --meter->me_until_sample;
    return meter->me_until_sample == 0;
}

void
cl_meter_settle(cl_meter *meter, const cl_rate *rate)
{
    add_usual(meter);
    if (!meter->me_running)
        return;
    uint64_t ticks = cl_ticks();
    if (meter->me_asleep_ticks != 0) {
        cl_meter_wake(meter, ticks);
        meter->me_asleep_ticks = ticks;
    }
    settle(meter, rate, ticks);
}

void
cl_meter_end(cl_meter *meter, const cl_rate *rate)
{
    uint64_t ticks = cl_ticks();
    if (cl_meter_turn(meter, rate, ticks))
        cl_meter_sample_again(meter);
    add_usual(meter);
    settle(meter, rate, ticks);
    meter->me_running = false;
}

/* -------------------------------------------------------- callbacks that are timed */

void
cl_meter_next_sample(cl_meter *meter, const cl_rate *rate, uint64_t ticks)
{
    uint64_t since = cl_rate_ns(rate, ticks - meter->me_sample_ticks);
    uint32_t turns = meter->me_sample_turns;
    if (since < CL_SAMPLE_NS && turns < CL_SAMPLE_TURNS_MAX)
        turns *= 2;
    else if (since >= 4 * CL_SAMPLE_NS)
        turns = CL_SAMPLE_TURNS;
    meter->me_sample_turns = turns;
    meter->me_sample_ticks = ticks;
    draw(meter);
}

void
cl_meter_sample_again(cl_meter *meter)
{
    sample_after(meter, 1);
}

static int64_t
cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * CL_NS_PER_S + ts.tv_nsec;
}

void
cl_meter_open_window(cl_meter *meter, uint64_t ticks)
{
    meter->me_window_ticks = ticks;
    if (meter->me_hook_ns == CL_NEVER)
        return;
    meter->me_cpu_ns = cpu_ns();
    meter->me_cpu_ticks = ticks;
    meter->me_cpu_slept = meter->me_slept;
}

uint64_t
cl_meter_threshold(double seconds)
{
    return (uint64_t)(seconds < 1e9 ? seconds * 1e9 : 1e18);
}

/* CL_NEVER stays what it is. */
static uint64_t
ticks_of(const cl_rate *rate, uint64_t ns)
{
    return ns == CL_NEVER ? ns : cl_rate_ticks(rate, (int64_t)ns);
}

void
cl_meter_look_for(cl_meter *meter, const cl_rate *rate)
{
    uint64_t hook = ticks_of(rate, meter->me_hook_ns);
    uint64_t note = ticks_of(rate, meter->me_note_ns);
    if (hook != CL_NEVER)
        hook /= CL_CPU_PARTS;
    meter->me_slow_ns = meter->me_hook_ns < meter->me_note_ns
                            ? meter->me_hook_ns
                            : meter->me_note_ns;
    meter->me_slow_ticks = ticks_of(rate, meter->me_slow_ns);
    meter->me_period = hook < note ? hook : note;
}

int64_t
cl_meter_cpu_taken(const cl_meter *meter, const cl_rate *rate, uint64_t began,
                   int64_t taken_ns)
{
    uint64_t before =
        began - meter->me_cpu_ticks - (meter->me_slept - meter->me_cpu_slept);
    int64_t between =
        (int64_t)before > 0 ? (int64_t)cl_rate_ns(rate, before) : 0;
    int64_t cpu = cpu_ns() - meter->me_cpu_ns - between;
    return cpu < 0 ? 0 : cpu > taken_ns ? taken_ns : cpu;
}
