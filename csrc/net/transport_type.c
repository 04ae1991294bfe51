/* transport_type.c - methods and attributes that all transports have, and
 * their types. See transport.h. */
#include "net/transport.h"

#include <errno.h>
#include <string.h>

#include "core/abi.h"
#include "core/args.h"
#include "core/errors.h"
#include "net/extra.h"

static const char *const protocol_argument[] = {"protocol"};

/* ------------------------------------------------------------------- methods */

static PyObject *
Transport_on_ready(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_watch_run(self->tr_loop, &self->tr_watch));
}

static PyObject *
Transport_call_connection_lost(TransportObject *self, PyObject *exception)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_transport_lost(self, exception));
}

/* For the socket object from get_extra_info(), and for cloop/_process.py. */

static PyObject *
Transport_expose(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_transport_expose(self));
}

static PyObject *
Transport_flush(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_gather_flush(self->tr_loop));
}

int
cl_extra_arguments(PyObject *args, PyObject *kwargs, PyObject **name,
                   PyObject **fallback)
{
    static char *keywords[] = {"name", "default", NULL};
    *fallback = Py_None;
    return PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info",
                                       keywords, name, fallback)
               ? 0
               : -1;
}

PyDoc_STRVAR(Transport_get_extra_info_doc,
             "get_extra_info($self, name, default=None)\n--\n\n"
             "Return information about the connection: 'peername', 'sockname' "
             "or 'socket'; default\n"
             "for other names. See asyncio's BaseTransport.get_extra_info.");

/* Calls what a program has put in the place of asyncio's method, bound as any
 * method. */
static PyObject *
call_replaced(TransportObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *above = PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type,
                                                   Py_TYPE(self), self, NULL);
    PyObject *method =
        above == NULL ? NULL : PyObject_GetAttrString(above, "get_extra_info");
    PyObject *value =
        method == NULL ? NULL : PyObject_Call(method, args, kwargs);
    Py_XDECREF(above);
    Py_XDECREF(method);
    return value;
}

static PyObject *
Transport_get_extra_info(TransportObject *self, PyObject *args,
                         PyObject *kwargs)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    PyObject *name, *fallback;
    if (cl_original_is_replaced(
            &cl_net_of(self->tr_loop->l_st)->get_extra_info))
        return call_replaced(self, args, kwargs);
    if (cl_extra_arguments(args, kwargs, &name, &fallback) < 0)
        return NULL;
    PyObject *value = cl_extra_get(self, name);
    if (value == NULL && !PyErr_Occurred())
        value = Py_NewRef(fallback);
    return value;
}

PyDoc_STRVAR(Transport_close_doc,
             "close($self, /)\n--\n\n"
             "Send the write buffer, then close the connection and call "
             "connection_lost(None).");

static PyObject *
Transport_close(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_transport_close(self));
}

/* First send held bytes: asyncio would have sent them by now. */
static int
abort_with(TransportObject *self, PyObject *exception)
{
    return cl_transport_flush(self) < 0
               ? -1
               : cl_transport_force_close(self, exception);
}

static PyObject *
Transport_abort(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(abort_with(self, NULL));
}

static PyObject *
Transport_force_close(TransportObject *self, PyObject *exception)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(
        abort_with(self, exception == Py_None ? NULL : exception));
}

static PyObject *
Transport_is_closing(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyBool_FromLong(self->tr_flags & CL_T_CLOSING);
}

static PyObject *
Transport_set_protocol(TransportObject *self, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    PyObject *protocol =
        cl_call_args_only(self->tr_loop->l_st, "set_protocol",
                          protocol_argument, args, nargs, kwnames);
    /* The old protocol gets the error of a failed write. */
    if (protocol == NULL || cl_transport_flush(self) < 0)
        return NULL;
    return cl_none_or_error(cl_transport_set_protocol(self, protocol));
}

static PyObject *
Transport_get_protocol(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return Py_NewRef(self->tr_protocol ? self->tr_protocol : Py_None);
}

PyDoc_STRVAR(
    Transport_is_reading_doc,
    "is_reading($self, /)\n--\n\n"
    "Return whether the transport is receiving: neither paused nor closing.");

static PyObject *
Transport_is_reading(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyBool_FromLong(cl_transport_is_reading(self));
}

PyDoc_STRVAR(
    Transport_pause_reading_doc,
    "pause_reading($self, /)\n--\n\n"
    "Stop receiving until resume_reading(). May be called repeatedly.");

