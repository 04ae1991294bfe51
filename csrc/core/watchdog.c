/* watchdog.c - see watchdog.h. */
#include "core/watchdog.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/mutex.h"
#include "base/platform.h"
#include "core/args.h"
#include "core/errors.h"

/* While a report is due or a block goes on, the thread looks at least this
 * often, so that the total is exact to that. */
#define CLOSE_LOOK_NS (5 * 1000 * 1000)

/* The time that the reporter gets to take the GIL is half of the threshold
 * within these limits. Python code gives it up after 5 ms. */
#define PATIENCE_MIN_NS (30 * 1000 * 1000)
#define PATIENCE_MAX_NS (150 * 1000 * 1000)

/* Before a fork and at exit, a report that is being written may take this
 * long. */
#define LAST_REPORT_S 1

/* Of a stack without the GIL. */
#define TEXT_MAX (64 * 1024)

/* So much can be written to a pipe that poll() says is ready. */
#define WRITE_MAX 4096

/* faulthandler writes 100 threads at most. */
#define NO_STACK \
    "  (no stack of the loop's thread: faulthandler writes 100 threads at " \
    "most)\n"

/* A loop, as it was at the last look. */
typedef struct {
    LoopObject *loop; /* borrowed: it is removed before it goes */
    uint64_t beat;
    int pulse;
    bool active;         /* it was in a turn, and did not sleep */
    bool told;           /* this block was reported */
    int64_t seen_ns;     /* for how long this beat was seen */
    int64_t earliest_ns; /* the callback did not begin before */
    int64_t told_ns;
    uint64_t number; /* of the block; 0 once the stack was taken */
} watched;

/* A descriptor of ours, and its file: a program that closes all that it does
 * not know, as daemons do, may give the number to a file of its own. */
typedef struct {
    int fd; /* or -1 */
    dev_t device;
    ino_t inode;
} known_file;

enum { BLOCKED, ENDED };

typedef struct report {
    struct report *next;
    int kind;
    LoopObject *loop; /* may be gone */
    unsigned long thread;
    uint64_t beat;
    uint64_t number;
    int pulse;
    double seconds;
    char *text; /* owned: the stack that was taken without the GIL, or NULL */
} report;

typedef struct cl_watchdog {
    cl_state *st;
    PyInterpreterState *interpreter;
    PyObject *function; /* owned */
    int64_t threshold_ns;
    int64_t every_ns;
    int64_t patience_ns;
    known_file out; /* where a stack taken without the GIL goes at once */
    known_file dumped;
    char *unwritten; /* owned: what the watcher writes next to `out` */
    int dump_signal;
    void (*dump)(int); /* of faulthandler; NULL if there is none */

    pthread_t thread;
    pthread_t reporter;
    pthread_mutex_t
        lock; /* guards the rest; nobody waits for the GIL with it */
    pthread_cond_t changed; /* of cl_cond_wait() */
    int owners;             /* the module state, and the reporter */
    bool stopping;
    bool reporting; /* the reporter runs */
    bool late;      /* and goes on after the end: see cl_watchdog_at_exit() */
    uint64_t numbers;
    int64_t looked_ns; /* the last look */
    uint64_t looks;
    cl_rate rate;
    watched *loops; /* owned */
    size_t count;
    size_t capacity;
    report *first; /* reports to write, the oldest first */
    report **last;
    struct cl_watchdog *next_late; /* list of the module state */
} cl_watchdog;

#define LOAD(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#if CL_FREE_THREADED /* loads of such fields are atomic */
#define LOAD_SHARED(field) (field)
#else
#define LOAD_SHARED LOAD
#endif

static inline uint64_t
beat_of(const LoopObject *loop)
{
    return LOAD(loop->l_ready.r_head) + LOAD(loop->l_turns) +
           LOAD(loop->l_polls);
}

/* --------------------------------------------------------------------- threads */

static int
start_thread(pthread_t *thread, void *(*run)(void *), void *arg, bool detached)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (detached)
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(thread, &attributes, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return err;
}

