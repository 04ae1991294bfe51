/* node.h - kinds of ready nodes.
 *
 * A ready node is a pointer with its kind in the low bits (base/ring.h).
 * Everything else about a kind is in its table, in the module that makes such
 * nodes; each layer lists its kinds (layer.h). The ring and the code that runs
 * nodes do not depend on kinds, except for marked shortcuts. */
#ifndef CL_CORE_NODE_H
#define CL_CORE_NODE_H

#include "base/compat.h"

#include "base/ring.h"
#include "core/state.h"

typedef struct LoopObject LoopObject;

/* Each node owns a reference: to a handle, a task, a watch's owner. */
struct cl_node_ops {
    /* Runs the node; the caller keeps its reference meanwhile. Returns -1 only
     * for exceptions that must leave the loop. Runs Python. */
    int (*run)(LoopObject *loop, cl_node node);
    /* Drops the node's reference. `lost`: the node was not run, and will not
     * be. Runs Python. */
    void (*drop)(cl_node node, bool lost);
    /* Visits the object it refers to. */
    int (*visit)(cl_node node, visitproc visit, void *arg);
    /* Returns the handle that asyncio would have instead, with the same
     * effect: a new reference, tracked; NULL with an exception. */
    PyObject *(*as_handle)(LoopObject *loop, cl_node node);
    /* Returns the name for the log of slow callbacks: a new str; NULL with an
     * exception. */
    PyObject *(*name)(LoopObject *loop, cl_node node);
    /* With CL_TIMED_TASKS: the node has run, between these ticks. NULL: that
     * is not counted. */
    void (*ran)(LoopObject *loop, cl_node node, uint64_t began,
                uint64_t ended);
    /* For nodes that are handles, NULL for others. Returns 1 if it was
     * cancelled, 0 if not, -1 on error. */
    int (*is_cancelled)(LoopObject *loop, cl_node node);
#ifdef CL_DEBUG
    /* Checks a queued node. Returns the object that it owns a reference to,
     * borrowed. NULL: there is nothing to check. */
    PyObject *(*check)(const LoopObject *loop, cl_node node);
#endif
};

/* For the tables, in builds with checks. */
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
