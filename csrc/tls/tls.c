/* tls.c - see tls.h. */
#include "tls/tls.h"

#include <stdlib.h>
#include <string.h>

#include "core/args.h"
#include "core/errors.h"
#include "net/stream.h"
#include "streams/streams.h"
#include "tls/engine.h"
#include "tls/machine.h"

static const char *const data_argument[] = {"data"};
static const char *const lines_argument[] = {"list_of_data"};
static const char *const protocol_argument[] = {"protocol"};

/* -------------------------------------------------------------------- module state */

static PyObject *
again_errors(PyObject *ssl)
{
    PyObject *read = NULL, *write = NULL, *call = NULL, *again = NULL;
    if ((read = PyObject_GetAttrString(ssl, "SSLWantReadError")) != NULL &&
        (write = PyObject_GetAttrString(ssl, "SSLWantWriteError")) != NULL &&
        (call = PyObject_GetAttrString(ssl, "SSLSyscallError")) != NULL)
        again = PyTuple_Pack(3, read, write, call);
    Py_XDECREF(read);
    Py_XDECREF(write);
    Py_XDECREF(call);
    return again;
}

static bool
wants_memorybio(void)
{
    const char *choice = getenv("CLOOP_TLS");
    return choice != NULL && strcmp(choice, "memorybio") == 0;
}

/* A program may replace them, before or later. 0/-1 */
static int
guard_methods(cl_tls_library *tls, PyObject *ssl)
{
    static const char *const names[] = {"read", "write", "__getattribute__",
                                        NULL};
    cl_guard *guard = &tls->tls_methods;
    if (!PyType_Check(tls->tls_SSLObject) || !PyModule_Check(ssl))
        return 0;
    if (cl_guard_init(guard, (PyTypeObject *)tls->tls_SSLObject, names, NULL) <
        0)
        return -1;
    for (int i = 0; i < 2; i++) {
        PyObject *method = guard->g_known[i];
        if (method == NULL || !PyFunction_Check(method) ||
            PyFunction_GET_GLOBALS(method) != PyModule_GetDict(ssl)) {
            cl_guard_clear(guard);
            break;
        }
    }
    return 0;
}

static int
fill(cl_tls_library *tls)
{
    PyObject *ssl = PyImport_ImportModule("ssl");
    PyObject *_ssl = ssl == NULL ? NULL : PyImport_ImportModule("_ssl");
    int status = -1;
    if (_ssl != NULL &&
        (tls->tls_SSLObject = PyObject_GetAttrString(ssl, "SSLObject")) !=
            NULL &&
        (tls->tls_SSLSocket = PyObject_GetAttrString(_ssl, "_SSLSocket")) !=
            NULL &&
        (tls->tls_MemoryBIO = PyObject_GetAttrString(ssl, "MemoryBIO")) !=
            NULL &&
        (tls->tls_SSLError = PyObject_GetAttrString(ssl, "SSLError")) !=
            NULL &&
        (tls->tls_CertificateError =
             PyObject_GetAttrString(ssl, "CertificateError")) != NULL &&
        (tls->tls_again = again_errors(ssl)) != NULL &&
        guard_methods(tls, ssl) == 0)
        status = wants_memorybio() ? 0 : cl_engine_setup(tls, _ssl);
    Py_XDECREF(ssl);
    Py_XDECREF(_ssl);
    return status;
}

static void
free_library(cl_tls_library *library)
{
#define CLEAR(name) Py_XDECREF(library->tls_##name);
    CL_TLS_LIBRARY_OBJECTS(CLEAR)
#undef CLEAR
    cl_guard_clear(&library->tls_methods);
    PyMem_Free(library);
}

/* Returns the module's cl_tls, created on first use; NULL with an exception. */
static cl_tls_library *
library_of(cl_state *st)
{
    cl_tls *tls = cl_tls_of(st);
    if (tls->library != NULL)
        return tls->library;
    cl_tls_library *library = PyMem_Calloc(1, sizeof(*library));
    if (library == NULL)
        PyErr_NoMemory();
    else if (fill(library) < 0)
        free_library(library);
    else {
        /* Another thread may have been as quick. */
        CL_MUTEX_LOCK(&st->loops_lock);
        bool first = tls->library == NULL;
        if (first)
            tls->library = library;
        CL_MUTEX_UNLOCK(&st->loops_lock);
        if (!first)
            free_library(library);
    }
    return tls->library;
}

void
cl_tls_free(cl_state *st)
{
    cl_tls_library *library = cl_tls_of(st)->library;
    cl_tls_of(st)->library = NULL;
    if (library != NULL)
        free_library(library);
}

int
cl_tls_traverse(cl_state *st, visitproc visit, void *arg)
{
    cl_tls_library *library = cl_tls_of(st)->library;
    if (library == NULL)
        return 0;
#define VISIT(name) Py_VISIT(library->tls_##name);
    CL_TLS_LIBRARY_OBJECTS(VISIT)
#undef VISIT
    return cl_guard_traverse(&library->tls_methods, visit, arg);
}

