/* served.c - see served.h. */
#include "streams/served.h"

#include <string.h>

#include "core/args.h"
#include "core/errors.h"
#include "core/loop.h"
#include "futures/future.h"
#include "streams/reader.h"
#include "streams/streams.h"

/* --------------------------------------------------------------------- the texts */

/* Returns function.__code__, or NULL with or without an exception. */
static PyObject *
code_of(PyObject *owner, const char *name)
{
    PyObject *function = PyObject_GetAttrString(owner, name);
    PyObject *code =
        function == NULL ? NULL : PyObject_GetAttrString(function, "__code__");
    Py_XDECREF(function);
    if (code != NULL && !PyCode_Check(code)) /* a program's own object */
        Py_CLEAR(code);
    return code;
}

/* Returns the code of a function that is defined inside, or NULL without an
 * exception. */
static PyObject *
inner_code(PyObject *code, const char *name)
{
    PyObject *consts = PyObject_GetAttrString(code, "co_consts");
    PyObject *found = NULL;
    for (Py_ssize_t i = 0;
         consts != NULL && i < PyTuple_GET_SIZE(consts) && found == NULL;
         i++) {
        PyObject *value = PyTuple_GET_ITEM(consts, i);
        if (PyCode_Check(value) &&
            PyUnicode_CompareWithASCIIString(((PyCodeObject *)value)->co_name,
                                             name) == 0)
            found = Py_NewRef(value);
    }
    Py_XDECREF(consts);
    PyErr_Clear();
    return found;
}

/* Whether the code's attribute, a tuple of names, is this text. */
static bool
is_names(PyObject *code, const char *attribute, const char *text)
{
    PyObject *names =
        code == NULL ? NULL : PyObject_GetAttrString(code, attribute);
    PyObject *space = PyUnicode_FromString(" ");
    PyObject *joined =
        names == NULL || space == NULL ? NULL : PyUnicode_Join(space, names);
    bool same =
        joined != NULL && PyUnicode_CompareWithASCIIString(joined, text) == 0;
    Py_XDECREF(names);
    Py_XDECREF(space);
    Py_XDECREF(joined);
    PyErr_Clear();
    return same;
}

#define MADE_START \
    "_reject_connection _source_traceback _loop call_exception_handler " \
    "abort " \
    "_transport _stream_reader set_transport get_extra_info _over_ssl " \
    "_client_connected_cb "

static const struct {
    const char *names;
    unsigned flags;
} made_texts[] = {
    /* 3.8, 3.9 */
    {MADE_START "StreamWriter _stream_writer coroutines iscoroutine "
                "create_task _strong_reader",
     CL_SERVED_KEEPS_WRITER},
    /* 3.10 */
    {MADE_START "StreamWriter _stream_writer coroutines iscoroutine "
                "create_task _task _strong_reader",
     CL_SERVED_KEEPS_WRITER | CL_SERVED_KEEPS_TASK},
    /* 3.11, 3.12 */
    {MADE_START "StreamWriter _stream_writer coroutines iscoroutine "
                "create_task _task add_done_callback _strong_reader",
     CL_SERVED_KEEPS_WRITER | CL_SERVED_KEEPS_TASK | CL_SERVED_CALLBACK},
    /* 3.13, 3.15 */
    {MADE_START "StreamWriter coroutines iscoroutine create_task _task "
                "add_done_callback _strong_reader",
     CL_SERVED_KEEPS_TASK | CL_SERVED_CALLBACK},
    /* 3.14 */
    {MADE_START "StreamWriter Exception close _strong_reader coroutines "
                "iscoroutine create_task _task add_done_callback",
     CL_SERVED_KEEPS_TASK | CL_SERVED_CALLBACK | CL_SERVED_CATCHES},
};

#define LOST_START \
    "_stream_reader feed_eof set_exception _closed done set_result super " \
    "connection_lost _stream_reader_wr "

static const struct {
    const char *names;
    unsigned flags;
} lost_texts[] = {
    {LOST_START "_stream_writer _transport", CL_SERVED_KEEPS_WRITER},
    {LOST_START "_stream_writer _task _transport",
     CL_SERVED_KEEPS_WRITER | CL_SERVED_KEEPS_TASK},
    {LOST_START "_task _transport", CL_SERVED_KEEPS_TASK},
};

/* 0/-1 */
static int
find_texts(cl_streams *streams)
{
    PyObject *made = code_of(streams->StreamReaderProtocol, "connection_made");
    PyObject *lost = code_of(streams->StreamReaderProtocol, "connection_lost");
    PyErr_Clear();
    for (size_t i = 0; i < Py_ARRAY_LENGTH(made_texts); i++) {
        if (is_names(made, "co_names", made_texts[i].names))
            streams->ss_made = made_texts[i].flags | CL_SERVED_KNOWN;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(lost_texts); i++) {
        if (is_names(lost, "co_names", lost_texts[i].names))
            streams->ss_lost = lost_texts[i].flags | CL_SERVED_KNOWN;
    }
    if (streams->ss_made & CL_SERVED_CALLBACK) {
        streams->ss_callback = inner_code(made, "callback");
        if (!is_names(streams->ss_callback, "co_freevars", "self transport"))
            streams->ss_made = 0;
    }
    Py_XDECREF(made);
    Py_XDECREF(lost);
    streams->ss_callback_name = PyUnicode_FromString(
        "StreamReaderProtocol.connection_made.<locals>.callback");
    return streams->ss_callback_name == NULL ? -1 : 0;
}

