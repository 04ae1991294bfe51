/* errors.h - raises and reports exceptions. */
#ifndef CL_CORE_ERRORS_H
#define CL_CORE_ERRORS_H

#include "base/compat.h"

/* Raises the OSError for `err` (-errno), or MemoryError for -ENOMEM. Returns
 * -1. */
int cl_raise_errno(int err);

/* The same, but raises OSError for -ENOMEM too, like Python's own modules for
 * a failed system call. */
int cl_raise_os_error(int err);

typedef struct LoopObject LoopObject;

/* Calls loop.call_exception_handler(details) as in an except clause for
 * `exception`, so that sys.exc_info() and logging.exception() see it. 0/-1
 * Runs Python. */
int cl_report(LoopObject *loop, PyObject *details, PyObject *exception);

/* The same with the details that asyncio's transports report. 0/-1 Runs
 * Python. */
int cl_report_transport(LoopObject *loop, const char *text,
                        PyObject *exception, PyObject *transport,
                        PyObject *protocol);

/* Calls asyncio's logger: logger.LEVEL(format, first, second), with
 * exc_info=exception unless that is NULL. `level` is the method's name;
 * `first` and `second` may be NULL. 0/-1 Runs Python. */
int cl_log(LoopObject *loop, PyObject *level, const char *format,
           PyObject *first, PyObject *second, PyObject *exception);

/* In debug mode, logs that a transport failed with an OSError. 0/-1 Runs
 * Python. */
int cl_log_os_error(LoopObject *loop, PyObject *transport, const char *message,
                    PyObject *exception);

/* For several steps that must all run: if `status` is negative, moves the
 * exception to *first, or drops it if there is one already. */
static inline void
cl_first_error(PyObject **first, int status)
{
    if (status >= 0)
        return;
    if (*first == NULL)
        *first = PyErr_GetRaisedException();
    else
        PyErr_Clear();
}

/* Raises the exception noted in `first`, and steals it. Returns 0 if it is
 * NULL, else -1. */
static inline int
cl_raise_first(PyObject *first)
{
    if (first == NULL)
        return 0;
    PyErr_SetRaisedException(first);
    return -1;
}

/* Whether the exception that is set is KeyboardInterrupt or SystemExit, which
 * leave the loop at once. All others go to the loop's exception handler. */
bool cl_error_is_exit(void);

/* Checks the arguments of a coroutine's throw(type, value=None,
 * traceback=None); `value` and `traceback` may be NULL. Returns 0/-1. */
int cl_check_thrown(PyObject *type, PyObject *value, PyObject *traceback);

/* Raises the exception that they give, or what is wrong with them. */
void cl_raise_thrown(PyObject *type, PyObject *value, PyObject *traceback);

#endif
