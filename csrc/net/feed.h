/* feed.h - what a transport received goes straight into asyncio's StreamReader.
 *
 * When the protocol is exactly asyncio's StreamReaderProtocol and its reader exactly
 * asyncio's StreamReader, data_received() and feed_data() are done here, on the
 * reader's own attributes and to the same effect. Whatever a program has replaced, in
 * the classes or on the reader, runs instead. CLOOP_STREAMS=stock turns it off. */
#ifndef CL_NET_FEED_H
#define CL_NET_FEED_H

#include "base/compat.h"

#include "core/state.h"

/* Remembers what asyncio's methods are. 0/-1 */
int cl_feed_setup(cl_state *st);

/* Does protocol.data_received(data): 1, or 0 if that has to be called, -1 with an
 * exception. `size` is not 0. Runs Python. */
int cl_feed(cl_state *st, PyObject *protocol, const char *data, size_t size);

#endif
