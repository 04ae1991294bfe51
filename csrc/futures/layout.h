/* layout.h - the structs of CPython's _asyncio module.
 *
 * cloop.Future and cloop.Task derive from asyncio's C classes and use the
 * inherited fields (docs/decisions/0009). The structs are private to _asyncio
 * and differ between versions. This header mirrors them; apart from
 * base/compat.h it is the only file that depends on the version.
 *
 * The lists below define the structs and what cl_layout_raw_fields() reads.
 * cl_layouts_fit() compares the sizes. At import, cloop/_futures.py compares
 * the fields of asyncio's objects with what is read through these structs, so
 * it detects even two fields that have changed places. If either check fails,
 * asyncio's own classes are used. */
#ifndef CL_FUTURES_LAYOUT_H
#define CL_FUTURES_LAYOUT_H

#include "base/compat.h"
#include "core/args.h"
#include "futures/state.h"

enum { CL_PENDING = 0, CL_CANCELLED = 1, CL_FINISHED = 2 }; /* f_state */

/* clang-format off */

/* The fields that are objects, in order. */
#if PY_VERSION_HEX >= 0x030a0000
#define CL_IF_EXCEPTION_TB(X) X(f_exception_tb)
#else
#define CL_IF_EXCEPTION_TB(X)
#endif
#if PY_VERSION_HEX >= 0x03090000
#define CL_IF_CANCEL_MSG(X) X(f_cancel_msg)
#else
#define CL_IF_CANCEL_MSG(X)
#endif
#if PY_VERSION_HEX >= 0x030d0000
#define CL_CANCELLED_EXC_FIRST(X) X(f_cancelled_exc)
#else
#define CL_CANCELLED_EXC_FIRST(X)
#endif

#define CL_FUTURE_OBJECTS(X) \
    X(f_loop) X(f_callback0) X(f_context0) X(f_callbacks) X(f_exception) \
    CL_IF_EXCEPTION_TB(X) X(f_result) X(f_source_tb) CL_IF_CANCEL_MSG(X) \
    CL_CANCELLED_EXC_FIRST(X) CL_IF_AWAITED_BY(X(f_awaited_by))

#define CL_TASK_OBJECTS(X) \
    X(t_fut_waiter) X(t_coro) X(t_name) X(t_context)

/* The fields after the objects, by type. 3.9 and 3.10 have a _PyErr_StackItem,
 * whose last field is always NULL and is skipped. */
#if CL_HAS_KEPT_CANCELLATION
#define CL_CANCELLED_EXC_LAST(OBJECT, SKIP) OBJECT(f_cancelled_exc)
#elif CL_HAS_CANCEL_MESSAGE
#define CL_CANCELLED_EXC_LAST(OBJECT, SKIP) \
    OBJECT(f_cancelled_type) OBJECT(f_cancelled_value) OBJECT(f_cancelled_tb) \
    SKIP(f_cancelled_previous)
#else
#define CL_CANCELLED_EXC_LAST(OBJECT, SKIP)
#endif
#if CL_HAS_AWAITED_BY
#define CL_FUTURE_REST(OBJECT, INT, CHAR, BIT, SKIP) \
    CHAR(f_is_task) CHAR(f_awaited_by_is_set) BIT(f_log_tb) BIT(f_blocking)
#elif PY_VERSION_HEX >= 0x030d0000
#define CL_FUTURE_REST(OBJECT, INT, CHAR, BIT, SKIP) \
    BIT(f_log_tb) BIT(f_blocking)
#else
#define CL_FUTURE_REST(OBJECT, INT, CHAR, BIT, SKIP) \
    INT(f_log_tb) INT(f_blocking) OBJECT(f_dict) OBJECT(f_weakrefs) \
    CL_CANCELLED_EXC_LAST(OBJECT, SKIP)
#endif

/* A task's fields before its objects, and after them. */
#if PY_VERSION_HEX >= 0x030d0000
#define CL_TASK_HEAD(INT, BIT) \
    BIT(t_must_cancel) BIT(t_log_destroy_pending) INT(t_num_cancels)
#define CL_TASK_REST(INT)
#elif PY_VERSION_HEX >= 0x030b0000
#define CL_TASK_HEAD(INT, BIT)
#define CL_TASK_REST(INT) \
    INT(t_must_cancel) INT(t_log_destroy_pending) INT(t_num_cancels)
#else
#define CL_TASK_HEAD(INT, BIT)
#define CL_TASK_REST(INT) INT(t_must_cancel) INT(t_log_destroy_pending)
#endif

#define CL_OBJECT_FIELD(name) PyObject *name;
#define CL_INT_FIELD(name) int name;
#define CL_CHAR_FIELD(name) char name;
#define CL_BIT_FIELD(name) unsigned name : 1;
#define CL_NO_FIELD(name)

