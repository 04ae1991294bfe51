/* module.c - the extension module cloop._cloop: state, types and small functions. */
#include "base/compat.h"

#include <string.h>

#include "base/platform.h"
#include "core/args.h"
#include "core/errors.h"
#include "core/layer.h"
#include "core/method.h"
#include "core/signals.h"
#include "core/watchdog.h"
#include "debug.h"
#include "futures/layout.h"
#include "futures/registry.h"
#include "inject.h"
#include "net/connect.h"
#include "net/gather.h"
#include "net/race.h"
#include "net/sock.h"
#include "poller/poller.h"
#include "spawn.h"
#include "state.h"
#include "streams/streams.h"
#include "sync/sync.h"

/* setup.py passes the flags of the build. */
#ifndef CL_BUILD_FLAGS
#define CL_BUILD_FLAGS ""
#endif
#ifndef CL_BUILD_COMPILER
#define CL_BUILD_COMPILER ""
#endif

static cl_state *
state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

PyDoc_STRVAR(
    counts_doc,
    "counts()\n--\n\n"
    "Return how many objects of each type are alive: {type name: count}.");

static PyObject *
module_counts(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return cl_layers_counts(state_of(module));
}

PyDoc_STRVAR(
    guard_looks_doc,
    "guard_looks()\n--\n\n"
    "Return {class: count}: how often the methods of each class that C code "
    "replaces were\n"
    "looked up. The count does not change unless the class is modified.");

static PyObject *
module_guard_looks(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = state_of(module);
    const cl_streams *streams = cl_streams_of(st);
    const cl_net *net = cl_net_of(st);
#define FORMAT(name) "sK"
#define COUNT(name) , #name, (unsigned long long)streams->ss_##name.g_looks
    return Py_BuildValue(
        "{sKsKsKsKsK" CL_STREAMS_GUARDS(FORMAT) "}", "loop",
        (unsigned long long)st->loop_looks, "connect",
        (unsigned long long)net->loop_guard.g_looks, "server",
        (unsigned long long)net->server_guard.g_looks, "set",
        (unsigned long long)net->set_guard.g_looks, "socket",
        (unsigned long long)net->socket_guard.g_looks CL_STREAMS_GUARDS(
            COUNT));
#undef FORMAT
#undef COUNT
}

PyDoc_STRVAR(build_info_doc, "build_info()\n--\n\n"
                             "Return how this module was built: {'compiler': "
                             "..., 'flags': ..., 'pollers': ...}.");

static PyObject *
module_build_info(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *pollers = PyList_New(0);
    if (pollers == NULL)
        return NULL;
    for (int n = 0; cl_poller_name(n) != NULL; n++) {
        PyObject *name = PyUnicode_FromString(cl_poller_name(n));
        if (name == NULL || PyList_Append(pollers, name) < 0) {
            Py_XDECREF(name);
            Py_DECREF(pollers);
            return NULL;
        }
        Py_DECREF(name);
    }
    return Py_BuildValue("{sssssN}", "compiler", CL_BUILD_COMPILER, "flags",
                         CL_BUILD_FLAGS, "pollers", pollers);
}

PyDoc_STRVAR(wakeup_fd_doc, "wakeup_fd()\n--\n\n"
                            "Return the process's signal wakeup descriptor "
                            "without changing it, or -1, and\n"
                            "its warn_on_full_buffer; only in the main "
                            "thread.");

static PyObject *
module_wakeup_fd(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = state_of(module);
    bool warns = true;
    int fd = cl_is_signal_thread(st->main_thread)
                 ? cl_signals_wakeup_fd(st, &warns)
                 : -1;
    return Py_BuildValue("(iO)", fd, warns ? Py_True : Py_False);
}

PyDoc_STRVAR(is_main_interpreter_doc,
             "is_main_interpreter()\n--\n\n"
             "Return whether this is the interpreter that the process began "
             "with.");

static PyObject *
module_is_main_interpreter(PyObject *Py_UNUSED(module),
                           PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(cl_is_main_interpreter());
}

#if CL_FREE_THREADED
PyDoc_STRVAR(stacks_doc, "stacks()\n--\n\n"
                         "Return {ident: [(function, file, line)]} of the "
                         "threads of this interpreter, the\n"
                         "innermost last. They are stopped meanwhile.");

static PyObject *
module_stacks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return cl_stacks();
}

