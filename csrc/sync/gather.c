/* gather.c - asyncio.gather().
 *
 * It returns asyncio's own _GatheringFuture. The done callback of the
 * children, a closure in asyncio, is an object here. It has the closure's name
 * and source, for code that looks at the callbacks of a child. */
#include "sync/gather.h"

#include "core/args.h"
#include "core/errors.h"
#include "core/handle.h"
#include "futures/coro.h"
#include "futures/future.h"
#include "futures/registry.h"
#include "futures/task.h"
#include "sync/callback.h"
#include "sync/child.h"
#include "sync/locks.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc ga_vectorcall;
    cl_state *ga_st;       /* borrowed; the type keeps the module alive */
    PyObject *ga_outer;    /* owned; NULL until all children are known */
    PyObject *ga_children; /* owned; a list */
    PyObject *ga_task;     /* owned; the awaiting task (3.14), or NULL */
    PyObject *ga_context;  /* owned, or NULL; a copy for the callbacks */
    Py_ssize_t ga_count;   /* children, duplicates counted once */
    Py_ssize_t ga_finished;
    bool ga_return_exceptions;
} GatherObject;

/* The versions of the text: 3.8; with cancellation messages, 3.9; with
 * children that may be done already, 3.12; with awaiters, 3.14. */
enum { FIRST = 1, WITH_MESSAGES, WITH_EAGER, WITH_AWAITED_BY };

static inline FutureObject *
as_future(PyObject *child)
{
    return (FutureObject *)child;
}

static inline bool
has(const cl_state *st, int variant)
{
    return cl_sync_of(st)->sy_gather_variant >= variant;
}

/* ------------------------------------------------------------- the result of a child */

/* fut._make_cancelled_error(), which 3.8 lacks. */
static PyObject *
cancelled_error(cl_state *st, PyObject *child)
{
    return has(st, WITH_MESSAGES)
               ? PyObject_CallMethodNoArgs(
                     child, cl_sync_of(st)->str__make_cancelled_error)
               : PyObject_CallNoArgs(cl_futures_of(st)->CancelledError);
}

/* CancelledError('' if fut._cancel_message is None else fut._cancel_message) */
static PyObject *
cancelled_result(cl_state *st, PyObject *child)
{
    if (!has(st, WITH_MESSAGES))
        return PyObject_CallNoArgs(cl_futures_of(st)->CancelledError);
    PyObject *message =
        PyObject_GetAttr(child, cl_sync_of(st)->str__cancel_message);
    PyObject *empty = message == Py_None ? PyUnicode_FromString("") : NULL;
    PyObject *error =
        message == NULL || (message == Py_None && empty == NULL)
            ? NULL
            : PyObject_CallOneArg(cl_futures_of(st)->CancelledError,
                                  empty != NULL ? empty : message);
    Py_XDECREF(message);
    Py_XDECREF(empty);
    return error;
}

/* The child's entry in the list of results. */
static PyObject *
outcome_of(cl_state *st, PyObject *child)
{
    int was = cl_child_cancelled(st, child);
    if (was != 0)
        return was < 0 ? NULL : cancelled_result(st, child);
    PyObject *exception = cl_child_exception(st, child);
    if (exception != Py_None)
        return exception;
    Py_DECREF(exception);
    return cl_child_result(st, child);
}

/* ------------------------------------------------------------------ a child is done */

/* Whether it is a _GatheringFuture with asyncio's own methods. */
static bool
is_known(cl_state *st, PyTypeObject *type)
{
    cl_guard *guard = &cl_sync_of(st)->sy_classes[CL_CLASS_GATHERING].sc_guard;
    return type == guard->g_type && cl_guard_holds(guard);
}

