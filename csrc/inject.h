/* inject.h - functions that the module has in stress and coverage builds only,
 * to make faults, and to keep what was counted. */
#ifndef CL_INJECT_H
#define CL_INJECT_H

#include "base/compat.h"

#ifdef CL_INJECT
/* Adds them to the module. Returns 0/-1. */
int cl_inject_setup(PyObject *module);
#endif

#endif
