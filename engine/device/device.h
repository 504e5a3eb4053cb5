/* A device: memory and order. It knows no op. Work is enqueued in order on its stream; on the CPU it is done
 * when the call returns. */
#ifndef PLUMB_ENGINE_DEVICE_DEVICE_H
#define PLUMB_ENGINE_DEVICE_DEVICE_H

#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum { DEVICE_CPU, DEVICE_CUDA, DEVICE_KINDS } DeviceKind;

typedef struct Device Device;
typedef void *Stream; /* NULL on the CPU */

/* index: which GPU of this host (ignored by the CPU). threads: CPU threads for kernels; 0: as OpenMP says. */
CHECKED Status device_open(DeviceKind, int index, int threads, Device **);
void device_close(Device *); /* NULL is allowed */

DeviceKind device_kind(const Device *);
const char *device_name(const Device *); /* "AMD EPYC, 2 threads" */
int device_threads(const Device *);
Stream device_stream(const Device *);
/* Has the device fast bfloat16 arithmetic? */
int device_has_bfloat16(const Device *);

/* Zeroed, 64-byte aligned. A failure says what was asked for, what is free, and `what` it was for. */
CHECKED Status device_allocate(Device *, size_t bytes, const char *what, void **);
void device_free(Device *, void *); /* NULL is allowed */

/* Enqueued copies; host memory must stay untouched until device_synchronize. */
CHECKED Status device_upload(Device *, void *to, const void *host, size_t bytes);
CHECKED Status device_download(Device *, void *host, const void *from, size_t bytes);
CHECKED Status device_clear(Device *, void *, size_t bytes);
/* to[i] += from[i] */
CHECKED Status device_accumulate(Device *, float *to, const float *from, int64_t count);
CHECKED Status device_synchronize(Device *);

/* What this device can do with this rank's share of it, measured now (a fifth of a second): float32
 * multiply-adds counted as two, and bytes read and written by a copy too large for any cache. */
typedef struct {
    double flops_per_second, bytes_per_second;
} DevicePeaks;
CHECKED Status device_measure_peaks(Device *, DevicePeaks *);

#endif
