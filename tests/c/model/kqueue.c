/* kqueue.c - a model of kqueue(2) on Linux, over poll(2), to judge
 * poller/kqueue.c where there is no macOS and no BSD.
 *
 * It follows the manual pages of FreeBSD 14 and macOS:
 *
 *   - An event is known by its queue, ident and filter. To add it again changes
 *     its udata and nothing else; above all, EV_CLEAR stays as it was.
 *   - close() removes the events of that number, also if the file is open under
 *     another. So does dup2() onto it.
 *   - kevent() makes the changes in turn. An error is put in the list of events,
 *     with EV_ERROR and the error in data, if there is room; else kevent() fails
 *     with it, and later changes are not made. EV_RECEIPT puts all of them there,
 *     and then no pending event is returned.
 *   - An event is reported while its condition holds, in turn with the others;
 *     with EV_CLEAR, once after each change. It may be reported at once when it
 *     is added, if the condition holds.
 *   - EV_EOF: EVFILT_READ when the peer sends no more, EVFILT_WRITE when it reads
 *     no more. To add EVFILT_WRITE to a pipe whose other end is closed: EPIPE.
 *   - EVFILT_USER is reported once it was triggered; EVFILT_PROC when the process
 *     has ended, and ESRCH if there is none.
 *   - A child of a fork does not have the queue. exec() does not close it.
 *   - getpeername() fails once a connection is over in both directions.
 *
 * Where it differs:
 *
 *   - data and fflags are always 0, so there is no socket error in fflags.
 *   - Changes for EV_CLEAR are those of epoll's EPOLLET.
 *   - Pipes have one direction. The wrong end is never ready, but for EV_EOF.
 *   - A socket that was never connected is hung up, as for poll(2).
 *   - The queue itself is readable only for EVFILT_USER and EVFILT_PROC.
 *   - A close() that the C library makes (fclose()) is seen at the next wait.
 *   - EV_ONESHOT, EV_DISABLE, EV_DISPATCH and other filters: EINVAL. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define QUEUES_MAX 1024

typedef struct {
    struct kevent event; /* flags: EV_CLEAR or none */
    bool changed;        /* with EV_CLEAR: since it was reported */
    int process; /* of EVFILT_PROC: a pidfd; of EVFILT_USER an eventfd */
    unsigned long turn; /* when it was last reported */
} knote;

typedef struct {
    int fd;       /* an epoll set, so that poll(2) on it works */
    int wake;     /* an eventfd: the notes have changed */
    int edges[2]; /* epoll sets of what has EV_CLEAR, to read and to write */
    knote *notes;
    int count, capacity;
    unsigned long turn;
} queue;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static queue *queues[QUEUES_MAX];
static pid_t owner;

/* ---------------------------------------------------------------- bookkeeping */

static int
close_raw(int fd)
{
    return (int)syscall(SYS_close, fd);
}

static queue *
queue_of(int fd)
{
    for (int i = 0; i < QUEUES_MAX; i++) {
        if (queues[i] != NULL && queues[i]->fd == fd)
            return queues[i];
    }
    return NULL;
}

static knote *
note_of(queue *of, uintptr_t ident, short filter)
{
    for (int i = 0; i < of->count; i++) {
        if (of->notes[i].event.ident == ident &&
            of->notes[i].event.filter == filter)
            return &of->notes[i];
    }
    return NULL;
}

static int
edge_set(const queue *of, short filter)
{
    return of->edges[filter == EVFILT_WRITE];
}

static void
drop_note(queue *of, knote *note)
{
    if (note->event.flags & EV_CLEAR)
        (void)epoll_ctl(edge_set(of, note->event.filter), EPOLL_CTL_DEL,
                        (int)note->event.ident, &(struct epoll_event){0});
    if (note->process >= 0)
        close_raw(note->process);
    *note = of->notes[--of->count];
}

static void
drop_queue(queue *of)
{
    while (of->count > 0)
        drop_note(of, &of->notes[of->count - 1]);
    for (int i = 0; i < QUEUES_MAX; i++) {
        if (queues[i] == of)
            queues[i] = NULL;
    }
    for (int i = 0; i < 2; i++) {
        if (of->edges[i] >= 0)
            close_raw(of->edges[i]);
    }
    if (of->wake >= 0)
        close_raw(of->wake);
    free(of->notes);
    free(of);
}

