/* sync.c - see sync.h. */
#include "sync/sync.h"

#include <string.h>

#include "futures/registry.h"
#include "sync/deque.h"
#include "sync/entry.h"
#include "sync/op.h"

/* ------------------------------------------------------------------------- names */

static const char *const body_names[] = {
#define NAME(id, function) [CL_BODY_##id] = #id,
    CL_SYNC_BODIES(NAME)
#undef NAME
        NULL};
static const char *const class_names[] = {
#define NAME(id) [CL_CLASS_##id] = #id,
    CL_SYNC_CLASSES(NAME)
#undef NAME
        NULL};
static const char *const pins_names[] = {
#define NAME(id) [CL_PINS_##id] = #id,
    CL_SYNC_PINS(NAME)
#undef NAME
        NULL};

static const char *const variant_names[] = {
#define NAME(id) [CL_VARIANT_##id] = #id,
    CL_SYNC_VARIANTS(NAME)
#undef NAME
        NULL};
static const char *const closure_names[] = {
#define NAME(id) [CL_CLOSURE_##id] = #id,
    CL_SYNC_CLOSURES(NAME)
#undef NAME
        NULL};

#define ATTRIBUTE_METHODS "__setattr__", "__getattribute__", "__getattr__"
#define QUEUE_METHODS \
    "__init__", "_init", "get", "put", "get_nowait", "put_nowait", "_get", \
        "_put", "_wakeup_next", "empty", "full", "qsize", "_get_loop", \
        "_loop", ATTRIBUTE_METHODS, NULL
#define QUEUE_ATTRIBUTES \
    "_maxsize", "_getters", "_putters", "_unfinished_tasks", "_finished", \
        "_queue"

/* For each class: methods that bodies replace or rely on, and the attributes
 * of its objects. The last attribute is optional. If a later version of a
 * class has others, they come after, with the first such version. */
static const struct {
    const char *const methods[CL_GUARD_MAX + 1];
    const char *const attributes[CL_SHAPE_MAX + 1];
    const char *const attributes_2[CL_SHAPE_MAX + 1];
    int variant_2;
} classes[] = {
    [CL_CLASS_EVENT] = {{"wait", "set", "clear", "_get_loop", "_loop",
                         "_waiters", "_value", ATTRIBUTE_METHODS, NULL},
                        {"_waiters", "_value", "_loop", NULL}},
    [CL_CLASS_LOCK] = {{"acquire", "release", "locked", "_wake_up_first",
                        "__aenter__", "__aexit__", "_get_loop", "_loop",
                        "_waiters", "_locked", ATTRIBUTE_METHODS, NULL},
                       {"_waiters", "_locked", "_loop", NULL}},
    [CL_CLASS_CONDITION] = {{"notify", "notify_all", "_notify", "__aenter__",
                             "__aexit__", "_loop", "_waiters", "_lock",
                             "locked", "acquire", "release", "wait",
                             "wait_for", "_get_loop", ATTRIBUTE_METHODS, NULL},
                            {"_waiters", "_lock", "locked", "acquire",
                             "release", "_loop", NULL}},
    [CL_CLASS_BARRIER] = {{"wait", "reset", "abort", "_block", "_release",
                           "_wait", "_exit", "__aenter__", "__aexit__",
                           "_cond", "_parties", "_state", "_count",
                           ATTRIBUTE_METHODS, NULL},
                          {"_cond", "_parties", "_state", "_count", NULL}},
    [CL_CLASS_SEMAPHORE] = {{"acquire", "release", "locked", "_wake_up_next",
                             "__aenter__", "__aexit__", "_get_loop", "_loop",
                             "_waiters", "_value", "_wakeup_scheduled",
                             ATTRIBUTE_METHODS, NULL},
                            {"_waiters", "_value", "_loop", NULL},
                            {"_waiters", "_value", "_loop",
                             "_wakeup_scheduled", NULL},
                            4},
    [CL_CLASS_BOUNDED] = {{"acquire", "release", "locked", "_wake_up_next",
                           "__aenter__", "__aexit__", "_get_loop", "_loop",
                           "_waiters", "_value", "_bound_value",
                           "_wakeup_scheduled", ATTRIBUTE_METHODS, NULL},
                          {"_waiters", "_value", "_bound_value", "_loop",
                           NULL},
                          {"_waiters", "_value", "_bound_value", "_loop",
                           "_wakeup_scheduled", NULL},
                          4},
    [CL_CLASS_TIMEOUT] = {{"__init__", "__new__", "__aenter__", "__aexit__",
                           "reschedule", "_on_timeout", "_state",
                           "_timeout_handler", "_task", "_when", "_cancelling",
                           ATTRIBUTE_METHODS, NULL},
                          {"_state", "_timeout_handler", "_task", "_when",
                           "_cancelling", NULL}},
    [CL_CLASS_GATHERING] = {{"__new__", "__init__", "done", "set_result",
                             "_children", "_cancel_requested", "result",
                             "add_done_callback", "get_loop", "_loop",
                             "_asyncio_future_blocking", ATTRIBUTE_METHODS,
                             NULL},
                            {"_children", "_cancel_requested", NULL}},
    [CL_CLASS_QUEUE] = {{QUEUE_METHODS},
                        {QUEUE_ATTRIBUTES, "_loop", NULL},
                        {QUEUE_ATTRIBUTES, "_is_shutdown", "_loop", NULL},
                        2},
    [CL_CLASS_LIFO_QUEUE] = {{QUEUE_METHODS},
                             {QUEUE_ATTRIBUTES, "_loop", NULL},
                             {QUEUE_ATTRIBUTES, "_is_shutdown", "_loop", NULL},
                             2},
    [CL_CLASS_PRIORITY_QUEUE] = {{QUEUE_METHODS},
                                 {QUEUE_ATTRIBUTES, "_loop", NULL},
                                 {QUEUE_ATTRIBUTES, "_is_shutdown", "_loop",
                                  NULL},
                                 2},
};

