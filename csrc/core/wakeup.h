/* wakeup.h - the process's signal wakeup descriptor, read without touching it.
 *
 * CPython tells the descriptor only to who sets another. Setting it back would lose its
 * warn_on_full_buffer, and a signal in between would go to the wrong place. So it is read
 * where CPython keeps it: a pair of ints among the variables of the interpreter's own
 * object, {descriptor, warn_on_full_buffer}, from 3.8 on. The pair is found once, by
 * setting descriptors of our own and looking where they turn up; it must be the only one
 * that follows. What was set before is set again, with the flag that it had, and gets
 * the signals that came meanwhile. Where that fails (another object format, a Python that
 * keeps it elsewhere) nothing is known. */
#ifndef CL_CORE_WAKEUP_H
#define CL_CORE_WAKEUP_H

#include "base/compat.h"

typedef struct {
    const volatile int *u_pair; /* NULL if not found */
    bool u_sought;
} cl_wakeup;

/* The descriptor, -1 if there is none, and whether it warns when its buffer is full. 1, or
 * 0 if that cannot be known. The first call looks for the pair. Only in the thread that
 * may set it. `set_wakeup_fd` is signal.set_wakeup_fd. Leaves no exception. */
int cl_wakeup_read(cl_wakeup *wakeup, PyObject *set_wakeup_fd, int *fd,
                   bool *warns);

#endif
