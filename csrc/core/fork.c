/* fork.c - see fork.h. */
#include "core/fork.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/platform.h"
#include "core/args.h"
#include "core/errors.h"
#include "core/layer.h"
#include "core/signals.h"
#include "core/watchdog.h"

/* ---------------------------------------------------------------- open loops */

void
cl_fork_register(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    cl_assert_gil();
    cl_assert_of(loop, loop->l_open_link == NULL);
    cl_assert_of(loop, loop->l_poller.ops != NULL);
    loop->l_poller_ops = loop->l_poller.ops;
    loop->l_forks = st->forks;
    loop->l_ancestor_fd = -1;
    cl_watch_init(&loop->l_ancestor_watch, NULL, NULL);
    CL_MUTEX_LOCK(&st->loops_lock);
    loop->l_next_open = st->loops;
    loop->l_open_link = &st->loops;
    if (st->loops != NULL)
        st->loops->l_open_link = &loop->l_next_open;
    st->loops = loop;
    CL_MUTEX_UNLOCK(&st->loops_lock);
}

void
cl_fork_unregister(LoopObject *loop)
{
    cl_assert_gil();
    CL_MUTEX_LOCK(&loop->l_st->loops_lock);
    cl_assert_of(loop,
                 loop->l_open_link != NULL && *loop->l_open_link == loop);
    *loop->l_open_link = loop->l_next_open;
    if (loop->l_next_open != NULL)
        loop->l_next_open->l_open_link = loop->l_open_link;
    loop->l_next_open = NULL;
    loop->l_open_link = NULL;
    CL_MUTEX_UNLOCK(&loop->l_st->loops_lock);
    if (loop->l_ancestor_fd >= 0)
        close(loop->l_ancestor_fd);
    loop->l_ancestor_fd = -1;
}

/* ---------------------------------------------------- the poller after a fork */

static LoopObject *
loop_of(cl_poller *poller)
{
    return (LoopObject *)((char *)poller - offsetof(LoopObject, l_poller));
}

static int
forked_set(cl_poller *poller, int fd, uint32_t generation, unsigned have,
           unsigned want)
{
    LoopObject *loop = loop_of(poller);
    int err;
    (void)have;
    cl_assert_of(loop, loop->l_fork == CL_FORK_INHERITED);
    if (want == 0) /* no poller of ours knows it */
        return 0;
    if ((err = cl_fork_adopt(loop)) < 0)
        return err;
    return poller->ops->set(poller, fd, generation, 0, want);
}

/* Forked within a poll: the next one may sleep. */
static int
forked_wait(cl_poller *poller, int64_t timeout_ns, cl_event *events, int max)
{
    int err = cl_fork_adopt(loop_of(poller));
    (void)timeout_ns;
    return err < 0 ? err : poller->ops->wait(poller, 0, events, max);
}

static int
forked_open(cl_poller *poller)
{
    (void)poller;
    return 0;
}

static void
forked_close(cl_poller *poller)
{
    (void)poller;
}

static const cl_poller_ops forked_ops = {
    .name = "forked",
    .open = forked_open,
    .close = forked_close,
    .set = forked_set,
    .wait = forked_wait,
};

#ifdef CL_DEBUG
void
cl_fork_check(const LoopObject *loop)
{
    const cl_state *st = loop->l_st;
    cl_assertf(st->ancestor_count >= 0 &&
                   st->ancestor_count <= CL_ANCESTORS_MAX,
               "%d ancestors", st->ancestor_count);
    cl_assertf((int)(st->forks - loop->l_forks) >= 0, "%u of %u forks",
               loop->l_forks, st->forks);
    cl_assertf(loop->l_fork <= CL_FORK_PARENTS, "%d", loop->l_fork);
    cl_assertf(loop->l_fork == CL_FORK_NONE || loop->l_forks != st->forks,
               "%d, without a fork", loop->l_fork);
    cl_assert_of(loop, (loop->l_poller.ops == &forked_ops) ==
                           (loop->l_fork == CL_FORK_INHERITED));
    cl_assert_of(loop, loop->l_poller.ops == &forked_ops ||
                           loop->l_poller.ops == loop->l_poller_ops);
    cl_assertf(loop->l_ancestor_fd == loop->l_ancestor_watch.w_fd,
               "descriptor %d, watched %d", loop->l_ancestor_fd,
               loop->l_ancestor_watch.w_fd);
    cl_assertf(loop->l_ancestor >= 0 && loop->l_ancestor <= st->ancestor_count,
               "%d of %d", loop->l_ancestor, st->ancestor_count);
}
#endif

/* ----------------------------------------------------------------- the fork */

/* Another thread, which does not exist here, may have been waiting in the
 * poller at the fork: leak its memory. */
