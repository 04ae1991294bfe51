/* streams.c - see streams.h. */
#include "streams/streams.h"

#include <stdlib.h>
#include <string.h>

#include "core/abi.h"
#include "core/args.h"
#include "core/errors.h"
#include "core/loop.h"
#include "core/method.h"
#include "streams/op.h"
#include "streams/reader.h"
#include "streams/served.h"

/* -------------------------------------------------------------------- guards */

/* For each class: the methods that cloop replaces or relies on, and the
 * attributes of objects, which the class must not have. */
static const char *const reader_names[] = {
    "read",        "readline",         "readexactly",
    "readuntil",   "__anext__",        "feed_data",
    "exception",   "_wakeup_waiter",   "_wait_for_data",
    "_buffer",     "_waiter",          "_maybe_resume_transport",
    "__setattr__", "__getattribute__", "__init__",
    "__new__",     "set_transport",    "feed_eof",
    NULL};
static const char *const protocol_names[] = {
    "data_received",    "_stream_reader",   "_drain_helper",
    "_paused",          "_connection_lost", "__setattr__",
    "__getattribute__", "__init__",         "__new__",
    "connection_made",  "connection_lost",  "eof_received",
    "_transport",       "_over_ssl",        NULL};
static const char *const writer_names[] = {"write",
                                           "drain",
                                           "_transport",
                                           "_reader",
                                           "_protocol",
                                           "__setattr__",
                                           "__getattribute__",
                                           "__init__",
                                           "__new__",
                                           "close",
                                           NULL};
/* The class behind the protocol's. */
static const char *const mixin_names[] = {"__init__", "connection_lost", NULL};

/* What asyncio's classes have besides functions: methods of `object`, and
 * properties. */
static bool
is_no_function(PyObject *value)
{
    return Py_TYPE(value) == &PyWrapperDescr_Type ||
           Py_TYPE(value) == &PyMethodDescr_Type ||
           Py_TYPE(value) == &PyProperty_Type || PyCFunction_Check(value);
}

/* Whether all methods come from asyncio.streams. A program may have replaced
 * some before the import, by functions or other objects. */
static bool
is_asyncios(const cl_guard *guard, PyObject *globals)
{
    for (int i = 0; i < guard->g_count; i++) {
        PyObject *value = guard->g_known[i];
        if (value != NULL &&
            (PyFunction_Check(value) ? PyFunction_GET_GLOBALS(value) != globals
                                     : !is_no_function(value)))
            return false;
    }
    return PyType_HasFeature(guard->g_type, Py_TPFLAGS_HEAPTYPE);
}

/* --------------------------------------------------------------------- setup */

static int
derive(PyObject *module, cl_state *st, const cl_guard *stock, cl_guard *own,
       PyMethodDef *methods, PyGetSetDef *getset)
{
    PyTypeObject *type = cl_type_derive(module, st, stock->g_type);
    int status = type == NULL ? -1 : cl_type_add_methods(type, methods);
    if (status == 0)
        status = cl_methods_look_like(st, type, methods, stock->g_type);
    if (status == 0 && getset != NULL)
        status = cl_type_add_getset(type, getset);
    if (status == 0)
        status = cl_guard_init(own, type, stock->g_names, NULL);
    Py_XDECREF(type);
    return status;
}

/* Puts a function in the place of the one that looks __del__() up. If a program
 * gives the class another __del__(), Python puts that one back. */
static void
take_finalizer(PyTypeObject *type, destructor finalize)
{
    if (type->tp_finalize != NULL)
        type->tp_finalize = finalize;
}

