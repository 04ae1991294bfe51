/* spares.h - memory of objects of one type, which a loop keeps for reuse.
 *
 * A loop has one list for each type whose objects come and go with its callbacks. An
 * object's memory goes back to its own loop's list, so loops of several threads share
 * none; an object owns a reference to its loop until then. Whoever drops the last
 * reference in another thread gives it back from there: the GIL guards the list. */
#ifndef CL_CORE_SPARES_H
#define CL_CORE_SPARES_H

#include "base/compat.h"

/* Kept in each list. */
#define CL_SPARES_OBJECTS 256

/* Linked by the pointer that comes after the head. Nothing in them is owned, not the
 * type either. */
typedef struct {
    PyObject *first;
    int count;
} cl_spares;

/* Memory for an object of exactly this type, from the spares if there is one; these may
 * be NULL. The fields after the head are zero, and it is not tracked yet. */
PyObject *cl_spares_take(cl_spares *spares, PyTypeObject *type, size_t size);

/* What is left of a dealloc when the object is untracked and cleared. It is freed if
 * `spares` is NULL. */
void cl_spares_give(cl_spares *spares, PyObject *self);

void cl_spares_free(cl_spares *spares);

#endif
