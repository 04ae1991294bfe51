/* compat_stress.h - for stress and coverage builds: wraps the allocating functions of
 * Python's API, so that they can fail, or collect garbage first; see
 * base/stress.h.
 *
 * Each wrapper is a macro with the function's name. Included by compat.h only.
 */
#ifndef CL_BASE_COMPAT_STRESS_H
#define CL_BASE_COMPAT_STRESS_H

#include "base/compat.h"

#ifdef CL_INJECT

#include "base/stress.h"

/* Returns true, with MemoryError set, if the allocation must fail. */
static inline bool
cl_stress_object_fails(cl_stress_site *site, const void *caller)
{
    cl_assert_gil();
    if (!cl_stress_fails(site, caller))
        return false;
    PyErr_NoMemory();
    return true;
}

/* The same for an object that the garbage collector tracks. */
static inline bool
cl_stress_container_fails(cl_stress_site *site, const void *caller)
{
    if (cl_stress_collects(site, caller))
        PyGC_Collect();
    return cl_stress_object_fails(site, caller);
}

/* The same for a call of Python. */
static inline bool
cl_stress_python_fails(cl_stress_site *site, const void *caller)
{
    if (!cl_stress_call_fails(site, caller))
        return false;
    PyErr_NoMemory();
    return true;
}

/* Each chooses the function, or one that fails as it does. So lines that call it
 * have no branch of ours. */
typedef void (*cl_stress_function)(void);

static inline void *
cl_stress_null(void)
{
    return NULL;
}

static inline int
cl_stress_minus_one(void)
{
    return -1;
}

#define CL_STRESS_CHOICE(name, fails, failure) \
    static inline cl_stress_function cl_stress_choose_##name( \
        cl_stress_site *site, const void *caller, \
        cl_stress_function function) \
    { \
        return fails(site, caller) ? (cl_stress_function)(failure) \
                                   : function; \
    }
CL_STRESS_CHOICE(memory, cl_stress_fails, cl_stress_null)
CL_STRESS_CHOICE(object, cl_stress_object_fails, cl_stress_null)
CL_STRESS_CHOICE(container, cl_stress_container_fails, cl_stress_null)
CL_STRESS_CHOICE(status, cl_stress_object_fails, cl_stress_minus_one)
CL_STRESS_CHOICE(python, cl_stress_python_fails, cl_stress_null)
CL_STRESS_CHOICE(python_status, cl_stress_python_fails, cl_stress_minus_one)

#define CL_STRESS_CHOOSE(name, function) \
    ((__typeof__(&*(function)))cl_stress_choose_##name( \
        CL_STRESS_HERE, (cl_stress_function)(function)))
#define CL_STRESS_MEMORY(function) CL_STRESS_CHOOSE(memory, function)
#define CL_STRESS_OBJECT(function) CL_STRESS_CHOOSE(object, function)
#define CL_STRESS_CONTAINER(function) CL_STRESS_CHOOSE(container, function)
#define CL_STRESS_STATUS(function) CL_STRESS_CHOOSE(status, function)
#define CL_STRESS_PYTHON(function) CL_STRESS_CHOOSE(python, function)
#define CL_STRESS_PYTHON_STATUS(function) \
    CL_STRESS_CHOOSE(python_status, function)

#define PyMem_Malloc(size) CL_STRESS_MEMORY(PyMem_Malloc)(size)
#define PyMem_Calloc(count, size) CL_STRESS_MEMORY(PyMem_Calloc)(count, size)
#define PyMem_Realloc(memory, size) \
    CL_STRESS_MEMORY(PyMem_Realloc)(memory, size)
#define PyMem_RawMalloc(size) CL_STRESS_MEMORY(PyMem_RawMalloc)(size)
#define PyMem_RawCalloc(count, size) \
    CL_STRESS_MEMORY(PyMem_RawCalloc)(count, size)
#define PyMem_RawRealloc(memory, size) \
    CL_STRESS_MEMORY(PyMem_RawRealloc)(memory, size)

#undef PyObject_GC_New
#define PyObject_GC_New(struct_type, type) \
    ((struct_type *)CL_STRESS_CONTAINER(_PyObject_GC_New)(type))
