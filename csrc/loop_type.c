/* loop_type.c - LoopCore: the methods of the loop that are written in C.
 *
 * cloop.Loop (cloop/_loop.py) derives from this type first and from the running
 * Python's asyncio.SelectorEventLoop second: what is not here is asyncio's own
 * code, which works on the attributes kept here under the names it expects. */
#include "loop_type.h"

#include <limits.h>
#include <string.h>

#include "core/errors.h"
#include "core/lent.h"
#include "core/loop.h"
#include "core/signals.h"

/* ------------------------------------------------------------------- helpers */

/* Calls asyncio.tasks.Task and the like, looked up at each use as asyncio does. */
static PyObject *
call_module(PyObject *module, PyObject *name, PyObject *const *args,
            size_t nargs, PyObject *kwnames)
{
    PyObject *callable = PyObject_GetAttr(module, name);
    if (callable == NULL)
        return NULL;
    PyObject *result = PyObject_Vectorcall(callable, args, nargs, kwnames);
    Py_DECREF(callable);
    return result;
}

static int
check_closed(LoopObject *loop)
{
    /* l_open as well: Python code can reset _closed, or leave out __init__. */
    if (!loop->l_closed && loop->l_open)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return -1;
}

static int
check_running(LoopObject *loop)
{
    if (loop->l_thread_id != 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "This event loop is already running");
        return -1;
    }
    cl_state *st = loop->l_st;
    PyObject *running = call_module(st->events_module,
                                    st->str__get_running_loop, NULL, 0, NULL);
    if (running == NULL)
        return -1;
    Py_DECREF(running);
    if (running != Py_None) {
        PyErr_SetString(
            PyExc_RuntimeError,
            "Cannot run the event loop while another loop is running");
        return -1;
    }
    return 0;
}

/* asyncio's _check_thread() (unless `anywhere`) and _check_callback(). */
static int
check_debug(LoopObject *loop, PyObject *callback, const char *method,
            bool anywhere)
{
    PyObject *name = NULL, *result = NULL;
    if (!anywhere) {
        result = PyObject_CallMethodNoArgs((PyObject *)loop,
                                           loop->l_st->str__check_thread);
        if (result == NULL)
            return -1;
        Py_CLEAR(result);
    }
    if ((name = PyUnicode_FromString(method)) == NULL)
        return -1;
    PyObject *argv[] = {(PyObject *)loop, callback, name};
    result = PyObject_VectorcallMethod(loop->l_st->str__check_callback, argv,
                                       3, NULL);
    Py_DECREF(name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The arguments of a scheduling method: `count` named ones, then those of the
 * callback, then context=. */
typedef struct {
    const char *method;
    const char *const *names;
    int count;             /* at most 2 */
    PyObject *named[2];    /* borrowed */
    PyObject *const *rest; /* borrowed */
    Py_ssize_t nrest;
    PyObject *context; /* borrowed, or NULL */
} call_args;

static int
take_keyword(call_args *call, cl_state *st, PyObject *key, PyObject *value)
{
    if (key == st->str_context ||
        PyUnicode_Compare(key, st->str_context) == 0) {
        call->context = value;
        return 0;
    }
    for (int i = 0; i < call->count; i++) {
        if (!PyUnicode_CompareWithASCIIString(key, call->names[i])) {
            if (call->named[i] != NULL) {
                PyErr_Format(PyExc_TypeError,
                             "%s() got multiple values for argument '%s'",
                             call->method, call->names[i]);
                return -1;
            }
            call->named[i] = value;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError,
                 "%s() got an unexpected keyword argument '%U'", call->method,
                 key);
    return -1;
}

static int
parse_call(call_args *call, cl_state *st, PyObject *const *args,
           Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t given = nargs < call->count ? nargs : call->count;
    call->named[0] = call->named[1] = call->context = NULL;
    for (Py_ssize_t i = 0; i < given; i++)
        call->named[i] = args[i];
    call->rest = args + given;
    call->nrest = nargs - given;
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        if (take_keyword(call, st, PyTuple_GET_ITEM(kwnames, i),
                         args[nargs + i]) < 0)
            return -1;
    }
    for (int i = 0; i < call->count; i++) {
        if (call->named[i] == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() missing 1 required positional argument: '%s'",
                         call->method, call->names[i]);
            return -1;
        }
    }
    return 0;
}

static int
refuse_context(const call_args *call)
{
    if (call->context == NULL)
        return 0;
    PyErr_Format(PyExc_TypeError,
                 "%s() got an unexpected keyword argument 'context'",
                 call->method);
    return -1;
}

/* The argument, borrowed, of a method that takes names[0] alone. */
static PyObject *
parse_only(cl_state *st, const char *method, const char *const *names,
           PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    call_args call = {.method = method, .names = names, .count = 1};
    if (nargs == 1 && kwnames == NULL)
        return args[0];
    if (parse_call(&call, st, args, nargs, kwnames) < 0 ||
        refuse_context(&call) < 0)
        return NULL;
    if (call.nrest > 0) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes 2 positional arguments but %zd were given",
                     method, nargs + 1);
        return NULL;
    }
    return call.named[0];
}

/* ---------------------------------------------------------------- scheduling */

static const char *const callback_names[] = {"callback"};
static const char *const call_later_names[] = {"delay", "callback"};
static const char *const call_at_names[] = {"when", "callback"};

/* A handle made while the loop does not run may be garbage before
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
    /* Making it may have run Python code, and that may have closed the loop. */
    if (check_closed(loop) < 0 ||
        cl_loop_push(loop, cl_node_make(Py_NewRef(handle), CL_NODE_HANDLE)) <
            0)
        Py_CLEAR(handle);
    return (PyObject *)handle;
}

PyDoc_STRVAR(Loop_call_soon_doc,
             "call_soon($self, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) on the next turn of the loop; return an "
             "asyncio.Handle.\n\n"
             "context is the contextvars.Context to call it in, the current "
             "one by default.\n"
             "Raises RuntimeError if the loop is closed. See asyncio's "
             "loop.call_soon.");

