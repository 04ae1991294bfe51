/* op.c - see op.h. */
#include "streams/op.h"

#include <string.h>

#include "core/args.h"
#include "core/errors.h"
#include "core/loop.h"
#include "core/spares.h"
#include "futures/coro.h"
#include "futures/future.h"
#include "streams/reader.h"
#include "streams/served.h"

typedef enum {
    READ,
    READEXACTLY,
    READUNTIL,
    READLINE,
    ANEXT,
    DRAIN,
    DRAIN_HELPER,
} op_kind;

typedef struct {
    CoroObject sto_coro;
    PyObject *sto_self;       /* owned; the reader, writer or protocol */
    ReaderObject *sto_reader; /* owned; NULL unless sto_self is a reader */
    PyObject *sto_arg;        /* owned; a bytes separator, or NULL */
    Py_ssize_t sto_size;      /* bytes wanted */
    Py_ssize_t sto_offset;    /* the separator is not before this */
    uint8_t sto_kind;
    bool sto_waits; /* we set the reader's _waiter and must clear it */
} StreamOpObject;

/* The result of an attempt. */
typedef enum { FAILED = -1, WAIT, READY, HAND_OVER, GO_ON } outcome;

typedef outcome (*attempt_fn)(StreamOpObject *op, bool fresh,
                              PyObject **result);

typedef struct {
    const char *name;
    const cl_coro_ops *coro_ops;
    attempt_fn attempt;
} operation;

static const operation operations[];

/* ----------------------------------------------------------------- taking data */

/* _maybe_resume_transport() */
static int
maybe_resume(StreamOpObject *op)
{
    ReaderObject *reader = op->sto_reader;
    return cl_reader_is_plain(reader) && cl_reader_is_paused(reader) &&
                   cl_reader_size(reader) <= cl_reader_limit(reader)
               ? cl_reader_resume(op->sto_coro.c_st, reader)
               : 0;
}

static int
drop_front(PyObject *buffer, Py_ssize_t size)
{
    return size == PyByteArray_GET_SIZE(buffer)
               ? PyByteArray_Resize(buffer, 0)
               : PySequence_DelSlice(buffer, 0, size);
}

/* Returns the first `size` bytes as a new object, or NULL. */
static PyObject *
take(PyObject *buffer, Py_ssize_t size)
{
    cl_assertf(size >= 0 && size <= PyByteArray_GET_SIZE(buffer), "%zd of %zd",
               size, PyByteArray_GET_SIZE(buffer));
    PyObject *data =
        PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), size);
    if (data != NULL && size > 0 && drop_front(buffer, size) < 0)
        Py_CLEAR(data);
    return data;
}

static outcome
take_and_resume(StreamOpObject *op, Py_ssize_t size, PyObject **result)
{
    *result = take(op->sto_reader->rd_buffer, size);
    if (*result == NULL)
        return FAILED;
    if (maybe_resume(op) < 0) {
        Py_CLEAR(*result);
        return FAILED;
    }
    return READY;
}

static outcome
fail_with(PyObject *type, PyObject *arg, PyObject *number)
{
    PyObject *error =
        arg == NULL ? NULL
                    : PyObject_CallFunctionObjArgs(type, arg, number, NULL);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return FAILED;
}

/* Raises IncompleteReadError with everything that is buffered; `expected` < 0
 * means None. */
static outcome
incomplete(StreamOpObject *op, Py_ssize_t expected)
{
    PyObject *buffer = op->sto_reader->rd_buffer;
    PyObject *number =
        expected < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(expected);
    PyObject *partial =
        number == NULL ? NULL : take(buffer, PyByteArray_GET_SIZE(buffer));
    outcome status =
        fail_with(cl_streams_of(op->sto_coro.c_st)->IncompleteReadError,
                  partial, number);
    Py_XDECREF(partial);
    Py_XDECREF(number);
    return status;
}

static outcome
overrun(StreamOpObject *op, const char *message, Py_ssize_t consumed)
{
    PyObject *number = PyLong_FromSsize_t(consumed);
    PyObject *text = number == NULL ? NULL : PyUnicode_FromString(message);
    outcome status = fail_with(
        cl_streams_of(op->sto_coro.c_st)->LimitOverrunError, text, number);
    Py_XDECREF(text);
    Py_XDECREF(number);
    return status;
}

