/* node.h - what a kind of ready node can do.
 *
 * A ready node is a pointer with its kind in the low bits (base/ring.h). What else
 * there is to know of a kind is in its table, which belongs to the module that makes
 * such nodes; each layer lists its kinds (layer.h). The ring, and who takes nodes from it,
 * know no kinds, but for shortcuts that say so. */
#ifndef CL_CORE_NODE_H
#define CL_CORE_NODE_H

#include "base/compat.h"

#include "base/ring.h"
#include "core/state.h"

typedef struct LoopObject LoopObject;

/* Each node owns one reference: to a handle, a task, a watch's owner. */
struct cl_node_ops {
    /* Does what the node is there for; the caller keeps its reference meanwhile. 0,
     * or -1 for what must leave the loop. Runs Python. */
    int (*run)(LoopObject *loop, cl_node node);
    /* Drops the node's reference. `lost`: the node was not run and will not be.
     * Runs Python (destructors). */
    void (*drop)(cl_node node, bool lost);
    /* Visits what the reference is to. */
    int (*visit)(cl_node node, visitproc visit, void *arg);
    /* The handle that asyncio would have in its place, which does the same when it is
     * run: a new reference, tracked by the garbage collector; NULL with an exception. */
    PyObject *(*as_handle)(LoopObject *loop, cl_node node);
    /* What the log of slow callbacks calls it: a new str; NULL with an exception. */
    PyObject *(*name)(LoopObject *loop, cl_node node);
    /* Of nodes that are handles: whether it was cancelled, 1, 0, or -1. NULL for
     * others. */
    int (*is_cancelled)(LoopObject *loop, cl_node node);
#ifdef CL_DEBUG
    /* Checks what the module knows of a node that is queued. The object that the node
     * owns a reference to: borrowed. NULL: nothing is known. */
    PyObject *(*check)(const LoopObject *loop, cl_node node);
#endif
};

/* In a table, for builds that check. */
#ifdef CL_DEBUG
#define CL_NODE_CHECK(function) .check = function,
#else
#define CL_NODE_CHECK(function)
#endif

static inline const cl_node_ops *
cl_node_ops_of(const cl_state *st, cl_node node)
{
    cl_assertf(st->node_ops[cl_node_kind(node)] != NULL, "kind %u",
               cl_node_kind(node));
    return st->node_ops[cl_node_kind(node)];
}

#ifdef CL_DEBUG
static inline PyObject *
cl_node_check(const cl_state *st, const LoopObject *loop, cl_node node)
{
    const cl_node_ops *ops = cl_node_ops_of(st, node);
    return ops->check == NULL ? NULL : ops->check(loop, node);
}
#endif

#endif
