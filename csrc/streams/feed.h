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

/* The reader to which that would go, a new reference; or NULL. For cl_reader_feed() and
 * cl_reader_lend(). */
PyObject *cl_feed_reader(cl_state *st, PyObject *protocol);

#endif