static int
tell(GatherObject *gather, PyObject *name, PyObject *value)
{
    PyObject *outer = Py_NewRef(gather->ga_outer);
    PyObject *result =
        value == NULL ? NULL : PyObject_CallMethodOneArg(outer, name, value);
    Py_DECREF(outer);
    Py_XDECREF(value);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* outer.set_result(results) */
static int
set_result(GatherObject *gather, PyObject *results)
{
    cl_state *st = gather->ga_st;
    FutureObject *outer = (FutureObject *)gather->ga_outer;
    LoopObject *loop;
    if (!is_known(st, Py_TYPE(outer)) || outer->f_state != CL_PENDING ||
        outer->f_loop == NULL ||
        (loop = cl_loop_cast(outer->f_loop)) == NULL ||
        !cl_loop_is_plain(loop))
        return tell(gather, cl_sync_of(st)->str_set_result,
                    Py_NewRef(results));
    Py_INCREF(outer);
    int status = cl_future_finish(outer, results);
    Py_DECREF(outer);
    return status;
}

/* The last child is done. */
static int
conclude(GatherObject *gather)
{
    cl_state *st = gather->ga_st;
    cl_sync *sync = cl_sync_of(st);
    PyObject *children = Py_NewRef(gather->ga_children);
    PyObject *results = cl_list_with_room(PyList_GET_SIZE(children)),
             *last = NULL;
    /* Foreign futures run code that may change the list. */
    for (Py_ssize_t i = 0; results != NULL && i < PyList_GET_SIZE(children);
         i++) {
        Py_XSETREF(last, Py_NewRef(PyList_GET_ITEM(children, i)));
        PyObject *outcome = outcome_of(st, last);
        if (outcome == NULL || PyList_Append(results, outcome) < 0)
            Py_CLEAR(results);
        Py_XDECREF(outcome);
    }
    Py_DECREF(children);
    PyObject *asked =
        results == NULL
            ? NULL
            : PyObject_GetAttr(gather->ga_outer, sync->str__cancel_requested);
    int cancel = asked == NULL ? -1 : PyObject_IsTrue(asked);
    int status = -1;
    if (cancel > 0)
        status =
            tell(gather, sync->str_set_exception, cancelled_error(st, last));
    else if (cancel == 0)
        status = set_result(gather, results);
    Py_XDECREF(asked);
    Py_XDECREF(results);
    Py_XDECREF(last);
    return status;
}

static int
outer_is_done(GatherObject *gather)
{
    cl_state *st = gather->ga_st;
    PyObject *outer = gather->ga_outer;
    if (is_known(st, Py_TYPE(outer)))
        return ((FutureObject *)outer)->f_state != CL_PENDING;
    Py_INCREF(outer);
    int done = cl_waiter_done(st, outer);
    Py_DECREF(outer);
    return done;
}

#ifdef CL_DEBUG
static void
check(const GatherObject *gather)
{
    cl_assert_of(gather, Py_REFCNT(gather) > 0);
    cl_assert_of(gather, gather->ga_count >= 0 && gather->ga_finished >= 0);
    cl_assert_of(gather, gather->ga_children == NULL ||
                             PyList_CheckExact(gather->ga_children));
    cl_assert_of(
        gather,
        gather->ga_outer == NULL ||
            PyObject_TypeCheck(
                gather->ga_outer,
                (PyTypeObject *)cl_futures_of(gather->ga_st)->asyncio_Future));
}
#endif

/* _done_callback(fut) */
static int
child_is_done(GatherObject *gather, PyObject *child)
{
    cl_check(check(gather));
    cl_state *st = gather->ga_st;
    gather->ga_finished++;
    if (cl_child_forget_awaited_by(st, child, gather->ga_task) < 0)
        return -1;
    int was = gather->ga_outer == NULL ? 1 : outer_is_done(gather);
    if (was < 0)
        return -1;
    if (was) {
        if ((was = cl_child_cancelled(st, child)) == 0) {
            PyObject *seen = cl_child_exception(st, child);
            Py_XDECREF(seen);
            was = seen == NULL ? -1 : 0;
        }
        return was < 0 ? -1 : 0;
    }
    if (!gather->ga_return_exceptions) {
        if ((was = cl_child_cancelled(st, child)) != 0)
            return was < 0 ? -1
                           : tell(gather, cl_sync_of(st)->str_set_exception,
                                  cancelled_error(st, child));
        PyObject *exception = cl_child_exception(st, child);
        if (exception != Py_None)
            return exception == NULL
                       ? -1
                       : tell(gather, cl_sync_of(st)->str_set_exception,
                              exception);
        Py_DECREF(exception);
    }
    return gather->ga_finished == gather->ga_count ? conclude(gather) : 0;
}

static PyObject *
call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(nargsf) != 1 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "_done_callback() takes one argument");
        return NULL;
    }
    PyObject *child = Py_NewRef(args[0]);
    int status = child_is_done((GatherObject *)self, child);
    Py_DECREF(child);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

