/* test_inbox.c - the inbox, used as the loop uses it. */
#include "core/inbox.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define THREADS 4
#define PUSHES 20000
#define PATIENCE_MS 20000 /* a longer sleep means a lost wakeup */

static cl_node
numbered(unsigned number, unsigned kind)
{
    return (cl_node)number * (CL_NODE_KIND_MASK + 1) + kind;
}

static unsigned
number_of(cl_node node)
{
    return (unsigned)(node / (CL_NODE_KIND_MASK + 1));
}

static int
bytes_written(cl_inbox *inbox)
{
    unsigned char buffer[64];
    return cl_inbox_read(inbox, buffer, sizeof(buffer));
}

static void
test_descriptors(cl_inbox *inbox, cl_ring *ring)
{
    int fds[] = {inbox->i_read_fd, inbox->i_write_fd};
    for (int i = 0; i < 2; i++) {
        CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
    }
    CHECK_INT(bytes_written(inbox), 0);
}

static void
test_drain_appends_in_order(cl_inbox *inbox, cl_ring *ring)
{
    CHECK_INT(cl_ring_push(ring, numbered(0, 0)), 0);
    CHECK(!cl_inbox_filled(inbox));
    for (unsigned i = 1; i < 3000; i++)
        CHECK_INT(cl_inbox_push(inbox, numbered(i, i % 2)), 0);
    CHECK(cl_inbox_filled(inbox));
    CHECK_INT(cl_inbox_drain(inbox, ring), 0);
    CHECK(!cl_inbox_filled(inbox));
    CHECK_INT(cl_inbox_drain(inbox, ring), 0);
    CHECK_INT(cl_ring_count(ring), 3000);
    for (unsigned i = 0; i < 3000; i++)
        CHECK(cl_ring_pop(ring) == numbered(i, i % 2));
}

static void
test_check_finds_what_is_broken(cl_inbox *inbox, cl_ring *ring)
{
    CHECK_INT(cl_inbox_push(inbox, numbered(1, 0)), 0);
    cl_inbox_check(inbox);
    inbox->i_asleep = true;
    CHECK_ASSERTS(cl_inbox_check(inbox), "it sleeps over 1 nodes");
    inbox->i_asleep = false;
    atomic_store(&inbox->i_filled, false);
    CHECK_ASSERTS(cl_inbox_check(inbox), "cl_inbox_filled(inbox)");
    atomic_store(&inbox->i_filled, true);
    size_t capacity = inbox->i_capacity;
    inbox->i_capacity = 0;
    CHECK_ASSERTS(cl_inbox_check(inbox), "1 of 0");
    inbox->i_capacity = capacity;
    int fd = inbox->i_write_fd;
    inbox->i_write_fd = -1;
    CHECK_ASSERTS(cl_inbox_check(inbox), "and -1");
    inbox->i_write_fd = fd;
    CHECK_ASSERTS(cl_inbox_reopen(inbox), "i_read_fd < 0");
    CHECK_INT(cl_inbox_drain(inbox, ring), 0);
}

static void
test_close_drops_what_is_left(cl_inbox *inbox, cl_ring *ring)
{
    for (unsigned i = 0; i < 100; i++)
        CHECK_INT(cl_inbox_push(inbox, numbered(i, 0)), 0);
}

static void
test_push_writes_nothing_while_the_loop_is_awake(cl_inbox *inbox,
                                                 cl_ring *ring)
{
    CHECK_INT(cl_inbox_push(inbox, numbered(1, 0)), 0);
    CHECK_INT(bytes_written(inbox), 0);
    CHECK(!cl_inbox_sleep(inbox));
    CHECK_INT(cl_inbox_push(inbox, numbered(2, 0)), 0);
    CHECK_INT(bytes_written(inbox), 0);
    CHECK_INT(cl_inbox_drain(inbox, ring), 0);
    CHECK(cl_inbox_sleep(inbox));
    cl_inbox_awake(inbox);
    CHECK_INT(cl_inbox_push(inbox, numbered(3, 0)), 0);
    CHECK_INT(bytes_written(inbox), 0);
}

static void
test_first_push_wakes_a_sleeping_loop(cl_inbox *inbox, cl_ring *ring)
{
    CHECK(cl_inbox_sleep(inbox));
    for (unsigned i = 0; i < 10; i++)
        CHECK_INT(cl_inbox_push(inbox, numbered(i, 0)), 0);
    CHECK_INT(bytes_written(inbox), 1);
    cl_inbox_awake(inbox);
    CHECK_INT(bytes_written(inbox), 0);
}

static void
test_wake_is_kept_for_the_next_sleep(cl_inbox *inbox, cl_ring *ring)
{
    struct pollfd entry = {inbox->i_read_fd, POLLIN, 0};
    cl_inbox_wake(inbox);
    CHECK(cl_inbox_sleep(inbox));
    CHECK_INT(poll(&entry, 1, PATIENCE_MS), 1);
    cl_inbox_awake(inbox);
    CHECK_INT(bytes_written(inbox), 1);
}

