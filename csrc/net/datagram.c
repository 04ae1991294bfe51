/* datagram.c - see datagram.h. */
#include "net/datagram.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "core/args.h"
#include "core/errors.h"
#include "net/address.h"

/* Datagrams per event at most: about 50 us of work. */
#define RECEIVE_MAX 16

typedef struct waiting {
    struct waiting *next;
    PyObject *data; /* owned bytes */
    PyObject *addr; /* owned; None for the peer */
} waiting;

typedef struct {
    TransportObject d_base;
    PyObject *d_address; /* owned; None if the endpoint has no fixed peer */
    waiting *d_first;    /* the write queue */
    waiting **d_end;
    size_t d_size;       /* as asyncio computes it */
    uint32_t d_read_max; /* bytes; see cl_transport_set_attribute() */
    uint8_t d_expected;
    bool d_connected; /* send() instead of sendto() */
    bool d_has_peer;  /* connected, or to an unnamed Unix socket */
    /* The address of the last datagram. The next one often comes from there,
     * and the answer goes there. */
    cl_inet_address d_last;
    PyObject *d_last_addr; /* owned tuple, or NULL */
} DatagramObject;

static inline TransportObject *
base_of(DatagramObject *self)
{
    return &self->d_base;
}

static inline cl_state *
state_of(DatagramObject *self)
{
    return self->d_base.tr_loop->l_st;
}

/* ------------------------------------------------------------------ receiving */

static inline socklen_t
inet_size(sa_family_t family)
{
    return family == AF_INET    ? sizeof(struct sockaddr_in)
           : family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                : 0;
}

/* Returns the sender as a Python address, a new reference. */
static PyObject *
sender(DatagramObject *self, const struct sockaddr *from, socklen_t len)
{
    socklen_t size = inet_size(from->sa_family);
    if (len == 0 || size == 0 || len != size)
        return cl_address_from_sockaddr(state_of(self), from, len);
    if (self->d_last_addr == NULL || memcmp(&self->d_last, from, size) != 0) {
        PyObject *addr = cl_address_from_sockaddr(state_of(self), from, len);
        if (addr == NULL)
            return NULL;
        memcpy(&self->d_last, from, size);
        Py_XSETREF(self->d_last_addr, addr);
    }
    return Py_NewRef(self->d_last_addr);
}

/* Calls the protocol's error_received() with the exception that is set. 0/-1 */
static int
tell_error(DatagramObject *self)
{
    PyObject *exception = PyErr_GetRaisedException();
    int status = cl_transport_tell(
        base_of(self), cl_net_of(state_of(self))->str_error_received,
        exception, NULL);
    Py_DECREF(exception);
    return status;
}

/* Passes an OSError to the protocol; other exceptions break the transport.
 * 0/-1 */
static int
failed(DatagramObject *self, const char *message)
{
    if (PyErr_ExceptionMatches(PyExc_OSError))
        return tell_error(self);
    return cl_transport_fatal(base_of(self), message);
}

static int
deliver(DatagramObject *self, PyObject *data, PyObject *addr)
{
    PyObject *protocol = Py_XNewRef(self->d_base.tr_protocol);
    PyObject *args[] = {protocol, data, addr};
    if (protocol == NULL)
        return 0;
    PyObject *result = PyObject_VectorcallMethod(
        cl_net_of(state_of(self))->str_datagram_received, args, 3, NULL);
    Py_DECREF(protocol);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Receives a datagram into a bytes object; *got is its size, or -errno. NULL
 * with an exception set only if *got is not negative.
 *
 * In a nested turn the loop's buffer may be in use, or it may be too small for
 * the program's max_size. Then this uses memory of its own. */
static PyObject *
receive_bytes(DatagramObject *self, ssize_t *got, struct sockaddr *from,
              socklen_t *len)
{
    cl_loop_net *net = cl_net_on(self->d_base.tr_loop);
    PyObject *data = NULL;
    int fd = cl_transport_fd(base_of(self));
    *got = fd;
    if (fd < 0)
        return NULL;
    if (net->n_read_lent || self->d_read_max > CL_READ_MAX) {
        *got = 0;
        data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)self->d_read_max);
        if (data == NULL)
            return NULL;
    }
    char *into = data == NULL ? net->n_read_buffer : PyBytes_AS_STRING(data);
    *got = recvfrom(fd, into, self->d_read_max, MSG_DONTWAIT, from, len);
    cl_net_count_read(self->d_base.tr_loop, fd, *got);
    if (*got < 0) {
        *got = -errno;
        Py_CLEAR(data);
    }
    else if (data == NULL) {
        data = PyBytes_FromStringAndSize(into, *got);
    }
    else {
        (void)_PyBytes_Resize(&data, *got);
    }
    return data;
}

