/* turnstile.c - see turnstile.h. */
#include "base/turnstile.h"

#include "base/mutex.h"

int
cl_turnstile_init(cl_turnstile *turnstile)
{
    turnstile->openings = 0;
    int err = cl_mutex_init(&turnstile->lock);
    if (err != 0)
        return -err;
    err = pthread_cond_init(&turnstile->opened, NULL);
    if (err != 0)
        pthread_mutex_destroy(&turnstile->lock);
    return -err;
}

void
cl_turnstile_destroy(cl_turnstile *turnstile)
{
    pthread_cond_destroy(&turnstile->opened);
    pthread_mutex_destroy(&turnstile->lock);
}

uint64_t
cl_turnstile_ticket(cl_turnstile *turnstile)
{
    cl_mutex_lock(&turnstile->lock);
    uint64_t ticket = turnstile->openings;
    cl_mutex_unlock(&turnstile->lock);
    return ticket;
}

void
cl_turnstile_wait(cl_turnstile *turnstile, uint64_t ticket)
{
    cl_mutex_lock(&turnstile->lock);
    while (turnstile->openings == ticket)
        pthread_cond_wait(&turnstile->opened, &turnstile->lock);
    cl_mutex_unlock(&turnstile->lock);
}

void
cl_turnstile_open(cl_turnstile *turnstile)
{
    cl_mutex_lock(&turnstile->lock);
    turnstile->openings++;
    pthread_cond_broadcast(&turnstile->opened);
    cl_mutex_unlock(&turnstile->lock);
}
