/* server.c - see server.h. */
#include "net/server.h"

#include "net/state.h"

/* ----------------------------------------------------------------------- setup */

static const char *const server_names[] = {
    "_attach", "_detach", "__getattribute__", "_clients", "_sockets", NULL};
static const char *const set_names[] = {
    "add",  "discard",   "_commit_removals", "__getattribute__",
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
    PyObject *wanted =
        text == NULL ? NULL : PyUnicode_Split(text, NULL, -1);
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

static int
is_known(PyObject *server, PyObject *set)
{
    static const char *const texts[][3] = {
        {"_attach", "_sockets _clients add"},
        {"_detach", "_clients discard len _sockets _wakeup"},
        {"add", "_pending_removals _commit_removals data add ref _remove",
         "data add ref _remove"},
        {"discard", "_pending_removals _commit_removals data discard ref",
         "data discard ref"}};
    int known = 1;
    for (int i = 0; i < 4 && known > 0; i++) {
        PyObject *type = i < 2 ? server : set;
        known = uses(type, texts[i][0], texts[i][1]);
        if (known == 0 && texts[i][2] != NULL)
            known = uses(type, texts[i][0], texts[i][2]);
    }
    return known;
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
    if (!net->server_takes_transport || !PyType_Check(net->Server) ||
        !PyType_Check(st->WeakSet))
        return 0;
    int known = is_known(net->Server, st->WeakSet);
    if (known <= 0) {
        PyErr_Clear();
        return 0;
    }
    return cl_guard_init(&net->server_guard, (PyTypeObject *)net->Server,
                         server_names, NULL) < 0 ||
                   cl_guard_init(&net->set_guard,
                                 (PyTypeObject *)st->WeakSet, set_names,
                                 NULL) < 0
               ? -1
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

/* Puts the transport into the server's set, or removes it. Returns 1; 0 if the
 * server's own method must be called, without an exception, or -1. */
static int
update(cl_state *st, PyObject *server, PyObject *transport, bool attach)
{
    cl_net *net = cl_net_of(st);
    PyObject *fields = plain_dict(server, &net->server_guard, 2);
    PyObject *inside = NULL, *reference = NULL;
    int status = 0;
    if (fields == NULL)
        goto done;
    PyObject *sockets = item(fields, net->str__sockets);
    /* Without sockets, the last one that is detached wakes those who wait. */
    if (sockets == NULL || sockets == Py_None)
        goto done;
    inside = plain_dict(item(fields, net->str__clients), &net->set_guard, 3);
    if (inside == NULL)
        goto done;
    PyObject *data = item(inside, st->str_data);
    PyObject *removals = item(inside, net->str__pending_removals);
    PyObject *remove = item(inside, net->str__remove);
    if (data == NULL || remove == NULL || Py_TYPE(data) != &PySet_Type ||
        (removals != NULL &&
         (!PyList_CheckExact(removals) || PyList_GET_SIZE(removals) > 0)))
        goto done;
    Py_INCREF(data);
    reference = PyWeakref_NewRef(transport, attach ? remove : NULL);
    status = reference == NULL ? -1
             : attach          ? PySet_Add(data, reference)
                               : PySet_Discard(data, reference);
    Py_DECREF(data);
    status = status < 0 ? -1 : 1;
done:
    Py_XDECREF(fields);
    Py_XDECREF(inside);
    Py_XDECREF(reference);
    if (status == 0 && PyErr_Occurred())
        PyErr_Clear();
    return status;
}

static int
tell(cl_state *st, PyObject *server, PyObject *transport, bool attach)
{
    cl_net *net = cl_net_of(st);
    if (net->server_takes_transport) {
        int done = update(st, server, transport, attach);
        if (done != 0)
            return done < 0 ? -1 : 0;
    }
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
