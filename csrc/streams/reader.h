/* reader.h - the fields of our StreamReader, in a struct instead of its
 * __dict__.
 *
 * The struct is an object of its own, and the only value in the reader's
 * __dict__. The class has descriptors with asyncio's names (_buffer, _waiter,
 * ...), so programs and asyncio's own methods can read and set the fields as
 * before. */
#ifndef CL_STREAMS_READER_H
#define CL_STREAMS_READER_H

#include "base/compat.h"
#include "streams/streams.h"

/* The attributes of asyncio.StreamReader, in the order of its __init__(). */
#define CL_READER_FIELDS(X) \
    X(limit) \
    X(loop) X(buffer) X(eof) X(waiter) X(exception) X(transport) X(paused)

typedef struct {
    PyObject_HEAD
    /* Owned; the program may set any object. NULL if deleted. */
#define FIELD(name) PyObject *rd_##name;
    CL_READER_FIELDS(FIELD)
#undef FIELD
    /* Data of a read that waits for rd_wanted bytes, received without the
     * buffer. It comes before the data in the buffer, and is moved there when
     * somebody looks. */
    PyObject *rd_direct; /* owned bytes object of that size, or NULL */
    Py_ssize_t rd_filled;
    Py_ssize_t rd_wanted; /* 0: no read waits like this */
} ReaderObject;

#ifdef CL_DEBUG
/* What was received past the buffer, between two operations. */
void cl_reader_check(const ReaderObject *reader);
#endif

/* Descriptors, for the class. */
extern PyGetSetDef cl_reader_getset[];

/* Moves a reader's attributes from its __dict__ into a struct. Returns 1; 0 if
 * something about them is unusual, -1 on error, and then nothing has changed. */
int cl_reader_take_over(cl_state *st, PyObject *dict);

/* Returns a reader of our class, as asyncio.StreamReader(limit, loop) of a loop
 * that is not in debug mode. Only if cl_reader_is_fresh(). */
PyObject *cl_reader_make(cl_state *st, PyObject *limit, PyObject *loop);

/* Whether the reader, of asyncio's class, has just been made, and is like those
 * of cl_reader_make(). */
bool cl_reader_is_fresh(cl_state *st, PyObject *self, PyObject *limit,
                        PyObject *loop);

/* Returns the struct of a reader, borrowed; NULL without an exception unless
 * the reader is exactly of our class and has none of its methods replaced. */
ReaderObject *cl_reader_find(cl_state *st, PyObject *self);

/* Whether all fields have the types that asyncio gives them. The functions
 * below require it. */
bool cl_reader_is_plain(const ReaderObject *reader);

static inline bool
cl_reader_at_eof(const ReaderObject *reader)
{
    return reader->rd_eof == Py_True;
}

static inline bool
cl_reader_is_paused(const ReaderObject *reader)
{
    return reader->rd_paused == Py_True;
}

/* The number of buffered bytes. */
static inline Py_ssize_t
cl_reader_size(const ReaderObject *reader)
{
    cl_assert(reader->rd_buffer != NULL &&
              PyByteArray_CheckExact(reader->rd_buffer));
    return PyByteArray_GET_SIZE(reader->rd_buffer);
}

Py_ssize_t cl_reader_limit(const ReaderObject *reader);

/* _wakeup_waiter(). 0/-1 Runs Python. */
int cl_reader_wake(cl_state *st, ReaderObject *reader);

/* Resumes a transport that the reader paused. 0/-1 Runs Python. */
int cl_reader_resume(cl_state *st, ReaderObject *reader);

/* feed_data(). Returns 1 if done, 0 if the caller must call asyncio's method,
 * -1 on error. Runs Python. */
int cl_reader_feed(cl_state *st, PyObject *self, const char *data,
                   size_t size);

/* Zero-copy receive for readexactly(). lend() returns where to receive the
 * next bytes, and in *room how many at most; NULL if no read waits for them,
 * or without memory. No Python code may run before filled() is told how many
 * came (> 0). filled() may wake the task. 0/-1 */
char *cl_reader_lend(cl_state *st, PyObject *self, size_t *room);
int cl_reader_filled(cl_state *st, PyObject *self, size_t count);

/* Asks for a zero-copy receive of `size` bytes, if that is worth it and the
 * buffer is empty. */
void cl_reader_want(ReaderObject *reader, Py_ssize_t size);

/* Returns the complete message, a new reference. Otherwise NULL: what was
 * received is now in the buffer, or an exception is set because there is no
 * memory. */
PyObject *cl_reader_claim(ReaderObject *reader);

/* Moves directly received data into the buffer. Call it before looking at the
 * buffer. 0, or -1 with an exception and nothing changed. */
int cl_reader_flush(ReaderObject *reader);

PyTypeObject *cl_reader_setup(PyObject *module, cl_state *st);

#endif
