/* machine.c - see machine.h. */
#include "tls/machine.h"

#include <string.h>

#include "core/errors.h"
#include "core/fork.h"
#include "streams/feed.h"
#include "streams/streams.h"
#include "net/stream.h"
#include "tls/engine.h"

static inline cl_state *
state_of(const TLSObject *self)
{
    return self->x_loop->l_st;
}

int
cl_tls_call(PyObject *object, PyObject *method)
{
    if (object == NULL)
        return 0;
    Py_INCREF(object);
    PyObject *result = PyObject_CallMethodNoArgs(object, method);
    Py_DECREF(object);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* --------------------------------------------------------------------- invariants */

#define cl_assert_tls(self, condition) \
    cl_assertf(condition, \
               "TLS at %p: state %u, app %u, flags %x, in %zu, window %zu, " \
               "out %zu, backlog %zu", \
               (const void *)(self), (self)->x_state, (self)->x_app_state, \
               (self)->x_flags, cl_buffer_size(&(self)->x_in), \
               (self)->x_window_size, cl_buffer_size(&(self)->x_out), \
               cl_buffer_size(&(self)->x_backlog))

#ifdef CL_DEBUG
/* Whether the transport below is closed or about to be, after a failure. */
static bool
is_below_closing(const TLSObject *self)
{
    return self->x_raw == NULL ||
           ((self->x_flags & CL_X_RAW_IS_STREAM) &&
            ((TransportObject *)self->x_raw)->tr_flags & CL_T_CLOSING);
}

/* The application is paused if its bytes are above the mark, and never without
 * something that will let it go on. */
static void
check_flow(const TLSObject *self)
{
    size_t size = cl_tls_write_buffer_size(self);
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT || self->x_state != CL_TLS_WRAPPED ||
        is_below_closing(self))
        return;
    cl_assert_tls(self, (self->x_flags & CL_X_WRITING_PAUSED) || size == 0 ||
                            size < self->x_writing.high);
    cl_assert_tls(self, !(self->x_flags & CL_X_WRITING_PAUSED) || size > 0 ||
                            (self->x_flags &
                             (CL_X_RAW_WRITING_PAUSED | CL_X_RAW_PAUSED_APP)));
}

void
cl_tls_check(const TLSObject *self)
{
    cl_assert_gil();
    cl_assert_of(self, Py_REFCNT(self) > 0);
    cl_assert_tls(self, self->x_state <= CL_TLS_SHUTDOWN);
    cl_assert_tls(self, self->x_app_state <= CL_TLS_APP_LOST);
    cl_assert_tls(self, (self->x_ssl == NULL) == (self->x_bio == NULL));
    cl_assert_tls(self, self->x_ssl == NULL || self->x_incoming == NULL);
    cl_assert_tls(self,
                  (self->x_incoming == NULL) == (self->x_outgoing == NULL));
    cl_assert_tls(self, self->x_window_size == 0 || self->x_window != NULL);
    cl_assert_tls(self, self->x_writing.low <= self->x_writing.high);
    cl_assert_tls(self, self->x_reading.low <= self->x_reading.high);
    cl_assert_tls(self,
                  !(self->x_flags & CL_X_RAW_IS_STREAM) ||
                      (self->x_raw != NULL &&
                       Py_TYPE(self->x_raw) ==
                           cl_net_of(state_of(self))->SocketTransportType));
    cl_assert_tls(self,
                  self->x_state != CL_TLS_WRAPPED || self->x_sslobj != NULL);
    if (!(self->x_flags & CL_X_BUSY))
        check_flow(self);
}
#endif

/* ------------------------------------------------------------------------- timers */

static int
set_timer(TLSObject *self, PyObject *seconds, PyObject *method)
{
    PyObject *callback = PyObject_GetAttr((PyObject *)self, method);
    if (callback == NULL)
        return -1;
    PyObject *args[] = {(PyObject *)self->x_loop, seconds, callback};
    PyObject *timer = PyObject_VectorcallMethod(
        cl_tls_of(state_of(self))->str_call_later, args, 3, NULL);
    Py_DECREF(callback);
    Py_XSETREF(self->x_timer, timer);
    return timer == NULL ? -1 : 0;
}

static int
cancel_timer(TLSObject *self)
{
    PyObject *timer = self->x_timer;
    self->x_timer = NULL;
    int status = cl_tls_call(timer, cl_tls_of(state_of(self))->str_cancel);
    Py_XDECREF(timer);
    return status;
}

/* ------------------------------------------------------------------------ failing */

