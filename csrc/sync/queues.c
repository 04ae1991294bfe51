/* queues.c - asyncio.Queue, LifoQueue and PriorityQueue.
 *
 * There are two versions of their text: 3.13 added shutdown(). Comparing the
 * items of a PriorityQueue runs Python code, which may do anything to the
 * queue, so everything is looked up again afterwards. */
#include "sync/locks.h"

/* Attributes. The older text has _loop instead of IS_SHUTDOWN. */
enum { MAXSIZE, GETTERS, PUTTERS, UNFINISHED, FINISHED, QUEUE, IS_SHUTDOWN };
enum { PLAIN = 1, WITH_SHUTDOWN = 2 }; /* variants */

typedef struct {
    cl_view q_view;
    int q_class;
    bool q_has_shutdown;
    bool q_is_shutdown;
    long q_maxsize;
    long q_unfinished;
} queue_view;

static inline int
class_of(cl_state *st, PyObject *self)
{
    return cl_sync_knows(st, self, CL_CLASS_QUEUE)        ? CL_CLASS_QUEUE
           : cl_sync_knows(st, self, CL_CLASS_LIFO_QUEUE) ? CL_CLASS_LIFO_QUEUE
           : cl_sync_knows(st, self, CL_CLASS_PRIORITY_QUEUE)
               ? CL_CLASS_PRIORITY_QUEUE
               : -1;
}

static inline bool
as_long(PyObject *object, long *value)
{
    int overflow = 0;
    if (!PyLong_CheckExact(object))
        return false;
    if (cl_long_small(object, value))
        return true;
    *value = PyLong_AsLongAndOverflow(object, &overflow);
    return overflow == 0 && *value < LONG_MAX && *value > LONG_MIN;
}

/* Without the numbers, of which get() and get_nowait() need none. */
static CL_INLINED bool
look_for_items(cl_state *st, PyObject *self, queue_view *q)
{
    PyObject **at = q->q_view.v_at;
    q->q_class = class_of(st, self);
    if (q->q_class < 0)
        return false;
    cl_sync_class *class = &cl_sync_of(st)->sy_classes[q->q_class];
    if (!cl_shape_look(&class->sc_shape, self, &q->q_view))
        return false;
    q->q_has_shutdown = class->sc_variant == WITH_SHUTDOWN;
    q->q_is_shutdown = q->q_has_shutdown && at[IS_SHUTDOWN] == Py_True;
    return (q->q_class == CL_CLASS_QUEUE ? cl_deque_check(st, at[QUEUE])
                                         : PyList_CheckExact(at[QUEUE])) &&
           cl_deque_check(st, at[GETTERS]) &&
           cl_deque_check(st, at[PUTTERS]) &&
           (!q->q_has_shutdown || q->q_is_shutdown ||
            at[IS_SHUTDOWN] == Py_False);
}

static bool
look(cl_state *st, PyObject *self, queue_view *q)
{
    return look_for_items(st, self, q) &&
           as_long(q->q_view.v_at[MAXSIZE], &q->q_maxsize) &&
           as_long(q->q_view.v_at[UNFINISHED], &q->q_unfinished);
}

static inline Py_ssize_t
size_of(const queue_view *q)
{
    PyObject *queue = q->q_view.v_at[QUEUE];
    return q->q_class == CL_CLASS_QUEUE ? cl_deque_size(queue)
                                        : PyList_GET_SIZE(queue);
}

static inline bool
is_full(const queue_view *q)
{
    return q->q_maxsize > 0 && size_of(q) >= q->q_maxsize;
}

static inline PyObject *
loop_of(const queue_view *q)
{
    return q->q_view.v_at[q->q_has_shutdown ? IS_SHUTDOWN + 1 : IS_SHUTDOWN];
}

static int
set_unfinished(cl_state *st, queue_view *q, long value)
{
    PyObject *number = PyLong_FromLong(value);
    int status = number == NULL ? -1
                                : cl_sync_set(st, &q->q_view, q->q_class,
                                              UNFINISHED, number);
    Py_XDECREF(number);
    return status;
}

/* _wakeup_next(waiters) */
static int
wake_next(cl_state *st, PyObject *waiters)
{
    int status = 0;
    if (cl_deque_size(waiters) == 0)
        return 0;
    Py_INCREF(waiters);
    while (status == 0 && cl_deque_size(waiters) > 0) {
        PyObject *waiter = cl_deque_popleft(st, waiters);
        int done = waiter == NULL ? -1 : cl_waiter_done(st, waiter);
        if (done < 0)
            status = -1;
        else if (done == 0)
            status = cl_waiter_finish(st, waiter, Py_None) < 0 ? -1 : 1;
        Py_XDECREF(waiter);
    }
    Py_DECREF(waiters);
    return status < 0 ? -1 : 0;
}

