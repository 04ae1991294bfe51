/* served.h - the streams of a server's connection, without asyncio's Python
 * code for each.
 *
 * asyncio.start_server() gives the server a protocol factory of its own, which
 * makes a reader and a protocol; connection_made() makes the writer and the
 * handler's task. Here these objects are made of our classes at once, with the
 * attributes that asyncio's __init__() gave the first ones of their kind in
 * this interpreter: an attribute whose value is not understood turns this off.
 * connection_made() and connection_lost() are done here if their text is one
 * of those known (by the names that it uses).
 *
 * The guards of the classes hold for __init__() and these methods, too. */
#ifndef CL_STREAMS_SERVED_H
#define CL_STREAMS_SERVED_H

#include "base/compat.h"

#include "streams/state.h"

/* Calls a server's protocol factory. If it is asyncio's for streams, makes the
 * protocol and its reader itself. Returns a new reference. Runs Python. */
PyObject *cl_served_protocol(LoopObject *loop, PyObject *factory);

/* Whether connection_made() of the protocol, of our class, converts the writer. */
bool cl_served_makes_writers(cl_state *st, PyObject *protocol);

/* Methods of our classes. */
PyObject *cl_served_connection_made(PyObject *self, PyObject *const *args,
                                    Py_ssize_t nargs, PyObject *kwnames);
PyObject *cl_served_connection_lost(PyObject *self, PyObject *const *args,
                                    Py_ssize_t nargs, PyObject *kwnames);
PyObject *cl_served_eof_received(PyObject *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);
PyObject *cl_served_feed_eof(PyObject *self, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames);
PyObject *cl_served_close(PyObject *self, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames);

/* Attributes of our classes that are made when somebody looks for them, or at
 * the object's __dict__. */
extern PyGetSetDef cl_served_protocol_getset[];
extern PyGetSetDef cl_served_writer_getset[];

/* tp_finalize of our protocol and writer: their __del__() if it has something
 * to do. */
void cl_served_finalize_protocol(PyObject *self);
void cl_served_finalize_writer(PyObject *self);

/* Finds out what asyncio's code is. 0/-1 */
int cl_served_setup(cl_state *st, PyObject *asyncio_streams);
void cl_served_clear(cl_state *st);

#endif
