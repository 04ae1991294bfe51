/* reader.c - see reader.h. */
#include "streams/reader.h"

#include <stddef.h>
#include <string.h>

#include "futures/future.h"

/* Messages of this size and more are received without a copy. */
#define DIRECT_MIN (16 * 1024)

/* --------------------------------------------------------------- the struct */

static int
reader_traverse(ReaderObject *reader, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(reader);
#define VISIT(name) Py_VISIT(reader->rd_##name);
    CL_READER_FIELDS(VISIT)
#undef VISIT
    Py_VISIT(reader->rd_direct);
    return 0;
}

static int
reader_clear(ReaderObject *reader)
{
#define CLEAR(name) Py_CLEAR(reader->rd_##name);
    CL_READER_FIELDS(CLEAR)
#undef CLEAR
    Py_CLEAR(reader->rd_direct);
    return 0;
}

static void
reader_dealloc(ReaderObject *reader)
{
    PyTypeObject *type = Py_TYPE(reader);
    PyObject_GC_UnTrack(reader);
    (void)reader_clear(reader);
    PyObject_GC_Del(reader);
    Py_DECREF(type);
}

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "The attributes of a StreamReader."},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_traverse, reader_traverse},
    {Py_tp_clear, reader_clear},
    {0, NULL}};

static PyType_Spec reader_spec = {
    .name = "cloop._cloop.ReaderFields",
    .basicsize = sizeof(ReaderObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = reader_slots,
};

PyTypeObject *
cl_reader_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &reader_spec, NULL, 0, 0);
}

#ifdef CL_DEBUG
void
cl_reader_check(const ReaderObject *reader)
{
    cl_assert_of(reader, Py_REFCNT(reader) > 0);
    cl_assertf(reader->rd_wanted >= 0 && reader->rd_filled >= 0, "%zd of %zd",
               reader->rd_filled, reader->rd_wanted);
    cl_assertf(reader->rd_direct != NULL || reader->rd_filled == 0, "%zd",
               reader->rd_filled);
    if (reader->rd_direct != NULL) {
        cl_assert_of(reader->rd_direct, PyBytes_CheckExact(reader->rd_direct));
        cl_assertf(reader->rd_filled <= PyBytes_GET_SIZE(reader->rd_direct),
                   "%zd of %zd", reader->rd_filled,
                   PyBytes_GET_SIZE(reader->rd_direct));
        cl_assertf(reader->rd_wanted == 0 ||
                       reader->rd_wanted ==
                           PyBytes_GET_SIZE(reader->rd_direct),
                   "%zd wanted, room for %zd", reader->rd_wanted,
                   PyBytes_GET_SIZE(reader->rd_direct));
    }
}
#endif

static bool
is_among(const cl_guard *guard, PyObject *name)
{
    for (int i = 0; i < guard->g_count && PyUnicode_Check(name); i++) {
        if (PyUnicode_CompareWithASCIIString(name, guard->g_names[i]) == 0)
            return true;
    }
    return false;
}

/* Whether the program replaced one of the methods on the object. */
static bool
has_override(const cl_guard *guard, PyObject *dict)
{
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);) {
        if (is_among(guard, key))
            return true;
    }
    return false;
}

static bool
is_flag(PyObject *value)
{
    return value == Py_True || value == Py_False;
}

bool
cl_reader_is_plain(const ReaderObject *reader)
{
    return reader->rd_buffer != NULL &&
           PyByteArray_CheckExact(reader->rd_buffer) &&
           is_flag(reader->rd_eof) && is_flag(reader->rd_paused) &&
           reader->rd_waiter != NULL && reader->rd_exception != NULL &&
           reader->rd_transport != NULL && reader->rd_loop != NULL &&
           reader->rd_limit != NULL && PyLong_CheckExact(reader->rd_limit);
}

Py_ssize_t
cl_reader_limit(const ReaderObject *reader)
{
    int overflow;
    long limit = PyLong_AsLongAndOverflow(reader->rd_limit, &overflow);
    if (overflow > 0)
        return PY_SSIZE_T_MAX; /* no buffer is that large */
    return limit < 0 ? -1 : limit;
}

static ReaderObject *
new_fields(cl_state *st)
{
    ReaderObject *reader =
        PyObject_GC_New(ReaderObject, cl_streams_of(st)->ReaderFieldsType);
    if (reader == NULL)
        return NULL;
    memset((char *)reader + sizeof(PyObject), 0,
           sizeof(*reader) - sizeof(PyObject));
    PyObject_GC_Track(reader);
    return reader;
}

