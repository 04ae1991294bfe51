/* future.c - see future.h. */
#include "futures/future.h"

#include "core/abi.h"
#include "core/args.h"
#include "core/errors.h"
#include "core/spares.h"
#include "futures/iter.h"
#include "futures/tally.h"
#include "futures/task.h"

#include <string.h>

/* --------------------------------------------------------------------- lookups */

static inline bool
is_own_type(const PyTypeObject *type)
{
    return type->tp_dealloc == cl_future_dealloc ||
           type->tp_dealloc == cl_task_dealloc;
}

/* Returns which of our two types the object is an instance of, or NULL. */
static PyTypeObject *
own_type(PyObject *self)
{
    for (PyTypeObject *type = Py_TYPE(self); type != NULL;
         type = type->tp_base) {
        if (is_own_type(type))
            return type;
    }
    /* The class also has another base that derives from asyncio's class, or
     * the garbage collector has cleared the class. */
    PyObject *mro = Py_TYPE(self)->tp_mro;
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *type = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (is_own_type(type))
            return type;
    }
    return NULL;
}

cl_state *
cl_future_state(PyObject *self)
{
    LoopObject *loop = cl_loop_cast(((FutureObject *)self)->f_loop);
    if (loop != NULL)
        return loop->l_st;
    PyTypeObject *type = own_type(self);
    if (type == NULL) {
        PyErr_SetString(PyExc_SystemError, "not a future of this module");
        return NULL;
    }
    return cl_type_state(type, type->tp_dealloc);
}

PyObject *
cl_future_inherited(PyObject *type, PyObject *self, PyObject *name,
                    PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t count =
        nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *small[4], **argv = small, *result = NULL;
    PyObject *method = PyObject_GetAttr(type, name);
    if (method == NULL)
        return NULL;
    if (count >= 4 && (argv = PyMem_New(PyObject *, count + 1)) == NULL) {
        PyErr_NoMemory();
    }
    else {
        argv[0] = self;
        if (count > 0)
            memcpy(argv + 1, args, (size_t)count * sizeof(*args));
        result = PyObject_Vectorcall(method, argv, (size_t)nargs + 1, kwnames);
    }
    if (argv != small)
        PyMem_Free(argv);
    Py_DECREF(method);
    return result;
}

/* ------------------------------------------------- creation and deallocation */

#ifdef CL_DEBUG
/* Checks the state and the callbacks. */
static void
check_callbacks(const FutureObject *future)
{
    cl_assert_of(future, future->f_state == CL_PENDING ||
                             future->f_state == CL_CANCELLED ||
                             future->f_state == CL_FINISHED);
    /* What is in it is up to programs, too: see call_pair(). */
    cl_assert_of(future, future->f_callbacks == NULL ||
                             PyList_CheckExact(future->f_callbacks));
}
#endif

/* Calls the loop's get_debug(). Returns 1, 0 or -1. */
static int
loop_debugs(cl_state *st, PyObject *loop)
{
    LoopObject *ours = cl_loop_cast(loop);
    /* get_debug() may be overridden, as in asyncio's own tests. */
    if (ours != NULL && !cl_loop_overrides(ours, CL_OVERRIDES_GET_DEBUG))
        return ours->l_debug;
    PyObject *result =
        PyObject_CallMethodNoArgs(loop, cl_futures_of(st)->str_get_debug);
    int debug = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return debug;
}

int
cl_future_init(cl_state *st, FutureObject *future, PyObject *loop)
{
    /* Python code that was called may have initialised it meanwhile. */
    Py_XSETREF(future->f_loop, Py_NewRef(loop));
    int debug = loop_debugs(st, loop);
    if (debug > 0 && !cl_is_finalizing()) {
        PyObject *stack = PyObject_CallNoArgs(st->extract_stack);
        if (stack == NULL)
            return -1;
        Py_XSETREF(future->f_source_tb, stack);
    }
    return debug < 0 ? -1 : 0;
}

