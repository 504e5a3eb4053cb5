/* What the files of engine/graph share. */
#ifndef PLUMB_ENGINE_GRAPH_GRAPH_INTERNAL_H
#define PLUMB_ENGINE_GRAPH_GRAPH_INTERNAL_H

#include "engine/graph/graph.h"

enum { GRAPH_MAX_DEPTH = 32, GRAPH_MAX_SCOPE = 512 };

typedef struct {
    Shape shape;
    Role role;
    Init init;
    FileLayout file_layout;
    FileNames file_names;
    int64_t zero_row; /* -1: none */
    TrainingKind training;
    const char *name;
    int producer, output_index;
    bool kept, wanted, external, transient;
    Value gradient;
} ValueInfo;

struct Graph {
    GraphMode mode;
    DType compute;
    Status status;               /* the first error */
    char scope[GRAPH_MAX_SCOPE]; /* current, dotted */
    size_t scope_length[GRAPH_MAX_DEPTH];
    int depth;
    Value clock;
    ValueInfo *value;
    size_t value_count, value_capacity;
    Node **node;
    size_t node_count, node_capacity;
    void **owned; /* all other memory */
    size_t owned_count, owned_capacity;
    bool differentiating;
    int differentiated_node; /* whose gradient rule is being called */
};

/* NO_VALUE after an error. */
Value graph_new_value(Graph *, Role, Shape, const char *name);
void graph_stick(Graph *, Status);
void *graph_allocate(Graph *, size_t bytes);

#endif
