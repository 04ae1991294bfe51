/* loop.h - the loop object and its turn.
 *
 * A loop belongs to the thread that runs it; other threads may only use its
 * inbox. Without a GIL, they are kept out by a claim (core/claim.h). The fields
 * are for core/ and the loop_*.c files.
 *
 * A turn (cl_loop_turn) does what asyncio's _run_once does: poll, turn events
 * into ready nodes, move due timers, run exactly the nodes that were ready at
 * the start of the batch. There is one difference: in a long chain of turns
 * that find nodes ready, polls are skipped for at most CL_POLL_SKIP_NS, never
 * past the next timer, and never when the loop is stopping
 * (docs/decisions/0002). */
#ifndef CL_CORE_LOOP_H
#define CL_CORE_LOOP_H

#include "base/compat.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/ring.h"
#include "base/turnstile.h"
#include "core/handle.h"
#include "core/inbox.h"
#include "core/meter.h"
#include "core/node.h"
#include "core/sigsock.h"
#include "core/state.h"
#include "core/watch.h"
#include "poller/poller.h"

/* Long enough to make the system call negligible (2500 callbacks of 0.1 us),
 * short enough to be lost in network latency. */
#define CL_POLL_SKIP_NS (250 * 1000)

/* The first turns of a chain poll, as in asyncio. A program that gives the
 * loop "a few turns" to notice something rarely gives it more than ten. */
#define CL_POLLS_OWED 16

/* A loop that never sleeps keeps the interpreter at least this long; see
 * lets_others_run() in loop.c. */
#define CL_KEEP_MIN_NS (1000 * 1000)

/* asyncio.base_events.MAXIMUM_SELECT_TIMEOUT. */
#define CL_POLL_MAX_S (24.0 * 3600.0)

/* Spare handles kept per loop, enough for asyncio.gather() of 1000 coroutines
 * and similar. */
#define CL_SPARES_MAX CL_TINY(2, 1024)

/* Handles that are freed within one another before others must wait. */
#define CL_FREEING_MAX CL_TINY(2, 50)

/* Methods that the C code bypasses unless a subclass or an instance overrides
 * them. */
#define CL_OVERRIDABLE(X) \
    X(TIME, time) \
    X(CALL_SOON, call_soon) \
    X(CALL_AT, call_at) \
    X(CALL_LATER, call_later) \
    X(CREATE_FUTURE, create_future) \
    X(CREATE_TASK, create_task) \
    X(GET_DEBUG, get_debug) \
    X(RUN_FOREVER, run_forever) \
    X(RUN_ONCE, _run_once) \
    X(PROCESS_EVENTS, _process_events)

enum {
#define BIT(id, name) CL_INDEX_##id,
    CL_OVERRIDABLE(BIT)
#undef BIT
        CL_OVERRIDABLE_COUNT
};
enum {
#define BIT(id, name) CL_OVERRIDES_##id = 1 << CL_INDEX_##id,
    CL_OVERRIDABLE(BIT)
#undef BIT
};

/* Attributes that asyncio's Python code uses, and the hook for slow callbacks:
 * owned, or NULL. The first is set in debug mode only. */
#define CL_LOOP_OBJECTS(X) \
    X(current_handle) \
    X(slow_hook) \
    X(default_executor) \
    X(exception_handler) \
    X(task_factory) \
    X(asyncgens) \
    X(signal_handlers) \
    X(unix_server_sockets) \
    X(transports) \
    X(watcher) \
    X(old_agen_hooks) \
    X(origin_depth)

/* Bits of l_timed, the reasons why callbacks are timed: this turn is a sample;
 * somebody looks for slow ones, or at tasks (futures/tally.h); the program has
 * replaced asyncio.Handle._run(), and may do so. */
enum {
    CL_TIMED_SAMPLE = 1,
    CL_TIMED_SLOW = 2,
    CL_TIMED_TASKS = 4,
    CL_TIMED_REPLACED = 8,
};

struct LoopObject {
    PyObject_HEAD
    PyObject *l_dict; /* owned; NULL until an attribute is set */
    PyObject *l_weakrefs;
    cl_state *l_st; /* borrowed from l_module */
    /* Owned, and never cleared: the type alone does not keep it alive through
     * a collection. */
    PyObject *l_module;

