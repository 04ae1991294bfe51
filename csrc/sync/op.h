/* op.h - coroutines of asyncio's primitives.
 *
 * One type for all: what a coroutine does is in its kind. Its steps are those of the
 * function in Python: what is before the await, and what is after it, with a result or
 * an exception. Once a step says CL_OP_HAND_OVER, asyncio's own coroutine does the
 * rest, from its beginning: a step that says so has done nothing yet that this one
 * would not find as it expects. */
#ifndef CL_SYNC_OP_H
#define CL_SYNC_OP_H

#include "base/compat.h"
#include "futures/coro.h"
#include "sync/sync.h"

#define CL_SPARE_SYNC_OPS CL_TINY(2, 256)

typedef enum {
    CL_OP_FAILED = -1, /* an exception is set */
    CL_OP_WAIT,        /* for c_future */
    CL_OP_DONE,        /* with a result */
    CL_OP_HAND_OVER,
} cl_op_outcome;

typedef struct {
    cl_coro o_coro;
    PyObject *o_self; /* owned, or NULL; whose method it is */
    PyObject *o_arg;  /* owned, or NULL */
    PyObject *o_more; /* owned, or NULL: whatever the kind keeps */
    double o_number;
    int o_stage; /* of those that wait more than once */
} cl_op;

typedef struct {
    cl_coro_ops k_ops;
    const char *k_name;
    int k_body;  /* whose function hands over to */
    int k_class; /* of the method, or -1: a function of asyncio.tasks */
    /* Up to the first await. */
    cl_op_outcome (*k_begin)(cl_op *op, PyObject **result);
    /* After one, which has returned. */
    cl_op_outcome (*k_woken)(cl_op *op, PyObject **result);
    /* After one, which has raised the exception that is set. */
    cl_op_outcome (*k_failed)(cl_op *op, PyObject **result);
    /* What the function is called with: a new tuple. */
    PyObject *(*k_args)(const cl_op *op);
} cl_op_kind;

/* The initialisers of k_ops. */
const char *cl_op_name(const cl_coro *coro);
PyObject *cl_op_stock(const cl_coro *coro);
PyObject *cl_op_args(const cl_coro *coro);
PySendResult cl_op_step(cl_coro *coro, bool fresh, PyObject **result);
PySendResult cl_op_thrown(cl_coro *coro, PyObject **result);
void cl_op_drop(cl_coro *coro);
#define CL_OP_OPS(class_name) \
    { \
        .owner = class_name, \
        .name = cl_op_name, \
        .stock = cl_op_stock, \
        .args = cl_op_args, \
        .step = cl_op_step, \
        .thrown = cl_op_thrown, \
        .drop = cl_op_drop, \
        .closes = true, \
    }

/* k_args of a method that takes nothing, or o_arg. */
PyObject *cl_op_args_of_method(const cl_op *op);

/* A new coroutine; `self` and `arg` may be NULL. */
PyObject *cl_op_new(cl_state *st, const cl_op_kind *kind, PyObject *self,
                    PyObject *arg);

/* Waits for a new future of the running loop, which has to be `bound`, or becomes the
 * owner's _loop; the future is appended to the deque first. WAIT, FAILED or
 * HAND_OVER. */
cl_op_outcome cl_op_wait_in(cl_op *op, PyObject *owner, PyObject *bound,
                            PyObject *deque);

/* What was raised while `error` was handled gets that as its context; takes the
 * reference. The exception set stays, or is `error` if there is none. */
void cl_op_chain(PyObject *error);

/* Sets DONE's result to True or None. */
static inline cl_op_outcome
cl_op_done(PyObject **result, PyObject *value)
{
    *result = Py_NewRef(value);
    return CL_OP_DONE;
}

PyTypeObject *cl_op_setup(PyObject *module, cl_state *st);

#endif
