/* state.h - the sync layer's part of the module state; see core/layer.h and
 * sync.h. */
#ifndef CL_SYNC_STATE_H
#define CL_SYNC_STATE_H

#include "base/compat.h"

#include "core/global.h"
#include "core/guard.h"
#include "core/spares.h"
#include "streams/state.h"
#include "sync/shape.h"

/* clang-format off */

#if CL_FUNCTIONS_TAKE_VECTORCALL
#define CL_IF_REPLACES_FUNCTIONS(row)
#else
#define CL_IF_REPLACES_FUNCTIONS(row) row
#endif

/* As in core/state.h. */
#define CL_SYNC_TYPES(X) \
    X(SyncEntry, cl_entry_setup, NULL) \
    CL_IF_REPLACES_FUNCTIONS(X(SyncBound, cl_bound_setup, NULL)) \
    X(SyncOp, cl_op_setup, NULL) \
    X(Gather, cl_gather_setup, NULL) \
    X(SyncCallback, cl_callback_setup, NULL) \
    X(AsCompleted, cl_as_completed_setup, NULL)

#define CL_SYNC_IMPORTS(X) \
    X(QueueEmpty, "asyncio.queues", "QueueEmpty") \
    X(QueueFull, "asyncio.queues", "QueueFull") \
    X(partial, "functools", "partial") \
    X(TimeoutError, "asyncio", "TimeoutError") \
    X(ConcurrentFuture, "concurrent.futures", "Future") \
    X(heappush, "heapq", "heappush") \
    X(heappop, "heapq", "heappop") \
    X(reprlib_repr, "reprlib", "repr")

#define CL_SYNC_NAMES(X) \
    X(FIRST_COMPLETED) X(FIRST_EXCEPTION) X(ALL_COMPLETED) X(__aexit__) \
    X(_log_on_exception) X(cr_await) X(ensure_future) X(remove_done_callback) \
    X(return_when) X(timeout) X(_chain_future) X(_convert_future_exc) \
    X(call_soon_threadsafe) X(run_in_executor) \
    X(set_running_or_notify_cancel) \
    X(_GatheringFuture) X(_children) X(_cancel_message) X(_cancel_requested) \
    X(_cancelling) X(_finished) X(_get_loop) \
    X(_getters) X(_locked) X(_log_destroy_pending) X(_loop) \
    X(_make_cancelled_error) X(_on_timeout) X(_putters) \
    X(_set_result_unless_cancelled) X(_timeout_handler) X(_unfinished_tasks) \
    X(_value) X(_waiters) X(_wake_up_first) X(_wake_up_next) X(_wakeup_next) \
    X(add_done_callback) X(append) X(call_later) X(cancel) X(cancelled) \
    X(clear) X(done) X(empty) X(exception) X(full) X(popleft) X(remove) \
    X(result) X(return_exceptions) X(set) X(set_exception) X(set_result) \
    X(_block) X(_cond) X(_count) X(_exit) X(_notify) X(_parties) X(_release) \
    X(_state) X(_wait) X(_wakeup_scheduled) \
    X(acquire) X(notify_all) X(release) X(wait) X(wait_for)

#define CL_SYNC_KEYWORDS(X) \
    X(loop, "loop") \
    X(timeout, "timeout") \
    X(timeout_return_when, "timeout,return_when")

#define CL_SYNC_COUNTS(X) \
    X(sync_ops, "SyncOp")

