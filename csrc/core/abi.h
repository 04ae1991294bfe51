/* abi.h - what cloop takes from asyncio, and whether it is there. cloop/_abi.py keeps
 * the list of parts, decides what stands in for a missing name, and warns. */
#ifndef CL_CORE_ABI_H
#define CL_CORE_ABI_H

#include "base/compat.h"

/* Returns what cloop._abi.stand_in() has for an attribute that a module lacks, as the
 * exception says that is set: a new reference, or NULL with an exception. Runs Python. */
PyObject *cl_abi_stand_in(const char *module, const char *attribute);

/* Notes that a part of cloop cannot be used; the exception that is set says why, and is
 * cleared. Returns 0; -1 with an exception if that one is no AttributeError, TypeError
 * or ImportError. Runs Python. */
int cl_abi_lacks(const char *part);

/* Returns 1 if nothing that the part needs was found missing so far, 0 if something was,
 * or -1 with an exception. Runs Python. */
int cl_abi_has(const char *part);

#endif
