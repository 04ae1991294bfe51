/* handle.c - see handle.h. */
#include "core/handle.h"

#include <string.h>

#include "core/claim.h"
#include "core/errors.h"
#include "core/loop.h"

/* The number of references in h_argv + 1. */
static inline int
owned_args(const HandleObject *handle)
{
    return handle->h_nargs == CL_HANDLE_TUPLE ? 1 : handle->h_nargs;
}

/* ----------------------------------------------------------------- invariants */

#ifdef CL_DEBUG
static inline bool
is_handle(const cl_state *st, PyObject *object)
{
    return Py_TYPE(object) == st->HandleType ||
           Py_TYPE(object) == st->TimerHandleType;
}

void
cl_handle_check(const LoopObject *loop, HandleObject *handle)
{
    cl_assert_of(handle, is_handle(loop->l_st, (PyObject *)handle));
    cl_assert_of(handle, Py_REFCNT(handle) > 0);
    cl_assert_of(handle, handle->h_loop == loop);
    cl_assert_of(handle, ((handle->h_flags & CL_HANDLE_TIMER) != 0) ==
                             (Py_TYPE(handle) == loop->l_st->TimerHandleType));
    bool tracked = (handle->h_flags & CL_HANDLE_TRACKED) != 0;
    cl_assert_of(handle,
                 cl_is_tracked((PyObject *)handle, tracked) == tracked);
    if (CL_FREE_THREADED) /* another thread may be cancelling it */
        return;
    cl_assert_of(handle, handle->h_nargs <= CL_HANDLE_TUPLE);
    for (int i = 1; i <= owned_args(handle); i++)
        cl_assert_of(handle, handle->h_argv[i] != NULL &&
                                 Py_REFCNT(handle->h_argv[i]) > 0);
    if (handle->h_flags & CL_HANDLE_SHARES_CONTEXT) {
        cl_assert_of(handle, handle->h_context != NULL);
        cl_assert_of(handle, handle->h_context != loop->l_context ||
                                 loop->l_context_users > 0);
    }
}

static void
check_spares(HandleObject *handle, int count, PyTypeObject *type)
{
    int found = 0;
    cl_assertf(count >= 0 && count <= CL_SPARES_MAX, "%d", count);
    for (; handle != NULL; handle = (HandleObject *)handle->h_callback) {
        cl_assertf(++found <= count, "more than %d", count);
        cl_assert_of(handle, Py_TYPE(handle) == type);
        cl_assert_of(handle, Py_REFCNT(handle) == 0);
    }
    cl_assertf(found == count, "%d of %d", found, count);
}

void
cl_handle_check_spares(const LoopObject *loop)
{
    check_spares(loop->l_spare_handles, loop->l_spare_handle_count,
                 loop->l_st->HandleType);
    check_spares(loop->l_spare_timers, loop->l_spare_timer_count,
                 loop->l_st->TimerHandleType);
}
#endif

/* ------------------------------------------------- creation and deallocation */

/* Returns a spare one, which has kept its type, or NULL. The spares are for the
 * thread that has the loop. */
static inline HandleObject *
reuse(LoopObject *loop, HandleObject **spares, int *count)
{
    if (!cl_is_here(loop))
        return NULL;
    HandleObject *handle = *spares;
    cl_assertf((handle == NULL) == (*count == 0), "%d spares", *count);
    if (handle != NULL) {
        *spares = (HandleObject *)handle->h_callback;
        --*count;
        cl_object_revive((PyObject *)handle);
    }
    return handle;
}

/* Takes a copy of the current context, the latest one if that will do. 0/-1 */
static inline int
take_context(HandleObject *handle, LoopObject *loop)
{
    PyObject *vars;
    if (loop->l_context != NULL && (vars = cl_current_vars()) != NULL &&
        cl_context_vars(loop->l_context) == vars) {
        handle->h_context = Py_NewRef(loop->l_context);
    }
    else {
        handle->h_context = PyContext_CopyCurrent();
        if (handle->h_context == NULL)
            return -1;
        if (!loop->l_st->context_has_vars)
            return 0;
        loop->l_context = handle->h_context;
        loop->l_context_users = 0;
    }
    loop->l_context_users++;
    handle->h_flags |= CL_HANDLE_SHARES_CONTEXT;
    return 0;
}

static inline void
stop_sharing(HandleObject *handle)
{
    LoopObject *loop = handle->h_loop;
    handle->h_flags &= (uint8_t)~CL_HANDLE_SHARES_CONTEXT;
    if (loop->l_context == handle->h_context && --loop->l_context_users == 0)
        loop->l_context = NULL;
}

/* What call_soon() accepted is not lost if memory is short for a moment. */
#define COPY_ATTEMPTS 10

static PyObject *
copy_context(PyObject *context)
{
    PyObject *copy = PyContext_Copy(context);
    for (int i = 1; copy == NULL && i < COPY_ATTEMPTS &&
                    PyErr_ExceptionMatches(PyExc_MemoryError);
         i++) {
        PyErr_Clear();
        copy = PyContext_Copy(context);
    }
    return copy;
}

/* Called before anybody else sees the context or runs in it. 0/-1 */
static inline int
own_context(HandleObject *handle)
{
    if (!(handle->h_flags & CL_HANDLE_SHARES_CONTEXT))
        return 0;
    PyObject *shared = handle->h_context, *own = NULL;
    if (Py_REFCNT(shared) > 1) {
        /* A collection may run, ask for it, and drop the other handles. */
        Py_INCREF(shared);
        own = copy_context(shared);
        Py_DECREF(shared);
        if (own == NULL)
            return -1;
        if (!(handle->h_flags & CL_HANDLE_SHARES_CONTEXT)) {
            Py_DECREF(own);
            return 0;
        }
    }
    stop_sharing(handle);
    if (own != NULL) {
        handle->h_context = own;
        Py_DECREF(shared);
    }
    return 0;
}

