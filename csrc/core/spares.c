/* spares.c - see spares.h. */
#include "core/spares.h"

#ifdef CL_DEBUG
void
cl_spares_check(const cl_spares *spares)
{
    int found = 0;
    for (PyObject *self = spares->first; self != NULL;
         self = *cl_spares_next(self)) {
        cl_assertf(++found <= spares->count, "more than %d", spares->count);
        cl_assertf(Py_REFCNT(self) == 0, "%p is spare, and has %zd references",
                   (void *)self, (Py_ssize_t)Py_REFCNT(self));
    }
    cl_assertf(found == spares->count && found <= CL_SPARES_OBJECTS,
               "%d of %d", found, spares->count);
}
#endif

void
cl_spares_free(cl_spares *spares)
{
    PyObject *self = spares->first;
    spares->first = NULL;
    spares->count = 0;
    while (self != NULL) {
        PyObject *next = *cl_spares_next(self);
        PyObject_GC_Del(self);
        self = next;
    }
}