/* ------------------------------------------------------------------------ creation */

static int
set_protocol(TLSObject *self, PyObject *protocol)
{
    cl_state *st = self->x_loop->l_st;
    int buffered = cl_protocol_is_buffered(st, protocol, true);
    if (buffered < 0 || cl_streams_adopt(st, protocol) < 0)
        return -1;
    self->x_flags = (uint16_t)((self->x_flags & ~CL_X_BUFFERED) |
                               (buffered ? CL_X_BUFFERED : 0));
    Py_XSETREF(self->x_protocol, Py_NewRef(protocol));
    return 0;
}

/* asyncio.constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE or _READ, in bytes; a
 * program may have changed it. There is none before 3.11. 0/-1 */
static int
standard_mark(cl_state *st, PyObject *name, size_t *bytes)
{
    *bytes = 0;
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return 0;
    PyObject *value = PyObject_GetAttr(cl_net_of(st)->constants_module, name);
    PyObject *unit = value == NULL ? NULL : PyLong_FromLong(1024);
    PyObject *product = unit == NULL ? NULL : PyNumber_Multiply(value, unit);
    PyObject *number = product == NULL ? NULL : PyNumber_Long(product);
    Py_ssize_t size = number == NULL ? -1 : PyNumber_AsSsize_t(number, NULL);
    Py_XDECREF(value);
    Py_XDECREF(unit);
    Py_XDECREF(product);
    Py_XDECREF(number);
    if (size < 0 && PyErr_Occurred())
        return -1;
    *bytes = size < 0 ? 0 : (size_t)size;
    return 0;
}

static int
set_marks(TLSObject *self)
{
    cl_state *st = self->x_loop->l_st;
    size_t writing, reading;
    if (standard_mark(st, cl_tls_of(st)->str_FLOW_CONTROL_HIGH_WATER_SSL_WRITE,
                      &writing) < 0 ||
        standard_mark(st, cl_tls_of(st)->str_FLOW_CONTROL_HIGH_WATER_SSL_READ,
                      &reading) < 0)
        return -1;
    self->x_writing = (cl_limits){writing, writing / 4};
    self->x_reading = (cl_limits){reading, reading / 4};
    return 0;
}

TLSObject *
cl_tls_new(const cl_tls_args *args)
{
    cl_state *st = args->loop->l_st;
    if (library_of(st) == NULL)
        return NULL;
    PyTypeObject *type = cl_tls_of(st)->SSLTransportType;
    TLSObject *self = (TLSObject *)cl_type_alloc(type);
    if (self == NULL)
        return NULL;
    cl_live_add(&cl_net_of(st)->live_transports, 1);
    self->x_loop = (LoopObject *)Py_NewRef(args->loop);
    self->x_sslcontext = Py_NewRef(args->sslcontext);
    self->x_hostname =
        Py_NewRef(args->server_side ? Py_None : args->server_hostname);
    if (args->waiter != Py_None)
        self->x_waiter = Py_NewRef(args->waiter);
    self->x_handshake_timeout = Py_NewRef(args->handshake_timeout);
    self->x_shutdown_timeout = Py_NewRef(args->shutdown_timeout);
    self->x_flags = CL_X_CLOSED | (args->server_side ? CL_X_SERVER_SIDE : 0);
    self->x_app_state =
        args->call_connection_made ? CL_TLS_APP_INIT : CL_TLS_APP_MADE;
    cl_habit_init(&self->x_habit, NULL);
    if (set_marks(self) < 0 || set_protocol(self, args->protocol) < 0 ||
        (CL_HAS_TLS_SHUTDOWN_TIMEOUT && cl_engine_open(self) < 0))
        Py_CLEAR(self);
    else
        self->x_flags &= (uint16_t)~CL_X_CLOSED;
    return self;
}

/* ------------------------------------------------------------------------ writing */

/* The type check of write(). */
static int
check_data(PyObject *data)
{
    if (PyBytes_Check(data) || PyByteArray_Check(data) ||
        PyMemoryView_Check(data))
        return 0;
    const char *name = strrchr(Py_TYPE(data)->tp_name, '.');
    PyErr_Format(PyExc_TypeError,
                 "data: expecting a bytes-like instance, got %s",
                 name == NULL ? Py_TYPE(data)->tp_name : name + 1);
    return -1;
}

/* As in asyncio, a failed write breaks the connection; *broken is set if the
 * data is no buffer. 0/-1 */
static int
write_object(TLSObject *self, PyObject *data, bool *broken)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        PyObject *error = PyErr_GetRaisedException();
        if (PyObject_Size(data) < 0) { /* asyncio asks for the length first */
            Py_DECREF(error);
            return -1;
        }
        PyErr_SetRaisedException(error);
        *broken = true;
        return cl_tls_broken(self, CL_TLS_WRITE_FAILED);
    }
    int status =
        view.len == 0 ? 0 : cl_tls_write(self, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return status;
}

