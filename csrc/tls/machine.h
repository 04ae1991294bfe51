/* machine.h - the states of a TLS transport, and their transitions.
 *
 * They follow asyncio's SSLProtocol, which changed in Python 3.11
 * (CL_HAS_TLS_SHUTDOWN_TIMEOUT). Before that, the application saw no EOF at
 * close_notify, shutdown had no timeout, and the transport below did pausing
 * and flow control. */
#ifndef CL_TLS_MACHINE_H
#define CL_TLS_MACHINE_H

#include "tls/tls.h"

/* The protocol methods that the transport below calls. They return 0, or -1
 * with an exception for that transport. Run Python. */
int cl_tls_connection_made(TLSObject *self, PyObject *raw);
int cl_tls_connection_lost(TLSObject *self, PyObject *exception);
int cl_tls_eof_received(TLSObject *self, bool *keep_open);
int cl_tls_pause_writing(TLSObject *self);
int cl_tls_resume_writing(TLSObject *self);

/* The transport below paused writing before start_tls(). If `app_waits`, the
 * application expects resume_writing(). */
void cl_tls_take_over_pause(TLSObject *self, bool app_waits);

/* Whether it paused is unknown: a resume_writing() without a pause will tell. */
void cl_tls_expect_resume(TLSObject *self);

/* Requests of the application. 0/-1 Run Python. */
int cl_tls_start_shutdown(TLSObject *self);
int cl_tls_close(TLSObject *self);
int cl_tls_abort(TLSObject *self, PyObject *exception); /* may be NULL */
int cl_tls_resume(TLSObject *self); /* scheduled by resume_reading() */
int cl_tls_read(TLSObject *self);   /* deliver received data */
int cl_tls_control_raw_reading(TLSObject *self);

/* Drops the transport below. */
void cl_tls_drop_raw(TLSObject *self);

/* Releases what only get_extra_info() needs. */
void cl_tls_forget(TLSObject *self);

/* The timers expired. 0/-1 Run Python. */
int cl_tls_handshake_timed_out(TLSObject *self);
int cl_tls_shutdown_timed_out(TLSObject *self);

/* The exception that is set broke the connection. Returns 0, or -1 for
 * exceptions that asyncio's `except Exception` does not catch. Runs Python. */
int cl_tls_broken(TLSObject *self, const char *message);

/* Calls a method without arguments; `object` may be NULL. 0/-1 Runs Python. */
int cl_tls_call(PyObject *object, PyObject *method);

/* -------- writing.c */

/* asyncio's message for a failed write. */
#if CL_HAS_TLS_SHUTDOWN_TIMEOUT
#define CL_TLS_WRITE_FAILED "Fatal error on SSL protocol"
#else
#define CL_TLS_WRITE_FAILED "Fatal error on SSL transport"
#endif

/* From the transport below, as cl_net's tls_received. */
int cl_tls_received(PyObject *tls, const char *data, size_t size);

/* Returns 1 if the application may write, 0 if not, -1 on error. Logs repeated
 * attempts. Runs Python. */
int cl_tls_takes(TLSObject *self);

/* Takes what the application writes, or drops it. 0/-1 Runs Python. */
int cl_tls_write(TLSObject *self, const char *data, size_t size);

/* Encrypts and sends held bytes; deals with errors. Returns -1 only for
 * KeyboardInterrupt and SystemExit. Runs Python. */
int cl_tls_flush(TLSObject *self);

/* Encrypts as much of the backlog as TLS takes, and sends it. 0/-1 Runs
 * Python. */
int cl_tls_write_backlog(TLSObject *self);

/* Sends pending records, unless the transport below is paused. 0/-1 Runs
 * Python. */
int cl_tls_process_outgoing(TLSObject *self);

/* The same even if it is paused: the transport below is about to close after
 * it has sent its write buffer. Until then the application is not told to resume.
 * 0/-1 Runs Python. */
int cl_tls_send_rest(TLSObject *self);

/* Calls the application's pause_writing() or resume_writing(), if a water mark
 * was passed. 0/-1 Runs Python. */
int cl_tls_control_writing(TLSObject *self);

/* Bytes in the write buffer, without that of the transport below. */
size_t cl_tls_write_buffer_size(const TLSObject *self);

/* For metrics(): the write buffer may have changed. */
void cl_tls_count_buffered(TLSObject *self);

#endif
