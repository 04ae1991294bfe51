/* backends.h - all back ends; poller.c orders them. */
#ifndef CL_POLLER_BACKENDS_H
#define CL_POLLER_BACKENDS_H

#include "base/platform.h"
#include "poller/poller.h"

#ifdef CL_HAVE_EPOLL
extern const cl_poller_ops cl_poller_epoll;
#endif
#ifdef CL_HAVE_KQUEUE
extern const cl_poller_ops cl_poller_kqueue;
#endif
extern const cl_poller_ops cl_poller_poll;

#endif