static int
write_each(TLSObject *self, PyObject *lines)
{
    PyObject *iterator = PyObject_GetIter(lines), *item;
    bool broken = false;
    int status = 0;
    if (iterator == NULL)
        return -1;
    while (status == 0 && !broken && (item = PyIter_Next(iterator)) != NULL) {
        status = write_object(self, item, &broken);
        Py_DECREF(item);
    }
    Py_DECREF(iterator);
    return status == 0 && PyErr_Occurred() ? -1 : status;
}

PyDoc_STRVAR(
    TLS_write_doc,
    "write($self, data)\n--\n\n"
    "Encrypt and send bytes, or whatever has their buffer, as soon as "
    "possible; never\n"
    "blocks. Raises TypeError for other data. Quiet when the connection is "
    "closed.\n"
    "See asyncio's WriteTransport.write.");

static PyObject *
TLS_write(TLSObject *self, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    PyObject *data = cl_call_args_only(self->x_loop->l_st, "write",
                                       data_argument, args, nargs, kwnames);
    bool broken = false;
    int status;
    if (data == NULL || check_data(data) < 0)
        return NULL;
    int filled = PyObject_IsTrue(data);
    if (filled <= 0)
        return cl_none_or_error(filled);
    int takes = cl_tls_takes(self);
    if (takes <= 0)
        return cl_none_or_error(takes);
    Py_INCREF(data);              /* Python code may run and drop it */
    if (PyBytes_CheckExact(data)) /* a subclass may export another buffer */
        status = cl_tls_write(self, PyBytes_AS_STRING(data),
                              (size_t)PyBytes_GET_SIZE(data));
    else
        status = write_object(self, data, &broken);
    Py_DECREF(data);
    return cl_none_or_error(status);
}

PyDoc_STRVAR(TLS_writelines_doc,
             "writelines($self, list_of_data)\n--\n\n"
             "Send the items of an iterable of bytes-like objects, in order.");

static PyObject *
TLS_writelines(TLSObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    cl_state *st = self->x_loop->l_st;
    bool broken = false;
    PyObject *lines = cl_call_args_only(st, "writelines", lines_argument, args,
                                        nargs, kwnames);
    int status;
    if (lines == NULL)
        return NULL;
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT) {
        PyObject *joined = PyObject_CallMethodOneArg(
            st->empty_bytes, cl_tls_of(st)->str_join, lines);
        if (joined == NULL)
            return NULL;
        int takes = PyObject_IsTrue(joined) > 0 ? cl_tls_takes(self) : 0;
        status = takes > 0 ? write_object(self, joined, &broken) : takes;
        Py_DECREF(joined);
        return cl_none_or_error(status);
    }
    status = cl_tls_takes(self);
    return cl_none_or_error(status > 0 ? write_each(self, lines) : status);
}

PyDoc_STRVAR(TLS_write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Raise NotImplementedError: one direction of TLS can't be closed "
             "alone.");

static PyObject *
TLS_write_eof(TLSObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

static PyObject *
TLS_can_write_eof(TLSObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_FALSE;
}

/* ------------------------------------------------------------------- flow control */

/* Before 3.11 these act on the transport below; they return None once that is
 * gone. */
static PyObject *
call_raw(TLSObject *self, const char *method, PyObject *args, PyObject *kwargs)
{
    if (self->x_raw == NULL)
        Py_RETURN_NONE;
    PyObject *raw = Py_NewRef(self->x_raw);
    PyObject *function = PyObject_GetAttrString(raw, method);
    Py_DECREF(raw);
    PyObject *none = args == NULL ? PyTuple_New(0) : Py_NewRef(args);
    PyObject *result = function == NULL || none == NULL
                           ? NULL
                           : PyObject_Call(function, none, kwargs);
    Py_XDECREF(none);
    Py_XDECREF(function);
    return result;
}

/* Sets the water marks of one direction, and pauses or resumes it as they say.
 * `name`: what asyncio.constants calls the standard high mark. 0/-1 */
static int
set_limits(TLSObject *self, const char *format, PyObject *args,
           PyObject *kwargs, PyObject *name, cl_limits *limits,
           int (*control)(TLSObject *))
{
    size_t standard;
    if (standard_mark(self->x_loop->l_st, name, &standard) < 0 ||
        cl_flow_limits(format, args, kwargs, standard, limits) < 0)
        return -1;
    return control(self);
}

PyDoc_STRVAR(TLS_set_write_buffer_limits_doc,
             "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
             "Set the water marks, in bytes: from high on the protocol's "
             "pause_writing() is\n"
             "called, at or below low its resume_writing(). Raises ValueError "
             "unless\n"
             "high >= low >= 0.");

static PyObject *
TLS_set_write_buffer_limits(TLSObject *self, PyObject *args, PyObject *kwargs)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (cl_tls_flush(self) < 0)
        return NULL;
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return call_raw(self, "set_write_buffer_limits", args, kwargs);
    return cl_none_or_error(set_limits(
        self, "|OO:set_write_buffer_limits", args, kwargs,
        cl_tls_of(self->x_loop->l_st)->str_FLOW_CONTROL_HIGH_WATER_SSL_WRITE,
        &self->x_writing, cl_tls_control_writing));
}

