/* server.c - see server.h. */
#include "net/server.h"

#include <limits.h>

#include "net/state.h"

/* ----------------------------------------------------------------------- setup */

static const char *const server_names[] = {
    "_attach",       "_detach", "__getattribute__", "_clients", "_sockets",
    "_active_count", NULL};
static const char *const set_names[] = {
    "add",  "discard", "_commit_removals",  "__getattribute__",
    "data", "_remove", "_pending_removals", NULL};

/* Returns an attribute of a class's function, or NULL with an exception. */
static PyObject *
of_code(PyObject *type, const char *function, const char *attribute)
{
    PyObject *found = PyObject_GetAttrString(type, function);
    PyObject *code =
        found == NULL ? NULL : PyObject_GetAttrString(found, "__code__");
    PyObject *value =
        code == NULL ? NULL : PyObject_GetAttrString(code, attribute);
    Py_XDECREF(found);
    Py_XDECREF(code);
    return value;
}

/* Whether the function uses exactly these names, in this order: 1, 0, -1. */
static int
uses(PyObject *type, const char *function, const char *names)
{
    PyObject *used = of_code(type, function, "co_names");
    PyObject *text = PyUnicode_FromString(names);
    PyObject *wanted = text == NULL ? NULL : PyUnicode_Split(text, NULL, -1);
    PyObject *list = used == NULL ? NULL : PySequence_List(used);
    int same = wanted == NULL || list == NULL
                   ? -1
                   : PyObject_RichCompareBool(list, wanted, Py_EQ);
    Py_XDECREF(used);
    Py_XDECREF(text);
    Py_XDECREF(wanted);
    Py_XDECREF(list);
    return same;
}

typedef struct {
    const char *function;
    const char *names; /* or the next ones */
    const char *or_names;
} text;

/* Up to 3.12: a number. 3.8 also has the name of what assert raises. */
static const text counting[] = {
    {"_attach", "_sockets _active_count",
     "_sockets AssertionError _active_count"},
    {"_detach", "_active_count _sockets _wakeup",
     "_active_count AssertionError _sockets _wakeup"},
    {NULL, NULL, NULL}};

/* From 3.13 on: a set. */
static const text collecting[] = {
    {"_attach", "_sockets _clients add", NULL},
    {"_detach", "_clients discard len _sockets _wakeup", NULL},
    {NULL, NULL, NULL}};

static const text in_set[] = {
    {"add", "_pending_removals _commit_removals data add ref _remove",
     "data add ref _remove"},
    {"discard", "_pending_removals _commit_removals data discard ref",
     "data discard ref"},
    {NULL, NULL, NULL}};

/* Whether the functions of a class have the texts. Clears exceptions. */
static bool
are_known(PyObject *type, const text *texts)
{
    int known = PyType_Check(type);
    for (; texts->function != NULL && known > 0; texts++) {
        known = uses(type, texts->function, texts->names);
        if (known == 0 && texts->or_names != NULL)
            known = uses(type, texts->function, texts->or_names);
    }
    PyErr_Clear();
    return known > 0;
}

int
cl_server_setup(cl_state *st)
{
    cl_net *net = cl_net_of(st);
    PyObject *count = of_code(net->Server, "_attach", "co_argcount");
    if (count == NULL)
        return -1;
    net->server_takes_transport = PyLong_AsLong(count) == 2;
    Py_DECREF(count);
    bool known = net->server_takes_transport
                     ? are_known(net->Server, collecting) &&
                           are_known(st->WeakSet, in_set)
                     : are_known(net->Server, counting);
    if (CL_FREE_THREADED || !known) /* then the guards never hold */
        return 0;
    if (cl_guard_init(&net->server_guard, (PyTypeObject *)net->Server,
                      server_names, NULL) < 0)
        return -1;
    return net->server_takes_transport
               ? cl_guard_init(&net->set_guard, (PyTypeObject *)st->WeakSet,
                               set_names, NULL)
               : 0;
}

/* ---------------------------------------------------------------- connections */

