/* stress.h - what stress builds do to themselves: the n-th allocation fails, every n-th
 * collects garbage, and system calls take and bring few bytes.
 *
 * Allocations are those that this code asks for, by base/mem.h or by Python's API, where
 * compat.h puts what is here before the functions; what asyncio or the interpreter
 * allocates by itself is left alone. All of it is off until it is asked for, by
 * _cloop._stress() or by the environment:
 *
 *   CLOOP_STRESS_COLLECT=n   every n-th allocation of an object collects garbage first
 *   CLOOP_STRESS_NOMEM=n     the n-th allocation after the import fails, once
 *   CLOOP_STRESS_SEND=n      a stream sends n bytes at most in a system call
 *   CLOOP_STRESS_RECEIVE=n   and receives n */
#ifndef CL_BASE_STRESS_H
#define CL_BASE_STRESS_H

#ifdef CL_STRESS

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    long nomem;   /* allocations until one fails; 0: none does */
    long lasting; /* and how many in a row, that one included */
    long collect;
    size_t send;    /* bytes; 0: no limit */
    size_t receive; /* the same */
} cl_stress_orders;

/* Process-wide, as the environment is. */
void cl_stress_read_environment(void);
void cl_stress_set(const cl_stress_orders *orders);

/* How many allocations there were since the last orders. */
long cl_stress_count(void);

/* Counts an allocation: whether it is to fail. From any thread. */
bool cl_stress_fails(void);

/* Counts the allocation of an object: whether to collect garbage before it. */
bool cl_stress_collects(void);

/* How much of `size` bytes a call may send, or receive. */
size_t cl_stress_send(size_t size);
size_t cl_stress_receive(size_t size);

#endif

#endif
