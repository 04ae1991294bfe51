/* shield.c - asyncio.shield(), of a coroutine or of a future that is ours and
 * of the running loop; and ensure_future(). */
#include "futures/registry.h"
#include "futures/task.h"
#include "sync/callback.h"
#include "sync/child.h"
#include "sync/deque.h"

/* The versions of the text: up to 3.13; with awaiters, 3.14. */
enum { FIRST = 1, WITH_AWAITED_BY };

static inline bool
has_awaited_by(const cl_state *st)
{
    return cl_sync_of(st)->sy_variants[CL_VARIANT_SHIELD] >= WITH_AWAITED_BY;
}

/* ------------------------------------------------------------------------- callbacks */

/* outer.set_exception(exc) or outer.set_result(inner.result()) */
static int
pass_on(cl_state *st, PyObject *inner, PyObject *outer)
{
    PyObject *exception = cl_child_exception(st, inner), *value, *set;
    if (exception == NULL)
        return -1;
    if (exception != Py_None) {
        set = PyObject_CallMethodOneArg(
            outer, cl_sync_of(st)->str_set_exception, exception);
        Py_DECREF(exception);
        Py_XDECREF(set);
        return set == NULL ? -1 : 0;
    }
    Py_DECREF(exception);
    if ((value = cl_child_result(st, inner)) == NULL)
        return -1;
    int status = cl_waiter_finish(st, outer, value);
    Py_DECREF(value);
    return status;
}

/* _inner_done_callback(inner): cb_first is the outer future. */
static int
inner_done(SyncCallbackObject *callback, PyObject *const *args)
{
    cl_state *st = callback->cb_st;
    PyObject *outer = Py_NewRef(callback->cb_first), *seen;
    int status = cl_child_cancelled(st, outer), cancelled;
    if (status > 0) {
        status = 0;
        if (!has_awaited_by(st) &&
            (cancelled = cl_child_cancelled(st, args[0])) <= 0) {
            /* Not to be reported as never retrieved. */
            seen = cancelled < 0 ? NULL : cl_child_exception(st, args[0]);
            status = seen == NULL ? -1 : 0;
            Py_XDECREF(seen);
        }
    }
    else if (status == 0) {
        cancelled = cl_child_cancelled(st, args[0]);
        status = cancelled > 0    ? cl_child_cancel(st, outer)
                 : cancelled == 0 ? pass_on(st, args[0], outer)
                                  : -1;
    }
    Py_DECREF(outer);
    return status;
}

/* _clear_awaited_by_callback(inner): cb_first is the task. */
static int
clear_awaited_by(SyncCallbackObject *callback, PyObject *const *args)
{
    PyObject *task = Py_NewRef(callback->cb_first);
    int status = cl_child_forget_awaited_by(callback->cb_st, args[0], task);
    Py_DECREF(task);
    return status;
}

/* Since 3.14 a shielded future reports its exception itself. */
static int
log_on_exception(cl_state *st, PyObject *inner)
{
    PyObject *function =
        PyObject_GetAttr(cl_futures_of(st)->tasks_module,
                         cl_sync_of(st)->str__log_on_exception);
    int status =
        function == NULL || cl_child_remove_callback(st, inner, function) < 0
            ? -1
            : cl_child_add_callback(st, inner, function);
    Py_XDECREF(function);
    return status;
}

/* _outer_done_callback(outer): cb_first is the inner future, the others are the
 * callbacks that it has. */
static int
outer_done(SyncCallbackObject *callback, PyObject *const *Py_UNUSED(args))
{
    cl_state *st = callback->cb_st;
    PyObject *inner = Py_NewRef(callback->cb_first),
             *done = Py_XNewRef(callback->cb_second),
             *clear = Py_XNewRef(callback->cb_third);
    int status = cl_child_done(st, inner);
    if (status == 0 && done != NULL) {
        status = cl_child_remove_callback(st, inner, done);
        if (status == 0 && has_awaited_by(st))
            status = log_on_exception(st, inner);
        if (status == 0 && clear != NULL) {
            PyObject *task = ((SyncCallbackObject *)clear)->cb_first;
            Py_XINCREF(task);
            status = cl_child_remove_callback(st, inner, clear);
            if (status == 0)
                status = cl_child_forget_awaited_by(st, inner, task);
            Py_XDECREF(task);
        }
    }
    Py_DECREF(inner);
    Py_XDECREF(done);
    Py_XDECREF(clear);
    return status < 0 ? -1 : 0;
}

