/* lent.c - see lent.h. */
#include "core/lent.h"

#include "core/errors.h"
#include "core/loop.h"

typedef struct {
    cl_watch n_watch;       /* first: the table hands out its address */
    HandleObject *n_reader; /* owned, or NULL */
    HandleObject *n_writer; /* owned, or NULL */
    PyObject *n_file;       /* owned; what add_reader got, NULL for an int */
} cl_lent;

static int lent_ready(LoopObject *loop, cl_watch *watch, unsigned events);
static void lent_evicted(LoopObject *loop, cl_watch *watch);

static const cl_watch_ops lent_ops = {.ready = lent_ready,
                                      .evicted = lent_evicted};

/* The record of a descriptor, or NULL if another kind of watch or none is there. */
static cl_lent *
find(LoopObject *loop, int fd)
{
    cl_watch *watch = cl_watch_find(&loop->l_watches, fd);
    return watch != NULL && watch->w_ops == &lent_ops ? (cl_lent *)watch
                                                         : NULL;
}

static inline HandleObject **
handle_of(cl_lent *lent, unsigned direction)
{
    return direction == CL_READ ? &lent->n_reader : &lent->n_writer;
}

static inline unsigned
wanted(const cl_lent *lent)
{
    return (lent->n_reader ? CL_READ : 0) | (lent->n_writer ? CL_WRITE : 0);
}

static int
push_reader_or_writer(LoopObject *loop, HandleObject *handle)
{
    if (handle == NULL || (handle->h_flags & CL_HANDLE_CANCELLED))
        return 0;
    return cl_loop_push(loop, cl_node_make(Py_NewRef(handle), CL_NODE_HANDLE));
}

/* A handle that somebody cancelled by hand loses its interest, as in asyncio.
 * Looks the record up anew: dropping the other one may have run Python. */
static int
remove_if_cancelled(LoopObject *loop, int fd, unsigned direction)
{
    cl_lent *lent = find(loop, fd);
    HandleObject *handle = lent == NULL ? NULL : *handle_of(lent, direction);
    if (handle == NULL || !(handle->h_flags & CL_HANDLE_CANCELLED))
        return 0;
    return cl_lent_remove(loop, fd, direction) < 0 ? -1 : 0;
}

static int
lent_ready(LoopObject *loop, cl_watch *watch, unsigned events)
{
    cl_lent *lent = (cl_lent *)watch;
    int fd = watch->w_fd;
    if ((events & CL_READ) && push_reader_or_writer(loop, lent->n_reader) < 0)
        return -1;
    if ((events & CL_WRITE) && push_reader_or_writer(loop, lent->n_writer) < 0)
        return -1;
    if ((events & CL_READ) && remove_if_cancelled(loop, fd, CL_READ) < 0)
        return -1;
    return events & CL_WRITE ? remove_if_cancelled(loop, fd, CL_WRITE) : 0;
}

/* Frees a record whose watch has ended. Runs Python (destructors). */
static void
release(cl_lent *lent)
{
    HandleObject *reader = lent->n_reader, *writer = lent->n_writer;
    PyObject *file = lent->n_file;
    PyMem_Free(lent);
    Py_XDECREF(reader);
    Py_XDECREF(writer);
    Py_XDECREF(file);
}

static void
drop(LoopObject *loop, cl_lent *lent)
{
    cl_watch_stop(loop, &lent->n_watch);
    release(lent);
}

static void
cancel_replaced(HandleObject *handle)
{
    if (handle != NULL && cl_handle_cancel(handle) < 0)
        PyErr_WriteUnraisable((PyObject *)handle);
}

static void
lent_evicted(LoopObject *loop, cl_watch *watch)
{
    cl_lent *lent = (cl_lent *)watch;
    if (loop->l_open) { /* another owner has the descriptor now */
        cancel_replaced(lent->n_reader);
        cancel_replaced(lent->n_writer);
    }
    release(lent);
}

static int
start(LoopObject *loop, int fd, PyObject *file, unsigned direction,
      HandleObject *handle)
{
    cl_lent *lent = PyMem_Calloc(1, sizeof(*lent));
    if (lent == NULL) {
        Py_DECREF(handle);
        PyErr_NoMemory();
        return -1;
    }
    cl_watch_init(&lent->n_watch, &lent_ops, NULL);
    int err = cl_watch_start(loop, &lent->n_watch, fd, direction);
    if (err < 0) {
        PyMem_Free(lent);
        Py_DECREF(handle);
        return cl_raise_errno(err);
    }
    *handle_of(lent, direction) = handle;
    lent->n_file = PyLong_Check(file) ? NULL : Py_NewRef(file);
    return 0;
}

int
cl_lent_add(LoopObject *loop, int fd, PyObject *file, unsigned direction,
            HandleObject *handle)
{
    cl_lent *lent = find(loop, fd);
    if (lent == NULL)
        return start(loop, fd, file, direction, handle);

    HandleObject **place = handle_of(lent, direction), *old = *place;
    int err = cl_watch_want(loop, &lent->n_watch, wanted(lent) | direction);
    if (err == 0)
        err = cl_watch_confirm(loop, &lent->n_watch);
    if (err < 0) {
        (void)cl_watch_want(loop, &lent->n_watch, wanted(lent));
        Py_DECREF(handle);
        return cl_raise_errno(err);
    }
    *place = handle;
    if (old != NULL) {
        err = cl_handle_cancel(old);
        Py_DECREF(old);
    }
    return err;
}

int
cl_lent_remove(LoopObject *loop, int fd, unsigned direction)
{
    cl_lent *lent = find(loop, fd);
    if (lent == NULL || *handle_of(lent, direction) == NULL)
        return 0;
    HandleObject *old = *handle_of(lent, direction);
    *handle_of(lent, direction) = NULL;
    if (wanted(lent) == 0) {
        drop(loop, lent);
    }
    else if (cl_watch_want(loop, &lent->n_watch, wanted(lent)) < 0) {
        *handle_of(lent, direction) = old;
        PyErr_NoMemory();
        return -1;
    }
    int err = cl_handle_cancel(old);
    Py_DECREF(old);
    return err < 0 ? -1 : 1;
}

int
cl_lent_handles(LoopObject *loop, int fd, HandleObject **reader,
                HandleObject **writer)
{
    cl_lent *lent = find(loop, fd);
    if (lent == NULL)
        return 0;
    *reader = lent->n_reader;
    *writer = lent->n_writer;
    return 1;
}

int
cl_lent_find_file(LoopObject *loop, PyObject *file)
{
    for (int fd = 0; fd < loop->l_watches.wt_size; fd++) {
        cl_lent *lent = find(loop, fd);
        if (lent != NULL && lent->n_file == file)
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
            Py_VISIT(lent->n_reader);
            Py_VISIT(lent->n_writer);
            Py_VISIT(lent->n_file);
        }
    }
    return 0;
}
