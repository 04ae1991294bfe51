/* op.c - see op.h. */
#include "sync/op.h"

#include "core/errors.h"
#include "core/spares.h"
#include "futures/future.h"
#include "futures/registry.h"
#include "futures/stop.h"
#include "sync/deque.h"

static inline const cl_op_kind *
kind_of(const CoroObject *coro)
{
    return (const cl_op_kind *)coro->c_ops; /* its first member */
}

/* ----------------------------------------------------------------------- waiting */

/* _get_loop() of 3.10 and newer; older objects always have their loop. Returns
 * the loop, borrowed, if it is ours, makes plain futures and is the one of the
 * object. Otherwise NULL, with an exception only on error. */
static inline LoopObject *
loop_of(SyncOpObject *op, PyObject *owner, PyObject *bound)
{
    cl_state *st = op->o_coro.c_st;
    LoopObject *loop = op->o_coro.c_loop;
    PyObject *running;
    if (!cl_sync_pinned(st, CL_PINS_GET_LOOP))
        return NULL;
    if (loop == NULL || !cl_registry_runs(st, loop)) {
        if ((running = cl_registry_running_loop(st)) == NULL)
            return NULL;
        Py_DECREF(running); /* it is running, so it stays */
        if ((loop = cl_loop_cast(running)) == NULL)
            return NULL;
    }
    running = (PyObject *)loop;
    if (!cl_loop_is_plain(loop) || !cl_futures_are_ours(loop->l_st) ||
        cl_loop_overrides(loop, CL_OVERRIDES_CREATE_FUTURE))
        return NULL;
    if (bound == running)
        return loop;
    if (bound != NULL && bound != Py_None)
        return NULL;
    return PyObject_GenericSetAttr(owner, cl_sync_of(st)->str__loop, running) <
                   0
               ? NULL
               : loop;
}

PyObject *
cl_op_future(SyncOpObject *op, PyObject *owner, PyObject *bound)
{
    LoopObject *loop = loop_of(op, owner, bound);
    return loop == NULL ? NULL : cl_future_new(loop);
}

cl_op_outcome
cl_op_wait_in(SyncOpObject *op, PyObject *owner, PyObject *bound,
              PyObject *deque)
{
    LoopObject *loop = loop_of(op, owner, bound);
    cl_op_outcome outcome = CL_OP_FAILED;
    if (loop == NULL)
        return PyErr_Occurred() ? CL_OP_FAILED : CL_OP_HAND_OVER;
    Py_INCREF(deque); /* allocation may run Python code */
    PyObject *future = cl_future_new(loop);
    if (future != NULL &&
        cl_deque_append(op->o_coro.c_st, deque, future) == 0) {
        ((FutureObject *)future)->f_blocking = 1; /* as cl_coro_wait() */
        Py_XSETREF(op->o_coro.c_future, future);
        outcome = CL_OP_WAIT;
    }
    else {
        Py_XDECREF(future);
    }
    Py_DECREF(deque);
    return outcome;
}

cl_op_outcome
cl_op_await_iter(SyncOpObject *op, PyObject *iter)
{
    cl_assert_of(op, op->o_inner == NULL);
    if (iter == NULL)
        return CL_OP_FAILED;
    op->o_inner = iter;
    if (op->o_coro.c_future != NULL)
        Py_CLEAR(op->o_coro.c_future);
    return CL_OP_AWAIT;
}

cl_op_outcome
cl_op_await(SyncOpObject *op, PyObject *awaitable)
{
    PyObject *iter = awaitable == NULL ? NULL : cl_coro_awaited(awaitable);
    Py_XDECREF(awaitable);
    return cl_op_await_iter(op, iter);
}

cl_op_outcome
cl_op_got(SyncOpObject *op, PyObject **result)
{
    *result = op->o_got;
    op->o_got = NULL;
    return CL_OP_DONE;
}

