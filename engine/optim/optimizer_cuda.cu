/* Optimizers on a GPU: as on the CPU one pass over the gradients for their norm and one that clips, decays
 * and steps, with one small kernel between them that adds the blocks' sums in a fixed order. All of it is
 * bound by memory: for SGD with momentum 4 + 20 bytes a parameter. */
#include "engine/device/cuda_kernel.cuh"

extern "C" {
#include "engine/optim/optimizer_kernel.h"
}

namespace
{

constexpr int THREADS = 256, NORM_THREADS = 1024, PACK = 4;
typedef Pack<float, PACK> Floats;

/* The same of a table's rows, whose number is known here alone. */
__global__ void row_squares_kernel(const int32_t *list, const float *gradients, int64_t columns,
                                   double *partial)
{
    __shared__ double shared[WARP];
    const int64_t count = list[0] * columns, first = static_cast<int64_t>(blockIdx.x) * OPTIMIZER_BLOCK;
    const int64_t end = first + OPTIMIZER_BLOCK < count ? first + OPTIMIZER_BLOCK : count;
    double sum = 0;
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS)
        sum += static_cast<double>(gradients[i]) * static_cast<double>(gradients[i]);
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/* Block b adds the squares of elements b * OPTIMIZER_BLOCK and on. Every array's length is a multiple of 16.
 */
__global__ void squares_kernel(const Floats *gradients, int64_t packs, double *partial)
{
    __shared__ double shared[WARP];
    constexpr int64_t PER_BLOCK = OPTIMIZER_BLOCK / PACK;
    const int64_t first = blockIdx.x * PER_BLOCK;
    const int64_t end = first + PER_BLOCK < packs ? first + PER_BLOCK : packs;
    double sum = 0;
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        const Floats g = gradients[i];
        for (int j = 0; j < PACK; ++j)
            sum += static_cast<double>(g.element[j]) * static_cast<double>(g.element[j]);
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__device__ bool is_finite(double value) { return fabs(value) <= 1.7976931348623157e308; }

__global__ void norm_kernel(const double *partial, int64_t blocks, const OptimizerScalars *scalars,
                            double *norm)
{
    __shared__ double shared[WARP];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < blocks; i += NORM_THREADS)
        sum += partial[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0 && is_finite(*norm)) *norm = fabs(scalars->gradient_scale) * sqrt(sum);
}

/* A rule steps one element: its parameter and its states. */
template <bool NESTEROV> struct Momentum {
    static constexpr int STATES = 1;
    __device__ static float step(const StepRule &c, const OptimizerScalars &s, float p, float g, float *state)
    {
        g += c.decay * p;
        state[0] = c.momentum * state[0] + g;
        return p - s.learning_rate * (NESTEROV ? g + c.momentum * state[0] : state[0]);
    }
};

struct Plain {
    static constexpr int STATES = 0;
    __device__ static float step(const StepRule &c, const OptimizerScalars &s, float p, float g, float *)
    {
        return p - s.learning_rate * (g + c.decay * p);
    }
};

struct Adam {
    static constexpr int STATES = 2;
    __device__ static float step(const StepRule &c, const OptimizerScalars &s, float p, float g, float *state)
    {
        g += c.decay * p;
        state[0] = c.beta1 * state[0] + c.rest1 * g;
        state[1] = c.beta2 * state[1] + c.rest2 * (g * g);
        return p - s.step_size * state[0] / (sqrtf(state[1]) / s.second_root + c.epsilon);
    }
};

struct Adagrad {
    static constexpr int STATES = 1;
    __device__ static float step(const StepRule &c, const OptimizerScalars &s, float p, float g, float *state)
    {
        g += c.decay * p;
        state[0] += g * g;
        return p - s.learning_rate * g / (sqrtf(state[0]) + c.epsilon);
    }
};

/* The gradient's factor; false: nothing is to change. */
__device__ bool find_scale(const OptimizerScalars &scalars, double norm, double clip_norm, float *scale)
{
    if (!is_finite(norm)) return false;
    double factor = scalars.gradient_scale;
    if (clip_norm > 0) { /* as torch.nn.utils.clip_grad_norm_ */
        const double ratio = clip_norm / (norm + 1e-6);
        factor *= ratio >= 1 ? 1 : ratio;
    }
    *scale = static_cast<float>(factor);
    return true;
}

/* All parameters step by one rule. */
template <typename Rule>
__global__ void step_kernel(StepRule rule, double clip_norm, const OptimizerScalars *scalars,
                            const double *norm, const Floats *gradients, Floats *parameters, Floats *state0,
                            Floats *state1, int64_t packs)
{
    const OptimizerScalars s = *scalars;
    float scale;
    if (!find_scale(s, *norm, clip_norm, &scale)) return;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += stride) {
        const Floats g = gradients[i];
        Floats p = parameters[i], a{}, b{};
        if constexpr (Rule::STATES > 0) a = state0[i];
        if constexpr (Rule::STATES > 1) b = state1[i];
        for (int j = 0; j < PACK; ++j) {
            float state[2] = {a.element[j], b.element[j]};
            p.element[j] = Rule::step(rule, s, p.element[j], g.element[j] * scale, state);
            a.element[j] = state[0];
            b.element[j] = state[1];
        }
        parameters[i] = p;
        if constexpr (Rule::STATES > 0) state0[i] = a;
        if constexpr (Rule::STATES > 1) state1[i] = b;
    }
}

