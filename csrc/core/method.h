/* method.h - methods in C that look like the functions of Python they stand for.
 *
 * A method_descriptor is no function: inspect.iscoroutinefunction() is False of it, and
 * unittest.mock makes a mock of it that cannot be awaited. A NativeMethod has a function
 * of Python as its face: every attribute, __class__ and __code__ included, is that of the
 * face. Only calls go to the C function, by vectorcall and without a bound method, as
 * those of a method_descriptor do. Where the object is not one of the owner's, the face
 * is called. */
#ifndef CL_CORE_METHOD_H
#define CL_CORE_METHOD_H

#include "base/compat.h"
#include "core/state.h"

/* Returns a method of `owner` that calls what `def` defines, METH_FASTCALL |
 * METH_KEYWORDS, and looks like `function`, under the owner's name and with the
 * docstring `doc` unless that is NULL or None. `def` lives as long as the program. */
PyObject *cl_method_new(cl_state *st, PyTypeObject *owner, PyMethodDef *def,
                        PyObject *function, PyObject *doc);

/* For each method of the table whose namesake in `base` is a coroutine function of
 * Python: replaces the type's by one that looks like it. 0/-1 */
int cl_methods_look_like(cl_state *st, PyTypeObject *type,
                         PyMethodDef *methods, PyTypeObject *base);

/* How an object begins that looks like a function of Python, its face, in all but calls. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc f_vectorcall;
    PyObject *f_function; /* owned; the face */
    PyObject *f_weakrefs;
} cl_face;

/* For such a type's slots and tables. */
PyObject *cl_face_get(PyObject *self, PyObject *object, PyObject *type);
PyObject *cl_face_getattro(PyObject *self, PyObject *name);
int cl_face_setattro(PyObject *self, PyObject *name, PyObject *value);
PyObject *cl_face_repr(PyObject *self);
extern PyMethodDef cl_face_methods[];
extern PyMemberDef cl_face_members[];

PyTypeObject *cl_native_method_setup(PyObject *module, cl_state *st);

#endif
