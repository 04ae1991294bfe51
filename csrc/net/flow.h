/* flow.h - flow control of what a program writes: water marks, pause_writing() and
 * resume_writing(), and what is said to who writes to a lost connection.
 *
 * https://docs.python.org/3/library/asyncio-protocol.html#asyncio.WriteTransport */
#ifndef CL_NET_FLOW_H
#define CL_NET_FLOW_H

#include "base/compat.h"

typedef struct LoopObject LoopObject;
typedef struct TransportObject TransportObject;

/* Water marks, in bytes. */
typedef struct {
    size_t high;
    size_t low;
} cl_limits;

/* What set_write_buffer_limits() and its like do with their arguments; `format` is
 * PyArg_ParseTupleAndKeywords()'s, `standard` the high mark if none is given. 0/-1 */
int cl_flow_limits(const char *format, PyObject *args, PyObject *kwargs,
                   size_t standard, cl_limits *limits);
PyObject *cl_flow_limits_tuple(const cl_limits *limits); /* (low, high) */

/* Whom to tell, and what a report of it names; borrowed. */
typedef struct {
    LoopObject *loop;
    TransportObject *connection; /* whose context it is, or NULL */
    PyObject *protocol;          /* or NULL: it is gone */
    PyObject *transport;         /* what the program knows as the transport */
    PyObject *transports_protocol;
} cl_flow_target;

/* protocol.pause_writing(), or resume_writing(). What it raises is reported: 0, or -1 for
 * what must leave the loop. */
int cl_flow_tell(const cl_flow_target *target, bool pause);

/* The same for a transport of ours, if it is above or below its water marks. 0/-1 */
int cl_transport_maybe_pause(TransportObject *self);
int cl_transport_maybe_resume(TransportObject *self);

/* Counts a write to what is lost; from the sixth on it is logged as a warning. 0/-1 */
int cl_flow_lost_write(LoopObject *loop, uint32_t *count, const char *message);

#endif