/* Returns the exception in the chain of contexts from `error` on whose context
 * is `context`, which may be NULL: a new reference, or NULL if there is none. A
 * program can make the chain a ring. */
static PyObject *
find_context(PyObject *error, PyObject *context)
{
    PyObject *at = Py_NewRef(error), *behind = Py_NewRef(error), *next;
    bool moves = false;
    while ((next = PyException_GetContext(at)) != context) {
        if (next == NULL || next == behind) {
            Py_XDECREF(next);
            Py_CLEAR(at);
            break;
        }
        Py_SETREF(at, next);
        if (moves)
            Py_SETREF(behind, PyException_GetContext(behind));
        moves = !moves;
    }
    if (at != NULL)
        Py_XDECREF(next);
    Py_DECREF(behind);
    return at;
}

/* Makes `error` the last context of `later`, in whose chain it is not. As the
 * interpreter does, takes that out of the chain of `error`, so that there is no
 * ring. */
static void
append_context(PyObject *later, PyObject *error)
{
    PyObject *holder = find_context(error, later);
    if (holder != NULL)
        PyException_SetContext(holder, NULL);
    PyObject *last = find_context(later, NULL);
    PyObject *shared = last == NULL ? NULL : find_context(error, last);
    PyException_SetContext(last == NULL || shared != NULL ? later : last,
                           Py_NewRef(error));
    Py_XDECREF(holder);
    Py_XDECREF(last);
    Py_XDECREF(shared);
}

void
cl_op_chain(PyObject *error)
{
    PyObject *later = PyErr_GetRaisedException();
    if (later == NULL || later == error) {
        Py_XDECREF(later);
        PyErr_SetRaisedException(error);
        return;
    }
    PyObject *holder = find_context(later, error);
    if (holder == NULL)
        append_context(later, error);
    Py_XDECREF(holder);
    Py_DECREF(error);
    PyErr_SetRaisedException(later);
}

/* ------------------------------------------------------------------------- a step */

#ifdef CL_DEBUG
/* Of an op that gets a step. */
static void
check(const SyncOpObject *op)
{
    const cl_op_kind *kind = kind_of(&op->o_coro);
    cl_assert_of(op, op->o_coro.c_state == CL_CORO_RUNNING);
    cl_assert_of(op, op->o_coro.c_inner == NULL && op->o_stage >= 0);
    cl_assert_of(op, op->o_inner == NULL || kind->k_woken != NULL);
    cl_assert_of(op, kind->k_body >= -1 && kind->k_body < CL_BODY_COUNT);
}
#endif

static int
hand_over(SyncOpObject *op)
{
    CoroObject *coro = &op->o_coro;
    const cl_op_kind *kind = kind_of(coro);
    PyObject *args = NULL, *inner = NULL;
    if (kind->k_original != NULL)
        inner = kind->k_original(op);
    else if ((args = kind->k_args(op)) != NULL)
        inner = cl_sync_original(coro->c_st, kind->k_body,
                                 ((PyTupleObject *)args)->ob_item,
                                 PyTuple_GET_SIZE(args), NULL);
    Py_XDECREF(args);
    if (inner != NULL && !PyCoro_CheckExact(inner)) {
        PyErr_SetString(PyExc_TypeError, "a coroutine was expected");
        Py_CLEAR(inner);
    }
    Py_XSETREF(coro->c_inner, inner);
    return inner == NULL ? -1 : 0;
}

static cl_op_outcome
failed(SyncOpObject *op, PyObject **result)
{
    const cl_op_kind *kind = kind_of(&op->o_coro);
    return kind->k_failed == NULL ? CL_OP_FAILED : kind->k_failed(op, result);
}