/* ---------------------------------------------------------------------- reading */

/* The common start of all reads. */
static outcome
begin(ReaderObject *reader)
{
    PyObject *error = reader->rd_exception;
    if (error == Py_None)
        return GO_ON;
    if (!PyExceptionInstance_Check(error))
        return HAND_OVER;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    return FAILED;
}

static outcome
try_read(StreamOpObject *op, bool fresh, PyObject **result)
{
    Py_ssize_t size = cl_reader_size(op->sto_reader);
    if (fresh && op->sto_size == 0) {
        *result = Py_NewRef(op->sto_coro.c_st->empty_bytes);
        return READY;
    }
    if (fresh && size == 0 && !cl_reader_at_eof(op->sto_reader))
        return WAIT;
    return take_and_resume(op, size < op->sto_size ? size : op->sto_size,
                           result);
}

static outcome
try_readexactly(StreamOpObject *op, bool Py_UNUSED(fresh), PyObject **result)
{
    if (op->sto_size == 0) {
        *result = Py_NewRef(op->sto_coro.c_st->empty_bytes);
        return READY;
    }
    if (cl_reader_size(op->sto_reader) >= op->sto_size)
        return take_and_resume(op, op->sto_size, result);
    return cl_reader_at_eof(op->sto_reader) ? incomplete(op, op->sto_size)
                                            : WAIT;
}

/* The index of the separator, searched from `offset`, or -1. */
static Py_ssize_t
find(PyObject *buffer, Py_ssize_t offset, const char *separator,
     Py_ssize_t length)
{
    cl_assertf(offset >= 0 && length > 0, "%zd, %zd", offset, length);
    const char *data = PyByteArray_AS_STRING(buffer);
    Py_ssize_t last = PyByteArray_GET_SIZE(buffer) - length;
    while (offset <= last) {
        const char *at =
            memchr(data + offset, separator[0], (size_t)(last - offset + 1));
        if (at == NULL)
            return -1;
        offset = at - data;
        if (memcmp(at, separator, (size_t)length) == 0)
            return offset;
        offset++;
    }
    return -1;
}

static outcome
read_until(StreamOpObject *op, const char *separator, Py_ssize_t length,
           PyObject **result)
{
    ReaderObject *reader = op->sto_reader;
    Py_ssize_t size = cl_reader_size(reader);
    if (size - op->sto_offset >= length) {
        Py_ssize_t limit = cl_reader_limit(reader);
        Py_ssize_t at =
            find(reader->rd_buffer, op->sto_offset, separator, length);
        if (at > limit)
            return overrun(
                op, "Separator is found, but chunk is longer than limit", at);
        if (at >= 0)
            return take_and_resume(op, at + length, result);
        op->sto_offset = size + 1 - length;
        if (op->sto_offset > limit)
            return overrun(
                op, "Separator is not found, and chunk exceed the limit",
                op->sto_offset);
    }
    return cl_reader_at_eof(reader) ? incomplete(op, -1) : WAIT;
}

static outcome
try_readuntil(StreamOpObject *op, bool Py_UNUSED(fresh), PyObject **result)
{
    return read_until(op, PyBytes_AS_STRING(op->sto_arg),
                      PyBytes_GET_SIZE(op->sto_arg), result);
}

/* Takes what was too long out of the buffer, as readline() does. 0/-1 */
static int
drop_line(StreamOpObject *op, PyObject *consumed)
{
    PyObject *buffer = PyObject_GetAttrString(op->sto_self, "_buffer");
    PyObject *newline = PyBytes_FromStringAndSize("\n", 1);
    PyObject *answer = buffer == NULL || newline == NULL
                           ? NULL
                           : PyObject_CallMethod(buffer, "startswith", "OO",
                                                 newline, consumed);
    PyObject *end = NULL, *part = NULL;
    int starts = answer == NULL ? -1 : PyObject_IsTrue(answer);
    int status = -1;
    if (starts > 0 &&
        (end = PyNumber_Add(consumed, op->sto_coro.c_st->one)) != NULL &&
        (part = PySlice_New(NULL, end, NULL)) != NULL) {
        status = PyObject_DelItem(buffer, part);
    }
    else if (starts == 0) {
        Py_SETREF(answer, PyObject_CallMethod(buffer, "clear", NULL));
        status = answer == NULL ? -1 : 0;
    }
    Py_XDECREF(buffer);
    Py_XDECREF(newline);
    Py_XDECREF(answer);
    Py_XDECREF(end);
    Py_XDECREF(part);
    return status;
}

