/* meter.h - what a loop measures: where its time goes, how long turns,
 * callbacks and late timers take.
 *
 * It is always on, so it costs a few instructions a turn:
 *
 *   - Time is read from the tick counter (base/clock.h). A turn reads it once,
 *     a sleeping poll twice.
 *   - Turns are timed from the start of one to the start of the next, without
 *     what the poll slept. Those that take about as long as the one before are
 *     only counted, by the counter that counts down to the next sample.
 *   - Only the ticks slept are added up. cl_meter_settle(), called when
 *     somebody reads, divides the time that has passed on the real clock into
 *     busy and idle in proportion. So the sum is right, and neither goes down.
 *   - Callbacks are timed in one turn of CL_SAMPLE_TURNS on average, or in fewer
 *     if turns are short.
 *   - Slow callbacks are found by one reading and one comparison each: none of
 *     those that end within the window after a reading can have been slow, if
 *     the window is no longer than the threshold.
 *   - What can be computed from the ring and the heap is not counted.
 *
 * The GIL guards it: any thread may read. Without one, other threads read it
 * while the loop's is stopped (cl_call_stopped()). */
#ifndef CL_CORE_METER_H
#define CL_CORE_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/histogram.h"

/* The distance between turns whose callbacks are timed: random, so that it
 * meets a program that repeats itself everywhere. It doubles while there are
 * many samples a second. */
#define CL_SAMPLE_TURNS 32
#define CL_SAMPLE_TURNS_MAX 256
#define CL_SAMPLE_NS (10 * 1000 * 1000)

/* Processor time is read again after this part of the hook's threshold; see
 * cl_meter_open_window(). */
#define CL_CPU_PARTS 64

/* Longer than anything that is measured. */
#define CL_NEVER UINT64_MAX

typedef struct {
    uint64_t me_events;     /* descriptors that polls reported */
    uint64_t me_threadsafe; /* nodes from the inbox */
    uint64_t me_skipped;    /* handles that were cancelled when they came up */
    uint64_t me_lost;       /* nodes and timers that were dropped */
    uint64_t me_ready_max;

    /* where the time goes */
    bool me_running;
    int64_t me_settled_ns; /* all three: up to here it is divided */
    uint64_t me_settled_ticks;
    uint64_t me_settled_slept;
    uint64_t me_slept; /* ticks that polls slept */
    uint64_t
        me_asleep_ticks; /* when the poll began to sleep; 0: it does not */
    uint64_t me_busy_ns;
    uint64_t me_idle_ns;
    uint64_t me_turn_ticks;    /* start of the turn, later by what it slept */
    cl_histogram me_turn_time; /* cl_meter_settle() brings it up to date */
    unsigned me_usual;         /* its bucket of the usual turn */
    uint64_t me_usual_ticks;   /* the shortest of those; all are below twice
                                * that; 0: there is none */

    /* timers */
    cl_histogram me_lateness;
    uint64_t me_lateness_ns; /* the sum */
    uint64_t me_lateness_max_ns;

    /* callbacks that are timed */
    uint32_t me_until_sample; /* turns */
    uint32_t me_counted;      /* the same, when turns were counted last */
    uint32_t me_sample_turns; /* the mean distance now */
    uint64_t me_sample_ticks; /* when the last sample ended */
    uint32_t me_random;
    uint64_t me_callback_ticks; /* when the last one ended, and this began */
    uint64_t me_callback_ns;    /* the sum */
    cl_histogram me_callback_time;

    /* slow callbacks: CL_NEVER for thresholds that are not set */
    uint64_t me_hook_ns;      /* threshold of the hook */
    uint64_t me_note_ns;      /* of those that are noted */
    uint64_t me_slow_ns;      /* the lower one */
    uint64_t me_slow_ticks;   /* the same, not more */
    uint64_t me_window_ticks; /* when callbacks were looked at last */
    uint64_t me_period;       /* look again after so many ticks */
    uint64_t me_window;       /* the same, or 0 */
    uint64_t me_cpu_ticks;    /* when processor time was read; */
    uint64_t me_cpu_slept;    /* me_slept then */
    int64_t me_cpu_ns;        /* what it was */

    /* of a loop that is closed */
    uint64_t me_final_callbacks;
    uint64_t me_final_timers;
    uint64_t me_final_pending; /* dropped by close() */
} cl_meter;

