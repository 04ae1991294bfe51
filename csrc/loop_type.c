/* loop_type.c - LoopCore: its attributes, and the type.
 *
 * cloop.Loop (cloop/_loop.py) derives from this type first, and from the
 * running Python's asyncio.SelectorEventLoop second. What is not here is
 * asyncio's own code, which uses the attributes defined here under the names
 * it expects. */
#include "loop_type.h"

#include "core/claim.h"
#include "core/errors.h"
#include "core/loop.h"
#include "state.h"

/* ----------------------------------------------------------------- attributes */

/* Returns a new reference to the handle at a ring position. A node that is no
 * handle is replaced by one for good: the program may keep and cancel it.
 * Returns NULL without an exception if the position is gone, since a
 * collection may run any code. */
static PyObject *
ready_handle(LoopObject *loop, uint64_t at)
{
    while (loop->l_open && at >= loop->l_ready.r_head &&
           at < loop->l_ready.r_tail) {
        cl_node node = cl_ring_at(&loop->l_ready, at), now = 0;
        const cl_node_ops *ops = cl_node_ops_of(loop->l_st, node);
        PyObject *handle = ops->as_handle(loop, node);
        if (handle == NULL || handle == cl_node_pointer(node))
            return handle;
        if (loop->l_open && at >= loop->l_ready.r_head &&
            at < loop->l_ready.r_tail)
            now = cl_ring_at(&loop->l_ready, at);
        if (now == node) {
            *cl_ring_slot(&loop->l_ready, at) =
                cl_node_make(Py_NewRef(handle), CL_NODE_HANDLE);
            ops->drop(node, false);
            return handle;
        }
        Py_DECREF(handle); /* look again */
    }
    return NULL;
}

static PyObject *
get_ready(LoopObject *loop, void *Py_UNUSED(closure))
{
    CL_CLAIM(loop, NULL);
    PyObject *list = PyList_New(0);
    if (list == NULL || !loop->l_open)
        return list;
    if (cl_inbox_filled(&loop->l_inbox) && cl_loop_drain_inbox(loop) < 0)
        goto failed;
    for (uint64_t at = loop->l_ready.r_head;
         loop->l_open && at < loop->l_ready.r_tail; at++) {
        PyObject *handle = ready_handle(loop, at);
        if (handle == NULL && PyErr_Occurred())
            goto failed;
        int status = handle == NULL ? 0 : PyList_Append(list, handle);
        Py_XDECREF(handle);
        if (status < 0)
            goto failed;
    }
    return list;
failed:
    Py_DECREF(list);
    return NULL;
}

