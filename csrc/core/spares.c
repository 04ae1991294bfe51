/* spares.c - see spares.h. */
#include "core/spares.h"

#include <string.h>

static inline PyObject **
next_of(PyObject *self)
{
    return (PyObject **)((char *)self + sizeof(PyObject));
}

#ifdef CL_DEBUG
void
cl_spares_check(const cl_spares *spares)
{
    int found = 0;
    for (PyObject *self = spares->first; self != NULL; self = *next_of(self)) {
        cl_assertf(++found <= spares->count, "more than %d", spares->count);
        cl_assertf(Py_REFCNT(self) == 0, "%p is spare, and has %zd references",
                   (void *)self, (Py_ssize_t)Py_REFCNT(self));
    }
    cl_assertf(found == spares->count && found <= CL_SPARES_OBJECTS,
               "%d of %d", found, spares->count);
}
#endif

PyObject *
cl_spares_take(cl_spares *spares, PyTypeObject *type, size_t size)
{
    cl_assert_gil();
    cl_check_stress(spares == NULL ? (void)0 : cl_spares_check(spares));
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
        cl_check_stress(cl_spares_check(spares));
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
