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

typedef void BlockStep(const OptimizerOptions *, const OptimizerScalars *, const Block *);

/* Sixteen sums side by side, in an order that is written down rather than left to the compiler. */
static double sum_of_squares(const float *gradient, int64_t count)
{
    enum { LANES = 16 };
    double sum[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; ++lane)
            sum[lane] += (double)gradient[i + lane] * (double)gradient[i + lane];
    for (int lane = 0; i < count; ++i, ++lane)
        sum[lane] += (double)gradient[i] * (double)gradient[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane)
            sum[lane] += sum[lane + half];
    return sum[0];
}

static int64_t block_count(const OptimizerCall *call)
{
    return (call->count + OPTIMIZER_BLOCK - 1) / OPTIMIZER_BLOCK;
}

static int64_t block_length(const OptimizerCall *call, int64_t block)
{
    const int64_t left = call->count - block * OPTIMIZER_BLOCK;
    return left < OPTIMIZER_BLOCK ? left : OPTIMIZER_BLOCK;
}

static void finish_norm(const OptimizerCall *call)
{
    double sum = 0;
    for (int64_t block = 0; block < block_count(call); ++block)
        sum += call->partial[block];
    if (isfinite(*call->norm)) *call->norm = fabs(call->scalars->gradient_scale) * sqrt(sum);
}

static void step_cpu(const OptimizerCall *call, BlockStep *step)
{
    const int64_t blocks = block_count(call);
    const bool clip = call->options->clip_norm > 0;
    double factor = call->scalars->gradient_scale;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks; ++block)
        call->partial[block] =
            sum_of_squares(call->gradients + block * OPTIMIZER_BLOCK, block_length(call, block));
    finish_norm(call);
    if (!isfinite(*call->norm)) return;
    if (clip) {
        /* As torch.nn.utils.clip_grad_norm_. */
        const double ratio = call->options->clip_norm / (*call->norm + 1e-6);
        factor *= ratio >= 1 ? 1 : ratio;
    }
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t first = block * OPTIMIZER_BLOCK, length = block_length(call, block);
        step(call->options, call->scalars,
             &(Block){.count = length,
                      .parameter = call->parameters + first,
                      .gradient = call->gradients + first,
                      .state0 = call->state[0] != NULL ? call->state[0] + first : NULL,
                      .state1 = call->state[1] != NULL ? call->state[1] + first : NULL,
                      .gradient_factor = (float)factor});
    }
}

/* torch.optim.SGD with dampening 0. The buffer starts at zero, so the first step takes the gradient as it is.
 */
static void sgd_block(const OptimizerOptions *options, const OptimizerScalars *scalars, const Block *block)
{
    const float decay = (float)options->weight_decay, momentum = (float)options->momentum;
    const float rate = scalars->learning_rate, factor = block->gradient_factor;
    const float *restrict gradient = block->gradient;
    float *restrict parameter = block->parameter, *restrict buffer = block->state0;
    if (buffer == NULL) {
        for (int64_t i = 0; i < block->count; ++i)
            parameter[i] -= rate * (gradient[i] * factor + decay * parameter[i]);
    } else if (options->nesterov) {
        for (int64_t i = 0; i < block->count; ++i) {
            const float g = gradient[i] * factor + decay * parameter[i];
            buffer[i] = momentum * buffer[i] + g;
            parameter[i] -= rate * (g + momentum * buffer[i]);
        }
    } else {
        for (int64_t i = 0; i < block->count; ++i) {
            buffer[i] = momentum * buffer[i] + (gradient[i] * factor + decay * parameter[i]);
            parameter[i] -= rate * buffer[i];
        }
    }
}

/* torch.optim.Adam: weight decay is a term of the gradient (L2, not AdamW). */
static void adam_block(const OptimizerOptions *options, const OptimizerScalars *scalars, const Block *block)
{
    const float decay = (float)options->weight_decay, epsilon = (float)options->epsilon;
    const float beta1 = (float)options->beta1, beta2 = (float)options->beta2;
    const float rest1 = (float)(1 - options->beta1), rest2 = (float)(1 - options->beta2);
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
static void adagrad_block(const OptimizerOptions *options, const OptimizerScalars *scalars,
                          const Block *block)
{
    const float decay = (float)options->weight_decay, epsilon = (float)options->epsilon;
    const float rate = scalars->learning_rate, factor = block->gradient_factor;
    const float *restrict gradient = block->gradient;
    float *restrict parameter = block->parameter, *restrict sum = block->state0;
    for (int64_t i = 0; i < block->count; ++i) {
        const float g = gradient[i] * factor + decay * parameter[i];
        sum[i] += g * g;
        parameter[i] -= rate * g / (sqrtf(sum[i]) + epsilon);
    }
}

Status sgd_cpu(Device *device, const OptimizerCall *call)
{
    (void)device;
    step_cpu(call, sgd_block);
    return OK;
}

Status adam_cpu(Device *device, const OptimizerCall *call)
{
    (void)device;
    step_cpu(call, adam_block);
    return OK;
}

Status adagrad_cpu(Device *device, const OptimizerCall *call)
{
    (void)device;
    step_cpu(call, adagrad_block);
    return OK;
}
