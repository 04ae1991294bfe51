/* handle.h - Handle and TimerHandle: a callback with its arguments and context.
 *
 * They behave as asyncio.Handle and asyncio.TimerHandle and say so through
 * __class__; the Python methods of those classes that are off the hot path
 * (repr) run on them unchanged.
 *
 * Ownership: a handle owns all it points to. The ready ring, the timer heap
 * and the watch table each own one reference to the handles in them.
 *
 * Garbage collection: a handle made while the loop runs starts outside the
 * collector's lists, since most live for one turn and a tracked one costs a
 * quarter of call_soon. This is sound because
 *   - cl_loop_scan_new(), called after each callback, starts tracking every
 *     handle made meanwhile that somebody else holds too, and
 *   - the loop's traverse looks through the untracked ones in its ring and
 *     heap, whose only owner it is.
 * Handles made while the loop does not run, and those of add_reader and
 * add_writer, are tracked from the start.
 *
 * For the same reason the copy of the current context that a handle makes for
 * itself stays out of the lists until anybody else can see it: until then it is
 * an inner part of the handle, which visits through it. */
#ifndef CL_CORE_HANDLE_H
#define CL_CORE_HANDLE_H

#include "base/compat.h"
#include "base/heap.h"
#include "core/state.h"

/* Positional arguments kept in the handle itself; a tuple holds more. Three
 * cover what asyncio, aiohttp and uvicorn pass; each costs 8 bytes. */
#define CL_HANDLE_INLINE 3

enum {
    CL_HANDLE_CANCELLED = 1,
    /* The fields must stay until the callback returns. */
    CL_HANDLE_RUNNING = 2,
    /* They go then, and already look as if they had. */
    CL_HANDLE_EMPTIED = 4,
    CL_HANDLE_TIMER = 8,
    /* h_context is untracked: nobody else knows it. */
    CL_HANDLE_OWN_CONTEXT = 16,
    /* By the garbage collector; asking that is a call. */
    CL_HANDLE_TRACKED = 32,
    /* cancel() in another thread waits for the callback. */
    CL_HANDLE_THREADSAFE = 64,
};

typedef struct LoopObject LoopObject;

typedef struct HandleObject {
    PyObject_HEAD
    PyObject *h_weakrefs;
    LoopObject *h_loop;    /* owned */
    PyObject *h_callback;  /* owned; NULL once cancelled */
    PyObject *h_context;   /* owned; NULL only while half-made */
    PyObject *h_args;      /* owned tuple, or NULL: then in h_argv */
    PyObject *h_traceback; /* owned; made in debug mode, else NULL */
    PyObject *h_repr; /* owned; kept by cancel() in debug mode, else NULL */
    uint8_t h_flags;
    uint8_t h_nargs; /* how many in h_argv + 1 */
    /* Owned; [0] lets vectorcall put self before the arguments. */
    PyObject *h_argv[1 + CL_HANDLE_INLINE];
} HandleObject;

typedef struct {
    HandleObject t_handle;
    double t_when;           /* seconds of the loop's clock */
    PyObject *t_when_object; /* owned; as passed, NULL if just the float */
    cl_heap_node t_node;     /* in the loop's heap while scheduled */
    Py_ssize_t t_fresh;      /* place in the loop's l_fresh, or -1 */
} TimerHandleObject;

static inline TimerHandleObject *
cl_timer_from_node(cl_heap_node *node)
{
    cl_assert(node != NULL);
    return (TimerHandleObject *)((char *)node -
                                 offsetof(TimerHandleObject, t_node));
}

/* New reference, untracked. `context` may be NULL or None: then a copy of the
 * current one. */
HandleObject *cl_handle_new(LoopObject *loop, PyObject *callback,
                            PyObject *const *args, Py_ssize_t nargs,
                            PyObject *context);

/* New reference, untracked, not yet in the heap. */
TimerHandleObject *cl_timer_handle_new(LoopObject *loop, double when,
                                       PyObject *when_object,
                                       PyObject *callback,
                                       PyObject *const *args, Py_ssize_t nargs,
                                       PyObject *context);

/* Calls the callback in its context. Runs Python. What it raises goes to the
 * loop's exception handler; -1 only for what must leave the loop. The caller
 * holds a reference. A cancelled handle does nothing. */
int cl_handle_run(HandleObject *handle);

/* Takes the exception that is set to the loop's exception handler, as one of this
 * handle's callback: 0 or -1. Runs Python. */
int cl_handle_report(HandleObject *handle);

/* From call_soon_threadsafe(): where this version's asyncio has a
 * _ThreadSafeHandle, the handle becomes one. */
void cl_handle_make_threadsafe(HandleObject *handle);

/* As Handle.cancel(), without removing a timer from the heap. */
int cl_handle_cancel(HandleObject *handle);

static inline void
cl_handle_track(HandleObject *handle)
{
    cl_assert_of(handle, Py_REFCNT(handle) > 0);
    if (!(handle->h_flags & CL_HANDLE_TRACKED)) {
        handle->h_flags |= CL_HANDLE_TRACKED;
        PyObject_GC_Track(handle);
    }
}

/* Whether the callback can't be a step of a task of asyncio's: it is a method of a
 * cloop.Future, such as set_result. */
static inline bool
cl_handle_is_no_step(const cl_state *st, const HandleObject *handle)
{
    PyObject *callback = handle->h_callback;
    if (callback == NULL || !PyCFunction_CheckExact(callback))
        return false;
    PyObject *self = PyCFunction_GET_SELF(callback);
    return self != NULL && Py_TYPE(self) == st->stepless_type;
}

/* Drops the reference of a handle's node: nobody visits it for its owner once it has
 * left the ring. Runs Python (destructors). */
static inline void
cl_handle_drop(HandleObject *handle)
{
    cl_assert_of(handle, Py_REFCNT(handle) > 0);
    if (Py_REFCNT(handle) > 1)
        cl_handle_track(handle);
    Py_DECREF(handle);
}

/* Visits a handle of the ready ring or the heap: what it owns, if that is its only
 * owner and it is outside the collector's lists. */
int cl_handle_visit(HandleObject *handle, visitproc visit, void *arg);

/* Nodes that are a HandleObject or TimerHandleObject, and those that are an
 * asyncio.Handle made by Python code, whose _run() is called. */
extern const cl_node_ops cl_handle_node, cl_foreign_node;

#ifdef CL_DEBUG
/* What is true of a handle that is queued; and of those that the loop keeps. */
void cl_handle_check(const LoopObject *loop, HandleObject *handle);
void cl_handle_check_spares(const LoopObject *loop);
#endif

/* Frees the handles that the loop keeps for reuse. */
void cl_handle_free_spares(LoopObject *loop);

PyTypeObject *cl_handle_setup(PyObject *module, cl_state *st);
PyTypeObject *cl_timer_handle_setup(PyObject *module, cl_state *st);

#endif