static PyObject *
Loop_call_soon(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    PyObject *callback, *context = NULL;
    PyObject *const *rest = args + 1;
    Py_ssize_t nrest = nargs - 1;

    if (check_closed(loop) < 0)
        return NULL;
    if (nargs >= 1 && (kwnames == NULL || (PyTuple_GET_SIZE(kwnames) == 1 &&
                                           PyTuple_GET_ITEM(kwnames, 0) ==
                                               loop->l_st->str_context))) {
        callback = args[0];
        if (kwnames != NULL)
            context = args[nargs];
    }
    else {
        call_args call = {
            .method = "call_soon", .names = callback_names, .count = 1};
        if (parse_call(&call, loop->l_st, args, nargs, kwnames) < 0)
            return NULL;
        callback = call.named[0];
        context = call.context;
        rest = call.rest;
        nrest = call.nrest;
    }
    if (loop->l_debug && check_debug(loop, callback, "call_soon", false) < 0)
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
    call_args call = {
        .method = "call_soon_threadsafe", .names = callback_names, .count = 1};
    if (check_closed(loop) < 0 ||
        parse_call(&call, loop->l_st, args, nargs, kwnames) < 0)
        return NULL;
    if (loop->l_debug &&
        check_debug(loop, call.named[0], "call_soon_threadsafe", true) < 0)
        return NULL;
    HandleObject *handle = cl_handle_new(loop, call.named[0], call.rest,
                                         call.nrest, call.context);
    if (handle == NULL)
        return NULL;
    cl_handle_make_threadsafe(handle);
    if (loop->l_thread_id == 0)
        cl_handle_track(handle); /* as in push_new() */
    if (check_closed(loop) < 0 ||
        cl_loop_push_threadsafe(
            loop, cl_node_make(Py_NewRef(handle), CL_NODE_HANDLE)) < 0)
        Py_CLEAR(handle);
    return (PyObject *)handle;
}

/* `when_object` is kept for TimerHandle.when(), unless it is just the float. */
static PyObject *
schedule_at(LoopObject *loop, double when, PyObject *when_object,
            PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
            PyObject *context)
{
    if (when_object != NULL && PyFloat_CheckExact(when_object))
        when_object = NULL;
    TimerHandleObject *timer = cl_timer_handle_new(
        loop, when, when_object, callback, args, nargs, context);
    if (timer != NULL &&
        (check_closed(loop) < 0 || cl_loop_schedule(loop, timer) < 0))
        Py_CLEAR(timer);
    return (PyObject *)timer;
}

static PyObject *
call_at_object(LoopObject *loop, const call_args *call, PyObject *when_object)
{
    double when = PyFloat_AsDouble(when_object);
    if (when == -1.0 && PyErr_Occurred())
        return NULL;
    if (check_closed(loop) < 0 ||
        (loop->l_debug &&
         check_debug(loop, call->named[1], "call_at", false) < 0))
        return NULL;
    return schedule_at(loop, when, when_object, call->named[1], call->rest,
                       call->nrest, call->context);
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
    call_args call = {.method = "call_at", .names = call_at_names, .count = 2};
    if (parse_call(&call, loop->l_st, args, nargs, kwnames) < 0)
        return NULL;
    if (call.named[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    return call_at_object(loop, &call, call.named[0]);
}

/* call_at() as overridden, or with a delay that only Python can add up. */
static PyObject *
call_later_generic(LoopObject *loop, const call_args *call)
{
    PyObject *now = NULL, *when = NULL, *result = NULL, **argv = NULL;
    now = PyObject_CallMethodNoArgs((PyObject *)loop, loop->l_st->str_time);
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
        PyObject_VectorcallMethod(loop->l_st->str_call_at, argv, (size_t)nargs,
                                  loop->l_st->kwnames_context);
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
    call_args call = {
        .method = "call_later", .names = call_later_names, .count = 2};
    double delay;
    if (parse_call(&call, loop->l_st, args, nargs, kwnames) < 0)
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
    if (cl_loop_overrides(loop, CL_OVERRIDES_TIME | CL_OVERRIDES_CALL_AT))
        return call_later_generic(loop, &call);
    if (check_closed(loop) < 0 ||
        (loop->l_debug &&
         check_debug(loop, call.named[1], "call_at", false) < 0))
        return NULL;
    double when = (double)cl_now_ns() / 1e9 + delay;
    return schedule_at(loop, when, NULL, call.named[1], call.rest, call.nrest,
                       call.context);
}

PyDoc_STRVAR(Loop_time_doc, "time($self, /)\n--\n\n"
                            "Return the time of the loop's clock in seconds: "
                            "that of time.monotonic().");

static PyObject *
Loop_time(LoopObject *Py_UNUSED(loop), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble((double)cl_now_ns() / 1e9);
}

/* ------------------------------------------------- for asyncio's Python code */

static cl_node
node_for(LoopObject *loop, PyObject *handle)
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
    "Run an existing handle on the next turn, unless it is cancelled.");

static PyObject *
Loop_add_callback(LoopObject *loop, PyObject *handle)
{
    PyObject *cancelled = PyObject_GetAttr(handle, loop->l_st->str__cancelled);
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (skip < 0)
        return NULL;
    if (!skip && loop->l_open &&
        cl_loop_push(loop, node_for(loop, handle)) < 0)
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
        cl_loop_push_threadsafe(loop, node_for(loop, handle)) < 0)
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
    if (check_closed(loop) < 0)
        return NULL;
    return push_new(loop, args[0], ((PyTupleObject *)args[1])->ob_item,
                    PyTuple_GET_SIZE(args[1]), args[2]);
}

PyDoc_STRVAR(Loop_write_to_self_doc, "_write_to_self($self, /)\n--\n\n"
                                     "Wake the loop. From any thread.");

static PyObject *
Loop_write_to_self(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    if (loop->l_open)
        cl_inbox_wake(&loop->l_inbox);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    Loop_wakeup_fileno_doc,
    "_wakeup_fileno($self, /)\n--\n\n"
    "The descriptor that takes signal numbers for this loop; -1 once closed.");

static PyObject *
Loop_wakeup_fileno(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(loop->l_open ? loop->l_inbox.i_write_fd : -1);
}

