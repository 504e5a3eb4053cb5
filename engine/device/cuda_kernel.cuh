/* What our CUDA kernels (the .cu files) are written with. nvcc compiles them for the device; the tests
 * compile the very same files as C++ for the host, where tests/cuda_on_host.h, included before anything else,
 * executes a block's threads as fibres.
 *
 * A .cu file includes this header first; it keeps to
 * - launch(...) below, never <<<>>>;
 * - `__shared__ float x[N];` for shared memory of a fixed size, DYNAMIC_SHARED(float, x); for the launch's;
 * - Bfloat16 below for bfloat16 in memory; arithmetic is in float32 (float64 in losses);
 * - no inline assembly, cooperative groups or texture, and only intrinsics that cuda_on_host.h has too;
 * - grids that fit any size: 64-bit indices, loops with the grid as stride, one element and an empty last
 * block;
 * - no atomics on floating point: sums have a fixed order, so that the same run gives the same bits. */
#ifndef PLUMB_ENGINE_DEVICE_CUDA_KERNEL_CUH
#define PLUMB_ENGINE_DEVICE_CUDA_KERNEL_CUH

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define DYNAMIC_SHARED(type, name)                                                                           \
    extern __shared__ __align__(16) unsigned char launch_shared[];                                           \
    type *name = reinterpret_cast<type *>(launch_shared)
#endif

#include <cmath>
#include <cstdint>
#include <type_traits>

extern "C" {
#include "engine/device/device.h"
}

enum { WARP = 32 };

/* Enqueues `kernel` on the stream; a launch that the device refuses is an error that names `what`. */
#ifdef __CUDACC__
template <typename... Parameters, typename... Arguments>
Status launch(const char *what, void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared_bytes,
              Stream stream, Arguments... arguments)
{
    kernel<<<blocks, threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(
        static_cast<Parameters>(arguments)...);
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return OK;
    return fail(STATUS_INTERNAL, "the kernel of %s could not be launched on the GPU: %s", what,
                cudaGetErrorString(error));
}
#else
template <typename... Parameters, typename... Arguments>
Status launch(const char *, void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared_bytes,
              Stream, Arguments... arguments)
{
    launch_on_host(blocks, threads, shared_bytes, [=] { kernel(static_cast<Parameters>(arguments)...); });
    return OK;
}
#endif

/* Blocks for `count` items of `per_block` each, but not more than keep any GPU busy: kernels loop. */
static inline unsigned int blocks_for(int64_t count, int64_t per_block)
{
    constexpr int64_t MOST = 132 * 16;
    const int64_t blocks = (count + per_block - 1) / per_block;
    return static_cast<unsigned int>(blocks < 1 ? 1 : blocks < MOST ? blocks : MOST);
}

/* ---- types in memory ---- */

struct Bfloat16 {
    uint16_t bits;
};

__device__ static inline float to_float(float value) { return value; }
__device__ static inline float to_float(Bfloat16 value)
{
    return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

/* To nearest, ties to even; NaN stays NaN. */
template <typename T> __device__ inline T from_float(float value);
template <> __device__ inline float from_float<float>(float value) { return value; }
template <> __device__ inline Bfloat16 from_float<Bfloat16>(float value)
{
#ifdef __CUDA_ARCH__
    return Bfloat16{__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
    const uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return Bfloat16{0x7fff};
    return Bfloat16{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16)};
#endif
}

/* N neighbouring elements, loaded and stored as one where N * sizeof(T) is 4, 8 or 16 and the place is
 * aligned to it. */
template <typename T, int N> struct alignas(sizeof(T) * N) Pack {
    T element[N];
};

/* This thread's place in the grid, and the number of threads of it: for loops with the grid as stride. */
__device__ static inline int64_t grid_thread()
{
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ static inline int64_t grid_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

/* ---- sums over threads, in a fixed order ---- */

template <typename T> __device__ inline T warp_sum(T value)
{
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

template <typename T> __device__ inline T warp_max(T value)
{
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        const T other = __shfl_xor_sync(0xffffffffu, value, offset);
        value = other > value ? other : value;
    }
    return value;
}

/* All threads of the block must call it (a one-dimensional block of whole warps); all get the sum. `shared`
 * has room for WARP values and may be used again after a __syncthreads. */
template <typename T> __device__ inline T block_sum(T value, T *shared)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const int warps = static_cast<int>(blockDim.x) / WARP;
    value = warp_sum(value);
    if (lane == 0) shared[warp] = value;
    __syncthreads();
    value = warp_sum(lane < warps ? shared[lane] : T(0));
    __syncthreads();
    return value;
}

/* Is this block the last one of its blockIdx.y to come here? Then it sees what all of them wrote before.
 * done: one counter a blockIdx.y, zero at first and again afterwards. All threads of the block call it.
 * One thread's fences serve the whole block, as in a grid's barrier of cooperative groups: what came before
 * the first __syncthreads comes before its fence, and its fence before what comes after the second. */
__device__ inline bool is_last_block(unsigned int *done)
{
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(&done[blockIdx.y], 1u) == gridDim.x - 1;
        if (last) done[blockIdx.y] = 0;
        __threadfence();
    }
    __syncthreads();
    return last;
}

#endif