int
cl_reader_take_over(cl_state *st, PyObject *dict)
{
    ReaderObject *reader = new_fields(st);
    if (reader == NULL)
        return -1;
    int status = 0, count = 0;
#define TAKE(name) \
    reader->rd_##name = Py_XNewRef( \
        PyDict_GetItemWithError(dict, cl_streams_of(st)->str__##name)); \
    count++;
    CL_READER_FIELDS(TAKE)
#undef TAKE
    PyErr_Clear();
    if (cl_reader_is_plain(reader) && PyDict_GET_SIZE(dict) == count) {
        PyDict_Clear(dict);
        status = PyDict_SetItem(dict, cl_streams_of(st)->str__cloop,
                                (PyObject *)reader);
        status = status < 0 ? -1 : 1;
    }
    Py_DECREF(reader);
    return status;
}

PyObject *
cl_reader_make(cl_state *st, PyObject *limit, PyObject *loop)
{
    PyObject *self = PyBaseObject_Type.tp_new(
        cl_streams_of(st)->ss_own_reader.g_type, st->empty_tuple, NULL);
    PyObject *dict = self == NULL ? NULL : Py_XNewRef(cl_streams_dict(self));
    ReaderObject *reader = dict == NULL ? NULL : new_fields(st);
    int status = -1;
    if (reader != NULL) {
        reader->rd_limit = Py_NewRef(limit);
        reader->rd_loop = Py_NewRef(loop);
        reader->rd_eof = Py_NewRef(Py_False);
        reader->rd_waiter = Py_NewRef(Py_None);
        reader->rd_exception = Py_NewRef(Py_None);
        reader->rd_transport = Py_NewRef(Py_None);
        reader->rd_paused = Py_NewRef(Py_False);
        reader->rd_buffer = PyByteArray_FromStringAndSize(NULL, 0);
        if (reader->rd_buffer != NULL)
            status = PyDict_SetItem(dict, cl_streams_of(st)->str__cloop,
                                    (PyObject *)reader);
    }
    Py_XDECREF(reader);
    Py_XDECREF(dict);
    if (status < 0)
        Py_CLEAR(self);
    return self;
}

bool
cl_reader_is_fresh(cl_state *st, PyObject *self, PyObject *limit,
                   PyObject *loop)
{
    cl_streams *streams = cl_streams_of(st);
    if (Py_TYPE(self) != streams->ss_reader.g_type)
        return false;
    PyObject *dict = Py_XNewRef(cl_streams_dict(self));
    const struct {
        PyObject *name, *value;
    } known[] = {
        {streams->str__limit, limit},       {streams->str__loop, loop},
        {streams->str__eof, Py_False},      {streams->str__waiter, Py_None},
        {streams->str__exception, Py_None}, {streams->str__transport, Py_None},
        {streams->str__paused, Py_False}};
    const int count = Py_ARRAY_LENGTH(known);
    bool fresh = dict != NULL;
    for (int i = 0; fresh && i < count; i++)
        fresh = PyDict_GetItemWithError(dict, known[i].name) == known[i].value;
    PyObject *buffer =
        dict == NULL ? NULL
                     : PyDict_GetItemWithError(dict, streams->str__buffer);
    fresh = fresh && buffer != NULL && PyByteArray_CheckExact(buffer) &&
            PyByteArray_GET_SIZE(buffer) == 0 &&
            PyDict_GET_SIZE(dict) == count + 1;
    Py_XDECREF(dict);
    PyErr_Clear();
    return fresh;
}

/* Returns the fields of an object of our class or a subclass, borrowed, or
 * NULL. A look-up by key could compare with keys of the program, whose code
 * may drop the dict. */
static ReaderObject *
fields_in(cl_state *st, PyObject *dict)
{
    PyObject *key, *value;
    for (Py_ssize_t at = 0;
         dict != NULL && PyDict_Next(dict, &at, &key, &value);) {
        if (key == cl_streams_of(st)->str__cloop &&
            Py_TYPE(value) == cl_streams_of(st)->ReaderFieldsType)
            return (ReaderObject *)value;
    }
    return NULL;
}

ReaderObject *
cl_reader_find(cl_state *st, PyObject *self)
{
    cl_streams *streams = cl_streams_of(st);
    if (!cl_guards_hold(self, &streams->ss_own_reader, &streams->ss_reader))
        return NULL;
    PyObject *dict = cl_streams_dict(self);
    ReaderObject *reader = fields_in(st, dict);
    if (reader != NULL && PyDict_GET_SIZE(dict) != 1 &&
        has_override(&streams->ss_reader, dict))
        reader = NULL;
    if (reader == NULL)
        PyErr_Clear();
    return reader;
}

/* ------------------------------------------------------- receiving past the buffer */

static int
append(PyObject *buffer, const char *data, size_t size)
{
    Py_ssize_t have = PyByteArray_GET_SIZE(buffer);
    if (PyByteArray_Resize(buffer, have + (Py_ssize_t)size) < 0)
        return -1;
    memcpy(PyByteArray_AS_STRING(buffer) + have, data, size);
    return 0;
}

int
cl_reader_flush(ReaderObject *reader)
{
    cl_assert_gil();
    cl_check(cl_reader_check(reader));
    if (reader->rd_direct == NULL)
        return 0;
    if (reader->rd_buffer != NULL &&
        PyByteArray_CheckExact(reader->rd_buffer) &&
        append(reader->rd_buffer, PyBytes_AS_STRING(reader->rd_direct),
               (size_t)reader->rd_filled) < 0)
        return -1;
    reader->rd_filled = 0;
    Py_CLEAR(reader->rd_direct);
    return 0;
}

void
cl_reader_want(ReaderObject *reader, Py_ssize_t size)
{
    cl_check(cl_reader_check(reader));
    cl_assert_of(reader, reader->rd_direct == NULL);
    /* Asking for more would pause the transport. */
    bool suits = size >= DIRECT_MIN && cl_reader_is_plain(reader) &&
                 cl_reader_size(reader) == 0 &&
                 size / 2 <= cl_reader_limit(reader);
    reader->rd_wanted = suits ? size : 0;
}

PyObject *
cl_reader_claim(ReaderObject *reader)
{
    cl_check(cl_reader_check(reader));
    PyObject *all = reader->rd_direct;
    if (all == NULL || reader->rd_filled < PyBytes_GET_SIZE(all)) {
        (void)cl_reader_flush(reader);
        return NULL;
    }
    reader->rd_filled = 0;
    reader->rd_direct = NULL;
    return all;
}

char *
cl_reader_lend(cl_state *st, PyObject *self, size_t *room)
{
    ReaderObject *reader = cl_reader_find(st, self);
    if (reader == NULL || reader->rd_wanted == 0 ||
        reader->rd_filled == reader->rd_wanted ||
        !cl_reader_is_plain(reader) || cl_reader_at_eof(reader) ||
        cl_reader_size(reader) > 0 ||
        !cl_future_is_plain(st, reader->rd_waiter))
        return NULL;
    if (reader->rd_direct == NULL &&
        (reader->rd_direct =
             PyBytes_FromStringAndSize(NULL, reader->rd_wanted)) == NULL) {
        PyErr_Clear();
        return NULL;
    }
    cl_check(cl_reader_check(reader));
    *room = (size_t)(reader->rd_wanted - reader->rd_filled);
    return PyBytes_AS_STRING(reader->rd_direct) + reader->rd_filled;
}

int
cl_reader_filled(cl_state *st, PyObject *self, size_t count)
{
    ReaderObject *reader = cl_reader_find(st, self);
    cl_assert_of(self, reader != NULL && reader->rd_direct != NULL);
    cl_assert_of(self, count > 0);
    reader->rd_filled += (Py_ssize_t)count;
    cl_check(cl_reader_check(reader));
    return reader->rd_filled < reader->rd_wanted ? 0
                                                 : cl_reader_wake(st, reader);
}

/* ------------------------------------------------------------------ attributes */

/* An object that the program made of our class has no fields yet. 0/-1 */
static int
add_fields(cl_state *st, PyObject *self)
{
    PyObject *dict = Py_XNewRef(cl_streams_dict(self));
    ReaderObject *reader = dict == NULL ? NULL : new_fields(st);
    int status = reader == NULL
                     ? -1
                     : PyDict_SetItem(dict, cl_streams_of(st)->str__cloop,
                                      (PyObject *)reader);
    Py_XDECREF(reader);
    Py_XDECREF(dict);
    return status;
}

/* Returns the field of an object of our class or a subclass; NULL, with or
 * without an exception, if it has none. */
static PyObject **
locate(PyObject *self, void *closure)
{
    cl_state *st = cl_streams_state(self);
    PyObject *dict = st == NULL ? NULL : cl_streams_dict(self);
    ReaderObject *reader = dict == NULL ? NULL : fields_in(st, dict);
    if (reader != NULL &&
        (size_t)closure == offsetof(ReaderObject, rd_buffer) &&
        cl_reader_flush(reader) < 0)
        return NULL;
    return reader == NULL ? NULL
                          : (PyObject **)((char *)reader + (size_t)closure);
}

static int
complain(PyObject *self, void *closure)
{
    static const char *const names[] = {
#define NAME(name) "_" #name,
        CL_READER_FIELDS(NAME)
#undef NAME
    };
    size_t first = offsetof(ReaderObject, rd_limit);
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '%s'",
                     Py_TYPE(self)->tp_name,
                     names[((size_t)closure - first) / sizeof(PyObject *)]);
    return -1;
}

