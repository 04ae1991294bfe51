/* future.h - cloop.Future: asyncio.Future with its hot methods in C.
 *
 * It derives from asyncio.Future and adds no field: result(), repr,
 * attributes, traverse and clear are inherited. Its objects differ in two
 * ways. Code that passes one to inherited code which looks at callbacks must
 * call cl_future_normalise() first.
 *
 *   - f_callback0 may be a cloop.Task (not of a subclass) that waits for the
 *     future;
 *   - once it is done, f_context0 may be the callback in C that is to be
 *     called with it (CL_NODE_CHILD_DONE). Nothing inherited reads the field
 *     while f_callback0 is NULL;
 *   - if the future's loop is ours and plain (not in debug mode, call_soon()
 *     not overridden), callbacks, and a task itself, go into the loop's ready
 *     ring without a call of call_soon().
 *
 * The functions below take cloop.Future, cloop.Task, and objects of their
 * subclasses. */
#ifndef CL_FUTURES_FUTURE_H
#define CL_FUTURES_FUTURE_H

#include "base/compat.h"
#include "core/loop.h"
#include "futures/state.h"
#include "futures/layout.h"

/* Whether its fields can be read as those of a Future and its methods are
 * known: it is exactly a cloop.Future, in use. */
static inline bool
cl_future_is_plain(const cl_state *st, PyObject *object)
{
    return Py_TYPE(object) == cl_futures_of(st)->FutureType &&
           cl_futures_of(st)->own_tasks;
}

/* Whether the object is of one of our types, and not of a subclass. */
static inline bool
cl_future_is_ours(const cl_state *st, PyObject *object)
{
    return Py_TYPE(object) == cl_futures_of(st)->FutureType ||
           Py_TYPE(object) == cl_futures_of(st)->TaskType;
}

/* A task is a future, too. */
static inline FutureObject *
cl_task_future(TaskObject *task)
{
    return (FutureObject *)task;
}

/* loop.create_future(). Returns a new reference. */
PyObject *cl_future_new(LoopObject *loop);

/* create_future() of any loop, as overridden. Returns a new reference. Runs
 * Python. */
PyObject *cl_future_create(cl_state *st, PyObject *loop);

/* Initialises the fields of a future of the loop; all are empty. 0, or -1 if
 * the source traceback (debug mode) could not be taken. */
int cl_future_init(cl_state *st, FutureObject *future, PyObject *loop);

/* Calls call_soon(callback, argument, context=context) of the future's loop,
 * of any kind; `argument` and `context` may be NULL. 0/-1 Runs Python. */
int cl_future_call_soon(FutureObject *future, PyObject *callback,
                        PyObject *argument, PyObject *context);

/* Passes the callbacks of a finished future to its loop. 0/-1 Runs Python. */
int cl_future_schedule(FutureObject *future);

/* Sets the result of a pending future. 0/-1 Runs Python. */
int cl_future_finish(FutureObject *future, PyObject *result);

/* Cancels a pending future; `message` may be NULL. 0/-1 Runs Python. */
int cl_future_end_cancelled(FutureObject *future, PyObject *message);

/* Adds a callback to a pending future. 0/-1 Runs Python. */
int cl_future_append(FutureObject *future, PyObject *callback,
                     PyObject *context);

/* Replaces a waiting task in f_callback0 by the callable that asyncio puts
 * there. 0/-1 */
int cl_future_normalise(FutureObject *future);

/* Returns the `msg` of cancel(msg=None), borrowed. NULL without an exception
 * if the arguments are different: asyncio's own method then raises the error. */
PyObject *cl_future_cancel_args(cl_state *st, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames);

/* Returns the state for an object of our types or a subclass; NULL with
 * SystemError for others. */
cl_state *cl_future_state(PyObject *self);

/* Calls the method of that name of a type, asyncio's Future or Task, on self.
 * Runs Python. */
PyObject *cl_future_inherited(PyObject *type, PyObject *self, PyObject *name,
                              PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);

/* tp_dealloc of the two types, which identifies their subclasses. */
void cl_future_dealloc(PyObject *self);
void cl_task_dealloc(PyObject *self);

/* Methods, attributes and slots of both types. */
PyObject *cl_future_add_done_callback(PyObject *self, PyObject *const *args,
                                      Py_ssize_t nargs, PyObject *kwnames);
PyObject *cl_future_remove_done_callback(PyObject *self, PyObject *callback);
PyObject *cl_future_callbacks(PyObject *self, void *closure);
void cl_future_finalize(PyObject *self);

/* Docstrings for methods of both types, with the signatures of this Python's
 * asyncio. Where asyncio has none, there is no docstring, and help() finds
 * asyncio's. */
#if CL_HAS_CANCEL_MESSAGE
#define CL_CANCEL_SIGNATURE "cancel($self, /, msg=None)\n--\n\n"
#else
#define CL_CANCEL_SIGNATURE "cancel($self, /)\n--\n\n"
#endif
#define CL_REMOVE_DONE_CALLBACK_DOC \
    "remove_done_callback($self, fn, /)\n--\n\n" \
    "Remove every callback that equals fn; return how many there were."

PyTypeObject *cl_future_setup(PyObject *module, cl_state *st);

#endif
