/* feed.c - see feed.h. */
#include "net/feed.h"

#include <stdlib.h>
#include <string.h>

#include "futures/future.h"

/* The methods that are done here, of the protocol and of the reader. */
static const char *const protocol_methods[CL_FEED_PROTOCOL_METHODS] = {
    "data_received", "_stream_reader", "__getattribute__"};
static const char *const reader_methods[CL_FEED_READER_METHODS] = {
    "feed_data", "_wakeup_waiter", "__getattribute__", "__setattr__"};

static int
remember(PyObject *cls, const char *const *names, PyObject **known, int count)
{
    for (int i = 0; i < count; i++) {
        if ((known[i] = PyObject_GetAttrString(cls, names[i])) == NULL)
            return -1;
    }
    return 0;
}

/* Whether the class still has the attributes that were remembered, looked up only if
 * it was modified since *version, for which it had them. */
static bool
is_stock(PyObject *cls, const char *const *names, PyObject *const *known,
         int count, unsigned *version)
{
    unsigned now = cl_type_version((PyTypeObject *)cls);
    if (now != 0 && now == *version)
        return true;
    for (int i = 0; i < count; i++) {
        PyObject *value = PyObject_GetAttrString(cls, names[i]);
        bool same = value == known[i];
        Py_XDECREF(value);
        if (value == NULL)
            PyErr_Clear();
        if (!same)
            return false;
    }
    *version = cl_type_version((PyTypeObject *)cls);
    return true;
}

int
cl_feed_setup(cl_state *st)
{
    const char *choice = getenv("CLOOP_STREAMS");
    st->feeds = choice == NULL || strcmp(choice, "stock") != 0;
    if (remember(st->StreamReaderProtocol, protocol_methods,
                 st->feed_protocol_known, CL_FEED_PROTOCOL_METHODS) < 0)
        return -1;
    return remember(st->StreamReader, reader_methods, st->feed_reader_known,
                    CL_FEED_READER_METHODS);
}

/* What of a reader is needed; owned. */
typedef struct {
    PyObject *buffer;
    PyObject *waiter;
    PyObject *transport;
    Py_ssize_t limit;
    bool paused;
} reader_fields;

static void
drop(reader_fields *fields)
{
    Py_XDECREF(fields->buffer);
    Py_XDECREF(fields->waiter);
    Py_XDECREF(fields->transport);
}

/* True or False is 1 or 0; anything else -1, without an exception. */
static int
flag(PyObject *reader, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(reader, name);
    int answer = value == Py_True ? 1 : value == Py_False ? 0 : -1;
    if (value == NULL)
        PyErr_Clear();
    Py_XDECREF(value);
    return answer;
}

/* Whether the reader is in a state in which feed_data() may be done here. */
static bool
take(cl_state *st, PyObject *reader, reader_fields *fields)
{
    PyObject *method = PyObject_GetAttr(reader, st->str_feed_data);
    bool own = method != NULL && PyMethod_Check(method) &&
               PyMethod_GET_FUNCTION(method) == st->feed_reader_known[0];
    Py_XDECREF(method);
    int paused = own ? flag(reader, st->str__paused) : -1;
    if (paused < 0 || flag(reader, st->str__eof) != 0)
        goto no;
    fields->paused = paused;
    fields->buffer = PyObject_GetAttr(reader, st->str__buffer);
    fields->waiter = PyObject_GetAttr(reader, st->str__waiter);
    fields->transport = PyObject_GetAttr(reader, st->str__transport);
    PyObject *limit = PyObject_GetAttr(reader, st->str__limit);
    fields->limit = limit != NULL && PyLong_CheckExact(limit)
                        ? PyLong_AsSsize_t(limit)
                        : -1;
    Py_XDECREF(limit);
    if (fields->buffer != NULL && PyByteArray_CheckExact(fields->buffer) &&
        fields->waiter != NULL && fields->transport != NULL &&
        fields->limit >= 0)
        return true;
no:
    PyErr_Clear();
    return false;
}

