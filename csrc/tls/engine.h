/* engine.h - moves bytes into and out of TLS, in one of two ways.
 *
 * Direct: the SSL* inside the SSLObject reads received data and writes records
 * through a BIO of ours, with at most one copy. Otherwise: through methods of
 * the SSLObject and its MemoryBIOs. This is used if the library can't be
 * reached, if the context makes objects of another class, if it has a message
 * callback (only the methods raise its exceptions), and with
 * CLOOP_TLS=memorybio. If a program replaces the methods later, they are called
 * all the same, and use our BIO. */
#ifndef CL_TLS_ENGINE_H
#define CL_TLS_ENGINE_H

#include "tls/tls.h"

/* Results of reads and writes, besides a number of bytes. */
enum {
    CL_TLS_CLOSED = 0,  /* read: the peer sent close_notify */
    CL_TLS_AGAIN = -1,  /* TLS must receive something first */
    CL_TLS_FAILED = -2, /* an exception is set */
};

/* Checks whether the direct way is available; once per module. 0/-1 */
int cl_engine_setup(cl_tls_library *tls, PyObject *_ssl);

/* Creates the SSLObject. 0/-1 Runs Python. */
int cl_engine_open(TLSObject *self);

/* Releases everything, and discards unsent data. */
void cl_engine_close(TLSObject *self);

/* After cl_engine_close(), which any callback may call; before 3.11 also
 * before cl_engine_open(). */
static inline bool
cl_engine_is_closed(const TLSObject *self)
{
    return self->x_ssl == NULL && self->x_incoming == NULL;
}

/* Calls a method of the SSLObject without arguments. Returns 0, CL_TLS_AGAIN
 * or CL_TLS_FAILED. Runs Python. */
int cl_engine_call(TLSObject *self, PyObject *method);

/* Takes received data. If x_window is set to it, nothing is copied. 0/-1 */
int cl_engine_feed(TLSObject *self, const char *data, size_t size);

/* Received bytes that TLS has not read, and decrypted bytes that wait in it. */
size_t cl_engine_unread(const TLSObject *self);
size_t cl_engine_pending(const TLSObject *self);

/* Return the number of bytes, or one of the results above. Run Python. */
Py_ssize_t cl_engine_read(TLSObject *self, char *into, size_t size);
Py_ssize_t cl_engine_write(TLSObject *self, const char *data, size_t size);

#endif
