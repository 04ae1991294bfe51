/* watch.c - see watch.h. */
#include "core/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "core/fork.h"
#include "core/loop.h"

/* After this many refusals, 255 ms after the first, the owner is told. */
#define ATTEMPTS 8
#define RETRY_NS ((int64_t)1000 * 1000)
#define RETRY_DOUBLINGS 7

/* Attempts to remove an interest. The kernel never refuses that, but a filter
 * of system calls may. */
#define STOP_ATTEMPTS 10

/* Values of w_refused above the number of attempts. REPORTED: nothing has been
 * refused, the change is a cl_watch_report(). */
enum { REPORTED = 253, GIVE_UP = 254, TOLD = 255 };

/* Whether the poller knows what is wanted, and reading besides. A change of
 * that waits until the poller reports it: most owners want it again soon. */
static inline bool
is_kept(const cl_watch *watch)
{
    return watch->w_ops->keeps_reading &&
           watch->w_have == (watch->w_want | CL_READ);
}

/* ----------------------------------------------------------------- invariants */

#ifdef CL_DEBUG
static bool
is_interest(unsigned bits)
{
    return bits == 0 || ((bits & (CL_READ | CL_WRITE)) != 0 &&
                         (bits & ~(CL_READ | CL_WRITE | CL_EDGE)) == 0);
}

static void
check_watch(const cl_watch_table *table, const cl_watch *watch, int fd)
{
    cl_assertf(watch->w_fd == fd, "descriptor %d says it is %d", fd,
               watch->w_fd);
    cl_assertf(watch->w_ops != NULL && watch->w_ops->ready != NULL &&
                   watch->w_ops->evicted != NULL,
               "descriptor %d", fd);
    cl_assertf((int32_t)(table->wt_generation - watch->w_generation) >= 0,
               "descriptor %d: generation %u of %u", fd, watch->w_generation,
               table->wt_generation);
    cl_assertf(is_interest(watch->w_want), "descriptor %d: %u", fd,
               watch->w_want);
    cl_assertf(is_interest(watch->w_have & ~(unsigned)CL_STALE),
               "descriptor %d: %u", fd, watch->w_have);
    cl_assertf(watch->w_change >= -1 &&
                   watch->w_change < table->wt_change_count,
               "descriptor %d: change %d of %d", fd, watch->w_change,
               table->wt_change_count);
    cl_assertf(watch->w_change < 0 ||
                   table->wt_changes[watch->w_change] == watch,
               "descriptor %d: change %d is another's", fd, watch->w_change);
}

/* Whether the poller knows what is wanted, or need not be told yet. In the child
 * of a fork, the poller is not told what the parent waits for. */
static void
check_change(const LoopObject *loop, const cl_watch *watch)
{
    cl_assertf(watch->w_want == watch->w_have || is_kept(watch) ||
                   watch->w_change >= 0 || watch->w_refused == TOLD ||
                   loop->l_fork != CL_FORK_NONE,
               "descriptor %d: %u is wanted, %u is known, refused %u",
               watch->w_fd, watch->w_want, watch->w_have, watch->w_refused);
}

void
cl_watch_check(LoopObject *loop)
{
    const cl_watch_table *table = &loop->l_watches;
    int count = 0;
    cl_assertf(table->wt_change_count <= table->wt_change_capacity, "%d of %d",
               table->wt_change_count, table->wt_change_capacity);
    cl_assertf(table->wt_count <= table->wt_change_capacity,
               "%d changes for %d", table->wt_change_capacity,
               table->wt_count);
    for (int i = 0; i < table->wt_change_count; i++) {
        const cl_watch *watch = table->wt_changes[i];
        cl_assertf(watch == NULL ||
                       (watch->w_change == i &&
                        cl_watch_find(table, watch->w_fd) == watch),
                   "change %d: descriptor %d says it is %d", i, watch->w_fd,
                   watch->w_change);
    }
    for (int fd = 0; fd < table->wt_size; fd++) {
        const cl_watch *watch = table->wt_by_fd[fd];
        if (watch == NULL)
            continue;
        count++;
        check_watch(table, watch, fd);
        check_change(loop, watch);
        if (watch->w_ops->check != NULL)
            watch->w_ops->check(loop, watch);
    }
    cl_assertf(count == table->wt_count, "%d of %d", count, table->wt_count);
    cl_assertf(table->wt_retry_ns >= 0 && table->wt_retries >= 0 &&
                   table->wt_retries <= RETRY_DOUBLINGS,
               "%d", table->wt_retries);
}

