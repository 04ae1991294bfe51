/* coro.c - see coro.h. */
#include "futures/coro.h"

#include "core/claim.h"
#include "core/errors.h"
#include "futures/future.h"
#include "futures/stop.h"

static const char awaited_already[] = "coroutine is being awaited already";

bool
cl_coro_check(PyObject *object)
{
    return Py_TYPE(object)->tp_finalize == (destructor)cl_coro_finalize;
}

/* -------------------------------------------------------------------- waiting */

int
cl_coro_wait(CoroObject *coro, PyObject *future)
{
    cl_state *st = coro->c_st;
    cl_assert_of(coro, coro->c_state == CL_CORO_RUNNING);
    if (cl_future_is_plain(st, future))
        ((FutureObject *)future)->f_blocking = 1;
    else if (PyObject_SetAttr(future,
                              cl_futures_of(st)->str__asyncio_future_blocking,
                              Py_True) < 0)
        return -1;
    Py_XSETREF(coro->c_future, Py_NewRef(future));
    return 0;
}

/* Whether it is a coroutine, or a generator of @types.coroutine: 1, 0, -1. */
static int
is_coroutine(PyObject *object)
{
    if (!PyGen_CheckExact(object))
        return PyCoro_CheckExact(object);
    PyObject *code = PyObject_GetAttrString(object, "gi_code");
    if (code == NULL)
        return -1;
    int iterable = PyCode_Check(code) && (((PyCodeObject *)code)->co_flags &
                                          CO_ITERABLE_COROUTINE) != 0;
    Py_DECREF(code);
    return iterable;
}

/* Whether somebody awaits the Python coroutine: 1 with RuntimeError, 0, -1. */
static int
is_awaited(PyObject *coroutine)
{
    PyObject *other = PyObject_GetAttrString(coroutine, "cr_await");
    int awaited = other == NULL ? -1 : other != Py_None;
    Py_XDECREF(other);
    if (awaited > 0)
        PyErr_SetString(PyExc_RuntimeError, awaited_already);
    return awaited;
}

PyObject *
cl_coro_awaited(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    int coroutine = is_coroutine(object);
    if (coroutine > 0 && PyCoro_CheckExact(object) && is_awaited(object) != 0)
        coroutine = -1;
    if (coroutine != 0)
        return coroutine < 0 ? NULL : Py_NewRef(object);
    if (type->tp_as_async == NULL || type->tp_as_async->am_await == NULL)
        return PyErr_Format(PyExc_TypeError, CL_NOT_AWAITABLE, type->tp_name);
    PyObject *iter = type->tp_as_async->am_await(object);
    if (iter == NULL)
        return NULL;
    coroutine = is_coroutine(iter);
    if (coroutine == 0 && PyIter_Check(iter))
        return iter;
    if (coroutine >= 0)
        cl_raise_bad_await(object, iter, coroutine);
    Py_DECREF(iter);
    return NULL;
}

PySendResult
cl_coro_send_awaited(PyObject *inner, PyObject *value, PyObject **result)
{
    if (cl_coro_check(inner))
        return cl_coro_send((CoroObject *)inner, value, result);
    if (value == Py_None)
        return cl_awaited_send(inner, result);
    *result = PyObject_CallMethod(inner, "send", "O", value);
    return cl_iter_status(result);
}

int
cl_coro_close_awaited(cl_state *st, PyObject *inner)
{
    PyObject *method, *closed = NULL;
    int found =
        PyObject_GetOptionalAttr(inner, cl_futures_of(st)->str_close, &method);
    if (found < 0)
        PyErr_WriteUnraisable(inner);
    if (found <= 0)
        return 0;
    closed = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    Py_XDECREF(closed);
    return closed == NULL ? -1 : 0;
}

PyObject *
cl_coro_throw_awaited(cl_state *st, PyObject *inner, PyObject *type,
                      PyObject *value, PyObject *traceback)
{
    PyObject *method = NULL, *result = NULL;
    if (PyErr_GivenExceptionMatches(type, PyExc_GeneratorExit)) {
        if (cl_coro_close_awaited(st, inner) == 0)
            cl_raise_thrown(type, value, traceback);
        return NULL;
    }
    int found =
        PyObject_GetOptionalAttr(inner, cl_futures_of(st)->str_throw, &method);
    if (found == 0)
        cl_raise_thrown(type, value, traceback);
    else if (found > 0)
        result =
            PyObject_CallFunctionObjArgs(method, type, value, traceback, NULL);
    Py_XDECREF(method);
    return result;
}

