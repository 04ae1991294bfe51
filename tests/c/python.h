/* python.h - for tests of layers that use Python's API: a module with the
 * state of some layers only, and a loop type with their fields.
 *
 * Before including this, a test defines its structs and layers. It also
 * defines run(). */
#ifndef TESTS_C_PYTHON_H
#define TESTS_C_PYTHON_H

#include "core/layer.h"
#include "core/loop.h"

#include "check.h"

/* Checks that the call succeeds; prints Python's exception otherwise. */
#define CHECK_PYTHON(holds) \
    check_python(holds, #holds, __FILE__, __LINE__, __func__)

static inline void
check_python(bool holds, const char *text, const char *file, int line,
             const char *test)
{
    if (!holds && PyErr_Occurred())
        PyErr_Print();
    check_true(holds, text, file, line, test);
}

static void run(cl_state *st, PyTypeObject *loop_type);

static int
init(LoopObject *loop, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return cl_loop_init(loop, NULL);
}

static PyType_Slot loop_slots[] = {
    {Py_tp_new, cl_loop_new},         {Py_tp_init, init},
    {Py_tp_dealloc, cl_loop_dealloc}, {Py_tp_traverse, cl_loop_traverse},
    {Py_tp_clear, cl_loop_clear},     {0, NULL}};

static PyType_Spec loop_spec = {
    .name = "test.Loop",
    .basicsize = sizeof(TEST_LOOP_STRUCT),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = loop_slots,
};

static PyObject *
module_run(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cl_state *st = PyModule_GetState(module);
    PyTypeObject *type =
        cl_type_new(module, st, &loop_spec, NULL, offsetof(LoopObject, l_dict),
                    offsetof(LoopObject, l_weakrefs));
    CHECK_PYTHON(type != NULL);
    run(st, type);
    Py_DECREF(type);
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {{"run", module_run, METH_NOARGS, NULL},
                                       {NULL}};

static int
module_exec(PyObject *module)
{
    return cl_layers_setup(module, PyModule_GetState(module), layers);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec},
                                          CL_MOD_SLOTS_EXTRA{0, NULL}};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "test",
    .m_size = sizeof(TEST_STATE_STRUCT),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = cl_layers_traverse,
    .m_clear = cl_layers_clear,
    .m_free = cl_layers_free,
};

CL_EXPORT PyObject *TEST_INIT(void);

PyObject *
TEST_INIT(void)
{
    return PyModuleDef_Init(&module_def);
}

/* Creates an open loop. drop_loop() checks that dropping it frees it. */
static inline LoopObject *
new_loop(PyTypeObject *type)
{
    LoopObject *loop = (LoopObject *)PyObject_CallNoArgs((PyObject *)type);
    CHECK_PYTHON(loop != NULL);
    return loop;
}

static inline void
drop_loop(LoopObject *loop)
{
    cl_state *st = loop->l_st;
    CHECK_INT(cl_live_count(&st->live_loops), 1);
    Py_DECREF(loop);
    CHECK_INT(cl_live_count(&st->live_loops), 0);
    CHECK_INT(cl_live_count(&st->live_handles), 0);
    CHECK_INT(cl_live_count(&st->live_timers), 0);
}

/* Returns list[index], an int. */
static inline long
int_at(PyObject *list, Py_ssize_t index)
{
    CHECK(index < PyList_GET_SIZE(list));
    return PyLong_AsLong(PyList_GET_ITEM(list, index));
}

#endif