/* The items of h_debug: where it was created, and the repr() that it had when it
 * was cancelled. */
enum { DEBUG_STACK, DEBUG_REPR };

/* A new reference; None if there is none. */
static PyObject *
debug_item(HandleObject *handle, int item)
{
    PyObject *found;
    CL_LOCKED(handle);
    found = Py_NewRef(handle->h_debug != NULL
                          ? PyTuple_GET_ITEM(handle->h_debug, item)
                          : Py_None);
    CL_UNLOCKED();
    return found;
}

/* 0/-1 */
static int
set_debug(HandleObject *handle, PyObject *stack, PyObject *repr)
{
    PyObject *debug = PyTuple_Pack(2, stack, repr), *old;
    if (debug == NULL)
        return -1;
    CL_LOCKED(handle);
    old = handle->h_debug;
    handle->h_debug = debug;
    CL_UNLOCKED();
    Py_XDECREF(old);
    return 0;
}

static inline uint8_t
origin(LoopObject *loop)
{
    return CL_FREE_THREADED && cl_is_here(loop) ? CL_HANDLE_HOME_MADE : 0;
}

/* Whether its memory is the loop's. */
static inline bool
is_ours(const HandleObject *handle)
{
    return !CL_FREE_THREADED || (handle->h_flags & CL_HANDLE_HOME_MADE);
}

/* _asyncio tells nobody of these: a type for first steps, and a method, or on
 * 3.8 and 3.9 a type, for those after a future is done. */
bool
cl_handle_is_step(const HandleObject *handle)
{
    PyObject *callback = handle->h_callback;
    if (callback == NULL)
        return false;
    if (PyCFunction_CheckExact(callback))
        return strcmp(((PyCFunctionObject *)callback)->m_ml->ml_name,
                      "task_wakeup") == 0;
    PyTypeObject *type = Py_TYPE(callback);
    const char *name = type->tp_name;
    if (strncmp(name, "_asyncio.", 9) == 0)
        name += 9;
    else if (type->tp_flags & Py_TPFLAGS_HEAPTYPE)
        return false; /* a program's own */
    return strcmp(name, "TaskStepMethWrapper") == 0 ||
           strcmp(name, "TaskWakeupMethWrapper") == 0;
}

/* If `debug`, it remembers where it is made. 0/-1 */
static inline int
init(HandleObject *handle, LoopObject *loop, PyObject *callback,
     PyObject *const *args, Py_ssize_t nargs, PyObject *context, uint8_t flags,
     bool debug)
{
    cl_assert(nargs >= 0 && (nargs == 0 || args != NULL));
    handle->h_weakrefs = NULL;
    handle->h_loop = (LoopObject *)Py_NewRef(loop);
    handle->h_callback = Py_NewRef(callback);
    handle->h_debug = NULL;
    handle->h_flags = flags;
    handle->h_nargs = 0;
    if (context == NULL || context == Py_None) {
        if (take_context(handle, loop) < 0)
            return -1;
    }
    else {
        handle->h_context = Py_NewRef(context);
    }

    if (nargs <= CL_HANDLE_INLINE) {
        for (Py_ssize_t i = 0; i < nargs; i++)
            handle->h_argv[i + 1] = Py_NewRef(args[i]);
        handle->h_nargs = (uint8_t)nargs;
    }
    else {
        PyObject *tuple = PyTuple_New(nargs);
        if (tuple == NULL)
            return -1;
        for (Py_ssize_t i = 0; i < nargs; i++)
            PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
        handle->h_argv[1] = tuple;
        handle->h_nargs = CL_HANDLE_TUPLE;
    }
    if (debug) {
        PyObject *stack = PyObject_CallNoArgs(loop->l_st->extract_stack);
        int status = stack == NULL ? -1 : set_debug(handle, stack, Py_None);
        Py_XDECREF(stack);
        if (status < 0)
            return -1;
    }
    if (CL_FREE_THREADED)
        cl_handle_track(handle);
    return 0;
}

static inline HandleObject *
new_handle(LoopObject *loop, PyObject *callback, PyObject *const *args,
           Py_ssize_t nargs, PyObject *context, bool debug)
{
    cl_assert_gil();
    cl_assert(callback != NULL);
    HandleObject *handle =
        reuse(loop, &loop->l_spare_handles, &loop->l_spare_handle_count);
    if (handle == NULL)
        handle = PyObject_GC_New(HandleObject, loop->l_st->HandleType);
    if (handle == NULL)
        return NULL;
    cl_live_add(&loop->l_st->live_handles, 1);
    if (init(handle, loop, callback, args, nargs, context, origin(loop),
             debug) < 0)
        Py_CLEAR(handle);
    return handle;
}

HandleObject *
cl_handle_new(LoopObject *loop, PyObject *callback, PyObject *const *args,
              Py_ssize_t nargs, PyObject *context)
{
    return new_handle(loop, callback, args, nargs, context, loop->l_debug);
}

HandleObject *
cl_handle_of_node(LoopObject *loop, PyObject *callback, PyObject *const *args,
                  Py_ssize_t nargs, PyObject *context)
{
    return new_handle(loop, callback, args, nargs, context, false);
}

