/* entry.c - see entry.h. */
#include "sync/entry.h"

#include "core/method.h"
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

static PyType_Slot Entry_slots[] = {
    {Py_tp_dealloc, Entry_dealloc},     {Py_tp_traverse, Entry_traverse},
    {Py_tp_call, PyVectorcall_Call},    {Py_tp_descr_get, cl_face_get},
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
    entry->e_face.fa_function = Py_NewRef(function);
    return (PyObject *)entry;
}

void
cl_entry_switch(cl_state *Py_UNUSED(st), int Py_UNUSED(body),
                bool Py_UNUSED(on))
{
}

#endif
