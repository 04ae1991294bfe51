/* sockop.c - see sockop.h. */
#include "net/sockop.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/probe.h"
#include "core/args.h"
#include "core/errors.h"
#include "core/lent.h"
#include "core/loop.h"
#include "futures/coro.h"
#include "futures/future.h"
#include "net/address.h"
#include "net/sock.h"

typedef struct SockOpObject {
    CoroObject so_coro;
    LoopObject *so_loop; /* owned */
    PyObject *so_sock;   /* owned; a plain socket.socket; NULL once done */
    PyObject *so_arg;    /* owned; buffer, data or address, or NULL */
    PyObject *so_error;  /* owned; error from sending while the task slept */
    Py_buffer so_view;   /* data of sendall(); obj is NULL if not held */
    Py_ssize_t so_size;  /* bytes wanted at most, or sent so far */
    struct sockaddr_storage *so_to; /* owned; address of sendto and connect */
    socklen_t so_to_len;
    int so_fd; /* the descriptor it waits for */
    uint8_t so_kind;
    bool so_begun; /* connect() was called */
    bool so_sent;  /* everything, while the task slept */
    bool so_woken; /* the descriptor became ready; the future has its result */
} SockOpObject;

/* Tries the system call. Returns 1 with a new reference in *result, 0 if it
 * would block, -1 on error, or INTERRUPTED. `fd` is -1 if the socket is
 * closed. */
enum { INTERRUPTED = 2 };
typedef int (*attempt_fn)(SockOpObject *op, int fd, PyObject **result);

typedef struct {
    const char *name;
    int nargs;
    unsigned direction;
    attempt_fn attempt;
} operation;

static const operation operations[CL_SOCK_COUNT];

/* --------------------------------------------------------------- system calls */

/* From this size on (M_MMAP_THRESHOLD) the C library would map and unmap
 * memory for each receive buffer. Asking first how much there is costs less. */
#define ASK_FIRST (120 * 1024)

/* The descriptor, once Python code has run: an argument's __buffer__() or an
 * audit hook may have closed the socket, and the number may be another's. */
static inline int
fd_now(const SockOpObject *op)
{
    return ((const cl_sock *)op->so_sock)->sk_fd;
}

