/* loop.c - opening and closing of the loop, its ready ring and its turn; see loop.h. */
#include "core/loop.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/mutex.h"
#include "base/probe.h"
#include "core/args.h"
#include "core/check.h"
#include "core/claim.h"
#include "core/errors.h"
#include "core/fork.h"
#include "core/lent.h"
#include "core/signals.h"
#include "core/watchdog.h"

static inline const cl_node_ops *
ops_of(const LoopObject *loop, cl_node node)
{
    return cl_node_ops_of(loop->l_st, node);
}

#ifdef CL_DEBUG
static void
check_node(const LoopObject *loop, cl_node node)
{
    cl_assertf(cl_node_pointer(node) != NULL, "kind %u", cl_node_kind(node));
    (void)cl_node_check(loop->l_st, loop, node);
}
#endif

/* Drops a node that was not run. */
static void
lose_node(LoopObject *loop, cl_node node)
{
    cl_assert_gil();
    bool counts = cl_node_kind(node) != CL_NODE_HANDLE ||
                  !(((HandleObject *)cl_node_pointer(node))->h_flags &
                    CL_HANDLE_CANCELLED);
#if CL_FREE_THREADED
    if (cl_node_kind(node) == CL_NODE_HANDLE &&
        cl_claim_finalize_lost(cl_node_pointer(node)))
        counts = false;
#endif
    if (counts)
        CL_COUNT(loop->l_meter.me_lost, 1);
    ops_of(loop, node)->drop(node, true);
}

/* ---------------------------------------------------------------- open, close */

int
cl_loop_open(LoopObject *loop, const char *poller_name)
{
    const cl_poller_ops *ops = cl_poller_find(poller_name);
    if (ops == NULL) {
        PyErr_Format(PyExc_ValueError, "unknown poller %s", poller_name);
        return -1;
    }
    cl_assert_of(loop, !loop->l_open && loop->l_ready.r_slots == NULL);
    int err = cl_ring_init(&loop->l_ready);
    if (err < 0)
        return cl_raise_errno(err);
    if ((err = cl_inbox_open(&loop->l_inbox)) < 0)
        goto no_inbox;
    if ((err = cl_turnstile_init(&loop->l_turnstile)) < 0)
        goto no_turnstile;
    if ((err = cl_poller_open(&loop->l_poller, ops)) < 0)
        goto no_poller;
    cl_heap_init(&loop->l_timers);
    cl_watch_table_init(&loop->l_watches);
    cl_signals_init(loop);
    if ((err = cl_signals_watch(loop)) < 0)
        goto no_watch;
    loop->l_rate = cl_state_rate(loop->l_st);
    cl_meter_init(&loop->l_meter);
    cl_fork_register(loop);
    loop->l_locks = true;
    loop->l_open = true;
    cl_watchdog_add(loop);
    return 0;

no_watch:
    cl_watch_table_free(&loop->l_watches);
    cl_poller_close(&loop->l_poller);
no_poller:
    cl_turnstile_destroy(&loop->l_turnstile);
no_turnstile:
    cl_inbox_close(&loop->l_inbox);
    cl_inbox_destroy(&loop->l_inbox);
no_inbox:
    cl_ring_free(&loop->l_ready);
    return cl_raise_errno(err);
}

static void
clear_pending(LoopObject *loop)
{
    const cl_heap_entry *first;
    /* Destructors may push again, so check each time. */
    for (;;) {
        if (cl_inbox_filled(&loop->l_inbox) && cl_loop_drain_inbox(loop) < 0)
            PyErr_Clear();
        if (cl_ring_count(&loop->l_ready) > 0) {
            lose_node(loop, cl_ring_pop(&loop->l_ready));
        }
        else if ((first = cl_heap_peek(&loop->l_timers)) != NULL) {
            TimerHandleObject *timer = cl_timer_from_node(first->node);
            if (Py_REFCNT(timer) > 1)
                cl_handle_track(&timer->tm_handle);
            CL_COUNT(loop->l_meter.me_lost, 1);
            cl_loop_unschedule(loop, timer);
        }
        else {
            break;
        }
    }
    cl_watch_clear(loop);
}

void
cl_loop_close(LoopObject *loop, bool keep_sigsock)
{
    cl_assert_gil();
    cl_assert_of(loop, loop->l_closed);
    if (!loop->l_open)
        return;
    loop->l_meter.me_final_callbacks = cl_loop_callbacks(loop);
    loop->l_meter.me_final_timers = cl_loop_timers(loop);
    loop->l_meter.me_final_pending = loop->l_timers.count;
    loop->l_open = false; /* keeps destructors out */
    cl_watchdog_remove(loop);
    cl_fork_unregister(loop);
    /* Closed before the watches end, so that no interest is removed one by
     * one. */
    cl_poller_close(&loop->l_poller);
    cl_inbox_shut(&loop->l_inbox);
    clear_pending(loop);
    cl_watch_table_free(&loop->l_watches);
    cl_inbox_close(&loop->l_inbox);
    if (!keep_sigsock)
        cl_sigsock_close(&loop->l_sigsock);
    cl_heap_free(&loop->l_timers);
    cl_ring_free(&loop->l_ready);
}

void
cl_loop_destroy_locks(LoopObject *loop)
{
    if (!loop->l_locks)
        return;
    loop->l_locks = false;
    cl_turnstile_destroy(&loop->l_turnstile);
    cl_inbox_destroy(&loop->l_inbox);
}

/* ----------------------------------------------------------- the ready ring */

int
cl_loop_drain_inbox(LoopObject *loop)
{
    cl_assert_gil();
    int err = cl_inbox_drain(&loop->l_inbox, &loop->l_ready);
    return err < 0 ? cl_raise_errno(err) : 0;
}

int
cl_loop_reserve(LoopObject *loop, size_t count)
{
    cl_ring *ready = &loop->l_ready;
    int err = 0;
    cl_assert_gil();
    cl_check(cl_ring_check(ready));
    if (cl_inbox_filled(&loop->l_inbox) && cl_loop_drain_inbox(loop) < 0)
        return -1;
    while (err == 0 && ready->r_mask + 1 - cl_ring_count(ready) < count)
        err = cl_ring_grow(ready);
    return err < 0 ? cl_raise_errno(err) : 0;
}