    /* the turn */
    cl_ring l_ready;
    cl_heap l_timers;
    cl_poller l_poller;
    cl_watch_table l_watches;
    cl_inbox l_inbox;
    cl_watch l_pipe_watch; /* of the inbox's pipe */
    cl_sigsock l_sigsock;  /* open once a signal handler was added */
    cl_watch l_sigsock_watch;
    bool l_pipe_ready; /* the pipe or the sockets are readable */
    /* See core/fork.h. */
    bool l_forked;   /* handle a fork before the next poll */
    uint8_t l_fork;  /* CL_FORK_... */
    bool l_fork_ran; /* it was running at the fork */
    uint32_t
        l_fork_generation; /* watches up to this one are from before the fork */
    unsigned l_forks;      /* st->forks when it was created */
    int l_ancestor;        /* index of the ancestor whose exit is watched */
    int l_ancestor_fd;
    cl_watch l_ancestor_watch;
    const cl_poller_ops
        *l_poller_ops; /* back end of l_poller, now or once it is reopened */
    struct LoopObject *l_next_open; /* list of open loops, in the state */
    struct LoopObject **l_open_link;
    /* Called once after the running callback returns, and when a turn begins
     * or ends; NULL if there is nothing to do. Returns 0 if all is done. If
     * `may_wait`, it may return 1: it is called again after the next callback of
     * the turn, which is a task's or a transport's. Returns -1 only for
     * KeyboardInterrupt and SystemExit. Runs Python. */
    int (*l_afterwards)(LoopObject *loop, bool may_wait);
    /* Hides what a task's step has left and other code must not see; see
     * cl_loop_rest() and cl_loop_forget_task(). NULL if there is nothing. */
    void (*l_rest)(LoopObject *loop);
    void (*l_forget)(LoopObject *loop);
    cl_rate l_rate;
    uint64_t
        l_skip_ticks; /* no poll is due for this long after l_polled_ticks */
    int l_polls_owed; /* polls that must not be skipped */
    uint64_t
        l_offered_ticks; /* when a poll that did not sleep let other threads run */
    uint64_t l_polled_ticks; /* ticks at the last poll */
    double l_polled_time;    /* the loop's time at the last poll */
    uint64_t
        l_mark_ticks;   /* lower bound for the start of the running callback */
    uint64_t l_scanned; /* ring position up to which handles were scanned */
    /* Timers made since the last scan, borrowed; NULL if freed again. */
    TimerHandleObject **l_fresh;
    Py_ssize_t l_fresh_count;
    Py_ssize_t l_fresh_capacity;
    CL_SHARED(unsigned long) l_thread_id; /* of the running thread, else 0 */
    CL_SHARED(unsigned) l_overridden;     /* CL_OVERRIDES_ bits */
    unsigned l_class_overrides;           /* those overridden by the class */
    CL_SHARED(unsigned) l_class_version;  /* class version at that time */
    unsigned l_class_unlike; /* CL_OVERRIDES_ bits, see look_again() */
    bool l_clock_replaced;   /* CL_OVERRIDES_TIME, since time.monotonic is */
    CL_SHARED(bool) l_open;  /* the C parts exist */
    bool l_made;             /* __init__() was called */
    CL_SHARED(bool) l_closed;
    CL_SHARED(bool) l_stopping;
    bool l_locks; /* the locks of the inbox and the turnstile exist */
    /* A program has replaced the selector, or looks at the timers: polls go
     * through Loop._ask() (cloop/_selector.py). */
    bool l_asks;
    CL_SHARED(int) l_depth;     /* turns in progress: above 1 if nested */
    CL_SHARED(uint8_t) l_pulse; /* CL_PULSE_..., for watchdog.h */
    CL_SHARED(unsigned long) l_turn_thread; /* thread of these turns */
#if CL_FREE_THREADED
    CL_SHARED(unsigned long) l_owner; /* see core/claim.h; 0: nobody */
    PyObject *l_self; /* owned weak reference, for the list of open loops */
#endif
    /* Callbacks are called by run_node_slowly() if either is not 0. */
    union {
        struct {
            CL_SHARED(bool) l_debug;
            uint8_t l_timed; /* CL_TIMED_... */
        };
        uint16_t l_slowly;
    };
    bool l_signals_tried; /* cl_signals_arm() was called in this run */
    bool l_signals_armed; /* our pipe is the process's wakeup descriptor */

    /* threads waiting for the callback of a _ThreadSafeHandle */
    cl_turnstile l_turnstile;
    CL_SHARED(int) l_waiters;

    /* spare handles, linked by h_callback; each keeps its type */
    HandleObject *l_spare_handles;
    HandleObject *l_spare_timers;
    int l_spare_handle_count;
    int l_spare_timer_count;
    int l_freeing; /* handles that are being freed, one within the other */

