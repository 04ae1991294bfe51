/* turnstile.h - lets threads wait until something that another thread does is over.
 *
 * A waiter takes a ticket while it sees that the thing goes on; turnstile_wait()
 * returns once it has been opened after that. Whoever ends the thing says so
 * first and opens then, so no opening can be missed. */
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