int
cl_loop_push(LoopObject *loop, cl_node node)
{
    cl_assert_gil();
    cl_check(check_node(loop, node));
    if (cl_inbox_filled(&loop->l_inbox) && cl_loop_drain_inbox(loop) < 0) {
        lose_node(loop, node);
        return -1;
    }
    int err = cl_ring_push(&loop->l_ready, node);
    if (err < 0) {
        lose_node(loop, node);
        return cl_raise_errno(err);
    }
    return 0;
}

int
cl_loop_push_method(LoopObject *loop, PyMethodDef *method, PyObject *self)
{
    PyObject *callback = PyCFunction_New(method, self);
    HandleObject *handle =
        callback == NULL ? NULL : cl_handle_new(loop, callback, NULL, 0, NULL);
    Py_XDECREF(callback);
    if (handle == NULL)
        return -1;
    if (loop->l_thread_id == 0)
        cl_handle_track(handle);
    return cl_loop_push(loop, cl_node_make(handle, CL_NODE_HANDLE));
}

int
cl_loop_push_threadsafe(LoopObject *loop, cl_node node)
{
    cl_assert_gil();
    cl_check(check_node(loop, node));
    int err = cl_inbox_push(&loop->l_inbox, node);
    if (err < 0) {
        lose_node(loop, node);
        if (err != -ESHUTDOWN)
            return cl_raise_errno(err);
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    CL_COUNT(loop->l_meter.me_threadsafe, 1);
    return 0;
}

int
cl_call_soon_method(cl_state *st, PyObject *loop, PyObject *callback,
                    PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    cl_assert(callback != NULL && nargs >= 0);
    cl_assert(!PyErr_Occurred());
    Py_INCREF(loop); /* looking it up may end what has the loop */
    PyObject *method = PyObject_GetAttr(loop, st->str_call_soon);
    Py_DECREF(loop);
    PyObject **argv = PyMem_New(PyObject *, nargs + 2);
    PyObject *result = NULL;
    if (method != NULL && argv != NULL) {
        argv[0] = callback;
        if (nargs > 0)
            memcpy(argv + 1, args, (size_t)nargs * sizeof(*args));
        argv[nargs + 1] = context;
        result = PyObject_Vectorcall(method, argv, (size_t)nargs + 1,
                                     context ? st->kwnames_context : NULL);
    }
    else if (method != NULL) {
        PyErr_NoMemory();
    }
    PyMem_Free(argv);
    Py_XDECREF(method);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cl_loop_call_soon(LoopObject *loop, PyObject *callback, PyObject *const *args,
                  Py_ssize_t nargs, PyObject *context)
{
    cl_assert_gil();
    cl_assert(callback != NULL && nargs >= 0);
    if (cl_loop_overrides(loop, CL_OVERRIDES_CALL_SOON))
        return cl_call_soon_method(loop->l_st, (PyObject *)loop, callback,
                                   args, nargs, context);
    if (!loop->l_open) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    HandleObject *handle = cl_handle_new(loop, callback, args, nargs, context);
    if (handle == NULL)
        return -1;
    CL_CLAIM_OR(loop, return cl_loop_push_threadsafe(
                          loop, cl_node_make(handle, CL_NODE_HANDLE)));
    /* Creating it may have run Python code that closed the loop. */
    if (cl_loop_check_open(loop) < 0) {
        Py_DECREF(handle);
        return -1;
    }
    if (loop->l_thread_id == 0)
        cl_handle_track(handle);
    return cl_loop_push(loop, cl_node_make(handle, CL_NODE_HANDLE));
}

/* Timers are found by their index: one that is freed before the scan clears
 * its entry. */
static int
remember_fresh(LoopObject *loop, TimerHandleObject *timer)
{
    cl_assert_of(timer, timer->tm_fresh < 0);
    if (loop->l_fresh_count == loop->l_fresh_capacity) {
        Py_ssize_t capacity = loop->l_fresh_capacity
                                  ? loop->l_fresh_capacity * 2
                                  : CL_TINY(1, 64);
        TimerHandleObject **fresh =
            PyMem_Realloc(loop->l_fresh, (size_t)capacity * sizeof(*fresh));
        if (fresh == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        loop->l_fresh = fresh;
        loop->l_fresh_capacity = capacity;
    }
    timer->tm_fresh = loop->l_fresh_count;
    loop->l_fresh[loop->l_fresh_count++] = timer;
    return 0;
}

static void
scan_fresh(LoopObject *loop)
{
    for (Py_ssize_t i = 0; i < loop->l_fresh_count; i++) {
        TimerHandleObject *timer = loop->l_fresh[i];
        if (timer == NULL)
            continue;
        cl_assert_of(timer, timer->tm_fresh == i);
        timer->tm_fresh = -1;
        /* One that was cancelled is somebody else's alone. */
        if (Py_REFCNT(timer) > 1 || !cl_heap_contains(&timer->tm_node))
            cl_handle_track(&timer->tm_handle);
    }
    loop->l_fresh_count = 0;
    /* Free the memory of an exceptional burst (keep 8 KiB). */
    if (loop->l_fresh_capacity > 1024) {
        PyMem_Free(loop->l_fresh);
        loop->l_fresh = NULL;
        loop->l_fresh_capacity = 0;
    }
}

static CL_INLINED void
scan_ready(LoopObject *loop)
{
    const cl_ring *ready = &loop->l_ready;
    uint64_t at = loop->l_scanned;
    if (at < ready->r_head)
        at = ready->r_head;
    cl_assertf(at <= ready->r_tail, "scanned %llu of %llu",
               (unsigned long long)at, (unsigned long long)ready->r_tail);
    for (; at != ready->r_tail; at++) {
        cl_node node = cl_ring_at(ready, at);
        /* The only nodes that may be untracked. */
        if (cl_node_kind(node) == CL_NODE_HANDLE) {
            HandleObject *handle = cl_node_pointer(node);
            if (Py_REFCNT(handle) > 1)
                cl_handle_track(handle);
        }
    }
    loop->l_scanned = at;
}

static CL_INLINED void
scan_new(LoopObject *loop)
{
    if (CL_FREE_THREADED) /* they are tracked */
        return;
    if (loop->l_scanned != loop->l_ready.r_tail)
        scan_ready(loop);
    if (loop->l_fresh_count > 0)
        scan_fresh(loop);
}

void
cl_loop_scan_new(LoopObject *loop)
{
    scan_new(loop);
}

/* ------------------------------------------------------------------- timers */

int
cl_loop_time(LoopObject *loop, double *now)
{
    if (!cl_loop_overrides(loop, CL_OVERRIDES_TIME) &&
        !cl_clock_replaced(loop->l_st)) {
        *now = cl_now_s();
        return 0;
    }
    PyObject *value =
        PyObject_CallMethodNoArgs((PyObject *)loop, loop->l_st->str_time);
    if (value == NULL)
        return -1;
    *now = PyFloat_AsDouble(value);
    Py_DECREF(value);
    return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
}

/* The next poll must not come later than the timer. */
static void
shorten_skip(LoopObject *loop, double when)
{
    double ahead_ns = (when - loop->l_polled_time) * 1e9;
    uint64_t due = 0;
    if (ahead_ns >= CL_POLL_SKIP_NS)
        return;
    if (ahead_ns > 0)
        due = cl_rate_ticks(&loop->l_rate, (int64_t)ahead_ns);
    if (due < loop->l_skip_ticks)
        loop->l_skip_ticks = due;
}

/* NaN sorts first; in asyncio's heap it usually does too. */
static inline double
heap_key(double when)
{
    return isnan(when) ? -HUGE_VAL : when;
}

int
cl_loop_schedule(LoopObject *loop, TimerHandleObject *timer)
{
    cl_assert_gil();
    cl_assert_of(timer, loop->l_open && timer->tm_handle.h_loop == loop);
    cl_assert_of(timer, !cl_heap_contains(&timer->tm_node));
    if (CL_FREE_THREADED || loop->l_thread_id == 0)
        cl_handle_track(&timer->tm_handle);
    else if (timer->tm_fresh < 0 && remember_fresh(loop, timer) < 0)
        return -1;
    int err = cl_heap_push(&loop->l_timers, &timer->tm_node,
                           heap_key(timer->tm_when));
    if (err < 0)
        return cl_raise_errno(err);
    Py_INCREF(timer);
    if (timer->tm_node.slot == 0) {
        if (cl_loop_overrides(loop, CL_OVERRIDES_TIME))
            loop->l_skip_ticks = 0;
        else
            shorten_skip(loop, heap_key(timer->tm_when));
    }
    return 0;
}

void
cl_loop_unschedule(LoopObject *loop, TimerHandleObject *timer)
{
    cl_assert_gil();
    cl_assert_of(timer, timer->tm_handle.h_loop == loop);
    if (cl_heap_contains(&timer->tm_node)) {
        cl_heap_remove(&loop->l_timers, &timer->tm_node);
        Py_DECREF(timer);
    }
}

/* Whether the program replaced time(), what that asks, or how the loop waits. */
static inline bool
is_asked(const LoopObject *loop)
{
    return loop->l_asks ||
           cl_loop_overrides(loop,
                             CL_OVERRIDES_TIME | CL_OVERRIDES_PROCESS_EVENTS);
}

static int
move_due_timers(LoopObject *loop, double now)
{
    const cl_heap_entry *first;
    cl_assert_of(loop, cl_loop_in_callback(loop));
    /* A clock that is advanced by adding floats may stop just before the
     * timer, so asyncio has this tolerance, since 3.15 at least the distance to
     * the next float: without it, a large clock would have to pass the timer.
     * With our own clock there is none, and timers are never early. */
    if (is_asked(loop)) {
        double ulp = nextafter(fabs(now), HUGE_VAL) - fabs(now);
        now = nextafter(now + fmax(loop->l_clock_resolution, ulp), -HUGE_VAL);
    }
    while ((first = cl_heap_peek(&loop->l_timers)) != NULL &&
           first->key <= now) {
        TimerHandleObject *timer = cl_timer_from_node(first->node);
        /* Out of memory: it stays in the heap. */
        Py_INCREF(timer);
        if (cl_loop_push(loop, cl_node_make(timer, CL_NODE_HANDLE)) < 0)
            return -1;
        cl_meter_late(&loop->l_meter, now - first->key);
        cl_loop_unschedule(loop, timer);
    }
    return 0;
}

/* --------------------------------------------------------------------- poll */

bool
cl_loop_is_quiet(LoopObject *loop)
{
    if (cl_ring_count(&loop->l_ready) > 0 || loop->l_stopping ||
        loop->l_thread_id == 0 || loop->l_depth != 1 || loop->l_forked ||
        loop->l_pipe_ready || loop->l_watches.wt_reported ||
        cl_inbox_filled(&loop->l_inbox) || loop->l_debug ||
        (loop->l_timed & ~CL_TIMED_SAMPLE) || is_asked(loop))
        return false;
    const cl_heap_entry *first = cl_heap_peek(&loop->l_timers);
    return first == NULL ||
           (!cl_clock_replaced(loop->l_st) && first->key > cl_now_s());
}

/* Returns how long the poll may sleep, in ns; -1 for no limit, -2 on error. */
static int64_t
poll_timeout_ns(LoopObject *loop)
{
    const cl_heap_entry *first = cl_heap_peek(&loop->l_timers);
    double now;
    if (cl_ring_count(&loop->l_ready) > 0 || loop->l_stopping ||
        loop->l_pipe_ready || loop->l_watches.wt_reported)
        return 0;
    if (first == NULL)
        return -1;
    if (CL_NAN_TIMER_RAISES &&
        isnan(cl_timer_from_node(first->node)->tm_when)) {
        PyErr_SetString(PyExc_ValueError,
                        "cannot convert float NaN to integer");
        return -2;
    }
    double key = first->key;
    if (cl_loop_time(loop, &now) < 0)
        return -2;
    double seconds = key - now;
    if (!(seconds > 0)) /* or NaN, from a replaced time() */
        return 0;
    if (seconds > CL_POLL_MAX_S)
        seconds = CL_POLL_MAX_S;
    return (int64_t)ceil(seconds * 1e9);
}

/* Whether a poll can find anything that a turn does not check anyway. */
static inline bool
polls_matter(const LoopObject *loop)
{
    return cl_loop_watched(loop) > 0 || cl_signals_handled(loop);
}

/* The poll slept or found events: a new chain of turns begins. */
static inline void
begin_chain(LoopObject *loop)
{
    loop->l_polls_owed = polls_matter(loop) ? CL_POLLS_OWED : 0;
}

/* Called after a poll: decides until when the next may be skipped. */
static void
set_skip(LoopObject *loop, double now, bool asked)
{
    uint64_t ticks = cl_ticks();
    const cl_heap_entry *first = cl_heap_peek(&loop->l_timers);
    CL_PUT(loop->l_mark_ticks, ticks);
    if (asked || loop->l_polls_owed > 0 ||
        (first != NULL && cl_loop_overrides(loop, CL_OVERRIDES_TIME))) {
        loop->l_skip_ticks = 0;
        return;
    }
    loop->l_polled_ticks = ticks;
    loop->l_polled_time = now;
    loop->l_skip_ticks = cl_rate_ticks(&loop->l_rate, CL_POLL_SKIP_NS);
    if (first != NULL)
        shorten_skip(loop, first->key);
}

/* Whether to let other threads run during a poll that does not sleep. A thread
 * that waits for the interpreter requests it only after it has waited for the
 * switch interval. Shorter offers, which are over before it wakes up, would
 * keep it waiting for ever. -1 on error. */
static int
lets_others_run(LoopObject *loop)
{
    uint64_t ticks = cl_ticks(), kept = ticks - loop->l_offered_ticks;
    if (kept < cl_rate_ticks(&loop->l_rate, CL_KEEP_MIN_NS))
        return 0;
    PyObject *interval = PyObject_CallNoArgs(loop->l_st->getswitchinterval);
    double seconds = interval == NULL ? -1.0 : PyFloat_AsDouble(interval);
    Py_XDECREF(interval);
    if (seconds < 0)
        return -1;
    if (kept < cl_rate_ticks(&loop->l_rate, (int64_t)(2e9 * seconds)))
        return 0;
    loop->l_offered_ticks = ticks;
    return 1;
}

static int
wait_for_events(LoopObject *loop, int64_t timeout_ns, cl_event *events)
{
    return loop->l_poller.ops->wait(&loop->l_poller, timeout_ns, events,
                                    CL_EVENTS_MAX);
}

/* *count is the number of events, or -errno; -1 on other errors. */
static int
poll_events(LoopObject *loop, int64_t timeout_ns, cl_event *events, int *count)
{
    int offer = 1;
    uint64_t woke = 0;
    cl_assert_gil();
    cl_assert_of(loop, !PyErr_Occurred());
    /* The next turn starts with one of them; the other results from refused
     * changes. */
    if (loop->l_afterwards != NULL || cl_ring_count(&loop->l_ready) > 0)
        timeout_ns = 0;
    timeout_ns = cl_watch_timeout(loop, timeout_ns);
    if (timeout_ns != 0 && !cl_inbox_sleep(&loop->l_inbox))
        timeout_ns = 0;
    if (timeout_ns == 0 && (offer = lets_others_run(loop)) < 0)
        return -1;
    if (timeout_ns != 0)
        cl_meter_sleep(&loop->l_meter);
    if (offer) {
        loop->l_pulse = CL_PULSE_SLEEPS;
        Py_BEGIN_ALLOW_THREADS
        *count = wait_for_events(loop, timeout_ns, events);
        loop->l_pulse = CL_PULSE_WAKES;
        woke = cl_ticks(); /* to wait for the GIL is not to be idle */
        Py_END_ALLOW_THREADS
        loop->l_pulse = CL_PULSE_RUNS;
    }
    else {
        *count = wait_for_events(loop, timeout_ns, events);
    }
    if (timeout_ns != 0) {
        cl_meter_wake(&loop->l_meter, woke);
        cl_inbox_awake(&loop->l_inbox);
    }
    return 0;
}

int
cl_loop_wait(LoopObject *loop, int64_t timeout_ns, cl_event *events,
             int *count)
{
    if (cl_watch_apply(loop) < 0 ||
        poll_events(loop, timeout_ns, events, count) < 0)
        return -1;
    CL_PUT(loop->l_polls, loop->l_polls + 1);
    if (*count == -EINTR) {
        *count = 0;
        loop->l_pipe_ready = true;
    }
    if (*count < 0)
        return cl_raise_errno(*count);
    loop->l_meter.me_events += (unsigned)*count;
    return 0;
}

/* Calls what the program has put in place of the poll. Returns 1, 0 if it is
 * no longer replaced, -1 on error. Runs Python. */
static int
ask(LoopObject *loop)
{
    cl_loop_forget_task(loop);
    PyObject *result =
        PyObject_CallMethodNoArgs((PyObject *)loop, loop->l_st->str__ask);
    int asked = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return asked;
}

/* Passes the events of a wait to their watches. 0/-1 */
static int
wait_and_dispatch(LoopObject *loop)
{
    cl_event events[CL_EVENTS_MAX];
    int count;
    cl_assert_of(loop, cl_loop_in_callback(loop));
    cl_loop_rest(loop); /* signal handlers may run */
    if (loop->l_forked && cl_fork_resume(loop) < 0)
        return -1;
    /* A signal since the last Python code, which no byte in the pipe tells of if
     * the wakeup descriptor is somebody else's, or none. */
    if (cl_ring_count(&loop->l_ready) == 0 &&
        (PyErr_CheckSignals() < 0 || cl_loop_afterwards(loop, 0) < 0))
        return -1;
    int64_t timeout_ns = poll_timeout_ns(loop);
    if (timeout_ns != 0 && timeout_ns != -2 && !loop->l_signals_tried) {
        loop->l_pulse = CL_PULSE_WAKES; /* it may release the GIL */
        cl_signals_arm(loop);
        loop->l_pulse = CL_PULSE_RUNS;
        /* A signal before we were armed has left no byte in the pipe, but its
         * handler may have scheduled something. */
        if (PyErr_CheckSignals() < 0 || cl_loop_afterwards(loop, 0) < 0)
            return -1;
        timeout_ns = poll_timeout_ns(loop);
    }
    if (timeout_ns == -2 || cl_loop_wait(loop, timeout_ns, events, &count) < 0)
        return -1;
    if (timeout_ns != 0 || count > 0)
        begin_chain(loop);
    else if (loop->l_polls_owed > 0)
        loop->l_polls_owed--;
    cl_assertf(count <= CL_EVENTS_MAX, "%d events", count);
    for (int i = 0; i < count; i++) {
        if (cl_watch_dispatch(loop, &events[i]) < 0) {
            for (; i < count; i++)
                cl_watch_again(loop, &events[i]);
            return -1;
        }
    }
    return cl_watch_tell_reported(loop);
}

/* Whether the program has replaced Handle._run(). Asked before each poll, since
 * a turn without one is short. */
static inline void
look_for_replaced(LoopObject *loop)
{
    if (cl_original_is_replaced(&loop->l_st->handle_run))
        loop->l_timed |= CL_TIMED_REPLACED;
    else
        loop->l_timed &= (uint8_t)~CL_TIMED_REPLACED;
}

static int look_again(LoopObject *loop);

static int
poll(LoopObject *loop)
{
    double now;
    int asked = 0;

    look_for_replaced(loop);
    if (cl_loop_class_changed(loop) && look_again(loop) < 0)
        return -1;
    if (cl_loop_clock_changed(loop) && cl_loop_refresh_overrides(loop) < 0)
        return -1;
    if (loop->l_asks || cl_loop_overrides(loop, CL_OVERRIDES_PROCESS_EVENTS)) {
        if (cl_watch_tell_reported(loop) < 0) /* so that it does not sleep */
            return -1;
        asked = ask(loop);
    }
    if (asked < 0 || (asked == 0 && wait_and_dispatch(loop) < 0))
        return -1;
    if (loop->l_pipe_ready && cl_signals_deliver(loop) < 0)
        return -1;
    if (cl_inbox_filled(&loop->l_inbox) && cl_loop_drain_inbox(loop) < 0)
        return -1;
    if (cl_loop_time(loop, &now) < 0 || move_due_timers(loop, now) < 0)
        return -1;
    if (!cl_loop_overrides(loop, CL_OVERRIDES_TIME) &&
        !cl_clock_replaced(loop->l_st))
        cl_rate_learn(&loop->l_rate, cl_ticks(), (int64_t)(now * 1e9));
    set_skip(loop, now, asked);
    return 0;
}

/* ---------------------------------------------------------------- callbacks */

static int
log_slow(LoopObject *loop, cl_node node, double seconds)
{
    cl_assert(!PyErr_Occurred());
    cl_state *st = loop->l_st;
    /* Like asyncio, looks it up each time. */
    PyObject *logger =
        PyObject_GetAttr(st->base_events_module, st->str_logger);
    PyObject *text = ops_of(loop, node)->name(loop, node);
    PyObject *taken = PyFloat_FromDouble(seconds);
    PyObject *format = PyUnicode_FromString("Executing %s took %.3f seconds");
    PyObject *result = NULL;
    if (logger != NULL && text != NULL && taken != NULL && format != NULL) {
        PyObject *args[] = {logger, format, text, taken};
        result = PyObject_VectorcallMethod(st->str_warning, args, 4, NULL);
    }
    Py_XDECREF(logger);
    Py_XDECREF(text);
    Py_XDECREF(taken);
    Py_XDECREF(format);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Debug mode: stores the running handle, and logs slow ones. */
static __attribute__((noinline)) int
run_node_debug(LoopObject *loop, cl_node node)
{
    const cl_node_ops *ops = ops_of(loop, node);
    double start, end;
    if (ops->is_cancelled != NULL) {
        int cancelled = ops->is_cancelled(loop, node);
        if (cancelled != 0) {
            loop->l_meter.me_skipped += cancelled > 0;
            return cancelled < 0 ? -1 : 0;
        }
        cl_loop_put(loop, &loop->l_current_handle,
                    Py_NewRef(cl_node_pointer(node)));
    }
    int result = cl_loop_time(loop, &start);
    if (result == 0)
        result = ops->run(loop, node);
    /* time() may be overridden, and logging runs any code. */
    cl_loop_rest(loop);
    if (result == 0)
        result = cl_loop_time(loop, &end);
    if (result == 0 && end - start >= loop->l_slow_callback_duration)
        result = log_slow(loop, node, end - start);
    cl_loop_put(loop, &loop->l_current_handle, NULL);
    return result;
}

int
cl_loop_call_afterwards(LoopObject *loop, int status, bool may_wait)
{
    cl_assert_gil();
    cl_assert_of(loop, (status < 0) == (PyErr_Occurred() != NULL));
    PyObject *error = status < 0 ? PyErr_GetRaisedException() : NULL;
    cl_loop_rest(loop);
    /* It may set l_afterwards again, but not for ever. */
    for (int i = 0; i < 100 && loop->l_afterwards != NULL; i++) {
        int (*afterwards)(LoopObject *, bool) = loop->l_afterwards;
        loop->l_afterwards = NULL;
        int result = afterwards(loop, may_wait);
        if (result > 0) {
            cl_assert_of(loop, may_wait && loop->l_afterwards == NULL);
            loop->l_afterwards = afterwards;
            break;
        }
        if (result < 0) {
            status = -1;
            may_wait = false;
            if (error != NULL)
                PyErr_WriteUnraisable((PyObject *)loop);
            else
                error = PyErr_GetRaisedException();
        }
    }
    (void)cl_raise_first(error);
    return status;
}

/* Runs the node as its table says, with a shortcut for handles, which most
 * nodes are. */
static inline int
run_node(LoopObject *loop, cl_node node)
{
    if (cl_node_kind(node) != CL_NODE_HANDLE)
        return ops_of(loop, node)->run(loop, node);
    if (!cl_handle_is_no_step(loop->l_st, cl_node_pointer(node)))
        cl_loop_forget_task(loop);
    return cl_handle_run(cl_node_pointer(node));
}

static inline void
drop_node(LoopObject *loop, cl_node node)
{
    if (cl_node_kind(node) != CL_NODE_HANDLE)
        ops_of(loop, node)->drop(node, false);
    else
        cl_handle_drop(cl_node_pointer(node));
}

/* Passes the node, which took so long, to Loop._tell_slow(). Returns -1 only
 * for KeyboardInterrupt and SystemExit. */
static int
tell_slow(LoopObject *loop, cl_node node, uint64_t began, uint64_t taken_ns)
{
    cl_meter *meter = &loop->l_meter;
    bool hooked = taken_ns >= meter->me_hook_ns;
    int64_t cpu_ns = hooked ? cl_meter_cpu_taken(meter, &loop->l_rate, began,
                                                 (int64_t)taken_ns)
                            : 0;
    cl_loop_rest(loop);
    PyObject *handle = ops_of(loop, node)->as_handle(loop, node);
    PyObject *taken = PyFloat_FromDouble((double)taken_ns / 1e9);
    PyObject *computed =
        hooked ? PyFloat_FromDouble((double)cpu_ns / 1e9) : Py_NewRef(Py_None);
    PyObject *result = NULL;
    if (handle != NULL && taken != NULL && computed != NULL) {
        PyObject *args[] = {(PyObject *)loop, handle, taken, computed};
        result = PyObject_VectorcallMethod(loop->l_st->str__tell_slow, args, 4,
                                           NULL);
    }
    Py_XDECREF(handle);
    Py_XDECREF(taken);
    Py_XDECREF(computed);
    Py_XDECREF(result);
    if (result != NULL)
        return 0;
    if (cl_error_is_exit())
        return -1;
    PyErr_WriteUnraisable((PyObject *)loop);
    return 0;
}

static inline void
choose_callbacks(LoopObject *loop)
{
    cl_meter_look_at_all(&loop->l_meter,
                         loop->l_timed & (CL_TIMED_SAMPLE | CL_TIMED_TASKS));
}

static void
look_for(LoopObject *loop)
{
    cl_meter_look_for(&loop->l_meter, &loop->l_rate);
    choose_callbacks(loop);
}

/* The node has run until this tick, and may have been slow, or all are looked
 * at. 0/-1 */
static __attribute__((noinline)) int
look_at(LoopObject *loop, cl_node node, uint64_t ticks)
{
    cl_meter *meter = &loop->l_meter;
    const cl_node_ops *ops = ops_of(loop, node);
    uint64_t began = meter->me_callback_ticks, taken = ticks - began;
    uint64_t ns = cl_rate_ns(&loop->l_rate, taken);
    int status = 0;
    if (loop->l_timed & CL_TIMED_SAMPLE) {
        cl_histogram_add(&meter->me_callback_time, ns);
        meter->me_callback_ns += ns;
    }
    if ((loop->l_timed & CL_TIMED_TASKS) && ops->ran != NULL)
        ops->ran(loop, node, began, ticks);
    /* It is negative if the counter was set back. */
    if (taken >= meter->me_slow_ticks && (int64_t)taken >= 0) {
        /* The counter runs at another speed than when this was set? */
        if (ns < meter->me_slow_ns)
            look_for(loop);
        else
            status = tell_slow(loop, node, began, ns);
        ticks = cl_ticks();
    }
    meter->me_callback_ticks = ticks;
    /* Unless all are looked at, it is over. */
    if (ticks - meter->me_window_ticks >= meter->me_period)
        cl_meter_open_window(meter, ticks);
    return status;
}

/* Runs a node in debug mode, or one that is timed. */
static inline int
run_node_slowly(LoopObject *loop, cl_node node)
{
    cl_meter *meter = &loop->l_meter;
    int result =
        loop->l_debug ? run_node_debug(loop, node) : run_node(loop, node);
    uint64_t ticks = cl_ticks();
    if (result == 0 && cl_meter_window_is_over(meter, ticks))
        return look_at(loop, node, ticks);
    meter->me_callback_ticks = ticks;
    return result;
}

/* Returns a node that calls the _run() of the handle that asyncio would have;
 * without memory for it, the node itself. Takes the node. */
static __attribute__((noinline)) cl_node
as_foreign(LoopObject *loop, cl_node node)
{
    const cl_node_ops *ops = ops_of(loop, node);
    PyObject *handle = ops->as_handle(loop, node);
    if (handle == NULL) {
        PyErr_Clear();
        return node;
    }
    ops->drop(node, false);
    return cl_node_make(handle, CL_NODE_FOREIGN);
}

/* Whether what a callback has left to do may wait for the next one of this
 * turn, which ends at `end`: a transport's, or a task's step. What the program
 * has passed to call_soon() finds all done. */
static bool
may_wait(const LoopObject *loop, uint64_t end)
{
    const cl_ring *ready = &loop->l_ready;
    if (ready->r_head >= end)
        return false;
    cl_node next = cl_ring_at(ready, ready->r_head);
    switch (cl_node_kind(next)) {
    case CL_NODE_HANDLE:
        return !CL_FREE_THREADED && cl_handle_is_step(cl_node_pointer(next));
    case CL_NODE_FOREIGN:
        return false;
    default:
        return true;
    }
}

/* Runs the first node of the ready ring, which has one; the turn ends at `end`. */
static CL_INLINED int
run_first(LoopObject *loop, uint64_t end, bool slowly)
{
    cl_node node = cl_ring_pop(&loop->l_ready);
    cl_ring_prefetch(&loop->l_ready);
    if (slowly && (loop->l_timed & CL_TIMED_REPLACED))
        node = as_foreign(loop, node);
    CL_PROBE2(callback_begin, loop, node);
    int result = slowly ? run_node_slowly(loop, node) : run_node(loop, node);
    CL_PROBE2(callback_end, loop, node);
    cl_assert_of(loop, (result < 0) == (PyErr_Occurred() != NULL));
    drop_node(loop, node); /* may do what a callback may do */
    if (loop->l_afterwards != NULL)
        result = cl_loop_call_afterwards(loop, result,
                                         result == 0 && may_wait(loop, end));
    scan_new(loop);
    return result;
}

/* The same as run_ready(), whose registers it would use; or the rest of it, if
 * not `all`. */
static __attribute__((noinline)) int
run_slowly(LoopObject *loop, uint64_t end, bool all)
{
    cl_meter *meter = &loop->l_meter;
    int result = 0;
    /* What the poll took, and waiting for the GIL after it, is no callback's;
     * nor is what those took that were not timed. */
    meter->me_callback_ticks = all ? loop->l_mark_ticks : cl_ticks();
    if (cl_meter_window_is_over(meter, meter->me_callback_ticks))
        cl_meter_open_window(meter, meter->me_callback_ticks);
    while (result == 0 && loop->l_ready.r_head < end)
        result = run_first(loop, end, true);
    return result;
}

static int
run_ready(LoopObject *loop)
{
    /* The ring may grow or be cleared meanwhile, but positions stay valid. */
    uint64_t end = loop->l_ready.r_tail, count = cl_ring_count(&loop->l_ready);
    int result;
    cl_assert_of(loop, cl_loop_in_callback(loop));
    if (count == 0)
        return 0;
    if (count > loop->l_meter.me_ready_max)
        loop->l_meter.me_ready_max = count;
    if (CL_COUNTED(loop->l_slowly))
        return run_slowly(loop, end, true);
    do {
        result = run_first(loop, end, false);
        if (CL_COUNTED(loop->l_slowly) && result == 0)
            return run_slowly(loop, end, false);
    } while (result == 0 && loop->l_ready.r_head < end);
    return result;
}

/* Callbacks are timed in this turn, or were in the one before. */
static __attribute__((cold, noinline)) void
begin_or_end_sample(LoopObject *loop)
{
    loop->l_timed ^= CL_TIMED_SAMPLE;
    if (loop->l_timed & CL_TIMED_SAMPLE) {
        cl_meter_sample_again(
            &loop->l_meter); /* to be called in the next turn */
    }
    else {
        cl_meter_next_sample(&loop->l_meter, &loop->l_rate,
                             loop->l_mark_ticks);
    }
    choose_callbacks(loop);
}

void
cl_loop_begin_run(LoopObject *loop)
{
    begin_chain(loop);
    look_for_replaced(loop);
    if (loop->l_polls_owed > 0)
        loop->l_skip_ticks = 0;
    cl_meter_begin(&loop->l_meter, &loop->l_rate);
}

void
cl_loop_end_run(LoopObject *loop)
{
    cl_meter_end(&loop->l_meter, &loop->l_rate);
}

void
cl_loop_time_callbacks(LoopObject *loop, uint8_t bit, bool on)
{
    cl_assert_gil();
    /* The callback that runs may have begun long ago. */
    loop->l_meter.me_callback_ticks = cl_ticks();
    loop->l_timed = (uint8_t)(on ? loop->l_timed | bit : loop->l_timed & ~bit);
    look_for(loop);
    cl_meter_open_window(&loop->l_meter, loop->l_meter.me_callback_ticks);
}

static void
look_for_slow(LoopObject *loop)
{
    const cl_meter *meter = &loop->l_meter;
    cl_loop_time_callbacks(loop, CL_TIMED_SLOW,
                           meter->me_hook_ns != CL_NEVER ||
                               meter->me_note_ns != CL_NEVER);
}

void
cl_loop_watch_slow(LoopObject *loop, PyObject *hook, double seconds)
{
    loop->l_meter.me_hook_ns =
        hook == NULL ? CL_NEVER : cl_meter_threshold(seconds);
    look_for_slow(loop);
    cl_loop_put(loop, &loop->l_slow_hook, Py_XNewRef(hook));
}

void
cl_loop_note_slow(LoopObject *loop, uint64_t ns)
{
    loop->l_meter.me_note_ns = ns;
    look_for_slow(loop);
}

uint64_t
cl_loop_callbacks(const LoopObject *loop)
{
    const cl_meter *meter = &loop->l_meter;
    return loop->l_open ? loop->l_ready.r_head - meter->me_skipped
                        : meter->me_final_callbacks;
}

uint64_t
cl_loop_timers(const LoopObject *loop)
{
    return loop->l_open ? loop->l_timers.inserted
                        : loop->l_meter.me_final_timers;
}

int
cl_loop_turn(LoopObject *loop)
{
    unsigned long thread = PyThread_get_thread_ident();
    int result = 0;
    cl_assert_gil();
    cl_assert_of(loop, !PyErr_Occurred());
    if (!loop->l_open) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    if (loop->l_depth > 0 && loop->l_turn_thread != thread) {
        PyErr_SetString(PyExc_RuntimeError,
                        "This event loop is already running");
        return -1;
    }
    CL_CLAIM(loop, -1);
    CL_PROBE1(turn_begin, loop);
    loop->l_turn_thread = thread;
    CL_PUT(loop->l_turns, loop->l_turns + 1);
    loop->l_depth++;
    result = cl_loop_afterwards(loop, 0);
    if (result == 0 && cl_inbox_filled(&loop->l_inbox))
        result = cl_loop_drain_inbox(loop);
    CL_PUT(loop->l_mark_ticks, cl_ticks());
    if (__builtin_expect(
            cl_meter_turn(&loop->l_meter, &loop->l_rate, loop->l_mark_ticks),
            0))
        begin_or_end_sample(loop);
    if (result == 0 &&
        (cl_ring_count(&loop->l_ready) == 0 ||
         !cl_ticks_within(loop->l_polled_ticks, loop->l_mark_ticks,
                          loop->l_skip_ticks) ||
         cl_loop_clock_changed(loop))) {
        result = poll(loop);
        cl_ring_trim(&loop->l_ready);
    }
    cl_check(cl_loop_check_sometimes(loop));
    /* As after select.epoll.poll(). The ssl module of Python 3.13 reads it. */
    errno = 0;
    if (result == 0)
        result = run_ready(loop);
    result = cl_loop_afterwards(loop, result);
    /* A running loop needs it again in the next turn. */
    if (loop->l_thread_id == 0)
        cl_loop_forget_task(loop);
    loop->l_depth--;
    CL_PROBE1(turn_end, loop);
    cl_assertf(loop->l_depth >= 0, "depth %d", loop->l_depth);
    cl_assert_of(loop, (result < 0) == (PyErr_Occurred() != NULL));
    cl_check(cl_loop_check_sometimes(loop));
    return result;
}

/* ---------------------------------------------------------------- overrides */

/* The methods that the class, or a base of it, overrides. */
static unsigned
overridden_in_class(const LoopObject *loop, PyObject *const *names)
{
    PyTypeObject *type = Py_TYPE(loop), *core = cl_loop_core_type(loop);
    unsigned overridden = 0;
    cl_assert_of(type, PyType_Check(type));
    for (int i = 0; i < CL_OVERRIDABLE_COUNT; i++) {
        PyObject *ours = cl_type_lookup(core, names[i]);
        PyObject *theirs = cl_type_lookup(type, names[i]);
        if (ours != theirs)
            overridden |= 1u << i;
        Py_XDECREF(ours);
        Py_XDECREF(theirs);
    }
    return overridden;
}

#define NAME(id, name) st->str_##name,
#define OVERRIDABLE_NAMES(st) {CL_OVERRIDABLE(NAME)}

/* The methods that are not asyncio's in asyncio's classes, if the class gets no
 * more versions. */
static unsigned
unlike_asyncios(const LoopObject *loop)
{
    cl_state *st = loop->l_st;
    PyObject *names[] = OVERRIDABLE_NAMES(st);
    unsigned unlike = 0;
    for (int i = 0; loop->l_class_version == 0 && i < CL_OVERRIDABLE_COUNT;
         i++) {
        if (!cl_follow_is_as_known(&st->follow, names[i]))
            unlike |= 1u << i;
    }
    return unlike;
}

/* The class may have been modified. If it gets no more versions, all is looked
 * up again only if one of asyncio's methods was replaced or put back. */
static int
look_again(LoopObject *loop)
{
    if (loop->l_class_version == 0 && cl_type_version(Py_TYPE(loop)) == 0 &&
        unlike_asyncios(loop) == loop->l_class_unlike)
        return 0;
    return cl_loop_refresh_overrides(loop);
}

int
cl_loop_refresh_overrides(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    PyTypeObject *type = Py_TYPE(loop);
    PyObject *names[] = OVERRIDABLE_NAMES(st);
    unsigned version = cl_type_version(type);
    if (version == 0 || version != loop->l_class_version) {
        if (cl_follow_classes(&st->follow, names[0]) < 0)
            return -1;
        version = cl_type_fresh_version(type, names[0]);
        loop->l_class_overrides = overridden_in_class(loop, names);
        loop->l_class_version = version;
        loop->l_class_unlike = unlike_asyncios(loop);
        CL_COUNT(st->loop_looks, 1);
    }
    unsigned overridden = loop->l_class_overrides;
    for (int i = 0; loop->l_dict != NULL && i < CL_OVERRIDABLE_COUNT; i++) {
        int found = PyDict_Contains(loop->l_dict, names[i]);
        if (found < 0)
            return -1;
        if (found)
            overridden |= 1u << i;
    }
    loop->l_clock_replaced = cl_clock_replaced(st);
    if (loop->l_clock_replaced)
        overridden |= CL_OVERRIDES_TIME;
    loop->l_overridden = overridden;
    return 0;
}

/* What the class has under the name, bound to the loop. */
static PyObject *
bind_to(LoopObject *loop, PyTypeObject *type, PyObject *found)
{
    descrgetfunc get = Py_TYPE(found)->tp_descr_get;
    return get == NULL ? Py_NewRef(found)
                       : get(found, (PyObject *)loop, (PyObject *)type);
}

/* 0/-1 */
static int
refresh_here(LoopObject *loop)
{
    CL_CLAIM_OR(loop, return 0);
    return cl_loop_refresh_overrides(loop);
}

bool
cl_loop_call_replaced(LoopObject *loop, const char *method,
                      PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames, PyObject **result)
{
    cl_assert(!PyErr_Occurred());
    PyTypeObject *type = loop->l_st->follow.fo_loop;
    PyObject *name = NULL, *before = NULL, *now = NULL, *bound = NULL;
    bool replaced = true; /* or it failed */
    *result = NULL;
    /* Others than Loop and its subclasses have no replacements. */
    if (type == NULL || !PyType_IsSubtype(Py_TYPE(loop), type))
        return refresh_here(loop) < 0;
    Py_INCREF(type);
    if ((name = PyUnicode_InternFromString(method)) == NULL)
        goto done;
    if (loop->l_class_version == 0 && cl_type_version(Py_TYPE(loop)) == 0 &&
        cl_follow_is_as_known(&loop->l_st->follow, name)) {
        replaced = false; /* no version, and the same */
        goto done;
    }
    before = cl_type_lookup(type, name);
    if (refresh_here(loop) < 0)
        goto done;
    now = cl_type_lookup(type, name);
    replaced = now != before && now != NULL;
    if (replaced && (bound = bind_to(loop, type, now)) != NULL)
        *result = PyObject_Vectorcall(bound, args, (size_t)nargs, kwnames);
done:
    Py_DECREF(type);
    Py_XDECREF(name);
    Py_XDECREF(before);
    Py_XDECREF(now);
    Py_XDECREF(bound);
    return replaced;
}

/* ------------------------------------------------------- garbage collection */

static inline int
visit_node(const LoopObject *loop, cl_node node, visitproc visit, void *arg)
{
    return ops_of(loop, node)->visit(node, visit, arg);
}

int
cl_loop_traverse_pending(LoopObject *loop, visitproc visit, void *arg)
{
    int result = 0;
    if (!loop->l_open)
        return 0;
    const cl_ring *ready = &loop->l_ready;
    for (uint64_t at = ready->r_head; at != ready->r_tail && result == 0; at++)
        result = visit_node(loop, cl_ring_at(ready, at), visit, arg);
    for (size_t i = 0; i < loop->l_timers.count && result == 0; i++) {
        TimerHandleObject *timer =
            cl_timer_from_node(loop->l_timers.entries[i].node);
        result = cl_handle_visit(&timer->tm_handle, visit, arg);
    }
    /* A collection in one thread must not wait for another thread's lock. */
    if (result == 0 && pthread_mutex_trylock(&loop->l_inbox.i_lock) == 0) {
        for (size_t i = 0; i < loop->l_inbox.i_count && result == 0; i++)
            result = visit_node(loop, loop->l_inbox.i_nodes[i], visit, arg);
        cl_mutex_unlock(&loop->l_inbox.i_lock);
    }
    if (result == 0)
        result = cl_watch_traverse(loop, visit, arg);
    return result != 0 ? result : cl_lent_traverse(loop, visit, arg);
}
