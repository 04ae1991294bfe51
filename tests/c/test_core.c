/* test_core.c - a loop with only the core layer linked. */
#include "core/global.h"
#include "core/layer.h"
#include "core/loop.h"

#include <unistd.h>

#define TEST_STATE_STRUCT cl_state
#define TEST_LOOP_STRUCT LoopObject
#define TEST_INIT PyInit_test_core
static const cl_layer test_layer;
static const cl_layer *const layers[] = {&cl_core_layer, &test_layer, NULL};

#include "python.h"

/* ----------------------------------------------- a kind of node for tests */

enum { NUMBER = CL_NODE_CORE_KINDS };

/* A node to push, and what the loop did with it. */
typedef struct {
    uint64_t ran, dropped, lost;
    LoopObject *pushes_into;
} number;

static uint64_t clock_of_runs;

static int
number_run(LoopObject *loop, cl_node node)
{
    number *self = cl_node_pointer(node);
    self->ran = ++clock_of_runs;
    if (self->pushes_into != NULL) {
        CHECK(self->pushes_into == loop);
        self->pushes_into = NULL;
        return cl_loop_push(loop, cl_node_make(self, NUMBER));
    }
    return 0;
}

static void
number_drop(cl_node node, bool lost)
{
    number *self = cl_node_pointer(node);
    self->dropped++;
    self->lost += lost;
}

static int
number_visit(cl_node Py_UNUSED(node), visitproc Py_UNUSED(visit),
             void *Py_UNUSED(arg))
{
    return 0;
}

#ifdef CL_DEBUG
static PyObject *
number_check(const LoopObject *Py_UNUSED(loop), cl_node Py_UNUSED(node))
{
    return Py_None; /* the node refers to no object */
}
#endif

static const cl_node_ops number_ops = {.run = number_run,
                                       .drop = number_drop,
                                       .visit = number_visit,
                                       CL_NODE_CHECK(number_check)};
static const cl_node_row nodes[] = {{NUMBER, &number_ops}, {0}};

static int made, emptied;

static int
note_init(LoopObject *Py_UNUSED(loop))
{
    made++;
    return 0;
}

static void
note_free(LoopObject *Py_UNUSED(loop))
{
    emptied++;
}

static const cl_layer test_layer = {.name = "test",
                                    .nodes = nodes,
                                    .loop_init = note_init,
                                    .loop_free = note_free};

static void
nodes_run_in_order_and_those_pushed_meanwhile_in_the_next_turn(
    PyTypeObject *type)
{
    LoopObject *loop = new_loop(type);
    number first = {.pushes_into = loop}, second = {0};
    clock_of_runs = 0;
    CHECK_PYTHON(cl_loop_push(loop, cl_node_make(&first, NUMBER)) == 0);
    CHECK_PYTHON(cl_loop_push(loop, cl_node_make(&second, NUMBER)) == 0);
    CHECK_PYTHON(cl_loop_turn(loop) == 0);
    CHECK_INT(first.ran, 1);
    CHECK_INT(second.ran, 2);
    CHECK_INT(cl_ring_count(&loop->l_ready), 1);
    CHECK_PYTHON(cl_loop_turn(loop) == 0);
    CHECK_INT(first.ran, 3);
    CHECK_INT(first.dropped, 2);
    CHECK_INT(first.lost + second.lost, 0);
    drop_loop(loop);
}

static void
a_loop_that_is_freed_loses_its_nodes(PyTypeObject *type)
{
    LoopObject *loop = new_loop(type);
    number pending = {0};
    CHECK_PYTHON(cl_loop_push(loop, cl_node_make(&pending, NUMBER)) == 0);
    drop_loop(loop);
    CHECK_INT(pending.ran, 0);
    CHECK_INT(pending.dropped, 1);
    CHECK_INT(pending.lost, 1);
}

static void
a_layer_hears_of_loops(PyTypeObject *type)
{
    made = emptied = 0;
    LoopObject *loop = new_loop(type);
    CHECK_INT(made, 1);
    CHECK_INT(emptied, 0);
    drop_loop(loop);
    CHECK_INT(emptied, 1);
}

/* ------------------------------------------------------------------------- timers */

static void
timers_fire_in_order_and_after_what_is_ready(PyTypeObject *type)
{
    LoopObject *loop = new_loop(type);
    PyObject *list = PyList_New(0), *append, *args[3];
    double now = 0;
    CHECK_PYTHON(list != NULL);
    append = PyObject_GetAttrString(list, "append");
    for (long i = 0; i < 3; i++)
        args[i] = PyLong_FromLong(i);
    loop->l_thread_id = PyThread_get_thread_ident();
    CHECK_PYTHON(cl_loop_time(loop, &now) == 0);
    for (int i = 2; i >= 1; i--) {
        TimerHandleObject *timer = cl_timer_handle_new(
            loop, now + 0.001 * i, NULL, append, &args[i], 1, NULL);
        CHECK_PYTHON(timer != NULL && cl_loop_schedule(loop, timer) == 0);
        Py_DECREF(timer);
    }
    CHECK_PYTHON(cl_loop_call_soon(loop, append, &args[0], 1, NULL) == 0);
    cl_loop_begin_run(loop);
    while (PyList_GET_SIZE(list) < 3)
        CHECK_PYTHON(cl_loop_turn(loop) == 0);
    for (long i = 0; i < 3; i++) {
        CHECK_INT(int_at(list, i), i);
        Py_DECREF(args[i]);
    }
    CHECK_INT(loop->l_timers.count, 0);
    loop->l_thread_id = 0;
    drop_loop(loop);
    Py_DECREF(append);
    Py_DECREF(list);
}