static uint64_t
file_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino
                                                               : 0;
}

bool
cl_watch_is_replaced(const cl_watch *watch)
{
    return watch->w_file == 0 || file_of(watch->w_fd) != watch->w_file;
}
#endif

void
cl_watch_table_init(cl_watch_table *table)
{
    memset(table, 0, sizeof(*table));
}

void
cl_watch_table_free(cl_watch_table *table)
{
    cl_free(table->wt_by_fd);
    cl_free(table->wt_changes);
    cl_watch_table_init(table);
}

static int
reserve_fd(cl_watch_table *table, int fd)
{
    int64_t size = table->wt_size ? table->wt_size : CL_TINY(1, 64);
    if (fd < table->wt_size)
        return 0;
    /* A number that is no descriptor may be huge. */
    if (fcntl(fd, F_GETFD) < 0)
        return -errno;
    while (size <= fd)
        size *= 2;
    if (size > INT_MAX)
        return -ENOMEM;
    cl_watch **fresh =
        cl_realloc(table->wt_by_fd, (size_t)size * sizeof(*fresh));
    if (fresh == NULL)
        return -ENOMEM;
    memset(fresh + table->wt_size, 0,
           (size_t)(size - table->wt_size) * sizeof(*fresh));
    table->wt_by_fd = fresh;
    table->wt_size = (int)size;
    return 0;
}

/* Makes room in the list of changes for one more watch. */
static int
reserve_change(cl_watch_table *table)
{
    int capacity = table->wt_change_capacity;
    if (table->wt_count < capacity)
        return 0;
    capacity = capacity ? capacity * 2 : CL_TINY(1, 16);
    cl_watch **fresh =
        cl_realloc(table->wt_changes, (size_t)capacity * sizeof(*fresh));
    if (fresh == NULL)
        return -ENOMEM;
    table->wt_changes = fresh;
    table->wt_change_capacity = capacity;
    return 0;
}

/* The table has a reference to the owner while something is wanted. */
static inline void
set_want(cl_watch *watch, unsigned want)
{
    PyObject *owner = watch->w_owner;
    bool had = watch->w_want != 0;
    cl_assertf(is_interest(want), "descriptor %d: %u", watch->w_fd, want);
    watch->w_want = (uint8_t)want;
    if (owner != NULL && had != (want != 0)) {
        /* The caller has another reference. */
        if (had) {
            cl_assert_of(owner, Py_REFCNT(owner) > 1);
            cl_ref_prepare(owner);
            Py_DECREF(owner);
        }
        else {
            Py_INCREF(owner);
        }
    }
}

/* ------------------------------------------------------------ the list of changes */

/* Removes the empty entries. */
static void
compact(cl_watch_table *table)
{
    int kept = 0;
    for (int i = 0; i < table->wt_change_count; i++) {
        cl_watch *watch = table->wt_changes[i];
        if (watch == NULL)
            continue;
        watch->w_change = kept;
        table->wt_changes[kept++] = watch;
    }
    table->wt_change_count = kept;
}

static void
list_change(cl_watch_table *table, cl_watch *watch)
{
    if (watch->w_change >= 0)
        return;
    /* There are at most wt_count, and this one is not among them. */
    if (table->wt_change_count == table->wt_change_capacity)
        compact(table);
    cl_assertf(watch->w_fd >= 0 &&
                   table->wt_change_count < table->wt_change_capacity,
               "descriptor %d: %d of %d", watch->w_fd, table->wt_change_count,
               table->wt_change_capacity);
    watch->w_change = table->wt_change_count++;
    watch->w_refused = 0;
    table->wt_changes[watch->w_change] = watch;
}

static void
unlist_change(cl_watch_table *table, cl_watch *watch)
{
    if (watch->w_change < 0)
        return;
    cl_assertf(table->wt_changes[watch->w_change] == watch,
               "descriptor %d: change %d", watch->w_fd, watch->w_change);
    table->wt_changes[watch->w_change] = NULL;
    watch->w_change = -1;
}

/* ------------------------------------------------------------------ start and stop */