static void
test_full_pipe_stops_nobody(cl_inbox *inbox, cl_ring *ring)
{
    for (int i = 0; i < 100000; i++)
        cl_inbox_wake(inbox);
    CHECK(cl_inbox_sleep(inbox));
    CHECK_INT(cl_inbox_push(inbox, numbered(1, 0)), 0);
    CHECK_INT(cl_inbox_drain(inbox, ring), 0);
    CHECK_INT(cl_ring_count(ring), 1);
    while (bytes_written(inbox) > 0)
        continue;
    CHECK(cl_inbox_sleep(inbox));
    CHECK_INT(cl_inbox_push(inbox, numbered(2, 0)), 0);
    CHECK_INT(bytes_written(inbox), 1);
}

static void
test_signal_numbers_come_through(cl_inbox *inbox, cl_ring *ring)
{
    unsigned char buffer[64];
    cl_inbox_wake(inbox);
    CHECK_INT(write(inbox->i_write_fd, "\2\17", 2), 2);
    CHECK_INT(cl_inbox_read(inbox, buffer, 2), 2);
    CHECK(memcmp(buffer, "\0\2", 2) == 0);
    CHECK_INT(cl_inbox_read(inbox, buffer, sizeof(buffer)), 1);
    CHECK_INT(buffer[0], 15);
}

typedef struct {
    cl_inbox *inbox;
    unsigned kind;
} pusher;

static void *
push_all(void *arg)
{
    const pusher *self = arg;
    for (unsigned i = 0; i < PUSHES; i++)
        CHECK_INT(cl_inbox_push(self->inbox, numbered(i, self->kind)), 0);
    return NULL;
}

/* A turn of the loop. If a wakeup is lost, it sleeps until the timeout. */
static void
turn(cl_inbox *inbox, cl_ring *ring)
{
    struct pollfd entry = {inbox->i_read_fd, POLLIN, 0};
    if (cl_inbox_sleep(inbox)) {
        CHECK_INT(poll(&entry, 1, PATIENCE_MS), 1);
        cl_inbox_awake(inbox);
        CHECK(bytes_written(inbox) > 0);
    }
    if (cl_inbox_filled(inbox))
        CHECK_INT(cl_inbox_drain(inbox, ring), 0);
}

/* No node is lost, and those of each thread stay in order. */
static void
test_several_threads(cl_inbox *inbox, cl_ring *ring)
{
    pthread_t threads[THREADS];
    pusher pushers[THREADS];
    unsigned next[THREADS] = {0};
    for (unsigned i = 0; i < THREADS; i++) {
        pushers[i] = (pusher){inbox, i};
        CHECK_INT(pthread_create(&threads[i], NULL, push_all, &pushers[i]), 0);
    }
    for (unsigned left = THREADS * PUSHES; left > 0;) {
        turn(inbox, ring);
        for (; cl_ring_count(ring) > 0; left--) {
            cl_node node = cl_ring_pop(ring);
            CHECK_INT(number_of(node), next[cl_node_kind(node)]++);
        }
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK(cl_inbox_sleep(inbox));
}

static void
in_child(void (*function)(cl_inbox *inbox), cl_inbox *inbox)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        function(inbox);
        _exit(0);
    }
    CHECK(pid > 0);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

static void
wake_in_child(cl_inbox *inbox)
{
    cl_inbox_after_fork(inbox);
    CHECK_INT(inbox->i_write_fd, -1);
    cl_inbox_wake(inbox); /* there is no pipe to write to */
    CHECK_INT(cl_inbox_push(inbox, numbered(1, 0)), 0);
    CHECK_INT(cl_inbox_reopen(inbox), 0);
    cl_inbox_wake(inbox);
    CHECK_INT(bytes_written(inbox), 1);
}

/* The thread that holds the lock in the parent does not exist in the child. */
static void
push_in_child(cl_inbox *inbox)
{
    cl_inbox_after_fork(inbox);
    CHECK_INT(cl_inbox_push(inbox, numbered(1, 0)), 0);
}

static void
test_child_does_not_wake_the_parent(cl_inbox *inbox, cl_ring *ring)
{
    CHECK(cl_inbox_sleep(inbox));
    in_child(wake_in_child, inbox);
    CHECK_INT(bytes_written(inbox), 0);
    pthread_mutex_lock(&inbox->i_lock);
    in_child(push_in_child, inbox);
    pthread_mutex_unlock(&inbox->i_lock);
}

static void
with_inbox(void (*test)(cl_inbox *inbox, cl_ring *ring))
{
    cl_inbox inbox;
    cl_ring ring;
    CHECK_INT(cl_inbox_open(&inbox), 0);
    CHECK_INT(cl_ring_init(&ring), 0);
    test(&inbox, &ring);
    cl_ring_free(&ring);
    cl_inbox_close(&inbox);
    CHECK_INT(inbox.i_read_fd, -1);
}

int
main(void)
{
    with_inbox(test_descriptors);
    with_inbox(test_drain_appends_in_order);
    with_inbox(test_close_drops_what_is_left);
    with_inbox(test_push_writes_nothing_while_the_loop_is_awake);
    with_inbox(test_first_push_wakes_a_sleeping_loop);
    with_inbox(test_wake_is_kept_for_the_next_sleep);
    with_inbox(test_full_pipe_stops_nobody);
    with_inbox(test_signal_numbers_come_through);
    with_inbox(test_child_does_not_wake_the_parent);
    with_inbox(test_several_threads);
    with_inbox(test_check_finds_what_is_broken);
    return 0;
}
