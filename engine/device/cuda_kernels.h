/* The device's own kernels, for cuda.c. Private to engine/device/. */
#ifndef PLUMB_ENGINE_DEVICE_CUDA_KERNELS_H
#define PLUMB_ENGINE_DEVICE_CUDA_KERNELS_H

#include "engine/device/device.h"

/* to[i] += from[i] */
CHECKED Status accumulate_cuda(Device *, float *to, const float *from, int64_t count);

CHECKED Status narrow_cuda(Device *, void *to, const float *from, const Slice *, int slices);
CHECKED Status widen_cuda(Device *, float *to, const void *from, const Slice *, int slices);

/* Chains of float32 multiply-adds that keep the whole GPU busy; sets *flops to what it enqueued. sink: device
 * memory of MULTIPLY_ADDS_SINK floats. */
enum { MULTIPLY_ADDS_SINK = 1024 };
CHECKED Status multiply_adds_cuda(Device *, int rounds, float *sink, double *flops);

#endif
