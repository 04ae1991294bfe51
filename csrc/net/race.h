/* race.h - connecting to one of several addresses, as asyncio's
 * create_connection() does with what the resolver has found.
 *
 * An attempt is what asyncio's _connect_sock() does: a socket, bind(),
 * connect(). The next one begins when the latest has failed; with a delay
 * (happy eyeballs) also when the latest has taken that long. The first that is
 * connected wins, and the others are closed.
 *
 * asyncio runs each attempt in a task. Here there is none: a coroutine owns
 * the race, and waits for a future. It is woken when a descriptor is ready, or
 * the time of the next attempt has come, and then calls cl_race_run(). */
#ifndef CL_NET_RACE_H
#define CL_NET_RACE_H

#include "core/loop.h"
#include "net/address.h"

typedef struct cl_race cl_race;

/* What the owner does, which has the race and outlives it. */
typedef struct {
    /* Schedules a callback that finishes the future that it waits for. 0/-1 */
    int (*wake_soon)(PyObject *owner);
    /* A method of it: calls cl_race_time_has_come(), and wakes it. */
    PyMethodDef *time_has_come;
} cl_race_owner;

/* Creates a race of the loop's, which outlives it. Its first attempt has not
 * begun. `infos` is what getaddrinfo() returned, a list or a tuple; `local` the
 * same for local_addr, or None; `delay` seconds, or None. Returns NULL without
 * an exception if asyncio must do it: only numeric addresses are handled here. */
cl_race *cl_race_new(LoopObject *loop, const cl_race_owner *ops,
                     PyObject *infos, PyObject *local, PyObject *delay);

/* Says who owns it: before anything else is called but cl_race_free(). */
void cl_race_give(cl_race *race, PyObject *owner);

typedef enum {
    CL_RACE_FAILED = -1, /* an exception is set */
    CL_RACE_WAITS,
    CL_RACE_WON,
    CL_RACE_LOST, /* every attempt has failed */
} cl_race_state;

/* Looks at the attempts, and begins those whose time has come. Calls an
 * overridden time(). Runs Python. */
cl_race_state cl_race_run(cl_race *race);

/* The timer for the next attempt has fired. Returns whether there was one. */
bool cl_race_time_has_come(cl_race *race);

/* After CL_RACE_WON: ends all other attempts. Returns the winner's descriptor,
 * which is the caller's from then on, with its address and its protocol. The
 * race may still watch it. */
int cl_race_take(cl_race *race, cl_inet_address *address, int *proto);

/* After CL_RACE_LOST: a new list of all errors, in the order of the attempts. */
PyObject *cl_race_errors(const cl_race *race);

/* Returns the entry of getaddrinfo() that was tried last, borrowed. */
PyObject *cl_race_latest(const cl_race *race);

int cl_race_traverse(const cl_race *race, visitproc visit, void *arg);

/* Closes what is open. Runs destructors. */
void cl_race_free(cl_race *race);

/* How this asyncio words the error of bind(): with the number, or without. */
void cl_race_know_errors(cl_state *st, bool numbered);

#endif
