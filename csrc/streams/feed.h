/* feed.h - feeds received data straight into asyncio's StreamReader.
 *
 * If the protocol and its reader are of our classes (streams.h), this has the
 * same effect as data_received() and feed_data(). */
#ifndef CL_STREAMS_FEED_H
#define CL_STREAMS_FEED_H

#include "base/compat.h"
#include "core/state.h"

/* protocol.data_received(data); `size` is not 0. Returns 1 if done, 0 if the
 * caller must call the method, -1 on error. Runs Python. */
int cl_feed(cl_state *st, PyObject *protocol, const char *data, size_t size);

/* Returns a new reference to the reader that would get the data, or NULL
 * without an exception. For cl_reader_feed() and cl_reader_lend(). */
PyObject *cl_feed_reader(cl_state *st, PyObject *protocol);

#endif