static int
force_close_raw(TLSObject *self, PyObject *exception)
{
    PyObject *raw = self->x_raw;
    if (raw == NULL)
        return 0;
    if (self->x_flags & CL_X_RAW_IS_STREAM)
        return cl_transport_force_close((TransportObject *)raw, exception);
    Py_INCREF(raw);
    PyObject *result = PyObject_CallMethodOneArg(
        raw, cl_tls_of(state_of(self))->str__force_close,
        exception ? exception : Py_None);
    Py_DECREF(raw);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
report_failure(TLSObject *self, PyObject *raw, const char *message,
               PyObject *exception)
{
    if (PyErr_GivenExceptionMatches(exception, PyExc_OSError))
        return cl_log_os_error(self->x_loop, (PyObject *)self, message,
                               exception);
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT &&
        PyErr_GivenExceptionMatches(
            exception, cl_futures_of(state_of(self))->CancelledError))
        return 0;
    return cl_report_transport(self->x_loop, message, exception, raw,
                               (PyObject *)self);
}

/* The same for any exception but KeyboardInterrupt and SystemExit. */
static int
fatal(TLSObject *self, const char *message)
{
    if (cl_error_is_exit())
        return -1;
    cl_assert_of(self, PyErr_Occurred() != NULL);
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *raw = Py_XNewRef(self->x_raw), *error = NULL;
    int status = 0;
    /* Send what the callback wrote before it raised, unless TLS itself failed
     * and would fail again. */
    if (!PyErr_GivenExceptionMatches(
            exception, cl_tls_of(state_of(self))->library->tls_SSLError))
        status = cl_tls_flush(self);
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT && status == 0)
        status = report_failure(self, raw, message, exception);
    cl_first_error(&error, status);
    cl_first_error(&error, force_close_raw(self, exception));
    status = cl_raise_first(error);
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT && status == 0)
        status = report_failure(self, raw, message, exception);
    Py_XDECREF(raw);
    Py_DECREF(exception);
    return status;
}

int
cl_tls_broken(TLSObject *self, const char *message)
{
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT &&
        !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    return fatal(self, message);
}

/* Calls set_exception(exception) on the creator's future, or set_result(None)
 * if `exception` is NULL. 0/-1 */
static int
wake_waiter(TLSObject *self, PyObject *exception)
{
    cl_state *st = state_of(self);
    PyObject *waiter = self->x_waiter, *result = NULL;
    if (waiter == NULL)
        return 0;
    self->x_waiter = NULL;
    PyObject *answer =
        PyObject_CallMethodNoArgs(waiter, cl_tls_of(st)->str_cancelled);
    int cancelled = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (cancelled == 0)
        result =
            exception == NULL
                ? PyObject_CallMethodOneArg(
                      waiter, cl_tls_of(st)->str_set_result, Py_None)
                : PyObject_CallMethodOneArg(
                      waiter, cl_tls_of(st)->str_set_exception, exception);
    int status = cancelled < 0 || (cancelled == 0 && result == NULL) ? -1 : 0;
    if (status < 0 && self->x_waiter == NULL)
        self->x_waiter = Py_NewRef(waiter); /* connection_lost() tries again */
    Py_DECREF(waiter);
    Py_XDECREF(result);
    return status;
}

/* ---------------------------------------------------------------------- handshake */

