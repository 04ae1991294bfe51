/* follow.h - methods that a program replaces in asyncio's loop classes.
 *
 * LoopCore and cloop.Loop have bodies of their own for many methods of asyncio's
 * loops, and stand before asyncio's classes in the method resolution order. So
 * what a program assigns to one of these classes, as tracers and tests do, is
 * not found. cloop/_replaced.py puts a descriptor in the way that finds it; it
 * must be called when one of asyncio's classes was modified. That is noticed by
 * the version of the class, before polls, when a run begins, and by the methods
 * in C; so what a program does not replace costs one comparison. */
#ifndef CL_CORE_FOLLOW_H
#define CL_CORE_FOLLOW_H

#include "base/compat.h"

typedef struct {
    PyTypeObject *fo_behind; /* owned; asyncio's class; NULL: not begun */
    PyTypeObject *fo_loop;   /* owned; cloop.Loop */
    PyObject *fo_functions;  /* owned; tuple of asyncio's functions */
    PyObject *fo_codes;      /* owned; tuple of their codes */
    PyObject *fo_known;      /* owned; {name: what asyncio has under it} */
    PyObject *fo_apply;      /* owned */
    /* Versions of fo_behind and fo_loop when it was called last. */
    CL_SHARED(unsigned) fo_version;
    CL_SHARED(unsigned) fo_loop_version;
} cl_follow;

/* From now on, calls apply() when `behind`, the class of asyncio's that `loop`
 * derives from, or a base of it has been modified, or one of the functions has
 * got another code. `known`: {name: what `behind` has}. 0/-1 */
int cl_follow_begin(cl_follow *follow, PyTypeObject *loop,
                    PyTypeObject *behind, PyObject *functions, PyObject *known,
                    PyObject *apply);
int cl_follow_traverse(const cl_follow *follow, visitproc visit, void *arg);
void cl_follow_clear(cl_follow *follow);

/* Calls apply() if a class was modified, or `loop` was: a program may have put
 * back what it had there. `name` is any name of a method. 0/-1 Runs Python. */
int cl_follow_classes(cl_follow *follow, PyObject *name);

/* The same if a function has another code, as bytecode wrappers make it. 0/-1
 * Runs Python. */
int cl_follow_codes(cl_follow *follow);

/* Whether asyncio's class has what it had at first, or nothing is followed. */
bool cl_follow_is_as_known(const cl_follow *follow, PyObject *name);

#endif
