/* feed.h - what a transport received goes straight into asyncio's StreamReader.
 *
 * When the protocol and its reader are of our classes (streams.h), data_received() and
 * feed_data() are done here, to the same effect. */
#ifndef CL_STREAMS_FEED_H
#define CL_STREAMS_FEED_H

#include "base/compat.h"
#include "core/state.h"

/* Does protocol.data_received(data): 1, or 0 if that has to be called, -1 with an
 * exception. `size` is not 0. Runs Python. */
int cl_feed(cl_state *st, PyObject *protocol, const char *data, size_t size);

/* The reader behind the protocol, if what it waits for may be received into it: a new
 * reference, with *into and *room of cl_reader_lend(); or NULL. */
PyObject *cl_feed_lend(cl_state *st, PyObject *protocol, char **into,
                       size_t *room);

#endif
