/* guard.h - whether a class still has the methods that C code replaces.
 *
 * A guard stores the values of some attributes of a class, and holds while
 * they are unchanged. They are looked up again only if the class or a base of
 * it was modified, which cl_type_version() tells. A class that gets no more
 * versions (from CPython 3.13 on, after a thousand modifications) is looked up
 * each time.
 *
 * Values are compared as the class has them, without calling descriptors. A
 * guard without a class never holds. */
#ifndef CL_CORE_GUARD_H
#define CL_CORE_GUARD_H

#include "base/compat.h"

#include <limits.h>

#define CL_GUARD_MAX 24

/* No version of a class. */
#define CL_GUARD_UNKNOWN UINT_MAX

typedef struct {
    PyTypeObject *g_type;            /* owned */
    const char *const *g_names;      /* ends with NULL */
    PyObject *g_keys[CL_GUARD_MAX];  /* owned; the names, interned */
    PyObject *g_known[CL_GUARD_MAX]; /* owned; NULL: no such attribute */
    int g_count;
    /* The versions of the class for which it is known to hold, and not to. */
    CL_SHARED(unsigned) g_version;
    unsigned g_failed;
    uint64_t g_looks; /* look-ups so far */
} cl_guard;

/* Stores the values of `source`, or of the class itself if `source` is NULL or
 * lacks them. Keeps `names`. 0/-1 */
int cl_guard_init(cl_guard *guard, PyTypeObject *type,
                  const char *const *names, PyTypeObject *source);
int cl_guard_traverse(const cl_guard *guard, visitproc visit, void *arg);

/* After this, it never holds. */
void cl_guard_clear(cl_guard *guard);

/* Returns the stored value of a name, which must be interned: borrowed, or NULL
 * if there is no such attribute. */
static inline PyObject *
cl_guard_known(const cl_guard *guard, PyObject *name)
{
    int i = 0;
    while (i < guard->g_count && guard->g_keys[i] != name)
        i++;
    return i < guard->g_count ? guard->g_known[i] : NULL;
}

/* Looks the attributes up. */
bool cl_guard_look(cl_guard *guard);

/* The same, if the guard has a class. */
static inline bool
cl_guard_of_class_holds(cl_guard *guard)
{
    return cl_type_version(guard->g_type) == guard->g_version ||
           cl_guard_look(guard);
}

static inline bool
cl_guard_holds(cl_guard *guard)
{
    return guard->g_type != NULL && cl_guard_of_class_holds(guard);
}

/* A method of an asyncio class that C code does without, until a program
 * replaces it: in the class, a base of it, or by other code in the same
 * function, as tracers do. If it was replaced before the import, it remains so. */
typedef struct {
    cl_guard or_guard; /* of one name; without a class it is never replaced */
    PyObject *or_code; /* owned; NULL if it is no Python function */
} cl_original;

/* Does nothing if `type` is no class. `names` is the name, and NULL. 0/-1 */
int cl_original_init(cl_original *original, PyObject *type,
                     const char *const *names);
int cl_original_traverse(const cl_original *original, visitproc visit,
                         void *arg);
void cl_original_clear(cl_original *original);

/* Whether the function has other code now. */
static inline bool
cl_original_has_other_code(const cl_original *original)
{
    return original->or_code != NULL &&
           PyFunction_GET_CODE(original->or_guard.g_known[0]) !=
               original->or_code;
}

static inline bool
cl_original_is_replaced(cl_original *original)
{
    cl_guard *guard = &original->or_guard;
    return guard->g_type != NULL && (!cl_guard_of_class_holds(guard) ||
                                     cl_original_has_other_code(original));
}

#endif
