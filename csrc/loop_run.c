/* loop_run.c - LoopCore: running and closing. */
#include "loop_type.h"

#include "core/args.h"
#include "core/claim.h"
#include "core/errors.h"
#include "core/fork.h"
#include "core/loop.h"
#include "core/signals.h"
#include "net/gather.h"
#include "state.h"

/* -------------------------------------------------------------------- running */

/* Number of attempts. */
#define UNMARK_ATTEMPTS 10

/* Whether it says so: is_running() may be overridden. 1, 0, -1 */
static int
says_it_runs(LoopObject *loop)
{
    PyObject *result = PyObject_CallMethodNoArgs(
        (PyObject *)loop, cl_futures_of(loop->l_st)->str_is_running);
    int runs = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return runs;
}

static int
check_running(LoopObject *loop)
{
    int runs = says_it_runs(loop);
    if (runs < 0)
        return -1;
    if (runs || loop->l_thread_id != 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "This event loop is already running");
        return -1;
    }
    cl_state *st = loop->l_st;
    PyObject *running =
        cl_call_module(st->events_module, cl_top_of(st)->str__get_running_loop,
                       NULL, 0, NULL);
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

PyDoc_STRVAR(Loop_stop_doc, "stop($self, /)\n--\n\n"
                            "Make run_forever() return after the current "
                            "turn, or after the next one if the loop\n"
                            "is not running.");

static PyObject *
Loop_stop(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    PyObject *result;
    if (cl_loop_replaced(loop, "stop", NULL, 0, NULL, &result))
        return result;
    loop->l_stopping = true;
    Py_RETURN_NONE;
}

