/* coro.h - coroutines whose body is C.
 *
 * A type whose objects begin with cl_coro behaves as asyncio and await expect of a
 * coroutine: it starts when it is first stepped, yields futures, can be thrown into
 * and closed, and warns if it was never awaited. What it does is in its operations.
 * It may also hand over to a coroutine of Python, in its first step or later, and is
 * from then on a thin cover of that one. */
#ifndef CL_FUTURES_CORO_H
#define CL_FUTURES_CORO_H

#include "base/compat.h"
#include "core/loop.h"
#include "core/state.h"

typedef enum {
    CL_CORO_NEW,     /* not yet stepped */
    CL_CORO_RUNNING, /* a step is in progress */
    CL_CORO_WAITING, /* for c_future, or for what c_inner waits for */
    CL_CORO_DONE,
} cl_coro_state;

struct cl_coro_ops;

typedef struct {
    PyObject_HEAD
    const struct cl_coro_ops *c_ops;
    cl_state *c_st;
    PyObject *c_future; /* owned; what it waits for */
    PyObject *c_inner;  /* owned; the coroutine that does it instead */
    PyObject
        *c_shown; /* owned, or NULL: what cr_frame and cr_await have shown */
    cl_coro_state c_state;
#if CL_HAS_REMOTE_STACKS
    cl_remote_frame c_remote; /* see remote.h */
#endif
    LoopObject *c_loop; /* owned; it has the spares; or NULL */
} cl_coro;

typedef struct cl_coro_ops {
    const char *owner; /* the class whose method it is; NULL for a function */
    const char *(*name)(const cl_coro *coro);
    /* asyncio's class, whose method of that name does the same in Python; borrowed. */
    PyObject *(*stock)(const cl_coro *coro);
    /* What it was called with, `self` first: a new tuple. */
    PyObject *(*args)(const cl_coro *coro);
    /* One step, the first if `fresh`. PYGEN_NEXT: waits for c_future, or goes on
     * with c_inner; else its result, or the exception that is set. */
    PySendResult (*step)(cl_coro *coro, bool fresh, PyObject **result);
    /* An exception was thrown into it while it waited, and is set: what it makes of
     * that, a result or an exception. NULL if it makes nothing of it. */
    PySendResult (*thrown)(cl_coro *coro, PyObject **result);
    /* It ends with the exception that is set. NULL if there is nothing to undo. */
    void (*fail)(cl_coro *coro);
    /* Drops all it holds; may come twice. */
    void (*drop)(cl_coro *coro);
    /* Whether `thrown` comes also when it is closed or freed while it waits, with
     * GeneratorExit: it has something to do then. */
    bool closes;
} cl_coro_ops;

#if CL_HAS_REMOTE_STACKS
_Static_assert(offsetof(cl_coro, c_remote) == CL_REMOTE_OFFSET,
               "c_remote is where Python's coroutines have their frame");
#endif

/* Whether the object is such a coroutine. */
bool cl_coro_check(PyObject *object);

/* Waits for the future: sets c_future, and that it is awaited. 0/-1 */
int cl_coro_wait(cl_coro *coro, PyObject *future);

/* Whether c_future is done: 1, 0, or -1 with an exception. */
int cl_coro_future_is_done(cl_coro *coro);

/* What `await c_future` does next: 0, or -1 with the exception it raises. */
int cl_coro_resume(cl_coro *coro);

/* For the type's specification: slots, with those of its own before. A type has
 * tp_dealloc of its own, which calls the function of that name first. */
int cl_coro_traverse(cl_coro *coro, visitproc visit, void *arg);
int cl_coro_clear(cl_coro *coro);
PyObject *cl_coro_repr(cl_coro *coro);
PyObject *cl_coro_await(cl_coro *coro);
PyObject *cl_coro_iternext(cl_coro *coro);
PySendResult cl_coro_send(cl_coro *coro, PyObject *value, PyObject **result);
void cl_coro_finalize(cl_coro *coro);
extern PyMethodDef cl_coro_methods[];
extern PyGetSetDef cl_coro_getset[];

/* clang-format off */
#define CL_CORO_SLOTS \
    {Py_tp_finalize, cl_coro_finalize}, \
    {Py_tp_clear, cl_coro_clear}, \
    {Py_tp_repr, cl_coro_repr}, \
    {Py_tp_iter, cl_coro_await}, /* for `yield from` */ \
    {Py_tp_iternext, cl_coro_iternext}, \
    {Py_am_await, cl_coro_await}, \
    CL_AM_SEND(cl_coro_send) \
    {Py_tp_methods, cl_coro_methods}, \
    {Py_tp_getset, cl_coro_getset}
/* clang-format on */

/* Of a dealloc: false if the object was revived by its finalizer; else it is
 * untracked and holds nothing any more, but for c_loop. */
bool cl_coro_dying(cl_coro *coro);

#endif
