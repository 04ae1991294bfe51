/* as_completed.c - asyncio.as_completed(), of coroutines, and of futures that
 * are ours and of the running loop.
 *
 * Up to 3.12 asyncio's is a generator, which does nothing until it is first
 * advanced; since 3.13 it is an iterator, and an asynchronous one. So is the
 * type here; up to 3.12 a generator is put around it (cloop/_accelerate.py).
 * asyncio collects what is done in a Queue of its own; here that is two
 * deques. */
#include "sync/as_completed.h"

#include "core/args.h"
#include "futures/registry.h"
#include "futures/task.h"
#include "sync/callback.h"
#include "sync/child.h"
#include "sync/deque.h"
#include "sync/op.h"
#include "sync/timer.h"

/* The versions of the text: 3.8, where a generator is taken for a coroutine;
 * 3.12; an iterator, 3.13; with awaiters, 3.14. */
enum { FIRST = 1, TAKES_GENERATORS, AS_ITERATOR, WITH_AWAITED_BY };

typedef struct {
    PyObject_HEAD
    cl_state *ac_st;       /* borrowed; the type keeps the module alive */
    PyObject *ac_fs;       /* owned; as passed, until it has begun */
    PyObject *ac_timeout;  /* owned; as passed, or NULL */
    PyObject *ac_original; /* owned; asyncio's generator, which runs instead */
    PyObject *ac_todo;     /* owned; a set of futures */
    PyObject *ac_timer;    /* owned, or NULL */
    PyObject *ac_task;     /* owned; the awaiting task (3.14), or NULL */
    PyObject *ac_done;     /* owned; deque of futures; None: no more time */
    PyObject *ac_getters;  /* owned; deque of futures */
    PyObject *ac_loop;     /* owned; that of the getters */
    Py_ssize_t ac_left;    /* how many are still to be returned */
    bool ac_begun;
} AsCompletedObject;

static inline bool
has(const cl_state *st, int variant)
{
    return cl_sync_of(st)->sy_variants[CL_VARIANT_AS_COMPLETED] >= variant;
}

/* ---------------------------------------------------------------------- the queue */

/* self._wakeup_next(self._getters) */
static int
wake_getter(AsCompletedObject *self)
{
    cl_state *st = self->ac_st;
    int woken = 0;
    while (woken == 0 && cl_deque_size(self->ac_getters) > 0) {
        PyObject *getter = cl_deque_popleft(st, self->ac_getters);
        int done = getter == NULL ? -1 : cl_waiter_done(st, getter);
        if (done == 0)
            woken = cl_waiter_finish(st, getter, Py_None) < 0 ? -1 : 1;
        else if (done < 0)
            woken = -1;
        Py_XDECREF(getter);
    }
    return woken < 0 ? -1 : 0;
}

/* done.put_nowait(item) */
static int
put(AsCompletedObject *self, PyObject *item)
{
    if (self->ac_done == NULL || self->ac_getters == NULL)
        return 0; /* cleared by the garbage collector */
    return cl_deque_append(self->ac_st, self->ac_done, item) < 0
               ? -1
               : wake_getter(self);
}

/* ------------------------------------------------------------------------- callbacks */

/* _on_completion(f); cb_first is the iterator. */
static int
completed(SyncCallbackObject *callback, PyObject *const *args)
{
    AsCompletedObject *self = (AsCompletedObject *)callback->cb_first;
    cl_state *st = callback->cb_st;
    if (self->ac_todo == NULL || PySet_GET_SIZE(self->ac_todo) == 0)
        return 0;
    Py_INCREF(self);
    int status = PySet_Discard(self->ac_todo, args[0]);
    if (status == 0)
        PyErr_SetObject(PyExc_KeyError, args[0]);
    status = status > 0 ? 0 : -1;
    if (status == 0)
        status = cl_child_forget_awaited_by(st, args[0], self->ac_task);
    if (status == 0)
        status = put(self, args[0]);
    if (status == 0 && self->ac_todo != NULL &&
        PySet_GET_SIZE(self->ac_todo) == 0)
        status = cl_timer_cancel(st, self->ac_timer);
    Py_DECREF(self);
    return status;
}

static const cl_callback_kind
    on_completion = {"_on_completion", "as_completed.<locals>._on_completion",
                     CL_CLOSURE_AS_COMPLETED, 1, completed},
    handle_completion = {"_handle_completion",
                         "_AsCompletedIterator._handle_completion",
                         CL_CLOSURE_NONE, 1, completed};

