/* entry.h - how a call of asyncio's function comes to a body.
 *
 * Where functions honour it (CL_FUNCTIONS_TAKE_VECTORCALL), the function gets another
 * vectorcall and stays what it is; a weak reference to it, of a type of ours, leads
 * from it to the module's state. Elsewhere an object that looks like the function, in
 * every attribute, has to be put in its place. */
#ifndef CL_SYNC_ENTRY_H
#define CL_SYNC_ENTRY_H

#include "base/compat.h"
#include "core/state.h"

/* Makes the entry of a body for asyncio's function, which must be one of Python: a
 * weak reference, or the object to be put in its place. NULL with an exception. */
PyObject *cl_entry_new(cl_state *st, int body, PyObject *function);

/* Lets the function of the entry call the body, or not any more; does nothing where
 * the entry stands in for it. */
void cl_entry_switch(cl_state *st, int body, bool on);

PyTypeObject *cl_entry_setup(PyObject *module, cl_state *st);

#endif
