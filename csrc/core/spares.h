/* spares.h - memory of objects of one type, which a loop keeps for reuse.
 *
 * A loop has one list for each type whose objects come and go with its callbacks. Only
 * its own thread runs them, so nobody else takes from it. An object knows its loop, and
 * owns a reference to it until its memory was given back. */
#ifndef CL_CORE_SPARES_H
#define CL_CORE_SPARES_H

#include "base/compat.h"

/* Kept in each list. */
#define CL_SPARES_OBJECTS CL_TINY(2, 256)

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

#ifdef CL_DEBUG
void cl_spares_check(const cl_spares *spares);
#endif

#endif