static int
handshake_failed(TLSObject *self)
{
    PyObject *exception = PyErr_GetRaisedException();
    bool certificate = PyErr_GivenExceptionMatches(
        exception, cl_tls_of(state_of(self))->library->tls_CertificateError);
    self->x_state = CL_TLS_UNWRAPPED;
    PyErr_SetRaisedException(Py_NewRef(exception));
    int status = fatal(
        self, certificate ? "SSL handshake failed on verifying the certificate"
                          : "SSL handshake failed");
    if (status == 0 && CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        status = wake_waiter(self, exception);
    Py_DECREF(exception);
    return status;
}

static int
log_handshake(TLSObject *self)
{
    LoopObject *loop = self->x_loop;
    double now;
    if (!loop->l_debug)
        return 0;
    if (cl_loop_time(loop, &now) < 0)
        return -1;
    PyObject *took = PyFloat_FromDouble((now - self->x_started) * 1e3);
    int status = took == NULL ? -1
                              : cl_log(loop, cl_tls_of(loop->l_st)->str_debug,
                                       "%r: SSL handshake took %.1f ms",
                                       (PyObject *)self, took, NULL);
    Py_XDECREF(took);
    return status;
}

static int
tell_connection_made(TLSObject *self)
{
    if (self->x_app_state != CL_TLS_APP_INIT)
        return 0;
    self->x_app_state = CL_TLS_APP_MADE;
    PyObject *protocol = Py_XNewRef(self->x_protocol);
    if (protocol == NULL) /* closed meanwhile, in a nested turn */
        return 0;
    PyObject *result = NULL;
    if (cl_streams_expect_writer(state_of(self), protocol) == 0)
        result = PyObject_CallMethodOneArg(
            protocol, cl_tls_of(state_of(self))->str_connection_made,
            (PyObject *)self);
    Py_DECREF(protocol);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
handshake_done(TLSObject *self)
{
    cl_assert_tls(self, self->x_state == CL_TLS_HANDSHAKE);
    self->x_state = CL_TLS_WRAPPED;
    self->x_flags |= CL_X_ESTABLISHED;
    cl_tls_on(self->x_loop)->handshakes++;
    bool made = log_handshake(self) == 0 && tell_connection_made(self) == 0;
    if (!made || wake_waiter(self, NULL) < 0) {
        if (CL_HAS_TLS_SHUTDOWN_TIMEOUT)
            return -1;
        if (!made)
            self->x_app_state =
                CL_TLS_APP_LOST; /* and connection_lost() is not called */
        return fatal(self, "SSL error in data received");
    }
    /* Send the end of the handshake with what was written meanwhile. */
    if (self->x_state == CL_TLS_WRAPPED && cl_tls_write_backlog(self) < 0)
        return -1;
    return cl_tls_read(self);
}

/* Gets the peer's certificate early: once TLS has failed the ssl module no
 * longer returns it, and connection_lost() may ask. Most clients have none.
 * 0/-1 */
static int
keep_peercert(TLSObject *self)
{
    cl_state *st = state_of(self);
    PyObject *sslobj = Py_NewRef(self->x_sslobj);
    PyObject *peercert =
        PyObject_CallMethodNoArgs(sslobj, cl_tls_of(st)->str_getpeercert);
    int status = peercert == NULL ? -1 : 0;
    if (status == 0 && peercert != Py_None &&
        ((self->x_extra == NULL && (self->x_extra = PyDict_New()) == NULL) ||
         PyDict_SetItem(self->x_extra, cl_tls_of(st)->str_peercert, peercert) <
             0))
        status = -1;
    Py_XDECREF(peercert);
    Py_DECREF(sslobj);
    return status;
}

/* A callback of the SSLContext closed the connection, so an error means
 * nothing. Returns -1 only for KeyboardInterrupt and SystemExit. */
static int
ended_meanwhile(int status)
{
    if (status != CL_TLS_FAILED)
        return 0;
    if (cl_error_is_exit())
        return -1;
    PyErr_Clear();
    return 0;
}

/* Keeps the exception that is set. */
static void
cancel_timer_after_failure(TLSObject *self)
{
    PyObject *error = NULL;
    cl_first_error(&error, -1);
    cl_first_error(&error, cancel_timer(self));
    (void)cl_raise_first(error);
}

static int
do_handshake(TLSObject *self)
{
    int status =
        cl_engine_call(self, cl_tls_of(state_of(self))->str_do_handshake);
    if (self->x_state != CL_TLS_HANDSHAKE)
        return ended_meanwhile(status);
    if (status == CL_TLS_AGAIN)
        return cl_tls_process_outgoing(self);
    if (status == CL_TLS_FAILED) {
        if (cl_error_is_exit() ||
            (CL_HAS_TLS_SHUTDOWN_TIMEOUT &&
             !PyErr_ExceptionMatches(
                 cl_tls_of(state_of(self))->library->tls_SSLError) &&
             !PyErr_ExceptionMatches(PyExc_MemoryError)))
            return -1;
        cancel_timer_after_failure(self);
        return handshake_failed(self);
    }
    if (cancel_timer(self) < 0)
        return -1;
    if (keep_peercert(self) < 0)
        return cl_error_is_exit() ? -1 : handshake_failed(self);
    return self->x_state == CL_TLS_HANDSHAKE ? handshake_done(self) : 0;
}

int
cl_tls_connection_made(TLSObject *self, PyObject *raw)
{
    cl_state *st = state_of(self);
    bool stream = Py_TYPE(raw) == cl_net_of(st)->SocketTransportType;
    self->x_flags = (uint16_t)((self->x_flags & ~CL_X_RAW_IS_STREAM) |
                               (stream ? CL_X_RAW_IS_STREAM : 0));
    CL_COUNT(cl_tls_on(self->x_loop)->open, self->x_raw == NULL);
    Py_XSETREF(self->x_raw, Py_NewRef(raw));
    if (stream && self->x_habit.hb_shared == NULL)
        cl_habit_init(&self->x_habit,
                      ((StreamObject *)raw)->s_out.out_habit.hb_shared);
    if (self->x_state != CL_TLS_UNWRAPPED)
        return 0;
    if (self->x_flags & CL_X_CLOSED) /* there was nothing to close yet */
        return cl_tls_abort(self, NULL);
    if (self->x_loop->l_debug &&
        (cl_log(self->x_loop, cl_tls_of(st)->str_debug,
                "%r starts SSL handshake", (PyObject *)self, NULL, NULL) < 0 ||
         cl_loop_time(self->x_loop, &self->x_started) < 0))
        return -1;
    self->x_state = CL_TLS_HANDSHAKE;
    self->x_begun = true;
    if (set_timer(self, self->x_handshake_timeout,
                  cl_tls_of(st)->str__check_handshake_timeout) < 0)
        return -1;
    if (self->x_sslobj == NULL && cl_engine_open(self) < 0) {
        cancel_timer_after_failure(self);
        return handshake_failed(self);
    }
    return do_handshake(self);
}

int
cl_tls_handshake_timed_out(TLSObject *self)
{
    if (self->x_state != CL_TLS_HANDSHAKE)
        return 0;
    PyErr_Format(
        PyExc_ConnectionAbortedError,
        "SSL handshake is taking longer than %S seconds: aborting the "
        "connection",
        self->x_handshake_timeout);
    return fatal(self, "Fatal error on transport");
}

/* ----------------------------------------------------------------------- shutdown */

static int
tell_eof(TLSObject *self)
{
    cl_state *st = state_of(self);
    if (self->x_app_state != CL_TLS_APP_MADE || self->x_protocol == NULL)
        return 0;
    self->x_app_state = CL_TLS_APP_EOF;
    PyObject *protocol = Py_NewRef(self->x_protocol);
    PyObject *answer =
        PyObject_CallMethodNoArgs(protocol, cl_tls_of(st)->str_eof_received);
    Py_DECREF(protocol);
    int keep_open = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (keep_open > 0)
        keep_open = cl_log(self->x_loop, cl_tls_of(st)->str_warning,
                           "returning true from eof_received() has no effect "
                           "when using ssl",
                           NULL, NULL, NULL);
    return keep_open < 0 ? -1 : 0;
}

/* The same after TLS has ended: an exception breaks the connection. 0/-1 */
static int
tell_eof_safely(TLSObject *self)
{
    return tell_eof(self) == 0 ? 0
                               : fatal(self, "Error calling eof_received()");
}

/* TLS has ended: closes the transport below. 0/-1 */
static int
close_raw(TLSObject *self)
{
    cl_state *st = state_of(self);
    if (self->x_raw == NULL)
        return 0;
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return cl_tls_call(self->x_raw, cl_tls_of(st)->str_close);
    PyObject *raw = Py_NewRef(self->x_raw);
    PyObject *close = PyObject_GetAttr(raw, cl_tls_of(st)->str_close);
    Py_DECREF(raw);
    int status = close == NULL
                     ? -1
                     : cl_loop_call_soon(self->x_loop, close, NULL, 0, NULL);
    Py_XDECREF(close);
    return status;
}

/* Whether the exception that is set says that the peer sent data after our
 * close_notify. If so, clears it. */
static bool
peer_sends_on(TLSObject *self)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *reason = PyObject_GetAttrString(error, "reason");
    bool so = reason != NULL && PyUnicode_Check(reason) &&
              PyUnicode_CompareWithASCIIString(
                  reason, "APPLICATION_DATA_AFTER_CLOSE_NOTIFY") == 0;
    Py_XDECREF(reason);
    PyErr_Clear();
    if (so)
        Py_DECREF(error);
    else
        PyErr_SetRaisedException(error);
    return so;
}

static int
do_shutdown(TLSObject *self)
{
    cl_state *st = state_of(self);
    int status = 0;
    cl_assert_tls(self, self->x_state == CL_TLS_SHUTDOWN);
    if (!(self->x_flags & CL_X_EOF))
        status = cl_engine_call(self, cl_tls_of(st)->str_unwrap);
    if (self->x_state != CL_TLS_SHUTDOWN)
        return ended_meanwhile(status);
    if (status == CL_TLS_AGAIN)
        return cl_tls_process_outgoing(self);
    if (status == CL_TLS_FAILED) {
        if (!PyErr_ExceptionMatches(cl_tls_of(st)->library->tls_SSLError))
            return -1;
        /* Nobody wants that data, and it is no error: a plain socket does not
         * wait for the peer either. The timer stays, for unsent data. */
        if (peer_sends_on(self))
            return cl_tls_send_rest(self) < 0 ? -1 : close_raw(self);
        cancel_timer_after_failure(self);
        return fatal(self, CL_HAS_TLS_SHUTDOWN_TIMEOUT
                               ? "Fatal error on transport"
                               : "SSL error in data received");
    }
    if (cl_tls_send_rest(self) < 0 ||
        (CL_HAS_TLS_SHUTDOWN_TIMEOUT && tell_eof_safely(self) < 0) ||
        cancel_timer(self) < 0)
        return -1;
    return close_raw(self);
}

/* Delivers received data, then starts the shutdown. If the peer ended the
 * connection, the protocol gets all of it, though its buffer may be small:
 * asyncio fills that once, and loses the rest. */
static int
do_flush(TLSObject *self)
{
    cl_assert_tls(self, self->x_state == CL_TLS_FLUSHING);
    size_t left = SIZE_MAX, before;
    bool again = CL_HAS_TLS_SHUTDOWN_TIMEOUT;
    while (again) {
        if (cl_tls_read(self) < 0)
            return -1;
        if (self->x_state != CL_TLS_FLUSHING)
            return 0; /* aborted by the protocol */
        before = left;
        left = cl_engine_unread(self) + cl_engine_pending(self);
        again = left > 0 && left < before && !(self->x_flags & CL_X_CLOSED);
        if (again && (self->x_flags & CL_X_READING_PAUSED))
            return 0; /* until it is resumed */
    }
    self->x_state = CL_TLS_SHUTDOWN;
    return do_shutdown(self);
}

static bool
is_parents(const TLSObject *self)
{
    const TransportObject *raw = (const TransportObject *)self->x_raw;
    return (self->x_flags & CL_X_RAW_IS_STREAM) && raw != NULL &&
           cl_fork_is_parents(raw->tr_loop, &raw->tr_watch);
}

int
cl_tls_start_shutdown(TLSObject *self)
{
    if (cl_tls_flush(self) < 0)
        return -1;
    if (self->x_state == CL_TLS_HANDSHAKE) {
        self->x_flags |= CL_X_CLOSED;
        return cl_tls_abort(self, NULL);
    }
    if (self->x_state != CL_TLS_WRAPPED)
        return 0;
    self->x_flags |= CL_X_CLOSED;
    if (is_parents(
            self)) /* a close_notify would end the parent's connection */
        return cl_tls_abort(self, NULL);
    self->x_state = CL_TLS_FLUSHING;
    /* Before 3.11 pause_reading() pauses the transport below, which would
     * never receive the peer's close_notify. */
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT && (self->x_flags & CL_X_RAW_IS_STREAM) &&
        cl_tls_call(self->x_raw,
                    cl_tls_of(state_of(self))->str_resume_reading) < 0)
        return -1;
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT &&
        set_timer(self, self->x_shutdown_timeout,
                  cl_tls_of(state_of(self))->str__check_shutdown_timeout) < 0)
        return -1;
    /* Unless the program's own method has ended it meanwhile. */
    return self->x_state == CL_TLS_FLUSHING ? do_flush(self) : 0;
}

