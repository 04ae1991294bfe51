/* remote.c - see remote.h. */
#include "futures/remote.h"

#include "futures/state.h"

#if CL_HAS_REMOTE_STACKS

/* asyncio's coroutines are nested less deeply. */
#define DEPTH_MAX 8

/* The frames of one method's coroutine and of what it awaits. */
typedef struct cl_remote {
    struct cl_remote *next;
    const char *name;             /* of the coroutines; compared by address */
    PyObject *coroutine;          /* owned; the code and positions are its */
    CoroObject frames[DEPTH_MAX]; /* not objects, but look like them */
    int count;
} cl_remote;

/* Returns the frame within a Python coroutine, or NULL if the layout is not as
 * expected. */
static const cl_remote_frame *
frame_of(PyObject *coroutine)
{
    const cl_remote_frame *frame =
        (const cl_remote_frame *)((char *)coroutine + CL_REMOTE_OFFSET);
    PyObject *code = PyObject_GetAttrString(coroutine, "cr_code");
    bool known = code != NULL && PyCode_Check(code) &&
                 (PyObject *)(frame->f_executable & ~CL_REMOTE_TAGS) == code &&
                 cl_code_has(code, frame->f_instruction);
    Py_XDECREF(code);
    return known ? frame : NULL;
}

/* Fills in our frame like `frame`. It awaits `next`, unless that is NULL. */
static void
imitate(cl_remote_frame *ours, const cl_remote_frame *frame, CoroObject *next)
{
    ours->f_state = frame->f_state;
    ours->f_executable = frame->f_executable;
    ours->f_instruction = frame->f_instruction;
    ours->f_owner = frame->f_owner;
    /* Two fields that are not read otherwise serve as the stack. The top is
     * the first or the second, depending on the version. */
    ours->f_globals = ours->f_builtins = next;
    ours->f_stack_pointer = next == NULL ? NULL : &ours->f_locals;
}

/* Fills remote->frames. 0/-1 */
static int
copy_frames(cl_remote *remote, PyTypeObject *type)
{
    PyObject *coroutine = Py_NewRef(remote->coroutine);
    int count = 0;
    while (count < DEPTH_MAX && PyCoro_CheckExact(coroutine)) {
        const cl_remote_frame *frame = frame_of(coroutine);
        if (frame == NULL)
            break;
        CoroObject *at = &remote->frames[count++];
        ((PyObject *)at)->ob_type = type;
        imitate(&at->c_remote, frame, NULL);
        Py_SETREF(coroutine, PyObject_GetAttrString(coroutine, "cr_await"));
        if (coroutine == NULL)
            return -1;
    }
    Py_DECREF(coroutine);
    for (int i = 0; i + 1 < count; i++)
        imitate(&remote->frames[i].c_remote, &remote->frames[i].c_remote,
                &remote->frames[i + 1]);
    remote->count = count;
    return PyErr_Occurred() ? -1 : 0;
}

/* Creates the frames for coroutines of this name. Returns NULL with an
 * exception. They are kept even if there are none. */
static cl_remote *
make(CoroObject *coro)
{
    cl_state *st = coro->c_st;
    cl_remote *remote = NULL;
    PyObject *shown = PyObject_CallFunction(cl_futures_of(st)->suspended_frame,
                                            "Os()O", coro->c_ops->stock(coro),
                                            coro->c_ops->name(coro), Py_None);
    if (shown == NULL || (remote = PyMem_Calloc(1, sizeof(*remote))) == NULL) {
        Py_XDECREF(shown);
        return NULL;
    }
    remote->name = coro->c_ops->name(coro);
    remote->coroutine =
        Py_NewRef(shown == Py_None ? Py_None : PyTuple_GET_ITEM(shown, 0));
    Py_DECREF(shown);
    remote->next = cl_futures_of(st)->remote;
    cl_futures_of(st)->remote = remote;
    return copy_frames(remote, Py_TYPE(coro)) < 0 ? NULL : remote;
}

int
cl_remote_show(CoroObject *coro)
{
    const char *name = coro->c_ops->name(coro);
    cl_remote *remote = cl_futures_of(coro->c_st)->remote;
    while (remote != NULL && remote->name != name)
        remote = remote->next;
    if (remote == NULL && (remote = make(coro)) == NULL) {
        if (!PyErr_Occurred() || !PyErr_ExceptionMatches(PyExc_Exception))
            return PyErr_Occurred() ? -1 : 0;
        PyErr_Clear();
    }
    else if (remote->count > 0) {
        imitate(&coro->c_remote, &remote->frames[0].c_remote,
                remote->count > 1 ? &remote->frames[1] : NULL);
    }
    return 0;
}

int
cl_remote_traverse(cl_state *st, visitproc visit, void *arg)
{
    for (cl_remote *remote = cl_futures_of(st)->remote; remote != NULL;
         remote = remote->next)
        Py_VISIT(remote->coroutine);
    return 0;
}

void
cl_remote_clear(cl_state *st)
{
    for (cl_remote *remote = cl_futures_of(st)->remote; remote != NULL;
         remote = remote->next)
        Py_CLEAR(remote->coroutine);
}

void
cl_remote_free(cl_state *st)
{
    cl_futures *futures = cl_futures_of(st);
    while (futures->remote != NULL) {
        cl_remote *next = futures->remote->next;
        PyMem_Free(futures->remote);
        futures->remote = next;
    }
}

#else

int
cl_remote_show(CoroObject *Py_UNUSED(coro))
{
    return 0;
}

int
cl_remote_traverse(cl_state *Py_UNUSED(st), visitproc Py_UNUSED(visit),
                   void *Py_UNUSED(arg))
{
    return 0;
}

void
cl_remote_clear(cl_state *Py_UNUSED(st))
{
}

void
cl_remote_free(cl_state *Py_UNUSED(st))
{
}

#endif
