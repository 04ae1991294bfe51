/* machine.h - the states of a TLS transport, and what moves it between them.
 *
 * The rules are those of asyncio's SSLProtocol, which changed with Python 3.11
 * (CL_HAS_TLS_SHUTDOWN_TIMEOUT): until then close_notify was no EOF to the
 * application, shutdown had no time limit, and pausing and water marks were those of
 * the transport below. */
#ifndef CL_TLS_MACHINE_H
#define CL_TLS_MACHINE_H

#include "tls/tls.h"

/* What the transport below tells its protocol. Each returns 0, or -1 with an exception
 * that is for that transport; all run Python. */
int cl_tls_connection_made(TLSObject *self, PyObject *raw);
int cl_tls_connection_lost(TLSObject *self, PyObject *exception);
int cl_tls_eof_received(TLSObject *self, bool *keep_open);
int cl_tls_pause_writing(TLSObject *self);
int cl_tls_resume_writing(TLSObject *self);

/* The transport below had paused writing before it was given to TLS; app_waits: and the
 * application waits to hear that it may go on. */
void cl_tls_take_over_pause(TLSObject *self, bool app_waits);

/* Whether it had can't be told: a resume_writing() without a pause will say so. */
void cl_tls_expect_resume(TLSObject *self);

/* What the application asks for. 0/-1 */
int cl_tls_start_shutdown(TLSObject *self);
int cl_tls_abort(TLSObject *self, PyObject *exception); /* or NULL */
int cl_tls_resume(TLSObject *self); /* the callback after resume_reading() */
int cl_tls_read(TLSObject *self);   /* deliver what has been received */
int cl_tls_control_raw_reading(TLSObject *self);

/* Lets go of what is kept for get_extra_info() alone. */
void cl_tls_forget(TLSObject *self);

/* The timers are due. 0/-1 */
int cl_tls_handshake_timed_out(TLSObject *self);
int cl_tls_shutdown_timed_out(TLSObject *self);

/* The exception that is set broke the connection: 0, or -1 if it, or one raised on
 * the way, must go further, as others than asyncio's `except Exception` takes do. */
int cl_tls_broken(TLSObject *self, const char *message);

/* method() of an object that may be NULL: 0/-1. */
int cl_tls_call(PyObject *object, PyObject *method);

/* -------- writing.c */

/* What asyncio calls a failure to write. */
#if CL_HAS_TLS_SHUTDOWN_TIMEOUT
#define CL_TLS_WRITE_FAILED "Fatal error on SSL protocol"
#else
#define CL_TLS_WRITE_FAILED "Fatal error on SSL transport"
#endif

/* From the transport below, as cl_net's tls_received. */
int cl_tls_received(PyObject *tls, const char *data, size_t size);

/* Whether anything may be written; logs it if that was tried too often. 1, 0 or -1 */
int cl_tls_takes(TLSObject *self);

/* Takes what the application writes, or drops it. 0/-1 */
int cl_tls_write(TLSObject *self, const char *data, size_t size);

/* What is held becomes records and is sent. Its failure is dealt with: 0, or -1
 * for what must leave the loop. */
int cl_tls_flush(TLSObject *self);

/* Hands the backlog to TLS, as far as it takes it, and sends. 0/-1 */
int cl_tls_write_backlog(TLSObject *self);

/* Sends what TLS has made, unless the transport below is paused. 0/-1 */
int cl_tls_process_outgoing(TLSObject *self);

/* The same even then: the transport below is about to close, when it has sent what it
 * holds. 0/-1 */
int cl_tls_send_rest(TLSObject *self);

/* pause_writing() and resume_writing() of the application, by the water marks. 0/-1 */
int cl_tls_control_writing(TLSObject *self);

/* Bytes that wait in user space, but for those in the transport below. */
size_t cl_tls_buffered(const TLSObject *self);

#endif
