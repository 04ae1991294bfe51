/* abi.h - checks whether asyncio has the names that cloop uses.
 *
 * cloop/_abi.py lists the parts of cloop that depend on them, has replacements
 * for missing names, and warns. */
#ifndef CL_CORE_ABI_H
#define CL_CORE_ABI_H

#include "base/compat.h"

/* Returns cloop._abi.stand_in() for an attribute that is missing from a
 * module. The exception of the failed look-up must be set. A new reference, or
 * NULL with an exception. Runs Python. */
PyObject *cl_abi_stand_in(const char *module, const char *attribute);

/* Notes that a part of cloop cannot be used. The exception that is set is the
 * reason, and is cleared. 0/-1; any exception but AttributeError, TypeError
 * and ImportError stays set. Runs Python. */
int cl_abi_lacks(const char *part);

/* Whether nothing that the part needs is known to be missing: 1, 0, or -1 with
 * an exception. Runs Python. */
int cl_abi_has(const char *part);

#endif
