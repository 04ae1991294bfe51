/* method.h - methods in C that look like Python functions.
 *
 * A method_descriptor is not a function: inspect.iscoroutinefunction() returns
 * False for it, and unittest.mock creates a mock that cannot be awaited. A
 * NativeMethod has a Python function as its face. All attributes, __class__
 * and __code__ included, are those of the face. Only calls go to the C
 * function, by vectorcall and without a bound method, as with a
 * method_descriptor. If the object is not an instance of the owner, the face
 * is called. */
#ifndef CL_CORE_METHOD_H
#define CL_CORE_METHOD_H

#include "base/compat.h"
#include "core/state.h"

/* Returns a method of `owner` that calls the function of `def`, METH_FASTCALL
 * | METH_KEYWORDS. It looks like `function`, but has the owner's name and,
 * unless that is NULL or None, the docstring `doc`. `def` must outlive it. */
PyObject *cl_method_new(cl_state *st, PyTypeObject *owner, PyMethodDef *def,
                        PyObject *function, PyObject *doc);

/* For each method in the table for which `base` has a Python coroutine
 * function of the same name: replaces the type's method by one that looks like
 * it. 0/-1 */
int cl_methods_look_like(cl_state *st, PyTypeObject *type,
                         PyMethodDef *methods, PyTypeObject *base);

/* The head of an object that looks like a Python function, its face, except in
 * calls. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc f_vectorcall;
    PyObject *f_function; /* owned; the face */
    PyObject *f_weakrefs;
} cl_face;

/* For the slots and tables of such types. */
PyObject *cl_face_get(PyObject *self, PyObject *object, PyObject *type);
PyObject *cl_face_getattro(PyObject *self, PyObject *name);
int cl_face_setattro(PyObject *self, PyObject *name, PyObject *value);
PyObject *cl_face_repr(PyObject *self);
extern PyMethodDef cl_face_methods[];
extern PyMemberDef cl_face_members[];

PyTypeObject *cl_native_method_setup(PyObject *module, cl_state *st);

#endif
