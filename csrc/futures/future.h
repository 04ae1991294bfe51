/* future.h - cloop.Future: asyncio.Future with its hot methods done here.
 *
 * It derives from asyncio.Future and adds no field: result(), repr, attributes,
 * traverse and clear are inherited and see what they expect. In two things these
 * objects differ, and whatever hands one to inherited code that looks at callbacks
 * calls cl_future_normalise() first:
 *   - f_callback0 may be a cloop.Task itself, not of a subclass: the task waits for
 *     the future, and is to be woken;
 *   - callbacks of a future of our loop, when it runs plainly (not in debug mode,
 *     call_soon() not overridden), go into its ready ring without a call of
 *     call_soon(); a task goes there as it is.
 *
 * The functions below take cloop.Future and cloop.Task alike, and objects of
 * their subclasses. */
#ifndef CL_FUTURES_FUTURE_H
#define CL_FUTURES_FUTURE_H

#include "base/compat.h"
#include "core/loop.h"
#include "futures/state.h"
#include "futures/layout.h"

/* Whether its fields may be read as those of a Future, and its methods are known:
 * exactly cloop.Future, where that is used. */
static inline bool
cl_future_is_plain(const cl_state *st, PyObject *object)
{
    return Py_TYPE(object) == cl_futures_of(st)->FutureType &&
           cl_futures_of(st)->own_tasks;
}

/* loop.create_future(): new reference. */
PyObject *cl_future_new(LoopObject *loop);

/* loop.create_future() of whatever loop that is, as overridden: new reference. */
PyObject *cl_future_create(cl_state *st, PyObject *loop);

/* The object's fields for a future of the loop: 0, or -1 with the source traceback
 * (debug mode) not taken. They hold nothing yet. */
int cl_future_init(cl_state *st, FutureObject *future, PyObject *loop);

/* call_soon(callback, argument, context=context) of the future's loop, whatever that
 * is; `argument` and `context` may be NULL. 0 or -1. Runs Python. */
int cl_future_call_soon(FutureObject *future, PyObject *callback,
                        PyObject *argument, PyObject *context);

/* Hands the callbacks of a future that is done to its loop: 0 or -1. Runs Python. */
int cl_future_schedule(FutureObject *future);

/* Sets the result of a pending future; 0 or -1. */
int cl_future_finish(FutureObject *future, PyObject *result);

/* Ends a pending future as cancelled; 0 or -1. `message` may be NULL. */
int cl_future_end_cancelled(FutureObject *future, PyObject *message);

/* Adds a callback to a pending future; 0 or -1. */
int cl_future_append(FutureObject *future, PyObject *callback,
                     PyObject *context);

/* Turns a waiting task in f_callback0 into the callable that asyncio has there. */
int cl_future_normalise(FutureObject *future);

/* The `msg` of cancel(msg=None), borrowed; or NULL, with no exception set, if the
 * arguments are not of that form: then asyncio's own method says so. */
PyObject *cl_future_cancel_args(cl_state *st, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames);

/* The state behind an object of our types or of a subclass; NULL with SystemError
 * for any other object. */
cl_state *cl_future_state(PyObject *self);

/* Calls the method of that name of a type, asyncio's Future or Task, on self. */
PyObject *cl_future_inherited(PyObject *type, PyObject *self, PyObject *name,
                              PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);

/* tp_dealloc of the two types, by which their subclasses are known. */
void cl_future_dealloc(PyObject *self);
void cl_task_dealloc(PyObject *self);

/* Methods, attributes and slots that are the same for both types. */
PyObject *cl_future_add_done_callback(PyObject *self, PyObject *const *args,
                                      Py_ssize_t nargs, PyObject *kwnames);
PyObject *cl_future_remove_done_callback(PyObject *self, PyObject *callback);
PyObject *cl_future_callbacks(PyObject *self, void *closure);
void cl_future_finalize(PyObject *self);

/* Of a dealloc: takes the future's reference to its loop, if that is ours; else NULL, and
 * the future keeps it. */
LoopObject *cl_future_leave_loop(FutureObject *future);

/* Of methods that both types have. Signatures are those of this Python's asyncio; where
 * that gives none, there is no docstring, and help() finds asyncio's. */
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
