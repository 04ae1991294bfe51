/* spares.c - see spares.h. */
#include "core/spares.h"

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