PyDoc_STRVAR(Loop_arm_signals_doc, "_arm_signals($self, /)\n--\n\n"
                                   "Make signals wake this loop, if it runs "
                                   "and nobody else's descriptor is set.");

static PyObject *
Loop_arm_signals(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    if (loop->l_open && loop->l_thread_id == PyThread_get_thread_ident())
        cl_signals_arm(loop);
    Py_RETURN_NONE;
}

/* --------------------------------------------------------------- descriptors */

/* The number behind an int or an object with fileno(); -1 with ValueError as
 * the selectors module raises it, or OverflowError as epoll does. */
static int
fd_of(LoopObject *loop, PyObject *file)
{
    PyObject *number = NULL;
    long fd = -1;
    if (PyLong_Check(file)) {
        number = Py_NewRef(file);
    }
    else {
        PyObject *called =
            PyObject_CallMethodNoArgs(file, loop->l_st->str_fileno);
        if (called != NULL)
            number = PyNumber_Long(called);
        Py_XDECREF(called);
        if (number == NULL) {
            if (PyErr_ExceptionMatches(PyExc_AttributeError) ||
                PyErr_ExceptionMatches(PyExc_TypeError) ||
                PyErr_ExceptionMatches(PyExc_ValueError)) {
                PyErr_Clear();
                PyErr_Format(PyExc_ValueError, "Invalid file object: %R",
                             file);
            }
            return -1;
        }
    }
    fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred())
        return -1;
    if (fd > INT_MAX)
        PyErr_SetString(PyExc_OverflowError,
                        "signed integer is greater than maximum");
    else if (fd < 0)
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld", fd);
    else
        return (int)fd;
    return -1;
}

/* RuntimeError if a transport owns the descriptor. */
static int
check_no_transport(LoopObject *loop, PyObject *file, int fd)
{
    PyObject *key = NULL, *transport = NULL, *closing = NULL;
    int busy = -1;
    if (loop->l_transports == NULL)
        return 0;
    if ((key = PyLong_FromLong(fd)) == NULL)
        return -1;
    /* Looking into the WeakValueDictionary's own dictionary first saves a
     * KeyError in Python for each descriptor that is nobody's. */
    PyObject *data =
        PyObject_GetAttr(loop->l_transports, loop->l_st->str_data);
    if (data != NULL)
        busy = PyDict_CheckExact(data) ? PyDict_Contains(data, key) : 1;
    Py_XDECREF(data);
    if (busy <= 0) {
        Py_DECREF(key);
        return busy;
    }
    busy = -1;
    transport = PyObject_GetItem(loop->l_transports, key);
    if (transport == NULL) {
        if (PyErr_ExceptionMatches(PyExc_KeyError)) {
            PyErr_Clear();
            busy = 0;
        }
        goto done;
    }
    closing = PyObject_CallMethodNoArgs(transport, loop->l_st->str_is_closing);
    int is_closing = closing == NULL ? -1 : PyObject_IsTrue(closing);
    if (is_closing == 0)
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", file,
                     transport);
    else if (is_closing > 0)
        busy = 0;
done:
    Py_XDECREF(key);
    Py_XDECREF(transport);
    Py_XDECREF(closing);
    return busy;
}

static const char *const watcher_names[] = {"fd", "callback"};

static PyObject *
add_watcher(LoopObject *loop, const call_args *call, unsigned direction,
            bool checked)
{
    PyObject *file = call->named[0];
    int fd = fd_of(loop, file);
    if (fd < 0 || (checked && check_no_transport(loop, file, fd) < 0) ||
        check_closed(loop) < 0)
        return NULL;
    HandleObject *handle = cl_handle_new(loop, call->named[1], call->rest,
                                         call->nrest, call->context);
    if (handle == NULL)
        return NULL;
    cl_handle_track(handle);
    if (check_closed(loop) < 0 ||
        cl_lent_add(loop, fd, file, direction,
                    (HandleObject *)Py_NewRef(handle)) < 0)
        Py_CLEAR(handle);
    return (PyObject *)handle;
}

