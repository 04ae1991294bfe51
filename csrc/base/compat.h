/* compat.h - the newest C API, on every CPython we support.
 *
 * This is the only header that includes Python.h, and the only place that
 * knows Python versions. Other code is written against the newest API. What an
 * older version lacks is supplied here: under the same name, or under a `cl_`
 * name where the behaviour differs. */
#ifndef CL_BASE_COMPAT_H
#define CL_BASE_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#if PY_VERSION_HEX < 0x030b0000
#include <longintrepr.h>
#endif

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include "base/assert.h"

#if PY_VERSION_HEX < 0x03080000
#error "cloop needs CPython 3.8 or newer"
#endif

/* cl_assert() of what has to do with an object of Python. */
#define cl_assert_of(object, condition) \
    cl_assertf(condition, "%s object at %p, %zd references", \
               Py_TYPE(object)->tp_name, (void *)(object), \
               (Py_ssize_t)Py_REFCNT(object))

/* CPython without a GIL: what it needs is in docs/free-threading.md, and
 * compiles to nothing on other builds.
 *
 * CL_SHARED(type) is a field that several threads read and write by itself.
 * CL_COUNT(field, change) adds to a counter of all threads, and
 * CL_COUNTED(field) reads one. CL_PUT(field, value) stores what other threads
 * read in this way, and one thread writes. What stands between
 * CL_LOCKED(object) and CL_UNLOCKED() excludes other such blocks of the object;
 * it must not run Python code, nor be left early. A CL_MUTEX is zero at first. */
#ifdef Py_GIL_DISABLED
#define CL_FREE_THREADED 1
#define CL_SHARED(type) _Atomic(type)
#define CL_COUNT(field, change) \
    ((void)__atomic_fetch_add(&(field), (change), __ATOMIC_RELAXED))
#define CL_COUNTED(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define CL_PUT(field, value) \
    __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)
#define CL_LOCKED(object) Py_BEGIN_CRITICAL_SECTION(object)
#define CL_UNLOCKED() Py_END_CRITICAL_SECTION()
#define CL_MUTEX(name) PyMutex name;
#define CL_MUTEX_LOCK(mutex) PyMutex_Lock(mutex)
#define CL_MUTEX_UNLOCK(mutex) PyMutex_Unlock(mutex)
#define CL_MUTEX_RESET(mutex) ((void)(*(mutex) = (PyMutex){0}))
#else
#define CL_FREE_THREADED 0
#define CL_SHARED(type) type
#define CL_COUNT(field, change) ((void)((field) += (change)))
#define CL_COUNTED(field) (field)
#define CL_PUT(field, value) ((void)((field) = (value)))
#define CL_LOCKED(object) {
#define CL_UNLOCKED() }
#define CL_MUTEX(name)
#define CL_MUTEX_LOCK(mutex) ((void)0)
#define CL_MUTEX_UNLOCK(mutex) ((void)0)
#define CL_MUTEX_RESET(mutex) ((void)0)
#endif

/* Whoever uses objects of Python holds the GIL: that of its own interpreter,
 * which PyGILState_Check() does not know. Before 3.12 there is only one. */
#if PY_VERSION_HEX >= 0x030d0000
#define cl_assert_gil() cl_assert(PyThreadState_GetUnchecked() != NULL)
#elif PY_VERSION_HEX >= 0x030c0000
#define cl_assert_gil() cl_assert(_PyThreadState_UncheckedGet() != NULL)
#else
#define cl_assert_gil() cl_assert(PyGILState_Check())
#endif

/* PyMODINIT_FUNC of 3.8 does not export under -fvisibility=hidden. */
#define CL_EXPORT __attribute__((visibility("default")))

/* Every interpreter has its own state: see tests/test_source.py. So each may
 * have its own GIL. To do without is declared for the versions on which it is
 * known to work: docs/free-threading.md. */
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x030e0000
#define CL_MOD_SLOTS_EXTRA \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, \
        {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#elif PY_VERSION_HEX >= 0x030c0000
#define CL_MOD_SLOTS_EXTRA \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define CL_MOD_SLOTS_EXTRA
#endif

#if PY_VERSION_HEX < 0x03090000
/* It cannot be subclassed. */
#define PyCFunction_CheckExact PyCFunction_Check

static inline PyObject *
PyObject_Vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                    PyObject *kwnames)
{
    return _PyObject_Vectorcall(callable, args, nargsf, kwnames);
}

static inline PyObject *
PyObject_CallNoArgs(PyObject *callable)
{
    return _PyObject_CallNoArg(callable);
}

