/* reader.h - what a StreamReader of ours knows, in a struct instead of its __dict__.
 *
 * The struct is an object of its own, the only value in the reader's __dict__; the
 * class has descriptors of the names that asyncio uses (_buffer, _waiter, ...), so
 * that programs and asyncio's own methods find them, and set them as before. */
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
    /* Owned; anything a program may have put there; NULL: deleted. */
#define FIELD(name) PyObject *r_##name;
    CL_READER_FIELDS(FIELD)
#undef FIELD
    /* Received past the buffer, for one who waits for r_wanted bytes: they come before
     * what the buffer holds. Whoever looks at the buffer finds them there. */
    PyObject *r_direct; /* owned; bytes of that size, or NULL */
    Py_ssize_t r_filled;
    Py_ssize_t r_wanted; /* 0: nobody waits like that */
} cl_reader;

#ifdef CL_DEBUG
/* What was received past the buffer, between two operations. */
void cl_reader_check(const cl_reader *reader);
#endif

/* Descriptors, for the class. */
extern PyGetSetDef cl_reader_getset[];

/* Moves the attributes of a reader, whose __dict__ it is, into a struct: 1; 0 if there is
 * something unusual about them, -1 with an exception, and nothing was done. */
int cl_reader_take_over(cl_state *st, PyObject *dict);

/* The struct of an object that is exactly of our class and on which none of the
 * methods was replaced that are done here: borrowed, or NULL without an exception. */
cl_reader *cl_reader_find(cl_state *st, PyObject *self);

/* Whether the fields hold what asyncio puts there. Only then: */
bool cl_reader_is_plain(const cl_reader *reader);

static inline bool
cl_reader_at_eof(const cl_reader *reader)
{
    return reader->r_eof == Py_True;
}

static inline bool
cl_reader_is_paused(const cl_reader *reader)
{
    return reader->r_paused == Py_True;
}

/* How many bytes are buffered. */
static inline Py_ssize_t
cl_reader_size(const cl_reader *reader)
{
    cl_assert(reader->r_buffer != NULL &&
              PyByteArray_CheckExact(reader->r_buffer));
    return PyByteArray_GET_SIZE(reader->r_buffer);
}

Py_ssize_t cl_reader_limit(const cl_reader *reader);

/* As _wakeup_waiter(). Runs Python. 0/-1 */
int cl_reader_wake(cl_state *st, cl_reader *reader);

/* Lets the transport go on, which the reader had paused. Runs Python. 0/-1 */
int cl_reader_resume(cl_state *st, cl_reader *reader);

/* As feed_data(): 1, or 0 if asyncio's has to be called, -1 with an exception. */
int cl_reader_feed(cl_state *st, PyObject *self, const char *data,
                   size_t size);

/* Receiving without a copy, of what readexactly() waits for:
 * where the next bytes may be received to, of the reader that `self` is, and how many at
 * most; NULL if it does not wait so, or there is no memory. No Python may run until
 * cl_reader_filled() has been told how many came (> 0), which may wake the task. 0/-1 */
char *cl_reader_lend(cl_state *st, PyObject *self, size_t *room);
int cl_reader_filled(cl_state *st, PyObject *self, size_t count);

/* Asks for that, if it is worth it: an empty buffer and `size` bytes to wait for. */
void cl_reader_want(cl_reader *reader, Py_ssize_t size);

/* All that was wanted, a new reference; or NULL, and what came is in the buffer, or
 * there is no memory for it there: then an exception is set. */
PyObject *cl_reader_claim(cl_reader *reader);

/* Puts what came into the buffer; whoever looks at that calls it. 0, or -1 with an
 * exception and all as before. */
int cl_reader_flush(cl_reader *reader);

PyTypeObject *cl_reader_setup(PyObject *module, cl_state *st);

#endif
