/* What a device implements; device.c forwards to it. */
#ifndef PLUMB_ENGINE_DEVICE_DEVICE_METHODS_H
#define PLUMB_ENGINE_DEVICE_DEVICE_METHODS_H

#include "engine/device/device.h"

/* The methods that may be NULL are of a device that works at once, in order, and cannot record. */
typedef struct {
    int (*count)(Status *why); /* *why is OK before */
    int (*visible)(void);      /* NULL: none that could be shared out */
    bool (*has_driver)(void);  /* NULL: it needs none */
    Status (*open)(Device *, int index, int threads);
    void (*close)(Device *);
    Status (*allocate)(Device *, size_t bytes, const char *what, void **);
    void (*free)(Device *, void *);
    Status (*upload)(Device *, void *to, const void *host, size_t bytes);
    Status (*download)(Device *, void *host, const void *from, size_t bytes);
    Status (*copy_rows)(Device *, void *to, size_t to_stride, const void *from, size_t from_stride,
                        size_t bytes, size_t rows);
    Status (*clear)(Device *, void *, size_t bytes);
    Status (*accumulate)(Device *, float *to, const float *from, int64_t count);
    Status (*narrow)(Device *, void *to, const float *from, const Slice *, int slices); /* may be NULL */
    Status (*widen)(Device *, float *to, const void *from, const Slice *, int slices);  /* may be NULL */
    Status (*synchronize)(Device *);
    Status (*mark)(Device *, Mark *); /* may be NULL */
    Status (*wait)(Device *, Mark);   /* may be NULL, as mark */
    /* Seconds between the first and the last of it; NULL: by the clock. */
    Status (*time_once)(Device *, Status (*enqueue)(void *), void *argument, double *seconds);
    Status (*measure_peaks)(Device *, DevicePeaks *);
    void (*libraries)(const Device *, char text[1024]);                                 /* may be NULL */
    Status (*measure_link)(Device *, int other, DeviceLink *);                          /* may be NULL */
    Status (*stream_open)(Device *, Stream *);                                          /* may be NULL */
    void (*stream_close)(Device *, Stream);                                             /* may be NULL */
    Status (*stream_follow)(Device *, Stream stream, Stream earlier);                   /* may be NULL */
    Status (*record)(Device *, Recording *, Status (*enqueue)(void *), void *argument); /* may be NULL */
    Status (*replay)(Device *, const Recording *); /* may be NULL, as record */
    void (*forget)(Device *, Recording *);         /* may be NULL, as record */
} DeviceMethods;

struct Device {
    DeviceKind kind;
    const DeviceMethods *methods;
    char name[256], identity[64];
    int threads;
    size_t memory;      /* bytes; 0: the host's */
    int64_t generation; /* counts frees: recordings of before refer to memory that may be gone */
    int bfloat16;
    DeviceNumerics numerics;
    Stream stream;
    void *implementation;
};

extern const DeviceMethods device_cpu_methods;
/* NULL in a program that is linked without CUDA. */
extern const DeviceMethods device_cuda_methods __attribute__((weak));

#endif