static PyObject *
get_scheduled(LoopObject *loop, void *Py_UNUSED(closure))
{
    CL_CLAIM(loop, NULL);
    PyObject *list = PyList_New(0);
    if (list == NULL || !loop->l_open)
        return list;
    for (size_t i = 0; i < loop->l_timers.count; i++) {
        TimerHandleObject *timer =
            cl_timer_from_node(loop->l_timers.entries[i].node);
        cl_handle_track(&timer->tm_handle);
        if (PyList_Append(list, (PyObject *)timer) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *
get_poller(LoopObject *loop, void *Py_UNUSED(closure))
{
    if (!loop->l_open)
        Py_RETURN_NONE;
    return PyUnicode_FromString(loop->l_poller_ops->name);
}

static PyObject *
get_thread_id(LoopObject *loop, void *Py_UNUSED(closure))
{
    if (loop->l_thread_id == 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(loop->l_thread_id);
}

static int
refuse_delete(PyObject *value)
{
    if (value != NULL)
        return 0;
    PyErr_SetString(PyExc_AttributeError, "cannot delete this attribute");
    return -1;
}

static int
set_thread_id(LoopObject *loop, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long ident = 0;
    if (refuse_delete(value) < 0)
        return -1;
    if (value != Py_None) {
        ident = PyLong_AsUnsignedLong(value);
        if (ident == (unsigned long)-1 && PyErr_Occurred())
            return -1;
    }
    cl_loop_forget_task(loop); /* code that sets it calls handles itself */
    loop->l_thread_id = ident;
    return 0;
}

/* Flags that Python code may set to any object, as in asyncio. The closure is
 * the offset of the bool. */
static PyObject *
get_flag(PyObject *loop, void *closure)
{
    const bool *flag = (bool *)((char *)loop + (size_t)closure);
    return PyBool_FromLong(__atomic_load_n(flag, __ATOMIC_RELAXED));
}

static int
set_flag(PyObject *loop, PyObject *value, void *closure)
{
    int truth = refuse_delete(value) < 0 ? -1 : PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    bool *flag = (bool *)((char *)loop + (size_t)closure);
    __atomic_store_n(flag, truth, __ATOMIC_RELAXED);
    return 0;
}

static int
set_asks(LoopObject *loop, PyObject *value, void *Py_UNUSED(closure))
{
    CL_CLAIM(loop, -1);
    int truth = refuse_delete(value) < 0 ? -1 : PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    loop->l_asks = truth;
    cl_loop_poll_soon(loop);
    return 0;
}

#define FLAG(name, field) \
    {name, get_flag, set_flag, NULL, (void *)offsetof(LoopObject, field)}

static PyGetSetDef Loop_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_ready", (getter)get_ready, NULL,
     "A copy of the ready queue: a list of handles.", NULL},
    {"_scheduled", (getter)get_scheduled, NULL,
     "A copy of the timers: a list of handles in heap order.", NULL},
    {"_poller", (getter)get_poller, NULL,
     "Name of the poller: 'epoll', 'kqueue' or 'poll'; None once closed.",
     NULL},
    {"_thread_id", (getter)get_thread_id, (setter)set_thread_id,
     "threading.get_ident() of the thread that runs the loop, or None.", NULL},
    {"_asks", get_flag, (setter)set_asks,
     "Whether the loop calls _ask() in place of its own poll.",
     (void *)offsetof(LoopObject, l_asks)},
    FLAG("_debug", l_debug),
    FLAG("_closed", l_closed),
    FLAG("_stopping", l_stopping),
    FLAG("_coroutine_origin_tracking_enabled", l_origin_enabled),
    FLAG("_asyncgens_shutdown_called", l_asyncgens_shutdown),
    FLAG("_executor_shutdown_called", l_executor_shutdown),
    {NULL}};

/* clang-format off */
#define OBJECTS(SET, READ) \
    SET("_current_handle", l_current_handle) \
    READ("_slow_hook", l_slow_hook) \
    SET("_default_executor", l_default_executor) \
    SET("_exception_handler", l_exception_handler) \
    SET("_task_factory", l_task_factory) \
    SET("_asyncgens", l_asyncgens) \
    SET("_signal_handlers", l_signal_handlers) \
    SET("_unix_server_sockets", l_unix_server_sockets) \
    SET("_transports", l_transports) \
    SET("_watcher", l_watcher) \
    SET("_old_agen_hooks", l_old_agen_hooks) \
    SET("_coroutine_origin_tracking_saved_depth", l_origin_depth)
/* clang-format on */

/* Attributes that are objects: members, but other threads may use those of a
 * loop as well. */
#if CL_FREE_THREADED
static PyObject *
get_object(PyObject *loop, void *closure)
{
    PyObject *value;
    CL_LOCKED(loop);
    value = *(PyObject **)((char *)loop + (size_t)closure);
    value = Py_NewRef(value == NULL ? Py_None : value);
    CL_UNLOCKED();
    return value;
}

static int
set_object(PyObject *loop, PyObject *value, void *closure)
{
    cl_loop_put((LoopObject *)loop,
                (PyObject **)((char *)loop + (size_t)closure),
                Py_XNewRef(value));
    return 0;
}

#define OBJECT_SET(name, field) \
    {name, get_object, set_object, NULL, (void *)offsetof(LoopObject, field)},
#define OBJECT_READ(name, field) \
    {name, get_object, NULL, NULL, (void *)offsetof(LoopObject, field)},
static PyGetSetDef Loop_objects[] = {OBJECTS(OBJECT_SET, OBJECT_READ){NULL}};
#define OBJECT_MEMBERS
#else
#define OBJECT_SET(name, field) \
    {name, T_OBJECT, offsetof(LoopObject, field), 0, NULL},
#define OBJECT_READ(name, field) \
    {name, T_OBJECT, offsetof(LoopObject, field), READONLY, NULL},
#define OBJECT_MEMBERS OBJECTS(OBJECT_SET, OBJECT_READ)
#endif

static PyMemberDef Loop_members[] = {
    {"slow_callback_duration", T_DOUBLE,
     offsetof(LoopObject, l_slow_callback_duration), 0,
     "Callbacks that take longer, in seconds, are logged in debug mode."},
    {"_clock_resolution", T_DOUBLE, offsetof(LoopObject, l_clock_resolution),
     0,
     "The resolution of loop.time(), in seconds. Unlike asyncio's, timers do "
     "not fire early by it."},
    OBJECT_MEMBERS{"__dictoffset__", T_PYSSIZET, offsetof(LoopObject, l_dict),
                   READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(LoopObject, l_weakrefs),
     READONLY, NULL},
    {NULL}};

/* ---------------------------------------------------------------------- type */

static int
Loop_init(LoopObject *loop, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"poller", NULL};
    const char *poller = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$z:Loop", keywords,
                                     &poller))
        return -1;
    return cl_loop_init(loop, poller);
}