struct States {
    float *of[OPTIMIZER_STATES];
};

template <typename Rule>
__device__ float step_element(const StepRule &rule, const OptimizerScalars &s, float p, float g,
                              float *state0, float *state1)
{
    float state[2] = {Rule::STATES > 0 ? *state0 : 0, Rule::STATES > 1 ? *state1 : 0};
    p = Rule::step(rule, s, p, g, state);
    if constexpr (Rule::STATES > 0) *state0 = state[0];
    if constexpr (Rule::STATES > 1) *state1 = state[1];
    return p;
}

/* One element of the flat arrays, by whatever rule; neighbours mostly have the same. */
__device__ float step_any(const StepRule &rule, const OptimizerScalars &s, float p, float g,
                          const States &states, int64_t at)
{
    switch (rule.kind) {
    case STEP_PLAIN:
        return step_element<Plain>(rule, s, p, g, nullptr, nullptr);
    case STEP_MOMENTUM:
        return step_element<Momentum<false>>(rule, s, p, g, states.of[STATE_MOMENTUM] + at, nullptr);
    case STEP_NESTEROV:
        return step_element<Momentum<true>>(rule, s, p, g, states.of[STATE_MOMENTUM] + at, nullptr);
    case STEP_ADAM:
        return step_element<Adam>(rule, s, p, g, states.of[STATE_FIRST_MOMENT] + at,
                                  states.of[STATE_SECOND_MOMENT] + at);
    default:
        return step_element<Adagrad>(rule, s, p, g, states.of[STATE_SUM_OF_SQUARES] + at, nullptr);
    }
}

/* Parameters in groups: still one launch, over a table of segments. */
__global__ void step_segments_kernel(const Segment *segments, int segment_count, const StepRule *rules,
                                     double clip_norm, const OptimizerScalars *scalars, const double *norm,
                                     const float *gradients, float *parameters, States states, int64_t count)
{
    float scale;
    if (!find_scale(*scalars, *norm, clip_norm, &scale)) return;
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        int low = 0, high = segment_count - 1; /* the first segment that ends behind i */
        while (low < high) {
            const int middle = (low + high) / 2;
            if (segments[middle].end > i)
                high = middle;
            else
                low = middle + 1;
        }
        const int rule = segments[low].rule;
        parameters[i] = step_any(rules[rule], scalars[rule], parameters[i], gradients[i] * scale, states, i);
    }
}

