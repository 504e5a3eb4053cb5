/* Small arithmetic that the host and CUDA kernels share: SHARED_FUNCTION begins its definition. */
#ifndef PLUMB_ENGINE_BASE_SHARED_FUNCTION_H
#define PLUMB_ENGINE_BASE_SHARED_FUNCTION_H

#ifdef __CUDACC__
#define SHARED_FUNCTION __host__ __device__ static inline
#else
#define SHARED_FUNCTION static inline
#endif

#endif