/* Ends a watch without telling the poller. */
static void
forget(cl_watch_table *table, cl_watch *watch)
{
    cl_assertf(cl_watch_find(table, watch->w_fd) == watch, "descriptor %d",
               watch->w_fd);
    cl_assert(table->wt_count > 0);
    unlist_change(table, watch);
    table->wt_by_fd[watch->w_fd] = NULL;
    table->wt_count--;
    watch->w_fd = -1;
    watch->w_have = 0;
    set_want(watch, 0);
}

static void
evict(LoopObject *loop, cl_watch *watch)
{
    PyObject *owner = watch->w_owner;
    bool lives = true;
    /* If the table has no reference, another thread may be freeing it, whose
     * finalizer waits for this one, and closes it then. */
    if (watch->w_want != 0)
        Py_XINCREF(owner);
    else if (owner != NULL)
        lives = cl_ref_try(owner);
    forget(&loop->l_watches, watch);
    if (!lives)
        return;
    watch->w_ops->evicted(loop, watch);
    Py_XDECREF(owner);
}

static int
set_poller(LoopObject *loop, int fd, uint32_t generation, unsigned have,
           unsigned want)
{
    cl_assert(loop->l_poller.ops != NULL);
    return loop->l_poller.ops->set(&loop->l_poller, fd, generation, have,
                                   want);
}

int
cl_watch_start(LoopObject *loop, cl_watch *watch, int fd, unsigned want)
{
    cl_watch_table *table = &loop->l_watches;
    cl_watch *other;
    uint32_t generation;
    unsigned have = 0;
    int err;
    cl_assert_gil();
    cl_assertf(watch->w_fd < 0 && watch->w_change < 0,
               "descriptor %d is watched, not yet %d", watch->w_fd, fd);
    cl_assertf(is_interest(want) && (fd >= 0 || want != 0),
               "descriptor %d: %u", fd, want);
    cl_assertf(watch->w_ops != NULL, "descriptor %d", fd);
    /* Evicting runs Python code, which may watch anything: start again. */
    do {
        if (loop->l_poller.ops == NULL) /* closed */
            return -EBADF;
        generation = ++table->wt_generation;
        if ((err = reserve_fd(table, fd)) < 0 ||
            (err = reserve_change(table)) < 0)
            return err;
        other = cl_watch_find(table, fd);
        have = other == NULL ? 0 : other->w_have;
        /* First the poller: it knows whether the number is a descriptor. */
        if (want != 0 &&
            (err = set_poller(loop, fd, generation, have, want)) < 0)
            return err;
        if (other != NULL)
            evict(loop, other);
    } while (table->wt_generation != generation);
    watch->w_fd = fd;
    watch->w_generation = generation;
    watch->w_want = 0;
    watch->w_have = (uint8_t)want;
    watch->w_refused = 0;
    table->wt_by_fd[fd] = watch;
    table->wt_count++;
    set_want(watch, want);
    if (want == 0 && watch->w_owner != NULL)
        cl_ref_prepare(watch->w_owner);
    if (want == 0 &&
        have != 0) { /* the poller still knows the evicted watch's interest */
        watch->w_have = CL_STALE;
        list_change(table, watch);
    }
    if (want != 0)
        cl_loop_owe_polls(loop);
#ifdef CL_DEBUG
    watch->w_file = want == 0 ? 0 : file_of(fd);
#endif
    cl_check(check_watch(table, watch, fd));
    cl_check_stress(cl_watch_check(loop));
    return 0;
}

void
cl_watch_want(LoopObject *loop, cl_watch *watch, unsigned want)
{
    cl_assert_gil();
    cl_assertf(is_interest(want), "descriptor %d: %u", watch->w_fd, want);
    if (watch->w_fd < 0)
        return;
    cl_check(check_watch(&loop->l_watches, watch, watch->w_fd));
    if (want != watch->w_want)
        watch->w_refused = 0;
    if (want & ~(unsigned)watch->w_want)
        cl_loop_owe_polls(loop);
    set_want(watch, want);
    if (want != watch->w_have && !is_kept(watch))
        list_change(&loop->l_watches, watch);
    cl_check(check_change(loop, watch));
}