/* _on_timeout(); cb_first is the iterator, cb_second the callback above. */
static int
timed_out(SyncCallbackObject *callback, PyObject *const *Py_UNUSED(args))
{
    AsCompletedObject *self =
        (AsCompletedObject *)Py_NewRef(callback->cb_first);
    PyObject *todo = Py_XNewRef(self->ac_todo),
             *added = Py_XNewRef(callback->cb_second), *child;
    PyObject *iter = todo == NULL ? NULL : PyObject_GetIter(todo);
    cl_state *st = callback->cb_st;
    int status = iter == NULL || added == NULL ? -1 : 0;
    while (status == 0 && (child = PyIter_Next(iter)) != NULL) {
        status = cl_child_remove_callback(st, child, added);
        if (status == 0)
            status = cl_child_forget_awaited_by(st, child, self->ac_task);
        if (status == 0)
            status = put(self, Py_None);
        Py_DECREF(child);
    }
    if (status == 0 && !PyErr_Occurred())
        status = PySet_Clear(todo);
    Py_XDECREF(iter);
    Py_XDECREF(todo);
    Py_XDECREF(added);
    Py_DECREF(self);
    return PyErr_Occurred() ? -1 : 0;
}

static const cl_callback_kind
    on_timeout = {"_on_timeout", "as_completed.<locals>._on_timeout",
                  CL_CLOSURE_NONE, 0, timed_out},
    handle_timeout = {"_handle_timeout",
                      "_AsCompletedIterator._handle_timeout", CL_CLOSURE_NONE,
                      0, timed_out};

/* --------------------------------------------------------------------------- begin */

/* Whether the items can be waited for here: 1, 0, -1. */
static int
all_fit(cl_state *st, LoopObject *loop, PyObject *set)
{
    PyObject *iter = PyObject_GetIter(set), *child;
    bool fit = iter != NULL;
    while (fit && (child = PyIter_Next(iter)) != NULL) {
        fit = cl_future_is_ours(st, child)
                  ? ((FutureObject *)child)->f_loop == (PyObject *)loop
                  : cl_child_fits_task(loop, child);
        Py_DECREF(child);
    }
    Py_XDECREF(iter);
    return PyErr_Occurred() ? -1 : fit;
}

/* {ensure_future(f, loop=loop) for f in set} */
static PyObject *
ensure_all(cl_state *st, LoopObject *loop, PyObject *set)
{
    PyObject *todo = PySet_New(NULL), *item;
    PyObject *iter = todo == NULL ? NULL : PyObject_GetIter(set);
    int status = iter == NULL ? -1 : 0;
    while (status == 0 && (item = PyIter_Next(iter)) != NULL) {
        PyObject *child = cl_future_is_ours(st, item)
                              ? Py_NewRef(item)
                              : cl_task_new(loop, item, NULL, NULL, false);
        status = child == NULL ? -1 : PySet_Add(todo, child);
        Py_XDECREF(child);
        Py_DECREF(item);
    }
    Py_XDECREF(iter);
    if (status < 0 || PyErr_Occurred())
        Py_CLEAR(todo);
    return todo;
}

/* Adds the callback to all, and starts the timer. 0/-1 */
static int
watch_all(AsCompletedObject *self, LoopObject *loop)
{
    cl_state *st = self->ac_st;
    bool iterator = has(st, AS_ITERATOR);
    double delay = 0.0;
    PyObject *added = (PyObject *)cl_callback_new(
                 st, iterator ? &handle_completion : &on_completion,
                 (PyObject *)self, NULL, NULL),
             *expired, *child;
    PyObject *iter = added == NULL ? NULL : PyObject_GetIter(self->ac_todo);
    int status = iter == NULL ? -1 : 0;
    while (status == 0 && (child = PyIter_Next(iter)) != NULL) {
        status = cl_child_add_callback(st, child, added);
        if (status == 0)
            status = cl_child_note_awaited_by(st, child, self->ac_task);
        Py_DECREF(child);
    }
    if (status == 0 && !PyErr_Occurred() && self->ac_timeout != NULL &&
        PySet_GET_SIZE(self->ac_todo) > 0 &&
        cl_timer_delay(self->ac_timeout, &delay)) {
        expired = (PyObject *)cl_callback_new(
            st, iterator ? &handle_timeout : &on_timeout, (PyObject *)self,
            added, NULL);
        if (expired != NULL)
            self->ac_timer = cl_timer_start(loop, delay, expired, NULL, 0);
        Py_XDECREF(expired);
    }
    Py_XDECREF(iter);
    Py_XDECREF(added);
    return PyErr_Occurred() ? -1 : 0;
}

