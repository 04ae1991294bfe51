/* engine.c - see engine.h. */
#include "tls/engine.h"

#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#include "core/errors.h"

static inline const cl_openssl *
api_of(const TLSObject *self)
{
    return &cl_tls_of(self->x_loop->l_st)->library->tls_openssl;
}

/* ------------------------------------------------------------------- the BIO */

/* A BIO's callbacks get only the BIO, and a BIO needs its method as long as it
 * lives. So these two belong to the process: all interpreters share them, as
 * they share the library, and they never change once set. */
static _Atomic(void *(*)(BIO *)) bio_get_data;
static _Atomic(BIO_METHOD *) bio_method;

/* The transport whose bytes pass through; NULL once it is closed. */
static TLSObject *
owner_of(BIO *bio)
{
    return atomic_load_explicit(&bio_get_data, memory_order_relaxed)(bio);
}

static int
bio_write(BIO *bio, const char *data, int size)
{
    TLSObject *self = owner_of(bio);
    if (self == NULL || (self->x_flags & CL_X_MUTE))
        return -1;
    /* Without the GIL, where the ssl module gives it up for a call. */
    cl_assert(self->x_bio == bio && size >= 0);
    if (cl_buffer_append(&self->x_out, data, (size_t)size) < 0) {
        /* Flags of the last read would make the library retry. */
        api_of(self)->BIO_clear_flags(bio, CL_BIO_RETRY_FLAGS);
        self->x_flags |= CL_X_NO_MEMORY;
        return -1;
    }
    return size;
}

static int
bio_read(BIO *bio, char *into, int size)
{
    TLSObject *self = owner_of(bio);
    if (self == NULL)
        return 0;
    const cl_openssl *api = api_of(self);
    cl_assert(self->x_bio == bio && size > 0);
    size_t got = cl_buffer_take(&self->x_in, into, (size_t)size);
    size_t more = (size_t)size - got;
    if (more > self->x_window_size)
        more = self->x_window_size;
    if (more > 0) {
        memcpy(into + got, self->x_window, more);
        self->x_window += more;
        self->x_window_size -= more;
        got += more;
    }
    api->BIO_clear_flags(bio, CL_BIO_RETRY_FLAGS);
    if (got == 0) {
        api->BIO_set_flags(bio, CL_BIO_READ | CL_BIO_SHOULD_RETRY);
        return -1;
    }
    return (int)got;
}

static long
bio_ctrl(BIO *Py_UNUSED(bio), int command, long Py_UNUSED(number),
         void *Py_UNUSED(pointer))
{
    return command == CL_BIO_CTRL_FLUSH;
}

/* Makes the method, unless another interpreter has done so. */
static bool
prepare_method(const cl_openssl *api)
{
    BIO_METHOD *none = NULL;
    if (atomic_load(&bio_method) != NULL)
        return atomic_load(&bio_get_data) == api->BIO_get_data;
    BIO_METHOD *method =
        api->BIO_meth_new(CL_BIO_TYPE_SOURCE_SINK, "cloop transport");
    if (method == NULL || !api->BIO_meth_set_write(method, bio_write) ||
        !api->BIO_meth_set_read(method, bio_read) ||
        !api->BIO_meth_set_ctrl(method, bio_ctrl)) {
        if (method != NULL)
            api->BIO_meth_free(method);
        api->ERR_clear_error();
        return false;
    }
    atomic_store(&bio_get_data, api->BIO_get_data);
    if (!atomic_compare_exchange_strong(&bio_method, &none, method))
        api->BIO_meth_free(method);
    return true;
}

int
cl_engine_setup(cl_tls_library *tls, PyObject *_ssl)
{
    cl_openssl *api = &tls->tls_openssl;
    int found = cl_openssl_find(api, _ssl);
    if (found <= 0)
        return found;
    tls->tls_direct = prepare_method(api);
    return 0;
}

/* ------------------------------------------------------------ opening, closing */