/* --------------------------------------------------------------------- for any object */

/* self._wakeup_next(self.<waiters>) */
static int
call_wake_next(cl_state *st, PyObject *self, PyObject *name)
{
    queue_view q;
    if (look(st, self, &q))
        return wake_next(
            st, q.q_view.v_at[name == cl_sync_of(st)->str__getters ? GETTERS
                                                                   : PUTTERS]);
    PyObject *waiters = PyObject_GetAttr(self, name);
    PyObject *called =
        waiters == NULL ? NULL
                        : PyObject_CallMethodOneArg(
                              self, cl_sync_of(st)->str__wakeup_next, waiters);
    Py_XDECREF(waiters);
    Py_XDECREF(called);
    return called == NULL ? -1 : 0;
}

/* self._finished.clear(), set() */
static int
clear_event(cl_state *st, PyObject *event)
{
    Py_INCREF(event);
    int status = cl_event_clear(st, event);
    if (status == 0) {
        PyObject *called =
            PyObject_CallMethodNoArgs(event, cl_sync_of(st)->str_clear);
        status = called == NULL ? -1 : 1;
        Py_XDECREF(called);
    }
    Py_DECREF(event);
    return status < 0 ? -1 : 0;
}

static int
set_event(cl_state *st, PyObject *event)
{
    Py_INCREF(event);
    int status = cl_event_set(st, event);
    if (status == 0) {
        PyObject *called =
            PyObject_CallMethodNoArgs(event, cl_sync_of(st)->str_set);
        status = called == NULL ? -1 : 1;
        Py_XDECREF(called);
    }
    Py_DECREF(event);
    return status < 0 ? -1 : 0;
}

/* What put_nowait() does after _put() has run Python code. 0/-1 */
static int
after_put(cl_state *st, PyObject *self)
{
    cl_sync *sync = cl_sync_of(st);
    queue_view q;
    PyObject *event = NULL;
    int status = -1;
    if (look(st, self, &q)) {
        status = set_unfinished(st, &q, q.q_unfinished + 1);
    }
    else {
        PyObject *count = PyObject_GetAttr(self, sync->str__unfinished_tasks);
        PyObject *more =
            count == NULL ? NULL : PyNumber_InPlaceAdd(count, st->one);
        if (more != NULL)
            status = PyObject_SetAttr(self, sync->str__unfinished_tasks, more);
        Py_XDECREF(count);
        Py_XDECREF(more);
    }
    if (status == 0) {
        event = PyObject_GetAttr(self, sync->str__finished);
        status = event == NULL ? -1 : clear_event(st, event);
        Py_XDECREF(event);
    }
    return status < 0 ? -1 : call_wake_next(st, self, sync->str__getters);
}

/* ------------------------------------------------------------------------ get and put */

static int
raise_shutdown(void)
{
    PyObject *module = PyImport_ImportModule("asyncio.queues");
    PyObject *error = module == NULL
                          ? NULL
                          : PyObject_GetAttrString(module, "QueueShutDown");
    if (error != NULL)
        PyErr_SetNone(error);
    Py_XDECREF(error);
    Py_XDECREF(module);
    return -1;
}

/* get_nowait() of the queue in `q`: an item, or NULL with an exception. */
static PyObject *
get_now(cl_state *st, PyObject *self, queue_view *q)
{
    cl_sync *sync = cl_sync_of(st);
    PyObject *queue = q->q_view.v_at[QUEUE], *item;
    Py_ssize_t size = size_of(q);
    if (size == 0) {
        if (q->q_is_shutdown)
            raise_shutdown();
        else
            PyErr_SetNone(sync->QueueEmpty);
        return NULL;
    }
    if (q->q_class == CL_CLASS_QUEUE) {
        item = cl_deque_popleft(st, queue);
    }
    else if (q->q_class == CL_CLASS_LIFO_QUEUE) {
        item = Py_NewRef(PyList_GET_ITEM(queue, size - 1));
        if (PyList_SetSlice(queue, size - 1, size, NULL) < 0)
            Py_CLEAR(item);
    }
    else {
        Py_INCREF(queue); /* the program may replace it */
        item = PyObject_CallOneArg(sync->heappop, queue);
        Py_DECREF(queue);
        if (item != NULL && call_wake_next(st, self, sync->str__putters) < 0)
            Py_CLEAR(item);
        return item;
    }
    if (item != NULL && wake_next(st, q->q_view.v_at[PUTTERS]) < 0)
        Py_CLEAR(item);
    return item;
}

