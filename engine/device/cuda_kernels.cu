/* The device's own kernels. */
#include "engine/device/cuda_kernel.cuh"

extern "C" {
#include "engine/device/cuda_kernels.h"
}

namespace
{

enum { THREADS = 256 };

/* Bound by memory: 12 bytes an element, 16 a thread and array. Both arrays start at multiples of 16 elements
 * (store.h), or `packs` is 0 and single elements are gone through. */
__global__ void accumulate_kernel(float *to, const float *from, int64_t packs, int64_t count)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    auto *to_packs = reinterpret_cast<Pack<float, 4> *>(to);
    const auto *from_packs = reinterpret_cast<const Pack<float, 4> *>(from);
    for (int64_t i = thread; i < packs; i += step) {
        Pack<float, 4> sum = to_packs[i];
        const Pack<float, 4> more = from_packs[i];
        for (int j = 0; j < 4; ++j)
            sum.element[j] += more.element[j];
        to_packs[i] = sum;
    }
    for (int64_t i = packs * 4 + thread; i < count; i += step)
        to[i] += from[i];
}

/* Slices by value, as a launch's parameter: in packs, of which the last may reach past the slice, into the gap to
 * the next multiple of 16 elements. */
struct SlicePacks {
    enum { MOST = 32, PACK = 8 };
    int count;
    int64_t first[MOST]; /* pack */
    int64_t end[MOST];   /* packs of the slices up to this one, all together */
};

template <typename From, typename To>
__global__ void convert_kernel(To *to, const From *from, SlicePacks slices)
{
    constexpr int N = SlicePacks::PACK;
    auto *to_packs = reinterpret_cast<Pack<To, N> *>(to);
    const auto *from_packs = reinterpret_cast<const Pack<From, N> *>(from);
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    int slice = 0;
    int64_t before = 0; /* packs of earlier slices */
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
         i < slices.end[slices.count - 1]; i += step) {
        while (i >= slices.end[slice])
            before = slices.end[slice++];
        const int64_t pack = slices.first[slice] + i - before;
        const Pack<From, N> value = from_packs[pack];
        Pack<To, N> other;
        for (int j = 0; j < N; ++j)
            other.element[j] = from_float<To>(to_float(value.element[j]));
        to_packs[pack] = other;
    }
}

template <typename From, typename To>
Status convert(Device *device, const char *what, To *to, const From *from, const Slice *slice, int slices)
{
    constexpr int64_t PACK = SlicePacks::PACK;
    for (int done = 0; done < slices;) {
        SlicePacks part = {};
        int64_t packs = 0;
        for (; part.count < SlicePacks::MOST && done < slices; ++done) {
            if (slice[done].first % (2 * PACK) != 0)
                return fail(STATUS_INTERNAL, "%s: a slice begins at element %lld, which is no multiple of 16",
                            what, static_cast<long long>(slice[done].first));
            packs += (slice[done].count + PACK - 1) / PACK;
            part.first[part.count] = slice[done].first / PACK;
            part.end[part.count++] = packs;
        }
        TRY(launch(what, convert_kernel<From, To>, blocks_for(packs, THREADS), THREADS, 0,
                   device_stream(device), to, from, part));
    }
    return OK;
}

/* Eight independent chains a thread fill the pipelines. The sum of all is stored where it cannot be known to
 * be useless. */
__global__ void multiply_adds_kernel(int rounds, float factor, float addend, float *sink)
{
    constexpr int CHAINS = 8;
    float chain[CHAINS];
    for (int i = 0; i < CHAINS; ++i)
        chain[i] = addend * static_cast<float>(threadIdx.x + i);
    for (int round = 0; round < rounds; ++round)
        for (int i = 0; i < CHAINS; ++i)
            chain[i] = fmaf(chain[i], factor, addend);
    float total = 0;
    for (int i = 0; i < CHAINS; ++i)
        total += chain[i];
    if (total == 12345.0f) sink[threadIdx.x % MULTIPLY_ADDS_SINK] = total;
}

} // namespace

Status accumulate_cuda(Device *device, float *to, const float *from, int64_t count)
{
    if (count == 0) return OK;
    const bool aligned = (reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16 == 0;
    return launch("accumulate", accumulate_kernel, blocks_for(count, THREADS * 4), THREADS, 0,
                  device_stream(device), to, from, aligned ? count / 4 : 0, count);
}

Status widen_cuda(Device *device, float *to, const void *from, const Slice *slice, int slices)
{
    return convert(device, "widening gradients", to, static_cast<const Bfloat16 *>(from), slice, slices);
}

Status narrow_cuda(Device *device, void *to, const float *from, const Slice *slice, int slices)
{
    return convert(device, "narrowing gradients", static_cast<Bfloat16 *>(to), from, slice, slices);
}

Status multiply_adds_cuda(Device *device, int rounds, float *sink, double *flops)
{
    constexpr int BLOCKS = 132 * 16, CHAINS = 8;
    *flops = 2.0 * CHAINS * rounds * BLOCKS * static_cast<double>(THREADS);
    return launch("multiply-adds", multiply_adds_kernel, BLOCKS, THREADS, 0, device_stream(device), rounds,
                  0.999f, 1e-3f, sink);
}