static inline PyObject *
PyObject_CallOneArg(PyObject *callable, PyObject *arg)
{
    PyObject *stack[2] = {NULL, arg};
    return _PyObject_Vectorcall(callable, stack + 1,
                                1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

PyObject *PyObject_VectorcallMethod(PyObject *name, PyObject *const *args,
                                    size_t nargsf, PyObject *kwnames);

static inline PyObject *
PyObject_CallMethodNoArgs(PyObject *self, PyObject *name)
{
    return PyObject_VectorcallMethod(name, &self, 1, NULL);
}

static inline PyObject *
PyObject_CallMethodOneArg(PyObject *self, PyObject *name, PyObject *arg)
{
    PyObject *stack[2] = {self, arg};
    return PyObject_VectorcallMethod(name, stack, 2, NULL);
}

static inline PyInterpreterState *
PyInterpreterState_Get(void)
{
    return _PyInterpreterState_Get();
}
#endif

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *
cl_new_ref(PyObject *op)
{
    Py_XINCREF(op);
    return op;
}
#define Py_NewRef(op) cl_new_ref((PyObject *)(op))
#define Py_XNewRef(op) cl_new_ref((PyObject *)(op))

static inline int
PyModule_AddObjectRef(PyObject *module, const char *name, PyObject *value)
{
    Py_XINCREF(value);
    if (value == NULL || PyModule_AddObject(module, name, value) < 0) {
        Py_XDECREF(value);
        return -1;
    }
    return 0;
}
#endif

#if PY_VERSION_HEX < 0x030c0000
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL)
        return NULL;
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL)
        PyException_SetTraceback(value, tb);
    Py_DECREF(type);
    Py_XDECREF(tb);
    return value;
}

static inline void
PyErr_SetRaisedException(PyObject *exc)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc,
                  PyException_GetTraceback(exc));
}
#endif

/* Returns a new list, which is empty, with room for so many items, from 3.11 on. */
static inline PyObject *
cl_list_with_room(Py_ssize_t count)
{
#if PY_VERSION_HEX >= 0x030b0000
    PyObject *list = PyList_New(count);
    if (list != NULL)
        Py_SET_SIZE((PyVarObject *)list, 0);
    return list;
#else
    (void)count;
    return PyList_New(0);
#endif
}

/* Replaces the first item of a tuple that only the caller refers to, and steals
 * the new one; the reference to the old one is the caller's. The collector may
 * have ceased to track the tuple. From 3.14 on a tuple keeps its hash. */
static inline void
cl_tuple_put_first(PyObject *tuple, PyObject *item)
{
    cl_assert(Py_REFCNT(tuple) == 1);
    PyTuple_SET_ITEM(tuple, 0, item);
    if (PyType_IS_GC(Py_TYPE(item))) {
        PyObject_GC_UnTrack(tuple);
        PyObject_GC_Track(tuple);
    }
#if PY_VERSION_HEX >= 0x030e0000
    ((PyTupleObject *)tuple)->ob_hash = -1;
#endif
}

/* A new object of the type, zeroed; NULL on failure. */
#define cl_type_alloc(type) ((type)->tp_alloc(type, 0))

/* Makes `exc` what sys.exc_info() returns in the innermost frame, and returns
 * what was there. Steals and returns a reference; NULL and None stand for none.
 * PyErr_GetHandledException() would return that of an outer frame. */
static inline PyObject *
cl_swap_handled(PyObject *exc)
{
    _PyErr_StackItem *item = PyThreadState_Get()->exc_info;
    PyObject *before = item->exc_value;
#if PY_VERSION_HEX < 0x030b0000
    PyObject *type = item->exc_type, *traceback = item->exc_traceback;
    bool none = exc == NULL || exc == Py_None;
    item->exc_type = none ? NULL : Py_NewRef((PyObject *)Py_TYPE(exc));
    item->exc_traceback = none ? NULL : PyException_GetTraceback(exc);
    item->exc_value = exc;
    Py_XDECREF(type);
    Py_XDECREF(traceback);
#else
    item->exc_value = exc;
#endif
    return before;
}

#if PY_VERSION_HEX < 0x030d0000
/* Returns 1 if found, with the value in *result; 0 if absent, -1 on error. */
int PyObject_GetOptionalAttr(PyObject *op, PyObject *name, PyObject **result);
#endif

/* Returns a new reference to the value, or NULL, with an exception if it set
 * one. */
static inline PyObject *
cl_dict_get(PyObject *dict, PyObject *key)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *value;
    (void)PyDict_GetItemRef(dict, key, &value);
    return value;
#else
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#endif
}

/* Whether the weak reference refers to this object, which is alive. */
static inline bool
cl_weakref_is(PyObject *reference, PyObject *object)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *referent;
    bool same =
        PyWeakref_GetRef(reference, &referent) > 0 && referent == object;
    Py_XDECREF(referent);
    return same;
#else
    return PyWeakref_GET_OBJECT(reference) == object;
#endif
}

/* Whether its object is gone. */
static inline bool
cl_weakref_is_dead(PyObject *reference)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *referent;
    int alive = PyWeakref_GetRef(reference, &referent);
    Py_XDECREF(referent);
    return alive == 0;
#else
    return PyWeakref_GET_OBJECT(reference) == Py_None;
#endif
}

/* Returns the object's shared weak reference without a callback, a new
 * reference; NULL if there is none yet. */
static inline PyObject *
cl_plain_weakref(PyObject *object)
{
    Py_ssize_t offset = Py_TYPE(object)->tp_weaklistoffset;
    PyWeakReference *first = *(PyWeakReference **)((char *)object + offset);
    if (CL_FREE_THREADED) /* another thread may change the list */
        return NULL;
    /* It comes before references with a callback, and before proxies. */
    return first != NULL && first->wr_callback == NULL &&
                   PyWeakref_CheckRefExact((PyObject *)first)
               ? Py_NewRef((PyObject *)first)
               : NULL;
}