int
cl_coro_future_is_done(CoroObject *coro)
{
    cl_assert_of(coro, coro->c_future != NULL);
    PyObject *result = PyObject_CallMethodNoArgs(
        coro->c_future, cl_futures_of(coro->c_st)->str_done);
    int done = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return done;
}

int
cl_coro_resume(CoroObject *coro)
{
    cl_state *st = coro->c_st;
    cl_assert_of(coro, coro->c_future != NULL);
    cl_assert_of(coro, coro->c_state == CL_CORO_RUNNING);
    if (cl_future_is_plain(st, coro->c_future)) {
        FutureObject *future = (FutureObject *)coro->c_future;
        if (future->f_state == CL_FINISHED && future->f_exception == NULL)
            return 0;
    }
    /* It failed or was cancelled, or this coroutine was stepped too early. */
    int done = cl_coro_future_is_done(coro);
    if (done == 0)
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
    if (done <= 0)
        return -1;
    PyObject *value = PyObject_CallMethodNoArgs(coro->c_future,
                                                cl_futures_of(st)->str_result);
    Py_XDECREF(value);
    return value == NULL ? -1 : 0;
}

/* ----------------------------------------------------------------- one step */

static int
refuse(PyObject *type, const char *message)
{
    PyErr_SetString(type, message);
    return -1;
}

static int
check_not_running(CoroObject *coro)
{
    return coro->c_state != CL_CORO_RUNNING
               ? 0
               : refuse(PyExc_ValueError, "coroutine already executing");
}

