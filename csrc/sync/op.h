/* op.h - the coroutines of asyncio's primitives.
 *
 * All have the same type; the kind says what one does. Its steps are those of
 * the Python function: before the await, and after it, with a result or with
 * an exception. When a step returns CL_OP_HAND_OVER, asyncio's own coroutine
 * runs instead, from its start. So such a step must have changed nothing that
 * this would notice.
 *
 * A step can also await any other object (cl_op_await()). That then gets the
 * steps; when it ends, those of the op go on. */
#ifndef CL_SYNC_OP_H
#define CL_SYNC_OP_H

#include "base/compat.h"
#include "futures/coro.h"
#include "sync/sync.h"

#define CL_SPARE_SYNC_OPS CL_TINY(2, 256)

typedef enum {
    CL_OP_FAILED = PYGEN_ERROR, /* an exception is set */
    CL_OP_DONE = PYGEN_RETURN,  /* with *result */
    CL_OP_WAIT = PYGEN_NEXT,    /* on c_future, or with *result: yields that */
    CL_OP_AWAIT,                /* what is in o_inner */
    CL_OP_HAND_OVER,
} cl_op_outcome;

typedef struct {
    CoroObject o_coro;
    PyObject *o_self;  /* owned, or NULL; the object whose method it is */
    PyObject *o_arg;   /* owned, or NULL */
    PyObject *o_more;  /* owned, or NULL: free for each kind */
    PyObject *o_last;  /* the same */
    PyObject *o_inner; /* owned, or NULL; what it awaits */
    PyObject *o_got;   /* owned, or NULL; what that returned */
    double o_number;
    int o_stage;   /* for those that wait more than once */
    bool o_thrown; /* k_failed: the exception was thrown in */
} SyncOpObject;

typedef struct {
    cl_coro_ops k_ops;
    const char *k_name;
    int k_body;  /* the function for CL_OP_HAND_OVER; -1: none */
    int k_class; /* the method's class; or one of those below */
    /* By o_stage, the names of what asyncio's code awaits; see coro.h. NULL:
     * as in cloop/_frames.py. */
    const char *const *k_awaits;
    /* Runs up to the first await. Not called if o_inner is set from the
     * start. */
    cl_op_outcome (*k_begin)(SyncOpObject *op, PyObject **result);
    /* What it waits for has a result; that of o_inner is in o_got. */
    cl_op_outcome (*k_woken)(SyncOpObject *op, PyObject **result);
    /* The await raised the exception that is set. */
    cl_op_outcome (*k_failed)(SyncOpObject *op, PyObject **result);
    /* Returns the function's arguments as a new tuple. */
    PyObject *(*k_args)(const SyncOpObject *op);
    /* Calls asyncio's function with arguments that are not all positional.
     * NULL: k_body with those of k_args. */
    PyObject *(*k_original)(SyncOpObject *op);
    /* Returns the exception that asyncio's code handles while it awaits,
     * borrowed, or NULL. The function may be NULL. */
    PyObject *(*k_handles)(const SyncOpObject *op);
} cl_op_kind;

/* For k_class: a function of asyncio.tasks, or of another module; or one of
 * as_completed()'s. */
enum {
    CL_OP_OF_TASKS = -1,
    CL_OP_OF_ASYNCIO = -2,
    CL_OP_OF_AS_COMPLETED = -3
};

/* Initialisers for k_ops. */
const char *cl_op_name(const CoroObject *coro);
PyObject *cl_op_stock(const CoroObject *coro);
PyObject *cl_op_args(const CoroObject *coro);
PySendResult cl_op_step(CoroObject *coro, PyObject *sent, PyObject **result);
PySendResult cl_op_thrown(CoroObject *coro, PyObject *type, PyObject *value,
                          PyObject *traceback, PyObject **result);
void cl_op_drop(CoroObject *coro);
PyObject *cl_op_inner(const CoroObject *coro, const char **awaits);
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
        .inner = cl_op_inner, \
    }

/* k_args of a method without arguments, or with o_arg. */
PyObject *cl_op_args_of_method(const SyncOpObject *op);

/* Returns a new coroutine; `self` and `arg` may be NULL. */
PyObject *cl_op_new(cl_state *st, const cl_op_kind *kind, PyObject *self,
                    PyObject *arg);

/* Appends a new future of the running loop to the deque, and waits for it. The
 * loop must be `bound`, or becomes the owner's _loop. Returns WAIT, FAILED or
 * HAND_OVER. */
cl_op_outcome cl_op_wait_in(SyncOpObject *op, PyObject *owner, PyObject *bound,
                            PyObject *deque);

/* Awaits a coroutine or another awaitable, and steals it; NULL stands for the
 * exception that is set. Returns AWAIT or FAILED. */
cl_op_outcome cl_op_await(SyncOpObject *op, PyObject *awaitable);

/* The same with what cl_coro_awaited() returns. */
cl_op_outcome cl_op_await_iter(SyncOpObject *op, PyObject *iter);

/* For k_woken: returns what o_inner returned. */
cl_op_outcome cl_op_got(SyncOpObject *op, PyObject **result);

/* Returns a new future of the running loop, which must be `bound` or becomes
 * the owner's _loop. NULL without an exception if it is none of ours. */
PyObject *cl_op_future(SyncOpObject *op, PyObject *owner, PyObject *bound);

/* For k_failed: the exception that is set was raised while the one of k_handles
 * was handled. */
void cl_op_chain_handled(SyncOpObject *op);

/* Ends the handling of `error`, and steals it. If an exception is set, `error`
 * becomes its context; if not, `error` is raised again. */
void cl_op_chain(PyObject *error);

/* Returns CL_OP_DONE with `value` (True or None) as the result. */
static inline cl_op_outcome
cl_op_done(PyObject **result, PyObject *value)
{
    *result = Py_NewRef(value);
    return CL_OP_DONE;
}

PyTypeObject *cl_op_setup(PyObject *module, cl_state *st);

#endif
