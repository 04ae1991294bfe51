/* loop.h - the loop object and its turn.
 *
 * A loop belongs to the thread that runs it; of its fields, other threads may
 * touch the inbox alone. The struct is open to the files of core/ and to
 * loop_type.c, which holds the Python methods.
 *
 * One turn (cl_loop_turn) does what asyncio's _run_once does: poll, turn events
 * into ready nodes, move due timers, run exactly the nodes that were ready when
 * the batch began. It differs in one thing: in a long chain of turns that find
 * nodes ready, polls are skipped for at most CL_POLL_SKIP_NS, never past the
 * next timer, and never when the loop is stopping (docs/decisions/0002). */
#ifndef CL_CORE_LOOP_H
#define CL_CORE_LOOP_H

#include "base/compat.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/ring.h"
#include "base/turnstile.h"
#include "core/handle.h"
#include "core/inbox.h"
#include "core/node.h"
#include "core/sigsock.h"
#include "core/state.h"
#include "core/watch.h"
#include "poller/poller.h"

/* Long enough that a system call per turn disappears among the callbacks (at
 * 0.1 us each, 2500 of them), short enough to be lost in the noise of a
 * network. */
#define CL_POLL_SKIP_NS (250 * 1000)

/* The length of a chain whose turns all poll, as in asyncio. A program that gives
 * the loop "a few turns" to notice something rarely gives it more than ten. */
#define CL_POLLS_OWED 16

/* A loop that never sleeps keeps the interpreter at least that long; see
 * lets_others_run() in loop.c. */
#define CL_KEEP_MIN_NS (1000 * 1000)

/* As asyncio.base_events.MAXIMUM_SELECT_TIMEOUT. */
#define CL_POLL_MAX_S (24.0 * 3600.0)

/* Spare handles kept per loop; asyncio.gather(*1000 coroutines) and the like
 * still find one each. */
#define CL_SPARES_MAX CL_TINY(2, 1024)

/* Methods whose overriding in a subclass or on an instance the C code must
 * honour when it would otherwise take the short way. */
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

/* Attributes that asyncio's Python code reads and writes: owned, or NULL. The first is
 * set in debug mode only. */
#define CL_LOOP_OBJECTS(X) \
    X(current_handle) \
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

struct LoopObject {
    PyObject_HEAD
    PyObject *l_dict; /* owned; NULL until an attribute is set */
    PyObject *l_weakrefs;
    cl_state *l_st; /* borrowed from l_module */
    /* Owned, and never cleared: the type alone does not keep it through a
     * collection. */
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
    bool l_pipe_ready; /* there is something to read in either */
    /* See core/fork.h. */
    bool l_forked;   /* the next poll has to deal with a fork */
    uint8_t l_fork;  /* CL_FORK_ */
    bool l_fork_ran; /* it was running when the process was forked */
    uint32_t l_fork_generation; /* watches up to it are from before the fork */
    unsigned l_forks;           /* the state's, when it was made */
    int l_ancestor; /* place of that whose end is watched, in the state's list */
    int l_ancestor_fd;
    cl_watch l_ancestor_watch;
    const cl_poller_ops *l_poller_ops; /* what l_poller is, or will be again */
    struct LoopObject *l_next_open;    /* the state's list */
    struct LoopObject **l_open_link;
    /* Called once when the callback in progress has returned, and wherever a
     * turn begins or ends; NULL if there is nothing to do. 0, or -1 for what must
     * leave the loop. Runs Python. */
    int (*l_afterwards)(LoopObject *loop);
    /* A task that ran has left something that others may not see: how to take it away,
     * see cl_loop_rest() and cl_loop_forget_task(). NULL if there is nothing. */
    void (*l_rest)(LoopObject *loop);
    void (*l_forget)(LoopObject *loop);
    cl_rate l_rate;
    uint64_t l_skip_ticks; /* so long after l_polled_ticks no poll is due */
    int l_polls_owed;      /* polls to come that may not be skipped */
    uint64_t
        l_offered_ticks; /* when a poll that did not sleep let others run */
    uint64_t l_polled_ticks; /* of the last poll, with ... */
    double l_polled_time;    /* ... the loop's time then */
    uint64_t l_mark_ticks;   /* the callback in progress began no earlier */
    uint64_t l_scanned; /* ready position up to which handles were scanned */
    /* Timers made since the last scan, borrowed; NULL for one gone again. */
    TimerHandleObject **l_fresh;
    Py_ssize_t l_fresh_count;
    Py_ssize_t l_fresh_capacity;
    unsigned long l_thread_id;  /* of the running thread; 0 when not running */
    unsigned l_overridden;      /* CL_OVERRIDES_ bits */
    unsigned l_class_overrides; /* those that are the class's */
    unsigned l_class_version;   /* of the class, when they were found */
    bool l_open;                /* the C parts are made and not yet closed */
    bool l_made;                /* __init__() was called */
    bool l_closed;
    bool l_stopping;
    /* A program has put something in the place of the selector, or looks at the
     * timers: polls go through Loop._ask() (cloop/_selector.py). */
    bool l_asks;
    int l_depth;                 /* turns in progress: above 1 when nested */
    unsigned long l_turn_thread; /* of the thread they are in */
    bool l_debug;
    bool l_signals_tried; /* cl_signals_arm() was called in this run */
    bool l_signals_armed; /* our pipe is the process's wakeup descriptor */