TimerHandleObject *
cl_timer_handle_new(LoopObject *loop, double when, PyObject *when_object,
                    PyObject *callback, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *context)
{
    cl_assert_gil();
    cl_assert(callback != NULL);
    HandleObject *handle =
        reuse(loop, &loop->l_spare_timers, &loop->l_spare_timer_count);
    if (handle == NULL)
        handle = (HandleObject *)PyObject_GC_New(TimerHandleObject,
                                                 loop->l_st->TimerHandleType);
    if (handle == NULL)
        return NULL;
    cl_live_add(&loop->l_st->live_timers, 1);
    TimerHandleObject *timer = (TimerHandleObject *)handle;
    timer->tm_when = when;
    timer->tm_when_object = Py_XNewRef(when_object);
    timer->tm_node.slot = CL_HEAP_OUT;
    timer->tm_fresh = -1;
    if (init(handle, loop, callback, args, nargs, context,
             CL_HANDLE_TIMER | origin(loop), loop->l_debug) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    return timer;
}

static inline void
clear_call(HandleObject *handle)
{
    /* Cleared before anything is released, so that destructors see a finished
     * state. */
    int count = owned_args(handle);
    PyObject *argv[CL_HANDLE_INLINE], *callback = handle->h_callback;
    for (int i = 0; i < count; i++)
        argv[i] = handle->h_argv[i + 1];
    handle->h_callback = NULL;
    handle->h_nargs = 0;
    Py_XDECREF(callback);
    for (int i = 0; i < count; i++)
        Py_DECREF(argv[i]);
}

static int
traverse(HandleObject *handle, visitproc visit, void *arg)
{
    Py_VISIT(handle->h_loop);
    Py_VISIT(handle->h_callback);
    Py_VISIT(handle->h_context);
    Py_VISIT(handle->h_debug);
    for (int i = 1; i <= owned_args(handle); i++)
        Py_VISIT(handle->h_argv[i]);
    if (handle->h_flags & CL_HANDLE_TIMER)
        Py_VISIT(((TimerHandleObject *)handle)->tm_when_object);
    return 0;
}

static int
Handle_traverse(HandleObject *handle, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(handle);
    return traverse(handle, visit, arg);
}

int
cl_handle_visit(HandleObject *handle, visitproc visit, void *arg)
{
    if (!(handle->h_flags & CL_HANDLE_TRACKED)) {
        /* See handle.h: we are its owner, unless a callback is running, and
         * then the loop is not garbage. */
        return Py_REFCNT(handle) == 1 ? traverse(handle, visit, arg) : 0;
    }
    Py_VISIT(handle);
    return 0;
}

static inline void
clear_references(HandleObject *handle)
{
    clear_call(handle);
    if (handle->h_flags & CL_HANDLE_SHARES_CONTEXT)
        stop_sharing(handle);
    Py_CLEAR(handle->h_context);
    Py_CLEAR(handle->h_debug);
    if (handle->h_flags & CL_HANDLE_TIMER)
        Py_CLEAR(((TimerHandleObject *)handle)->tm_when_object);
}

static int
Handle_clear(HandleObject *handle)
{
    clear_references(handle);
    return 0;
}

static inline void
release(HandleObject *handle)
{
    if (handle->h_flags & CL_HANDLE_TRACKED)
        PyObject_GC_UnTrack(handle);
    if (handle->h_weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)handle);
    clear_references(handle);
}

/* Keeps the memory for the loop's next handle, and the type: it is needed to
 * free the memory (from 3.12 on), and threads that count its references, each
 * for itself, would wait for each other. */
static inline void
give_back(HandleObject *handle, HandleObject **spares, int *count)
{
    PyTypeObject *type = Py_TYPE(handle);
    LoopObject *loop = handle->h_loop;
    cl_assert_of(handle, handle->h_nargs == 0 && handle->h_context == NULL);
    if (cl_is_here(loop) && is_ours(handle) && loop->l_open &&
        *count < CL_SPARES_MAX) {
        handle->h_callback = (PyObject *)*spares;
        *spares = handle;
        ++*count;
    }
    else {
        PyObject_GC_Del(handle);
        Py_DECREF(type);
    }
    Py_DECREF(loop);
}

static inline void
free_handle(HandleObject *handle)
{
    LoopObject *loop = handle->h_loop;
    cl_live_add(&loop->l_st->live_handles, -1);
    if (!CL_FREE_THREADED)
        loop->l_freeing++;
    release(handle);
    if (!CL_FREE_THREADED)
        loop->l_freeing--;
    give_back(handle, &loop->l_spare_handles, &loop->l_spare_handle_count);
}

static inline void
free_timer(TimerHandleObject *timer)
{
    LoopObject *loop = timer->tm_handle.h_loop;
    cl_live_add(&loop->l_st->live_timers, -1);
    if (!CL_FREE_THREADED)
        loop->l_freeing++;
    release(&timer->tm_handle);
    if (!CL_FREE_THREADED)
        loop->l_freeing--;
    give_back(&timer->tm_handle, &loop->l_spare_timers,
              &loop->l_spare_timer_count);
}

/* A handle's arguments may have the next one, and so on: from some depth on
 * they are freed one after the other, as in a long list of lists. */
static inline bool
is_deep(const LoopObject *loop)
{
    return CL_FREE_THREADED || loop->l_freeing >= CL_FREEING_MAX;
}

static void
Handle_dealloc(HandleObject *handle)
{
    if (!is_deep(handle->h_loop)) {
        free_handle(handle);
        return;
    }
    PyObject_GC_UnTrack(handle);
    handle->h_flags &= (uint8_t)~CL_HANDLE_TRACKED;
    Py_TRASHCAN_BEGIN(handle, Handle_dealloc);
    free_handle(handle);
    Py_TRASHCAN_END;
}

