/* loop_type.h - LoopCore, the Python type around core/loop.h, whose methods
 * are in loop_schedule.c, loop_watch.c, loop_sock.c, loop_net.c and
 * loop_select.c and loop_run.c. */
#ifndef CL_LOOP_TYPE_H
#define CL_LOOP_TYPE_H

#include "base/compat.h"

#include "base/ring.h"
#include "core/state.h"

typedef struct LoopObject LoopObject;

/* Each adds the methods of its file to the type: 0 or -1. */
int cl_loop_schedule_setup(PyTypeObject *type);
int cl_loop_watch_setup(PyTypeObject *type);
int cl_loop_sock_setup(PyTypeObject *type);
int cl_loop_net_setup(PyTypeObject *type);
int cl_loop_tasks_setup(PyTypeObject *type);
int cl_loop_select_setup(PyTypeObject *type);
int cl_loop_run_setup(PyTypeObject *type);

/* Whether the loop makes tasks of cloop or of asyncio: those of asyncio if cloop's
 * are switched off, or somebody has put other classes into asyncio's modules. */
int cl_loop_choose_tasks(LoopObject *loop);

/* loop.create_task(coro) without looking for an override. */
PyObject *cl_loop_create_task(LoopObject *loop, PyObject *coro);

/* The ready node of a handle that Python code made or has kept; a new reference. */
cl_node cl_loop_node_for(LoopObject *loop, PyObject *handle);

PyTypeObject *cl_loop_setup(PyObject *module, cl_state *st);

#endif