/* What is awaited made a step; steals `value`, what it yielded or returned. */
static cl_op_outcome
after_inner(SyncOpObject *op, PySendResult status, PyObject *value,
            PyObject **result)
{
    if (status == PYGEN_NEXT) {
        *result = value;
        return CL_OP_WAIT;
    }
    if (status == PYGEN_RETURN) {
        Py_CLEAR(op->o_inner);
        Py_XSETREF(op->o_got, value);
        return kind_of(&op->o_coro)->k_woken(op, result);
    }
    PyObject *error = PyErr_GetRaisedException();
    Py_CLEAR(op->o_inner);
    PyErr_SetRaisedException(error);
    return failed(op, result);
}

static cl_op_outcome
step_inner(SyncOpObject *op, PyObject *sent, PyObject **result)
{
    PyObject *inner = Py_NewRef(op->o_inner), *value = NULL;
    PySendResult status = PYGEN_ERROR;
    /* They may be nested to any depth. */
    if (Py_EnterRecursiveCall(" while calling a Python object") == 0) {
        status = cl_coro_send_awaited(inner, sent, &value);
        Py_LeaveRecursiveCall();
    }
    Py_DECREF(inner);
    return after_inner(op, status, value, result);
}

/* Goes on until it waits or ends. */
static __attribute__((noinline)) cl_op_outcome
go_on(SyncOpObject *op, cl_op_outcome outcome, PyObject **result)
{
    while (outcome == CL_OP_AWAIT)
        outcome = step_inner(op, Py_None, result);
    if (outcome == CL_OP_HAND_OVER)
        outcome = hand_over(op) == 0 ? CL_OP_WAIT : CL_OP_FAILED;
    return outcome;
}

/* Whether what it waits for has a result, or was a bare yield. */
static inline bool
is_woken(const CoroObject *coro)
{
    PyObject *object = coro->c_future;
    if (object == Py_None)
        return true;
    if (object == NULL || !cl_future_is_plain(coro->c_st, object))
        return false;
    const FutureObject *future = (FutureObject *)object;
    return future->f_state == CL_FINISHED && future->f_exception == NULL;
}

static inline PySendResult
settle(SyncOpObject *op, cl_op_outcome outcome, PyObject **result)
{
    if (outcome > CL_OP_WAIT)
        outcome = go_on(op, outcome, result);
    cl_assert_of(op, op->o_inner == NULL || outcome == CL_OP_WAIT);
    cl_assert_of(op, outcome != CL_OP_DONE || *result != NULL);
    cl_assert_of(op, outcome != CL_OP_WAIT || *result != NULL ||
                         op->o_coro.c_inner != NULL ||
                         op->o_coro.c_future != NULL);
    return (PySendResult)outcome;
}

PySendResult
cl_op_step(CoroObject *coro, PyObject *sent, PyObject **result)
{
    SyncOpObject *op = (SyncOpObject *)coro;
    const cl_op_kind *kind = kind_of(coro);
    cl_op_outcome outcome;
    cl_check(check(op));
    if (op->o_inner != NULL)
        outcome = step_inner(op, sent == NULL ? Py_None : sent, result);
    else if (sent == NULL)
        outcome = kind->k_body >= 0 && cl_sync_loop_again(coro->c_st) == NULL
                      ? CL_OP_HAND_OVER
                      : kind->k_begin(op, result);
    else if (coro->c_future == Py_None || cl_coro_resume(coro) == 0)
        outcome = kind->k_woken(op, result);
    else
        outcome = failed(op, result);
    return settle(op, outcome, result);
}

/* Closes asyncio's coroutine, which would warn if it was never awaited. */
static void
close_inner(SyncOpObject *op)
{
    PyObject *inner = op->o_inner;
    PyObject *error = PyErr_GetRaisedException();
    op->o_inner = NULL;
    PyObject *closed = PyObject_CallMethodNoArgs(
        inner, cl_futures_of(op->o_coro.c_st)->str_close);
    if (closed == NULL)
        PyErr_WriteUnraisable(inner);
    Py_XDECREF(closed);
    Py_DECREF(inner);
    (void)cl_raise_first(error);
}