/* Whether the direct way can be used: the object is what the ssl module makes
 * by default, and nobody listens to messages. */
static int
is_plain(TLSObject *self, const cl_tls_library *tls, PyObject *ssl_socket)
{
    cl_state *st = self->x_loop->l_st;
    PyObject *callback;
    if (!tls->tls_direct ||
        (PyObject *)Py_TYPE(self->x_sslobj) != tls->tls_SSLObject ||
        (PyObject *)Py_TYPE(ssl_socket) != tls->tls_SSLSocket)
        return 0;
    int found = PyObject_GetOptionalAttr(
        self->x_sslcontext, cl_tls_of(st)->str__msg_callback, &callback);
    if (found <= 0)
        return found < 0 ? -1 : 1;
    found = callback == Py_None;
    Py_DECREF(callback);
    return found;
}

/* Puts our BIO between the library and the connection. Returns 1, 0 if the
 * object is not as expected, -1 with MemoryError. */
static int
connect_directly(TLSObject *self, PyObject *ssl_socket)
{
    const cl_openssl *api = api_of(self);
    SSL *ssl = cl_openssl_of(api, ssl_socket);
    if (ssl == NULL)
        return 0;
    BIO *bio = api->BIO_new(atomic_load(&bio_method));
    if (bio == NULL) {
        api->ERR_clear_error();
        PyErr_NoMemory();
        return -1;
    }
    api->BIO_set_data(bio, self);
    api->BIO_set_init(bio, 1);
    api->SSL_set_bio(ssl, bio, bio); /* takes our only reference */
    cl_assert_of(self, self->x_ssl == NULL && self->x_bio == NULL);
    self->x_ssl = ssl;
    self->x_bio = bio;
    self->x_ssl_socket = Py_NewRef(ssl_socket);
    return 1;
}

static PyObject *
wrap_bio(TLSObject *self)
{
    cl_state *st = self->x_loop->l_st;
    PyObject *args[] = {self->x_sslcontext, self->x_incoming, self->x_outgoing,
                        self->x_flags & CL_X_SERVER_SIDE ? Py_True : Py_False,
                        self->x_hostname};
    return PyObject_VectorcallMethod(cl_tls_of(st)->str_wrap_bio, args, 3,
                                     cl_tls_of(st)->kwnames_wrap_bio);
}

int
cl_engine_open(TLSObject *self)
{
    cl_state *st = self->x_loop->l_st;
    const cl_tls_library *tls = cl_tls_of(st)->library;
    PyObject *ssl_socket;
    self->x_incoming = PyObject_CallNoArgs(tls->tls_MemoryBIO);
    self->x_outgoing = self->x_incoming == NULL
                           ? NULL
                           : PyObject_CallNoArgs(tls->tls_MemoryBIO);
    if (self->x_outgoing == NULL ||
        (self->x_sslobj = wrap_bio(self)) == NULL ||
        PyObject_GetOptionalAttr(self->x_sslobj, cl_tls_of(st)->str__sslobj,
                                 &ssl_socket) < 0)
        return -1;
    int direct = ssl_socket == NULL ? 0 : is_plain(self, tls, ssl_socket);
    if (direct > 0)
        direct = connect_directly(self, ssl_socket);
    Py_XDECREF(ssl_socket);
    if (direct > 0) {
        Py_CLEAR(self->x_incoming);
        Py_CLEAR(self->x_outgoing);
    }
    return direct < 0 ? -1 : 0;
}

void
cl_engine_close(TLSObject *self)
{
    if (self->x_bio != NULL) /* the program may keep the SSLObject */
        api_of(self)->BIO_set_data(self->x_bio, NULL);
    self->x_bio = NULL;
    self->x_ssl = NULL;
    Py_CLEAR(self->x_ssl_socket);
    cl_buffer_clear(&self->x_in);
    cl_buffer_clear(&self->x_out);
    cl_buffer_clear(&self->x_backlog);
    Py_CLEAR(self->x_incoming);
    Py_CLEAR(self->x_outgoing);
}

