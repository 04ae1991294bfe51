/* layer.h - what a layer (docs/architecture.md) keeps in the module's state and in loops.
 *
 * The struct of each layer begins with that of the layer below: cl_futures with cl_state,
 * cl_streams with cl_futures, and so on; that of the highest is what is allocated. So one
 * address is the state of all of them, and a layer reaches its fields without another
 * load (cl_futures_of(st)), while those below don't know that there is more. Loops are made
 * in the same way: cl_loop_futures begins with LoopObject.
 *
 * A layer lists its fields in X-macros, of which its struct and its tables are made. What
 * has to be done to such fields is done here for all layers. */
#ifndef CL_CORE_LAYER_H
#define CL_CORE_LAYER_H

#include "base/compat.h"

#include "core/node.h"
#include "core/state.h"

/* Rows of a layer's tables; `at` is the offset of a field, and a row with 0 ends the table.
 * The state owns what is in these fields. */

/* A type, and what makes it: a new reference or NULL. `shown` is its name in the module,
 * or NULL if it is not there. */
typedef struct {
    size_t at;
    PyTypeObject *(*make)(PyObject *module, cl_state *st);
    const char *shown;
} cl_type_row;

/* An attribute of a module, which may have dots in it; NULL instead of one that is missing,
 * if it is optional. */
typedef struct {
    size_t at;
    const char *module;
    const char *attribute;
    bool optional;
} cl_import_row;

/* An interned string; and a tuple of those that `text` has commas between. */
typedef struct {
    size_t at;
    const char *text;
} cl_name_row;

/* An object that the layer itself puts there; NULL until then. */
typedef struct {
    size_t at;
} cl_object_row;

/* How many objects of that kind are alive. */
typedef struct {
    size_t at;
    const char *name;
} cl_count_row;

typedef struct {
    int kind;
    const cl_node_ops *ops;
} cl_node_row;

/* What lists become in a table, of the struct that CL_LAYER_STRUCT names. */
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

/* Any table and any function may be NULL. */
struct cl_layer {
    const char *name;

    const cl_node_row *nodes; /* ends with ops NULL */
    const cl_import_row *imports;
    const cl_name_row *names;
    const cl_name_row *keywords;
    const cl_type_row *types;
    const cl_object_row *objects;
    const cl_count_row *counts;

    /* The module's state, beyond the tables: after they are filled, and before they are
     * visited or emptied. `clear` drops what may be in a cycle, and may come twice. */
    int (*setup)(PyObject *module, cl_state *st); /* 0/-1 */
    int (*traverse)(cl_state *st, visitproc visit, void *arg);
    void (*clear)(cl_state *st);
    void (*free)(cl_state *st);

    /* A loop: within its __init__(), 0/-1; and as above. */
    int (*loop_init)(LoopObject *loop);
    int (*loop_traverse)(LoopObject *loop, visitproc visit, void *arg);
    void (*loop_clear)(LoopObject *loop);
    void (*loop_free)(LoopObject *loop);
    /* The process is a child that was forked while the loop ran. */
    void (*loop_forked)(LoopObject *loop);
};

#define CL_FOR_EACH_LAYER(at, st) \
    for (const cl_layer *const *at = (st)->layers; at != NULL && *at != NULL; \
         at++)

/* Sets the state up, layer by layer from core on; `layers` ends with NULL. 0/-1 */
int cl_layers_setup(PyObject *module, cl_state *st,
                    const cl_layer *const *layers);

/* {name: how many are alive}, new reference. */
PyObject *cl_layers_counts(const cl_state *st);

/* For the module's definition. No other module has the first: it tells which modules are
 * cloop's. */
int cl_layers_traverse(PyObject *module, visitproc visit, void *arg);
int cl_layers_clear(PyObject *module);
void cl_layers_free(void *module);

extern const cl_layer cl_core_layer;

#endif