static void
drop_rest(SyncOpObject *op)
{
    if (op->o_inner != NULL && PyCoro_CheckExact(op->o_inner))
        close_inner(op);
    Py_CLEAR(op->o_more);
    Py_CLEAR(op->o_last);
    Py_CLEAR(op->o_inner);
    Py_CLEAR(op->o_got);
}

/* Lets go of what it has, as cl_coro_clear() does. */
static inline void
end(SyncOpObject *op)
{
    CoroObject *coro = &op->o_coro;
    PyObject *self = op->o_self, *arg = op->o_arg, *future = coro->c_future;
    coro->c_state = CL_CORO_DONE;
    op->o_self = op->o_arg = coro->c_future = NULL;
    Py_XDECREF(self);
    Py_XDECREF(arg);
    Py_XDECREF(future);
    if (op->o_more != NULL || op->o_last != NULL || op->o_got != NULL)
        drop_rest(op);
}

/* A step that is the first, or comes when the future has a result: as
 * cl_coro_send(), which makes all others. */
static CL_INLINED PySendResult
step(SyncOpObject *op, PyObject *value, PyObject **result)
{
    CoroObject *coro = &op->o_coro;
    const cl_op_kind *kind = kind_of(coro);
    cl_op_outcome outcome;
    if (coro->c_shown != NULL || coro->c_inner != NULL ||
        op->o_inner != NULL || value != Py_None)
        return cl_coro_send(coro, value, result);
    if (coro->c_state == CL_CORO_WAITING && is_woken(coro)) {
        coro->c_state = CL_CORO_RUNNING;
        *result = NULL;
        cl_check(check(op));
        outcome = kind->k_woken(op, result);
    }
    else if (coro->c_state == CL_CORO_NEW) {
        coro->c_state = CL_CORO_RUNNING;
        *result = NULL;
        cl_check(check(op));
        outcome = kind->k_body >= 0 && cl_sync_loop_again(coro->c_st) == NULL
                      ? CL_OP_HAND_OVER
                      : kind->k_begin(op, result);
    }
    else {
        return cl_coro_send(coro, value, result);
    }
    if (outcome == CL_OP_DONE) {
        cl_assert_of(op, *result != NULL && !PyErr_Occurred());
        cl_assert_of(op, coro->c_inner == NULL && op->o_inner == NULL);
        cl_assert_of(op, coro->c_shown == NULL);
        end(op);
        return PYGEN_RETURN;
    }
    if (outcome == CL_OP_WAIT && *result == NULL && coro->c_inner == NULL) {
        cl_assert_of(op, coro->c_future != NULL && !PyErr_Occurred());
        *result = Py_NewRef(coro->c_future);
        coro->c_state = CL_CORO_WAITING;
        return PYGEN_NEXT;
    }
    return cl_coro_settle(coro, settle(op, outcome, result), result);
}

#if CL_HAS_AM_SEND
static PySendResult
Op_send(SyncOpObject *op, PyObject *value, PyObject **result)
{
    return step(op, value, result);
}
#endif

static PyObject *
Op_iternext(SyncOpObject *op)
{
    PyObject *result;
    PySendResult status = step(op, Py_None, &result);
    if (status != PYGEN_RETURN)
        return result;
    if (result == Py_None) { /* NULL without an exception means None */
        Py_DECREF(result);
        return NULL;
    }
    return cl_coro_returned(&op->o_coro, result);
}

/* What the op handles while it awaits; borrowed, or NULL. */
static inline PyObject *
handled_by(const SyncOpObject *op)
{
    const cl_op_kind *kind = kind_of(&op->o_coro);
    return kind->k_handles == NULL ? NULL : kind->k_handles(op);
}

void
cl_op_chain_handled(SyncOpObject *op)
{
    PyObject *handled = handled_by(op);
    if (handled != NULL && (CL_THROW_SETS_CONTEXT || !op->o_thrown))
        cl_op_chain(Py_NewRef(handled));
}