int
cl_served_setup(cl_state *st, PyObject *asyncio_streams)
{
    static const char *const starters[] = {"start_server",
                                           "start_unix_server"};
    cl_streams *streams = cl_streams_of(st);
    if (find_texts(streams) < 0)
        return -1;
    streams->ss_globals = Py_NewRef(PyModule_GetDict(asyncio_streams));
    for (int i = 0; i < 2; i++) {
        PyObject *code = code_of(asyncio_streams, starters[i]);
        PyObject *factory = code == NULL ? NULL : inner_code(code, "factory");
        PyErr_Clear();
        if (is_names(factory, "co_names",
                     "StreamReader StreamReaderProtocol") &&
            is_names(factory, "co_freevars", "client_connected_cb limit loop"))
            streams->ss_factories[i] = Py_XNewRef(factory);
        Py_XDECREF(code);
        Py_XDECREF(factory);
    }
    return 0;
}

/* --------------------------------------------------------------------- recipes */

/* What the value of an attribute is. */
enum {
    CONSTANT,
    LOOP,
    CALLBACK,
    TRANSPORT,
    PROTOCOL,
    READER,
    READER_REF,
    DEQUE,
    FUTURE,
    DONE
};

/* The objects that a value may be; borrowed, or NULL. */
typedef struct {
    PyObject *loop, *callback, *transport, *protocol, *reader;
} parts;

static void
forget(cl_recipe *recipe)
{
    for (int i = 0; i < recipe->rc_count; i++)
        Py_CLEAR(recipe->rc_keys[i]);
    recipe->rc_count = 0;
    recipe->rc_known = false;
}

void
cl_served_clear(cl_state *st)
{
    cl_streams *streams = cl_streams_of(st);
    forget(&streams->ss_protocol_recipe);
    forget(&streams->ss_writer_recipe);
    Py_CLEAR(streams->ss_globals);
    Py_CLEAR(streams->ss_factories[0]);
    Py_CLEAR(streams->ss_factories[1]);
    Py_CLEAR(streams->ss_callback);
    Py_CLEAR(streams->ss_callback_name);
}

/* Returns what a value is, or -1. */
static int
kind_of(cl_state *st, PyObject *value, const parts *parts)
{
    if (value == Py_None || value == Py_False || value == Py_True)
        return CONSTANT;
    if (value == parts->loop)
        return LOOP;
    if (value == parts->transport)
        return TRANSPORT;
    if (value == parts->protocol)
        return PROTOCOL;
    if (value == parts->reader)
        return READER;
    if (value == parts->callback)
        return CALLBACK;
    if (PyWeakref_CheckRefExact(value) && parts->reader != NULL &&
        cl_weakref_is(value, parts->reader))
        return READER_REF;
    if ((PyObject *)Py_TYPE(value) == cl_streams_of(st)->deque &&
        PyObject_Size(value) == 0)
        return DEQUE;
    if (!cl_future_is_plain(st, value))
        return -1;
    const FutureObject *future = (const FutureObject *)value;
    return future->f_callback0 != NULL     ? -1
           : future->f_state == CL_PENDING ? FUTURE
           : future->f_state == CL_FINISHED && future->f_result == Py_None
               ? DONE
               : -1;
}

static void
learn(cl_state *st, cl_recipe *recipe, PyObject *object, const parts *parts)
{
    PyObject *dict = Py_XNewRef(cl_streams_dict(object));
    PyObject *key, *value;
    Py_ssize_t at = 0;
    recipe->rc_known = true;
    while (dict != NULL && recipe->rc_known &&
           PyDict_Next(dict, &at, &key, &value)) {
        int kind = kind_of(st, value, parts);
        if (kind < 0 || recipe->rc_count == CL_RECIPE_MAX ||
            !PyUnicode_CheckExact(key)) {
            forget(recipe);
            recipe->rc_failed = true;
            break;
        }
        recipe->rc_keys[recipe->rc_count] = Py_NewRef(key);
        recipe->rc_constants[recipe->rc_count] =
            kind == CONSTANT ? value : NULL;
        recipe->rc_kinds[recipe->rc_count++] = (uint8_t)kind;
    }
    if (dict == NULL)
        recipe->rc_known = false;
    Py_XDECREF(dict);
    PyErr_Clear();
}

