/* stress.h - faults that stress and coverage builds inject (CL_INJECT): the n-th allocation fails, every
 * n-th object allocation collects garbage first, and system calls transfer few
 * bytes.
 *
 * Only allocations of cloop's own code count, through base/mem.h or Python's
 * API, whose functions compat_stress.h wraps. Those of asyncio and the
 * interpreter do not. Everything is off unless _cloop._stress() or the
 * environment turns it on:
 *
 *   CLOOP_STRESS_COLLECT=n   every n-th allocation of an object collects first
 *   CLOOP_STRESS_NOMEM=n     the n-th allocation after the import fails, once
 *   CLOOP_STRESS_SEND=n      streams send at most n bytes in a system call
 *   CLOOP_STRESS_RECEIVE=n   streams receive at most n bytes in one
 *   CLOOP_STRESS_PLACES=file where something has failed is kept in this file,
 *                            for all processes that name it
 *
 * Those of SEND and RECEIVE are for stress builds only. */
#ifndef CL_BASE_STRESS_H
#define CL_BASE_STRESS_H

#ifdef CL_INJECT

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define CL_STRESS_PLACES_BITS 18 /* so many places can be told apart */

typedef struct {
    long nomem;   /* the n-th allocation fails; 0: none */
    long lasting; /* and so many in a row, counting that one */
    long then;    /* and this one; 0: no other */
    long collect;
    bool place;  /* the first allocation at a place where none has failed
                  * yet fails, once, or the first `lasting` in a row that
                  * begin at a place where no row has begun */
    bool pairs;  /* of callers make a place, not each for itself */
    bool record; /* places are noted: cl_stress_seen() */
    bool calls;  /* calls of Python count as allocations; with `place`, too */
    long round;  /* the first allocation of an object at a place where that was
                  * not so in this round collects garbage; 0: none */
    size_t send; /* bytes per call; 0: no limit */
    size_t receive; /* the same */
} cl_stress_orders;

/* For the whole process; the environment only once. */
void cl_stress_read_environment(void);
void cl_stress_set(const cl_stress_orders *orders);

/* Returns the number of allocations since the last cl_stress_set(). */
long cl_stress_count(void);

/* Returns the number of places where an allocation has failed by the order
 * `place`, or collected by the order `round`. */
long cl_stress_places(void);

/* Stores the places that were reached since the order `record`, at most so many:
 * of allocations and calls alike, or only those that collect. Returns their
 * number. */
size_t cl_stress_seen(bool objects, uintptr_t *to, size_t most);

/* Whether none has failed at this place yet, or, with `several`, no row has begun
 * there, or, with a round, none has collected in it; in no process, if they
 * share what has failed. Those of pairs of callers count only with `pairs`. */
bool cl_stress_is_left(uintptr_t place, bool pairs, bool several, long round);

/* A line of source that allocates. There is one for each copy of an inline
 * function. */
typedef struct {
    const char *file;
    long line;
    atomic_long reached, failed; /* so often */
} cl_stress_site;

/* Counts an allocation. Returns whether it must fail. A place is a site and who
 * has called the function that it belongs to; a call up from there; and, with
 * `pairs`, instead of that two of which one has made the other. From any
 * thread. */
bool cl_stress_fails(cl_stress_site *site, const void *caller);

/* The same for a call of Python, which allocates whatever it does. */
bool cl_stress_call_fails(cl_stress_site *site, const void *caller);

/* The linker puts all sites between two symbols. */
#define CL_STRESS_HERE \
    __extension__({ \
        static cl_stress_site cl_site \
            __attribute__((section("cl_sites"), used)) = {__FILE__, __LINE__, \
                                                          0, 0}; \
        &cl_site; \
    }), \
        __builtin_return_address(0)

/* For base/mem.h: those of the C library, unless they must fail. */
static inline void *
cl_stress_realloc(cl_stress_site *site, const void *caller, void *memory,
                  size_t size)
{
    return cl_stress_fails(site, caller) ? NULL : realloc(memory, size);
}

static inline void *
cl_stress_calloc(cl_stress_site *site, const void *caller, size_t count,
                 size_t size)
{
    return cl_stress_fails(site, caller) ? NULL : calloc(count, size);
}

/* Returns the first site, and their number in *count. */
cl_stress_site *cl_stress_sites(size_t *count);

/* Counts the allocation of an object. Returns whether to collect garbage
 * before it. */
bool cl_stress_collects(const cl_stress_site *site, const void *caller);

/* Returns how many of `size` bytes a call may send, or receive. */
size_t cl_stress_send(size_t size);
size_t cl_stress_receive(size_t size);

#endif

#endif