/* Whether the library can be called. It can't while it calls back, and a
 * callback may get here (an SNI callback that runs turns of the loop). */
static inline bool
is_callable(const TLSObject *self)
{
    return !cl_engine_is_closed(self) && !(self->x_flags & CL_X_BUSY);
}

/* Whether nothing was put in the place of the object's read() and write(), as
 * tracers do: in its class, or on the object, which has one attribute. */
static bool
has_stock_methods(const TLSObject *self, PyObject *sslobj)
{
    cl_tls *tls = cl_tls_of(self->x_loop->l_st);
    if ((PyObject *)Py_TYPE(sslobj) != tls->library->tls_SSLObject ||
        !cl_guard_holds(&tls->library->tls_methods))
        return false;
    PyObject *dict = PyObject_GenericGetDict(sslobj, NULL);
    bool stock = dict != NULL;
    if (stock && PyDict_GET_SIZE(dict) != 1)
        stock = PyDict_Contains(dict, tls->str_read) == 0 &&
                PyDict_Contains(dict, tls->str_write) == 0;
    Py_XDECREF(dict);
    PyErr_Clear();
    return stock;
}

/* ---------------------------------------------------------------- through Python */

/* Collects what the SSLObject put into its MemoryBIO. 0/-1 */
static int
collect(TLSObject *self)
{
    if (self->x_outgoing == NULL)
        return 0;
    PyObject *data = PyObject_CallMethodNoArgs(
        self->x_outgoing, cl_tls_of(self->x_loop->l_st)->str_read);
    if (data == NULL)
        return -1;
    int status = cl_buffer_append(&self->x_out, PyBytes_AS_STRING(data),
                                  (size_t)PyBytes_GET_SIZE(data));
    Py_DECREF(data);
    if (status < 0)
        PyErr_NoMemory();
    return status;
}

/* Converts the result of a method of the SSLObject, NULL if it raised. Steals
 * the reference. Returns 0, CL_TLS_AGAIN or CL_TLS_FAILED. */
static int
status_of(TLSObject *self, PyObject *result)
{
    if (result != NULL)
        return 0;
    if (!PyErr_ExceptionMatches(
            cl_tls_of(self->x_loop->l_st)->library->tls_again))
        return CL_TLS_FAILED;
    PyErr_Clear();
    return CL_TLS_AGAIN;
}

static int
collect_after(TLSObject *self, int status)
{
    PyObject *error = NULL;
    cl_first_error(&error, status == CL_TLS_FAILED ? -1 : 0);
    cl_first_error(&error, collect(self));
    return cl_raise_first(error) < 0 ? CL_TLS_FAILED : status;
}

int
cl_engine_call(TLSObject *self, PyObject *method)
{
    cl_assert_of(self, !PyErr_Occurred());
    if (!is_callable(self))
        return CL_TLS_AGAIN;
    PyObject *sslobj = Py_NewRef(self->x_sslobj);
    self->x_flags |= CL_X_BUSY;
    PyObject *result = PyObject_CallMethodNoArgs(sslobj, method);
    self->x_flags &= (uint16_t)~CL_X_BUSY;
    int status = status_of(self, result);
    Py_DECREF(sslobj);
    Py_XDECREF(result);
    if (self->x_flags &
        CL_X_NO_MEMORY) { /* a record is lost, whatever the result */
        PyErr_Clear();
        PyErr_NoMemory();
        status = CL_TLS_FAILED;
    }
    return collect_after(self, status);
}

/* Converts the result of read() or write(), NULL if it raised, which may be
 * anything if the object is the program's; at most `size`. Steals the
 * reference. */
static Py_ssize_t
count_of(PyObject *result, Py_ssize_t status, size_t size)
{
    if (result == NULL)
        return status;
    Py_ssize_t count = PyNumber_AsSsize_t(result, NULL);
    Py_DECREF(result);
    if (count < 0)
        return PyErr_Occurred() ? CL_TLS_FAILED : CL_TLS_AGAIN;
    return (size_t)count > size ? (Py_ssize_t)size : count;
}

