/* hold_timer.c - see hold_timer.h. */
#include "net/hold_timer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/platform.h"
#include "net/gather.h"

/* Interval of the checks. */
#ifndef CL_HOLD_LOOK_NS
#define CL_HOLD_LOOK_NS CL_HOLD_PERIOD_NS
#endif

/* After this many checks that find nothing held, the thread sleeps. */
#define IDLE_LOOKS 40

typedef struct {
    cl_hold_timer public;
    LoopObject *loop; /* borrowed: the loop stops the thread before it goes */
    PyInterpreterState *interpreter;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* of cl_cond_wait() */
    bool stopping;
} hold_timer;

/* Waits for one interval. The lock is held; the wait releases it. */
static void
wait_a_period(hold_timer *self)
{
    int64_t until_ns = cl_now_ns() + CL_HOLD_LOOK_NS;
    while (!self->stopping &&
           cl_cond_wait(&self->changed, &self->lock, until_ns) == 0)
        ;
}

static void
sleep_until_something_is_held(hold_timer *self)
{
    cl_hold_timer *timer = &self->public;
    atomic_store_explicit(&timer->ht_asleep, true, memory_order_seq_cst);
    while (!self->stopping &&
           atomic_load_explicit(&timer->ht_deadline, memory_order_seq_cst) ==
               0 &&
           atomic_load_explicit(&timer->ht_asleep, memory_order_seq_cst))
        pthread_cond_wait(&self->changed, &self->lock);
    atomic_store_explicit(&timer->ht_asleep, false, memory_order_seq_cst);
}

static bool
is_late(uint64_t deadline)
{
    return deadline != 0 && cl_ticks() > deadline;
}

static uint64_t
deadline_of(hold_timer *self)
{
    return atomic_load_explicit(&self->public.ht_deadline,
                                memory_order_seq_cst);
}

/* Sends as a callback that acts on the connection would. */
static void
send_held(hold_timer *self)
{
    PyThreadState *thread = PyThreadState_New(self->interpreter);
    if (thread == NULL)
        return;
    PyEval_AcquireThread(thread);
    /* Whoever stops this thread waits without the GIL, so the loop exists. */
    if (is_late(deadline_of(self)) && cl_gather_flush(self->loop) < 0)
        PyErr_WriteUnraisable((PyObject *)self->loop);
    PyThreadState_Clear(thread);
    PyThreadState_DeleteCurrent();
}

static void *
run(void *arg)
{
    hold_timer *self = arg;
    int idle = 0;
    cl_mutex_lock(&self->lock);
    while (!self->stopping) {
        if (idle < IDLE_LOOKS)
            wait_a_period(self);
        else
            sleep_until_something_is_held(self);
        uint64_t deadline = deadline_of(self);
        idle = deadline == 0 ? idle + 1 : 0;
        if (!self->stopping && is_late(deadline)) {
            cl_mutex_unlock(&self->lock);
            send_held(self);
            cl_mutex_lock(&self->lock);
        }
    }
    cl_mutex_unlock(&self->lock);
    return NULL;
}

static int
start_thread(hold_timer *self)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&self->thread, NULL, run, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

cl_hold_timer *
cl_hold_timer_start(LoopObject *loop)
{
    hold_timer *self = PyMem_RawCalloc(1, sizeof(*self));
    if (self == NULL)
        return NULL;
    self->loop = loop;
    self->interpreter = PyInterpreterState_Get();
    self->public.ht_pid = getpid();
    cl_mutex_init(&self->lock);
    cl_cond_init(&self->changed);
    if (start_thread(self) == 0)
        return &self->public;
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    PyMem_RawFree(self);
    return NULL;
}

void
cl_hold_timer_wake(cl_hold_timer *timer)
{
    hold_timer *self = (hold_timer *)timer;
    cl_mutex_lock(&self->lock);
    pthread_cond_signal(&self->changed);
    cl_mutex_unlock(&self->lock);
}

void
cl_hold_timer_stop(cl_hold_timer *timer)
{
    hold_timer *self = (hold_timer *)timer;
    if (timer == NULL)
        return;
    /* The child of a fork has the memory but not the thread, and the lock may
     * be taken for good. Leak it. */
    if (timer->ht_pid != getpid())
        return;
    cl_mutex_lock(&self->lock);
    self->stopping = true;
    pthread_cond_signal(&self->changed);
    cl_mutex_unlock(&self->lock);
    Py_BEGIN_ALLOW_THREADS
    pthread_join(self->thread, NULL);
    Py_END_ALLOW_THREADS
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    PyMem_RawFree(self);
}
