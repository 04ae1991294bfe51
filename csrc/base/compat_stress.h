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
cl_stress_object_fails(const char *file, int line, const void *caller)
{
    cl_assert_gil();
    if (!cl_stress_fails(file, line, caller))
        return false;
    PyErr_NoMemory();
    return true;
}

/* The same for an object that the garbage collector tracks. */
static inline bool
cl_stress_container_fails(const char *file, int line, const void *caller)
{
    if (cl_stress_collects())
        PyGC_Collect();
    return cl_stress_object_fails(file, line, caller);
}

#define CL_STRESS_MEMORY(call) \
    (cl_stress_fails(CL_STRESS_HERE) ? NULL : (call))
#define CL_STRESS_OBJECT(call) \
    (cl_stress_object_fails(CL_STRESS_HERE) ? NULL : (call))
#define CL_STRESS_CONTAINER(call) \
    (cl_stress_container_fails(CL_STRESS_HERE) ? NULL : (call))
#define CL_STRESS_STATUS(call) \
    (cl_stress_object_fails(CL_STRESS_HERE) ? -1 : (call))

#define PyMem_Malloc(size) CL_STRESS_MEMORY((PyMem_Malloc)(size))
#define PyMem_Calloc(count, size) CL_STRESS_MEMORY((PyMem_Calloc)(count, size))
#define PyMem_Realloc(memory, size) \
    CL_STRESS_MEMORY((PyMem_Realloc)(memory, size))
#define PyMem_RawMalloc(size) CL_STRESS_MEMORY((PyMem_RawMalloc)(size))
#define PyMem_RawCalloc(count, size) \
    CL_STRESS_MEMORY((PyMem_RawCalloc)(count, size))
#define PyMem_RawRealloc(memory, size) \
    CL_STRESS_MEMORY((PyMem_RawRealloc)(memory, size))

#undef PyObject_GC_New
#define PyObject_GC_New(struct_type, type) \
    ((struct_type *)CL_STRESS_CONTAINER(_PyObject_GC_New(type)))
#define PyTuple_New(size) CL_STRESS_CONTAINER((PyTuple_New)(size))
#define PyTuple_Pack(...) CL_STRESS_CONTAINER((PyTuple_Pack)(__VA_ARGS__))
#define PyList_New(size) CL_STRESS_CONTAINER((PyList_New)(size))
#define PyDict_New() CL_STRESS_CONTAINER((PyDict_New)())
#define PyDict_Copy(dict) CL_STRESS_CONTAINER((PyDict_Copy)(dict))
#define PySequence_Tuple(object) \
    CL_STRESS_CONTAINER((PySequence_Tuple)(object))
#define PySequence_List(object) CL_STRESS_CONTAINER((PySequence_List)(object))
#define PyContext_CopyCurrent() CL_STRESS_CONTAINER((PyContext_CopyCurrent)())
#define PyContext_Copy(context) CL_STRESS_CONTAINER((PyContext_Copy)(context))
#undef PyCFunction_New
#define PyCFunction_New(def, self) \
    CL_STRESS_CONTAINER(PyCFunction_NewEx(def, self, NULL))
#define PyWeakref_NewRef(object, callback) \
    CL_STRESS_CONTAINER((PyWeakref_NewRef)(object, callback))

#define PyBytes_FromStringAndSize(data, size) \
    CL_STRESS_OBJECT((PyBytes_FromStringAndSize)(data, size))
#define PyBytes_FromObject(object) \
    CL_STRESS_OBJECT((PyBytes_FromObject)(object))
#define PyUnicode_FromString(text) \
    CL_STRESS_OBJECT((PyUnicode_FromString)(text))
#define PyUnicode_FromFormat(...) \
    CL_STRESS_OBJECT((PyUnicode_FromFormat)(__VA_ARGS__))
#define PyUnicode_New(size, greatest) \
    CL_STRESS_OBJECT((PyUnicode_New)(size, greatest))
#define PyLong_FromLong(value) CL_STRESS_OBJECT((PyLong_FromLong)(value))
#define PyLong_FromSize_t(value) CL_STRESS_OBJECT((PyLong_FromSize_t)(value))
#define PyLong_FromSsize_t(value) CL_STRESS_OBJECT((PyLong_FromSsize_t)(value))
#define PyLong_FromUnsignedLongLong(value) \
    CL_STRESS_OBJECT((PyLong_FromUnsignedLongLong)(value))
#define PyFloat_FromDouble(value) CL_STRESS_OBJECT((PyFloat_FromDouble)(value))
#define PyMemoryView_FromMemory(memory, size, flags) \
    CL_STRESS_OBJECT((PyMemoryView_FromMemory)(memory, size, flags))

#define PyList_Append(list, item) CL_STRESS_STATUS((PyList_Append)(list, item))
#define PyDict_SetItem(dict, key, value) \
    CL_STRESS_STATUS((PyDict_SetItem)(dict, key, value))
#define PySet_Add(set, key) CL_STRESS_STATUS((PySet_Add)(set, key))
#define PyByteArray_Resize(array, size) \
    CL_STRESS_STATUS((PyByteArray_Resize)(array, size))

#endif

#endif