static PyObject *
TLS_get_write_buffer_limits(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return CL_HAS_TLS_SHUTDOWN_TIMEOUT
               ? cl_flow_limits_tuple(&self->x_writing)
               : call_raw(self, "get_write_buffer_limits", NULL, NULL);
}

PyDoc_STRVAR(TLS_get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "Return how many bytes wait to be sent, but for those in the "
             "transport below.");

static PyObject *
TLS_get_write_buffer_size(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return CL_HAS_TLS_SHUTDOWN_TIMEOUT || self->x_raw == NULL
               ? PyLong_FromSize_t(cl_tls_write_buffer_size(self))
               : call_raw(self, "get_write_buffer_size", NULL, NULL);
}

PyDoc_STRVAR(
    TLS_set_read_buffer_limits_doc,
    "set_read_buffer_limits($self, high=None, low=None)\n--\n\n"
    "Set the water marks, in bytes, of what is received while reading "
    "is paused: from\n"
    "high on the transport below pauses, at or below low it resumes. "
    "Raises\n"
    "ValueError unless high >= low >= 0.");

static PyObject *
TLS_set_read_buffer_limits(TLSObject *self, PyObject *args, PyObject *kwargs)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(set_limits(
        self, "|OO:set_read_buffer_limits", args, kwargs,
        cl_tls_of(self->x_loop->l_st)->str_FLOW_CONTROL_HIGH_WATER_SSL_READ,
        &self->x_reading, cl_tls_control_raw_reading));
}

PyDoc_STRVAR(TLS_get_read_buffer_limits_doc,
             "get_read_buffer_limits($self, /)\n--\n\n"
             "Return the (low, high) water marks of reading, in bytes.");

static PyObject *
TLS_get_read_buffer_limits(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_flow_limits_tuple(&self->x_reading);
}

PyDoc_STRVAR(TLS_get_read_buffer_size_doc,
             "get_read_buffer_size($self, /)\n--\n\n"
             "Return how many encrypted bytes wait to be read.");

static PyObject *
TLS_get_read_buffer_size(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyLong_FromSize_t(self->x_sslobj == NULL ? 0
                                                    : cl_engine_unread(self));
}

PyDoc_STRVAR(TLS_is_reading_doc,
             "is_reading($self, /)\n--\n\n"
             "Return whether data is delivered: not paused.");

static PyObject *
TLS_is_reading(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return PyBool_FromLong(!(self->x_flags & CL_X_READING_PAUSED));
    if (self->x_raw == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "SSL transport has not been initialized yet");
        return NULL;
    }
    if (self->x_flags & CL_X_READING_PAUSED)
        Py_RETURN_FALSE;
    return call_raw(self, "is_reading", NULL, NULL);
}

PyDoc_STRVAR(TLS_pause_reading_doc,
             "pause_reading($self, /)\n--\n\n"
             "Deliver nothing until resume_reading(). Twice does no harm.");

static PyObject *
TLS_pause_reading(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    /* Before 3.11 nothing but the peer's close_notify ends what was closed: the
     * transport below must receive it. */
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT && !(self->x_flags & CL_X_CLOSED))
        return call_raw(self, "pause_reading", NULL, NULL);
    self->x_flags |= CL_X_READING_PAUSED;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(TLS_resume_reading_doc,
             "resume_reading($self, /)\n--\n\n"
             "Deliver again after pause_reading(). Twice does no harm.");

static PyObject *
TLS_resume_reading(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT) {
        self->x_flags &= (uint16_t)~CL_X_READING_PAUSED;
        return call_raw(self, "resume_reading", NULL, NULL);
    }
    if (self->x_flags & CL_X_READING_PAUSED) {
        self->x_flags &= (uint16_t)~CL_X_READING_PAUSED;
        PyObject *callback = PyObject_GetAttr(
            (PyObject *)self, cl_tls_of(self->x_loop->l_st)->str__resume);
        PyObject *context = self->x_flags & CL_X_RAW_IS_STREAM
                                ? ((TransportObject *)self->x_raw)->tr_context
                                : NULL;
        int status =
            callback == NULL
                ? -1
                : cl_loop_call_soon(self->x_loop, callback, NULL, 0, context);
        Py_XDECREF(callback);
        if (status < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------- closing */

PyDoc_STRVAR(TLS_close_doc,
             "close($self, /)\n--\n\n"
             "Send what is buffered, say goodbye to the peer, and close the "
             "connection.");

static PyObject *
TLS_close(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (self->x_flags & CL_X_CLOSED) {
        /* A program that closes twice does not need it any more: asyncio's
         * transport then releases its connection, and with it the SSLContext. */
        self->x_flags |= CL_X_FORGET;
        if (self->x_raw == NULL && cl_engine_is_closed(self))
            cl_tls_forget(self);
        Py_RETURN_NONE;
    }
    int status = cl_tls_close(self);
    self->x_flags |= CL_X_CLOSED;
    return cl_none_or_error(status);
}

static PyObject *
TLS_abort(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_abort(self, NULL));
}

static PyObject *
TLS_force_close(TLSObject *self, PyObject *exception)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(
        cl_tls_abort(self, exception == Py_None ? NULL : exception));
}

