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
 * A coroutine checks this when it is called and at its first step. After a
 * wait everything is checked once more; what can't be done directly is then
 * done by name. */
#ifndef CL_SYNC_SYNC_H
#define CL_SYNC_SYNC_H

#include "base/compat.h"
#include "core/guard.h"
#include "core/loop.h"
#include "core/state.h"
#include "sync/shape.h"

/* clang-format off */

/* Bodies: id, C function. */
#define CL_SYNC_BODIES(X) \
    X(SLEEP, cl_sync_sleep) \
    X(AENTER, cl_sync_aenter) \
    X(AEXIT, cl_sync_aexit) \
    X(EVENT_WAIT, cl_sync_event_wait) \
    X(EVENT_SET, cl_sync_event_set) \
    X(EVENT_CLEAR, cl_sync_event_clear) \
    X(LOCK_ACQUIRE, cl_sync_lock_acquire) \
    X(LOCK_RELEASE, cl_sync_lock_release) \
    X(CONDITION_NOTIFY, cl_sync_condition_notify) \
    X(CONDITION_NOTIFY_ALL, cl_sync_condition_notify_all) \
    X(SEMAPHORE_ACQUIRE, cl_sync_semaphore_acquire) \
    X(SEMAPHORE_RELEASE, cl_sync_semaphore_release) \
    X(BOUNDED_RELEASE, cl_sync_bounded_release) \
    X(QUEUE_GET, cl_sync_queue_get) \
    X(QUEUE_PUT, cl_sync_queue_put) \
    X(QUEUE_GET_NOWAIT, cl_sync_queue_get_nowait) \
    X(QUEUE_PUT_NOWAIT, cl_sync_queue_put_nowait) \
    X(QUEUE_TASK_DONE, cl_sync_queue_task_done) \
    X(TIMEOUT, cl_sync_timeout) \
    X(TIMEOUT_AENTER, cl_sync_timeout_aenter) \
    X(TIMEOUT_AEXIT, cl_sync_timeout_aexit) \
    X(GATHER, cl_sync_gather)

/* asyncio's classes that bodies handle. */
#define CL_SYNC_CLASSES(X) \
    X(EVENT) \
    X(LOCK) \
    X(CONDITION) \
    X(SEMAPHORE) \
    X(BOUNDED) \
    X(QUEUE) \
    X(LIFO_QUEUE) \
    X(PRIORITY_QUEUE) \
    X(TIMEOUT) \
    X(GATHERING)

/* Globals used for the running loop and by sleep(), which a program may
 * replace. */
#define CL_SYNC_PINS(X) \
    X(GET_LOOP) \
    X(SLEEP) \
    X(TIMEOUT) \
    X(GATHER)

/* Methods of deques. */
#define CL_SYNC_DEQUE(X) \
    X(append, METH_O) \
    X(popleft, METH_NOARGS) \
    X(remove, METH_O)

/* clang-format on */

enum {
#define ID(id, function) CL_BODY_##id,
    CL_SYNC_BODIES(ID)
#undef ID
        CL_BODY_COUNT
};
enum {
#define ID(id) CL_CLASS_##id,
    CL_SYNC_CLASSES(ID)
#undef ID
        CL_CLASS_COUNT
};
enum {
#define ID(id) CL_PINS_##id,
    CL_SYNC_PINS(ID)
#undef ID
        CL_PINS_COUNT
};

/* The states in asyncio.timeouts._State of a timeout that does not expire. */
enum {
    CL_TIMEOUT_CREATED,
    CL_TIMEOUT_ENTERED,
    CL_TIMEOUT_EXITED,
    CL_TIMEOUT_STATES
};

/* Takes the arguments of asyncio's function, `self` first. */
typedef PyObject *(*cl_body_function)(cl_state *st, PyObject *const *args,
                                      Py_ssize_t nargs, PyObject *kwnames);

#define DECLARE(id, function) \
    PyObject *function(cl_state *st, PyObject *const *args, Py_ssize_t nargs, \
                       PyObject *kwnames);
CL_SYNC_BODIES(DECLARE)
#undef DECLARE