static int
find_name(const char *const *names, const char *name)
{
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    PyErr_Format(PyExc_ValueError, "there is no %s", name);
    return -1;
}

/* --------------------------------------------------------------- the running loop */

LoopObject *
cl_sync_running_loop(cl_state *st, unsigned overrides)
{
    PyObject *running = cl_registry_running_loop(st);
    if (running == NULL)
        return NULL;
    Py_DECREF(running); /* it is running, so it stays */
    LoopObject *loop = cl_loop_cast(running);
    return loop != NULL && cl_loop_is_plain(loop) && cl_futures_are_ours(st) &&
                   cl_tasks_are_ours(st) && !loop->l_closed &&
                   !cl_loop_overrides(loop, overrides)
               ? loop
               : NULL;
}

/* ------------------------------------------------------------------------ globals */

/* Notes the versions of the dicts, each once. */
static void
note_versions(cl_pins *group)
{
    group->ps_dicts = 0;
    for (int i = 0; i < group->ps_count; i++) {
        PyObject *dict = group->ps_pins[i].gl_dict;
        int k = 0;
        while (k < group->ps_dicts && group->ps_dict[k] != dict)
            k++;
        if (k < group->ps_dicts)
            continue;
        group->ps_dict[k] = dict;
        group->ps_version[k] = cl_dict_version(dict);
        group->ps_dicts++;
    }
}

bool
cl_sync_pinned_slowly(cl_pins *group)
{
    /* Comparing keys may run Python code that modifies the dicts. */
    uint64_t versions[CL_PINS_MAX];
    for (int i = 0; i < group->ps_count; i++)
        versions[i] = cl_dict_version(group->ps_pins[i].gl_dict);
    for (int i = 0; i < group->ps_count; i++) {
        if (!cl_global_holds(&group->ps_pins[i]))
            return false;
    }
    for (int i = 0; i < group->ps_count; i++) {
        if (versions[i] != cl_dict_version(group->ps_pins[i].gl_dict))
            return true;
    }
    if (!CL_HAS_DICT_WATCHERS)
        note_versions(group);
    return group->ps_count > 0;
}

static void
unpin(cl_state *st, cl_pins *group)
{
    int count = group->ps_count;
    group->ps_count = group->ps_dicts = 0;
    for (int i = 0; i < count; i++)
        cl_global_clear(st, &group->ps_pins[i]);
}

/* ---------------------------------------------------------- for _accelerate.py */

static cl_state *
state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

static PyObject *
prepare(PyObject *module, PyObject *args)
{
    cl_state *st = state_of(module);
    cl_sync *sync = cl_sync_of(st);
    const char *name;
    PyObject *function;
    if (!PyArg_ParseTuple(args, "sO!:_sync_prepare", &name, &PyFunction_Type,
                          &function))
        return NULL;
    int body = find_name(body_names, name);
    if (body < 0)
        return NULL;
    if (sync->sy_functions[body] != function) {
        if (sync->sy_plain == NULL)
            sync->sy_plain = cl_function_vectorcall(function);
        if (cl_function_vectorcall(function) != sync->sy_plain) {
            PyErr_SetString(PyExc_ValueError, "it is not called as usual");
            return NULL;
        }
        PyObject *entry = cl_entry_new(st, body, function);
        if (entry == NULL)
            return NULL;
        Py_XSETREF(sync->sy_functions[body], Py_NewRef(function));
        Py_XSETREF(sync->sy_entries[body], entry);
    }
    return Py_NewRef(CL_FUNCTIONS_TAKE_VECTORCALL ? function
                                                  : sync->sy_entries[body]);
}