static PyObject *
TLS_is_closing(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if ((self->x_flags & CL_X_CLOSED) || self->x_raw == NULL)
        return PyBool_FromLong(self->x_flags & CL_X_CLOSED);
    if (self->x_flags & CL_X_RAW_IS_STREAM)
        return PyBool_FromLong(((TransportObject *)self->x_raw)->tr_flags &
                               CL_T_CLOSING);
    PyObject *raw = Py_NewRef(self->x_raw);
    PyObject *answer = PyObject_CallMethodNoArgs(
        raw, cl_tls_of(self->x_loop->l_st)->str_is_closing);
    Py_DECREF(raw);
    /* One that cannot tell: not every asyncio asks. */
    if (answer == NULL &&
        (PyErr_ExceptionMatches(PyExc_AttributeError) ||
         PyErr_ExceptionMatches(PyExc_NotImplementedError))) {
        PyErr_Clear();
        answer = Py_NewRef(Py_False);
    }
    return answer;
}

/* --------------------------------------------------------------------------- info */

/* What the SSLObject returns for the name; NULL without an exception if there
 * is no such name. */
static PyObject *
ask_sslobj(TLSObject *self, PyObject *name)
{
    cl_state *st = self->x_loop->l_st;
    if (!(self->x_flags & CL_X_ESTABLISHED))
        return NULL;
    if (PyUnicode_Compare(name, cl_tls_of(st)->str_peercert) == 0)
        return Py_NewRef(Py_None); /* else it is stored */
    if (PyUnicode_Compare(name, cl_tls_of(st)->str_cipher) == 0)
        return PyObject_CallMethodNoArgs(self->x_sslobj,
                                         cl_tls_of(st)->str_cipher);
    if (PyUnicode_Compare(name, cl_tls_of(st)->str_compression) == 0)
        return PyObject_CallMethodNoArgs(self->x_sslobj,
                                         cl_tls_of(st)->str_compression);
    return PyUnicode_Compare(name, cl_tls_of(st)->str_ssl_object) == 0
               ? Py_NewRef(self->x_sslobj)
               : NULL;
}

/* Returns a new reference, or NULL without an exception if TLS has no such
 * name. A value once returned stays the same. */
static PyObject *
extra_info(TLSObject *self, PyObject *name)
{
    if (!PyUnicode_Check(name))
        return NULL;
    if (PyUnicode_Compare(name,
                          cl_tls_of(self->x_loop->l_st)->str_sslcontext) == 0)
        return Py_XNewRef(self->x_sslcontext);
    /* The name may have a __hash__() of its own, in which the connection is
     * lost and forgotten; the SSLObject may have a class of the program's. */
    PyObject *extra = Py_XNewRef(self->x_extra);
    PyObject *sslobj = Py_XNewRef(self->x_sslobj);
    PyObject *value = extra == NULL ? NULL : cl_dict_get(extra, name);
    if (value == NULL && !PyErr_Occurred() &&
        (value = ask_sslobj(self, name)) != NULL && value != sslobj) {
        if (extra == NULL && (extra = PyDict_New()) != NULL)
            Py_XSETREF(self->x_extra, Py_NewRef(extra));
        if (extra == NULL || PyDict_SetItem(extra, name, value) < 0)
            Py_CLEAR(value);
    }
    Py_XDECREF(sslobj);
    Py_XDECREF(extra);
    return value;
}

PyDoc_STRVAR(TLS_get_extra_info_doc,
             "get_extra_info($self, name, default=None)\n--\n\n"
             "Return what is known of the connection: 'sslcontext', after the "
             "handshake\n"
             "'ssl_object', 'peercert', 'cipher' and 'compression', and what "
             "the transport below\n"
             "knows; default for any other name.");

