/* claim.c - see claim.h. */
#include "core/claim.h"

#if CL_FREE_THREADED

#include <errno.h>
#include <string.h>
#include <time.h>

#include "core/errors.h"
#include "core/handle.h"

/* A claim of a loop that does not run ends soon. */
#define LOOK_NS (20 * 1000)
#define LOOKS_MAX 50000

int
cl_claim_begin(LoopObject *loop, LoopObject **claimed, bool raise)
{
    unsigned long nobody = 0, me = cl_thread_ident();
    for (int looks = 0;
         !atomic_compare_exchange_strong(&loop->l_owner, &nobody, me);
         looks++) {
        if (loop->l_thread_id != 0 || loop->l_depth > 0 ||
            looks == LOOKS_MAX) {
            if (raise)
                PyErr_SetString(PyExc_RuntimeError,
                                "Non-thread-safe operation invoked on an "
                                "event loop other than the current one");
            return -1;
        }
        struct timespec pause = {.tv_nsec = LOOK_NS};
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS
        nobody = 0;
    }
    *claimed = loop;
    return 0;
}

PyObject *
cl_claim_repr(PyObject *self)
{
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    return PyUnicode_FromFormat(
        "<%s at %p of a loop that another thread runs>",
        name == NULL ? Py_TYPE(self)->tp_name : name + 1, self);
}

static PyObject *
finalize_now(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Py_TYPE(object)->tp_finalize(object);
    Py_RETURN_NONE;
}

static PyMethodDef finalize_def = {"finalize", finalize_now, METH_NOARGS,
                                   NULL};

/* Has tp_finalize called by the loop's thread, and keeps the object alive until
 * then. Returns 0, -ESHUTDOWN if the loop is closed, or -ENOMEM. */
static int
defer(LoopObject *loop, PyObject *object)
{
    int err = -ENOMEM;
    PyObject *callback = PyCFunction_New(&finalize_def, object);
    HandleObject *handle =
        callback == NULL ? NULL : cl_handle_new(loop, callback, NULL, 0, NULL);
    Py_XDECREF(callback);
    if (handle != NULL &&
        (err = cl_inbox_push(&loop->l_inbox,
                             cl_node_make(handle, CL_NODE_HANDLE))) < 0)
        Py_DECREF(handle);
    return err;
}

int
cl_claim_or_defer(LoopObject *loop, LoopObject **claimed, PyObject *object)
{
    if (loop == NULL || cl_claim(loop, claimed, false) == 0)
        return 0;
    PyObject *error = PyErr_GetRaisedException();
    int err = defer(loop, object), status = -1;
    /* It was being closed, and soon nobody has it. */
    if (err == -ESHUTDOWN)
        status = cl_claim(loop, claimed, false);
    if (err < 0 && status < 0) {
        /* Others would use its memory. */
        Py_INCREF(object);
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        PyErr_WriteUnraisable((PyObject *)loop);
    }
    PyErr_SetRaisedException(error);
    return status;
}

bool
cl_claim_finalize_lost(HandleObject *handle)
{
    PyObject *callback = handle->h_callback;
    if (callback == NULL || !PyCFunction_CheckExact(callback) ||
        ((PyCFunctionObject *)callback)->m_ml != &finalize_def)
        return false;
    PyObject *error = PyErr_GetRaisedException();
    PyObject *object = PyCFunction_GET_SELF(callback);
    Py_TYPE(object)->tp_finalize(object);
    PyErr_SetRaisedException(error);
    return true;
}

#endif