/* What was thrown in has ended what the op awaits, or was that: raises it again
 * while the other is handled, as the interpreter does. */
static void
raise_while_handling(SyncOpObject *op)
{
    PyObject *handled = handled_by(op);
    if (handled == NULL || !CL_THROW_SETS_CONTEXT)
        return;
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *before = cl_swap_handled(Py_NewRef(handled));
    PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
    Py_XDECREF(cl_swap_handled(before));
    Py_DECREF(raised);
}

PySendResult
cl_op_thrown(CoroObject *coro, PyObject *type, PyObject *value,
             PyObject *traceback, PyObject **result)
{
    SyncOpObject *op = (SyncOpObject *)coro;
    cl_op_outcome outcome;
    cl_check(check(op));
    op->o_thrown = true;
    if (op->o_inner != NULL) {
        PyObject *inner = Py_NewRef(op->o_inner);
        PyObject *got =
            cl_coro_throw_awaited(coro->c_st, inner, type, value, traceback);
        PySendResult status = cl_iter_status(&got);
        Py_DECREF(inner);
        if (status == PYGEN_ERROR)
            raise_while_handling(op);
        outcome = after_inner(op, status, got, result);
    }
    else {
        cl_raise_thrown(type, value, traceback);
        raise_while_handling(op);
        outcome = failed(op, result);
    }
    op->o_thrown = false;
    return settle(op, outcome, result);
}

/* ------------------------------------------------------------------- descriptions */

const char *
cl_op_name(const CoroObject *coro)
{
    return kind_of(coro)->k_name;
}

PyObject *
cl_op_stock(const CoroObject *coro)
{
    cl_state *st = coro->c_st;
    cl_sync *sync = cl_sync_of(st);
    int class = kind_of(coro)->k_class;
    PyTypeObject *type =
        class < 0 ? NULL : sync->sy_classes[class].sc_guard.g_type;
    PyObject *owner = sync->sy_closures[CL_CLOSURE_AS_COMPLETED_OWNER];
    if (class == CL_OP_OF_ASYNCIO)
        return sync->sy_asyncio;
    if (class == CL_OP_OF_AS_COMPLETED && owner != NULL)
        return owner;
    return type != NULL ? (PyObject *)type : cl_futures_of(st)->tasks_module;
}

PyObject *
cl_op_args(const CoroObject *coro)
{
    return kind_of(coro)->k_args((const SyncOpObject *)coro);
}

PyObject *
cl_op_inner(const CoroObject *coro, const char **awaits)
{
    const SyncOpObject *op = (const SyncOpObject *)coro;
    const char *const *names = kind_of(coro)->k_awaits;
    *awaits = names == NULL ? "" : names[op->o_stage];
    return op->o_inner;
}

PyObject *
cl_op_args_of_method(const SyncOpObject *op)
{
    return op->o_arg == NULL ? PyTuple_Pack(1, op->o_self)
                             : PyTuple_Pack(2, op->o_self, op->o_arg);
}

/* ------------------------------------------------------ creation and deallocation */

/* Returns an op without a kind; `loop` may be NULL. A spare one is as its
 * dealloc has left it, so that most of it need not be zeroed. */
static inline SyncOpObject *
allocate(cl_state *st, LoopObject *loop)
{
    PyTypeObject *type = cl_sync_of(st)->SyncOpType;
    cl_spares *spares = loop == NULL ? NULL : &cl_sync_on(loop)->spare_ops;
    SyncOpObject *op;
    if (spares == NULL || spares->first == NULL)
        return (SyncOpObject *)cl_spares_take(spares, type, sizeof(*op));
    op = (SyncOpObject *)cl_spares_pop(spares, type);
    op->o_coro.c_state = CL_CORO_NEW;
#if CL_HAS_REMOTE_STACKS
    if (op->o_coro.c_remote.f_executable != 0) /* it was a task's */
        memset(&op->o_coro.c_remote, 0, sizeof(op->o_coro.c_remote));
#endif
    op->o_number = 0.0;
    op->o_stage = 0;
    cl_assert_of(op, op->o_coro.c_future == NULL && op->o_last == NULL);
    cl_assert_of(op, op->o_coro.c_inner == NULL && op->o_inner == NULL);
    cl_assert_of(op, op->o_coro.c_shown == NULL && op->o_got == NULL);
    cl_assert_of(op, op->o_more == NULL);
    return op;
}

