/* debug.c - see debug.h. */
#include "debug.h"

#ifdef CL_DEBUG

#include <string.h>

#include "core/check.h"
#include "core/fork.h"
#include "core/loop.h"
#include "net/outbox.h"
#include "net/stream.h"
#include "net/transport.h"

static LoopObject *
loop_of(PyObject *object)
{
    LoopObject *loop = cl_loop_cast(object);
    if (loop != NULL && loop->l_open)
        return loop;
    PyErr_SetString(PyExc_TypeError, "an open loop of cloop was expected");
    return NULL;
}

PyDoc_STRVAR(check_doc, "_check(loop)\n--\n\n"
                        "Check all structures of the loop; abort() if one is "
                        "inconsistent.");

static PyObject *
debug_check(PyObject *Py_UNUSED(module), PyObject *object)
{
    LoopObject *loop = loop_of(object);
    if (loop == NULL)
        return NULL;
    cl_loop_check(loop);
    cl_loop_check_poller(loop);
    Py_RETURN_NONE;
}

/* Damages the loop as only a bug in cloop could. Returns false if `what` is
 * unknown. */
static bool
damage_loop(LoopObject *loop, const char *what)
{
    cl_watch *watch = &loop->l_pipe_watch;
    if (strcmp(what, "ring") == 0) {
        loop->l_ready.r_head = loop->l_ready.r_tail + 1;
    }
    else if (strcmp(what, "node") == 0) {
        PyObject *object = PyList_New(0);
        for (int i = 0; i < 2; i++) /* queued twice, with one reference */
            (void)cl_ring_push(&loop->l_ready,
                               cl_node_make(object, CL_NODE_FOREIGN));
    }
    else if (strcmp(what, "heap") == 0) {
        loop->l_timers.entries[0].key += 1e6;
    }
    else if (strcmp(what, "slot") == 0) {
        loop->l_timers.entries[0].node->slot++;
    }
    else if (strcmp(what, "inbox") == 0) {
        loop->l_inbox.i_asleep = true;
        loop->l_inbox.i_count = 1;
    }
    else if (strcmp(what, "count") == 0) {
        loop->l_watches.wt_count++;
        loop->l_watches.wt_change_capacity++;
    }
    else if (strcmp(what, "generation") == 0) {
        watch->w_generation += 1000;
    }
    else if (strcmp(what, "interest") == 0) {
        watch->w_have = CL_WRITE;
    }
    else if (strcmp(what, "kernel") == 0) {
        (void)loop->l_poller.ops->set(&loop->l_poller, watch->w_fd,
                                      watch->w_generation, CL_READ, CL_WRITE);
    }
    else if (strcmp(what, "lent") == 0) {
        int fd = 0;
        while (fd < loop->l_watches.wt_size &&
               ((watch = loop->l_watches.wt_by_fd[fd]) == NULL ||
                watch == &loop->l_pipe_watch))
            fd++;
        if (fd == loop->l_watches.wt_size)
            return false;
        watch->w_want = watch->w_have = CL_WRITE;
    }
    else if (strcmp(what, "sockets") == 0) {
        loop->l_sigsock.sg_write_fd = 0;
    }
    else if (strcmp(what, "fork") == 0) {
        loop->l_fork = CL_FORK_PARENTS;
    }
    else if (strcmp(what, "spares") == 0) {
        loop->l_spare_handle_count++;
    }
    else if (strcmp(what, "loops") == 0) {
        loop->l_open_link = &loop->l_next_open;
    }
    else {
        return false;
    }
    return true;
}

/* The same for a stream transport. */
static bool
damage_stream(StreamObject *stream, const char *what)
{
    TransportObject *base = &stream->s_base;
    if (strcmp(what, "paused") == 0)
        base->tr_flags ^= CL_T_PROTOCOL_PAUSED;
    else if (strcmp(what, "limits") == 0)
        base->tr_limits.low = base->tr_limits.high + 1;
    else if (strcmp(what, "size") == 0)
        stream->s_out.out_queue.wq_size++;
    else if (strcmp(what, "unwatched") == 0)
        cl_transport_want(base, CL_WRITE, false);
    else
        return false;
    return true;
}

PyDoc_STRVAR(damage_doc,
             "_damage(object, what)\n--\n\n"
             "Damage a structure of a loop or a stream transport, so that "
             "_check() finds it.");

static PyObject *
debug_damage(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *object;
    const char *what;
    if (!PyArg_ParseTuple(args, "Os:_damage", &object, &what))
        return NULL;
    LoopObject *loop = cl_loop_cast(object);
    bool known;
    if (loop != NULL)
        known = damage_loop(loop, what);
    else
        known = damage_stream((StreamObject *)object, what);
    if (known)
        Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, what);
    return NULL;
}

PyMethodDef cl_debug_methods[] = {
    {"_check", debug_check, METH_O, check_doc},
    {"_damage", debug_damage, METH_VARARGS, damage_doc},
    {NULL}};

#endif