typedef struct {
    cl_guard sc_guard; /* with the class, once known */
    cl_shape sc_shape;
    int sc_variant; /* which version of its text */
} cl_sync_class;

/* A global of a module, and its original value. */
typedef struct {
    PyObject *pin_dict;  /* owned */
    PyObject *pin_key;   /* owned */
    PyObject *pin_value; /* owned */
    uint64_t pin_version;
} cl_pin;

#define CL_PINS_MAX 6

typedef struct {
    cl_pin ps_pins[CL_PINS_MAX];
    int ps_count;
} cl_pins;

typedef struct cl_sync {
    bool sy_on;
    vectorcallfunc sy_plain;               /* that of all Python functions */
    PyObject *sy_functions[CL_BODY_COUNT]; /* owned; asyncio's */
    PyObject *sy_entries[CL_BODY_COUNT];   /* owned; see entry.h */
    cl_sync_class sy_classes[CL_CLASS_COUNT];
    cl_pins sy_pins[CL_PINS_COUNT];
    PyTypeObject *sy_deque; /* owned */
#define FIELD(name, flags) PyCFunction sy_deque_##name;
    CL_SYNC_DEQUE(FIELD)
#undef FIELD
    PyObject *sy_states[CL_TIMEOUT_STATES]; /* owned */
    int sy_gather_variant;
    PyObject *sy_ensure_future;  /* owned; used by gather() */
    PyObject *sy_gather_closure; /* owned; like that of its callbacks */
    uint64_t sy_made;            /* number of coroutines so far */
    PyObject *sy_fire;           /* owned; called by sleep()'s timers */
} cl_sync;

/* Creates st->sync, with all bodies off. 0/-1 */
int cl_sync_setup(cl_state *st);
int cl_sync_traverse(cl_state *st, visitproc visit, void *arg);
void cl_sync_clear(cl_state *st); /* restores asyncio's functions */
void cl_sync_free(cl_state *st);

/* For cloop/_accelerate.py; their docstrings say what each does. */
extern PyMethodDef cl_sync_methods[];

/* Calls asyncio's own function. Runs Python. */
static inline PyObject *
cl_sync_original(cl_state *st, int body, PyObject *const *args,
                 Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *function = st->sync->sy_functions[body];
    if (function == NULL) { /* cleared by the garbage collector */
        PyErr_SetString(PyExc_RuntimeError, "cloop is gone");
        return NULL;
    }
    return st->sync->sy_plain(function, args, (size_t)nargs, kwnames);
}

/* Returns this thread's running loop, borrowed, if bodies may run on it; NULL
 * if not. */
static inline LoopObject *
cl_sync_loop(cl_state *st)
{
    PyThreadState *thread = PyThreadState_Get();
    LoopObject *loop = st->loops;
    if (!st->sync->sy_on || cl_is_traced(thread))
        return NULL;
    while (loop != NULL &&
           (loop->l_turn_thread != thread->thread_id || loop->l_depth == 0))
        loop = loop->l_next_open;
    return loop != NULL && cl_loop_is_plain(loop) && loop->l_own_tasks ? loop
                                                                       : NULL;
}

/* Whether the object is exactly of that class, whose methods are unchanged. */
static inline bool
cl_sync_knows(cl_state *st, PyObject *self, int class)
{
    cl_guard *guard = &st->sync->sy_classes[class].sc_guard;
    return Py_TYPE(self) == guard->g_type && cl_guard_holds(guard);
}

/* The same, and gets its attributes. */
static inline bool
cl_sync_look(cl_state *st, PyObject *self, int class, cl_view *view)
{
    return cl_sync_knows(st, self, class) &&
           cl_shape_look(&st->sync->sy_classes[class].sc_shape, self, view);
}

static inline int
cl_sync_set(cl_state *st, cl_view *view, int class, int index, PyObject *value)
{
    return cl_view_set(&st->sync->sy_classes[class].sc_shape, view, index,
                       value);
}

/* Whether these globals are unchanged. */
bool cl_sync_pinned(cl_state *st, int pins);

#endif