/* The number will be another file's. */
static void
forget_number(int fd)
{
    for (int i = 0; i < QUEUES_MAX; i++) {
        queue *of = queues[i];
        for (int at = of == NULL ? -1 : of->count - 1; at >= 0; at--) {
            const struct kevent *event = &of->notes[at].event;
            if (event->ident == (uintptr_t)fd &&
                (event->filter == EVFILT_READ ||
                 event->filter == EVFILT_WRITE))
                drop_note(of, &of->notes[at]);
        }
    }
    queue *itself = queue_of(fd);
    if (itself != NULL)
        drop_queue(itself);
}

/* After vfork(), the child has our memory, and must leave it alone. */
static bool
is_ours(void)
{
    return owner != 0 && owner == getpid();
}

EXPORT int
close(int fd)
{
    if (!is_ours())
        return close_raw(fd);
    pthread_mutex_lock(&lock);
    forget_number(fd);
    int result = close_raw(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static int
duplicate(int from, int to, int flags)
{
    if (from == to || !is_ours())
        return (int)syscall(SYS_dup3, from, to, flags);
    pthread_mutex_lock(&lock);
    if (fcntl(from, F_GETFD) >= 0)
        forget_number(to);
    int result = (int)syscall(SYS_dup3, from, to, flags);
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int
dup2(int from, int to)
{
    if (from == to)
        return fcntl(from, F_GETFD) < 0 ? -1 : to;
    return duplicate(from, to, 0);
}

EXPORT int
dup3(int from, int to, int flags)
{
    return duplicate(from, to, flags);
}

EXPORT int
getpeername(int fd, struct sockaddr *restrict peer, socklen_t *restrict len)
{
    struct pollfd one = {.fd = fd};
    const struct timespec now = {0, 0};
    int result = (int)syscall(SYS_getpeername, fd, peer, len);
    if (result == 0 && is_ours() &&
        syscall(SYS_ppoll, &one, (nfds_t)1, &now, NULL, (size_t)0) == 1 &&
        (one.revents & POLLHUP)) {
        errno = ENOTCONN;
        return -1;
    }
    return result;
}

static void
before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void
after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

static void
after_fork_in_child(void)
{
    owner = getpid();
    for (int i = 0; i < QUEUES_MAX; i++) {
        if (queues[i] != NULL) {
            close_raw(queues[i]->fd);
            /* The sets are the parent's as well: leave what is in them. */
            for (int at = 0; at < queues[i]->count; at++)
                queues[i]->notes[at].event.flags = 0;
            drop_queue(queues[i]);
        }
    }
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void
start(void)
{
    owner = getpid();
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

EXPORT int
kqueue(void)
{
    queue *fresh = calloc(1, sizeof(*fresh));
    if (fresh == NULL)
        return -1;
    fresh->fd = epoll_create1(0);
    fresh->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (int i = 0; i < 2; i++)
        fresh->edges[i] = epoll_create1(EPOLL_CLOEXEC);
    int fd = fresh->fd, error = errno;
    bool whole = fd >= 0 && fresh->wake >= 0 && fresh->edges[0] >= 0 &&
                 fresh->edges[1] >= 0;
    pthread_mutex_lock(&lock);
    int at = 0;
    while (at < QUEUES_MAX && queues[at] != NULL)
        at++;
    if (whole && at < QUEUES_MAX) {
        queues[at] = fresh;
    }
    else {
        drop_queue(fresh);
        if (fd >= 0)
            close_raw(fd);
        fd = -1;
        errno = whole ? ENOMEM : error;
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

/* -------------------------------------------------------------------- changes */

static short
poll_now(int fd, short events)
{
    struct pollfd one = {.fd = fd, .events = events};
    const struct timespec now = {0, 0};
    (void)syscall(SYS_ppoll, &one, (nfds_t)1, &now, NULL, (size_t)0);
    return one.revents;
}

static bool
is_broken_pipe(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) &&
           (poll_now(fd, 0) & (POLLERR | POLLHUP)) != 0;
}

/* Whether the file can be watched: an error, or 0. */
static int
check_ident(const struct kevent *change)
{
    bool of_file =
        change->filter == EVFILT_READ || change->filter == EVFILT_WRITE;
    if (change->flags & ~(EV_ADD | EV_DELETE | EV_CLEAR | EV_RECEIPT))
        return EINVAL;
    if (!of_file)
        return change->filter == EVFILT_USER || change->filter == EVFILT_PROC
                   ? 0
                   : EINVAL;
    return change->ident > (uintptr_t)0x7fffffff ||
                   fcntl((int)change->ident, F_GETFD) < 0
               ? EBADF
               : 0;
}

/* What the note needs of the kernel: an error, or 0. */
static int
attach(queue *of, knote *note)
{
    int fd = (int)note->event.ident;
    struct epoll_event ready = {.events = EPOLLIN, .data = {.fd = fd}};
    switch (note->event.filter) {
    case EVFILT_PROC:
        note->process = (int)syscall(SYS_pidfd_open, fd, 0u);
        break;
    case EVFILT_USER:
        note->process = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        break;
    default:
        if (note->event.filter == EVFILT_WRITE && is_broken_pipe(fd))
            return EPIPE;
        if ((note->event.flags & EV_CLEAR) == 0)
            return 0;
        ready.events =
            EPOLLET | EPOLLRDHUP |
            (note->event.filter == EVFILT_READ ? EPOLLIN : EPOLLOUT);
        return epoll_ctl(edge_set(of, note->event.filter), EPOLL_CTL_ADD, fd,
                         &ready) < 0
                   ? errno
                   : 0;
    }
    if (note->process < 0)
        return errno;
    return epoll_ctl(of->fd, EPOLL_CTL_ADD, note->process, &ready) < 0 ? errno
                                                                       : 0;
}

static int
add_note(queue *of, const struct kevent *change)
{
    if (of->count == of->capacity) {
        int capacity = of->capacity ? 2 * of->capacity : 16;
        knote *notes = realloc(of->notes, (size_t)capacity * sizeof(*notes));
        if (notes == NULL)
            return ENOMEM;
        of->notes = notes;
        of->capacity = capacity;
    }
    knote *note = &of->notes[of->count];
    *note = (knote){.event = *change, .process = -1, .turn = of->turn};
    note->event.flags &= EV_CLEAR;
    note->event.fflags &= ~NOTE_TRIGGER;
    int error = attach(of, note);
    if (error == 0)
        of->count++;
    else if (note->process >= 0)
        close_raw(note->process);
    return error;
}

/* An error, or 0. */
static int
apply(queue *of, const struct kevent *change)
{
    int error = check_ident(change);
    if (error != 0)
        return error;
    knote *note = note_of(of, change->ident, change->filter);
    if (change->flags & EV_DELETE) {
        if (note == NULL)
            return ENOENT;
        drop_note(of, note);
        return 0;
    }
    if (note == NULL) {
        if ((change->flags & EV_ADD) == 0)
            return ENOENT;
        if ((error = add_note(of, change)) != 0)
            return error;
        note = &of->notes[of->count - 1];
    }
    note->event.udata = change->udata;
    if (change->filter == EVFILT_USER && (change->fflags & NOTE_TRIGGER))
        (void)!write(note->process, &(uint64_t){1}, sizeof(uint64_t));
    return 0;
}

/* -------------------------------------------------------------------- waiting */

static int64_t
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Marks what has changed since the last wait. */
static void
look_at_edges(queue *of)
{
    for (int i = 0; i < 2; i++) {
        struct epoll_event ready[64];
        int found = 64;
        while (found == 64 &&
               (found = epoll_wait(of->edges[i], ready, 64, 0)) > 0) {
            for (int n = 0; n < found; n++) {
                knote *note = note_of(of, (uintptr_t)ready[n].data.fd,
                                      i == 0 ? EVFILT_READ : EVFILT_WRITE);
                if (note != NULL)
                    note->changed = true;
            }
        }
    }
}

static short
wanted(const knote *note)
{
    return note->event.filter == EVFILT_WRITE ? POLLOUT : POLLIN | POLLRDHUP;
}

static int
descriptor(const knote *note)
{
    return note->process >= 0 ? note->process : (int)note->event.ident;
}

/* Whether the condition holds, for this answer of poll(2). */
static bool
holds(const knote *note, short revents)
{
    return (note->event.flags & EV_CLEAR) && note->process < 0
               ? note->changed && revents != 0
               : revents != 0;
}

static unsigned short
end_flags(const knote *note, short revents)
{
    short end = POLLHUP | POLLERR;
    if (note->process >= 0)
        return 0;
    if (note->event.filter == EVFILT_READ)
        end |= POLLRDHUP;
    return revents & end ? EV_EOF : 0;
}

static int
by_turn(const void *a, const void *b)
{
    const knote *const *one = a, *const *other = b;
    return ((*one)->turn > (*other)->turn) - ((*one)->turn < (*other)->turn);
}

/* Collects what is to be reported now; -1 with errno if there is no memory. */
static int
collect(queue *of, struct kevent *events, int max)
{
    size_t room = (size_t)of->count + 1;
    struct pollfd *polled = calloc(room, sizeof(*polled));
    knote **active = calloc(room, sizeof(*active));
    int found = 0;
    if (polled == NULL || active == NULL) {
        free(polled);
        free(active);
        errno = ENOMEM;
        return -1;
    }
    look_at_edges(of);
    for (int i = 0; i < of->count; i++)
        polled[i] = (struct pollfd){.fd = descriptor(&of->notes[i]),
                                    .events = wanted(&of->notes[i])};
    const struct timespec now = {0, 0};
    (void)syscall(SYS_ppoll, polled, (nfds_t)of->count, &now, NULL, (size_t)0);
    for (int i = of->count - 1; i >= 0; i--) {
        if (polled[i].revents & POLLNVAL) {
            drop_note(of, &of->notes[i]); /* the last takes its place */
            polled[i] = polled[of->count];
        }
    }
    for (int i = 0; i < of->count; i++) {
        if (holds(&of->notes[i], polled[i].revents))
            active[found++] = &of->notes[i];
    }
    qsort(active, (size_t)found, sizeof(knote *), by_turn);
    if (found > max)
        found = max;
    for (int i = 0; i < found; i++) {
        knote *note = active[i];
        events[i] = note->event;
        events[i].flags |= end_flags(note, polled[note - of->notes].revents);
        note->changed = false;
        note->turn = ++of->turn;
    }
    free(polled);
    free(active);
    return found;
}

/* What ends the wait: 0, or -1 with errno. The lock is released meanwhile. */
static int
sleep_until(queue *of, int64_t until_ns)
{
    struct pollfd *polled = calloc((size_t)of->count + 3, sizeof(*polled));
    nfds_t count = 0;
    if (polled == NULL) {
        errno = ENOMEM;
        return -1;
    }
    polled[count++] = (struct pollfd){.fd = of->wake, .events = POLLIN};
    for (int i = 0; i < 2; i++)
        polled[count++] =
            (struct pollfd){.fd = of->edges[i], .events = POLLIN};
    for (int i = 0; i < of->count; i++) {
        const knote *note = &of->notes[i];
        if (note->process >= 0 || (note->event.flags & EV_CLEAR) == 0)
            polled[count++] = (struct pollfd){.fd = descriptor(note),
                                              .events = wanted(note)};
    }
    int64_t left_ns = until_ns < 0 ? 0 : until_ns - now_ns();
    struct timespec left = {0, 0};
    if (left_ns > 0)
        left = (struct timespec){left_ns / 1000000000, left_ns % 1000000000};
    pthread_mutex_unlock(&lock);
    int result = (int)syscall(SYS_ppoll, polled, count,
                              until_ns < 0 ? NULL : &left, NULL, (size_t)0);
    int error = errno;
    pthread_mutex_lock(&lock);
    free(polled);
    errno = error;
    return result < 0 ? -1 : 0;
}

static int
wait_for_events(int fd, struct kevent *events, int max,
                const struct timespec *timeout)
{
    int64_t until_ns = -1;
    if (timeout != NULL)
        until_ns = now_ns() + (int64_t)timeout->tv_sec * 1000000000 +
                   timeout->tv_nsec;
    for (;;) {
        queue *of = queue_of(fd); /* another thread may have closed it */
        if (of == NULL) {
            errno = EBADF;
            return -1;
        }
        (void)!read(of->wake, &(uint64_t){0}, sizeof(uint64_t));
        int found = collect(of, events, max);
        if (found != 0 || (until_ns >= 0 && now_ns() >= until_ns))
            return found;
        if (sleep_until(of, until_ns) < 0)
            return -1;
    }
}

EXPORT int
kevent(int fd, const struct kevent *changes, int change_count,
       struct kevent *events, int event_count, const struct timespec *timeout)
{
    int told = 0;
    if (timeout != NULL &&
        (timeout->tv_sec < 0 || timeout->tv_sec > 100000000 ||
         timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)) {
        errno = EINVAL;
        return -1;
    }
    pthread_mutex_lock(&lock);
    queue *of = queue_of(fd);
    int result = of == NULL ? -1 : 0;
    errno = of == NULL ? EBADF : 0;
    for (int i = 0; result == 0 && i < change_count; i++) {
        int error = apply(of, &changes[i]);
        if (error == 0 && (changes[i].flags & EV_RECEIPT) == 0)
            continue;
        if (told < event_count) {
            events[told] = changes[i];
            events[told].flags = EV_ERROR;
            events[told++].data = error;
        }
        else if (error != 0) {
            errno = error;
            result = -1;
        }
    }
    if (of != NULL && change_count > 0)
        (void)!write(of->wake, &(uint64_t){1}, sizeof(uint64_t));
    if (result == 0)
        result = told > 0 ? told
                 : event_count == 0
                     ? 0
                     : wait_for_events(fd, events, event_count, timeout);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