static PyObject *
TLS_get_extra_info(TLSObject *self, PyObject *args, PyObject *kwargs)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    PyObject *name, *fallback;
    if (cl_extra_arguments(args, kwargs, &name, &fallback) < 0)
        return NULL;
    PyObject *value = extra_info(self, name);
    if (value != NULL || PyErr_Occurred())
        return value;
    if (self->x_raw == NULL)
        return Py_NewRef(fallback);
    PyObject *call[] = {Py_NewRef(self->x_raw), name, fallback};
    value = PyObject_VectorcallMethod(
        cl_tls_of(self->x_loop->l_st)->str_get_extra_info, call, 3, NULL);
    Py_DECREF(call[0]);
    return value;
}

static PyObject *
TLS_set_protocol(TLSObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    PyObject *protocol =
        cl_call_args_only(self->x_loop->l_st, "set_protocol",
                          protocol_argument, args, nargs, kwnames);
    if (protocol == NULL || cl_tls_flush(self) < 0 ||
        set_protocol(self, protocol) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
TLS_get_protocol(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return Py_NewRef(self->x_protocol ? self->x_protocol : Py_None);
}

/* ----------------------------------------------- callbacks from the transport below */

static PyObject *
TLS_connection_made(TLSObject *self, PyObject *raw)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_connection_made(self, raw));
}

static PyObject *
TLS_connection_lost(TLSObject *self, PyObject *exception)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_connection_lost(self, exception));
}

static PyObject *
TLS_data_received(TLSObject *self, PyObject *data)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    int status = cl_tls_received((PyObject *)self, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return cl_none_or_error(status);
}

static PyObject *
TLS_eof_received(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    bool keep_open;
    if (cl_tls_eof_received(self, &keep_open) < 0)
        return NULL;
    return PyBool_FromLong(keep_open);
}

static PyObject *
TLS_pause_writing(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_pause_writing(self));
}

static PyObject *
TLS_resume_writing(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_resume_writing(self));
}

/* For start_tls(). `app_waits`: whether the application expects
 * resume_writing(); None if unknown. */
static PyObject *
TLS_take_over_pause(TLSObject *self, PyObject *app_waits)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (app_waits == Py_None)
        cl_tls_expect_resume(self);
    else
        cl_tls_take_over_pause(self, app_waits == Py_True);
    Py_RETURN_NONE;
}

/* Methods that the loop calls later. */

static PyObject *
TLS_check_handshake_timeout(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_handshake_timed_out(self));
}

static PyObject *
TLS_check_shutdown_timeout(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_shutdown_timed_out(self));
}

static PyObject *
TLS_do_read(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_read(self));
}

static PyObject *
TLS_resume(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return cl_none_or_error(cl_tls_resume(self));
}

/* asyncio's own tests fill the backlog with this. */
static PyObject *
TLS_append_write_backlog(TLSObject *self, PyObject *data)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    int status =
        cl_buffer_append(&self->x_backlog, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    if (status < 0)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyMethodDef tls_methods[] = {
    {"write", CL_FAST(TLS_write), METH_FASTCALL | METH_KEYWORDS,
     TLS_write_doc},
    {"writelines", CL_FAST(TLS_writelines), METH_FASTCALL | METH_KEYWORDS,
     TLS_writelines_doc},
    {"write_eof", (PyCFunction)TLS_write_eof, METH_NOARGS, TLS_write_eof_doc},
    {"can_write_eof", (PyCFunction)TLS_can_write_eof, METH_NOARGS,
     "can_write_eof($self, /)\n--\n\nReturn False."},
    {"set_write_buffer_limits", CL_FAST(TLS_set_write_buffer_limits),
     METH_VARARGS | METH_KEYWORDS, TLS_set_write_buffer_limits_doc},
    {"get_write_buffer_limits", (PyCFunction)TLS_get_write_buffer_limits,
     METH_NOARGS, CL_DOC_GET_WRITE_BUFFER_LIMITS},
    {"get_write_buffer_size", (PyCFunction)TLS_get_write_buffer_size,
     METH_NOARGS, TLS_get_write_buffer_size_doc},
    {"is_reading", (PyCFunction)TLS_is_reading, METH_NOARGS,
     TLS_is_reading_doc},
    {"pause_reading", (PyCFunction)TLS_pause_reading, METH_NOARGS,
     TLS_pause_reading_doc},
    {"resume_reading", (PyCFunction)TLS_resume_reading, METH_NOARGS,
     TLS_resume_reading_doc},
    {"close", (PyCFunction)TLS_close, METH_NOARGS, TLS_close_doc},
    {"abort", (PyCFunction)TLS_abort, METH_NOARGS, CL_DOC_ABORT},
    {"is_closing", (PyCFunction)TLS_is_closing, METH_NOARGS,
     CL_DOC_IS_CLOSING},
    {"get_extra_info", CL_FAST(TLS_get_extra_info),
     METH_VARARGS | METH_KEYWORDS, TLS_get_extra_info_doc},
    {"set_protocol", CL_FAST(TLS_set_protocol), METH_FASTCALL | METH_KEYWORDS,
     CL_DOC_SET_PROTOCOL},
    {"get_protocol", (PyCFunction)TLS_get_protocol, METH_NOARGS,
     CL_DOC_GET_PROTOCOL},
    {"_force_close", (PyCFunction)TLS_force_close, METH_O, NULL},
    {"connection_made", (PyCFunction)TLS_connection_made, METH_O, NULL},
    {"connection_lost", (PyCFunction)TLS_connection_lost, METH_O, NULL},
    {"data_received", (PyCFunction)TLS_data_received, METH_O, NULL},
    {"eof_received", (PyCFunction)TLS_eof_received, METH_NOARGS, NULL},
    {"pause_writing", (PyCFunction)TLS_pause_writing, METH_NOARGS, NULL},
    {"resume_writing", (PyCFunction)TLS_resume_writing, METH_NOARGS, NULL},
    {"_take_over_pause", (PyCFunction)TLS_take_over_pause, METH_O, NULL},
    {"_check_handshake_timeout", (PyCFunction)TLS_check_handshake_timeout,
     METH_NOARGS, NULL},
    {"_check_shutdown_timeout", (PyCFunction)TLS_check_shutdown_timeout,
     METH_NOARGS, NULL},
    {"_test__append_write_backlog", (PyCFunction)TLS_append_write_backlog,
     METH_O, NULL},
    {"_do_read", (PyCFunction)TLS_do_read, METH_NOARGS, NULL},
    {"_resume", (PyCFunction)TLS_resume, METH_NOARGS, NULL},
    {NULL}};

/* From 3.11 on, reading has water marks too. */
static PyMethodDef reading_methods[] = {
    {"set_read_buffer_limits", CL_FAST(TLS_set_read_buffer_limits),
     METH_VARARGS | METH_KEYWORDS, TLS_set_read_buffer_limits_doc},
    {"get_read_buffer_limits", (PyCFunction)TLS_get_read_buffer_limits,
     METH_NOARGS, TLS_get_read_buffer_limits_doc},
    {"get_read_buffer_size", (PyCFunction)TLS_get_read_buffer_size,
     METH_NOARGS, TLS_get_read_buffer_size_doc},
    {NULL}};

/* ---------------------------------------- attributes that asyncio's classes have */

static PyObject *
get_self(TLSObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self);
}

