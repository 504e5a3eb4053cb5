/* Optimizers on the CPU: memory bound, so two passes over the flat arrays are all there is: one over the
 * gradients for their norm, which must be known before the first element can step, and one that clips, decays
 * and steps.
 *
 * Blocks have a fixed size and their sums of squares are added in order, in double: the norm, and with it
 * every parameter, has the same bits at any number of threads. */
#include "engine/optim/optimizer_kernel.h"

#include <math.h>

/* One block: everything a rule needs, scalars loaded. */
typedef struct {
    int64_t count;
    float *restrict parameter;
    const float *restrict gradient;
    float *restrict state0, *restrict state1;
    float gradient_factor; /* scale times clipping */
} Block;

typedef void BlockStep(const StepRule *, const OptimizerScalars *, const Block *);

/* Sixteen sums side by side, in an order that is written down rather than left to the compiler. */
static double sum_of_squares(const float *gradient, int64_t count)
{
    enum { PARTIAL_SUMS = 16 };
    double sum[PARTIAL_SUMS] = {0};
    int64_t i = 0;
    for (; i + PARTIAL_SUMS <= count; i += PARTIAL_SUMS)
        for (int lane = 0; lane < PARTIAL_SUMS; ++lane)
            sum[lane] += (double)gradient[i + lane] * (double)gradient[i + lane];
    for (int lane = 0; i < count; ++i, ++lane)
        sum[lane] += (double)gradient[i] * (double)gradient[i];
    for (int half = PARTIAL_SUMS / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane)
            sum[lane] += sum[lane + half];
    return sum[0];
}

static void plain_block(const StepRule *rule, const OptimizerScalars *scalars, const Block *block)
{
    const float decay = rule->decay, rate = scalars->learning_rate, factor = block->gradient_factor;
    const float *restrict gradient = block->gradient;
    float *restrict parameter = block->parameter;
    for (int64_t i = 0; i < block->count; ++i)
        parameter[i] -= rate * (gradient[i] * factor + decay * parameter[i]);
}

/* torch.optim.SGD with dampening 0. The buffer starts at zero, so the first step takes the gradient as it is.
 */
static void momentum_block(const StepRule *rule, const OptimizerScalars *scalars, const Block *block)
{
    const float decay = rule->decay, momentum = rule->momentum;
    const float rate = scalars->learning_rate, factor = block->gradient_factor;
    const float *restrict gradient = block->gradient;
    float *restrict parameter = block->parameter, *restrict buffer = block->state0;
    for (int64_t i = 0; i < block->count; ++i) {
        buffer[i] = momentum * buffer[i] + (gradient[i] * factor + decay * parameter[i]);
        parameter[i] -= rate * buffer[i];
    }
}

static void nesterov_block(const StepRule *rule, const OptimizerScalars *scalars, const Block *block)
{
    const float decay = rule->decay, momentum = rule->momentum;
    const float rate = scalars->learning_rate, factor = block->gradient_factor;
    const float *restrict gradient = block->gradient;
    float *restrict parameter = block->parameter, *restrict buffer = block->state0;
    for (int64_t i = 0; i < block->count; ++i) {
        const float g = gradient[i] * factor + decay * parameter[i];
        buffer[i] = momentum * buffer[i] + g;
        parameter[i] -= rate * (g + momentum * buffer[i]);
    }
}

/* torch.optim.Adam: weight decay is a term of the gradient (L2, not AdamW). */
static void adam_block(const StepRule *rule, const OptimizerScalars *scalars, const Block *block)
{
    const float decay = rule->decay, epsilon = rule->epsilon, beta1 = rule->beta1, beta2 = rule->beta2;
    const float rest1 = rule->rest1, rest2 = rule->rest2;
    const float step_size = scalars->step_size, root = scalars->second_root, factor = block->gradient_factor;
    const float *restrict gradient = block->gradient;
    float *restrict parameter = block->parameter;
    float *restrict first = block->state0, *restrict second = block->state1;
    for (int64_t i = 0; i < block->count; ++i) {
        const float g = gradient[i] * factor + decay * parameter[i];
        first[i] = beta1 * first[i] + rest1 * g;
        second[i] = beta2 * second[i] + rest2 * (g * g);
        parameter[i] -= step_size * first[i] / (sqrtf(second[i]) / root + epsilon);
    }
}

/* torch.optim.Adagrad with lr_decay 0 and an accumulator that starts at 0. */
static void adagrad_block(const StepRule *rule, const OptimizerScalars *scalars, const Block *block)
{
    const float decay = rule->decay, epsilon = rule->epsilon;
    const float rate = scalars->learning_rate, factor = block->gradient_factor;
    const float *restrict gradient = block->gradient;
    float *restrict parameter = block->parameter, *restrict sum = block->state0;
    for (int64_t i = 0; i < block->count; ++i) {
        const float g = gradient[i] * factor + decay * parameter[i];
        sum[i] += g * g;
        parameter[i] -= rate * g / (sqrtf(sum[i]) + epsilon);
    }
}