#define CL_FUTURE_FIELDS \
    PyObject_HEAD \
    CL_FUTURE_OBJECTS(CL_OBJECT_FIELD) CL_INT_FIELD(f_state) \
    CL_FUTURE_REST(CL_OBJECT_FIELD, CL_INT_FIELD, CL_CHAR_FIELD, CL_BIT_FIELD, \
                   CL_OBJECT_FIELD)

/* clang-format on */

/* Also the head of a TaskObject. Bit fields of both share a word, so one
 * struct cannot contain the other. */
typedef struct {
    CL_FUTURE_FIELDS
} FutureObject;

#if CL_HAS_AWAITED_BY
/* The circular list of pycore_llist.h. */
typedef struct cl_list_node {
    struct cl_list_node *next;
    struct cl_list_node *prev;
} cl_list_node;
#endif

typedef struct {
    CL_FUTURE_FIELDS
    CL_TASK_HEAD(CL_INT_FIELD, CL_BIT_FIELD)
    CL_TASK_OBJECTS(CL_OBJECT_FIELD)
#if CL_HAS_AWAITED_BY
    cl_list_node t_node; /* in the thread's list of tasks, or both NULL */
#if CL_FREE_THREADED
    /* _Py_ThreadId() of the thread that made it, whose list t_node is in. That
     * thread alone may unlink it without a lock; any other one stops the world
     * first, or calls asyncio's _unregister_task(), which does. When a thread
     * ends, its list becomes part of the interpreter's. 0 until __init__(). */
    uintptr_t t_tid;
#endif
#endif
    CL_TASK_REST(CL_INT_FIELD)
} TaskObject;

/* Whether the sizes match asyncio's classes, and these were not replaced by
 * classes that derive from them. */
static inline bool
cl_layouts_fit(PyObject *future_type, PyObject *task_type)
{
    return PyType_Check(future_type) && PyType_Check(task_type) &&
           ((PyTypeObject *)future_type)->tp_basicsize ==
               sizeof(FutureObject) &&
           ((PyTypeObject *)task_type)->tp_basicsize == sizeof(TaskObject) &&
           ((PyTypeObject *)future_type)->tp_base == &PyBaseObject_Type &&
           (PyObject *)((PyTypeObject *)task_type)->tp_base == future_type;
}

/* tp_traverse and tp_clear of asyncio's classes, combined. */
int cl_future_visit(FutureObject *future, visitproc visit, void *arg);
int cl_task_visit(TaskObject *task, visitproc visit, void *arg);
void cl_future_drop(FutureObject *future);
void cl_task_drop(TaskObject *task);

/* Like cl_task_drop(), but keeps the attributes of a subclass. */
void cl_task_forget(TaskObject *task);

/* Returns {name: value of the field, as a number} of an object of exactly
 * asyncio's classes. t_next and t_prev are the addresses of the neighbouring
 * tasks. No pointer is followed. NULL with RuntimeError for other objects, or
 * if the sizes don't match. */
PyObject *cl_layout_raw_fields(cl_state *st, PyObject *object);

/* ------------------------------------------- fields that not all versions have */

/* Whether it has no __dict__ and nobody has a weak reference to it. */
static inline bool
cl_future_is_alone(FutureObject *future)
{
#if CL_HAS_MANAGED_DICT
    return cl_has_no_managed((PyObject *)future);
#else
    return future->f_dict == NULL && future->f_weakrefs == NULL;
#endif
}

/* Whether it has been cancelled, with a message or not, or has an exception, a
 * source traceback or awaiters. */
static inline bool
cl_future_has_more(const FutureObject *future)
{
    bool more = future->f_exception != NULL || future->f_source_tb != NULL;
#if CL_HAS_CANCEL_MESSAGE
    more = more || future->f_cancel_msg != NULL;
#endif
#if CL_HAS_KEPT_CANCELLATION
    more = more || future->f_cancelled_exc != NULL;
#elif CL_HAS_CANCEL_MESSAGE
    more = more || future->f_cancelled_value != NULL;
#endif
#if CL_HAS_AWAITED_BY
    more = more || future->f_awaited_by != NULL;
#endif
    return more;
}

static inline void
cl_future_set_message(FutureObject *future, PyObject *message)
{
#if PY_VERSION_HEX >= 0x03090000
    Py_XSETREF(future->f_cancel_msg, Py_XNewRef(message));
#else
    (void)future;
    (void)message;
#endif
}

/* The message for cancel() of what the task waits for; borrowed, or NULL. */
static inline PyObject *
cl_task_message(const TaskObject *task)
{
#if PY_VERSION_HEX >= 0x03090000
    return task->f_cancel_msg;
#else
    (void)task;
    return NULL;
#endif
}

