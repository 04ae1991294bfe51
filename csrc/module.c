/* module.c - the extension module cloop._cloop: state, types and small functions. */
#include "base/compat.h"

#include <unistd.h>

#include "base/pidfd.h"
#include "core/errors.h"
#include "core/fork.h"
#include "core/handle.h"
#include "core/method.h"
#include "core/node.h"
#include "core/signals.h"
#include "core/state.h"
#include "core/watch.h"
#include "debug.h"
#include "futures/future.h"
#include "futures/iter.h"
#include "futures/layout.h"
#include "futures/registry.h"
#include "futures/remote.h"
#include "futures/task.h"
#include "loop_type.h"
#include "net/datagram.h"
#include "net/listener.h"
#include "net/pipe.h"
#include "net/sock.h"
#include "net/sockop.h"
#include "net/socktransport.h"
#include "poller/poller.h"
#include "streams/op.h"
#include "streams/reader.h"
#include "streams/streams.h"
#include "sync/entry.h"
#include "sync/gather.h"
#include "sync/op.h"
#include "sync/sync.h"
#include "tls/tls.h"

/* setup.py says how it built us. */
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
    cl_state *st = state_of(module);
    return Py_BuildValue("{snsnsnsnsnsnsnsnsn}", "Loop", st->live_loops,
                         "Future", st->live_futures, "Task", st->live_tasks,
                         "Handle", st->live_handles, "TimerHandle",
                         st->live_timers, "Transport", st->live_transports,
                         "SockOp", st->live_sockops, "StreamOp",
                         st->live_stream_ops, "SyncOp", st->live_sync_ops);
}

PyDoc_STRVAR(
    guard_looks_doc,
    "guard_looks()\n--\n\n"
    "Return how often the methods of each class whose work is done here were "
    "looked up:\n{class: count}. A count stays while nothing modifies its "
    "class.");