static const struct {
    BlockStep *step;
    int states[2]; /* -1: none */
} kinds[STEP_KINDS] = {
    [STEP_PLAIN] = {plain_block, {-1, -1}},
    [STEP_MOMENTUM] = {momentum_block, {STATE_MOMENTUM, -1}},
    [STEP_NESTEROV] = {nesterov_block, {STATE_MOMENTUM, -1}},
    [STEP_ADAM] = {adam_block, {STATE_FIRST_MOMENT, STATE_SECOND_MOMENT}},
    [STEP_ADAGRAD] = {adagrad_block, {STATE_SUM_OF_SQUARES, -1}},
};

static float *state_at(const OptimizerCall *call, int state, int64_t first)
{
    return state >= 0 ? call->state[state] + first : NULL;
}

/* What of elements first .. end - 1 is in one segment after the other. */
static void step_block(const OptimizerCall *call, int64_t first, int64_t end, float factor)
{
    int low = 0, high = call->segment_count - 1; /* the first segment that ends behind `first` */
    while (low < high) {
        const int middle = (low + high) / 2;
        if (call->segments[middle].end > first)
            high = middle;
        else
            low = middle + 1;
    }
    for (int segment = low; first < end; ++segment) {
        const int rule = call->segments[segment].rule;
        const int64_t until = call->segments[segment].end < end ? call->segments[segment].end : end;
        const StepKind kind = call->rules[rule].kind;
        kinds[kind].step(&call->rules[rule], &call->scalars[rule],
                         &(Block){.count = until - first,
                                  .parameter = call->parameters + first,
                                  .gradient = call->gradients + first,
                                  .state0 = state_at(call, kinds[kind].states[0], first),
                                  .state1 = state_at(call, kinds[kind].states[1], first),
                                  .gradient_factor = factor});
        first = until;
    }
}

static void step_rows(const OptimizerCall *call, const TableCall *table, float factor)
{
    const StepRule *rule = &call->rules[table->rule];
    const int64_t columns = table->columns;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < table->list[0]; ++i) {
        const int64_t at = table->list[ROW_LIST_HEAD + i] * columns;
        kinds[rule->kind].step(
            rule, &call->scalars[table->rule],
            &(Block){.count = columns,
                     .parameter = table->parameters + at,
                     .gradient = table->gradient + i * columns,
                     .state0 = table->sum_of_squares != NULL ? table->sum_of_squares + at : NULL,
                     .gradient_factor = factor});
    }
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Sums of squares, block by block. */
static void square_blocks(const float *gradients, int64_t count, double *partial)
{
    const int64_t blocks = optimizer_blocks(count);
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks; ++block)
        partial[block] = sum_of_squares(gradients + block * OPTIMIZER_BLOCK,
                                        least(count - block * OPTIMIZER_BLOCK, OPTIMIZER_BLOCK));
}

static void find_norm(const OptimizerCall *call)
{
    double sum = 0;
    square_blocks(call->gradients, call->count, call->partial);
    for (int64_t block = 0; block < optimizer_blocks(call->count); ++block)
        sum += call->partial[block];
    for (int t = 0; t < call->tables; ++t) {
        const TableCall *table = &call->table[t];
        const int64_t count = table->list[0] * table->columns;
        square_blocks(table->gradient, count, table->partial);
        for (int64_t block = 0; block < optimizer_blocks(count); ++block)
            sum += table->partial[block];
    }
    if (isfinite(*call->norm)) *call->norm = fabs(call->scalars->gradient_scale) * sqrt(sum);
}

Status optimizer_cpu(Device *device, const OptimizerCall *call)
{
    const int64_t blocks = optimizer_blocks(call->count);
    double factor = call->scalars->gradient_scale;
    (void)device;
    find_norm(call);
    if (!isfinite(*call->norm)) return OK;
    if (call->clip_norm > 0) {
        /* As torch.nn.utils.clip_grad_norm_. */
        const double ratio = call->clip_norm / (*call->norm + 1e-6);
        factor *= ratio >= 1 ? 1 : ratio;
    }
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t first = block * OPTIMIZER_BLOCK;
        step_block(call, first, least(first + OPTIMIZER_BLOCK, call->count), (float)factor);
    }
    for (int t = 0; t < call->tables; ++t)
        step_rows(call, &call->table[t], (float)factor);
    return OK;
}
