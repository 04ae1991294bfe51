/* flow.h - flow control of the write side: water marks, pause_writing() and
 * resume_writing(), and the warning about writes to a lost connection.
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

/* Parses the arguments of set_write_buffer_limits() and its like. `format` is
 * for PyArg_ParseTupleAndKeywords(); `standard` is the default high mark. 0/-1
 * Runs Python. */
int cl_flow_limits(const char *format, PyObject *args, PyObject *kwargs,
                   size_t standard, cl_limits *limits);
PyObject *cl_flow_limits_tuple(const cl_limits *limits); /* (low, high) */

/* The protocol to call, and what an error report names. All borrowed. */
typedef struct {
    LoopObject *loop;
    TransportObject *connection; /* enters its context, unless NULL */
    PyObject *protocol;          /* NULL once closed */
    PyObject *transport;         /* the transport that the program sees */
    PyObject *transports_protocol;
} cl_flow_target;

/* Calls protocol.pause_writing() or resume_writing(). Errors go to the loop's
 * exception handler. Returns -1 only for KeyboardInterrupt and SystemExit.
 * Runs Python. */
int cl_flow_tell(const cl_flow_target *target, bool pause);

/* The same for a transport of ours, if its write buffer is above the high or
 * below the low mark. 0/-1 Run Python. */
int cl_transport_maybe_pause(TransportObject *self);
int cl_transport_maybe_resume(TransportObject *self);

/* Counts a write to a lost connection, and logs a warning from the sixth on, or
 * as asyncio.constants says. 0/-1 Runs Python. */
int cl_flow_lost_write(LoopObject *loop, uint32_t *count, const char *message);

#endif
