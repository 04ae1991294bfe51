/* flow.c - see flow.h. */
#include "net/flow.h"

#include "core/errors.h"
#include "net/transport.h"

/* ---------------------------------------------------------------------- water marks */

/* Computes the limits as asyncio does. *high and *low are owned, NULL if not
 * given. Returns 1 if they are valid, 0 if not, -1 on error. */
static int
complete_limits(PyObject **high, PyObject **low, size_t standard)
{
    PyObject *four = PyLong_FromLong(4), *zero = PyLong_FromLong(0);
    int valid = -1;
    if (four == NULL || zero == NULL)
        goto done;
    if (*high == NULL)
        *high = *low == NULL ? PyLong_FromSize_t(standard)
                             : PyNumber_Multiply(four, *low);
    if (*high != NULL && *low == NULL)
        *low = PyNumber_FloorDivide(*high, four);
    if (*high == NULL || *low == NULL)
        goto done;
    valid = PyObject_RichCompareBool(*high, *low, Py_GE);
    if (valid > 0)
        valid = PyObject_RichCompareBool(*low, zero, Py_GE);
done:
    Py_XDECREF(four);
    Py_XDECREF(zero);
    return valid;
}

/* The number of bytes as an int, clipped: no buffer gets larger, and infinity
 * means that there is no limit. 0/-1 */
static int
clip(PyObject *number, size_t *bytes)
{
    PyObject *whole = PyNumber_Long(number);
    if (whole == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return -1;
        PyErr_Clear();
        *bytes = PY_SSIZE_T_MAX;
        return 0;
    }
    *bytes = (size_t)PyNumber_AsSsize_t(whole, NULL);
    Py_DECREF(whole);
    return PyErr_Occurred() ? -1 : 0;
}

int
cl_flow_limits(const char *format, PyObject *args, PyObject *kwargs,
               size_t standard, cl_limits *limits)
{
    static char *keywords[] = {"high", "low", NULL};
    PyObject *high = Py_None, *low = Py_None;
    int status = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, keywords, &high,
                                     &low))
        return -1;
    high = high == Py_None ? NULL : Py_NewRef(high);
    low = low == Py_None ? NULL : Py_NewRef(low);
    int valid = complete_limits(&high, &low, standard);
    cl_limits clipped;
    if (valid == 0) {
        PyErr_Format(PyExc_ValueError,
                     "high (%R) must be >= low (%R) must be >= 0", high, low);
    }
    else if (valid > 0 && clip(high, &clipped.high) == 0 &&
             clip(low, &clipped.low) == 0) {
        *limits = clipped;
        status = 0;
    }
    Py_XDECREF(high);
    Py_XDECREF(low);
    return status;
}

PyObject *
cl_flow_limits_tuple(const cl_limits *limits)
{
    return Py_BuildValue("(nn)", (Py_ssize_t)limits->low,
                         (Py_ssize_t)limits->high);
}

/* ------------------------------------------------------------ pausing and resuming */

int
cl_flow_tell(const cl_flow_target *target, bool pause)
{
    cl_state *st = target->loop->l_st;
    PyObject *protocol = Py_XNewRef(target->protocol), *result = NULL;
    PyObject *context =
        target->connection == NULL
            ? NULL
            : cl_transport_enter_from_outside(target->connection);
    int status = 0;
    cl_net_counts_of(target->loop)->nc_pauses += pause;
    if (protocol != NULL) {
        result = PyObject_CallMethodNoArgs(
            protocol, pause ? cl_net_of(st)->str_pause_writing
                            : cl_net_of(st)->str_resume_writing);
        status = result == NULL ? -1 : 0;
    }
    Py_XDECREF(result);
    if (context != NULL)
        status = cl_transport_leave(context, status);
    if (status < 0 && !cl_error_is_exit()) {
        PyObject *exception = PyErr_GetRaisedException();
        status = cl_report_transport(
            target->loop,
            pause ? "protocol.pause_writing() failed"
                  : "protocol.resume_writing() failed",
            exception, target->transport, target->transports_protocol);
        Py_DECREF(exception);
    }
    Py_XDECREF(protocol);
    return status;
}

static int
tell(TransportObject *self, bool pause)
{
    const cl_flow_target target = {self->tr_loop, self, self->tr_protocol,
                                   (PyObject *)self, self->tr_protocol};
    return cl_flow_tell(&target, pause);
}

int
cl_transport_maybe_pause(TransportObject *self)
{
    if ((self->tr_flags & (CL_T_PROTOCOL_PAUSED | CL_T_NOT_OPEN)) != 0 ||
        cl_transport_write_buffer_size(self) <= self->tr_limits.high)
        return 0;
    self->tr_flags |= CL_T_PROTOCOL_PAUSED;
    return tell(self, true);
}

int
cl_transport_maybe_resume(TransportObject *self)
{
    if ((self->tr_flags & CL_T_PROTOCOL_PAUSED) == 0 ||
        (self->tr_flags & CL_T_NOT_OPEN) != 0 ||
        cl_transport_write_buffer_size(self) > self->tr_limits.low)
        return 0;
    self->tr_flags &= (uint16_t)~CL_T_PROTOCOL_PAUSED;
    return tell(self, false);
}

/* ------------------------------------------------------------------- lost connections */

int
cl_flow_lost_write(LoopObject *loop, uint32_t *count, const char *message)
{
    cl_net *net = cl_net_of(loop->l_st);
    /* A program may have changed it. */
    PyObject *most = PyObject_GetAttr(
        net->constants_module, net->str_LOG_THRESHOLD_FOR_CONNLOST_WRITES);
    PyObject *number = PyLong_FromUnsignedLong((*count)++);
    int many = most == NULL || number == NULL
                   ? -1
                   : PyObject_RichCompareBool(number, most, Py_GE);
    Py_XDECREF(most);
    Py_XDECREF(number);
    return many > 0 ? cl_log(loop, net->str_warning, message, NULL, NULL, NULL)
                    : many;
}
