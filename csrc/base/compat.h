/* compat.h - the newest C API, on every CPython we support.
 *
 * The one header that includes Python.h and the one place that knows Python
 * versions. Code elsewhere is written against the newest API; what an older
 * version lacks is supplied here under the same name, or under a `cl_` name
 * where versions differ in kind and not just in spelling. */
#ifndef CL_BASE_COMPAT_H
#define CL_BASE_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

#if PY_VERSION_HEX < 0x03080000
#error "cloop needs CPython 3.8 or newer"
#endif

/* cl_assert() of what has to do with an object of Python. */
#define cl_assert_of(object, condition) \
    cl_assertf(condition, "%s object at %p, %zd references", \
               Py_TYPE(object)->tp_name, (void *)(object), \
               (Py_ssize_t)Py_REFCNT(object))

/* Whoever uses objects of Python holds the GIL. */
#define cl_assert_gil() cl_assert(PyGILState_Check())

/* PyMODINIT_FUNC of 3.8 does not export under -fvisibility=hidden. */
#define CL_EXPORT __attribute__((visibility("default")))

/* Py_MOD_GIL_NOT_USED and sub-interpreters with their own GIL are switched on
 * only once they have been shown to work. */
#if PY_VERSION_HEX >= 0x030c0000
#define CL_MOD_SLOTS_EXTRA \
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
#else
#define CL_MOD_SLOTS_EXTRA
#endif

#if PY_VERSION_HEX < 0x03090000
/* Nobody can derive from it. */
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

#if PY_VERSION_HEX < 0x030d0000
/* 1 found, 0 absent, -1 error; the value through *result. */
int PyObject_GetOptionalAttr(PyObject *op, PyObject *name, PyObject **result);
#endif

/* Whether a weak reference is to this object, which is alive. */
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

/* Whether what it was to is gone. */
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

/* The object's weak reference without callback, which all that ask for one share;
 * new reference, or NULL if nobody has asked. */
static inline PyObject *
cl_plain_weakref(PyObject *object)
{
    Py_ssize_t offset = Py_TYPE(object)->tp_weaklistoffset;
    PyWeakReference *first = *(PyWeakReference **)((char *)object + offset);
    /* It comes before those with a callback, and before proxies. */
    return first != NULL && first->wr_callback == NULL &&
                   PyWeakref_CheckRefExact((PyObject *)first)
               ? Py_NewRef((PyObject *)first)
               : NULL;
}

/* In a dealloc: tells those that refer weakly to the object. */
static inline void
cl_clear_weakrefs(PyObject *object)
{
    Py_ssize_t offset = Py_TYPE(object)->tp_weaklistoffset;
    if (*(PyObject **)((char *)object + offset) != NULL)
        PyObject_ClearWeakRefs(object);
}

/* TLS as asyncio has it since 3.11; see tls/machine.h. */
#define CL_HAS_TLS_SHUTDOWN_TIMEOUT (PY_VERSION_HEX >= 0x030b0000)
#if CL_HAS_TLS_SHUTDOWN_TIMEOUT
#define CL_TLS_RECEIVE_NAME "buffer_updated"
#else
#define CL_TLS_RECEIVE_NAME "data_received"
#endif

/* Coroutines in C: from 3.10 on they are driven by am_send, which saves an
 * exception per result; before, by tp_iternext and send(). */
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

/* Advances a coroutine or generator by one step, as send(None) does: its state, and
 * what it yielded or returned in *result (a new reference). */
#if PY_VERSION_HEX >= 0x030a0000
static inline PySendResult
cl_iter_send(PyObject *iter, PyObject **result)
{
    return PyIter_Send(iter, Py_None, result);
}
#else
PySendResult cl_iter_send(PyObject *iter, PyObject **result);
#endif

/* After a call of send() or throw(): the state, with the value of a StopIteration
 * in *result. */
PySendResult cl_iter_status(PyObject **result);