static PyObject *
Transport_pause_reading(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (cl_transport_is_reading(self)) {
        self->tr_flags |= CL_T_PAUSED;
        cl_transport_want(self, CL_READ, false);
        if (cl_transport_debug(self, "%r pauses reading") < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    Transport_resume_reading_doc,
    "resume_reading($self, /)\n--\n\n"
    "Resume receiving after pause_reading(). May be called repeatedly.");

static PyObject *
Transport_resume_reading(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if ((self->tr_flags & (CL_T_CLOSING | CL_T_PAUSED)) == CL_T_PAUSED) {
        self->tr_flags &= (uint16_t)~CL_T_PAUSED;
        if (cl_loop_check_open(self->tr_loop) < 0)
            return NULL;
        cl_transport_want(self, CL_READ, true);
        if (cl_transport_debug(self, "%r resumes reading") < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(Transport_get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "Return the size of the write buffer in bytes.");

static PyObject *
Transport_get_write_buffer_size(TransportObject *self,
                                PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyLong_FromSize_t(cl_transport_write_buffer_size(self));
}

static PyObject *
Transport_get_write_buffer_limits(TransportObject *self,
                                  PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_flow_limits_tuple(&self->tr_limits);
}

PyDoc_STRVAR(
    Transport_set_write_buffer_limits_doc,
    "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
    "Set the water marks, in bytes: above high the protocol's pause_writing() "
    "is\n"
    "called, at or below low its resume_writing(). Raises ValueError unless\n"
    "high >= low >= 0.");

static PyObject *
Transport_set_write_buffer_limits(TransportObject *self, PyObject *args,
                                  PyObject *kwargs)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    cl_limits limits;
    /* Held bytes must stay below the high-water mark, and comparing the
     * arguments may write some. */
    if (cl_flow_limits("|OO:set_write_buffer_limits", args, kwargs,
                       CL_WRITE_HIGH, &limits) < 0 ||
        cl_transport_flush(self) < 0)
        return NULL;
    self->tr_limits = limits;
    return cl_none_or_error(cl_transport_maybe_pause(self));
}

/* asyncio's sendfile() needs the bare socket: the loop lends it. */
static PyObject *
Transport_lend_descriptor(TransportObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (cl_gather_flush(self->tr_loop) < 0)
        return NULL;
    cl_watch_stop(self->tr_loop, &self->tr_watch);
    Py_RETURN_NONE;
}

static PyObject *
Transport_take_descriptor_back(TransportObject *self,
                               PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    int fd = cl_transport_fd(self);
    if (!(self->tr_flags & CL_T_NOT_OPEN) && self->tr_watch.w_fd < 0 &&
        self->tr_loop->l_open) {
        if (fd < 0) /* it may be another transport's by now */
            return cl_none_or_error(cl_transport_fatal_errno(
                self, fd, "Fatal error on transport"));
        int err = cl_watch_start(self->tr_loop, &self->tr_watch, fd, 0);
        if (err < 0) {
            cl_raise_errno(err);
            return NULL;
        }
        /* The protocol may have resumed reading meanwhile. */
        if (cl_transport_is_reading(self))
            cl_transport_want(self, CL_READ, true);
    }
    Py_RETURN_NONE;
}

static PyMethodDef common_methods[] = {
    {"get_extra_info", CL_FAST(Transport_get_extra_info),
     METH_VARARGS | METH_KEYWORDS, Transport_get_extra_info_doc},
    {"close", (PyCFunction)Transport_close, METH_NOARGS, Transport_close_doc},
    {"is_closing", (PyCFunction)Transport_is_closing, METH_NOARGS,
     CL_DOC_IS_CLOSING},
    {"set_protocol", CL_FAST(Transport_set_protocol),
     METH_FASTCALL | METH_KEYWORDS, CL_DOC_SET_PROTOCOL},
    {"get_protocol", (PyCFunction)Transport_get_protocol, METH_NOARGS,
     CL_DOC_GET_PROTOCOL},
    {"_call_connection_lost", (PyCFunction)Transport_call_connection_lost,
     METH_O, NULL},
    {"_expose", (PyCFunction)Transport_expose, METH_NOARGS, NULL},
    {"_flush", (PyCFunction)Transport_flush, METH_NOARGS, NULL},
    {"_on_ready", (PyCFunction)Transport_on_ready, METH_NOARGS, NULL},
    {NULL}};

static PyMethodDef reading_methods[] = {
    {"is_reading", (PyCFunction)Transport_is_reading, METH_NOARGS,
     Transport_is_reading_doc},
    {"pause_reading", (PyCFunction)Transport_pause_reading, METH_NOARGS,
     Transport_pause_reading_doc},
    {"resume_reading", (PyCFunction)Transport_resume_reading, METH_NOARGS,
     Transport_resume_reading_doc},
    {NULL}};

static PyMethodDef writing_methods[] = {
    {"abort", (PyCFunction)Transport_abort, METH_NOARGS, CL_DOC_ABORT},
    {"get_write_buffer_size", (PyCFunction)Transport_get_write_buffer_size,
     METH_NOARGS, Transport_get_write_buffer_size_doc},
    {"get_write_buffer_limits", (PyCFunction)Transport_get_write_buffer_limits,
     METH_NOARGS, CL_DOC_GET_WRITE_BUFFER_LIMITS},
    {"set_write_buffer_limits", CL_FAST(Transport_set_write_buffer_limits),
     METH_VARARGS | METH_KEYWORDS, Transport_set_write_buffer_limits_doc},
    {"_force_close", (PyCFunction)Transport_force_close, METH_O, NULL},
    {"_lend_descriptor", (PyCFunction)Transport_lend_descriptor, METH_NOARGS,
     NULL},
    {"_take_descriptor_back", (PyCFunction)Transport_take_descriptor_back,
     METH_NOARGS, NULL},
    {NULL}};

/* ---------------------------------------- attributes that asyncio's classes have */

static PyObject *
or_none(PyObject *value)
{
    return Py_NewRef(value == NULL ? Py_None : value);
}

static PyObject *
get_extra(TransportObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_extra_all(self);
}

static PyObject *
get_loop(TransportObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return or_none(self->tr_flags & CL_T_NOT_OPEN ? NULL
                                                  : (PyObject *)self->tr_loop);
}

static PyObject *
get_sock(TransportObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (self->tr_flags & CL_T_NOT_OPEN)
        return or_none(NULL);
    return cl_transport_expose(self) < 0 ? NULL
                                         : Py_XNewRef(cl_extra_socket(self));
}

static PyObject *
get_fd(TransportObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_transport_expose(self) < 0 ? NULL : PyLong_FromLong(self->tr_fd);
}

PyObject *
cl_transport_get_object(PyObject *self, void *offset)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return or_none(*(PyObject **)((char *)self + (size_t)offset));
}

static PyObject *
get_flag(TransportObject *self, void *flag)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyBool_FromLong(self->tr_flags & (int)(size_t)flag);
}

static PyObject *
get_high(TransportObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyLong_FromSize_t(self->tr_limits.high);
}

static PyObject *
get_low(TransportObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyLong_FromSize_t(self->tr_limits.low);
}

static PyObject *
get_conn_lost(TransportObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyLong_FromUnsignedLong(self->tr_conn_lost);
}

static PyObject *
get_buffer_size(TransportObject *self, void *Py_UNUSED(closure))
{
    return Transport_get_write_buffer_size(self, NULL);
}

#define OBJECT(name, field) \
    {name, (getter)cl_transport_get_object, NULL, NULL, \
     (void *)offsetof(TransportObject, field)}
#define FLAG(name, flag) {name, (getter)get_flag, NULL, NULL, (void *)flag}

static PyGetSetDef common_getset[] = {
    {"_extra", (getter)get_extra},
    {"_loop", (getter)get_loop},
    {"_sock", (getter)get_sock},
    {"_sock_fd", (getter)get_fd},
    OBJECT("_protocol", tr_protocol),
    OBJECT("_server", tr_server),
    OBJECT("_context", tr_context),
    FLAG("_closing", CL_T_CLOSING),
    FLAG("_paused", CL_T_PAUSED),
    FLAG("_eof", CL_T_EOF),
    FLAG("_protocol_connected", CL_T_CONNECTED),
    FLAG("_protocol_paused", CL_T_PROTOCOL_PAUSED),
    {"_conn_lost", (getter)get_conn_lost},
    {"_high_water", (getter)get_high},
    {"_low_water", (getter)get_low},
    {"_buffer_size", (getter)get_buffer_size},
    {NULL}};

PyMemberDef cl_transport_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(cl_transport_head, th_dict),
     READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET,
     offsetof(cl_transport_head, th_weakrefs), READONLY, NULL},
    {NULL}};

