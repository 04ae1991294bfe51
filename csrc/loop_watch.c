/* loop_watch.c - LoopCore: add_reader, add_writer, and removing them. */
#include "loop_type.h"

#include <limits.h>

#include "core/claim.h"
#include "core/lent.h"
#include "core/loop.h"
#include "net/listener.h"
#include "core/args.h"
#include "state.h"

/* --------------------------------------------------------------- descriptors */

/* raise ValueError(...) from None, while the exception that is set is handled,
 * as in the selectors module. */
static void
refuse_file(PyObject *file)
{
    PyObject *before = cl_swap_handled(PyErr_GetRaisedException());
    PyObject *text = PyUnicode_FromFormat("Invalid file object: %R", file);
    if (text != NULL) {
        PyErr_SetObject(PyExc_ValueError, text);
        PyObject *error = PyErr_GetRaisedException();
        PyException_SetCause(error, NULL);
        PyErr_SetRaisedException(error);
    }
    Py_XDECREF(text);
    Py_XDECREF(cl_swap_handled(before));
}

/* Returns the descriptor of an int or an object with fileno(); -1 with
 * ValueError as in the selectors module, or OverflowError as from epoll. */
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
            PyObject_CallMethodNoArgs(file, cl_top_of(loop->l_st)->str_fileno);
        if (called != NULL)
            number = PyNumber_Long(called);
        Py_XDECREF(called);
        if (number == NULL) {
            if (PyErr_ExceptionMatches(PyExc_AttributeError) ||
                PyErr_ExceptionMatches(PyExc_TypeError) ||
                PyErr_ExceptionMatches(PyExc_ValueError))
                refuse_file(file);
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

static const char *const watcher_names[] = {"fd", "callback"};

static PyObject *
add_watcher(LoopObject *loop, const cl_call_args *call, unsigned direction,
            bool checked)
{
    CL_CLAIM(loop, NULL);
    PyObject *file = call->named[0];
    if (PyLong_Check(file) && cl_loop_check_open(loop) < 0)
        return NULL; /* whatever the number, as in asyncio */
    int fd = fd_of(loop, file);
    if (fd < 0 || (checked && cl_lent_check_free(loop, file, fd) < 0) ||
        cl_loop_check_open(loop) < 0)
        return NULL;
    HandleObject *handle = cl_handle_new(loop, call->named[1], call->rest,
                                         call->nrest, call->context);
    if (handle == NULL)
        return NULL;
    cl_handle_track(handle);
    if (cl_loop_check_open(loop) < 0 ||
        cl_lent_add(loop, fd, file, direction,
                    (HandleObject *)Py_NewRef(handle)) < 0)
        Py_CLEAR(handle);
    return (PyObject *)handle;
}

static PyObject *
remove_watcher(LoopObject *loop, PyObject *file, unsigned direction,
               bool checked)
{
    CL_CLAIM(loop, NULL);
    if (PyLong_Check(file) && !loop->l_open)
        Py_RETURN_FALSE;
    int fd = fd_of(loop, file);
    if (fd < 0 && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    if (fd < 0) {
        /* Closed before it was removed: find it by the object, as selectors
         * do. */
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
    else if (checked && cl_lent_check_free(loop, file, fd) < 0) {
        return NULL;
    }
    if (!loop->l_open)
        Py_RETURN_FALSE;
    if (direction == CL_READ && cl_listener_stop(loop, fd))
        Py_RETURN_TRUE; /* asyncio stops serving with this, and so may a program */
    int removed = cl_lent_remove(loop, fd, direction);
    return removed < 0 ? NULL : PyBool_FromLong(removed);
}

PyDoc_STRVAR(
    Loop_add_reader_doc,
    "add_reader($self, fd, callback, *args)\n--\n\n"
    "Call callback(*args) whenever fd, a file descriptor or an object with "
    "fileno(), is\n"
    "readable. Replaces an earlier reader. The caller keeps the descriptor, "
    "and its\n"
    "blocking mode is not changed. Raises PermissionError for a regular file, "
    "OSError for\n"
    "a bad descriptor, RuntimeError if a transport owns it. See asyncio's\n"
    "loop.add_reader.");
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
    cl_call_args call = {.method = method, .names = watcher_names, .count = 2};
    if (cl_call_args_parse(&call, loop->l_st, args, nargs, kwnames) < 0 ||
        cl_call_args_refuse_context(&call) < 0)
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
    PyObject *result;
    if (cl_loop_replaced(loop, "add_reader", args, nargs, kwnames, &result))
        return result;
    return add_lent(loop, args, nargs, kwnames, "add_reader", CL_READ);
}

static PyObject *
Loop_add_writer(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "add_writer", args, nargs, kwnames, &result))
        return result;
    return add_lent(loop, args, nargs, kwnames, "add_writer", CL_WRITE);
}

