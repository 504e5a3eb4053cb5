/* CUDA C++ on the host, for tests: the .cu files are compiled as C++ with this header before them, and a
 * block's threads run as fibres on one thread of the processor, switching at barriers and exchanges within a
 * warp. Blocks run one after the other in an arbitrary (shuffled) order. A block whose threads wait for
 * different barriers for ever is reported and ends the program. Only what our kernels use is here. */
#ifndef PLUMB_TESTS_CUDA_ON_HOST_H
#define PLUMB_TESTS_CUDA_ON_HOST_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
#define __shared__ static
#define DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(host_shared_memory())

struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
    unsigned int x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned int x, y;
};
struct alignas(16) uint4 {
    unsigned int x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned int x, unsigned int y) { return {x, y}; }
static inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w)
{
    return {x, y, z, w};
}

/* The thread that runs now. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

/* Does it now, or records it; or does it as late as it may, in order, if the environment has PLUMB_TEST_LATE=1. */
void enqueue_on_host(std::function<void()> work);
/* How many pieces of work were given until now; and does those that are left of the first `end`. */
int64_t given_on_host();
void work_on_host_until(int64_t end);
/* From now on work is appended to `into` instead of being done; nullptr: no longer. */
void record_on_host(std::vector<std::function<void()>> *into);
bool is_recording_on_host();
/* Device memory can be touched only while work is done, if the environment has PLUMB_TEST_GUARD=1: who reads
 * it on the host dies of it. In cuda_device_on_host.cc. */
void open_device_memory(bool open);
/* Enqueues a grid, which runs to its end. */
void launch_on_host(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()> &kernel);
void *host_shared_memory();
void __syncthreads();
int __syncthreads_or(int predicate);
int __syncthreads_and(int predicate);
int __syncthreads_count(int predicate);
void __syncwarp(unsigned int mask = 0xffffffffu);
/* Gives `value` to the warp and returns that of lane `from` (its own if there is no such lane). */
uint64_t host_exchange(uint64_t value, int from);
unsigned int __ballot_sync(unsigned int mask, int predicate);
int host_lane();

template <typename T> static inline T host_shuffle(T value, int from)
{
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = host_exchange(bits, from);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
template <typename T> static inline T __shfl_sync(unsigned int, T value, int lane, int width = 32)
{
    return host_shuffle(value, host_lane() / width * width + lane % width);
}
template <typename T> static inline T __shfl_xor_sync(unsigned int, T value, int mask, int = 32)
{
    return host_shuffle(value, host_lane() ^ mask);
}
template <typename T>
static inline T __shfl_down_sync(unsigned int, T value, unsigned int delta, int width = 32)
{
    const int lane = host_lane(), from = lane + (int)delta;
    return host_shuffle(value, from / width == lane / width ? from : lane);
}
template <typename T>
static inline T __shfl_up_sync(unsigned int, T value, unsigned int delta, int width = 32)
{
    const int lane = host_lane(), from = lane - (int)delta;
    return host_shuffle(value, from >= lane / width * width ? from : lane);
}
static inline int __any_sync(unsigned int mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }

/* Fibres switch only where they wait, so plain operations are atomic. */
template <typename T> static inline T atomicAdd(T *place, T value)
{
    const T old = *place;
    *place = old + value;
    return old;
}
template <typename T> static inline T atomicMax(T *place, T value)
{
    const T old = *place;
    *place = std::max(old, value);
    return old;
}
template <typename T> static inline T atomicMin(T *place, T value)
{
    const T old = *place;
    *place = std::min(old, value);
    return old;
}
template <typename T> static inline T atomicOr(T *place, T value)
{
    const T old = *place;
    *place = old | value;
    return old;
}
template <typename T> static inline T atomicExch(T *place, T value)
{
    const T old = *place;
    *place = value;
    return old;
}
template <typename T> static inline T atomicCAS(T *place, T compare, T value)
{
    const T old = *place;
    if (old == compare) *place = value;
    return old;
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}
template <typename T> static inline T __ldg(const T *place) { return *place; }
template <typename T> static inline T __ldcs(const T *place) { return *place; }
template <typename T> static inline void __stcs(T *place, T value) { *place = value; }

static inline float __uint_as_float(unsigned int bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static inline unsigned int __float_as_uint(float value)
{
    unsigned int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline int __float_as_int(float value)
{
    int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float __int_as_float(int bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static inline long long __double_as_longlong(double value)
{
    long long bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline double __longlong_as_double(long long bits)
{
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static inline unsigned int __umulhi(unsigned int a, unsigned int b)
{
    return (unsigned int)(((uint64_t)a * b) >> 32);
}
static inline int __popc(unsigned int bits) { return __builtin_popcount(bits); }
static inline int __ffs(int bits) { return __builtin_ffs(bits); }
static inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz((unsigned int)bits); }
static inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
static inline double rsqrt(double value) { return 1.0 / std::sqrt(value); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
using std::max;
using std::min;

#endif
