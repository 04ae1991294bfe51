/* timeouts.c - asyncio.timeout(), as long as it does not expire.
 *
 * If it expires, or is entered too late, asyncio's code takes over: its
 * handling of exceptions differs between versions. */
#include "sync/timeouts.h"

#include "core/handle.h"
#include "futures/layout.h"
#include "futures/registry.h"
#include "sync/locks.h"
#include "sync/timer.h"

enum { STATE, HANDLER, TASK, WHEN, CANCELLING };

static inline PyObject *
state_named(cl_state *st, int name)
{
    return cl_sync_of(st)->sy_states[name];
}

static inline bool
look(cl_state *st, PyObject *self, cl_view *view)
{
    return cl_sync_look(st, self, CL_CLASS_TIMEOUT, view);
}

static inline int
set(cl_state *st, cl_view *view, int index, PyObject *value)
{
    return cl_sync_set(st, view, CL_CLASS_TIMEOUT, index, value);
}

/* The running loop, borrowed, if call_at() is not overridden; time() too:
 * asyncio's code, which may still take over, asks it again. */
static LoopObject *
running_loop(cl_state *st)
{
    return cl_sync_pinned(st, CL_PINS_TIMEOUT)
               ? cl_sync_running_loop(st,
                                      CL_OVERRIDES_CALL_AT | CL_OVERRIDES_TIME)
               : NULL;
}

/* ------------------------------------------------------------------------ timeout() */

/* Creates Timeout(when) without calling __init__(). */
static PyObject *
new_timeout(cl_state *st, PyObject *when)
{
    cl_sync_class *class = &cl_sync_of(st)->sy_classes[CL_CLASS_TIMEOUT];
    PyObject *values[] = {[STATE] = state_named(st, CL_TIMEOUT_CREATED),
                          [HANDLER] = Py_None,
                          [TASK] = Py_None,
                          [WHEN] = when};
    PyObject *empty = PyTuple_New(0), *self = NULL;
    if (empty != NULL)
        self = PyBaseObject_Type.tp_new(class->sc_guard.g_type, empty, NULL);
    Py_XDECREF(empty);
    if (self != NULL &&
        cl_shape_fill(&class->sc_shape, self, values, WHEN + 1) < 0)
        Py_CLEAR(self);
    return self;
}

PyObject *
cl_sync_timeout(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    cl_guard *guard = &cl_sync_of(st)->sy_classes[CL_CLASS_TIMEOUT].sc_guard;
    double delay = 0.0, now = 0.0;
    bool none = nargs == 1 && args[0] == Py_None;
    LoopObject *loop;
    if (nargs != 1 || kwnames != NULL || cl_sync_loop(st) == NULL ||
        !cl_guard_holds(guard) ||
        (!none && !cl_timer_delay(args[0], &delay)) ||
        (loop = running_loop(st)) == NULL)
        return PyErr_Occurred() ? NULL
                                : cl_sync_original(st, CL_BODY_TIMEOUT, args,
                                                   nargs, kwnames);
    if (none)
        return new_timeout(st, Py_None);
    if (cl_loop_time(loop, &now) < 0)
        return NULL;
    PyObject *when = PyFloat_FromDouble(now + delay);
    PyObject *self = when == NULL ? NULL : new_timeout(st, when);
    Py_XDECREF(when);
    return self;
}

PyObject *
cl_sync_timeout_at(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    cl_guard *guard = &cl_sync_of(st)->sy_classes[CL_CLASS_TIMEOUT].sc_guard;
    return nargs == 1 && kwnames == NULL && cl_sync_loop(st) != NULL &&
                   cl_guard_holds(guard) && cl_sync_pinned(st, CL_PINS_TIMEOUT)
               ? new_timeout(st, args[0])
               : cl_sync_original(st, CL_BODY_TIMEOUT_AT, args, nargs,
                                  kwnames);
}

/* ----------------------------------------------------------------------- async with */

