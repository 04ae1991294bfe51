/* loop_schedule.c - LoopCore: call_soon and similar methods, and those with
 * which asyncio's Python code schedules handles. */
#include "loop_type.h"

#include <string.h>

#include "core/claim.h"
#include "core/errors.h"
#include "core/fork.h"
#include "core/loop.h"
#include "core/args.h"
#include "futures/task.h"
#include "state.h"

/* ---------------------------------------------------------------- scheduling */

static const char *const callback_names[] = {"callback"};
static const char *const call_later_names[] = {"delay", "callback"};
static const char *const call_at_names[] = {"when", "callback"};

#if CL_FREE_THREADED
/* Another thread runs the loop. */
static PyObject *
push_elsewhere(LoopObject *loop, HandleObject *handle)
{
    if (cl_loop_push_threadsafe(
            loop, cl_node_make(Py_NewRef(handle), CL_NODE_HANDLE)) < 0)
        Py_CLEAR(handle);
    return (PyObject *)handle;
}
#endif

/* A handle made while the loop does not run may become garbage before
 * cl_loop_scan_new() sees it, so it is tracked at once. */
static PyObject *
push_new(LoopObject *loop, PyObject *callback, PyObject *const *args,
         Py_ssize_t nargs, PyObject *context)
{
    HandleObject *handle = cl_handle_new(loop, callback, args, nargs, context);
    if (handle == NULL)
        return NULL;
    if (loop->l_thread_id == 0)
        cl_handle_track(handle);
    /* What asyncio allows without debug mode, though it need not wake the loop,
     * is done safely. */
    CL_CLAIM_OR(loop, return push_elsewhere(loop, handle));
    /* Creating it may have run Python code that closed the loop. */
    if (cl_loop_check_open(loop) < 0 ||
        cl_loop_push(loop, cl_node_make(Py_NewRef(handle), CL_NODE_HANDLE)) <
            0)
        Py_CLEAR(handle);
    return (PyObject *)handle;
}

/* See cl_task_woken_by(). A task is not callable. */
static PyObject *
push_task(LoopObject *loop, PyObject *task, PyObject *argument,
          PyObject *context)
{
    PyObject *wakeup = cl_task_woken_by(loop->l_st, task, argument);
    if (wakeup != NULL) {
        PyObject *handle = push_new(loop, wakeup, &argument, 1,
                                    ((TaskObject *)task)->t_context);
        Py_DECREF(wakeup);
        return handle;
    }
    if (PyErr_Occurred() ||
        (loop->l_debug &&
         cl_loop_check_debug(loop, task, "call_soon", false) < 0))
        return NULL;
    return push_new(loop, task, &argument, 1, context);
}

PyDoc_STRVAR(Loop_call_soon_doc,
             "call_soon($self, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) in the next turn of the loop; return an "
             "asyncio.Handle.\n\n"
             "context is the contextvars.Context to call it in, by default a "
             "copy of the current\n"
             "one. Raises RuntimeError if the loop is closed. See asyncio's "
             "loop.call_soon.");

static PyObject *
Loop_call_soon(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "call_soon", args, nargs, kwnames, &result))
        return result;
    PyObject *callback, *context = NULL;
    PyObject *const *rest = args + 1;
    Py_ssize_t nrest = nargs - 1;

    if (nargs >= 1 &&
        (kwnames == NULL || (PyTuple_GET_SIZE(kwnames) == 1 &&
                             PyTuple_GET_ITEM(kwnames, 0) ==
                                 cl_top_of(loop->l_st)->str_context))) {
        callback = args[0];
        if (kwnames != NULL)
            context = args[nargs];
    }
    else {
        cl_call_args call = {
            .method = "call_soon", .names = callback_names, .count = 1};
        if (cl_call_args_parse(&call, loop->l_st, args, nargs, kwnames) < 0)
            return NULL;
        callback = call.named[0];
        context = call.context;
        rest = call.rest;
        nrest = call.nrest;
    }
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    if (Py_TYPE(callback) == cl_futures_of(loop->l_st)->TaskType && nrest == 1)
        return push_task(loop, callback, rest[0], context);
    if (loop->l_debug &&
        cl_loop_check_debug(loop, callback, "call_soon", false) < 0)
        return NULL;
    return push_new(loop, callback, rest, nrest, context);
}

PyDoc_STRVAR(
    Loop_call_soon_threadsafe_doc,
    "call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n"
    "Like call_soon(), from any thread; wakes the loop if it sleeps.");