/* Receives one datagram. Returns 1 if there was one or an error, 0 if not, -1
 * with an exception that the protocol raised. */
static int
receive_one(DatagramObject *self)
{
    static const char failure[] = "Fatal read error on datagram transport";
    struct sockaddr_storage storage;
    struct sockaddr *from = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);
    ssize_t got;
    PyObject *data = receive_bytes(self, &got, from, &len);
    if (got < 0) {
        if (cl_would_block((int)-got) || got == -EINTR)
            return 0;
        cl_raise_errno((int)got);
        return failed(self, failure) < 0 ? -1 : 1;
    }
    if (self->d_read_max == 0 && data != NULL &&
        cl_transport_check_max_size(base_of(self), "recvfrom") < 0)
        Py_CLEAR(data);
    PyObject *addr = data == NULL ? NULL : sender(self, from, len);
    if (data != NULL && addr == NULL && !PyErr_Occurred())
        addr = Py_NewRef(
            Py_None); /* cloop/_loop.py does not allow such a family */
    int status;
    if (addr == NULL)
        status = failed(self, failure);
    else
        status = deliver(self, data, addr);
    Py_XDECREF(data);
    Py_XDECREF(addr);
    return status < 0 ? -1 : 1;
}

static int
read_ready(TransportObject *base, bool Py_UNUSED(alone))
{
    DatagramObject *self = (DatagramObject *)base;
    int count = 0, got = 1;
    while (count < self->d_expected && got > 0 &&
           (base->tr_watch.w_want & CL_READ) && !base->tr_conn_lost) {
        got = receive_one(self);
        /* An exception in the protocol does not cost the next datagram. */
        if (got < 0 && (got = cl_transport_report_stray(base)) == 0)
            got = 1;
        count += got > 0;
    }
    if (count == self->d_expected)
        count *= 2;
    self->d_expected = (uint8_t)(count < 1             ? 1
                                 : count > RECEIVE_MAX ? RECEIVE_MAX
                                                       : count);
    return got < 0 ? -1 : 0;
}

/* -------------------------------------------------------------------- sending */

/* Calls socket.sendto(), for addresses that only the socket module
 * understands. 0/-1 */