static PyObject *
done_future(cl_state *st, PyObject *loop)
{
    PyObject *future = cl_future_create(st, loop);
    int status = -1;
    if (future != NULL && cl_future_is_plain(st, future)) {
        status = cl_future_finish((FutureObject *)future, Py_None);
    }
    else if (future != NULL) { /* create_future() is overridden */
        PyObject *result = PyObject_CallMethodOneArg(
            future, cl_streams_of(st)->str_set_result, Py_None);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    if (status < 0)
        Py_CLEAR(future);
    return future;
}

static PyObject *
make_value(cl_state *st, int kind, PyObject *constant, const parts *parts)
{
    switch (kind) {
    case CONSTANT:
        return Py_NewRef(constant);
    case LOOP:
        return Py_NewRef(parts->loop);
    case CALLBACK:
        return Py_NewRef(parts->callback);
    case TRANSPORT:
        return Py_NewRef(parts->transport);
    case PROTOCOL:
        return Py_NewRef(parts->protocol);
    case READER:
        return Py_NewRef(parts->reader);
    case READER_REF:
        return PyWeakref_NewRef(parts->reader, NULL);
    case DEQUE:
        return PyObject_CallNoArgs(cl_streams_of(st)->deque);
    case FUTURE:
        return cl_future_create(st, parts->loop);
    default:
        return done_future(st, parts->loop);
    }
}

/* Whether the value is only made when somebody looks for it: the deque of the
 * tasks that wait in drain(), and a future that asyncio's own code never uses.
 * They would take a quarter of the memory of a connection. */
static bool
is_made_late(cl_state *st, const cl_recipe *recipe, int i, PyObject *loop)
{
    const cl_streams *streams = cl_streams_of(st);
    if (recipe->rc_kinds[i] == DEQUE)
        return recipe->rc_keys[i] == streams->str__drain_waiters;
    LoopObject *ours = cl_loop_cast(loop);
    return recipe->rc_kinds[i] == DONE &&
           recipe->rc_keys[i] == streams->str__complete_fut && ours != NULL &&
           !ours->l_debug &&
           !cl_loop_overrides(ours, CL_OVERRIDES_CREATE_FUTURE);
}

/* What is in its place until then, borrowed: nothing that a program has. So it is
 * where asyncio's __init__() puts it, and to put the value there later takes no
 * memory. */
static PyObject *
to_be_made(cl_state *st)
{
    return (PyObject *)cl_streams_of(st)->ReaderFieldsType;
}

/* Returns a new object of the class, without its __init__(). */
static PyObject *
bare(cl_state *st, PyTypeObject *type)
{
    return PyBaseObject_Type.tp_new(type, st->empty_tuple, NULL);
}

static PyObject *
make(cl_state *st, const cl_recipe *recipe, PyTypeObject *type,
     const parts *given)
{
    PyObject *self = bare(st, type);
    PyObject *dict = self == NULL ? NULL : Py_XNewRef(cl_streams_dict(self));
    parts parts = *given;
    int status = dict == NULL ? -1 : 0;
    if (parts.protocol == NULL)
        parts.protocol = self;
    for (int i = 0; i < recipe->rc_count && status == 0; i++) {
        PyObject *value = is_made_late(st, recipe, i, parts.loop)
                              ? Py_NewRef(to_be_made(st))
                              : make_value(st, recipe->rc_kinds[i],
                                           recipe->rc_constants[i], &parts);
        status = value == NULL
                     ? -1
                     : PyDict_SetItem(dict, recipe->rc_keys[i], value);
        Py_XDECREF(value);
    }
    Py_XDECREF(dict);
    if (status < 0)
        Py_CLEAR(self);
    return self;
}

/* -------------------------------------------------------- what is made late */

/* The closures of the getters say whose attribute it is. */
enum { OF_PROTOCOL, OF_WRITER };

static const cl_recipe *
late_recipe(cl_streams *streams, void *closure)
{
    return (size_t)closure == OF_PROTOCOL ? &streams->ss_protocol_recipe
                                          : &streams->ss_writer_recipe;
}

static PyObject *
late_name(cl_streams *streams, void *closure)
{
    return (size_t)closure == OF_PROTOCOL ? streams->str__drain_waiters
                                          : streams->str__complete_fut;
}

/* Makes the attribute that was left to be made late. Returns a borrowed reference,
 * which the dict has, or NULL with an exception. */
static PyObject *
make_late(cl_state *st, PyObject *dict, void *closure)
{
    cl_streams *streams = cl_streams_of(st);
    const cl_recipe *recipe = late_recipe(streams, closure);
    PyObject *name = late_name(streams, closure);
    PyObject *loop =
        Py_XNewRef(PyDict_GetItemWithError(dict, streams->str__loop));
    parts parts = {.loop = loop};
    PyObject *value = NULL, *found = NULL;
    for (int i = 0; i < recipe->rc_count && value == NULL; i++) {
        if (recipe->rc_keys[i] == name &&
            (loop != NULL || recipe->rc_kinds[i] == DEQUE))
            value = make_value(st, recipe->rc_kinds[i], NULL, &parts);
    }
    if (value != NULL)
        found = PyDict_GetItemWithError(dict, name);
    /* create_future() of the program's may have asked for it, too. */
    if (found == to_be_made(st))
        found = PyDict_SetItem(dict, name, value) < 0 ? NULL : value;
    else if (value == NULL && !PyErr_Occurred()) /* without a _loop */
        (void)PyDict_DelItem(dict, name);
    Py_XDECREF(value);
    Py_XDECREF(loop);
    return found;
}

/* Returns a new reference to the object's dict, with the attribute in it if it
 * has one: it goes to *value, borrowed, or NULL. */
static PyObject *
whole_dict(PyObject *self, void *closure, PyObject **value)
{
    cl_state *st = cl_streams_state(self);
    PyObject *dict = st == NULL ? NULL : Py_XNewRef(cl_streams_dict(self));
    if (dict == NULL)
        return NULL;
    *value =
        PyDict_GetItemWithError(dict, late_name(cl_streams_of(st), closure));
    if (*value == to_be_made(st))
        *value = make_late(st, dict, closure);
    if (*value == NULL && PyErr_Occurred())
        Py_CLEAR(dict);
    return dict;
}

static PyObject *
get_dict(PyObject *self, void *closure)
{
    PyObject *ignored;
    return whole_dict(self, closure, &ignored);
}

/* By the attribute that asyncio's class has: CPython 3.13 has no function that
 * does all of it. */
static int
set_dict(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    PyObject *mro = Py_TYPE(self)->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *class = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        PyObject *found =
            PyType_HasFeature(class, Py_TPFLAGS_HEAPTYPE)
                ? PyDict_GetItemString(class->tp_dict, "__dict__")
                : NULL;
        if (found != NULL && Py_TYPE(found) == &PyGetSetDescr_Type &&
            ((PyGetSetDescrObject *)found)->d_getset->set != set_dict)
            return Py_TYPE(found)->tp_descr_set(found, self, value);
    }
    PyErr_SetString(PyExc_AttributeError,
                    "This object has no __dict__"); /* as Python's */
    return -1;
}