/* Raises ValueError(overrun.args[0]) with the LimitOverrunError as its context,
 * as readline() does. It may be of the program's own class. Steals the
 * reference. */
static outcome
line_too_long(StreamOpObject *op, PyObject *overrun)
{
    cl_streams *streams = cl_streams_of(op->sto_coro.c_st);
    PyObject *consumed = PyObject_GetAttr(overrun, streams->str_consumed);
    PyObject *args = NULL, *zero = NULL, *first = NULL, *error = NULL;
    if (consumed != NULL && drop_line(op, consumed) == 0 &&
        maybe_resume(op) == 0 &&
        (args = PyObject_GetAttr(overrun, streams->str_args)) != NULL &&
        (zero = PyLong_FromLong(0)) != NULL &&
        (first = PyObject_GetItem(args, zero)) != NULL)
        error = PyObject_CallOneArg(PyExc_ValueError, first);
    Py_XDECREF(consumed);
    Py_XDECREF(args);
    Py_XDECREF(zero);
    Py_XDECREF(first);
    if (error == NULL) /* whatever was raised instead */
        error = PyErr_GetRaisedException();
    if (error != overrun)
        PyException_SetContext(error, overrun);
    else
        Py_DECREF(overrun);
    PyErr_SetRaisedException(error);
    return FAILED;
}

/* Handles an exception of readuntil() as readline() does. */
static outcome
line_failed(StreamOpObject *op, PyObject **result)
{
    cl_state *st = op->sto_coro.c_st;
    if (PyErr_ExceptionMatches(cl_streams_of(st)->LimitOverrunError))
        return line_too_long(op, PyErr_GetRaisedException());
    if (!PyErr_ExceptionMatches(cl_streams_of(st)->IncompleteReadError))
        return FAILED;
    PyObject *error = PyErr_GetRaisedException();
    *result = PyObject_GetAttrString(error, "partial");
    Py_DECREF(error);
    return *result == NULL ? FAILED : READY;
}

static outcome
try_readline(StreamOpObject *op, bool Py_UNUSED(fresh), PyObject **result)
{
    return read_until(op, "\n", 1, result);
}

/* Turns the outcome of reading into that of the method. */
static outcome
conclude(StreamOpObject *op, outcome status, PyObject **result)
{
    bool next = op->sto_kind == ANEXT;
    if (status == FAILED && (op->sto_kind == READLINE || next))
        status = line_failed(op, result);
    if (!next || status != READY)
        return status;
    /* Else it is the partial result of an exception that the program set. */
    int ends = PyBytes_CheckExact(*result)
                   ? PyBytes_GET_SIZE(*result) == 0
                   : PyObject_RichCompareBool(
                         *result, op->sto_coro.c_st->empty_bytes, Py_EQ);
    if (ends == 0)
        return status;
    Py_CLEAR(*result);
    if (ends > 0)
        PyErr_SetNone(PyExc_StopAsyncIteration);
    return FAILED;
}