static void
TimerHandle_dealloc(TimerHandleObject *timer)
{
    LoopObject *loop = timer->tm_handle.h_loop;
    cl_assert_of(timer, !cl_heap_contains(&timer->tm_node));
    cl_assert(timer->tm_fresh < loop->l_fresh_count);
    cl_assert(timer->tm_fresh < 0 || loop->l_fresh[timer->tm_fresh] == timer);
    if (!CL_FREE_THREADED && timer->tm_fresh >= 0)
        loop->l_fresh[timer->tm_fresh] = NULL;
    if (!is_deep(loop)) {
        free_timer(timer);
        return;
    }
    timer->tm_fresh = -1; /* it may be freed later */
    PyObject_GC_UnTrack(timer);
    timer->tm_handle.h_flags &= (uint8_t)~CL_HANDLE_TRACKED;
    Py_TRASHCAN_BEGIN(timer, TimerHandle_dealloc);
    free_timer(timer);
    Py_TRASHCAN_END;
}

void
cl_handle_free_spares(LoopObject *loop)
{
    HandleObject **lists[] = {&loop->l_spare_handles, &loop->l_spare_timers};
    for (int i = 0; i < 2; i++) {
        HandleObject *handle = *lists[i];
        *lists[i] = NULL;
        while (handle != NULL) {
            HandleObject *next = (HandleObject *)handle->h_callback;
            PyTypeObject *type = Py_TYPE(handle);
            PyObject_GC_Del(handle);
            Py_DECREF(type);
            handle = next;
        }
    }
    loop->l_spare_handle_count = loop->l_spare_timer_count = 0;
}

/* ---------------------------------------------------------------------- run */

