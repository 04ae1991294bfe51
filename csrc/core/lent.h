/* lent.h - add_reader and add_writer: descriptors that are lent to the loop.
 *
 * A lent descriptor stays its owner's: we never close it or touch its blocking
 * mode. It carries at most one reader and one writer handle; the record goes
 * when both are gone. */
#ifndef CL_CORE_LENT_H
#define CL_CORE_LENT_H

#include "core/handle.h"
#include "core/watch.h"

/* Watch fd for CL_READ or CL_WRITE; takes over the reference to `handle`, also
 * on failure. A handle that was there is cancelled. `file` is what the caller
 * named the descriptor by. 0 or -1. */
int cl_lent_add(LoopObject *loop, int fd, PyObject *file, unsigned direction,
                HandleObject *handle);

/* Stop watching one direction: 1 if it was watched, 0 if not, -1 on error. */
int cl_lent_remove(LoopObject *loop, int fd, unsigned direction);

/* The descriptor under which `file` is watched, though it is closed by now; -1
 * if it is not. */
int cl_lent_find_file(LoopObject *loop, PyObject *file);

/* What add_reader and add_writer were given: 1 with borrowed handles (NULL where
 * there is none), 0 if the descriptor is not lent to us. */
int cl_lent_handles(LoopObject *loop, int fd, HandleObject **reader,
                    HandleObject **writer);

int cl_lent_traverse(LoopObject *loop, visitproc visit, void *arg);

#endif
