/* What a device implements; device.c forwards to it. */
#ifndef PLUMB_ENGINE_DEVICE_DEVICE_METHODS_H
#define PLUMB_ENGINE_DEVICE_DEVICE_METHODS_H

#include "engine/device/device.h"

typedef struct {
    Status (*open)(Device *, int index, int threads);
    void (*close)(Device *);
    Status (*allocate)(Device *, size_t bytes, const char *what, void **);
    void (*free)(Device *, void *);
    Status (*upload)(Device *, void *to, const void *host, size_t bytes);
    Status (*download)(Device *, void *host, const void *from, size_t bytes);
    Status (*clear)(Device *, void *, size_t bytes);
    Status (*accumulate)(Device *, float *to, const float *from, int64_t count);
    Status (*synchronize)(Device *);
    Status (*measure_peaks)(Device *, DevicePeaks *);
} DeviceMethods;

struct Device {
    DeviceKind kind;
    const DeviceMethods *methods;
    char name[256];
    int threads;
    int bfloat16;
    Stream stream;
    void *implementation;
};

extern const DeviceMethods device_cpu_methods;
/* NULL in a program that is linked without CUDA. */
extern const DeviceMethods device_cuda_methods __attribute__((weak));

#endif