/* The lock is held, and released here. */
static void
release(cl_watchdog *dog)
{
    bool last = --dog->owners == 0;
    pthread_cond_broadcast(&dog->changed);
    cl_mutex_unlock(&dog->lock);
    if (!last)
        return;
    while (dog->first != NULL) {
        report *next = dog->first->next;
        cl_free(dog->first->text);
        cl_free(dog->first);
        dog->first = next;
    }
    pthread_cond_destroy(&dog->changed);
    pthread_mutex_destroy(&dog->lock);
    cl_free(dog->loops);
    cl_free(dog);
}

/* -------------------------------------------------------------------- reporter */

/* Returns a new reference to the loop that the report is about, or NULL if it
 * is not open: the address may be that of another object by now. With the GIL. */
static PyObject *
open_loop(cl_state *st, const LoopObject *loop)
{
    PyObject *found = NULL;
    CL_MUTEX_LOCK(&st->loops_lock);
    LoopObject *each = st->loops;
    while (each != NULL && each != loop)
        each = each->l_next_open;
    if (each != NULL)
        found = cl_loop_listed(each);
    CL_MUTEX_UNLOCK(&st->loops_lock);
    return found;
}

/* Calls function(ended, loop, key, thread, seconds, goes_on, wakes, text). The
 * key is the loop's id(), also if it is gone. */
static void
write_report(cl_watchdog *dog, const report *each)
{
    PyObject *loop = open_loop(dog->st, each->loop);
    bool goes_on = loop != NULL && each->kind == BLOCKED &&
                   beat_of(each->loop) == each->beat &&
                   each->loop->l_depth > 0;
    PyObject *result = PyObject_CallFunction(
        dog->function, "OONkdOOz", each->kind == ENDED ? Py_True : Py_False,
        loop != NULL ? loop : Py_None, PyLong_FromVoidPtr(each->loop),
        each->thread, each->seconds, goes_on ? Py_True : Py_False,
        each->pulse == CL_PULSE_WAKES ? Py_True : Py_False, each->text);
    if (result == NULL)
        PyErr_WriteUnraisable(dog->function);
    Py_XDECREF(result);
    Py_XDECREF(loop);
}

/* Returns the next report, or NULL, and then the reporter ends. */
static report *
next_report(cl_watchdog *dog)
{
    cl_mutex_lock(&dog->lock);
    report *each = dog->first;
    if (each == NULL) {
        dog->reporting = false;
    }
    else {
        dog->first = each->next;
        if (dog->first == NULL)
            dog->last = &dog->first;
        /* Its stack will be taken with the GIL. */
        for (size_t i = 0; i < dog->count; i++) {
            if (dog->loops[i].number == each->number)
                dog->loops[i].number = 0;
        }
    }
    cl_mutex_unlock(&dog->lock);
    return each;
}

static void *
run_reporter(void *arg)
{
    cl_watchdog *dog = arg;
    PyThreadState *thread = PyThreadState_New(dog->interpreter);
    report *each;
    if (thread != NULL) {
        PyEval_AcquireThread(thread);
        while ((each = next_report(dog)) != NULL) {
            write_report(dog, each);
            cl_free(each->text);
            cl_free(each);
        }
        /* It was stopped meanwhile, and nobody else drops the function. */
        PyObject *function = NULL;
        cl_mutex_lock(&dog->lock);
        if (dog->owners == 1 || dog->late) {
            function = dog->function;
            dog->function = NULL;
        }
        cl_mutex_unlock(&dog->lock);
        Py_XDECREF(function);
        PyThreadState_Clear(thread);
        PyThreadState_DeleteCurrent();
    }
    cl_mutex_lock(&dog->lock);
    if (thread == NULL)
        dog->reporting = false;
    release(dog);
    return NULL;
}

/* Starts the reporter, if there are reports and it does not run. The lock is
 * held. If there can be no thread now, the next look tries again. */
static void
start_reporter(cl_watchdog *dog)
{
    if (dog->first == NULL || dog->reporting)
        return;
    dog->owners++;
    if (start_thread(&dog->reporter, run_reporter, dog, true) == 0)
        dog->reporting = true;
    else
        dog->owners--;
}