static PyObject *
get_closed(TLSObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyBool_FromLong(self->x_flags & CL_X_CLOSED);
}

static PyObject *
get_reading_paused(TLSObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyBool_FromLong(self->x_flags & CL_X_READING_PAUSED);
}

static PyObject *
get_protocol_paused(TLSObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT || self->x_raw == NULL)
        return PyBool_FromLong(self->x_flags & CL_X_WRITING_PAUSED);
    PyObject *raw = Py_NewRef(self->x_raw);
    PyObject *paused = PyObject_GetAttrString(raw, "_protocol_paused");
    Py_DECREF(raw);
    return paused;
}

static PyObject *
get_extra(TLSObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    cl_state *st = self->x_loop->l_st;
    PyObject *const names[] = {
        cl_tls_of(st)->str_sslcontext, cl_tls_of(st)->str_peercert,
        cl_tls_of(st)->str_cipher, cl_tls_of(st)->str_compression,
        cl_tls_of(st)->str_ssl_object};
    PyObject *extra = PyDict_New();
    for (int i = 0; extra != NULL && i < 5; i++) {
        PyObject *value = extra_info(self, names[i]);
        if ((value == NULL && PyErr_Occurred()) ||
            (value != NULL && PyDict_SetItem(extra, names[i], value) < 0))
            Py_CLEAR(extra);
        Py_XDECREF(value);
    }
    return extra;
}

static PyObject *
get_high(TLSObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyLong_FromSize_t(self->x_writing.high);
}

static PyObject *
get_low(TLSObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyLong_FromSize_t(self->x_writing.low);
}

static PyObject *
get_direct(TLSObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return PyBool_FromLong(self->x_ssl != NULL);
}

#define OBJECT(name, field) \
    {name, (getter)cl_transport_get_object, NULL, NULL, \
     (void *)offsetof(TLSObject, field)}

static PyGetSetDef tls_getset[] = {
    {"_ssl_protocol", (getter)get_self},
    {"_app_transport", (getter)get_self},
    OBJECT("_transport", x_raw),
    OBJECT("_app_protocol", x_protocol),
    OBJECT("_sslcontext", x_sslcontext),
    OBJECT("_sslobj", x_sslobj),
    OBJECT("_loop", x_loop),
    OBJECT("_waiter", x_waiter),
    OBJECT("_server_hostname", x_hostname),
    {"_closed", (getter)get_closed},
    {"_app_reading_paused", (getter)get_reading_paused},
    {"_protocol_paused", (getter)get_protocol_paused},
    {"_extra", (getter)get_extra},
    {"_high_water", (getter)get_high},
    {"_low_water", (getter)get_low},
    {"_direct", (getter)get_direct, NULL,
     "Whether the bytes go to the TLS library without the ssl module."},
    {NULL}};

