/* handle.h - Handle and TimerHandle: a callback with its arguments and
 * context.
 *
 * They behave like asyncio.Handle and asyncio.TimerHandle, and __class__ says
 * so. Methods of those that are not hot (repr) run on them unchanged.
 *
 * Ownership: a handle owns all it points to. The ready ring, the timer heap
 * and the watch table each own a reference to their handles.
 *
 * Garbage collection: a handle made while the loop runs starts untracked,
 * since most live for one turn, and tracking costs a quarter of call_soon.
 * This is sound because
 *
 *   - cl_loop_scan_new(), called after each callback, tracks every new handle that
 *     somebody else holds too, and
 *   - the loop's traverse visits through untracked handles in its ring and heap,
 *     whose only owner it is.
 *
 * Handles made while the loop does not run, and those of add_reader and
 * add_writer, are tracked from the start.
 *
 * Contexts: each callback runs in a copy of the context in which it was
 * scheduled. Handles that were scheduled in the same one, and that nobody has
 * asked for theirs, share a copy; the last of them runs in it, the others in a
 * copy of it that is made then. So what waits for long, or in a crowd, takes no
 * memory for a context.
 *
 * Without a GIL any thread may have a handle, and tracking is one bit: handles
 * are tracked from birth, and do not share.
 *
 * Threads: any may cancel a handle, and read it. h_flags changes under the
 * handle's lock (CL_LOCKED). Whoever sets CL_HANDLE_EMPTIED releases what the
 * callback needs, unless CL_HANDLE_RUNNING is set; then it is who runs it. */
#ifndef CL_CORE_HANDLE_H
#define CL_CORE_HANDLE_H

#include "base/compat.h"
#include "base/heap.h"
#include "core/state.h"

/* Arguments stored in the handle itself; more go into a tuple. Three are
 * enough for asyncio, aiohttp and uvicorn; each takes 8 bytes. */
#define CL_HANDLE_INLINE 3
#define CL_HANDLE_TUPLE (CL_HANDLE_INLINE + 1)

enum {
    CL_HANDLE_CANCELLED = 1,
    /* The fields must stay until the callback returns. */
    CL_HANDLE_RUNNING = 2,
    /* They are cleared then, and already look cleared. */
    CL_HANDLE_EMPTIED = 4,
    CL_HANDLE_TIMER = 8,
    /* h_context is for reading: other handles of the loop may have it, too.
     * own_context() ends that. */
    CL_HANDLE_SHARES_CONTEXT = 16,
    /* Tracked by the garbage collector, whose own function is slower. */
    CL_HANDLE_TRACKED = 32,
    /* cancel() in another thread waits for the callback. */
    CL_HANDLE_THREADSAFE = 64,
    /* Without a GIL: made by the thread that had the loop, which keeps its
     * memory. It would keep more and more if it kept others', which it does
     * not use. */
    CL_HANDLE_HOME_MADE = 128,
};

typedef struct LoopObject LoopObject;

typedef struct HandleObject {
    PyObject_HEAD
    PyObject *h_weakrefs;
    LoopObject *h_loop;   /* owned */
    PyObject *h_callback; /* owned; NULL once cancelled */
    PyObject *h_context;  /* owned; NULL only during creation */
    PyObject *h_debug; /* owned (traceback, repr); NULL without debug mode */
    CL_SHARED(uint8_t) h_flags;
    uint8_t h_nargs; /* CL_HANDLE_TUPLE: they are a tuple, in h_argv[1] */
    /* Owned, from [1] on; vectorcall may use [0] for self. */
    PyObject *h_argv[1 + CL_HANDLE_INLINE];
} HandleObject;

typedef struct {
    HandleObject tm_handle;
    double tm_when;           /* seconds of the loop's clock */
    PyObject *tm_when_object; /* owned; as passed, NULL if it was a float */
    cl_heap_node tm_node;     /* in the loop's heap while scheduled */
    Py_ssize_t tm_fresh;      /* index in the loop's l_fresh, or -1 */
} TimerHandleObject;