/* Queues a report. The lock is held. */
static void
tell(cl_watchdog *dog, watched *each, int kind, double seconds)
{
    report *made = cl_calloc(1, sizeof(*made));
    if (made == NULL)
        return;
    made->kind = kind;
    made->loop = each->loop;
    made->thread = LOAD_SHARED(each->loop->l_turn_thread);
    made->beat = each->beat;
    made->number = each->number;
    made->pulse = each->pulse;
    made->seconds = seconds;
    *dog->last = made;
    dog->last = &made->next;
}

static void
tell_end(cl_watchdog *dog, watched *each, int64_t now_ns)
{
    tell(dog, each, ENDED, (double)(now_ns - each->earliest_ns) / 1e9);
}

/* --------------------------------------------------------- without the GIL */

static known_file
know_file(int fd)
{
    struct stat now;
    return fd < 0 || fstat(fd, &now) < 0
               ? (known_file){.fd = -1}
               : (known_file){fd, now.st_dev, now.st_ino};
}

static bool
is_there(const known_file *file)
{
    known_file now = know_file(file->fd);
    return now.fd >= 0 && now.device == file->device &&
           now.inode == file->inode;
}

/* Returns all that faulthandler wrote, to be freed; or NULL. */
static char *
dump_all(cl_watchdog *dog)
{
    int fd = dog->dumped.fd;
    if (dog->dump == NULL || !is_there(&dog->dumped) || ftruncate(fd, 0) < 0 ||
        lseek(fd, 0, SEEK_SET) < 0)
        return NULL;
    dog->dump(dog->dump_signal);
    char *text = cl_malloc(TEXT_MAX + 1);
    ssize_t size = text == NULL ? -1 : pread(fd, text, TEXT_MAX, 0);
    if (size <= 0) {
        cl_free(text);
        return NULL;
    }
    text[size] = '\0';
    return text;
}

/* Copies to `to` the lines of the thread, without their heading (such as
 * `Thread 0x00007f (most recent call first):`); or those of all others. Returns
 * the end of what it wrote. */
static char *
copy_lines(char *to, const char *text, unsigned long thread, bool others)
{
    bool its = false;
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        const char *number = strstr(text, "hread 0x");
        bool heading = *text != ' ';
        if (heading)
            its = number != NULL && number < text + length &&
                  strtoul(number + 6, NULL, 16) == thread;
        if (length > 0 && its != others && !(heading && its)) {
            memcpy(to, text, length);
            to += length;
            *to++ = '\n';
        }
        text += length + (text[length] != '\0');
    }
    *to = '\0';
    return to;
}

/* Returns the text with the thread's lines first, or a line that says that
 * there are none; steals the text. */
static char *
put_first(char *text, unsigned long thread)
{
    /* A last line may have no end. */
    char *sorted = cl_malloc(sizeof(NO_STACK) + strlen(text) + 1);
    if (sorted != NULL) {
        char *end = copy_lines(sorted, text, thread, false);
        if (end == sorted) {
            memcpy(sorted, NO_STACK, sizeof(NO_STACK) - 1);
            end += sizeof(NO_STACK) - 1;
        }
        (void)copy_lines(end, text, thread, true);
    }
    cl_free(text);
    return sorted;
}

/* Writes to a descriptor. What can't be written is lost, and so is what nobody
 * reads in time: whoever stops the watchdog waits for this. */
static void
write_all(int fd, const char *text)
{
    int64_t until_ns = cl_now_ns() + (int64_t)LAST_REPORT_S * CL_NS_PER_S;
    size_t left = strlen(text);
    while (left > 0) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        int64_t wait_ns = until_ns - cl_now_ns();
        if (wait_ns < 0 || poll(&ready, 1, (int)(wait_ns / 1000000)) <= 0)
            return; /* signals are blocked, so it is not EINTR */
        ssize_t written = write(fd, text, left < WRITE_MAX ? left : WRITE_MAX);
        if (written < 0 && errno != EINTR && errno != EAGAIN)
            return;
        if (written > 0) {
            text += written;
            left -= (size_t)written;
        }
    }
}

/* Writes and frees `unwritten`. The lock is held, and released meanwhile: a
 * loop must not wait for whoever reads this. */
