/* signals.c - see signals.h. */
#include "core/signals.h"

#include "core/errors.h"

/* The pipe needs no node: the turn reads it whenever it has been marked. */
static int
pipe_ready(LoopObject *loop, cl_watch *watch, unsigned events)
{
    (void)watch;
    (void)events;
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

int
cl_signals_watch(LoopObject *loop)
{
    cl_watch_init(&loop->l_pipe_watch, &pipe_ops, NULL);
    return cl_watch_start(loop, &loop->l_pipe_watch, loop->l_inbox.i_read_fd,
                          CL_READ);
}

void
cl_signals_arm(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    int fd = loop->l_inbox.i_write_fd;
    loop->l_signals_tried = true;
    if (loop->l_thread_id == 0 || !cl_is_signal_thread(st->main_thread))
        return;
    int previous = cl_set_wakeup_fd(st->set_wakeup_fd, fd);
    if (previous == fd)
        return; /* add_signal_handler() set it and keeps it */
    /* Somebody else's stays, unless it has been closed and cannot be set again. */
    if (previous != -1 && cl_set_wakeup_fd(st->set_wakeup_fd, previous) == fd)
        return;
    loop->l_signals_armed = true;
    st->armed_fd = fd;
}

bool
cl_signals_handled(const LoopObject *loop)
{
    PyObject *handlers = loop->l_signal_handlers;
    return handlers != NULL && PyDict_Check(handlers) &&
           PyDict_GET_SIZE(handlers) > 0;
}

/* Unless somebody has set theirs meanwhile. */
static void
unset_wakeup_fd(cl_state *st, int fd)
{
    int current = cl_set_wakeup_fd(st->set_wakeup_fd, -1);
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
    st->armed_fd = -1;
    /* With handlers of ours installed the descriptor stays, as in asyncio. */
    if (cl_signals_handled(loop))
        return;
    unset_wakeup_fd(st, loop->l_inbox.i_write_fd);
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

    loop->l_pipe_ready = false;
    do {
        count = cl_inbox_read(&loop->l_inbox, bytes, (int)sizeof(bytes));
        /* Each is handled, whatever the others raise: they are not read again. */
        for (int i = 0; i < count; i++) {
            if (bytes[i] != 0 && cl_signals_handled(loop))
                cl_first_error(&error, handle_signal(loop, bytes[i]));
        }
    } while (count == (int)sizeof(bytes));

    /* After the pipe is empty: a handler may raise KeyboardInterrupt. */
    cl_first_error(&error, PyErr_CheckSignals());
    return cl_raise_first(error);
}

void
cl_signals_after_fork(cl_state *st)
{
    if (st->armed_fd >= 0) {
        unset_wakeup_fd(st, st->armed_fd);
        st->armed_fd = -1;
    }
    st->main_thread = PyThread_get_thread_ident();
}
