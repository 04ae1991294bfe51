/* timer.c - see timer.h. */
#include "sync/timer.h"

#include "core/args.h"
#include "core/handle.h"

PyObject *
cl_timer_start(LoopObject *loop, double delay, PyObject *function,
               PyObject *const *args, Py_ssize_t nargs)
{
    double now;
    TimerHandleObject *timer;
    if (cl_loop_time(loop, &now) < 0 ||
        (timer = cl_timer_handle_new(loop, now + delay, NULL, function, args,
                                     nargs, NULL)) == NULL)
        return NULL;
    /* Python code may have closed a loop that does not run. */
    if (cl_loop_check_open(loop) == 0 && cl_loop_schedule(loop, timer) == 0)
        return (PyObject *)timer;
    cl_handle_drop(&timer->tm_handle);
    return NULL;
}

int
cl_timer_cancel(cl_state *st, PyObject *handle)
{
    TimerHandleObject *timer = (TimerHandleObject *)handle;
    if (handle == NULL)
        return 0;
    if (Py_TYPE(handle) != st->TimerHandleType) {
        PyObject *result =
            PyObject_CallMethodNoArgs(handle, cl_sync_of(st)->str_cancel);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    Py_INCREF(handle); /* what it calls may be what owns it */
    int status = cl_handle_cancel(&timer->tm_handle);
    if (status == 0)
        cl_loop_unschedule(timer->tm_handle.h_loop, timer);
    cl_handle_drop(&timer->tm_handle);
    return status;
}

bool
cl_timer_delay(PyObject *object, double *delay)
{
    if (PyFloat_CheckExact(object))
        *delay = PyFloat_AS_DOUBLE(object);
    else if (PyLong_CheckExact(object))
        *delay = PyLong_AsDouble(object);
    else
        return false;
    if (*delay != -1.0 || !PyErr_Occurred())
        return true;
    PyErr_Clear();
    return false;
}
