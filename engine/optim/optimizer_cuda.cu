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

/* What the rules need of the options, as floats. */
struct Constants {
    float decay, momentum, beta1, beta2, rest1, rest2, epsilon;
    double clip_norm;
};

/* A rule steps one element: its parameter and its states. */
template <bool NESTEROV> struct Momentum {
    static constexpr int STATES = 1;
    __device__ static float step(const Constants &c, const OptimizerScalars &s, float p, float g,
                                 float *state)
    {
        g += c.decay * p;
        state[0] = c.momentum * state[0] + g;
        return p - s.learning_rate * (NESTEROV ? g + c.momentum * state[0] : state[0]);
    }
};

struct Plain {
    static constexpr int STATES = 0;
    __device__ static float step(const Constants &c, const OptimizerScalars &s, float p, float g, float *)
    {
        return p - s.learning_rate * (g + c.decay * p);
    }
};

struct Adam {
    static constexpr int STATES = 2;
    __device__ static float step(const Constants &c, const OptimizerScalars &s, float p, float g,
                                 float *state)
    {
        g += c.decay * p;
        state[0] = c.beta1 * state[0] + c.rest1 * g;
        state[1] = c.beta2 * state[1] + c.rest2 * (g * g);
        return p - s.step_size * state[0] / (sqrtf(state[1]) / s.second_root + c.epsilon);
    }
};

struct Adagrad {
    static constexpr int STATES = 1;
    __device__ static float step(const Constants &c, const OptimizerScalars &s, float p, float g,
                                 float *state)
    {
        g += c.decay * p;
        state[0] += g * g;
        return p - s.learning_rate * g / (sqrtf(state[0]) + c.epsilon);
    }
};

template <typename Rule>
__global__ void step_kernel(Constants constants, const OptimizerScalars *scalars, const double *norm,
                            const Floats *gradients, Floats *parameters, Floats *state0, Floats *state1,
                            int64_t packs)
{
    if (!is_finite(*norm)) return;
    const OptimizerScalars s = *scalars;
    double factor = s.gradient_scale;
    if (constants.clip_norm > 0) { /* as torch.nn.utils.clip_grad_norm_ */
        const double ratio = constants.clip_norm / (*norm + 1e-6);
        factor *= ratio >= 1 ? 1 : ratio;
    }
    const float scale = static_cast<float>(factor);
    const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += stride) {
        const Floats g = gradients[i];
        Floats p = parameters[i], a{}, b{};
        if constexpr (Rule::STATES > 0) a = state0[i];
        if constexpr (Rule::STATES > 1) b = state1[i];
        for (int j = 0; j < PACK; ++j) {
            float state[2] = {a.element[j], b.element[j]};
            p.element[j] = Rule::step(constants, s, p.element[j], g.element[j] * scale, state);
            a.element[j] = state[0];
            b.element[j] = state[1];
        }
        parameters[i] = p;
        if constexpr (Rule::STATES > 0) state0[i] = a;
        if constexpr (Rule::STATES > 1) state1[i] = b;
    }
}

template <typename Rule> Status run(Device *device, const OptimizerCall *call)
{
    const OptimizerOptions &options = *call->options;
    const Constants constants = {
        static_cast<float>(options.weight_decay), static_cast<float>(options.momentum),
        static_cast<float>(options.beta1),        static_cast<float>(options.beta2),
        static_cast<float>(1 - options.beta1),    static_cast<float>(1 - options.beta2),
        static_cast<float>(options.epsilon),      options.clip_norm};
    const int64_t packs = call->count / PACK, blocks = (call->count + OPTIMIZER_BLOCK - 1) / OPTIMIZER_BLOCK;
    const Stream stream = device_stream(device);
    const auto *gradients = reinterpret_cast<const Floats *>(call->gradients);
    if (packs == 0) return OK;
    Status status = launch("the gradient's norm", squares_kernel, static_cast<unsigned int>(blocks), THREADS,
                           0, stream, gradients, packs, call->partial);
    if (status != OK) return status;
    status = launch("the gradient's norm", norm_kernel, 1, NORM_THREADS, 0, stream, call->partial, blocks,
                    call->scalars, call->norm);
    if (status != OK) return status;
    return launch("the optimizer's step", step_kernel<Rule>, blocks_for(packs, THREADS), THREADS, 0, stream,
                  constants, call->scalars, call->norm, gradients,
                  reinterpret_cast<Floats *>(call->parameters), reinterpret_cast<Floats *>(call->state[0]),
                  reinterpret_cast<Floats *>(call->state[1]), packs);
}

} // namespace

Status sgd_cuda(Device *device, const OptimizerCall *call)
{
    if (call->state[0] == nullptr) return run<Plain>(device, call);
    return call->options->nesterov ? run<Momentum<true>>(device, call) : run<Momentum<false>>(device, call);
}

Status adam_cuda(Device *device, const OptimizerCall *call) { return run<Adam>(device, call); }
Status adagrad_cuda(Device *device, const OptimizerCall *call) { return run<Adagrad>(device, call); }
