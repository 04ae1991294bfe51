/* errors.c - see errors.h. */
#include "core/errors.h"

#include <errno.h>

int
cl_raise_errno(int err)
{
    if (err == -ENOMEM) {
        PyErr_NoMemory();
    }
    else {
        errno = -err;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return -1;
}

bool
cl_error_is_exit(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
           PyErr_ExceptionMatches(PyExc_SystemExit);
}