static int
track_origin(LoopObject *loop, bool enabled)
{
    PyObject *argv[] = {(PyObject *)loop, enabled ? Py_True : Py_False};
    PyObject *result = PyObject_VectorcallMethod(
        cl_top_of(loop->l_st)->str__set_coroutine_origin_tracking, argv, 2,
        NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
stop_tracking(LoopObject *loop)
{
    return loop->l_origin_enabled ? track_origin(loop, false) : 0;
}

/* Installs the loop's async generator hooks; `hooks` gets the old ones, for
 * cl_asyncgen_hooks_swap(). */
static int
set_asyncgen_hooks(LoopObject *loop, cl_asyncgen_hooks *hooks)
{
    cl_state *st = loop->l_st;
    hooks->firstiter = PyObject_GetAttr(
        (PyObject *)loop, cl_top_of(st)->str__asyncgen_firstiter_hook);
    if (hooks->firstiter == NULL)
        return -1;
    hooks->finalizer = PyObject_GetAttr(
        (PyObject *)loop, cl_top_of(st)->str__asyncgen_finalizer_hook);
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
    PyObject *result =
        cl_call_module(st->events_module, cl_top_of(st)->str__set_running_loop,
                       &running, 1, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Resets the running loop of this thread. If it stayed set, no other loop
 * could run. If the function in asyncio's modules fails, asyncio's own is
 * called, again and again since memory may be short for a moment. 0/-1 */
static int
unset_running_loop(LoopObject *loop)
{
    PyObject *error = NULL;
    cl_first_error(&error, set_running_loop(loop, Py_None));
    for (int i = 0; error != NULL && i < UNMARK_ATTEMPTS; i++) {
        PyObject *result = PyObject_CallOneArg(
            cl_futures_of(loop->l_st)->set_running_loop, Py_None);
        if (result != NULL) {
            Py_DECREF(result);
            break;
        }
        PyErr_Clear();
    }
    return cl_raise_first(error);
}

static int
run_once(LoopObject *loop)
{
    if (!cl_loop_overrides(loop, CL_OVERRIDES_RUN_ONCE))
        return cl_loop_turn(loop);
    PyObject *result = PyObject_CallMethodNoArgs(
        (PyObject *)loop, cl_top_of(loop->l_st)->str__run_once);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* run_forever(), after its checks. */
static int
run(LoopObject *loop)
{
    CL_CLAIM(loop, -1);
    cl_asyncgen_hooks hooks = {NULL, NULL};
    PyObject *error = NULL;
    int status = -1;

    /* A class may have been patched. Instances notice by themselves, unless
     * their __dict__ was changed directly. */
    if (cl_follow_codes(&loop->l_st->follow) < 0 ||
        cl_loop_refresh_overrides(loop) < 0 ||
        (loop->l_debug && track_origin(loop, true) < 0))
        return -1;
    if (set_asyncgen_hooks(loop, &hooks) < 0) {
        cl_first_error(&error, -1);
        cl_first_error(&error, stop_tracking(loop));
        return cl_raise_first(error);
    }
    if (set_running_loop(loop, (PyObject *)loop) == 0) {
        loop->l_thread_id = PyThread_get_thread_ident();
        loop->l_signals_tried = false;
        cl_loop_scan_new(loop);
        /* A program that runs the loop for a turn or two expects events to be
         * noticed. */
        cl_loop_begin_run(loop);
        do {
            status = run_once(loop);
        } while (status == 0 && !loop->l_stopping);
        loop->l_stopping = false;
        loop->l_thread_id = 0;
        cl_loop_end_run(loop);
    }

    cl_first_error(&error, status);
    cl_loop_forget_task(loop);
    cl_signals_disarm(loop);
    cl_first_error(&error, unset_running_loop(loop));
    cl_first_error(&error, stop_tracking(loop));
    restore_asyncgen_hooks(&hooks);
    return cl_raise_first(error);
}

PyDoc_STRVAR(Loop_run_forever_doc,
             "run_forever($self, /)\n--\n\n"
             "Run until stop() is called. Raises RuntimeError if the loop is "
             "closed or already\n"
             "running, or if another loop is running in this thread.");

static PyObject *
Loop_run_forever(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    PyObject *result;
    if (cl_loop_replaced(loop, "run_forever", NULL, 0, NULL, &result))
        return result;
    if (cl_loop_check_open(loop) < 0 || check_running(loop) < 0 ||
        run(loop) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Loop_run_once_doc,
             "_run_once($self, /)\n--\n\n"
             "Run one turn: poll, then call what is ready.");

static PyObject *
Loop_run_once(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    /* Somebody else may call it again and again, in place of run_forever(). */
    bool alone = !loop->l_meter.me_running;
    if (alone)
        cl_meter_begin(&loop->l_meter, &loop->l_rate);
    int status = cl_loop_turn(loop);
    if (alone)
        cl_loop_end_run(loop);
    /* The caller may be an overridden _run_once(). */
    cl_loop_forget_task(loop);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* asyncio.ensure_future(); *is_new says whether it created the task. */
static PyObject *
future_for(LoopObject *loop, PyObject *awaitable, bool *is_new)
{
    cl_state *st = loop->l_st;
    cl_top *top = cl_top_of(st);
    if (PyCoro_CheckExact(awaitable) &&
        !cl_loop_overrides(loop, CL_OVERRIDES_CREATE_TASK)) {
        *is_new = true;
        return cl_loop_create_task(loop, awaitable);
    }
    PyObject *result = PyObject_CallOneArg(top->isfuture, awaitable);
    int is_future = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (is_future < 0)
        return NULL;
    *is_new = !is_future;
    PyObject *argv[] = {awaitable, (PyObject *)loop};
    return PyObject_Vectorcall(top->ensure_future, argv, 1, top->kwnames_loop);
}

static int
is_done(LoopObject *loop, PyObject *future)
{
    PyObject *result =
        PyObject_CallMethodNoArgs(future, cl_top_of(loop->l_st)->str_done);
    int done = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return done;
}

/* Our caller gets the exception of a task that was created here: mark it as
 * retrieved. What the task's methods raise meanwhile takes its place. */
static void
consume_exception(LoopObject *loop, PyObject *future)
{
    cl_state *st = loop->l_st;
    PyObject *error = PyErr_GetRaisedException(), *result = NULL;
    PyObject *before = cl_swap_handled(Py_NewRef(error));
    int status = is_done(loop, future);
    if (status > 0) {
        result =
            PyObject_CallMethodNoArgs(future, cl_top_of(st)->str_cancelled);
        status = result == NULL ? -1 : PyObject_Not(result);
        Py_XDECREF(result);
    }
    if (status > 0) {
        result =
            PyObject_CallMethodNoArgs(future, cl_top_of(st)->str_exception);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    Py_XDECREF(cl_swap_handled(before));
    if (status < 0)
        Py_DECREF(error);
    else
        PyErr_SetRaisedException(error);
}

static int
call_run_forever(LoopObject *loop)
{
    if (!cl_loop_overrides(loop, CL_OVERRIDES_RUN_FOREVER))
        return run(loop);
    PyObject *result = PyObject_CallMethodNoArgs(
        (PyObject *)loop, cl_top_of(loop->l_st)->str_run_forever);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Also if an exception is set, which stays unless there is another. 0/-1 */
static int
remove_callback(LoopObject *loop, PyObject *future)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *before =
        error == NULL ? NULL : cl_swap_handled(Py_NewRef(error));
    PyObject *removed = PyObject_CallMethodOneArg(
        future, cl_top_of(loop->l_st)->str_remove_done_callback,
        cl_top_of(loop->l_st)->run_until_complete_cb);
    if (error != NULL)
        Py_XDECREF(cl_swap_handled(before));
    if (removed == NULL)
        Py_XDECREF(error);
    else
        (void)cl_raise_first(error);
    Py_XDECREF(removed);
    return removed == NULL ? -1 : 0;
}

PyDoc_STRVAR(Loop_run_until_complete_doc,
             "run_until_complete($self, future)\n--\n\n"
             "Run until the future, or the task created for a coroutine, is "
             "done; return its\n"
             "result or raise its exception. Raises RuntimeError if the loop "
             "is stopped before\n"
             "that. See asyncio's loop.run_until_complete.");

static PyObject *
Loop_run_until_complete(LoopObject *loop, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"future"};
    PyObject *future = NULL, *result = NULL, *added = NULL;
    if (cl_loop_replaced(loop, "run_until_complete", args, nargs, kwnames,
                         &result))
        return result;
    cl_state *st = loop->l_st;
    cl_top *top = cl_top_of(st);
    PyObject *awaitable = cl_call_args_only(st, "run_until_complete", names,
                                            args, nargs, kwnames);
    if (awaitable == NULL)
        return NULL;
    bool is_new = false;

    if (cl_loop_check_open(loop) < 0 || check_running(loop) < 0 ||
        cl_loop_refresh_overrides(loop) < 0)
        return NULL;
    if ((future = future_for(loop, awaitable, &is_new)) == NULL)
        return NULL;
    if (is_new &&
        PyObject_SetAttr(future, top->str__log_destroy_pending, Py_False) < 0)
        goto done;
    added = PyObject_CallMethodOneArg(future, top->str_add_done_callback,
                                      top->run_until_complete_cb);
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
        result = PyObject_CallMethodNoArgs(future, top->str_result);
    else if (finished == 0)
        PyErr_SetString(PyExc_RuntimeError,
                        "Event loop stopped before Future completed.");
done:
    Py_DECREF(future);
    return result;
}

PyDoc_STRVAR(Loop_is_running_doc, "is_running($self, /)\n--\n\n"
                                  "Return True if the loop is running.");

static PyObject *
Loop_is_running(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    PyObject *result;
    if (cl_loop_replaced(loop, "is_running", NULL, 0, NULL, &result))
        return result;
    return PyBool_FromLong(loop->l_thread_id != 0);
}

PyDoc_STRVAR(Loop_is_closed_doc, "is_closed($self, /)\n--\n\n"
                                 "Return True if the loop is closed.");

static PyObject *
Loop_is_closed(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    PyObject *result;
    if (cl_loop_replaced(loop, "is_closed", NULL, 0, NULL, &result))
        return result;
    return PyBool_FromLong(loop->l_closed);
}

PyDoc_STRVAR(Loop_get_debug_doc, "get_debug($self, /)\n--\n\n"
                                 "Return True in debug mode.");

static PyObject *
Loop_get_debug(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    PyObject *result;
    if (cl_loop_replaced(loop, "get_debug", NULL, 0, NULL, &result))
        return result;
    return PyBool_FromLong(loop->l_debug);
}

PyDoc_STRVAR(Loop_close_core_doc,
             "_close_core($self, keep_sigsock, /)\n--\n\n"
             "The C half of close(): drop everything that is pending and "
             "close the descriptors,\n"
             "except those to which signals may still be written.");

static PyObject *
Loop_close_core(LoopObject *loop, PyObject *keep_sigsock)
{
    if (loop->l_thread_id != 0 || loop->l_depth > 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot close a running event loop");
        return NULL;
    }
    CL_CLAIM(loop, NULL);
    loop->l_closed = true;
    cl_gather_stop_timer(loop);
    cl_loop_close(loop, keep_sigsock == Py_True);
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------- signals */

PyDoc_STRVAR(Loop_signal_fileno_doc,
             "_signal_fileno($self, /)\n--\n\n"
             "The descriptor to which signal numbers for this loop are "
             "written; -1 once closed.");

static PyObject *
Loop_signal_fileno(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    int fd = loop->l_open ? cl_signals_fd(loop) : -1;
    if (loop->l_open && fd < 0) {
        cl_raise_errno(fd);
        return NULL;
    }
    return PyLong_FromLong(fd);
}

PyDoc_STRVAR(Loop_has_wakeup_fd_doc,
             "_has_wakeup_fd($self, fd, /)\n--\n\n"
             "Whether a wakeup descriptor (or -1) is one of this loop's.");

static PyObject *
Loop_has_wakeup_fd(LoopObject *loop, PyObject *number)
{
    CL_CLAIM(loop, NULL);
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(
        loop->l_open && fd >= 0 &&
        (fd == loop->l_inbox.i_write_fd || fd == loop->l_sigsock.sg_write_fd));
}

PyDoc_STRVAR(Loop_arm_signals_doc,
             "_arm_signals($self, /)\n--\n\n"
             "Make signals wake this loop, if it is running and no one else's "
             "wakeup descriptor is\n"
             "set.");

static PyObject *
Loop_arm_signals(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    if (loop->l_open && loop->l_thread_id == PyThread_get_thread_ident())
        cl_signals_arm(loop);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    Loop_ancestor_lives_doc,
    "_ancestor_lives($self, /)\n--\n\n"
    "Whether a process that owned the loop before a fork is still alive.");

static PyObject *
Loop_ancestor_lives(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(cl_fork_ancestor_lives(loop));
}

PyDoc_STRVAR(
    Loop_owe_polls_doc,
    "_owe_polls($self, /)\n--\n\n"
    "Poll in each of the next turns, because something new is watched.");

static PyObject *
Loop_owe_polls(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM(loop, NULL);
    cl_loop_owe_polls(loop);
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------- methods */

static PyMethodDef methods[] = {
    {"run_forever", (PyCFunction)Loop_run_forever, METH_NOARGS,
     Loop_run_forever_doc},
    {"run_until_complete", CL_FAST(Loop_run_until_complete),
     METH_FASTCALL | METH_KEYWORDS, Loop_run_until_complete_doc},
    {"stop", (PyCFunction)Loop_stop, METH_NOARGS, Loop_stop_doc},
    {"is_running", (PyCFunction)Loop_is_running, METH_NOARGS,
     Loop_is_running_doc},
    {"is_closed", (PyCFunction)Loop_is_closed, METH_NOARGS,
     Loop_is_closed_doc},
    {"get_debug", (PyCFunction)Loop_get_debug, METH_NOARGS,
     Loop_get_debug_doc},
    {"_run_once", (PyCFunction)Loop_run_once, METH_NOARGS, Loop_run_once_doc},
    {"_signal_fileno", (PyCFunction)Loop_signal_fileno, METH_NOARGS,
     Loop_signal_fileno_doc},
    {"_has_wakeup_fd", (PyCFunction)Loop_has_wakeup_fd, METH_O,
     Loop_has_wakeup_fd_doc},
    {"_arm_signals", (PyCFunction)Loop_arm_signals, METH_NOARGS,
     Loop_arm_signals_doc},
    {"_ancestor_lives", (PyCFunction)Loop_ancestor_lives, METH_NOARGS,
     Loop_ancestor_lives_doc},
    {"_owe_polls", (PyCFunction)Loop_owe_polls, METH_NOARGS,
     Loop_owe_polls_doc},
    {"_close_core", (PyCFunction)Loop_close_core, METH_O, Loop_close_core_doc},
    {NULL}};

int
cl_loop_run_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