int
cl_tls_close(TLSObject *self)
{
    /* The peer has ended the connection, and what it sent before is not wanted
     * any more: nothing else will come that ends it here. */
    const unsigned waits = CL_X_EOF | CL_X_READING_PAUSED;
    if (self->x_state != CL_TLS_FLUSHING || (self->x_flags & waits) != waits)
        return cl_tls_start_shutdown(self);
    self->x_flags |= CL_X_CLOSED;
    self->x_state = CL_TLS_SHUTDOWN;
    return do_shutdown(self);
}

int
cl_tls_shutdown_timed_out(TLSObject *self)
{
    if (self->x_state != CL_TLS_FLUSHING && self->x_state != CL_TLS_SHUTDOWN)
        return 0;
    PyObject *error =
        PyObject_CallFunction(cl_tls_of(state_of(self))->TimeoutError, "s",
                              "SSL shutdown timed out");
    int status = error == NULL ? -1 : force_close_raw(self, error);
    Py_XDECREF(error);
    return status;
}

int
cl_tls_abort(TLSObject *self, PyObject *exception)
{
    cl_state *st = state_of(self);
    if (cl_tls_flush(self) < 0)
        return -1;
    self->x_flags |= CL_X_CLOSED;
    self->x_state = CL_TLS_UNWRAPPED;
    if (exception != NULL)
        return force_close_raw(self, exception);
    PyObject *raw = Py_XNewRef(self->x_raw);
    int status = cl_tls_call(raw, cl_tls_of(st)->str_abort);
    if (status == 0 && !CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        status = cl_tls_call(raw, cl_tls_of(st)->str_close);
    Py_XDECREF(raw);
    return status;
}

/* ------------------------------------------------------------------------ reading */

/* Calls protocol.data_received() with the first `size` bytes of a bytes
 * object, and steals the reference. 0/-1 */
static int
hand_over(TLSObject *self, PyObject *data, Py_ssize_t size)
{
    cl_state *st = state_of(self);
    PyObject *protocol = Py_XNewRef(self->x_protocol), *result;
    int status =
        protocol == NULL
            ? 1
            : cl_feed(st, protocol, PyBytes_AS_STRING(data), (size_t)size);
    if (status == 0) {
        if (size < PyBytes_GET_SIZE(data))
            (void)_PyBytes_Resize(&data, size);
        result = data == NULL
                     ? NULL
                     : PyObject_CallMethodOneArg(
                           protocol, cl_tls_of(st)->str_data_received, data);
        Py_XDECREF(result);
        status = result == NULL ? -1 : 0;
    }
    Py_XDECREF(data);
    Py_XDECREF(protocol);
    return status < 0 ? -1 : 0;
}

/* Passes the data of one or more records to protocol.data_received(). Sets
 * *closed if the peer sent close_notify. 0/-1 */
static int
deliver_bytes(TLSObject *self, bool *closed, const char **failure)
{
    size_t room = cl_engine_unread(self) + cl_engine_pending(self);
    size_t size = 0;
    Py_ssize_t got = CL_TLS_AGAIN;
    cl_assert_of(self, !PyErr_Occurred());
    if (room == 0)
        return 0;
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    while (data != NULL) {
        if (size == room) { /* no record is larger, not even compressed */
            if (cl_engine_unread(self) + cl_engine_pending(self) == 0)
                break;
            room *= 2;
            if (_PyBytes_Resize(&data, (Py_ssize_t)room) < 0)
                break;
        }
        got =
            cl_engine_read(self, PyBytes_AS_STRING(data) + size, room - size);
        if (got <= 0)
            break;
        size += (size_t)got;
        if (self->x_ssl != NULL && cl_engine_unread(self) == 0 &&
            cl_engine_pending(self) == 0) {
            got = CL_TLS_AGAIN; /* it would have said so */
            break;
        }
    }
    if (data == NULL)
        return -1;
    *closed = got == CL_TLS_CLOSED;
    if (size == 0) {
        Py_DECREF(data);
        return got == CL_TLS_FAILED ? -1 : 0;
    }
    /* Deliver what came before a failure first. */
    PyObject *error = got == CL_TLS_FAILED ? PyErr_GetRaisedException() : NULL;
    int status = hand_over(self, data, (Py_ssize_t)size);
    if (status < 0) {
        *failure = "application protocol failed to receive SSL data";
        Py_CLEAR(error); /* the application's exception wins */
    }
    if (error != NULL) {
        PyErr_SetRaisedException(error);
        status = -1;
    }
    return status;
}

static int
call_do_read_soon(TLSObject *self)
{
    PyObject *callback = PyObject_GetAttr(
        (PyObject *)self, cl_tls_of(state_of(self))->str__do_read);
    int status = callback == NULL ? -1
                                  : cl_loop_call_soon(self->x_loop, callback,
                                                      NULL, 0, NULL);
    Py_XDECREF(callback);
    return status;
}

/* Calls protocol.get_buffer(sizehint) and exports the buffer. 0/-1 */
static int
get_buffer(TLSObject *self, PyObject *protocol, Py_buffer *view)
{
    size_t unread = cl_engine_unread(self); /* clears exceptions */
    PyObject *hint = PyLong_FromSize_t(unread);
    int status = cl_protocol_get_buffer(state_of(self), protocol, hint,
                                        "read() argument 2 must be", view);
    Py_XDECREF(hint);
    return status > 0 ? 0 : -1;
}

/* Fills the buffer of a BufferedProtocol once. *closed as above. 0/-1 */
static int
fill_buffer(TLSObject *self, PyObject *protocol, bool *closed,
            const char **failure)
{
    Py_buffer view;
    Py_ssize_t got = 0, size = 0;
    *failure = "application protocol failed to receive SSL data";
    if (get_buffer(self, protocol, &view) < 0)
        return -1;
    if (view.len == 0) { /* though its len() is not 0 */
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
        return -1;
    }
    while (size < view.len) {
        got = cl_engine_read(self, (char *)view.buf + size,
                             (size_t)(view.len - size));
        if (got <= 0)
            break;
        size += got;
    }
    bool full = size == view.len;
    PyObject *error = got == CL_TLS_FAILED ? PyErr_GetRaisedException() : NULL;
    PyBuffer_Release(&view);
    *closed = got == CL_TLS_CLOSED;
    if (full && call_do_read_soon(self) < 0)
        return -1;
    if (size > 0) {
        PyObject *count = PyLong_FromSsize_t(size);
        PyObject *result =
            count == NULL
                ? NULL
                : PyObject_CallMethodOneArg(
                      protocol, cl_tls_of(state_of(self))->str_buffer_updated,
                      count);
        Py_XDECREF(count);
        Py_XDECREF(result);
        if (result == NULL) {
            Py_XDECREF(error);
            return -1;
        }
    }
    if (error == NULL)
        return 0;
    *failure = NULL;
    PyErr_SetRaisedException(error);
    return -1;
}

static int
deliver(TLSObject *self, const char **failure)
{
    bool closed = false;
    int status;
    if (self->x_flags & CL_X_BUSY) /* nothing can be read inside a read */
        return 0;
    if (self->x_flags & CL_X_BUFFERED) {
        /* Asking a program's object how much there is may end all. */
        if (cl_engine_unread(self) + cl_engine_pending(self) == 0 ||
            self->x_protocol == NULL)
            return 0;
        PyObject *protocol = Py_NewRef(self->x_protocol);
        status = fill_buffer(self, protocol, &closed, failure);
        Py_DECREF(protocol);
    }
    else {
        status = deliver_bytes(self, &closed, failure);
    }
    if (status < 0)
        return -1;
    *failure = NULL;
    if (!closed)
        return 0;
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT && tell_eof_safely(self) < 0)
        return -1;
    return cl_tls_start_shutdown(self);
}