#define PyTuple_New(size) CL_STRESS_CONTAINER(PyTuple_New)(size)
#define PyTuple_Pack(...) CL_STRESS_CONTAINER(PyTuple_Pack)(__VA_ARGS__)
#define PyList_New(size) CL_STRESS_CONTAINER(PyList_New)(size)
#define PyDict_New() CL_STRESS_CONTAINER(PyDict_New)()
#define PyDict_Copy(dict) CL_STRESS_CONTAINER(PyDict_Copy)(dict)
#define PySequence_Tuple(object) CL_STRESS_CONTAINER(PySequence_Tuple)(object)
#define PySequence_List(object) CL_STRESS_CONTAINER(PySequence_List)(object)
#define PyContext_CopyCurrent() CL_STRESS_CONTAINER(PyContext_CopyCurrent)()
#define PyContext_Copy(context) CL_STRESS_CONTAINER(PyContext_Copy)(context)
#undef PyCFunction_New
#define PyCFunction_New(def, self) \
    CL_STRESS_CONTAINER(PyCFunction_NewEx)(def, self, NULL)
#define PyWeakref_NewRef(object, callback) \
    CL_STRESS_CONTAINER(PyWeakref_NewRef)(object, callback)

#define PyMethod_New(function, self) \
    CL_STRESS_CONTAINER(PyMethod_New)(function, self)
#define PySet_New(items) CL_STRESS_CONTAINER(PySet_New)(items)
#define PyList_AsTuple(list) CL_STRESS_CONTAINER(PyList_AsTuple)(list)
#define PyTuple_GetSlice(tuple, from, to) \
    CL_STRESS_CONTAINER(PyTuple_GetSlice)(tuple, from, to)
#define PySequence_Concat(first, second) \
    CL_STRESS_CONTAINER(PySequence_Concat)(first, second)
#define PyObject_GetIter(object) CL_STRESS_CONTAINER(PyObject_GetIter)(object)
#define PyCell_New(value) CL_STRESS_CONTAINER(PyCell_New)(value)
#undef cl_type_alloc
#define cl_type_alloc(type) CL_STRESS_CONTAINER((type)->tp_alloc)(type, 0)

#define PyBytes_FromStringAndSize(data, size) \
    CL_STRESS_OBJECT(PyBytes_FromStringAndSize)(data, size)
#define PyBytes_FromObject(object) CL_STRESS_OBJECT(PyBytes_FromObject)(object)
#define PyUnicode_FromString(text) CL_STRESS_OBJECT(PyUnicode_FromString)(text)
#define PyUnicode_FromFormat(...) \
    CL_STRESS_OBJECT(PyUnicode_FromFormat)(__VA_ARGS__)
#define PyUnicode_New(size, greatest) \
    CL_STRESS_OBJECT(PyUnicode_New)(size, greatest)
#define PyUnicode_FromStringAndSize(text, size) \
    CL_STRESS_OBJECT(PyUnicode_FromStringAndSize)(text, size)
#define PyUnicode_InternFromString(text) \
    CL_STRESS_OBJECT(PyUnicode_InternFromString)(text)
#define PyUnicode_DecodeFSDefaultAndSize(text, size) \
    CL_STRESS_OBJECT(PyUnicode_DecodeFSDefaultAndSize)(text, size)
#define PyUnicode_EncodeFSDefault(text) \
    CL_STRESS_OBJECT(PyUnicode_EncodeFSDefault)(text)
#define PyUnicode_Join(separator, list) \
    CL_STRESS_OBJECT(PyUnicode_Join)(separator, list)
#define PyUnicode_Split(text, separator, most) \
    CL_STRESS_OBJECT(PyUnicode_Split)(text, separator, most)
#define PyByteArray_FromStringAndSize(data, size) \
    CL_STRESS_OBJECT(PyByteArray_FromStringAndSize)(data, size)
#define PyObject_Repr(object) CL_STRESS_OBJECT(PyObject_Repr)(object)
#define PyObject_Str(object) CL_STRESS_OBJECT(PyObject_Str)(object)
#define PyLong_FromUnsignedLong(value) \
    CL_STRESS_OBJECT(PyLong_FromUnsignedLong)(value)
