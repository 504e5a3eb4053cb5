#include "engine/base/memory.h"
#include "engine/device/device_methods.h"

#include <stdlib.h>

static const DeviceMethods *const methods_table[DEVICE_KINDS] = {
    [DEVICE_CPU] = &device_cpu_methods, [DEVICE_CUDA] = &device_cuda_methods};

Status device_open(DeviceKind kind, int index, int threads, Device **out)
{
    *out = NULL;
    if (methods_table[kind] == NULL)
        return fail(STATUS_UNSUPPORTED, "this build of plumb has no CUDA; set device: cpu or auto");
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
int device_has_bfloat16(const Device *device) { return device->bfloat16; }

Status device_allocate(Device *device, size_t bytes, const char *what, void **memory)
{
    return device->methods->allocate(device, bytes, what, memory);
}

void device_free(Device *device, void *memory)
{
    if (memory != NULL) device->methods->free(device, memory);
}

Status device_upload(Device *device, void *to, const void *host, size_t bytes)
{
    return device->methods->upload(device, to, host, bytes);
}

Status device_download(Device *device, void *host, const void *from, size_t bytes)
{
    return device->methods->download(device, host, from, bytes);
}

Status device_clear(Device *device, void *memory, size_t bytes)
{
    return device->methods->clear(device, memory, bytes);
}

Status device_accumulate(Device *device, float *to, const float *from, int64_t count)
{
    return device->methods->accumulate(device, to, from, count);
}

Status device_synchronize(Device *device) { return device->methods->synchronize(device); }

Status device_measure_peaks(Device *device, DevicePeaks *peaks)
{
    return device->methods->measure_peaks(device, peaks);
}
