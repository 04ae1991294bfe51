/* protocol.c - calls of the protocol. See transport.h. */
#include "net/transport.h"

#include "core/errors.h"
#include "streams/streams.h"

/* ---------------------------------------------------------------- kinds of protocols */

/* Whether the object has the attribute: 1, 0, or -1 for KeyboardInterrupt and
 * SystemExit. Other exceptions will be raised again by the call. */
static int
has(PyObject *object, PyObject *name)
{
    PyObject *value;
    int found = PyObject_GetOptionalAttr(object, name, &value);
    Py_XDECREF(value);
    if (found < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear();
        return 1;
    }
    return found;
}

int
cl_protocol_is_buffered(cl_state *st, PyObject *protocol, bool by_class)
{
    int buffered =
        by_class ? PyObject_IsInstance(protocol,
                                       cl_net_of(st)->asyncio_BufferedProtocol)
                 : 0;
    if (buffered != 0)
        return buffered;
    int receives = has(protocol, cl_net_of(st)->str_data_received);
    if (receives != 0)
        return receives < 0 ? -1 : 0;
    buffered = has(protocol, cl_net_of(st)->str_get_buffer);
    return buffered > 0 ? has(protocol, cl_net_of(st)->str_buffer_updated)
                        : buffered;
}

int
cl_transport_set_protocol(TransportObject *self, PyObject *protocol)
{
    cl_state *st = self->tr_loop->l_st;
    int buffered =
        cl_protocol_is_buffered(st, protocol, !(self->tr_flags & CL_T_PIPE));
    if (buffered < 0 || cl_streams_adopt(st, protocol) < 0)
        return -1;
    bool tls = Py_TYPE(protocol) == cl_net_of(st)->tls_type;
    bool streams = cl_streams_owns(st, protocol);
    self->tr_flags =
        (uint16_t)((self->tr_flags &
                    ~(CL_T_BUFFERED | CL_T_TLS | CL_T_STREAMS)) |
                   (buffered ? CL_T_BUFFERED : 0) | (tls ? CL_T_TLS : 0) |
                   (streams ? CL_T_STREAMS : 0) | CL_T_CONNECTED);
    Py_XSETREF(self->tr_protocol, Py_NewRef(protocol));
    return 0;
}

/* --------------------------------------------------------- protocol callbacks */

int
cl_transport_tell(TransportObject *self, PyObject *name, PyObject *arg,
                  PyObject **result)
{
    PyObject *protocol = Py_XNewRef(self->tr_protocol);
    PyObject *args[] = {protocol, arg};
    PyObject *returned =
        protocol == NULL /* closed meanwhile, in a nested run of the loop */
            ? Py_NewRef(Py_None)
            : PyObject_VectorcallMethod(name, args, arg == NULL ? 1 : 2, NULL);
    Py_XDECREF(protocol);
    if (result != NULL)
        *result = returned;
    else
        Py_XDECREF(returned);
    return returned == NULL ? -1 : 0;
}

int
cl_protocol_get_buffer(cl_state *st, PyObject *protocol, PyObject *hint,
                       const char *culprit, Py_buffer *view)
{
    PyObject *buffer =
        hint == NULL ? NULL
                     : PyObject_CallMethodOneArg(
                           protocol, cl_net_of(st)->str_get_buffer, hint);
    Py_ssize_t size = buffer == NULL ? -1 : PyObject_Size(buffer);
    int status = size < 0 ? -1 : 1;
    if (size == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
        status = -1;
    }
    if (status > 0 && PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE) < 0) {
        status = 0;
        if (PyErr_ExceptionMatches(PyExc_BufferError)) /* like recv_into() */
            PyErr_Format(PyExc_TypeError,
                         "%s a read-write bytes-like object, not %s", culprit,
                         Py_TYPE(buffer)->tp_name);
    }
    Py_XDECREF(buffer);
    return status;
}

int
cl_transport_buffer_updated(TransportObject *self, Py_ssize_t got)
{
    PyObject *count = PyLong_FromSsize_t(got);
    int status =
        count == NULL
            ? -1
            : cl_transport_tell(
                  self, cl_net_of(self->tr_loop->l_st)->str_buffer_updated,
                  count, NULL);
    Py_XDECREF(count);
    return status;
}

int
cl_transport_report_stray(TransportObject *self)
{
    if (cl_error_is_exit())
        return -1;
    PyObject *exception = PyErr_GetRaisedException();
    int status = cl_report_transport(
        self->tr_loop, "Exception in callback of a transport", exception,
        (PyObject *)self, self->tr_protocol);
    Py_DECREF(exception);
    return status;
}

/* ------------------------------------------------------------ the connection's context */

PyObject *
cl_transport_enter_from_outside(TransportObject *self)
{
    PyObject *context = Py_NewRef(self->tr_context);
    if (PyContext_Enter(context) < 0) {
        PyErr_Clear();
        Py_CLEAR(context);
    }
    return context;
}

PyObject *
cl_transport_enter(TransportObject *self)
{
    PyObject *context = Py_NewRef(self->tr_context);
    if (PyContext_Enter(context) == 0)
        return context;
    PyErr_Clear();
    Py_SETREF(context, PyContext_Copy(self->tr_context));
    if (context != NULL && PyContext_Enter(context) < 0)
        Py_CLEAR(context);
    return context;
}

int
cl_transport_leave(PyObject *context, int status)
{
    if (status == 0) {
        status = PyContext_Exit(context);
    }
    else {
        PyObject *error = NULL;
        cl_first_error(&error, status);
        cl_first_error(&error, PyContext_Exit(context));
        status = cl_raise_first(error);
    }
    Py_DECREF(context);
    return status;
}
