/* loop_type.h - LoopCore, the Python type around core/loop.h, whose methods
 * are in loop_schedule.c, loop_watch.c, loop_sock.c, loop_net.c and
 * loop_run.c. */
#ifndef CL_LOOP_TYPE_H
#define CL_LOOP_TYPE_H

#include "core/state.h"

/* The dealloc of LoopCore, by which a subclass finds the module's state. */
void cl_loop_dealloc(PyObject *self);

/* Each adds the methods of its file to the type: 0 or -1. */
int cl_loop_schedule_setup(PyTypeObject *type);
int cl_loop_watch_setup(PyTypeObject *type);
int cl_loop_sock_setup(PyTypeObject *type);
int cl_loop_net_setup(PyTypeObject *type);
int cl_loop_run_setup(PyTypeObject *type);

PyTypeObject *cl_loop_setup(PyObject *module, cl_state *st);

#endif