    /* The latest copy of a context that a handle has made, borrowed from those
     * that share it; NULL if there are none. */
    PyObject *l_context;
    Py_ssize_t l_context_users;

    /* attributes that asyncio's Python code reads and writes */
    double l_slow_callback_duration; /* seconds */
    double l_clock_resolution;       /* seconds */
#define FIELD(name) PyObject *l_##name;
    CL_LOOP_OBJECTS(FIELD)
#undef FIELD
    bool l_origin_enabled;
    bool l_asyncgens_shutdown;
    bool l_executor_shutdown;

    /* for metrics() */
    uint64_t l_turns;
    uint64_t l_polls;
    cl_meter l_meter;
};

/* Slots of the type LoopCore (loop_type.c). __init__() takes the name of a
 * poller, or NULL. */
PyObject *cl_loop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int cl_loop_init(LoopObject *loop, const char *poller);
int cl_loop_traverse(LoopObject *loop, visitproc visit, void *arg);
int cl_loop_clear(LoopObject *loop);

/* tp_dealloc of LoopCore, which identifies its subclasses. */
void cl_loop_dealloc(PyObject *self);

/* Returns LoopCore, given an object of it or a subclass. Borrowed. */
static inline PyTypeObject *
cl_loop_core_type(const LoopObject *loop)
{
    PyTypeObject *type = Py_TYPE(loop);
    while (type->tp_dealloc != cl_loop_dealloc)
        type = type->tp_base;
    return type;
}

/* Returns `loop` if it is a LoopCore, else NULL; `loop` may be NULL. */
static inline LoopObject *
cl_loop_cast(PyObject *loop)
{
    if (loop == NULL)
        return NULL;
    /* Nearly always a cloop.Loop, whose base is LoopCore. */
    for (PyTypeObject *type = Py_TYPE(loop)->tp_base; type != NULL;
         type = type->tp_base) {
        if (type->tp_dealloc == cl_loop_dealloc)
            return (LoopObject *)loop;
    }
    return Py_TYPE(loop)->tp_dealloc == cl_loop_dealloc ? (LoopObject *)loop
                                                        : NULL;
}

/* Returns the bound method of that name of the class behind LoopCore:
 * asyncio's, or cloop's own in Python. Runs Python. */
PyObject *cl_loop_inherited(LoopObject *loop, const char *name);

/* Opens poller, ring and inbox. 0/-1 */
int cl_loop_open(LoopObject *loop, const char *poller_name);

/* Closes what cl_loop_open() opened, and drops everything pending. Must not be
 * called during a turn (l_depth). l_closed must be set, so that destructors
 * cannot schedule anything. Safe to call twice. `keep_sigsock` leaves the
 * signal sockets open for good: the process's signal handler may write to
 * them. Runs Python. */
void cl_loop_close(LoopObject *loop, bool keep_sigsock);

/* The number of watches, without the loop's own. */
static inline int
cl_loop_watched(const LoopObject *loop)
{
    return loop->l_watches.wt_count - (loop->l_pipe_watch.w_fd >= 0) -
           (loop->l_sigsock_watch.w_fd >= 0) -
           (loop->l_ancestor_watch.w_fd >= 0);
}

/* The loop's time in seconds; calls an overridden time(). 0/-1 */
int cl_loop_time(LoopObject *loop, double *now);

/* Call before the first turn of a run, and after the last. */
void cl_loop_begin_run(LoopObject *loop);
void cl_loop_end_run(LoopObject *loop);

/* Calls the hook after each callback that takes so many seconds; no hook if it
 * is NULL. Runs Python. */
void cl_loop_watch_slow(LoopObject *loop, PyObject *hook, double seconds);

/* Passes each callback that takes so many ns to Loop._tell_slow(), beside the
 * hook; CL_NEVER: none. */
void cl_loop_note_slow(LoopObject *loop, uint64_t ns);

/* Turns a bit of l_timed on or off. */
void cl_loop_time_callbacks(LoopObject *loop, uint8_t bit, bool on);

/* How many callbacks came up to be run and were not cancelled, and how many
 * timers were made, so far. */
uint64_t cl_loop_callbacks(const LoopObject *loop);
uint64_t cl_loop_timers(const LoopObject *loop);

/* Waits up to timeout_ns (-1: no limit) for events; *count is their number.
 * Runs signal handlers. 0/-1 Runs Python. */
int cl_loop_wait(LoopObject *loop, int64_t timeout_ns, cl_event *events,
                 int *count);

