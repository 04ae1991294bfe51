/* loop_type.h - LoopCore, the Python type around core/loop.h. Its methods are
 * in the loop_*.c files. */
#ifndef CL_LOOP_TYPE_H
#define CL_LOOP_TYPE_H

#include "base/compat.h"

#include "base/ring.h"
#include "core/state.h"

typedef struct LoopObject LoopObject;

/* Each adds the methods of its file to the type. 0/-1 */
int cl_loop_schedule_setup(PyTypeObject *type);
int cl_loop_watch_setup(PyTypeObject *type);
int cl_loop_sock_setup(PyTypeObject *type);
int cl_loop_net_setup(PyTypeObject *type);
int cl_loop_tasks_setup(PyTypeObject *type);
int cl_loop_select_setup(PyTypeObject *type);
int cl_loop_run_setup(PyTypeObject *type);
int cl_loop_metrics_setup(PyTypeObject *type);

/* loop.create_task(coro), ignoring an override. Runs Python. */
PyObject *cl_loop_create_task(LoopObject *loop, PyObject *coro);

/* Returns the ready node of a handle that Python code made or kept; it owns a
 * new reference. */
cl_node cl_loop_node_for(LoopObject *loop, PyObject *handle);

PyTypeObject *cl_loop_setup(PyObject *module, cl_state *st);

#endif
