/* metrics.h - what loop.metrics() returns: cloop.Metrics and cloop.Histogram.
 *
 * A reading copies the counters of all layers; its numbers become Python
 * objects when somebody asks for one. So it takes well under a microsecond. */
#ifndef CL_METRICS_H
#define CL_METRICS_H

#include "base/compat.h"

#include "base/histogram.h"
#include "state.h"

/* What becomes of a number if one reading is subtracted from another. */
enum {
    CL_COUNTS, /* the difference */
    CL_IS,     /* it stays: it tells what there was at the second reading */
    CL_TIME,   /* the limits of the interval */
};

/* name, what it does, and what it is */
#define CL_METRICS(X) \
    X(since_ns, CL_TIME, "Start of the interval, in ns of time.monotonic().") \
    X(now_ns, CL_TIME, "Its end.") \
    X(busy_ns, CL_COUNTS, "Time that the loop ran and did not sleep, in ns.") \
    X(idle_ns, CL_COUNTS, "Time that it slept in the poller, in ns.") \
    X(turns, CL_COUNTS, "Turns.") \
    X(polls, CL_COUNTS, "Turns that asked the poller.") \
    X(events, CL_COUNTS, "Descriptors that the poller reported.") \
    X(callbacks, CL_COUNTS, "Callbacks and task steps that were run.") \
    X(task_steps, CL_COUNTS, "Task steps among them.") \
    X(threadsafe, CL_COUNTS, "Callbacks scheduled from other threads.") \
    X(ready, CL_IS, "Callbacks that are ready.") \
    X(ready_max, CL_IS, "The most that a turn has begun with.") \
    X(timers_pending, CL_IS, "Timers that are set.") \
    X(timers_made, CL_COUNTS, "Timers that were set.") \
    X(timers_cancelled, CL_COUNTS, "Timers cancelled before they were due.") \
    X(timers_fired, CL_COUNTS, "Timers that came due.") \
    X(lateness_ns, CL_COUNTS, "By how much they were late in all, in ns.") \
    X(lateness_max_ns, CL_IS, "By how much one was late at most, in ns.") \
    X(tasks_alive, CL_IS, "Tasks that are not done.") \
    X(tasks_made, CL_COUNTS, "Tasks that were created.") \
    X(tasks_done, CL_COUNTS, "Tasks that are done, in whichever way.") \
    X(tasks_failed, CL_COUNTS, "Those that raised an exception.") \
    X(tasks_cancelled, CL_COUNTS, "Those that were cancelled.") \
    X(accepted, CL_COUNTS, "Connections accepted.") \
    X(connected, CL_COUNTS, "Connections made.") \
    X(connect_failed, CL_COUNTS, "Connections that could not be made.") \
    X(bytes_in, CL_COUNTS, "Bytes received.") \
    X(bytes_out, CL_COUNTS, "Bytes sent.") \
    X(reads, CL_COUNTS, "System calls that receive.") \
    X(writes, CL_COUNTS, "System calls that send.") \
    X(write_buffered, CL_IS, "Bytes in write buffers.") \
    X(writing_paused, CL_COUNTS, "Calls of pause_writing().") \
    X(accept_pauses, CL_COUNTS, "Pauses of servers out of descriptors.") \
    X(tls_handshakes, CL_COUNTS, "TLS handshakes done.") \
    X(tls_handshakes_failed, CL_COUNTS, "TLS handshakes that failed.") \
    X(children, CL_IS, "Child processes that run.") \
    X(children_made, CL_COUNTS, "Child processes started.") \
    X(executor_running, CL_IS, "Jobs of run_in_executor() that run.") \
    X(executor_waiting, CL_IS, "Those that wait for a thread.") \
    X(watched, CL_IS, "Descriptors of add_reader() and add_writer().") \
    X(lost, CL_COUNTS, "Callbacks, timers and tasks dropped unfinished.")

enum {
#define INDEX(name, what, doc) CL_METRIC_##name,
    CL_METRICS(INDEX)
#undef INDEX
        CL_METRIC_COUNT
};

/* name, and what it is */
#define CL_METRICS_HISTOGRAMS(X) \
    X(lateness, "By how much timers were late.") \
    X(turn_time, "How long turns took, without sleep.") \
    X(callback_time, "How long callbacks and task steps took: a sample.")

enum {
#define INDEX(name, doc) CL_METRIC_##name,
    CL_METRICS_HISTOGRAMS(INDEX)
#undef INDEX
        CL_METRIC_HISTOGRAM_COUNT
};

/* Kinds of connections: the net layer's, TLS, children. */
enum {
    CL_METRIC_TLS = CL_KIND_COUNT,
    CL_METRIC_CHILD,
    CL_METRIC_KIND_COUNT,
};

typedef struct {
    uint64_t counts[CL_HISTOGRAM_BUCKETS];
    uint64_t total;  /* of the counts */
    uint64_t sum_ns; /* of what was measured */
} cl_measured;

typedef struct cl_reading {
    uint64_t numbers[CL_METRIC_COUNT];
    uint64_t open[CL_METRIC_KIND_COUNT];
    cl_measured measured[CL_METRIC_HISTOGRAM_COUNT];
} cl_reading;

/* Returns a new cloop.Metrics. */
PyObject *cl_metrics_new(cl_state *st, const cl_reading *reading);

/* Makes *reading the change since `before`. */
void cl_reading_subtract(cl_reading *reading, const cl_reading *before);

PyTypeObject *cl_metrics_setup(PyObject *module, cl_state *st);
PyTypeObject *cl_histogram_setup(PyObject *module, cl_state *st);

#endif
