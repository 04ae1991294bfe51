/* metrics.c - see metrics.h. */
#include "metrics.h"

#include "core/args.h"

typedef struct {
    PyObject_HEAD
    cl_reading m_reading;
} MetricsObject;

typedef struct {
    PyObject_HEAD
    cl_measured hg_measured;
} HistogramObject;

static const uint8_t what_it_does[] = {
#define WHAT(name, what, doc) what,
    CL_METRICS(WHAT)
#undef WHAT
};

static const char *const kind_names[CL_METRIC_KIND_COUNT] = {
#define NAME(id, name) [CL_KIND_##id] = name,
    CL_NET_KINDS(NAME)
#undef NAME
        [CL_METRIC_TLS] = "tls",
    [CL_METRIC_CHILD] = "child",
};

/* Neither refers to other objects, so they are not tracked. */
static void
dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ------------------------------------------------------------------- histogram */

static PyObject *
new_histogram(PyTypeObject *type, const cl_measured *measured)
{
    HistogramObject *self = (HistogramObject *)cl_type_alloc(type);
    if (self != NULL)
        self->hg_measured = *measured;
    return (PyObject *)self;
}

/* If the loop was reset between the readings, what has been counted since. */
static inline uint64_t
difference(uint64_t now, uint64_t before)
{
    return now >= before ? now - before : now;
}

static void
subtract_measured(cl_measured *now, const cl_measured *before)
{
    bool reset = now->total < before->total;
    for (int i = 0; i < CL_HISTOGRAM_BUCKETS && !reset; i++)
        now->counts[i] = difference(now->counts[i], before->counts[i]);
    if (!reset) {
        now->total -= before->total;
        now->sum_ns = difference(now->sum_ns, before->sum_ns);
    }
}

static PyObject *
Histogram_subtract(PyObject *now, PyObject *before)
{
    if (Py_TYPE(now) != Py_TYPE(before))
        Py_RETURN_NOTIMPLEMENTED;
    cl_measured measured = ((HistogramObject *)now)->hg_measured;
    subtract_measured(&measured, &((HistogramObject *)before)->hg_measured);
    return new_histogram(Py_TYPE(now), &measured);
}

static double
quantile(const cl_measured *measured, double q)
{
    double rank = q * (double)measured->total, below = 0;
    int last = 0;
    for (int i = 0; i < CL_HISTOGRAM_BUCKETS; i++) {
        double count = (double)measured->counts[i];
        if (count == 0)
            continue;
        last = i;
        if (below + count >= rank) {
            double low = i == 0 ? 0 : (double)((uint64_t)1 << i);
            double high = (double)((uint64_t)2 << i);
            return low + (high - low) * (rank - below) / count;
        }
        below += count;
    }
    /* Nothing was measured, or rounding. */
    return measured->total == 0 ? 0 : (double)((uint64_t)2 << last);
}

PyDoc_STRVAR(Histogram_quantile_doc,
             "quantile($self, q, /)\n--\n\n"
             "Return the duration, in ns, that the share q of all did not "
             "exceed: 0.5 is the\n"
             "median. It is right within a factor of two, and 0.0 if nothing "
             "was measured. Raises\n"
             "ValueError unless 0 <= q <= 1.");

static PyObject *
Histogram_quantile(HistogramObject *self, PyObject *number)
{
    double q = PyFloat_AsDouble(number);
    if (q == -1.0 && PyErr_Occurred())
        return NULL;
    if (!(q >= 0 && q <= 1)) {
        PyErr_Format(PyExc_ValueError, "q must be from 0 to 1, not %R",
                     number);
        return NULL;
    }
    return PyFloat_FromDouble(quantile(&self->hg_measured, q));
}

static PyObject *
counts_of(const cl_measured *measured, PyObject *container)
{
    for (int i = 0; container != NULL && i < CL_HISTOGRAM_BUCKETS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(measured->counts[i]);
        if (count == NULL)
            Py_CLEAR(container);
        else if (PyTuple_Check(container))
            PyTuple_SET_ITEM(container, i, count);
        else
            PyList_SET_ITEM(container, i, count);
    }
    return container;
}

static PyObject *
get_counts(HistogramObject *self, void *Py_UNUSED(closure))
{
    return counts_of(&self->hg_measured, PyTuple_New(CL_HISTOGRAM_BUCKETS));
}

static PyObject *
get_mean(HistogramObject *self, void *Py_UNUSED(closure))
{
    const cl_measured *measured = &self->hg_measured;
    return PyFloat_FromDouble(measured->total == 0
                                  ? 0
                                  : (double)measured->sum_ns /
                                        (double)measured->total);
}

