/* loop_select.c - LoopCore: for programs that replace asyncio's selector, take
 * part in its turn, or change its lists of handles. cloop/_selector.py makes
 * these look as in asyncio. Other programs do not use this. */
#include "loop_type.h"

#include <limits.h>
#include <math.h>

#include "core/claim.h"
#include "core/args.h"
#include "core/lent.h"
#include "core/loop.h"
#include "core/signals.h"
#include "core/watchdog.h"
#include "state.h"

/* ------------------------------------------------------------------- waiting */

PyDoc_STRVAR(
    Loop_select_timeout_doc,
    "_select_timeout($self, /)\n--\n\n"
    "The timeout that asyncio would give its selector now: seconds, 0 "
    "or None.");

static PyObject *
Loop_select_timeout(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    double now;
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    if (cl_ring_count(&loop->l_ready) > 0 || loop->l_stopping ||
        loop->l_pipe_ready || loop->l_afterwards != NULL ||
        cl_inbox_filled(&loop->l_inbox))
        return PyLong_FromLong(0);
    const cl_heap_entry *first = cl_heap_peek(&loop->l_timers);
    if (first == NULL)
        Py_RETURN_NONE;
    double when = first->key;
    if (cl_loop_time(loop, &now) < 0)
        return NULL;
    if (!(when - now > 0))
        return PyLong_FromLong(0);
    return PyFloat_FromDouble(when - now > CL_POLL_MAX_S ? CL_POLL_MAX_S
                                                         : when - now);
}

PyDoc_STRVAR(Loop_announce_sleep_doc,
             "_announce_sleep($self, asleep, /)\n--\n\n"
             "While set to True, other threads wake the loop through its "
             "pipe. Return False if\n"
             "callbacks are pending.");

static PyObject *
Loop_announce_sleep(LoopObject *loop, PyObject *asleep)
{
    CL_CLAIM(loop, NULL);
    int truth = PyObject_IsTrue(asleep);
    if (truth < 0 || cl_loop_check_open(loop) < 0)
        return NULL;
    if (truth) {
        if (!loop->l_signals_tried) {
            cl_signals_arm(loop);
            if (PyErr_CheckSignals() < 0)
                return NULL;
        }
        loop->l_pulse = CL_PULSE_SLEEPS;
        cl_meter_sleep(&loop->l_meter);
        return PyBool_FromLong(cl_inbox_sleep(&loop->l_inbox));
    }
    if (loop->l_meter.me_asleep_ticks != 0)
        cl_meter_wake(&loop->l_meter, cl_ticks());
    cl_inbox_awake(&loop->l_inbox);
    loop->l_pulse = CL_PULSE_RUNS;
    Py_RETURN_TRUE;
}

/* Returns -1 for no limit; -2 on error. */
static int64_t
timeout_ns(PyObject *timeout)
{
    if (timeout == Py_None)
        return -1;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return -2;
    if (!(seconds > 0))
        return 0;
    return (int64_t)ceil(fmin(seconds, CL_POLL_MAX_S) * 1e9);
}

