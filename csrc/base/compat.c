/* compat.c - functions that older CPythons lack; see compat.h. */
#include "base/compat.h"

#include "base/mem.h"

#if PY_VERSION_HEX < 0x03090000
PyObject *(PyObject_VectorcallMethod)(PyObject *name, PyObject *const *args,
                                      size_t nargsf, PyObject *kwnames)
{
    PyObject *method = PyObject_GetAttr(args[0], name);
    if (method == NULL)
        return NULL;
    /* args[0] is ours during the call: the slot before the arguments. */
    size_t nargs = (size_t)PyVectorcall_NARGS(nargsf) - 1;
    PyObject *result = PyObject_Vectorcall(method, args + 1, nargs, kwnames);
    Py_DECREF(method);
    return result;
}
#endif

#if PY_VERSION_HEX < 0x030d0000
int
PyObject_GetOptionalAttr(PyObject *op, PyObject *name, PyObject **result)
{
    *result = PyObject_GetAttr(op, name);
    if (*result != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    return 0;
}
#endif

PySendResult
cl_iter_status(PyObject **result)
{
    if (*result != NULL)
        return PYGEN_NEXT;
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_StopIteration))
        return PYGEN_ERROR;
    /* NULL without an exception means None too (tp_iternext). */
    PyObject *stop = PyErr_GetRaisedException();
    *result = Py_NewRef(stop == NULL ? Py_None
                                     : ((PyStopIterationObject *)stop)->value);
    Py_XDECREF(stop);
    return PYGEN_RETURN;
}

void
cl_raise_stop_iteration(PyObject *value)
{
    /* An exception as value would be raised, and a tuple unpacked. */
    if (!PyTuple_Check(value) && !PyExceptionInstance_Check(value)) {
        PyErr_SetObject(PyExc_StopIteration, value);
        return;
    }
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
}

#if PY_VERSION_HEX < 0x030a0000
PySendResult
cl_iter_send(PyObject *iter, PyObject **result)
{
    if (PyCoro_CheckExact(iter) || PyGen_CheckExact(iter))
        *result = _PyGen_Send((PyGenObject *)iter, Py_None);
    else
        *result = PyObject_CallMethod(iter, "send", "O", Py_None);
    return cl_iter_status(result);
}

PySendResult
cl_awaited_send(PyObject *iter, PyObject **result)
{
    if (PyCoro_CheckExact(iter) || PyGen_CheckExact(iter) ||
        !PyIter_Check(iter))
        return cl_iter_send(iter, result);
    *result = Py_TYPE(iter)->tp_iternext(iter);
    return cl_iter_status(result);
}
#endif

#if PY_VERSION_HEX < 0x03090000
#define STATE_KEY "_cloop_state"
/* Created with the first type: deallocs need it when memory is short. */
_Py_static_string(state_key, STATE_KEY);
#endif

#if PY_VERSION_HEX < 0x030a0000
static bool
has_slot(const PyType_Spec *spec, int slot)
{
    for (const PyType_Slot *at = spec->slots; at->slot != 0; at++) {
        if (at->slot == slot)
            return true;
    }
    return false;
}
#endif

static PyTypeObject *
make_type(PyObject *module, PyType_Spec *spec, PyObject *bases)
{
#if PY_VERSION_HEX >= 0x03090000
    PyObject *type = PyType_FromModuleAndSpec(module, spec, bases);
#else
    (void)module;
    PyObject *type = PyType_FromSpecWithBases(spec, bases);
#endif
#if PY_VERSION_HEX < 0x030a0000
    if (type != NULL && !has_slot(spec, Py_tp_new))
        ((PyTypeObject *)type)->tp_new = NULL;
#endif
    if (type == NULL && !PyErr_Occurred()) /* Python 3.11 may not say why */
        PyErr_NoMemory();
    return (PyTypeObject *)type;
}

