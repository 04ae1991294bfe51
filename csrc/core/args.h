/* args.h - argument parsing and asyncio's checks, for the methods of LoopCore. */
#ifndef CL_CORE_ARGS_H
#define CL_CORE_ARGS_H

#include "base/compat.h"

#include "core/state.h"

typedef struct LoopObject LoopObject;

/* The return value of a method that returns None, from 0 or -1. */
static inline PyObject *
cl_none_or_error(int status)
{
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

/* For method tables: casts any calling convention. */
#define CL_FAST(function) (PyCFunction)(void (*)(void)) function

/* The arguments of a scheduling method: `count` named ones, then the
 * callback's, then context=. */
typedef struct {
    const char *method;
    const char *const *names;
    int count;             /* at most 2 */
    PyObject *named[2];    /* borrowed */
    PyObject *const *rest; /* borrowed */
    Py_ssize_t nrest;
    PyObject *context; /* borrowed, or NULL */
} cl_call_args;

/* Whether a keyword is this one. Python 3.8 passes others than strings, too. */
static CL_INLINED bool
cl_is_keyword(PyObject *key, PyObject *name)
{
    return key == name ||
           (PyUnicode_Check(key) && PyUnicode_Compare(key, name) == 0);
}

/* Parses a vectorcall into *call, whose method, names and count are set. 0, or
 * -1 with the TypeError of a Python function. */
int cl_call_args_parse(cl_call_args *call, cl_state *st, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames);

/* Returns -1 with TypeError if context= was given to a method without it. */
int cl_call_args_refuse_context(const cl_call_args *call);

/* Returns the only argument, named names[0], borrowed; or NULL. */
PyObject *cl_call_args_only(cl_state *st, const char *method,
                            const char *const *names, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames);

/* Returns -1 with asyncio's RuntimeError if the loop is closed. */
int cl_loop_check_open(LoopObject *loop);

/* asyncio's _check_thread() (unless `anywhere`) and _check_callback(), for
 * debug mode. 0/-1 Runs Python. */
int cl_loop_check_debug(LoopObject *loop, PyObject *callback,
                        const char *method, bool anywhere);

/* Calls a function of a module; like asyncio, looks it up each time. Runs
 * Python. */
PyObject *cl_call_module(PyObject *module, PyObject *name,
                         PyObject *const *args, size_t nargs,
                         PyObject *kwnames);

/* Calls function(first, second), or function(first) if `second` is NULL. 0/-1
 * Runs Python. */
int cl_call_void(PyObject *function, PyObject *first, PyObject *second);

#endif