/* set(fs): a new reference; NULL without an exception if that is up to
 * asyncio. Runs Python. */
static PyObject *
as_set(cl_state *st, PyObject *fs)
{
    if (PyGen_CheckExact(fs) && has(st, TAKES_GENERATORS)) {
        PyObject *code = PyObject_GetAttrString(fs, "gi_code");
        bool awaitable =
            code == NULL || !PyCode_Check(code) ||
            (((PyCodeObject *)code)->co_flags & CO_ITERABLE_COROUTINE) != 0;
        Py_XDECREF(code);
        return awaitable ? NULL : PySet_New(fs);
    }
    return PyList_CheckExact(fs) || PyTuple_CheckExact(fs) ||
                   PyAnySet_CheckExact(fs) || PyDict_CheckExact(fs)
               ? PySet_New(fs)
               : NULL;
}

/* Calls asyncio's function. */
static PyObject *
original(cl_state *st, PyObject *fs, PyObject *timeout)
{
    PyObject *args[] = {fs, timeout == NULL ? Py_None : timeout};
    return cl_sync_original(st, CL_BODY_AS_COMPLETED, args, 1,
                            cl_sync_of(st)->kwnames_timeout);
}

/* Begins to wait for all. Returns 1 if it did, 0 if asyncio shall: *fs, a new
 * reference, is to be passed then; -1 with an exception. */
static int
begin(AsCompletedObject *self, PyObject **fs)
{
    cl_state *st = self->ac_st;
    cl_guard *queue = &cl_sync_of(st)->sy_classes[CL_CLASS_QUEUE].sc_guard;
    LoopObject *loop =
        cl_sync_loop(st) != NULL && cl_sync_pinned(st, CL_PINS_AS_COMPLETED) &&
                cl_guard_holds(queue)
            ? cl_sync_running_loop(st, CL_OVERRIDES_CREATE_TASK |
                                           CL_OVERRIDES_CREATE_FUTURE |
                                           CL_OVERRIDES_TIMERS)
            : NULL;
    PyObject *task = NULL, *set = NULL;
    if (loop != NULL && has(st, WITH_AWAITED_BY) &&
        (task = cl_registry_current_task(st, loop)) == NULL)
        loop = NULL;
    if (loop != NULL) {
        Py_INCREF(loop);
        Py_XINCREF(task);
        set = as_set(st, self->ac_fs);
    }
    int fits = set == NULL ? 0 : all_fit(st, loop, set);
    if (fits > 0 && loop->l_closed)
        fits = 0;
    if (fits > 0 && !PyErr_Occurred()) {
        Py_CLEAR(self->ac_fs);
        self->ac_task = Py_XNewRef(task);
        self->ac_done =
            PyObject_CallNoArgs((PyObject *)cl_sync_of(st)->sy_deque);
        if (self->ac_done != NULL)
            self->ac_getters =
                PyObject_CallNoArgs((PyObject *)cl_sync_of(st)->sy_deque);
        if (self->ac_getters != NULL)
            self->ac_todo = ensure_all(st, loop, set);
        if (self->ac_todo != NULL && watch_all(self, loop) == 0)
            self->ac_left = PySet_GET_SIZE(self->ac_todo);
    }
    else if (!PyErr_Occurred()) {
        *fs = set != NULL ? Py_NewRef(set) : Py_NewRef(self->ac_fs);
    }
    Py_XDECREF(set);
    Py_XDECREF(task);
    Py_XDECREF(loop);
    return PyErr_Occurred() ? -1 : fits;
}

/* ----------------------------------------------------------------- _wait_for_one() */

enum { RESOLVES = 1 };

static inline AsCompletedObject *
iterator_of(SyncOpObject *op)
{
    return (AsCompletedObject *)op->o_self;
}

/* getter = self._get_loop().create_future(), and so on. */
static cl_op_outcome
wait_for_item(SyncOpObject *op)
{
    AsCompletedObject *self = iterator_of(op);
    cl_state *st = self->ac_st;
    PyObject *loop = cl_registry_running_loop(st), *getter = NULL;
    if (self->ac_loop == NULL)
        self->ac_loop = Py_XNewRef(loop);
    if (loop != NULL && loop == self->ac_loop)
        getter = cl_future_create(st, loop);
    else if (self->ac_loop != NULL && !PyErr_Occurred())
        PyErr_Format(PyExc_RuntimeError,
                     "%R is bound to a different event loop", self);
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "no running event loop");
    int status =
        getter == NULL ? -1 : cl_deque_append(st, self->ac_getters, getter);
    if (status == 0)
        status = cl_coro_wait(&op->o_coro, getter);
    Py_XDECREF(getter);
    Py_XDECREF(loop);
    return status < 0 ? CL_OP_FAILED : CL_OP_WAIT;
}

