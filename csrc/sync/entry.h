/* entry.h - how a call of asyncio's function reaches a body in C.
 *
 * Where functions honour it (CL_FUNCTIONS_TAKE_VECTORCALL), the function gets
 * another vectorcall and is otherwise unchanged; a weak reference to it, of
 * our own type, leads to the module state. Elsewhere the function must be
 * replaced by an object that has all its attributes. */
#ifndef CL_SYNC_ENTRY_H
#define CL_SYNC_ENTRY_H

#include "base/compat.h"
#include "core/state.h"

/* Creates the entry for asyncio's function, which must be a Python function.
 * Returns a weak reference, or the object to replace it with; NULL with an
 * exception. */
PyObject *cl_entry_new(cl_state *st, int body, PyObject *function);

/* Switches the function's calls to the body on or off. Does nothing if the
 * entry replaces the function. */
void cl_entry_switch(cl_state *st, int body, bool on);

PyTypeObject *cl_entry_setup(PyObject *module, cl_state *st);

/* The type of what `async with` binds, where the function is replaced; else
 * there is no such object. */
PyTypeObject *cl_bound_setup(PyObject *module, cl_state *st);

#endif