static PyObject *
Loop_remove_reader(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "remove_reader", args, nargs, kwnames, &result))
        return result;
    PyObject *file = cl_call_args_only(loop->l_st, "remove_reader",
                                       watcher_names, args, nargs, kwnames);
    return file == NULL ? NULL : remove_watcher(loop, file, CL_READ, true);
}

static PyObject *
Loop_remove_writer(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "remove_writer", args, nargs, kwnames, &result))
        return result;
    PyObject *file = cl_call_args_only(loop->l_st, "remove_writer",
                                       watcher_names, args, nargs, kwnames);
    return file == NULL ? NULL : remove_watcher(loop, file, CL_WRITE, true);
}

/* The four private methods serve asyncio's transports, which own their
 * descriptors. */

static PyObject *
add_owned(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames, const char *method, unsigned direction)
{
    cl_call_args call = {.method = method, .names = watcher_names, .count = 2};
    if (cl_call_args_parse(&call, loop->l_st, args, nargs, kwnames) < 0)
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
    "Return the handles (reader, writer) of a descriptor given to add_reader "
    "or\n"
    "add_writer, with None for a missing one; None if it is not watched.");

static PyObject *
Loop_watched(LoopObject *loop, PyObject *number)
{
    CL_CLAIM(loop, NULL);
    HandleObject *reader, *writer;
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fd < 0 || fd > INT_MAX || !loop->l_open ||
        !cl_lent_handles(loop, (int)fd, &reader, &writer))
        Py_RETURN_NONE;
    /* References first: a collection may remove them. */
    return Py_BuildValue("(NN)",
                         Py_NewRef(reader ? (PyObject *)reader : Py_None),
                         Py_NewRef(writer ? (PyObject *)writer : Py_None));
}

/* ------------------------------------------------------------------- methods */

static PyMethodDef methods[] = {
    {"add_reader", CL_FAST(Loop_add_reader), METH_FASTCALL | METH_KEYWORDS,
     Loop_add_reader_doc},
    {"add_writer", CL_FAST(Loop_add_writer), METH_FASTCALL | METH_KEYWORDS,
     Loop_add_writer_doc},
    {"remove_reader", CL_FAST(Loop_remove_reader),
     METH_FASTCALL | METH_KEYWORDS, Loop_remove_reader_doc},
    {"remove_writer", CL_FAST(Loop_remove_writer),
     METH_FASTCALL | METH_KEYWORDS, Loop_remove_writer_doc},
    {"_add_reader", CL_FAST(Loop_add_reader_private),
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_add_writer", CL_FAST(Loop_add_writer_private),
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_remove_reader", (PyCFunction)Loop_remove_reader_private, METH_O, NULL},
    {"_remove_writer", (PyCFunction)Loop_remove_writer_private, METH_O, NULL},
    {"_watched", (PyCFunction)Loop_watched, METH_O, Loop_watched_doc},
    {NULL}};

int
cl_loop_watch_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
