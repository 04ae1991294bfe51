/* global.h - whether a global variable of another module still has the value
 * that C code relies on.
 *
 * asyncio looks its classes up each time it uses one, and a program may
 * replace them at any time, as nest_asyncio does. The value is compared again
 * only after the module's dictionary was modified. From CPython 3.12 on, a
 * watcher tells (PyDict_AddWatcher()); before, the dictionary has a version.
 *
 * An interpreter has eight watchers. A module state uses one, for all its
 * dictionaries; if there is none left, values are compared each time. */
#ifndef CL_CORE_GLOBAL_H
#define CL_CORE_GLOBAL_H

#include "base/compat.h"

typedef struct cl_state cl_state;
typedef struct cl_global cl_global;

struct cl_global {
    PyObject *gl_dict;  /* owned; of the module */
    PyObject *gl_name;  /* owned */
    PyObject *gl_value; /* owned */
    bool gl_watched;
    /* It did when it was looked up last, and the dictionary was not modified
     * since. Before 3.12 the version of the dictionary at that time; 0 if it
     * did not hold. */
    bool gl_holds;
    uint64_t gl_version;
    cl_global *gl_next; /* list of those that are watched */
};

/* Until then it does not hold. 0/-1 */
int cl_global_init(cl_state *st, cl_global *global, PyObject *module,
                   PyObject *name, PyObject *value);
int cl_global_traverse(const cl_global *global, visitproc visit, void *arg);

/* After this, it never holds. The last one releases the watcher. */
void cl_global_clear(cl_state *st, cl_global *global);

/* Looks the variable up. Leaves no exception. */
bool cl_global_look(cl_global *global);

#ifdef CL_DEBUG
/* Checks that the variable has the value. */
void cl_global_check(const cl_global *global);
#endif

static CL_INLINED bool
cl_global_holds(cl_global *global)
{
#if CL_HAS_DICT_WATCHERS
    bool holds = global->gl_holds;
#else
    bool holds = global->gl_dict != NULL &&
                 cl_dict_version(global->gl_dict) == global->gl_version;
#endif
    if (!holds)
        return cl_global_look(global);
    cl_check(cl_global_check(global));
    return true;
}

#endif
