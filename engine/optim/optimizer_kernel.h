/* What a device implements of an optimizer. Private to engine/optim/. */
#ifndef PLUMB_ENGINE_OPTIM_OPTIMIZER_KERNEL_H
#define PLUMB_ENGINE_OPTIM_OPTIMIZER_KERNEL_H

#include "engine/optim/optimizer.h"

enum { OPTIMIZER_BLOCK = 1 << 13 /* elements: a thread's unit of work */ };

/* How an element steps. The first states a kind has stand in this order of arrays. */
typedef enum { STEP_PLAIN, STEP_MOMENTUM, STEP_NESTEROV, STEP_ADAM, STEP_ADAGRAD, STEP_KINDS } StepKind;
typedef enum {
    STATE_MOMENTUM,
    STATE_FIRST_MOMENT,
    STATE_SECOND_MOMENT,
    STATE_SUM_OF_SQUARES,
    OPTIMIZER_STATES
} StateName;

/* A kind with its numbers: that of a group. */
typedef struct {
    StepKind kind;
    float decay, momentum, beta1, beta2, rest1, rest2, epsilon;
} StepRule;

/* What changes from step to step, one for each rule. It lies in device memory, so that work captured once is replayed
 * with other numbers. */
typedef struct {
    double gradient_scale;
    float learning_rate;
    float step_size;   /* adam: learning_rate / (1 - beta1^step) */
    float second_root; /* adam: sqrt(1 - beta2^step) */
} OptimizerScalars;

/* Elements of the flat arrays that step by one rule; the next segment begins where this one ends. */
typedef struct {
    int64_t end; /* a multiple of 16 */
    int32_t rule;
} Segment;

/* A table that is trained by rows. */
typedef struct {
    const int32_t *list; /* how many rows, which: row_sums.h */
    const float *gradient;
    float *parameters;     /* of the table */
    float *sum_of_squares; /* of the table; NULL: the rule has no state */
    int64_t most, columns;
    int32_t rule;
    double *partial; /* one a block of OPTIMIZER_BLOCK elements of the gradient */
} TableCall;

typedef struct {
    double clip_norm;
    const StepRule *rules; /* host; and in device memory: */
    const StepRule *device_rules;
    const OptimizerScalars *scalars; /* device */
    const Segment *segments;         /* device */
    int segment_count;
    int32_t segments_rule; /* of all, if there is one segment */
    int64_t count;         /* elements of each flat array, gaps included; a multiple of 16 */
    float *parameters;
    const float *gradients;
    float *state[OPTIMIZER_STATES]; /* NULL: no rule has it */
    double *partial;                /* one a block of OPTIMIZER_BLOCK elements, then those of the tables */
    int64_t partials;
    double *norm; /* [1] result: the norm of the scaled gradient before clipping; stays if not finite */
    const TableCall *table; /* host */
    int tables;
} OptimizerCall;

static inline int64_t optimizer_blocks(int64_t count)
{
    return (count + OPTIMIZER_BLOCK - 1) / OPTIMIZER_BLOCK;
}

/* The group that counts for a parameter; -1: none. */
int optimizer_group_of(const OptimizerOptions *, const char *parameter);

/* Enqueues one step. */
typedef Status OptimizerKernel(Device *, const OptimizerCall *);

OptimizerKernel optimizer_cpu;
/* NULL in a program that is linked without CUDA. */
OptimizerKernel optimizer_cuda __attribute__((weak));

#endif
