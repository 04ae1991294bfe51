/* wakeup.h - reads the process's signal wakeup descriptor without changing it.
 *
 * CPython returns the descriptor only to code that sets another. Setting it
 * back would lose its warn_on_full_buffer, and a signal in between would go to
 * the wrong place. So it is read where CPython stores it: since 3.8, in a pair
 * of ints among the interpreter's own variables, {descriptor,
 * warn_on_full_buffer}. The pair is found once, by setting descriptors of our
 * own and searching for them; exactly one pair must follow. The previous
 * descriptor is then set again, with its flag, and gets the signals that came
 * meanwhile. If that fails (another object format, a Python that stores it
 * elsewhere), the descriptor is unknown. */
#ifndef CL_CORE_WAKEUP_H
#define CL_CORE_WAKEUP_H

#include "base/compat.h"

typedef struct {
    const volatile int *u_pair; /* NULL if not found */
    bool u_sought;
} cl_wakeup;

/* Gets the descriptor, -1 if there is none, and whether it warns when its
 * buffer is full. Returns 1, or 0 if unknown. The first call searches for the
 * pair. Only in the thread that may set it. `set_wakeup_fd` is
 * signal.set_wakeup_fd. Leaves no exception. */
int cl_wakeup_read(cl_wakeup *wakeup, PyObject *set_wakeup_fd, int *fd,
                   bool *warns);

#endif