/* Sets StopIteration(value). */
void cl_raise_stop_iteration(PyObject *value);

/* What this version's asyncio has: cancel(msg=), create_task(context=), tasks that
 * start eagerly, create_task(eager_start=), and, all at once, tasks in the state of
 * their thread, with futures that know who awaits them. */
#define CL_HAS_CANCEL_MESSAGE (PY_VERSION_HEX >= 0x03090000)
#define CL_HAS_TASK_CONTEXT (PY_VERSION_HEX >= 0x030b0000)
#define CL_HAS_KEPT_CANCELLATION (PY_VERSION_HEX >= 0x030b0000)
#define CL_HAS_EAGER_TASKS (PY_VERSION_HEX >= 0x030c0000)
#define CL_HAS_GET_CONTEXT (PY_VERSION_HEX >= 0x030c0000)
#define CL_HAS_EAGER_START (PY_VERSION_HEX >= 0x030e0000)
#define CL_HAS_AWAITED_BY (PY_VERSION_HEX >= 0x030e0000)
/* Task() takes no context of another type, and no second __init__(). */
#define CL_TASK_INIT_IS_STRICT (PY_VERSION_HEX >= 0x030f0000)
/* Objects of asyncio's classes have their __dict__ outside the struct. */
#define CL_HAS_MANAGED_DICT (PY_VERSION_HEX >= 0x030d0000)
/* What asyncio calls Task's step in a message. */
#if PY_VERSION_HEX >= 0x030e0000
#define CL_STEP_NAME "__step"
#else
#define CL_STEP_NAME "_step"
#endif
/* throw(type, value, traceback) warns. */
#define CL_THROW_TAKES_ONE (PY_VERSION_HEX >= 0x030c0000)
/* Task.all_tasks() finds tasks that are done, too. */
#define CL_LISTS_DONE_TASKS (PY_VERSION_HEX < 0x03090000)
/* The WeakSet of tasks in asyncio.tasks; not used with CL_HAS_AWAITED_BY. */
#define CL_ALL_TASKS_NAME \
    (PY_VERSION_HEX >= 0x030c0000 ? "_scheduled_tasks" : "_all_tasks")

/* Items of a list that only later versions have. */
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

/* Other processes may read the stacks of tasks (`python -m asyncio ps`). They take
 * the coroutine of each for one of Python's, whatever it is: it must look like one. */
#if PY_VERSION_HEX >= 0x030e0000 && !defined(Py_GIL_DISABLED)
#define CL_HAS_REMOTE_STACKS 1
/* How a coroutine of Python continues after the first 64 bytes: the end of
 * PyGenObject's head, then its _PyInterpreterFrame. */
typedef struct {
    char f_flags[3];
    int8_t f_state;
    uintptr_t f_executable; /* the code, perhaps with tag bits */
    void *f_previous;
    void *f_function;
    void *f_globals;
    void *f_builtins;
    void *f_locals;
    void *f_object;
    const char *f_instruction;
    void *
        f_stack_pointer; /* what is awaited is in one of the two words below */
    uint16_t f_return_offset;
    char f_owner;
    uint8_t f_visited;
} cl_remote_frame;
#define CL_REMOTE_OFFSET 64
#define CL_REMOTE_TAGS ((uintptr_t)7)

/* Whether the instructions of the code are there. */
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

/* asyncio lets a timer for NaN fail in its selector from 3.14 on; before, such a
 * timer is due at once. */
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
/* Whether the collector has the object in its lists; 3.8 does not say. */
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

/* Whether the object's finalizer has run. Its memory remembers that. */
static inline bool
cl_is_finalized(PyObject *self)
{
#if PY_VERSION_HEX >= 0x03090000
    return PyObject_GC_IsFinalized(self);
#else
    return _PyGC_FINALIZED(self);
#endif
}