/* ----------------------------------------------------------------------- watches */

typedef struct {
    cl_watch watch;
    unsigned heard;
    int evicted;
} listener;

static listener *
listener_of(cl_watch *watch)
{
    return (listener *)((char *)watch - offsetof(listener, watch));
}

static int
listener_ready(LoopObject *Py_UNUSED(loop), cl_watch *watch, unsigned events)
{
    listener_of(watch)->heard |= events;
    return 0;
}

static void
listener_evicted(LoopObject *Py_UNUSED(loop), cl_watch *watch)
{
    listener_of(watch)->evicted++;
}

static const cl_watch_ops listener_ops = {.ready = listener_ready,
                                          .evicted = listener_evicted};

static void
a_watch_hears_of_its_descriptor(PyTypeObject *type)
{
    int ends[2];
    LoopObject *loop = new_loop(type);
    listener self = {.heard = 0};
    number node = {0};
    CHECK_INT(pipe(ends), 0);
    cl_watch_init(&self.watch, &listener_ops, NULL);
    CHECK_INT(cl_watch_start(loop, &self.watch, ends[0], CL_READ), 0);
    /* A ready node, so that the poll does not sleep. */
    CHECK_PYTHON(cl_loop_push(loop, cl_node_make(&node, NUMBER)) == 0);
    CHECK_PYTHON(cl_loop_turn(loop) == 0);
    CHECK_INT(self.heard, 0);
    CHECK_INT(write(ends[1], "x", 1), 1);
    CHECK_PYTHON(cl_loop_turn(loop) == 0);
    CHECK_INT(self.heard, CL_READ);
    cl_watch_stop(loop, &self.watch);
    CHECK_INT(self.evicted, 0);
    CHECK_INT(cl_watch_start(loop, &self.watch, ends[0], CL_READ), 0);
    drop_loop(loop);
    CHECK_INT(self.evicted, 1);
    close(ends[0]);
    close(ends[1]);
}

/* ----------------------------------------------------- globals of other modules */

static void
assign(PyObject *module, const char *name, PyObject *value)
{
    CHECK_PYTHON(PyObject_SetAttrString(module, name, value) == 0);
}

/* Uses a variable of a module, which has watchers or not. */
static void
check_global(cl_state *st)
{
    PyObject *module = PyModule_New("with_a_global");
    PyObject *name = PyUnicode_InternFromString("name");
    PyObject *value = PyList_New(0);
    cl_global first = {0}, second = {0};
    CHECK_PYTHON(module != NULL && name != NULL && value != NULL);
    assign(module, "name", value);
    CHECK_PYTHON(cl_global_init(st, &first, module, name, value) == 0);
    CHECK_PYTHON(cl_global_init(st, &second, module, name, Py_None) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(cl_global_holds(&first));
        CHECK(!cl_global_holds(&second));
        assign(module, "other", value);
        CHECK(cl_global_holds(&first));
        assign(module, "name", Py_None);
        CHECK(!cl_global_holds(&first));
        CHECK(cl_global_holds(&second));
        CHECK_PYTHON(PyObject_DelAttr(module, name) == 0);
        CHECK(!cl_global_holds(&first));
        CHECK(!cl_global_holds(&second));
        assign(module, "name", value);
    }
    cl_global_clear(st, &second);
    CHECK(!cl_global_holds(&second));
    CHECK(cl_global_holds(&first));
    assign(module, "name", Py_None);
    CHECK(!cl_global_holds(&first));
    assign(module, "name", value);
    CHECK(cl_global_holds(&first));
    cl_global_clear(st, &first);
    cl_global_clear(st, &first);
    CHECK(!cl_global_holds(&first));
    CHECK(st->globals == NULL && st->watcher_capsule == NULL);
    Py_DECREF(module);
    Py_DECREF(name);
    Py_DECREF(value);
}

#if CL_HAS_DICT_WATCHERS
#define WATCHERS_MAX 8

static int
watches_nothing(PyDict_WatchEvent Py_UNUSED(event), PyObject *Py_UNUSED(dict),
                PyObject *Py_UNUSED(key), PyObject *Py_UNUSED(value))
{
    return 0;
}

/* Takes all watchers that are left; returns how many. */
static int
take_watchers(int *ids)
{
    int count = 0;
    while ((ids[count] = PyDict_AddWatcher(watches_nothing)) >= 0)
        CHECK(++count <= WATCHERS_MAX);
    PyErr_Clear();
    return count;
}

static void
leave_watchers(const int *ids, int count)
{
    while (count-- > 0)
        CHECK_PYTHON(PyDict_ClearWatcher(ids[count]) == 0);
}
#endif

static void
a_global_that_changes_is_noticed(cl_state *st)
{
    check_global(st);
#if CL_HAS_DICT_WATCHERS
    int ids[WATCHERS_MAX + 1], count = take_watchers(ids);
    CHECK(count > 0);
    check_global(st); /* none is left */
    leave_watchers(ids, count);
    CHECK_INT(take_watchers(ids), count);
    leave_watchers(ids, count);
#endif
}

static void
run(cl_state *st, PyTypeObject *type)
{
    CHECK(st->stepless_type == NULL);
    nodes_run_in_order_and_those_pushed_meanwhile_in_the_next_turn(type);
    a_loop_that_is_freed_loses_its_nodes(type);
    a_layer_hears_of_loops(type);
    timers_fire_in_order_and_after_what_is_ready(type);
    a_watch_hears_of_its_descriptor(type);
    a_global_that_changes_is_noticed(st);
}