/* Returns [(fd, mask)] for the watched descriptors. */
static PyObject *
list_events(LoopObject *loop, const cl_event *events, int count)
{
    PyObject *list = PyList_New(0);
    for (int i = 0; i < count && list != NULL; i++) {
        cl_watch *watch = cl_watch_find(&loop->l_watches, events[i].fd);
        if (watch == NULL || watch->w_generation != events[i].generation)
            continue;
        unsigned mask =
            events[i].events & watch->w_want & (CL_READ | CL_WRITE);
        PyObject *pair =
            mask == 0 ? NULL : Py_BuildValue("(iI)", events[i].fd, mask);
        if (mask != 0 && (pair == NULL || PyList_Append(list, pair) < 0))
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

PyDoc_STRVAR(Loop_select_doc, "_select($self, timeout, /)\n--\n\n"
                              "Wait for events for at most timeout seconds, "
                              "without limit if it is None; return\n"
                              "[(fd, mask)]. Callbacks from other threads and "
                              "signals go to the ready queue.");

static PyObject *
Loop_select(LoopObject *loop, PyObject *timeout)
{
    CL_CLAIM(loop, NULL);
    cl_event events[CL_EVENTS_MAX];
    int count = 0;
    int64_t limit_ns = timeout_ns(timeout);
    if (limit_ns == -2 || cl_loop_check_open(loop) < 0)
        return NULL;
    cl_loop_forget_task(loop);
    /* First send what was written in the outer turn. */
    if (cl_loop_afterwards(loop, 0) < 0)
        return NULL;
    if (limit_ns != 0 && !loop->l_signals_tried) {
        cl_signals_arm(loop);
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    if (loop->l_pipe_ready || cl_inbox_filled(&loop->l_inbox) ||
        loop->l_watches.wt_reported)
        limit_ns = 0;
    if (cl_loop_wait(loop, limit_ns, events, &count) < 0)
        return NULL;
    PyObject *list = list_events(loop, events, count);
    for (int i = 0; i < count && list != NULL; i++) {
        /* The pipe is private. */
        if (events[i].fd == loop->l_inbox.i_read_fd)
            loop->l_pipe_ready = true;
    }
    if (list != NULL &&
        (cl_watch_tell_reported(loop) < 0 ||
         (loop->l_pipe_ready && cl_signals_deliver(loop) < 0) ||
         (cl_inbox_filled(&loop->l_inbox) && cl_loop_drain_inbox(loop) < 0)))
        Py_CLEAR(list);
    return list;
}

/* -------------------------------------------------------- watched descriptors */

PyDoc_STRVAR(Loop_wanted_doc, "_wanted($self, /)\n--\n\n"
                              "Return {fd: mask} for everything watched, "
                              "including the loop's own pipe.");

static PyObject *
Loop_wanted(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    PyObject *all = PyDict_New();
    for (int fd = 0;
         all != NULL && loop->l_open && fd < loop->l_watches.wt_size; fd++) {
        cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
        unsigned mask =
            watch == NULL ? 0 : watch->w_want & (CL_READ | CL_WRITE);
        if (mask == 0)
            continue;
        PyObject *key = PyLong_FromLong(fd), *value = PyLong_FromLong(mask);
        if (key == NULL || value == NULL ||
            PyDict_SetItem(all, key, value) < 0)
            Py_CLEAR(all);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return all;
}

PyDoc_STRVAR(Loop_poller_fileno_doc,
             "_poller_fileno($self, /)\n--\n\n"
             "The descriptor that is readable when any watched descriptor is "
             "ready or, if the\n"
             "poller has none, when the loop is woken.");

static PyObject *
Loop_poller_fileno(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    int fd = loop->l_poller.fd;
    return PyLong_FromLong(fd >= 0 ? fd : loop->l_inbox.i_read_fd);
}

/* Passes readiness to the descriptor's watch, if there is one. 0/-1 */
static int
dispatch(LoopObject *loop, int fd, unsigned mask)
{
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    if (watch == NULL)
        return 0;
    cl_event event = {
        .fd = fd, .generation = watch->w_generation, .events = mask};
    return cl_watch_dispatch(loop, &event);
}

PyDoc_STRVAR(Loop_dispatch_doc, "_dispatch($self, fd, mask, /)\n--\n\n"
                                "Treat fd as ready.");

static PyObject *
Loop_dispatch(LoopObject *loop, PyObject *args)
{
    CL_CLAIM(loop, NULL);
    int fd;
    unsigned mask;
    if (!PyArg_ParseTuple(args, "iI:_dispatch", &fd, &mask) ||
        cl_loop_check_open(loop) < 0 || dispatch(loop, fd, mask) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Like asyncio: pushes the handle to the ready queue, unless it is cancelled. */
static int
take_handle(LoopObject *loop, PyObject *key, PyObject *handle,
            unsigned direction)
{
    cl_state *st = loop->l_st;
    cl_top *top = cl_top_of(st);
    PyObject *argv[] = {(PyObject *)loop, handle}, *result = NULL,
             *file = NULL;
    PyObject *cancelled = PyObject_GetAttr(handle, top->str__cancelled);
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (skip == 0) {
        result =
            PyObject_VectorcallMethod(top->str__add_callback, argv, 2, NULL);
    }
    else if (skip > 0) {
        argv[1] = file = PyObject_GetAttrString(key, "fileobj");
        result = file == NULL
                     ? NULL
                     : PyObject_VectorcallMethod(direction == CL_READ
                                                     ? top->str__remove_reader
                                                     : top->str__remove_writer,
                                                 argv, 2, NULL);
        Py_XDECREF(file);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether something of ours other than a handle watches the key's descriptor. */
static bool
is_ours(LoopObject *loop, int fd, unsigned direction)
{
    HandleObject *reader = NULL, *writer = NULL;
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    if (watch == NULL || !(watch->w_want & direction))
        return false;
    return !cl_lent_handles(loop, fd, &reader, &writer) ||
           (direction == CL_READ ? reader : writer) == NULL;
}

static int
process_event(LoopObject *loop, PyObject *key, unsigned mask)
{
    static const unsigned directions[] = {CL_READ, CL_WRITE};
    PyObject *number = PyObject_GetAttrString(key, "fd");
    PyObject *data = NULL, *pair = NULL;
    int status = -1;
    if (number == NULL ||
        (data = PyObject_GetAttrString(key, "data")) == NULL ||
        (pair = PySequence_Tuple(data)) == NULL)
        goto done;
    if (PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_ValueError, "data is no pair of handles");
        goto done;
    }
    long fd = PyLong_Check(number) ? PyLong_AsLong(number) : -1;
    if (fd == -1 && PyErr_Occurred())
        PyErr_Clear();
    status = 0;
    for (int i = 0; i < 2 && status == 0; i++) {
        if (!(mask & directions[i]))
            continue;
        PyObject *handle = PyTuple_GET_ITEM(pair, i);
        if (fd >= 0 && fd <= INT_MAX && is_ours(loop, (int)fd, directions[i]))
            status = dispatch(loop, (int)fd, directions[i]);
        else if (handle != Py_None)
            status = take_handle(loop, key, handle, directions[i]);
    }
done:
    Py_XDECREF(number);
    Py_XDECREF(data);
    Py_XDECREF(pair);
    return status;
}

PyDoc_STRVAR(Loop_process_events_doc,
             "_process_events($self, event_list, /)\n--\n\n"
             "Put the handles of a selector's events, (key, mask), into the "
             "ready queue.");

static PyObject *
Loop_process_events(LoopObject *loop, PyObject *event_list)
{
    CL_CLAIM(loop, NULL);
    PyObject *events, *item;
    if (cl_loop_check_open(loop) < 0 ||
        (events = PyObject_GetIter(event_list)) == NULL)
        return NULL;
    int status = 0;
    while (status == 0 && (item = PyIter_Next(events)) != NULL) {
        PyObject *pair = PySequence_Tuple(item), *key;
        unsigned mask;
        if (pair == NULL || !PyArg_ParseTuple(pair, "OI", &key, &mask) ||
            process_event(loop, key, mask) < 0)
            status = -1;
        Py_XDECREF(pair);
        Py_DECREF(item);
    }
    Py_DECREF(events);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* --------------------------------------------- the ready queue and the timers */

PyDoc_STRVAR(Loop_ready_count_doc,
             "_ready_count($self, /)\n--\n\n"
             "Return the number of handles in the ready queue.");

static PyObject *
Loop_ready_count(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    if (loop->l_open && cl_inbox_filled(&loop->l_inbox) &&
        cl_loop_drain_inbox(loop) < 0)
        return NULL;
    return PyLong_FromSize_t(loop->l_open ? cl_ring_count(&loop->l_ready) : 0);
}

PyDoc_STRVAR(Loop_ready_take_doc, "_ready_take($self, /)\n--\n\n"
                                  "Remove and return the first handle of the "
                                  "ready queue. Raises IndexError if it is\n"
                                  "empty.");

static PyObject *
Loop_ready_take(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    cl_loop_forget_task(loop);
    if (loop->l_open && cl_inbox_filled(&loop->l_inbox) &&
        cl_loop_drain_inbox(loop) < 0)
        return NULL;
    if (!loop->l_open || cl_ring_count(&loop->l_ready) == 0) {
        PyErr_SetString(PyExc_IndexError, "pop from an empty deque");
        return NULL;
    }
    cl_node node = cl_ring_pop(&loop->l_ready);
    const cl_node_ops *ops = cl_node_ops_of(loop->l_st, node);
    PyObject *handle = ops->as_handle(loop, node);
    ops->drop(node, handle == NULL);
    return handle;
}

PyDoc_STRVAR(Loop_ready_append_doc,
             "_ready_append($self, handle, /)\n--\n\n"
             "Append a handle, cancelled or not, to the ready queue.");

#if CL_FREE_THREADED
/* asyncio's _call_soon() does it in any thread, and wakes the loop then. */
static PyObject *
append_elsewhere(LoopObject *loop, PyObject *handle)
{
    if (cl_loop_check_open(loop) < 0 ||
        cl_loop_push_threadsafe(loop, cl_loop_node_for(loop, handle)) < 0)
        return NULL;
    Py_RETURN_NONE;
}
#endif

static PyObject *
Loop_ready_append(LoopObject *loop, PyObject *handle)
{
    CL_CLAIM_OR(loop, return append_elsewhere(loop, handle));
    if (cl_loop_check_open(loop) < 0 ||
        cl_loop_push(loop, cl_loop_node_for(loop, handle)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static TimerHandleObject *
timer_of(LoopObject *loop, PyObject *object)
{
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    if (Py_TYPE(object) != loop->l_st->TimerHandleType ||
        ((HandleObject *)object)->h_loop != loop) {
        PyErr_SetString(PyExc_TypeError, "no timer of this loop");
        return NULL;
    }
    return (TimerHandleObject *)object;
}

PyDoc_STRVAR(Loop_put_timer_doc,
             "_put_timer($self, timer, /)\n--\n\n"
             "Schedule a timer of this loop that is no longer scheduled.");

static PyObject *
Loop_put_timer(LoopObject *loop, PyObject *object)
{
    CL_CLAIM(loop, NULL);
    TimerHandleObject *timer = timer_of(loop, object);
    if (timer == NULL)
        return NULL;
    if (!cl_heap_contains(&timer->tm_node) &&
        !(timer->tm_handle.h_flags & CL_HANDLE_CANCELLED) &&
        cl_loop_schedule(loop, timer) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    Loop_drop_timer_doc,
    "_drop_timer($self, timer, /)\n--\n\n"
    "Remove a timer from the schedule, without changing it otherwise.");

static PyObject *
Loop_drop_timer(LoopObject *loop, PyObject *object)
{
    CL_CLAIM(loop, NULL);
    TimerHandleObject *timer = timer_of(loop, object);
    if (timer == NULL)
        return NULL;
    cl_loop_unschedule(loop, timer);
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------- methods */

static PyMethodDef methods[] = {
    {"_select_timeout", (PyCFunction)Loop_select_timeout, METH_NOARGS,
     Loop_select_timeout_doc},
    {"_announce_sleep", (PyCFunction)Loop_announce_sleep, METH_O,
     Loop_announce_sleep_doc},
    {"_select", (PyCFunction)Loop_select, METH_O, Loop_select_doc},
    {"_wanted", (PyCFunction)Loop_wanted, METH_NOARGS, Loop_wanted_doc},
    {"_poller_fileno", (PyCFunction)Loop_poller_fileno, METH_NOARGS,
     Loop_poller_fileno_doc},
    {"_dispatch", (PyCFunction)Loop_dispatch, METH_VARARGS, Loop_dispatch_doc},
    {"_process_events", (PyCFunction)Loop_process_events, METH_O,
     Loop_process_events_doc},
    {"_ready_count", (PyCFunction)Loop_ready_count, METH_NOARGS,
     Loop_ready_count_doc},
    {"_ready_take", (PyCFunction)Loop_ready_take, METH_NOARGS,
     Loop_ready_take_doc},
    {"_ready_append", (PyCFunction)Loop_ready_append, METH_O,
     Loop_ready_append_doc},
    {"_put_timer", (PyCFunction)Loop_put_timer, METH_O, Loop_put_timer_doc},
    {"_drop_timer", (PyCFunction)Loop_drop_timer, METH_O, Loop_drop_timer_doc},
    {NULL}};

int
cl_loop_select_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