static inline PyObject *
call(HandleObject *handle)
{
    if (handle->h_nargs != CL_HANDLE_TUPLE)
        return PyObject_Vectorcall(
            handle->h_callback, handle->h_argv + 1,
            handle->h_nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    return PyObject_CallObject(handle->h_callback, handle->h_argv[1]);
}

/* The arguments as a tuple, like asyncio.Handle._args. */
static PyObject *
args_tuple(HandleObject *handle)
{
    uint8_t nargs = handle->h_nargs;
    if (nargs == CL_HANDLE_TUPLE)
        return Py_NewRef(handle->h_argv[1]);
    PyObject *args = PyTuple_New(nargs);
    if (args == NULL)
        return NULL;
    /* A collection ran, or another thread, and cancelled it. */
    if (handle->h_nargs != nargs || (handle->h_flags & CL_HANDLE_EMPTIED)) {
        Py_DECREF(args);
        Py_RETURN_NONE;
    }
    for (int i = 0; i < handle->h_nargs; i++)
        PyTuple_SET_ITEM(args, i, Py_NewRef(handle->h_argv[i + 1]));
    return args;
}

/* Not a contextvars context: call its run(). */
static PyObject *
call_in_foreign_context(HandleObject *handle)
{
    PyObject *result = NULL, *run = NULL, *args = NULL, *rest = NULL,
             *all = NULL;
    run = PyObject_GetAttr(handle->h_context, handle->h_loop->l_st->str_run);
    args = run == NULL ? NULL : PyTuple_Pack(1, handle->h_callback);
    if (args == NULL)
        goto done;
    rest = args_tuple(handle);
    all = rest == NULL ? NULL : PySequence_Concat(args, rest);
    if (all != NULL)
        result = PyObject_CallObject(run, all);
done:
    Py_XDECREF(run);
    Py_XDECREF(args);
    Py_XDECREF(rest);
    Py_XDECREF(all);
    return result;
}

static inline PyObject *
call_in_context(HandleObject *handle)
{
    PyObject *context = handle->h_context, *result;
    if (!PyContext_CheckExact(context))
        return call_in_foreign_context(handle);
    if (PyContext_Enter(context) < 0)
        return NULL;
    result = call(handle);
    if (PyContext_Exit(context) < 0)
        Py_CLEAR(result);
    return result;
}

static inline bool
is_emptied(const HandleObject *handle)
{
    /* In this order: who has set the flag may be clearing the callback. */
    return (handle->h_flags & CL_HANDLE_EMPTIED) || handle->h_callback == NULL;
}

/* "Exception in callback f(1) at file:line" */
static PyObject *
failure_message(HandleObject *handle)
{
    cl_state *st = handle->h_loop->l_st;
    PyObject *message = NULL, *source = NULL;
    PyObject *args =
        is_emptied(handle) ? Py_NewRef(Py_None) : args_tuple(handle);
    if (args == NULL)
        return NULL;
    PyObject *argv[] = {is_emptied(handle) ? Py_None : handle->h_callback,
                        args, handle->h_loop->l_debug ? Py_True : Py_False};
    source = PyObject_Vectorcall(
        st->format_callback_source, argv, 2,
        st->callback_source_takes_debug ? st->kwnames_debug : NULL);
    if (source != NULL)
        message = PyUnicode_FromFormat("Exception in callback %S", source);
    Py_XDECREF(source);
    Py_DECREF(args);
    return message;
}

int
cl_handle_report(HandleObject *handle)
{
    cl_assert_of(handle, PyErr_Occurred() != NULL);
    cl_state *st = handle->h_loop->l_st;
    PyObject *exception = PyErr_GetRaisedException();
    /* It may show the callback, while the exception is being handled. */
    PyObject *before = cl_swap_handled(Py_NewRef(exception));
    PyObject *message = failure_message(handle), *details = NULL;
    Py_XDECREF(cl_swap_handled(before));
    PyObject *stack = debug_item(handle, DEBUG_STACK);
    int status = -1;
    details = message == NULL ? NULL : PyDict_New();
    if (details == NULL ||
        PyDict_SetItem(details, st->str_message, message) < 0 ||
        PyDict_SetItem(details, st->str_exception, exception) < 0 ||
        PyDict_SetItem(details, st->str_handle, (PyObject *)handle) < 0)
        goto done;
    if (stack != Py_None &&
        PyDict_SetItem(details, st->str_source_traceback, stack) < 0)
        goto done;
    status = cl_report(handle->h_loop, details, exception);
done:
    Py_DECREF(stack);
    Py_XDECREF(message);
    Py_XDECREF(details);
    Py_XDECREF(exception);
    return status;
}

/* Calls the _run() of asyncio's class; that of _ThreadSafeHandle, which takes a
 * lock that ours has not, only calls Handle's. */
static inline PyObject *
asyncio_run(HandleObject *handle)
{
    cl_state *st = handle->h_loop->l_st;
    PyObject *class = handle->h_flags & CL_HANDLE_TIMER
                          ? st->asyncio_TimerHandle
                          : st->asyncio_Handle;
    PyObject *function = PyObject_GetAttr(class, st->str__run);
    PyObject *result = function == NULL
                           ? NULL
                           : PyObject_CallOneArg(function, (PyObject *)handle);
    Py_XDECREF(function);
    return result;
}

/* Calls the callback, or what the program has in the place of
 * asyncio.Handle._run(), whose exceptions leave the loop. 0/-1 */
static inline int
run(HandleObject *handle, bool replaced)
{
    int status = 0;
    cl_assert_gil();
    cl_assert_of(handle, Py_REFCNT(handle) > 0);
    cl_assert_of(handle, !PyErr_Occurred());
    uint8_t nested = 0;
    bool skip;
    CL_LOCKED(handle);
    skip =
        (handle->h_flags & CL_HANDLE_CANCELLED) || handle->h_callback == NULL;
    if (!skip) {
        nested = handle->h_flags & CL_HANDLE_RUNNING;
        handle->h_flags |= CL_HANDLE_RUNNING;
    }
    CL_UNLOCKED();
    if (skip) {
        handle->h_loop->l_meter.me_skipped++;
        return 0;
    }
    PyObject *result = NULL;
    if (replaced)
        result = asyncio_run(handle);
    else if (own_context(handle) == 0)
        result = call_in_context(handle);
    if (result != NULL)
        Py_DECREF(result);
    else
        status =
            replaced || cl_error_is_exit() ? -1 : cl_handle_report(handle);
    if (!nested) {
        bool emptied;
        CL_LOCKED(handle);
        handle->h_flags &= (uint8_t)~CL_HANDLE_RUNNING;
        emptied = handle->h_flags & CL_HANDLE_EMPTIED;
        CL_UNLOCKED();
        if ((handle->h_flags & CL_HANDLE_THREADSAFE) &&
            handle->h_loop->l_waiters > 0)
            cl_turnstile_open(&handle->h_loop->l_turnstile);
        if (emptied)
            clear_call(handle);
    }
    return status;
}

int
cl_handle_run(HandleObject *handle)
{
    return run(handle, false);
}

int
cl_handle_remember_run(cl_state *st)
{
    static const char *const names[] = {"_run", NULL};
    return cl_original_init(&st->handle_run, st->asyncio_TimerHandle, names);
}

/* -------------------------------------------------------------------- ready nodes */

static int
node_run(LoopObject *loop, cl_node node)
{
    HandleObject *handle = cl_node_pointer(node);
    if (!cl_handle_is_no_step(loop->l_st, handle))
        cl_loop_forget_task(loop);
    return cl_handle_run(handle);
}

static void
node_drop(cl_node node, bool Py_UNUSED(lost))
{
    cl_handle_drop(cl_node_pointer(node));
}

static int
node_visit(cl_node node, visitproc visit, void *arg)
{
    return cl_handle_visit(cl_node_pointer(node), visit, arg);
}

static PyObject *
node_as_handle(LoopObject *Py_UNUSED(loop), cl_node node)
{
    HandleObject *handle = cl_node_pointer(node);
    cl_handle_track(handle);
    return Py_NewRef((PyObject *)handle);
}

static PyObject *
node_name(LoopObject *loop, cl_node node)
{
    return PyObject_CallOneArg(loop->l_st->format_handle,
                               cl_node_pointer(node));
}

static int
node_is_cancelled(LoopObject *Py_UNUSED(loop), cl_node node)
{
    HandleObject *handle = cl_node_pointer(node);
    return (handle->h_flags & CL_HANDLE_CANCELLED) != 0;
}

#ifdef CL_DEBUG
static PyObject *
node_check(const LoopObject *loop, cl_node node)
{
    cl_handle_check(loop, cl_node_pointer(node));
    return cl_node_pointer(node);
}

static PyObject *
foreign_check(const LoopObject *Py_UNUSED(loop), cl_node node)
{
    PyObject *object = cl_node_pointer(node);
    cl_assert_of(object, Py_REFCNT(object) > 0);
    return object;
}
#endif

const cl_node_ops cl_handle_node = {.run = node_run,
                                    .drop = node_drop,
                                    .visit = node_visit,
                                    .as_handle = node_as_handle,
                                    .name = node_name,
                                    .is_cancelled = node_is_cancelled,
                                    CL_NODE_CHECK(node_check)};

static int
foreign_is_cancelled(LoopObject *loop, cl_node node)
{
    PyObject *cancelled =
        PyObject_GetAttr(cl_node_pointer(node), loop->l_st->str__cancelled);
    int truth = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    return truth;
}

static int
foreign_run(LoopObject *loop, cl_node node)
{
    cl_assert(!PyErr_Occurred());
    cl_loop_forget_task(loop);
    int skip = foreign_is_cancelled(loop, node);
    if (skip != 0) {
        loop->l_meter.me_skipped += skip > 0;
        return skip < 0 ? -1 : 0;
    }
    PyObject *result =
        PyObject_CallMethodNoArgs(cl_node_pointer(node), loop->l_st->str__run);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static void
foreign_drop(cl_node node, bool Py_UNUSED(lost))
{
    Py_DECREF((PyObject *)cl_node_pointer(node));
}

static int
foreign_visit(cl_node node, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)cl_node_pointer(node));
    return 0;
}

