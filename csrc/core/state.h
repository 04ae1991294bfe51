/* state.h - core's part of the module state.
 *
 * Each list below is expanded into fields and into a table of core's layer
 * (core/layer.h), which sets them up, visits and clears them. So a new type,
 * import or name takes one line. The other layers have their own lists, in
 * futures/state.h and so on. Nothing writable is at file scope, so every
 * interpreter has its own state. An object finds the state through its loop;
 * only constructors look it up from the type. */
#ifndef CL_CORE_STATE_H
#define CL_CORE_STATE_H

#include "base/compat.h"

#include "base/clock.h"
#include "base/ring.h"
#include "core/follow.h"
#include "core/global.h"
#include "core/guard.h"
#include "core/wakeup.h"

#include <sys/types.h>

/* Ancestor processes that are remembered; see core/fork.h. */
#define CL_ANCESTORS_MAX 8

/* clang-format off */

/* type, its setup function, its name in the module or NULL */
#define CL_CORE_TYPES(X) \
    X(NativeMethod, cl_native_method_setup, NULL) \
    X(Handle, cl_handle_setup, "Handle") \
    X(TimerHandle, cl_timer_handle_setup, "TimerHandle")

/* field, module, attribute: fetched once, at import. cloop/_abi.py has
 * replacements for names that asyncio lacks. */
#define CL_CORE_IMPORTS(X) \
    X(asyncio_Handle, "asyncio.events", "Handle") \
    X(asyncio_TimerHandle, "asyncio.events", "TimerHandle") \
    X(events_module, "asyncio", "events") \
    X(base_events_module, "asyncio", "base_events") \
    X(format_callback_source, "asyncio.format_helpers", "_format_callback_source") \
    X(extract_stack, "asyncio.format_helpers", "extract_stack") \
    X(format_handle, "asyncio.base_events", "_format_handle") \
    X(set_wakeup_fd, "signal", "set_wakeup_fd") \
    X(getswitchinterval, "sys", "getswitchinterval") \
    X(WeakSet, "weakref", "WeakSet") \
    X(WeakValueDictionary, "weakref", "WeakValueDictionary")

/* The same; NULL if missing. */
#define CL_CORE_OPTIONAL(X) \
    X(asyncio_ThreadSafeHandle, "asyncio.events", "_ThreadSafeHandle") /* 3.14 */

/* interned names that core uses: str_NAME */
#define CL_CORE_NAMES(X) \
    X(__eq__) X(__ge__) X(__gt__) X(__kwdefaults__) X(__le__) X(__lt__) \
    X(__ne__) X(__repr__) X(_after_fork) X(_ask) X(_cancelled) \
    X(_check_callback) X(_check_thread) X(_handle_signal) X(_on_ready) \
    X(_process_events) X(_repr_info) X(_run) X(_run_once) \
    X(_set_running_loop) X(_tell_slow) X(call_at) X(call_exception_handler) X(call_later) \
    X(call_soon) X(context) X(create_future) X(create_task) X(data) X(debug) \
    X(exception) X(get_debug) X(handle) X(is_closing) X(logger) X(message) \
    X(protocol) X(run) X(run_forever) X(source_traceback) X(time) \
    X(transport) X(warning)

/* tuples of keyword names: kwnames_NAME */
#define CL_CORE_KEYWORDS(X) \
    X(context, "context") \
    X(debug, "debug") \
    X(exc_info, "exc_info")

/* live objects, for leak checks: live_NAME, and the name shown */
#define CL_CORE_COUNTS(X) \
    X(loops, "Loop") \
    X(handles, "Handle") \
    X(timers, "TimerHandle")

/* for all layers: field, value */
#define CL_CORE_CONSTANTS(X) \
    X(empty_bytes, PyBytes_FromStringAndSize(NULL, 0)) \
    X(empty_tuple, PyTuple_New(0)) \
    X(one_byte, PyBytes_FromStringAndSize("", 1)) \
    X(minus_one, PyLong_FromLong(-1)) \
    X(one, PyLong_FromLong(1))

/* clang-format on */

/* The same lists as struct fields. */
#define CL_TYPE_FIELD(type, make, shown) PyTypeObject *type##Type;
#define CL_IMPORT_FIELD(field, module, attribute) PyObject *field;
#define CL_NAME_FIELD(name) PyObject *str_##name;
#define CL_KEYWORDS_FIELD(name, text) PyObject *kwnames_##name;
#define CL_KEPT_FIELD(field) PyObject *field;
#define CL_CONSTANT_FIELD(field, value) PyObject *field;
#define CL_COUNT_FIELD(field, name) cl_live live_##field;

/* Kinds of ready nodes (core/node.h). Each layer's follow those of the one
 * below. */
enum {
    CL_NODE_HANDLE,
    CL_NODE_FOREIGN,
    CL_NODE_WATCH,
    CL_NODE_CORE_KINDS,
};

typedef struct cl_node_ops cl_node_ops;
typedef struct cl_layer cl_layer;

struct cl_state {
    PyObject *module;              /* borrowed: it owns this state */
    const cl_layer *const *layers; /* from core upwards; ends with NULL */
    CL_CORE_TYPES(CL_TYPE_FIELD)
    CL_CORE_IMPORTS(CL_IMPORT_FIELD)
    CL_CORE_OPTIONAL(CL_IMPORT_FIELD)
    CL_CORE_NAMES(CL_NAME_FIELD)
    CL_CORE_KEYWORDS(CL_KEYWORDS_FIELD)
    CL_CORE_CONSTANTS(CL_CONSTANT_FIELD)
    const cl_node_ops *node_ops[CL_NODE_KIND_MASK + 1];
    /* Methods of objects of exactly this type are not steps of a task.
     * Borrowed; NULL if futures/ has no such type. */
    PyTypeObject *stepless_type;
    cl_original handle_run;           /* asyncio.Handle._run() */
    cl_follow follow;                 /* asyncio's loop classes */
    cl_global clock;                  /* time.monotonic() */
    bool callback_source_takes_debug; /* 3.13 and some 3.12 */
    bool context_has_vars; /* cl_context_has_vars(): handles share contexts */
    cl_rate rate;          /* cl_state_rate() */
    uint64_t loop_looks;   /* how often a loop class was looked up */
    unsigned long main_thread; /* threading.main_thread().ident */
    unsigned forks;      /* forks between the first process and this one */
    CL_MUTEX(loops_lock) /* guards loops, rate, watchdog */
    struct LoopObject *loops; /* borrowed, linked list of open loops */
    pid_t pid;                /* of this process */
    pid_t ancestors[CL_ANCESTORS_MAX]; /* ancestors, the latest first */
    int ancestor_count;
    int armed_fd; /* what cloop passed to signal.set_wakeup_fd, or -1 */
    cl_wakeup wakeup;
    struct cl_watchdog *watchdog;       /* watchdog.h; NULL unless asked for */
    struct cl_watchdog *late_watchdogs; /* cl_watchdog_at_exit() */
    /* See core/global.h. */
    cl_global *globals;        /* borrowed, linked list of watched ones */
    PyObject *watcher_capsule; /* owned; NULL if there is no watcher */
    int dict_watcher;
    CL_CORE_COUNTS(CL_COUNT_FIELD)
};

/* Returns the speed of the tick counter, learnt since the module was imported:
 * a new loop need not begin with a guess. */
cl_rate cl_state_rate(cl_state *st);

#endif