static PyObject *
describe_class(PyObject *module, PyObject *args)
{
    cl_sync *sync = cl_sync_of(state_of(module));
    const char *name;
    PyObject *type, *sample;
    int variant, last_optional, required = 0;
    if (!PyArg_ParseTuple(args, "sO!ipO:_sync_class", &name, &PyType_Type,
                          &type, &variant, &last_optional, &sample))
        return NULL;
    int id = find_name(class_names, name);
    if (id < 0)
        return NULL;
    const char *const *attributes =
        classes[id].variant_2 > 0 && variant >= classes[id].variant_2
            ? classes[id].attributes_2
            : classes[id].attributes;
    while (attributes[required] != NULL)
        required++;
    if (last_optional && required > 0)
        required--;
    cl_sync_class *class = &sync->sy_classes[id];
    cl_guard_clear(&class->sc_guard);
    cl_shape_clear(&class->sc_shape);
    memset(class, 0, sizeof(*class));
    class->sc_variant = variant;
    if (cl_shape_init(&class->sc_shape, attributes, required) < 0 ||
        (sample != Py_None && cl_shape_learn(&class->sc_shape, sample) < 0) ||
        cl_guard_init(&class->sc_guard, (PyTypeObject *)type,
                      classes[id].methods, NULL) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int
pin(cl_state *st, cl_pins *group, PyObject *module, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(module, name);
    if (value == NULL)
        return -1;
    int status = cl_global_init(st, &group->ps_pins[group->ps_count], module,
                                name, value);
    Py_DECREF(value);
    if (status == 0)
        group->ps_count++;
    group->ps_dicts = 0;
    return status;
}

static PyObject *
pin_globals(PyObject *module, PyObject *args)
{
    cl_state *st = state_of(module);
    const char *name;
    PyObject *list;
    if (!PyArg_ParseTuple(args, "sO!:_sync_pin", &name, &PyTuple_Type, &list))
        return NULL;
    int id = find_name(pins_names, name);
    if (id < 0)
        return NULL;
    cl_pins *group = &cl_sync_of(st)->sy_pins[id];
    unpin(st, group);
    if (PyTuple_GET_SIZE(list) > CL_PINS_MAX)
        return PyErr_Format(PyExc_ValueError, "too many globals");
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(list); i++) {
        PyObject *owner, *variable;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(list, i), "O!U", &PyModule_Type,
                              &owner, &variable) ||
            pin(st, group, owner, variable) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

#ifdef CL_DEBUG
void
cl_sync_check(cl_state *st)
{
    cl_sync *sync = cl_sync_of(st);
    for (int i = 0; i < CL_BODY_COUNT; i++) {
        PyObject *function = sync->sy_functions[i];
        cl_assertf((function == NULL) == (sync->sy_entries[i] == NULL),
                   "body %s", body_names[i]);
        cl_assertf(function == NULL || PyFunction_Check(function), "body %s",
                   body_names[i]);
        cl_assertf(function == NULL || sync->sy_plain != NULL, "body %s",
                   body_names[i]);
    }
    for (int i = 0; i < CL_CLASS_COUNT; i++) {
        const cl_shape *shape = &sync->sy_classes[i].sc_shape;
        cl_assertf(shape->sh_required <= shape->sh_count &&
                       shape->sh_count <= CL_SHAPE_MAX,
                   "class %s", class_names[i]);
    }
}
#endif

static void
switch_all(cl_state *st, bool on)
{
    cl_sync_of(st)->sy_on = on;
    for (int i = 0; i < CL_BODY_COUNT; i++) {
        if (cl_sync_of(st)->sy_functions[i] != NULL)
            cl_entry_switch(st, i, on);
    }
}

static PyObject *
switch_on(PyObject *module, PyObject *names)
{
    cl_state *st = state_of(module);
    switch_all(st, false);
    PyObject *list = PySequence_Tuple(names);
    for (Py_ssize_t i = 0; list != NULL && i < PyTuple_GET_SIZE(list); i++) {
        const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(list, i));
        int body = name == NULL ? -1 : find_name(body_names, name);
        if (body < 0)
            Py_CLEAR(list);
        else if (cl_sync_of(st)->sy_functions[body] != NULL)
            cl_entry_switch(st, body, true);
    }
    if (list == NULL)
        return NULL;
    cl_sync_of(st)->sy_on = PyTuple_GET_SIZE(list) > 0;
    Py_DECREF(list);
    cl_check(cl_sync_check(st));
    Py_RETURN_NONE;
}

static PyObject *
made(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(cl_sync_of(state_of(module))->sy_made);
}

static PyObject *
keep_states(PyObject *module, PyObject *args)
{
    cl_sync *sync = cl_sync_of(state_of(module));
    PyObject *created, *entered, *exited;
    if (!PyArg_ParseTuple(args, "OOO:_sync_states", &created, &entered,
                          &exited))
        return NULL;
    Py_XSETREF(sync->sy_states[CL_TIMEOUT_CREATED], Py_NewRef(created));
    Py_XSETREF(sync->sy_states[CL_TIMEOUT_ENTERED], Py_NewRef(entered));
    Py_XSETREF(sync->sy_states[CL_TIMEOUT_EXITED], Py_NewRef(exited));
    Py_RETURN_NONE;
}

static PyObject *
keep_barrier_states(PyObject *module, PyObject *args)
{
    cl_sync *sync = cl_sync_of(state_of(module));
    PyObject *states[CL_BARRIER_STATES];
    if (!PyArg_ParseTuple(args, "OOOO:_sync_barrier_states", &states[0],
                          &states[1], &states[2], &states[3]))
        return NULL;
    for (int i = 0; i < CL_BARRIER_STATES; i++)
        Py_XSETREF(sync->sy_barrier_states[i], Py_NewRef(states[i]));
    Py_RETURN_NONE;
}

static PyObject *
keep_gather(PyObject *module, PyObject *args)
{
    cl_sync *sync = cl_sync_of(state_of(module));
    PyObject *name, *closure;
    if (!PyArg_ParseTuple(args, "iUO:_sync_gather", &sync->sy_gather_variant,
                          &name, &closure))
        return NULL;
    Py_XSETREF(sync->sy_ensure_future, Py_NewRef(name));
    Py_XSETREF(sync->sy_gather_closure, Py_NewRef(closure));
    Py_RETURN_NONE;
}

static PyObject *
keep_variant(PyObject *module, PyObject *args)
{
    const char *name;
    int variant, id;
    if (!PyArg_ParseTuple(args, "si:_sync_variant", &name, &variant) ||
        (id = find_name(variant_names, name)) < 0)
        return NULL;
    cl_sync_of(state_of(module))->sy_variants[id] = variant;
    Py_RETURN_NONE;
}

static PyObject *
keep_closure(PyObject *module, PyObject *args)
{
    const char *name;
    PyObject *function;
    int id;
    if (!PyArg_ParseTuple(args, "sO:_sync_closure", &name, &function) ||
        (id = find_name(closure_names, name)) < 0)
        return NULL;
    Py_XSETREF(cl_sync_of(state_of(module))->sy_closures[id],
               function == Py_None ? NULL : Py_NewRef(function));
    Py_RETURN_NONE;
}

PyMethodDef cl_sync_methods[] = {
    {"_sync_variant", keep_variant, METH_VARARGS,
     "_sync_variant(name, variant, /)\n--\n\n"
     "Set the variant of a function's source."},
    {"_sync_closure", keep_closure, METH_VARARGS,
     "_sync_closure(name, function, /)\n--\n\n"
     "Set a function that looks like one of asyncio's closures, or None."},
    {"_sync_gather", keep_gather, METH_VARARGS,
     "_sync_gather(variant, name, function, /)\n--\n\n"
     "Set the variant of gather()'s source, its name for ensure_future(), and "
     "a function\n"
     "that looks like its callbacks."},
    {"_sync_states", keep_states, METH_VARARGS,
     "_sync_states(created, entered, exited, /)\n--\n\n"
     "Set the states of asyncio's timeouts."},
    {"_sync_barrier_states", keep_barrier_states, METH_VARARGS,
     "_sync_barrier_states(filling, draining, resetting, broken, /)\n--\n\n"
     "Set the states of asyncio's barriers."},
    {"_sync_made", made, METH_NOARGS,
     "_sync_made()\n--\n\nReturn the number of coroutines created by bodies."},
    {"_sync_prepare", prepare, METH_VARARGS,
     "_sync_prepare(body, function, /)\n--\n\n"
     "Prepare asyncio's function to call the body. Return the replacement for "
     "the\n"
     "function, which is the function itself where possible."},
    {"_sync_class", describe_class, METH_VARARGS,
     "_sync_class(name, class, variant, last_optional, sample, /)\n--\n\n"
     "Set a class of asyncio's in its present state, the variant of its "
     "methods' source,\n"
     "whether its objects may lack the last attribute, and a sample object or "
     "None."},
    {"_sync_pin", pin_globals, METH_VARARGS,
     "_sync_pin(name, globals, /)\n--\n\n"
     "Set the globals, each (module, name), that must keep their present "
     "values."},
    {"_sync_switch", switch_on, METH_O,
     "_sync_switch(bodies, /)\n--\n\n"
     "Use these bodies and no others; without any, everything is asyncio's."},
    {NULL}};

/* ------------------------------------------------------------- garbage collection */

int
cl_sync_setup(PyObject *Py_UNUSED(module), cl_state *st)
{
    cl_sync *sync = cl_sync_of(st);
    PyObject *module = PyImport_ImportModule("collections");
    PyObject *deque =
        module == NULL ? NULL : PyObject_GetAttrString(module, "deque");
    Py_XDECREF(module);
    if (deque == NULL)
        return -1;
    sync->sy_asyncio = PyImport_ImportModule("asyncio");
    if (sync->sy_asyncio == NULL || !PyType_Check(deque)) {
        Py_DECREF(deque);
        return sync->sy_asyncio == NULL ? -1 : 0;
    }
    sync->sy_deque = (PyTypeObject *)deque;
    cl_futures_of(st)->gathering =
        &sync->sy_classes[CL_CLASS_GATHERING].sc_guard;
    return cl_deque_setup(sync);
}

int
cl_sync_traverse(cl_state *st, visitproc visit, void *arg)
{
    cl_sync *sync = cl_sync_of(st);
    int status = 0;
    for (int i = 0; i < CL_BODY_COUNT; i++) {
        Py_VISIT(sync->sy_functions[i]);
        Py_VISIT(sync->sy_entries[i]);
    }
    for (int i = 0; i < CL_CLASS_COUNT && status == 0; i++)
        status = cl_guard_traverse(&sync->sy_classes[i].sc_guard, visit, arg);
    for (int i = 0; i < CL_PINS_COUNT && status == 0; i++) {
        for (int j = 0; j < sync->sy_pins[i].ps_count && status == 0; j++)
            status =
                cl_global_traverse(&sync->sy_pins[i].ps_pins[j], visit, arg);
    }
    Py_VISIT(sync->sy_deque);
    Py_VISIT(sync->sy_fire);
    Py_VISIT(sync->sy_asyncio);
    Py_VISIT(sync->sy_gather_closure);
    for (int i = 0; i < CL_CLOSURE_COUNT; i++)
        Py_VISIT(sync->sy_closures[i]);
    for (int i = 0; i < CL_TIMEOUT_STATES; i++)
        Py_VISIT(sync->sy_states[i]);
    for (int i = 0; i < CL_BARRIER_STATES; i++)
        Py_VISIT(sync->sy_barrier_states[i]);
    return status;
}

void
cl_sync_clear(cl_state *st)
{
    cl_sync *sync = cl_sync_of(st);
    switch_all(st, false);
    for (int i = 0; i < CL_BODY_COUNT; i++) {
        Py_CLEAR(sync->sy_functions[i]);
        Py_CLEAR(sync->sy_entries[i]);
    }
    for (int i = 0; i < CL_CLASS_COUNT; i++)
        cl_guard_clear(&sync->sy_classes[i].sc_guard);
    for (int i = 0; i < CL_PINS_COUNT; i++)
        unpin(st, &sync->sy_pins[i]);
    Py_CLEAR(sync->sy_deque);
    Py_CLEAR(sync->sy_fire);
    Py_CLEAR(sync->sy_asyncio);
    Py_CLEAR(sync->sy_ensure_future);
    Py_CLEAR(sync->sy_gather_closure);
    for (int i = 0; i < CL_CLOSURE_COUNT; i++)
        Py_CLEAR(sync->sy_closures[i]);
    for (int i = 0; i < CL_TIMEOUT_STATES; i++)
        Py_CLEAR(sync->sy_states[i]);
    for (int i = 0; i < CL_BARRIER_STATES; i++)
        Py_CLEAR(sync->sy_barrier_states[i]);
}

void
cl_sync_free(cl_state *st)
{
    for (int i = 0; i < CL_CLASS_COUNT; i++)
        cl_shape_clear(&cl_sync_of(st)->sy_classes[i].sc_shape);
    cl_spares_free(&cl_sync_of(st)->sy_spare_bound);
}
