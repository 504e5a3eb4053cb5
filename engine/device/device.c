#include "engine/base/memory.h"
#include "engine/device/device_methods.h"

#include <stdlib.h>
#include <time.h>

static const DeviceMethods *const methods_table[DEVICE_KINDS] = {
    [DEVICE_CPU] = &device_cpu_methods, [DEVICE_CUDA] = &device_cuda_methods};

int device_count(DeviceKind kind, Status *why)
{
    Status reason = OK;
    int count = 0;
    if (methods_table[kind] == NULL)
        reason = fail(STATUS_UNSUPPORTED, "this build of plumb has no CUDA");
    else
        count = methods_table[kind]->count(&reason);
    if (why != NULL)
        *why = reason;
    else
        status_free(reason);
    return count;
}

int device_visible(DeviceKind kind)
{
    const DeviceMethods *methods = methods_table[kind];
    return methods != NULL && methods->visible != NULL ? methods->visible() : 0;
}

bool device_has_driver(DeviceKind kind)
{
    const DeviceMethods *methods = methods_table[kind];
    return methods != NULL && methods->has_driver != NULL && methods->has_driver();
}

Status device_open(DeviceKind kind, int index, int threads, Device **out)
{
    *out = NULL;
    if (methods_table[kind] == NULL) return fail(STATUS_UNSUPPORTED, "this build of plumb has no CUDA");
    Device *device;
    TRY(memory_new(&device, 1, sizeof *device, "device"));
    device->kind = kind;
    device->methods = methods_table[kind];
    Status status = device->methods->open(device, index, threads);
    if (status != OK) {
        free(device);
        return status;
    }
    *out = device;
    return OK;
}

void device_close(Device *device)
{
    if (device == NULL) return;
    device->methods->close(device);
    free(device);
}

DeviceKind device_kind(const Device *device) { return device->kind; }
const char *device_name(const Device *device) { return device->name; }
int device_threads(const Device *device) { return device->threads; }
Stream device_stream(const Device *device) { return device->stream; }
const char *device_identity(const Device *device) { return device->identity; }
size_t device_memory(const Device *device) { return device->memory; }
int device_has_bfloat16(const Device *device) { return device->bfloat16; }

Status device_allocate(Device *device, size_t bytes, const char *what, void **memory)
{
    return device->methods->allocate(device, bytes, what, memory);
}

void device_free(Device *device, void *memory)
{
    if (memory == NULL) return;
    ++device->generation;
    device->methods->free(device, memory);
}

Status device_upload(Device *device, void *to, const void *host, size_t bytes)
{
    return device->methods->upload(device, to, host, bytes);
}

Status device_download(Device *device, void *host, const void *from, size_t bytes)
{
    return device->methods->download(device, host, from, bytes);
}

Status device_copy_rows(Device *device, void *to, size_t to_stride, const void *from, size_t from_stride,
                        size_t bytes, size_t rows)
{
    return device->methods->copy_rows(device, to, to_stride, from, from_stride, bytes, rows);
}

Status device_clear(Device *device, void *memory, size_t bytes)
{
    return device->methods->clear(device, memory, bytes);
}

Status device_accumulate(Device *device, float *to, const float *from, int64_t count)
{
    return device->methods->accumulate(device, to, from, count);
}

Status device_narrow(Device *device, void *to, const float *from, const Slice *slice, int slices)
{
    if (device->methods->narrow == NULL)
        return fail(STATUS_INTERNAL, "%s does not narrow gradients", device_name(device));
    return device->methods->narrow(device, to, from, slice, slices);
}

Status device_widen(Device *device, float *to, const void *from, const Slice *slice, int slices)
{
    if (device->methods->widen == NULL)
        return fail(STATUS_INTERNAL, "this device leaves no gradients in bfloat16");
    return device->methods->widen(device, to, from, slice, slices);
}

Status device_synchronize(Device *device) { return device->methods->synchronize(device); }

Status device_mark(Device *device, Mark *mark)
{
    *mark = 0;
    return device->methods->mark != NULL ? device->methods->mark(device, mark) : OK;
}

Status device_wait(Device *device, Mark mark)
{
    if (mark == EVERYTHING) return device_synchronize(device);
    return device->methods->wait != NULL ? device->methods->wait(device, mark) : OK;
}

Status device_measure_peaks(Device *device, DevicePeaks *peaks)
{
    return device->methods->measure_peaks(device, peaks);
}

void device_libraries(const Device *device, char text[1024])
{
    text[0] = '\0';
    if (device->methods->libraries != NULL) device->methods->libraries(device, text);
}