PyObject *
cl_future_new(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    PyObject *self =
        cl_spares_take(&cl_futures_on(loop)->spare_futures,
                       cl_futures_of(st)->FutureType, sizeof(FutureObject));
    if (self == NULL)
        return NULL;
    cl_live_add(&cl_futures_of(st)->live_futures, 1);
    if (!loop->l_debug && !cl_loop_overrides(loop, CL_OVERRIDES_GET_DEBUG)) {
        ((FutureObject *)self)->f_loop = Py_NewRef((PyObject *)loop);
        PyObject_GC_Track(self);
        return self;
    }
    int status = cl_future_init(st, (FutureObject *)self, (PyObject *)loop);
    PyObject_GC_Track(self);
    if (status < 0)
        Py_CLEAR(self);
    return self;
}

PyObject *
cl_future_create(cl_state *st, PyObject *loop)
{
    LoopObject *ours = cl_loop_cast(loop);
    if (ours != NULL && cl_futures_are_ours(ours->l_st) &&
        !cl_loop_overrides(ours, CL_OVERRIDES_CREATE_FUTURE))
        return cl_future_new(ours);
    return PyObject_CallMethodNoArgs(loop,
                                     cl_futures_of(st)->str_create_future);
}

static PyObject *
Future_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
           PyObject *Py_UNUSED(kwargs))
{
    PyObject *self = cl_type_alloc(type);
    cl_state *st = self == NULL ? NULL : cl_future_state(self);
    if (st != NULL)
        cl_live_add(&cl_futures_of(st)->live_futures, 1);
    return self;
}

static int
Future_clear(PyObject *self)
{
    cl_future_drop((FutureObject *)self);
    return 0;
}

/* Whether it has nothing but its loop and one of the results that waiters get:
 * freeing it runs no code, so it cannot be nested either. */
static inline bool
is_bare(FutureObject *future)
{
    return future->f_state == CL_FINISHED &&
           (future->f_result == Py_None || future->f_result == Py_True) &&
           !future->f_log_tb && future->f_callback0 == NULL &&
           future->f_context0 == NULL && future->f_callbacks == NULL &&
           !cl_future_has_more(future) && cl_future_is_alone(future);
}

void
cl_future_dealloc(PyObject *self)
{
    FutureObject *future = (FutureObject *)self;
    LoopObject *loop = cl_loop_cast(future->f_loop);
    cl_state *st = loop != NULL ? loop->l_st : cl_future_state(self);
    bool exact = Py_TYPE(self) == cl_futures_of(st)->FutureType;
    if (exact && loop != NULL && is_bare(future)) {
        PyObject_GC_UnTrack(self);
        cl_live_add(&cl_futures_of(st)->live_futures, -1);
        future->f_loop = NULL; /* the reference is ours now */
        Py_CLEAR(future->f_result);
        cl_spares_give(&cl_futures_on(loop)->spare_futures, self);
        Py_DECREF(loop);
        return;
    }
    /* For a subclass, subtype_dealloc() has called the finalizer. */
    if (exact && future->f_log_tb) {
        if (PyObject_CallFinalizerFromDealloc(self) < 0)
            return;
        loop = cl_loop_cast(future->f_loop);
    }
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, cl_future_dealloc);
    cl_live_add(&cl_futures_of(st)->live_futures, -1);
    cl_clear_weakrefs(self);
    if (!exact)
        loop = NULL;
    else if (loop != NULL)
        future->f_loop = NULL; /* the reference is ours now */
    cl_future_drop(future);
    cl_spares_give(loop == NULL ? NULL : &cl_futures_on(loop)->spare_futures,
                   self);
    Py_XDECREF(loop);
    Py_TRASHCAN_END;
}

static int
Future_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    cl_state *st = cl_future_state(self);
    return st == NULL ? -1
                      : ((PyTypeObject *)cl_futures_of(st)->asyncio_Future)
                            ->tp_init(self, args, kwargs);
}

void
cl_future_finalize(PyObject *self)
{
    PyTypeObject *type = own_type(self);
    /* asyncio's tells the loop, and does not expect that there is none. */
    if (type != NULL && ((FutureObject *)self)->f_loop != NULL)
        type->tp_base->tp_finalize(self);
}