PyTypeObject *
cl_type_new(PyObject *module, void *state, PyType_Spec *spec, PyObject *bases,
            Py_ssize_t dictoffset, Py_ssize_t weakoffset)
{
    PyTypeObject *type = make_type(module, spec, bases);
#if PY_VERSION_HEX >= 0x03090000
    (void)state;
    (void)dictoffset;
    (void)weakoffset;
#else
    if (type == NULL)
        return NULL;
    if (dictoffset != 0)
        type->tp_dictoffset = dictoffset;
    if (weakoffset != 0)
        type->tp_weaklistoffset = weakoffset;
    PyObject *capsule = PyCapsule_New(state, STATE_KEY, NULL);
    if (capsule == NULL ||
        _PyDict_SetItemId(type->tp_dict, &state_key, capsule) < 0 ||
        PyDict_SetItemString(type->tp_dict, "_cloop_module", module) < 0)
        Py_CLEAR(type);
    Py_XDECREF(capsule);
    if (type != NULL)
        PyType_Modified(type);
#endif
    return type;
}

/* Steals `descriptor`, which may be NULL. */
static int
add_descriptor(PyTypeObject *type, const char *name, PyObject *descriptor)
{
    int err = -1;
    if (descriptor != NULL && strcmp(name, "__dict__") == 0) {
        /* The class has no __dict__ that could be set: its own is the dict of
         * its attributes. */
        err = PyDict_SetItemString(type->tp_dict, name, descriptor);
        PyType_Modified(type);
    }
    else if (descriptor != NULL) {
        err = PyObject_SetAttrString((PyObject *)type, name, descriptor);
    }
    Py_XDECREF(descriptor);
    return err;
}

int
cl_type_add_methods(PyTypeObject *type, PyMethodDef *methods)
{
    for (PyMethodDef *def = methods; def->ml_name != NULL; def++) {
        if (add_descriptor(type, def->ml_name, PyDescr_NewMethod(type, def)) <
            0)
            return -1;
    }
    return 0;
}

int
cl_type_add_getset(PyTypeObject *type, PyGetSetDef *getset)
{
    for (PyGetSetDef *def = getset; def->name != NULL; def++) {
        if (add_descriptor(type, def->name, PyDescr_NewGetSet(type, def)) < 0)
            return -1;
    }
    return 0;
}

PyTypeObject *
cl_type_derive(PyObject *module, void *state, PyTypeObject *base)
{
    static const char *const copied[] = {"__module__", "__qualname__",
                                         "__doc__", NULL};
    PyTypeObject *type = NULL;
    PyObject *name = PyObject_GetAttrString((PyObject *)base, "__name__");
    PyObject *body = Py_BuildValue("{s()}", "__slots__");
    int status = name == NULL || body == NULL ? -1 : 0;
    for (int i = 0; status == 0 && copied[i] != NULL; i++) {
        PyObject *value = PyObject_GetAttrString((PyObject *)base, copied[i]);
        status =
            value == NULL ? -1 : PyDict_SetItemString(body, copied[i], value);
        Py_XDECREF(value);
    }
    if (status == 0)
        type = (PyTypeObject *)PyObject_CallFunction(
            (PyObject *)Py_TYPE(base), "O(O)O", name, base, body);
    Py_XDECREF(name);
    Py_XDECREF(body);
#if PY_VERSION_HEX >= 0x03090000
    (void)state;
    if (type != NULL)
        ((PyHeapTypeObject *)type)->ht_module = Py_NewRef(module);
#else
    PyObject *capsule = PyCapsule_New(state, STATE_KEY, NULL);
    if (type != NULL &&
        (capsule == NULL ||
         _PyDict_SetItemId(type->tp_dict, &state_key, capsule) < 0 ||
         PyDict_SetItemString(type->tp_dict, "_cloop_module", module) < 0))
        Py_CLEAR(type);
    Py_XDECREF(capsule);
#endif
    return type;
}

