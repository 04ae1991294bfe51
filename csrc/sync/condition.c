/* condition.c - asyncio.Condition: notify(), and async with.
 *
 * A condition stores its lock's methods as attributes of its own. It is
 * handled here only if these are the methods of an unchanged Lock. wait() is
 * always asyncio's. */
#include "sync/locks.h"

enum { WAITERS = CL_LOCK_WAITERS, LOCK, LOCKED, ACQUIRE, RELEASE };

/* Whether `method` is a method of the lock: the class's current one, or
 * asyncio's original function behind it. */
static bool
is_method(PyObject *method, PyObject *lock, PyObject *known,
          PyObject *original)
{
    if (!PyMethod_Check(method) || PyMethod_GET_SELF(method) != lock)
        return false;
    PyObject *function = PyMethod_GET_FUNCTION(method);
    return function == known || function == original;
}

/* Gets the condition's attributes, if its lock is exactly asyncio's class. */
static bool
look(cl_state *st, PyObject *self, cl_view *view)
{
    cl_sync *sync = cl_sync_of(st);
    cl_guard *guard = &sync->sy_classes[CL_CLASS_LOCK].sc_guard;
    if (!cl_lock_look(st, self, CL_CLASS_CONDITION, view) ||
        view->v_at[WAITERS] == Py_None)
        return false;
    PyObject *lock = view->v_at[LOCK];
    /* They are the first three names in sync.c. */
    return cl_sync_knows(st, lock, CL_CLASS_LOCK) &&
           is_method(view->v_at[ACQUIRE], lock, guard->g_known[0],
                     sync->sy_functions[CL_BODY_LOCK_ACQUIRE]) &&
           is_method(view->v_at[RELEASE], lock, guard->g_known[1],
                     sync->sy_functions[CL_BODY_LOCK_RELEASE]) &&
           is_method(view->v_at[LOCKED], lock, guard->g_known[2], NULL);
}

PyObject *
cl_condition_lock(cl_state *st, PyObject *self)
{
    cl_view view;
    return look(st, self, &view) ? Py_NewRef(view.v_at[LOCK]) : NULL;
}

/* self.locked(); asyncio's function handles all other types. */
static bool
is_locked(cl_state *st, PyObject *lock)
{
    cl_view view;
    return cl_lock_look(st, lock, CL_CLASS_LOCK, &view) &&
           view.v_at[CL_LOCK_VALUE] == Py_True;
}

typedef struct {
    Py_ssize_t most, woken;
} notification;

static int
wake(cl_state *st, PyObject *waiter, void *arg)
{
    notification *told = arg;
    if (told->woken >= told->most)
        return 1;
    int done = cl_waiter_done(st, waiter);
    if (done != 0)
        return done < 0 ? -1 : 0;
    told->woken++;
    return cl_waiter_finish(st, waiter, Py_False);
}

/* notify(n), or notify_all() if `most` is -1, with the lock held. */
static int
notify(cl_state *st, PyObject *self, Py_ssize_t most)
{
    cl_view view;
    if (!look(st, self, &view) || !is_locked(st, view.v_at[LOCK]))
        return 0;
    PyObject *waiters = Py_NewRef(view.v_at[WAITERS]);
    notification told = {most < 0 ? cl_deque_size(waiters) : most, 0};
    int status = cl_waiters_each(st, waiters, wake, &told);
    Py_DECREF(waiters);
    return status < 0 ? -1 : 1;
}

PyObject *
cl_sync_condition_notify(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames)
{
    Py_ssize_t most = 1;
    int done = 0;
    if (kwnames == NULL && cl_sync_loop(st) != NULL &&
        (nargs == 1 || (nargs == 2 && PyLong_CheckExact(args[1])))) {
        if (nargs == 2)
            most = PyLong_AsSsize_t(args[1]);
        if (most < 0) /* none, or too large */
            PyErr_Clear();
        else
            done = notify(st, args[0], most);
    }
    return cl_sync_settle(st, CL_BODY_CONDITION_NOTIFY, done, args, nargs,
                          kwnames);
}

PyObject *
cl_sync_condition_notify_all(cl_state *st, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames)
{
    int done = cl_takes_none(nargs, kwnames) && cl_sync_loop(st) != NULL
                   ? notify(st, args[0], -1)
                   : 0;
    return cl_sync_settle(st, CL_BODY_CONDITION_NOTIFY_ALL, done, args, nargs,
                          kwnames);
}