static PyObject *
Loop_call_soon_threadsafe(LoopObject *loop, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "call_soon_threadsafe", args, nargs, kwnames,
                         &result))
        return result;
    cl_call_args call = {
        .method = "call_soon_threadsafe", .names = callback_names, .count = 1};
    if (cl_call_args_parse(&call, loop->l_st, args, nargs, kwnames) < 0 ||
        cl_loop_check_open(loop) < 0)
        return NULL;
    if (loop->l_debug && cl_loop_check_debug(loop, call.named[0],
                                             "call_soon_threadsafe", true) < 0)
        return NULL;
    HandleObject *handle = cl_handle_new(loop, call.named[0], call.rest,
                                         call.nrest, call.context);
    if (handle == NULL)
        return NULL;
    cl_handle_make_threadsafe(handle);
    if (loop->l_thread_id == 0)
        cl_handle_track(handle); /* as in push_new() */
    if (cl_loop_check_open(loop) < 0 ||
        cl_loop_push_threadsafe(
            loop, cl_node_make(Py_NewRef(handle), CL_NODE_HANDLE)) < 0)
        Py_CLEAR(handle);
    return (PyObject *)handle;
}

/* `when_object` is kept for TimerHandle.when(), unless it is a float. */
static PyObject *
schedule_at(LoopObject *loop, double when, PyObject *when_object,
            const cl_call_args *call)
{
    CL_CLAIM(loop, NULL);
    PyObject *callback = call->named[1];
    if (cl_loop_check_open(loop) < 0 ||
        (loop->l_debug &&
         cl_loop_check_debug(loop, callback, "call_at", false) < 0))
        return NULL;
    if (when_object != NULL && PyFloat_CheckExact(when_object))
        when_object = NULL;
    TimerHandleObject *timer =
        cl_timer_handle_new(loop, when, when_object, callback, call->rest,
                            call->nrest, call->context);
    /* Again, as in push_new(). */
    if (timer != NULL &&
        (cl_loop_check_open(loop) < 0 || cl_loop_schedule(loop, timer) < 0))
        Py_CLEAR(timer);
    return (PyObject *)timer;
}

static PyObject *
call_at_object(LoopObject *loop, const cl_call_args *call,
               PyObject *when_object)
{
    double when = PyFloat_AsDouble(when_object);
    if (when == -1.0 && PyErr_Occurred())
        return NULL;
    return schedule_at(loop, when, when_object, call);
}

PyDoc_STRVAR(Loop_call_at_doc,
             "call_at($self, when, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) at loop.time() == when (seconds), never "
             "earlier; return an\n"
             "asyncio.TimerHandle. See asyncio's loop.call_at.");