/* -------------------------------------------------------------------- callbacks */

/* Whether the callback is exactly a cloop.Task. Tasks are not callable, so only
 * cloop stores one there. */
static inline bool
is_task(PyObject *callback)
{
    return Py_TYPE(callback)->tp_dealloc == cl_task_dealloc;
}

static inline bool
is_waiting_task(const FutureObject *future)
{
    return future->f_callback0 != NULL && is_task(future->f_callback0);
}

int
cl_future_normalise(FutureObject *future)
{
    if (!is_waiting_task(future))
        return 0;
    TaskObject *task = (TaskObject *)future->f_callback0;
    PyObject *wakeup = cl_task_wakeup_callable(task);
    if (wakeup == NULL)
        return -1;
    if ((PyObject *)task != future->f_callback0) { /* a collection ran */
        Py_DECREF(wakeup);
        return 0;
    }
    future->f_callback0 = wakeup;
    Py_DECREF(task);
    return 0;
}

/* For tally.h: the callback may be a task's step. */
static __attribute__((noinline)) void
note_due(LoopObject *loop, PyObject *callback)
{
    PyObject *task = cl_task_of_callable(callback);
    if (task != NULL)
        cl_tally_due(loop, (TaskObject *)task);
}

int
cl_future_call_soon(FutureObject *future, PyObject *callback,
                    PyObject *argument, PyObject *context)
{
    LoopObject *ours = cl_loop_cast(future->f_loop);
    if (future->f_loop == NULL) { /* cleared by the garbage collector */
        PyErr_SetString(PyExc_RuntimeError,
                        "Future object is not initialized.");
        return -1;
    }
    if (ours != NULL && cl_tally_is_on(ours))
        note_due(ours, callback);
    if (ours != NULL && cl_loop_is_plain(ours))
        return cl_loop_call_soon(ours, callback, &argument, argument != NULL,
                                 context);
    cl_state *st = cl_future_state((PyObject *)future);
    return st == NULL
               ? -1
               : cl_call_soon_method(st, future->f_loop, callback, &argument,
                                     argument != NULL, context);
}

/* Wakes a task that waits for the future. Steals the reference to the task. */
static int
wake(FutureObject *future, TaskObject *task)
{
    LoopObject *loop = cl_loop_cast(future->f_loop);
    cl_assert_of(task, Py_REFCNT(task) > 0);
    if (loop != NULL && cl_task_fits_node(task, loop)) {
        if (cl_tally_is_on(loop))
            cl_tally_due(loop, task);
        return cl_loop_push(loop, cl_node_make(task, CL_NODE_TASK_WAKEUP));
    }
    PyObject *wakeup = cl_task_wakeup_callable(task);
    /* The program's call_soon() is looked up, which may run __init__() again. */
    PyObject *context = Py_XNewRef(task->t_context);
    int status =
        wakeup == NULL
            ? -1
            : cl_future_call_soon(future, wakeup, (PyObject *)future, context);
    Py_XDECREF(context);
    Py_XDECREF(wakeup);
    Py_DECREF(task);
    return status;
}

/* The task that waits for the future, if the callback is what wakes it, and the
 * ready ring takes it; borrowed, or NULL. */
static TaskObject *
woken_by(const FutureObject *future, PyObject *callback,
         const PyObject *context)
{
    LoopObject *loop = cl_loop_cast(future->f_loop);
    TaskObject *task = (TaskObject *)cl_task_of_wakeup(callback);
    return task != NULL && task->t_fut_waiter == (PyObject *)future &&
                   task->t_context == context && is_task((PyObject *)task) &&
                   task->f_loop == (PyObject *)loop && loop != NULL &&
                   cl_task_fits_node(task, loop)
               ? task
               : NULL;
}

/* Passes a callback that is no task to the loop. */
static int
call_back(FutureObject *future, PyObject *callback, PyObject *context)
{
    TaskObject *task = woken_by(future, callback, context);
    return task != NULL ? wake(future, (TaskObject *)Py_NewRef(task))
                        : cl_future_call_soon(future, callback,
                                              (PyObject *)future, context);
}