/* -1 with an exception if it is no size; it may be negative. */
static Py_ssize_t
as_size(PyObject *value)
{
    PyObject *number = PyNumber_Index(value);
    Py_ssize_t size = number == NULL ? -1 : PyLong_AsSsize_t(number);
    Py_XDECREF(number);
    return size;
}

int
cl_transport_set_attribute(PyObject *self, PyObject *name, PyObject *value,
                           uint32_t *read_max)
{
    if (!PyUnicode_Check(name) ||
        PyUnicode_CompareWithASCIIString(name, "max_size") != 0)
        return PyObject_GenericSetAttr(self, name, value);
    CL_CLAIM_TRANSPORT(self, -1);
    if (PyObject_GenericSetAttr(self, name, value) < 0)
        return -1;
    Py_ssize_t size = value == NULL ? CL_READ_MAX : as_size(value);
    if (size == -1 && PyErr_Occurred())
        PyErr_Clear(); /* as in asyncio, reading raises it */
    *read_max = size <= 0 ? 0 : size > INT32_MAX ? INT32_MAX : (uint32_t)size;
    return 0;
}

int
cl_transport_check_max_size(TransportObject *self, const char *call)
{
    PyObject *value = PyObject_GetAttrString((PyObject *)self, "max_size");
    Py_ssize_t size = value == NULL ? -1 : as_size(value);
    Py_XDECREF(value);
    if (size < 0 && !PyErr_Occurred()) {
        if (call == NULL)
            cl_raise_errno(-EINVAL);
        else
            PyErr_Format(PyExc_ValueError, "negative buffersize in %s", call);
    }
    return size < 0 ? -1 : 0;
}