static void
write_out(cl_watchdog *dog)
{
    char *whole = dog->unwritten;
    dog->unwritten = NULL;
    cl_mutex_unlock(&dog->lock);
    if (is_there(&dog->out))
        write_all(dog->out.fd, whole);
    cl_free(whole);
    cl_mutex_lock(&dog->lock);
}

/* Returns a copy of a stack below a line that says what it is, or NULL. */
static char *
with_heading(const char *text, double seconds, bool wakes)
{
    size_t size = strlen(text) + 200;
    char *whole = cl_malloc(size);
    /* Not %f, which writes a comma in some locales. */
    long long hundredths = (long long)(seconds * 100 + 0.5);
    if (whole != NULL)
        snprintf(
            whole, size,
            "cloop: the loop has been blocked for %lld.%02lld s: %s keeps "
            "the interpreter (most recent call first)\n%s",
            hundredths / 100, hundredths % 100,
            wakes ? "another thread" : "C code", text);
    return whole;
}

/* The reporter can't have the GIL: takes the stack without, and hands it to
 * the report. The lock is held. */
static void
take_stack(cl_watchdog *dog, watched *each, double seconds)
{
    report *waiting = dog->first;
    while (waiting != NULL &&
           (waiting->number != each->number || waiting->kind != BLOCKED))
        waiting = waiting->next;
    each->number = 0;
    char *text = waiting == NULL ? NULL : dump_all(dog);
    if (text == NULL || (text = put_first(text, waiting->thread)) == NULL)
        return;
    if (dog->out.fd >= 0)
        dog->unwritten =
            with_heading(text, seconds, each->pulse == CL_PULSE_WAKES);
    waiting->text = text;
}

/* --------------------------------------------------------------------- watcher */

/* When the callback that runs now can have begun at the earliest. */
static int64_t
earliest(cl_watchdog *dog, const LoopObject *loop, int64_t now_ns)
{
    /* The turn began, or its poll returned, this long ago. */
    double age_ns = (double)(cl_ticks() - LOAD(loop->l_mark_ticks)) /
                    dog->rate.ticks_per_ns;
    int64_t marked_ns = now_ns - (int64_t)(age_ns < 1e15 ? age_ns : 1e15);
    return marked_ns > dog->looked_ns ? marked_ns : dog->looked_ns;
}

static void
look_at(cl_watchdog *dog, watched *each, int64_t now_ns)
{
    /* If the process was stopped, or this thread could not run, the loop's
     * thread may not have run either. */
    int64_t passed_ns = now_ns - dog->looked_ns;
    int64_t limit_ns = dog->every_ns + dog->threshold_ns / 2;
    const LoopObject *loop = each->loop;
    uint64_t beat = beat_of(loop);
    int pulse = LOAD_SHARED(loop->l_pulse);
    bool active = LOAD_SHARED(loop->l_depth) > 0 && pulse != CL_PULSE_SLEEPS;
    if (!active || !each->active || beat != each->beat ||
        pulse != each->pulse) {
        if (each->told)
            tell_end(dog, each, now_ns);
        each->told = false;
        each->number = 0;
        each->earliest_ns = earliest(dog, loop, now_ns);
        /* It slept, and this is the first callback after the poll, which
         * therefore began when the poll returned. */
        bool first = !each->active && each->pulse == CL_PULSE_SLEEPS &&
                     pulse == CL_PULSE_RUNS && beat == each->beat + 2;
        each->seen_ns = first && dog->looks > 1 && passed_ns < 2 * limit_ns
                            ? now_ns - each->earliest_ns
                            : 0;
    }
    else if (!each->told &&
             (each->seen_ns += passed_ns < limit_ns ? passed_ns : limit_ns) >=
                 dog->threshold_ns) {
        each->told = true;
        each->told_ns = now_ns;
        each->number = ++dog->numbers;
        tell(dog, each, BLOCKED, (double)(now_ns - each->earliest_ns) / 1e9);
    }
    else if (each->told && each->number != 0 && dog->unwritten == NULL &&
             now_ns - each->told_ns >= dog->patience_ns) {
        take_stack(dog, each, (double)(now_ns - each->earliest_ns) / 1e9);
    }
    each->beat = beat;
    each->pulse = pulse;
    each->active = active;
}

