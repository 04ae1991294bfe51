/* poller.c - chooses a back end by name. */
#include "poller/poller.h"

#include <string.h>

#include "poller/backends.h"

/* Best first. */
static const cl_poller_ops *const backends[] = {
#ifdef CL_HAVE_EPOLL
    &cl_poller_epoll,
#endif
#ifdef CL_HAVE_KQUEUE
    &cl_poller_kqueue,
#endif
    &cl_poller_poll,
};

#define COUNT ((int)(sizeof(backends) / sizeof(backends[0])))

const char *
cl_poller_name(int n)
{
    cl_assert(n >= 0);
    return n < COUNT ? backends[n]->name : NULL;
}

const cl_poller_ops *
cl_poller_find(const char *name)
{
    for (int n = 0; n < COUNT; n++) {
        if (name == NULL || strcmp(backends[n]->name, name) == 0)
            return backends[n];
    }
    return NULL;
}

int
cl_poller_open(cl_poller *poller, const cl_poller_ops *ops)
{
    cl_assert(ops != NULL && ops->name != NULL);
    poller->ops = ops;
    poller->fd = -1;
    poller->impl = NULL;
    int err = ops->open(poller);
    cl_assertf(err <= 0, "%s: %d", ops->name, err);
    if (err < 0)
        poller->ops = NULL;
    return err;
}

int
cl_poller_open_best(cl_poller *poller)
{
    int err = 0;
    for (int n = 0; n < COUNT; n++) {
        err = cl_poller_open(poller, backends[n]);
        if (err == 0 || !cl_is_refused(-err))
            break;
    }
    return err;
}

void
cl_poller_close(cl_poller *poller)
{
    if (poller->ops != NULL) {
        poller->ops->close(poller);
        poller->ops = NULL;
        poller->fd = -1;
    }
}
