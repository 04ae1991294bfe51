/* loop_metrics.c - LoopCore: metrics(), and the hook for slow callbacks. */
#include "loop_type.h"

#include <string.h>

#include "core/claim.h"
#include "core/args.h"
#include "core/lent.h"
#include "core/loop.h"
#include "futures/tally.h"
#include "metrics.h"
#include "state.h"

/* -------------------------------------------------------------------- reading */

/* How many jobs wait in the queue of the default executor, if it has one like
 * Python's. */
static uint64_t
jobs_queued(LoopObject *loop)
{
    PyObject *executor = cl_loop_peek(loop, &loop->l_default_executor);
    PyObject *queue = NULL, *size = NULL;
    long long count = 0;
    if (executor != NULL)
        queue = PyObject_GetAttrString(executor, "_work_queue");
    Py_XDECREF(executor);
    if (queue != NULL)
        size = PyObject_CallMethod(queue, "qsize", NULL);
    if (size != NULL)
        count = PyLong_AsLongLong(size);
    Py_XDECREF(queue);
    Py_XDECREF(size);
    PyErr_Clear();
    return count < 0 ? 0 : (uint64_t)count;
}

static void
read_core(LoopObject *loop, cl_reading *reading)
{
    uint64_t *numbers = reading->numbers;
    cl_meter *meter = &loop->l_meter;
    bool open = loop->l_open;
#define SET(name, value) numbers[CL_METRIC_##name] = (value)
    cl_meter_settle(meter, &loop->l_rate);
    SET(busy_ns, meter->me_busy_ns);
    SET(idle_ns, meter->me_idle_ns);
    SET(turns, loop->l_turns);
    SET(polls, loop->l_polls);
    SET(events, meter->me_events);
    SET(callbacks, cl_loop_callbacks(loop));
    SET(threadsafe, meter->me_threadsafe);
    SET(ready, open ? cl_ring_count(&loop->l_ready) : 0);
    SET(ready_max, meter->me_ready_max);
    SET(watched,
        open ? (uint64_t)(cl_loop_watched(loop) - cl_lent_idle(loop)) : 0);

    cl_measured *turn = &reading->measured[CL_METRIC_turn_time];
    turn->total = cl_histogram_show(&meter->me_turn_time, turn->counts);
    turn->sum_ns = meter->me_busy_ns;
    cl_measured *callback = &reading->measured[CL_METRIC_callback_time];
    callback->total =
        cl_histogram_show(&meter->me_callback_time, callback->counts);
    callback->sum_ns = meter->me_callback_ns;
    cl_measured *late = &reading->measured[CL_METRIC_lateness];
    late->total = cl_histogram_show(&meter->me_lateness, late->counts);
    late->sum_ns = meter->me_lateness_ns;

    uint64_t pending = open ? loop->l_timers.count : 0;
    SET(timers_pending, pending);
    SET(timers_made, cl_loop_timers(loop));
    SET(timers_fired, late->total);
    SET(timers_cancelled, cl_loop_timers(loop) - late->total - pending -
                              meter->me_final_pending);
    SET(lateness_ns, meter->me_lateness_ns);
    SET(lateness_max_ns, meter->me_lateness_max_ns);
}

static void
read_futures(LoopObject *loop, cl_reading *reading)
{
    const cl_loop_futures *on = cl_futures_on(loop);
    uint64_t *numbers = reading->numbers;
    SET(task_steps, on->steps);
    SET(tasks_made, on->tasks_made);
    SET(tasks_done, on->tasks_done);
    SET(tasks_failed, on->tasks_failed);
    SET(tasks_cancelled, on->tasks_cancelled);
    SET(tasks_alive, on->tasks_made - on->tasks_done - on->tasks_lost);
    SET(lost, loop->l_meter.me_lost + on->tasks_lost);
}

static void
read_net(LoopObject *loop, cl_reading *reading)
{
    const cl_net_counts *counts = cl_net_counts_of(loop);
    const cl_loop_tls *tls = cl_tls_on(loop);
    uint64_t *numbers = reading->numbers;
    SET(accepted, counts->nc_accepted);
    SET(connected, counts->nc_connected);
    SET(connect_failed, counts->nc_connect_failed);
    SET(bytes_in, counts->nc_bytes_in);
    SET(bytes_out, counts->nc_bytes_out);
    SET(reads, counts->nc_reads);
    SET(writes, counts->nc_writes);
    SET(write_buffered, counts->nc_buffered);
    SET(writing_paused, counts->nc_pauses);
    SET(accept_pauses, counts->nc_accept_pauses);
    SET(tls_handshakes, tls->handshakes);
    SET(tls_handshakes_failed, tls->handshakes_failed);
    memcpy(reading->open, counts->nc_open, sizeof(counts->nc_open));
    reading->open[CL_METRIC_TLS] = tls->open;
}

