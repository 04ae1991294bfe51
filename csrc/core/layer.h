/* layer.h - the parts of the module state, and of a loop, that each layer
 * (docs/architecture.md) owns.
 *
 * The struct of each layer begins with that of the layer below: cl_futures
 * with cl_state, cl_streams with cl_futures, and so on; the highest one is
 * allocated. So one address is the state of all layers. A layer reaches its
 * fields without another load (cl_futures_of(st)), and those below do not know
 * of it. Loops are built in the same way: cl_loop_futures begins with
 * LoopObject.
 *
 * A layer lists its fields in X-macros, which define its struct and its
 * tables. Setting up, visiting and clearing such fields is done here for all
 * layers. */
#ifndef CL_CORE_LAYER_H
#define CL_CORE_LAYER_H

#include "base/compat.h"

#include "core/node.h"
#include "core/state.h"

/* Rows of a layer's tables; `at` is the offset of a field, and 0 ends the
 * table. The state owns the values of these fields. */

/* A type, and the function that creates it (a new reference or NULL). `shown`
 * is its name in the module, or NULL. */
typedef struct {
    size_t at;
    PyTypeObject *(*make)(PyObject *module, cl_state *st);
    const char *shown;
} cl_type_row;

/* An attribute of a module; may have dots. If it is optional and missing, the
 * field is NULL. */
typedef struct {
    size_t at;
    const char *module;
    const char *attribute;
    bool optional;
} cl_import_row;

/* An interned string; and a tuple of strings, separated by commas in `text`. */
typedef struct {
    size_t at;
    const char *text;
} cl_name_row;

/* An object that the layer sets itself; NULL until then. */
typedef struct {
    size_t at;
} cl_object_row;

/* The number of live objects of a kind. */
typedef struct {
    size_t at;
    const char *name;
} cl_count_row;

typedef struct {
    int kind;
    const cl_node_ops *ops;
} cl_node_row;

/* The lists as tables, for the struct CL_LAYER_STRUCT. */
#define CL_TYPE_ROW(type, make, shown) \
    {offsetof(CL_LAYER_STRUCT, type##Type), make, shown},
#define CL_IMPORT_ROW(field, module, attribute) \
    {offsetof(CL_LAYER_STRUCT, field), module, attribute, false},
#define CL_OPTIONAL_ROW(field, module, attribute) \
    {offsetof(CL_LAYER_STRUCT, field), module, attribute, true},
#define CL_NAME_ROW(name) {offsetof(CL_LAYER_STRUCT, str_##name), #name},
#define CL_KEYWORDS_ROW(name, text) \
    {offsetof(CL_LAYER_STRUCT, kwnames_##name), text},
#define CL_OBJECT_ROW(field) {offsetof(CL_LAYER_STRUCT, field)},
#define CL_COUNT_ROW(field, name) \
    {offsetof(CL_LAYER_STRUCT, live_##field), name},

/* Any table or function may be NULL. */
struct cl_layer {
    const char *name;

    const cl_node_row *nodes; /* ends with ops NULL */
    const cl_import_row *imports;
    const cl_name_row *names;
    const cl_name_row *keywords;
    const cl_type_row *types;
    const cl_object_row *objects;
    const cl_count_row *counts;

    /* The module state, beyond the tables: set up after the tables, visited
     * and cleared before them. `clear` drops what may be in a cycle; it may be
     * called twice. */
    int (*setup)(PyObject *module, cl_state *st); /* 0/-1 */
    int (*traverse)(cl_state *st, visitproc visit, void *arg);
    void (*clear)(cl_state *st);
    void (*free)(cl_state *st);

    /* A loop: called in its __init__(), 0/-1; the others as above. */
    int (*loop_init)(LoopObject *loop);
    int (*loop_traverse)(LoopObject *loop, visitproc visit, void *arg);
    void (*loop_clear)(LoopObject *loop);
    void (*loop_free)(LoopObject *loop);
    /* The process was forked while the loop ran; this is the child. */
    void (*loop_forked)(LoopObject *loop);
};

#define CL_FOR_EACH_LAYER(at, st) \
    for (const cl_layer *const *at = (st)->layers; at != NULL && *at != NULL; \
         at++)

/* Sets up the state, layer by layer from core upwards; `layers` ends with
 * NULL. 0/-1 */
int cl_layers_setup(PyObject *module, cl_state *st,
                    const cl_layer *const *layers);

/* Returns a new dict {name: number of live objects}. */
PyObject *cl_layers_counts(const cl_state *st);

/* For the module definition. No other module has cl_layers_traverse, so it
 * identifies cloop's modules. */
int cl_layers_traverse(PyObject *module, visitproc visit, void *arg);
int cl_layers_clear(PyObject *module);
void cl_layers_free(void *module);

extern const cl_layer cl_core_layer;

#endif