/* Waits until it is time to look again. The lock is held, and released
 * meanwhile. */
static void
wait_to_look(cl_watchdog *dog)
{
    int64_t wait_ns = 2 * dog->every_ns;
    for (size_t i = 0; i < dog->count; i++) {
        if (dog->loops[i].active && wait_ns > dog->every_ns)
            wait_ns = dog->every_ns;
        if (dog->loops[i].told && wait_ns > CLOSE_LOOK_NS)
            wait_ns = CLOSE_LOOK_NS;
    }
    int64_t until_ns = cl_now_ns() + wait_ns;
    while (!dog->stopping &&
           cl_cond_wait(&dog->changed, &dog->lock, until_ns) == 0)
        ;
}

static void *
run_watcher(void *arg)
{
    cl_watchdog *dog = arg;
    cl_mutex_lock(&dog->lock);
    dog->looked_ns = cl_now_ns();
    while (!dog->stopping) {
        wait_to_look(dog);
        int64_t now_ns = cl_now_ns();
        cl_rate_learn(&dog->rate, cl_ticks(), now_ns);
        for (size_t i = 0; i < dog->count && !dog->stopping; i++)
            look_at(dog, &dog->loops[i], now_ns);
        start_reporter(dog);
        dog->looked_ns = now_ns;
        dog->looks++;
        if (dog->unwritten != NULL)
            write_out(dog);
    }
    cl_mutex_unlock(&dog->lock);
    return NULL;
}

/* ----------------------------------------------------------------------- loops */

/* 0 or -ENOMEM. */
static int
add(cl_watchdog *dog, LoopObject *loop)
{
    int err = 0;
    cl_mutex_lock(&dog->lock);
    if (dog->count == dog->capacity) {
        size_t capacity = dog->capacity ? 2 * dog->capacity : CL_TINY(1, 4);
        watched *loops = cl_realloc(dog->loops, capacity * sizeof(*loops));
        if (loops != NULL) {
            dog->loops = loops;
            dog->capacity = capacity;
        }
        else {
            err = -ENOMEM;
        }
    }
    if (err == 0)
        dog->loops[dog->count++] = (watched){.loop = loop};
    cl_mutex_unlock(&dog->lock);
    return err;
}

void
cl_watchdog_add(LoopObject *loop)
{
    CL_MUTEX_LOCK(&loop->l_st->loops_lock);
    if (loop->l_st->watchdog != NULL)
        (void)add(loop->l_st->watchdog, loop); /* else it is not watched */
    CL_MUTEX_UNLOCK(&loop->l_st->loops_lock);
}

void
cl_watchdog_remove(LoopObject *loop)
{
    CL_MUTEX_LOCK(&loop->l_st->loops_lock);
    cl_watchdog *dog = loop->l_st->watchdog;
    if (dog != NULL) {
        cl_mutex_lock(&dog->lock);
        for (size_t i = 0; i < dog->count; i++) {
            if (dog->loops[i].loop == loop) {
                if (dog->loops[i].told) /* nobody has seen its end yet */
                    tell_end(dog, &dog->loops[i], cl_now_ns());
                dog->loops[i--] = dog->loops[--dog->count];
            }
        }
        start_reporter(dog);
        cl_mutex_unlock(&dog->lock);
    }
    CL_MUTEX_UNLOCK(&loop->l_st->loops_lock);
}

/* ---------------------------------------------------------------- start, stop */

static void
wait_for_reporter(cl_watchdog *dog)
{
    int64_t until_ns = cl_now_ns() + LAST_REPORT_S * CL_NS_PER_S;
    /* Its function may be what stops the watchdog. */
    while (dog->owners > 1 &&
           !(dog->reporting && pthread_equal(dog->reporter, pthread_self())) &&
           cl_cond_wait(&dog->changed, &dog->lock, until_ns) == 0)
        ;
}

/* Frees late watchdogs whose reporters have ended. Runs Python. */
static void
free_late(cl_state *st)
{
    cl_watchdog **link = &st->late_watchdogs, *dog;
    while ((dog = *link) != NULL) {
        cl_mutex_lock(&dog->lock);
        if (dog->owners > 1) {
            cl_mutex_unlock(&dog->lock);
            link = &dog->next_late;
            continue;
        }
        *link = dog->next_late;
        PyObject *function = dog->function;
        release(dog);
        Py_XDECREF(function);
        link = &st->late_watchdogs;
    }
}

