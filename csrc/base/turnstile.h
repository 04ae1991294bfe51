/* turnstile.h - lets threads wait until another thread has finished something.
 *
 * A waiter takes a ticket while it sees that the work goes on;
 * cl_turnstile_wait() returns once the turnstile was opened after that, or
 * after a tenth of a second, so that the waiter can look for signals. The
 * worker first publishes that it has finished, then opens, so no opening is
 * missed. */
#ifndef CL_BASE_TURNSTILE_H
#define CL_BASE_TURNSTILE_H

#include <pthread.h>
#include <stdint.h>

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    uint64_t openings; /* guarded by lock */
} cl_turnstile;

/* 0 or -errno. */
int cl_turnstile_init(cl_turnstile *turnstile);
void cl_turnstile_destroy(cl_turnstile *turnstile);

uint64_t cl_turnstile_ticket(cl_turnstile *turnstile);
void cl_turnstile_wait(cl_turnstile *turnstile, uint64_t ticket);
void cl_turnstile_open(cl_turnstile *turnstile);

#endif