/* Updates l_overridden when a public method is assigned on the instance. */
static int
Loop_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    LoopObject *loop = (LoopObject *)self;
    if (PyObject_GenericSetAttr(self, name, value) < 0)
        return -1;
#define CHECK(id, method) \
    if (PyUnicode_Compare(name, loop->l_st->str_##method) == 0) { \
        CL_CLAIM(loop, -1); \
        loop->l_skip_ticks = 0; /* it may be another clock now */ \
        return cl_loop_refresh_overrides(loop); \
    }
    CL_OVERRIDABLE(CHECK)
#undef CHECK
    return 0;
}

static PyType_Slot Loop_slots[] = {
    {Py_tp_doc, "LoopCore(*, poller=None)\n--\n\n"
                "The part of cloop.Loop that is written in C."},
    {Py_tp_new, cl_loop_new},
    {Py_tp_init, Loop_init},
    {Py_tp_dealloc, cl_loop_dealloc},
    {Py_tp_traverse, cl_loop_traverse},
    {Py_tp_clear, cl_loop_clear},
    {Py_tp_setattro, Loop_setattro},
    {Py_tp_getset, Loop_getset},
    {Py_tp_members, Loop_members},
    {0, NULL}};

static PyType_Spec Loop_spec = {
    .name = "cloop._cloop.LoopCore",
    .basicsize = sizeof(cl_loop_top),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Loop_slots,
};

PyTypeObject *
cl_loop_setup(PyObject *module, cl_state *st)
{
    PyTypeObject *type =
        cl_type_new(module, st, &Loop_spec, NULL, offsetof(LoopObject, l_dict),
                    offsetof(LoopObject, l_weakrefs));
    if (type != NULL &&
        (cl_loop_schedule_setup(type) < 0 || cl_loop_watch_setup(type) < 0 ||
         cl_loop_sock_setup(type) < 0 || cl_loop_net_setup(type) < 0 ||
         cl_loop_tasks_setup(type) < 0 || cl_loop_select_setup(type) < 0 ||
         cl_loop_run_setup(type) < 0 || cl_loop_metrics_setup(type) < 0))
        Py_CLEAR(type);
#if CL_FREE_THREADED
    if (type != NULL && cl_type_add_getset(type, Loop_objects) < 0)
        Py_CLEAR(type);
#endif
    return type;
}
