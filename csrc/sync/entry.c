/* entry.c - see entry.h. */
#include "sync/entry.h"

#include "core/method.h"
#include "core/spares.h"
#include "sync/sync.h"

#if CL_FUNCTIONS_TAKE_VECTORCALL

/* ---------------------------------------------------------- by another vectorcall */

typedef struct {
    PyWeakReference e_reference;
    cl_state *e_st; /* borrowed; the type keeps the module alive */
} EntryObject;

static void Entry_dealloc(PyObject *self);

/* The state, from a function that has an entry. */
static cl_state *
state_of(PyObject *function)
{
    PyWeakReference *at =
        (PyWeakReference *)((PyFunctionObject *)function)->func_weakreflist;
    while (at != NULL && Py_TYPE(at)->tp_dealloc != Entry_dealloc)
        at = at->wr_next;
    return at == NULL ? NULL : ((EntryObject *)at)->e_st;
}

/* Never called: the entry of such a function is off. */
static PyObject *
call_plain(PyObject *Py_UNUSED(callable), PyObject *const *Py_UNUSED(args),
           size_t Py_UNUSED(nargs), PyObject *Py_UNUSED(kwnames))
{
    PyErr_SetString(PyExc_SystemError, "not an accelerated function");
    return NULL;
}

static int
Entry_traverse(PyObject *self, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(self);
    return cl_weakref_type->tp_traverse(self, visit, arg);
}

static void
Entry_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cl_weakref_type->tp_dealloc(self);
    Py_DECREF(type);
}

static PyObject *
Entry_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return cl_weakref_type->tp_new(type, args, kwargs);
}

static PyType_Slot Entry_slots[] = {{Py_tp_new, Entry_new},
                                    {Py_tp_dealloc, Entry_dealloc},
                                    {Py_tp_traverse, Entry_traverse},
                                    {0, NULL}};