static const cl_callback_kind
    on_inner = {"_inner_done_callback", "shield.<locals>._inner_done_callback",
                CL_CLOSURE_SHIELD_INNER, 1, inner_done},
    on_outer = {"_outer_done_callback", "shield.<locals>._outer_done_callback",
                CL_CLOSURE_SHIELD_OUTER, 1, outer_done},
    on_clear = {"_clear_awaited_by_callback",
                "shield.<locals>._clear_awaited_by_callback",
                CL_CLOSURE_SHIELD_CLEAR, 1, clear_awaited_by};

/* -------------------------------------------------------------------------- shield() */

/* The future that awaits `inner`, which is pending. `task` is the current one,
 * or NULL. */
static PyObject *
new_outer(cl_state *st, LoopObject *loop, PyObject *inner, PyObject *task)
{
    SyncCallbackObject *clear = NULL, *done = NULL, *end = NULL;
    PyObject *outer = cl_future_new(loop);
    int status = -1;
    if (outer == NULL || cl_child_note_awaited_by(st, inner, task) < 0)
        goto end;
    if (task != NULL &&
        ((clear = cl_callback_new(st, &on_clear, task, NULL, NULL)) == NULL ||
         cl_child_add_callback(st, inner, (PyObject *)clear) < 0))
        goto end;
    if ((done = cl_callback_new(st, &on_inner, outer, NULL, NULL)) != NULL &&
        (end = cl_callback_new(st, &on_outer, inner, (PyObject *)done,
                               (PyObject *)clear)) != NULL &&
        cl_child_add_callback(st, inner, (PyObject *)done) == 0)
        status = cl_child_add_callback(st, outer, (PyObject *)end);
end:
    if (status < 0)
        Py_CLEAR(outer);
    Py_XDECREF(clear);
    Py_XDECREF(done);
    Py_XDECREF(end);
    return outer;
}

/* Whether the object is a future of ours and of this loop. */
static inline bool
is_of_loop(const cl_state *st, PyObject *object, LoopObject *loop)
{
    return cl_future_is_ours(st, object) &&
           ((FutureObject *)object)->f_loop == (PyObject *)loop;
}

PyObject *
cl_sync_shield(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    LoopObject *loop =
        nargs == 1 && kwnames == NULL && cl_sync_loop(st) != NULL &&
                cl_sync_pinned(st, CL_PINS_SHIELD)
            ? cl_sync_running_loop(st, CL_OVERRIDES_CREATE_TASK |
                                           CL_OVERRIDES_CREATE_FUTURE)
            : NULL;
    bool known = loop != NULL && (is_of_loop(st, args[0], loop) ||
                                  cl_child_fits_task(loop, args[0]));
    PyObject *task = NULL, *inner, *outer;
    if (known && has_awaited_by(st))
        known = (task = cl_registry_current_task(st, loop)) != NULL;
    if (!known)
        return PyErr_Occurred() ? NULL
                                : cl_sync_original(st, CL_BODY_SHIELD, args,
                                                   nargs, kwnames);
    Py_XINCREF(task);
    Py_INCREF(loop);
    inner = cl_future_is_ours(st, args[0])
                ? Py_NewRef(args[0])
                : cl_task_new(loop, args[0], NULL, NULL, false);
    outer = inner == NULL                   ? NULL
            : cl_child_done(st, inner) != 0 ? Py_NewRef(inner)
                                            : new_outer(st, loop, inner, task);
    Py_XDECREF(inner);
    Py_XDECREF(task);
    Py_DECREF(loop);
    return outer;
}

/* ------------------------------------------------------------------- ensure_future() */

PyObject *
cl_sync_ensure_future(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    LoopObject *loop = nargs == 1 && kwnames == NULL ? cl_sync_loop(st) : NULL;
    if (loop != NULL && cl_future_is_ours(st, args[0]))
        return Py_NewRef(args[0]);
    if (loop != NULL && cl_child_fits_task(loop, args[0]) &&
        cl_sync_pinned(st, CL_PINS_ENSURE_FUTURE) &&
        (loop = cl_sync_running_loop(st, CL_OVERRIDES_CREATE_TASK)) != NULL)
        return cl_task_new(loop, args[0], NULL, NULL, false);
    return PyErr_Occurred() ? NULL
                            : cl_sync_original(st, CL_BODY_ENSURE_FUTURE, args,
                                               nargs, kwnames);
}