static PyObject *
remove_watcher(LoopObject *loop, PyObject *file, unsigned direction,
               bool checked)
{
    int fd = fd_of(loop, file);
    if (fd < 0 && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    if (fd < 0) {
        /* Closed before it was removed: look for the object, as selectors do. */
        if (!PyErr_ExceptionMatches(PyExc_ValueError) || !loop->l_open)
            return NULL;
        PyObject *error = PyErr_GetRaisedException();
        fd = cl_lent_find_file(loop, file);
        if (fd < 0 && loop->l_closed)
            fd = 0;
        if (fd < 0) {
            PyErr_SetRaisedException(error);
            return NULL;
        }
        Py_DECREF(error);
    }
    else if (checked && check_no_transport(loop, file, fd) < 0) {
        return NULL;
    }
    if (!loop->l_open)
        Py_RETURN_FALSE;
    int removed = cl_lent_remove(loop, fd, direction);
    return removed < 0 ? NULL : PyBool_FromLong(removed);
}

PyDoc_STRVAR(
    Loop_add_reader_doc,
    "add_reader($self, fd, callback, *args)\n--\n\n"
    "Call callback(*args) whenever fd, a descriptor or an object with "
    "fileno(), can\n"
    "be read. Replaces its earlier reader. The descriptor stays the caller's: "
    "its\n"
    "blocking mode is left alone. Raises PermissionError for a regular file,\n"
    "OSError for a bad descriptor, RuntimeError if a transport owns it. See\n"
    "asyncio's loop.add_reader.");
PyDoc_STRVAR(Loop_add_writer_doc,
             "add_writer($self, fd, callback, *args)\n--\n\n"
             "Like add_reader(), for writing.");
PyDoc_STRVAR(Loop_remove_reader_doc,
             "remove_reader($self, fd)\n--\n\n"
             "Stop watching fd for reading; return whether it was watched.");
PyDoc_STRVAR(Loop_remove_writer_doc,
             "remove_writer($self, fd)\n--\n\n"
             "Stop watching fd for writing; return whether it was watched.");

static PyObject *
add_lent(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
         PyObject *kwnames, const char *method, unsigned direction)
{
    call_args call = {.method = method, .names = watcher_names, .count = 2};
    if (parse_call(&call, loop->l_st, args, nargs, kwnames) < 0 ||
        refuse_context(&call) < 0)
        return NULL;
    PyObject *handle = add_watcher(loop, &call, direction, true);
    if (handle == NULL)
        return NULL;
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

static PyObject *
Loop_add_reader(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return add_lent(loop, args, nargs, kwnames, "add_reader", CL_READ);
}

static PyObject *
Loop_add_writer(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return add_lent(loop, args, nargs, kwnames, "add_writer", CL_WRITE);
}

static PyObject *
Loop_remove_reader(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    PyObject *file = parse_only(loop->l_st, "remove_reader", watcher_names,
                                args, nargs, kwnames);
    return file == NULL ? NULL : remove_watcher(loop, file, CL_READ, true);
}

static PyObject *
Loop_remove_writer(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    PyObject *file = parse_only(loop->l_st, "remove_writer", watcher_names,
                                args, nargs, kwnames);
    return file == NULL ? NULL : remove_watcher(loop, file, CL_WRITE, true);
}

/* The private four serve asyncio's transports, which own their descriptors. */

static PyObject *
add_owned(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames, const char *method, unsigned direction)
{
    call_args call = {.method = method, .names = watcher_names, .count = 2};
    if (parse_call(&call, loop->l_st, args, nargs, kwnames) < 0)
        return NULL;
    return add_watcher(loop, &call, direction, false);
}

static PyObject *
Loop_add_reader_private(LoopObject *loop, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    return add_owned(loop, args, nargs, kwnames, "_add_reader", CL_READ);
}

static PyObject *
Loop_add_writer_private(LoopObject *loop, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    return add_owned(loop, args, nargs, kwnames, "_add_writer", CL_WRITE);
}

static PyObject *
Loop_remove_reader_private(LoopObject *loop, PyObject *file)
{
    return remove_watcher(loop, file, CL_READ, false);
}

static PyObject *
Loop_remove_writer_private(LoopObject *loop, PyObject *file)
{
    return remove_watcher(loop, file, CL_WRITE, false);
}

PyDoc_STRVAR(
    Loop_watched_doc,
    "_watched($self, fd, /)\n--\n\n"
    "Return the (reader, writer) handles of a descriptor given to add_reader "
    "or\n"
    "add_writer, None in place of a missing one; None if it is not watched.");

static PyObject *
Loop_watched(LoopObject *loop, PyObject *number)
{
    HandleObject *reader, *writer;
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fd < 0 || fd > INT_MAX || !loop->l_open ||
        !cl_lent_handles(loop, (int)fd, &reader, &writer))
        Py_RETURN_NONE;
    return Py_BuildValue("(OO)", reader ? (PyObject *)reader : Py_None,
                         writer ? (PyObject *)writer : Py_None);
}

/* ----------------------------------------------------------- tasks, futures */

PyDoc_STRVAR(Loop_create_future_doc,
             "create_future($self, /)\n--\n\n"
             "Return an asyncio.Future attached to this loop.");

static PyObject *
Loop_create_future(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = loop->l_st;
    PyObject *argv[] = {(PyObject *)loop};
    return call_module(st->futures_module, st->str_Future, argv, 0,
                       st->kwnames_loop);
}

PyDoc_STRVAR(
    Loop_create_task_doc,
    "create_task($self, coro, **kwargs)\n--\n\n"
    "Wrap a coroutine in a task and schedule it; return the asyncio.Task.\n\n"
    "Keywords are those of this Python's asyncio: name=, context= (3.11),\n"
    "eager_start= (3.14). A task factory is asked first, if one is set. "
    "Raises\n"
    "RuntimeError if the loop is closed. See asyncio's loop.create_task.");

/* Plain calls are made here; anything with a factory or other keywords goes to
 * asyncio's own method, which knows its version's rules. */
static PyObject *
Loop_create_task(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    cl_state *st = loop->l_st;
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nargs != 1 || nkw != 0 || loop->l_debug ||
        (loop->l_task_factory != NULL && loop->l_task_factory != Py_None)) {
        PyObject *self_args[8];
        PyObject *method =
            PyObject_GetAttr(st->SelectorEventLoop, st->str_create_task);
        PyObject *task = NULL;
        if (method == NULL)
            return NULL;
        if (nargs + nkw > 7) {
            PyErr_SetString(PyExc_TypeError,
                            "create_task() got too many arguments");
        }
        else {
            self_args[0] = (PyObject *)loop;
            for (Py_ssize_t i = 0; i < nargs + nkw; i++)
                self_args[i + 1] = args[i];
            task = PyObject_Vectorcall(method, self_args, (size_t)nargs + 1,
                                       kwnames);
        }
        Py_DECREF(method);
        return task;
    }
    if (check_closed(loop) < 0)
        return NULL;
    PyObject *argv[] = {args[0], (PyObject *)loop};
    return call_module(st->tasks_module, st->str_Task, argv, 1,
                       st->kwnames_loop);
}

/* -------------------------------------------------------------------- running */

PyDoc_STRVAR(
    Loop_stop_doc,
    "stop($self, /)\n--\n\n"
    "Let run_forever() return after the turn in progress (or the next one).");

static PyObject *
Loop_stop(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    loop->l_stopping = true;
    Py_RETURN_NONE;
}

