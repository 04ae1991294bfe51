/* backends.h - all back ends; poller.c orders them. */
#ifndef CL_POLLER_BACKENDS_H
#define CL_POLLER_BACKENDS_H

#include "poller/poller.h"

#ifdef __linux__
extern const cl_poller_ops cl_poller_epoll;
#endif
extern const cl_poller_ops cl_poller_poll;

#endif