void
cl_watch_report(LoopObject *loop, cl_watch *watch)
{
    cl_check(check_watch(&loop->l_watches, watch, watch->w_fd));
    if (watch->w_have != 0) { /* of another that had the number: see there */
        cl_watch_want(loop, watch, CL_WRITE);
        return;
    }
    set_want(watch, CL_WRITE); /* so that the table keeps the owner alive */
    list_change(&loop->l_watches, watch);
    watch->w_refused = REPORTED;
    loop->l_watches.wt_reported = true;
    cl_loop_owe_polls(loop);
}

int
cl_watch_confirm(LoopObject *loop, cl_watch *watch)
{
    cl_check(check_watch(&loop->l_watches, watch, watch->w_fd));
    int err = set_poller(loop, watch->w_fd, watch->w_generation, watch->w_have,
                         watch->w_want);
    if (err == 0)
        watch->w_have = watch->w_want;
#ifdef CL_DEBUG
    if (err == 0)
        watch->w_file = file_of(watch->w_fd);
#endif
    return err;
}

void
cl_watch_stop(LoopObject *loop, cl_watch *watch)
{
    cl_assert_gil();
    if (watch->w_fd < 0)
        return;
    cl_check(check_watch(&loop->l_watches, watch, watch->w_fd));
    /* The watch ends now, so there is no later attempt. A lent descriptor
     * whose interest stayed would be reported for ever. */
    for (int i = 0; watch->w_have != 0 && loop->l_poller.ops != NULL &&
                    i < STOP_ATTEMPTS &&
                    set_poller(loop, watch->w_fd, watch->w_generation,
                               watch->w_have, 0) < 0;
         i++)
        ;
    forget(&loop->l_watches, watch);
    cl_check_stress(loop->l_open ? cl_watch_check(loop) : (void)0);
}

/* ---------------------------------------------------------------- the ready node */

int
cl_watch_push(LoopObject *loop, cl_watch *watch, unsigned bits)
{
    bool queued = watch->w_pending != 0;
    cl_assert_gil();
    cl_assertf(bits != 0 && bits <= UINT8_MAX, "descriptor %d: %u",
               watch->w_fd, bits);
    cl_assertf(watch->w_ops->run != NULL && watch->w_owner != NULL,
               "descriptor %d", watch->w_fd);
    watch->w_pending |= (uint8_t)bits;
    if (queued)
        return 0;
    Py_INCREF(watch->w_owner);
    return cl_loop_push(loop, cl_node_make(watch, CL_NODE_WATCH));
}

int
cl_watch_run(LoopObject *loop, cl_watch *watch)
{
    unsigned bits = watch->w_pending;
    cl_assert_of(watch->w_owner, Py_REFCNT(watch->w_owner) > 0);
    cl_assert_of(watch->w_owner, !PyErr_Occurred());
    watch->w_pending = 0; /* later events create a new node */
    return bits == 0 ? 0 : watch->w_ops->run(loop, watch, bits);
}

static int
node_run(LoopObject *loop, cl_node node)
{
    cl_loop_rest(loop);
    return cl_watch_run(loop, cl_node_pointer(node));
}

static void
node_drop(cl_node node, bool lost)
{
    cl_watch *watch = cl_node_pointer(node);
    if (lost)
        watch->w_pending = 0;
    Py_DECREF(watch->w_owner);
}

static int
node_visit(cl_node node, visitproc visit, void *arg)
{
    Py_VISIT(((cl_watch *)cl_node_pointer(node))->w_owner);
    return 0;
}

static PyObject *
node_as_handle(LoopObject *loop, cl_node node)
{
    cl_watch *watch = cl_node_pointer(node);
    PyObject *method =
        PyObject_GetAttr(watch->w_owner, loop->l_st->str__on_ready);
    HandleObject *handle =
        method == NULL ? NULL : cl_handle_new(loop, method, NULL, 0, NULL);
    Py_XDECREF(method);
    if (handle != NULL)
        cl_handle_track(handle);
    return (PyObject *)handle;
}

static PyObject *
node_name(LoopObject *Py_UNUSED(loop), cl_node node)
{
    return PyObject_Str(((cl_watch *)cl_node_pointer(node))->w_owner);
}

#ifdef CL_DEBUG
static PyObject *
node_check(const LoopObject *loop, cl_node node)
{
    const cl_watch *watch = cl_node_pointer(node);
    PyObject *owner = watch->w_owner;
    cl_assertf(owner != NULL && watch->w_ops->run != NULL, "descriptor %d",
               watch->w_fd);
    cl_assert_of(owner, Py_REFCNT(owner) > 0);
    cl_assert_of(owner,
                 watch->w_fd < 0 ||
                     cl_watch_find(&loop->l_watches, watch->w_fd) == watch);
    return owner;
}
#endif