#define PyLong_FromVoidPtr(value) CL_STRESS_OBJECT(PyLong_FromVoidPtr)(value)
#define PyLong_FromLong(value) CL_STRESS_OBJECT(PyLong_FromLong)(value)
#define PyLong_FromSize_t(value) CL_STRESS_OBJECT(PyLong_FromSize_t)(value)
#define PyLong_FromSsize_t(value) CL_STRESS_OBJECT(PyLong_FromSsize_t)(value)
#define PyLong_FromUnsignedLongLong(value) \
    CL_STRESS_OBJECT(PyLong_FromUnsignedLongLong)(value)
#define PyFloat_FromDouble(value) CL_STRESS_OBJECT(PyFloat_FromDouble)(value)
#define PyMemoryView_FromMemory(memory, size, flags) \
    CL_STRESS_OBJECT(PyMemoryView_FromMemory)(memory, size, flags)
#define PyMemoryView_FromObject(object) \
    CL_STRESS_OBJECT(PyMemoryView_FromObject)(object)

#define PyList_Append(list, item) CL_STRESS_STATUS(PyList_Append)(list, item)
#define PyDict_SetItem(dict, key, value) \
    CL_STRESS_STATUS(PyDict_SetItem)(dict, key, value)
#define PyDict_SetItemString(dict, key, value) \
    CL_STRESS_STATUS(PyDict_SetItemString)(dict, key, value)
#define PyObject_GetBuffer(object, view, flags) \
    CL_STRESS_STATUS(PyObject_GetBuffer)(object, view, flags)
#define PyList_SetSlice(list, from, to, items) \
    CL_STRESS_STATUS(PyList_SetSlice)(list, from, to, items)
#define PySet_Add(set, key) CL_STRESS_STATUS(PySet_Add)(set, key)
#define PyByteArray_Resize(array, size) \
    CL_STRESS_STATUS(PyByteArray_Resize)(array, size)

#define PyObject_CallNoArgs(callable) \
    CL_STRESS_PYTHON(PyObject_CallNoArgs)(callable)
#define PyObject_CallOneArg(callable, arg) \
    CL_STRESS_PYTHON(PyObject_CallOneArg)(callable, arg)
#define PyObject_Vectorcall(callable, args, nargs, kwnames) \
    CL_STRESS_PYTHON(PyObject_Vectorcall)(callable, args, nargs, kwnames)
#define PyObject_VectorcallMethod(name, args, nargs, kwnames) \
    CL_STRESS_PYTHON(PyObject_VectorcallMethod)(name, args, nargs, kwnames)
#define PyObject_CallMethodNoArgs(self, name) \
    CL_STRESS_PYTHON(PyObject_CallMethodNoArgs)(self, name)
#define PyObject_CallMethodOneArg(self, name, arg) \
    CL_STRESS_PYTHON(PyObject_CallMethodOneArg)(self, name, arg)
#define PyObject_Call(callable, args, kwargs) \
    CL_STRESS_PYTHON(PyObject_Call)(callable, args, kwargs)
#define PyObject_CallObject(callable, args) \
    CL_STRESS_PYTHON(PyObject_CallObject)(callable, args)
#define PyObject_GetAttr(object, name) \
    CL_STRESS_PYTHON(PyObject_GetAttr)(object, name)
#define PyObject_GetAttrString(object, name) \
    CL_STRESS_PYTHON(PyObject_GetAttrString)(object, name)
#define PyObject_GetItem(object, key) \
    CL_STRESS_PYTHON(PyObject_GetItem)(object, key)
#define PyImport_ImportModule(name) \
    CL_STRESS_PYTHON(PyImport_ImportModule)(name)
#define PyObject_SetAttr(object, name, value) \
    CL_STRESS_PYTHON_STATUS(PyObject_SetAttr)(object, name, value)
#define PyObject_SetAttrString(object, name, value) \
    CL_STRESS_PYTHON_STATUS(PyObject_SetAttrString)(object, name, value)
#define PyObject_IsTrue(object) \
    CL_STRESS_PYTHON_STATUS(PyObject_IsTrue)(object)
#define PyObject_RichCompareBool(one, other, op) \
    CL_STRESS_PYTHON_STATUS(PyObject_RichCompareBool)(one, other, op)
#define PyContext_Enter(context) \
    CL_STRESS_PYTHON_STATUS(PyContext_Enter)(context)