/* The timer, for a timeout with its class's own methods. */
static TimerHandleObject *
new_timer(cl_state *st, LoopObject *loop, PyObject *self, double when)
{
    PyObject *function =
        cl_guard_known(&cl_sync_of(st)->sy_classes[CL_CLASS_TIMEOUT].sc_guard,
                       cl_sync_of(st)->str__on_timeout);
    PyObject *method =
        function != NULL && PyFunction_Check(function)
            ? PyMethod_New(function, self)
            : PyObject_GetAttr(self, cl_sync_of(st)->str__on_timeout);
    TimerHandleObject *timer =
        method == NULL
            ? NULL
            : cl_timer_handle_new(loop, when, NULL, method, NULL, 0, NULL);
    Py_XDECREF(method);
    if (timer != NULL && cl_loop_schedule(loop, timer) < 0) {
        cl_handle_drop(&timer->tm_handle);
        timer = NULL;
    }
    return timer;
}

/* __aenter__(): 1 if entered, 0 if that is up to asyncio, -1 on error. */
static int
enter(cl_state *st, LoopObject *loop, PyObject *self)
{
    TimerHandleObject *timer = NULL;
    double now, when = 0.0;
    cl_view view;
    PyObject *task = cl_registry_current_task(st, loop);
    if (task == NULL || Py_TYPE(task) != cl_futures_of(st)->TaskType ||
        !look(st, self, &view) ||
        view.v_at[STATE] != state_named(st, CL_TIMEOUT_CREATED) ||
        view.v_at[HANDLER] != Py_None || view.v_at[CANCELLING] != NULL)
        return 0;
    bool timed = view.v_at[WHEN] != Py_None;
    if (timed) {
        if (!PyFloat_CheckExact(view.v_at[WHEN]))
            return 0;
        when = PyFloat_AS_DOUBLE(view.v_at[WHEN]);
        if (cl_loop_time(loop, &now) < 0)
            return -1;
        if (!(when > now))
            return 0;
        if ((timer = new_timer(st, loop, self, when)) == NULL)
            return -1;
    }
    PyObject *count = PyLong_FromLong(cl_task_cancelling((TaskObject *)task));
    /* Allocation may have run Python code. */
    int status =
        count != NULL && look(st, self, &view) && view.v_at[CANCELLING] == NULL
            ? 0
            : -1;
    if (status == 0)
        status = set(st, &view, STATE, state_named(st, CL_TIMEOUT_ENTERED));
    if (status == 0)
        status = set(st, &view, TASK, task);
    if (status == 0 && timed)
        status = set(st, &view, HANDLER, (PyObject *)timer);
    if (status == 0)
        status =
            cl_view_add(&cl_sync_of(st)->sy_classes[CL_CLASS_TIMEOUT].sc_shape,
                        &view, self, CANCELLING, count);
    if (status < 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "Timeout has changed meanwhile");
    if (status < 0 && timed)
        cl_loop_unschedule(loop, timer);
    if (timed)
        cl_handle_drop(&timer->tm_handle);
    Py_XDECREF(count);
    return status < 0 ? -1 : 1;
}

PyObject *
cl_timeout_entered(cl_state *st, PyObject *delay)
{
    cl_guard *guard = &cl_sync_of(st)->sy_classes[CL_CLASS_TIMEOUT].sc_guard;
    PyObject *when = NULL, *self;
    double seconds = 0.0, now;
    LoopObject *loop;
    if (!cl_guard_holds(guard) ||
        (delay != Py_None && !cl_timer_delay(delay, &seconds)) ||
        (loop = running_loop(st)) == NULL)
        return NULL;
    if (delay != Py_None &&
        (cl_loop_time(loop, &now) < 0 ||
         (when = PyFloat_FromDouble(now + seconds)) == NULL))
        return NULL;
    self = new_timeout(st, delay == Py_None ? Py_None : when);
    Py_XDECREF(when);
    if (self != NULL && enter(st, loop, self) <= 0)
        Py_CLEAR(self);
    return self;
}

