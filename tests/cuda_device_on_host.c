/* The device on which cuda_on_host.cc executes kernels: host memory, everything done when a call returns. */
#include "engine/base/memory.h"
#include "engine/device/cuda_kernels.h"
#include "engine/device/device_methods.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count_host(Status *why)
{
    (void)why;
    return 1;
}

static Status open_host(Device *device, int index, int threads)
{
    (void)index;
    (void)threads;
    device->threads = 1;
    device->memory = (size_t)1 << 30;
    device->bfloat16 = 1;
    (void)snprintf(device->name, sizeof device->name, "CUDA on the host");
    return OK;
}

static void close_host(Device *device) { (void)device; }

static Status allocate_host(Device *device, size_t bytes, const char *what, void **memory)
{
    (void)device;
    char *block;
    TRY(memory_new(&block, bytes > 0 ? bytes : 1, 1, what));
    *memory = block;
    return OK;
}

static void free_host(Device *device, void *memory)
{
    (void)device;
    free(memory);
}

static Status copy_host(Device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes > 0) memcpy(to, from, bytes);
    return OK;
}

static Status clear_host(Device *device, void *memory, size_t bytes)
{
    (void)device;
    if (bytes > 0) memset(memory, 0, bytes);
    return OK;
}

static Status synchronize_host(Device *device)
{
    (void)device;
    return OK;
}

const DeviceMethods device_cuda_methods = {.count = count_host,
                                           .open = open_host,
                                           .close = close_host,
                                           .allocate = allocate_host,
                                           .free = free_host,
                                           .upload = copy_host,
                                           .download = copy_host,
                                           .clear = clear_host,
                                           .accumulate = accumulate_cuda,
                                           .synchronize = synchronize_host};