/* 0/-1 */
static int
set_up(PyObject *module, cl_state *st)
{
    const char *choice = getenv("CLOOP_STREAMS");
    cl_streams *streams = cl_streams_of(st);
    int known = cl_abi_has("streams");
    if (known <= 0)
        return known;
    if (CL_FREE_THREADED) /* other threads may change what is relied on */
        return 0;
    if (!PyType_Check(cl_streams_of(st)->StreamReader) ||
        !PyType_Check(cl_streams_of(st)->StreamReaderProtocol) ||
        !PyType_Check(cl_streams_of(st)->StreamWriter))
        return 0; /* replaced by something else: leave the streams alone */
    if (cl_guard_init(&streams->ss_reader,
                      (PyTypeObject *)cl_streams_of(st)->StreamReader,
                      reader_names, NULL) < 0 ||
        cl_guard_init(&streams->ss_protocol,
                      (PyTypeObject *)cl_streams_of(st)->StreamReaderProtocol,
                      protocol_names, NULL) < 0 ||
        cl_guard_init(&streams->ss_writer,
                      (PyTypeObject *)cl_streams_of(st)->StreamWriter,
                      writer_names, NULL) < 0 ||
        cl_guard_init(&streams->ss_mixin, streams->ss_protocol.g_type->tp_base,
                      mixin_names, NULL) < 0)
        return -1;
    PyObject *asyncio_streams = PyImport_ImportModule("asyncio.streams");
    if (asyncio_streams == NULL)
        return -1;
    PyObject *globals = PyModule_GetDict(asyncio_streams);
    bool stock = is_asyncios(&streams->ss_reader, globals) &&
                 is_asyncios(&streams->ss_protocol, globals) &&
                 is_asyncios(&streams->ss_writer, globals) &&
                 is_asyncios(&streams->ss_mixin, globals);
    bool off = choice != NULL && strcmp(choice, "stock") == 0;
    int status = stock && !off ? cl_served_setup(st, asyncio_streams) : 0;
    Py_DECREF(asyncio_streams);
    if (!stock || off || status < 0)
        return status;
    if (derive(module, st, &streams->ss_reader, &streams->ss_own_reader,
               cl_reader_methods, cl_reader_getset) < 0 ||
        derive(module, st, &streams->ss_protocol, &streams->ss_own_protocol,
               cl_protocol_methods, cl_served_protocol_getset) < 0 ||
        derive(module, st, &streams->ss_writer, &streams->ss_own_writer,
               cl_writer_methods, cl_served_writer_getset) < 0)
        return -1;
    take_finalizer(streams->ss_own_protocol.g_type,
                   cl_served_finalize_protocol);
    take_finalizer(streams->ss_own_writer.g_type, cl_served_finalize_writer);
    streams->ss_on = true;
    return 0;
}

int
cl_streams_setup(PyObject *module, cl_state *st)
{
    return set_up(module, st) < 0 ? cl_abi_lacks("streams") : 0;
}