Status device_measure_link(Device *device, int other, DeviceLink *link)
{
    *link = (DeviceLink){0};
    if (device->methods->measure_link == NULL)
        return fail(STATUS_UNSUPPORTED, "%s has no links to other devices", device->name);
    return device->methods->measure_link(device, other, link);
}

/* ---- streams, recordings ---- */

Status device_stream_open(Device *device, Stream *stream)
{
    *stream = NULL;
    return device->methods->stream_open != NULL ? device->methods->stream_open(device, stream) : OK;
}

void device_stream_close(Device *device, Stream stream)
{
    if (stream != NULL && device->methods->stream_close != NULL)
        device->methods->stream_close(device, stream);
}

Status device_stream_follow(Device *device, Stream stream, Stream earlier)
{
    if (stream == earlier || device->methods->stream_follow == NULL) return OK;
    return device->methods->stream_follow(device, stream, earlier);
}

Status device_repeat(Device *device, Recording *recording, Status (*enqueue)(void *), void *argument)
{
    if (device->methods->record == NULL) return enqueue(argument);
    if (recording->implementation != NULL && recording->generation != device->generation)
        device_forget(device, recording);
    if (recording->implementation != NULL) return device->methods->replay(device, recording);
    /* Libraries set themselves up at their first use, which cannot be recorded. */
    if (recording->calls++ == 0) return enqueue(argument);
    TRY(device->methods->record(device, recording, enqueue, argument));
    recording->generation = device->generation;
    return device->methods->replay(device, recording);
}

void device_forget(Device *device, Recording *recording)
{
    if (recording->implementation != NULL) device->methods->forget(device, recording);
    *recording = (Recording){0};
}

/* ---- choosing ---- */

static Status time_by_clock(Device *device, Status (*enqueue)(void *), void *argument, double *seconds)
{
    struct timespec start, end;
    TRY(device_synchronize(device));
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    TRY(enqueue(argument));
    TRY(device_synchronize(device));
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    *seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    return OK;
}

static Status time_once(Device *device, Status (*enqueue)(void *), void *argument, double *seconds)
{
    return (device->methods->time_once != NULL ? device->methods->time_once
                                               : time_by_clock)(device, enqueue, argument, seconds);
}

/* Several times the same, recorded. */
typedef struct {
    Device *device;
    Status (*enqueue)(void *);
    void *argument;
    int times;
    Recording recording;
} Repeated;

static Status enqueue_repeated(void *argument)
{
    const Repeated *r = argument;
    for (int i = 0; i < r->times; ++i)
        TRY(r->enqueue(r->argument));
    return OK;
}

static Status replay_repeated(void *argument)
{
    const Repeated *r = argument;
    return r->device->methods->replay(r->device, &r->recording);
}

Status device_try(Device *device, Status (*enqueue)(void *), void *argument)
{
    Repeated r = {.device = device, .enqueue = enqueue, .argument = argument, .times = 1};
    Status status = enqueue(argument);
    if (status == OK && device->methods->record != NULL) {
        status = device->methods->record(device, &r.recording, enqueue_repeated, &r);
        if (status == OK) status = replay_repeated(&r);
    }
    const Status waited = device_synchronize(device);
    if (status == OK)
        status = waited;
    else
        status_free(waited);
    device_forget(device, &r.recording);
    return status;
}

/* Enqueuing a short kernel takes longer than the kernel: short work is recorded some times over. All work is recorded, and
 * its record timed: what cannot be recorded is of no use later. */
Status device_time(Device *device, Status (*enqueue)(void *), void *argument, double *seconds)
{
    enum { ROUNDS = 3, REPEATS = 8 };
    static const double short_seconds = 1e-3;
    Repeated r = {.device = device, .enqueue = enqueue, .argument = argument, .times = 1};
    TRY(time_once(device, enqueue, argument, seconds)); /* warms up */
    TRY(time_once(device, enqueue, argument, seconds));
    const bool record = device->methods->record != NULL;
    if (record) {
        r.times = *seconds < short_seconds ? REPEATS : 1;
        const Status status = device->methods->record(device, &r.recording, enqueue_repeated, &r);
        if (status != OK) {
            device_forget(device, &r.recording);
            return status;
        }
    }
    Status status = OK;
    for (int i = 0; i < ROUNDS && status == OK; ++i) {
        double all = 0;
        status = record ? time_once(device, replay_repeated, &r, &all)
                        : time_once(device, enqueue, argument, &all);
        if (status == OK && (i == 0 || all / r.times < *seconds)) *seconds = all / r.times;
    }
    device_forget(device, &r.recording);
    return status;
}

void device_set_numerics(Device *device, DeviceNumerics numerics) { device->numerics = numerics; }
DeviceNumerics device_numerics(const Device *device) { return device->numerics; }
