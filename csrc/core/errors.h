/* errors.h - turns -errno of the lower layers into Python exceptions. */
#ifndef CL_CORE_ERRORS_H
#define CL_CORE_ERRORS_H

#include "base/compat.h"

/* Sets the OSError subclass that `err` (-errno) stands for, MemoryError for
 * -ENOMEM; returns -1. */
int cl_raise_errno(int err);

/* The same, but OSError for -ENOMEM too: of a system call that Python's own modules
 * raise so. */
int cl_raise_os_error(int err);

typedef struct LoopObject LoopObject;

/* loop.call_exception_handler(details) as from an except clause for `exception`,
 * so that sys.exc_info() and logging.exception() know it. 0 or -1. Runs Python. */
int cl_report(LoopObject *loop, PyObject *details, PyObject *exception);

/* The same with what asyncio's transports tell: the text, and who they are. */
int cl_report_transport(LoopObject *loop, const char *text,
                        PyObject *exception, PyObject *transport,
                        PyObject *protocol);

/* logger.LEVEL(format, *args) of asyncio's logger, where `level` is a method's name,
 * `first` and `second` may be NULL; with exc_info=exception unless that is NULL.
 * 0/-1. Runs Python. */
int cl_log(LoopObject *loop, PyObject *level, const char *format,
           PyObject *first, PyObject *second, PyObject *exception);

/* The debug message, in debug mode alone, of a transport that failed with an
 * OSError. 0/-1 */
int cl_log_os_error(LoopObject *loop, PyObject *transport, const char *message,
                    PyObject *exception);

/* For steps that are all taken, whatever fails: the exception of one whose status is
 * negative is noted in *first, or dropped if an earlier one is there. */
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

/* Sets the noted exception again, and takes the reference: 0 if there is none, or
 * -1. */
static inline int
cl_raise_first(PyObject *first)
{
    if (first == NULL)
        return 0;
    PyErr_SetRaisedException(first);
    return -1;
}

/* Whether the exception set must leave the loop at once: KeyboardInterrupt or
 * SystemExit. Anything else that a callback raises goes to the loop's
 * exception handler. */
bool cl_error_is_exit(void);

/* Sets the exception that the arguments of a coroutine's throw(type, value=None,
 * traceback=None) name; `value` and `traceback` may be NULL. */
void cl_raise_thrown(PyObject *type, PyObject *value, PyObject *traceback);

#endif
