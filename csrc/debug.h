/* debug.h - functions of the module that builds for finding faults have, for their tests. */
#ifndef CL_DEBUG_H
#define CL_DEBUG_H

#include "base/compat.h"

#ifdef CL_DEBUG
extern PyMethodDef cl_debug_methods[];
#endif

#endif