int
cl_tls_control_raw_reading(TLSObject *self)
{
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return 0;
    cl_state *st = state_of(self);
    size_t size = cl_engine_unread(self);
    bool paused = self->x_flags & CL_X_RAW_READING_PAUSED;
    if (!paused && size > 0 && size >= self->x_reading.high) {
        self->x_flags |= CL_X_RAW_READING_PAUSED;
        return cl_tls_call(self->x_raw, cl_tls_of(st)->str_pause_reading);
    }
    if (paused && size <= self->x_reading.low) {
        self->x_flags &= (uint16_t)~CL_X_RAW_READING_PAUSED;
        return cl_tls_call(self->x_raw, cl_tls_of(st)->str_resume_reading);
    }
    return 0;
}

/* Does not handle errors; *failure names them, if they have a name. */
static int
read_and_answer(TLSObject *self, const char **failure)
{
    if (!(self->x_flags & CL_X_READING_PAUSED)) {
        if (deliver(self, failure) < 0)
            return -1;
        int status = cl_buffer_size(&self->x_backlog) > 0
                         ? cl_tls_write_backlog(self)
                         : cl_tls_process_outgoing(self);
        if (status < 0)
            return -1;
    }
    return cl_tls_control_raw_reading(self);
}

int
cl_tls_read(TLSObject *self)
{
    const char *failure = NULL;
    if (self->x_state != CL_TLS_WRAPPED && self->x_state != CL_TLS_FLUSHING)
        return 0;
    if (read_and_answer(self, &failure) == 0)
        return 0;
    return cl_tls_broken(
        self, CL_HAS_TLS_SHUTDOWN_TIMEOUT ? "Fatal error on SSL protocol"
              : failure != NULL           ? failure
                                          : "SSL error in data received");
}