static int
ask_socket_to_send(DatagramObject *self, PyObject *data, PyObject *addr)
{
    PyObject *sock = PyObject_GetAttrString((PyObject *)self, "_sock");
    PyObject *args[] = {sock, data, addr};
    PyObject *result =
        sock == NULL
            ? NULL
            : PyObject_VectorcallMethod(cl_net_of(state_of(self))->str_sendto,
                                        args, 3, NULL);
    Py_XDECREF(sock);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Returns 0 if sent, -1 with an exception: BlockingIOError if it would block. */
static int
send_one(DatagramObject *self, PyObject *data, const char *bytes, size_t size,
         PyObject *addr)
{
    struct sockaddr_storage storage;
    const struct sockaddr *to = NULL;
    socklen_t len = 0;
    ssize_t sent;
    cl_assert_of(self, !PyErr_Occurred());
    int fd = cl_transport_fd(base_of(self)); /* first: see d_last */
    /* To asyncio the name '' is no peer, and then no address: a TypeError. */
    if (!self->d_connected && !(addr == Py_None && self->d_has_peer)) {
        if (addr == self->d_last_addr) {
            to = (const struct sockaddr *)&self->d_last;
            len = inet_size(self->d_last.family);
        }
        else {
            int known = cl_address_to_sockaddr(
                state_of(self), self->d_base.tr_family, addr, &storage, &len);
            if (known <= 0)
                return known < 0 ? -1 : ask_socket_to_send(self, data, addr);
            to = (const struct sockaddr *)&storage;
        }
    }
    if (fd < 0)
        return cl_raise_errno(fd);
    do {
        sent = to == NULL ? send(fd, bytes, size, CL_SEND_FLAGS)
                          : sendto(fd, bytes, size, CL_SEND_FLAGS, to, len);
    } while (sent < 0 && errno == EINTR);
    cl_net_count_write(self->d_base.tr_loop, fd, sent);
    if (sent < 0)
        return cl_raise_errno(-errno);
    cl_loop_poll_soon(self->d_base.tr_loop);
    return 0;
}

static int
enqueue(DatagramObject *self, const char *bytes, size_t size, PyObject *addr)
{
    waiting *last = PyMem_Malloc(sizeof(*last));
    PyObject *data = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
    if (last == NULL || data == NULL) {
        PyMem_Free(last);
        Py_XDECREF(data);
        PyErr_NoMemory();
        return -1;
    }
    *last = (waiting){.data = data, .addr = Py_NewRef(addr)};
    *self->d_end = last;
    self->d_end = &last->next;
    size += cl_net_of(state_of(self))->datagram_header_size;
    self->d_size += size;
    cl_net_count_buffered(self->d_base.tr_loop, size);
    return 0;
}

static void
drop_first(DatagramObject *self)
{
    waiting *first = self->d_first;
    cl_assert_of(self, first != NULL);
    cl_assertf(self->d_size >= (size_t)PyBytes_GET_SIZE(first->data), "%zu",
               self->d_size);
    size_t size = (size_t)PyBytes_GET_SIZE(first->data) +
                  cl_net_of(state_of(self))->datagram_header_size;
    self->d_size -= size;
    cl_net_count_buffered(self->d_base.tr_loop, 0 - size);
    self->d_first = first->next;
    if (first->next == NULL)
        self->d_end = &self->d_first;
    Py_DECREF(first->data);
    Py_DECREF(first->addr);
    PyMem_Free(first);
}

/* sendto() after its checks. 0/-1 */
static int
send_or_wait(DatagramObject *self, PyObject *data, const char *bytes,
             size_t size, PyObject *addr)
{
    if (self->d_first == NULL) {
        if (send_one(self, data, bytes, size, addr) == 0)
            return 0;
        if (!PyErr_ExceptionMatches(PyExc_BlockingIOError))
            return failed(self, "Fatal write error on datagram transport");
        PyErr_Clear();
        if (cl_loop_check_open(self->d_base.tr_loop) < 0)
            return -1;
        cl_transport_want(base_of(self), CL_WRITE, true);
    }
    if (enqueue(self, bytes, size, addr) < 0)
        return -1;
    return cl_transport_maybe_pause(base_of(self));
}

/* Checks the address against the endpoint's peer. Returns 1 to go on, -1 on
 * error. */
static int
check_address(DatagramObject *self, PyObject **addr)
{
    int fixed = PyObject_IsTrue(self->d_address);
    if (fixed <= 0)
        return fixed < 0 ? -1 : 1;
    if (*addr != Py_None) {
        int same = PyObject_RichCompareBool(*addr, self->d_address, Py_EQ);
        if (same < 0)
            return -1;
        if (!same) {
            PyErr_Format(PyExc_ValueError,
                         "Invalid address: must be None or %S",
                         self->d_address);
            return -1;
        }
    }
    *addr = self->d_address;
    return 1;
}

PyDoc_STRVAR(Datagram_sendto_doc,
             "sendto($self, data, addr=None)\n--\n\n"
             "Send one datagram to addr, or to the connected peer if that is "
             "None. Does not block.\n"
             "Errors go to the protocol's error_received(). Raises TypeError "
             "for data that is not\n"
             "bytes-like, ValueError for an address that is not the peer's. "
             "See asyncio's\n"
             "DatagramTransport.sendto.");

/* Parses the two arguments, borrowed. 0, or -1 with the TypeError of a Python
 * function. */
static int
sendto_arguments(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames, PyObject **data, PyObject **addr)
{
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    *data = nargs > 0 ? args[0] : NULL;
    *addr = nargs > 1 ? args[1] : NULL;
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        PyObject **place = cl_is_keyword(name, cl_net_of(st)->str_data) ? data
                           : cl_is_keyword(name, cl_net_of(st)->str_addr)
                               ? addr
                               : NULL;
        if (place == NULL || *place != NULL) {
            PyErr_Format(PyExc_TypeError, "sendto() got %s argument '%S'",
                         place == NULL ? "an unexpected keyword"
                                       : "multiple values for",
                         name);
            return -1;
        }
        *place = args[nargs + i];
    }
    if (*data == NULL)
        PyErr_SetString(PyExc_TypeError, "sendto() missing 1 required "
                                         "positional argument: 'data'");
    else if (nargs > 2)
        PyErr_Format(PyExc_TypeError,
                     "sendto() takes from 2 to 3 positional arguments but %zd "
                     "were given",
                     nargs + 1);
    if (*addr == NULL)
        *addr = Py_None;
    return *data == NULL || nargs > 2 ? -1 : 0;
}

