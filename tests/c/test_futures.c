/* test_futures.c - futures and tasks, with only the layers core and futures
 * linked. */
#include "core/args.h"
#include "core/layer.h"
#include "futures/future.h"
#include "futures/registry.h"
#include "futures/state.h"
#include "futures/task.h"

#define TEST_STATE_STRUCT cl_futures
#define TEST_LOOP_STRUCT cl_loop_futures
#define TEST_INIT PyInit_test_futures
static const cl_layer *const layers[] = {&cl_core_layer, &cl_futures_layer,
                                         NULL};

#include "python.h"

/* Runs Python code and returns its variable `result`, a new reference. */
static PyObject *
python(const char *code)
{
    PyObject *globals = PyDict_New();
    PyObject *builtins = PyImport_ImportModule("builtins");
    CHECK_PYTHON(globals != NULL && builtins != NULL &&
                 PyDict_SetItemString(globals, "__builtins__", builtins) == 0);
    PyObject *none = PyRun_String(code, Py_file_input, globals, globals);
    CHECK_PYTHON(none != NULL);
    PyObject *result = Py_XNewRef(PyDict_GetItemString(globals, "result"));
    CHECK(result != NULL);
    Py_DECREF(none);
    Py_DECREF(builtins);
    Py_DECREF(globals);
    return result;
}

static void
set_running(cl_state *st, PyObject *loop)
{
    CHECK_PYTHON(
        cl_call_void(cl_futures_of(st)->set_running_loop, loop, NULL) == 0);
}

/* Does what the C code needs of cloop/_futures.py. */
static void
find_out(cl_state *st)
{
    PyObject *made = python(
        "import asyncio\n"
        "loop = asyncio.new_event_loop()\n"
        "async def nothing(): pass\n"
        "result = [loop.create_task(nothing()) for _ in range(2)] + [loop]\n");
    PyObject *first = PyList_GET_ITEM(made, 0);
    PyObject *second = PyList_GET_ITEM(made, 1);
    PyObject *loop = PyList_GET_ITEM(made, 2);
    CHECK(cl_futures_of(st)->layouts_fit);
    set_running(st, loop);
    CHECK_INT(cl_registry_find_slots(st, first, second, loop), 1);
    set_running(st, Py_None);
    CHECK_PYTHON(cl_futures_use_own(st) == 0);
    for (int i = 0; i < 2; i++) {
        PyObject *result = PyObject_CallMethod(loop, "run_until_complete", "O",
                                               PyList_GET_ITEM(made, i));
        CHECK_PYTHON(result != NULL);
        Py_DECREF(result);
    }
    PyObject *result = PyObject_CallMethod(loop, "close", NULL);
    CHECK_PYTHON(result != NULL);
    Py_DECREF(result);
    Py_DECREF(made);
}

/* Returns a new loop that is the running one for asyncio. stop_and_drop() ends
 * that. */
static LoopObject *
running_loop(PyTypeObject *type)
{
    LoopObject *loop = new_loop(type);
    set_running(loop->l_st, (PyObject *)loop);
    loop->l_thread_id = PyThread_get_thread_ident();
    return loop;
}

static void
stop_and_drop(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    cl_loop_forget_task(loop);
    loop->l_thread_id = 0;
    CHECK_PYTHON(
        cl_call_void(cl_futures_of(st)->set_running_loop, Py_None, NULL) == 0);
    drop_loop(loop);
    CHECK_INT(cl_live_count(&cl_futures_of(st)->live_futures), 0);
    CHECK_INT(cl_live_count(&cl_futures_of(st)->live_tasks), 0);
}

static void
turn(LoopObject *loop)
{
    CHECK_PYTHON(cl_loop_turn(loop) == 0);
}

static void
a_future_calls_its_callbacks_in_the_next_turn(PyTypeObject *type)
{
    LoopObject *loop = running_loop(type);
    PyObject *list = PyList_New(0), *future = cl_future_new(loop);
    CHECK_PYTHON(list != NULL && future != NULL);
    PyObject *append = PyObject_GetAttrString(list, "append");
    PyObject *context = PyContext_CopyCurrent();
    CHECK_PYTHON(cl_future_append((FutureObject *)future, append, context) ==
                 0);
    CHECK_PYTHON(cl_future_finish((FutureObject *)future, Py_None) == 0);
    CHECK_INT(PyList_GET_SIZE(list), 0);
    turn(loop);
    CHECK_INT(PyList_GET_SIZE(list), 1);
    CHECK(PyList_GET_ITEM(list, 0) == future);
    Py_DECREF(context);
    Py_DECREF(append);
    Py_DECREF(list);
    Py_DECREF(future);
    stop_and_drop(loop);
}

static void
a_task_waits_for_a_future_and_is_the_current_one_meanwhile(PyTypeObject *type)
{
    LoopObject *loop = running_loop(type);
    cl_state *st = loop->l_st;
    PyObject *future = cl_future_new(loop);
    PyObject *function = python("import asyncio\n"
                                "async def result(future):\n"
                                "    before = asyncio.current_task()\n"
                                "    return before, await future\n");
    PyObject *coroutine = PyObject_CallOneArg(function, future);
    CHECK_PYTHON(coroutine != NULL);
    TaskObject *task =
        (TaskObject *)cl_task_new(loop, coroutine, NULL, NULL, false);
    CHECK_PYTHON(task != NULL);
    CHECK_INT(cl_live_count(&cl_futures_of(st)->live_tasks), 1);
    turn(loop);
    CHECK(task->t_fut_waiter == future);
    CHECK_INT(cl_ring_count(&loop->l_ready), 0);
    PyObject *answer = PyLong_FromLong(42);
    CHECK_PYTHON(cl_future_finish((FutureObject *)future, answer) == 0);
    CHECK_INT(cl_ring_count(&loop->l_ready), 1);
    turn(loop);
    CHECK_INT(task->f_state, CL_FINISHED);
    CHECK(PyTuple_GET_ITEM(task->f_result, 0) == (PyObject *)task);
    CHECK(PyTuple_GET_ITEM(task->f_result, 1) == answer);
    Py_CLEAR(task->f_result); /* it refers to the task */
    task->f_result = Py_NewRef(Py_None);
    Py_DECREF(answer);
    Py_DECREF(task);
    Py_DECREF(coroutine);
    Py_DECREF(function);
    Py_DECREF(future);
    stop_and_drop(loop);
}

static void
memory_is_used_again_by_the_same_loop_and_by_no_other(PyTypeObject *type)
{
    LoopObject *loop = running_loop(type);
    PyObject *first = cl_future_new(loop), *again;
    CHECK_INT(cl_futures_on(loop)->spare_futures.count, 0);
    Py_DECREF(first);
    CHECK_INT(cl_futures_on(loop)->spare_futures.count, 1);
    LoopObject *other = new_loop(type);
    again = cl_future_new(other);
    CHECK(again != first);
    Py_DECREF(again);
    again = cl_future_new(loop);
    CHECK(again == first);
    Py_DECREF(again);
    Py_DECREF(other);
    stop_and_drop(loop);
}

static void
run(cl_state *st, PyTypeObject *type)
{
    find_out(st);
    a_future_calls_its_callbacks_in_the_next_turn(type);
    a_task_waits_for_a_future_and_is_the_current_one_meanwhile(type);
    memory_is_used_again_by_the_same_loop_and_by_no_other(type);
}
