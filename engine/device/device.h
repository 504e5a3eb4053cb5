/* A device: memory and order. It knows no op. Work is enqueued in order on its stream; on the CPU it is done
 * when the call returns. */
#ifndef PLUMB_ENGINE_DEVICE_DEVICE_H
#define PLUMB_ENGINE_DEVICE_DEVICE_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { DEVICE_CPU, DEVICE_CUDA, DEVICE_KINDS } DeviceKind;

typedef struct Device Device;
typedef void *Stream; /* NULL on the CPU */

/* How many of that kind this process may use: 1 CPU; as many GPUs as CUDA_VISIBLE_DEVICES and the driver let
 * it see. 0 with an error in *why (the caller hands it on or frees it) says what is missing: CUDA in this
 * build, the driver, a driver new enough. why may be NULL. */
int device_count(DeviceKind, Status *why);
/* How many of that kind the driver shows this process, to share them out among other processes (which
 * CUDA_VISIBLE_DEVICES tells): opens none and loads no runtime. 0 for CPUs, and where this build or the driver cannot
 * use GPUs. */
int device_visible(DeviceKind);
/* Has this machine a driver for that kind, be it one that cannot be used? */
bool device_has_driver(DeviceKind);

/* index: which GPU of this host (ignored by the CPU). threads: CPU threads for kernels; 0: as OpenMP says. */
CHECKED Status device_open(DeviceKind, int index, int threads, Device **);
void device_close(Device *); /* NULL is allowed */

DeviceKind device_kind(const Device *);
const char *device_name(const Device *); /* "AMD EPYC, 2 threads" */
int device_threads(const Device *);
Stream device_stream(const Device *);
/* The same for two devices of a host only if they are one and the same GPU ("GPU-" and its UUID); "" for a
 * CPU.
 */
const char *device_identity(const Device *);
/* Bytes of the GPU's own memory; 0 for a CPU, whose memory is the host's. */
size_t device_memory(const Device *);
/* Has the device fast bfloat16 arithmetic? */
int device_has_bfloat16(const Device *);

/* Zeroed, 64-byte aligned. A failure says what was asked for, what is free, and `what` it was for. */
CHECKED Status device_allocate(Device *, size_t bytes, const char *what, void **);
void device_free(Device *, void *); /* NULL is allowed */

/* Enqueued copies. Host memory that is written must stay until they were waited for; host memory that is read may be
 * used again when the call returns. */
CHECKED Status device_upload(Device *, void *to, const void *host, size_t bytes);
CHECKED Status device_download(Device *, void *host, const void *from, size_t bytes);
/* rows rows of `bytes`; strides in bytes. Within the device. */
CHECKED Status device_copy_rows(Device *, void *to, size_t to_stride, const void *from, size_t from_stride,
                                size_t bytes, size_t rows);
CHECKED Status device_clear(Device *, void *, size_t bytes);
/* to[i] += from[i] */
CHECKED Status device_accumulate(Device *, float *to, const float *from, int64_t count);
/* Elements of a flat array; the first is a multiple of 16, and so is that of the next. */
typedef struct {
    int64_t first, count;
} Slice;
/* The BFLOAT16 elements `from` become the same ones of `to`, in all slices; elements up to the next multiple of
 * 16 may be written, too. Few launches for many slices. Not on the CPU. */
CHECKED Status device_widen(Device *, float *to, const void *from, const Slice *, int slices);
/* The other way: float32 elements `from` become BFLOAT16, rounded to nearest. */
CHECKED Status device_narrow(Device *, void *to, const float *from, const Slice *, int slices);
CHECKED Status device_synchronize(Device *);
/* A point in the device's work: all that was enqueued before. What was downloaded before is in host memory once the
 * mark was waited for, while the device may be busy with what came after. */
typedef int64_t Mark;
enum { EVERYTHING = -1 }; /* the mark of all that was enqueued until one waits: device_synchronize */
CHECKED Status device_mark(Device *, Mark *);
CHECKED Status device_wait(Device *, Mark);

/* A further queue of work, beside the device's own. Its work is ordered by device_stream_follow alone. */
CHECKED Status device_stream_open(Device *, Stream *);
void device_stream_close(Device *, Stream);
/* What `stream` is given from now on waits for all that `earlier` has been given until now. */
CHECKED Status device_stream_follow(Device *, Stream stream, Stream earlier);

/* Work that is enqueued over and over with the same addresses (a training step). A device that can (CUDA
 * graphs) runs `enqueue` once plainly, records what it enqueues the second time, on the device's stream and
 * those that follow it, and from then on launches the record instead of calling `enqueue`; others call it
 * every time. So whatever changes from one time to the next must be in device memory, and `enqueue` must
 * neither copy from or to host memory nor wait. Start with a zeroed Recording; it is made anew when memory of
 * the device was freed since. Recordings end before their device does. */
typedef struct {
    void *implementation;
    int64_t calls;
    int64_t generation;
} Recording;
CHECKED Status device_repeat(Device *, Recording *, Status (*enqueue)(void *argument), void *argument);
void device_forget(Device *, Recording *);

/* Runs it once, and once more recorded where the device can: does it run both ways? Waits. */
CHECKED Status device_try(Device *, Status (*enqueue)(void *argument), void *argument);

/* Seconds that what `enqueue` enqueues takes, the shortest of three times after two to warm up; of short work
 * the average of eight in a row. Recorded where the device can, so that the time to enqueue is not counted; what
 * cannot be recorded is an error. Waits. */
CHECKED Status device_time(Device *, Status (*enqueue)(void *argument), void *argument, double *seconds);

/* How kernels may choose among ways to compute the same (libraries on a GPU; the CPU has one way). */
typedef struct {
    bool deterministic; /* the same bits in every run: no way whose sums depend on timing, and none chosen by
                           timing */
    bool tf32;          /* float32 products may be rounded to 10 bits of mantissa (TF32) */
} DeviceNumerics;
void device_set_numerics(Device *, DeviceNumerics);
DeviceNumerics device_numerics(const Device *);

/* What this device can do with this rank's share of it, measured now (a fifth of a second): float32
 * multiply-adds counted as two, and bytes read and written by a copy too large for any cache. */
typedef struct {
    double flops_per_second, bytes_per_second;
    double matrix_flops_per_second; /* of bfloat16 matrix products, summed in float32; 0: not measured */
} DevicePeaks;
CHECKED Status device_measure_peaks(Device *, DevicePeaks *);

/* Versions of driver and libraries, or why one cannot be used, a line each; "" for a CPU. */
void device_libraries(const Device *, char text[1024]);

/* How copies go from this GPU to another that this process sees (by number). */
typedef struct {
    bool direct;             /* without a detour through the host's memory */
    double bytes_per_second; /* 0: not measured, since another process has that GPU for itself alone */
} DeviceLink;
CHECKED Status device_measure_link(Device *, int other, DeviceLink *);

#endif