static PyObject *
Datagram_sendto(DatagramObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    CL_CLAIM_TRANSPORT(self, NULL);
    cl_state *st = state_of(self);
    PyObject *data, *addr;
    Py_buffer view;
    if (sendto_arguments(st, args, nargs, kwnames, &data, &addr) < 0)
        return NULL;
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) &&
        !PyMemoryView_Check(data))
        /* asyncio's method raises the TypeError of this Python version. */
        return PyObject_CallMethod(cl_net_of(st)->asyncio_DatagramTransport,
                                   "sendto", "OO", self, data);
    /* What was written to a connection before arrives before. */
    if (cl_gather_flush(base_of(self)->tr_loop) < 0 ||
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    int status = check_address(self, &addr);
    if (status > 0) {
        bool lost = (self->d_base.tr_flags & CL_T_NOT_OPEN) ||
                    (self->d_base.tr_conn_lost && self->d_address != Py_None);
        status =
            lost ? cl_transport_write_when_lost(base_of(self))
                 : send_or_wait(self, data, view.buf, (size_t)view.len, addr);
    }
    PyBuffer_Release(&view);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int
write_ready(TransportObject *base)
{
    DatagramObject *self = (DatagramObject *)base;
    while (self->d_first != NULL) {
        PyObject *data = Py_NewRef(self->d_first->data);
        PyObject *addr = Py_NewRef(self->d_first->addr);
        int status = send_one(self, data, PyBytes_AS_STRING(data),
                              (size_t)PyBytes_GET_SIZE(data), addr);
        Py_DECREF(data);
        Py_DECREF(addr);
        if (status < 0 && PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
            PyErr_Clear();
            break;
        }
        if (self->d_first != NULL)
            drop_first(self);
        if (status < 0)
            return failed(self, "Fatal write error on datagram transport");
    }
    if (cl_transport_maybe_resume(base) < 0) /* may write more */
        return -1;
    if (self->d_first != NULL)
        return 0;
    cl_transport_want(base, CL_WRITE, false);
    if ((base->tr_flags & CL_T_CLOSING) && !base->tr_conn_lost) {
        base->tr_conn_lost++;
        return cl_transport_lost(base, NULL);
    }
    return 0;
}

/* ------------------------------------------------------------------ the watch */

static size_t
write_buffer_size(TransportObject *base)
{
    DatagramObject *self = (DatagramObject *)base;
    /* asyncio may count 0 for an empty datagram, but it is queued all the
     * same. */
    return self->d_first != NULL && self->d_size == 0 ? 1 : self->d_size;
}

static void
drop_buffer(TransportObject *base)
{
    DatagramObject *self = (DatagramObject *)base;
    while (self->d_first != NULL)
        drop_first(self);
}

#ifdef CL_DEBUG
static void
check(const TransportObject *base)
{
    const DatagramObject *self = (const DatagramObject *)base;
    size_t size = 0;
    if (self->d_expected == 0) /* half made */
        return;
    const waiting *const *link = (const waiting *const *)&self->d_first;
    for (; *link != NULL; link = (const waiting *const *)&(*link)->next) {
        cl_assert_of(self, PyBytes_Check((*link)->data));
        cl_assert_of(self, (*link)->addr != NULL);
        size += (size_t)PyBytes_GET_SIZE((*link)->data) +
                cl_net_of(base->tr_loop->l_st)->datagram_header_size;
    }
    cl_assert_of(self, link == (const waiting *const *)self->d_end);
    cl_assertf(size == self->d_size, "%zu bytes, said to be %zu", size,
               self->d_size);
    cl_assertf(self->d_expected >= 1 && self->d_expected <= RECEIVE_MAX, "%u",
               self->d_expected);
}
#endif

static const cl_transport_ops datagram_ops = {.watch = {CL_TRANSPORT_WATCH},
                                              .readable = read_ready,
                                              .writable = write_ready,
                                              .write_buffer_size =
                                                  write_buffer_size,
                                              .drop_buffer = drop_buffer,
                                              CL_TRANSPORT_CHECK(check)};

/* ------------------------------------------------------------------- the type */

TransportObject *
cl_datagram_new(cl_transport_args *args, PyObject *address)
{
    cl_state *st = args->loop->l_st;
    args->type = cl_net_of(st)->DatagramTransportType;
    args->ops = &datagram_ops;
    DatagramObject *self = (DatagramObject *)cl_transport_new(args);
    if (self == NULL)
        return NULL;
    self->d_address = Py_NewRef(address);
    self->d_end = &self->d_first;
    self->d_expected = 1;
    self->d_read_max = CL_READ_MAX;
    PyObject *peer = PyObject_CallMethodOneArg(
        (PyObject *)self, cl_net_of(st)->str_get_extra_info,
        cl_net_of(st)->str_peername);
    int connected = peer == NULL ? -1 : PyObject_IsTrue(peer);
    self->d_connected = connected > 0;
    self->d_has_peer = peer != Py_None;
    Py_XDECREF(peer);
    if (connected < 0 || cl_transport_begin(base_of(self)) < 0) {
        cl_transport_disown(base_of(self), args->sock != NULL);
        Py_CLEAR(self);
    }
    return (TransportObject *)self;
}

static int
Datagram_traverse(DatagramObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->d_address);
    for (waiting *at = self->d_first; at != NULL; at = at->next)
        Py_VISIT(at->addr);
    return cl_transport_traverse(base_of(self), visit, arg);
}