/* -------------------------------------------------------------------- a ready node */

/* The callback of a child that is ours is called without a handle, and in no
 * context of its own, because it runs no Python code. See future.h. */

static void Gather_dealloc(PyObject *self);

/* The callback, borrowed. NULL after a second __init__() of the child, or a
 * garbage collection. */
static inline GatherObject *
callback_for(PyObject *child)
{
    FutureObject *future = as_future(child);
    return future->f_callback0 == NULL && future->f_context0 != NULL &&
                   Py_TYPE(future->f_context0)->tp_dealloc == Gather_dealloc
               ? (GatherObject *)future->f_context0
               : NULL;
}

static PyObject *
node_as_handle(LoopObject *loop, cl_node node)
{
    PyObject *child = cl_node_pointer(node), *handle;
    GatherObject *gather = callback_for(child);
    if (gather == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the callback is gone");
        return NULL;
    }
    PyObject *context = Py_XNewRef(gather->ga_context);
    Py_INCREF(gather); /* allocation may run Python code */
    handle = (PyObject *)cl_handle_of_node(loop, (PyObject *)gather, &child, 1,
                                           context);
    Py_DECREF(gather);
    Py_XDECREF(context);
    if (handle != NULL)
        cl_handle_track((HandleObject *)handle);
    return handle;
}

/* Passes the exception that is set to the loop's exception handler, as that of
 * the handle; or calls it, if there is no exception. Returns -1 only for what
 * must leave the loop. */
static int
run_as_handle(LoopObject *loop, PyObject *child, GatherObject *gather)
{
    PyObject *error = PyErr_GetRaisedException();
    HandleObject *handle = cl_handle_of_node(loop, (PyObject *)gather, &child,
                                             1, gather->ga_context);
    int status = -1;
    if (handle == NULL) {
        Py_XDECREF(error);
        return -1;
    }
    cl_handle_track(handle);
    if (error == NULL) {
        status = cl_handle_run(handle);
    }
    else {
        PyErr_SetRaisedException(error);
        status = cl_error_is_exit() ? -1 : cl_handle_report(handle);
    }
    Py_DECREF(handle);
    return status;
}

static int
node_run(LoopObject *loop, cl_node node)
{
    PyObject *child = cl_node_pointer(node);
    GatherObject *gather = callback_for(child);
    int status;
    if (gather == NULL)
        return 0;
    Py_INCREF(gather);
    if (gather->ga_outer != NULL &&
        !is_known(loop->l_st, Py_TYPE(gather->ga_outer))) {
        cl_loop_forget_task(loop);
        status = run_as_handle(loop, child, gather);
    }
    else {
        /* What is allocated or released now may run destructors. */
        if (gather->ga_finished + 1 >= gather->ga_count ||
            as_future(child)->f_state != CL_FINISHED ||
            as_future(child)->f_exception != NULL || Py_REFCNT(child) <= 1)
            cl_loop_rest(loop);
        status = child_is_done(gather, child);
        if (status < 0)
            status = run_as_handle(loop, child, gather);
    }
    Py_DECREF(gather);
    return status;
}