/* Returns the value in an object's __dict__, borrowed, or NULL. */
static PyObject *
item(PyObject *dict, PyObject *name)
{
    return PyDict_GetItemWithError(dict, name);
}

/* Whether the object is exactly of the guard's class, and has no method of its
 * own. Its __dict__, a new reference, or NULL. */
static PyObject *
plain_dict(PyObject *object, cl_guard *guard, int methods)
{
    if (object == NULL || Py_TYPE(object) != guard->g_type ||
        !cl_guard_holds(guard))
        return NULL;
    PyObject *dict = PyObject_GenericGetDict(object, NULL);
    for (int i = 0; dict != NULL && i < methods; i++) {
        if (PyDict_Contains(dict, guard->g_keys[i]) != 0)
            Py_CLEAR(dict);
    }
    return dict;
}

/* Counts a connection. Returns 1; 0 for the server's own method, or -1. */
static int
count_one(cl_net *net, PyObject *fields, bool attach)
{
    PyObject *count = item(fields, net->str__active_count);
    int overflow;
    if (count == NULL || !PyLong_CheckExact(count))
        return 0;
    long number = PyLong_AsLongAndOverflow(count, &overflow);
    if (overflow != 0 || number < !attach || number == LONG_MAX)
        return 0;
    count = PyLong_FromLong(attach ? number + 1 : number - 1);
    int status = count == NULL
                     ? -1
                     : PyDict_SetItem(fields, net->str__active_count, count);
    Py_XDECREF(count);
    return status < 0 ? -1 : 1;
}

/* The same with the server's set. */
static int
collect_one(cl_state *st, PyObject *fields, PyObject *transport, bool attach)
{
    cl_net *net = cl_net_of(st);
    PyObject *inside =
        plain_dict(item(fields, net->str__clients), &net->set_guard, 3);
    if (inside == NULL)
        return 0;
    PyObject *data = item(inside, st->str_data), *reference = NULL;
    PyObject *removals = item(inside, net->str__pending_removals);
    PyObject *remove = item(inside, net->str__remove);
    int status = 0;
    if (data != NULL && remove != NULL && Py_TYPE(data) == &PySet_Type &&
        (removals == NULL ||
         (PyList_CheckExact(removals) && PyList_GET_SIZE(removals) == 0))) {
        Py_INCREF(data);
        reference = PyWeakref_NewRef(transport, attach ? remove : NULL);
        status = reference == NULL ? -1
                 : attach          ? PySet_Add(data, reference)
                                   : PySet_Discard(data, reference);
        status = status < 0 ? -1 : 1;
        Py_XDECREF(reference);
        Py_DECREF(data);
    }
    Py_DECREF(inside);
    return status;
}

/* Returns 1; 0 if the server's own method must be called, without an
 * exception, or -1. */
static int
update(cl_state *st, PyObject *server, PyObject *transport, bool attach)
{
    cl_net *net = cl_net_of(st);
    PyObject *fields = plain_dict(server, &net->server_guard, 2);
    PyObject *sockets =
        fields == NULL ? NULL : item(fields, net->str__sockets);
    int status = 0;
    /* Without sockets, the last one that is detached wakes those who wait. */
    if (sockets != NULL && sockets != Py_None)
        status = net->server_takes_transport
                     ? collect_one(st, fields, transport, attach)
                     : count_one(net, fields, attach);
    Py_XDECREF(fields);
    if (status == 0)
        PyErr_Clear();
    return status;
}

static int
tell(cl_state *st, PyObject *server, PyObject *transport, bool attach)
{
    cl_net *net = cl_net_of(st);
    int done = update(st, server, transport, attach);
    if (done != 0)
        return done < 0 ? -1 : 0;
    PyObject *args[] = {server, transport};
    PyObject *result = PyObject_VectorcallMethod(
        attach ? net->str__attach : net->str__detach, args,
        net->server_takes_transport ? 2 : 1, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cl_server_attach(cl_state *st, PyObject *server, PyObject *transport)
{
    return tell(st, server, transport, true);
}

int
cl_server_detach(cl_state *st, PyObject *server, PyObject *transport)
{
    return tell(st, server, transport, false);
}