const cl_node_ops cl_watch_node = {.run = node_run,
                                   .drop = node_drop,
                                   .visit = node_visit,
                                   .as_handle = node_as_handle,
                                   .name = node_name,
                                   CL_NODE_CHECK(node_check)};

/* ------------------------------------------------------------ telling the poller */

bool
cl_watch_may_pass(int err)
{
    return err == -ENOMEM || err == -ENOSPC;
}

/* Tells the poller. Returns false if the watch must stay in the list. */
static bool
settle(LoopObject *loop, cl_watch *watch)
{
    int err =
        watch->w_want == watch->w_have ? 0 : cl_watch_confirm(loop, watch);
    if (err == 0) {
        watch->w_refused = 0;
        return true;
    }
    if (watch->w_want == 0) /* nobody waits for it */
        watch->w_refused = TOLD;
    else if (!cl_watch_may_pass(err) || watch->w_refused == ATTEMPTS)
        watch->w_refused = GIVE_UP;
    else if (watch->w_refused < ATTEMPTS)
        watch->w_refused++;
    return false;
}

static int
tell_refused(LoopObject *loop, cl_watch *watch, int err)
{
    cl_assertf(err < 0, "descriptor %d: %d", watch->w_fd, err);
    int always = watch->w_ops->refused(loop, watch, err);
    if (always <= 0)
        return always;
    list_change(&loop->l_watches, watch); /* for the next poll */
    return watch->w_ops->ready(loop, watch, watch->w_want);
}

/* Tells the owners whose changes were refused too often. */
static int
give_up(LoopObject *loop)
{
    cl_watch_table *table = &loop->l_watches;
    for (int i = 0; i < table->wt_change_count; i++) {
        cl_watch *watch = table->wt_changes[i];
        if (watch == NULL || watch->w_refused != GIVE_UP)
            continue;
        int err =
            watch->w_want == watch->w_have ? 0 : cl_watch_confirm(loop, watch);
        if (err == 0 || !cl_watch_may_pass(err))
            unlist_change(table, watch);
        watch->w_refused = err == 0 ? 0 : TOLD;
        if (err == 0 || watch->w_ops->refused == NULL)
            continue;
        if (tell_refused(loop, watch, err) < 0)
            return -1;
        i = -1; /* Python code ran */
    }
    return 0;
}

int
cl_watch_apply(LoopObject *loop)
{
    cl_watch_table *table = &loop->l_watches;
    cl_check_stress(cl_watch_check(loop));
    bool due = table->wt_retry_ns == 0 || cl_now_ns() >= table->wt_retry_ns;
    bool refused = false, hopeless = false;
    if (table->wt_change_count == 0 && table->wt_retry_ns == 0)
        return 0;
    for (int i = 0; i < table->wt_change_count; i++) {
        cl_watch *watch = table->wt_changes[i];
        if (watch == NULL || watch->w_refused == REPORTED)
            continue;
        if ((due || watch->w_refused == 0) && settle(loop, watch)) {
            unlist_change(table, watch);
            continue;
        }
        if (watch->w_refused == GIVE_UP)
            hopeless = true;
        else
            refused = true;
    }
    if (!refused) {
        table->wt_retries = 0;
        table->wt_retry_ns = 0;
        if (!hopeless && !table->wt_reported) {
            table->wt_change_count = 0;
            return 0;
        }
    }
    else if (due) {
        table->wt_retry_ns =
            cl_now_ns() + (RETRY_NS << (table->wt_retries < RETRY_DOUBLINGS
                                            ? table->wt_retries++
                                            : RETRY_DOUBLINGS));
    }
    compact(table);
    return hopeless ? give_up(loop) : 0;
}

int64_t
cl_watch_timeout(const LoopObject *loop, int64_t timeout_ns)
{
    int64_t retry_ns = loop->l_watches.wt_retry_ns;
    if (retry_ns == 0 || timeout_ns == 0)
        return timeout_ns;
    int64_t left_ns = retry_ns - cl_now_ns();
    if (left_ns < 0)
        left_ns = 0;
    return timeout_ns < 0 || left_ns < timeout_ns ? left_ns : timeout_ns;
}

