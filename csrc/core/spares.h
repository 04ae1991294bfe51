/* spares.h - free lists of a loop: memory of objects of one type, kept for
 * reuse.
 *
 * A loop has one list for each type whose objects are often created and freed.
 * Memory returns to the list of the loop it came from, so loops in different
 * threads share nothing. For this the object owns a reference to its loop. Any
 * thread may drop the last reference to an object, so the GIL guards the list.
 */
#ifndef CL_CORE_SPARES_H
#define CL_CORE_SPARES_H

#include "base/compat.h"

#include <string.h>

/* Objects per list. */
#define CL_SPARES_OBJECTS CL_TINY(2, 256)

/* Linked by the pointer after the object head. They own nothing, not even
 * their type. */
typedef struct {
    PyObject *first;
    int count;
} cl_spares;

#ifdef CL_DEBUG
void cl_spares_check(const cl_spares *spares);
#endif

static inline PyObject **
cl_spares_next(PyObject *self)
{
    return (PyObject **)((char *)self + sizeof(PyObject));
}

/* Four memset(), because compilers make `rep stos` of a larger one, which
 * takes long to begin. `size` is a constant where this is inlined. */
static inline void
cl_spares_zero(char *fields, size_t size)
{
    size_t part = size / 4 & ~(size_t)7;
    memset(fields, 0, part);
    memset(fields + part, 0, part);
    memset(fields + 2 * part, 0, part);
    memset(fields + 3 * part, 0, size - 3 * part);
}

/* Returns the first object of the list, which is not empty. The field after
 * the head is garbage, the others are as they were. Untracked. */
static inline PyObject *
cl_spares_pop(cl_spares *spares, PyTypeObject *type)
{
    PyObject *self = spares->first;
    cl_check_stress(cl_spares_check(spares));
    spares->first = *cl_spares_next(self);
    spares->count--;
    PyObject_Init(self, type);
    return self;
}

/* Returns memory for an object of exactly this type, from the list if
 * possible; `spares` may be NULL. The fields after the head are zero, and it
 * is untracked. */
static inline PyObject *
cl_spares_take(cl_spares *spares, PyTypeObject *type, size_t size)
{
    cl_assert_gil();
    PyObject *self;
    if (spares != NULL && spares->first != NULL)
        self = cl_spares_pop(spares, type);
    else if ((self = PyObject_GC_New(PyObject, type)) == NULL)
        return NULL;
    cl_spares_zero((char *)cl_spares_next(self), size - sizeof(PyObject));
    return self;
}

static inline void
cl_spares_give_or_free(cl_spares *spares, PyObject *self, bool reusable)
{
    PyTypeObject *type = Py_TYPE(self);
    if (reusable && spares != NULL && spares->count < CL_SPARES_OBJECTS) {
        *cl_spares_next(self) = spares->first;
        spares->first = self;
        spares->count++;
        cl_check_stress(cl_spares_check(spares));
    }
    else {
        type->tp_free(self);
    }
    Py_DECREF(type);
}

/* The last step of a dealloc, when the object is untracked and cleared. Frees
 * it if `spares` is NULL. */
static inline void
cl_spares_give(cl_spares *spares, PyObject *self)
{
    /* The mark would stay. */
    cl_spares_give_or_free(spares, self, !cl_is_finalized(self));
}

/* The same for an object of a type without tp_finalize. */
static inline void
cl_spares_give_plain(cl_spares *spares, PyObject *self)
{
    cl_assert(Py_TYPE(self)->tp_finalize == NULL);
    cl_spares_give_or_free(spares, self, true);
}

void cl_spares_free(cl_spares *spares);

#endif