/* No constructor: before 3.10 cl_type_new() takes tp_new away instead. */
#if PY_VERSION_HEX >= 0x030a0000
#define CL_TPFLAGS_NO_NEW Py_TPFLAGS_DISALLOW_INSTANTIATION
#else
#define CL_TPFLAGS_NO_NEW 0
#endif

/* Nobody can set the type's attributes. Before 3.10 that asks for no flag. */
#if PY_VERSION_HEX >= 0x030a0000
#define CL_TPFLAGS_IMMUTABLE Py_TPFLAGS_IMMUTABLETYPE
#else
#define CL_TPFLAGS_IMMUTABLE 0
#endif

/* For a type whose objects have a vectorcallfunc, named by a member
 * __vectorcalloffset__, which 3.8 does not know: there the second says where. */
#if PY_VERSION_HEX >= 0x03090000
#define CL_TPFLAGS_VECTORCALL Py_TPFLAGS_HAVE_VECTORCALL
#define cl_type_set_vectorcall(type, offset) ((void)(type))
#else
#define CL_TPFLAGS_VECTORCALL _Py_TPFLAGS_HAVE_VECTORCALL
#define cl_type_set_vectorcall(type, offset) \
    ((void)((type)->tp_vectorcall_offset = (offset)))
#endif

/* Makes a heap type that knows its module. 3.8 has no such link: there the
 * type carries the state's address in its own dictionary.
 * A spec without Py_tp_new makes a type without constructor, if its flags have
 * CL_TPFLAGS_NO_NEW. `bases` is a tuple, or NULL. `dictoffset` and `weakoffset` are 0 where the type has none. */
PyTypeObject *cl_type_new(PyObject *module, void *state, PyType_Spec *spec,
                          PyObject *bases, Py_ssize_t dictoffset,
                          Py_ssize_t weakoffset);

/* Add methods or attributes to a type that has no instances yet: 0 or -1. The
 * table ends with a NULL name and lives as long as the program. */
int cl_type_add_methods(PyTypeObject *type, PyMethodDef *methods);
int cl_type_add_getset(PyTypeObject *type, PyGetSetDef *getset);

/* The module state behind `type`, or behind the base of it whose tp_dealloc is
 * `dealloc`; NULL with SystemError if it is not one of ours. */
void *cl_type_state(PyTypeObject *type, destructor dealloc);

/* Makes a class like Python's class statement would: of the same name and module as
 * `base`, and the same layout, so that objects of the one can become objects of the
 * other. It knows its module. */
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
 * unknown: look again. From 3.13 on a modification sets it to 0, and the flag that
 * said so before is never set. */
static inline unsigned int
cl_type_version(PyTypeObject *type)
{
#if PY_VERSION_HEX < 0x030d0000
    if (!(type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG))
        return 0;
#endif
    return (unsigned int)type->tp_version_tag;
}

/* What the type or the first of its bases has under that name, as it is there: a new
 * reference, or NULL without an exception. */
static inline PyObject *
cl_type_lookup(PyTypeObject *type, PyObject *name)
{
#if PY_VERSION_HEX >= 0x030d0000
    return _PyType_LookupRef(type, name);
#else
    return Py_XNewRef(_PyType_Lookup(type, name));
#endif
}

/* The version of a type that was perhaps modified since it had one: looking any name
 * up gives it the next. Still 0 if it can have none. */
static inline unsigned int
cl_type_fresh_version(PyTypeObject *type, PyObject *name)
{
    Py_XDECREF(cl_type_lookup(type, name));
    return cl_type_version(type);
}

/* Whether a function of Python may be given another vectorcall, which every caller
 * then honours. 3.11 enters functions without one. */
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

/* Whether sys.settrace() or sys.setprofile() is in effect in this thread. */
static inline bool
cl_is_traced(PyThreadState *thread)
{
    return thread->c_tracefunc != NULL || thread->c_profilefunc != NULL;
}