/* Runs one turn. Returns -1 if an exception must leave the loop. Runs Python. */
int cl_loop_turn(LoopObject *loop);

/* Makes the next turn poll even if nodes are ready: a descriptor was used, and
 * the other end may be on this loop too (docs/decisions/0002). */
static inline void
cl_loop_poll_soon(LoopObject *loop)
{
    loop->l_skip_ticks = 0;
}

/* Makes the next CL_POLLS_OWED turns poll even if nodes are ready: the loop
 * was told to watch something, and the program may count turns until it
 * notices. */
static inline void
cl_loop_owe_polls(LoopObject *loop)
{
    loop->l_polls_owed = CL_POLLS_OWED;
    loop->l_skip_ticks = 0;
}

/* Calls l_afterwards until it is NULL, or may wait and does. If `status` is -1,
 * the exception that is set stays. Returns -1 if either failed. Runs Python. */
int cl_loop_call_afterwards(LoopObject *loop, int status, bool may_wait);

/* Whether a callback of the loop is running in this thread, so that
 * l_afterwards will be called. */
static inline bool
cl_loop_in_callback(const LoopObject *loop)
{
    return loop->l_depth > 0 && loop->l_turn_thread == cl_thread_ident();
}

/* Returns the loop whose callback is running in the thread, borrowed, or NULL. */
static inline LoopObject *
cl_loop_in_thread(const cl_state *st, unsigned long thread)
{
    LoopObject *loop;
    CL_MUTEX_LOCK((PyMutex *)&st->loops_lock);
    loop = st->loops;
    while (loop != NULL &&
           (loop->l_turn_thread != thread || loop->l_depth == 0))
        loop = loop->l_next_open;
    CL_MUTEX_UNLOCK((PyMutex *)&st->loops_lock);
    return loop;
}

/* The same, for an object that needs no more than memory of the loop's
 * (core/spares.h): if only one loop is open, its thread is not compared. */
static inline LoopObject *
cl_loop_with_spares(const cl_state *st)
{
    if (CL_FREE_THREADED) /* nobody keeps memory there */
        return NULL;
    LoopObject *loop = st->loops;
    if (loop != NULL && loop->l_next_open == NULL)
        return loop->l_depth > 0 ? loop : NULL;
    return cl_loop_in_thread(st, cl_thread_ident());
}

/* Puts a value, whose reference it steals, in a field of CL_LOOP_OBJECTS, which
 * other threads may read (loop_type.c). */
static inline void
cl_loop_put(LoopObject *loop, PyObject **field, PyObject *value)
{
    PyObject *before;
    CL_LOCKED(loop);
    before = *field;
    *field = value;
    CL_UNLOCKED();
    Py_XDECREF(before);
}

/* A new reference to the value of such a field, or NULL. */
static inline PyObject *
cl_loop_peek(LoopObject *loop, PyObject *const *field)
{
    PyObject *value;
    CL_LOCKED(loop);
    value = Py_XNewRef(*field);
    CL_UNLOCKED();
    return value;
}

/* A new reference to a loop in the list of open loops, or NULL if it is being
 * freed. The list's lock is held. */
static inline PyObject *
cl_loop_listed(LoopObject *loop)
{
#if CL_FREE_THREADED
    PyObject *strong = NULL;
    if (loop->l_self != NULL && PyWeakref_GetRef(loop->l_self, &strong) < 0)
        PyErr_Clear();
    return strong;
#else
    return Py_REFCNT((PyObject *)loop) > 0 ? Py_NewRef(loop) : NULL;
#endif
}

/* Returns a new list of the open loops, the newest first. */
PyObject *cl_loop_list(cl_state *st);

static inline int
cl_loop_afterwards(LoopObject *loop, int status)
{
    return loop->l_afterwards == NULL
               ? status
               : cl_loop_call_afterwards(loop, status, false);
}

/* For the dealloc: the locks that other threads may take until then. */
void cl_loop_destroy_locks(LoopObject *loop);

/* Makes room for `count` more nodes. 0, or -1 with MemoryError. */
int cl_loop_reserve(LoopObject *loop, size_t count);

/* Steals the node. 0, or -1 with MemoryError. */
int cl_loop_push(LoopObject *loop, cl_node node);

/* Schedules a call of the method, which has no arguments, with `self`. 0/-1 Runs
 * Python. */
int cl_loop_push_method(LoopObject *loop, PyMethodDef *method, PyObject *self);