static void
node_drop(cl_node node, bool Py_UNUSED(lost))
{
    PyObject *child = cl_node_pointer(node);
    if (callback_for(child) != NULL)
        Py_CLEAR(as_future(child)->f_context0);
    Py_DECREF(child);
}

static int
node_visit(cl_node node, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)cl_node_pointer(node));
    return 0;
}

static PyObject *
node_name(LoopObject *loop, cl_node node)
{
    PyObject *handle = node_as_handle(loop, node);
    PyObject *name =
        handle == NULL
            ? NULL
            : PyObject_CallOneArg(loop->l_st->format_handle, handle);
    Py_XDECREF(handle);
    return name;
}

#ifdef CL_DEBUG
static PyObject *
node_check(const LoopObject *loop, cl_node node)
{
    FutureObject *child = cl_node_pointer(node);
    cl_assert_of(child, Py_REFCNT(child) > 0);
    cl_assert_of(child, cl_future_is_ours(loop->l_st, (PyObject *)child));
    return (PyObject *)child;
}
#endif

const cl_node_ops cl_gather_node = {.run = node_run,
                                    .drop = node_drop,
                                    .visit = node_visit,
                                    .as_handle = node_as_handle,
                                    .name = node_name,
                                    CL_NODE_CHECK(node_check)};

/* ------------------------------------------------------------------------- gather() */

/* fut.add_done_callback(_done_callback) */
static int
add_callback(GatherObject *gather, PyObject *child)
{
    cl_state *st = gather->ga_st;
    FutureObject *future = (FutureObject *)child;
    bool pends = cl_future_is_ours(st, child) && future->f_state == CL_PENDING;
    /* asyncio copies it for each child. They can share the copy, since the
     * callback of such a child runs no Python code. */
    if (pends && gather->ga_context == NULL &&
        (gather->ga_context = PyContext_CopyCurrent()) == NULL)
        return -1;
    if (!pends ||
        future->f_state != CL_PENDING) /* a collection has ended it */
        return cl_child_add_callback(st, child, (PyObject *)gather);
    return cl_future_append(future, (PyObject *)gather, gather->ga_context);
}

/* Adds a child that was not seen before; those that are done go to the list
 * *done, which is NULL at first. 0/-1 */
static int
take_child(GatherObject *gather, PyObject *arg, PyObject *child,
           PyObject **done)
{
    cl_state *st = gather->ga_st;
    if (child != arg) {
        if (Py_TYPE(child) == cl_futures_of(st)->TaskType)
            ((TaskObject *)child)->t_log_destroy_pending = 0;
        else if (PyObject_SetAttr(child,
                                  cl_sync_of(st)->str__log_destroy_pending,
                                  Py_False) < 0)
            return -1;
    }
    gather->ga_count++;
    if (!has(st, WITH_EAGER))
        return add_callback(gather, child);
    int finished = cl_child_done(st, child);
    if (finished > 0 && *done == NULL)
        *done = PyList_New(0);
    if (finished != 0)
        return finished < 0 || *done == NULL ? -1
                                             : PyList_Append(*done, child);
    if (cl_child_note_awaited_by(st, child, gather->ga_task) < 0)
        return -1;
    return add_callback(gather, child);
}

/* Whether all pointers are different: 1, 0, or -1 without an exception if
 * there is no memory. */
static int
are_different(PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs <= 8) {
        for (Py_ssize_t i = 1; i < nargs; i++) {
            for (Py_ssize_t j = 0; j < i; j++) {
                if (args[j] == args[i])
                    return 0;
            }
        }
        return 1;
    }
    size_t mask = 16;
    while (mask < (size_t)nargs * 2)
        mask *= 2;
    PyObject **table = PyMem_Calloc(mask, sizeof(*table));
    if (table == NULL)
        return -1;
    int differ = 1;
    mask--;
    for (Py_ssize_t i = 0; differ && i < nargs; i++) {
        size_t at = (((uintptr_t)args[i] >> 4) * 0x9E3779B1u) & mask;
        while (table[at] != NULL && table[at] != args[i])
            at = (at + 1) & mask;
        differ = table[at] == NULL;
        table[at] = args[i];
    }
    PyMem_Free(table);
    return differ;
}

