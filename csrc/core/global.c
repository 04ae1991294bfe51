/* global.c - see global.h. */
#include "core/global.h"

#include "core/errors.h"
#include "core/state.h"

/* ------------------------------------------------------------------- watching */

#if CL_HAS_DICT_WATCHERS

#define CAPSULE_NAME "cloop._cloop.dict_watcher"

/* Called before a dictionary is modified, perhaps with an exception set. A
 * watcher has no argument of its own: the module states with one are in
 * capsules in the interpreter's dict. What is used here cannot fail. */
static int
modified(PyDict_WatchEvent Py_UNUSED(event), PyObject *dict,
         PyObject *Py_UNUSED(key), PyObject *Py_UNUSED(value))
{
    PyObject *states = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *key, *capsule;
    Py_ssize_t at = 0;
    while (states != NULL && PyDict_Next(states, &at, &key, &capsule)) {
        if (!PyCapsule_IsValid(capsule, CAPSULE_NAME))
            continue;
        const cl_state *st = PyCapsule_GetPointer(capsule, CAPSULE_NAME);
        for (cl_global *global = st->globals; global != NULL;
             global = global->gl_next) {
            if (global->gl_dict == dict)
                global->gl_holds = false;
        }
    }
    return 0;
}

/* Puts the state where modified() finds it. The capsule is its own key, so
 * that it can be removed without memory. 0/-1 */
static int
publish(cl_state *st)
{
    PyObject *states = PyInterpreterState_GetDict(PyInterpreterState_Get());
    if (states == NULL)
        return -1;
    st->watcher_capsule = PyCapsule_New(st, CAPSULE_NAME, NULL);
    if (st->watcher_capsule != NULL &&
        PyDict_SetItem(states, st->watcher_capsule, st->watcher_capsule) < 0)
        Py_CLEAR(st->watcher_capsule);
    return st->watcher_capsule == NULL ? -1 : 0;
}

static void
withdraw(cl_state *st)
{
    /* Not at the interpreter's end, when its dict is gone: asking for it would
     * create another. */
    if (Py_REFCNT(st->watcher_capsule) > 1) {
        PyObject *states =
            PyInterpreterState_GetDict(PyInterpreterState_Get());
        if (states != NULL && PyDict_DelItem(states, st->watcher_capsule) < 0)
            PyErr_Clear();
    }
    Py_CLEAR(st->watcher_capsule);
}

/* Gets a watcher for the state, if it has none. 0/-1 */
static int
open_watcher(cl_state *st)
{
    if (st->watcher_capsule != NULL)
        return 0;
    if (publish(st) < 0)
        return -1;
    if ((st->dict_watcher = PyDict_AddWatcher(modified)) >= 0)
        return 0;
    PyObject *error = PyErr_GetRaisedException();
    withdraw(st);
    PyErr_SetRaisedException(error);
    return -1;
}

static void
close_watcher(cl_state *st)
{
    if (PyDict_ClearWatcher(st->dict_watcher) < 0)
        PyErr_Clear(); /* the interpreter has dropped all of them at its end */
    withdraw(st);
}

/* Another global of the same module is watched. */
static bool
is_watched(const cl_state *st, PyObject *dict)
{
    const cl_global *global = st->globals;
    while (global != NULL && global->gl_dict != dict)
        global = global->gl_next;
    return global != NULL;
}

/* Failure only means that the variable is looked up each time. */
static void
watch(cl_state *st, cl_global *global)
{
    if (CL_FREE_THREADED) /* it could be told while another thread looks */
        return;
    if (open_watcher(st) < 0 ||
        PyDict_Watch(st->dict_watcher, global->gl_dict) < 0) {
        PyErr_Clear();
        if (st->watcher_capsule != NULL && st->globals == NULL)
            close_watcher(st);
        return;
    }
    global->gl_watched = true;
    global->gl_next = st->globals;
    st->globals = global;
}

static void
unwatch(cl_state *st, cl_global *global)
{
    cl_global **link = &st->globals;
    if (!global->gl_watched)
        return;
    while (*link != global)
        link = &(*link)->gl_next;
    *link = global->gl_next;
    global->gl_next = NULL;
    global->gl_watched = false;
    PyObject *error = PyErr_GetRaisedException();
    if (!is_watched(st, global->gl_dict) &&
        PyDict_Unwatch(st->dict_watcher, global->gl_dict) < 0)
        PyErr_Clear();
    if (st->globals == NULL)
        close_watcher(st);
    (void)cl_raise_first(error);
}

#else

static void
watch(cl_state *Py_UNUSED(st), cl_global *Py_UNUSED(global))
{
}

static void
unwatch(cl_state *Py_UNUSED(st), cl_global *Py_UNUSED(global))
{
}

#endif

/* --------------------------------------------------------------------- globals */

int
cl_global_init(cl_state *st, cl_global *global, PyObject *module,
               PyObject *name, PyObject *value)
{
    PyObject *dict = PyModule_GetDict(module);
    if (dict == NULL)
        return -1;
    global->gl_dict = Py_NewRef(dict);
    global->gl_name = Py_NewRef(name);
    global->gl_value = Py_NewRef(value);
    watch(st, global);
    return 0;
}

int
cl_global_traverse(const cl_global *global, visitproc visit, void *arg)
{
    Py_VISIT(global->gl_dict);
    Py_VISIT(global->gl_value);
    return 0;
}

void
cl_global_clear(cl_state *st, cl_global *global)
{
    unwatch(st, global);
    global->gl_holds = false;
    Py_CLEAR(global->gl_dict);
    Py_CLEAR(global->gl_name);
    Py_CLEAR(global->gl_value);
}

bool
cl_global_look(cl_global *global)
{
    if (global->gl_dict == NULL)
        return false;
    /* First, because comparing keys may run Python code that modifies the
     * dictionary. */
    if (!CL_FREE_THREADED) {
        global->gl_holds = global->gl_watched;
        global->gl_version = cl_dict_version(global->gl_dict);
    }
    PyObject *value =
        PyDict_GetItemWithError(global->gl_dict, global->gl_name);
    if (value == global->gl_value)
        return true;
    if (value == NULL)
        PyErr_Clear();
    if (!CL_FREE_THREADED) {
        global->gl_holds = false;
        global->gl_version = 0;
    }
    return false;
}

#ifdef CL_DEBUG
void
cl_global_check(const cl_global *global)
{
    PyObject *value =
        PyDict_GetItemWithError(global->gl_dict, global->gl_name);
    cl_assert_of(global->gl_name,
                 value == global->gl_value || PyErr_Occurred());
}
#endif
