/* layout.c - see layout.h. */
#include "futures/layout.h"

#define VISIT(name) Py_VISIT(self->name);
#define CLEAR(name) Py_CLEAR(self->name);

/* The objects that are not in CL_FUTURE_OBJECTS. */
static int
visit_rest(FutureObject *self, visitproc visit, void *arg)
{
#if CL_HAS_MANAGED_DICT
    return PyObject_VisitManagedDict((PyObject *)self, visit, arg);
#else
    Py_VISIT(self->f_dict);
#if CL_HAS_KEPT_CANCELLATION
    Py_VISIT(self->f_cancelled_exc);
#elif CL_HAS_CANCEL_MESSAGE
    Py_VISIT(self->f_cancelled_type);
    Py_VISIT(self->f_cancelled_value);
    Py_VISIT(self->f_cancelled_tb);
#endif
    return 0;
#endif
}

static void
drop_rest(FutureObject *self)
{
#if CL_HAS_AWAITED_BY
    self->f_awaited_by_is_set = 0;
#endif
#if CL_HAS_MANAGED_DICT
    (void)self;
#elif CL_HAS_KEPT_CANCELLATION
    Py_CLEAR(self->f_cancelled_exc);
#elif CL_HAS_CANCEL_MESSAGE
    Py_CLEAR(self->f_cancelled_type);
    Py_CLEAR(self->f_cancelled_value);
    Py_CLEAR(self->f_cancelled_tb);
#else
    (void)self;
#endif
}

static void
drop_dict(FutureObject *self)
{
#if CL_HAS_MANAGED_DICT
    PyObject_ClearManagedDict((PyObject *)self);
#else
    Py_CLEAR(self->f_dict);
#endif
}

int
cl_future_visit(FutureObject *self, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(self);
    CL_FUTURE_OBJECTS(VISIT)
    return visit_rest(self, visit, arg);
}

int
cl_task_visit(TaskObject *self, visitproc visit, void *arg)
{
    CL_TASK_OBJECTS(VISIT)
    return cl_future_visit((FutureObject *)self, visit, arg);
}

void
cl_future_drop(FutureObject *self)
{
    CL_FUTURE_OBJECTS(CLEAR)
    drop_rest(self);
    drop_dict(self);
}

void
cl_task_forget(TaskObject *self)
{
    CL_FUTURE_OBJECTS(CLEAR)
    CL_TASK_OBJECTS(CLEAR)
    drop_rest((FutureObject *)self);
}

void
cl_task_drop(TaskObject *self)
{
    cl_task_forget(self);
    drop_dict((FutureObject *)self);
}

static int
put_number(PyObject *dict, const char *name, uintptr_t value)
{
    PyObject *number = PyLong_FromUnsignedLongLong(value);
    int status =
        number == NULL ? -1 : PyDict_SetItemString(dict, name, number);
    Py_XDECREF(number);
    return status;
}

PyObject *
cl_layout_raw_fields(cl_state *st, PyObject *object)
{
    TaskObject *task = (TaskObject *)object;
    PyObject *type = (PyObject *)Py_TYPE(object), *fields;
    bool put;
    const cl_futures *futures = cl_futures_of(st);
    if (!futures->layouts_fit ||
        (type != futures->asyncio_Future && type != futures->asyncio_Task)) {
        PyErr_SetString(PyExc_RuntimeError, "not laid out as expected");
        return NULL;
    }
    if ((fields = PyDict_New()) == NULL)
        return NULL;
#define PUT(name) &&put_number(fields, #name, (uintptr_t)task->name) == 0
    put = true CL_FUTURE_OBJECTS(PUT) PUT(f_state)
        CL_FUTURE_REST(PUT, PUT, PUT, PUT, CL_NO_FIELD);
    if (type == futures->asyncio_Task) {
        put =
            put CL_TASK_HEAD(PUT, PUT) CL_TASK_OBJECTS(PUT) CL_TASK_REST(PUT);
#if CL_HAS_AWAITED_BY
        put = put &&
              put_number(fields, "t_next",
                         (uintptr_t)task->t_node.next -
                             offsetof(TaskObject, t_node)) == 0 &&
              put_number(fields, "t_prev",
                         (uintptr_t)task->t_node.prev -
                             offsetof(TaskObject, t_node)) == 0;
#endif
    }
#undef PUT
    if (!put)
        Py_CLEAR(fields);
    return fields;
}
