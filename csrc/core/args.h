/* args.h - what the methods of LoopCore begin with: taking their arguments
 * apart as a Python function would, and asyncio's checks. */
#ifndef CL_CORE_ARGS_H
#define CL_CORE_ARGS_H

#include "base/compat.h"

#include "core/state.h"

typedef struct LoopObject LoopObject;

/* What a method returns that returns None, given 0 or -1. */
static inline PyObject *
cl_none_or_error(int status)
{
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

/* For the method tables: any of the calling conventions. */
#define CL_FAST(function) (PyCFunction)(void (*)(void)) function

/* The arguments of a scheduling method: `count` named ones, then those of the
 * callback, then context=. */
typedef struct {
    const char *method;
    const char *const *names;
    int count;             /* at most 2 */
    PyObject *named[2];    /* borrowed */
    PyObject *const *rest; /* borrowed */
    Py_ssize_t nrest;
    PyObject *context; /* borrowed, or NULL */
} cl_call_args;

/* Fills *call, whose method, names and count are set, from a vectorcall. 0, or -1
 * with the TypeError of a Python function. */
int cl_call_args_parse(cl_call_args *call, cl_state *st, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames);

/* -1 with TypeError if context= was given to a method that has none. */
int cl_call_args_refuse_context(const cl_call_args *call);

/* The argument, borrowed, of a method that takes names[0] alone; or NULL. */
PyObject *cl_call_args_only(cl_state *st, const char *method,
                            const char *const *names, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames);

/* -1 with asyncio's RuntimeError if the loop is closed. */
int cl_loop_check_open(LoopObject *loop);

/* In debug mode: asyncio's _check_thread() (unless `anywhere`) and
 * _check_callback(). Runs Python. */
int cl_loop_check_debug(LoopObject *loop, PyObject *callback,
                        const char *method, bool anywhere);

/* Calls a function of a module, looked up at each use as asyncio does. */
PyObject *cl_call_module(PyObject *module, PyObject *name,
                         PyObject *const *args, size_t nargs,
                         PyObject *kwnames);

/* function(first, second), or function(first) if `second` is NULL, for what it does:
 * 0 or -1. */
int cl_call_void(PyObject *function, PyObject *first, PyObject *second);

#endif