    /* threads that wait for a _ThreadSafeHandle's callback to return */
    cl_turnstile l_turnstile;
    int l_waiters;

    /* handles kept for reuse, linked by h_callback; each keeps its type */
    HandleObject *l_spare_handles;
    HandleObject *l_spare_timers;
    int l_spare_handle_count;
    int l_spare_timer_count;

    /* attributes that asyncio's Python code reads and writes */
    double l_slow_callback_duration; /* seconds */
    double l_clock_resolution;       /* seconds */
#define FIELD(name) PyObject *l_##name;
    CL_LOOP_OBJECTS(FIELD)
#undef FIELD
    bool l_origin_enabled;
    bool l_asyncgens_shutdown;
    bool l_executor_shutdown;

    /* counters behind metrics() */
    uint64_t l_turns;
    uint64_t l_polls;
    uint64_t l_callbacks;
};

/* For the type that is LoopCore (loop_type.c): its slots. __init__() takes the name of a
 * poller, or NULL. */
PyObject *cl_loop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int cl_loop_init(LoopObject *loop, const char *poller);
int cl_loop_traverse(LoopObject *loop, visitproc visit, void *arg);
int cl_loop_clear(LoopObject *loop);

/* tp_dealloc of LoopCore, by which its subclasses are known. */
void cl_loop_dealloc(PyObject *self);

/* LoopCore, given an object of it or a subclass: borrowed. */
static inline PyTypeObject *
cl_loop_core_type(const LoopObject *loop)
{
    PyTypeObject *type = Py_TYPE(loop);
    while (type->tp_dealloc != cl_loop_dealloc)
        type = type->tp_base;
    return type;
}

/* The loop as one of ours, or NULL; `loop` may be NULL. */
static inline LoopObject *
cl_loop_cast(PyObject *loop)
{
    if (loop == NULL)
        return NULL;
    /* Nearly always a cloop.Loop, whose base it is. */
    for (PyTypeObject *type = Py_TYPE(loop)->tp_base; type != NULL;
         type = type->tp_base) {
        if (type->tp_dealloc == cl_loop_dealloc)
            return (LoopObject *)loop;
    }
    return Py_TYPE(loop)->tp_dealloc == cl_loop_dealloc ? (LoopObject *)loop
                                                        : NULL;
}

/* Opens poller, ring and inbox; 0 or -1 with an exception. */
int cl_loop_open(LoopObject *loop, const char *poller_name);

/* Closes what cl_loop_open opened and drops all that is pending. Not during a
 * turn (l_depth), and only with l_closed set, so that the destructors it may
 * run cannot schedule anything. Safe to call twice. `keep_sigsock`
 * leaves the descriptors for signals open for ever: the process's signal handler
 * may write to them. */
void cl_loop_close(LoopObject *loop, bool keep_sigsock);

/* How many watches there are beside those of the loop's own. */
static inline int
cl_loop_watched(const LoopObject *loop)
{
    return loop->l_watches.wt_count - (loop->l_pipe_watch.w_fd >= 0) -
           (loop->l_sigsock_watch.w_fd >= 0) -
           (loop->l_ancestor_watch.w_fd >= 0);
}

/* The loop's time in seconds; honours an overridden time(). -1 on error. */
int cl_loop_time(LoopObject *loop, double *now);

/* To be called before the first turn of a run. */
void cl_loop_begin_run(LoopObject *loop);
/* Waits up to timeout_ns (-1: no limit) for events; their number in *count. 0 or
 * -1. Runs Python (signal handlers). */
int cl_loop_wait(LoopObject *loop, int64_t timeout_ns, cl_event *events,
                 int *count);

