/* shape.h - the attributes of asyncio's objects, read without a look-up for each.
 *
 * A shape lists the attributes that the objects of one class have: those that each has,
 * then those that it may have. cl_shape_look() finds their values where the object has
 * these and no others, so that none of them stands for a method of the class. Values
 * are read where the object keeps them (cl_inline_values() of compat.h), from its dict
 * otherwise. Where in the object each is, cl_shape_learn() finds out on a sample. */
#ifndef CL_SYNC_SHAPE_H
#define CL_SYNC_SHAPE_H

#include "base/compat.h"

#define CL_SHAPE_MAX 9

typedef struct {
    PyObject *sh_names[CL_SHAPE_MAX]; /* owned; interned */
    int sh_slots[CL_SHAPE_MAX];
    int sh_required; /* how many, from the first on, each object has */
    int sh_count;
    bool sh_inline; /* sh_slots are known */
} cl_shape;

/* What an object has; all borrowed, and there until Python runs or an attribute is set
 * otherwise than by cl_view_set(). */
typedef struct {
    PyObject *v_at[CL_SHAPE_MAX]; /* NULL: not set */
    PyObject **v_values;          /* or NULL: they are in v_dict */
    PyObject *v_dict;
} cl_view;

/* Takes up to CL_SHAPE_MAX names, of which `required` are there always. 0/-1 */
int cl_shape_init(cl_shape *shape, const char *const *names, int required);

/* Sets attributes of the sample, an object of the class that nobody else uses. 0/-1 */
int cl_shape_learn(cl_shape *shape, PyObject *sample);
void cl_shape_clear(cl_shape *shape);

/* The object's dict, borrowed; NULL with an exception. */
PyObject *cl_shape_dict(PyObject *self);

/* cl_shape_look() where there are no values in the object. */
bool cl_shape_look_in_dict(const cl_shape *shape, PyObject *self,
                           cl_view *view);

static inline bool
cl_shape_look(const cl_shape *shape, PyObject *self, cl_view *view)
{
    PyObject **values = shape->sh_inline ? cl_inline_values(self) : NULL;
    if (values == NULL)
        return cl_shape_look_in_dict(shape, self, view);
    int set = 0;
    view->v_values = values;
    view->v_dict = NULL; /* not looked at then, but gcc does not see that */
    for (int i = 0; i < shape->sh_count; i++) {
        PyObject *value = view->v_at[i] = values[shape->sh_slots[i]];
        if (value != NULL)
            set++;
        else if (i < shape->sh_required)
            return false;
    }
    return set == cl_inline_count(values);
}

/* Sets one that is set. Runs no Python if the old value's destructor does not. 0/-1 */
static inline int
cl_view_set(const cl_shape *shape, cl_view *view, int index, PyObject *value)
{
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