/* Data was received, or may be delivered again. */
static int
advance(TLSObject *self)
{
    switch (self->x_state) {
    case CL_TLS_HANDSHAKE:
        return do_handshake(self);
    case CL_TLS_WRAPPED:
        return cl_tls_read(self);
    case CL_TLS_FLUSHING:
        return do_flush(self);
    case CL_TLS_SHUTDOWN:
        return do_shutdown(self);
    default:
        return 0;
    }
}

int
cl_tls_resume(TLSObject *self)
{
    return self->x_state == CL_TLS_HANDSHAKE ? 0 : advance(self);
}

/* Copies what TLS has not read of the window. 0/-1 */
static int
keep_window(TLSObject *self)
{
    const char *rest = self->x_window;
    size_t size = self->x_window_size;
    self->x_window_size = 0;
    return size == 0 ? 0 : cl_engine_feed(self, rest, size);
}

int
cl_tls_received(PyObject *tls, const char *data, size_t size)
{
    TLSObject *self = (TLSObject *)tls;
    cl_assert(size == 0 || data != NULL);
    cl_check(cl_tls_check(self));
    if (size == 0 || self->x_raw == NULL || self->x_sslobj == NULL)
        return 0;
    /* A nested turn: the data of the outer one comes first. */
    if (keep_window(self) < 0)
        return -1;
    if (self->x_state != CL_TLS_WRAPPED || self->x_ssl == NULL ||
        (self->x_flags & CL_X_READING_PAUSED))
        return cl_engine_feed(self, data, size) < 0 ? -1 : advance(self);
    self->x_window = data;
    self->x_window_size = size;
    PyObject *error = NULL;
    cl_first_error(&error, advance(self));
    cl_first_error(&error, keep_window(self));
    cl_check(cl_tls_check(self));
    cl_assert_tls(self, self->x_window_size == 0);
    return cl_raise_first(error);
}

