/* What a plan consists of, for plan.c, which makes and runs it, and plan_look.c, which looks at it. */
#ifndef PLUMB_ENGINE_PLAN_PLAN_FIELDS_H
#define PLUMB_ENGINE_PLAN_PLAN_FIELDS_H

#include "engine/plan/exchange.h"
#include "engine/plan/layout.h"
#include "engine/plan/narrow_gradients.h"
#include "engine/plan/packed_parameters.h"
#include "engine/plan/plan.h"
#include "engine/plan/row_exchange.h"

/* A slice of the flat gradient, complete once node `ready` has run. */
typedef struct {
    int64_t first, count;
    int ready;
} Bucket;

struct Plan {
    const Graph *graph;
    Store *store;
    Device *device;
    Arena *arena;
    Collective *collective;
    PlanOptions options;
    Layout layout;
    int nodes, values;
    Call *call;   /* one a node */
    Cost *cost;   /* one a node */
    void **bound; /* one a value: the store's or the caller's memory; NULL: in the arena */
    bool *is_gradient;
    int arena_version; /* for which the calls' pointers are set; -1: none */
    Bucket *bucket;
    int bucket_count;
    Exchange *exchange; /* of the buckets; NULL without */
    char *rounded;   /* the store's parameters as BFLOAT16, made anew in each run; NULL: nobody wants them */
    Slice *rounding; /* those of them that are read so: of the flat array, in its order */
    int roundings;
    NarrowGradients *narrow; /* likewise gradients; NULL: none */
    bool gradients_missing;  /* some parameter of the store gets no gradient here */
    bool trains;             /* some parameter has a gradient */
    RowExchange *rows;       /* of the tables that are trained by rows; NULL: none */
    PackedParameters packed; /* what kernels keep of parameters */
    Value *reduced;
    size_t reduced_count, reduced_capacity;
    int micro_step, micro_steps;
    int prepared; /* nodes whose kernels are prepared */
    size_t scratch_bytes;
    double join_seconds;
    double *seconds; /* one a node, when profiling */
    int64_t runs;
    ProfileRow *row;
};

#endif