static PyObject *
Loop_call_at(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "call_at", args, nargs, kwnames, &result))
        return result;
    cl_call_args call = {
        .method = "call_at", .names = call_at_names, .count = 2};
    if (cl_call_args_parse(&call, loop->l_st, args, nargs, kwnames) < 0)
        return NULL;
    if (call.named[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    return call_at_object(loop, &call, call.named[0]);
}

/* call_at() is overridden, or only Python can add the delay. */
static PyObject *
call_later_generic(LoopObject *loop, const cl_call_args *call)
{
    PyObject *now = NULL, *when = NULL, *result = NULL, **argv = NULL;
    now = PyObject_CallMethodNoArgs((PyObject *)loop,
                                    cl_top_of(loop->l_st)->str_time);
    when = now == NULL ? NULL : PyNumber_Add(now, call->named[0]);
    if (when == NULL)
        goto done;
    if (!cl_loop_overrides(loop, CL_OVERRIDES_CALL_AT)) {
        result = call_at_object(loop, call, when);
        goto done;
    }
    Py_ssize_t nargs = 3 + call->nrest;
    argv = PyMem_New(PyObject *, (size_t)nargs + 1);
    if (argv == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    argv[0] = (PyObject *)loop;
    argv[1] = when;
    argv[2] = call->named[1];
    if (call->nrest > 0)
        memcpy(argv + 3, call->rest, (size_t)call->nrest * sizeof(*argv));
    argv[nargs] = call->context != NULL ? call->context : Py_None;
    result =
        PyObject_VectorcallMethod(cl_top_of(loop->l_st)->str_call_at, argv,
                                  (size_t)nargs, loop->l_st->kwnames_context);
done:
    PyMem_Free(argv);
    Py_XDECREF(now);
    Py_XDECREF(when);
    return result;
}

PyDoc_STRVAR(
    Loop_call_later_doc,
    "call_later($self, delay, callback, *args, context=None)\n--\n\n"
    "Call callback(*args) after delay seconds, never earlier; return an\n"
    "asyncio.TimerHandle. See asyncio's loop.call_later.");

static PyObject *
Loop_call_later(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "call_later", args, nargs, kwnames, &result))
        return result;
    cl_call_args call = {
        .method = "call_later", .names = call_later_names, .count = 2};
    double delay;
    if (cl_call_args_parse(&call, loop->l_st, args, nargs, kwnames) < 0)
        return NULL;
    PyObject *given = call.named[0];
    if (given == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    if (PyFloat_CheckExact(given))
        delay = PyFloat_AS_DOUBLE(given);
    else if (PyLong_CheckExact(given))
        delay = PyLong_AsDouble(given);
    else
        return call_later_generic(loop, &call);
    if (delay == -1.0 && PyErr_Occurred())
        return NULL;
    if (cl_loop_overrides(loop, CL_OVERRIDES_TIME | CL_OVERRIDES_CALL_AT) ||
        cl_clock_replaced(loop->l_st))
        return call_later_generic(loop, &call);
    return schedule_at(loop, cl_now_s() + delay, NULL, &call);
}

PyDoc_STRVAR(
    Loop_time_doc,
    "time($self, /)\n--\n\n"
    "Return the time of the loop's clock, time.monotonic(), in seconds.");

/* What the program has put in the place of time.monotonic(). */
static PyObject *
call_clock(void)
{
    PyObject *module = PyImport_ImportModule("time"), *result = NULL;
    if (module != NULL)
        result = PyObject_CallMethod(module, "monotonic", NULL);
    Py_XDECREF(module);
    return result;
}

static PyObject *
Loop_time(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    PyObject *result;
    if (cl_loop_replaced(loop, "time", NULL, 0, NULL, &result))
        return result;
    if (cl_clock_replaced(loop->l_st))
        return call_clock();
    return PyFloat_FromDouble(cl_now_s());
}

/* ------------------------------------------------- for asyncio's Python code */

cl_node
cl_loop_node_for(LoopObject *loop, PyObject *handle)
{
    bool ours = Py_TYPE(handle) == loop->l_st->HandleType ||
                Py_TYPE(handle) == loop->l_st->TimerHandleType;
    if (ours)
        cl_handle_track((HandleObject *)handle);
    return cl_node_make(Py_NewRef(handle),
                        ours ? CL_NODE_HANDLE : CL_NODE_FOREIGN);
}

PyDoc_STRVAR(
    Loop_add_callback_doc,
    "_add_callback($self, handle, /)\n--\n\n"
    "Run an existing handle in the next turn, unless it is cancelled.");

static PyObject *
Loop_add_callback(LoopObject *loop, PyObject *handle)
{
    CL_CLAIM(loop, NULL);
    PyObject *cancelled =
        PyObject_GetAttr(handle, cl_top_of(loop->l_st)->str__cancelled);
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (skip < 0)
        return NULL;
    if (!skip && loop->l_open &&
        cl_loop_push(loop, cl_loop_node_for(loop, handle)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Loop_add_callback_signalsafe_doc,
             "_add_callback_signalsafe($self, handle, /)\n--\n\n"
             "Like _add_callback(), and wakes the loop.");

static PyObject *
Loop_add_callback_signalsafe(LoopObject *loop, PyObject *handle)
{
    if (loop->l_open &&
        cl_loop_push_threadsafe(loop, cl_loop_node_for(loop, handle)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Loop_call_soon_private_doc,
             "_call_soon($self, callback, args, context, /)\n--\n\n"
             "call_soon() without its checks.");

static PyObject *
Loop_call_soon_private(LoopObject *loop, PyObject *const *args,
                       Py_ssize_t nargs)
{
    if (nargs != 3 || !PyTuple_Check(args[1])) {
        PyErr_SetString(
            PyExc_TypeError,
            "_call_soon() takes a callback, a tuple and a context");
        return NULL;
    }
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    return push_new(loop, args[0], ((PyTupleObject *)args[1])->ob_item,
                    PyTuple_GET_SIZE(args[1]), args[2]);
}

PyDoc_STRVAR(Loop_write_to_self_doc, "_write_to_self($self, /)\n--\n\n"
                                     "Wake the loop. From any thread.");

static PyObject *
Loop_write_to_self(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    int err = loop->l_open ? cl_fork_adopt(loop) : 0;
    if (err < 0) {
        cl_raise_errno(err);
        return NULL;
    }
    if (loop->l_open)
        cl_inbox_wake(&loop->l_inbox);
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------- methods */

static PyMethodDef methods[] = {
    {"call_soon", CL_FAST(Loop_call_soon), METH_FASTCALL | METH_KEYWORDS,
     Loop_call_soon_doc},
    {"call_soon_threadsafe", CL_FAST(Loop_call_soon_threadsafe),
     METH_FASTCALL | METH_KEYWORDS, Loop_call_soon_threadsafe_doc},
    {"call_later", CL_FAST(Loop_call_later), METH_FASTCALL | METH_KEYWORDS,
     Loop_call_later_doc},
    {"call_at", CL_FAST(Loop_call_at), METH_FASTCALL | METH_KEYWORDS,
     Loop_call_at_doc},
    {"time", (PyCFunction)Loop_time, METH_NOARGS, Loop_time_doc},
    {"_call_soon", CL_FAST(Loop_call_soon_private), METH_FASTCALL,
     Loop_call_soon_private_doc},
    {"_add_callback", (PyCFunction)Loop_add_callback, METH_O,
     Loop_add_callback_doc},
    {"_add_callback_signalsafe", (PyCFunction)Loop_add_callback_signalsafe,
     METH_O, Loop_add_callback_signalsafe_doc},
    {"_write_to_self", (PyCFunction)Loop_write_to_self, METH_NOARGS,
     Loop_write_to_self_doc},
    {NULL}};

int
cl_loop_schedule_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
