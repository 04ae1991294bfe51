/* lent.c - see lent.h. */
#include "core/lent.h"

#include "core/errors.h"
#include "core/loop.h"

typedef struct {
    PyObject *pl_object; /* owned; a HandleObject or a waiter, or NULL */
    const cl_waiter_ops *pl_ops; /* NULL for a handle */
} lent_place;

typedef struct {
    cl_watch le_watch; /* must be first: the table returns its address */
    lent_place le_reader;
    lent_place le_writer;
    PyObject *le_file; /* owned; add_reader's argument, NULL for an int */
    PyObject *
        le_sock; /* owned; weak reference to the last socket that operations waited on; NULL: drop the record when empty */
} cl_lent;

static int lent_ready(LoopObject *loop, cl_watch *watch, unsigned events);
static int lent_refused(LoopObject *loop, cl_watch *watch, int err);
static void lent_evicted(LoopObject *loop, cl_watch *watch);

#ifdef CL_DEBUG
static void lent_check(LoopObject *loop, const cl_watch *watch);
#endif

static const cl_watch_ops lent_ops = {.ready = lent_ready,
                                      .refused = lent_refused,
                                      .evicted = lent_evicted,
                                      CL_WATCH_CHECK(lent_check)};

/* Returns the record of a descriptor; NULL if there is none, or another kind
 * of watch. */
static cl_lent *
find(LoopObject *loop, int fd)
{
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    return watch != NULL && watch->w_ops == &lent_ops ? (cl_lent *)watch
                                                      : NULL;
}

static inline lent_place *
place_of(cl_lent *lent, unsigned direction)
{
    return direction == CL_READ ? &lent->le_reader : &lent->le_writer;
}

/* The handle in a place; NULL if it is empty or has a waiter. */
static inline HandleObject *
handle_in(const lent_place *place)
{
    return place->pl_ops == NULL ? (HandleObject *)place->pl_object : NULL;
}

/* The occupied places. */
static inline unsigned
taken(const cl_lent *lent)
{
    return (lent->le_reader.pl_object ? CL_READ : 0) |
           (lent->le_writer.pl_object ? CL_WRITE : 0);
}

#ifdef CL_DEBUG
static void
check_place(LoopObject *loop, const lent_place *place)
{
    if (place->pl_object == NULL)
        cl_assert(place->pl_ops == NULL);
    else if (place->pl_ops == NULL)
        cl_handle_check(loop, handle_in(place));
    else
        cl_assert_of(place->pl_object, Py_REFCNT(place->pl_object) > 0);
}

static void
lent_check(LoopObject *loop, const cl_watch *watch)
{
    const cl_lent *lent = (const cl_lent *)watch;
    unsigned places = taken(lent), want = watch->w_want;
    bool handles = handle_in(&lent->le_reader) != NULL ||
                   handle_in(&lent->le_writer) != NULL;
    check_place(loop, &lent->le_reader);
    check_place(loop, &lent->le_writer);
    cl_assertf((want & places) == places,
               "descriptor %d: %u is wanted, for %u", watch->w_fd, want,
               places);
    /* Waiters alone get edges; handles would miss the second event. */
    cl_assertf(places == 0 || handles == !(want & CL_EDGE),
               "descriptor %d: %u is wanted", watch->w_fd, want);
    cl_assertf(lent->le_file == NULL || !PyLong_Check(lent->le_file),
               "descriptor %d", watch->w_fd);
}
#endif

/* What to watch once a waiter has the place for `more` (0: none). */
static inline unsigned
interest(const cl_lent *lent, unsigned more)
{
    unsigned bits = taken(lent) | more;
    bool handles = (more != CL_READ && handle_in(&lent->le_reader) != NULL) ||
                   (more != CL_WRITE && handle_in(&lent->le_writer) != NULL);
    return bits == 0 || handles ? bits : bits | CL_EDGE;
}

/* Like all functions below, finds the record again: Python code may have run
 * before. */
static int
wake(LoopObject *loop, int fd, unsigned direction)
{
    cl_lent *lent = find(loop, fd);
    if (lent == NULL)
        return 0;
    lent_place *place = place_of(lent, direction);
    PyObject *object = place->pl_object;
    if (object == NULL) {
        cl_watch_want(loop, &lent->le_watch, interest(lent, 0));
        return 0;
    }
    if (place->pl_ops != NULL) {
        Py_INCREF(object);
        int err = place->pl_ops->ready(loop, object);
        Py_DECREF(object);
        return err;
    }
    if (((HandleObject *)object)->h_flags & CL_HANDLE_CANCELLED)
        return 0;
    return cl_loop_push(loop, cl_node_make(Py_NewRef(object), CL_NODE_HANDLE));
}

