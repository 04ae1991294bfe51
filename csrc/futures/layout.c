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

typedef struct {
    const char *name;
    uintptr_t value;
} raw_field;

/* 0/-1 */
static int
put_numbers(PyObject *dict, const raw_field *fields, size_t count)
{
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(fields[i].value);
        status = number == NULL
                     ? -1
                     : PyDict_SetItemString(dict, fields[i].name, number);
        Py_XDECREF(number);
    }
    return status;
}

#define RAW(name) {#name, (uintptr_t)self->name},
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static int
put_future(PyObject *dict, const FutureObject *self)
{
    const raw_field fields[] = {CL_FUTURE_OBJECTS(RAW) RAW(
        f_state) CL_FUTURE_REST(RAW, RAW, RAW, RAW, CL_NO_FIELD)};
    return put_numbers(dict, fields, COUNT(fields));
}

/* The fields that a future does not have. */
static int
put_task(PyObject *dict, const TaskObject *self)
{
    const raw_field fields[] = {
        CL_TASK_HEAD(RAW, RAW) CL_TASK_OBJECTS(RAW) CL_TASK_REST(RAW)
#if CL_HAS_AWAITED_BY
            {"t_next",
             (uintptr_t)self->t_node.next - offsetof(TaskObject, t_node)},
        {"t_prev",
         (uintptr_t)self->t_node.prev - offsetof(TaskObject, t_node)},
#endif
    };
    return put_numbers(dict, fields, COUNT(fields));
}

PyObject *
cl_layout_raw_fields(cl_state *st, PyObject *object)
{
    PyObject *type = (PyObject *)Py_TYPE(object), *fields;
    const cl_futures *futures = cl_futures_of(st);
    if (!futures->layouts_fit ||
        (type != futures->asyncio_Future && type != futures->asyncio_Task)) {
        PyErr_SetString(PyExc_RuntimeError, "not laid out as expected");
        return NULL;
    }
    if ((fields = PyDict_New()) == NULL)
        return NULL;
    if (put_future(fields, (const FutureObject *)object) < 0 ||
        (type == futures->asyncio_Task &&
         put_task(fields, (const TaskObject *)object) < 0))
        Py_CLEAR(fields);
    return fields;
}