static PyObject *
Histogram_repr(HistogramObject *self)
{
    const cl_measured *measured = &self->hg_measured;
    return PyUnicode_FromFormat(
        "<cloop.Histogram count=%llu p50=%lluns p99=%lluns>",
        (unsigned long long)measured->total,
        (unsigned long long)quantile(measured, 0.5),
        (unsigned long long)quantile(measured, 0.99));
}

static PyGetSetDef Histogram_getset[] = {
    {"counts", (getter)get_counts, NULL,
     "A tuple: how many took from 2**n to 2**(n + 1) - 1 ns, for n from 0 to "
     "36. The first has\n"
     "0 ns as well, and the last has all that is longer.",
     NULL},
    {"mean", (getter)get_mean, NULL,
     "The mean, in ns; 0.0 if nothing was measured.", NULL},
    {NULL}};

static PyMemberDef Histogram_members[] = {
    {"count", T_ULONGLONG,
     offsetof(HistogramObject, hg_measured) + offsetof(cl_measured, total),
     READONLY, "How many were measured."},
    {"sum", T_ULONGLONG,
     offsetof(HistogramObject, hg_measured) + offsetof(cl_measured, sum_ns),
     READONLY, "What they took in all, in ns."},
    {NULL}};

static PyMethodDef Histogram_methods[] = {{"quantile",
                                           (PyCFunction)Histogram_quantile,
                                           METH_O, Histogram_quantile_doc},
                                          {NULL}};

static PyType_Slot Histogram_slots[] = {
    {Py_tp_doc, "Durations by their order of magnitude; part of "
                "cloop.Metrics. One can be subtracted from\n"
                "a later one."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_repr, Histogram_repr},
    {Py_tp_getset, Histogram_getset},
    {Py_tp_members, Histogram_members},
    {Py_tp_methods, Histogram_methods},
    {Py_nb_subtract, Histogram_subtract},
    {0, NULL}};

static PyType_Spec Histogram_spec = {
    .name = "cloop.Histogram",
    .basicsize = sizeof(HistogramObject),
    .flags = Py_TPFLAGS_DEFAULT | CL_TPFLAGS_NO_NEW | CL_TPFLAGS_IMMUTABLE,
    .slots = Histogram_slots,
};

PyTypeObject *
cl_histogram_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &Histogram_spec, NULL, 0, 0);
}

/* --------------------------------------------------------------------- metrics */

PyObject *
cl_metrics_new(cl_state *st, const cl_reading *reading)
{
    PyTypeObject *type = cl_top_of(st)->MetricsType;
    MetricsObject *self = (MetricsObject *)cl_type_alloc(type);
    if (self != NULL)
        self->m_reading = *reading;
    return (PyObject *)self;
}

void
cl_reading_subtract(cl_reading *reading, const cl_reading *before)
{
    for (int i = 0; i < CL_METRIC_COUNT; i++) {
        if (what_it_does[i] == CL_COUNTS)
            reading->numbers[i] =
                difference(reading->numbers[i], before->numbers[i]);
    }
    for (int i = 0; i < CL_METRIC_HISTOGRAM_COUNT; i++)
        subtract_measured(&reading->measured[i], &before->measured[i]);
    reading->numbers[CL_METRIC_since_ns] = before->numbers[CL_METRIC_now_ns];
}

static PyObject *
Metrics_subtract(PyObject *now, PyObject *before)
{
    if (Py_TYPE(now) != Py_TYPE(before))
        Py_RETURN_NOTIMPLEMENTED;
    cl_state *st = cl_type_state(Py_TYPE(now), dealloc);
    if (st == NULL)
        return NULL;
    cl_reading reading = ((MetricsObject *)now)->m_reading;
    cl_reading_subtract(&reading, &((MetricsObject *)before)->m_reading);
    return cl_metrics_new(st, &reading);
}

static double
utilization(const cl_reading *reading)
{
    double busy = (double)reading->numbers[CL_METRIC_busy_ns];
    double idle = (double)reading->numbers[CL_METRIC_idle_ns];
    return busy + idle > 0 ? busy / (busy + idle) : 0;
}

static PyObject *
get_utilization(MetricsObject *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(utilization(&self->m_reading));
}