/* Runs Python. */
static void
stop(cl_state *st)
{
    free_late(st);
    CL_MUTEX_LOCK(&st->loops_lock);
    cl_watchdog *dog = st->watchdog;
    if (dog != NULL && CL_FREE_THREADED) {
        cl_mutex_lock(&dog->lock);
        dog->stopping = true;
        cl_mutex_unlock(&dog->lock);
        st->watchdog = NULL;
    }
    CL_MUTEX_UNLOCK(&st->loops_lock);
    if (dog == NULL)
        return;
    PyObject *function = dog->function;
    bool late = false;
    /* The watcher looks at no loop from here on. With the GIL: until then,
     * cl_watchdog_remove() must find the watchdog. */
    cl_mutex_lock(&dog->lock);
    dog->stopping = true;
    pthread_cond_broadcast(&dog->changed);
    cl_mutex_unlock(&dog->lock);
    if (!CL_FREE_THREADED) /* else it is, and by now others may look */
        st->watchdog = NULL;
    Py_BEGIN_ALLOW_THREADS
    pthread_join(dog->thread, NULL);
    cl_mutex_lock(&dog->lock);
    wait_for_reporter(dog);
    /* If it goes on, it needs the function. */
    if (dog->owners > 1) {
        function = NULL;
        late = dog->late = dog->interpreter != PyInterpreterState_Main();
    }
    if (late)
        cl_mutex_unlock(&dog->lock);
    else
        release(dog);
    Py_END_ALLOW_THREADS
    if (late) {
        dog->next_late = st->late_watchdogs;
        st->late_watchdogs = dog;
    }
    Py_XDECREF(function);
}

void
cl_watchdog_at_exit(cl_state *st)
{
    cl_watchdog *dog;
    while ((dog = st->late_watchdogs) != NULL) {
        PyObject *function;
        st->late_watchdogs = dog->next_late;
        Py_BEGIN_ALLOW_THREADS
        cl_mutex_lock(&dog->lock);
        while (dog->owners > 1)
            pthread_cond_wait(&dog->changed, &dog->lock);
        function = dog->function;
        release(dog);
        Py_END_ALLOW_THREADS
        Py_XDECREF(function);
    }
}

static int
add_open_loops(cl_state *st, cl_watchdog *dog)
{
    for (LoopObject *loop = st->loops; loop != NULL;
         loop = loop->l_next_open) {
        if (add(dog, loop) < 0)
            return -1;
    }
    return 0;
}

static cl_watchdog *
new_watchdog(cl_state *st)
{
    cl_watchdog *dog = cl_calloc(1, sizeof(*dog));
    if (dog == NULL)
        return NULL;
    dog->st = st;
    dog->interpreter = PyInterpreterState_Get();
    dog->owners = 1;
    dog->last = &dog->first;
    cl_rate_init(&dog->rate);
    cl_mutex_init(&dog->lock);
    cl_cond_init(&dog->changed);
    return dog;
}

PyDoc_STRVAR(
    start_doc,
    "_watchdog_start(function, threshold, every, out_fd, dump, signum, "
    "dump_fd, /)\n--\n\n"
    "Watch all loops, instead of what was watched before. Times are in "
    "seconds. A stack that\n"
    "is taken without the GIL goes to out_fd (-1: nowhere): dump is the "
    "address of a C function\n"
    "that writes it to dump_fd, called with signum; 0 if there is none.");