/* A number that changes whenever the dict is modified; 0 means unknown: look again. */
static inline uint64_t
cl_dict_version(PyObject *dict)
{
#if PY_VERSION_HEX < 0x030c0000
    return ((PyDictObject *)dict)->ma_version_tag;
#else
    (void)dict;
    return 0;
#endif
}

/* Objects whose attributes are not in a dict as long as nobody has asked for one: where
 * those of an object of Python's own classes are, NULL if they are elsewhere. Which
 * attribute is where, only an experiment tells; the order is the same for all objects
 * of a class. NULL is one that is not set. */
#if PY_VERSION_HEX >= 0x030b0000
#define CL_HAS_INLINE_VALUES 1
#else
#define CL_HAS_INLINE_VALUES 0
#endif
#define CL_INLINE_VALUES_MAX 30 /* places that there are at most */

static inline bool
cl_type_has_inline_values(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyType_HasFeature(type, Py_TPFLAGS_INLINE_VALUES);
#elif PY_VERSION_HEX >= 0x030b0000
    return PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT);
#else
    (void)type;
    return false;
#endif
}

static inline PyObject **
cl_inline_values(PyObject *self)
{
#if PY_VERSION_HEX >= 0x030d0000
    /* Capacity, size, whether embedded, whether valid; then the values. */
    uint8_t *values = (uint8_t *)self + Py_TYPE(self)->tp_basicsize;
    return ((PyObject **)self)[-3] == NULL && values[3]
               ? (PyObject **)(values + sizeof(PyObject *))
               : NULL;
#elif PY_VERSION_HEX >= 0x030c0000
    /* With the lowest bit set: else it is a dict, or nothing. */
    uintptr_t values = ((uintptr_t *)self)[-3];
    return values & 1 ? (PyObject **)(values - 1) : NULL;
#elif PY_VERSION_HEX >= 0x030b0000
    return ((PyObject ***)self)[-4];
#else
    (void)self;
    return NULL;
#endif
}

/* How many of them are set. */
static inline int
cl_inline_count(PyObject **values)
{
#if PY_VERSION_HEX >= 0x030d0000
    return ((uint8_t *)values)[1 - (int)sizeof(PyObject *)];
#else
    return ((uint8_t *)values)[-2];
#endif
}

/* The class weakref.ref, and the fields of its objects. */
#define cl_weakref_type (&_PyWeakref_RefType)

/* How asyncio keeps the loop that runs in a thread: up to 3.11 in an object of its own,
 * in the thread's dict; from 3.14 on in the state of the thread. */
#define CL_HAS_RUNNING_LOOP_HOLDER (PY_VERSION_HEX < 0x030c0000)
typedef struct {
    PyObject_HEAD
    PyObject *rl_loop;
    int rl_pid; /* of the process in which it was set */
} cl_running_loop_holder;

/* What sys.set_asyncgen_hooks() sets; NULL for None. Owned. */
typedef struct {
    PyObject *firstiter;
    PyObject *finalizer;
} cl_asyncgen_hooks;

/* Exchanges the thread's hooks with *hooks. Fields of PyThreadState that are in
 * the public headers of every version: the sys functions cost ten times as much,
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

/* Sets the descriptor that CPython's C-level signal handler writes to (-1: none)
 * and returns the one before, -1 if there was none or fd is refused. Main thread
 * only. `set_wakeup_fd` is signal.set_wakeup_fd, through which it goes before
 * 3.13, where the C function is not exported. Leaves no exception. */
int cl_set_wakeup_fd(PyObject *set_wakeup_fd, int fd);

/* Whether the calling thread is the one that Python runs signal handlers in,
 * given the ident of threading.main_thread(). */
static inline bool
cl_is_signal_thread(unsigned long main_ident)
{
    return PyThread_get_thread_ident() == main_ident &&
           PyInterpreterState_Get() == PyInterpreterState_Main();
}

#include "base/compat_stress.h"

#endif