void
cl_watch_clear(LoopObject *loop)
{
    for (int fd = 0; fd < loop->l_watches.wt_size; fd++) {
        cl_watch *watch = loop->l_watches.wt_by_fd[fd];
        if (watch != NULL)
            evict(loop, watch);
    }
}

void
cl_watch_forget_poller(LoopObject *loop)
{
    const cl_ring *ready = &loop->l_ready;
    cl_watch_table *table = &loop->l_watches;
    table->wt_change_count = 0;
    table->wt_retries = 0;
    table->wt_retry_ns = 0;
    table->wt_reported = false;
    for (int fd = 0; fd < table->wt_size; fd++) {
        cl_watch *watch = table->wt_by_fd[fd];
        if (watch != NULL) {
            /* What was to be reported is asked of the next poller. */
            watch->w_have = 0;
            watch->w_change = -1;
            watch->w_refused = 0;
        }
    }
    for (uint64_t at = ready->r_head; at != ready->r_tail; at++) {
        cl_node node = cl_ring_at(ready, at);
        if (cl_node_kind(node) == CL_NODE_WATCH)
            ((cl_watch *)cl_node_pointer(node))->w_pending &=
                (uint8_t) ~(CL_READ | CL_WRITE);
    }
}

void
cl_watch_tell_all(LoopObject *loop)
{
    cl_watch_table *table = &loop->l_watches;
    for (int fd = 0; fd < table->wt_size; fd++) {
        cl_watch *watch = table->wt_by_fd[fd];
        if (watch == NULL || watch->w_want == watch->w_have ||
            watch->w_refused == REPORTED)
            continue;
        int err = cl_watch_confirm(loop, watch);
        if (err == -EBADF) /* as for a poller that has known it before */
            watch->w_have = watch->w_want;
        else if (err < 0)
            list_change(table, watch);
    }
}

int
cl_watch_traverse(LoopObject *loop, visitproc visit, void *arg)
{
    for (int fd = 0; fd < loop->l_watches.wt_size; fd++) {
        cl_watch *watch = loop->l_watches.wt_by_fd[fd];
        if (watch != NULL && watch->w_want != 0)
            Py_VISIT(watch->w_owner);
    }
    return 0;
}

static cl_watch *
watch_of(const LoopObject *loop, const cl_event *event)
{
    cl_watch *watch = cl_watch_find(&loop->l_watches, event->fd);
    return watch != NULL && watch->w_generation == event->generation ? watch
                                                                     : NULL;
}

int
cl_watch_dispatch(LoopObject *loop, const cl_event *event)
{
    cl_watch *watch = watch_of(loop, event);
    unsigned events = watch == NULL ? 0 : event->events & watch->w_want;
    cl_assertf(event->fd >= 0 && event->events != 0, "descriptor %d: %u",
               event->fd, event->events);
    if (watch != NULL && (event->events & CL_READ & ~watch->w_want) != 0 &&
        is_kept(watch))
        list_change(&loop->l_watches, watch);
    return events ? watch->w_ops->ready(loop, watch, events) : 0;
}

int
cl_watch_tell_reported(LoopObject *loop)
{
    cl_watch_table *table = &loop->l_watches;
    /* Until none is left: ready() may move them within the list. */
    while (table->wt_reported) {
        table->wt_reported = false;
        for (int i = 0; i < table->wt_change_count; i++) {
            cl_watch *watch = table->wt_changes[i];
            if (watch == NULL || watch->w_refused != REPORTED)
                continue;
            const cl_event event = {.fd = watch->w_fd,
                                    .generation = watch->w_generation};
            unlist_change(table, watch);
            watch->w_refused = 0;
            table->wt_reported = true;
            if (watch->w_ops->ready(loop, watch, CL_WRITE) < 0) {
                if ((watch = watch_of(loop, &event)) != NULL)
                    cl_watch_report(loop, watch);
                return -1;
            }
        }
    }
    return 0;
}

void
cl_watch_again(LoopObject *loop, const cl_event *event)
{
    cl_watch *watch = watch_of(loop, event);
    if (watch == NULL)
        return;
    watch->w_have |= CL_STALE;
    list_change(&loop->l_watches, watch);
}