/* As _wakeup_waiter(). */
static int
wake(cl_state *st, PyObject *reader, PyObject *waiter)
{
    if (waiter == Py_None)
        return 0;
    if (PyObject_SetAttr(reader, st->str__waiter, Py_None) < 0)
        return -1;
    if (Py_TYPE(waiter) == st->FutureType &&
        ((FutureObject *)waiter)->f_state == CL_PENDING)
        return cl_future_finish((FutureObject *)waiter, Py_None);
    PyObject *answer = PyObject_CallMethodNoArgs(waiter, st->str_cancelled);
    int cancelled = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (cancelled != 0)
        return cancelled < 0 ? -1 : 0;
    PyObject *result =
        PyObject_CallMethodOneArg(waiter, st->str_set_result, Py_None);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The buffer holds more than twice the limit. */
static int
pause_transport(cl_state *st, PyObject *reader, PyObject *transport)
{
    PyObject *result =
        PyObject_CallMethodNoArgs(transport, st->str_pause_reading);
    Py_XDECREF(result);
    if (result != NULL)
        return PyObject_SetAttr(reader, st->str__paused, Py_True);
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError))
        return -1;
    PyErr_Clear();
    return PyObject_SetAttr(reader, st->str__transport, Py_None);
}

static int
append(PyObject *buffer, const char *data, size_t size)
{
    Py_ssize_t have = PyByteArray_GET_SIZE(buffer);
    if (PyByteArray_Resize(buffer, have + (Py_ssize_t)size) < 0)
        return -1;
    memcpy(PyByteArray_AS_STRING(buffer) + have, data, size);
    return 0;
}

static int
feed(cl_state *st, PyObject *reader, const char *data, size_t size)
{
    reader_fields fields = {NULL};
    int status = 0;
    if (take(st, reader, &fields)) {
        status = append(fields.buffer, data, size) < 0 ||
                         wake(st, reader, fields.waiter) < 0
                     ? -1
                     : 1;
        bool full = fields.limit <= PY_SSIZE_T_MAX / 2 &&
                    PyByteArray_GET_SIZE(fields.buffer) > 2 * fields.limit;
        if (status > 0 && full && !fields.paused &&
            fields.transport != Py_None &&
            pause_transport(st, reader, fields.transport) < 0)
            status = -1;
    }
    drop(&fields);
    return status;
}

/* The reader that the protocol's weak reference is to: new reference, or NULL if it is
 * gone; *known is false if that can't be told. */
static PyObject *
reader_of(cl_state *st, PyObject *protocol, bool *known)
{
    PyObject *reference =
        PyObject_GetAttr(protocol, st->str__stream_reader_wr);
    PyObject *reader = NULL;
    *known = reference != NULL &&
             (reference == Py_None || PyWeakref_CheckRefExact(reference));
    if (*known && reference != Py_None)
        reader = PyObject_CallNoArgs(reference);
    Py_XDECREF(reference);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        *known = false;
    }
    if (reader == Py_None)
        Py_CLEAR(reader);
    return reader;
}

int
cl_feed(cl_state *st, PyObject *protocol, const char *data, size_t size)
{
    bool known;
    if ((PyObject *)Py_TYPE(protocol) != st->StreamReaderProtocol ||
        !st->feeds ||
        !is_stock(st->StreamReaderProtocol, protocol_methods,
                  st->feed_protocol_known, CL_FEED_PROTOCOL_METHODS,
                  &st->feed_protocol_version) ||
        !is_stock(st->StreamReader, reader_methods, st->feed_reader_known,
                  CL_FEED_READER_METHODS, &st->feed_reader_version))
        return 0;
    PyObject *reader = reader_of(st, protocol, &known);
    if (!known)
        return 0;
    if (reader == NULL)
        return 1; /* dropped by the program: nobody reads it */
    int status = (PyObject *)Py_TYPE(reader) == st->StreamReader
                     ? feed(st, reader, data, size)
                     : 0;
    Py_DECREF(reader);
    return status;
}