/* For deallocs: clears weak references to the object. */
static inline void
cl_clear_weakrefs(PyObject *object)
{
    Py_ssize_t offset = Py_TYPE(object)->tp_weaklistoffset;
    if (*(PyObject **)((char *)object + offset) != NULL)
        PyObject_ClearWeakRefs(object);
}

/* Whether an object of a type with a managed dict and managed weak references
 * has neither. */
#if PY_VERSION_HEX >= 0x030d0000
static inline bool
cl_has_no_managed(PyObject *object)
{
#if CL_FREE_THREADED
    return ((PyObject **)object)[-1] == NULL &&
           ((PyObject **)object)[-2] == NULL;
#else
    return ((PyObject **)object)[-3] == NULL &&
           ((PyObject **)object)[-4] == NULL;
#endif
}
#endif

/* TLS as asyncio has it since 3.11; see tls/machine.h. */
#define CL_HAS_TLS_SHUTDOWN_TIMEOUT (PY_VERSION_HEX >= 0x030b0000)
#if CL_HAS_TLS_SHUTDOWN_TIMEOUT
#define CL_TLS_RECEIVE_NAME "buffer_updated"
#else
#define CL_TLS_RECEIVE_NAME "data_received"
#endif

/* The qualified name of the callback in asyncio.gather(). */
#if PY_VERSION_HEX >= 0x03090000 && PY_VERSION_HEX < 0x030a0000
#define CL_GATHER_CALLBACK_NAME "_gather.<locals>._done_callback"
#else
#define CL_GATHER_CALLBACK_NAME "gather.<locals>._done_callback"
#endif

/* Coroutines in C: from 3.10 on am_send drives them, which saves an exception
 * per result; before, tp_iternext and send(). */
#define CL_HAS_AM_SEND (PY_VERSION_HEX >= 0x030a0000)
#if CL_HAS_AM_SEND
#define CL_AM_SEND(function) {Py_am_send, function},
#else
typedef enum {
    PYGEN_RETURN = 0,
    PYGEN_ERROR = -1,
    PYGEN_NEXT = 1
} PySendResult;
#define CL_AM_SEND(function)
#endif

/* Advances a coroutine or generator like send(None). Returns its state;
 * *result is what it yielded or returned (a new reference). */
#if PY_VERSION_HEX >= 0x030a0000
static inline PySendResult
cl_iter_send(PyObject *iter, PyObject **result)
{
    return PyIter_Send(iter, Py_None, result);
}
#else
PySendResult cl_iter_send(PyObject *iter, PyObject **result);
#endif

/* The same for what is awaited, which may be an iterator without send(). */
#if PY_VERSION_HEX >= 0x030a0000
#define cl_awaited_send cl_iter_send
#else
PySendResult cl_awaited_send(PyObject *iter, PyObject **result);
#endif

/* After a call of send() or throw(): returns the state, with the value of a
 * StopIteration in *result. */
PySendResult cl_iter_status(PyObject **result);

/* Raises StopIteration(value). */
void cl_raise_stop_iteration(PyObject *value);

/* Whether subprocess forks, and has no vfork(). */
#define CL_SUBPROCESS_FORKS (PY_VERSION_HEX < 0x030a0000)

/* Features of this version's asyncio: cancel(msg=), create_task(context=),
 * eager tasks, create_task(eager_start=), and, all at once, tasks in the
 * thread state and futures that know their awaiters. */
#define CL_HAS_CANCEL_MESSAGE (PY_VERSION_HEX >= 0x03090000)
#define CL_HAS_TASK_CONTEXT (PY_VERSION_HEX >= 0x030b0000)
#define CL_HAS_KEPT_CANCELLATION (PY_VERSION_HEX >= 0x030b0000)
#define CL_HAS_EAGER_TASKS (PY_VERSION_HEX >= 0x030c0000)
#define CL_HAS_GET_CONTEXT (PY_VERSION_HEX >= 0x030c0000)
#define CL_HAS_EAGER_START (PY_VERSION_HEX >= 0x030e0000)
#define CL_HAS_AWAITED_BY (PY_VERSION_HEX >= 0x030e0000)
/* writelines() buffers all before it sends, and keeps that if the loop is
 * closed; before, it is write() of all. */
#define CL_WRITELINES_BUFFERS_FIRST (PY_VERSION_HEX >= 0x030c0000)
/* Without a name=, create_task() names what a task factory has made "None". */
#define CL_NAMES_TASKS_NONE \
    (PY_VERSION_HEX >= 0x030d0000 && !CL_HAS_EAGER_START)
/* Task() accepts no context of another type, and no second __init__(). */
#define CL_TASK_INIT_IS_STRICT (PY_VERSION_HEX >= 0x030f0000)
/* Objects of asyncio's classes have their __dict__ outside the struct. */
#define CL_HAS_MANAGED_DICT (PY_VERSION_HEX >= 0x030d0000)
/* The name of Task's step method in a message. */
#if PY_VERSION_HEX >= 0x030e0000
#define CL_STEP_NAME "__step"
#else
#define CL_STEP_NAME "_step"
#endif
/* The message for an object that cannot be awaited. */
#if PY_VERSION_HEX >= 0x030e0000
#define CL_NOT_AWAITABLE "'%.100s' object can't be awaited"
#else
#define CL_NOT_AWAITABLE "object %.100s can't be used in 'await' expression"
#endif
/* Set the TypeError for what __await__() of object returned: a coroutine, or
   no iterator at all. */
