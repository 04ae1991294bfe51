/* race.c - see race.h. */
#include "net/race.h"

#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/platform.h"
#include "core/errors.h"
#include "net/sock.h"
#include "net/state.h"
#include "sync/timer.h"

typedef struct {
    cl_watch at_watch;
    cl_race *at_race;
    PyObject *at_errors; /* owned; a list, or NULL */
    cl_inet_address at_to;
    int at_proto;
    int at_fd;        /* owned; -1: it has not begun, or has ended */
    bool at_expected; /* the poller is not asked first, as in connect.c */
    bool at_answered;
} attempt;

struct cl_race {
    LoopObject *r_loop; /* borrowed from the owner */
    PyObject *r_owner;  /* borrowed */
    const cl_race_owner *r_ops;
    PyObject *r_infos; /* owned; tuple */
    PyObject *r_local; /* owned; tuple, or NULL */
    PyObject *r_timer; /* owned; for the next attempt, or NULL */
    double r_delay;
    bool r_staggered; /* there is a delay */
    bool r_due;       /* the timer has fired */
    int r_count;
    int r_begun;
    attempt *r_winner; /* NULL: not yet */
    attempt r_attempts[];
};

void
cl_race_know_errors(cl_state *st, bool numbered)
{
    cl_net_of(st)->bind_errors_have_number = numbered;
}

/* ------------------------------------------------------------------- arguments */

/* Whether asyncio would connect to it without a resolver. */
static bool
take_info(attempt *one, cl_state *st, PyObject *info)
{
    struct sockaddr_storage to;
    socklen_t len;
    unsigned long numbers[3];
    if (!PyTuple_CheckExact(info) || PyTuple_GET_SIZE(info) != 5)
        return false;
    for (int i = 0; i < 3; i++) {
        if (!cl_address_number(PyTuple_GET_ITEM(info, i), 0xffff, &numbers[i]))
            return false;
    }
    if ((numbers[0] != AF_INET && numbers[0] != AF_INET6) ||
        numbers[1] != SOCK_STREAM ||
        (numbers[2] != 0 && numbers[2] != IPPROTO_TCP))
        return false;
    PyObject *address = PyTuple_GET_ITEM(info, 4);
    if (!PyTuple_CheckExact(address) || PyTuple_GET_SIZE(address) < 2 ||
        !PyUnicode_CheckExact(PyTuple_GET_ITEM(address, 0)) ||
        cl_address_to_sockaddr(st, (int)numbers[0], address, &to, &len) != 1)
        return false;
    memcpy(&one->at_to, &to, len);
    one->at_proto = (int)numbers[2];
    return true;
}

/* Whether each attempt has a local address of its family. */
static bool
suits_local(const cl_race *race, cl_state *st)
{
    attempt one;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(race->r_local); i++) {
        if (!take_info(&one, st, PyTuple_GET_ITEM(race->r_local, i)))
            return false;
    }
    for (int i = 0; i < race->r_count; i++) {
        bool found = false;
        for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(race->r_local) && !found;
             j++)
            found = take_info(&one, st, PyTuple_GET_ITEM(race->r_local, j)) &&
                    one.at_to.family == race->r_attempts[i].at_to.family;
        if (!found)
            return false;
    }
    return true;
}

static bool
suits(cl_race *race, cl_state *st)
{
    for (int i = 0; i < race->r_count; i++) {
        if (!take_info(&race->r_attempts[i], st,
                       PyTuple_GET_ITEM(race->r_infos, i)))
            return false;
    }
    return race->r_local == NULL || suits_local(race, st);
}

/* A tuple of a list or a tuple; NULL without an exception for anything else. */
static PyObject *
snapshot(PyObject *infos)
{
    return PyList_CheckExact(infos)    ? PyList_AsTuple(infos)
           : PyTuple_CheckExact(infos) ? Py_NewRef(infos)
                                       : NULL;
}

static const cl_watch_ops watch_ops;