PyDoc_STRVAR(task_name_doc, "task_name(task, /)\n--\n\n"
                            "Return task.get_name(). From any thread, while "
                            "the loop's uses the task.");

typedef struct {
    TaskObject *task;
    PyObject *name; /* owned, or NULL */
} name_question;

static void
read_name(void *arg)
{
    name_question *asked = arg;
    asked->name = Py_XNewRef(asked->task->t_name);
}

/* get_name() replaces a number by the name, without a lock before 3.14. */
static PyObject *
module_task_name(PyObject *module, PyObject *task)
{
    const cl_futures *futures = cl_futures_of(state_of(module));
    if (!futures->layouts_fit ||
        (PyObject *)Py_TYPE(task) != futures->asyncio_Task)
        return PyObject_CallMethod(task, "get_name", NULL);
    name_question asked = {(TaskObject *)task, NULL};
    cl_call_stopped(read_name, &asked);
    if (asked.name != NULL && PyLong_CheckExact(asked.name))
        Py_SETREF(asked.name, PyUnicode_FromFormat("Task-%S", asked.name));
    else if (asked.name == NULL)
        asked.name = Py_NewRef(Py_None);
    return asked.name;
}
#else
PyDoc_STRVAR(current_frames_doc,
             "current_frames()\n--\n\n"
             "Return {ident: frame} of the threads of this interpreter.");

static PyObject *
module_current_frames(PyObject *Py_UNUSED(module),
                      PyObject *Py_UNUSED(ignored))
{
    return cl_current_frames();
}
#endif

PyDoc_STRVAR(sockets_are_stock_doc,
             "sockets_are_stock()\n--\n\n"
             "Return whether socket.socket has the methods that it had when "
             "cloop was imported.");

static PyObject *
module_sockets_are_stock(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = state_of(module);
    return PyBool_FromLong(PyType_Check(cl_net_of(st)->socket_type) &&
                           cl_sock_is_stock(st));
}

PyDoc_STRVAR(know_loop_doc,
             "know_loop(type, have_context, skips, numbered, /)\n--\n\n"
             "Say that this is cloop.Loop, whose own methods "
             "create_connection() need not call.\n"
             "have_context: whether this asyncio copies the context before it "
             "calls the protocol\n"
             "factory. skips: whether its writelines() leaves falsy items "
             "out. numbered: whether\n"
             "it shows the number of an error of bind().");