static PyObject *
get_late(PyObject *self, void *closure)
{
    PyObject *value, *dict = whole_dict(self, closure, &value);
    if (dict != NULL && value == NULL)
        PyErr_Format(
            PyExc_AttributeError, "'%s' object has no attribute '%U'",
            Py_TYPE(self)->tp_name,
            late_name(cl_streams_of(cl_streams_state(self)), closure));
    Py_XINCREF(dict == NULL ? NULL : value);
    Py_XDECREF(dict);
    return dict == NULL ? NULL : value;
}

static int
set_late(PyObject *self, PyObject *value, void *closure)
{
    /* What is deleted must have been there. */
    PyObject *old = value == NULL ? get_late(self, closure) : Py_NewRef(value);
    cl_state *st = old == NULL ? NULL : cl_streams_state(self);
    PyObject *dict = st == NULL ? NULL : cl_streams_dict(self);
    int status = -1;
    if (dict != NULL) {
        PyObject *name = late_name(cl_streams_of(st), closure);
        status = value == NULL ? PyDict_DelItem(dict, name)
                               : PyDict_SetItem(dict, name, value);
    }
    Py_XDECREF(old);
    return status;
}

PyGetSetDef cl_served_protocol_getset[] = {
    {"_drain_waiters", get_late, set_late, NULL, (void *)OF_PROTOCOL},
    {"__dict__", get_dict, set_dict, NULL, (void *)OF_PROTOCOL},
    {NULL}};
PyGetSetDef cl_served_writer_getset[] = {
    {"_complete_fut", get_late, set_late, NULL, (void *)OF_WRITER},
    {"__dict__", get_dict, set_dict, NULL, (void *)OF_WRITER},
    {NULL}};

/* ------------------------------------------------------------------ the factory */

/* Finds what asyncio's factory for streams was made with; false if it is not
 * that, or does anything else now. */
static bool
factory_parts(cl_state *st, PyObject *factory, parts *found, PyObject **limit)
{
    cl_streams *streams = cl_streams_of(st);
    if (!PyFunction_Check(factory) || streams->ss_globals == NULL)
        return false;
    PyObject *code = PyFunction_GET_CODE(factory);
    PyObject *cells = PyFunction_GET_CLOSURE(factory);
    if ((code != streams->ss_factories[0] &&
         code != streams->ss_factories[1]) ||
        PyFunction_GET_GLOBALS(factory) != streams->ss_globals ||
        cells == NULL || PyTuple_GET_SIZE(cells) != 3)
        return false;
    found->callback = PyCell_GET(PyTuple_GET_ITEM(cells, 0));
    *limit = PyCell_GET(PyTuple_GET_ITEM(cells, 1));
    found->loop = PyCell_GET(PyTuple_GET_ITEM(cells, 2));
    return found->callback != NULL && found->callback != Py_None &&
           *limit != NULL && PyLong_CheckExact(*limit) && found->loop != NULL;
}