/* _wait_for_data(), up to its await. */
static outcome
wait_for_data(StreamOpObject *op)
{
    cl_state *st = op->sto_coro.c_st;
    ReaderObject *reader = op->sto_reader;
    cl_assert_of(op, !op->sto_waits);
    cl_check(cl_reader_check(reader));
    if (reader->rd_waiter != Py_None) {
        bool line = op->sto_kind == READLINE || op->sto_kind == ANEXT;
        PyErr_Format(PyExc_RuntimeError,
                     "%s() called while another coroutine is already waiting "
                     "for incoming data",
                     line ? "readuntil" : operations[op->sto_kind].name);
        return FAILED;
    }
    if (cl_reader_is_paused(reader) && cl_reader_resume(st, reader) < 0)
        return FAILED;
    /* Python code may have run. If the future is not ours, asyncio's coroutine
     * awaits it. */
    LoopObject *ours =
        reader->rd_loop == NULL ? NULL : cl_loop_cast(reader->rd_loop);
    if (!cl_reader_is_plain(reader) || ours == NULL ||
        cl_loop_overrides(ours, CL_OVERRIDES_CREATE_FUTURE))
        return HAND_OVER;
    PyObject *loop = Py_NewRef(reader->rd_loop);
    PyObject *future = cl_future_create(st, loop);
    Py_DECREF(loop);
    if (future == NULL)
        return FAILED;
    Py_XSETREF(reader->rd_waiter, Py_NewRef(future));
    op->sto_waits = true;
    if (op->sto_kind == READEXACTLY)
        cl_reader_want(reader, op->sto_size);
    outcome status = cl_coro_wait(&op->sto_coro, future) < 0 ? FAILED : WAIT;
    Py_DECREF(future);
    return status;
}

/* _wait_for_data(), after its await. */
static void
waited(StreamOpObject *op)
{
    op->sto_waits = false;
    op->sto_reader->rd_wanted = 0;
    Py_XSETREF(op->sto_reader->rd_waiter, Py_NewRef(Py_None));
}

/* The message, if it was received without a copy. */
static outcome
claim(StreamOpObject *op, PyObject **result)
{
    if (op->sto_kind != READEXACTLY)
        return GO_ON;
    *result = cl_reader_claim(op->sto_reader);
    return *result != NULL ? READY : PyErr_Occurred() ? FAILED : GO_ON;
}

/* --------------------------------------------------------------------- draining */

/* Returns 1 if there is nothing to wait for, 0 if unsure. */
static bool
is_drained(cl_state *st, PyObject *protocol)
{
    cl_streams *streams = cl_streams_of(st);
    if (!cl_guards_hold(protocol, &streams->ss_own_protocol,
                        &streams->ss_protocol))
        return false;
    PyObject *dict = Py_XNewRef(cl_streams_dict(protocol));
    bool drained =
        dict != NULL &&
        PyDict_GetItemWithError(
            dict, cl_streams_of(st)->str__connection_lost) == Py_False &&
        PyDict_GetItemWithError(dict, cl_streams_of(st)->str__paused) ==
            Py_False &&
        PyDict_GetItemWithError(dict, cl_streams_of(st)->str__drain_helper) ==
            NULL;
    Py_XDECREF(dict);
    if (PyErr_Occurred())
        PyErr_Clear();
    return drained;
}

static outcome
try_drain_helper(StreamOpObject *op, bool Py_UNUSED(fresh), PyObject **result)
{
    if (!is_drained(op->sto_coro.c_st, op->sto_self))
        return HAND_OVER;
    *result = Py_NewRef(Py_None);
    return READY;
}

/* 1, 0, or -1 with the exception that asyncio's drain() raises. */
static int
is_closing(cl_state *st, PyObject *transport)
{
    PyObject *answer = PyObject_CallMethodNoArgs(
        transport, cl_streams_of(st)->str_is_closing);
    Py_XDECREF(answer); /* True and False live on */
    return answer == NULL ? -1 : answer != Py_False;
}

/* For a writer's _reader, which may be None. */
static bool
has_no_exception(cl_state *st, PyObject *self)
{
    ReaderObject *reader = self == Py_None ? NULL : cl_reader_find(st, self);
    return self == Py_None ||
           (reader != NULL && reader->rd_exception == Py_None);
}

/* Returns the value in the dict, a new reference; NULL without an exception if
 * it is missing. */
static PyObject *
kept(PyObject *dict, PyObject *name)
{
    PyObject *value =
        dict == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(dict, name));
    if (value == NULL)
        PyErr_Clear();
    return value;
}