/* Bodies: id, C function. */
#define CL_SYNC_BODIES(X) \
    X(SLEEP, cl_sync_sleep) \
    X(AENTER, cl_sync_aenter) \
    X(AEXIT, cl_sync_aexit) \
    X(EVENT_WAIT, cl_sync_event_wait) \
    X(EVENT_SET, cl_sync_event_set) \
    X(EVENT_CLEAR, cl_sync_event_clear) \
    X(LOCK_ACQUIRE, cl_sync_lock_acquire) \
    X(LOCK_RELEASE, cl_sync_lock_release) \
    X(CONDITION_NOTIFY, cl_sync_condition_notify) \
    X(CONDITION_NOTIFY_ALL, cl_sync_condition_notify_all) \
    X(CONDITION_WAIT, cl_sync_condition_wait) \
    X(CONDITION_WAIT_FOR, cl_sync_condition_wait_for) \
    X(BARRIER_AENTER, cl_sync_barrier_aenter) \
    X(BARRIER_AEXIT, cl_sync_barrier_aexit) \
    X(BARRIER_WAIT, cl_sync_barrier_wait) \
    X(BARRIER_BLOCK, cl_sync_barrier_block) \
    X(BARRIER_WAITS, cl_sync_barrier_waits) \
    X(BARRIER_RESET, cl_sync_barrier_reset) \
    X(BARRIER_ABORT, cl_sync_barrier_abort) \
    X(SEMAPHORE_ACQUIRE, cl_sync_semaphore_acquire) \
    X(SEMAPHORE_RELEASE, cl_sync_semaphore_release) \
    X(BOUNDED_RELEASE, cl_sync_bounded_release) \
    X(QUEUE_GET, cl_sync_queue_get) \
    X(QUEUE_PUT, cl_sync_queue_put) \
    X(QUEUE_GET_NOWAIT, cl_sync_queue_get_nowait) \
    X(QUEUE_PUT_NOWAIT, cl_sync_queue_put_nowait) \
    X(QUEUE_TASK_DONE, cl_sync_queue_task_done) \
    X(QUEUE_JOIN, cl_sync_queue_join) \
    X(OPEN_CONNECTION, cl_sync_open_connection) \
    X(OPEN_UNIX_CONNECTION, cl_sync_open_unix_connection) \
    X(TIMEOUT, cl_sync_timeout) \
    X(TIMEOUT_AENTER, cl_sync_timeout_aenter) \
    X(TIMEOUT_AEXIT, cl_sync_timeout_aexit) \
    X(GATHER, cl_sync_gather) \
    X(RELEASE_WAITER, cl_sync_release_waiter) \
    X(WAIT, cl_sync_wait) \
    X(WAIT_FOR, cl_sync_wait_for) \
    X(SHIELD, cl_sync_shield) \
    X(AS_COMPLETED, cl_sync_as_completed) \
    X(TIMEOUT_AT, cl_sync_timeout_at) \
    X(ENSURE_FUTURE, cl_sync_ensure_future) \
    X(TO_THREAD, cl_sync_to_thread) \
    X(RUN_THREADSAFE, cl_sync_run_threadsafe)

/* asyncio's classes that bodies handle. */
#define CL_SYNC_CLASSES(X) \
    X(EVENT) \
    X(LOCK) \
    X(CONDITION) \
    X(BARRIER) \
    X(SEMAPHORE) \
    X(BOUNDED) \
    X(QUEUE) \
    X(LIFO_QUEUE) \
    X(PRIORITY_QUEUE) \
    X(TIMEOUT) \
    X(GATHERING)

/* Groups of globals which a program may replace: GET_LOOP finds the running
 * loop, the others are used by a function. */
#define CL_SYNC_PINS(X) \
    X(GET_LOOP) \
    X(SLEEP) \
    X(TIMEOUT) \
    X(BARRIER) \
    X(GATHER) \
    X(WAIT) \
    X(WAIT_FOR) \
    X(SHIELD) \
    X(AS_COMPLETED) \
    X(ENSURE_FUTURE) \
    X(TO_THREAD) \
    X(RUN_THREADSAFE)

/* Functions whose texts differ in a way that the bodies must know. */
#define CL_SYNC_VARIANTS(X) \
    X(WAIT) \
    X(WAIT_FOR) \
    X(SHIELD) \
    X(AS_COMPLETED) \
    X(CHAIN)

/* Closures of asyncio's whose source is shown: see callback.h. */
#define CL_SYNC_CLOSURES(X) \
    X(GATHER_END) \
    X(WAIT) \
    X(SHIELD_INNER) \
    X(SHIELD_OUTER) \
    X(SHIELD_CLEAR) \
    X(AS_COMPLETED) \
    X(AS_COMPLETED_OWNER)     /* whose _wait_for_one() is shown */ \
    X(AS_COMPLETED_GENERATOR) /* what makes the generator */ \
    X(CHECK_CANCEL) \
    X(SET_STATE) \
    X(RUN_THREADSAFE)

/* Methods of deques. */
#define CL_SYNC_DEQUE(X) \
    X(append, METH_O) \
    X(popleft, METH_NOARGS) \
    X(remove, METH_O)

/* clang-format on */