static cl_race *
allocate(LoopObject *loop, int count)
{
    cl_race *race =
        PyMem_Calloc(1, sizeof(*race) + (size_t)count * sizeof(attempt));
    if (race == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    race->r_loop = loop;
    race->r_count = count;
    return race;
}

cl_race *
cl_race_new(LoopObject *loop, const cl_race_owner *ops, PyObject *infos,
            PyObject *local, PyObject *delay)
{
    double seconds = 0;
    if (delay != Py_None &&
        (!cl_timer_delay(delay, &seconds) || !isfinite(seconds)))
        return NULL;
    PyObject *taken = snapshot(infos);
    PyObject *bound = local == Py_None ? NULL : snapshot(local);
    cl_race *race = NULL;
    if (taken != NULL && (bound != NULL || local == Py_None) &&
        PyTuple_GET_SIZE(taken) > 0 && PyTuple_GET_SIZE(taken) < 0xffff)
        race = allocate(loop, (int)PyTuple_GET_SIZE(taken));
    if (race == NULL) {
        Py_XDECREF(taken);
        Py_XDECREF(bound);
        return NULL;
    }
    race->r_ops = ops;
    race->r_infos = taken;
    race->r_local = bound;
    race->r_delay = seconds;
    race->r_staggered = delay != Py_None;
    if (suits(race, loop->l_st))
        return race;
    cl_race_free(race);
    return NULL;
}

void
cl_race_give(cl_race *race, PyObject *owner)
{
    race->r_owner = owner;
    for (int i = 0; i < race->r_count; i++) {
        attempt *one = &race->r_attempts[i];
        cl_watch_init(&one->at_watch, &watch_ops, owner);
        one->at_race = race;
        one->at_fd = -1;
    }
}

/* -------------------------------------------------------------------- being woken */

static int
watch_ready(LoopObject *loop, cl_watch *watch, unsigned Py_UNUSED(events))
{
    attempt *one = (attempt *)((char *)watch - offsetof(attempt, at_watch));
    PyObject *owner = Py_NewRef(watch->w_owner);
    const int fd = watch->w_fd;
    const uint32_t generation = watch->w_generation;
    one->at_answered = true;
    int status = one->at_race->r_ops->wake_soon(owner);
    /* A collection may have ended the race, whose memory the watch is. */
    const cl_watch *now = cl_watch_find(&loop->l_watches, fd);
    if (status == 0 && now == watch && now->w_generation == generation)
        cl_watch_want(loop, watch, 0);
    Py_DECREF(owner);
    return status;
}

/* Removing the interest failed. */
static int
watch_refused(LoopObject *loop, cl_watch *watch, int Py_UNUSED(err))
{
    PyObject *owner = Py_NewRef(watch->w_owner);
    cl_watch_stop(loop, watch);
    Py_DECREF(owner);
    return 0;
}

/* The transport has taken the descriptor over. */
static void
watch_evicted(LoopObject *Py_UNUSED(loop), cl_watch *Py_UNUSED(watch))
{
}

static const cl_watch_ops watch_ops = {
    .ready = watch_ready, .refused = watch_refused, .evicted = watch_evicted};

bool
cl_race_time_has_come(cl_race *race)
{
    race->r_due = race->r_timer != NULL;
    return race->r_due;
}

static int
stop_timer(cl_race *race)
{
    PyObject *timer = race->r_timer;
    race->r_timer = NULL;
    race->r_due = false;
    int status = cl_timer_cancel(race->r_loop->l_st, timer);
    Py_XDECREF(timer);
    return status;
}

static int
start_timer(cl_race *race)
{
    if (!race->r_staggered || race->r_begun == race->r_count ||
        race->r_timer != NULL)
        return 0;
    PyObject *callback =
        PyCFunction_New(race->r_ops->time_has_come, race->r_owner);
    if (callback != NULL)
        race->r_timer =
            cl_timer_start(race->r_loop, race->r_delay, callback, NULL, 0);
    Py_XDECREF(callback);
    return race->r_timer == NULL ? -1 : 0;
}

/* -------------------------------------------------------------------- an attempt */

/* What has become of an attempt. */
typedef enum { FAILED = -1, WAITS, CONNECTED, REFUSED } fate;

static PyObject *
info_of(const cl_race *race, const attempt *one)
{
    return PyTuple_GET_ITEM(race->r_infos, one - race->r_attempts);
}

static void
close_attempt(cl_race *race, attempt *one)
{
    cl_watch_stop(race->r_loop, &one->at_watch);
    if (one->at_fd < 0)
        return;
    cl_loop_poll_soon(race->r_loop);
    close(one->at_fd);
    one->at_fd = -1;
}

/* Adds the exception that is set to the attempt's errors. 0, or -1 if it is
 * none of the system's: then it stays set. */
static int
note_error(attempt *one)
{
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return -1;
    PyObject *error = PyErr_GetRaisedException();
    int status =
        one->at_errors == NULL && (one->at_errors = PyList_New(0)) == NULL
            ? -1
            : PyList_Append(one->at_errors, error);
    Py_DECREF(error);
    return status;
}

/* The attempt fails with the exception that is set. */
static fate
refused(cl_race *race, attempt *one)
{
    if (note_error(one) < 0)
        return FAILED;
    cl_net_counts_of(race->r_loop)->nc_connect_failed++;
    close_attempt(race, one);
    return REFUSED;
}

/* connect() failed later. */
static fate
failed_later(cl_race *race, attempt *one, int error)
{
    PyObject *address = PyTuple_GET_ITEM(info_of(race, one), 4);
    PyObject *host = PyTuple_GET_ITEM(address, 0);
    const cl_inet_address *to = &one->at_to;
    cl_sock_raise_failed(
        error,
        to->family == AF_INET
            ? cl_address_inet(Py_NewRef(host), ntohs(to->in.sin_port))
            : Py_BuildValue("(OiII)", host, (int)ntohs(to->in6.sin6_port),
                            (unsigned)ntohl(to->in6.sin6_flowinfo),
                            (unsigned)to->in6.sin6_scope_id));
    return refused(race, one);
}

/* Raises asyncio's OSError for a bind() that failed. */
static void
raise_bind_error(cl_state *st, int error, PyObject *address)
{
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    if (!PyErr_ExceptionMatches(PyExc_OSError)) /* no memory */
        return;
    PyObject *cause = PyErr_GetRaisedException();
    PyObject *text = cause == NULL ? NULL
                     : cl_net_of(st)->bind_errors_have_number
                         ? PyObject_Str(cause)
                         : PyObject_GetAttrString(cause, "strerror");
    PyObject *lower =
        text == NULL ? NULL : PyObject_CallMethod(text, "lower", NULL);
    cl_sock_raise(
        error, lower == NULL
                   ? NULL
                   : PyUnicode_FromFormat("error while attempting to bind on "
                                          "address %R: %S",
                                          address, lower));
    Py_XDECREF(cause);
    Py_XDECREF(text);
    Py_XDECREF(lower);
}

/* Binds to the first local address of the family that can be bound to. */
static fate
bind_to_local(cl_race *race, attempt *one)
{
    attempt local;
    cl_state *st = race->r_loop->l_st;
    Py_ssize_t count = PyTuple_GET_SIZE(race->r_local);
    PyObject *address = NULL;
    int error = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *info = PyTuple_GET_ITEM(race->r_local, i);
        if (!take_info(&local, st, info) ||
            local.at_to.family != one->at_to.family)
            continue;
        if (address != NULL) { /* the one before was refused */
            raise_bind_error(st, error, address);
            if (note_error(one) < 0)
                return FAILED;
        }
        if (bind(one->at_fd, (const struct sockaddr *)&local.at_to,
                 cl_inet_size(&local.at_to)) == 0)
            return WAITS;
        error = errno;
        address = PyTuple_GET_ITEM(info, 4);
    }
    raise_bind_error(st, error, address);
    return refused(race, one);
}