__global__ void step_rows_kernel(TableCall table, StepRule rule, double clip_norm,
                                 const OptimizerScalars *scalars, const double *norm)
{
    float scale;
    const OptimizerScalars s = scalars[table.rule];
    if (!find_scale(s, *norm, clip_norm, &scale)) return;
    const int64_t count = table.list[0] * table.columns;
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const int64_t at = table.list[ROW_LIST_HEAD + i / table.columns] * table.columns + i % table.columns;
        const float g = table.gradient[i] * scale, p = table.parameters[at];
        table.parameters[at] = rule.kind == STEP_ADAGRAD
                                   ? step_element<Adagrad>(rule, s, p, g, table.sum_of_squares + at, nullptr)
                                   : step_element<Plain>(rule, s, p, g, nullptr, nullptr);
    }
}

Status find_norm(const OptimizerCall *call, Stream stream)
{
    static const char what[] = "the gradient's norm";
    const auto *gradients = reinterpret_cast<const Floats *>(call->gradients);
    if (call->count > 0)
        TRY(launch(what, squares_kernel, static_cast<unsigned int>(optimizer_blocks(call->count)), THREADS, 0,
                   stream, gradients, call->count / PACK, call->partial));
    for (int t = 0; t < call->tables; ++t) {
        const TableCall &table = call->table[t];
        TRY(launch(what, row_squares_kernel,
                   static_cast<unsigned int>(optimizer_blocks(table.most * table.columns)), THREADS, 0,
                   stream, table.list, table.gradient, table.columns, table.partial));
    }
    return launch(what, norm_kernel, 1, NORM_THREADS, 0, stream, call->partial, call->partials, call->scalars,
                  call->norm);
}

template <typename Rule> Status step(const OptimizerCall *call, int state0, int state1, Stream stream)
{
    const int64_t packs = call->count / PACK;
    return launch("the optimizer's step", step_kernel<Rule>, blocks_for(packs, THREADS), THREADS, 0, stream,
                  call->rules[call->segments_rule], call->clip_norm, call->scalars + call->segments_rule,
                  call->norm, reinterpret_cast<const Floats *>(call->gradients),
                  reinterpret_cast<Floats *>(call->parameters),
                  reinterpret_cast<Floats *>(call->state[state0]),
                  reinterpret_cast<Floats *>(call->state[state1]), packs);
}

Status step_flat(const OptimizerCall *call, Stream stream)
{
    if (call->count == 0) return OK;
    if (call->segment_count == 1) {
        switch (call->rules[call->segments_rule].kind) {
        case STEP_PLAIN:
            return step<Plain>(call, 0, 0, stream);
        case STEP_MOMENTUM:
            return step<Momentum<false>>(call, STATE_MOMENTUM, 0, stream);
        case STEP_NESTEROV:
            return step<Momentum<true>>(call, STATE_MOMENTUM, 0, stream);
        case STEP_ADAM:
            return step<Adam>(call, STATE_FIRST_MOMENT, STATE_SECOND_MOMENT, stream);
        default:
            return step<Adagrad>(call, STATE_SUM_OF_SQUARES, 0, stream);
        }
    }
    States states;
    for (int i = 0; i < OPTIMIZER_STATES; ++i)
        states.of[i] = call->state[i];
    return launch("the optimizer's step", step_segments_kernel, blocks_for(call->count, THREADS), THREADS, 0,
                  stream, call->segments, call->segment_count, call->device_rules, call->clip_norm,
                  call->scalars, call->norm, call->gradients, call->parameters, states, call->count);
}

} // namespace

Status optimizer_cuda(Device *device, const OptimizerCall *call)
{
    const Stream stream = device_stream(device);
    TRY(find_norm(call, stream));
    TRY(step_flat(call, stream));
    for (int t = 0; t < call->tables; ++t) {
        const TableCall &table = call->table[t];
        TRY(launch("the optimizer's step of rows", step_rows_kernel,
                   blocks_for(table.most * table.columns, THREADS), THREADS, 0, stream, table,
                   call->rules[table.rule], call->clip_norm, call->scalars, call->norm));
    }
    return OK;
}