/* The same for a callback of the list, to which programs can get: before 3.14
 * asyncio's getter may return the list itself. */
static int
call_pair(FutureObject *future, PyObject *pair)
{
    if (PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2)
        return call_back(future, PyTuple_GET_ITEM(pair, 0),
                         PyTuple_GET_ITEM(pair, 1));
    PyErr_Format(PyExc_TypeError, "%R is no callback with its context", pair);
    return -1;
}

/* Whether the callback gets the future as a ready node of its own. */
static inline bool
takes_node(const FutureObject *future, PyObject *callback)
{
    LoopObject *loop = cl_loop_cast(future->f_loop);
    return loop != NULL &&
           Py_TYPE(callback) == cl_futures_of(loop->l_st)->child_callback &&
           cl_future_is_ours(loop->l_st, (PyObject *)future) &&
           cl_loop_is_plain(loop) && !loop->l_closed;
}

int
cl_future_schedule(FutureObject *future)
{
    cl_assert_gil();
    /* It is done, unless the destructor of a message has called __init__(). */
    cl_check(check_callbacks(future));
    /* Cleared first: an overridden call_soon() may run any code. The others
     * are there meanwhile, as in asyncio, and may be removed. */
    PyObject *callback = future->f_callback0, *context = future->f_context0,
             *more;
    bool task_waits = is_waiting_task(future);
    int status = 0;

    if (callback != NULL) /* else asyncio is about to drop the context */
        future->f_callback0 = future->f_context0 = NULL;
    if (task_waits) {
        status = wake(future, (TaskObject *)callback);
        Py_XDECREF(context);
    }
    else if (callback != NULL && takes_node(future, callback)) {
        future->f_context0 = callback;
        Py_XDECREF(context);
        status =
            cl_loop_push((LoopObject *)future->f_loop,
                         cl_node_make(Py_NewRef(future), CL_NODE_CHILD_DONE));
    }
    else if (callback != NULL) {
        status = call_back(future, callback, context);
        Py_DECREF(callback);
        Py_XDECREF(context);
    }
    more = future->f_callbacks;
    future->f_callbacks = NULL;
    if (more == NULL)
        return status;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(more); i++) {
        PyObject *pair = Py_NewRef(PyList_GET_ITEM(more, i));
        status = call_pair(future, pair);
        Py_DECREF(pair);
    }
    Py_DECREF(more);
    return status;
}

int
cl_future_append(FutureObject *future, PyObject *callback, PyObject *context)
{
    cl_assert_gil();
    cl_assert_of(future, future->f_state == CL_PENDING && callback != NULL);
    /* Not of a long list, each time that it grows by one. */
    cl_check_stress(future->f_callbacks == NULL ||
                            PyList_GET_SIZE(future->f_callbacks) < 100
                        ? check_callbacks(future)
                        : (void)0);
    /* A destructor may come here between asyncio's removal of a callback and
     * that of its context. */
    if (future->f_callbacks == NULL && future->f_callback0 == NULL &&
        future->f_context0 == NULL && !is_task(callback)) {
        future->f_callback0 = Py_NewRef(callback);
        future->f_context0 = Py_NewRef(context);
        return 0;
    }
    PyObject *pair = PyTuple_Pack(2, callback, context);
    PyObject *list = pair == NULL ? NULL
                     : future->f_callbacks != NULL
                         ? Py_NewRef(future->f_callbacks)
                         : PyList_New(0);
    int status = -1;
    /* A collection may have ended the future, or added another one. */
    if (list != NULL && future->f_state != CL_PENDING) {
        status =
            cl_future_call_soon(future, callback, (PyObject *)future, context);
    }
    else if (list != NULL) {
        if (future->f_callbacks == NULL)
            future->f_callbacks = Py_NewRef(list);
        status = PyList_Append(future->f_callbacks, pair);
    }
    Py_XDECREF(pair);
    Py_XDECREF(list);
    return status;
}