/* The fields of a task that was never cancelled. */
static inline void
cl_task_init_rest(TaskObject *task)
{
#if CL_HAS_AWAITED_BY
    task->f_is_task = 1;
    task->f_awaited_by_is_set = 0;
#if CL_FREE_THREADED
    task->t_tid = _Py_ThreadId();
#endif
#endif
#if PY_VERSION_HEX >= 0x030b0000
    task->t_num_cancels = 0;
#else
    (void)task;
#endif
}

/* Task.cancelling(), if this version has it. */
static inline int
cl_task_cancelling(const TaskObject *task)
{
#if PY_VERSION_HEX >= 0x030b0000
    return task->t_num_cancels;
#else
    (void)task;
    return 0;
#endif
}

static inline void
cl_task_count_cancel(TaskObject *task)
{
#if PY_VERSION_HEX >= 0x030b0000
    task->t_num_cancels++;
#else
    (void)task;
#endif
}

/* Steals the exception with which the task was cancelled. */
static inline void
cl_task_keep_cancelled(TaskObject *task, PyObject *exception)
{
#if PY_VERSION_HEX >= 0x030b0000
    Py_XSETREF(task->f_cancelled_exc, exception);
#elif PY_VERSION_HEX >= 0x03090000
    Py_XSETREF(task->f_cancelled_type,
               Py_NewRef((PyObject *)Py_TYPE(exception)));
    Py_XSETREF(task->f_cancelled_tb, PyException_GetTraceback(exception));
    Py_XSETREF(task->f_cancelled_value, exception);
#else
    (void)task;
    Py_DECREF(exception);
#endif
}

/* Steals the exception, which becomes the future's outcome. */
static inline void
cl_future_keep_exception(FutureObject *future, PyObject *exception)
{
    future->f_exception = exception;
#if PY_VERSION_HEX >= 0x030a0000
    future->f_exception_tb = PyException_GetTraceback(exception);
#endif
}

/* Returns the CancelledError for awaiting a cancelled future: a new reference,
 * or NULL with an exception. */
static inline PyObject *
cl_future_take_cancellation(cl_state *st, FutureObject *future)
{
#if CL_HAS_KEPT_CANCELLATION
    PyObject *kept = future->f_cancelled_exc, *message = future->f_cancel_msg;
    if (kept != NULL) {
        future->f_cancelled_exc = NULL;
        return kept;
    }
    return message == NULL || message == Py_None
               ? PyObject_CallNoArgs(cl_futures_of(st)->CancelledError)
               : PyObject_CallOneArg(cl_futures_of(st)->CancelledError,
                                     message);
#elif CL_HAS_CANCEL_MESSAGE
    return PyObject_CallMethodNoArgs(
        (PyObject *)future, cl_futures_of(st)->str__make_cancelled_error);
#else
    (void)future;
    return PyObject_CallNoArgs(cl_futures_of(st)->CancelledError);
#endif
}

/* asyncio's attribute _asyncio_awaited_by. Called for our futures, whether
 * they have such a field or not. 0/-1 */
static inline int
cl_future_note_awaited_by(cl_state *st, FutureObject *future, PyObject *task)
{
#if CL_HAS_AWAITED_BY
    if (future->f_awaited_by == NULL) {
        future->f_awaited_by = Py_NewRef(task);
        return 0;
    }
    return cl_call_void(cl_futures_of(st)->future_add_to_awaited_by,
                        (PyObject *)future, task);
#else
    (void)st;
    (void)future;
    (void)task;
    return 0;
#endif
}

static inline int
cl_future_forget_awaited_by(cl_state *st, FutureObject *future, PyObject *task)
{
#if CL_HAS_AWAITED_BY
    if (future->f_awaited_by == NULL)
        return 0;
    if (future->f_awaited_by == task) {
        future->f_awaited_by = NULL;
        Py_DECREF(task);
        return 0;
    }
    return cl_call_void(cl_futures_of(st)->future_discard_from_awaited_by,
                        (PyObject *)future, task);
#else
    (void)st;
    (void)future;
    (void)task;
    return 0;
#endif
}

/* Returns the exception of a finished future, to be raised: a new reference,
 * or NULL with an exception. */
static inline PyObject *
cl_future_take_exception(FutureObject *future)
{
    future->f_log_tb = 0;
#if PY_VERSION_HEX >= 0x030a0000
    PyObject *traceback = future->f_exception_tb;
    if (PyException_SetTraceback(future->f_exception,
                                 traceback == NULL ? Py_None : traceback) < 0)
        return NULL;
    Py_CLEAR(future->f_exception_tb);
#endif
    return Py_NewRef(future->f_exception);
}

#endif
