/* loop_tasks.c - LoopCore: tasks and futures. */
#include "loop_type.h"

#include "core/args.h"
#include "core/loop.h"
#include "futures/future.h"
#include "futures/task.h"
#include "state.h"

PyDoc_STRVAR(Loop_create_future_doc,
             "create_future($self, /)\n--\n\n"
             "Return an asyncio.Future attached to this loop.");

static PyObject *
Loop_create_future(LoopObject *loop, PyObject *Py_UNUSED(ignored))
{
    PyObject *result;
    if (cl_loop_replaced(loop, "create_future", NULL, 0, NULL, &result))
        return result;
    cl_state *st = loop->l_st;
    cl_futures *futures = cl_futures_of(st);
    if (cl_futures_are_ours(st))
        return cl_future_new(loop);
    PyObject *argv[] = {(PyObject *)loop};
    return cl_call_module(futures->futures_module, futures->str_Future, argv,
                          0, cl_top_of(st)->kwnames_loop);
}

/* Calls asyncio's own method, which knows the rules of its version. */
static PyObject *
create_as_asyncio(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    cl_state *st = loop->l_st;
    return cl_future_inherited(
        cl_net_of(st)->SelectorEventLoop, (PyObject *)loop,
        cl_top_of(st)->str_create_task, args, nargs, kwnames);
}

/* asyncio's eager_task_factory, which would create asyncio's tasks. */
static bool
is_eager_factory(cl_state *st, PyObject *factory)
{
#if CL_HAS_EAGER_TASKS
    return factory == cl_top_of(st)->eager_task_factory;
#else
    (void)st;
    (void)factory;
    return false;
#endif
}

typedef struct {
    PyObject *name; /* both borrowed, or NULL */
    PyObject *context;
    bool eager;
    bool named_later; /* after the eager step, as what a factory has made */
} task_options;

/* Parses the keywords. Returns 1 if we can create the task, 0 if not (because
 * of them, or of a task factory), -1 on error. */
static int
take_options(LoopObject *loop, PyObject *const *values, PyObject *kwnames,
             task_options *options)
{
    cl_state *st = loop->l_st;
    cl_top *top = cl_top_of(st);
    PyObject *factory = loop->l_task_factory;
    *options = (task_options){NULL, NULL, false, false};
    if (factory != NULL && factory != Py_None) {
        if (!is_eager_factory(st, factory))
            return 0;
        options->eager = true;
        options->named_later = !CL_HAS_EAGER_START;
    }
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        if (cl_is_keyword(key, top->str_name)) {
            options->name = values[i];
        }
        else if (CL_HAS_TASK_CONTEXT && cl_is_keyword(key, top->str_context)) {
            options->context = values[i];
        }
        else if (CL_HAS_EAGER_START &&
                 cl_is_keyword(key, top->str_eager_start)) {
            int eager = PyObject_IsTrue(values[i]);
            if (eager < 0)
                return -1;
            options->eager = eager;
        }
        else {
            return 0;
        }
    }
    if (options->eager && loop->l_thread_id == 0)
        options->eager = false;
    return 1;
}

/* Gives the task the name that asyncio's create_task() gives it after a factory
 * has made it. 0/-1 Runs Python. */
static int
name_later(PyObject *task, PyObject *name)
{
    if (name == NULL)
        name = Py_None;
    if (name == Py_None && !CL_NAMES_TASKS_NONE)
        return 0;
    PyObject *result = PyObject_CallMethod(task, "set_name", "O", name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* create_task() if its arguments and the task factory may be anything. */
static PyObject *
create(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
       PyObject *kwnames)
{
    task_options options;
    int taken = nargs == 1 && cl_tasks_are_ours(loop->l_st) &&
                        !cl_original_has_other_code(
                            &cl_top_of(loop->l_st)->create_task)
                    ? take_options(loop, args + 1, kwnames, &options)
                    : 0;
    if (taken < 0)
        return NULL;
    if (taken == 0)
        return create_as_asyncio(loop, args, nargs, kwnames);
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    PyObject *task =
        cl_task_new(loop, args[0], options.named_later ? NULL : options.name,
                    options.context, options.eager);
    if (task != NULL && options.named_later &&
        name_later(task, options.name) < 0)
        Py_CLEAR(task);
    return task;
}

PyObject *
cl_loop_create_task(LoopObject *loop, PyObject *coro)
{
    cl_state *st = loop->l_st;
    bool factory =
        loop->l_task_factory != NULL && loop->l_task_factory != Py_None;
    bool own = !factory && cl_tasks_are_ours(st);
    if (factory)
        return create(loop, &coro, 1, NULL);
    if ((loop->l_debug && !own) ||
        cl_original_has_other_code(&cl_top_of(st)->create_task))
        return create_as_asyncio(loop, &coro, 1, NULL);
    if (cl_loop_check_open(loop) < 0)
        return NULL;
    if (own)
        return cl_task_new(loop, coro, NULL, NULL, false);
    PyObject *argv[] = {coro, (PyObject *)loop};
    return cl_call_module(cl_futures_of(st)->tasks_module,
                          cl_futures_of(st)->str_Task, argv, 1,
                          cl_top_of(st)->kwnames_loop);
}

PyDoc_STRVAR(
    Loop_create_task_doc,
    "create_task($self, coro, **kwargs)\n--\n\n"
    "Wrap a coroutine in a task and schedule it; return the asyncio.Task.\n\n"
    "Keywords are those of this Python's asyncio: name=, context= (3.11),\n"
    "eager_start= (3.14). A task factory is asked first, if one is set. "
    "Raises\n"
    "RuntimeError if the loop is closed. See asyncio's loop.create_task.");

static PyObject *
Loop_create_task(LoopObject *loop, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    PyObject *result;
    if (cl_loop_replaced(loop, "create_task", args, nargs, kwnames, &result))
        return result;
    if (nargs == 1 && kwnames == NULL && loop->l_task_factory == NULL)
        return cl_loop_create_task(loop, args[0]);
    return create(loop, args, nargs, kwnames);
}

static PyMethodDef methods[] = {
    {"create_future", (PyCFunction)Loop_create_future, METH_NOARGS,
     Loop_create_future_doc},
    {"create_task", CL_FAST(Loop_create_task), METH_FASTCALL | METH_KEYWORDS,
     Loop_create_task_doc},
    {NULL}};

int
cl_loop_tasks_setup(PyTypeObject *type)
{
    return cl_type_add_methods(type, methods);
}