/* --------------------------------------------------------------------- slots */

static PyObject *
TLS_repr(TLSObject *self)
{
    CL_CLAIM_REPR(self->x_loop, self);
    const char *state = self->x_flags & CL_X_CLOSED
                            ? (self->x_raw == NULL ? "closed" : "closing")
                        : self->x_flags & CL_X_ESTABLISHED ? "open"
                                                           : "handshaking";
    return self->x_raw == NULL
               ? PyUnicode_FromFormat("<SSLTransport %s>", state)
               : PyUnicode_FromFormat("<SSLTransport %s over %R>", state,
                                      self->x_raw);
}

static int
TLS_traverse(TLSObject *self, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(self);
    Py_VISIT(self->x_protocol);
    Py_VISIT(self->x_raw);
    Py_VISIT(self->x_sslcontext);
    Py_VISIT(self->x_sslobj);
    Py_VISIT(self->x_ssl_socket);
    Py_VISIT(self->x_waiter);
    Py_VISIT(self->x_dict);
    Py_VISIT(self->x_loop);
    Py_VISIT(self->x_extra);
    Py_VISIT(self->x_timer);
    Py_VISIT(self->x_handshake_timeout);
    Py_VISIT(self->x_shutdown_timeout);
    Py_VISIT(self->x_incoming);
    Py_VISIT(self->x_outgoing);
    return 0;
}

/* Keeps the loop: other finalizers may still call this transport. */
static int
TLS_clear(TLSObject *self)
{
    if (self->x_loop != NULL) {
        cl_engine_close(self);
        cl_tls_count_buffered(self);
        cl_tls_drop_raw(self);
    }
    Py_CLEAR(self->x_protocol);
    self->x_state = CL_TLS_UNWRAPPED;
    Py_CLEAR(self->x_sslcontext);
    Py_CLEAR(self->x_sslobj);
    self->x_flags &= (uint16_t)~CL_X_ESTABLISHED;
    Py_CLEAR(self->x_waiter);
    Py_CLEAR(self->x_dict);
    Py_CLEAR(self->x_extra);
    Py_CLEAR(self->x_hostname);
    Py_CLEAR(self->x_timer);
    Py_CLEAR(self->x_handshake_timeout);
    Py_CLEAR(self->x_shutdown_timeout);
    cl_habit_clear(&self->x_habit);
    return 0;
}

/* Not closed: warns like asyncio's __del__. */
static void
TLS_finalize(PyObject *op)
{
    TLSObject *self = (TLSObject *)op;
    CL_CLAIM_TO_FINALIZE(self->x_loop, op);
    if (self->x_flags & CL_X_CLOSED)
        return;
    PyObject *error = PyErr_GetRaisedException();
    self->x_flags |= CL_X_CLOSED;
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0)
        PyErr_WriteUnraisable(op);
    (void)cl_raise_first(error);
}

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, "The transport of a TLS connection; created by the loop."},
    {Py_tp_dealloc, cl_transport_dealloc},
    {Py_tp_finalize, TLS_finalize},
    {Py_tp_traverse, TLS_traverse},
    {Py_tp_clear, TLS_clear},
    {Py_tp_repr, TLS_repr},
    {Py_tp_getset, tls_getset},
    {Py_tp_methods, tls_methods},
    {Py_tp_members, cl_transport_members},
    {0, NULL}};

static PyType_Spec tls_spec = {
    .name = "cloop._cloop.SSLTransport",
    .basicsize = sizeof(TLSObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = tls_slots,
};

PyTypeObject *
cl_tls_setup(PyObject *module, cl_state *st)
{
    Py_BUILD_ASSERT(CL_HAS_TRANSPORT_HEAD(TLSObject, x_protocol, x_dict,
                                          x_weakrefs, x_loop));
    PyObject *bases = PyTuple_Pack(2, cl_net_of(st)->FlowControlMixin,
                                   cl_tls_of(st)->asyncio_Protocol);
    PyTypeObject *type = bases == NULL
                             ? NULL
                             : cl_type_new(module, st, &tls_spec, bases,
                                           offsetof(TLSObject, x_dict),
                                           offsetof(TLSObject, x_weakrefs));
    Py_XDECREF(bases);
    if (type == NULL)
        return NULL;
    if (PyObject_SetAttrString((PyObject *)type, "_sendfile_compatible",
                               cl_net_of(st)->sendfile_fallback) < 0 ||
        (CL_HAS_TLS_SHUTDOWN_TIMEOUT &&
         (PyObject_SetAttrString((PyObject *)type, "_start_tls_compatible",
                                 Py_True) < 0 ||
          cl_type_add_methods(type, reading_methods) < 0)))
        Py_CLEAR(type);
    return type;
}