/* ----------------------------------------------------------------------- results */

int
cl_future_finish(FutureObject *future, PyObject *result)
{
    cl_assert_of(future, future->f_state == CL_PENDING);
    cl_assert_of(future, future->f_result == NULL && result != NULL);
    future->f_result = Py_NewRef(result);
    future->f_state = CL_FINISHED;
    return cl_future_schedule(future);
}

int
cl_future_end_cancelled(FutureObject *future, PyObject *message)
{
    cl_assert_of(future, future->f_state == CL_PENDING);
    future->f_log_tb = 0;
    future->f_state = CL_CANCELLED;
    cl_future_set_message(future, message);
    return cl_future_schedule(future);
}

/* ----------------------------------------------------------------------- methods */

static PyObject *
Future_set_result(PyObject *self, PyObject *result)
{
    FutureObject *future = (FutureObject *)self;
    if (future->f_loop == NULL || future->f_state != CL_PENDING) {
        cl_state *st = cl_future_state(self);
        return st == NULL
                   ? NULL
                   : cl_future_inherited(
                         cl_futures_of(st)->asyncio_Future, self,
                         cl_futures_of(st)->str_set_result, &result, 1, NULL);
    }
    if (cl_future_finish(future, result) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
Future_set_exception(PyObject *self, PyObject *exception)
{
    cl_state *st = cl_future_state(self);
    if (st == NULL || cl_future_normalise((FutureObject *)self) < 0)
        return NULL;
    return cl_future_inherited(cl_futures_of(st)->asyncio_Future, self,
                               cl_futures_of(st)->str_set_exception,
                               &exception, 1, NULL);
}

PyObject *
cl_future_cancel_args(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nargs + nkw == 0)
        return Py_None;
#if CL_HAS_CANCEL_MESSAGE
    if (nargs + nkw == 1 &&
        (nargs == 1 || cl_is_keyword(PyTuple_GET_ITEM(kwnames, 0),
                                     cl_futures_of(st)->str_msg)))
        return args[0];
#else
    (void)st;
    (void)args;
#endif
    return NULL;
}

static PyObject *
Future_cancel(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    FutureObject *future = (FutureObject *)self;
    cl_state *st = cl_future_state(self);
    if (st == NULL)
        return NULL;
    PyObject *message = cl_future_cancel_args(st, args, nargs, kwnames);
    if (message == NULL || future->f_loop == NULL)
        return cl_future_inherited(cl_futures_of(st)->asyncio_Future, self,
                                   cl_futures_of(st)->str_cancel, args, nargs,
                                   kwnames);
    future->f_log_tb = 0;
    if (future->f_state != CL_PENDING)
        Py_RETURN_FALSE;
    if (cl_future_end_cancelled(future, message) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

PyObject *
cl_future_add_done_callback(PyObject *self, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames)
{
    FutureObject *future = (FutureObject *)self;
    PyObject *context = NULL, *copy = NULL;
    cl_state *st = cl_future_state(self);
    int status;

    if (st == NULL)
        return NULL;
    cl_futures *futures = cl_futures_of(st);
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1 && nargs == 1 &&
        cl_is_keyword(PyTuple_GET_ITEM(kwnames, 0), futures->str_context))
        context = args[1];
    else if (nargs != 1 || (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0))
        return cl_future_inherited(futures->asyncio_Future, self,
                                   futures->str_add_done_callback, args, nargs,
                                   kwnames);
    if (future->f_loop == NULL)
        return cl_future_inherited(futures->asyncio_Future, self,
                                   futures->str_add_done_callback, args, nargs,
                                   kwnames);
    if (context == NULL && (context = copy = PyContext_CopyCurrent()) == NULL)
        return NULL;
    if (future->f_state != CL_PENDING)
        status = cl_future_call_soon(future, args[0], self, context);
    else
        status = cl_future_append(future, args[0], context);
    Py_XDECREF(copy);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *
cl_future_remove_done_callback(PyObject *self, PyObject *callback)
{
    cl_state *st = cl_future_state(self);
    if (st == NULL || cl_future_normalise((FutureObject *)self) < 0)
        return NULL;
    return cl_future_inherited(cl_futures_of(st)->asyncio_Future, self,
                               cl_futures_of(st)->str_remove_done_callback,
                               &callback, 1, NULL);
}

PyObject *
cl_future_callbacks(PyObject *self, void *Py_UNUSED(closure))
{
    cl_state *st = cl_future_state(self);
    if (st == NULL || cl_future_normalise((FutureObject *)self) < 0)
        return NULL;
    PyObject *type = cl_futures_of(st)->asyncio_Future;
    PyObject *getter =
        PyObject_GetAttr(type, cl_futures_of(st)->str__callbacks);
    if (getter == NULL)
        return NULL;
    PyObject *list = Py_TYPE(getter)->tp_descr_get(getter, self, type);
    Py_DECREF(getter);
    return list;
}

/* -------------------------------------------------------------------------- type */

static PyMethodDef Future_methods[] = {
    {"set_result", Future_set_result, METH_O,
     "set_result($self, result, /)\n--\n\n"
     "Mark the future done and set its result. Raises InvalidStateError if it "
     "is done.\n"
     "See asyncio's Future.set_result."},
    {"set_exception", Future_set_exception, METH_O,
     "set_exception($self, exception, /)\n--\n\n"
     "Mark the future done and set its exception, an instance or a class. "
     "Raises\n"
     "InvalidStateError if it is done, TypeError if exception is not an "
     "exception or is a\n"
     "StopIteration. See asyncio's Future.set_exception."},
    {"cancel", CL_FAST(Future_cancel), METH_FASTCALL | METH_KEYWORDS,
     CL_CANCEL_SIGNATURE
     "Cancel the future and schedule its callbacks; return False if it was "
     "done already.\n"
     "See asyncio's Future.cancel."},
    {"add_done_callback", CL_FAST(cl_future_add_done_callback),
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"remove_done_callback", cl_future_remove_done_callback, METH_O,
     CL_REMOVE_DONE_CALLBACK_DOC},
    {NULL}};

static PyGetSetDef Future_getset[] = {
    {"_callbacks", cl_future_callbacks, NULL, NULL, NULL}, {NULL}};

PyDoc_STRVAR(Future_doc, "Future(*, loop=None)\n--\n\n"
                         "A faster asyncio.Future for cloop's loops; "
                         "loop.create_future() returns it.");

static PyType_Slot Future_slots[] = {{Py_tp_doc, (void *)Future_doc},
                                     {Py_tp_new, Future_new},
                                     {Py_tp_init, Future_init},
                                     {Py_tp_dealloc, cl_future_dealloc},
                                     {Py_tp_finalize, cl_future_finalize},
                                     {Py_tp_traverse, cl_future_visit},
                                     {Py_tp_clear, Future_clear},
                                     {Py_tp_iter, cl_future_iter},
                                     {Py_am_await, cl_future_iter},
                                     {Py_tp_methods, Future_methods},
                                     {Py_tp_getset, Future_getset},
                                     {0, NULL}};

static PyType_Spec Future_spec = {
    .name = "cloop.Future",
    .basicsize = sizeof(FutureObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Future_slots,
};

PyTypeObject *
cl_future_setup(PyObject *module, cl_state *st)
{
    int known = cl_abi_has("futures");
    if (known < 0)
        return NULL;
    cl_futures_of(st)->layouts_fit =
        known && cl_layouts_fit(cl_futures_of(st)->asyncio_Future,
                                cl_futures_of(st)->asyncio_Task);
    if (!cl_futures_of(st)->layouts_fit)
        return (PyTypeObject *)Py_NewRef(cl_futures_of(st)->asyncio_Future);
    PyObject *bases = PyTuple_Pack(1, cl_futures_of(st)->asyncio_Future);
    if (bases == NULL)
        return NULL;
    PyTypeObject *type = cl_type_new(module, st, &Future_spec, bases, 0, 0);
    Py_DECREF(bases);
    return type;
}