static int
Datagram_clear(DatagramObject *self)
{
    Py_CLEAR(self->d_address);
    Py_CLEAR(self->d_last_addr);
    drop_buffer(base_of(self));
    return cl_transport_clear(base_of(self));
}

static int
Datagram_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    return cl_transport_set_attribute(self, name, value,
                                      &((DatagramObject *)self)->d_read_max);
}

static PyObject *
get_address(DatagramObject *self, void *Py_UNUSED(closure))
{
    CL_CLAIM_TRANSPORT(self, NULL);
    return Py_NewRef(self->d_address ? self->d_address : Py_None);
}

static PyGetSetDef datagram_getset[] = {{"_address", (getter)get_address},
                                        {NULL}};

static PyMethodDef datagram_methods[] = {{"sendto", CL_FAST(Datagram_sendto),
                                          METH_FASTCALL | METH_KEYWORDS,
                                          Datagram_sendto_doc},
                                         {NULL}};

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, "The transport of a datagram socket; created by the loop."},
    {Py_tp_dealloc, cl_transport_dealloc},
    {Py_tp_finalize, cl_transport_finalize},
    {Py_tp_traverse, Datagram_traverse},
    {Py_tp_clear, Datagram_clear},
    {Py_tp_repr, cl_transport_repr},
    {Py_tp_setattro, Datagram_setattro},
    {Py_tp_getset, datagram_getset},
    {Py_tp_methods, datagram_methods},
    {Py_tp_members, cl_transport_members},
    {0, NULL}};

static PyType_Spec datagram_spec = {
    .name = "cloop._cloop.DatagramTransport",
    .basicsize = sizeof(DatagramObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = datagram_slots,
};

PyTypeObject *
cl_datagram_setup(PyObject *module, cl_state *st)
{
    PyObject *bases = PyTuple_Pack(2, cl_net_of(st)->FlowControlMixin,
                                   cl_net_of(st)->asyncio_DatagramBase);
    PyTypeObject *type = bases == NULL
                             ? NULL
                             : cl_transport_type(module, st, &datagram_spec,
                                                 bases, CL_READ | CL_WRITE);
    Py_XDECREF(bases);
    return type;
}