int
cl_streams_traverse(cl_state *st, visitproc visit, void *arg)
{
    int status = 0;
#define VISIT(name) \
    if (status == 0) \
        status = cl_guard_traverse(&cl_streams_of(st)->ss_##name, visit, arg);
    CL_STREAMS_GUARDS(VISIT)
#undef VISIT
    if (status == 0)
        Py_VISIT(cl_streams_of(st)->ss_globals);
    return status;
}

void
cl_streams_clear(cl_state *st)
{
    cl_streams_of(st)->ss_on = false;
    cl_served_clear(st);
#define CLEAR(name) cl_guard_clear(&cl_streams_of(st)->ss_##name);
    CL_STREAMS_GUARDS(CLEAR)
#undef CLEAR
}

/* ------------------------------------------------------------------ adoption */

PyObject *
cl_streams_reader_of(cl_state *st, PyObject *protocol, bool *known)
{
    PyObject *reference =
        PyObject_GetAttr(protocol, cl_streams_of(st)->str__stream_reader_wr);
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

/* In debug mode asyncio's own methods run, for Python's tracebacks and
 * warnings. */
static bool
is_loops(cl_state *st, PyObject *object)
{
    PyObject *loop = PyObject_GetAttr(object, cl_streams_of(st)->str__loop);
    LoopObject *ours = loop == NULL ? NULL : cl_loop_cast(loop);
    bool plain = ours != NULL && !ours->l_debug;
    Py_XDECREF(loop);
    PyErr_Clear();
    return plain;
}

int
cl_streams_become(cl_state *st, PyObject *object, const cl_guard *own)
{
    int status = PyObject_SetAttr(object, cl_streams_of(st)->str___class__,
                                  (PyObject *)own->g_type);
    if (status < 0 && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        cl_streams_of(st)->ss_on = false;
        return 0;
    }
    return status;
}

int
cl_streams_adopt_reader(cl_state *st, PyObject *reader)
{
    cl_streams *streams = cl_streams_of(st);
    if (!streams->ss_on || Py_TYPE(reader) != streams->ss_reader.g_type ||
        !cl_guard_holds(&streams->ss_reader) || !is_loops(st, reader))
        return 0;
    if (cl_streams_become(st, reader, &streams->ss_own_reader) < 0)
        return -1;
    if (Py_TYPE(reader) != streams->ss_own_reader.g_type)
        return 0;
    PyObject *dict = Py_XNewRef(cl_streams_dict(reader));
    int status = dict == NULL ? -1 : cl_reader_take_over(st, dict);
    Py_XDECREF(dict);
    if (status <= 0) { /* it stays asyncio's */
        PyObject *error = PyErr_GetRaisedException();
        if (cl_streams_become(st, reader, &streams->ss_reader) < 0)
            PyErr_Clear();
        (void)cl_raise_first(error);
    }
    return status < 0 ? -1 : 0;
}

/* client_connected_cb(reader, writer), called by connection_made(). `self` is
 * (module, protocol, client_connected_cb). */
static PyObject *
connected(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    cl_state *st = PyModule_GetState(PyTuple_GET_ITEM(self, 0));
    PyObject *protocol = PyTuple_GET_ITEM(self, 1);
    PyObject *callback = PyTuple_GET_ITEM(self, 2);
    cl_streams *streams = cl_streams_of(st);
    if (PyObject_SetAttr(protocol, cl_streams_of(st)->str__client_connected_cb,
                         callback) < 0)
        return NULL;
    if (nargs == 2 && Py_TYPE(args[1]) == streams->ss_writer.g_type &&
        cl_guard_holds(&streams->ss_writer) &&
        cl_streams_become(st, args[1], &streams->ss_own_writer) < 0)
        return NULL;
    return PyObject_Vectorcall(callback, args, (size_t)nargs, NULL);
}

static PyMethodDef connected_def = {"client_connected_cb", CL_FAST(connected),
                                    METH_FASTCALL, NULL};

int
cl_streams_adopt(cl_state *st, PyObject *protocol)
{
    cl_streams *streams = cl_streams_of(st);
    bool known;
    if (!streams->ss_on || Py_TYPE(protocol) != streams->ss_protocol.g_type ||
        !cl_guard_holds(&streams->ss_protocol) || !is_loops(st, protocol))
        return 0;
    PyObject *reader = cl_streams_reader_of(st, protocol, &known);
    int status = reader == NULL ? 0 : cl_streams_adopt_reader(st, reader);
    Py_XDECREF(reader);
    return status < 0
               ? -1
               : cl_streams_become(st, protocol, &streams->ss_own_protocol);
}

int
cl_streams_adopt_writer(cl_state *st, PyObject *writer)
{
    cl_streams *streams = cl_streams_of(st);
    if (!streams->ss_on || Py_TYPE(writer) != streams->ss_writer.g_type ||
        !cl_guard_holds(&streams->ss_writer) || !is_loops(st, writer))
        return 0;
    PyObject *protocol = PyObject_GetAttr(writer, streams->str__protocol);
    int status = protocol == NULL ? -1
                 : cl_streams_owns(st, protocol)
                     ? cl_streams_become(st, writer, &streams->ss_own_writer)
                     : 0;
    Py_XDECREF(protocol);
    return status;
}

int
cl_streams_expect_writer(cl_state *st, PyObject *protocol)
{
    return cl_streams_owns(st, protocol) &&
                   !cl_served_makes_writers(st, protocol)
               ? cl_streams_hook_writer(st, protocol)
               : 0;
}

int
cl_streams_hook_writer(cl_state *st, PyObject *protocol)
{
    PyObject *callback = PyObject_GetAttr(
        protocol, cl_streams_of(st)->str__client_connected_cb);
    if (callback == NULL || callback == Py_None ||
        (PyCFunction_CheckExact(callback) &&
         ((PyCFunctionObject *)callback)->m_ml == &connected_def)) {
        Py_XDECREF(callback);
        return callback == NULL ? -1 : 0;
    }
    PyObject *self = PyTuple_Pack(3, st->module, protocol, callback);
    PyObject *between =
        self == NULL ? NULL : PyCFunction_New(&connected_def, self);
    int status =
        between == NULL
            ? -1
            : PyObject_SetAttr(protocol,
                               cl_streams_of(st)->str__client_connected_cb,
                               between);
    Py_XDECREF(between);
    Py_XDECREF(self);
    Py_DECREF(callback);
    return status;
}
