/* errors.h - turns -errno of the lower layers into Python exceptions. */
#ifndef CL_CORE_ERRORS_H
#define CL_CORE_ERRORS_H

#include "base/compat.h"

/* Sets the OSError subclass that `err` (-errno) stands for, MemoryError for
 * -ENOMEM; returns -1. */
int cl_raise_errno(int err);

typedef struct LoopObject LoopObject;

/* loop.call_exception_handler(details) as from an except clause for `exception`,
 * so that sys.exc_info() and logging.exception() know it. 0 or -1. Runs Python. */
int cl_report(LoopObject *loop, PyObject *details, PyObject *exception);

/* Whether the exception set must leave the loop at once: KeyboardInterrupt or
 * SystemExit. Anything else that a callback raises goes to the loop's
 * exception handler. */
bool cl_error_is_exit(void);

/* Sets the exception that the arguments of a coroutine's throw(type, value=None,
 * traceback=None) name; `value` and `traceback` may be NULL. */
void cl_raise_thrown(PyObject *type, PyObject *value, PyObject *traceback);

#endif