/* As in asyncio, a handle that was cancelled directly loses its interest. */
static int
remove_if_cancelled(LoopObject *loop, int fd, unsigned direction)
{
    cl_lent *lent = find(loop, fd);
    HandleObject *handle =
        lent == NULL ? NULL : handle_in(place_of(lent, direction));
    if (handle == NULL || !(handle->h_flags & CL_HANDLE_CANCELLED))
        return 0;
    return cl_lent_remove(loop, fd, direction) < 0 ? -1 : 0;
}

static int
lent_ready(LoopObject *loop, cl_watch *watch, unsigned events)
{
    int fd = watch->w_fd;
    cl_assertf(find(loop, fd) == (cl_lent *)watch, "descriptor %d", fd);
    cl_assertf(events != 0 && (events & ~(unsigned)(CL_READ | CL_WRITE)) == 0,
               "descriptor %d: %u", fd, events);
    if ((events & CL_READ) && wake(loop, fd, CL_READ) < 0)
        return -1;
    if ((events & CL_WRITE) && wake(loop, fd, CL_WRITE) < 0)
        return -1;
    if ((events & CL_READ) && remove_if_cancelled(loop, fd, CL_READ) < 0)
        return -1;
    return events & CL_WRITE ? remove_if_cancelled(loop, fd, CL_WRITE) : 0;
}

/* Calls the exception handler with {message, exception, handle}. 0/-1 */
static int
report_refusal(LoopObject *loop, int fd, PyObject *handle, PyObject *error)
{
    cl_state *st = loop->l_st;
    PyObject *details = PyDict_New();
    PyObject *message =
        PyUnicode_FromFormat("File descriptor %d cannot be watched", fd);
    int status = -1;
    if (details != NULL && message != NULL &&
        PyDict_SetItem(details, st->str_message, message) == 0 &&
        PyDict_SetItem(details, st->str_exception, error) == 0 &&
        PyDict_SetItem(details, st->str_handle, handle) == 0)
        status = cl_report(loop, details, error);
    Py_XDECREF(details);
    Py_XDECREF(message);
    return status;
}

/* Tells whoever has the place. 0/-1 */
static int
refuse(LoopObject *loop, int fd, unsigned direction, int err)
{
    cl_lent *lent = find(loop, fd);
    PyObject *object =
        lent == NULL ? NULL : place_of(lent, direction)->pl_object;
    if (object == NULL)
        return 0;
    const cl_waiter_ops *ops = place_of(lent, direction)->pl_ops;
    if (ops == NULL && !cl_watch_may_pass(err))
        return wake(loop, fd, direction);
    Py_INCREF(object);
    cl_raise_os_error(err);
    PyObject *error = PyErr_GetRaisedException();
    int status = ops != NULL ? ops->failed(loop, object, error)
                             : report_refusal(loop, fd, object, error);
    Py_DECREF(error);
    Py_DECREF(object);
    return status;
}

static int
lent_refused(LoopObject *loop, cl_watch *watch, int err)
{
    int fd = watch->w_fd;
    uint32_t generation = watch->w_generation;
    if (refuse(loop, fd, CL_READ, err) < 0)
        return -1;
    /* Python code ran: it may be another record now. */
    cl_lent *lent = find(loop, fd);
    if (lent == NULL || lent->le_watch.w_generation != generation)
        return 0;
    return refuse(loop, fd, CL_WRITE, err);
}

/* Frees a record whose watch has ended. Runs destructors. */
static void
release(cl_lent *lent)
{
    cl_lent last = *lent;
    PyMem_Free(lent);
    Py_XDECREF(last.le_reader.pl_object);
    Py_XDECREF(last.le_writer.pl_object);
    Py_XDECREF(last.le_file);
    Py_XDECREF(last.le_sock);
}

static void
drop(LoopObject *loop, cl_lent *lent)
{
    cl_assertf(taken(lent) == 0, "descriptor %d", lent->le_watch.w_fd);
    cl_watch_stop(loop, &lent->le_watch);
    release(lent);
}