static inline void
cl_raise_bad_await(PyObject *object, PyObject *returned, int is_coroutine)
{
#if PY_VERSION_HEX >= 0x030f0000
    PyErr_Format(PyExc_TypeError,
                 is_coroutine
                     ? "%T.__await__() must return an iterator, not coroutine"
                     : "%T.__await__() must return an iterator, not %T",
                 object, returned);
#else
    (void)object;
    if (is_coroutine)
        PyErr_SetString(PyExc_TypeError, "__await__() returned a coroutine");
    else
        PyErr_Format(PyExc_TypeError,
                     "__await__() returned non-iterator of type '%.100s'",
                     Py_TYPE(returned)->tp_name);
#endif
}
/* An exception that is thrown into a coroutine gets what that handles as its
 * context. */
#define CL_THROW_SETS_CONTEXT (PY_VERSION_HEX >= 0x03090000)
/* throw(type, value, traceback) is deprecated. */
#define CL_THROW_TAKES_ONE (PY_VERSION_HEX >= 0x030c0000)
/* Task.all_tasks() also returns finished tasks. */
#define CL_LISTS_DONE_TASKS (PY_VERSION_HEX < 0x03090000)
/* The WeakSet of tasks in asyncio.tasks; not used with CL_HAS_AWAITED_BY. */
#define CL_ALL_TASKS_NAME \
    (PY_VERSION_HEX >= 0x030c0000 ? "_scheduled_tasks" : "_all_tasks")

/* List items for newer versions only. */
#if CL_HAS_EAGER_TASKS
#define CL_IF_EAGER_TASKS(...) __VA_ARGS__
#else
#define CL_IF_EAGER_TASKS(...)
#endif
#if CL_HAS_AWAITED_BY
#define CL_IF_AWAITED_BY(...) __VA_ARGS__
#else
#define CL_IF_AWAITED_BY(...)
#endif

/* Other processes may read the stacks of tasks (`python -m asyncio ps`). They
 * treat each task's coroutine as a Python coroutine, so ours must look like
 * one. */
#if PY_VERSION_HEX >= 0x030e0000 && !defined(Py_GIL_DISABLED)
#define CL_HAS_REMOTE_STACKS 1
/* The layout of a Python coroutine after the first 64 bytes: the end of
 * PyGenObject, then its _PyInterpreterFrame. */
typedef struct {
    char f_flags[3];
    int8_t f_state;
    uintptr_t f_executable; /* the code, possibly with tag bits */
    void *f_previous;
    void *f_function;
    void *f_globals;
    void *f_builtins;
    void *f_locals;
    void *f_object;
    const char *f_instruction;
    void *
        f_stack_pointer; /* the awaited object is in one of the two words below */
    uint16_t f_return_offset;
    char f_owner;
    uint8_t f_visited;
} cl_remote_frame;
#define CL_REMOTE_OFFSET 64
#define CL_REMOTE_TAGS ((uintptr_t)7)

/* Whether the code has this instruction. */
static inline bool
cl_code_has(PyObject *code, const char *instruction)
{
    const char *first = ((PyCodeObject *)code)->co_code_adaptive;
    Py_ssize_t size = Py_SIZE(code) * (Py_ssize_t)sizeof(uint16_t);
    return instruction >= first && instruction < first + size;
}
#else
#define CL_HAS_REMOTE_STACKS 0
#endif

/* From 3.14 on, a timer for NaN fails in asyncio's selector; before, it is due
 * at once. */
#define CL_NAN_TIMER_RAISES (PY_VERSION_HEX >= 0x030e0000)

/* From 3.9 on an instance of a heap type must visit its type. */
#if PY_VERSION_HEX >= 0x03090000
#define CL_VISIT_TYPE(self) Py_VISIT(Py_TYPE(self))
#else
#define CL_VISIT_TYPE(self) ((void)(self), (void)visit, (void)arg)
#endif

static inline bool
cl_is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

#ifdef CL_DEBUG
/* Whether the collector tracks the object. 3.8 cannot tell, and returns
 * `expected`. */
static inline bool
cl_is_tracked(PyObject *self, bool expected)
{
#if PY_VERSION_HEX >= 0x03090000
    (void)expected;
    return PyObject_GC_IsTracked(self);
#else
    (void)self;
    return expected;
#endif
}
#endif

/* Whether the object's finalizer has run. */
static inline bool
cl_is_finalized(PyObject *self)
{
#if PY_VERSION_HEX >= 0x03090000
#if CL_FREE_THREADED
    return PyObject_GC_IsFinalized(self);
#else
    /* That, without a call: the lowest bit of the word before the object. */
    cl_assert((PyObject_GC_IsFinalized(self) != 0) ==
              (((uintptr_t *)self)[-1] & 1));
    return ((uintptr_t *)self)[-1] & 1;
#endif
#else
    return _PyGC_FINALIZED(self);
#endif
}