static fate
begin_connecting(cl_race *race, attempt *one)
{
    const struct sockaddr *to = (const struct sockaddr *)&one->at_to;
    socklen_t size = cl_inet_size(&one->at_to);
    cl_loop_poll_soon(race->r_loop);
    /* What was written to another connection before arrives before. */
    if (cl_gather_flush(race->r_loop) < 0)
        return FAILED;
    if (connect(one->at_fd, to, size) == 0)
        return CONNECTED;
    if (!cl_sock_is_in_progress(errno)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return refused(race, one);
    }
    one->at_expected =
        errno == EINPROGRESS && cl_inet_is_loopback(&one->at_to);
    int err = cl_watch_start(race->r_loop, &one->at_watch, one->at_fd,
                             one->at_expected ? 0 : CL_WRITE);
    if (err < 0) {
        cl_raise_os_error(err);
        return refused(race, one);
    }
    if (one->at_expected)
        cl_watch_report(race->r_loop, &one->at_watch);
    return WAITS;
}

static fate
begin(cl_race *race, attempt *one)
{
    one->at_fd = cl_socket(one->at_to.family, SOCK_STREAM, one->at_proto);
    if (one->at_fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return refused(race, one);
    }
    fate status = race->r_local == NULL ? WAITS : bind_to_local(race, one);
    return status == WAITS ? begin_connecting(race, one) : status;
}