/* Pushes from any thread; wakes the loop if it sleeps. */
int cl_loop_push_threadsafe(LoopObject *loop, cl_node node);

/* loop.call_soon(callback, *args, context=context) for C code: without debug
 * mode's checks; calls an overridden call_soon(). If `context` is NULL, the
 * current one is used. 0/-1 Runs Python. */
int cl_loop_call_soon(LoopObject *loop, PyObject *callback,
                      PyObject *const *args, Py_ssize_t nargs,
                      PyObject *context);

/* Calls the method call_soon() of any loop. 0/-1 Runs Python. */
int cl_call_soon_method(cl_state *st, PyObject *loop, PyObject *callback,
                        PyObject *const *args, Py_ssize_t nargs,
                        PyObject *context);

/* Moves nodes pushed by other threads into the ready ring. 0/-1 */
int cl_loop_drain_inbox(LoopObject *loop);

/* Whether the running callback is the last of its turn, and the next turn would
 * begin with a poll, as nothing else is to run: it may go on with its
 * descriptor's next event. False while the program makes turns by
 * hand, nests them, polls itself, or has callbacks timed. */
bool cl_loop_is_quiet(LoopObject *loop);

/* See "Garbage collection" in handle.h. */
void cl_loop_scan_new(LoopObject *loop);

/* Adds the timer to the heap, which takes a reference. 0/-1 */
int cl_loop_schedule(LoopObject *loop, TimerHandleObject *timer);

/* Removes the timer, if it is in the heap, and drops the heap's reference. */
void cl_loop_unschedule(LoopObject *loop, TimerHandleObject *timer);

/* Updates the set of overridden methods, those that a program has replaced in
 * asyncio's classes included; looks the classes up only if they were modified.
 * 0/-1 Runs Python. */
int cl_loop_refresh_overrides(LoopObject *loop);

/* Whether a program has put something in the place of time.monotonic(), as
 * test clocks do. Without a GIL that is not asked. */
static inline bool
cl_clock_replaced(cl_state *st)
{
    return !CL_FREE_THREADED && !cl_global_holds(&st->clock) &&
           st->clock.gl_dict != NULL;
}

/* Whether that is otherwise than when the overrides were looked up. */
static inline bool
cl_loop_clock_changed(const LoopObject *loop)
{
    return cl_clock_replaced(loop->l_st) != loop->l_clock_replaced;
}

/* Whether the loop's class was modified since then, or may have been. */
static inline bool
cl_loop_class_changed(const LoopObject *loop)
{
    unsigned version = cl_type_version(Py_TYPE(loop));
    return version != loop->l_class_version || version == 0;
}

/* Looks at the classes again, unless another thread has the loop. If a program
 * has replaced the method in asyncio's classes, calls what is there now, with
 * the arguments of a method of LoopCore, and stores the result: true. Runs
 * Python. */
bool cl_loop_call_replaced(LoopObject *loop, const char *method,
                           PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames, PyObject **result);

/* Begins a method of LoopCore. True if it was replaced just now, and *result,
 * of what is in its place, is to be returned. After that the look-up of the
 * method finds the replacement. Runs Python. */
static inline bool
cl_loop_replaced(LoopObject *loop, const char *method, PyObject *const *args,
                 Py_ssize_t nargs, PyObject *kwnames, PyObject **result)
{
    return cl_loop_class_changed(loop) &&
           cl_loop_call_replaced(loop, method, args, nargs, kwnames, result);
}

static inline bool
cl_loop_overrides(const LoopObject *loop, unsigned bits)
{
    return (loop->l_overridden & bits) != 0;
}

/* Whether ready nodes may replace what asyncio passes to call_soon(). */
static inline bool
cl_loop_is_plain(const LoopObject *loop)
{
    return loop->l_open && !loop->l_debug &&
           !cl_loop_overrides(loop, CL_OVERRIDES_CALL_SOON);
}

/* Call before anything but a task's step may run Python code: there is no
 * current task then. (In a nested turn within a step, it stays.) */
static inline void
cl_loop_rest(LoopObject *loop)
{
    if (loop->l_rest != NULL)
        loop->l_rest(loop);
}

/* The same, before code that may enter asyncio's own task. */
static inline void
cl_loop_forget_task(LoopObject *loop)
{
    if (loop->l_forget != NULL)
        loop->l_forget(loop);
}

/* For garbage collection: visits the ready ring, timers, watches and inbox. */
int cl_loop_traverse_pending(LoopObject *loop, visitproc visit, void *arg);

#endif