static PyType_Spec Entry_spec = {
    .name = "cloop._cloop.SyncEntry",
    .basicsize = sizeof(EntryObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = Entry_slots,
};

PyTypeObject *
cl_entry_setup(PyObject *module, cl_state *st)
{
    PyObject *bases = PyTuple_Pack(1, (PyObject *)cl_weakref_type);
    if (bases == NULL)
        return NULL;
    PyTypeObject *type = cl_type_new(module, st, &Entry_spec, bases, 0, 0);
    Py_DECREF(bases);
    return type;
}

PyObject *
cl_entry_new(cl_state *st, int Py_UNUSED(body), PyObject *function)
{
    PyObject *entry = PyObject_CallOneArg(
        (PyObject *)cl_sync_of(st)->SyncEntryType, function);
    if (entry != NULL)
        ((EntryObject *)entry)->e_st = st;
    return entry;
}

#else

/* ------------------------------------------------------------------ by a stand-in */

typedef struct {
    cl_face e_face; /* asyncio's function */
    cl_state *e_st; /* borrowed; the type keeps the module alive */
    bool e_binds;   /* as a BoundObject: `async with` uses it */
} EntryObject;

static cl_state *
state_of(PyObject *entry)
{
    return ((EntryObject *)entry)->e_st;
}

static PyObject *
call_plain(PyObject *callable, PyObject *const *args, size_t nargs,
           PyObject *kwnames)
{
    return PyObject_Vectorcall(((cl_face *)callable)->fa_function, args, nargs,
                               kwnames);
}

static int
Entry_traverse(EntryObject *entry, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(entry);
    Py_VISIT(entry->e_face.fa_function);
    return 0;
}

/* No tp_clear: an entry always has its function, and the function's dicts
 * break every cycle. */
static void
Entry_dealloc(PyObject *self)
{
    EntryObject *entry = (EntryObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (entry->e_face.fa_weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    Py_XDECREF(entry->e_face.fa_function);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *Entry_get(PyObject *self, PyObject *object, PyObject *type);

static PyType_Slot Entry_slots[] = {
    {Py_tp_dealloc, Entry_dealloc},     {Py_tp_traverse, Entry_traverse},
    {Py_tp_call, PyVectorcall_Call},    {Py_tp_descr_get, Entry_get},
    {Py_tp_getattro, cl_face_getattro}, {Py_tp_setattro, cl_face_setattro},
    {Py_tp_repr, cl_face_repr},         {Py_tp_methods, cl_face_methods},
    {Py_tp_members, cl_face_members},   {0, NULL}};

/* Immutable; otherwise the interpreter would look the method up at every call. */
static PyType_Spec Entry_spec = {
    .name = "cloop._cloop.SyncEntry",
    .basicsize = sizeof(EntryObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW |
             CL_TPFLAGS_IMMUTABLE | CL_TPFLAGS_VECTORCALL |
             Py_TPFLAGS_METHOD_DESCRIPTOR,
    .slots = Entry_slots,
};

PyTypeObject *
cl_entry_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &Entry_spec, NULL, 0,
                       offsetof(cl_face, fa_weakrefs));
}

/* --------------------------------------------------------- bound by `async with` */

/* The statement binds __aenter__() and __aexit__() each time. A bound method of
 * Python's costs as much to create, call and free as what the body does. This
 * one looks like it: all but calls goes to a real one. */
typedef struct {
    PyObject_HEAD
    PyObject *b_entry; /* owned */
    PyObject *b_self;  /* owned */
    vectorcallfunc b_vectorcall;
    PyObject *b_weakrefs;
} BoundObject;

/* Returns a real bound method. */
static PyObject *
real(PyObject *self)
{
    BoundObject *bound = (BoundObject *)self;
    if (bound->b_self == NULL) { /* cleared by the garbage collector */
        PyErr_SetString(PyExc_ReferenceError, "the method is gone");
        return NULL;
    }
    return PyMethod_New(bound->b_entry, bound->b_self);
}

static PyObject *
bound_call(PyObject *callable, PyObject *const *args, size_t nargsf,
           PyObject *kwnames)
{
    BoundObject *bound = (BoundObject *)callable;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    PyObject *argv[4];
    if (bound->b_self == NULL || kwnames != NULL || nargs > 3) {
        PyObject *method = real(callable), *result;
        if (method == NULL)
            return NULL;
        result = PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
        Py_DECREF(method);
        return result;
    }
    argv[0] = bound->b_self;
    for (Py_ssize_t i = 0; i < nargs; i++)
        argv[i + 1] = args[i];
    return ((cl_face *)bound->b_entry)
        ->fa_vectorcall(bound->b_entry, argv, (size_t)nargs + 1, NULL);
}

static PyObject *
Entry_get(PyObject *self, PyObject *object, PyObject *type)
{
    EntryObject *entry = (EntryObject *)self;
    if (object == NULL || !entry->e_binds)
        return cl_face_get(self, object, type);
    cl_sync *sync = cl_sync_of(entry->e_st);
    BoundObject *bound = (BoundObject *)cl_spares_take(
        &sync->sy_spare_bound, sync->SyncBoundType, sizeof(*bound));
    if (bound == NULL)
        return NULL;
    bound->b_entry = Py_NewRef(self);
    bound->b_self = Py_NewRef(object);
    bound->b_vectorcall = bound_call;
    PyObject_GC_Track(bound);
    return (PyObject *)bound;
}

static int
Bound_traverse(BoundObject *bound, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(bound);
    Py_VISIT(bound->b_entry);
    Py_VISIT(bound->b_self);
    return 0;
}

static int
Bound_clear(BoundObject *bound)
{
    Py_CLEAR(bound->b_self);
    return 0;
}

static void
Bound_dealloc(BoundObject *bound)
{
    PyObject *entry = bound->b_entry, *self = bound->b_self;
    PyObject_GC_UnTrack(bound);
    if (bound->b_weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)bound);
    cl_spares_give_plain(
        &cl_sync_of(((EntryObject *)entry)->e_st)->sy_spare_bound,
        (PyObject *)bound);
    Py_XDECREF(self);
    Py_DECREF(entry);
}

static PyObject *
Bound_getattro(PyObject *self, PyObject *name)
{
    PyObject *method = real(self);
    PyObject *value = method == NULL ? NULL : PyObject_GetAttr(method, name);
    Py_XDECREF(method);
    return value;
}

static int
Bound_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    PyObject *method = real(self);
    int status = method == NULL ? -1 : PyObject_SetAttr(method, name, value);
    Py_XDECREF(method);
    return status;
}

static PyObject *
Bound_repr(PyObject *self)
{
    PyObject *method = real(self);
    PyObject *text = method == NULL ? NULL : PyObject_Repr(method);
    Py_XDECREF(method);
    return text;
}

static Py_hash_t
Bound_hash(PyObject *self)
{
    PyObject *method = real(self);
    Py_hash_t hash = method == NULL ? -1 : PyObject_Hash(method);
    Py_XDECREF(method);
    return hash;
}

static PyObject *
Bound_compare(PyObject *self, PyObject *other, int how)
{
    PyObject *method = real(self), *result;
    PyObject *same = Py_TYPE(other) == Py_TYPE(self) ? real(other)
                                                     : Py_NewRef(other);
    result = method == NULL || same == NULL
                 ? NULL
                 : PyObject_RichCompare(method, same, how);
    Py_XDECREF(method);
    Py_XDECREF(same);
    return result;
}

static PyMemberDef Bound_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(BoundObject, b_vectorcall),
     READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(BoundObject, b_weakrefs),
     READONLY, NULL},
    {NULL}};