static int
failed(void)
{
    if (cl_would_block(errno))
        return 0;
    /* Call it again at once: an edge is not reported a second time. */
    if (errno == EINTR)
        return INTERRUPTED;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Finds how many bytes a large recv() on a stream can get, at most `size`.
 * Returns 1; 0, -1 and INTERRUPTED as an attempt does. */
static int
available(int fd, Py_ssize_t *size)
{
    int ready = 0;
    char byte;
    if (ioctl(fd, FIONREAD, &ready) < 0)
        return 1; /* recv() reports the error */
    if (ready > 0) {
        if (ready < *size)
            *size = ready;
        return 1;
    }
    /* No data or EOF: only recv() can tell. */
    ssize_t peeked = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    if (peeked == 0)
        *size = 1;
    return peeked < 0 ? failed() : 1;
}

static int
try_recv(SockOpObject *op, int fd, PyObject **result)
{
    Py_ssize_t size = op->so_size;
    if (size >= ASK_FIRST &&
        ((const cl_sock *)op->so_sock)->sk_type == SOCK_STREAM) {
        int ready = available(fd, &size);
        if (ready != 1)
            return ready;
    }
    *result = PyBytes_FromStringAndSize(NULL, size);
    if (*result == NULL)
        return -1;
    if (size == 0) /* the socket module makes no system call either */
        return 1;
    ssize_t got =
        recv(fd, PyBytes_AS_STRING(*result), (size_t)size, MSG_DONTWAIT);
    cl_net_count_read(op->so_loop, fd, got);
    if (got < 0) {
        Py_CLEAR(*result);
        return failed();
    }
    if (got == 0) /* EOF: the socket will be closed next */
        cl_lent_settle(op->so_loop, fd);
    if (got < size && _PyBytes_Resize(result, got) < 0)
        return -1;
    return 1;
}

/* The argument is not a usable buffer: the socket's method raises the right
 * error. */
static int
refuse(SockOpObject *op, const char *method, PyObject *size)
{
    PyErr_Clear();
    PyObject *result = PyObject_CallMethod(
        op->so_sock, method, "OO", op->so_arg, size == NULL ? Py_None : size);
    if (result != NULL)
        PyErr_SetString(PyExc_TypeError, "a bytes-like object is required");
    Py_XDECREF(result);
    return -1;
}

static int
try_recv_into(SockOpObject *op, int fd, PyObject **result)
{
    Py_buffer view;
    if (PyObject_GetBuffer(op->so_arg, &view, PyBUF_WRITABLE) < 0) {
        PyObject *zero = PyLong_FromLong(0);
        int err = zero == NULL ? -1 : refuse(op, "recv_into", zero);
        Py_XDECREF(zero);
        return err;
    }
    ssize_t got = 0;
    fd = fd_now(op);
    if (view.len > 0) { /* like the socket module */
        got = recv(fd, view.buf, (size_t)view.len, MSG_DONTWAIT);
        cl_net_count_read(op->so_loop, fd, got);
    }
    int error = errno;
    bool ended = got == 0 && view.len > 0;
    PyBuffer_Release(&view);
    errno = error;
    if (got < 0)
        return failed();
    if (ended)
        cl_lent_settle(op->so_loop, fd);
    *result = PyLong_FromSsize_t(got);
    return *result == NULL ? -1 : 1;
}

/* Returns the pair (first, address). Steals `first`, which may be NULL. */
static int
with_address(SockOpObject *op, PyObject *first,
             const struct sockaddr_storage *from, socklen_t len,
             PyObject **result)
{
    PyObject *address = NULL;
    if (first == NULL)
        return -1;
    address = cl_address_from_sockaddr(op->so_loop->l_st,
                                       (const struct sockaddr *)from, len);
    if (address == NULL && !PyErr_Occurred())
        address = Py_NewRef(
            Py_None); /* a family that cloop does not start operations for */
    if (address != NULL)
        *result = PyTuple_Pack(2, first, address);
    Py_XDECREF(address);
    Py_DECREF(first);
    return *result == NULL ? -1 : 1;
}

static int
try_recvfrom(SockOpObject *op, int fd, PyObject **result)
{
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof(from);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, op->so_size);
    if (bytes == NULL)
        return -1;
    ssize_t got = recvfrom(fd, PyBytes_AS_STRING(bytes), (size_t)op->so_size,
                           MSG_DONTWAIT, (struct sockaddr *)&from, &len);
    cl_net_count_read(op->so_loop, fd, got);
    if (got < 0) {
        Py_DECREF(bytes);
        return failed();
    }
    if (got < op->so_size && _PyBytes_Resize(&bytes, got) < 0)
        return -1;
    return with_address(op, bytes, &from, len, result);
}

static int
try_recvfrom_into(SockOpObject *op, int fd, PyObject **result)
{
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof(from);
    Py_buffer view;
    Py_ssize_t size = op->so_size;
    bool usable = PyObject_GetBuffer(op->so_arg, &view, PyBUF_WRITABLE) == 0;
    if (usable && size == 0)
        size = view.len;
    if (!usable || size > view.len) {
        PyObject *number;
        if (usable)
            PyBuffer_Release(&view);
        PyErr_Clear();
        number = PyLong_FromSsize_t(size);
        int err = number == NULL ? -1 : refuse(op, "recvfrom_into", number);
        Py_XDECREF(number);
        return err;
    }
    fd = fd_now(op);
    ssize_t got = recvfrom(fd, view.buf, (size_t)size, MSG_DONTWAIT,
                           (struct sockaddr *)&from, &len);
    cl_net_count_read(op->so_loop, fd, got);
    int error = errno;
    PyBuffer_Release(&view);
    errno = error;
    if (got < 0)
        return failed();
    return with_address(op, PyLong_FromSsize_t(got), &from, len, result);
}