/* The handle or waiter lost its place. Steals the reference. 0/-1 */
static int
lose(LoopObject *loop, lent_place old)
{
    int err = 0;
    if (old.pl_ops != NULL)
        err = old.pl_ops->lost(loop, old.pl_object);
    else if (old.pl_object != NULL)
        err = cl_handle_cancel((HandleObject *)old.pl_object);
    Py_XDECREF(old.pl_object);
    return err;
}

static void
lent_evicted(LoopObject *loop, cl_watch *watch)
{
    cl_lent *lent = (cl_lent *)watch;
    if (loop->l_open) { /* another owner has the descriptor now */
        lent_place reader = lent->le_reader, writer = lent->le_writer;
        lent->le_reader = lent->le_writer = (lent_place){NULL, NULL};
        int err = lose(loop, reader);
        if (lose(loop, writer) < 0 || err < 0)
            PyErr_WriteUnraisable((PyObject *)loop);
    }
    release(lent);
}

/* Creates a record with its first interest. NULL with an exception. */
static cl_lent *
start(LoopObject *loop, int fd, unsigned bits)
{
    cl_lent *lent = PyMem_Calloc(1, sizeof(*lent));
    if (lent == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    cl_watch_init(&lent->le_watch, &lent_ops, NULL);
    int err = cl_watch_start(loop, &lent->le_watch, fd, bits);
    if (err < 0) {
        PyMem_Free(lent);
        (void)cl_raise_os_error(err);
        return NULL;
    }
    return lent;
}

/* Makes the record want these bits. Asks the poller whether it still knows the
 * descriptor, unless `known`. 0/-1 */
static int
want(LoopObject *loop, cl_lent *lent, unsigned bits, bool known)
{
    cl_watch_want(loop, &lent->le_watch, bits);
    int err = known ? 0 : cl_watch_confirm(loop, &lent->le_watch);
    if (err == 0)
        return 0;
    cl_watch_want(loop, &lent->le_watch, interest(lent, 0));
    return cl_raise_os_error(err);
}

int
cl_lent_add(LoopObject *loop, int fd, PyObject *file, unsigned direction,
            HandleObject *handle)
{
    cl_lent *lent = find(loop, fd);
    cl_assert_gil();
    cl_assert(direction == CL_READ || direction == CL_WRITE);
    cl_assert_of(handle, !(handle->h_flags & CL_HANDLE_CANCELLED));
    bool is_new = lent == NULL || taken(lent) == 0;
    if (lent == NULL ? (lent = start(loop, fd, direction)) == NULL
                     : want(loop, lent, taken(lent) | direction, false) < 0) {
        Py_DECREF(handle);
        return -1;
    }
    PyObject *other = NULL;
    if (is_new) {
        other = lent->le_file;
        lent->le_file = PyLong_Check(file) ? NULL : Py_NewRef(file);
    }
    lent_place *place = place_of(lent, direction), old = *place;
    *place = (lent_place){.pl_object = (PyObject *)handle};
    cl_check(lent_check(loop, &lent->le_watch));
    Py_XDECREF(other);
    return lose(loop, old);
}

/* Called after a place was emptied. */
static void
want_less(LoopObject *loop, cl_lent *lent)
{
    if (taken(lent) == 0)
        drop(loop, lent);
    else
        cl_watch_want(loop, &lent->le_watch, interest(lent, 0));
}

int
cl_lent_remove(LoopObject *loop, int fd, unsigned direction)
{
    cl_lent *lent = find(loop, fd);
    if (lent == NULL || place_of(lent, direction)->pl_object == NULL)
        return 0;
    lent_place *place = place_of(lent, direction), old = *place;
    *place = (lent_place){NULL, NULL};
    want_less(loop, lent);
    return lose(loop, old) < 0 ? -1 : 1;
}

/* --------------------------------------------------------------------- waiters */

int
cl_lent_wait(LoopObject *loop, int fd, PyObject *sock, unsigned direction,
             PyObject *waiter, const cl_waiter_ops *ops)
{
    cl_lent *lent = find(loop, fd);
    cl_assert_gil();
    cl_assert(direction == CL_READ || direction == CL_WRITE);
    cl_assert_of(waiter, ops != NULL && ops->ready != NULL &&
                             ops->lost != NULL && ops->failed != NULL);
    bool known = lent != NULL && lent->le_sock != NULL &&
                 cl_weakref_is(lent->le_sock, sock);
    PyObject *weak = known ? NULL : PyWeakref_NewRef(sock, NULL);
    PyObject *other = NULL;
    if (weak == NULL && !known)
        return -1;
    if (lent == NULL) {
        lent = start(loop, fd, direction | CL_EDGE);
    }
    else {
        unsigned bits = interest(lent, direction);
        if (known && (bits & CL_EDGE)) /* the interest may stay */
            bits |= lent->le_watch.w_want;
        if (want(loop, lent, bits, known) < 0)
            lent = NULL;
    }
    if (lent == NULL) {
        Py_XDECREF(weak);
        return -1;
    }
    if (!known) {
        other = lent->le_sock;
        lent->le_sock = weak;
    }
    cl_loop_owe_polls(loop); /* the interest may have been there already */
    lent_place *place = place_of(lent, direction), old = *place;
    *place = (lent_place){Py_NewRef(waiter), ops};
    cl_check(lent_check(loop, &lent->le_watch));
    Py_XDECREF(other);
    return lose(loop, old);
}

void
cl_lent_leave(LoopObject *loop, int fd, unsigned direction, PyObject *waiter)
{
    cl_lent *lent = find(loop, fd);
    if (lent == NULL || place_of(lent, direction)->pl_object != waiter)
        return;
    cl_assert_of(waiter, Py_REFCNT(waiter) > 1);
    *place_of(lent, direction) = (lent_place){NULL, NULL};
    Py_DECREF(waiter);
}

void
cl_lent_settle(LoopObject *loop, int fd)
{
    cl_lent *lent = find(loop, fd);
    if (lent != NULL && taken(lent) == 0)
        drop(loop, lent);
}

int
cl_lent_idle(LoopObject *loop)
{
    int count = 0;
    for (int fd = 0; fd < loop->l_watches.wt_size; fd++) {
        cl_lent *lent = find(loop, fd);
        if (lent != NULL && taken(lent) == 0)
            count++;
    }
    return count;
}

/* ------------------------------------------------------------------- queries */

int
cl_lent_handles(LoopObject *loop, int fd, HandleObject **reader,
                HandleObject **writer)
{
    cl_lent *lent = find(loop, fd);
    if (lent == NULL)
        return 0;
    *reader = handle_in(&lent->le_reader);
    *writer = handle_in(&lent->le_writer);
    return *reader != NULL || *writer != NULL;
}

int
cl_lent_check_free(LoopObject *loop, PyObject *file, int fd)
{
    PyObject *key = NULL, *transport = NULL, *closing = NULL;
    int busy = -1;
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    if (watch != NULL && cl_watch_claims(watch)) {
        if (file == NULL)
            PyErr_Format(PyExc_RuntimeError,
                         "File descriptor %d is used by transport %R", fd,
                         watch->w_owner);
        else
            PyErr_Format(PyExc_RuntimeError,
                         "File descriptor %R is used by transport %R", file,
                         watch->w_owner);
        return -1;
    }
    if (loop->l_transports == NULL)
        return 0;
    if ((key = PyLong_FromLong(fd)) == NULL)
        return -1;
    /* Looking in the WeakValueDictionary's own dict first saves a Python
     * KeyError for each descriptor without a transport. */
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
                     "File descriptor %R is used by transport %R",
                     file == NULL ? key : file, transport);
    else if (is_closing > 0)
        busy = 0;
done:
    Py_XDECREF(key);
    Py_XDECREF(transport);
    Py_XDECREF(closing);
    return busy;
}

int
cl_lent_find_file(LoopObject *loop, PyObject *file)
{
    for (int fd = 0; fd < loop->l_watches.wt_size; fd++) {
        cl_lent *lent = find(loop, fd);
        if (lent != NULL && lent->le_file == file)
            return fd;
    }
    return -1;
}

int
cl_lent_traverse(LoopObject *loop, visitproc visit, void *arg)
{
    for (int fd = 0; fd < loop->l_watches.wt_size; fd++) {
        cl_lent *lent = find(loop, fd);
        if (lent != NULL) {
            Py_VISIT(lent->le_reader.pl_object);
            Py_VISIT(lent->le_writer.pl_object);
            Py_VISIT(lent->le_file);
            Py_VISIT(lent->le_sock);
        }
    }
    return 0;
}