void *
cl_type_search_state(PyTypeObject *type, traverseproc traverse)
{
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        type = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
#if PY_VERSION_HEX >= 0x03090000
        PyObject *module = PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
                               ? ((PyHeapTypeObject *)type)->ht_module
                               : NULL;
        if (cl_module_has(module, traverse))
            return PyModule_GetState(module);
#else
        (void)traverse;
        PyObject *capsule = _PyDict_GetItemId(type->tp_dict, &state_key);
        if (capsule != NULL)
            return PyCapsule_GetPointer(capsule, STATE_KEY);
#endif
    }
    PyErr_SetString(PyExc_SystemError, "not a class of this module");
    return NULL;
}

void *
cl_type_state(PyTypeObject *type, destructor dealloc)
{
    /* A subclass made in Python has its own tp_dealloc. */
    while (type != NULL && type->tp_dealloc != dealloc)
        type = type->tp_base;
    if (type == NULL) {
        PyErr_SetString(PyExc_SystemError, "not a type of this module");
        return NULL;
    }
#if PY_VERSION_HEX >= 0x03090000
    return PyType_GetModuleState(type);
#else
    PyObject *capsule = _PyDict_GetItemId(type->tp_dict, &state_key);
    if (capsule == NULL) {
        PyErr_SetString(PyExc_SystemError, "not a type of this module");
        return NULL;
    }
    return PyCapsule_GetPointer(capsule, STATE_KEY);
#endif
}

#if CL_FREE_THREADED
typedef struct {
    void (*function)(void *arg);
    void *arg;
} stopped_call;

static int
call_stopped(PyObject *Py_UNUSED(object), void *arg)
{
    const stopped_call *call = arg;
    call->function(call->arg);
    return 0; /* no other object is to be visited */
}

void
cl_call_stopped(void (*function)(void *arg), void *arg)
{
    stopped_call call = {function, arg};
    PyUnstable_GC_VisitObjects(call_stopped, &call);
}

/* A frame of a thread, the innermost first. */
typedef struct {
    unsigned long ident;
    PyCodeObject *code; /* owned */
    int line;
} seen_frame;

typedef struct {
    PyInterpreterState *interpreter;
    seen_frame *frames; /* owned */
    size_t count;
    size_t capacity;
    bool failed;
} seen_frames;

static bool
add_frame(seen_frames *seen, unsigned long ident, PyFrameObject *frame)
{
    if (seen->count == seen->capacity) {
        size_t capacity = seen->capacity ? 2 * seen->capacity : 256;
        seen_frame *frames =
            cl_realloc(seen->frames, capacity * sizeof(*frames));
        if (frames == NULL)
            return false;
        seen->frames = frames;
        seen->capacity = capacity;
    }
    seen->frames[seen->count++] = (seen_frame){ident, PyFrame_GetCode(frame),
                                               PyFrame_GetLineNumber(frame)};
    return true;
}

/* Creates frame objects, as sys._current_frames() does then. */
static void
see_frames(void *arg)
{
    seen_frames *seen = arg;
    PyThreadState *thread = PyInterpreterState_ThreadHead(seen->interpreter);
    for (; thread != NULL; thread = PyThreadState_Next(thread)) {
        PyFrameObject *frame = PyThreadState_GetFrame(thread);
        while (frame != NULL && !seen->failed) {
            seen->failed = !add_frame(seen, thread->thread_id, frame);
            PyFrameObject *back = PyFrame_GetBack(frame);
            Py_DECREF(frame);
            frame = back;
        }
        Py_XDECREF(frame);
    }
}

/* 0/-1 */
static int
put_frame(PyObject *stacks, const seen_frame *each)
{
    PyObject *ident = PyLong_FromUnsignedLong(each->ident);
    PyObject *stack = ident == NULL ? NULL : cl_dict_get(stacks, ident);
    PyObject *entry = NULL;
    int status = -1;
    if (stack == NULL && ident != NULL && !PyErr_Occurred() &&
        (stack = PyList_New(0)) != NULL &&
        PyDict_SetItem(stacks, ident, stack) < 0)
        Py_CLEAR(stack);
    if (stack != NULL)
        entry = Py_BuildValue("(OOi)", each->code->co_name,
                              each->code->co_filename, each->line);
    if (entry != NULL)
        status = PyList_Append(stack, entry);
    Py_XDECREF(ident);
    Py_XDECREF(stack);
    Py_XDECREF(entry);
    return status;
}