/* No constructor. Before 3.10, cl_type_new() removes tp_new instead. */
#if PY_VERSION_HEX >= 0x030a0000
#define CL_TPFLAGS_NO_NEW Py_TPFLAGS_DISALLOW_INSTANTIATION
#else
#define CL_TPFLAGS_NO_NEW 0
#endif

/* The type's attributes cannot be set. Before 3.10 that is the default. */
#if PY_VERSION_HEX >= 0x030a0000
#define CL_TPFLAGS_IMMUTABLE Py_TPFLAGS_IMMUTABLETYPE
#else
#define CL_TPFLAGS_IMMUTABLE 0
#endif

/* For types whose objects have a vectorcallfunc, named by a member
 * __vectorcalloffset__. 3.8 does not know that member; there the second macro
 * is used. */
#if PY_VERSION_HEX >= 0x03090000
#define CL_TPFLAGS_VECTORCALL Py_TPFLAGS_HAVE_VECTORCALL
#define cl_type_set_vectorcall(type, offset) ((void)(type))
#else
#define CL_TPFLAGS_VECTORCALL _Py_TPFLAGS_HAVE_VECTORCALL
#define cl_type_set_vectorcall(type, offset) \
    ((void)((type)->tp_vectorcall_offset = (offset)))
#endif

/* Creates a heap type linked to its module. 3.8 has no such link; there the
 * type's dictionary holds the address of the state.
 *
 * A type has no constructor if its spec has no Py_tp_new and its flags include
 * CL_TPFLAGS_NO_NEW. `bases` is a tuple or NULL. `dictoffset` and `weakoffset`
 * are 0 if the type has none. */
PyTypeObject *cl_type_new(PyObject *module, void *state, PyType_Spec *spec,
                          PyObject *bases, Py_ssize_t dictoffset,
                          Py_ssize_t weakoffset);

/* Adds methods or attributes to a type without instances. The table ends with
 * a NULL name and must outlive the type. 0/-1 */
int cl_type_add_methods(PyTypeObject *type, PyMethodDef *methods);
int cl_type_add_getset(PyTypeObject *type, PyGetSetDef *getset);

/* Returns the module state of `type`, or of its base whose tp_dealloc is
 * `dealloc`; NULL with SystemError if it is not ours. */
void *cl_type_state(PyTypeObject *type, destructor dealloc);

/* Creates a class as a Python class statement would, with the name, module and
 * layout of `base`, so that objects can change from one class to the other.
 * The class is linked to its module. */
PyTypeObject *cl_type_derive(PyObject *module, void *state,
                             PyTypeObject *base);

/* The state of the module that the class or a base of it is of, and which has this
 * m_traverse, as no other has; NULL with SystemError. */
void *cl_type_search_state(PyTypeObject *type, traverseproc traverse);

/* Whether it is that module; `module` may be NULL. */
static inline bool
cl_module_has(PyObject *module, traverseproc traverse)
{
    const PyModuleDef *def = module == NULL ? NULL : PyModule_GetDef(module);
    return def != NULL && def->m_traverse == traverse;
}

static inline void *
cl_type_derived_state(PyTypeObject *type, traverseproc traverse)
{
#if PY_VERSION_HEX >= 0x03090000
    PyObject *module = PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
                           ? ((PyHeapTypeObject *)type)->ht_module
                           : NULL;
    if (cl_module_has(module, traverse))
        return PyModule_GetState(module);
#endif
    return cl_type_search_state(type, traverse);
}

/* A number that changes whenever the type or a base of it is modified; 0 means
 * unknown. From 3.11 on a modification sets it to 0; before, it only clears the
 * flag, which is never set from 3.13 on. */
static inline unsigned int
cl_type_version(PyTypeObject *type)
{
#if PY_VERSION_HEX < 0x030b0000
    if (!(type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG))
        return 0;
#endif
#if CL_FREE_THREADED
    return __atomic_load_n(&type->tp_version_tag, __ATOMIC_ACQUIRE);
#else
    return (unsigned int)type->tp_version_tag;
#endif
}

/* Returns the attribute as found in the type or its bases, without binding it:
 * a new reference, or NULL without an exception. */
static inline PyObject *
cl_type_lookup(PyTypeObject *type, PyObject *name)
{
#if PY_VERSION_HEX >= 0x030d0000
    return _PyType_LookupRef(type, name);
#else
    return Py_XNewRef(_PyType_Lookup(type, name));
#endif
}

/* The version of a type that may have been modified: looking up a name assigns
 * the next one. Still 0 if it can have none. */
static inline unsigned int
cl_type_fresh_version(PyTypeObject *type, PyObject *name)
{
    Py_XDECREF(cl_type_lookup(type, name));
    return cl_type_version(type);
}

/* Whether a Python function can be given another vectorcall that all callers
 * use. 3.11 calls functions without it. */
#define CL_FUNCTIONS_TAKE_VECTORCALL \
    (PY_VERSION_HEX < 0x030b0000 || PY_VERSION_HEX >= 0x030c0000)

static inline vectorcallfunc
cl_function_vectorcall(PyObject *function)
{
    return ((PyFunctionObject *)function)->vectorcall;
}

