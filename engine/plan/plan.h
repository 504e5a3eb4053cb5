/* A plan: a graph made ready for a device. It decides lifetimes and offsets in one arena, what shares memory,
 * when each gradient bucket is complete, and prepares every kernel. One plan a batch shape and mode; all
 * plans of a process share a store and an arena sized to the largest, so they must not run at the same time.
 */
#ifndef PLUMB_ENGINE_PLAN_PLAN_H
#define PLUMB_ENGINE_PLAN_PLAN_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "engine/graph/graph.h"
#include "engine/graph/op.h"
#include "engine/plan/arena.h"
#include "engine/plan/store.h"

typedef struct {
    int64_t bucket_bytes; /* gradients are reduced in slices of at least this size; 0: 4 MiB */
    DType gradient_type;  /* in which they are reduced: FLOAT32, or BFLOAT16 for half the traffic */
    bool share_memory; /* reuse memory of dead values, alias concat/slice, run in place; false: debugging */
    bool profile;      /* time every node (plan_profile) */
    bool
        packs; /* kernels may keep parameters in forms of their own: these change only where store_changed says so */
} PlanOptions;
#define PLAN_DEFAULTS ((PlanOptions){.share_memory = true})

typedef struct Plan Plan;
/* The graph, store, arena and collective must outlive the plan. */
CHECKED Status plan_create(const Graph *, Store *, Arena *, Collective *, PlanOptions, Plan **);
void plan_free(Plan *); /* NULL is allowed */

/* Device memory of an input or a kept result; valid until another plan of the arena is created or run.
 * An input's contents must be written before each run. */
void *plan_data(Plan *, Value);
/* Reads input `value` from caller's device memory from now on (no copy); dense. */
void plan_bind(Plan *, Value, void *data);

/* Runs all nodes. With gradients: each bucket's reduction is enqueued as soon as its last gradient is there
 * and all are joined at the end. The span of sums (plan_reduce) travels with them. */
CHECKED Status plan_run(Plan *);

/* Gradient accumulation: 0 (normal), or this run is micro-step `index` of `count`: gradients of all of
 * them are added in the store and reduced once, in the last. */
void plan_set_micro_step(Plan *, int index, int count);

/* A kept float32/float64/int64 result that is to be summed over ranks at the end of each run (loss and weight
 * sums). */
CHECKED Status plan_reduce(Plan *, Value);

/* Checks kept results and gradients for NaN and infinity after a run: STATUS_NUMERIC naming the first tensor
 * in execution order (kept results first, then gradients in flat order). After a micro-step that reduced no gradients it
 * says what is this rank's own: sums over ranks are left out. */
CHECKED Status plan_check_finite(Plan *);

typedef struct {
    size_t arena_bytes;  /* what the plan needs */
    size_t tensor_bytes; /* the sum of all its results, had each its own memory */
    size_t scratch_bytes;
    size_t parameter_bytes, gradient_bytes, state_bytes;
    int nodes, in_place, views, buckets;
    double flops, bytes; /* of one run */
} PlanReport;
PlanReport plan_report(const Plan *);

/* Seconds and cost by (op, phase) since the plan was made; count rows; owned by the plan. */
typedef struct {
    const char *op;
    Phase phase;
    int nodes;
    int64_t runs;
    double seconds, flops, bytes;
} ProfileRow;
int plan_profile(Plan *, const ProfileRow **rows);
/* Seconds spent at the end of runs in waiting for reductions. */
double plan_join_seconds(const Plan *);

#endif
