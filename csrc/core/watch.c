/* watch.c - see watch.h. */
#include "core/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/loop.h"

void
cl_watch_table_init(cl_watch_table *table)
{
    memset(table, 0, sizeof(*table));
}

void
cl_watch_table_free(cl_watch_table *table)
{
    free(table->wt_by_fd);
    free(table->wt_changes);
    cl_watch_table_init(table);
}

static int
reserve_fd(cl_watch_table *table, int fd)
{
    int64_t size = table->wt_size ? table->wt_size : 64;
    if (fd < table->wt_size)
        return 0;
    while (size <= fd)
        size *= 2;
    if (size > INT_MAX)
        return -ENOMEM;
    cl_watch **fresh = realloc(table->wt_by_fd, (size_t)size * sizeof(*fresh));
    if (fresh == NULL)
        return -ENOMEM;
    memset(fresh + table->wt_size, 0,
           (size_t)(size - table->wt_size) * sizeof(*fresh));
    table->wt_by_fd = fresh;
    table->wt_size = (int)size;
    return 0;
}

/* The table's reference to the owner follows what is wanted. */
static inline void
set_want(cl_watch *watch, unsigned want)
{
    PyObject *owner = watch->w_owner;
    bool had = watch->w_want != 0;
    watch->w_want = (uint8_t)want;
    if (owner != NULL && had != (want != 0)) {
        if (had)
            Py_DECREF(owner);
        else
            Py_INCREF(owner);
    }
}

/* Ends a watch without telling the poller. */
static void
forget(cl_watch_table *table, cl_watch *watch)
{
    /* A change that is still listed finds no watch, or one of a later
     * generation that is in step, and does nothing. */
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
    Py_XINCREF(owner);
    forget(&loop->l_watches, watch);
    watch->w_ops->evicted(loop, watch);
    Py_XDECREF(owner);
}

int
cl_watch_start(LoopObject *loop, cl_watch *watch, int fd, unsigned want)
{
    cl_watch_table *table = &loop->l_watches;
    cl_watch *other = cl_watch_find(table, fd);
    int err;
    if (other != NULL)
        evict(loop, other);
    uint32_t generation = ++table->wt_generation;
    /* The poller first: it knows whether the number is a descriptor at all. */
    if (want != 0 && (err = loop->l_poller.ops->set(&loop->l_poller, fd,
                                                    generation, 0, want)) < 0)
        return err;
    err = reserve_fd(table, fd);
    if (err < 0) {
        (void)loop->l_poller.ops->set(&loop->l_poller, fd, generation, want,
                                      0);
        return err;
    }
    watch->w_fd = fd;
    watch->w_generation = generation;
    watch->w_have = (uint8_t)want;
    watch->w_want = 0;
    watch->w_changed = false;
    set_want(watch, want);
    table->wt_by_fd[fd] = watch;
    table->wt_count++;
    if (want != 0)
        cl_loop_owe_polls(loop);
    return 0;
}

static int
list_change(cl_watch_table *table, cl_watch *watch)
{
    if (table->wt_change_count == table->wt_change_capacity) {
        int capacity =
            table->wt_change_capacity ? table->wt_change_capacity * 2 : 16;
        int *fresh =
            realloc(table->wt_changes, (size_t)capacity * sizeof(int));
        if (fresh == NULL)
            return -ENOMEM;
        table->wt_changes = fresh;
        table->wt_change_capacity = capacity;
    }
    table->wt_changes[table->wt_change_count++] = watch->w_fd;
    watch->w_changed = true;
    return 0;
}

int
cl_watch_want(LoopObject *loop, cl_watch *watch, unsigned want)
{
    if (watch->w_fd < 0)
        return 0;
    if (!watch->w_changed && want != watch->w_have) {
        int err = list_change(&loop->l_watches, watch);
        if (err < 0)
            return err;
    }
    if (want & ~(unsigned)watch->w_want)
        cl_loop_owe_polls(loop);
    set_want(watch, want);
    return 0;
}

int
cl_watch_confirm(LoopObject *loop, cl_watch *watch)
{
    int err = loop->l_poller.ops->set(&loop->l_poller, watch->w_fd,
                                      watch->w_generation, watch->w_have,
                                      watch->w_want);
    if (err == 0)
        watch->w_have = watch->w_want;
    return err;
}

void
cl_watch_stop(LoopObject *loop, cl_watch *watch)
{
    if (watch->w_fd < 0)
        return;
    if (watch->w_have != 0 && loop->l_poller.ops != NULL)
        (void)loop->l_poller.ops->set(&loop->l_poller, watch->w_fd,
                                      watch->w_generation, watch->w_have, 0);
    forget(&loop->l_watches, watch);
}

int
cl_watch_push(LoopObject *loop, cl_watch *watch, unsigned bits)
{
    bool queued = watch->w_pending != 0;
    watch->w_pending |= (uint8_t)bits;
    if (queued)
        return 0;
    Py_INCREF(watch->w_owner);
    if (cl_loop_push(loop, cl_node_make(watch, CL_NODE_WATCH)) < 0) {
        watch->w_pending = 0;
        return -1;
    }
    return 0;
}

int
cl_watch_apply(LoopObject *loop)
{
    cl_watch_table *table = &loop->l_watches;
    for (int i = 0; i < table->wt_change_count; i++) {
        cl_watch *watch = cl_watch_find(table, table->wt_changes[i]);
        if (watch == NULL)
            continue;
        watch->w_changed = false;
        if (watch->w_want != watch->w_have &&
            cl_watch_confirm(loop, watch) < 0 && watch->w_want != 0 &&
            watch->w_ops->ready(loop, watch, watch->w_want) < 0)
            return -1;
    }
    table->wt_change_count = 0;
    return 0;
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
    for (int fd = 0; fd < table->wt_size; fd++) {
        cl_watch *watch = table->wt_by_fd[fd];
        if (watch != NULL) {
            watch->w_have = 0;
            watch->w_changed = false;
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
        if (watch == NULL || watch->w_want == watch->w_have)
            continue;
        int err = cl_watch_confirm(loop, watch);
        if (err == -EBADF) /* as of a poller that has known it before */
            watch->w_have = watch->w_want;
        else if (err < 0 && !watch->w_changed)
            (void)list_change(table, watch);
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

int
cl_watch_dispatch(LoopObject *loop, const cl_event *event)
{
    cl_watch *watch = cl_watch_find(&loop->l_watches, event->fd);
    if (watch == NULL || watch->w_generation != event->generation)
        return 0;
    unsigned events = event->events & watch->w_want;
    return events ? watch->w_ops->ready(loop, watch, events) : 0;
}