static inline TimerHandleObject *
cl_timer_from_node(cl_heap_node *node)
{
    cl_assert(node != NULL);
    return (TimerHandleObject *)((char *)node -
                                 offsetof(TimerHandleObject, tm_node));
}

/* Returns a new reference, untracked. If `context` is NULL or None, the
 * current context is copied. */
HandleObject *cl_handle_new(LoopObject *loop, PyObject *callback,
                            PyObject *const *args, Py_ssize_t nargs,
                            PyObject *context);

/* The same, for what was scheduled without a handle, as another kind of ready
 * node: before debug mode, so it does not say where. */
HandleObject *cl_handle_of_node(LoopObject *loop, PyObject *callback,
                                PyObject *const *args, Py_ssize_t nargs,
                                PyObject *context);

/* Returns a new reference, untracked, not in the heap yet. */
TimerHandleObject *cl_timer_handle_new(LoopObject *loop, double when,
                                       PyObject *when_object,
                                       PyObject *callback,
                                       PyObject *const *args, Py_ssize_t nargs,
                                       PyObject *context);

/* Calls the callback in its context, unless the handle was cancelled. Errors
 * go to the loop's exception handler; returns -1 only for KeyboardInterrupt
 * and SystemExit. The caller holds a reference. Runs Python. */
int cl_handle_run(HandleObject *handle);

/* Remembers asyncio.Handle._run(). If a program replaces it, as tools do that
 * look for slow callbacks, ours calls that. 0/-1 */
int cl_handle_remember_run(cl_state *st);

/* Reports the exception that is set to the loop's exception handler, as one of
 * the handle's callback. 0/-1 Runs Python. */
int cl_handle_report(HandleObject *handle);

/* For call_soon_threadsafe(): turns the handle into a _ThreadSafeHandle, if
 * this version's asyncio has one. */
void cl_handle_make_threadsafe(HandleObject *handle);

/* Handle.cancel(), without removing a timer from the heap. 0/-1 */
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

/* Whether the callback cannot be a step of asyncio's task, because it is a
 * method of a cloop.Future, such as set_result. */
static inline bool
cl_handle_is_no_step(const cl_state *st, const HandleObject *handle)
{
    if (CL_FREE_THREADED) /* all tasks are asyncio's; and it may be cancelled now */
        return false;
    PyObject *callback = handle->h_callback;
    if (callback == NULL || !PyCFunction_CheckExact(callback))
        return false;
    PyObject *self = PyCFunction_GET_SELF(callback);
    return self != NULL && Py_TYPE(self) == st->stepless_type;
}

/* Whether the callback is a step of a task of asyncio's C class: those that a
 * program makes by asyncio.Task(), as aiohttp does. The GIL is held. */
bool cl_handle_is_step(const HandleObject *handle);

/* Drops the node's reference; the handle has left the ring, so no owner visits
 * through it any more. Runs Python. */
static inline void
cl_handle_drop(HandleObject *handle)
{
    cl_assert_of(handle, Py_REFCNT(handle) > 0);
    if (Py_REFCNT(handle) > 1)
        cl_handle_track(handle);
    Py_DECREF(handle);
}

/* For a handle in the ready ring or the heap: visits its contents if that is
 * its only owner and it is untracked. */
int cl_handle_visit(HandleObject *handle, visitproc visit, void *arg);

/* Nodes that are a HandleObject or TimerHandleObject, and nodes that are an
 * asyncio.Handle from Python code, whose _run() is called. */
extern const cl_node_ops cl_handle_node, cl_foreign_node;

#ifdef CL_DEBUG
/* Checks a queued handle, and the spare ones. */
void cl_handle_check(const LoopObject *loop, HandleObject *handle);
void cl_handle_check_spares(const LoopObject *loop);
#endif

/* Frees the loop's spare handles. */
void cl_handle_free_spares(LoopObject *loop);

PyTypeObject *cl_handle_setup(PyObject *module, cl_state *st);
PyTypeObject *cl_timer_handle_setup(PyObject *module, cl_state *st);

#endif