static cl_op_outcome
aenter_begin(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    LoopObject *loop = running_loop(st);
    int entered = loop != NULL       ? enter(st, loop, op->o_self)
                  : PyErr_Occurred() ? -1
                                     : 0;
    if (entered == 0)
        return CL_OP_HAND_OVER;
    return entered < 0 ? CL_OP_FAILED : cl_op_done(result, op->o_self);
}

static const cl_op_kind aenter = {
    .k_ops = CL_OP_OPS("Timeout"),
    .k_name = "__aenter__",
    .k_body = CL_BODY_TIMEOUT_AENTER,
    .k_class = CL_CLASS_TIMEOUT,
    .k_begin = aenter_begin,
    .k_args = cl_lock_only_self,
};

PyObject *
cl_sync_timeout_aenter(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    return cl_takes_none(nargs, kwnames) && cl_sync_may_begin(st) &&
                   cl_sync_knows(st, args[0], CL_CLASS_TIMEOUT)
               ? cl_op_new(st, &aenter, args[0], NULL)
               : cl_sync_original(st, CL_BODY_TIMEOUT_AENTER, args, nargs,
                                  kwnames);
}

int
cl_timeout_leave(cl_state *st, PyObject *self)
{
    cl_view view;
    if (!look(st, self, &view) ||
        view.v_at[STATE] != state_named(st, CL_TIMEOUT_ENTERED))
        return 0;
    PyObject *handler = view.v_at[HANDLER];
    if (handler != Py_None) {
        if (Py_TYPE(handler) != st->TimerHandleType)
            return 0;
        Py_INCREF(handler);
        int status = cl_timer_cancel(st, handler);
        /* Releasing the handle may have run Python code. */
        if (status == 0 && look(st, self, &view))
            status = set(st, &view, HANDLER, Py_None);
        else if (status == 0)
            status = PyObject_SetAttr(
                self, cl_sync_of(st)->str__timeout_handler, Py_None);
        Py_DECREF(handler);
        if (status < 0)
            return -1;
        if (!look(st, self, &view) ||
            view.v_at[STATE] != state_named(st, CL_TIMEOUT_ENTERED))
            return 0;
    }
    return set(st, &view, STATE, state_named(st, CL_TIMEOUT_EXITED)) < 0 ? -1
                                                                         : 1;
}

static cl_op_outcome
aexit_begin(SyncOpObject *op, PyObject **result)
{
    int left = cl_timeout_leave(op->o_coro.c_st, op->o_self);
    if (left == 0)
        return CL_OP_HAND_OVER;
    return left < 0 ? CL_OP_FAILED : cl_op_done(result, Py_None);
}

static PyObject *
aexit_args(const SyncOpObject *op)
{
    return op->o_arg != NULL
               ? Py_NewRef(op->o_arg)
               : PyTuple_Pack(4, op->o_self, Py_None, Py_None, Py_None);
}

static const cl_op_kind aexit_kind = {
    .k_ops = CL_OP_OPS("Timeout"),
    .k_name = "__aexit__",
    .k_body = CL_BODY_TIMEOUT_AEXIT,
    .k_class = CL_CLASS_TIMEOUT,
    .k_begin = aexit_begin,
    .k_args = aexit_args,
};

PyObject *
cl_sync_timeout_aexit(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    if (nargs != 4 || kwnames != NULL || !cl_sync_may_begin(st) ||
        !cl_sync_knows(st, args[0], CL_CLASS_TIMEOUT))
        return cl_sync_original(st, CL_BODY_TIMEOUT_AEXIT, args, nargs,
                                kwnames);
    PyObject *all =
        args[1] == Py_None && args[2] == Py_None && args[3] == Py_None
            ? NULL
            : PyTuple_Pack(4, args[0], args[1], args[2], args[3]);
    if (all == NULL && PyErr_Occurred())
        return NULL;
    PyObject *op = cl_op_new(st, &aexit_kind, args[0], all);
    Py_XDECREF(all);
    return op;
}