static outcome
try_drain(StreamOpObject *op, bool Py_UNUSED(fresh), PyObject **result)
{
    cl_state *st = op->sto_coro.c_st;
    PyObject *dict = Py_XNewRef(cl_streams_dict(op->sto_self));
    PyObject *reader = kept(dict, cl_streams_of(st)->str__reader);
    PyObject *transport = kept(dict, cl_streams_of(st)->str__transport);
    PyObject *protocol = kept(dict, cl_streams_of(st)->str__protocol);
    outcome status = HAND_OVER;
    if (reader != NULL && transport != NULL && protocol != NULL &&
        has_no_exception(st, reader)) {
        int closing = is_closing(st, transport);
        if (closing < 0)
            status = FAILED;
        else if (closing == 0 && is_drained(st, protocol))
            status = READY;
    }
    Py_XDECREF(dict);
    Py_XDECREF(reader);
    Py_XDECREF(transport);
    Py_XDECREF(protocol);
    if (status != READY)
        return status;
    *result = Py_NewRef(Py_None);
    return READY;
}

/* ---------------------------------------------------------------------- one step */

static PyObject *
stock_class(cl_state *st, int kind)
{
    return kind == DRAIN          ? cl_streams_of(st)->StreamWriter
           : kind == DRAIN_HELPER ? cl_streams_of(st)->StreamReaderProtocol
                                  : cl_streams_of(st)->StreamReader;
}

/* Calls asyncio's method with these arguments. */
static PyObject *
call_stock(cl_state *st, int kind, PyObject *self, PyObject *const *args,
           Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *name = PyUnicode_FromString(operations[kind].name);
    PyObject *result = name == NULL
                           ? NULL
                           : cl_future_inherited(stock_class(st, kind), self,
                                                 name, args, nargs, kwnames);
    Py_XDECREF(name);
    return result;
}

/* From here on, asyncio's own coroutine runs. */
static int
hand_over(StreamOpObject *op)
{
    PyObject *arg = Py_XNewRef(op->sto_arg);
    if ((op->sto_kind == READ || op->sto_kind == READEXACTLY) &&
        (arg = PyLong_FromSsize_t(op->sto_size)) == NULL)
        return -1;
    op->sto_coro.c_inner = call_stock(op->sto_coro.c_st, op->sto_kind,
                                      op->sto_self, &arg, arg != NULL, NULL);
    Py_XDECREF(arg);
    return op->sto_coro.c_inner == NULL ? -1 : 0;
}

/* A read, at its start or when it was woken. */
static outcome
read_on(StreamOpObject *op, bool fresh, PyObject **result)
{
    outcome status;
    if (!fresh) {
        waited(op);
        status =
            cl_coro_resume(&op->sto_coro) < 0 ? FAILED : claim(op, result);
    }
    else if (cl_reader_flush(op->sto_reader) < 0) {
        status = FAILED;
    }
    else {
        status = GO_ON;
    }
    if (status == GO_ON && !cl_reader_is_plain(op->sto_reader))
        return HAND_OVER;
    if (status == GO_ON && fresh)
        status = begin(op->sto_reader);
    if (status == GO_ON)
        status = operations[op->sto_kind].attempt(op, fresh, result);
    status = conclude(op, status, result);
    return status == WAIT ? wait_for_data(op) : status;
}

static PySendResult
step(CoroObject *coro, PyObject *sent, PyObject **result)
{
    StreamOpObject *op = (StreamOpObject *)coro;
    bool fresh = sent == NULL;
    cl_assert_of(op, op->sto_kind <= DRAIN_HELPER);
    cl_assert_of(op, !PyErr_Occurred());
    outcome status = HAND_OVER;
    if (op->sto_reader != NULL)
        status = read_on(op, fresh, result);
    else if (op->sto_kind >= DRAIN)
        status = operations[op->sto_kind].attempt(op, fresh, result);
    switch (status) {
    case READY:
        return PYGEN_RETURN;
    case WAIT:
        return PYGEN_NEXT;
    case HAND_OVER:
        return hand_over(op) < 0 ? PYGEN_ERROR : PYGEN_NEXT;
    default:
        return PYGEN_ERROR;
    }
}

static PySendResult
thrown(CoroObject *coro, PyObject *type, PyObject *value, PyObject *traceback,
       PyObject **result)
{
    StreamOpObject *op = (StreamOpObject *)coro;
    waited(op);
    cl_raise_thrown(type, value, traceback);
    return conclude(op, FAILED, result) == READY ? PYGEN_RETURN : PYGEN_ERROR;
}

static void
drop(CoroObject *coro)
{
    StreamOpObject *op = (StreamOpObject *)coro;
    if (op->sto_waits)
        waited(op);
    Py_CLEAR(op->sto_arg);
    Py_CLEAR(op->sto_reader);
    Py_CLEAR(op->sto_self);
}