static int
check_not_done(CoroObject *coro)
{
    return coro->c_state != CL_CORO_DONE
               ? 0
               : refuse(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
}

/* As in PEP 479: a StopIteration would look like a result. */
static void
replace_stop_iteration(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return;
    PyObject *stop = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    PyObject *error = PyErr_GetRaisedException();
    PyException_SetCause(error, Py_NewRef(stop));
    PyException_SetContext(error, stop);
    PyErr_SetRaisedException(error);
}

/* Ends the coroutine with the exception that is set. */
static PySendResult
fail(CoroObject *coro)
{
    cl_assert_of(coro, PyErr_Occurred() != NULL);
    if (coro->c_ops->fail != NULL)
        coro->c_ops->fail(coro);
    replace_stop_iteration();
    PyObject *error = PyErr_GetRaisedException();
    (void)cl_coro_clear(coro);
    PyErr_SetRaisedException(error);
    return PYGEN_ERROR;
}

static PySendResult
done(CoroObject *coro)
{
    (void)cl_coro_clear(coro);
    return PYGEN_RETURN;
}

/* After a step that waits, or goes on with c_inner: the outcome. */
static __attribute__((noinline)) PySendResult
go_on(CoroObject *coro, PyObject *value, PyObject **result)
{
    if (coro->c_inner != NULL) {
        PyObject *inner = Py_NewRef(coro->c_inner);
        PySendResult status = cl_coro_send_awaited(inner, value, result);
        Py_DECREF(inner);
        return status;
    }
    if (*result == NULL)
        *result = Py_NewRef(coro->c_future);
    return PYGEN_NEXT;
}

/* Whether another task steps it while it waits: like `await future`, it waits
 * for the future again. */
static inline bool
waits_again(CoroObject *coro)
{
    FutureObject *future = (FutureObject *)coro->c_future;
    if (future == NULL || !cl_future_is_plain(coro->c_st, coro->c_future) ||
        future->f_state != CL_PENDING || future->f_blocking)
        return false;
    future->f_blocking = 1;
    return true;
}

/* Marks the start of a step. */
static void
begin(CoroObject *coro)
{
    coro->c_state = CL_CORO_RUNNING;
    if (coro->c_shown != NULL)
        Py_CLEAR(coro->c_shown);
}

/* Updates the coroutine for the outcome of a step, and returns it. */
static PySendResult
settle(CoroObject *coro, PySendResult status)
{
    cl_assert_of(coro, (status == PYGEN_ERROR) == (PyErr_Occurred() != NULL));
    if (status == PYGEN_RETURN)
        return done(coro);
    if (status == PYGEN_ERROR)
        return fail(coro);
    coro->c_state = CL_CORO_WAITING;
    return status;
}

#if CL_FREE_THREADED
static LoopObject *
loop_of(const CoroObject *coro)
{
    return coro->c_ops->loop == NULL ? NULL : coro->c_ops->loop(coro);
}
#endif

/* A step that is refused, or goes on with c_inner. */
static __attribute__((noinline)) PySendResult
send_otherwise(CoroObject *coro, PyObject *value, PyObject **result)
{
    if (check_not_running(coro) < 0 || check_not_done(coro) < 0)
        return PYGEN_ERROR;
    if (coro->c_state == CL_CORO_NEW) {
        refuse(PyExc_TypeError,
               "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    begin(coro);
    return settle(coro, go_on(coro, value, result));
}

PySendResult
cl_coro_send(CoroObject *coro, PyObject *value, PyObject **result)
{
    CL_CLAIM_OF(loop_of(coro), PYGEN_ERROR);
    cl_coro_state state = coro->c_state;
    cl_assert_gil();
    cl_assert_of(coro, coro->c_ops != NULL && state <= CL_CORO_DONE);
    cl_assert_of(coro, !PyErr_Occurred());
    *result = NULL;
    if (state > CL_CORO_WAITING || coro->c_inner != NULL ||
        (state == CL_CORO_NEW && value != Py_None))
        return send_otherwise(coro, value, result);
    begin(coro);
    PySendResult status = PYGEN_NEXT;
    if (state == CL_CORO_NEW)
        status = coro->c_ops->step(coro, NULL, result);
    else if (!waits_again(coro))
        status = coro->c_ops->step(coro, value, result);
    return cl_coro_settle(coro, status, result);
}

PySendResult
cl_coro_settle(CoroObject *coro, PySendResult status, PyObject **result)
{
    if (status == PYGEN_NEXT && *result == NULL) {
        if (coro->c_inner != NULL)
            status = go_on(coro, Py_None, result);
        else
            *result = Py_NewRef(coro->c_future);
    }
    return settle(coro, status);
}

static PyObject *
stop_iteration(PyObject *value)
{
    cl_raise_stop_iteration(value);
    Py_DECREF(value);
    return NULL;
}

static PyObject *
coro_send(CoroObject *coro, PyObject *value)
{
    PyObject *result;
    PySendResult status = cl_coro_send(coro, value, &result);
    return status == PYGEN_RETURN ? stop_iteration(result) : result;
}

PyObject *
cl_coro_iternext(CoroObject *coro)
{
    PyObject *result;
    PySendResult status = cl_coro_send(coro, Py_None, &result);
    return status == PYGEN_RETURN ? cl_coro_returned(coro, result) : result;
}

PyObject *
cl_coro_returned(CoroObject *coro, PyObject *result)
{
    if (result == Py_None) { /* NULL without an exception means None */
        Py_DECREF(result);
        return NULL;
    }
    if (result == Py_True) {
        Py_DECREF(result);
        return cl_stop_true(coro->c_st);
    }
    return Py_REFCNT(coro) == 1 ? cl_stop_with(coro->c_st, result)
                                : stop_iteration(result);
}

static PySendResult
throw_waiting(CoroObject *coro, PyObject *type, PyObject *value,
              PyObject *traceback, PyObject **result)
{
    if (coro->c_ops->thrown == NULL) {
        cl_raise_thrown(type, value, traceback);
        return PYGEN_ERROR;
    }
    PySendResult status =
        coro->c_ops->thrown(coro, type, value, traceback, result);
    return status == PYGEN_NEXT ? go_on(coro, Py_None, result) : status;
}

static PyObject *
coro_throw(CoroObject *coro, PyObject *args)
{
    CL_CLAIM_OF(loop_of(coro), NULL);
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback))
        return NULL;
#if CL_THROW_TAKES_ONE
    if (value != NULL &&
        PyErr_WarnEx(PyExc_DeprecationWarning,
                     "the (type, exc, tb) signature of throw() is deprecated, "
                     "use the single-arg signature instead.",
                     1) < 0)
        return NULL;
#endif
    if (check_not_running(coro) < 0 || check_not_done(coro) < 0)
        return NULL;
    PyObject *result = NULL;
    PySendResult status = PYGEN_ERROR;
    bool waited = coro->c_state == CL_CORO_WAITING;
    /* If they are wrong, it can still be started. */
    if (!waited && coro->c_inner == NULL &&
        cl_check_thrown(type, value, traceback) < 0)
        return NULL;
    begin(coro);
    if (coro->c_inner != NULL) {
        PyObject *method = PyObject_GetAttr(
            coro->c_inner, cl_futures_of(coro->c_st)->str_throw);
        result = method == NULL ? NULL : PyObject_Call(method, args, NULL);
        Py_XDECREF(method);
        status = cl_iter_status(&result);
    }
    else if (waited)
        status = throw_waiting(coro, type, value, traceback, &result);
    else
        cl_raise_thrown(type, value, traceback);
    status = settle(coro, status);
    return status == PYGEN_RETURN ? stop_iteration(result) : result;
}

static PyObject *
close_waiting(CoroObject *coro)
{
    PyObject *result = NULL;
    begin(coro);
    PySendResult status =
        throw_waiting(coro, PyExc_GeneratorExit, NULL, NULL, &result);
    status = settle(coro, status);
    if (status == PYGEN_ERROR) {
        if (!PyErr_ExceptionMatches(PyExc_GeneratorExit) &&
            !PyErr_ExceptionMatches(PyExc_StopIteration))
            return NULL;
        PyErr_Clear();
    }
    Py_XDECREF(result);
    if (status == PYGEN_NEXT) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine ignored GeneratorExit");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
close_inner(CoroObject *coro)
{
    PyObject *inner = Py_NewRef(coro->c_inner);
    begin(coro);
    int closed = cl_coro_close_awaited(coro->c_st, inner);
    Py_DECREF(inner);
    if (closed == 0)
        done(coro);
    else
        fail(coro);
    return closed == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
coro_close(CoroObject *coro, PyObject *Py_UNUSED(ignored))
{
    CL_CLAIM_OF(loop_of(coro), NULL);
    if (check_not_running(coro) < 0)
        return NULL;
    if (coro->c_state == CL_CORO_DONE)
        Py_RETURN_NONE;
    if (coro->c_inner != NULL)
        return close_inner(coro);
    if (coro->c_state == CL_CORO_WAITING && coro->c_ops->closes)
        return close_waiting(coro);
    PyErr_SetNone(PyExc_GeneratorExit);
    fail(coro);
    PyErr_Clear();
    Py_RETURN_NONE;
}

PyObject *
cl_coro_await(CoroObject *coro)
{
    if (coro->c_state == CL_CORO_WAITING) {
        PyErr_SetString(PyExc_RuntimeError, awaited_already);
        return NULL;
    }
    return Py_NewRef(coro);
}

/* ---------------------------------------------------------- garbage collection */

int
cl_coro_traverse(CoroObject *coro, visitproc visit, void *arg)
{
    CL_VISIT_TYPE(coro);
    Py_VISIT(coro->c_future);
    Py_VISIT(coro->c_inner);
    Py_VISIT(coro->c_shown);
    Py_VISIT(coro->c_loop);
    return 0;
}

int
cl_coro_clear(CoroObject *coro)
{
    coro->c_state = CL_CORO_DONE;
    coro->c_ops->drop(coro);
    Py_CLEAR(coro->c_future);
    if (coro->c_inner != NULL || coro->c_shown != NULL) {
        Py_CLEAR(coro->c_inner);
        Py_CLEAR(coro->c_shown);
    }
    return 0;
}

/* The qualified name is owner, dot and name. */
static const char *
owner(const CoroObject *coro)
{
    return coro->c_ops->owner == NULL ? "" : coro->c_ops->owner;
}

static const char *
dot(const CoroObject *coro)
{
    return coro->c_ops->owner == NULL ? "" : ".";
}

/* Whether freeing the coroutine in its present state has a visible effect: a
 * warning, or GeneratorExit. */
static bool
must_finalize(const CoroObject *coro)
{
    return coro->c_state == CL_CORO_NEW ||
           (coro->c_state == CL_CORO_WAITING && coro->c_ops->closes &&
            coro->c_inner == NULL);
}

void
cl_coro_finalize(CoroObject *coro)
{
    if (!must_finalize(coro))
        return;
    CL_CLAIM_TO_FINALIZE(
        coro->c_state == CL_CORO_WAITING ? loop_of(coro) : NULL, coro);
    PyObject *error = PyErr_GetRaisedException();
    if (coro->c_state == CL_CORO_WAITING) {
        PyObject *closed = close_waiting(coro);
        if (closed == NULL)
            PyErr_WriteUnraisable((PyObject *)coro);
        Py_XDECREF(closed);
    }
    else if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                              "coroutine '%s%s%s' was never awaited",
                              owner(coro), dot(coro),
                              coro->c_ops->name(coro)) < 0) {
        PyErr_WriteUnraisable((PyObject *)coro);
    }
    (void)cl_raise_first(error);
}

bool
cl_coro_dying(CoroObject *coro)
{
    if (must_finalize(coro) &&
        PyObject_CallFinalizerFromDealloc((PyObject *)coro) < 0)
        return false;
    PyObject_GC_UnTrack(coro);
    cl_stop_forget(coro->c_st);
    if (coro->c_state != CL_CORO_DONE) /* else it is cleared */
        (void)cl_coro_clear(coro);
    return true;
}

/* ------------------------------------------------------------------ attributes */

static PyObject *
get_name(CoroObject *coro, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(coro->c_ops->name(coro));
}

static PyObject *
get_qualname(CoroObject *coro, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat("%s%s%s", owner(coro), dot(coro),
                                coro->c_ops->name(coro));
}

PyObject *
cl_coro_repr(CoroObject *coro)
{
    return PyUnicode_FromFormat("<coroutine object %s%s%s at %p>", owner(coro),
                                dot(coro), coro->c_ops->name(coro), coro);
}

static PyObject *
get_running(CoroObject *coro, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(coro->c_state == CL_CORO_RUNNING);
}

/* The names of inspect.getcoroutinestate(), which uses this attribute from
 * 3.15 on. */
static PyObject *
get_state(CoroObject *coro, void *Py_UNUSED(closure))
{
    static const char *const names[] = {
        [CL_CORO_NEW] = "CORO_CREATED",
        [CL_CORO_RUNNING] = "CORO_RUNNING",
        [CL_CORO_WAITING] = "CORO_SUSPENDED",
        [CL_CORO_DONE] = "CORO_CLOSED",
    };
    return PyUnicode_InternFromString(names[coro->c_state]);
}

static PyObject *
get_suspended(CoroObject *coro, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(coro->c_state == CL_CORO_WAITING);
}

/* Returns what it awaits, borrowed, or NULL; while a step runs, only if that is
 * in what it awaits. *awaits is as of cl_coro_ops.inner(). */
static PyObject *
awaited_by(const CoroObject *coro, const char **awaits)
{
    *awaits = "";
    PyObject *inner =
        coro->c_ops->inner == NULL ? NULL : coro->c_ops->inner(coro, awaits);
    if (coro->c_state == CL_CORO_NEW)
        return NULL;
    if (coro->c_inner != NULL || inner != NULL)
        return coro->c_inner != NULL ? coro->c_inner : inner;
    return coro->c_state == CL_CORO_WAITING ? coro->c_future : NULL;
}

/* Returns what asyncio's coroutine would show (cloop/_frames.py): a tuple of
 * that coroutine, its frame and what it awaits, or None. NULL with an
 * exception. The result is cached until the next step. */
static PyObject *
show(CoroObject *coro)
{
    const cl_coro_ops *ops = coro->c_ops;
    const cl_futures *futures = cl_futures_of(coro->c_st);
    if (coro->c_shown != NULL)
        return Py_NewRef(coro->c_shown);
    cl_coro_state state = coro->c_state;
    const char *awaits;
    PyObject *awaited = Py_XNewRef(awaited_by(coro, &awaits)), *shown = NULL;
    PyObject *args = ops->args(coro);
    if (args != NULL && awaited != NULL)
        shown = PyObject_CallFunction(futures->suspended_frame, "OsOOs",
                                      ops->stock(coro), ops->name(coro), args,
                                      awaited, awaits);
    else if (args != NULL)
        shown = PyObject_CallFunction(futures->created_frame, "OsO",
                                      ops->stock(coro), ops->name(coro), args);
    Py_XDECREF(awaited);
    Py_XDECREF(args);
    /* Python code may have run, and stepped the coroutine. */
    if (shown != NULL && state == coro->c_state && state != CL_CORO_RUNNING)
        Py_XSETREF(coro->c_shown, Py_NewRef(shown));
    return shown;
}

/* Returns the coroutine that this one stands for, borrowed, or NULL. */
static PyObject *
stands_for(const CoroObject *coro)
{
    const char *awaits = "";
    if (coro->c_inner != NULL)
        return coro->c_inner;
    PyObject *inner =
        coro->c_ops->inner == NULL ? NULL : coro->c_ops->inner(coro, &awaits);
    return awaits == NULL ? inner : NULL;
}

/* Returns an item of what show() returns, or the attribute of the coroutine
 * that runs instead. A new reference; NULL without an exception if there is
 * none. */
static PyObject *
shown_item(CoroObject *coro, Py_ssize_t index, const char *attribute)
{
    PyObject *item = NULL;
    if (coro->c_state == CL_CORO_DONE)
        return NULL;
    PyObject *inner = Py_XNewRef(stands_for(coro));
    if (inner != NULL) {
        item = PyObject_GetAttrString(inner, attribute);
        Py_DECREF(inner);
    }
    else {
        PyObject *shown = show(coro);
        if (shown != NULL && PyTuple_Check(shown))
            item = Py_NewRef(PyTuple_GET_ITEM(shown, index));
        Py_XDECREF(shown);
    }
    return item;
}

/* Reading these attributes does not raise an Exception: the default is
 * returned instead. */
static PyObject *
or_else(PyObject *value, PyObject *otherwise)
{
    if (value != NULL ||
        (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)))
        return value;
    PyErr_Clear();
    return Py_NewRef(otherwise);
}

