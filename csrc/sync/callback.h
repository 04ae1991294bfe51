/* callback.h - callables that stand for the closures of asyncio's functions.
 *
 * They have a closure's names, and its source where asyncio shows that, for
 * code that looks at the callbacks of a future. */
#ifndef CL_SYNC_CALLBACK_H
#define CL_SYNC_CALLBACK_H

#include "base/compat.h"
#include "sync/sync.h"

struct SyncCallbackObject;

typedef struct {
    const char *k_name;
    /* NULL: asyncio has a functools.partial() of the function and cb_first. */
    const char *k_qualname;
    int k_closure;      /* of CL_SYNC_CLOSURES; or one of those below */
    Py_ssize_t k_nargs; /* -1: any number */
    /* The references below stay during the call. 0/-1 Runs Python. */
    int (*k_call)(struct SyncCallbackObject *callback, PyObject *const *args);
} cl_callback_kind;

/* For k_closure: asyncio's has no source, or that of _release_waiter(). */
enum { CL_CLOSURE_NONE = -1, CL_CLOSURE_RELEASE_WAITER = -2 };

typedef struct SyncCallbackObject {
    PyObject_HEAD
    vectorcallfunc cb_vectorcall;
    const cl_callback_kind *cb_kind;
    cl_state *cb_st; /* borrowed; the type keeps the module alive */
    /* Owned, or NULL; each kind has its own use for them. The first is always
     * set, until the garbage collector clears it: then a call does nothing. */
    PyObject *cb_first;
    PyObject *cb_second;
    PyObject *cb_third;
    Py_ssize_t cb_count;
    int cb_option;
} SyncCallbackObject;

/* Returns a new callable; `second` and `third` may be NULL. */
SyncCallbackObject *cl_callback_new(cl_state *st, const cl_callback_kind *kind,
                                    PyObject *first, PyObject *second,
                                    PyObject *third);

PyTypeObject *cl_callback_setup(PyObject *module, cl_state *st);

#endif