/* put_nowait(item): 0/-1 */
static int
put_now(cl_state *st, PyObject *self, queue_view *q, PyObject *item)
{
    cl_sync *sync = cl_sync_of(st);
    PyObject *queue = q->q_view.v_at[QUEUE];
    if (q->q_is_shutdown)
        return raise_shutdown();
    if (is_full(q)) {
        PyErr_SetNone(sync->QueueFull);
        return -1;
    }
    if (q->q_class == CL_CLASS_PRIORITY_QUEUE) {
        PyObject *args[] = {Py_NewRef(queue), item};
        PyObject *pushed = PyObject_Vectorcall(sync->heappush, args, 2, NULL);
        Py_DECREF(queue);
        Py_XDECREF(pushed);
        return pushed == NULL ? -1 : after_put(st, self);
    }
    if ((q->q_class == CL_CLASS_QUEUE ? cl_deque_append(st, queue, item)
                                      : PyList_Append(queue, item)) < 0 ||
        set_unfinished(st, q, q->q_unfinished + 1) < 0)
        return -1;
    int cleared = cl_event_clear(st, q->q_view.v_at[FINISHED]);
    if (cleared == 0) { /* it, or its value, is of the program's own */
        if (clear_event(st, q->q_view.v_at[FINISHED]) < 0)
            return -1;
        return call_wake_next(st, self, sync->str__getters);
    }
    return cleared < 0 ? -1 : wake_next(st, q->q_view.v_at[GETTERS]);
}

PyObject *
cl_sync_queue_get_nowait(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames)
{
    queue_view q;
    return cl_takes_none(nargs, kwnames) && cl_sync_loop_again(st) != NULL &&
                   look_for_items(st, args[0], &q)
               ? get_now(st, args[0], &q)
               : cl_sync_original(st, CL_BODY_QUEUE_GET_NOWAIT, args, nargs,
                                  kwnames);
}

/* The arguments are `self` and the item. */
static inline bool
takes_item(Py_ssize_t nargs, PyObject *kwnames)
{
    return nargs == 2 && kwnames == NULL;
}

PyObject *
cl_sync_queue_put_nowait(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames)
{
    queue_view q;
    if (!takes_item(nargs, kwnames) || cl_sync_loop_again(st) == NULL ||
        !look(st, args[0], &q))
        return cl_sync_original(st, CL_BODY_QUEUE_PUT_NOWAIT, args, nargs,
                                kwnames);
    return put_now(st, args[0], &q, args[1]) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ----------------------------------------------------------------------- get() */

/* Runs at the start and after each wait, like the loop in asyncio's code. */
static cl_op_outcome
get_step(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    queue_view q;
    if (!look_for_items(st, op->o_self, &q))
        return CL_OP_HAND_OVER;
    if (size_of(&q) == 0 && !q.q_is_shutdown)
        return cl_op_wait_in(op, op->o_self, loop_of(&q),
                             q.q_view.v_at[GETTERS]);
    *result = get_now(st, op->o_self, &q);
    return *result == NULL ? CL_OP_FAILED : CL_OP_DONE;
}

static cl_op_outcome
put_step(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    queue_view q;
    if (!look(st, op->o_self, &q))
        return CL_OP_HAND_OVER;
    if (is_full(&q) && !q.q_is_shutdown)
        return cl_op_wait_in(op, op->o_self, loop_of(&q),
                             q.q_view.v_at[PUTTERS]);
    return put_now(st, op->o_self, &q, op->o_arg) < 0
               ? CL_OP_FAILED
               : cl_op_done(result, Py_None);
}

/* not self.empty(), not self.full() */
static int
may_go_on(cl_state *st, PyObject *self, bool gets)
{
    queue_view q;
    if (look(st, self, &q))
        return gets ? size_of(&q) > 0 : !is_full(&q);
    PyObject *result = PyObject_CallMethodNoArgs(
        self, gets ? cl_sync_of(st)->str_empty : cl_sync_of(st)->str_full);
    int not = result == NULL ? -1 : PyObject_Not(result);
    Py_XDECREF(result);
    return not ;
}

/* Both methods' exception handling, before they raise again. 0/-1 */
static int
give_up(SyncOpObject *op, bool gets)
{
    cl_state *st = op->o_coro.c_st;
    PyObject *name =
        gets ? cl_sync_of(st)->str__getters : cl_sync_of(st)->str__putters;
    PyObject *future = op->o_coro.c_future;
    if (cl_waiter_cancel(st, future) < 0)
        return -1;
    PyObject *waiters = PyObject_GetAttr(op->o_self, name);
    int removed = waiters == NULL ? -1 : cl_deque_remove(st, waiters, future);
    Py_XDECREF(waiters);
    if (removed < 0) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError))
            return -1;
        PyErr_Clear();
    }
    int on = may_go_on(st, op->o_self, gets);
    int cancelled = on > 0 ? cl_waiter_cancelled(st, future) : on;
    if (on <= 0 || cancelled != 0)
        return on < 0 || cancelled < 0 ? -1 : 0;
    return call_wake_next(st, op->o_self, name);
}

