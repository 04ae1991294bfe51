/* turnstile.c - see turnstile.h. */
#include "base/turnstile.h"

#include "base/clock.h"
#include "base/mutex.h"
#include "base/platform.h"

/* Short for somebody who presses Ctrl-C. */
#define WAIT_NS ((int64_t)100 * 1000 * 1000)

int
cl_turnstile_init(cl_turnstile *turnstile)
{
    turnstile->openings = 0;
    int err = cl_mutex_init(&turnstile->lock);
    if (err == 0)
        cl_cond_init(&turnstile->opened);
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
    int64_t until_ns = cl_now_ns() + WAIT_NS;
    cl_mutex_lock(&turnstile->lock);
    while (turnstile->openings == ticket &&
           cl_cond_wait(&turnstile->opened, &turnstile->lock, until_ns) == 0)
        ;
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