enum {
#define ID(id, function) CL_BODY_##id,
    CL_SYNC_BODIES(ID)
#undef ID
        CL_BODY_COUNT
};
enum {
#define ID(id) CL_CLASS_##id,
    CL_SYNC_CLASSES(ID)
#undef ID
        CL_CLASS_COUNT
};
enum {
#define ID(id) CL_PINS_##id,
    CL_SYNC_PINS(ID)
#undef ID
        CL_PINS_COUNT
};

enum {
#define ID(id) CL_VARIANT_##id,
    CL_SYNC_VARIANTS(ID)
#undef ID
        CL_VARIANT_COUNT
};
enum {
#define ID(id) CL_CLOSURE_##id,
    CL_SYNC_CLOSURES(ID)
#undef ID
        CL_CLOSURE_COUNT
};

/* The states in asyncio.timeouts._State of a timeout that does not expire. */
enum {
    CL_TIMEOUT_CREATED,
    CL_TIMEOUT_ENTERED,
    CL_TIMEOUT_EXITED,
    CL_TIMEOUT_STATES
};

/* The states in asyncio.locks._BarrierState. */
enum {
    CL_BARRIER_FILLING,
    CL_BARRIER_DRAINING,
    CL_BARRIER_RESETTING,
    CL_BARRIER_BROKEN,
    CL_BARRIER_STATES
};

/* Takes the arguments of asyncio's function, `self` first. */
typedef PyObject *(*cl_body_function)(cl_state *st, PyObject *const *args,
                                      Py_ssize_t nargs, PyObject *kwnames);

#define DECLARE(id, function) \
    PyObject *function(cl_state *st, PyObject *const *args, Py_ssize_t nargs, \
                       PyObject *kwnames);
CL_SYNC_BODIES(DECLARE)
#undef DECLARE

typedef struct {
    cl_guard sc_guard; /* with the class, once known */
    cl_shape sc_shape;
    int sc_variant; /* which version of its text */
} cl_sync_class;

#define CL_PINS_MAX 8

typedef struct {
    cl_global ps_pins[CL_PINS_MAX];
    int ps_count;
    /* Before 3.12: the dicts of all of them, borrowed, and their versions when
     * all had their values; none if that is unknown. */
    int ps_dicts;
    PyObject *ps_dict[CL_PINS_MAX];
    uint64_t ps_version[CL_PINS_MAX];
} cl_pins;

typedef struct cl_sync {
    cl_streams lower;
    CL_SYNC_TYPES(CL_TYPE_FIELD)
    CL_SYNC_IMPORTS(CL_IMPORT_FIELD)
    CL_SYNC_NAMES(CL_NAME_FIELD)
    CL_SYNC_KEYWORDS(CL_KEYWORDS_FIELD)
    bool sy_on;
    vectorcallfunc sy_plain;               /* that of all Python functions */
    PyObject *sy_functions[CL_BODY_COUNT]; /* owned; asyncio's */
    PyObject *sy_entries[CL_BODY_COUNT];   /* owned; see entry.h */
    cl_spares sy_spare_bound;              /* of SyncBound */
    cl_sync_class sy_classes[CL_CLASS_COUNT];
    cl_pins sy_pins[CL_PINS_COUNT];
    PyTypeObject *sy_deque; /* owned */
#define FIELD(name, flags) PyCFunction sy_deque_##name;
    CL_SYNC_DEQUE(FIELD)
#undef FIELD
    PyObject *sy_states[CL_TIMEOUT_STATES];         /* owned */
    PyObject *sy_barrier_states[CL_BARRIER_STATES]; /* owned */
    int sy_variants[CL_VARIANT_COUNT];
    PyObject *sy_closures[CL_CLOSURE_COUNT]; /* owned, or NULL */
    PyObject *sy_asyncio;                    /* owned; the package */
    int sy_gather_variant;
    PyObject *sy_ensure_future;  /* owned; used by gather() */
    PyObject *sy_gather_closure; /* owned; like that of its callbacks */
    uint64_t sy_made;            /* number of coroutines so far */
    PyObject *sy_fire;           /* owned; called by sleep()'s timers */
    CL_SYNC_COUNTS(CL_COUNT_FIELD)
} cl_sync;

static inline cl_sync *
cl_sync_of(const cl_state *st)
{
    return (cl_sync *)st;
}

typedef struct cl_loop_sync {
    cl_loop_streams lower;
    cl_spares spare_ops;
} cl_loop_sync;

static inline cl_loop_sync *
cl_sync_on(const LoopObject *loop)
{
    return (cl_loop_sync *)loop;
}

extern const cl_layer cl_sync_layer;

#endif