static cl_op_outcome
take(SyncOpObject *op, PyObject **result)
{
    AsCompletedObject *self = iterator_of(op);
    cl_state *st = self->ac_st;
    if (self->ac_done == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "as_completed() is gone");
        return CL_OP_FAILED;
    }
    if (cl_deque_size(self->ac_done) == 0)
        return wait_for_item(op);
    PyObject *item = cl_deque_popleft(st, self->ac_done);
    if (item == Py_None)
        PyErr_SetNone(cl_sync_of(st)->TimeoutError);
    else if (item != NULL)
        *result = op->o_stage == RESOLVES ? cl_child_result(st, item)
                                          : Py_NewRef(item);
    Py_XDECREF(item);
    return *result == NULL ? CL_OP_FAILED : CL_OP_DONE;
}

static cl_op_outcome
take_next(SyncOpObject *op, PyObject **result)
{
    AsCompletedObject *self = iterator_of(op);
    if (self->ac_left == 0) {
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return CL_OP_FAILED;
    }
    self->ac_left--;
    return take(op, result);
}

static cl_op_outcome
not_taken(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    AsCompletedObject *self = iterator_of(op);
    cl_state *st = self->ac_st;
    PyObject *error = PyErr_GetRaisedException();
    PyObject *getter = Py_XNewRef(op->o_coro.c_future);
    int status = getter == NULL ? -1 : cl_waiter_cancel(st, getter);
    if (status == 0 && self->ac_getters != NULL &&
        cl_deque_remove(st, self->ac_getters, getter) < 0) {
        if (PyErr_ExceptionMatches(PyExc_ValueError))
            PyErr_Clear();
        else
            status = -1;
    }
    if (status == 0 && self->ac_done != NULL &&
        cl_deque_size(self->ac_done) > 0 &&
        cl_waiter_cancelled(st, getter) == 0)
        (void)wake_getter(self);
    Py_XDECREF(getter);
    cl_op_chain(error);
    return CL_OP_FAILED;
}

/* self and resolve, as far as asyncio's function has them. */
static PyObject *
one_args(const SyncOpObject *op)
{
    return PyTuple_Pack(2, op->o_self,
                        op->o_stage == RESOLVES ? Py_True : Py_False);
}

/* What they await, by stage. */
static const char *const one_awaits[] = {"get", "get"};
static const char *const next_awaits[] = {"_wait_for_one"};

/* They never hand over: what they wait in is not a Queue of asyncio's. */
#define KIND(owner, name, awaits, first) \
    { \
        .k_ops = CL_OP_OPS(owner), \
        .k_name = name, \
        .k_body = -1, \
        .k_class = CL_OP_OF_AS_COMPLETED, \
        .k_awaits = awaits, \
        .k_begin = first, \
        .k_woken = take, \
        .k_failed = not_taken, \
        .k_args = one_args, \
    }

static const cl_op_kind one = KIND("as_completed.<locals>", "_wait_for_one",
                                   one_awaits, take),
                        one_of_iterator =
                            KIND("_AsCompletedIterator", "_wait_for_one",
                                 one_awaits, take),
                        next_of_iterator =
                            KIND("_AsCompletedIterator", "__anext__",
                                 next_awaits, take_next);

/* ---------------------------------------------------------------------- the iterator */

static PyObject *
new_iterator(cl_state *st, PyObject *fs, PyObject *timeout)
{
    PyTypeObject *type = cl_sync_of(st)->AsCompletedType;
    AsCompletedObject *self = (AsCompletedObject *)cl_type_alloc(type);
    if (self == NULL)
        return NULL;
    self->ac_st = st;
    self->ac_fs = Py_NewRef(fs);
    self->ac_timeout = timeout == Py_None ? NULL : Py_NewRef(timeout);
    return (PyObject *)self;
}

