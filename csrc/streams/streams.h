/* streams.h - asyncio's streams, with their hot methods in C
 * (docs/decisions/0011).
 *
 * asyncio creates StreamReader, StreamWriter and StreamReaderProtocol. When
 * one of our transports starts, objects of exactly these classes change to
 * classes of ours. Those derive from asyncio's and have the same name and
 * attributes; only a few methods differ. A reader's fields move into a struct
 * (reader.h). The other objects keep theirs in the __dict__.
 *
 * A guard for each class says whether its methods are still asyncio's. If a
 * program replaces one, in a class or on an object, that one runs.
 * CLOOP_STREAMS=stock turns all of this off. */
#ifndef CL_STREAMS_STREAMS_H
#define CL_STREAMS_STREAMS_H

#include "base/compat.h"
#include "core/guard.h"
#include "core/layer.h"
#include "streams/state.h"

/* Whether the object is exactly of our class, and asyncio's methods are
 * unchanged. */
static inline bool
cl_guards_hold(PyObject *object, cl_guard *own, cl_guard *stock)
{
    return Py_TYPE(object) == own->g_type && cl_guard_holds(own) &&
           cl_guard_holds(stock);
}

/* Finds asyncio's classes and creates ours. 0/-1 */
int cl_streams_setup(PyObject *module, cl_state *st);
int cl_streams_traverse(cl_state *st, visitproc visit, void *arg);
void cl_streams_clear(cl_state *st);

/* Returns the module state, for an object of one of our three classes or a
 * subclass; NULL with SystemError. */
static inline cl_state *
cl_streams_state(PyObject *self)
{
    return cl_type_derived_state(Py_TYPE(self), cl_layers_traverse);
}

/* Returns the object's __dict__, borrowed, valid until Python code runs; NULL
 * with an exception. */
static inline PyObject *
cl_streams_dict(PyObject *self)
{
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    Py_XDECREF(dict); /* `self` holds it */
    return dict;
}

/* Returns a new reference to the protocol's reader, or NULL if it is gone.
 * *known is false if that can't be told. */
PyObject *cl_streams_reader_of(cl_state *st, PyObject *protocol, bool *known);

/* Converts a transport's protocol and its reader to our classes, if they are
 * exactly asyncio's. 0/-1 */
int cl_streams_adopt(cl_state *st, PyObject *protocol);

/* The same for a reader without such a protocol. 0/-1 */
int cl_streams_adopt_reader(cl_state *st, PyObject *reader);

static inline bool
cl_streams_owns(const cl_state *st, PyObject *protocol)
{
    return Py_TYPE(protocol) == cl_streams_of(st)->ss_own_protocol.g_type;
}

/* Converts a writer whose protocol is of our class. 0/-1 */
int cl_streams_adopt_writer(cl_state *st, PyObject *writer);

/* To be called before connection_made(): makes sure that the writer that the
 * protocol then makes for its client_connected_cb becomes ours. 0/-1 */
int cl_streams_expect_writer(cl_state *st, PyObject *protocol);

/* The same if asyncio's connection_made() will be called. 0/-1 */
int cl_streams_hook_writer(cl_state *st, PyObject *protocol);

/* Changes the class of an object to that of the guard. If one object's layout
 * does not fit, no object is converted from then on. 0/-1 */
int cl_streams_become(cl_state *st, PyObject *object, const cl_guard *own);

#endif
