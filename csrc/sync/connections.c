/* connections.c - asyncio.open_connection() and open_unix_connection().
 *
 * asyncio's own code runs. Only the writer that it returns is changed to our
 * class (docs/decisions/0011), since it is made after the transport has
 * started. */
#include "streams/streams.h"
#include "sync/op.h"
#include "sync/sync.h"

/* asyncio's coroutine stands for this one. */
static const char *const awaits[] = {NULL};

static cl_op_outcome
connected(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *pair = op->o_got;
    op->o_got = NULL;
    if (PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2 &&
        cl_streams_adopt_writer(st, PyTuple_GET_ITEM(pair, 1)) < 0) {
        Py_DECREF(pair);
        return CL_OP_FAILED;
    }
    *result = pair;
    return CL_OP_DONE;
}

static PyObject *
no_args(const SyncOpObject *Py_UNUSED(op))
{
    return PyTuple_New(0);
}

#define KIND(name) \
    { \
        .k_ops = CL_OP_OPS(NULL), \
        .k_name = name, \
        .k_class = -1, \
        .k_awaits = awaits, \
        .k_woken = connected, \
        .k_args = no_args, \
    }

static const cl_op_kind open_connection = KIND("open_connection");
static const cl_op_kind open_unix_connection = KIND("open_unix_connection");

static PyObject *
wrap(cl_state *st, const cl_op_kind *kind, int body, PyObject *const *args,
     Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *coro = cl_sync_original(st, body, args, nargs, kwnames);
    if (coro == NULL || cl_sync_loop(st) == NULL || !PyCoro_CheckExact(coro))
        return coro;
    SyncOpObject *op = (SyncOpObject *)cl_op_new(st, kind, NULL, NULL);
    if (op == NULL)
        Py_DECREF(coro);
    else
        op->o_inner = coro;
    return (PyObject *)op;
}

PyObject *
cl_sync_open_connection(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    return wrap(st, &open_connection, CL_BODY_OPEN_CONNECTION, args, nargs,
                kwnames);
}

PyObject *
cl_sync_open_unix_connection(cl_state *st, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames)
{
    return wrap(st, &open_unix_connection, CL_BODY_OPEN_UNIX_CONNECTION, args,
                nargs, kwnames);
}
