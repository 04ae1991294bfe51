/* debug.h - functions that the module has in debug, asan and stress builds
 * only, for tests. */
#ifndef CL_DEBUG_H
#define CL_DEBUG_H

#include "base/compat.h"

#ifdef CL_DEBUG
extern PyMethodDef cl_debug_methods[];
#endif

#endif
