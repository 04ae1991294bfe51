/* coro.h - coroutines with a body in C.
 *
 * A type whose objects begin with CoroObject behaves as asyncio and await expect:
 * it starts when it is first stepped, yields futures, can be thrown into and
 * closed, and warns if it was never awaited. Its operations say what it does.
 * In any step it may hand over to a Python coroutine, and only forwards to
 * that from then on. */
#ifndef CL_FUTURES_CORO_H
#define CL_FUTURES_CORO_H

#include "base/compat.h"
#include "core/loop.h"
#include "core/state.h"

typedef enum {
    CL_CORO_NEW,     /* not stepped yet */
    CL_CORO_WAITING, /* on c_future, or on whatever it awaits */
    CL_CORO_RUNNING, /* a step is running */
    CL_CORO_DONE,
} cl_coro_state;

struct cl_coro_ops;

typedef struct {
    PyObject_HEAD
    const struct cl_coro_ops *c_ops;
    cl_state *c_st;
    PyObject *c_future; /* owned; the future it waits for */
    PyObject *c_inner;  /* owned; the coroutine that runs instead */
    PyObject
        *c_shown; /* owned; what cr_frame and cr_await returned; or NULL */
    cl_coro_state c_state;
#if CL_HAS_REMOTE_STACKS
    cl_remote_frame c_remote; /* see remote.h */
#endif
    LoopObject *c_loop; /* owned, for the free list; or NULL */
} CoroObject;

typedef struct cl_coro_ops {
    const char *owner; /* class of the method; NULL for a function */
    const char *(*name)(const CoroObject *coro);
    /* Returns asyncio's class, whose Python method of that name does the same.
     * Borrowed. */
    PyObject *(*stock)(const CoroObject *coro);
    /* Returns the call's arguments as a new tuple, `self` first. */
    PyObject *(*args)(const CoroObject *coro);
    /* Runs a step with what send() was given; NULL in the first. Returns
     * PYGEN_NEXT with *result, to yield that, or without, to wait for c_future
     * or to go on with c_inner; else the result, or an exception is set. */
    PySendResult (*step)(CoroObject *coro, PyObject *sent, PyObject **result);
    /* Is thrown an exception while it waits: the arguments of throw(), which
     * cl_raise_thrown() raises. Returns the same. NULL if the exception ends
     * it. */
    PySendResult (*thrown)(CoroObject *coro, PyObject *type, PyObject *value,
                           PyObject *traceback, PyObject **result);
    /* It ends with the exception that is set. NULL if there is nothing to
     * undo. */
    void (*fail)(CoroObject *coro);
    /* The loop whose coroutine it is, borrowed: without a GIL, only its thread
     * steps it (core/claim.h). NULL if it belongs to none. */
    LoopObject *(*loop)(const CoroObject *coro);
    /* Releases everything; may be called twice. */
    void (*drop)(CoroObject *coro);
    /* Whether GeneratorExit is thrown in, as by throw(), when the coroutine is
     * closed or freed while it waits. */
    bool closes;
    /* Returns the coroutine that it awaits itself, borrowed, or NULL. Sets
     * *awaits to the name of the method or variable that asyncio's code
     * awaits; NULL if the inner coroutine is asyncio's own for this one. The
     * function may be NULL. */
    PyObject *(*inner)(const CoroObject *coro, const char **awaits);
} cl_coro_ops;

#if CL_HAS_REMOTE_STACKS
_Static_assert(offsetof(CoroObject, c_remote) == CL_REMOTE_OFFSET,
               "c_remote is where Python's coroutines have their frame");
#endif

/* Whether the object is a coroutine of this kind. */
bool cl_coro_check(PyObject *object);

/* Waits for the future: sets c_future and marks it as awaited. 0/-1 Runs
 * Python. */
int cl_coro_wait(CoroObject *coro, PyObject *future);

/* What `await object` steps, as the interpreter finds it: a new reference, or
 * NULL with TypeError, or RuntimeError if it is a coroutine that is awaited
 * already. Runs Python. */
PyObject *cl_coro_awaited(PyObject *object);

/* Sends the value into what is awaited. *result is what it yielded or
 * returned. Runs Python. */
PySendResult cl_coro_send_awaited(PyObject *inner, PyObject *value,
                                  PyObject **result);

/* Closes what is awaited, as the interpreter does; it may lack close(). 0/-1
 * Runs Python. */
int cl_coro_close_awaited(cl_state *st, PyObject *inner);

/* Throws the exception into what is awaited, as the interpreter does; it may
 * lack throw(). Returns what it yielded, or NULL with an exception. Runs
 * Python. */
PyObject *cl_coro_throw_awaited(cl_state *st, PyObject *inner, PyObject *type,
                                PyObject *value, PyObject *traceback);

/* Whether c_future is done: 1, 0, or -1 on error. Runs Python. */
int cl_coro_future_is_done(CoroObject *coro);

/* Finishes `await c_future`: 0, or -1 with the exception that it raises. Runs
 * Python. */
int cl_coro_resume(CoroObject *coro);

/* For type specs: the common slots, after the type's own. A type has its own
 * tp_dealloc, which first calls cl_coro_dying(). */
int cl_coro_traverse(CoroObject *coro, visitproc visit, void *arg);
int cl_coro_clear(CoroObject *coro);
PyObject *cl_coro_repr(CoroObject *coro);
PyObject *cl_coro_await(CoroObject *coro);
PyObject *cl_coro_iternext(CoroObject *coro);
PySendResult cl_coro_send(CoroObject *coro, PyObject *value,
                          PyObject **result);
void cl_coro_finalize(CoroObject *coro);

/* For types that make some steps themselves: what cl_coro_send() does after a
 * step, which returned this; and what tp_iternext returns for a result, which
 * it steals. */
PySendResult cl_coro_settle(CoroObject *coro, PySendResult status,
                            PyObject **result);
PyObject *cl_coro_returned(CoroObject *coro, PyObject *result);
extern PyMethodDef cl_coro_methods[];
extern PyGetSetDef cl_coro_getset[];

/* clang-format off */
#define CL_CORO_SLOTS CL_CORO_SLOTS_WITH(cl_coro_iternext, cl_coro_send)
#define CL_CORO_SLOTS_WITH(iternext, send) \
    {Py_tp_finalize, cl_coro_finalize}, \
    {Py_tp_clear, cl_coro_clear}, \
    {Py_tp_repr, cl_coro_repr}, \
    {Py_tp_iter, cl_coro_await}, /* for `yield from` */ \
    {Py_tp_iternext, iternext}, \
    {Py_am_await, cl_coro_await}, \
    CL_AM_SEND(send) \
    {Py_tp_methods, cl_coro_methods}, \
    {Py_tp_getset, cl_coro_getset}
/* clang-format on */

/* For tp_dealloc. Returns false if the finalizer revived the object; else it
 * is untracked and has released everything but c_loop. */
bool cl_coro_dying(CoroObject *coro);

#endif
