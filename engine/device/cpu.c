/* The CPU as a device: work is done when a call returns. */
#include "engine/base/memory.h"
#include "engine/device/device_methods.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

/* The processor's name as /proc/cpuinfo gives it. */
static void read_name(char *name, size_t size)
{
    (void)snprintf(name, size, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL) return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "model name", 10) != 0) continue;
        const char *colon = strchr(line, ':');
        if (colon == NULL) continue;
        (void)snprintf(name, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    (void)fclose(file);
}

static Status open_cpu(Device *device, int index, int threads)
{
    (void)index;
    if (threads > 0) omp_set_num_threads(threads);
    device->threads = omp_get_max_threads();
    char name[200];
    read_name(name, sizeof name);
    (void)snprintf(device->name, sizeof device->name, "%s, %d thread%s", name, device->threads,
                   device->threads == 1 ? "" : "s");
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    device->bfloat16 = __builtin_cpu_supports("avx512bf16") ? 1 : 0;
#endif
    return OK;
}

static void close_cpu(Device *device) { (void)device; }

/* Large blocks are asked for as huge pages: an arena of gigabytes otherwise spends its time in page faults.
 */
static Status allocate_cpu(Device *device, size_t bytes, const char *what, void **memory)
{
    (void)device;
    enum { HUGE = 2 << 20 };
    *memory = NULL;
    const size_t alignment = bytes >= HUGE ? (size_t)HUGE : (size_t)MEMORY_ALIGNMENT;
    if (bytes > SIZE_MAX - alignment)
        return fail(STATUS_MEMORY, "%s: %zu bytes are more than fit", what, bytes);
    const size_t rounded = ((bytes > 0 ? bytes : 1) + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, rounded);
    if (block == NULL) {
        struct sysinfo system;
        const double gigabyte = 1e9;
        double available = 0;
        if (sysinfo(&system) == 0) available = (double)system.freeram * (double)system.mem_unit;
        return fail(STATUS_MEMORY,
                    "%s needs %.3f GB of memory; the system refused (%.3f GB are free). Use a smaller batch, "
                    "more ranks or micro_batches",
                    what, (double)bytes / gigabyte, available / gigabyte);
    }
    if (bytes >= HUGE) (void)madvise(block, rounded, MADV_HUGEPAGE);
    memset(block, 0, rounded);
    *memory = block;
    return OK;
}

static void free_cpu(Device *device, void *memory)
{
    (void)device;
    free(memory);
}

static Status copy_cpu(Device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes > 0) memcpy(to, from, bytes);
    return OK;
}

static Status clear_cpu(Device *device, void *memory, size_t bytes)
{
    (void)device;
    if (bytes > 0) memset(memory, 0, bytes);
    return OK;
}

static Status accumulate_cpu(Device *device, float *to, const float *from, int64_t count)
{
    (void)device;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; ++i)
        to[i] += from[i];
    return OK;
}

static Status synchronize_cpu(Device *device)
{
    (void)device;
    return OK;
}

const DeviceMethods device_cpu_methods = {.open = open_cpu,
                                          .close = close_cpu,
                                          .allocate = allocate_cpu,
                                          .free = free_cpu,
                                          .upload = copy_cpu,
                                          .download = copy_cpu,
                                          .clear = clear_cpu,
                                          .accumulate = accumulate_cpu,
                                          .synchronize = synchronize_cpu};