static inline void
cl_function_set_vectorcall(PyObject *function, vectorcallfunc vectorcall)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyFunction_SetVectorcall((PyFunctionObject *)function, vectorcall);
#else
    ((PyFunctionObject *)function)->vectorcall = vectorcall;
#endif
}

/* Whether sys.settrace() or sys.setprofile() is active in this thread. */
static inline bool
cl_is_traced(PyThreadState *thread)
{
    return thread->c_tracefunc != NULL || thread->c_profilefunc != NULL;
}

/* Whether the int has one digit, and its value then. */
static inline bool
cl_long_small(PyObject *number, long *value)
{
    PyLongObject *small = (PyLongObject *)number;
#if PY_VERSION_HEX >= 0x030c0000
    if (!PyUnstable_Long_IsCompact(small))
        return false;
    *value = (long)PyUnstable_Long_CompactValue(small);
#else
    if (Py_SIZE(small) < -1 || Py_SIZE(small) > 1)
        return false;
    *value = Py_SIZE(small) == 0
                 ? 0
                 : (long)Py_SIZE(small) * (long)small->ob_digit[0];
#endif
    return true;
}

/* Whether a watcher can be told when a dict is modified. Before, dicts have
 * versions. */
#define CL_HAS_DICT_WATCHERS (PY_VERSION_HEX >= 0x030c0000)

/* A number that changes whenever the dict is modified; 0 means unknown. */
static inline uint64_t
cl_dict_version(PyObject *dict)
{
#if CL_HAS_DICT_WATCHERS
    (void)dict;
    return 0;
#else
    return ((PyDictObject *)dict)->ma_version_tag;
#endif
}

/* A contextvars.Context. Its variables are an object that never changes: a copy
 * of the context has the same one until either sets a variable. */
typedef struct {
    PyObject_HEAD
    PyObject *ctx_prev;
    PyObject *ctx_vars;
} cl_context;

/* Borrowed. */
static inline PyObject *
cl_context_vars(PyObject *context)
{
    return ((cl_context *)context)->ctx_vars;
}

/* Finds out by experiment whether they are there. 1/0/-1 */
int cl_context_has_vars(void);

/* Those of the thread's current context; NULL if it has none yet. */
static inline PyObject *
cl_current_vars(void)
{
    PyObject *context = PyThreadState_Get()->context;
    return context != NULL ? cl_context_vars(context) : NULL;
}

/* Objects whose attributes are stored inline until somebody asks for the dict:
 * returns the values of an object of a Python class, or NULL if they are
 * elsewhere. Which value belongs to which attribute must be found by
 * experiment; it is the same for all objects of a class. Unset attributes are
 * NULL. */
#if PY_VERSION_HEX >= 0x030b0000 && !CL_FREE_THREADED
#define CL_HAS_INLINE_VALUES 1
#else
#define CL_HAS_INLINE_VALUES 0
#endif
#define CL_INLINE_VALUES_MAX 30 /* the maximum number of values */

static inline bool
cl_type_has_inline_values(PyTypeObject *type)
{
#if !CL_HAS_INLINE_VALUES
    (void)type;
    return false;
#elif PY_VERSION_HEX >= 0x030d0000
    return PyType_HasFeature(type, Py_TPFLAGS_INLINE_VALUES);
#else
    return PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT);
#endif
}

static inline PyObject **
cl_inline_values(PyObject *self)
{
#if !CL_HAS_INLINE_VALUES
    (void)self;
    return NULL;
#elif PY_VERSION_HEX >= 0x030d0000
    /* Capacity, size, embedded, valid; then the values. */
    uint8_t *values = (uint8_t *)self + Py_TYPE(self)->tp_basicsize;
    return ((PyObject **)self)[-3] == NULL && values[3]
               ? (PyObject **)(values + sizeof(PyObject *))
               : NULL;
#elif PY_VERSION_HEX >= 0x030c0000
    /* With the lowest bit set; otherwise it is a dict or NULL. */
    uintptr_t values = ((uintptr_t *)self)[-3];
    return values & 1 ? (PyObject **)(values - 1) : NULL;
#else
    return ((PyObject ***)self)[-4];
#endif
}

/* The same without a look at whether they are in use, from 3.13 on: after this,
 * cl_inline_stamp_fits() tells. */
static inline PyObject **
cl_inline_place(PyObject *self)
{
#if CL_HAS_INLINE_VALUES && PY_VERSION_HEX >= 0x030d0000
    uint8_t *values = (uint8_t *)self + Py_TYPE(self)->tp_basicsize;
    return ((PyObject **)self)[-3] == NULL
               ? (PyObject **)(values + sizeof(PyObject *))
               : NULL;
#else
    return cl_inline_values(self);
#endif
}

/* How many are set. */
static inline int
cl_inline_count(PyObject **values)
{
#if PY_VERSION_HEX >= 0x030d0000
    return ((uint8_t *)values)[1 - (int)sizeof(PyObject *)];
#else
    return ((uint8_t *)values)[-2];
#endif
}

/* Which values an object has, in the order in which they were set, as the words
 * in which CPython keeps that: two objects of a class with the same stamp have
 * the same attributes. */