void cl_meter_init(cl_meter *meter);

/* The loop begins and ends to run. */
void cl_meter_begin(cl_meter *meter, const cl_rate *rate);
void cl_meter_end(cl_meter *meter, const cl_rate *rate);

/* For cl_meter_turn(). */
bool cl_meter_unusual_turn(cl_meter *meter, const cl_rate *rate,
                           uint64_t taken);

/* A turn begins at this tick: notes how long the last one took. Returns whether
 * the next sample is due: cl_meter_next_sample() is to be called. */
static inline bool
cl_meter_turn(cl_meter *meter, const cl_rate *rate, uint64_t ticks)
{
    uint64_t taken = ticks - meter->me_turn_ticks;
    meter->me_turn_ticks = ticks;
    if (taken - meter->me_usual_ticks >= meter->me_usual_ticks)
        return cl_meter_unusual_turn(meter, rate, taken);
    meter->me_until_sample--;
    return __builtin_expect(meter->me_until_sample == 0, 0);
}

/* The poll begins to sleep, or woke up at this tick. */
static inline void
cl_meter_sleep(cl_meter *meter)
{
    meter->me_asleep_ticks = cl_ticks();
}

static inline void
cl_meter_wake(cl_meter *meter, uint64_t ticks)
{
    uint64_t slept = ticks - meter->me_asleep_ticks;
    meter->me_asleep_ticks = 0;
    /* It is negative if somebody has read the meter since. */
    if ((int64_t)slept > 0) {
        meter->me_slept += slept;
        meter->me_turn_ticks += slept;
    }
}

/* A timer fires so late. */
static inline void
cl_meter_late(cl_meter *meter, double seconds)
{
    /* Not so with a clock of the program's, and for a timer at NaN. The
     * histogram shows what is below 2^56 ns. */
    double ns = seconds >= 0 && seconds < 7e7 ? seconds * 1e9 : 0;
    uint64_t whole = (uint64_t)(int64_t)ns;
    meter->me_lateness_ns += whole;
    if (whole > meter->me_lateness_max_ns)
        meter->me_lateness_max_ns = whole;
    cl_histogram_add(&meter->me_lateness, whole);
}

/* Brings me_busy_ns, me_idle_ns and me_turn_time up to date. */
void cl_meter_settle(cl_meter *meter, const cl_rate *rate);

/* Says after how many turns callbacks are timed next: after a random number, or
 * in the next one. */
void cl_meter_next_sample(cl_meter *meter, const cl_rate *rate,
                          uint64_t ticks);
void cl_meter_sample_again(cl_meter *meter);

/* Call it after me_hook_ns or me_note_ns has changed, or the rate. */
void cl_meter_look_for(cl_meter *meter, const cl_rate *rate);

/* Whether to look at each callback, or at those that may have been slow. */
static inline void
cl_meter_look_at_all(cl_meter *meter, bool all)
{
    meter->me_window = all ? 0 : meter->me_period;
}

/* Converts a threshold in seconds. */
uint64_t cl_meter_threshold(double seconds);

/* No callback runs at this tick: a new window begins. Reads the thread's
 * processor time if there is a hook, as a reading for each callback is too
 * dear. */
void cl_meter_open_window(cl_meter *meter, uint64_t ticks);

/* Whether callbacks are to be looked at again. */
static inline bool
cl_meter_window_is_over(const cl_meter *meter, uint64_t ticks)
{
    return ticks - meter->me_window_ticks >= meter->me_window;
}

/* The processor time, in ns, of a callback that began at this tick and took so
 * long until now. What the thread did between the last reading and the
 * callback was short; it counts as computing. */
int64_t cl_meter_cpu_taken(const cl_meter *meter, const cl_rate *rate,
                           uint64_t began, int64_t taken_ns);

#endif