/* --------------------------------------------------------------------- slots */

PyObject *
cl_transport_repr(PyObject *op)
{
    TransportObject *self = (TransportObject *)op;
    CL_CLAIM_REPR(self->tr_loop, self);
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    name = name == NULL ? Py_TYPE(self)->tp_name : name + 1;
    if (self->tr_flags & CL_T_NOT_OPEN)
        return PyUnicode_FromFormat("<%s closed fd=%d>", name, self->tr_fd);
    const char *closing = self->tr_flags & CL_T_CLOSING ? " closing" : "";
    if (self->tr_loop->l_closed)
        return PyUnicode_FromFormat("<%s%s fd=%d>", name, closing,
                                    self->tr_fd);
    unsigned want = self->tr_watch.w_want;
    return PyUnicode_FromFormat("<%s%s fd=%d read=%s write=<%s, bufsize=%zu>>",
                                name, closing, self->tr_fd,
                                want & CL_READ ? "polling" : "idle",
                                want & CL_WRITE ? "polling" : "idle",
                                cl_transport_write_buffer_size(self));
}

/* Whether asyncio's class leaves room for our fields. */
static bool
has_room(PyObject *base)
{
    const PyTypeObject *type = (PyTypeObject *)base;
    return PyType_Check(base) &&
           type->tp_basicsize <=
               (Py_ssize_t)offsetof(TransportObject, tr_dict) &&
           type->tp_itemsize == 0 && type->tp_dictoffset == 0 &&
           type->tp_weaklistoffset == 0;
}

/* asyncio's transports are used then. The types are created all the same, from
 * another base class. 0/-1 */
static int
leave_to_asyncio(cl_net *net)
{
    static const char *const parts[] = {"transports", "TLS"};
    for (int i = 0; i < 2; i++) {
        PyErr_SetString(PyExc_TypeError,
                        "asyncio.transports._FlowControlMixin has other "
                        "fields");
        if (cl_abi_lacks(parts[i]) < 0)
            return -1;
    }
    PyObject *module = PyImport_ImportModule("asyncio.transports");
    if (module == NULL)
        return -1;
    Py_XSETREF(net->FlowControlMixin,
               PyObject_GetAttrString(module, "Transport"));
    Py_DECREF(module);
    return net->FlowControlMixin == NULL ? -1 : 0;
}

PyTypeObject *
cl_transport_type(PyObject *module, cl_state *st, PyType_Spec *spec,
                  PyObject *bases, unsigned directions)
{
    Py_BUILD_ASSERT(CL_HAS_TRANSPORT_HEAD(TransportObject, tr_extra, tr_dict,
                                          tr_weakrefs, tr_loop));
    cl_net *net = cl_net_of(st);
    PyObject *other = NULL;
    if (!has_room(net->FlowControlMixin)) {
        if (leave_to_asyncio(net) < 0 ||
            (other = PyTuple_Pack(1, net->FlowControlMixin)) == NULL)
            return NULL;
        bases = other;
    }
    PyTypeObject *type = cl_type_new(module, st, spec, bases,
                                     offsetof(TransportObject, tr_dict),
                                     offsetof(TransportObject, tr_weakrefs));
    Py_XDECREF(other);
    if (type == NULL)
        return NULL;
    PyObject *max_size = PyLong_FromLong(CL_READ_MAX);
    if (max_size == NULL ||
        ((directions & CL_READ) &&
         PyObject_SetAttrString((PyObject *)type, "max_size", max_size) < 0) ||
        cl_type_add_methods(type, common_methods) < 0 ||
        ((directions & CL_READ) &&
         cl_type_add_methods(type, reading_methods) < 0) ||
        ((directions & CL_WRITE) &&
         cl_type_add_methods(type, writing_methods) < 0) ||
        cl_type_add_getset(type, common_getset) < 0)
        Py_CLEAR(type);
    Py_XDECREF(max_size);
    return type;
}