static void
leave_poller(LoopObject *loop, bool elsewhere)
{
    cl_poller *poller = &loop->l_poller;
    if (poller->ops == &forked_ops)
        return;
    if (poller->fd >= 0 || !elsewhere)
        cl_poller_close(poller);
    (void)cl_poller_open(poller, &forked_ops);
}

/* The thread that ran the loop, and those that waited for it, do not exist
 * here. */
static void
leave_thread(LoopObject *loop)
{
    loop->l_thread_id = 0;
    loop->l_depth = 0;
#if CL_FREE_THREADED
    loop->l_owner = 0;
#endif
    loop->l_pulse = CL_PULSE_RUNS;
    loop->l_stopping = false;
    loop->l_afterwards = NULL;
    CL_FOR_EACH_LAYER (at, loop->l_st) {
        if ((*at)->loop_forked != NULL)
            (*at)->loop_forked(loop);
    }
}

int
cl_fork_mark_running(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    if (!loop->l_forked || loop->l_thread_id != PyThread_get_thread_ident())
        return 0;
    PyObject *running = (PyObject *)loop;
    PyObject *result = cl_call_module(
        st->events_module, st->str__set_running_loop, &running, 1, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static void
leave(LoopObject *loop)
{
    unsigned long thread = PyThread_get_thread_ident();
    bool running = loop->l_thread_id != 0 || loop->l_depth > 0;
    bool elsewhere = (loop->l_thread_id != 0 && loop->l_thread_id != thread) ||
                     (loop->l_depth > 0 && loop->l_turn_thread != thread);
    loop->l_fork_ran =
        running || (loop->l_fork != CL_FORK_NONE && loop->l_fork_ran);
    loop->l_fork = CL_FORK_INHERITED;
    loop->l_forked = true;
    loop->l_fork_generation = loop->l_watches.wt_generation;
    loop->l_skip_ticks = 0; /* the next turn polls */
    loop->l_ancestor = 0;
    leave_poller(loop, elsewhere);
    cl_watch_forget_poller(loop);
    if (loop->l_ancestor_fd >= 0) {
        cl_watch_stop(loop, &loop->l_ancestor_watch);
        close(loop->l_ancestor_fd);
        loop->l_ancestor_fd = -1;
    }
    cl_signals_unwatch(loop);
    cl_inbox_after_fork(&loop->l_inbox);
    if (elsewhere)
        leave_thread(loop);
    loop->l_waiters = 0;
    (void)cl_turnstile_init(&loop->l_turnstile);
}

static void
remember_ancestor(cl_state *st)
{
    memmove(st->ancestors + 1, st->ancestors,
            (CL_ANCESTORS_MAX - 1) * sizeof(st->ancestors[0]));
    st->ancestors[0] = st->pid;
    if (st->ancestor_count < CL_ANCESTORS_MAX)
        st->ancestor_count++;
    st->pid = getpid();
}

/* Calls loop._after_fork() of each. That may close and free loops. */
static void
tell_loops(cl_state *st)
{
    PyObject *loops = cl_loop_list(st);
    for (Py_ssize_t i = 0; loops != NULL && i < PyList_GET_SIZE(loops); i++) {
        PyObject *loop = PyList_GET_ITEM(loops, i), *method = NULL;
        PyObject *result = NULL;
        int found =
            PyObject_GetOptionalAttr(loop, st->str__after_fork, &method);
        if (found > 0)
            result = PyObject_CallNoArgs(method);
        if (found < 0 || (found > 0 && result == NULL))
            PyErr_WriteUnraisable(loop);
        Py_XDECREF(method);
        Py_XDECREF(result);
    }
    if (loops == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(loops);
}

void
cl_fork_in_child(cl_state *st)
{
    CL_MUTEX_RESET(&st->loops_lock); /* another thread may have had it */
    st->forks++;
    remember_ancestor(st);
    for (LoopObject *loop = st->loops; loop != NULL; loop = loop->l_next_open)
        leave(loop);
    cl_signals_after_fork(st);
#ifdef CL_DEBUG
    for (LoopObject *loop = st->loops; loop != NULL; loop = loop->l_next_open)
        cl_fork_check(loop);
#endif
    tell_loops(st);
}

/* How many processes in the list had the loop. */
static int
count_ancestors(const LoopObject *loop)
{
    const cl_state *st = loop->l_st;
    unsigned forks = st->forks - loop->l_forks;
    return forks < (unsigned)st->ancestor_count ? (int)forks
                                                : st->ancestor_count;
}

bool
cl_fork_ancestor_lives(const LoopObject *loop)
{
    const cl_state *st = loop->l_st;
    /* A parent that has exited, but was not reaped, is no longer ours. */
    for (int i = 0; i < count_ancestors(loop); i++) {
        if (i == 0 ? getppid() == st->ancestors[0]
                   : kill(st->ancestors[i], 0) == 0 || errno == EPERM)
            return true;
    }
    return false;
}

/* ------------------------------------------------------- taking over the loop */

/* All processes that had the loop before have exited, or it is unknown. */
static void
take_over(LoopObject *loop)
{
    cl_assert_of(loop, loop->l_fork == CL_FORK_PARENTS);
    loop->l_fork = CL_FORK_NONE;
    cl_watch_tell_all(loop);
}

static int ancestor_ended(LoopObject *loop, cl_watch *watch, unsigned events);

static void
ancestor_evicted(LoopObject *loop, cl_watch *watch)
{
    (void)watch;
    loop->l_ancestor_fd =
        -1; /* the program closed it, and the number was reused */
}

static const cl_watch_ops ancestor_ops = {.ready = ancestor_ended,
                                          .evicted = ancestor_evicted};

/* Whether one that may use the loop is alive, and its exit is watched. */
static bool
watch_ancestor(LoopObject *loop)
{
    const cl_state *st = loop->l_st;
    for (; loop->l_ancestor < count_ancestors(loop); loop->l_ancestor++) {
        int fd = cl_pidfd_open(st->ancestors[loop->l_ancestor]);
        if (fd < 0)
            continue;
        cl_watch_init(&loop->l_ancestor_watch, &ancestor_ops, NULL);
        if (cl_watch_start(loop, &loop->l_ancestor_watch, fd, CL_READ) == 0) {
            loop->l_ancestor_fd = fd;
            return true;
        }
        close(fd);
    }
    return false;
}

static int
ancestor_ended(LoopObject *loop, cl_watch *watch, unsigned events)
{
    (void)events;
    int fd = loop->l_ancestor_fd;
    cl_assertf(watch == &loop->l_ancestor_watch && fd == watch->w_fd,
               "descriptor %d, watched %d", fd, watch->w_fd);
    loop->l_ancestor_fd = -1;
    cl_watch_stop(loop, watch);
    close(fd);
    loop->l_ancestor++;
    if (loop->l_fork == CL_FORK_PARENTS && !watch_ancestor(loop))
        take_over(loop);
    return 0;
}

int
cl_fork_adopt(LoopObject *loop)
{
    cl_poller fresh;
    int err;
    if (loop->l_fork != CL_FORK_INHERITED)
        return 0;
    if ((err = cl_poller_open(&fresh, loop->l_poller_ops)) < 0)
        return err;
    if ((err = cl_inbox_reopen(&loop->l_inbox)) < 0) {
        cl_poller_close(&fresh);
        return err;
    }
    loop->l_poller = fresh;
    if ((err = cl_signals_watch(loop)) < 0) {
        cl_signals_unwatch(loop);
        cl_poller_close(&loop->l_poller);
        (void)cl_poller_open(&loop->l_poller, &forked_ops);
        cl_inbox_after_fork(&loop->l_inbox);
        return err;
    }
    loop->l_fork = CL_FORK_PARENTS;
    if (!loop->l_fork_ran || !watch_ancestor(loop))
        take_over(loop);
    cl_check(cl_fork_check(loop));
    return 0;
}

int
cl_fork_resume(LoopObject *loop)
{
    int err = cl_fork_adopt(loop);
    if (err < 0)
        return cl_raise_errno(err);
    int status = cl_fork_mark_running(loop);
    loop->l_forked = false;
    return status;
}

/* --------------------------------------------------------------------- setup */

static PyObject *
after_fork_in_child(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_fork_in_child(PyModule_GetState(module));
    Py_RETURN_NONE;
}

static PyMethodDef after_fork_def = {"after_fork_in_child",
                                     after_fork_in_child, METH_NOARGS, NULL};

int
cl_fork_setup(PyObject *module, cl_state *st)
{
    st->pid = getpid();
    PyObject *os = PyImport_ImportModule("os"), *hook = NULL, *kwargs = NULL,
             *none = NULL, *result = NULL;
    PyObject *function =
        os == NULL ? NULL : PyObject_GetAttrString(os, "register_at_fork");
    if (function != NULL &&
        (hook = PyCFunction_New(&after_fork_def, module)) != NULL &&
        (kwargs = Py_BuildValue("{sO}", "after_in_child", hook)) != NULL &&
        (none = PyTuple_New(0)) != NULL)
        result = PyObject_Call(function, none, kwargs);
    Py_XDECREF(os);
    Py_XDECREF(hook);
    Py_XDECREF(function);
    Py_XDECREF(kwargs);
    Py_XDECREF(none);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}
