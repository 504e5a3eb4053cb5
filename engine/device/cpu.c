/* The CPU as a device: work is done when a call returns. */
#include "engine/base/memory.h"
#include "engine/device/device_methods.h"
#include "engine/device/spin.h"

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

static int count_cpu(Status *why)
{
    (void)why;
    return 1;
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
#if defined(__x86_64__)
    device->bfloat16 = __builtin_cpu_supports("avx512bf16") ? 1 : 0;
#endif
    SpinWatch *watch;
    TRY(spin_watch_open((SpinOptions){.threads = device->threads}, &watch));
    device->implementation = watch;
    return OK;
}

static void close_cpu(Device *device) { spin_watch_close(device->implementation); }

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

static Status copy_rows_cpu(Device *device, void *to, size_t to_stride, const void *from, size_t from_stride,
                            size_t bytes, size_t rows)
{
    (void)device;
    for (size_t row = 0; row < rows && bytes > 0; ++row)
        memcpy((char *)to + row * to_stride, (const char *)from + row * from_stride, bytes);
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

/* ---- peaks ---- */

/* One register: gcc keeps wider vectors in memory. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
enum { CHAINS = 10, FLOAT_LANES = VECTOR_BYTES / 4 };

/* Independent chains of multiply-adds: enough of them to fill the pipelines. Returns something that depends
 * on all, so that the compiler cannot drop them. */
static float multiply_adds(int64_t rounds, float seed)
{
    Vector chain[CHAINS];
    const Vector factor = (Vector){0} + 0.999F, addend = (Vector){0} + seed;
    for (int i = 0; i < CHAINS; ++i)
        chain[i] = addend + (float)i;
    for (int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < CHAINS; ++i)
            chain[i] = chain[i] * factor + addend;
    float total = 0;
    for (int i = 0; i < CHAINS; ++i)
        total += chain[i][0];
    return total;
}

static double seconds(void) { return omp_get_wtime(); }

static Status measure_peaks_cpu(Device *device, DevicePeaks *peaks)
{
    enum { COPY_BYTES = 128 << 20, REPEATS = 3 };
    static const int64_t rounds = 2000000;
    static const double flops_a_round = 2.0 * CHAINS * FLOAT_LANES;
    const int threads = device->threads;
    char *from, *to;
    volatile float sink = 0;
    *peaks = (DevicePeaks){0};
    TRY(allocate_cpu(device, COPY_BYTES, "the measurement of peaks", (void **)&from));
    Status status = allocate_cpu(device, COPY_BYTES, "the measurement of peaks", (void **)&to);
    for (int repeat = 0; repeat < REPEATS && status == OK; ++repeat) {
        double start = seconds();
        float total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
        total += multiply_adds(rounds, (float)repeat * 1e-3F);
        sink = total;
        const double flops = flops_a_round * (double)rounds * threads / (seconds() - start);
        start = seconds();
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int part = 0; part < threads; ++part) {
            const size_t bytes = (size_t)COPY_BYTES / (size_t)threads;
            memcpy(to + bytes * (size_t)part, from + bytes * (size_t)part, bytes);
        }
        const double bytes = 2.0 * COPY_BYTES / (seconds() - start);
        if (flops > peaks->flops_per_second) peaks->flops_per_second = flops;
        if (bytes > peaks->bytes_per_second) peaks->bytes_per_second = bytes;
    }
    (void)sink;
    free_cpu(device, from);
    if (status == OK) free_cpu(device, to);
    return status;
}

const DeviceMethods device_cpu_methods = {.count = count_cpu,
                                          .open = open_cpu,
                                          .close = close_cpu,
                                          .allocate = allocate_cpu,
                                          .free = free_cpu,
                                          .upload = copy_cpu,
                                          .download = copy_cpu,
                                          .copy_rows = copy_rows_cpu,
                                          .clear = clear_cpu,
                                          .accumulate = accumulate_cpu,
                                          .synchronize = synchronize_cpu,
                                          .measure_peaks = measure_peaks_cpu};