/* The descriptor is ready, or expected to be. */
static fate
ask(cl_race *race, attempt *one)
{
    int error = 0;
    socklen_t len = sizeof(error);
    one->at_answered = false;
    if (one->at_expected) {
        one->at_expected = false;
        if (connect(one->at_fd, (const struct sockaddr *)&one->at_to,
                    cl_inet_size(&one->at_to)) < 0 &&
            errno != EISCONN)
            error = errno;
    }
    else if (getsockopt(one->at_fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return refused(race, one);
    }
    if (error == 0)
        return CONNECTED;
    if (!cl_sock_is_in_progress(error))
        return failed_later(race, one, error);
    cl_watch_want(race->r_loop, &one->at_watch, CL_WRITE);
    return WAITS;
}

/* ----------------------------------------------------------------------- the race */

static cl_race_state
won(cl_race *race, attempt *one)
{
    race->r_winner = one;
    cl_net_counts_of(race->r_loop)->nc_connected++;
    return CL_RACE_WON;
}

/* Looks at the attempts that were answered. */
static cl_race_state
look(cl_race *race)
{
    for (int i = 0; i < race->r_begun; i++) {
        attempt *one = &race->r_attempts[i];
        fate status =
            one->at_answered && one->at_fd >= 0 ? ask(race, one) : WAITS;
        if (status == FAILED)
            return CL_RACE_FAILED;
        if (status == CONNECTED)
            return won(race, one);
    }
    return CL_RACE_WAITS;
}

/* Whether the next attempt is to begin: the latest has failed, or taken long. */
static bool
is_time(const cl_race *race)
{
    return race->r_begun < race->r_count &&
           (race->r_begun == 0 || race->r_due ||
            race->r_attempts[race->r_begun - 1].at_fd < 0);
}

static bool
is_lost(const cl_race *race)
{
    for (int i = 0; i < race->r_begun; i++) {
        if (race->r_attempts[i].at_fd >= 0)
            return false;
    }
    return true;
}

cl_race_state
cl_race_run(cl_race *race)
{
    cl_race_state state = look(race);
    while (state == CL_RACE_WAITS && is_time(race)) {
        if (stop_timer(race) < 0)
            return CL_RACE_FAILED;
        attempt *one = &race->r_attempts[race->r_begun++];
        fate status = begin(race, one);
        if (status == FAILED)
            state = CL_RACE_FAILED;
        else if (status == CONNECTED)
            state = won(race, one);
    }
    if (state == CL_RACE_WAITS && is_lost(race))
        return CL_RACE_LOST;
    return state == CL_RACE_WAITS && start_timer(race) < 0 ? CL_RACE_FAILED
                                                           : state;
}

int
cl_race_take(cl_race *race, cl_inet_address *address, int *proto)
{
    attempt *winner = race->r_winner;
    int fd = winner->at_fd;
    winner->at_fd = -1;
    *address = winner->at_to;
    *proto = winner->at_proto;
    for (int i = 0; i < race->r_begun; i++) {
        if (&race->r_attempts[i] != winner)
            close_attempt(race, &race->r_attempts[i]);
    }
    if (stop_timer(race) < 0)
        PyErr_WriteUnraisable(race->r_owner);
    return fd;
}

PyObject *
cl_race_errors(const cl_race *race)
{
    PyObject *all = PyList_New(0);
    for (int i = 0; all != NULL && i < race->r_begun; i++) {
        PyObject *errors = race->r_attempts[i].at_errors;
        Py_ssize_t end = PyList_GET_SIZE(all);
        if (errors != NULL && PyList_SetSlice(all, end, end, errors) < 0)
            Py_CLEAR(all);
    }
    return all;
}

PyObject *
cl_race_latest(const cl_race *race)
{
    return PyTuple_GET_ITEM(race->r_infos,
                            race->r_begun > 0 ? race->r_begun - 1 : 0);
}

int
cl_race_traverse(const cl_race *race, visitproc visit, void *arg)
{
    Py_VISIT(race->r_infos);
    Py_VISIT(race->r_local);
    Py_VISIT(race->r_timer);
    for (int i = 0; i < race->r_begun; i++)
        Py_VISIT(race->r_attempts[i].at_errors);
    return 0;
}

void
cl_race_free(cl_race *race)
{
    for (int i = 0; i < race->r_begun; i++) {
        close_attempt(race, &race->r_attempts[i]);
        Py_XDECREF(race->r_attempts[i].at_errors);
    }
    if (race->r_timer != NULL && stop_timer(race) < 0)
        PyErr_WriteUnraisable(race->r_owner);
    Py_XDECREF(race->r_infos);
    Py_XDECREF(race->r_local);
    PyMem_Free(race);
}
