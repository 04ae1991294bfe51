/* writing.c - encrypts what the application writes, and passes it to the
 * transport below. */
#include "tls/machine.h"

#include <string.h>

#include "core/errors.h"
#include "net/extra.h"
#include "net/stream.h"
#include "tls/engine.h"

/* Records are sent in batches of this size. */
#define SEND_MAX (128 * 1024)

/* Spare memory is kept up to this size. */
#define SPARE_MAX (2 * SEND_MAX)

size_t
cl_tls_write_buffer_size(const TLSObject *self)
{
    return cl_buffer_size(&self->x_out) + cl_buffer_size(&self->x_backlog);
}

void
cl_tls_count_buffered(TLSObject *self)
{
    size_t size = cl_tls_write_buffer_size(self);
    cl_net_count_buffered(self->x_loop, size - self->x_counted);
    self->x_counted = size;
}

/* ------------------------------------------------------------ the transport below */

static int
send_raw(TLSObject *self, const char *data, size_t size)
{
    if (self->x_flags & CL_X_RAW_IS_STREAM)
        return cl_outbox_send((StreamObject *)self->x_raw, data, size);
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    PyObject *result =
        bytes == NULL ? NULL
                      : PyObject_CallMethodOneArg(
                            self->x_raw,
                            cl_tls_of(self->x_loop->l_st)->str_write, bytes);
    Py_XDECREF(bytes);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Reuses memory from an earlier batch, which each batch would otherwise grow
 * anew. */
static void
lend_spare(TLSObject *self)
{
    cl_loop_tls *tls = cl_tls_on(self->x_loop);
    if (self->x_out.b_data != NULL)
        return;
    cl_assertf(cl_buffer_size(&tls->spare) == 0, "%zu bytes are in it",
               cl_buffer_size(&tls->spare));
    self->x_out = tls->spare;
    tls->spare = (cl_buffer){NULL};
}

static void
keep_spare(LoopObject *loop, cl_buffer *used)
{
    cl_loop_tls *tls = cl_tls_on(loop);
    if (tls->spare.b_data != NULL || used->b_capacity > SPARE_MAX) {
        cl_buffer_clear(used);
        return;
    }
    used->b_start = used->b_end = 0;
    tls->spare = *used;
}

/* Passes all pending records to the transport below. 0/-1 */
static int
push(TLSObject *self)
{
    LoopObject *loop = self->x_loop;
    int status = 0;
    cl_assert_of(self, !PyErr_Occurred());
    /* The transport below flushes held bytes first, even ours: what comes
     * later must not overtake these records. */
    if (cl_gather_flush(loop) < 0)
        return -1;
    cl_buffer out = self->x_out;
    self->x_out = (cl_buffer){NULL};
    if (cl_buffer_size(&out) > 0 && self->x_raw != NULL) {
        PyObject *raw =
            Py_NewRef(self->x_raw); /* Python code may run and clear it */
        status = send_raw(self, cl_buffer_first(&out), cl_buffer_size(&out));
        Py_DECREF(raw);
    }
    keep_spare(loop, &out);
    return status;
}

/* Before 3.11 the transport below takes everything and does flow control. */
static inline bool
must_hold(const TLSObject *self)
{
    return CL_HAS_TLS_SHUTDOWN_TIMEOUT &&
           (self->x_flags & CL_X_RAW_WRITING_PAUSED);
}

int
cl_tls_process_outgoing(TLSObject *self)
{
    if (!must_hold(self) && push(self) < 0)
        return -1;
    return cl_tls_control_writing(self);
}

int
cl_tls_send_rest(TLSObject *self)
{
    bool paused = must_hold(self);
    if (push(self) < 0)
        return -1;
    if (!paused)
        return cl_tls_control_writing(self);
    cl_tls_count_buffered(self);
    return 0;
}

/* ------------------------------------------------------------------- flow control */

static int
tell_app(TLSObject *self, bool pause)
{
    const cl_flow_target target = {
        self->x_loop,
        self->x_flags & CL_X_RAW_IS_STREAM ? (TransportObject *)self->x_raw
                                           : NULL,
        self->x_protocol,
        (PyObject *)self,
        (PyObject *)self,
    };
    return cl_flow_tell(&target, pause);
}

int
cl_tls_control_writing(TLSObject *self)
{
    cl_tls_count_buffered(self);
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return 0;
    size_t size = cl_tls_write_buffer_size(self);
    if (size >= self->x_writing.high && size > 0 &&
        !(self->x_flags & CL_X_WRITING_PAUSED)) {
        self->x_flags |= CL_X_WRITING_PAUSED;
        return tell_app(self, true);
    }
    if (size <= self->x_writing.low &&
        (self->x_flags & (CL_X_WRITING_PAUSED | CL_X_RAW_PAUSED_APP)) ==
            CL_X_WRITING_PAUSED) {
        self->x_flags &= (uint16_t)~CL_X_WRITING_PAUSED;
        return tell_app(self, false);
    }
    return 0;
}

void
cl_tls_take_over_pause(TLSObject *self, bool app_waits)
{
    self->x_flags |= CL_X_RAW_WRITING_PAUSED;
    if (app_waits)
        self->x_flags |= CL_X_WRITING_PAUSED | CL_X_RAW_PAUSED_APP;
}

void
cl_tls_expect_resume(TLSObject *self)
{
    self->x_flags |= CL_X_MAY_OWE_RESUME;
}

int
cl_tls_pause_writing(TLSObject *self)
{
    self->x_flags |= CL_X_RAW_WRITING_PAUSED;
    self->x_flags &= (uint16_t)~CL_X_MAY_OWE_RESUME;
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return 0;
    self->x_flags |= CL_X_WRITING_PAUSED;
    return cl_tls_call(self->x_protocol,
                       cl_tls_of(self->x_loop->l_st)->str_pause_writing);
}

int
cl_tls_resume_writing(TLSObject *self)
{
    if ((self->x_flags & (CL_X_MAY_OWE_RESUME | CL_X_RAW_WRITING_PAUSED)) ==
        CL_X_MAY_OWE_RESUME)
        self->x_flags |= CL_X_WRITING_PAUSED;
    self->x_flags &= (uint16_t) ~(CL_X_RAW_WRITING_PAUSED |
                                  CL_X_RAW_PAUSED_APP | CL_X_MAY_OWE_RESUME);
    if (CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return cl_tls_process_outgoing(self);
    if (!(self->x_flags & CL_X_WRITING_PAUSED))
        return 0; /* another protocol was told to pause */
    self->x_flags &= (uint16_t)~CL_X_WRITING_PAUSED;
    return cl_tls_call(self->x_protocol,
                       cl_tls_of(self->x_loop->l_st)->str_resume_writing);
}

/* ------------------------------------------------------------------------ writing */

/* Encrypts data until TLS must receive something first. *taken is the number
 * of bytes used. 0/-1 */
static int
make_records(TLSObject *self, const char *data, size_t size, size_t *taken)
{
    *taken = 0;
    cl_assert_of(self, size == 0 || data != NULL);
    lend_spare(self);
    while (*taken < size) {
        Py_ssize_t count = cl_engine_write(self, data + *taken, size - *taken);
        if (count == CL_TLS_AGAIN)
            break;
        if (count < 0)
            return -1;
        *taken += (size_t)count;
        cl_assertf(*taken <= size, "%zu of %zu", *taken, size);
        /* Before 3.11 the transport below may call the application's
         * pause_writing(), and what that writes comes after all of this. */
        if (CL_HAS_TLS_SHUTDOWN_TIMEOUT &&
            cl_buffer_size(&self->x_out) >= SEND_MAX && !must_hold(self)) {
            if (push(self) < 0)
                return -1;
            if (self->x_state == CL_TLS_UNWRAPPED)
                break; /* it broke, and nothing waits for the rest */
            lend_spare(self);
        }
    }
    return 0;
}

static int
keep(TLSObject *self, const char *data, size_t size)
{
    int err = cl_buffer_append(&self->x_backlog, data, size);
    cl_tls_count_buffered(self);
    if (err == 0)
        return 0;
    PyErr_NoMemory();
    return -1;
}

int
cl_tls_write_backlog(TLSObject *self)
{
    cl_buffer backlog = self->x_backlog;
    size_t taken;
    self->x_backlog = (cl_buffer){NULL}; /* Python code may run and write */
    int status = make_records(self, cl_buffer_first(&backlog),
                              cl_buffer_size(&backlog), &taken);
    if (taken > 0)
        cl_buffer_drop(&backlog, taken);
    if (status < 0) {
        cl_buffer_clear(&backlog);
        return -1;
    }
    if (cl_buffer_size(&backlog) > 0) {
        cl_buffer later = self->x_backlog;
        self->x_backlog = backlog;
        status = keep(self, cl_buffer_first(&later), cl_buffer_size(&later));
        cl_buffer_clear(&later);
    }
    return status < 0 ? -1 : cl_tls_process_outgoing(self);
}

/* Encrypts and sends data. 0/-1 */
static int
write_now(TLSObject *self, const char *data, size_t size)
{
    size_t taken = 0;
    if (cl_buffer_size(&self->x_backlog) > 0)
        return keep(self, data, size) < 0 ? -1 : cl_tls_write_backlog(self);
    if (make_records(self, data, size, &taken) < 0 ||
        (taken < size && keep(self, data + taken, size - taken) < 0))
        return -1;
    return cl_tls_process_outgoing(self);
}

/* ------------------------------------------------------------------------ holding */

/* Encrypts what this transport holds. 0/-1 */
static int
write_held(TLSObject *self)
{
    cl_held held; /* ours: Python code may run and hold other bytes */
    cl_gather_take(self->x_loop, (PyObject *)self, &held);
    int status = self->x_state == CL_TLS_WRAPPED
                     ? write_now(self, held.rest, held.rest_size)
                     : 0;
    cl_gather_release(self->x_loop, &held);
    return status;
}

int
cl_tls_flush(TLSObject *self)
{
    if (!cl_gather_holds(self->x_loop, (PyObject *)self))
        return 0;
    return write_held(self) == 0 ? 0
                                 : cl_tls_broken(self, CL_TLS_WRITE_FAILED);
}

/* A cl_gather_send. */
static int
send_held(PyObject *op)
{
    TLSObject *self = (TLSObject *)op;
    int status = cl_tls_flush(self);
    if (status < 0 && !cl_error_is_exit()) {
        /* The code that wrote has returned: report the error. */
        PyObject *exception = PyErr_GetRaisedException();
        status =
            cl_report_transport(self->x_loop, "Fatal error on SSL protocol",
                                exception, self->x_raw, (PyObject *)self);
        Py_DECREF(exception);
    }
    return status;
}

/* Whether the data is now held, to be encrypted with the callback's other
 * writes. */
static bool
hold(TLSObject *self, const char *data, size_t size)
{
    bool below = self->x_flags & CL_X_RAW_IS_STREAM;
    cl_gather_write write = {
        .owner = (PyObject *)self,
        .send = send_held,
        .habit = &self->x_habit,
        .allowed = !must_hold(self) && cl_buffer_size(&self->x_backlog) == 0 &&
                   !(below &&
                     cl_transport_is_exposed((TransportObject *)self->x_raw)),
        .data = data,
        .size = size,
        .limit = CL_GATHER_MAX,
    };
    return cl_gather_hold(self->x_loop, &write);
}

int
cl_tls_takes(TLSObject *self)
{
    if (self->x_state == CL_TLS_HANDSHAKE || self->x_state == CL_TLS_WRAPPED)
        return 1;
    if (!CL_HAS_TLS_SHUTDOWN_TIMEOUT)
        return 0;
    return cl_flow_lost_write(self->x_loop, &self->x_conn_lost,
                              "SSL connection is closed");
}

int
cl_tls_write(TLSObject *self, const char *data, size_t size)
{
    cl_gather *gather = &cl_net_on(self->x_loop)->n_gather;
    cl_assert_of(self, size > 0 && data != NULL);
    cl_assert_of(self, !PyErr_Occurred());
    cl_check(cl_tls_check(self));
    if (cl_gather_join(self->x_loop, gather, (PyObject *)self, data, size))
        return 0;
    if (self->x_state == CL_TLS_WRAPPED &&
        (cl_net_prepare(self->x_loop) < 0 ||
         cl_gather_make_way(self->x_loop, gather, (PyObject *)self,
                            &self->x_habit) < 0))
        return -1;
    if (self->x_state == CL_TLS_HANDSHAKE)
        return keep(self, data, size);
    if (self->x_state != CL_TLS_WRAPPED)
        return 0;
    if (hold(self, data, size))
        return 0;
    if (cl_tls_flush(self) < 0)
        return -1;
    if (self->x_state != CL_TLS_WRAPPED) /* that failed */
        return 0;
    int status = write_now(self, data, size);
    cl_gather_sent(gather, (PyObject *)self);
    return status == 0 ? 0 : cl_tls_broken(self, CL_TLS_WRITE_FAILED);
}