static PyObject *
get_connections(MetricsObject *self, void *Py_UNUSED(closure))
{
    PyObject *dict = PyDict_New();
    for (int i = 0; dict != NULL && i < CL_METRIC_KIND_COUNT; i++) {
        if (kind_names[i] == NULL)
            continue;
        PyObject *count = PyLong_FromUnsignedLongLong(self->m_reading.open[i]);
        if (count == NULL ||
            PyDict_SetItemString(dict, kind_names[i], count) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(count);
    }
    return dict;
}

static PyObject *
get_histogram(MetricsObject *self, void *closure)
{
    cl_state *st = cl_type_state(Py_TYPE(self), dealloc);
    return st == NULL
               ? NULL
               : new_histogram(cl_top_of(st)->HistogramType,
                               &self->m_reading.measured[(size_t)closure]);
}

/* Steals the value, which may be NULL. 0/-1 */
static int
put(PyObject *dict, const char *name, PyObject *value)
{
    int status = value == NULL ? -1 : PyDict_SetItemString(dict, name, value);
    Py_XDECREF(value);
    return status;
}

static const char *const names[] = {
#define NAME(name, what, doc) #name,
    CL_METRICS(NAME)
#undef NAME
};

static const char *const histogram_names[] = {
#define NAME(name, doc) #name,
    CL_METRICS_HISTOGRAMS(NAME)
#undef NAME
};

PyDoc_STRVAR(Metrics_as_dict_doc,
             "as_dict($self, /)\n--\n\n"
             "Return a dict of all attributes, which json can write: a "
             "histogram is the list of its\n"
             "counts.");

static PyObject *
Metrics_as_dict(MetricsObject *self, PyObject *Py_UNUSED(ignored))
{
    const cl_reading *reading = &self->m_reading;
    PyObject *dict = PyDict_New();
    int status = dict == NULL ? -1 : 0;
    for (int i = 0; status == 0 && i < CL_METRIC_COUNT; i++)
        status = put(dict, names[i],
                     PyLong_FromUnsignedLongLong(reading->numbers[i]));
    if (status == 0)
        status =
            put(dict, "utilization", PyFloat_FromDouble(utilization(reading)));
    if (status == 0)
        status = put(dict, "connections", get_connections(self, NULL));
    for (int i = 0; status == 0 && i < CL_METRIC_HISTOGRAM_COUNT; i++)
        status = put(dict, histogram_names[i],
                     counts_of(&reading->measured[i],
                               PyList_New(CL_HISTOGRAM_BUCKETS)));
    if (status < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *
Metrics_repr(MetricsObject *self)
{
    const uint64_t *numbers = self->m_reading.numbers;
    PyObject *share = PyFloat_FromDouble(utilization(&self->m_reading));
    PyObject *text =
        share == NULL
            ? NULL
            : PyUnicode_FromFormat(
                  "<cloop.Metrics utilization=%R turns=%llu callbacks=%llu>",
                  share, (unsigned long long)numbers[CL_METRIC_turns],
                  (unsigned long long)numbers[CL_METRIC_callbacks]);
    Py_XDECREF(share);
    return text;
}

static PyMemberDef Metrics_members[] = {
#define MEMBER(name, what, doc) \
    {#name, T_ULONGLONG, \
     offsetof(MetricsObject, m_reading) + offsetof(cl_reading, numbers) + \
         CL_METRIC_##name * sizeof(uint64_t), \
     READONLY, doc},
    CL_METRICS(MEMBER)
#undef MEMBER
        {NULL}};

static PyGetSetDef Metrics_getset[] = {
    {"utilization", (getter)get_utilization, NULL,
     "The share of the time that the loop was busy, from 0 to 1.", NULL},
    {"connections", (getter)get_connections, NULL,
     "Open transports by kind: a dict.", NULL},
#define GETTER(name, doc) \
    {#name, (getter)get_histogram, NULL, doc, (void *)CL_METRIC_##name},
    CL_METRICS_HISTOGRAMS(GETTER)
#undef GETTER
        {NULL}};

static PyMethodDef Metrics_methods[] = {{"as_dict",
                                         (PyCFunction)Metrics_as_dict,
                                         METH_NOARGS, Metrics_as_dict_doc},
                                        {NULL}};

static PyType_Slot Metrics_slots[] = {
    {Py_tp_doc, "A reading of a loop's counters, by loop.metrics(). "
                "Subtract an earlier one for those of\n"
                "the time between."},
    {Py_tp_dealloc, dealloc},
    {Py_tp_repr, Metrics_repr},
    {Py_tp_getset, Metrics_getset},
    {Py_tp_members, Metrics_members},
    {Py_tp_methods, Metrics_methods},
    {Py_nb_subtract, Metrics_subtract},
    {0, NULL}};

static PyType_Spec Metrics_spec = {
    .name = "cloop.Metrics",
    .basicsize = sizeof(MetricsObject),
    .flags = Py_TPFLAGS_DEFAULT | CL_TPFLAGS_NO_NEW | CL_TPFLAGS_IMMUTABLE,
    .slots = Metrics_slots,
};

PyTypeObject *
cl_metrics_setup(PyObject *module, cl_state *st)
{
    return cl_type_new(module, st, &Metrics_spec, NULL, 0, 0);
}
