/* state.c - see state.h. */
#include "core/state.h"

#include "core/fork.h"
#include "core/handle.h"
#include "core/layer.h"
#include "core/method.h"
#include "core/watch.h"
#include "core/watchdog.h"

#define CL_LAYER_STRUCT cl_state

static const cl_type_row types[] = {CL_CORE_TYPES(CL_TYPE_ROW){0}};
static const cl_import_row imports[] = {
    CL_CORE_IMPORTS(CL_IMPORT_ROW) CL_CORE_OPTIONAL(CL_OPTIONAL_ROW){0}};
static const cl_name_row names[] = {CL_CORE_NAMES(CL_NAME_ROW){0}};
static const cl_name_row keywords[] = {CL_CORE_KEYWORDS(CL_KEYWORDS_ROW){0}};
static const cl_count_row counts[] = {CL_CORE_COUNTS(CL_COUNT_ROW){0}};
static const cl_node_row nodes[] = {{CL_NODE_HANDLE, &cl_handle_node},
                                    {CL_NODE_FOREIGN, &cl_foreign_node},
                                    {CL_NODE_WATCH, &cl_watch_node},
                                    {0}};

/* _format_callback_source() takes debug= from 3.13 on and in some 3.12
 * releases, so its signature is checked. */
static int
probe_callback_source(cl_state *st)
{
    PyObject *defaults = NULL;
    int found = PyObject_GetOptionalAttr(st->format_callback_source,
                                         st->str___kwdefaults__, &defaults);
    if (found > 0 && PyDict_Check(defaults))
        found = PyDict_Contains(defaults, st->str_debug);
    else if (found > 0)
        found = 0;
    Py_XDECREF(defaults);
    st->callback_source_takes_debug = found > 0;
    return found < 0 ? -1 : 0;
}

static int
find_main_thread(cl_state *st)
{
    PyObject *threading = PyImport_ImportModule("threading"),
             *main_thread = NULL, *ident = NULL;
    int status = -1;
    if (threading == NULL ||
        (main_thread = PyObject_CallMethod(threading, "main_thread", NULL)) ==
            NULL ||
        (ident = PyObject_GetAttrString(main_thread, "ident")) == NULL)
        goto done;
    if (ident != Py_None) {
        st->main_thread = PyLong_AsUnsignedLong(ident);
        if (st->main_thread == (unsigned long)-1 && PyErr_Occurred())
            goto done;
    }
    status = 0;
done:
    Py_XDECREF(threading);
    Py_XDECREF(main_thread);
    Py_XDECREF(ident);
    return status;
}

/* The function that cl_now_s() does without. A program may have replaced it
 * before the import: None stands for what is not known. */
static int
find_clock(cl_state *st)
{
    PyObject *module = PyImport_ImportModule("time"), *name = NULL,
             *found = NULL;
    int status = -1;
    if (module != NULL &&
        (name = PyUnicode_InternFromString("monotonic")) != NULL &&
        (found = PyObject_GetAttr(module, name)) != NULL)
        status = cl_global_init(st, &st->clock, module, name,
                                PyCFunction_Check(found) ? found : Py_None);
    Py_XDECREF(module);
    Py_XDECREF(name);
    Py_XDECREF(found);
    return status;
}

static int
setup(PyObject *module, cl_state *st)
{
#define MAKE(field, value) \
    if ((st->field = value) == NULL) \
        return -1;
    CL_CORE_CONSTANTS(MAKE)
#undef MAKE
    st->armed_fd = -1;
    cl_rate_init(&st->rate);
    if (probe_callback_source(st) < 0 || find_main_thread(st) < 0 ||
        find_clock(st) < 0 || cl_handle_remember_run(st) < 0)
        return -1;
    int found = cl_context_has_vars();
    if (found < 0)
        return -1;
    st->context_has_vars = found;
    return cl_fork_setup(module, st);
}

cl_rate
cl_state_rate(cl_state *st)
{
    cl_rate rate;
    CL_MUTEX_LOCK(&st->loops_lock);
    cl_rate_learn(&st->rate, cl_ticks(), cl_now_ns());
    rate = st->rate;
    CL_MUTEX_UNLOCK(&st->loops_lock);
    return rate;
}

static int
traverse(cl_state *st, visitproc visit, void *arg)
{
    int status = cl_original_traverse(&st->handle_run, visit, arg);
    if (status == 0)
        status = cl_follow_traverse(&st->follow, visit, arg);
    if (status == 0)
        status = cl_global_traverse(&st->clock, visit, arg);
    return status != 0 ? status : cl_watchdog_traverse(st, visit, arg);
}

static void
clear(cl_state *st)
{
    cl_original_clear(&st->handle_run);
    cl_follow_clear(&st->follow);
    cl_global_clear(st, &st->clock);
    cl_watchdog_clear(st);
}

static void
free_constants(cl_state *st)
{
#define CLEAR(field, value) Py_CLEAR(st->field);
    CL_CORE_CONSTANTS(CLEAR)
#undef CLEAR
}

const cl_layer cl_core_layer = {
    .name = "core",
    .types = types,
    .imports = imports,
    .names = names,
    .keywords = keywords,
    .counts = counts,
    .nodes = nodes,
    .setup = setup,
    .traverse = traverse,
    .clear = clear,
    .free = free_constants,
};