static int
try_sendall(SockOpObject *op, int fd, PyObject **result)
{
    if (op->so_view.obj == NULL &&
        PyObject_GetBuffer(op->so_arg, &op->so_view, PyBUF_SIMPLE) < 0) {
        op->so_view.obj = NULL;
        return -1;
    }
    const cl_sock *sock = (const cl_sock *)op->so_sock;
    fd = fd_now(op);
    Py_ssize_t most = cl_is_tcp(sock->sk_family, sock->sk_type, sock->sk_proto)
                          ? CL_SEGMENT_MAX
                          : PY_SSIZE_T_MAX;
    /* Until it would block: see the waiters in lent.h. */
    do {
        Py_ssize_t left = op->so_view.len - op->so_size;
        ssize_t sent =
            send(fd, (const char *)op->so_view.buf + op->so_size,
                 (size_t)(left < most ? left : most), CL_SEND_FLAGS);
        cl_net_count_write(op->so_loop, fd, sent);
        if (sent < 0)
            return failed();
        cl_loop_poll_soon(op->so_loop);
        op->so_size += sent;
    } while (op->so_size < op->so_view.len);
    *result = Py_NewRef(Py_None);
    return 1;
}

static int
try_sendto(SockOpObject *op, int fd, PyObject **result)
{
    Py_buffer view;
    if (PyObject_GetBuffer(op->so_arg, &view, PyBUF_SIMPLE) < 0)
        return -1;
    fd = fd_now(op);
    ssize_t sent = sendto(fd, view.buf, (size_t)view.len, CL_SEND_FLAGS,
                          (const struct sockaddr *)op->so_to, op->so_to_len);
    cl_net_count_write(op->so_loop, fd, sent);
    int error = errno;
    PyBuffer_Release(&view);
    errno = error;
    if (sent < 0)
        return failed();
    cl_loop_poll_soon(op->so_loop);
    *result = PyLong_FromSsize_t(sent);
    return *result == NULL ? -1 : 1;
}

/* Raises asyncio's OSError for a connection that failed later. */
static int
connect_failed(SockOpObject *op, int error)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)op->so_to;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)op->so_to;
    PyObject *address;
    if (op->so_to->ss_family == AF_INET)
        address = Py_BuildValue("(Oi)", PyTuple_GET_ITEM(op->so_arg, 0),
                                (int)ntohs(in->sin_port));
    else if (op->so_to->ss_family == AF_INET6)
        address = Py_BuildValue("(OiII)", PyTuple_GET_ITEM(op->so_arg, 0),
                                (int)ntohs(in6->sin6_port),
                                (unsigned)ntohl(in6->sin6_flowinfo),
                                (unsigned)in6->sin6_scope_id);
    else
        address = Py_NewRef(op->so_arg);
    cl_sock_raise_failed(error, address);
    return -1;
}

static int
begin_or_end_connect(SockOpObject *op, int fd, PyObject **result)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (op->so_begun) {
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
            return failed();
        if (cl_sock_is_in_progress(error))
            return 0;
        if (error != 0)
            return connect_failed(op, error);
    }
    else {
        if (PySys_Audit("socket.connect", "OO", op->so_sock, op->so_arg) < 0)
            return -1;
        fd = fd_now(op);
        op->so_begun = true;
        cl_loop_poll_soon(op->so_loop);
        if (connect(fd, (const struct sockaddr *)op->so_to, op->so_to_len) <
            0) {
            if (cl_sock_is_in_progress(errno))
                return 0;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
    }
    *result = Py_NewRef(Py_None);
    return 1;
}

static int
try_connect(SockOpObject *op, int fd, PyObject **result)
{
    int status = begin_or_end_connect(op, fd, result);
    /* A datagram socket only gets an address. */
    if (((const cl_sock *)op->so_sock)->sk_type != SOCK_DGRAM) {
        cl_net_counts *counts = cl_net_counts_of(op->so_loop);
        counts->nc_connected += status == 1;
        counts->nc_connect_failed += status < 0;
    }
    return status;
}

/* Returns a non-blocking socket object for a new connection, which owns fd. */
static PyObject *
connection(SockOpObject *op, int fd)
{
    const cl_sock *listening = (const cl_sock *)op->so_sock;
    PyObject *sock = PyObject_CallFunction(
        cl_net_of(op->so_loop->l_st)->socket_type, "iiii",
        listening->sk_family, listening->sk_type, listening->sk_proto, fd);
    if (sock == NULL) {
        close(fd);
        return NULL;
    }
    PyObject *set = PyObject_CallMethod(sock, "setblocking", "O", Py_False);
    if (set == NULL)
        Py_CLEAR(sock);
    Py_XDECREF(set);
    return sock;
}