static PyType_Slot Bound_slots[] = {{Py_tp_dealloc, Bound_dealloc},
                                    {Py_tp_traverse, Bound_traverse},
                                    {Py_tp_clear, Bound_clear},
                                    {Py_tp_call, PyVectorcall_Call},
                                    {Py_tp_getattro, Bound_getattro},
                                    {Py_tp_setattro, Bound_setattro},
                                    {Py_tp_repr, Bound_repr},
                                    {Py_tp_hash, Bound_hash},
                                    {Py_tp_richcompare, Bound_compare},
                                    {Py_tp_members, Bound_members},
                                    {0, NULL}};

static PyType_Spec Bound_spec = {
    .name = "cloop._cloop.SyncBound",
    .basicsize = sizeof(BoundObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW |
             CL_TPFLAGS_IMMUTABLE | CL_TPFLAGS_VECTORCALL,
    .slots = Bound_slots,
};

PyTypeObject *
cl_bound_setup(PyObject *module, cl_state *st)
{
    PyTypeObject *type = cl_type_new(module, st, &Bound_spec, NULL, 0,
                                     offsetof(BoundObject, b_weakrefs));
    if (type != NULL)
        cl_type_set_vectorcall(type, offsetof(BoundObject, b_vectorcall));
    return type;
}

#endif

/* -------------------------------------------------------------------------- both */

#define CALL(id, function) \
    static PyObject *call_##id(PyObject *callable, PyObject *const *args, \
                               size_t nargsf, PyObject *kwnames) \
    { \
        cl_state *st = state_of(callable); \
        Py_ssize_t nargs = PyVectorcall_NARGS(nargsf); \
        return st != NULL && cl_sync_of(st)->sy_on \
                   ? function(st, args, nargs, kwnames) \
                   : call_plain(callable, args, (size_t)nargs, kwnames); \
    }
CL_SYNC_BODIES(CALL)
#undef CALL

static const vectorcallfunc calls[] = {
#define ENTRY(id, function) [CL_BODY_##id] = call_##id,
    CL_SYNC_BODIES(ENTRY)
#undef ENTRY
};

#if CL_FUNCTIONS_TAKE_VECTORCALL

void
cl_entry_switch(cl_state *st, int body, bool on)
{
    PyObject *function = cl_sync_of(st)->sy_functions[body];
    vectorcallfunc plain = cl_sync_of(st)->sy_plain,
                   now = cl_function_vectorcall(function);
    /* If somebody else replaced it meanwhile, leave it. */
    if (now == (on ? plain : calls[body]))
        cl_function_set_vectorcall(function, on ? calls[body] : plain);
}

#else

PyObject *
cl_entry_new(cl_state *st, int body, PyObject *function)
{
    PyTypeObject *type = cl_sync_of(st)->SyncEntryType;
    EntryObject *entry = (EntryObject *)cl_type_alloc(type);
    if (entry == NULL)
        return NULL;
    entry->e_face.fa_vectorcall = calls[body];
    entry->e_st = st;
    entry->e_binds = body == CL_BODY_AENTER || body == CL_BODY_AEXIT ||
                     body == CL_BODY_TIMEOUT_AENTER ||
                     body == CL_BODY_TIMEOUT_AEXIT;
    entry->e_face.fa_function = Py_NewRef(function);
    return (PyObject *)entry;
}

void
cl_entry_switch(cl_state *Py_UNUSED(st), int Py_UNUSED(body),
                bool Py_UNUSED(on))
{
}

#endif