static PyObject *
foreign_as_handle(LoopObject *Py_UNUSED(loop), cl_node node)
{
    return Py_NewRef((PyObject *)cl_node_pointer(node));
}

const cl_node_ops cl_foreign_node = {.run = foreign_run,
                                     .drop = foreign_drop,
                                     .visit = foreign_visit,
                                     .as_handle = foreign_as_handle,
                                     .name = node_name,
                                     .is_cancelled = foreign_is_cancelled,
                                     CL_NODE_CHECK(foreign_check)};

/* -------------------------------------------------------------------------- cancel */

void
cl_handle_make_threadsafe(HandleObject *handle)
{
    if (handle->h_loop->l_st->asyncio_ThreadSafeHandle != NULL)
        handle->h_flags |= CL_HANDLE_THREADSAFE;
}

/* In another thread than the loop's: waits until the callback has returned. 0, or
 * -1 with the exception of a signal handler. */
static int
wait_for_callback(HandleObject *handle)
{
    LoopObject *loop = handle->h_loop;
    int status = 0;
    while (status == 0 && (handle->h_flags & CL_HANDLE_THREADSAFE) &&
           (handle->h_flags & CL_HANDLE_RUNNING) &&
           loop->l_thread_id != PyThread_get_thread_ident()) {
        /* First: whoever runs it looks for waiters when it has returned. */
        loop->l_waiters++;
        uint64_t ticket = cl_turnstile_ticket(&loop->l_turnstile);
        if (handle->h_flags & CL_HANDLE_RUNNING) {
            Py_BEGIN_ALLOW_THREADS
            cl_turnstile_wait(&loop->l_turnstile, ticket);
            Py_END_ALLOW_THREADS
        }
        loop->l_waiters--;
        status = PyErr_CheckSignals();
    }
    return status;
}

int
cl_handle_cancel(HandleObject *handle)
{
    bool was, runs;
    CL_LOCKED(handle);
    was = handle->h_flags & CL_HANDLE_CANCELLED;
    handle->h_flags |= CL_HANDLE_CANCELLED;
    CL_UNLOCKED();
    if (was)
        return 0;
    if (handle->h_loop->l_debug) {
        /* For the log record of a slow callback that cancels itself. */
        PyObject *repr = PyObject_Repr((PyObject *)handle);
        if (repr == NULL)
            return -1;
        PyObject *stack = debug_item(handle, DEBUG_STACK);
        int status = set_debug(handle, stack, repr);
        Py_DECREF(stack);
        Py_DECREF(repr);
        if (status < 0)
            return -1;
    }
    CL_LOCKED(handle);
    handle->h_flags |= CL_HANDLE_EMPTIED;
    runs = handle->h_flags & CL_HANDLE_RUNNING;
    CL_UNLOCKED();
    if (!runs)
        clear_call(handle);
    return 0;
}

/* ------------------------------------------------------------- Python methods */

PyDoc_STRVAR(
    Handle_cancel_doc,
    "cancel($self, /)\n--\n\n"
    "Prevent the callback from being called, unless it was already. See\n"
    "asyncio.Handle.cancel.");