static int
try_accept(SockOpObject *op, int fd, PyObject **result)
{
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof(from);
    int accepted = cl_accept(fd, (struct sockaddr *)&from, &len);
    if (accepted < 0)
        return failed();
    CL_PROBE2(accept, op->so_loop, accepted);
    cl_net_counts_of(op->so_loop)->nc_accepted++;
    return with_address(op, connection(op, accepted), &from, len, result);
}

static const operation operations[CL_SOCK_COUNT] = {
    [CL_SOCK_RECV] = {"sock_recv", 2, CL_READ, try_recv},
    [CL_SOCK_RECV_INTO] = {"sock_recv_into", 2, CL_READ, try_recv_into},
    [CL_SOCK_RECVFROM] = {"sock_recvfrom", 2, CL_READ, try_recvfrom},
    [CL_SOCK_RECVFROM_INTO] = {"sock_recvfrom_into", 3, CL_READ,
                               try_recvfrom_into},
    [CL_SOCK_SENDALL] = {"sock_sendall", 2, CL_WRITE, try_sendall},
    [CL_SOCK_SENDTO] = {"sock_sendto", 3, CL_WRITE, try_sendto},
    [CL_SOCK_CONNECT] = {"sock_connect", 2, CL_WRITE, try_connect},
    [CL_SOCK_ACCEPT] = {"sock_accept", 1, CL_READ, try_accept},
};

const char *
cl_sockop_name(cl_sockop_kind kind)
{
    return operations[kind].name;
}

int
cl_sockop_nargs(cl_sockop_kind kind)
{
    return operations[kind].nargs;
}

/* -------------------------------------------------------------------- waiting */

static int
try_again(SockOpObject *op, PyObject **result)
{
    cl_assert_of(op, op->so_kind < CL_SOCK_COUNT && op->so_sock != NULL);
    *result = NULL;
    /* What was written to a transport before arrives before. */
    if (operations[op->so_kind].direction == CL_WRITE &&
        cl_gather_flush(op->so_loop) < 0)
        return -1;
    int fd = cl_sock_fd(op->so_loop->l_st, op->so_sock), status;
    do {
        *result = NULL;
        status = operations[op->so_kind].attempt(op, fd, result);
    } while (status == INTERRUPTED);
    cl_assert_of(op, (status == 1) == (*result != NULL));
    cl_assert_of(op, (status < 0) == (PyErr_Occurred() != NULL));
    return status;
}

static void
leave(SockOpObject *op)
{
    if (op->so_fd >= 0)
        cl_lent_leave(op->so_loop, op->so_fd,
                      operations[op->so_kind].direction, (PyObject *)op);
    op->so_fd = -1;
}

/* Resumes the task, which may have been cancelled in this turn. If the
 * future's result cannot be set, the operation stays registered and will be
 * woken again. There must be room for the task before: a future that is done
 * would not wake it again. */
static int
wake(SockOpObject *op)
{
    cl_state *st = op->so_loop->l_st;
    cl_assert_of(op, op->so_coro.c_state == CL_CORO_WAITING &&
                         op->so_coro.c_future != NULL);
    cl_assert_of(op, !PyErr_Occurred());
    if (cl_loop_reserve(op->so_loop, 1) < 0)
        return -1;
    op->so_woken = true;
    PyObject *set = PyObject_CallMethodOneArg(
        op->so_coro.c_future, cl_net_of(st)->str_set_result, Py_None);
    if (set == NULL) {
        bool was_done =
            PyErr_ExceptionMatches(cl_futures_of(st)->InvalidStateError);
        PyObject *error = PyErr_GetRaisedException();
        if (op->so_coro.c_future != NULL &&
            cl_coro_future_is_done(&op->so_coro) == 0) {
            op->so_woken = false;
            PyErr_SetRaisedException(error);
            return -1;
        }
        PyErr_Clear();
        if (!was_done) {
            leave(op);
            PyErr_SetRaisedException(error);
            return -1;
        }
        Py_DECREF(error);
    }
    Py_XDECREF(set);
    if (op->so_woken) /* else the task ran meanwhile and waits again */
        leave(op);
    return 0;
}

static int wake_soon(SockOpObject *op);

static PyObject *
connected(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    SockOpObject *op = (SockOpObject *)self;
    /* Unless it was cancelled or has lost its place meanwhile. */
    if (op->so_coro.c_state != CL_CORO_WAITING ||
        op->so_coro.c_future == NULL || op->so_fd < 0 || wake(op) == 0)
        Py_RETURN_NONE;
    PyObject *error = PyErr_GetRaisedException();
    if (wake_soon(op) < 0) /* else it would wait for ever */
        PyErr_Clear();
    PyErr_SetRaisedException(error);
    return NULL;
}

