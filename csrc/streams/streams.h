/* streams.h - asyncio's streams with their hot methods in C (docs/decisions/0011).
 *
 * asyncio makes the objects: StreamReader, StreamWriter, StreamReaderProtocol. When a
 * transport of ours begins, those of exactly these classes become objects of classes
 * of ours that derive from them, have the same name and the same attributes, and
 * differ in a few methods alone. Everything a stream knows stays in its __dict__.
 *
 * A guard says of a class that what is done here in place of its methods is what they
 * would do. Whatever a program replaces, in the classes or in an object, runs instead.
 * CLOOP_STREAMS=stock turns all of it off. */
#ifndef CL_STREAMS_STREAMS_H
#define CL_STREAMS_STREAMS_H

#include "base/compat.h"
#include "core/guard.h"
#include "core/layer.h"
#include "streams/state.h"

/* Whether the object is exactly of our class, and asyncio's methods are what is done here
 * in their place. */
static inline bool
cl_guards_hold(PyObject *object, cl_guard *own, cl_guard *stock)
{
    return Py_TYPE(object) == own->g_type && cl_guard_holds(own) &&
           cl_guard_holds(stock);
}

/* Finds asyncio's classes and makes ours. 0/-1 */
int cl_streams_setup(PyObject *module, cl_state *st);
int cl_streams_traverse(cl_state *st, visitproc visit, void *arg);
void cl_streams_clear(cl_state *st);

/* The state of the module, from an object of one of our three classes or of a
 * subclass; NULL with SystemError. */
static inline cl_state *
cl_streams_state(PyObject *self)
{
    return cl_type_derived_state(Py_TYPE(self), cl_layers_traverse);
}

/* What an object keeps; borrowed, and there as long as no Python runs. NULL with an
 * exception. */
static inline PyObject *
cl_streams_dict(PyObject *self)
{
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    Py_XDECREF(dict); /* `self` holds it */
    return dict;
}

/* The protocol's reader: new reference, or NULL if it is gone; *known is false if that
 * can't be told. */
PyObject *cl_streams_reader_of(cl_state *st, PyObject *protocol, bool *known);

/* Makes the protocol of a transport and its reader ours, if they are asyncio's. 0/-1 */
int cl_streams_adopt(cl_state *st, PyObject *protocol);

/* The same for a reader that no such protocol has. 0/-1 */
int cl_streams_adopt_reader(cl_state *st, PyObject *reader);

static inline bool
cl_streams_owns(const cl_state *st, PyObject *protocol)
{
    return Py_TYPE(protocol) == cl_streams_of(st)->s_own_protocol.g_type;
}

/* connection_made() is about to be called: lets the writer that a protocol of ours makes
 * there, for its client_connected_cb, become ours. 0/-1 */
int cl_streams_expect_writer(cl_state *st, PyObject *protocol);

#endif
