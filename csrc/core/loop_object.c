/* loop_object.c - creates, visits and frees loops; see loop.h.
 *
 * The type's methods and attributes are in loop_type.c. */
#include "core/errors.h"
#include "core/layer.h"
#include "core/loop.h"

PyObject *
cl_loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
            PyObject *Py_UNUSED(kwargs))
{
    cl_state *st;
    LoopObject *loop = (LoopObject *)cl_type_alloc(type);
    if (loop == NULL)
        return NULL;
    loop->l_slow_callback_duration = 0.1;
    loop->l_clock_resolution = 1e-9;
    loop->l_closed = true; /* until __init__() opens it */
    if ((st = cl_type_state(type, cl_loop_dealloc)) == NULL) {
        Py_DECREF(loop);
        return NULL;
    }
    loop->l_st = st;
    loop->l_module = Py_NewRef(st->module);
    cl_live_add(&st->live_loops, 1);
    return (PyObject *)loop;
}

int
cl_loop_init(LoopObject *loop, const char *poller)
{
    if (loop->l_made) {
        PyErr_SetString(PyExc_RuntimeError, "the loop is initialised already");
        return -1;
    }
    cl_state *st = loop->l_st;
    loop->l_made = true;
    if ((loop->l_asyncgens = PyObject_CallNoArgs(st->WeakSet)) == NULL ||
        (loop->l_transports = PyObject_CallNoArgs(st->WeakValueDictionary)) ==
            NULL ||
        (loop->l_signal_handlers = PyDict_New()) == NULL ||
        (loop->l_unix_server_sockets = PyDict_New()) == NULL ||
        cl_follow_codes(&st->follow) < 0 ||
        cl_loop_refresh_overrides(loop) < 0)
        return -1;
    CL_FOR_EACH_LAYER (at, st) {
        if ((*at)->loop_init != NULL && (*at)->loop_init(loop) < 0)
            return -1;
    }
#if CL_FREE_THREADED
    if ((loop->l_self = PyWeakref_NewRef((PyObject *)loop, NULL)) == NULL)
        return -1;
#endif
    if (cl_loop_open(loop, poller) < 0)
        return -1;
    loop->l_closed = false;
    return 0;
}

PyObject *
cl_loop_list(cl_state *st)
{
    PyObject *list = PyList_New(0), *strong = NULL;
    int status = 0;
    if (list == NULL)
        return NULL;
    CL_MUTEX_LOCK(&st->loops_lock);
    for (LoopObject *loop = st->loops; status == 0 && loop != NULL;
         loop = loop->l_next_open) {
        /* What is freed here would need the lock. */
        if ((strong = cl_loop_listed(loop)) != NULL &&
            (status = PyList_Append(list, strong)) == 0)
            Py_CLEAR(strong);
    }
    CL_MUTEX_UNLOCK(&st->loops_lock);
    Py_XDECREF(strong);
    if (status < 0)
        Py_CLEAR(list);
    return list;
}

PyObject *
cl_loop_inherited(LoopObject *loop, const char *name)
{
    PyObject *behind = PyObject_CallFunction((PyObject *)&PySuper_Type, "OO",
                                             cl_loop_core_type(loop), loop);
    PyObject *bound =
        behind == NULL ? NULL : PyObject_GetAttrString(behind, name);
    Py_XDECREF(behind);
    return bound;
}

int
cl_loop_traverse(LoopObject *loop, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(loop);
    Py_VISIT(loop->l_module);
    Py_VISIT(loop->l_dict);
#define VISIT(name) Py_VISIT(loop->l_##name);
    CL_LOOP_OBJECTS(VISIT)
#undef VISIT
    if (loop->l_st != NULL) {
        CL_FOR_EACH_LAYER (at, loop->l_st) {
            int status = (*at)->loop_traverse == NULL
                             ? 0
                             : (*at)->loop_traverse(loop, visit, arg);
            if (status != 0)
                return status;
        }
    }
    return cl_loop_traverse_pending(loop, visit, arg);
}

int
cl_loop_clear(LoopObject *loop)
{
    loop->l_closed = true;
    cl_loop_close(loop, false);
    if (loop->l_st != NULL) {
        CL_FOR_EACH_LAYER (at, loop->l_st) {
            if ((*at)->loop_clear != NULL)
                (*at)->loop_clear(loop);
        }
    }
#if CL_FREE_THREADED
    Py_CLEAR(loop->l_self);
#endif
    Py_CLEAR(loop->l_dict);
#define CLEAR(name) Py_CLEAR(loop->l_##name);
    CL_LOOP_OBJECTS(CLEAR)
#undef CLEAR
    return 0;
}

void
cl_loop_dealloc(PyObject *self)
{
    LoopObject *loop = (LoopObject *)self;
    PyTypeObject *type = Py_TYPE(loop);
    PyObject_GC_UnTrack(loop);
    if (loop->l_weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    cl_loop_clear(loop);
    cl_loop_destroy_locks(loop);
    cl_handle_free_spares(loop);
    PyMem_Free(loop->l_fresh);
    if (loop->l_st != NULL) {
        CL_FOR_EACH_LAYER (at, loop->l_st) {
            if ((*at)->loop_free != NULL)
                (*at)->loop_free(loop);
        }
        cl_live_add(&loop->l_st->live_loops, -1);
    }
    PyObject *module = loop->l_module;
    type->tp_free(self);
    Py_DECREF(type);
    Py_XDECREF(module);
}