PyObject *
cl_op_new(cl_state *st, const cl_op_kind *kind, PyObject *self, PyObject *arg)
{
    cl_sync *sync = cl_sync_of(st);
    LoopObject *loop = cl_loop_with_spares(st);
    SyncOpObject *op = allocate(st, loop);
    if (op == NULL)
        return NULL;
    op->o_coro.c_ops = &kind->k_ops;
    op->o_coro.c_st = st;
    op->o_coro.c_loop = (LoopObject *)Py_XNewRef(loop);
    op->o_self = Py_XNewRef(self);
    op->o_arg = Py_XNewRef(arg);
    cl_live_add(&sync->live_sync_ops, 1);
    sync->sy_made++;
    PyObject_GC_Track(op);
    return (PyObject *)op;
}

void
cl_op_drop(CoroObject *coro)
{
    SyncOpObject *op = (SyncOpObject *)coro;
    Py_CLEAR(op->o_self);
    Py_CLEAR(op->o_arg);
    if (op->o_more != NULL || op->o_last != NULL || op->o_inner != NULL ||
        op->o_got != NULL)
        drop_rest(op);
}

static int
Op_traverse(SyncOpObject *op, visitproc visit, void *arg)
{
    Py_VISIT(op->o_self);
    Py_VISIT(op->o_arg);
    Py_VISIT(op->o_more);
    Py_VISIT(op->o_last);
    Py_VISIT(op->o_inner);
    Py_VISIT(op->o_got);
    return cl_coro_traverse(&op->o_coro, visit, arg);
}

static inline void
free_op(SyncOpObject *op)
{
    LoopObject *loop = op->o_coro.c_loop;
    cl_assert_of(op, op->o_self == NULL && op->o_inner == NULL);
    cl_live_add(&cl_sync_of(op->o_coro.c_st)->live_sync_ops, -1);
    cl_spares_give(loop == NULL ? NULL : &cl_sync_on(loop)->spare_ops,
                   (PyObject *)op);
    Py_XDECREF(loop);
}

static void
Op_dealloc(SyncOpObject *op)
{
    PyObject_GC_UnTrack(op);
    if (op->o_coro.c_state == CL_CORO_DONE) { /* it is cleared */
        cl_stop_forget(op->o_coro.c_st);
        free_op(op);
        return;
    }
    /* It may have another one, which has another one, and so on. */
    Py_TRASHCAN_BEGIN(op, Op_dealloc);
    PyObject_GC_Track(op); /* as its finalizer expects */
    if (cl_coro_dying(&op->o_coro))
        free_op(op);
    Py_TRASHCAN_END;
}

/* clang-format off */
static PyType_Slot Op_slots[] = {
    {Py_tp_doc, "A coroutine of one of asyncio's primitives."},
    {Py_tp_dealloc, Op_dealloc},
    {Py_tp_traverse, Op_traverse},
    CL_CORO_SLOTS_WITH(Op_iternext, Op_send),
    {0, NULL}};
/* clang-format on */

static PyType_Spec Op_spec = {
    .name = "cloop._cloop.SyncOp",
    .basicsize = sizeof(SyncOpObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | CL_TPFLAGS_NO_NEW,
    .slots = Op_slots,
};

PyTypeObject *
cl_op_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &Op_spec, NULL, 0, 0);
}