static PyMethodDef connected_def = {"_sock_connect_cb", connected, METH_NOARGS,
                                    NULL};

/* The same by a callback of this turn, as asyncio does: the task goes on in the
 * next. 0/-1 */
static int
wake_soon(SockOpObject *op)
{
    return cl_loop_push_method(op->so_loop, &connected_def, (PyObject *)op);
}

static int
op_ready(LoopObject *Py_UNUSED(loop), PyObject *waiter)
{
    SockOpObject *op = (SockOpObject *)waiter;
    PyObject *result;
    if (op->so_coro.c_state != CL_CORO_WAITING ||
        op->so_coro.c_future == NULL) {
        leave(op);
        return 0;
    }
    /* Connecting is no question of speed, and its turns those of asyncio's
     * create_connection(). */
    if (op->so_kind == CL_SOCK_CONNECT)
        return wake_soon(op);
    if (op->so_kind == CL_SOCK_SENDALL) {
        int done = cl_coro_future_is_done(&op->so_coro);
        if (done != 0) {
            leave(op);
            return done < 0 ? -1 : 0;
        }
        int status = try_again(op, &result);
        if (status == 0)
            return 0;
        if (status < 0)
            Py_XSETREF(op->so_error, PyErr_GetRaisedException());
        op->so_sent = status > 0;
        Py_XDECREF(result);
    }
    return wake(op);
}

static int
op_failed(LoopObject *Py_UNUSED(loop), PyObject *waiter, PyObject *error)
{
    SockOpObject *op = (SockOpObject *)waiter;
    if (op->so_coro.c_state != CL_CORO_WAITING ||
        op->so_coro.c_future == NULL) {
        leave(op);
        return 0;
    }
    Py_XSETREF(op->so_error, Py_NewRef(error));
    return wake(op);
}

/* As in asyncio, a task whose registration was replaced waits for ever. But if
 * its socket was closed and the number reused, it gets EBADF. */
static int
op_lost(LoopObject *Py_UNUSED(loop), PyObject *waiter)
{
    SockOpObject *op = (SockOpObject *)waiter;
    int fd = op->so_fd;
    op->so_fd = -1;
    if (op->so_coro.c_state != CL_CORO_WAITING ||
        op->so_coro.c_future == NULL ||
        cl_sock_fd(op->so_loop->l_st, op->so_sock) == fd)
        return 0;
    return wake(op);
}

static const cl_waiter_ops waiter_ops = {
    .ready = op_ready, .lost = op_lost, .failed = op_failed};

/* Waits for a future that is done when the descriptor is ready. 0/-1 */
static int
start_waiting(SockOpObject *op)
{
    LoopObject *loop = op->so_loop;
    cl_state *st = loop->l_st;
    int fd = cl_sock_fd(st, op->so_sock), status = -1;
    cl_assert_gil();
    PyObject *future = cl_future_create(st, (PyObject *)loop);
    if (future == NULL)
        return -1;
    if (cl_lent_check_free(loop, NULL, fd) == 0 &&
        cl_coro_wait(&op->so_coro, future) == 0 &&
        cl_loop_check_open(loop) == 0 &&
        cl_lent_wait(loop, fd, op->so_sock, operations[op->so_kind].direction,
                     (PyObject *)op, &waiter_ops) == 0) {
        op->so_fd = fd;
        op->so_woken = false;
        status = 0;
    }
    Py_DECREF(future);
    return status;
}

/* ---------------------------------------------------------------- one step */

static int
check_debug(SockOpObject *op)
{
    PyObject *timeout = PyObject_CallMethod(op->so_sock, "gettimeout", NULL);
    if (timeout == NULL)
        return -1;
    /* None means blocking too. */
    bool blocking = !PyFloat_Check(timeout) || PyFloat_AS_DOUBLE(timeout) != 0;
    Py_DECREF(timeout);
    if (!blocking)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
    return -1;
}