/* ------------------------------------------------------------ end of the connection */

/* EOF without a close_notify. */
static int
at_eof(TLSObject *self, bool *keep_open)
{
    switch (self->x_state) {
    case CL_TLS_HANDSHAKE:
        if (cancel_timer(self) < 0)
            return -1;
        PyErr_SetNone(PyExc_ConnectionResetError);
        return handshake_failed(self);
    case CL_TLS_WRAPPED:
        if (cl_tls_flush(self) < 0)
            return -1;
        if (self->x_state != CL_TLS_WRAPPED)
            return 0;
        self->x_state = CL_TLS_FLUSHING;
        if (!(self->x_flags & CL_X_READING_PAUSED) && do_flush(self) < 0)
            return -1;
        *keep_open = self->x_state == CL_TLS_FLUSHING;
        return 0;
    case CL_TLS_FLUSHING:
        if (cl_tls_write_backlog(self) < 0)
            return -1;
        if (self->x_state !=
            CL_TLS_FLUSHING) /* the transport below ended it */
            return 0;
        self->x_state = CL_TLS_SHUTDOWN;
        return do_shutdown(self);
    case CL_TLS_SHUTDOWN:
        return do_shutdown(self);
    default:
        return 0;
    }
}

/* Like asyncio before 3.11: only tells the application, which has got all that
 * arrived: a small buffer is filled once in a turn, and here until it is all. */
