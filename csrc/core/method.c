/* method.c - see method.h. */
#include "core/method.h"

/* The calling convention METH_FASTCALL | METH_KEYWORDS. */
typedef PyObject *(*fast_function)(PyObject *self, PyObject *const *args,
                                   Py_ssize_t nargs, PyObject *kwnames);

typedef struct {
    cl_face m_face;
    fast_function m_native;
    PyTypeObject *m_owner; /* owned */
} MethodObject;

/* ------------------------------------------------------------------- calling */

static PyObject *
call(PyObject *callable, PyObject *const *args, size_t nargsf,
     PyObject *kwnames)
{
    MethodObject *method = (MethodObject *)callable;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (nargs == 0 || !PyObject_TypeCheck(args[0], method->m_owner))
        return PyObject_Vectorcall(method->m_face.fa_function, args,
                                   (size_t)nargs, kwnames);
    return method->m_native(args[0], args + 1, nargs - 1, kwnames);
}

/* --------------------------------------------------------------- attributes of the face */

PyObject *
cl_face_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object == NULL || object == Py_None ? Py_NewRef(self)
                                               : PyMethod_New(self, object);
}

/* Whether the attribute is the NativeMethod's own: that of the face would act
 * on the face. */
static bool
is_ours(PyObject *name)
{
    static const char *const names[] = {"__call__", "__get__", "__reduce__",
                                        "__reduce_ex__"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return true;
    }
    return false;
}

PyObject *
cl_face_getattro(PyObject *self, PyObject *name)
{
    return is_ours(name)
               ? PyObject_GenericGetAttr(self, name)
               : PyObject_GetAttr(((cl_face *)self)->fa_function, name);
}

int
cl_face_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(((cl_face *)self)->fa_function, name, value);
}

PyObject *
cl_face_repr(PyObject *self)
{
    return PyObject_Repr(((cl_face *)self)->fa_function);
}

/* Pickles by name, like a function. */
static PyObject *
face_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_GetAttrString(((cl_face *)self)->fa_function,
                                  "__qualname__");
}

PyMethodDef cl_face_methods[] = {
    {"__reduce__", face_reduce, METH_NOARGS, NULL}, {NULL}};

PyMemberDef cl_face_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(cl_face, fa_vectorcall),
     READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(cl_face, fa_weakrefs),
     READONLY, NULL},
    {NULL}};

/* --------------------------------------------------------- creating the face */

/* Copies what PyFunction_NewWithQualName() does not take. 0/-1 */
static int
complete(PyObject *face, PyObject *function)
{
    PyObject *defaults = PyFunction_GET_DEFAULTS(function);
    PyObject *kwdefaults = PyFunction_GET_KW_DEFAULTS(function);
    PyObject *closure = PyFunction_GET_CLOSURE(function);
    return (defaults != NULL && PyFunction_SetDefaults(face, defaults) < 0) ||
                   (kwdefaults != NULL &&
                    PyFunction_SetKwDefaults(face, kwdefaults) < 0) ||
                   (closure != NULL &&
                    PyFunction_SetClosure(face, closure) < 0)
               ? -1
               : 0;
}

static PyObject *
make_face(PyTypeObject *owner, PyObject *function, const char *name,
          PyObject *doc)
{
    PyObject *face = NULL, *qualname = NULL, *class, *module = NULL;
    class = PyObject_GetAttrString((PyObject *)owner, "__qualname__");
    if (class == NULL ||
        (module = PyObject_GetAttrString((PyObject *)owner, "__module__")) ==
            NULL ||
        (qualname = PyUnicode_FromFormat("%U.%s", class, name)) == NULL)
        goto done;
    face =
        PyFunction_NewWithQualName(PyFunction_GET_CODE(function),
                                   PyFunction_GET_GLOBALS(function), qualname);
    if (face != NULL &&
        (complete(face, function) < 0 ||
         PyObject_SetAttrString(face, "__module__", module) < 0 ||
         (doc != NULL && doc != Py_None &&
          PyObject_SetAttrString(face, "__doc__", doc) < 0)))
        Py_CLEAR(face);
done:
    Py_XDECREF(class);
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return face;
}