static cl_op_outcome
get_failed(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    PyObject *error = PyErr_GetRaisedException();
    (void)give_up(op, true);
    cl_op_chain(error);
    return CL_OP_FAILED;
}

static cl_op_outcome
put_failed(SyncOpObject *op, PyObject **Py_UNUSED(result))
{
    PyObject *error = PyErr_GetRaisedException();
    (void)give_up(op, false);
    cl_op_chain(error);
    return CL_OP_FAILED;
}

static const char *const get_awaits[] = {"getter"};
static const char *const put_awaits[] = {"putter"};

static const cl_op_kind get = {
    .k_ops = CL_OP_OPS("Queue"),
    .k_name = "get",
    .k_body = CL_BODY_QUEUE_GET,
    .k_class = CL_CLASS_QUEUE,
    .k_awaits = get_awaits,
    .k_begin = get_step,
    .k_woken = get_step,
    .k_failed = get_failed,
    .k_args = cl_lock_only_self,
};

static const cl_op_kind put = {
    .k_ops = CL_OP_OPS("Queue"),
    .k_name = "put",
    .k_body = CL_BODY_QUEUE_PUT,
    .k_class = CL_CLASS_QUEUE,
    .k_awaits = put_awaits,
    .k_begin = put_step,
    .k_woken = put_step,
    .k_failed = put_failed,
    .k_args = cl_op_args_of_method,
};

PyObject *
cl_sync_queue_get(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return cl_takes_none(nargs, kwnames) && cl_sync_may_begin(st) &&
                   class_of(st, args[0]) >= 0
               ? cl_op_new(st, &get, args[0], NULL)
               : cl_sync_original(st, CL_BODY_QUEUE_GET, args, nargs, kwnames);
}

PyObject *
cl_sync_queue_put(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return takes_item(nargs, kwnames) && cl_sync_may_begin(st) &&
                   class_of(st, args[0]) >= 0
               ? cl_op_new(st, &put, args[0], args[1])
               : cl_sync_original(st, CL_BODY_QUEUE_PUT, args, nargs, kwnames);
}

/* ----------------------------------------------------------------- tasks of a queue */

PyObject *
cl_sync_queue_task_done(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    queue_view q;
    if (!cl_takes_none(nargs, kwnames) || cl_sync_loop_again(st) == NULL ||
        !look(st, args[0], &q) || q.q_unfinished <= 0)
        return cl_sync_original(st, CL_BODY_QUEUE_TASK_DONE, args, nargs,
                                kwnames);
    if (set_unfinished(st, &q, q.q_unfinished - 1) < 0 ||
        (q.q_unfinished == 1 && set_event(st, q.q_view.v_at[FINISHED]) < 0))
        return NULL;
    Py_RETURN_NONE;
}

static const char *const join_awaits[] = {"wait"};

static cl_op_outcome
join_begin(SyncOpObject *op, PyObject **result)
{
    cl_state *st = op->o_coro.c_st;
    queue_view q;
    if (!look(st, op->o_self, &q))
        return CL_OP_HAND_OVER;
    if (q.q_unfinished <= 0)
        return cl_op_done(result, Py_None);
    PyObject *event = Py_NewRef(q.q_view.v_at[FINISHED]);
    PyObject *wait = cl_event_wait(st, event);
    if (wait == NULL && !PyErr_Occurred())
        wait = PyObject_CallMethodNoArgs(event, cl_sync_of(st)->str_wait);
    Py_DECREF(event);
    return cl_op_await(op, wait);
}

static cl_op_outcome
join_woken(SyncOpObject *Py_UNUSED(op), PyObject **result)
{
    return cl_op_done(result, Py_None);
}

static const cl_op_kind join = {
    .k_ops = CL_OP_OPS("Queue"),
    .k_name = "join",
    .k_body = CL_BODY_QUEUE_JOIN,
    .k_class = CL_CLASS_QUEUE,
    .k_awaits = join_awaits,
    .k_begin = join_begin,
    .k_woken = join_woken,
    .k_args = cl_lock_only_self,
};

PyObject *
cl_sync_queue_join(cl_state *st, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return cl_takes_none(nargs, kwnames) && cl_sync_may_begin(st) &&
                   class_of(st, args[0]) >= 0
               ? cl_op_new(st, &join, args[0], NULL)
               : cl_sync_original(st, CL_BODY_QUEUE_JOIN, args, nargs,
                                  kwnames);
}