static PyObject *
watchdog_start(PyObject *module, PyObject *args)
{
    cl_state *st = PyModule_GetState(module);
    PyObject *function, *dump;
    double threshold, every;
    int out_fd, signum, dump_fd;
    if (!PyArg_ParseTuple(args, "OddiOii:_watchdog_start", &function,
                          &threshold, &every, &out_fd, &dump, &signum,
                          &dump_fd))
        return NULL;
    void *address = PyLong_AsVoidPtr(dump);
    if (address == NULL && PyErr_Occurred())
        return NULL;
    stop(st);
    cl_watchdog *dog = new_watchdog(st);
    if (dog == NULL)
        return PyErr_NoMemory();
    dog->threshold_ns = (int64_t)(threshold * 1e9);
    dog->every_ns = (int64_t)(every * 1e9);
    dog->patience_ns = dog->threshold_ns / 2;
    if (dog->patience_ns < PATIENCE_MIN_NS)
        dog->patience_ns = PATIENCE_MIN_NS;
    if (dog->patience_ns > PATIENCE_MAX_NS)
        dog->patience_ns = PATIENCE_MAX_NS;
    dog->out = know_file(out_fd);
    memcpy(&dog->dump, &address, sizeof(address));
    dog->dump_signal = signum;
    dog->dumped = know_file(dump_fd);
    dog->function = Py_NewRef(function);
    CL_MUTEX_LOCK(&st->loops_lock);
    int err = add_open_loops(st, dog) < 0
                  ? ENOMEM
                  : start_thread(&dog->thread, run_watcher, dog, false);
    if (err == 0)
        st->watchdog = dog;
    CL_MUTEX_UNLOCK(&st->loops_lock);
    if (err != 0) {
        Py_CLEAR(dog->function);
        cl_mutex_lock(&dog->lock);
        release(dog);
        return cl_none_or_error(cl_raise_errno(-err));
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stop_doc, "_watchdog_stop()\n--\n\n"
                       "Stop watching. A report that is being written is "
                       "waited for, a second at most.");

static PyObject *
watchdog_stop(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    stop(PyModule_GetState(module));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(handler_doc,
             "_signal_handler(signum, /)\n--\n\n"
             "Return the address of the C function that handles a signal, and "
             "restore the default.\n"
             "0 if none does.");

static PyObject *
signal_handler(PyObject *Py_UNUSED(module), PyObject *number)
{
    struct sigaction action, fresh = {.sa_handler = SIG_DFL};
    long signum = PyLong_AsLong(number);
    if (signum == -1 && PyErr_Occurred())
        return NULL;
    if (sigaction((int)signum, NULL, &action) < 0 ||
        action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN ||
        (action.sa_flags & SA_SIGINFO) ||
        sigaction((int)signum, &fresh, NULL) < 0)
        return PyLong_FromLong(0);
    void *address;
    memcpy(&address, &action.sa_handler, sizeof(address));
    return PyLong_FromVoidPtr(address);
}

PyDoc_STRVAR(open_loops_doc, "_open_loops()\n--\n\n"
                             "Return a list of the open loops, the newest "
                             "first.");

static PyObject *
open_loops(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return cl_loop_list(PyModule_GetState(module));
}

PyDoc_STRVAR(pulse_doc,
             "_pulse(loop, /)\n--\n\n"
             "Return (beat, state): a number that changes with each callback, "
             "turn and poll, and\n"
             "'stopped', 'sleeps', 'runs' or 'waits' (for the GIL).");

static PyObject *
pulse(PyObject *Py_UNUSED(module), PyObject *object)
{
    static const char *const names[] = {"runs", "sleeps", "waits"};
    LoopObject *loop = cl_loop_cast(object);
    if (loop == NULL) {
        PyErr_SetString(PyExc_TypeError, "a loop of cloop was expected");
        return NULL;
    }
    return Py_BuildValue("(Ks)", (unsigned long long)beat_of(loop),
                         loop->l_depth > 0 ? names[loop->l_pulse] : "stopped");
}

PyMethodDef cl_watchdog_methods[] = {
    {"_pulse", pulse, METH_O, pulse_doc},
    {"_open_loops", open_loops, METH_NOARGS, open_loops_doc},
    {"_watchdog_start", watchdog_start, METH_VARARGS, start_doc},
    {"_watchdog_stop", watchdog_stop, METH_NOARGS, stop_doc},
    {"_signal_handler", signal_handler, METH_O, handler_doc},
    {NULL}};

int
cl_watchdog_traverse(cl_state *st, visitproc visit, void *arg)
{
    if (st->watchdog != NULL)
        Py_VISIT(st->watchdog->function);
    return 0;
}

void
cl_watchdog_clear(cl_state *st)
{
    stop(st);
}