static PyObject *
module_guard_looks(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = state_of(module);
    const cl_streams *streams = st->streams;
#define FORMAT(name) "sK"
#define COUNT(name) , #name, (unsigned long long)streams->s_##name.g_looks
    return Py_BuildValue(
        "{sKsK" CL_STREAMS_GUARDS(FORMAT) "}", "loop",
        (unsigned long long)st->loop_looks, "socket",
        (unsigned long long)st->socket_guard.g_looks CL_STREAMS_GUARDS(COUNT));
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

PyDoc_STRVAR(sockets_are_stock_doc,
             "sockets_are_stock()\n--\n\n"
             "Return whether socket.socket has the methods that it had when "
             "cloop was imported.");

static PyObject *
module_sockets_are_stock(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = state_of(module);
    return PyBool_FromLong(PyType_Check(st->socket_type) &&
                           cl_sock_is_stock(st));
}

PyDoc_STRVAR(raw_fields_doc,
             "raw_fields(future)\n--\n\n"
             "Return what a future or task of asyncio holds where its fields "
             "are expected:\n"
             "{name: number}, addresses for objects. RuntimeError if it has "
             "another size.");

static PyObject *
module_raw_fields(PyObject *module, PyObject *object)
{
    return cl_layout_raw_fields(state_of(module), object);
}

PyDoc_STRVAR(
    adopt_reader_doc,
    "adopt_reader(reader)\n--\n\n"
    "Give an asyncio.StreamReader that no transport has begun with our "
    "methods, if it is exactly that and on a loop of ours.");

static PyObject *
module_adopt_reader(PyObject *module, PyObject *reader)
{
    if (cl_streams_adopt_reader(state_of(module), reader) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(use_own_tasks_doc,
             "use_own_tasks(task, loop)\n--\n\n"
             "From now on new loops make cloop.Task and cloop.Future; return "
             "False if that\n"
             "can't be. `task` is a pending one of asyncio's, the last that "
             "this thread has\n"
             "made, and `loop` its loop.");

static PyObject *
module_use_own_tasks(PyObject *module, PyObject *args)
{
    cl_state *st = state_of(module);
    PyObject *task, *loop;
    if (!PyArg_ParseTuple(args, "OO:use_own_tasks", &task, &loop))
        return NULL;
    if (!st->layouts_fit || (PyObject *)Py_TYPE(task) != st->asyncio_Task)
        Py_RETURN_FALSE;
    int found = cl_registry_find_slots(st, task, loop);
    if (found < 0)
        return NULL;
    st->own_tasks = found;
    return PyBool_FromLong(found);
}

PyDoc_STRVAR(module_set_gather_doc,
             "_set_gather(choice, /)\n--\n\n"
             "Hold writes as CLOOP_GATHER=choice does; None is its being "
             "unset. For tests.");

static void
choose_gather(cl_state *st, const char *choice)
{
    st->gathers = choice == NULL                  ? CL_GATHER_LEARNT
                  : strcmp(choice, "0") == 0      ? CL_GATHER_NEVER
                  : strcmp(choice, "always") == 0 ? CL_GATHER_ALWAYS
                                                  : CL_GATHER_LEARNT;
}

static PyObject *
module_set_gather(PyObject *module, PyObject *choice)
{
    const char *text = NULL;
    if (choice != Py_None && (text = PyUnicode_AsUTF8(choice)) == NULL)
        return NULL;
    choose_gather(state_of(module), text);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(module_at_exit_doc,
             "_at_exit()\n--\n\n"
             "Hold no write from now on, and end the threads of those loops "
             "that did.");

static PyObject *
module_at_exit(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = state_of(module);
    st->gathers = CL_GATHER_NEVER;
    for (LoopObject *loop = st->loops; loop != NULL;) {
        if (loop->l_net != NULL && loop->l_net->n_gather.g_timer != NULL) {
            cl_gather_stop_timer(loop);
            loop = st->loops; /* others have run */
        }
        else {
            loop = loop->l_next_open;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
module_after_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_fork_in_child(state_of(module));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(pidfd_open_doc,
             "pidfd_open(pid, /)\n--\n\n"
             "Return a descriptor that is ready for reading when the process "
             "has ended. Raises\n"
             "OSError. As os.pidfd_open(), which Python 3.8 does not have.");

static PyObject *
module_pidfd_open(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long pid = PyLong_AsLong(arg);
    if (pid == -1 && PyErr_Occurred())
        return NULL;
    int fd = cl_pidfd_open((pid_t)pid);
    if (fd >= 0)
        return PyLong_FromLong(fd);
    cl_raise_os_error(fd);
    return NULL;
}

PyDoc_STRVAR(look_like_doc,
             "look_like(method, function)\n--\n\n"
             "Return a method that does what the method_descriptor does, as "
             "fast, and looks\n"
             "like the function to inspect and unittest.mock, with the "
             "method's docstring.\n"
             "Raises TypeError if the function is not one of Python.");

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
    {"sockets_are_stock", module_sockets_are_stock, METH_NOARGS,
     sockets_are_stock_doc},
    {"pidfd_open", module_pidfd_open, METH_O, pidfd_open_doc},
    {"look_like", module_look_like, METH_VARARGS, look_like_doc},
    {"raw_fields", module_raw_fields, METH_O, raw_fields_doc},
    {"adopt_reader", module_adopt_reader, METH_O, adopt_reader_doc},
    {"use_own_tasks", module_use_own_tasks, METH_VARARGS, use_own_tasks_doc},
    {"_after_fork_in_child", module_after_fork, METH_NOARGS, NULL},
    {"_at_exit", module_at_exit, METH_NOARGS, module_at_exit_doc},
    {"_set_gather", module_set_gather, METH_O, module_set_gather_doc},
    {NULL}};

/* ---------------------------------------------------------------------- setup */

static PyObject *
import_attribute(const char *module_name, const char *attribute)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL)
        return NULL;
    PyObject *value = PyObject_GetAttrString(module, attribute);
    Py_DECREF(module);
    return value;
}

static int
setup_imports(cl_state *st)
{
#define IMPORT(field, module, attribute) \
    if ((st->field = import_attribute(module, attribute)) == NULL) \
        return -1;
    CL_STATE_IMPORTS(IMPORT)
#undef IMPORT
    return 0;
}

static int
setup_names(cl_state *st)
{
#define INTERN(name) \
    if ((st->str_##name = PyUnicode_InternFromString(#name)) == NULL) \
        return -1;
    CL_STATE_NAMES(INTERN)
#undef INTERN
    if ((st->kwnames_context = PyTuple_Pack(1, st->str_context)) == NULL ||
        (st->kwnames_loop = PyTuple_Pack(1, st->str_loop)) == NULL ||
        (st->kwnames_debug = PyTuple_Pack(1, st->str_debug)) == NULL ||
        (st->kwnames_exc_info = PyTuple_Pack(1, st->str_exc_info)) == NULL ||
        (st->kwnames_wrap_bio = Py_BuildValue("(ss)", "server_side",
                                              "server_hostname")) == NULL ||
        (st->empty_bytes = PyBytes_FromStringAndSize(NULL, 0)) == NULL ||
        (st->one_byte = PyBytes_FromStringAndSize("", 1)) == NULL ||
        (st->minus_one = PyLong_FromLong(-1)) == NULL ||
        (st->one = PyLong_FromLong(1)) == NULL)
        return -1;
    return 0;
}

static int
setup_optional_imports(cl_state *st)
{
    return PyObject_GetOptionalAttr(st->events_module,
                                    st->str__ThreadSafeHandle,
                                    &st->asyncio_ThreadSafeHandle) < 0
               ? -1
               : 0;
}

/* _format_callback_source() takes debug= from 3.13 on, and where that was
 * backported: its signature tells. */
static int
probe_callback_source(cl_state *st)
{
    PyObject *defaults = NULL;
    int found = PyObject_GetOptionalAttr(st->format_callback_source,
                                         st->str___kwdefaults__, &defaults);
    if (found > 0 && PyDict_Check(defaults))
        found = PyDict_Contains(defaults, st->str_debug);
    else if (found > 0)
        found = 0;
    Py_XDECREF(defaults);
    st->callback_source_takes_debug = found > 0;
    return found < 0 ? -1 : 0;
}

/* What transports have to know of this version's asyncio. */
static int
probe_transports(cl_state *st)
{
    PyObject *modes =
        PyObject_GetAttr(st->constants_module, st->str__SendfileMode);
    if (modes == NULL)
        return -1;
    st->sendfile_try_native = PyObject_GetAttr(modes, st->str_TRY_NATIVE);
    st->sendfile_fallback = PyObject_GetAttr(modes, st->str_FALLBACK);
    Py_DECREF(modes);
    PyObject *header = NULL;
    int found = PyObject_GetOptionalAttr(st->asyncio_DatagramTransport,
                                         st->str__header_size, &header);
    if (found > 0)
        st->datagram_header_size = PyLong_AsSize_t(header);
    Py_XDECREF(header);
    if (found < 0 || PyErr_Occurred())
        return -1;
    PyObject *attach = PyObject_GetAttr(st->Server, st->str__attach);
    PyObject *code =
        attach == NULL ? NULL : PyObject_GetAttrString(attach, "__code__");
    PyObject *count =
        code == NULL ? NULL : PyObject_GetAttrString(code, "co_argcount");
    Py_XDECREF(attach);
    Py_XDECREF(code);
    if (st->sendfile_try_native == NULL || st->sendfile_fallback == NULL ||
        count == NULL) {
        Py_XDECREF(count);
        return -1;
    }
    st->server_takes_transport = PyLong_AsLong(count) == 2;
    Py_DECREF(count);
    return 0;
}

static int
setup_threads(PyObject *module, cl_state *st)
{
    PyObject *main_thread = NULL, *ident = NULL, *hook = NULL, *result = NULL;
    PyObject *register_at_fork = NULL, *function = NULL, *kwargs = NULL,
             *empty = NULL;
    int status = -1;

    st->armed_fd = -1;
    st->pid = getpid();
    if ((function = import_attribute("threading", "main_thread")) == NULL ||
        (main_thread = PyObject_CallNoArgs(function)) == NULL ||
        (ident = PyObject_GetAttrString(main_thread, "ident")) == NULL)
        goto done;
    if (ident != Py_None) {
        st->main_thread = PyLong_AsUnsignedLong(ident);
        if (st->main_thread == (unsigned long)-1 && PyErr_Occurred())
            goto done;
    }
    if ((register_at_fork = import_attribute("os", "register_at_fork")) ==
            NULL ||
        (hook = PyObject_GetAttrString(module, "_after_fork_in_child")) ==
            NULL ||
        (kwargs = Py_BuildValue("{sO}", "after_in_child", hook)) == NULL ||
        (empty = PyTuple_New(0)) == NULL ||
        (result = PyObject_Call(register_at_fork, empty, kwargs)) == NULL)
        goto done;
    status = 0;
done:
    Py_XDECREF(function);
    Py_XDECREF(main_thread);
    Py_XDECREF(ident);
    Py_XDECREF(register_at_fork);
    Py_XDECREF(hook);
    Py_XDECREF(kwargs);
    Py_XDECREF(empty);
    Py_XDECREF(result);
    return status;
}

static void
setup_nodes(cl_state *st)
{
#define NODE(kind, ops) st->node_ops[CL_NODE_##kind] = &ops;
    CL_STATE_NODES(NODE)
#undef NODE
}

static int
setup_types(PyObject *module, cl_state *st)
{
#define SETUP(type, setup) \
    if ((st->type##Type = setup(module, st)) == NULL) \
        return -1;
    CL_STATE_TYPES(SETUP)
#undef SETUP
    if (PyModule_AddObjectRef(module, "Handle", (PyObject *)st->HandleType) <
            0 ||
        PyModule_AddObjectRef(module, "TimerHandle",
                              (PyObject *)st->TimerHandleType) < 0 ||
        PyModule_AddObjectRef(module, "Future", (PyObject *)st->FutureType) <
            0 ||
        PyModule_AddObjectRef(module, "Task", (PyObject *)st->TaskType) < 0 ||
        PyModule_AddObjectRef(module, "SocketTransport",
                              (PyObject *)st->SocketTransportType) < 0 ||
        PyModule_AddObjectRef(module, "DatagramTransport",
                              (PyObject *)st->DatagramTransportType) < 0 ||
        PyModule_AddObjectRef(module, "ReadPipeTransport",
                              (PyObject *)st->ReadPipeTransportType) < 0 ||
        PyModule_AddObjectRef(module, "WritePipeTransport",
                              (PyObject *)st->WritePipeTransportType) < 0 ||
        PyModule_AddObjectRef(module, "SSLTransport",
                              (PyObject *)st->SSLTransportType) < 0 ||
        PyModule_AddObjectRef(module, "LoopCore", (PyObject *)st->LoopType) <
            0)
        return -1;
    return 0;
}

static int
module_exec(PyObject *module)
{
    cl_state *st = state_of(module);
    st->module = module;
    choose_gather(st, getenv("CLOOP_GATHER"));
#ifdef CL_STRESS
    cl_stress_read_environment();
#endif
    setup_nodes(st);
    if (setup_imports(st) < 0 || setup_names(st) < 0 ||
        setup_optional_imports(st) < 0 || probe_callback_source(st) < 0 ||
        probe_transports(st) < 0 || setup_threads(module, st) < 0 ||
        cl_sock_setup(st) < 0 || setup_types(module, st) < 0 ||
        cl_streams_setup(module, st) < 0 || cl_registry_setup(st) < 0 ||
        cl_sync_setup(st) < 0 ||
        PyModule_AddFunctions(module, cl_sync_methods) < 0)
        return -1;
#ifdef CL_DEBUG
    if (PyModule_AddFunctions(module, cl_debug_methods) < 0)
        return -1;
#endif
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    cl_state *st = state_of(module);
    if (st == NULL)
        return 0;
#define VISIT(type, setup) Py_VISIT(st->type##Type);
    CL_STATE_TYPES(VISIT)
#undef VISIT
#define VISIT(field, module_name, attribute) Py_VISIT(st->field);
    CL_STATE_IMPORTS(VISIT)
#undef VISIT
    Py_VISIT(st->stop_true);
    Py_VISIT(st->current_tasks);
    Py_VISIT(st->all_tasks);
    Py_VISIT(st->all_tasks_iterating);
    Py_VISIT(st->all_tasks_removals);
    Py_VISIT(st->asyncio_ThreadSafeHandle);
    Py_VISIT(st->sendfile_try_native);
    Py_VISIT(st->sendfile_fallback);
    int status = cl_guard_traverse(&st->socket_guard, visit, arg);
    if (status == 0)
        status = cl_streams_traverse(st, visit, arg);
    if (status == 0)
        status = cl_sync_traverse(st, visit, arg);
    if (status == 0)
        status = cl_remote_traverse(st, visit, arg);
    if (status != 0)
        return status;
    return cl_tls_traverse(st, visit, arg);
}

static int
module_clear(PyObject *module)
{
    cl_state *st = state_of(module);
    if (st == NULL)
        return 0;
    cl_sync_clear(st);         /* nobody calls into us any more */
    cl_future_free_spares(st); /* while their types are there */
    Py_CLEAR(st->stop_true);
    Py_CLEAR(st->current_tasks);
    Py_CLEAR(st->all_tasks);
    Py_CLEAR(st->all_tasks_iterating);
    Py_CLEAR(st->all_tasks_removals);
#define CLEAR(type, setup) Py_CLEAR(st->type##Type);
    CL_STATE_TYPES(CLEAR)
#undef CLEAR
#define CLEAR(field, module_name, attribute) Py_CLEAR(st->field);
    CL_STATE_IMPORTS(CLEAR)
#undef CLEAR
    Py_CLEAR(st->asyncio_ThreadSafeHandle);
    Py_CLEAR(st->sendfile_try_native);
    Py_CLEAR(st->sendfile_fallback);
    cl_guard_clear(&st->socket_guard);
    cl_streams_clear(st);
    cl_remote_clear(st);
    cl_tls_free(st);
    return 0;
}

static void
module_free(void *module)
{
    cl_state *st = state_of(module);
    if (st == NULL)
        return;
    (void)module_clear(module);
    PyMem_Free(st->streams);
    st->streams = NULL;
    cl_sync_free(st);
    cl_remote_free(st);
    /* Strings are in no cycle, and a late destructor may still need them. */
#define CLEAR(name) Py_CLEAR(st->str_##name);
    CL_STATE_NAMES(CLEAR)
#undef CLEAR
    Py_CLEAR(st->kwnames_context);
    Py_CLEAR(st->kwnames_loop);
    Py_CLEAR(st->kwnames_debug);
    Py_CLEAR(st->kwnames_exc_info);
    Py_CLEAR(st->kwnames_wrap_bio);
    Py_CLEAR(st->empty_bytes);
    Py_CLEAR(st->one_byte);
    Py_CLEAR(st->minus_one);
    Py_CLEAR(st->one);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec},
                                          CL_MOD_SLOTS_EXTRA{0, NULL}};

PyModuleDef cl_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cloop._cloop",
    .m_doc = "The event loop of cloop, in C.",
    .m_size = sizeof(cl_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

CL_EXPORT PyObject *PyInit__cloop(void);

PyObject *
PyInit__cloop(void)
{
    return PyModuleDef_Init(&cl_module_def);
}
