/* shape.h - reads the attributes of asyncio's objects without looking up each.
 *
 * A shape lists the attributes of the objects of a class: first those that all
 * have, then optional ones. cl_shape_look() gets their values if the object
 * has these attributes and no others, so none can hide a method of the class.
 * The values are read where the object stores them inline (cl_inline_values()
 * in compat.h), else from its dict. cl_shape_learn() finds the inline order
 * with a sample object. */
#ifndef CL_SYNC_SHAPE_H
#define CL_SYNC_SHAPE_H

#include "base/compat.h"

#define CL_SHAPE_MAX 9

typedef struct {
    PyObject *sh_names[CL_SHAPE_MAX]; /* owned; interned */
    int sh_slots[CL_SHAPE_MAX];
    int sh_required; /* the first ones: all objects have them */
    int sh_count;
    bool sh_inline; /* sh_slots is filled in */
    bool sh_adds;   /* cl_inline_add() works for a new object */
    /* Of the last objects without and with all optional attributes. */
    cl_inline_stamp sh_stamps[2];
} cl_shape;

/* An object's attributes, borrowed. Valid until Python code runs, or an
 * attribute is set without cl_view_set(). */
typedef struct {
    PyObject *v_at[CL_SHAPE_MAX]; /* NULL: not set */
    PyObject **v_values;          /* NULL: they are in v_dict */
    PyObject *v_dict;
} cl_view;

/* Takes up to CL_SHAPE_MAX names; the first `required` are always set. 0/-1 */
int cl_shape_init(cl_shape *shape, const char *const *names, int required);

/* Sets attributes of `sample`, an object of the class that nobody else uses.
 * 0/-1 */
int cl_shape_learn(cl_shape *shape, PyObject *sample);
void cl_shape_clear(cl_shape *shape);

/* Returns the object's dict, borrowed; NULL with an exception. */
PyObject *cl_shape_dict(PyObject *self);

#ifdef CL_DEBUG
/* Checks that an ordinary look-up finds the same first values. */
void cl_shape_check(const cl_shape *shape, PyObject *self, const cl_view *view,
                    int count);
#endif

/* cl_shape_look() for other objects than those with a known stamp; it learns
 * the stamp of objects with inline values. */
bool cl_shape_look_slowly(cl_shape *shape, PyObject *self, cl_view *view);

/* Gets the first `count` attributes at least. */
static CL_INLINED bool
cl_shape_look_first(cl_shape *shape, PyObject *self, cl_view *view, int count)
{
    PyObject **values = shape->sh_inline ? cl_inline_place(self) : NULL;
    if (values == NULL ||
        (!cl_inline_stamp_fits(&shape->sh_stamps[1], values) &&
         !cl_inline_stamp_fits(&shape->sh_stamps[0], values)))
        return cl_shape_look_slowly(shape, self, view);
    view->v_values = values;
    view->v_dict = NULL; /* unused then, but gcc warns */
    for (int i = 0; i < count; i++)
        view->v_at[i] = values[shape->sh_slots[i]];
    cl_check_stress(cl_shape_check(shape, self, view, count));
    return true;
}

static inline bool
cl_shape_look(cl_shape *shape, PyObject *self, cl_view *view)
{
    return cl_shape_look_first(shape, self, view, shape->sh_count);
}

/* Sets the first attributes of a new object, which has none yet. 0/-1 */
static inline int
cl_shape_fill(const cl_shape *shape, PyObject *self, PyObject *const *values,
              int count)
{
    PyObject **inlined = shape->sh_adds ? cl_inline_values(self) : NULL;
    for (int i = 0; i < count; i++) {
        if (inlined != NULL)
            cl_inline_add(inlined, shape->sh_slots[i], values[i]);
        else if (PyObject_GenericSetAttr(self, shape->sh_names[i], values[i]) <
                 0)
            return -1;
    }
    return 0;
}

/* Sets an attribute that is not set. Runs no code. 0/-1 */
static inline int
cl_view_add(const cl_shape *shape, cl_view *view, PyObject *self, int index,
            PyObject *value)
{
    cl_assert(index < shape->sh_count && view->v_at[index] == NULL);
    view->v_at[index] = value;
    if (view->v_values == NULL || !shape->sh_adds)
        return PyObject_GenericSetAttr(self, shape->sh_names[index], value);
    cl_inline_add(view->v_values, shape->sh_slots[index], value);
    return 0;
}

/* Sets an attribute that is set already. Runs no code but the old value's
 * destructor. 0/-1 */
static inline int
cl_view_set(const cl_shape *shape, cl_view *view, int index, PyObject *value)
{
    cl_assert(index < shape->sh_count && view->v_at[index] != NULL);
    view->v_at[index] = value;
    if (view->v_values == NULL)
        return PyDict_SetItem(view->v_dict, shape->sh_names[index], value);
    PyObject **place = view->v_values + shape->sh_slots[index];
    PyObject *old = *place;
    *place = Py_NewRef(value);
    Py_DECREF(old);
    return 0;
}

#endif
