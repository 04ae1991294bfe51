/* deque.c - see deque.h. */
#include "sync/deque.h"

/* Finds the function of a method, unless another implementation has other
 * functions: then it is called by name. 0/-1 */
static int
find(PyTypeObject *deque, const char *name, int flags, PyCFunction *function)
{
    PyObject *method = PyObject_GetAttrString((PyObject *)deque, name);
    if (method == NULL)
        return -1;
    if (Py_TYPE(method) == &PyMethodDescr_Type &&
        ((PyMethodDescrObject *)method)->d_method->ml_flags == flags)
        *function = ((PyMethodDescrObject *)method)->d_method->ml_meth;
    Py_DECREF(method);
    return 0;
}

int
cl_deque_setup(cl_sync *sync)
{
    int status = 0;
#define FIND(name, flags) \
    if (status == 0) \
        status = find(sync->sy_deque, #name, flags, &sync->sy_deque_##name);
    CL_SYNC_DEQUE(FIND)
#undef FIND
    return status;
}

int
cl_deque_append(cl_state *st, PyObject *deque, PyObject *item)
{
    PyCFunction append = cl_sync_of(st)->sy_deque_append;
    PyObject *result = append != NULL && cl_deque_check(st, deque)
                           ? append(deque, item)
                           : PyObject_CallMethodOneArg(
                                 deque, cl_sync_of(st)->str_append, item);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

PyObject *
cl_deque_popleft(cl_state *st, PyObject *deque)
{
    PyCFunction popleft = cl_sync_of(st)->sy_deque_popleft;
    return popleft != NULL && cl_deque_check(st, deque)
               ? popleft(deque, NULL)
               : PyObject_CallMethodNoArgs(deque, cl_sync_of(st)->str_popleft);
}

int
cl_deque_remove(cl_state *st, PyObject *deque, PyObject *item)
{
    PyCFunction remove = cl_sync_of(st)->sy_deque_remove;
    PyObject *result;
    if (remove != NULL && cl_deque_check(st, deque)) {
        if (cl_deque_size(deque) > 0) { /* usually it is the first */
            PyObject *first = cl_deque_first(deque);
            Py_XDECREF(first); /* the deque still has a reference */
            if (first == item) {
                Py_XDECREF(cl_deque_popleft(st, deque));
                return 0;
            }
        }
        result = remove(deque, item);
    }
    else {
        result =
            PyObject_CallMethodOneArg(deque, cl_sync_of(st)->str_remove, item);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
ask(PyObject *waiter, PyObject *name)
{
    PyObject *result = PyObject_CallMethodNoArgs(waiter, name);
    int truth = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return truth;
}

int
cl_waiter_done(cl_state *st, PyObject *waiter)
{
    return cl_future_is_plain(st, waiter)
               ? ((FutureObject *)waiter)->f_state != CL_PENDING
               : ask(waiter, cl_sync_of(st)->str_done);
}

int
cl_waiter_cancelled(cl_state *st, PyObject *waiter)
{
    return cl_future_is_plain(st, waiter)
               ? ((FutureObject *)waiter)->f_state == CL_CANCELLED
               : ask(waiter, cl_sync_of(st)->str_cancelled);
}

int
cl_waiter_finish(cl_state *st, PyObject *waiter, PyObject *value)
{
    FutureObject *future = (FutureObject *)waiter;
    if (cl_future_is_plain(st, waiter) && future->f_state == CL_PENDING &&
        future->f_loop != NULL)
        return cl_future_finish(future, value);
    PyObject *result = PyObject_CallMethodOneArg(
        waiter, cl_sync_of(st)->str_set_result, value);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cl_waiter_cancel(cl_state *st, PyObject *waiter)
{
    PyObject *result =
        PyObject_CallMethodNoArgs(waiter, cl_sync_of(st)->str_cancel);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cl_waiters_each(cl_state *st, PyObject *deque,
                int (*visit)(cl_state *st, PyObject *waiter, void *arg),
                void *arg)
{
    Py_ssize_t size = cl_deque_size(deque);
    int status = 0;
    bool visited = false;
    if (size == 0)
        return 0;
    if (cl_deque_check(st, deque)) { /* often the first is enough */
        PyObject *first = cl_deque_first(deque);
        /* A future that is not ours may run code that changes the deque. */
        visited = first != NULL && cl_future_is_plain(st, first);
        if (visited)
            status = visit(st, first, arg);
        Py_XDECREF(first);
        if (first == NULL || status != 0 || (visited && size == 1))
            return first == NULL ? -1 : status;
        if (cl_deque_size(deque) != size) { /* as the iterator says */
            PyErr_SetString(PyExc_RuntimeError,
                            "deque mutated during iteration");
            return -1;
        }
    }
    PyObject *iter = PyObject_GetIter(deque), *waiter;
    if (iter == NULL)
        return -1;
    while (status == 0 && (waiter = PyIter_Next(iter)) != NULL) {
        if (!visited)
            status = visit(st, waiter, arg);
        visited = false;
        Py_DECREF(waiter);
    }
    Py_DECREF(iter);
    return status == 0 && PyErr_Occurred() ? -1 : status;
}
