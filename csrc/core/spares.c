/* spares.c - see spares.h. */
#include "core/spares.h"

#include <string.h>

static inline PyObject **
next_of(PyObject *self)
{
    return (PyObject **)((char *)self + sizeof(PyObject));
}

PyObject *
cl_spares_take(cl_spares *spares, PyTypeObject *type, size_t size)
{
    PyObject *self = spares == NULL ? NULL : spares->first;
    if (self != NULL) {
        spares->first = *next_of(self);
        spares->count--;
        PyObject_Init(self, type);
    }
    else if ((self = PyObject_GC_New(PyObject, type)) == NULL) {
        return NULL;
    }
    memset(next_of(self), 0, size - sizeof(PyObject));
    return self;
}

void
cl_spares_give(cl_spares *spares, PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (spares != NULL && spares->count < CL_SPARES_OBJECTS &&
        !cl_is_finalized(self)) {
        *next_of(self) = spares->first;
        spares->first = self;
        spares->count++;
    }
    else {
        type->tp_free(self);
    }
    Py_DECREF(type);
}

void
cl_spares_free(cl_spares *spares)
{
    PyObject *self = spares->first;
    spares->first = NULL;
    spares->count = 0;
    while (self != NULL) {
        PyObject *next = *next_of(self);
        PyObject_GC_Del(self);
        self = next;
    }
}