static void
release(PyObject *view)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *result = PyObject_CallMethod(view, "release", NULL);
    if (result == NULL)
        PyErr_Clear(); /* the program has a view of it: asyncio would fail too */
    Py_XDECREF(result);
    Py_DECREF(view);
    (void)cl_raise_first(error);
}

/* read(size), as asyncio calls a program's object, from 3.11 on unless the
 * protocol has a buffer of its own. b'' is the end. */
static Py_ssize_t
read_bytes_by_method(TLSObject *self, PyObject *sslobj, PyObject *count,
                     char *into, size_t size)
{
    Py_buffer view;
    PyObject *data = PyObject_CallMethodOneArg(
        sslobj, cl_tls_of(self->x_loop->l_st)->str_read, count);
    if (data == NULL)
        return status_of(self, NULL);
    int status = PyObject_GetBuffer(data, &view, PyBUF_SIMPLE);
    Py_DECREF(data); /* the view has it */
    if (status < 0)
        return CL_TLS_FAILED;
    size_t got = (size_t)view.len;
    if (got <= size)
        memcpy(into, view.buf, got);
    else
        PyErr_SetString(PyExc_ValueError,
                        "the TLS object returned more than was asked for");
    PyBuffer_Release(&view);
    return got <= size ? (Py_ssize_t)got : CL_TLS_FAILED;
}

/* read(size, view) */
static Py_ssize_t
call_read(TLSObject *self, PyObject *sslobj, PyObject *count, PyObject *view,
          size_t size)
{
    PyObject *args[] = {sslobj, count, view};
    PyObject *result = PyObject_VectorcallMethod(
        cl_tls_of(self->x_loop->l_st)->str_read, args, 3, NULL);
    return count_of(result, status_of(self, result), size);
}

/* The same for a protocol with a buffer of its own. A program's method may keep
 * a part of the view, and gets one of memory that lives as long. */
static Py_ssize_t
read_copy_by_method(TLSObject *self, PyObject *sslobj, PyObject *count,
                    char *into, size_t size)
{
    Py_buffer own;
    PyObject *array = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)size);
    int held =
        array == NULL ? -1 : PyObject_GetBuffer(array, &own, PyBUF_WRITABLE);
    Py_XDECREF(array); /* the buffer has it */
    if (held < 0)
        return CL_TLS_FAILED;
    memset(own.buf, 0, size);
    PyObject *view = PyMemoryView_FromObject(own.obj);
    Py_ssize_t status = view == NULL
                            ? CL_TLS_FAILED
                            : call_read(self, sslobj, count, view, size);
    if (status > 0)
        memcpy(into, own.buf, (size_t)status);
    Py_XDECREF(view);
    PyBuffer_Release(&own);
    return status;
}

/* The same for the ssl module's own method, which keeps nothing. */
static Py_ssize_t
read_in_place_by_method(TLSObject *self, PyObject *sslobj, PyObject *count,
                        char *into, size_t size)
{
    PyObject *view =
        PyMemoryView_FromMemory(into, (Py_ssize_t)size, PyBUF_WRITE);
    if (view == NULL)
        return CL_TLS_FAILED;
    Py_ssize_t status = call_read(self, sslobj, count, view, size);
    release(view);
    return status;
}

static Py_ssize_t
read_by_method(TLSObject *self, PyObject *sslobj, char *into, size_t size)
{
    bool plain = has_stock_methods(self, sslobj);
    bool buffered =
        CL_HAS_TLS_SHUTDOWN_TIMEOUT && (self->x_flags & CL_X_BUFFERED);
    PyObject *count = PyLong_FromSize_t(size);
    Py_ssize_t status =
        count == NULL ? CL_TLS_FAILED
        : plain    ? read_in_place_by_method(self, sslobj, count, into, size)
        : buffered ? read_copy_by_method(self, sslobj, count, into, size)
                   : read_bytes_by_method(self, sslobj, count, into, size);
    Py_XDECREF(count);
    return status < 0 ? collect_after(self, (int)status) : status;
}