static int
at_eof_simply(TLSObject *self)
{
    bool in_handshake = self->x_state == CL_TLS_HANDSHAKE;
    size_t left = SIZE_MAX, before = 0;
    while ((self->x_flags & CL_X_BUFFERED) &&
           self->x_state == CL_TLS_WRAPPED && left != before && left > 0) {
        before = left;
        if (cl_tls_read(self) < 0)
            return -1;
        left = cl_engine_unread(self) + cl_engine_pending(self);
    }
    if (wake_waiter(self, PyExc_ConnectionResetError) < 0)
        return -1;
    return in_handshake ? 0 : tell_eof(self);
}

int
cl_tls_eof_received(TLSObject *self, bool *keep_open)
{
    LoopObject *loop = self->x_loop;
    cl_check(cl_tls_check(self));
    *keep_open = false;
    self->x_flags |= CL_X_EOF;
    int status = loop->l_debug
                     ? cl_log(loop, cl_tls_of(loop->l_st)->str_debug,
                              "%r received EOF", (PyObject *)self, NULL, NULL)
                     : 0;
    if (status == 0)
        status = CL_HAS_TLS_SHUTDOWN_TIMEOUT ? at_eof(self, keep_open)
                                             : at_eof_simply(self);
    if (status == 0 && CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return 0;
    PyObject *error = NULL;
    cl_first_error(&error, status);
    cl_first_error(&error,
                   cl_tls_call(self->x_raw, cl_tls_of(loop->l_st)->str_close));
    return cl_raise_first(error);
}

void
cl_tls_drop_raw(TLSObject *self)
{
    cl_loop_tls *on = cl_tls_on(self->x_loop);
    if (self->x_raw == NULL)
        return;
    CL_COUNT(on->open, -1);
    CL_COUNT(on->handshakes_failed,
             self->x_begun && !(self->x_flags & CL_X_ESTABLISHED));
    Py_CLEAR(self->x_raw);
    self->x_flags &= (uint16_t)~CL_X_RAW_IS_STREAM;
}

void
cl_tls_forget(TLSObject *self)
{
    self->x_flags &= (uint16_t)~CL_X_ESTABLISHED;
    Py_CLEAR(self->x_sslobj);
    Py_CLEAR(self->x_sslcontext);
    Py_CLEAR(self->x_extra);
}

int
cl_tls_connection_lost(TLSObject *self, PyObject *exception)
{
    cl_state *st = state_of(self);
    PyObject *protocol = Py_XNewRef(self->x_protocol);
    PyObject *error = NULL;
    bool told = self->x_app_state == CL_TLS_APP_MADE ||
                self->x_app_state == CL_TLS_APP_EOF;
    /* asyncio does not tell a protocol that came through start_tls() if the
     * connection breaks during the handshake. If it was paused, it would wait
     * for ever. */
    bool waits = self->x_flags & CL_X_RAW_PAUSED_APP;
    if (!(self->x_flags & CL_X_ESTABLISHED) && !CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        told = false;
    cl_gather_drop(self->x_loop, (PyObject *)self);
    self->x_conn_lost++;
    self->x_flags |= CL_X_CLOSED;
    if (((told && self->x_state != CL_TLS_HANDSHAKE) || waits) &&
        protocol != NULL) {
        self->x_app_state = CL_TLS_APP_LOST;
        PyObject *lost =
            PyObject_GetAttr(protocol, cl_tls_of(st)->str_connection_lost);
        cl_first_error(&error, lost == NULL
                                   ? -1
                                   : cl_loop_call_soon(self->x_loop, lost,
                                                       &exception, 1, NULL));
        Py_XDECREF(lost);
    }
    self->x_state = CL_TLS_UNWRAPPED;
    self->x_window_size = 0;
    Py_CLEAR(self->x_protocol);
    cl_engine_close(self);
    cl_tls_count_buffered(self);
    cl_first_error(&error,
                   wake_waiter(self, exception == Py_None ? NULL : exception));
    cl_first_error(&error, cancel_timer(self));
    cl_tls_drop_raw(self);
    if (self->x_flags & CL_X_FORGET)
        cl_tls_forget(self);
    cl_check(cl_tls_check(self));
    Py_XDECREF(protocol);
    return cl_raise_first(error);
}
