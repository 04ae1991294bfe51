/* claim.h - without a GIL, keeps other threads out of a loop.
 *
 * Whatever reads or changes more of a loop than its inbox, or an object of the
 * loop such as a transport, claims the loop first. A loop that runs is claimed
 * by its thread all the time, so there a claim is one comparison. While it does
 * not run, any thread may use it, as in asyncio, but one at a time: the claim
 * lasts until the function returns, and others wait for its end.
 *
 * In a thread that does not have the loop, a claim raises RuntimeError. On
 * builds with a GIL there are no claims. */
#ifndef CL_CORE_CLAIM_H
#define CL_CORE_CLAIM_H

#include "base/compat.h"
#include "core/loop.h"

#if CL_FREE_THREADED

/* The loop was not claimed by this thread, and is now: *claimed is set to it,
 * for cl_claim_end(). 0, or -1 if it is another thread's. Without `raise`,
 * there is no exception then. */
int cl_claim_begin(LoopObject *loop, LoopObject **claimed, bool raise);

static inline void
cl_claim_end(LoopObject **claimed)
{
    if (*claimed != NULL)
        (*claimed)->l_owner = 0;
}

/* Whether this thread has the loop now. */
static inline bool
cl_is_here(LoopObject *loop)
{
    /* Nobody else stores this thread's number there. */
    return atomic_load_explicit(&loop->l_owner, memory_order_relaxed) ==
           cl_thread_ident();
}

static inline int
cl_claim(LoopObject *loop, LoopObject **claimed, bool raise)
{
    return cl_is_here(loop) ? 0 : cl_claim_begin(loop, claimed, raise);
}

/* The same; of no loop if it is NULL. */
static inline int
cl_claim_of(LoopObject *loop, LoopObject **claimed, bool raise)
{
    return loop == NULL ? 0 : cl_claim(loop, claimed, raise);
}

#define CL_CLAIM_BY(claim, loop, how, otherwise) \
    __attribute__((cleanup(cl_claim_end))) LoopObject *cl_claimed = NULL; \
    if (claim(loop, &cl_claimed, how) < 0) { \
        otherwise; \
    }

/* Until the end of the block. If the loop is another thread's: returns
 * `failed`, with RuntimeError; or does what `otherwise` says. The loop of
 * CL_CLAIM_OF() and CL_CLAIM_OF_OR() may be NULL; the others would compile to
 * code for that, too, which gcc warns of. */
#define CL_CLAIM(loop, failed) CL_CLAIM_BY(cl_claim, loop, true, return failed)
#define CL_CLAIM_OF(loop, failed) \
    CL_CLAIM_BY(cl_claim_of, loop, true, return failed)
#define CL_CLAIM_OR(loop, otherwise) \
    CL_CLAIM_BY(cl_claim, loop, false, otherwise)
#define CL_CLAIM_OF_OR(loop, otherwise) \
    CL_CLAIM_BY(cl_claim_of, loop, false, otherwise)

/* For tp_repr of what belongs to a loop. In another thread there is only the
 * address to show: all else may be changing. */
PyObject *cl_claim_repr(PyObject *self);
#define CL_CLAIM_REPR(loop, self) \
    CL_CLAIM_OR(loop, return cl_claim_repr((PyObject *)(self)))

/* For finalizers of objects that belong to a loop: like cl_claim(), but if the
 * loop is another thread's, tp_finalize is called again there, and -1 returned.
 * It is called even if the loop is closed before. */
int cl_claim_or_defer(LoopObject *loop, LoopObject **claimed,
                      PyObject *object);

/* Until the end of the block; or returns from the finalizer. */
#define CL_CLAIM_TO_FINALIZE(loop, object) \
    CL_CLAIM_BY(cl_claim_or_defer, loop, (PyObject *)(object), return)

/* Calls what cl_claim_or_defer() has put into a handle that will not run;
 * false if it is another handle. Runs Python. */
bool cl_claim_finalize_lost(HandleObject *handle);

#else

#define CL_CLAIM(loop, failed) ((void)0)
#define CL_CLAIM_OF(loop, failed) ((void)0)
#define CL_CLAIM_OR(loop, otherwise) ((void)0)
#define CL_CLAIM_OF_OR(loop, otherwise) ((void)0)
#define CL_CLAIM_REPR(loop, self) ((void)0)
#define CL_CLAIM_TO_FINALIZE(loop, object) ((void)0)
#define cl_is_here(loop) true

#endif

#endif