PyObject *
cl_method_new(cl_state *st, PyTypeObject *owner, PyMethodDef *def,
              PyObject *function, PyObject *doc)
{
    if (def->ml_flags != (METH_FASTCALL | METH_KEYWORDS) ||
        !PyFunction_Check(function)) {
        PyErr_Format(PyExc_TypeError, "%s() cannot look like %R", def->ml_name,
                     function);
        return NULL;
    }
    PyObject *face = make_face(owner, function, def->ml_name, doc);
    PyTypeObject *type = st->NativeMethodType;
    MethodObject *method =
        face == NULL ? NULL : (MethodObject *)cl_type_alloc(type);
    if (method == NULL) {
        Py_XDECREF(face);
        return NULL;
    }
    method->m_face.fa_vectorcall = call;
    method->m_native = (fast_function)(void (*)(void))def->ml_meth;
    method->m_owner = (PyTypeObject *)Py_NewRef(owner);
    method->m_face.fa_function = face;
    return (PyObject *)method;
}

static bool
is_coroutine_function(PyObject *function)
{
    return function != NULL && PyFunction_Check(function) &&
           (((PyCodeObject *)PyFunction_GET_CODE(function))->co_flags &
            CO_COROUTINE);
}

int
cl_methods_look_like(cl_state *st, PyTypeObject *type, PyMethodDef *methods,
                     PyTypeObject *base)
{
    int status = 0;
    for (PyMethodDef *def = methods; def->ml_name != NULL && status == 0;
         def++) {
        PyObject *function =
            PyObject_GetAttrString((PyObject *)base, def->ml_name);
        if (function == NULL)
            PyErr_Clear();
        if (is_coroutine_function(function)) {
            PyObject *method = cl_method_new(st, type, def, function, NULL);
            status = method == NULL
                         ? -1
                         : PyObject_SetAttrString((PyObject *)type,
                                                  def->ml_name, method);
            Py_XDECREF(method);
        }
        Py_XDECREF(function);
    }
    return status;
}

/* ---------------------------------------------------------------------- type */

static int
NativeMethod_traverse(MethodObject *method, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(method);
    Py_VISIT(method->m_owner);
    Py_VISIT(method->m_face.fa_function);
    return 0;
}

/* No tp_clear, so that a method always has its face. Clearing the class or the
 * face's dictionaries breaks every cycle. */
static void
NativeMethod_dealloc(PyObject *self)
{
    MethodObject *method = (MethodObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (method->m_face.fa_weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    Py_XDECREF(method->m_owner);
    Py_XDECREF(method->m_face.fa_function);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot NativeMethod_slots[] = {
    {Py_tp_dealloc, NativeMethod_dealloc},
    {Py_tp_traverse, NativeMethod_traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, cl_face_get},
    {Py_tp_getattro, cl_face_getattro},
    {Py_tp_setattro, cl_face_setattro},
    {Py_tp_repr, cl_face_repr},
    {Py_tp_methods, cl_face_methods},
    {Py_tp_members, cl_face_members},
    {0, NULL}};

/* Immutable: otherwise the interpreter does not cache the look-up of the
 * method. */
static PyType_Spec NativeMethod_spec = {
    .name = "cloop._cloop.NativeMethod",
    .basicsize = sizeof(MethodObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW |
             CL_TPFLAGS_IMMUTABLE | CL_TPFLAGS_VECTORCALL |
             Py_TPFLAGS_METHOD_DESCRIPTOR,
    .slots = NativeMethod_slots,
};

PyTypeObject *
cl_native_method_setup(PyObject *module, cl_state *st)
{
    PyTypeObject *type = cl_type_new(module, st, &NativeMethod_spec, NULL, 0,
                                     offsetof(cl_face, fa_weakrefs));
    if (type != NULL)
        cl_type_set_vectorcall(type, offsetof(cl_face, fa_vectorcall));
    return type;
}
