/* Tests of ops by table. A row says how to build an op, with which shapes, and how a plain float64 program
 * computes the same; op_test_cases then, in float32 and bfloat16,
 *
 *   - builds the graph  loss = dot(op(inputs), upstream), differentiates and plans it on a device,
 *   - fills inputs, parameters, states and `upstream` with random numbers that the type can hold,
 *   - runs it twice, which must give the same bits (see chosen_by_timing),
 *   - compares the output, updated states, and the gradients of all inputs and parameters with the reference,
 * by the largest difference relative to the largest magnitude of the tensor,
 *   - and, once, compares the reference's gradient with finite differences of the reference itself.
 *
 * A row may instead name a golden case, which then gives inputs and expectations. */
#ifndef PLUMB_TESTS_OP_TEST_H
#define PLUMB_TESTS_OP_TEST_H

#include "engine/base/random.h"
#include "engine/graph/op.h"

enum { OP_TEST_INPUTS = 6, OP_TEST_TENSORS = 28 };

typedef struct OpCase OpCase;

/* A number for an element; NULL in a table: standard normal. */
typedef double OpFill(const OpCase *, const char *name, int64_t index, RandomStream *);

/* An input of the graph. */
typedef struct {
    const char *name; /* also in the golden case */
    int rank;
    int64_t extent[SHAPE_MAX_RANK];
    bool typed; /* has `type`, and no gradient is wanted; else it has the graph's compute type */
    DType type;
    OpFill *fill;
} OpInput;

/* A tensor as the reference sees it: dense doubles in our layout (NHWC, [out, height, width, in]). */
typedef struct {
    const char *name; /* of the input; "layer.weight" */
    Role role;
    Shape shape;
    double *data;     /* given; of states: before the run */
    double *gradient; /* of the loss: to be set by `gradient` */
    double *after;    /* of states: starts as data; to be updated by `reference` */
} OpTensor;

typedef struct {
    OpTensor in[OP_TEST_TENSORS]; /* the inputs in the table's order, then parameters and states in the order
                                     in which the builder made them */
    int in_count;
    Shape shape;      /* of the output */
    double *out;      /* to be set by `reference` */
    double *upstream; /* given: the gradient of the loss with respect to the output */
} OpReference;

struct OpCase {
    const char *name;
    Value (*build)(Graph *, const OpCase *, const Value in[]);
    const void *parameters;     /* of the builder and the reference: the row's own */
    OpInput in[OP_TEST_INPUTS]; /* up to the first without a name */
    void (*reference)(const OpCase *, OpReference *);
    /* NULL: finite differences for every element (small shapes, smooth functions). */
    void (*gradient)(const OpCase *, OpReference *);
    OpFill *fill_stored; /* parameters and states */
    GraphMode mode;      /* GRAPH_TRAIN unless said otherwise */
    bool no_gradient, float32_only;
    bool not_smooth; /* at the inputs that `fill` makes: no finite differences */
    bool packs;      /* PlanOptions.packs */
    /* On a GPU its kernels may be chosen by timing, and then ones whose sums change: the same bits are asked for
     * in a second round only, with DeviceNumerics.deterministic. */
    bool chosen_by_timing;
    double tolerance[2]; /* float32, bfloat16; 0: 1e-5, 2e-2 */
    int64_t clock[CLOCK_COUNT];
    /* A golden case: inputs by their names, param_NAME, NAME_before or NAME for states, upstream_gradient; expected are
     * `output` (NULL: "y"), grad_NAME, grad_param_NAME, NAME_after. The reference is then unused, and only float32 is run,
     * within the case's tolerance for each element. */
    const struct GoldenCase *golden;
    const char *output;
    bool
        channels_first; /* its files: (N, C, H, W) and (O, I, H, W) where the graph has NHWC and OHWI; or without H */
};

/* Fails the running test after all cases were tried, if one did not pass, and names those that did not. */
void op_test_cases(const OpCase cases[], int count, DeviceKind);

/* An op that its input "x" of this shape does not fit: the graph's error has this text. */
typedef struct {
    Shape shape;
    Value (*build)(Graph *, Value x);
    const char *text;
} OpError;
void op_test_errors(const OpError errors[], int count);

#endif
