/* turnstile.c - see turnstile.h. */
#include "base/turnstile.h"

int
cl_turnstile_init(cl_turnstile *turnstile)
{
    turnstile->openings = 0;
    int err = pthread_mutex_init(&turnstile->lock, NULL);
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
    pthread_mutex_lock(&turnstile->lock);
    uint64_t ticket = turnstile->openings;
    pthread_mutex_unlock(&turnstile->lock);
    return ticket;
}

void
cl_turnstile_wait(cl_turnstile *turnstile, uint64_t ticket)
{
    pthread_mutex_lock(&turnstile->lock);
    while (turnstile->openings == ticket)
        pthread_cond_wait(&turnstile->opened, &turnstile->lock);
    pthread_mutex_unlock(&turnstile->lock);
}

void
cl_turnstile_open(cl_turnstile *turnstile)
{
    pthread_mutex_lock(&turnstile->lock);
    turnstile->openings++;
    pthread_cond_broadcast(&turnstile->opened);
    pthread_mutex_unlock(&turnstile->lock);
}