static PyObject *
Handle_cancel(HandleObject *handle, PyObject *Py_UNUSED(ignored))
{
    if (wait_for_callback(handle) < 0 || cl_handle_cancel(handle) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
TimerHandle_cancel(TimerHandleObject *timer, PyObject *Py_UNUSED(ignored))
{
    if (cl_handle_cancel(&timer->tm_handle) < 0)
        return NULL;
    /* In another thread than the loop's: it stays, empty, until it is due. */
    CL_CLAIM_OR(timer->tm_handle.h_loop, Py_RETURN_NONE);
    cl_loop_unschedule(timer->tm_handle.h_loop, timer);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Handle_cancelled_doc, "cancelled($self, /)\n--\n\n"
                                   "Return True if the callback was "
                                   "cancelled. See asyncio.Handle.cancelled.");

static PyObject *
Handle_cancelled(HandleObject *handle, PyObject *Py_UNUSED(ignored))
{
    if (wait_for_callback(handle) < 0)
        return NULL;
    return PyBool_FromLong(handle->h_flags & CL_HANDLE_CANCELLED);
}

#if CL_HAS_GET_CONTEXT
PyDoc_STRVAR(Handle_get_context_doc,
             "get_context($self, /)\n--\n\n"
             "Return the contextvars.Context that the callback runs in.");
#endif

static PyObject *
Handle_get_context(HandleObject *handle, PyObject *Py_UNUSED(ignored))
{
    if (own_context(handle) < 0)
        return NULL;
    return Py_NewRef(handle->h_context ? handle->h_context : Py_None);
}

PyDoc_STRVAR(Handle_run_doc,
             "_run($self, /)\n--\n\n"
             "Call the callback now. Its exceptions go to the loop's "
             "exception handler, except for\n"
             "KeyboardInterrupt and SystemExit, which are raised.");

static PyObject *
Handle_run(HandleObject *handle, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(handle->h_loop, NULL);
    if (run(handle,
            cl_original_is_replaced(&handle->h_loop->l_st->handle_run)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(TimerHandle_when_doc, "when($self, /)\n--\n\n"
                                   "Return the time at which the callback is "
                                   "due, in seconds of loop.time().");

static PyObject *
TimerHandle_when(TimerHandleObject *timer, PyObject *Py_UNUSED(ignored))
{
    if (timer->tm_when_object != NULL)
        return Py_NewRef(timer->tm_when_object);
    return PyFloat_FromDouble(timer->tm_when);
}

static inline PyTypeObject *
asyncio_class(HandleObject *handle)
{
    cl_state *st = handle->h_loop->l_st;
    if (handle->h_flags & CL_HANDLE_THREADSAFE)
        return (PyTypeObject *)st->asyncio_ThreadSafeHandle;
    if (handle->h_flags & CL_HANDLE_TIMER)
        return (PyTypeObject *)st->asyncio_TimerHandle;
    return (PyTypeObject *)st->asyncio_Handle;
}

/* Calls a method of the asyncio class with our handle and `arg`, which may be
 * NULL. */
static PyObject *
call_asyncio(HandleObject *handle, PyObject *name, PyObject *arg)
{
    PyObject *function =
        PyObject_GetAttr((PyObject *)asyncio_class(handle), name);
    if (function == NULL)
        return NULL;
    PyObject *argv[] = {(PyObject *)handle, arg};
    PyObject *result =
        PyObject_Vectorcall(function, argv, arg == NULL ? 1 : 2, NULL);
    Py_DECREF(function);
    return result;
}

static PyObject *
Handle_repr_info(HandleObject *handle, PyObject *Py_UNUSED(ignored))
{
    return call_asyncio(handle, handle->h_loop->l_st->str__repr_info, NULL);
}

static PyObject *
Handle_repr(HandleObject *handle)
{
    return call_asyncio(handle, handle->h_loop->l_st->str___repr__, NULL);
}

static Py_hash_t
TimerHandle_hash(TimerHandleObject *timer)
{
    PyObject *when = TimerHandle_when(timer, NULL);
    if (when == NULL)
        return -1;
    Py_hash_t hash = PyObject_Hash(when);
    Py_DECREF(when);
    return hash;
}

static PyObject *
get_callback(HandleObject *handle, void *Py_UNUSED(closure))
{
    PyObject *callback;
    CL_LOCKED(handle);
    callback = Py_NewRef(is_emptied(handle) ? Py_None : handle->h_callback);
    CL_UNLOCKED();
    return callback;
}

static PyObject *
get_args(HandleObject *handle, void *Py_UNUSED(closure))
{
    PyObject *args;
    CL_LOCKED(handle);
    args = is_emptied(handle) ? Py_NewRef(Py_None) : args_tuple(handle);
    CL_UNLOCKED();
    return args;
}

/* The asyncio class compares, by the rules of its version. */
static PyObject *
TimerHandle_richcompare(TimerHandleObject *timer, PyObject *other, int op)
{
    cl_state *st = timer->tm_handle.h_loop->l_st;
    PyObject *names[] = {
        [Py_LT] = st->str___lt__, [Py_LE] = st->str___le__,
        [Py_EQ] = st->str___eq__, [Py_NE] = st->str___ne__,
        [Py_GT] = st->str___gt__, [Py_GE] = st->str___ge__,
    };
    return call_asyncio(&timer->tm_handle, names[op], other);
}

static PyObject *
get_class(HandleObject *handle, void *Py_UNUSED(closure))
{
    return Py_NewRef(asyncio_class(handle));
}

static PyObject *
get_cancelled(HandleObject *handle, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(handle->h_flags & CL_HANDLE_CANCELLED);
}

static PyObject *
get_loop(HandleObject *handle, void *Py_UNUSED(closure))
{
    return Py_NewRef(handle->h_loop);
}

static PyObject *
get_context(HandleObject *handle, void *Py_UNUSED(closure))
{
    return Handle_get_context(handle, NULL);
}

static PyObject *
get_source_traceback(HandleObject *handle, void *Py_UNUSED(closure))
{
    return debug_item(handle, DEBUG_STACK);
}

static PyObject *
get_saved_repr(HandleObject *handle, void *Py_UNUSED(closure))
{
    return debug_item(handle, DEBUG_REPR);
}

static PyObject *
get_when(TimerHandleObject *timer, void *Py_UNUSED(closure))
{
    return TimerHandle_when(timer, NULL);
}

static PyObject *
get_scheduled(TimerHandleObject *timer, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(cl_heap_contains(&timer->tm_node));
}

/* A copy of asyncio's turn sets this to false for a timer that it has taken
 * out; only the heap counts. */
static int
set_scheduled(TimerHandleObject *Py_UNUSED(timer), PyObject *value,
              void *Py_UNUSED(closure))
{
    if (value != NULL)
        return 0;
    PyErr_SetString(PyExc_AttributeError, "cannot delete this attribute");
    return -1;
}

/* A handle of asyncio's class with all that ours has. */
static PyObject *
asyncios_twin(HandleObject *handle)
{
    static const char *const names[] = {
        "_callback",         "_args", "_context", "_cancelled",
        "_source_traceback", "_repr", "_when",    "_scheduled"};
    PyObject *class = (PyObject *)asyncio_class(handle);
    PyObject *loop = (PyObject *)handle->h_loop;
    bool is_timer = handle->h_flags & CL_HANDLE_TIMER;
    PyObject *twin =
        is_timer ? PyObject_CallFunction(class, "dO()O", 0.0, Py_None, loop)
                 : PyObject_CallFunction(class, "O()O", Py_None, loop);
    for (int i = 0; twin != NULL && i < (is_timer ? 8 : 6); i++) {
        PyObject *value = PyObject_GetAttrString((PyObject *)handle, names[i]);
        if (value == NULL || PyObject_SetAttrString(twin, names[i], value) < 0)
            Py_CLEAR(twin);
        Py_XDECREF(value);
    }
    return twin;
}

/* For copy.copy(), which makes a handle of asyncio's. What copy.deepcopy() and
 * pickle refuse of asyncio's they refuse of ours. */
static PyObject *
Handle_reduce_ex(HandleObject *handle, PyObject *protocol)
{
    PyObject *twin = asyncios_twin(handle);
    PyObject *parts = twin == NULL ? NULL
                                   : PyObject_CallMethod(twin, "__reduce_ex__",
                                                         "O", protocol);
    Py_XDECREF(twin);
    return parts;
}

static PyMethodDef Handle_methods[] = {
    {"cancel", (PyCFunction)Handle_cancel, METH_NOARGS, Handle_cancel_doc},
    {"cancelled", (PyCFunction)Handle_cancelled, METH_NOARGS,
     Handle_cancelled_doc},
#if CL_HAS_GET_CONTEXT
    {"get_context", (PyCFunction)Handle_get_context, METH_NOARGS,
     Handle_get_context_doc},
#endif
    {"_run", (PyCFunction)Handle_run, METH_NOARGS, Handle_run_doc},
    {"_repr_info", (PyCFunction)Handle_repr_info, METH_NOARGS, NULL},
    {"__reduce_ex__", (PyCFunction)Handle_reduce_ex, METH_O, NULL},
    {NULL}};

static PyMethodDef TimerHandle_methods[] = {
    {"cancel", (PyCFunction)TimerHandle_cancel, METH_NOARGS,
     Handle_cancel_doc},
    {"cancelled", (PyCFunction)Handle_cancelled, METH_NOARGS,
     Handle_cancelled_doc},
#if CL_HAS_GET_CONTEXT
    {"get_context", (PyCFunction)Handle_get_context, METH_NOARGS,
     Handle_get_context_doc},
#endif
    {"when", (PyCFunction)TimerHandle_when, METH_NOARGS, TimerHandle_when_doc},
    {"_run", (PyCFunction)Handle_run, METH_NOARGS, Handle_run_doc},
    {"_repr_info", (PyCFunction)Handle_repr_info, METH_NOARGS, NULL},
    {"__reduce_ex__", (PyCFunction)Handle_reduce_ex, METH_O, NULL},
    {NULL}};

/* The attributes of asyncio's classes that its Python code and debuggers read. */
#define HANDLE_GETTERS \
    {"__class__", (getter)get_class, NULL, NULL, NULL}, \
        {"_callback", (getter)get_callback, NULL, NULL, NULL}, \
        {"_args", (getter)get_args, NULL, NULL, NULL}, \
        {"_cancelled", (getter)get_cancelled, NULL, NULL, NULL}, \
        {"_loop", (getter)get_loop, NULL, NULL, NULL}, \
        {"_source_traceback", (getter)get_source_traceback, NULL, NULL, \
         NULL}, \
        {"_repr", (getter)get_saved_repr, NULL, NULL, NULL}, \
    { \
        "_context", (getter)get_context, NULL, NULL, NULL \
    }

static PyGetSetDef Handle_getset[] = {HANDLE_GETTERS, {NULL}};

static PyGetSetDef TimerHandle_getset[] = {
    HANDLE_GETTERS,
    {"_when", (getter)get_when, NULL, NULL, NULL},
    {"_scheduled", (getter)get_scheduled, (setter)set_scheduled, NULL, NULL},
    {NULL}};

static PyMemberDef Handle_members[] = {{"__weaklistoffset__", T_PYSSIZET,
                                        offsetof(HandleObject, h_weakrefs),
                                        READONLY, NULL},
                                       {NULL}};

static PyType_Slot Handle_slots[] = {
    {Py_tp_doc,
     "A scheduled callback; see asyncio.Handle. Created by the loop."},
    {Py_tp_dealloc, Handle_dealloc},
    {Py_tp_traverse, Handle_traverse},
    {Py_tp_clear, Handle_clear},
    {Py_tp_repr, Handle_repr},
    {Py_tp_methods, Handle_methods},
    {Py_tp_getset, Handle_getset},
    {Py_tp_members, Handle_members},
    {0, NULL}};

static PyType_Slot TimerHandle_slots[] = {
    {Py_tp_doc, "A callback scheduled for a time; see asyncio.TimerHandle. "
                "Created by the loop."},
    {Py_tp_dealloc, TimerHandle_dealloc},
    {Py_tp_traverse, Handle_traverse},
    {Py_tp_clear, Handle_clear},
    {Py_tp_repr, Handle_repr},
    {Py_tp_hash, TimerHandle_hash},
    {Py_tp_richcompare, TimerHandle_richcompare},
    {Py_tp_methods, TimerHandle_methods},
    {Py_tp_getset, TimerHandle_getset},
    {Py_tp_members, Handle_members},
    {0, NULL}};

static PyType_Spec Handle_spec = {
    .name = "cloop.Handle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = Handle_slots,
};

static PyType_Spec TimerHandle_spec = {
    .name = "cloop.TimerHandle",
    .basicsize = sizeof(TimerHandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = TimerHandle_slots,
};

PyTypeObject *
cl_handle_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &Handle_spec, NULL, 0,
                       offsetof(HandleObject, h_weakrefs));
}

PyTypeObject *
cl_timer_handle_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &TimerHandle_spec, NULL, 0,
                       offsetof(HandleObject, h_weakrefs));
}
