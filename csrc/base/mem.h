/* mem.h - memory allocation for code that does not use Python's API.
 *
 * The functions of the C library. In stress and coverage builds, the n-th allocation can be
 * made to fail (base/stress.h). */
#ifndef CL_BASE_MEM_H
#define CL_BASE_MEM_H

#include <stdlib.h>

#include "base/stress.h"

#ifdef CL_INJECT
#define cl_malloc(size) cl_stress_realloc(CL_STRESS_HERE, NULL, size)
#define cl_calloc(count, size) cl_stress_calloc(CL_STRESS_HERE, count, size)
#define cl_realloc(memory, size) \
    cl_stress_realloc(CL_STRESS_HERE, memory, size)
#else
#define cl_malloc malloc
#define cl_calloc calloc
#define cl_realloc realloc
#endif
#define cl_free free

#endif
