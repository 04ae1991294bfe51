/* loop_type.h - LoopCore, the Python type around core/loop.h. */
#ifndef CL_LOOP_TYPE_H
#define CL_LOOP_TYPE_H

#include "core/state.h"

/* The dealloc of LoopCore, by which a subclass finds the module's state. */
void cl_loop_dealloc(PyObject *self);

PyTypeObject *cl_loop_setup(PyObject *module, cl_state *st);

#endif