static const char *
name(const CoroObject *coro)
{
    return operations[((const StreamOpObject *)coro)->sto_kind].name;
}

static PyObject *
stock(const CoroObject *coro)
{
    return stock_class(coro->c_st, ((const StreamOpObject *)coro)->sto_kind);
}

static PyObject *
args(const CoroObject *coro)
{
    const StreamOpObject *op = (const StreamOpObject *)coro;
    if (op->sto_kind == READ || op->sto_kind == READEXACTLY)
        return Py_BuildValue("On", op->sto_self, op->sto_size);
    return op->sto_arg == NULL ? PyTuple_Pack(1, op->sto_self)
                               : PyTuple_Pack(2, op->sto_self, op->sto_arg);
}

static const cl_coro_ops reader_ops = {
    .owner = "StreamReader",
    .name = name,
    .stock = stock,
    .args = args,
    .step = step,
    .thrown = thrown,
    .drop = drop,
};
static const cl_coro_ops writer_ops = {
    .owner = "StreamWriter",
    .name = name,
    .stock = stock,
    .args = args,
    .step = step,
    .drop = drop,
};
static const cl_coro_ops protocol_ops = {
    .owner = "FlowControlMixin",
    .name = name,
    .stock = stock,
    .args = args,
    .step = step,
    .drop = drop,
};

static const operation operations[] = {
    [READ] = {"read", &reader_ops, try_read},
    [READEXACTLY] = {"readexactly", &reader_ops, try_readexactly},
    [READUNTIL] = {"readuntil", &reader_ops, try_readuntil},
    [READLINE] = {"readline", &reader_ops, try_readline},
    [ANEXT] = {"__anext__", &reader_ops, try_readline},
    [DRAIN] = {"drain", &writer_ops, try_drain},
    [DRAIN_HELPER] = {"_drain_helper", &protocol_ops, try_drain_helper},
};

/* --------------------------------------------------- creation and deallocation */

/* `reader` is NULL unless `self` is a reader. */
static inline PyObject *
new_op(cl_state *st, op_kind kind, PyObject *self, ReaderObject *reader,
       Py_ssize_t size, PyObject *arg)
{
    Py_XINCREF(reader); /* allocation may run Python code */
    LoopObject *loop = cl_loop_with_spares(st);
    StreamOpObject *op = (StreamOpObject *)cl_spares_take(
        loop == NULL ? NULL : &cl_streams_on(loop)->spare_ops,
        cl_streams_of(st)->StreamOpType, sizeof(*op));
    if (op == NULL) {
        Py_XDECREF(reader);
        return NULL;
    }
    op->sto_coro.c_ops = operations[kind].coro_ops;
    op->sto_coro.c_st = st;
    op->sto_coro.c_loop = (LoopObject *)Py_XNewRef(loop);
    op->sto_self = Py_NewRef(self);
    op->sto_reader = reader;
    op->sto_arg = Py_XNewRef(arg);
    op->sto_size = size;
    op->sto_kind = (uint8_t)kind;
    cl_live_add(&cl_streams_of(st)->live_stream_ops, 1);
    PyObject_GC_Track(op);
    return (PyObject *)op;
}

static int
StreamOp_traverse(StreamOpObject *op, visitproc visit, void *arg)
{
    Py_VISIT(op->sto_self);
    Py_VISIT(op->sto_reader);
    Py_VISIT(op->sto_arg);
    return cl_coro_traverse(&op->sto_coro, visit, arg);
}

static void
StreamOp_dealloc(StreamOpObject *op)
{
    if (!cl_coro_dying(&op->sto_coro))
        return;
    LoopObject *loop = op->sto_coro.c_loop;
    cl_live_add(&cl_streams_of(op->sto_coro.c_st)->live_stream_ops, -1);
    cl_spares_give(loop == NULL ? NULL : &cl_streams_on(loop)->spare_ops,
                   (PyObject *)op);
    Py_XDECREF(loop);
}

/* clang-format off */
static PyType_Slot StreamOp_slots[] = {
    {Py_tp_doc, "A coroutine of one of the methods of streams."},
    {Py_tp_dealloc, StreamOp_dealloc},
    {Py_tp_traverse, StreamOp_traverse},
    CL_CORO_SLOTS,
    {0, NULL}};