static int
track_origin(LoopObject *loop, bool enabled)
{
    PyObject *argv[] = {(PyObject *)loop, enabled ? Py_True : Py_False};
    PyObject *result = PyObject_VectorcallMethod(
        loop->l_st->str__set_coroutine_origin_tracking, argv, 2, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Installs the loop's hooks for async generators; the old ones come back in
 * `hooks`, to be put back by cl_asyncgen_hooks_swap(). */
static int
set_asyncgen_hooks(LoopObject *loop, cl_asyncgen_hooks *hooks)
{
    cl_state *st = loop->l_st;
    hooks->firstiter =
        PyObject_GetAttr((PyObject *)loop, st->str__asyncgen_firstiter_hook);
    if (hooks->firstiter == NULL)
        return -1;
    hooks->finalizer =
        PyObject_GetAttr((PyObject *)loop, st->str__asyncgen_finalizer_hook);
    if (hooks->finalizer == NULL) {
        Py_CLEAR(hooks->firstiter);
        return -1;
    }
    cl_asyncgen_hooks_swap(hooks);
    return 0;
}

static void
restore_asyncgen_hooks(cl_asyncgen_hooks *hooks)
{
    cl_asyncgen_hooks_swap(hooks);
    Py_CLEAR(hooks->firstiter);
    Py_CLEAR(hooks->finalizer);
}

static int
set_running_loop(LoopObject *loop, PyObject *running)
{
    cl_state *st = loop->l_st;
    PyObject *result = call_module(
        st->events_module, st->str__set_running_loop, &running, 1, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
run_once(LoopObject *loop)
{
    if (!cl_loop_overrides(loop, CL_OVERRIDES_RUN_ONCE))
        return cl_loop_turn(loop);
    PyObject *result =
        PyObject_CallMethodNoArgs((PyObject *)loop, loop->l_st->str__run_once);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
refresh_if_changed(LoopObject *loop)
{
    /* A patched class; instances notice by themselves, unless their __dict__
     * was written to directly. */
    unsigned version = cl_type_version(Py_TYPE(loop));
    if (version != 0 && version == loop->l_type_version &&
        loop->l_dict == NULL)
        return 0;
    return cl_loop_refresh_overrides(loop);
}

/* run_forever() after its checks. */
static int
run(LoopObject *loop)
{
    cl_asyncgen_hooks hooks = {NULL, NULL};
    int status = -1;

    if (refresh_if_changed(loop) < 0 ||
        (loop->l_debug && track_origin(loop, true) < 0) ||
        set_asyncgen_hooks(loop, &hooks) < 0)
        return -1;
    if (set_running_loop(loop, (PyObject *)loop) == 0) {
        loop->l_thread_id = PyThread_get_thread_ident();
        loop->l_signals_tried = false;
        cl_loop_scan_new(loop);
        /* Whoever runs the loop for a turn or two expects to hear of events. */
        if (loop->l_watches.wt_count > 1 || cl_signals_handled(loop))
            loop->l_skip_until = 0;
        do {
            status = run_once(loop);
        } while (status == 0 && !loop->l_stopping);
        loop->l_stopping = false;
        loop->l_thread_id = 0;
    }

    PyObject *error = status < 0 ? PyErr_GetRaisedException() : NULL;
    cl_signals_disarm(loop);
    if (set_running_loop(loop, Py_None) < 0)
        status = -1;
    if (loop->l_origin_enabled && track_origin(loop, false) < 0)
        status = -1;
    restore_asyncgen_hooks(&hooks);
    if (error != NULL)
        PyErr_SetRaisedException(error);
    return status;
}

PyDoc_STRVAR(Loop_run_forever_doc,
             "run_forever($self, /)\n--\n\n"
             "Run until stop() is called. Raises RuntimeError if the loop is "
             "closed or runs\n"
             "already, or if another loop runs in this thread.");

static PyObject *
Loop_run_forever(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    if (check_closed(loop) < 0 || check_running(loop) < 0 || run(loop) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Loop_run_once_doc,
             "_run_once($self, /)\n--\n\n"
             "Run one turn: poll, then call what is ready.");

static PyObject *
Loop_run_once(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    if (check_closed(loop) < 0 || cl_loop_turn(loop) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* The future to wait for, as asyncio.ensure_future() gives it; *is_new tells
 * whether the task was made here. */
static PyObject *
future_for(LoopObject *loop, PyObject *awaitable, bool *is_new)
{
    cl_state *st = loop->l_st;
    if (PyCoro_CheckExact(awaitable) &&
        !cl_loop_overrides(loop, CL_OVERRIDES_CREATE_TASK)) {
        *is_new = true;
        return Loop_create_task(loop, &awaitable, 1, NULL);
    }
    PyObject *result = PyObject_CallOneArg(st->isfuture, awaitable);
    int is_future = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (is_future < 0)
        return NULL;
    *is_new = !is_future;
    PyObject *argv[] = {awaitable, (PyObject *)loop};
    return PyObject_Vectorcall(st->ensure_future, argv, 1, st->kwnames_loop);
}

static int
is_done(LoopObject *loop, PyObject *future)
{
    PyObject *result = PyObject_CallMethodNoArgs(future, loop->l_st->str_done);
    int done = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return done;
}

/* The exception of a task that we made ourselves has reached our caller
 * already: mark it retrieved. */
static void
consume_exception(LoopObject *loop, PyObject *future)
{
    cl_state *st = loop->l_st;
    PyObject *error = PyErr_GetRaisedException(), *result = NULL;
    if (is_done(loop, future) > 0)
        result = PyObject_CallMethodNoArgs(future, st->str_cancelled);
    if (result == Py_False) {
        Py_DECREF(result);
        result = PyObject_CallMethodNoArgs(future, st->str_exception);
    }
    Py_XDECREF(result);
    PyErr_Clear();
    PyErr_SetRaisedException(error);
}

static int
call_run_forever(LoopObject *loop)
{
    if (!cl_loop_overrides(loop, CL_OVERRIDES_RUN_FOREVER))
        return run(loop);
    PyObject *result = PyObject_CallMethodNoArgs((PyObject *)loop,
                                                 loop->l_st->str_run_forever);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
remove_callback(LoopObject *loop, PyObject *future)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *removed =
        PyObject_CallMethodOneArg(future, loop->l_st->str_remove_done_callback,
                                  loop->l_st->run_until_complete_cb);
    if (error != NULL) {
        if (removed == NULL)
            PyErr_Clear();
        PyErr_SetRaisedException(error);
    }
    Py_XDECREF(removed);
    return removed == NULL ? -1 : 0;
}

PyDoc_STRVAR(Loop_run_until_complete_doc,
             "run_until_complete($self, future)\n--\n\n"
             "Run until the future (or the task made of a coroutine) is done; "
             "return its\n"
             "result or raise its exception. Raises RuntimeError if the loop "
             "is stopped\n"
             "before that. See asyncio's loop.run_until_complete.");

static PyObject *
Loop_run_until_complete(LoopObject *loop, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"future"};
    cl_state *st = loop->l_st;
    PyObject *awaitable =
        parse_only(st, "run_until_complete", names, args, nargs, kwnames);
    if (awaitable == NULL)
        return NULL;
    PyObject *future = NULL, *result = NULL, *added = NULL;
    bool is_new = false;

    if (check_closed(loop) < 0 || check_running(loop) < 0 ||
        refresh_if_changed(loop) < 0)
        return NULL;
    if ((future = future_for(loop, awaitable, &is_new)) == NULL)
        return NULL;
    if (is_new &&
        PyObject_SetAttr(future, st->str__log_destroy_pending, Py_False) < 0)
        goto done;
    added = PyObject_CallMethodOneArg(future, st->str_add_done_callback,
                                      st->run_until_complete_cb);
    if (added == NULL)
        goto done;
    Py_DECREF(added);
    int status = call_run_forever(loop);
    if (status < 0 && is_new)
        consume_exception(loop, future);
    if (remove_callback(loop, future) < 0)
        status = -1;
    if (status < 0)
        goto done;
    int finished = is_done(loop, future);
    if (finished > 0)
        result = PyObject_CallMethodNoArgs(future, st->str_result);
    else if (finished == 0)
        PyErr_SetString(PyExc_RuntimeError,
                        "Event loop stopped before Future completed.");
done:
    Py_DECREF(future);
    return result;
}

PyDoc_STRVAR(Loop_is_running_doc, "is_running($self, /)\n--\n\n"
                                  "Return True if the loop runs.");

static PyObject *
Loop_is_running(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(loop->l_thread_id != 0);
}

PyDoc_STRVAR(Loop_is_closed_doc, "is_closed($self, /)\n--\n\n"
                                 "Return True if the loop was closed.");

static PyObject *
Loop_is_closed(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(loop->l_closed);
}

PyDoc_STRVAR(Loop_get_debug_doc, "get_debug($self, /)\n--\n\n"
                                 "Return True in debug mode.");

static PyObject *
Loop_get_debug(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(loop->l_debug);
}

PyDoc_STRVAR(Loop_close_core_doc,
             "_close_core($self, keep_pipe, /)\n--\n\n"
             "The C half of close(): drop all that is pending and release "
             "descriptors, but\n"
             "for those of the pipe if signals may still be written to it.");

static PyObject *
Loop_close_core(LoopObject *loop, PyObject *keep_pipe)
{
    if (loop->l_thread_id != 0 || loop->l_depth > 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot close a running event loop");
        return NULL;
    }
    loop->l_closed = true;
    cl_loop_close(loop, keep_pipe == Py_True);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Loop_metrics_doc, "metrics($self, /)\n--\n\n"
                               "Return a dict of counters since the loop was "
                               "made: turns, polls (turns that\n"
                               "asked the kernel), callbacks (handles taken "
                               "from the ready queue), and of what\n"
                               "there is now: ready (handles due), timers "
                               "(scheduled), watched (descriptors\n"
                               "given to add_reader and add_writer).");

static PyObject *
Loop_metrics(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    Py_ssize_t ready =
        loop->l_open ? (Py_ssize_t)cl_ring_count(&loop->l_ready) : 0;
    Py_ssize_t timers = loop->l_open ? (Py_ssize_t)loop->l_timers.count : 0;
    int watched =
        loop->l_open ? loop->l_watches.wt_count - 1 : 0; /* but our pipe */
    return Py_BuildValue("{sKsKsKsnsnsi}", "turns",
                         (unsigned long long)loop->l_turns, "polls",
                         (unsigned long long)loop->l_polls, "callbacks",
                         (unsigned long long)loop->l_callbacks, "ready", ready,
                         "timers", timers, "watched", watched);
}

/* ----------------------------------------------------------------- attributes */

static PyObject *
get_ready(LoopObject *loop, void *Py_UNUSED(closure))
{
    PyObject *list = PyList_New(0);
    if (list == NULL || !loop->l_open)
        return list;
    for (uint64_t at = loop->l_ready.r_head; at != loop->l_ready.r_tail;
         at++) {
        cl_node node = cl_ring_at(&loop->l_ready, at);
        if (cl_node_kind(node) == CL_NODE_HANDLE)
            cl_handle_track(cl_node_pointer(node));
        if (PyList_Append(list, cl_node_pointer(node)) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *
get_scheduled(LoopObject *loop, void *Py_UNUSED(closure))
{
    PyObject *list = PyList_New(0);
    if (list == NULL || !loop->l_open)
        return list;
    for (size_t i = 0; i < loop->l_timers.count; i++) {
        TimerHandleObject *timer =
            cl_timer_from_node(loop->l_timers.entries[i].node);
        cl_handle_track(&timer->t_handle);
        if (PyList_Append(list, (PyObject *)timer) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *
get_poller(LoopObject *loop, void *Py_UNUSED(closure))
{
    if (!loop->l_open)
        Py_RETURN_NONE;
    return PyUnicode_FromString(loop->l_poller.ops->name);
}

static PyObject *
get_thread_id(LoopObject *loop, void *Py_UNUSED(closure))
{
    if (loop->l_thread_id == 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(loop->l_thread_id);
}

static int
refuse_delete(PyObject *value)
{
    if (value != NULL)
        return 0;
    PyErr_SetString(PyExc_AttributeError, "cannot delete this attribute");
    return -1;
}

static int
set_thread_id(LoopObject *loop, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long ident = 0;
    if (refuse_delete(value) < 0)
        return -1;
    if (value != Py_None) {
        ident = PyLong_AsUnsignedLong(value);
        if (ident == (unsigned long)-1 && PyErr_Occurred())
            return -1;
    }
    loop->l_thread_id = ident;
    return 0;
}

/* The flags that Python code may set take any object, as asyncio's do. The
 * closure is the offset of the bool. */
static PyObject *
get_flag(PyObject *loop, void *closure)
{
    return PyBool_FromLong(*(bool *)((char *)loop + (size_t)closure));
}

static int
set_flag(PyObject *loop, PyObject *value, void *closure)
{
    int truth = refuse_delete(value) < 0 ? -1 : PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    *(bool *)((char *)loop + (size_t)closure) = truth;
    return 0;
}

#define FLAG(name, field) \
    {name, get_flag, set_flag, NULL, (void *)offsetof(LoopObject, field)}

static PyGetSetDef Loop_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_ready", (getter)get_ready, NULL,
     "What is due now, as a list of handles (a copy).", NULL},
    {"_scheduled", (getter)get_scheduled, NULL,
     "The timers, as a list of handles in heap order (a copy).", NULL},
    {"_poller", (getter)get_poller, NULL,
     "Name of the poller: 'epoll' or 'poll'; None once closed.", NULL},
    {"_thread_id", (getter)get_thread_id, (setter)set_thread_id,
     "threading.get_ident() of the thread that runs the loop, or None.", NULL},
    FLAG("_debug", l_debug),
    FLAG("_closed", l_closed),
    FLAG("_stopping", l_stopping),
    FLAG("_coroutine_origin_tracking_enabled", l_origin_enabled),
    FLAG("_asyncgens_shutdown_called", l_asyncgens_shutdown),
    FLAG("_executor_shutdown_called", l_executor_shutdown),
    {NULL}};

#define OBJECT(name, field, flags) \
    {name, T_OBJECT, offsetof(LoopObject, field), flags, NULL}

static PyMemberDef Loop_members[] = {
    {"slow_callback_duration", T_DOUBLE,
     offsetof(LoopObject, l_slow_callback_duration), 0,
     "Callbacks that take longer, in seconds, are logged in debug mode."},
    {"_clock_resolution", T_DOUBLE, offsetof(LoopObject, l_clock_resolution),
     0,
     "Of loop.time(), in seconds. No timer fires early by it, as asyncio's "
     "do."},
    OBJECT("_current_handle", l_current_handle, READONLY),
    OBJECT("_default_executor", l_default_executor, 0),
    OBJECT("_exception_handler", l_exception_handler, 0),
    OBJECT("_task_factory", l_task_factory, 0),
    OBJECT("_asyncgens", l_asyncgens, 0),
    OBJECT("_signal_handlers", l_signal_handlers, 0),
    OBJECT("_unix_server_sockets", l_unix_server_sockets, 0),
    OBJECT("_transports", l_transports, 0),
    OBJECT("_watcher", l_watcher, 0),
    OBJECT("_old_agen_hooks", l_old_agen_hooks, 0),
    OBJECT("_coroutine_origin_tracking_saved_depth", l_origin_depth, 0),
    {"__dictoffset__", T_PYSSIZET, offsetof(LoopObject, l_dict), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(LoopObject, l_weakrefs),
     READONLY, NULL},
    {NULL}};

/* --------------------------------------------------------------- make and free */

static PyObject *
Loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    cl_state *st;
    LoopObject *loop = (LoopObject *)type->tp_alloc(type, 0);
    if (loop == NULL)
        return NULL;
    loop->l_slow_callback_duration = 0.1;
    loop->l_clock_resolution = 1e-9;
    loop->l_closed = true; /* until __init__() has opened it */
    if ((st = cl_type_state(type, cl_loop_dealloc)) == NULL) {
        Py_DECREF(loop);
        return NULL;
    }
    loop->l_st = st;
    loop->l_module = Py_NewRef(st->module);
    st->live_loops++;
    return (PyObject *)loop;
}

static int
Loop_init(LoopObject *loop, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"poller", NULL};
    const char *poller = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$z:Loop", keywords,
                                     &poller))
        return -1;
    if (loop->l_made) {
        PyErr_SetString(PyExc_RuntimeError, "the loop is initialised already");
        return -1;
    }
    cl_state *st = loop->l_st;
    loop->l_made = true;
    if ((loop->l_asyncgens = PyObject_CallNoArgs(st->WeakSet)) == NULL ||
        (loop->l_transports = PyObject_CallNoArgs(st->WeakValueDictionary)) ==
            NULL ||
        (loop->l_signal_handlers = PyDict_New()) == NULL ||
        (loop->l_unix_server_sockets = PyDict_New()) == NULL ||
        cl_loop_refresh_overrides(loop) < 0)
        return -1;
    if (cl_loop_open(loop, poller) < 0)
        return -1;
    loop->l_closed = false;
    return 0;
}

static int
Loop_traverse(LoopObject *loop, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(loop);
    Py_VISIT(loop->l_module);
    Py_VISIT(loop->l_dict);
    Py_VISIT(loop->l_current_handle);
    Py_VISIT(loop->l_default_executor);
    Py_VISIT(loop->l_exception_handler);
    Py_VISIT(loop->l_task_factory);
    Py_VISIT(loop->l_asyncgens);
    Py_VISIT(loop->l_signal_handlers);
    Py_VISIT(loop->l_unix_server_sockets);
    Py_VISIT(loop->l_transports);
    Py_VISIT(loop->l_watcher);
    Py_VISIT(loop->l_old_agen_hooks);
    Py_VISIT(loop->l_origin_depth);
    return cl_loop_traverse_pending(loop, visit, arg);
}

static int
Loop_clear(LoopObject *loop)
{
    loop->l_closed = true;
    cl_loop_close(loop, false);
    Py_CLEAR(loop->l_dict);
    Py_CLEAR(loop->l_current_handle);
    Py_CLEAR(loop->l_default_executor);
    Py_CLEAR(loop->l_exception_handler);
    Py_CLEAR(loop->l_task_factory);
    Py_CLEAR(loop->l_asyncgens);
    Py_CLEAR(loop->l_signal_handlers);
    Py_CLEAR(loop->l_unix_server_sockets);
    Py_CLEAR(loop->l_transports);
    Py_CLEAR(loop->l_watcher);
    Py_CLEAR(loop->l_old_agen_hooks);
    Py_CLEAR(loop->l_origin_depth);
    return 0;
}

void
cl_loop_dealloc(PyObject *self)
{
    LoopObject *loop = (LoopObject *)self;
    PyTypeObject *type = Py_TYPE(loop);
    PyObject_GC_UnTrack(loop);
    if (loop->l_weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    Loop_clear(loop);
    cl_handle_free_spares(loop);
    PyMem_Free(loop->l_fresh);
    PyObject *module = loop->l_module;
    if (loop->l_st != NULL)
        loop->l_st->live_loops--;
    type->tp_free(self);
    Py_DECREF(type);
    Py_XDECREF(module);
}

/* Keeps l_overridden true when a public method is assigned on the instance. */
static int
Loop_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    LoopObject *loop = (LoopObject *)self;
    if (PyObject_GenericSetAttr(self, name, value) < 0)
        return -1;
#define CHECK(id, method) \
    if (PyUnicode_Compare(name, loop->l_st->str_##method) == 0) { \
        loop->l_skip_until = 0; /* it may be another clock now */ \
        return cl_loop_refresh_overrides(loop); \
    }
    CL_OVERRIDABLE(CHECK)
#undef CHECK
    return 0;
}

#define FAST(function) (PyCFunction)(void (*)(void)) function

static PyMethodDef Loop_methods[] = {
    {"call_soon", FAST(Loop_call_soon), METH_FASTCALL | METH_KEYWORDS,
     Loop_call_soon_doc},
    {"call_soon_threadsafe", FAST(Loop_call_soon_threadsafe),
     METH_FASTCALL | METH_KEYWORDS, Loop_call_soon_threadsafe_doc},
    {"call_later", FAST(Loop_call_later), METH_FASTCALL | METH_KEYWORDS,
     Loop_call_later_doc},
    {"call_at", FAST(Loop_call_at), METH_FASTCALL | METH_KEYWORDS,
     Loop_call_at_doc},
    {"time", (PyCFunction)Loop_time, METH_NOARGS, Loop_time_doc},
    {"create_future", (PyCFunction)Loop_create_future, METH_NOARGS,
     Loop_create_future_doc},
    {"create_task", FAST(Loop_create_task), METH_FASTCALL | METH_KEYWORDS,
     Loop_create_task_doc},
    {"add_reader", FAST(Loop_add_reader), METH_FASTCALL | METH_KEYWORDS,
     Loop_add_reader_doc},
    {"add_writer", FAST(Loop_add_writer), METH_FASTCALL | METH_KEYWORDS,
     Loop_add_writer_doc},
    {"remove_reader", FAST(Loop_remove_reader), METH_FASTCALL | METH_KEYWORDS,
     Loop_remove_reader_doc},
    {"remove_writer", FAST(Loop_remove_writer), METH_FASTCALL | METH_KEYWORDS,
     Loop_remove_writer_doc},
    {"_add_reader", FAST(Loop_add_reader_private),
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_add_writer", FAST(Loop_add_writer_private),
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_remove_reader", (PyCFunction)Loop_remove_reader_private, METH_O, NULL},
    {"_remove_writer", (PyCFunction)Loop_remove_writer_private, METH_O, NULL},
    {"_watched", (PyCFunction)Loop_watched, METH_O, Loop_watched_doc},
    {"run_forever", (PyCFunction)Loop_run_forever, METH_NOARGS,
     Loop_run_forever_doc},
    {"run_until_complete", FAST(Loop_run_until_complete),
     METH_FASTCALL | METH_KEYWORDS, Loop_run_until_complete_doc},
    {"stop", (PyCFunction)Loop_stop, METH_NOARGS, Loop_stop_doc},
    {"is_running", (PyCFunction)Loop_is_running, METH_NOARGS,
     Loop_is_running_doc},
    {"is_closed", (PyCFunction)Loop_is_closed, METH_NOARGS,
     Loop_is_closed_doc},
    {"get_debug", (PyCFunction)Loop_get_debug, METH_NOARGS,
     Loop_get_debug_doc},
    {"metrics", (PyCFunction)Loop_metrics, METH_NOARGS, Loop_metrics_doc},
    {"_run_once", (PyCFunction)Loop_run_once, METH_NOARGS, Loop_run_once_doc},
    {"_call_soon", FAST(Loop_call_soon_private), METH_FASTCALL,
     Loop_call_soon_private_doc},
    {"_add_callback", (PyCFunction)Loop_add_callback, METH_O,
     Loop_add_callback_doc},
    {"_add_callback_signalsafe", (PyCFunction)Loop_add_callback_signalsafe,
     METH_O, Loop_add_callback_signalsafe_doc},
    {"_write_to_self", (PyCFunction)Loop_write_to_self, METH_NOARGS,
     Loop_write_to_self_doc},
    {"_wakeup_fileno", (PyCFunction)Loop_wakeup_fileno, METH_NOARGS,
     Loop_wakeup_fileno_doc},
    {"_arm_signals", (PyCFunction)Loop_arm_signals, METH_NOARGS,
     Loop_arm_signals_doc},
    {"_close_core", (PyCFunction)Loop_close_core, METH_O, Loop_close_core_doc},
    {NULL}};

static PyType_Slot Loop_slots[] = {
    {Py_tp_doc, "The part of cloop.Loop that is written in C."},
    {Py_tp_new, Loop_new},
    {Py_tp_init, Loop_init},
    {Py_tp_dealloc, cl_loop_dealloc},
    {Py_tp_traverse, Loop_traverse},
    {Py_tp_clear, Loop_clear},
    {Py_tp_setattro, Loop_setattro},
    {Py_tp_methods, Loop_methods},
    {Py_tp_getset, Loop_getset},
    {Py_tp_members, Loop_members},
    {0, NULL}};

static PyType_Spec Loop_spec = {
    .name = "cloop._cloop.LoopCore",
    .basicsize = sizeof(LoopObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Loop_slots,
};

PyTypeObject *
cl_loop_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &Loop_spec, offsetof(LoopObject, l_dict),
                       offsetof(LoopObject, l_weakrefs));
}