/* Whether the arguments are different coroutines or futures of ours. They are
 * compared by identity. */
static bool
all_differ(cl_state *st, PyObject *const *args, Py_ssize_t nargs)
{
    for (Py_ssize_t i = 0; i < nargs; i++) {
        if (!PyCoro_CheckExact(args[i]) && !cl_coro_check(args[i]) &&
            !cl_future_is_ours(st, args[i]))
            return false;
    }
    return are_different(args, nargs) > 0;
}

/* Adds all arguments; *loop is a new reference. 0/-1 */
static int
take_children(GatherObject *gather, LoopObject *ours, PyObject *const *args,
              Py_ssize_t nargs, PyObject **done, PyObject **loop)
{
    cl_state *st = gather->ga_st;
    /* argument -> future, unless it is clear that all differ */
    PyObject *known = all_differ(st, args, nargs) ? NULL : PyDict_New();
    int status = known == NULL && PyErr_Occurred() ? -1 : 0;
    for (Py_ssize_t i = 0; status == 0 && i < nargs; i++) {
        PyObject *child =
            known == NULL ? NULL : PyDict_GetItemWithError(known, args[i]);
        Py_XINCREF(child);
        if (child == NULL) {
            status = -1;
            if (!PyErr_Occurred() &&
                (child = cl_child_ensure(st, cl_sync_of(st)->sy_ensure_future,
                                         ours, *loop, args[i])) != NULL &&
                (*loop != NULL ||
                 (*loop = cl_child_loop(st, child)) != NULL) &&
                (known == NULL || PyDict_SetItem(known, args[i], child) == 0))
                status = take_child(gather, args[i], child, done);
        }
        if (status == 0)
            status = PyList_Append(gather->ga_children, child);
        Py_XDECREF(child);
    }
    Py_XDECREF(known);
    return status;
}

/* The same as a call of the class, without running its __init__(). */
static PyObject *
new_known_outer(GatherObject *gather, PyTypeObject *type, PyObject *loop)
{
    cl_state *st = gather->ga_st;
    cl_shape *shape = &cl_sync_of(st)->sy_classes[CL_CLASS_GATHERING].sc_shape;
    PyObject *attributes[] = {gather->ga_children, Py_False};
    PyObject *outer = cl_type_alloc(type);
    if (outer != NULL &&
        (cl_future_init(st, (FutureObject *)outer, loop) < 0 ||
         cl_shape_fill(shape, outer, attributes, 2) < 0))
        Py_CLEAR(outer);
    return outer;
}

/* _GatheringFuture(children, loop=loop) */
static PyObject *
new_outer(GatherObject *gather, PyObject *loop)
{
    cl_state *st = gather->ga_st;
    PyTypeObject *type =
        cl_sync_of(st)->sy_classes[CL_CLASS_GATHERING].sc_guard.g_type;
    if (type != NULL && is_known(st, type) &&
        (PyObject *)type->tp_base == cl_futures_of(st)->asyncio_Future &&
        cl_loop_cast(loop) != NULL)
        return new_known_outer(gather, type, loop);
    PyObject *args[] = {gather->ga_children, loop};
    PyObject *outer = cl_call_module(cl_futures_of(st)->tasks_module,
                                     cl_sync_of(st)->str__GatheringFuture,
                                     args, 1, cl_sync_of(st)->kwnames_loop);
    if (outer != NULL &&
        !PyObject_TypeCheck(
            outer, (PyTypeObject *)cl_futures_of(st)->asyncio_Future)) {
        PyErr_SetString(PyExc_TypeError, "a future was expected");
        Py_CLEAR(outer);
    }
    return outer;
}