/* One turn. 0, or -1 when an exception must leave the loop. Runs Python. */
int cl_loop_turn(LoopObject *loop);

/* The next turn polls, whatever is ready: something was done to a descriptor, and
 * the other end may be ours as well (docs/decisions/0002). */
static inline void
cl_loop_poll_soon(LoopObject *loop)
{
    loop->l_skip_ticks = 0;
}

/* The next CL_POLLS_OWED turns poll, whatever is ready: the loop was told to watch
 * something, and the program may count the turns until it hears of it. */
static inline void
cl_loop_owe_polls(LoopObject *loop)
{
    loop->l_polls_owed = CL_POLLS_OWED;
    loop->l_skip_ticks = 0;
}

/* Calls l_afterwards until it is NULL. `status` is that of what was done before:
 * if it is -1, the exception that is set stays. Returns the status of both. */
int cl_loop_call_afterwards(LoopObject *loop, int status);

/* Whether a callback of the loop is in progress, in this thread: then l_afterwards
 * will be called. */
static inline bool
cl_loop_in_callback(const LoopObject *loop)
{
    return loop->l_depth > 0 &&
           loop->l_turn_thread == PyThread_get_thread_ident();
}

/* The loop whose callback is in progress in the thread, borrowed; or NULL. */
static inline LoopObject *
cl_loop_in_thread(const cl_state *st, unsigned long thread)
{
    LoopObject *loop = st->loops;
    while (loop != NULL &&
           (loop->l_turn_thread != thread || loop->l_depth == 0))
        loop = loop->l_next_open;
    return loop;
}

static inline int
cl_loop_afterwards(LoopObject *loop, int status)
{
    return loop->l_afterwards == NULL ? status
                                      : cl_loop_call_afterwards(loop, status);
}

/* Makes room for `count` nodes more: 0 or -1 with MemoryError. */
int cl_loop_reserve(LoopObject *loop, size_t count);

/* Takes over the node; 0 or -1 with MemoryError. */
int cl_loop_push(LoopObject *loop, cl_node node);

/* Push from any thread; wakes the loop if it sleeps. */
int cl_loop_push_threadsafe(LoopObject *loop, cl_node node);

/* loop.call_soon(callback, *args, context=context) as C code calls it: without
 * the checks of debug mode, and honouring an overridden call_soon(). `context`
 * may be NULL: the current one. 0 or -1. */
int cl_loop_call_soon(LoopObject *loop, PyObject *callback,
                      PyObject *const *args, Py_ssize_t nargs,
                      PyObject *context);

/* The same by calling the method of a loop, of whatever class it is. Runs Python. */
int cl_call_soon_method(cl_state *st, PyObject *loop, PyObject *callback,
                        PyObject *const *args, Py_ssize_t nargs,
                        PyObject *context);

/* Moves what other threads pushed into the ready ring; 0 or -1. */
int cl_loop_drain_inbox(LoopObject *loop);

/* See handle.h on garbage collection. */
void cl_loop_scan_new(LoopObject *loop);

/* Puts the timer into the heap, which takes a reference; 0 or -1. */
int cl_loop_schedule(LoopObject *loop, TimerHandleObject *timer);

/* Takes it out again, if it is in, and drops the heap's reference. */
void cl_loop_unschedule(LoopObject *loop, TimerHandleObject *timer);

/* Finds out anew what is overridden; the class is looked up only if it was modified.
 * 0 or -1. */
int cl_loop_refresh_overrides(LoopObject *loop);

static inline bool
cl_loop_overrides(const LoopObject *loop, unsigned bits)
{
    return (loop->l_overridden & bits) != 0;
}

/* Whether ready nodes may stand for what asyncio passes to call_soon(). */
static inline bool
cl_loop_is_plain(const LoopObject *loop)
{
    return loop->l_open && !loop->l_debug &&
           !cl_loop_overrides(loop, CL_OVERRIDES_CALL_SOON);
}

/* To be called before anything but a task's step may run Python code: no task is the
 * current one. (Within a step, in a turn within a turn, it stays as it is.) */
static inline void
cl_loop_rest(LoopObject *loop)
{
    if (loop->l_rest != NULL)
        loop->l_rest(loop);
}

/* The same before what may enter a task of asyncio's. */
static inline void
cl_loop_forget_task(LoopObject *loop)
{
    if (loop->l_forget != NULL)
        loop->l_forget(loop);
}

/* For garbage collection: the ready ring, timers, watchers and inbox. */
int cl_loop_traverse_pending(LoopObject *loop, visitproc visit, void *arg);

#endif