PyObject *
cl_stacks(void)
{
    seen_frames seen = {.interpreter = PyInterpreterState_Get()};
    cl_call_stopped(see_frames, &seen);
    PyObject *stacks = PyDict_New();
    if (stacks != NULL && seen.failed) {
        Py_CLEAR(stacks);
        PyErr_NoMemory();
    }
    while (seen.count > 0) { /* from the outermost on */
        const seen_frame *each = &seen.frames[--seen.count];
        if (stacks != NULL && put_frame(stacks, each) < 0)
            Py_CLEAR(stacks);
        Py_DECREF(each->code);
    }
    cl_free(seen.frames);
    return stacks;
}
#else
static PyObject *
frame_of(PyThreadState *thread)
{
#if PY_VERSION_HEX >= 0x03090000
    return (PyObject *)PyThreadState_GetFrame(thread);
#else
    return Py_XNewRef((PyObject *)thread->frame);
#endif
}

/* Without CPython's lock: threads end with the GIL, and those that begin come
 * before the first one. */
PyObject *
cl_current_frames(void)
{
    PyObject *frames = PyDict_New();
    PyThreadState *thread =
        PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; frames != NULL && thread != NULL;
         thread = PyThreadState_Next(thread)) {
        PyObject *frame = frame_of(thread);
        PyObject *ident = PyLong_FromUnsignedLong(thread->thread_id);
        if ((frame == NULL && PyErr_Occurred()) || ident == NULL ||
            (frame != NULL && PyDict_SetItem(frames, ident, frame) < 0))
            Py_CLEAR(frames);
        Py_XDECREF(frame);
        Py_XDECREF(ident);
    }
    return frames;
}
#endif

int
cl_set_wakeup_fd(PyObject *set_wakeup_fd, int fd)
{
#if PY_VERSION_HEX >= 0x030d0000
    (void)set_wakeup_fd;
    return PySignal_SetWakeupFd(fd);
#else
    long previous = -1;
    PyObject *number = PyLong_FromLong(fd);
    PyObject *result =
        number == NULL ? NULL : PyObject_CallOneArg(set_wakeup_fd, number);
    if (result != NULL)
        previous = PyLong_AsLong(result);
    Py_XDECREF(number);
    Py_XDECREF(result);
    PyErr_Clear();
    return (int)previous;
#endif
}

/* ---------------------------------------------------------------- contexts */

/* Whether a variable that is set in the context shows there and nowhere else.
 * 1/0/-1 */
static int
vars_are_found(PyObject *context, PyObject *copy, PyObject *variable)
{
    PyObject *before = cl_context_vars(context);
    if (before == NULL || before != cl_current_vars() ||
        before != cl_context_vars(copy))
        return 0;
    if (PyContext_Enter(context) < 0)
        return -1;
    PyObject *token = PyContextVar_Set(variable, Py_None);
    PyObject *after = cl_current_vars();
    int found = token == NULL
                    ? -1
                    : after != before && after == cl_context_vars(context) &&
                          before == cl_context_vars(copy);
    Py_XDECREF(token);
    return PyContext_Exit(context) < 0 ? -1 : found;
}

int
cl_context_has_vars(void)
{
    if (CL_FREE_THREADED)
        return 0; /* another thread may be setting one */
    int found = -1;
    PyObject *context = PyContext_CopyCurrent(), *copy = NULL,
             *variable = NULL;
    if (context != NULL && (copy = PyContext_Copy(context)) != NULL &&
        (variable = PyContextVar_New("cloop", NULL)) != NULL)
        found = vars_are_found(context, copy, variable);
    Py_XDECREF(variable);
    Py_XDECREF(copy);
    Py_XDECREF(context);
    return found;
}