typedef struct {
    uint64_t is_mask, is_word;           /* 0 and 1: of no object */
    uint64_t is_more_mask, is_more_word; /* before 3.13: the rest */
    uint32_t is_head;                    /* from 3.13 on */
} cl_inline_stamp;

static inline uint64_t
cl_load_64(const void *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof(word));
    return word;
}

static inline uint32_t
cl_load_32(const void *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof(word));
    return word;
}

#define CL_INLINE_STAMP_OF_NONE ((cl_inline_stamp){.is_word = 1})

/* From 3.13 on, what is before the values without the capacity, which differs
 * among the first objects of a class. */
static inline uint32_t
cl_inline_head(const uint8_t *head)
{
    static const uint8_t mask[4] = {0, 0xff, 0xff, 0xff};
    return cl_load_32(head) & cl_load_32(mask);
}

/* Leaves it without a stamp if there are too many values. */
static inline void
cl_inline_stamp_init(cl_inline_stamp *stamp, PyObject **values)
{
    uint8_t mask[16] = {0};
    int count = cl_inline_count(values);
    *stamp = CL_INLINE_STAMP_OF_NONE;
#if PY_VERSION_HEX >= 0x030d0000
    const uint8_t *head = (uint8_t *)values - sizeof(PyObject *);
    if (count > 8)
        return;
    memset(mask, 0xff, (size_t)count);
    stamp->is_mask = cl_load_64(mask);
    stamp->is_word = cl_load_64(&values[head[0]]) & stamp->is_mask;
    stamp->is_head = cl_inline_head(head);
#else
    if (count > 14)
        return;
    mask[14] = 0xff; /* how many; the first is before it, and so on */
    memset(mask + 14 - count, 0xff, (size_t)count);
    stamp->is_mask = cl_load_64(mask + 8);
    stamp->is_word = cl_load_64((char *)values - 8) & stamp->is_mask;
    stamp->is_more_mask = cl_load_64(mask);
    if (stamp->is_more_mask != 0)
        stamp->is_more_word =
            cl_load_64((char *)values - 16) & stamp->is_more_mask;
#endif
}

static inline bool
cl_inline_stamp_fits(const cl_inline_stamp *stamp, PyObject **values)
{
#if PY_VERSION_HEX >= 0x030d0000
    const uint8_t *head = (uint8_t *)values - sizeof(PyObject *);
    return cl_inline_head(head) == stamp->is_head &&
           (cl_load_64(&values[head[0]]) & stamp->is_mask) == stamp->is_word;
#else
    return (cl_load_64((char *)values - 8) & stamp->is_mask) ==
               stamp->is_word &&
           (stamp->is_more_mask == 0 ||
            (cl_load_64((char *)values - 16) & stamp->is_more_mask) ==
                stamp->is_more_word);
#endif
}

/* Returns which value was set as the n-th, from 0. */
static inline int
cl_inline_nth(PyObject **values, int n)
{
#if PY_VERSION_HEX >= 0x030d0000
    uint8_t *head = (uint8_t *)values - sizeof(PyObject *);
    return ((uint8_t *)&values[head[0]])[n];
#else
    return ((uint8_t *)values - 2)[-1 - n];
#endif
}

/* Sets a value that is not set, as setting the attribute does. */
static inline void
cl_inline_add(PyObject **values, int slot, PyObject *value)
{
#if PY_VERSION_HEX >= 0x030d0000
    uint8_t *head = (uint8_t *)values - sizeof(PyObject *);
    ((uint8_t *)&values[head[0]])[head[1]++] = (uint8_t)slot;
#else
    uint8_t *size = (uint8_t *)values - 2;
    int n = ++*size;
    size[-n] = (uint8_t)slot;
#endif
    cl_assert(values[slot] == NULL);
    values[slot] = Py_NewRef(value);
    cl_assert(cl_inline_nth(values, cl_inline_count(values) - 1) == slot);
}

/* The class weakref.ref, and fields of its objects. */
#define cl_weakref_type (&_PyWeakref_RefType)

/* Where asyncio keeps the running loop of a thread: up to 3.11 in an object in
 * the thread's dict, from 3.14 on in the thread state. */
#define CL_HAS_RUNNING_LOOP_HOLDER (PY_VERSION_HEX < 0x030c0000)
typedef struct {
    PyObject_HEAD
    PyObject *rl_loop;
    int rl_pid; /* the process that set it */
} cl_running_loop_holder;

/* What sys.set_asyncgen_hooks() sets; NULL for None. Owned. */
typedef struct {
    PyObject *firstiter;
    PyObject *finalizer;
} cl_asyncgen_hooks;

/* Exchanges the thread's hooks with *hooks, which are public fields of
 * PyThreadState in every version. The sys functions cost ten times as much,
 * three times per run. */
static inline void
cl_asyncgen_hooks_swap(cl_asyncgen_hooks *hooks)
{
    PyThreadState *ts = PyThreadState_Get();
    cl_asyncgen_hooks old = {ts->async_gen_firstiter, ts->async_gen_finalizer};
    ts->async_gen_firstiter = hooks->firstiter;
    ts->async_gen_finalizer = hooks->finalizer;
    *hooks = old;
}