static PyObject *
get_frame(CoroObject *coro, void *Py_UNUSED(closure))
{
    CL_CLAIM_OF_OR(loop_of(coro), Py_RETURN_NONE);
    return or_else(shown_item(coro, 1, "cr_frame"), Py_None);
}

static PyObject *
get_await(CoroObject *coro, void *Py_UNUSED(closure))
{
    CL_CLAIM_OF_OR(loop_of(coro), Py_RETURN_NONE);
    const char *awaits;
    PyObject *what = awaited_by(coro, &awaits);
    if (coro->c_state != CL_CORO_WAITING || what == NULL)
        Py_RETURN_NONE;
    Py_INCREF(what);
    if (coro->c_inner == NULL && what != coro->c_future && awaits != NULL)
        return what;
    PyObject *result = or_else(shown_item(coro, 2, "cr_await"), what);
    Py_DECREF(what);
    return result;
}

static PyObject *
get_code(CoroObject *coro, void *Py_UNUSED(closure))
{
    CL_CLAIM_OF_OR(loop_of(coro), Py_RETURN_NONE);
    PyObject *inner = stands_for(coro);
    if (inner != NULL)
        return or_else(PyObject_GetAttrString(inner, "cr_code"), Py_None);
    PyObject *function = PyObject_GetAttrString(coro->c_ops->stock(coro),
                                                coro->c_ops->name(coro));
    PyObject *code =
        function == NULL ? NULL : PyObject_GetAttrString(function, "__code__");
    Py_XDECREF(function);
    return or_else(code, Py_None);
}