static PyObject *
get(PyObject *self, void *closure)
{
    PyObject **field = locate(self, closure);
    if (field != NULL && *field != NULL)
        return Py_NewRef(*field);
    complain(self, closure);
    return NULL;
}

static int
set(PyObject *self, PyObject *value, void *closure)
{
    PyObject **field = locate(self, closure);
    if (field == NULL && value != NULL && !PyErr_Occurred() &&
        add_fields(cl_streams_state(self), self) == 0)
        field = locate(self, closure);
    if (field == NULL || (*field == NULL && value == NULL))
        return complain(self, closure);
    PyObject *old = *field;
    *field = Py_XNewRef(value);
    Py_XDECREF(old);
    return 0;
}

PyGetSetDef cl_reader_getset[] = {
#define DESCRIBE(name) \
    {"_" #name, get, set, NULL, (void *)offsetof(ReaderObject, rd_##name)},
    CL_READER_FIELDS(DESCRIBE)
#undef DESCRIBE
        {NULL}};

/* ---------------------------------------------------------------- what is done */

static void
assign(PyObject **field, PyObject *value)
{
    PyObject *old = *field;
    *field = Py_NewRef(value);
    Py_XDECREF(old);
}

int
cl_reader_wake(cl_state *st, ReaderObject *reader)
{
    PyObject *waiter = reader->rd_waiter;
    cl_assert_gil();
    cl_assert_of(reader, waiter != NULL);
    if (waiter == Py_None)
        return 0;
    reader->rd_waiter = Py_NewRef(Py_None); /* we now own its reference */
    int status = -1;
    if (cl_future_is_plain(st, waiter) &&
        ((FutureObject *)waiter)->f_state == CL_PENDING) {
        status = cl_future_finish((FutureObject *)waiter, Py_None);
    }
    else {
        PyObject *answer = PyObject_CallMethodNoArgs(
            waiter, cl_streams_of(st)->str_cancelled);
        int cancelled = answer == NULL ? -1 : PyObject_IsTrue(answer);
        PyObject *result = NULL;
        if (cancelled == 0)
            result = PyObject_CallMethodOneArg(
                waiter, cl_streams_of(st)->str_set_result, Py_None);
        status = cancelled > 0 || result != NULL ? 0 : -1;
        Py_XDECREF(answer);
        Py_XDECREF(result);
    }
    Py_DECREF(waiter);
    return status;
}

int
cl_reader_resume(cl_state *st, ReaderObject *reader)
{
    PyObject *transport = Py_NewRef(reader->rd_transport);
    assign(&reader->rd_paused, Py_False);
    PyObject *result = PyObject_CallMethodNoArgs(
        transport, cl_streams_of(st)->str_resume_reading);
    Py_DECREF(transport);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Called when the buffer holds more than twice the limit. */
static int
pause_transport(cl_state *st, ReaderObject *reader)
{
    PyObject *transport = Py_NewRef(reader->rd_transport);
    PyObject *result = PyObject_CallMethodNoArgs(
        transport, cl_streams_of(st)->str_pause_reading);
    Py_DECREF(transport);
    if (result != NULL) {
        assign(&reader->rd_paused, Py_True);
    }
    else {
        if (!PyErr_ExceptionMatches(PyExc_NotImplementedError))
            return -1;
        PyErr_Clear();
        assign(&reader->rd_transport, Py_None);
    }
    Py_XDECREF(result);
    return 0;
}

int
cl_reader_feed(cl_state *st, PyObject *self, const char *data, size_t size)
{
    ReaderObject *reader = cl_reader_find(st, self);
    if (reader == NULL || !cl_reader_is_plain(reader) ||
        cl_reader_at_eof(reader))
        return 0;
    cl_assert_of(self, size > 0 && data != NULL);
    cl_assert_of(self, !PyErr_Occurred());
    if (cl_reader_flush(reader) < 0 ||
        append(reader->rd_buffer, data, size) < 0)
        return -1;
    Py_INCREF(reader);
    int status = cl_reader_wake(st, reader);
    /* Python code may have run. */
    if (status == 0 && cl_reader_is_plain(reader) &&
        !cl_reader_is_paused(reader) && reader->rd_transport != Py_None &&
        cl_reader_size(reader) / 2 >= cl_reader_limit(reader) &&
        cl_reader_size(reader) > 2 * cl_reader_limit(reader))
        status = pause_transport(st, reader);
    Py_DECREF(reader);
    return status < 0 ? -1 : 1;
}