/* Whether asyncio's names still mean asyncio's classes, unchanged. */
static bool
is_stock(cl_state *st)
{
    cl_streams *streams = cl_streams_of(st);
    return streams->ss_on && cl_guard_holds(&streams->ss_reader) &&
           cl_guard_holds(&streams->ss_protocol) &&
           cl_guard_holds(&streams->ss_own_reader) &&
           cl_guard_holds(&streams->ss_own_protocol) &&
           cl_guard_holds(&streams->ss_mixin) &&
           PyDict_GetItemWithError(streams->ss_globals,
                                   streams->str_StreamReader) ==
               streams->StreamReader &&
           PyDict_GetItemWithError(streams->ss_globals,
                                   streams->str_StreamReaderProtocol) ==
               streams->StreamReaderProtocol;
}

PyObject *
cl_served_protocol(LoopObject *loop, PyObject *factory)
{
    cl_state *st = loop->l_st;
    cl_streams *streams = cl_streams_of(st);
    cl_recipe *recipe = &streams->ss_protocol_recipe;
    parts parts = {0};
    PyObject *limit;
    bool ours = factory_parts(st, factory, &parts, &limit) &&
                parts.loop == (PyObject *)loop && !loop->l_debug &&
                cl_loop_is_plain(loop) && is_stock(st);
    PyErr_Clear();
    int overflow;
    if (!ours || PyLong_AsLongAndOverflow(limit, &overflow) <= 0 || overflow)
        return PyObject_CallNoArgs(factory);
    Py_INCREF(parts.callback);
    Py_INCREF(limit);
    PyObject *protocol = NULL;
    if (recipe->rc_known && streams->ss_reader_known) {
        parts.reader = cl_reader_make(st, limit, parts.loop);
        if (parts.reader != NULL)
            protocol =
                make(st, recipe, streams->ss_own_protocol.g_type, &parts);
    }
    else {
        protocol = PyObject_CallNoArgs(factory);
        bool known;
        if (protocol != NULL && !recipe->rc_failed &&
            Py_TYPE(protocol) == streams->ss_protocol.g_type) {
            parts.protocol = protocol;
            parts.reader = cl_streams_reader_of(st, protocol, &known);
            if (parts.reader != NULL) {
                streams->ss_reader_known =
                    cl_reader_is_fresh(st, parts.reader, limit, parts.loop);
                learn(st, recipe, protocol, &parts);
            }
        }
    }
    Py_XDECREF(parts.reader);
    Py_DECREF(parts.callback);
    Py_DECREF(limit);
    return protocol;
}

/* ------------------------------------------------------------- connection_made() */

/* The arguments of a method that is called. */
typedef struct {
    PyObject *const *values;
    Py_ssize_t count;
    PyObject *names;
} arguments;

static PyObject *
inherited(cl_state *st, PyObject *self, PyObject *name,
          const arguments *arguments)
{
    return cl_future_inherited(cl_streams_of(st)->StreamReaderProtocol, self,
                               name, arguments->values, arguments->count,
                               arguments->names);
}

bool
cl_served_makes_writers(cl_state *st, PyObject *protocol)
{
    cl_streams *streams = cl_streams_of(st);
    return (streams->ss_made & CL_SERVED_KNOWN) && streams->ss_on &&
           cl_guards_hold(protocol, &streams->ss_own_protocol,
                          &streams->ss_protocol) &&
           cl_guard_holds(&streams->ss_writer) &&
           cl_guard_holds(&streams->ss_own_writer);
}

/* Returns a writer of our class. */
static PyObject *
make_writer(cl_state *st, const parts *parts)
{
    cl_streams *streams = cl_streams_of(st);
    cl_recipe *recipe = &streams->ss_writer_recipe;
    PyObject *class = PyDict_GetItemWithError(streams->ss_globals,
                                              streams->str_StreamWriter);
    bool stock = class == streams->StreamWriter;
    /* asyncio's __init__() asserts that it is one. */
    if (stock && recipe->rc_known && parts->reader != NULL &&
        PyObject_TypeCheck(parts->reader,
                           (PyTypeObject *)streams->StreamReader))
        return make(st, recipe, streams->ss_own_writer.g_type, parts);
    if (class == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_NameError,
                            "name 'StreamWriter' is not defined");
        return NULL;
    }
    Py_INCREF(class);
    PyObject *args[] = {parts->transport, parts->protocol,
                        parts->reader == NULL ? Py_None : parts->reader,
                        parts->loop};
    PyObject *writer = PyObject_Vectorcall(class, args, 4, NULL);
    Py_DECREF(class);
    if (writer == NULL || !stock ||
        Py_TYPE(writer) != streams->ss_writer.g_type)
        return writer;
    if (!recipe->rc_failed && parts->reader != NULL)
        learn(st, recipe, writer, parts);
    if (cl_streams_become(st, writer, &streams->ss_own_writer) < 0)
        Py_CLEAR(writer);
    return writer;
}