static void
read_top(LoopObject *loop, cl_reading *reading)
{
    const cl_loop_top *on = cl_top_on(loop);
    uint64_t *numbers = reading->numbers;
    SET(children, on->children_begun - on->children_ended);
    SET(children_made, on->children_begun);
    SET(executor_running, on->jobs_begun - on->jobs_ended);
    SET(since_ns, (uint64_t)on->since_ns);
    SET(now_ns, (uint64_t)cl_now_ns());
    reading->open[CL_METRIC_CHILD] = numbers[CL_METRIC_children];
}

/* Of the jobs that run, some only wait. Runs Python. */
static void
divide_jobs(LoopObject *loop, cl_reading *reading)
{
    uint64_t *numbers = reading->numbers;
    uint64_t jobs = numbers[CL_METRIC_executor_running];
    uint64_t waiting = jobs > 0 ? jobs_queued(loop) : 0;
    SET(executor_waiting, waiting < jobs ? waiting : jobs);
    SET(executor_running, waiting < jobs ? jobs - waiting : 0);
}
#undef SET

static void
read_all(LoopObject *loop, cl_reading *reading)
{
    cl_assert_gil();
    memset(reading, 0, sizeof(*reading));
    read_core(loop, reading);
    read_futures(loop, reading);
    read_net(loop, reading);
    read_top(loop, reading);
}

typedef struct {
    LoopObject *loop;
    cl_reading *reading;
} question;

/* What was there at the last reset is subtracted. */
static void
read_since_reset(void *arg)
{
    const question *asked = arg;
    const cl_reading *reset = cl_top_on(asked->loop)->reset;
    read_all(asked->loop, asked->reading);
    if (reset != NULL)
        cl_reading_subtract(asked->reading, reset);
}

/* Without a GIL, the loop's thread must not count meanwhile: it is stopped
 * where it would let another one have the GIL. */
static void
read_from_any_thread(question *asked)
{
    CL_CLAIM_OR(asked->loop, cl_call_stopped(read_since_reset, asked); return);
    read_since_reset(asked);
}

PyDoc_STRVAR(
    Loop_metrics_doc,
    "metrics($self, /)\n--\n\n"
    "Return a cloop.Metrics: what the loop has counted and measured since it "
    "was created, or\n"
    "since metrics_reset(), and what there is now. From any thread, and also "
    "after close().");

static PyObject *
Loop_metrics(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    cl_reading reading;
    question asked = {loop, &reading};
    read_from_any_thread(&asked);
    divide_jobs(loop, &reading);
    return cl_metrics_new(loop->l_st, &reading);
}

PyDoc_STRVAR(Loop_metrics_reset_doc,
             "metrics_reset($self, /)\n--\n\n"
             "Count and measure from zero again. To compare two moments, "
             "subtract their readings\n"
             "instead, which does not disturb others who read.");

static PyObject *
Loop_metrics_reset(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    cl_loop_top *on = cl_top_on(loop);
    if (on->reset == NULL &&
        (on->reset = PyMem_Malloc(sizeof(*on->reset))) == NULL)
        return PyErr_NoMemory();
    read_all(loop, on->reset);
    loop->l_meter.me_ready_max = 0;
    loop->l_meter.me_lateness_max_ns = 0;
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------- slow callbacks */

PyDoc_STRVAR(
    Loop_set_slow_callback_hook_doc,
    "set_slow_callback_hook($self, hook, threshold=0.1)\n--\n\n"
    "Call hook(info) after each callback or task step that took threshold "
    "seconds or more;\n"
    "info is a cloop.SlowCallback. None removes the hook. An exception of the "
    "hook goes to\n"
    "the loop's exception handler. Raises TypeError unless the hook is "
    "callable, ValueError\n"
    "for a negative threshold.");

static PyObject *
Loop_set_slow_callback_hook(LoopObject *loop, PyObject *args, PyObject *kwargs)
{
    CL_CLAIM(loop, NULL);
    static char *keywords[] = {"hook", "threshold", NULL};
    PyObject *hook;
    double threshold = 0.1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "O|d:set_slow_callback_hook", keywords,
                                     &hook, &threshold))
        return NULL;
    if (hook != Py_None && !PyCallable_Check(hook)) {
        PyErr_Format(PyExc_TypeError, "the hook must be callable, not %R",
                     hook);
        return NULL;
    }
    if (!(threshold >= 0)) {
        PyErr_SetString(PyExc_ValueError, "the threshold must not be "
                                          "negative");
        return NULL;
    }
    cl_loop_watch_slow(loop, hook == Py_None ? NULL : hook, threshold);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    Loop_note_slow_doc,
    "_note_slow($self, threshold, /)\n--\n\n"
    "Call _tell_slow() after each callback that took threshold seconds or "
    "more; None: none.");

