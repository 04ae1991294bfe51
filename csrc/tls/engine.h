/* engine.h - bytes into and out of TLS.
 *
 * Directly: the SSL* behind the SSLObject reads what was received and appends what
 * is to be sent through a BIO of ours, with a copy at most. Or through the methods
 * of the SSLObject and its MemoryBIOs: where the library can't be reached, where a
 * context makes objects of another class, where it has a callback for messages (an
 * exception of which only the methods raise), and with CLOOP_TLS=memorybio. */
#ifndef CL_TLS_ENGINE_H
#define CL_TLS_ENGINE_H

#include "tls/tls.h"

/* Results of reading and writing, beside a number of bytes. */
enum {
    CL_TLS_CLOSED = 0,  /* read: the peer has said that it sends no more */
    CL_TLS_AGAIN = -1,  /* TLS wants to receive something first */
    CL_TLS_FAILED = -2, /* an exception is set */
};

/* Looks for the direct way; once per module. 0/-1 */
int cl_engine_setup(cl_tls_library *tls, PyObject *_ssl);

/* Makes the SSLObject. 0/-1 */
int cl_engine_open(TLSObject *self);

/* Lets everything go. What the peer has not been sent is forgotten. */
void cl_engine_close(TLSObject *self);

/* Calls a method of the SSLObject that has no arguments: 0, CL_TLS_AGAIN or
 * CL_TLS_FAILED. Runs Python. */
int cl_engine_call(TLSObject *self, PyObject *method);

/* Takes what was received; keeps nothing of it if x_window is set to it. 0/-1 */
int cl_engine_feed(TLSObject *self, const char *data, size_t size);

/* How much of it was not read yet, and how much TLS has in hand. */
size_t cl_engine_unread(const TLSObject *self);
size_t cl_engine_pending(const TLSObject *self);

/* Run Python in the second way alone. */
Py_ssize_t cl_engine_read(TLSObject *self, char *into, size_t size);
Py_ssize_t cl_engine_write(TLSObject *self, const char *data, size_t size);

#endif