PyObject *
cl_sync_as_completed(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject *timeout = named == 1 ? args[nargs] : Py_None, *fs = NULL;
    PyObject *generator =
        cl_sync_of(st)->sy_closures[CL_CLOSURE_AS_COMPLETED_GENERATOR];
    bool iterator = has(st, AS_ITERATOR);
    double delay = 0.0;
    bool known = cl_sync_loop(st) != NULL && nargs == 1 &&
                 (iterator || generator != NULL) &&
                 (named == 0 ||
                  (named == 1 &&
                   cl_is_keyword(PyTuple_GET_ITEM(kwnames, 0),
                                 cl_sync_of(st)->str_timeout) &&
                   (timeout == Py_None || cl_timer_delay(timeout, &delay))));
    if (!known || delay != delay)
        return cl_sync_original(st, CL_BODY_AS_COMPLETED, args, nargs,
                                kwnames);
    PyObject *self = new_iterator(st, args[0], timeout);
    if (self == NULL)
        return NULL;
    if (!iterator) {
        Py_INCREF(generator);
        Py_SETREF(self, PyObject_CallOneArg(generator, self));
        Py_DECREF(generator);
        return self;
    }
    ((AsCompletedObject *)self)->ac_begun = true;
    int begun = begin((AsCompletedObject *)self, &fs);
    if (begun <= 0)
        Py_CLEAR(self);
    if (begun == 0)
        self = original(st, fs, timeout);
    Py_XDECREF(fs);
    return self;
}

/* Like the generator, at its first step. 0/-1 */
static int
begin_late(AsCompletedObject *self)
{
    PyObject *fs = NULL;
    self->ac_begun = true;
    int begun = begin(self, &fs);
    if (begun == 0) {
        self->ac_original = original(self->ac_st, fs, self->ac_timeout);
        if (self->ac_original == NULL)
            begun = -1;
        Py_CLEAR(self->ac_fs);
    }
    Py_XDECREF(fs);
    return begun < 0 ? -1 : 0;
}

static PyObject *
AsCompleted_next(AsCompletedObject *self)
{
    cl_state *st = self->ac_st;
    if (!self->ac_begun && begin_late(self) < 0)
        return NULL;
    if (self->ac_original != NULL)
        return Py_TYPE(self->ac_original)->tp_iternext(self->ac_original);
    if (self->ac_left == 0)
        return NULL;
    self->ac_left--;
    SyncOpObject *op = (SyncOpObject *)cl_op_new(
        st, has(st, AS_ITERATOR) ? &one_of_iterator : &one, (PyObject *)self,
        NULL);
    if (op != NULL)
        op->o_stage = RESOLVES;
    return (PyObject *)op;
}

static PyObject *
AsCompleted_anext(AsCompletedObject *self)
{
    return cl_op_new(self->ac_st, &next_of_iterator, (PyObject *)self, NULL);
}

static int
AsCompleted_traverse(AsCompletedObject *self, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(self);
    Py_VISIT(self->ac_fs);
    Py_VISIT(self->ac_timeout);
    Py_VISIT(self->ac_original);
    Py_VISIT(self->ac_todo);
    Py_VISIT(self->ac_timer);
    Py_VISIT(self->ac_task);
    Py_VISIT(self->ac_done);
    Py_VISIT(self->ac_getters);
    Py_VISIT(self->ac_loop);
    return 0;
}

static int
AsCompleted_clear(AsCompletedObject *self)
{
    Py_CLEAR(self->ac_fs);
    Py_CLEAR(self->ac_timeout);
    Py_CLEAR(self->ac_original);
    Py_CLEAR(self->ac_todo);
    Py_CLEAR(self->ac_timer);
    Py_CLEAR(self->ac_task);
    Py_CLEAR(self->ac_done);
    Py_CLEAR(self->ac_getters);
    Py_CLEAR(self->ac_loop);
    return 0;
}

static void
AsCompleted_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)AsCompleted_clear((AsCompletedObject *)self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot AsCompleted_slots[] = {
    {Py_tp_doc, "What asyncio.as_completed() returns: yields coroutines, one "
                "for each future."},
    {Py_tp_dealloc, AsCompleted_dealloc},
    {Py_tp_traverse, AsCompleted_traverse},
    {Py_tp_clear, AsCompleted_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, AsCompleted_next},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, AsCompleted_anext},
    {0, NULL}};

static PyType_Spec AsCompleted_spec = {
    .name = "cloop._cloop.AsCompleted",
    .basicsize = sizeof(AsCompletedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = AsCompleted_slots,
};

PyTypeObject *
cl_as_completed_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &AsCompleted_spec, NULL, 0, 0);
}
