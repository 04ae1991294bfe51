/* spares.h - free lists of a loop: memory of objects of one type, kept for
 * reuse.
 *
 * A loop has a list for each type whose objects come and go with its
 * callbacks. Only its own thread runs those, so nobody else takes from the
 * list. An object knows its loop, and owns a reference to it until its memory
 * was given back. */
#ifndef CL_CORE_SPARES_H
#define CL_CORE_SPARES_H

#include "base/compat.h"

/* Objects per list. */
#define CL_SPARES_OBJECTS 256

/* Linked by the pointer after the object head. They own nothing, not even
 * their type. */
typedef struct {
    PyObject *first;
    int count;
} cl_spares;

/* Returns memory for an object of exactly this type, from the list if
 * possible; `spares` may be NULL. The fields after the head are zero, and it
 * is untracked. */
PyObject *cl_spares_take(cl_spares *spares, PyTypeObject *type, size_t size);

/* The last step of a dealloc, when the object is untracked and cleared. Frees
 * it if `spares` is NULL. */
void cl_spares_give(cl_spares *spares, PyObject *self);

void cl_spares_free(cl_spares *spares);

#endif