/* clang-format on */

static PyType_Spec StreamOp_spec = {
    .name = "cloop._cloop.StreamOp",
    .basicsize = sizeof(StreamOpObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = StreamOp_slots,
};

PyTypeObject *
cl_stream_op_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &StreamOp_spec, NULL, 0, 0);
}

/* ----------------------------------------------------------------------- methods */

/* Methods without arguments: asyncio's method raises the error for any. If the
 * program replaced the method that it calls, that is called. */
static PyObject *
read_line(PyObject *self, op_kind kind, PyObject *const *args,
          Py_ssize_t nargs, PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    ReaderObject *reader = st == NULL ? NULL : cl_reader_find(st, self);
    if (reader != NULL && nargs == 0 && kwnames == NULL)
        return new_op(st, kind, self, reader, 0, NULL);
    return st == NULL ? NULL
                      : call_stock(st, kind, self, args, nargs, kwnames);
}

static PyObject *
drain(PyObject *self, op_kind kind, PyObject *const *args, Py_ssize_t nargs,
      PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    cl_streams *streams = cl_streams_of(st);
    cl_guard *stock =
        kind == DRAIN ? &streams->ss_writer : &streams->ss_protocol;
    cl_guard *own =
        kind == DRAIN ? &streams->ss_own_writer : &streams->ss_own_protocol;
    return nargs == 0 && kwnames == NULL && cl_guards_hold(self, own, stock)
               ? new_op(st, kind, self, NULL, 0, NULL)
               : call_stock(st, kind, self, args, nargs, kwnames);
}

/* Returns the only argument, borrowed, given by position or by name; NULL for
 * anything else. */
static PyObject *
only(const char *name, PyObject *const *args, Py_ssize_t nargs,
     PyObject *kwnames)
{
    if (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0)
        return nargs == 1 ? args[0] : NULL;
    return nargs == 0 && PyTuple_GET_SIZE(kwnames) == 1 &&
                   PyUnicode_Check(PyTuple_GET_ITEM(kwnames, 0)) &&
                   PyUnicode_CompareWithASCIIString(
                       PyTuple_GET_ITEM(kwnames, 0), name) == 0
               ? args[0]
               : NULL;
}

/* read() and readexactly(). asyncio's methods handle invalid sizes, and
 * read(-1), which reads until EOF. */
static PyObject *
read_size(PyObject *self, op_kind kind, PyObject *const *args,
          Py_ssize_t nargs, PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    PyObject *number = only("n", args, nargs, kwnames);
    ReaderObject *reader = cl_reader_find(st, self);
    if (reader != NULL && number != NULL && PyLong_CheckExact(number)) {
        Py_ssize_t size = PyLong_AsSsize_t(number);
        if (size >= 0)
            return new_op(st, kind, self, reader, size, NULL);
        PyErr_Clear();
    }
    return call_stock(st, kind, self, args, nargs, kwnames);
}

static PyObject *
Reader_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    return read_size(self, READ, args, nargs, kwnames);
}

static PyObject *
Reader_readexactly(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return read_size(self, READEXACTLY, args, nargs, kwnames);
}

static PyObject *
Reader_readuntil(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    PyObject *separator = only("separator", args, nargs, kwnames);
    ReaderObject *reader = cl_reader_find(st, self);
    if (reader != NULL && separator != NULL && PyBytes_CheckExact(separator) &&
        PyBytes_GET_SIZE(separator) > 0)
        return new_op(st, READUNTIL, self, reader, 0, separator);
    return call_stock(st, READUNTIL, self, args, nargs, kwnames);
}

static PyObject *
Reader_readline(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return read_line(self, READLINE, args, nargs, kwnames);
}

