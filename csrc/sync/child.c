/* child.c - see child.h. */
#include "sync/child.h"

#include "core/args.h"
#include "futures/coro.h"
#include "futures/task.h"
#include "sync/deque.h"

static inline FutureObject *
as_future(PyObject *child)
{
    return (FutureObject *)child;
}

static inline bool
has_result(const cl_state *st, PyObject *child)
{
    return cl_future_is_ours(st, child) &&
           as_future(child)->f_state == CL_FINISHED &&
           as_future(child)->f_exception == NULL;
}

static int
call_method(PyObject *object, PyObject *name, PyObject *arg)
{
    PyObject *result = PyObject_CallMethodOneArg(object, name, arg);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ------------------------------------------------------------------------ outcome */

int
cl_child_done(cl_state *st, PyObject *child)
{
    return cl_future_is_ours(st, child)
               ? as_future(child)->f_state != CL_PENDING
               : cl_waiter_done(st, child);
}

int
cl_child_cancelled(cl_state *st, PyObject *child)
{
    return cl_future_is_ours(st, child)
               ? as_future(child)->f_state == CL_CANCELLED
               : cl_waiter_cancelled(st, child);
}

PyObject *
cl_child_exception(cl_state *st, PyObject *child)
{
    return has_result(st, child) ? Py_NewRef(Py_None)
                                 : PyObject_CallMethodNoArgs(
                                       child, cl_sync_of(st)->str_exception);
}

PyObject *
cl_child_result(cl_state *st, PyObject *child)
{
    if (!has_result(st, child))
        return PyObject_CallMethodNoArgs(child, cl_sync_of(st)->str_result);
    as_future(child)->f_log_tb = 0;
    return Py_NewRef(as_future(child)->f_result);
}

/* ---------------------------------------------------------------------- callbacks */

int
cl_child_add_callback(cl_state *st, PyObject *child, PyObject *callback)
{
    bool pends = cl_future_is_ours(st, child) &&
                 as_future(child)->f_state == CL_PENDING;
    PyObject *context = pends ? PyContext_CopyCurrent() : NULL;
    if (pends && context == NULL)
        return -1;
    /* A collection may have ended it. */
    int status =
        pends && as_future(child)->f_state == CL_PENDING
            ? cl_future_append(as_future(child), callback, context)
            : call_method(child, cl_sync_of(st)->str_add_done_callback,
                          callback);
    Py_XDECREF(context);
    return status;
}

int
cl_child_remove_callback(cl_state *st, PyObject *child, PyObject *callback)
{
    FutureObject *future = as_future(child);
    if (cl_future_is_ours(st, child) && future->f_callbacks == NULL &&
        (future->f_callback0 == NULL || future->f_callback0 == callback)) {
        PyObject *context = future->f_context0;
        if (future->f_callback0 != NULL) {
            future->f_callback0 = future->f_context0 = NULL;
            Py_DECREF(callback);
            Py_XDECREF(context);
        }
        return 0;
    }
    return call_method(child, cl_sync_of(st)->str_remove_done_callback,
                       callback);
}

int
cl_child_cancel(cl_state *st, PyObject *child)
{
    PyObject *result =
        PyObject_CallMethodNoArgs(child, cl_sync_of(st)->str_cancel);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ----------------------------------------------------------------------- awaiters */

int
cl_child_note_awaited_by(cl_state *st, PyObject *child, PyObject *task)
{
    if (task == NULL)
        return 0;
    if (cl_future_is_ours(st, child))
        return cl_future_note_awaited_by(st, as_future(child), task);
#if CL_HAS_AWAITED_BY
    return cl_call_void(cl_futures_of(st)->future_add_to_awaited_by, child,
                        task);
#else
    return 0;
#endif
}

int
cl_child_forget_awaited_by(cl_state *st, PyObject *child, PyObject *task)
{
    if (task == NULL)
        return 0;
    if (cl_future_is_ours(st, child))
        return cl_future_forget_awaited_by(st, as_future(child), task);
#if CL_HAS_AWAITED_BY
    return cl_call_void(cl_futures_of(st)->future_discard_from_awaited_by,
                        child, task);
#else
    return 0;
#endif
}

/* ----------------------------------------------------------------- ensure_future() */

PyObject *
cl_child_loop(cl_state *st, PyObject *child)
{
    return cl_future_is_ours(st, child)
               ? Py_XNewRef(as_future(child)->f_loop)
               : cl_call_module(cl_futures_of(st)->futures_module,
                                cl_sync_of(st)->str__get_loop, &child, 1,
                                NULL);
}

bool
cl_child_fits_task(LoopObject *loop, PyObject *coro)
{
    return (PyCoro_CheckExact(coro) || cl_coro_check(coro)) &&
           (loop->l_task_factory == NULL || loop->l_task_factory == Py_None);
}

PyObject *
cl_child_ensure(cl_state *st, PyObject *name, LoopObject *ours, PyObject *loop,
                PyObject *arg)
{
    if ((loop == NULL || loop == (PyObject *)ours) &&
        cl_child_fits_task(ours, arg))
        return cl_task_new(ours, arg, NULL, NULL, false);
    if (cl_future_is_ours(st, arg) &&
        (loop == NULL || as_future(arg)->f_loop == loop) &&
        as_future(arg)->f_loop != NULL)
        return Py_NewRef(arg);
    PyObject *args[] = {arg, loop == NULL ? Py_None : loop};
    return cl_call_module(cl_futures_of(st)->tasks_module, name, args, 1,
                          cl_sync_of(st)->kwnames_loop);
}

int
cl_children_are_ours(cl_state *st, PyObject *set, LoopObject *loop)
{
    PyObject *iter = PyObject_GetIter(set), *child;
    bool all = true;
    while (iter != NULL && all && (child = PyIter_Next(iter)) != NULL) {
        all = cl_future_is_ours(st, child) &&
              as_future(child)->f_loop == (PyObject *)loop;
        Py_DECREF(child);
    }
    Py_XDECREF(iter);
    return PyErr_Occurred() ? -1 : all;
}
