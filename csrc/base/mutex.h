/* mutex.h - mutexes of the system's threads. In a debug build a mutex knows
 * which thread has it: to unlock it without, or to lock it twice, fails an
 * assertion. */
#ifndef CL_BASE_MUTEX_H
#define CL_BASE_MUTEX_H

#include <pthread.h>

#include "base/assert.h"

/* 0, or an error such as ENOMEM. */
static inline int
cl_mutex_init(pthread_mutex_t *mutex)
{
#ifdef CL_DEBUG
    pthread_mutexattr_t checked;
    pthread_mutexattr_init(&checked);
    pthread_mutexattr_settype(&checked, PTHREAD_MUTEX_ERRORCHECK);
    int err = pthread_mutex_init(mutex, &checked);
    pthread_mutexattr_destroy(&checked);
    return err;
#else
    return pthread_mutex_init(mutex, NULL);
#endif
}

static inline void
cl_mutex_lock(pthread_mutex_t *mutex)
{
    int err = pthread_mutex_lock(mutex);
    (void)err;
    cl_assertf(err == 0, "%d", err);
}

static inline void
cl_mutex_unlock(pthread_mutex_t *mutex)
{
    int err = pthread_mutex_unlock(mutex);
    (void)err;
    cl_assertf(err == 0, "%d", err);
}

#endif