/* Returns what asyncio gives to write(): a bytes object, or before 3.11 a view of
 * one. A program's method may keep it. */
static PyObject *
copy_for_write(const char *data, size_t size)
{
    PyObject *copy = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    if (copy != NULL && !CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        Py_SETREF(copy, PyMemoryView_FromObject(copy));
    return copy;
}

static Py_ssize_t
write_by_method(TLSObject *self, PyObject *sslobj, const char *data,
                size_t size)
{
    cl_state *st = self->x_loop->l_st;
    bool plain = has_stock_methods(self, sslobj);
    PyObject *given = plain ? PyMemoryView_FromMemory(
                                  (char *)data, (Py_ssize_t)size, PyBUF_READ)
                            : copy_for_write(data, size);
    if (given == NULL)
        return CL_TLS_FAILED;
    PyObject *result =
        PyObject_CallMethodOneArg(sslobj, cl_tls_of(st)->str_write, given);
    Py_ssize_t status = count_of(result, status_of(self, result), size);
    if (plain)
        release(given);
    else
        Py_DECREF(given);
    if (status < 0)
        return collect_after(self, (int)status);
    return collect(self) < 0 ? CL_TLS_FAILED : status;
}

/* ------------------------------------------------------------- reading, writing */

int
cl_engine_feed(TLSObject *self, const char *data, size_t size)
{
    if (self->x_incoming == NULL) {
        if (cl_buffer_append(&self->x_in, data, size) == 0)
            return 0;
        PyErr_NoMemory();
        return -1;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    PyObject *result =
        bytes == NULL ? NULL
                      : PyObject_CallMethodOneArg(
                            self->x_incoming,
                            cl_tls_of(self->x_loop->l_st)->str_write, bytes);
    Py_XDECREF(bytes);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The value of an attribute or method result; 0 if unknown. */
static size_t
number_of(PyObject *value)
{
    Py_ssize_t number = value == NULL ? -1 : PyLong_AsSsize_t(value);
    Py_XDECREF(value);
    if (number < 0)
        PyErr_Clear();
    return number < 0 ? 0 : (size_t)number;
}

size_t
cl_engine_unread(const TLSObject *self)
{
    if (self->x_incoming != NULL)
        return number_of(PyObject_GetAttr(
            self->x_incoming, cl_tls_of(self->x_loop->l_st)->str_pending));
    return cl_buffer_size(&self->x_in) + self->x_window_size;
}

size_t
cl_engine_pending(const TLSObject *self)
{
    if (self->x_ssl != NULL)
        return (size_t)api_of(self)->SSL_pending(self->x_ssl);
    if (cl_engine_is_closed(self))
        return 0;
    return number_of(PyObject_CallMethodNoArgs(
        self->x_sslobj, cl_tls_of(self->x_loop->l_st)->str_pending));
}

/* A call of the library failed. The error is in its queue, or a second call
 * fails in the same way: the ssl module makes the exception. */
static int
raise_error(TLSObject *self, PyObject *sslobj, PyObject *method, PyObject *arg)
{
    if (self->x_flags & CL_X_NO_MEMORY) {
        api_of(self)->ERR_clear_error();
        PyErr_NoMemory();
        return CL_TLS_FAILED;
    }
    self->x_flags |= CL_X_MUTE; /* in case it does not fail */
    PyObject *result = PyObject_CallMethodOneArg(sslobj, method, arg);
    if (result != NULL ||
        PyErr_ExceptionMatches(
            cl_tls_of(self->x_loop->l_st)->library->tls_again)) {
        Py_XDECREF(result);
        PyErr_SetString(cl_tls_of(self->x_loop->l_st)->library->tls_SSLError,
                        "the TLS connection failed");
    }
    return CL_TLS_FAILED;
}

static inline int
clip(size_t size)
{
    return size > INT_MAX ? INT_MAX : (int)size;
}

/* The library may run Python (a message callback set by another SSLContext),
 * and the connection may be lost there. */
static Py_ssize_t
read_directly(TLSObject *self, PyObject *sslobj, char *into, size_t size)
{
    cl_state *st = self->x_loop->l_st;
    const cl_openssl *api = api_of(self);
    SSL *ssl = self->x_ssl;
    api->ERR_clear_error();
    int got = api->SSL_read(ssl, into, clip(size));
    if (got > 0)
        return got;
    switch (api->SSL_get_error(ssl, got)) {
    case CL_SSL_WANT_READ:
    case CL_SSL_WANT_WRITE:
        return CL_TLS_AGAIN;
    case CL_SSL_ZERO_RETURN:
        return CL_TLS_CLOSED;
    default:
        return raise_error(self, sslobj, cl_tls_of(st)->str_read, st->one);
    }
}

static Py_ssize_t
write_directly(TLSObject *self, PyObject *sslobj, const char *data,
               size_t size)
{
    cl_state *st = self->x_loop->l_st;
    const cl_openssl *api = api_of(self);
    SSL *ssl = self->x_ssl;
    api->ERR_clear_error();
    int sent = api->SSL_write(ssl, data, clip(size));
    if (sent > 0)
        return sent;
    switch (api->SSL_get_error(ssl, sent)) {
    case CL_SSL_WANT_READ:
    case CL_SSL_WANT_WRITE:
        return CL_TLS_AGAIN;
    default: /* if the peer has closed: asyncio's raises SSLZeroReturnError */
        return raise_error(self, sslobj, cl_tls_of(st)->str_write,
                           st->one_byte);
    }
}

/* Begins a call of the library: the two objects are owned. Returns 1 if it goes
 * the direct way, 0 if not, CL_TLS_AGAIN if the library can't be called. */
static int
enter(TLSObject *self, PyObject **sslobj, PyObject **ssl_socket)
{
    if (!is_callable(self))
        return CL_TLS_AGAIN;
    *sslobj = Py_NewRef(self->x_sslobj);
    bool stock = self->x_ssl != NULL && has_stock_methods(self, *sslobj);
    if (!is_callable(self)) { /* keys of a program ran Python */
        Py_DECREF(*sslobj);
        return CL_TLS_AGAIN;
    }
    *ssl_socket = Py_XNewRef(self->x_ssl_socket);
    self->x_flags |= CL_X_BUSY;
    return stock;
}

static void
leave(TLSObject *self, PyObject *sslobj, PyObject *ssl_socket)
{
    self->x_flags &= (uint16_t)~CL_X_BUSY;
    Py_DECREF(sslobj);
    Py_XDECREF(ssl_socket);
}

Py_ssize_t
cl_engine_read(TLSObject *self, char *into, size_t size)
{
    PyObject *sslobj, *ssl_socket;
    cl_assert_of(self, into != NULL && size > 0);
    int way = enter(self, &sslobj, &ssl_socket);
    if (way < 0)
        return way;
    Py_ssize_t got = way > 0 ? read_directly(self, sslobj, into, size)
                             : read_by_method(self, sslobj, into, size);
    leave(self, sslobj, ssl_socket);
    return got;
}

Py_ssize_t
cl_engine_write(TLSObject *self, const char *data, size_t size)
{
    PyObject *sslobj, *ssl_socket;
    cl_assert_of(self, data != NULL && size > 0);
    int way = enter(self, &sslobj, &ssl_socket);
    if (way < 0)
        return way;
    Py_ssize_t sent = way > 0 ? write_directly(self, sslobj, data, size)
                              : write_by_method(self, sslobj, data, size);
    leave(self, sslobj, ssl_socket);
    return sent;
}