/* Called when the future is done. 0, or -1 with the exception to raise. */
static int
resume(SockOpObject *op)
{
    if (op->so_error != NULL) {
        PyErr_SetRaisedException(op->so_error);
        op->so_error = NULL;
        return -1;
    }
    return op->so_woken ? 0 : cl_coro_resume(&op->so_coro);
}

static PySendResult
step(CoroObject *coro, PyObject *sent, PyObject **result)
{
    SockOpObject *op = (SockOpObject *)coro;
    int status = 0;
    if (sent != NULL)
        status = resume(op);
    else if (op->so_loop->l_debug)
        status = check_debug(op);
    if (status < 0)
        return PYGEN_ERROR;
    if (op->so_sent) {
        *result = Py_NewRef(Py_None);
        status = 1;
    }
    else {
        status = try_again(op, result);
    }
    if (status < 0 || (status == 0 && start_waiting(op) < 0))
        return PYGEN_ERROR;
    if (status == 0)
        return PYGEN_NEXT;
    leave(op);
    return PYGEN_RETURN;
}

static void
fail(CoroObject *coro)
{
    SockOpObject *op = (SockOpObject *)coro;
    PyObject *error = PyErr_GetRaisedException();
    int fd =
        op->so_sock == NULL ? -1 : cl_sock_fd(op->so_loop->l_st, op->so_sock);
    leave(op);
    if (fd >= 0 && op->so_loop->l_open)
        cl_lent_settle(op->so_loop, fd);
    PyErr_SetRaisedException(error);
}

/* Releases what a finished operation no longer needs. Runs destructors. */
static void
drop(CoroObject *coro)
{
    SockOpObject *op = (SockOpObject *)coro;
    if (op->so_view.obj != NULL)
        PyBuffer_Release(&op->so_view);
    Py_CLEAR(op->so_error);
    Py_CLEAR(op->so_arg);
    Py_CLEAR(op->so_sock);
}

static const char *
name(const CoroObject *coro)
{
    return operations[((const SockOpObject *)coro)->so_kind].name;
}

static PyObject *
stock(const CoroObject *coro)
{
    return cl_net_of(coro->c_st)->SelectorEventLoop;
}

static PyObject *
arguments(const CoroObject *coro)
{
    const SockOpObject *op = (const SockOpObject *)coro;
    return op->so_arg == NULL
               ? PyTuple_Pack(2, op->so_loop, op->so_sock)
               : PyTuple_Pack(3, op->so_loop, op->so_sock, op->so_arg);
}

static LoopObject *
loop_of(const CoroObject *coro)
{
    return ((const SockOpObject *)coro)->so_loop;
}

static const cl_coro_ops coro_ops = {.owner = "Loop",
                                     .name = name,
                                     .stock = stock,
                                     .args = arguments,
                                     .step = step,
                                     .fail = fail,
                                     .loop = loop_of,
                                     .drop = drop};

/* ---------------------------------------------------- creation and deallocation */

/* Converts the address of sendto or connect. Returns 1, 0 if asyncio must do
 * it, -1 on error. */