/* PyThread_get_thread_ident(), which makes three calls for this. */
static inline unsigned long
cl_thread_ident(void)
{
    unsigned long ident = (unsigned long)pthread_self();
    cl_assert(ident == PyThread_get_thread_ident());
    return ident;
}

/* Makes a new object of one whose last reference has been dropped, but which
 * still has its memory and its reference to its type. PyObject_Init() would take
 * another one. */
static inline void
cl_object_revive(PyObject *self)
{
    cl_assert(Py_TYPE(self)->tp_flags & Py_TPFLAGS_HEAPTYPE);
    _Py_NewReference(self);
}

/* cl_ref_try() takes a reference to an object, unless another thread is just
 * freeing it; its memory must be there. cl_ref_prepare() comes before that, while
 * there is a reference. With a GIL nobody else frees anything meanwhile. */
#if !CL_FREE_THREADED
#define cl_ref_prepare(object) ((void)0)
#define cl_ref_try(object) (Py_INCREF(object), true)
#elif PY_VERSION_HEX >= 0x030e0000
#define cl_ref_prepare PyUnstable_EnableTryIncRef
#define cl_ref_try PyUnstable_TryIncRef
#else
static inline void
cl_ref_prepare(PyObject *object)
{
    Py_ssize_t shared =
        __atomic_load_n(&object->ob_ref_shared, __ATOMIC_RELAXED);
    while ((shared & _Py_REF_SHARED_FLAG_MASK) == 0 &&
           !__atomic_compare_exchange_n(&object->ob_ref_shared, &shared,
                                        shared | _Py_REF_MAYBE_WEAKREF, true,
                                        __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
}

static inline bool
cl_ref_try(PyObject *object)
{
    if (_Py_IsOwnedByCurrentThread(object)) {
        Py_INCREF(object);
        return true;
    }
    Py_ssize_t shared =
        __atomic_load_n(&object->ob_ref_shared, __ATOMIC_RELAXED);
    do {
        if (shared == 0 || shared == _Py_REF_MERGED)
            return false;
    } while (!__atomic_compare_exchange_n(
        &object->ob_ref_shared, &shared, shared + (1 << _Py_REF_SHARED_SHIFT),
        true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return true;
}
#endif

/* A number of live objects, which any thread changes. Without a GIL it is in
 * parts, each on its own cache line, so that threads do not wait for each
 * other. */
#if CL_FREE_THREADED
#define CL_LIVE_PARTS_LOG2 4
typedef struct {
    struct {
        Py_ssize_t count;
        char padding[64 - sizeof(Py_ssize_t)];
    } parts[1 << CL_LIVE_PARTS_LOG2];
} cl_live;

static inline void
cl_live_add(cl_live *live, Py_ssize_t change)
{
    /* Identifiers of threads are addresses; their stacks begin at the same low
     * bits. */
    uint64_t hash = (uint64_t)cl_thread_ident() * 0x9E3779B97F4A7C15u;
    __atomic_fetch_add(&live->parts[hash >> (64 - CL_LIVE_PARTS_LOG2)].count,
                       change, __ATOMIC_RELAXED);
}

static inline Py_ssize_t
cl_live_count(const cl_live *live)
{
    Py_ssize_t count = 0;
    for (int i = 0; i < 1 << CL_LIVE_PARTS_LOG2; i++)
        count += __atomic_load_n(&live->parts[i].count, __ATOMIC_RELAXED);
    return count;
}
#else
typedef Py_ssize_t cl_live;

static inline void
cl_live_add(cl_live *live, Py_ssize_t change)
{
    *live += change;
}

static inline Py_ssize_t
cl_live_count(const cl_live *live)
{
    return *live;
}
#endif

#if CL_FREE_THREADED
/* Calls the function while all other threads of the interpreter are stopped,
 * as the collector stops them: where they call Python, or wait without it. It
 * must neither run Python code nor wait. */
void cl_call_stopped(void (*function)(void *arg), void *arg);

/* Returns {ident: [(function, file, line)]}, the innermost last, of the threads
 * of this interpreter that run Python code. Without a GIL another thread's
 * frames must not be looked at while it runs. */
PyObject *cl_stacks(void);
#else
/* Returns {ident: frame} of the threads of this interpreter that run Python
 * code. sys._current_frames() also returns those of other interpreters, whose
 * objects must not be used here, and which may be running. */
PyObject *cl_current_frames(void);
#endif

/* Sets the descriptor that CPython's signal handler writes to (-1: none).
 * Returns the previous one; -1 if there was none or fd is refused. Main thread
 * only. Before 3.13 the C function is not exported, and `set_wakeup_fd`
 * (signal.set_wakeup_fd) is called. Leaves no exception set. */
int cl_set_wakeup_fd(PyObject *set_wakeup_fd, int fd);

/* Whether this is the interpreter that the process began with. */
static inline bool
cl_is_main_interpreter(void)
{
    return PyInterpreterState_Get() == PyInterpreterState_Main();
}

/* Whether the calling thread runs Python's signal handlers; `main_ident` is
 * the ident of threading.main_thread(). */
static inline bool
cl_is_signal_thread(unsigned long main_ident)
{
    return PyThread_get_thread_ident() == main_ident &&
           cl_is_main_interpreter();
}

#include "base/compat_stress.h"

#endif
