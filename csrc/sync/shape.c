/* shape.c - see shape.h. */
#include "sync/shape.h"

int
cl_shape_init(cl_shape *shape, const char *const *names, int required)
{
    shape->sh_inline = shape->sh_adds = false;
    shape->sh_stamps[0] = shape->sh_stamps[1] = CL_INLINE_STAMP_OF_NONE;
    shape->sh_required = 0;
    for (shape->sh_count = 0; names[shape->sh_count] != NULL;
         shape->sh_count++) {
        PyObject *name = PyUnicode_InternFromString(names[shape->sh_count]);
        if (name == NULL) {
            cl_shape_clear(shape);
            return -1;
        }
        shape->sh_names[shape->sh_count] = name;
    }
    shape->sh_required = required;
    return 0;
}

void
cl_shape_clear(cl_shape *shape)
{
    for (int i = 0; i < shape->sh_count; i++)
        Py_CLEAR(shape->sh_names[i]);
    shape->sh_count = shape->sh_required = 0;
    shape->sh_inline = shape->sh_adds = false;
    shape->sh_stamps[0] = shape->sh_stamps[1] = CL_INLINE_STAMP_OF_NONE;
}

/* Finds where the sample stores the attribute: an index, -1 if not in the
 * object, -2 with an exception. */
static int
find(PyObject *sample, PyObject *name)
{
    PyObject *mark = PyList_New(0);
    int found = -1;
    if (mark == NULL || PyObject_SetAttr(sample, name, mark) < 0) {
        Py_XDECREF(mark);
        return -2;
    }
    PyObject **values = cl_inline_values(sample);
    for (int i = 0; values != NULL && i < CL_INLINE_VALUES_MAX && found < 0;
         i++) {
        if (values[i] == mark)
            found = i;
    }
    Py_DECREF(mark);
    return found;
}

int
cl_shape_learn(cl_shape *shape, PyObject *sample)
{
    if (!cl_type_has_inline_values(Py_TYPE(sample)))
        return 0;
    for (int i = 0; i < shape->sh_count; i++) {
        int slot = find(sample, shape->sh_names[i]);
        if (slot < 0)
            return slot == -1 ? 0 : -1;
        shape->sh_slots[i] = slot;
    }
    PyObject **values = cl_inline_values(sample);
    shape->sh_inline = values != NULL &&
                       cl_inline_count(values) == shape->sh_count &&
                       shape->sh_count > 0;
    /* The sample had no attributes before: the order is that of above. */
    shape->sh_adds = shape->sh_inline;
    for (int i = 0; shape->sh_adds && i < shape->sh_count; i++)
        shape->sh_adds = cl_inline_nth(values, i) == shape->sh_slots[i];
    return 0;
}

static bool
look_inline(cl_shape *shape, PyObject *self, PyObject **values, cl_view *view)
{
    int set = 0;
    view->v_values = values;
    view->v_dict = NULL;
    for (int i = 0; i < shape->sh_count; i++) {
        PyObject *value = view->v_at[i] = values[shape->sh_slots[i]];
        if (value != NULL)
            set++;
        else if (i < shape->sh_required)
            return false;
    }
    if (set != cl_inline_count(values))
        return false;
    cl_inline_stamp_init(&shape->sh_stamps[set == shape->sh_count], values);
    cl_check_stress(cl_shape_check(shape, self, view, shape->sh_count));
    (void)self;
    return true;
}

PyObject *
cl_shape_dict(PyObject *self)
{
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    Py_XDECREF(dict); /* `self` has a reference */
    return dict;
}

static bool
look_in_dict(const cl_shape *shape, PyObject *self, cl_view *view)
{
    Py_ssize_t set = 0;
    view->v_values = NULL;
    view->v_dict = cl_shape_dict(self);
    if (view->v_dict == NULL) {
        PyErr_Clear();
        return false;
    }
    for (int i = 0; i < shape->sh_count; i++) {
        PyObject *value = view->v_at[i] =
            PyDict_GetItemWithError(view->v_dict, shape->sh_names[i]);
        if (value != NULL)
            set++;
        else if (PyErr_Occurred() || i < shape->sh_required)
            goto not ;
    }
    return set == PyDict_GET_SIZE(view->v_dict);
    not : PyErr_Clear();
    return false;
}

bool
cl_shape_look_slowly(cl_shape *shape, PyObject *self, cl_view *view)
{
    PyObject **values = shape->sh_inline ? cl_inline_values(self) : NULL;
    return values == NULL ? look_in_dict(shape, self, view)
                          : look_inline(shape, self, values, view);
}

#ifdef CL_DEBUG
void
cl_shape_check(const cl_shape *shape, PyObject *self, const cl_view *view,
               int count)
{
    for (int i = 0; i < count; i++) {
        if (view->v_at[i] == NULL)
            continue;
        PyObject *found = PyObject_GenericGetAttr(self, shape->sh_names[i]);
        cl_assertf(found == view->v_at[i], "attribute %d of a %s", i,
                   Py_TYPE(self)->tp_name);
        Py_DECREF(found);
    }
}
#endif
