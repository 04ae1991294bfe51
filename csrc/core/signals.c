/* signals.c - see signals.h. */
#include "core/signals.h"

#include <errno.h>
#include <fcntl.h>

#include "core/errors.h"
#include "core/fork.h"

/* They need no node: a turn reads them whenever they were marked. */
static int
pipe_ready(LoopObject *loop, cl_watch *watch, unsigned events)
{
    (void)watch;
    (void)events;
    cl_assert(watch == &loop->l_pipe_watch || watch == &loop->l_sigsock_watch);
    cl_assertf(events == CL_READ, "%u", events);
    loop->l_pipe_ready = true;
    return 0;
}

static void
pipe_evicted(LoopObject *loop, cl_watch *watch)
{
    (void)loop;
    (void)watch;
}

static const cl_watch_ops pipe_ops = {.ready = pipe_ready,
                                      .evicted = pipe_evicted};

#ifdef CL_DEBUG
void
cl_signals_check(const LoopObject *loop)
{
    const cl_watch *pipe = &loop->l_pipe_watch;
    const cl_watch *sockets = &loop->l_sigsock_watch;
    const cl_sigsock *pair = &loop->l_sigsock;
    cl_assertf((pair->sg_read_fd < 0) == (pair->sg_write_fd < 0), "%d and %d",
               pair->sg_read_fd, pair->sg_write_fd);
    cl_assertf(pipe->w_fd < 0 || (pipe->w_fd == loop->l_inbox.i_read_fd &&
                                  pipe->w_want == CL_READ),
               "descriptor %d of %d: %u", pipe->w_fd, loop->l_inbox.i_read_fd,
               pipe->w_want);
    cl_assertf(sockets->w_fd < 0 || (sockets->w_fd == pair->sg_read_fd &&
                                     sockets->w_want == CL_READ),
               "descriptor %d of %d: %u", sockets->w_fd, pair->sg_read_fd,
               sockets->w_want);
    cl_assert_of(loop, !loop->l_signals_armed || loop->l_signals_tried);
}
#endif

void
cl_signals_init(LoopObject *loop)
{
    loop->l_sigsock = (cl_sigsock){-1, -1};
    cl_watch_init(&loop->l_pipe_watch, &pipe_ops, NULL);
    cl_watch_init(&loop->l_sigsock_watch, &pipe_ops, NULL);
}

/* Opens the sockets if necessary, and watches them. Returns 0 or -errno. */
static int
watch_sigsock(LoopObject *loop)
{
    int err = 0;
    if (loop->l_sigsock.sg_read_fd < 0 &&
        (err = cl_sigsock_open(&loop->l_sigsock)) < 0)
        return err;
    return loop->l_sigsock_watch.w_fd >= 0
               ? 0
               : cl_watch_start(loop, &loop->l_sigsock_watch,
                                loop->l_sigsock.sg_read_fd, CL_READ);
}

int
cl_signals_watch(LoopObject *loop)
{
    int err = cl_watch_start(loop, &loop->l_pipe_watch,
                             loop->l_inbox.i_read_fd, CL_READ);
    if (err == 0 &&
        (cl_signals_handled(loop) || loop->l_sigsock.sg_read_fd >= 0))
        err = watch_sigsock(loop);
    return err;
}

void
cl_signals_unwatch(LoopObject *loop)
{
    cl_watch_stop(loop, &loop->l_pipe_watch);
    cl_watch_stop(loop, &loop->l_sigsock_watch);
}

int
cl_signals_fd(LoopObject *loop)
{
    int err = cl_fork_adopt(loop);
    cl_assert_of(loop, loop->l_open);
    if (err == 0)
        err = watch_sigsock(loop);
    cl_check(cl_signals_check(loop));
    return err < 0 ? err : loop->l_sigsock.sg_write_fd;
}

void
cl_signals_arm(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    int fd = loop->l_sigsock.sg_write_fd;
    cl_assert_gil();
    cl_assert_of(loop, loop->l_open);
    if (fd < 0 || !cl_signals_handled(loop))
        fd = loop->l_inbox.i_write_fd;
    loop->l_signals_tried = true;
    if (loop->l_thread_id == 0 || !cl_is_signal_thread(st->main_thread))
        return;
    int previous;
    bool warns;
    if (cl_wakeup_read(&st->wakeup, st->set_wakeup_fd, &previous, &warns) &&
        previous != -1 && previous != fd && fcntl(previous, F_GETFD) >= 0)
        return; /* somebody else's, and still open */
    previous = cl_set_wakeup_fd(st->set_wakeup_fd, fd);
    if (previous == fd)
        return; /* add_signal_handler() sets it and keeps it */
    /* Restore somebody else's, unless it was closed and cannot be set. */
    if (previous != -1 && cl_set_wakeup_fd(st->set_wakeup_fd, previous) == fd)
        return;
    loop->l_signals_armed = true;
    st->armed_fd = fd;
}

