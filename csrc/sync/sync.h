/* sync.h - asyncio's own primitives with bodies in C, if the program asks for
 * them (docs/decisions/0016, docs/accelerate.md).
 *
 * cloop.accelerate() (cloop/_accelerate.py) checks which of asyncio's
 * functions have the text that a body was written for, and makes these call
 * the body. It gives the function another vectorcall, or, where the
 * interpreter does not use that (3.11), replaces it with an object that looks
 * like it (entry.h).
 *
 * A body has the same effects as the text, in the same order. It calls
 * asyncio's function instead, with cl_sync_original(), unless:
 *
 *   - this thread's running loop is ours and plain (not in debug mode, call_soon()
 *     not overridden), and neither sys.settrace() nor sys.setprofile() is active;
 *   - the object is exactly of asyncio's class, whose methods are unchanged, and has
 *     the attributes that __init__() sets and no others;
 *   - the globals that the text uses are unchanged.
 *
 * A call that only makes a coroutine checks the loop, but for its futures and
 * tracing, and the object's class; the first step checks everything. After a
 * wait everything is checked once more; what can't be done directly is then
 * done by name. */
#ifndef CL_SYNC_SYNC_H
#define CL_SYNC_SYNC_H

#include "base/compat.h"
#include "core/loop.h"
#include "sync/state.h"

/* Of the layer: with nothing on at first. 0/-1 */
int cl_sync_setup(PyObject *module, cl_state *st);
int cl_sync_traverse(cl_state *st, visitproc visit, void *arg);
void cl_sync_clear(cl_state *st); /* restores asyncio's functions */
void cl_sync_free(cl_state *st);

#ifdef CL_DEBUG
/* Checks that each function has its entry, and is called as usual while
 * everything is off. */
void cl_sync_check(cl_state *st);
#endif

/* For cloop/_accelerate.py; their docstrings say what each does. */
extern PyMethodDef cl_sync_methods[];

/* Calls asyncio's own function. Runs Python. */
static inline PyObject *
cl_sync_original(cl_state *st, int body, PyObject *const *args,
                 Py_ssize_t nargs, PyObject *kwnames)
{
    cl_assert(body >= 0 && body < CL_BODY_COUNT);
    cl_assert(!PyErr_Occurred());
    PyObject *function = cl_sync_of(st)->sy_functions[body];
    if (function == NULL) { /* cleared by the garbage collector */
        PyErr_SetString(PyExc_RuntimeError, "cloop is gone");
        return NULL;
    }
    return cl_sync_of(st)->sy_plain(function, args, (size_t)nargs, kwnames);
}

/* Returns this thread's running loop, borrowed, if a body may act on it; NULL if
 * not. What creates futures or tasks looks at their classes itself. */
static CL_INLINED LoopObject *
cl_sync_loop_again(cl_state *st)
{
    cl_assert_gil();
    PyThreadState *thread = PyThreadState_Get();
    if (!cl_sync_of(st)->sy_on || cl_is_traced(thread))
        return NULL;
    LoopObject *loop = cl_loop_in_thread(st, thread->thread_id);
    return loop != NULL && cl_loop_is_plain(loop) ? loop : NULL;
}

/* Whether a body may make a coroutine. Its first step looks at the rest. */
static CL_INLINED bool
cl_sync_may_begin(cl_state *st)
{
    LoopObject *loop = cl_loop_in_thread(st, cl_thread_ident());
    return cl_sync_of(st)->sy_on && loop != NULL && cl_loop_is_plain(loop);
}

/* The same as cl_sync_loop_again() for a body that creates futures or tasks. */
static CL_INLINED LoopObject *
cl_sync_loop(cl_state *st)
{
    LoopObject *loop = cl_sync_loop_again(st);
    return loop != NULL && cl_futures_are_ours(st) && cl_tasks_are_ours(st)
               ? loop
               : NULL;
}

/* Returns the running loop, borrowed, if it is ours and plain, makes our tasks,
 * is open, and overrides none of these methods (CL_OVERRIDES_ bits). Otherwise
 * NULL, with an exception only on error. */
LoopObject *cl_sync_running_loop(cl_state *st, unsigned overrides);

/* What a program sees as asyncio's function: itself, or its stand-in. Borrowed. */
static inline PyObject *
cl_sync_function(cl_state *st, int body)
{
    return CL_FUNCTIONS_TAKE_VECTORCALL ? cl_sync_of(st)->sy_functions[body]
                                        : cl_sync_of(st)->sy_entries[body];
}

/* Whether the object is exactly of that class. */
static inline bool
cl_sync_is(cl_state *st, PyObject *self, int class)
{
    return Py_TYPE(self) == cl_sync_of(st)->sy_classes[class].sc_guard.g_type;
}

/* Whether the object is exactly of that class, whose methods are unchanged. */
static inline bool
cl_sync_knows(cl_state *st, PyObject *self, int class)
{
    cl_guard *guard = &cl_sync_of(st)->sy_classes[class].sc_guard;
    return Py_TYPE(self) == guard->g_type && cl_guard_of_class_holds(guard);
}

/* The same, and gets its attributes. */
static inline bool
cl_sync_look(cl_state *st, PyObject *self, int class, cl_view *view)
{
    return cl_sync_knows(st, self, class) &&
           cl_shape_look(&cl_sync_of(st)->sy_classes[class].sc_shape, self,
                         view);
}

static inline int
cl_sync_set(cl_state *st, cl_view *view, int class, int index, PyObject *value)
{
    return cl_view_set(&cl_sync_of(st)->sy_classes[class].sc_shape, view,
                       index, value);
}

/* Looks at each. */
bool cl_sync_pinned_slowly(cl_pins *group);

/* Whether these globals are unchanged. */
static CL_INLINED bool
cl_sync_pinned(cl_state *st, int pins)
{
    cl_pins *group = &cl_sync_of(st)->sy_pins[pins];
    if (CL_HAS_DICT_WATCHERS) {
        for (int i = 0; i < group->ps_count; i++) {
            if (!cl_global_holds(&group->ps_pins[i]))
                return false;
        }
        return group->ps_count > 0;
    }
    for (int k = 0; k < group->ps_dicts; k++) {
        if (cl_dict_version(group->ps_dict[k]) != group->ps_version[k])
            return cl_sync_pinned_slowly(group);
    }
    return group->ps_dicts > 0 || cl_sync_pinned_slowly(group);
}

#endif
