/* sync.h - asyncio's own primitives with their bodies in C, by the program's word
 * (docs/decisions/0016, docs/accelerate.md).
 *
 * cloop.accelerate() (cloop/_accelerate.py) looks which of asyncio's functions have the
 * text that a body here was written against, and has these call the body: by another
 * vectorcall of the very function, or where the interpreter enters functions without
 * asking for that (3.11) by a stand-in that looks like it (entry.h).
 *
 * A body does what that text does, with the same effects in the same order. It goes to
 * asyncio's function instead, cl_sync_original(), unless all of this is so:
 *   - the loop that runs in this thread is ours and plain (not in debug mode, call_soon()
 *     not overridden), and neither sys.settrace() nor sys.setprofile() is in effect;
 *   - the object is exactly of asyncio's class, the class has the methods that it had,
 *     and the object the attributes that __init__() gives it and no others;
 *   - the globals that the text calls are what they were.
 * A coroutine asks at its call and again at its first step. What comes after a wait
 * looks at each of these once more, and does in general terms, by name, what it can't
 * do directly. */
#ifndef CL_SYNC_SYNC_H
#define CL_SYNC_SYNC_H

#include "base/compat.h"
#include "core/loop.h"
#include "sync/state.h"

/* Of the layer: with nothing on at first. 0/-1 */
int cl_sync_setup(PyObject *module, cl_state *st);
int cl_sync_traverse(cl_state *st, visitproc visit, void *arg);
void cl_sync_clear(cl_state *st); /* asyncio's functions are as they were */
void cl_sync_free(cl_state *st);

/* For cloop/_accelerate.py, which says what each does. */
extern PyMethodDef cl_sync_methods[];

/* asyncio's own function. */
static inline PyObject *
cl_sync_original(cl_state *st, int body, PyObject *const *args,
                 Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *function = cl_sync_of(st)->s_functions[body];
    if (function == NULL) { /* cleared by the garbage collector */
        PyErr_SetString(PyExc_RuntimeError, "cloop is gone");
        return NULL;
    }
    return cl_sync_of(st)->s_plain(function, args, (size_t)nargs, kwnames);
}

/* The loop of ours that runs callbacks in this thread and on which bodies may do what
 * asyncio's functions do, borrowed; or NULL. */
static inline LoopObject *
cl_sync_loop(cl_state *st)
{
    PyThreadState *thread = PyThreadState_Get();
    if (!cl_sync_of(st)->s_on || cl_is_traced(thread))
        return NULL;
    LoopObject *loop = cl_loop_in_thread(st, thread->thread_id);
    return loop != NULL && cl_loop_is_plain(loop) &&
                   cl_futures_on(loop)->own_tasks
               ? loop
               : NULL;
}

/* Whether it is exactly of that class, which has the methods that it had. */
static inline bool
cl_sync_knows(cl_state *st, PyObject *self, int class)
{
    cl_guard *guard = &cl_sync_of(st)->s_classes[class].k_guard;
    return Py_TYPE(self) == guard->g_type && cl_guard_holds(guard);
}

/* ... and what it has. */
static inline bool
cl_sync_look(cl_state *st, PyObject *self, int class, cl_view *view)
{
    return cl_sync_knows(st, self, class) &&
           cl_shape_look(&cl_sync_of(st)->s_classes[class].k_shape, self,
                         view);
}

static inline int
cl_sync_set(cl_state *st, cl_view *view, int class, int index, PyObject *value)
{
    return cl_view_set(&cl_sync_of(st)->s_classes[class].k_shape, view, index,
                       value);
}

/* Whether these globals are what they were. */
bool cl_sync_pinned(cl_state *st, int pins);

#endif
