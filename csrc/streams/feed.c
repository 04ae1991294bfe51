/* feed.c - see feed.h. */
#include "streams/feed.h"

#include "streams/reader.h"

/* Whether the program set its own data_received() on the protocol. */
static bool
is_overridden(cl_state *st, PyObject *protocol)
{
    PyObject *dict = Py_XNewRef(cl_streams_dict(protocol));
    bool found = dict == NULL ||
                 PyDict_GetItemWithError(
                     dict, cl_streams_of(st)->str_data_received) != NULL;
    Py_XDECREF(dict);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return true;
    }
    return found;
}

/* Whether data_received() can be done here. */
static bool
is_plain(cl_state *st, PyObject *protocol)
{
    return cl_guards_hold(protocol, &cl_streams_of(st)->ss_own_protocol,
                          &cl_streams_of(st)->ss_protocol) &&
           !is_overridden(st, protocol);
}

int
cl_feed(cl_state *st, PyObject *protocol, const char *data, size_t size)
{
    bool known;
    if (!is_plain(st, protocol))
        return 0;
    PyObject *reader = cl_streams_reader_of(st, protocol, &known);
    if (!known)
        return 0;
    if (reader == NULL)
        return 1; /* the program dropped the reader: nobody reads the data */
    int status = cl_reader_feed(st, reader, data, size);
    Py_DECREF(reader);
    return status;
}

PyObject *
cl_feed_reader(cl_state *st, PyObject *protocol)
{
    bool known;
    return is_plain(st, protocol) ? cl_streams_reader_of(st, protocol, &known)
                                  : NULL;
}