static PyObject *
Reader_feed_data(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    PyObject *data = only("data", args, nargs, kwnames);
    int status = st == NULL ? -1 : 0;
    if (status == 0 && data != NULL && PyBytes_CheckExact(data) &&
        PyBytes_GET_SIZE(data) > 0)
        status = cl_reader_feed(st, self, PyBytes_AS_STRING(data),
                                (size_t)PyBytes_GET_SIZE(data));
    if (status == 0)
        return cl_future_inherited(cl_streams_of(st)->StreamReader, self,
                                   cl_streams_of(st)->str_feed_data, args,
                                   nargs, kwnames);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Reader_exception(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = cl_streams_state(self);
    ReaderObject *reader = st == NULL ? NULL : cl_reader_find(st, self);
    if (reader != NULL && reader->rd_exception != NULL)
        return Py_NewRef(reader->rd_exception);
    return st == NULL
               ? NULL
               : cl_future_inherited(cl_streams_of(st)->StreamReader, self,
                                     cl_streams_of(st)->str_exception, NULL, 0,
                                     NULL);
}

static PyObject *
Reader_anext(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    return read_line(self, ANEXT, args, nargs, kwnames);
}

#define COROUTINE(name, function) \
    {name, CL_FAST(function), METH_FASTCALL | METH_KEYWORDS, NULL}

/* Methods that look like asyncio's (core/method.h) also have its docstrings. */
PyMethodDef cl_reader_methods[] = {
    COROUTINE("read", Reader_read),
    COROUTINE("readexactly", Reader_readexactly),
    COROUTINE("readuntil", Reader_readuntil),
    COROUTINE("readline", Reader_readline),
    COROUTINE("__anext__", Reader_anext),
    {"feed_data", CL_FAST(Reader_feed_data), METH_FASTCALL | METH_KEYWORDS,
     "feed_data($self, data)\n--\n\n"
     "Append bytes to the buffer, as the transport's protocol does."},
    {"exception", Reader_exception, METH_NOARGS,
     "exception($self, /)\n--\n\n"
     "Return the exception that reading raises, or None."},
    {"feed_eof", CL_FAST(cl_served_feed_eof), METH_FASTCALL | METH_KEYWORDS,
     "feed_eof($self)\n--\n\n"
     "Note that no more data will come."},
    {NULL}};

static PyObject *
Protocol_drain_helper(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    return drain(self, DRAIN_HELPER, args, nargs, kwnames);
}

PyMethodDef cl_protocol_methods[] = {
    COROUTINE("_drain_helper", Protocol_drain_helper),
    {"connection_made", CL_FAST(cl_served_connection_made),
     METH_FASTCALL | METH_KEYWORDS,
     "connection_made($self, transport)\n--\n\n"
     "Called by the transport at its start."},
    {"connection_lost", CL_FAST(cl_served_connection_lost),
     METH_FASTCALL | METH_KEYWORDS,
     "connection_lost($self, exc)\n--\n\n"
     "Called by the transport at its end."},
    {"eof_received", CL_FAST(cl_served_eof_received),
     METH_FASTCALL | METH_KEYWORDS,
     "eof_received($self)\n--\n\n"
     "Called by the transport when the peer sends no more."},
    {NULL}};

static PyObject *
Writer_drain(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    return drain(self, DRAIN, args, nargs, kwnames);
}

static PyObject *
Writer_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    PyObject *data = only("data", args, nargs, kwnames);
    if (data == NULL || !cl_guard_holds(&cl_streams_of(st)->ss_writer))
        return cl_future_inherited(cl_streams_of(st)->StreamWriter, self,
                                   cl_streams_of(st)->str_write, args, nargs,
                                   kwnames);
    PyObject *transport =
        PyObject_GetAttr(self, cl_streams_of(st)->str__transport);
    PyObject *result =
        transport == NULL ? NULL
                          : PyObject_CallMethodOneArg(
                                transport, cl_streams_of(st)->str_write, data);
    Py_XDECREF(transport);
    Py_XDECREF(result);
    return result == NULL ? NULL : Py_NewRef(Py_None);
}

PyMethodDef cl_writer_methods[] = {
    {"write", CL_FAST(Writer_write), METH_FASTCALL | METH_KEYWORDS,
     "write($self, data)\n--\n\n"
     "Write bytes to the transport, which sends them as soon as possible."},
    {"close", CL_FAST(cl_served_close), METH_FASTCALL | METH_KEYWORDS,
     "close($self)\n--\n\n"
     "Close the transport."},
    COROUTINE("drain", Writer_drain),
    {NULL}};

#undef COROUTINE