static int
take_address(SockOpObject *op, PyObject *address)
{
    struct sockaddr_storage to;
    const cl_sock *inside = (const cl_sock *)op->so_sock;
    int status = cl_address_to_sockaddr(op->so_loop->l_st, inside->sk_family,
                                        address, &to, &op->so_to_len);
    if (status <= 0)
        return status;
    op->so_to = PyMem_Malloc(sizeof(to));
    if (op->so_to == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(op->so_to, &to, sizeof(to));
    return 1;
}

static bool
take_size(SockOpObject *op, PyObject *number)
{
    if (!PyLong_CheckExact(number))
        return false;
    op->so_size = PyLong_AsSsize_t(number);
    if (op->so_size == -1 && PyErr_Occurred())
        PyErr_Clear();
    return op->so_size >= 0;
}

/* Python's view of the socket. If another owner of the file made it blocking,
 * asyncio's methods block too. */
static bool
never_blocks(const cl_sock *inside)
{
    return inside->sk_fd >= 0 && inside->sk_timeout == 0;
}

/* Whether asyncio would connect without its resolver: a numeric address. */
static bool
connects_directly(const cl_sock *inside, PyObject *address)
{
    if (inside->sk_family == AF_UNIX)
        return true;
    return (inside->sk_type == SOCK_STREAM || inside->sk_type == SOCK_DGRAM) &&
           (inside->sk_proto == 0 || inside->sk_proto == IPPROTO_TCP ||
            inside->sk_proto == IPPROTO_UDP) &&
           PyTuple_Check(address) && PyTuple_GET_SIZE(address) >= 2 &&
           PyUnicode_CheckExact(PyTuple_GET_ITEM(address, 0));
}

static bool
has_known_addresses(const cl_sock *inside)
{
    return inside->sk_family == AF_INET || inside->sk_family == AF_INET6 ||
           inside->sk_family == AF_UNIX;
}

/* Takes the arguments. Returns 1, 0 if asyncio must handle them, -1 on error. */
static int
take_args(SockOpObject *op, const cl_sock *inside, PyObject *const *args)
{
    op->so_arg =
        Py_XNewRef(operations[op->so_kind].nargs > 1 ? args[1] : NULL);
    switch ((cl_sockop_kind)op->so_kind) {
    case CL_SOCK_RECV:
        return take_size(op, args[1]);
    case CL_SOCK_RECVFROM:
        return has_known_addresses(inside) && take_size(op, args[1]);
    case CL_SOCK_RECVFROM_INTO:
        return has_known_addresses(inside) && take_size(op, args[2]);
    case CL_SOCK_SENDTO:
        return take_address(op, args[2]);
    case CL_SOCK_CONNECT:
        return connects_directly(inside, args[1]) && never_blocks(inside)
                   ? take_address(op, args[1])
                   : 0;
    case CL_SOCK_ACCEPT:
        return has_known_addresses(inside) && never_blocks(inside);
    default:
        return 1;
    }
}

PyObject *
cl_sockop_new(LoopObject *loop, cl_sockop_kind kind, PyObject *const *args)
{
    cl_state *st = loop->l_st;
    const cl_sock *inside = cl_sock_inside(st, args[0]);
    if (inside == NULL || !cl_sock_is_stock(st))
        return NULL;
    SockOpObject *op =
        PyObject_GC_New(SockOpObject, cl_net_of(st)->SockOpType);
    if (op == NULL)
        return NULL;
    memset((char *)op + sizeof(PyObject), 0, sizeof(*op) - sizeof(PyObject));
    op->so_loop = (LoopObject *)Py_NewRef(loop);
    op->so_sock = Py_NewRef(args[0]);
    op->so_fd = -1;
    op->so_kind = (uint8_t)kind;
    op->so_coro.c_ops = &coro_ops;
    op->so_coro.c_st = st;
    cl_live_add(&cl_net_of(st)->live_sockops, 1);
    PyObject_GC_Track(op);
    if (take_args(op, inside, args) <= 0) {
        op->so_coro.c_state = CL_CORO_DONE; /* nobody will see it */
        Py_CLEAR(op);
    }
    return (PyObject *)op;
}

static int
SockOp_traverse(SockOpObject *op, visitproc visit, void *arg)
{
    Py_VISIT(op->so_loop);
    Py_VISIT(op->so_sock);
    Py_VISIT(op->so_arg);
    Py_VISIT(op->so_error);
    Py_VISIT(op->so_view.obj);
    return cl_coro_traverse(&op->so_coro, visit, arg);
}

static void
SockOp_dealloc(SockOpObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (!cl_coro_dying(&op->so_coro))
        return;
    cl_live_add(&cl_net_of(op->so_loop->l_st)->live_sockops, -1);
    PyMem_Free(op->so_to);
    LoopObject *loop = op->so_loop;
    /* A descriptor's record has a reference to what waits in it. */
    cl_assertf(op->so_fd < 0 || !loop->l_open, "descriptor %d", op->so_fd);
    PyObject_GC_Del(op);
    Py_DECREF(loop);
    Py_DECREF(type);
}

/* clang-format off */
static PyType_Slot SockOp_slots[] = {
    {Py_tp_doc, "A coroutine of one of the loop's sock_ methods."},
    {Py_tp_dealloc, SockOp_dealloc},
    {Py_tp_traverse, SockOp_traverse},
    CL_CORO_SLOTS,
    {0, NULL}};
/* clang-format on */

static PyType_Spec SockOp_spec = {
    .name = "cloop._cloop.SockOp",
    .basicsize = sizeof(SockOpObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = SockOp_slots,
};

PyTypeObject *
cl_sockop_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &SockOp_spec, NULL, 0, 0);
}
