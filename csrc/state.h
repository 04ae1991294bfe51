/* state.h - the module state of LoopCore's methods; see core/layer.h. */
#ifndef CL_TOP_STATE_H
#define CL_TOP_STATE_H

#include "base/compat.h"

#include "core/guard.h"
#include "core/loop.h"
#include "tls/state.h"

/* clang-format off */

/* As in core/state.h. */
#define CL_TOP_TYPES(X) \
    X(Loop, cl_loop_setup, "LoopCore") \
    X(Metrics, cl_metrics_setup, "Metrics") \
    X(Histogram, cl_histogram_setup, "Histogram")

#define CL_TOP_IMPORTS(X) \
    X(run_until_complete_cb, "asyncio.base_events", "_run_until_complete_cb") \
    X(ensure_future, "asyncio.tasks", "ensure_future") \
    X(isfuture, "asyncio.futures", "isfuture") \
    CL_IF_EAGER_TASKS( \
        X(eager_task_factory, "asyncio", "eager_task_factory"))

#define CL_TOP_NAMES(X) \
    X(_add_callback) X(_asyncgen_finalizer_hook) \
    X(_asyncgen_firstiter_hook) X(_cancelled) X(_get_running_loop) \
    X(_log_destroy_pending) X(_remove_reader) X(_remove_writer) X(_run_once) \
    X(_set_coroutine_origin_tracking) X(_set_running_loop) \
    X(add_done_callback) X(call_at) X(cancelled) X(context) X(create_task) \
    X(done) X(eager_start) X(exception) X(fileno) X(name) \
    X(remove_done_callback) X(result) X(run_forever) X(time)

#define CL_TOP_KEYWORDS(X) \
    X(loop, "loop")

/* clang-format on */

typedef struct cl_top {
    cl_tls lower;
    CL_TOP_TYPES(CL_TYPE_FIELD)
    CL_TOP_IMPORTS(CL_IMPORT_FIELD)
    CL_TOP_NAMES(CL_NAME_FIELD)
    CL_TOP_KEYWORDS(CL_KEYWORDS_FIELD)
    /* asyncio's loop.create_task(), which may get other code at any time. */
    cl_original create_task;
} cl_top;

static inline cl_top *
cl_top_of(const cl_state *st)
{
    return (cl_top *)st;
}

/* for metrics() */
typedef struct cl_loop_top {
    cl_loop_tls lower;
    int64_t since_ns;         /* when the loop was created */
    struct cl_reading *reset; /* owned; what metrics_reset() read, or NULL */
    uint64_t jobs_begun;      /* of run_in_executor() */
    uint64_t jobs_ended;
    uint64_t children_begun;
    uint64_t children_ended;
} cl_loop_top;

static inline cl_loop_top *
cl_top_on(const LoopObject *loop)
{
    return (cl_loop_top *)loop;
}

extern const cl_layer cl_top_layer;

#endif