/* _discard_awaited_by(children, cur_task, outer); the callback has the first
 * two. */
static int
discard_awaited_by(SyncCallbackObject *callback,
                   PyObject *const *Py_UNUSED(args))
{
    PyObject *children = Py_NewRef(callback->cb_first),
             *task = Py_XNewRef(callback->cb_second);
    int status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(children); i++) {
        PyObject *child = Py_NewRef(PyList_GET_ITEM(children, i));
        status = cl_child_forget_awaited_by(callback->cb_st, child, task);
        Py_DECREF(child);
    }
    Py_DECREF(children);
    Py_XDECREF(task);
    return status;
}

/* asyncio has a partial(), and shows no arguments. */
static const cl_callback_kind discarder = {
    "_discard_awaited_by", "_discard_awaited_by()", CL_CLOSURE_GATHER_END, 1,
    discard_awaited_by};

/* outer.add_done_callback(functools.partial(_discard_awaited_by, children, cur_task)) */
static int
expect_end(GatherObject *gather)
{
    cl_state *st = gather->ga_st;
    FutureObject *outer = (FutureObject *)gather->ga_outer;
    if (gather->ga_task == NULL)
        return 0;
    PyObject *callback = (PyObject *)cl_callback_new(
        st, &discarder, gather->ga_children, gather->ga_task, NULL);
    PyObject *added = NULL;
    int status = -1;
    if (callback == NULL)
        return -1;
    if (is_known(st, Py_TYPE(outer)) && outer->f_state == CL_PENDING &&
        gather->ga_context != NULL) {
        status = cl_future_append(outer, callback, gather->ga_context);
    }
    else {
        added = PyObject_CallMethodOneArg(
            (PyObject *)outer, cl_sync_of(st)->str_add_done_callback,
            callback);
        status = added == NULL ? -1 : 0;
    }
    Py_DECREF(callback);
    Py_XDECREF(added);
    return status;
}

static PyObject *
gather_all(cl_state *st, LoopObject *ours, PyObject *const *args,
           Py_ssize_t nargs, bool return_exceptions)
{
    PyTypeObject *type = cl_sync_of(st)->GatherType;
    GatherObject *gather = (GatherObject *)cl_type_alloc(type);
    PyObject *done = NULL, *loop = NULL, *outer = NULL;
    if (gather == NULL)
        return NULL;
    gather->ga_vectorcall = call;
    gather->ga_st = st;
    gather->ga_return_exceptions = return_exceptions;
    if (has(st, WITH_AWAITED_BY)) {
        gather->ga_task = Py_XNewRef(cl_registry_current_task(st, ours));
        loop =
            Py_NewRef((PyObject *)ours); /* before, that of the first child */
    }
    if ((gather->ga_children = cl_list_with_room(nargs)) == NULL ||
        take_children(gather, ours, args, nargs, &done, &loop) < 0 ||
        (outer = new_outer(gather, loop)) == NULL)
        goto failed;
    gather->ga_outer = Py_NewRef(outer);
    if (expect_end(gather) < 0)
        goto failed;
    for (Py_ssize_t i = 0; done != NULL && i < PyList_GET_SIZE(done); i++) {
        PyObject *child = Py_NewRef(PyList_GET_ITEM(done, i));
        int status = child_is_done(gather, child);
        Py_DECREF(child);
        if (status < 0)
            goto failed;
    }
    goto end;
failed:
    Py_CLEAR(outer);
end:
    Py_DECREF(gather);
    Py_XDECREF(done);
    Py_XDECREF(loop);
    return outer;
}

