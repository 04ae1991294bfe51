/* state.h - the futures layer's part of the module state and of loops; see
 * core/layer.h. */
#ifndef CL_FUTURES_STATE_H
#define CL_FUTURES_STATE_H

#include "base/compat.h"

#include "core/global.h"
#include "core/guard.h"
#include "core/loop.h"
#include "core/spares.h"
#include "core/state.h"

/* clang-format off */

/* As in core/state.h. */
#define CL_FUTURES_TYPES(X) \
    X(Future, cl_future_setup, "Future") \
    X(Task, cl_task_setup, "Task") \
    X(FutureIter, cl_future_iter_setup, NULL)

#define CL_FUTURES_IMPORTS(X) \
    X(tasks_module, "asyncio", "tasks") \
    X(futures_module, "asyncio", "futures") \
    X(asyncio_Future, "asyncio", "Future") \
    X(asyncio_Task, "asyncio", "Task") \
    X(CancelledError, "asyncio", "CancelledError") \
    X(InvalidStateError, "asyncio", "InvalidStateError") \
    X(iscoroutine, "asyncio.coroutines", "iscoroutine") \
    X(get_running_loop, "asyncio.events", "_get_running_loop") \
    X(set_running_loop, "asyncio.events", "_set_running_loop") \
    X(enter_task, "asyncio.tasks", "_enter_task") \
    X(leave_task, "asyncio.tasks", "_leave_task") \
    X(created_frame, "cloop._frames", "created") \
    X(suspended_frame, "cloop._frames", "suspended") \
    CL_IF_EAGER_TASKS( \
        X(swap_current_task, "asyncio.tasks", "_swap_current_task") \
        X(register_eager_task, "asyncio.tasks", "_register_eager_task") \
        X(unregister_eager_task, "asyncio.tasks", "_unregister_eager_task")) \
    CL_IF_AWAITED_BY( \
        X(future_add_to_awaited_by, "asyncio.futures", "future_add_to_awaited_by") \
        X(future_discard_from_awaited_by, "asyncio.futures", "future_discard_from_awaited_by"))

#define CL_FUTURES_NAMES(X) \
    X(Future) X(Task) X(__asyncio_running_event_loop__) \
    X(_asyncio_future_blocking) \
    X(_callbacks) X(_loop) X(_make_cancelled_error) X(add_done_callback) \
    X(cancel) X(close) X(context) X(create_future) X(done) X(get_debug) \
    X(get_loop) X(is_running) X(msg) X(remove_done_callback) X(result) \
    X(set_exception) X(set_result) X(throw)

#define CL_FUTURES_KEYWORDS(X) \
    X(loop, "loop")

/* objects that this layer sets itself */
#define CL_FUTURES_OBJECTS(X) \
    X(stop_true)           /* both: stop.c */ \
    X(stop_item) \
    X(current_tasks)       /* both: registry.h, up to 3.13 */ \
    X(all_tasks) \
    X(all_tasks_iterating) \
    X(all_tasks_removals)

#define CL_FUTURES_COUNTS(X) \
    X(futures, "Future") \
    X(tasks, "Task")

/* clang-format on */

enum {
    CL_NODE_TASK_STEP = CL_NODE_CORE_KINDS,
    CL_NODE_TASK_WAKEUP,
    /* A future that is done, for the callback in f_context0: of the sync
     * layer, which has the table. */
    CL_NODE_CHILD_DONE,
    CL_NODE_FUTURES_KINDS,
};

typedef struct cl_futures {
    cl_state lower;
    CL_FUTURES_TYPES(CL_TYPE_FIELD)
    CL_FUTURES_IMPORTS(CL_IMPORT_FIELD)
    CL_FUTURES_NAMES(CL_NAME_FIELD)
    CL_FUTURES_KEYWORDS(CL_KEYWORDS_FIELD)
    CL_FUTURES_OBJECTS(CL_KEPT_FIELD)
    /* Whether asyncio's classes have the expected layout, and whether ours are
     * used (decided by cloop/_futures.py). */
    bool layouts_fit;
    bool own_tasks;
    bool stop_is_full; /* stop_item has a result; see stop.h */
    /* asyncio.futures.Future and asyncio.tasks.Task, if ours are used. */
    cl_global future_class;
    cl_global task_class;
    uint64_t task_count;      /* for default names */
    struct cl_remote *remote; /* remote.h */
    Py_ssize_t lost_tasks;    /* upper bound of dead references in all_tasks */
    size_t task_list_offset;  /* in the thread state; from 3.14 on */
    size_t running_loop_offset;
    size_t running_task_offset;
    /* Up to 3.11: what has the running loop of a thread, borrowed from the
     * thread's dict while that has this version. */
    void *running_loop_holder;
    uint64_t running_loop_version;
    /* Of asyncio's _GatheringFuture and what it inherits that waiting for it
     * uses: the sync layer's, which knows no class until cloop.accelerate(). */
    cl_guard *gathering;
    /* Callbacks of this type become CL_NODE_CHILD_DONE. Borrowed; NULL until
     * the sync layer is set up. */
    PyTypeObject *child_callback;
    CL_FUTURES_COUNTS(CL_COUNT_FIELD)
} cl_futures;

static inline cl_futures *
cl_futures_of(const cl_state *st)
{
    return (cl_futures *)st;
}

/* Whether loops create cloop.Future and cloop.Task: they are in use, and the
 * program has not replaced asyncio's class, of which they are subclasses. */
static inline bool
cl_futures_are_ours(const cl_state *st)
{
    return cl_global_holds(&cl_futures_of(st)->future_class);
}

static inline bool
cl_tasks_are_ours(const cl_state *st)
{
    return cl_global_holds(&cl_futures_of(st)->task_class);
}

/* Puts them into use. 0/-1 */
int cl_futures_use_own(cl_state *st);

typedef struct cl_loop_futures {
    LoopObject lower;
    /* The loop's entry in asyncio's dict of current tasks: a task, None, or
     * NULL for no entry; borrowed from the dict. See registry.h. */
    PyObject *task_entry;
    uint64_t
        tasks_version; /* of current_tasks, when a step of our task began */
    bool in_task;      /* a step of our task is running */
    /* for metrics(), of cloop's tasks */
    uint64_t steps;
    uint64_t tasks_made;
    uint64_t tasks_done; /* with those of the next two */
    uint64_t tasks_failed;
    uint64_t tasks_cancelled;
    uint64_t tasks_lost;    /* freed before they were done */
    struct cl_tally *tally; /* owned, or NULL; see tally.h */
    cl_spares spare_futures;
    cl_spares spare_tasks;
    cl_spares spare_iters;
} cl_loop_futures;

static inline cl_loop_futures *
cl_futures_on(const LoopObject *loop)
{
    return (cl_loop_futures *)loop;
}

extern const cl_layer cl_futures_layer;

#endif