static PyObject *
module_know_loop(PyObject *module, PyObject *args)
{
    PyObject *type;
    int have_context, skips, numbered;
    if (!PyArg_ParseTuple(args, "O!ppp:know_loop", &PyType_Type, &type,
                          &have_context, &skips, &numbered) ||
        cl_connect_know_loop(state_of(module), (PyTypeObject *)type,
                             have_context) < 0)
        return NULL;
    cl_net_of(state_of(module))->writelines_skips = skips;
    cl_race_know_errors(state_of(module), numbered);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(follow_doc,
             "follow(type, behind, functions, known, apply, /)\n--\n\n"
             "Call apply() when `behind`, the class of asyncio's that `type`, "
             "cloop.Loop, derives\n"
             "from, or a base of it was modified, or one of the functions, a "
             "tuple, has got another\n"
             "code: before a loop is made, runs or polls. known: {name: what "
             "`behind` has now}.");

static PyObject *
module_follow(PyObject *module, PyObject *args)
{
    PyObject *type, *behind, *functions, *known, *apply;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O:follow", &PyType_Type, &type,
                          &PyType_Type, &behind, &PyTuple_Type, &functions,
                          &PyDict_Type, &known, &apply) ||
        cl_follow_begin(&state_of(module)->follow, (PyTypeObject *)type,
                        (PyTypeObject *)behind, functions, known, apply) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(raw_fields_doc, "raw_fields(future)\n--\n\n"
                             "Return the fields of asyncio's future or task "
                             "as this module reads them: {name:\n"
                             "number}, with addresses for objects. Raises "
                             "RuntimeError if the layout has another\n"
                             "size.");

static PyObject *
module_raw_fields(PyObject *module, PyObject *object)
{
    return cl_layout_raw_fields(state_of(module), object);
}

PyDoc_STRVAR(adopt_reader_doc, "adopt_reader(reader)\n--\n\n"
                               "Give an asyncio.StreamReader without a "
                               "transport our methods, if it is exactly of\n"
                               "that class and its loop is one of ours.");

static PyObject *
module_adopt_reader(PyObject *module, PyObject *reader)
{
    if (cl_streams_adopt_reader(state_of(module), reader) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(use_own_tasks_doc,
             "use_own_tasks(first, second, loop)\n--\n\n"
             "Make new loops use cloop.Task and cloop.Future; return False if "
             "that is impossible.\n"
             "`first` and `second` are pending asyncio tasks, the last ones "
             "created in this\n"
             "thread. `loop` is their loop and the running one; it may no "
             "longer be running\n"
             "afterwards.");

static PyObject *
module_use_own_tasks(PyObject *module, PyObject *args)
{
    cl_state *st = state_of(module);
    PyObject *first, *second, *loop;
    if (!PyArg_ParseTuple(args, "OOO:use_own_tasks", &first, &second, &loop))
        return NULL;
    const cl_futures *futures = cl_futures_of(st);
    if (!futures->layouts_fit ||
        (PyObject *)Py_TYPE(first) != futures->asyncio_Task ||
        (PyObject *)Py_TYPE(second) != futures->asyncio_Task)
        Py_RETURN_FALSE;
    int found = cl_registry_find_slots(st, first, second, loop);
    if (found < 0 || (found && cl_futures_use_own(st) < 0))
        return NULL;
    return PyBool_FromLong(found);
}

PyDoc_STRVAR(module_set_gather_doc, "_set_gather(choice, /)\n--\n\n"
                                    "Hold writes as with CLOOP_GATHER=choice; "
                                    "None stands for unset. For tests.");

static PyObject *
module_set_gather(PyObject *module, PyObject *choice)
{
    const char *text = NULL;
    if (choice != Py_None && (text = PyUnicode_AsUTF8(choice)) == NULL)
        return NULL;
    cl_net_choose_gather(state_of(module), text);
    Py_RETURN_NONE;
}

static void
end_holding(cl_state *st)
{
    cl_net_of(st)->gathers = CL_GATHER_NEVER;
    for (LoopObject *loop = st->loops; loop != NULL;) {
        if (cl_net_on(loop)->n_gather.gw_timer != NULL) {
            cl_gather_stop_timer(loop);
            loop = st->loops; /* other code has run */
        }
        else {
            loop = loop->l_next_open;
        }
    }
}

PyDoc_STRVAR(module_at_exit_doc,
             "_at_exit()\n--\n\n"
             "Hold no more writes, and end the threads of loops that did, and "
             "of watchdogs.");

static PyObject *
module_at_exit(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = state_of(module);
    if (!CL_FREE_THREADED) /* else nothing was held */
        end_holding(st);
    cl_watchdog_at_exit(st);
    Py_RETURN_NONE;
}

/* Whether another thread is in a turn of the loop; between turns, nothing is
 * held. */
static bool
is_elsewhere(const LoopObject *loop)
{
    return loop->l_depth > 0 &&
           loop->l_turn_thread != PyThread_get_thread_ident();
}

PyDoc_STRVAR(module_before_fork_doc,
             "_before_fork()\n--\n\n"
             "Send what the loops of this thread hold for their callbacks, so "
             "that only the parent\n"
             "sends it, and end the threads that send it late.");

static PyObject *
module_before_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    if (CL_FREE_THREADED) /* nothing is held */
        Py_RETURN_NONE;
    PyObject *loops = cl_loop_list(state_of(module)), *error = NULL;
    if (loops == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(loops); i++) {
        LoopObject *loop = (LoopObject *)PyList_GET_ITEM(loops, i);
        if (is_elsewhere(loop))
            continue;
        cl_first_error(&error, cl_gather_flush(loop));
        cl_gather_stop_timer(loop);
    }
    Py_DECREF(loops);
    return cl_none_or_error(cl_raise_first(error));
}

PyDoc_STRVAR(pidfd_open_doc, "pidfd_open(pid, /)\n--\n\n"
                             "Return a descriptor that is readable when the "
                             "process has ended. Raises OSError.\n"
                             "Like os.pidfd_open(), which only Linux has, "
                             "from Python 3.9 on.");

static PyObject *
module_pidfd_open(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long pid = PyLong_AsLong(arg);
    if (pid == -1 && PyErr_Occurred())
        return NULL;
    int fd = cl_pidfd_open((pid_t)pid);
    if (fd < 0) {
        cl_raise_os_error(fd);
        return NULL;
    }
    PyObject *number = PyLong_FromLong(fd);
    if (number == NULL)
        close(fd);
    return number;
}

PyDoc_STRVAR(
    look_like_doc,
    "look_like(method, function)\n--\n\n"
    "Return a method that works like the method_descriptor and is as fast, "
    "but looks like\n"
    "the function to inspect and unittest.mock. It has the docstring of the\n"
    "method_descriptor. Raises TypeError if the function is not a Python "
    "function.");

static PyObject *
module_look_like(PyObject *module, PyObject *args)
{
    PyObject *method, *function, *doc;
    if (!PyArg_ParseTuple(args, "O!O:look_like", &PyMethodDescr_Type, &method,
                          &function) ||
        (doc = PyObject_GetAttrString(method, "__doc__")) == NULL)
        return NULL;
    PyObject *made = cl_method_new(state_of(module), PyDescr_TYPE(method),
                                   ((PyMethodDescrObject *)method)->d_method,
                                   function, doc);
    Py_DECREF(doc);
    return made;
}

static PyMethodDef module_methods[] = {
    {"counts", module_counts, METH_NOARGS, counts_doc},
    {"guard_looks", module_guard_looks, METH_NOARGS, guard_looks_doc},
    {"build_info", module_build_info, METH_NOARGS, build_info_doc},
    {"wakeup_fd", module_wakeup_fd, METH_NOARGS, wakeup_fd_doc},
    {"is_main_interpreter", module_is_main_interpreter, METH_NOARGS,
     is_main_interpreter_doc},
#if CL_FREE_THREADED
    {"stacks", module_stacks, METH_NOARGS, stacks_doc},
    {"task_name", module_task_name, METH_O, task_name_doc},
#else
    {"current_frames", module_current_frames, METH_NOARGS, current_frames_doc},
#endif
    {"sockets_are_stock", module_sockets_are_stock, METH_NOARGS,
     sockets_are_stock_doc},
    {"know_loop", module_know_loop, METH_VARARGS, know_loop_doc},
    {"follow", module_follow, METH_VARARGS, follow_doc},
    {"pidfd_open", module_pidfd_open, METH_O, pidfd_open_doc},
    {"look_like", module_look_like, METH_VARARGS, look_like_doc},
    {"raw_fields", module_raw_fields, METH_O, raw_fields_doc},
    {"adopt_reader", module_adopt_reader, METH_O, adopt_reader_doc},
    {"use_own_tasks", module_use_own_tasks, METH_VARARGS, use_own_tasks_doc},
    {"_at_exit", module_at_exit, METH_NOARGS, module_at_exit_doc},
    {"_before_fork", module_before_fork, METH_NOARGS, module_before_fork_doc},
    {"_set_gather", module_set_gather, METH_O, module_set_gather_doc},
    {NULL}};

/* ---------------------------------------------------------------------- setup */

/* From the lowest up: each builds on those below. */
static const cl_layer *const layers[] = {
    &cl_core_layer, &cl_futures_layer, &cl_streams_layer, &cl_sync_layer,
    &cl_net_layer,  &cl_tls_layer,     &cl_top_layer,     NULL};

static int
module_exec(PyObject *module)
{
#ifdef CL_INJECT
    cl_stress_read_environment();
    if (cl_inject_setup(module) < 0)
        return -1;
#endif
    if (cl_layers_setup(module, state_of(module), layers) < 0 ||
        PyModule_AddObjectRef(module, "FREE_THREADED",
                              CL_FREE_THREADED ? Py_True : Py_False) < 0)
        return -1;
#ifdef CL_DEBUG
    if (PyModule_AddFunctions(module, cl_debug_methods) < 0)
        return -1;
#endif
    return PyModule_AddFunctions(module, cl_watchdog_methods) < 0 ||
                   PyModule_AddFunctions(module, cl_spawn_methods) < 0
               ? -1
               : PyModule_AddFunctions(module, cl_sync_methods);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec},
                                          CL_MOD_SLOTS_EXTRA{0, NULL}};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cloop._cloop",
    .m_doc = "The event loop of cloop, in C.",
    .m_size = sizeof(cl_top),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = cl_layers_traverse,
    .m_clear = cl_layers_clear,
    .m_free = cl_layers_free,
};

CL_EXPORT PyObject *PyInit__cloop(void);

PyObject *
PyInit__cloop(void)
{
    return PyModuleDef_Init(&module_def);
}