int
cl_signals_wakeup_fd(cl_state *st, bool *warns)
{
    int fd;
    *warns = true;
    if (cl_wakeup_read(&st->wakeup, st->set_wakeup_fd, &fd, warns))
        return fd;
    fd = cl_set_wakeup_fd(st->set_wakeup_fd, -1);
    if (fd != -1)
        (void)cl_set_wakeup_fd(st->set_wakeup_fd, fd);
    return fd;
}

bool
cl_signals_handled(const LoopObject *loop)
{
    PyObject *handlers = loop->l_signal_handlers;
    return handlers != NULL && PyDict_Check(handlers) &&
           PyDict_GET_SIZE(handlers) > 0;
}

/* Unless somebody has set another one meanwhile. */
static void
unset_wakeup_fd(cl_state *st, int fd)
{
    int current;
    bool warns;
    if (cl_wakeup_read(&st->wakeup, st->set_wakeup_fd, &current, &warns) &&
        current != fd)
        return;
    current = cl_set_wakeup_fd(st->set_wakeup_fd, -1);
    if (current != fd)
        (void)cl_set_wakeup_fd(st->set_wakeup_fd, current);
}

void
cl_signals_disarm(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    loop->l_signals_tried = false;
    if (!loop->l_signals_armed)
        return;
    loop->l_signals_armed = false;
    int fd = st->armed_fd;
    st->armed_fd = -1;
    /* With our handlers installed the descriptor stays set, as in asyncio. */
    if (cl_signals_handled(loop))
        return;
    unset_wakeup_fd(st, fd);
}

/* loop._handle_signal(number): 0/-1 */
static int
handle_signal(LoopObject *loop, long signal)
{
    PyObject *number = PyLong_FromLong(signal);
    PyObject *done =
        number == NULL
            ? NULL
            : PyObject_CallMethodOneArg(
                  (PyObject *)loop, loop->l_st->str__handle_signal, number);
    Py_XDECREF(number);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
cl_signals_deliver(LoopObject *loop)
{
    unsigned char bytes[256];
    int count;
    PyObject *error = NULL;

    cl_assert_gil();
    cl_assert_of(loop, loop->l_open);
    cl_assert_of(loop, !PyErr_Occurred());
    loop->l_pipe_ready = false;
    while (cl_inbox_read(&loop->l_inbox, bytes, (int)sizeof(bytes)) ==
           (int)sizeof(bytes)) {
    }
    do {
        count =
            loop->l_sigsock.sg_read_fd < 0
                ? 0
                : cl_sigsock_read(&loop->l_sigsock, bytes, (int)sizeof(bytes));
        /* Each one is handled even if others raise, since they are not read
         * again. */
        for (int i = 0; i < count; i++) {
            if (cl_signals_handled(loop))
                cl_first_error(&error, handle_signal(loop, bytes[i]));
        }
    } while (count > 0);

    /* After the pipe is empty: a handler may raise KeyboardInterrupt. */
    cl_first_error(&error, PyErr_CheckSignals());
    return cl_raise_first(error);
}

/* Its sockets are shared with the parent. If it had the wakeup descriptor it
 * gets others, so that nothing is lost until the child runs the loop. Returns
 * whether it has it now. */
static bool
renew_sigsock(LoopObject *loop, bool had_wakeup_fd)
{
    if (loop->l_sigsock.sg_read_fd < 0)
        return false;
    cl_sigsock_close(&loop->l_sigsock);
    if (!had_wakeup_fd || cl_sigsock_open(&loop->l_sigsock) < 0)
        return false; /* the next sleep tries again */
    (void)cl_set_wakeup_fd(loop->l_st->set_wakeup_fd,
                           loop->l_sigsock.sg_write_fd);
    return true;
}

void
cl_signals_after_fork(cl_state *st)
{
    cl_assert_gil();
    st->main_thread = PyThread_get_thread_ident();
    int current = cl_set_wakeup_fd(st->set_wakeup_fd, -1);
    bool foreign = current >= 0 && current != st->armed_fd, taken = false;
    st->armed_fd = -1;
    for (LoopObject *loop = st->loops; loop != NULL;
         loop = loop->l_next_open) {
        bool its = current >= 0 && current == loop->l_sigsock.sg_write_fd;
        foreign = foreign && !its;
        loop->l_signals_armed = loop->l_signals_tried = false;
        /* From 3.12 on asyncio has unset it already. */
        its = its || (current == -1 && cl_signals_handled(loop));
        taken = renew_sigsock(loop, its && !taken) || taken;
    }
    if (foreign && !taken)
        (void)cl_set_wakeup_fd(st->set_wakeup_fd, current);
}