static PyObject *
Loop_note_slow(LoopObject *loop, PyObject *threshold)
{
    CL_CLAIM(loop, NULL);
    uint64_t ns = CL_NEVER;
    if (threshold != Py_None) {
        double seconds = PyFloat_AsDouble(threshold);
        if (seconds == -1.0 && PyErr_Occurred())
            return NULL;
        if (!(seconds >= 0)) {
            PyErr_SetString(PyExc_ValueError, "the threshold must not be "
                                              "negative");
            return NULL;
        }
        ns = cl_meter_threshold(seconds);
    }
    cl_loop_note_slow(loop, ns);
    Py_RETURN_NONE;
}

/* --------------------------------------------------------------- single tasks */

PyDoc_STRVAR(Loop_count_tasks_doc,
             "_count_tasks($self, on, /)\n--\n\n"
             "Begin or end to count what each task does.");

static PyObject *
Loop_count_tasks(LoopObject *loop, PyObject *on)
{
    CL_CLAIM(loop, NULL);
    int counts = PyObject_IsTrue(on);
    if (counts < 0 || (counts && cl_tally_begin(loop) < 0))
        return NULL;
    if (!counts)
        cl_tally_end(loop);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    Loop_task_counts_doc,
    "_task_counts($self, task, /)\n--\n\n"
    "Return (made, steps, busy, delay, max_delay, last_delay) of a task, in "
    "seconds: when it was\n"
    "made, by time.monotonic(), or None if that is not known; delay is the "
    "mean. None: nothing\n"
    "was counted.");

static PyObject *
Loop_task_counts(LoopObject *loop, PyObject *task)
{
    CL_CLAIM(loop, NULL);
    const cl_task_counts *counts = cl_tally_of(loop, task);
    if (counts == NULL)
        Py_RETURN_NONE;
    cl_task_counts is = *counts; /* creating objects may run Python code */
    double mean =
        is.tc_waits == 0 ? 0 : (double)is.tc_delay_ns / (double)is.tc_waits;
    PyObject *made = is.tc_made_ns == 0
                         ? Py_NewRef(Py_None)
                         : PyFloat_FromDouble((double)is.tc_made_ns / 1e9);
    return made == NULL
               ? NULL
               : Py_BuildValue("NKdddd", made, (unsigned long long)is.tc_steps,
                               (double)is.tc_busy_ns / 1e9, mean / 1e9,
                               (double)is.tc_delay_max_ns / 1e9,
                               (double)is.tc_delay_last_ns / 1e9);
}

/* ------------------------------------------- what is counted in Python's code */

#define COUNTER(name) \
    static PyObject *Loop_count_##name(LoopObject *loop, \
                                       PyObject *Py_UNUSED(ignored)) \
    { \
        CL_COUNT(cl_top_on(loop)->name, 1); \
        Py_RETURN_NONE; \
    }

COUNTER(jobs_begun)
COUNTER(jobs_ended)
COUNTER(children_begun)
COUNTER(children_ended)

PyDoc_STRVAR(Loop_count_sent_doc,
             "_count_sent($self, count, /)\n--\n\n"
             "Count bytes that were sent by other means than a transport's.");

static PyObject *
Loop_count_sent(LoopObject *loop, PyObject *number)
{
    CL_CLAIM(loop, NULL);
    unsigned long long count = PyLong_AsUnsignedLongLong(number);
    if (count == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    cl_net_counts_of(loop)->nc_bytes_out += count;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"metrics", (PyCFunction)Loop_metrics, METH_NOARGS, Loop_metrics_doc},
    {"metrics_reset", (PyCFunction)Loop_metrics_reset, METH_NOARGS,
     Loop_metrics_reset_doc},
    {"set_slow_callback_hook", CL_FAST(Loop_set_slow_callback_hook),
     METH_VARARGS | METH_KEYWORDS, Loop_set_slow_callback_hook_doc},
    {"_note_slow", (PyCFunction)Loop_note_slow, METH_O, Loop_note_slow_doc},
    {"_count_tasks", (PyCFunction)Loop_count_tasks, METH_O,
     Loop_count_tasks_doc},
    {"_task_counts", (PyCFunction)Loop_task_counts, METH_O,
     Loop_task_counts_doc},
    {"_job_begins", (PyCFunction)Loop_count_jobs_begun, METH_NOARGS, NULL},
    {"_job_ended", (PyCFunction)Loop_count_jobs_ended, METH_NOARGS, NULL},
    {"_child_begins", (PyCFunction)Loop_count_children_begun, METH_NOARGS,
     NULL},
    {"_child_ended", (PyCFunction)Loop_count_children_ended, METH_NOARGS,
     NULL},
    {"_count_sent", (PyCFunction)Loop_count_sent, METH_O, Loop_count_sent_doc},
    {NULL}};

int
cl_loop_metrics_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
