/* callback.c - see callback.h. */
#include "sync/callback.h"

static PyObject *
call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    SyncCallbackObject *callback = (SyncCallbackObject *)self;
    const cl_callback_kind *kind = callback->cb_kind;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if ((kind->k_nargs >= 0 && nargs != kind->k_nargs) || kwnames != NULL)
        return PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments",
                            kind->k_name, kind->k_nargs);
    if (callback->cb_first == NULL)
        Py_RETURN_NONE;
    /* Whoever calls it may have the only references, and drop them. */
    Py_INCREF(self);
    for (Py_ssize_t i = 0; i < nargs; i++)
        Py_INCREF(args[i]);
    int status = kind->k_call(callback, args);
    for (Py_ssize_t i = 0; i < nargs; i++)
        Py_DECREF(args[i]);
    Py_DECREF(self);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

SyncCallbackObject *
cl_callback_new(cl_state *st, const cl_callback_kind *kind, PyObject *first,
                PyObject *second, PyObject *third)
{
    PyTypeObject *type = cl_sync_of(st)->SyncCallbackType;
    SyncCallbackObject *self = (SyncCallbackObject *)cl_type_alloc(type);
    if (self == NULL)
        return NULL;
    self->cb_vectorcall = call;
    self->cb_kind = kind;
    self->cb_st = st;
    self->cb_first = Py_NewRef(first);
    self->cb_second = Py_XNewRef(second);
    self->cb_third = Py_XNewRef(third);
    return self;
}

static int
Callback_traverse(SyncCallbackObject *self, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(self);
    Py_VISIT(self->cb_first);
    Py_VISIT(self->cb_second);
    Py_VISIT(self->cb_third);
    return 0;
}

static int
Callback_clear(SyncCallbackObject *self)
{
    Py_CLEAR(self->cb_first);
    Py_CLEAR(self->cb_second);
    Py_CLEAR(self->cb_third);
    return 0;
}

static void
Callback_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, Callback_dealloc);
    (void)Callback_clear((SyncCallbackObject *)self);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END;
}

static PyObject *
get_name(SyncCallbackObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(self->cb_kind->k_name);
}

static PyObject *
get_qualname(SyncCallbackObject *self, void *Py_UNUSED(closure))
{
    if (self->cb_kind->k_qualname != NULL)
        return PyUnicode_FromString(self->cb_kind->k_qualname);
    /* What asyncio shows of a partial(). Nothing can be imported at exit. */
    PyObject *repr = cl_sync_of(self->cb_st)->reprlib_repr, *name = NULL;
    PyObject *shown = repr == NULL || self->cb_first == NULL
                          ? NULL
                          : PyObject_CallOneArg(repr, self->cb_first);
    if (shown != NULL)
        name = PyUnicode_FromFormat("%s(%S)", self->cb_kind->k_name, shown);
    else if (!PyErr_Occurred())
        name = PyUnicode_FromString(self->cb_kind->k_name);
    Py_XDECREF(shown);
    return name;
}

static PyObject *
get_wrapped(SyncCallbackObject *self, void *Py_UNUSED(closure))
{
    int index = self->cb_kind->k_closure;
    cl_sync *sync = cl_sync_of(self->cb_st);
    PyObject *function = index >= 0 ? sync->sy_closures[index]
                         : index == CL_CLOSURE_RELEASE_WAITER
                             ? sync->sy_functions[CL_BODY_RELEASE_WAITER]
                             : NULL;
    if (function == NULL)
        PyErr_SetString(PyExc_AttributeError, "__wrapped__");
    return Py_XNewRef(function);
}

static PyGetSetDef Callback_getset[] = {
    {"__name__", (getter)get_name, NULL, NULL, NULL},
    {"__qualname__", (getter)get_qualname, NULL, NULL, NULL},
    {"__wrapped__", (getter)get_wrapped, NULL, NULL, NULL},
    {NULL}};

static PyMemberDef Callback_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET,
     offsetof(SyncCallbackObject, cb_vectorcall), READONLY, NULL},
    {NULL}};

static PyType_Slot Callback_slots[] = {{Py_tp_dealloc, Callback_dealloc},
                                       {Py_tp_traverse, Callback_traverse},
                                       {Py_tp_clear, Callback_clear},
                                       {Py_tp_call, PyVectorcall_Call},
                                       {Py_tp_getset, Callback_getset},
                                       {Py_tp_members, Callback_members},
                                       {0, NULL}};

static PyType_Spec Callback_spec = {
    .name = "cloop._cloop.SyncCallback",
    .basicsize = sizeof(SyncCallbackObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW |
             CL_TPFLAGS_VECTORCALL,
    .slots = Callback_slots,
};

PyTypeObject *
cl_callback_setup(PyObject *module, cl_state *st)
{
    PyTypeObject *type = cl_type_new(module, st, &Callback_spec, NULL, 0, 0);
    if (type != NULL)
        cl_type_set_vectorcall(type,
                               offsetof(SyncCallbackObject, cb_vectorcall));
    return type;
}