static PyObject *
get_none(CoroObject *Py_UNUSED(coro), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

PyGetSetDef cl_coro_getset[] = {
    {"__name__", (getter)get_name, NULL, NULL, NULL},
    {"__qualname__", (getter)get_qualname, NULL, NULL, NULL},
    {"cr_running", (getter)get_running, NULL, NULL, NULL},
    {"cr_suspended", (getter)get_suspended, NULL, NULL, NULL},
    {"cr_state", (getter)get_state, NULL, NULL, NULL},
    {"cr_await", (getter)get_await, NULL,
     "What the coroutine awaits, or None.", NULL},
    {"cr_frame", (getter)get_frame, NULL,
     "The frame that asyncio's coroutine would have, or None.", NULL},
    {"cr_code", (getter)get_code, NULL, "The code of asyncio's method.", NULL},
    {"cr_origin", (getter)get_none, NULL, NULL, NULL},
    {NULL}};

PyMethodDef cl_coro_methods[] = {
    {"send", (PyCFunction)coro_send, METH_O,
     "send($self, arg, /)\n--\n\nStep the coroutine, as a task does."},
    {"throw", (PyCFunction)coro_throw, METH_VARARGS,
     "throw(type, value=None, traceback=None)\n\nEnd the coroutine with an "
     "exception."},
    {"close", (PyCFunction)coro_close, METH_NOARGS,
     "close($self, /)\n--\n\nEnd the coroutine."},
    {NULL}};