/* Up to 3.12, PY_SSIZE_T_CLEAN makes these names of other functions. */
#ifdef Py_BuildValue
#undef Py_BuildValue
#undef PyObject_CallFunction
#undef PyObject_CallMethod
#define CL_STRESS_SIZED(name) _##name##_SizeT
#else
#define CL_STRESS_SIZED(name) name
#endif
#define Py_BuildValue(...) \
    CL_STRESS_CONTAINER(CL_STRESS_SIZED(Py_BuildValue))(__VA_ARGS__)
#define PyObject_CallFunction(...) \
    CL_STRESS_PYTHON(CL_STRESS_SIZED(PyObject_CallFunction))(__VA_ARGS__)
#define PyObject_CallMethod(...) \
    CL_STRESS_PYTHON(CL_STRESS_SIZED(PyObject_CallMethod))(__VA_ARGS__)
#define PyObject_CallFunctionObjArgs(...) \
    CL_STRESS_PYTHON(PyObject_CallFunctionObjArgs)(__VA_ARGS__)
#define PyObject_RichCompare(one, other, op) \
    CL_STRESS_PYTHON(PyObject_RichCompare)(one, other, op)
#define PyNumber_Add(one, other) CL_STRESS_PYTHON(PyNumber_Add)(one, other)
#define PyNumber_InPlaceAdd(one, other) \
    CL_STRESS_PYTHON(PyNumber_InPlaceAdd)(one, other)
#define PyNumber_InPlaceSubtract(one, other) \
    CL_STRESS_PYTHON(PyNumber_InPlaceSubtract)(one, other)
#define PyNumber_Multiply(one, other) \
    CL_STRESS_PYTHON(PyNumber_Multiply)(one, other)
#define PyNumber_FloorDivide(one, other) \
    CL_STRESS_PYTHON(PyNumber_FloorDivide)(one, other)
#define PyNumber_Long(object) CL_STRESS_PYTHON(PyNumber_Long)(object)
#define PyDict_Contains(dict, key) \
    CL_STRESS_PYTHON_STATUS(PyDict_Contains)(dict, key)
#define PyObject_GenericSetAttr(object, name, value) \
    CL_STRESS_PYTHON_STATUS(PyObject_GenericSetAttr)(object, name, value)
#define PyObject_IsInstance(object, type) \
    CL_STRESS_PYTHON_STATUS(PyObject_IsInstance)(object, type)

#define PyModule_AddObjectRef(module, name, value) \
    CL_STRESS_STATUS(PyModule_AddObjectRef)(module, name, value)
#define PyModule_AddFunctions(module, functions) \
    CL_STRESS_STATUS(PyModule_AddFunctions)(module, functions)
#define PyType_FromModuleAndSpec(module, spec, bases) \
    CL_STRESS_CONTAINER(PyType_FromModuleAndSpec)(module, spec, bases)
#define PyType_FromSpecWithBases(spec, bases) \
    CL_STRESS_CONTAINER(PyType_FromSpecWithBases)(spec, bases)
#define PyFunction_NewWithQualName(code, globals, name) \
    CL_STRESS_CONTAINER(PyFunction_NewWithQualName)(code, globals, name)
#define PyCapsule_New(pointer, name, destructor) \
    CL_STRESS_OBJECT(PyCapsule_New)(pointer, name, destructor)
#define PyDict_AddWatcher(callback) \
    CL_STRESS_STATUS(PyDict_AddWatcher)(callback)
#define PyDict_Watch(id, dict) CL_STRESS_STATUS(PyDict_Watch)(id, dict)
#define PyIter_Next(iterator) CL_STRESS_PYTHON(PyIter_Next)(iterator)
#define PyErr_CheckSignals() CL_STRESS_PYTHON_STATUS(PyErr_CheckSignals)()
#define PySys_Audit(...) CL_STRESS_PYTHON_STATUS(PySys_Audit)(__VA_ARGS__)
#define PySet_Discard(set, key) \
    CL_STRESS_PYTHON_STATUS(PySet_Discard)(set, key)

/* It drops the object and the reference if it fails. */
static inline int
cl_stress_bytes_resize(cl_stress_site *site, const void *caller,
                       PyObject **bytes, Py_ssize_t size)
{
    if (!cl_stress_object_fails(site, caller))
        return _PyBytes_Resize(bytes, size);
    Py_CLEAR(*bytes);
    return -1;
}
#define _PyBytes_Resize(bytes, size) \
    cl_stress_bytes_resize(CL_STRESS_HERE, bytes, size)
#endif

#endif