PyObject *
cl_sync_gather(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    LoopObject *ours = cl_sync_loop(st);
    PyObject *running;
    int exceptions = 0;
    if (nargs == 0 || named > 1 || ours == NULL ||
        (named == 1 &&
         !cl_is_keyword(PyTuple_GET_ITEM(kwnames, 0),
                        cl_sync_of(st)->str_return_exceptions)) ||
        !cl_sync_pinned(st, CL_PINS_GATHER) ||
        (running = cl_registry_running_loop(st)) == NULL) {
        return PyErr_Occurred() ? NULL
                                : cl_sync_original(st, CL_BODY_GATHER, args,
                                                   nargs, kwnames);
    }
    Py_DECREF(running); /* it is running, so it stays */
    if (running != (PyObject *)ours || ours->l_closed ||
        cl_loop_overrides(ours, CL_OVERRIDES_CREATE_TASK |
                                    CL_OVERRIDES_CREATE_FUTURE))
        return cl_sync_original(st, CL_BODY_GATHER, args, nargs, kwnames);
    /* Python tests its truth later, and each time. */
    if (named == 1) {
        if (args[nargs] != Py_True && args[nargs] != Py_False)
            return cl_sync_original(st, CL_BODY_GATHER, args, nargs, kwnames);
        exceptions = args[nargs] == Py_True;
    }
    return gather_all(st, ours, args, nargs, exceptions);
}

/* --------------------------------------------------------------------------- type */

static int
Gather_traverse(GatherObject *gather, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(gather);
    Py_VISIT(gather->ga_outer);
    Py_VISIT(gather->ga_children);
    Py_VISIT(gather->ga_task);
    Py_VISIT(gather->ga_context);
    return 0;
}

static int
Gather_clear(GatherObject *gather)
{
    /* If the callback is called after this, it does nothing. */
    Py_CLEAR(gather->ga_outer);
    Py_CLEAR(gather->ga_task);
    Py_CLEAR(gather->ga_context);
    Py_CLEAR(gather->ga_children);
    return 0;
}

static void
Gather_dealloc(PyObject *self)
{
    GatherObject *gather = (GatherObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)Gather_clear(gather);
    type->tp_free(self);
    Py_DECREF(type);
}

/* asyncio shows a callback's names and source; both are those of asyncio's
 * closure. */
static PyObject *
get_name(PyObject *Py_UNUSED(self), void *name)
{
    return PyUnicode_FromString(name);
}

static PyObject *
get_wrapped(GatherObject *gather, void *Py_UNUSED(closure))
{
    PyObject *closure = cl_sync_of(gather->ga_st)->sy_gather_closure;
    if (closure == NULL)
        PyErr_SetString(PyExc_AttributeError, "__wrapped__");
    return Py_XNewRef(closure);
}

static PyGetSetDef Gather_getset[] = {
    {"__name__", get_name, NULL, NULL, "_done_callback"},
    {"__qualname__", get_name, NULL, NULL, CL_GATHER_CALLBACK_NAME},
    {"__wrapped__", (getter)get_wrapped, NULL, NULL, NULL},
    {NULL}};

static PyMemberDef Gather_members[] = {{"__vectorcalloffset__", T_PYSSIZET,
                                        offsetof(GatherObject, ga_vectorcall),
                                        READONLY, NULL},
                                       {NULL}};

static PyType_Slot Gather_slots[] = {{Py_tp_dealloc, Gather_dealloc},
                                     {Py_tp_traverse, Gather_traverse},
                                     {Py_tp_clear, Gather_clear},
                                     {Py_tp_call, PyVectorcall_Call},
                                     {Py_tp_getset, Gather_getset},
                                     {Py_tp_members, Gather_members},
                                     {0, NULL}};

static PyType_Spec Gather_spec = {
    .name = "cloop._cloop.GatherCallback",
    .basicsize = sizeof(GatherObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW |
             CL_TPFLAGS_VECTORCALL,
    .slots = Gather_slots,
};

PyTypeObject *
cl_gather_setup(PyObject *module, cl_state *st)
{
    PyTypeObject *type = cl_type_new(module, st, &Gather_spec, NULL, 0, 0);
    if (type != NULL)
        cl_type_set_vectorcall(type, offsetof(GatherObject, ga_vectorcall));
    cl_futures_of(st)->child_callback = type;
    return type;
}