/* reader.set_transport(transport) */
static int
set_transport(cl_state *st, PyObject *reader, PyObject *transport)
{
    ReaderObject *fields = cl_reader_find(st, reader);
    if (fields != NULL && fields->rd_transport == Py_None) {
        Py_SETREF(fields->rd_transport, Py_NewRef(transport));
        return 0;
    }
    PyObject *result = PyObject_CallMethodOneArg(
        reader, cl_streams_of(st)->str_set_transport, transport);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Reports an exception of the handler, and closes the transport. 0/-1 */
static int
report(cl_state *st, PyObject *loop, PyObject *transport, PyObject *exception)
{
    PyObject *details = Py_BuildValue(
        "{sssOsO}", "message", "Unhandled exception in client_connected_cb",
        "exception", exception, "transport", transport);
    PyObject *result =
        details == NULL ? NULL
                        : PyObject_CallMethodOneArg(
                              loop, st->str_call_exception_handler, details);
    Py_XDECREF(details);
    if (result != NULL)
        Py_SETREF(result, PyObject_CallMethodNoArgs(
                              transport, cl_streams_of(st)->str_close));
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Returns the function that connection_made() defines and gives to the task:
 * its code is asyncio's. */
static PyObject *
make_callback(cl_streams *streams, const parts *parts)
{
    PyObject *self = PyCell_New(parts->protocol);
    PyObject *transport = PyCell_New(parts->transport);
    PyObject *cells = self == NULL || transport == NULL
                          ? NULL
                          : PyTuple_Pack(2, self, transport);
    PyObject *callback =
        cells == NULL ? NULL
                      : PyFunction_NewWithQualName(streams->ss_callback,
                                                   streams->ss_globals,
                                                   streams->ss_callback_name);
    if (callback != NULL && PyFunction_SetClosure(callback, cells) < 0)
        Py_CLEAR(callback);
    Py_XDECREF(self);
    Py_XDECREF(transport);
    Py_XDECREF(cells);
    return callback;
}

/* Starts the handler's task. 0/-1 */
static int
start_task(cl_state *st, PyObject *dict, const parts *parts, PyObject *coro)
{
    cl_streams *streams = cl_streams_of(st);
    PyObject *task =
        PyObject_CallMethodOneArg(parts->loop, st->str_create_task, coro);
    int status = task == NULL ? -1 : 0;
    if (status == 0 && (streams->ss_made & CL_SERVED_KEEPS_TASK))
        status = PyDict_SetItem(dict, streams->str__task, task);
    if (status == 0 && (streams->ss_made & CL_SERVED_CALLBACK)) {
        PyObject *callback = make_callback(streams, parts);
        PyObject *added =
            callback == NULL
                ? NULL
                : PyObject_CallMethodOneArg(
                      task, streams->str_add_done_callback, callback);
        status = added == NULL ? -1 : 0;
        Py_XDECREF(callback);
        Py_XDECREF(added);
    }
    Py_XDECREF(task);
    return status;
}

static int
is_coroutine(cl_state *st, PyObject *object)
{
    if (PyCoro_CheckExact(object))
        return 1;
    PyObject *answer =
        PyObject_CallOneArg(cl_futures_of(st)->iscoroutine, object);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* Calls client_connected_cb(). 0/-1 */
static int
call_handler(cl_state *st, PyObject *dict, const parts *parts)
{
    cl_streams *streams = cl_streams_of(st);
    PyObject *reader = parts->reader == NULL ? Py_None : parts->reader;
    PyObject *writer = make_writer(st, parts);
    if (writer == NULL ||
        ((streams->ss_made & CL_SERVED_KEEPS_WRITER) &&
         PyDict_SetItem(dict, streams->str__stream_writer, writer) < 0)) {
        Py_XDECREF(writer);
        return -1;
    }
    PyObject *args[] = {reader, writer};
    PyObject *result = PyObject_Vectorcall(parts->callback, args, 2, NULL);
    Py_DECREF(writer);
    int status;
    if (result == NULL) {
        if (!(streams->ss_made & CL_SERVED_CATCHES) ||
            !PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyObject *exception = PyErr_GetRaisedException();
        status = report(st, parts->loop, parts->transport, exception);
        Py_DECREF(exception);
    }
    else {
        status = is_coroutine(st, result);
        if (status > 0)
            status = start_task(st, dict, parts, result);
        Py_DECREF(result);
    }
    return status < 0
               ? -1
               : PyDict_SetItem(dict, streams->str__strong_reader, Py_None);
}

/* The part of connection_made() after the transport was noted. 0/-1 */
static int
made(cl_state *st, PyObject *dict, parts *parts)
{
    cl_streams *streams = cl_streams_of(st);
    if (parts->reader != NULL &&
        set_transport(st, parts->reader, parts->transport) < 0)
        return -1;
    PyObject *ssl = PyObject_CallMethodOneArg(parts->transport,
                                              streams->str_get_extra_info,
                                              streams->str_sslcontext);
    if (ssl == NULL)
        return -1;
    PyObject *over = ssl != Py_None ? Py_True : Py_False;
    Py_DECREF(ssl);
    if (PyDict_SetItem(dict, streams->str__over_ssl, over) < 0)
        return -1;
    return parts->callback == Py_None ? 0 : call_handler(st, dict, parts);
}

PyObject *
cl_served_connection_made(PyObject *self, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    cl_streams *streams = cl_streams_of(st);
    PyObject *dict = Py_XNewRef(cl_streams_dict(self));
    bool plain = nargs == 1 && kwnames == NULL;
    PyObject *transport = plain ? args[0] : NULL;
    parts parts = {.transport = transport, .protocol = self};
    bool known =
        plain && dict != NULL && cl_served_makes_writers(st, self) &&
        PyDict_GetItemWithError(dict, streams->str__reject_connection) ==
            Py_False &&
        (parts.loop = PyDict_GetItemWithError(dict, streams->str__loop)) !=
            NULL &&
        (parts.callback = PyDict_GetItemWithError(
             dict, streams->str__client_connected_cb)) != NULL &&
        cl_loop_cast(parts.loop) != NULL && !cl_loop_cast(parts.loop)->l_debug;
    PyErr_Clear();
    if (known)
        parts.reader = cl_streams_reader_of(st, self, &known);
    PyObject *result = NULL;
    if (!known) {
        if (cl_streams_hook_writer(st, self) == 0)
            result = inherited(st, self, streams->str_connection_made,
                               &(arguments){args, nargs, kwnames});
    }
    else {
        Py_INCREF(parts.loop);
        Py_INCREF(parts.callback);
        if (PyDict_SetItem(dict, streams->str__transport, transport) == 0 &&
            made(st, dict, &parts) == 0)
            result = Py_NewRef(Py_None);
        Py_DECREF(parts.loop);
        Py_DECREF(parts.callback);
        Py_XDECREF(parts.reader);
    }
    Py_XDECREF(dict);
    return result;
}

/* ------------------------------------------------------------------------ the end */

/* reader.feed_eof() 0/-1 */
static int
feed_eof(cl_state *st, PyObject *reader)
{
    ReaderObject *fields = cl_reader_find(st, reader);
    if (fields != NULL && cl_reader_is_plain(fields)) {
        Py_SETREF(fields->rd_eof, Py_NewRef(Py_True));
        return cl_reader_wake(st, fields);
    }
    PyObject *result =
        PyObject_CallMethodNoArgs(reader, cl_streams_of(st)->str_feed_eof);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

PyObject *
cl_served_feed_eof(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    ReaderObject *fields = cl_reader_find(st, self);
    if (nargs > 0 || kwnames != NULL || fields == NULL ||
        !cl_reader_is_plain(fields))
        return cl_future_inherited(cl_streams_of(st)->StreamReader, self,
                                   cl_streams_of(st)->str_feed_eof, args,
                                   nargs, kwnames);
    return cl_none_or_error(feed_eof(st, self));
}

PyObject *
cl_served_close(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    cl_streams *streams = cl_streams_of(st);
    if (nargs > 0 || kwnames != NULL || !cl_guard_holds(&streams->ss_writer))
        return cl_future_inherited(streams->StreamWriter, self,
                                   streams->str_close, args, nargs, kwnames);
    PyObject *transport = PyObject_GetAttr(self, streams->str__transport);
    PyObject *result =
        transport == NULL
            ? NULL
            : PyObject_CallMethodNoArgs(transport, streams->str_close);
    Py_XDECREF(transport);
    return result;
}

PyObject *
cl_served_eof_received(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    cl_streams *streams = cl_streams_of(st);
    PyObject *dict = Py_XNewRef(cl_streams_dict(self));
    PyObject *over =
        dict == NULL ? NULL
                     : PyDict_GetItemWithError(dict, streams->str__over_ssl);
    bool known =
        nargs == 0 && kwnames == NULL &&
        (over == Py_False || over == Py_True) &&
        cl_guards_hold(self, &streams->ss_own_protocol, &streams->ss_protocol);
    PyErr_Clear();
    Py_XDECREF(dict);
    PyObject *reader = known ? cl_streams_reader_of(st, self, &known) : NULL;
    if (!known)
        return inherited(st, self, streams->str_eof_received,
                         &(arguments){args, nargs, kwnames});
    int status = reader == NULL ? 0 : feed_eof(st, reader);
    Py_XDECREF(reader);
    return status < 0 ? NULL : PyBool_FromLong(over == Py_False);
}

/* What connection_lost(None) does when nobody waits in drain(). 0/-1 */
static int
lost(cl_state *st, PyObject *self, PyObject *dict, PyObject *closed)
{
    cl_streams *streams = cl_streams_of(st);
    bool known;
    PyObject *reader = cl_streams_reader_of(st, self, &known);
    int status = reader == NULL ? 0 : feed_eof(st, reader);
    Py_XDECREF(reader);
    if (status == 0 && ((FutureObject *)closed)->f_state == CL_PENDING)
        status = cl_future_finish((FutureObject *)closed, Py_None);
    if (status < 0 ||
        PyDict_SetItem(dict, streams->str__connection_lost, Py_True) < 0 ||
        PyDict_SetItem(dict, streams->str__stream_reader_wr, Py_None) < 0 ||
        ((streams->ss_lost & CL_SERVED_KEEPS_WRITER) &&
         PyDict_SetItem(dict, streams->str__stream_writer, Py_None) < 0) ||
        ((streams->ss_lost & CL_SERVED_KEEPS_TASK) &&
         PyDict_SetItem(dict, streams->str__task, Py_None) < 0))
        return -1;
    return PyDict_SetItem(dict, streams->str__transport, Py_None);
}

/* The protocol's __del__() retrieves the exception of its _closed, so that it
 * is not reported. A collection may finalize the future first, however. */
static void
retrieve_closed(cl_state *st, PyObject *self, PyObject *dict)
{
    PyObject *closed =
        dict == NULL
            ? NULL
            : PyDict_GetItemWithError(dict, cl_streams_of(st)->str__closed);
    if (closed != NULL && cl_future_is_plain(st, closed) &&
        Py_TYPE(self)->tp_finalize == cl_served_finalize_protocol)
        ((FutureObject *)closed)->f_log_tb = 0;
    PyErr_Clear();
}

PyObject *
cl_served_connection_lost(PyObject *self, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL)
        return NULL;
    cl_streams *streams = cl_streams_of(st);
    PyObject *dict = Py_XNewRef(cl_streams_dict(self)), *closed = NULL;
    PyObject *reference =
        dict == NULL
            ? NULL
            : PyDict_GetItemWithError(dict, streams->str__stream_reader_wr);
    bool known =
        reference != NULL && nargs == 1 && kwnames == NULL &&
        args[0] == Py_None &&
        (reference == Py_None || PyWeakref_CheckRefExact(reference)) &&
        (streams->ss_lost & CL_SERVED_KNOWN) &&
        cl_guards_hold(self, &streams->ss_own_protocol,
                       &streams->ss_protocol) &&
        cl_guard_holds(&streams->ss_mixin) &&
        PyDict_GetItemWithError(dict, streams->str__paused) == Py_False &&
        (closed = PyDict_GetItemWithError(dict, streams->str__closed)) !=
            NULL &&
        cl_future_is_plain(st, closed);
    PyErr_Clear();
    PyObject *result = NULL;
    if (!known) {
        result = inherited(st, self, streams->str_connection_lost,
                           &(arguments){args, nargs, kwnames});
        if (result != NULL)
            retrieve_closed(st, self, dict);
    }
    else {
        Py_INCREF(closed);
        result = cl_none_or_error(lost(st, self, dict, closed));
        Py_DECREF(closed);
    }
    Py_XDECREF(dict);
    return result;
}

/* ----------------------------------------------------------------- finalizers */

/* Calls __del__(). */
static void
call_del(cl_state *st, PyObject *self)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *method =
        cl_type_lookup(Py_TYPE(self), cl_streams_of(st)->str___del__);
    PyObject *result =
        method == NULL ? NULL : PyObject_CallOneArg(method, self);
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(method);
    Py_XDECREF(method);
    Py_XDECREF(result);
    (void)cl_raise_first(error);
}

/* Returns the value in the object's __dict__, borrowed. */
static PyObject *
attribute(PyObject *self, PyObject *name)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *dict = cl_streams_dict(self);
    PyObject *value =
        dict == NULL ? NULL : PyDict_GetItemWithError(dict, name);
    PyErr_Clear();
    (void)cl_raise_first(error);
    return value;
}

void
cl_served_finalize_protocol(PyObject *self)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL) {
        PyErr_Clear();
        return;
    }
    PyObject *closed = attribute(self, cl_streams_of(st)->str__closed);
    if (closed != NULL && cl_future_is_plain(st, closed) &&
        ((FutureObject *)closed)->f_exception == NULL)
        return; /* nothing that would be reported */
    call_del(st, self);
}

void
cl_served_finalize_writer(PyObject *self)
{
    cl_state *st = cl_streams_state(self);
    if (st == NULL) {
        PyErr_Clear();
        return;
    }
    PyObject *transport = attribute(self, cl_streams_of(st)->str__transport);
    bool closing = false;
    if (transport != NULL) {
        PyObject *error = PyErr_GetRaisedException();
        Py_INCREF(transport);
        PyObject *answer = PyObject_CallMethodNoArgs(
            transport, cl_streams_of(st)->str_is_closing);
        closing = answer == Py_True;
        Py_DECREF(transport);
        Py_XDECREF(answer);
        PyErr_Clear();
        (void)cl_raise_first(error);
    }
    if (!closing)
        call_del(st, self);
}
