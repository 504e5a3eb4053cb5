#include "launch/doctor.h"

#include "engine/base/memory.h"
#include "engine/device/device.h"
#include "engine/ops/onednn/onednn.h"

#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char doctor_help[] = "usage: [mpirun -n RANKS] plumb doctor [cpu|cuda]\n"
                           "\n"
                           "Says what the ranks run on: hosts, devices, processors, versions; measures each "
                           "device's peaks, the links between\n"
                           "the GPUs of a host, and sums over all ranks; and warns of what slows a job down "
                           "or breaks it. Without a word: GPUs if\n"
                           "there are any.\n";

/* What each rank tells the others. */
typedef struct {
    char host[256], name[256], identity[64], libraries[1024];
    int32_t kind, local_rank, threads, may_share;
    cpu_set_t processors;
    DevicePeaks peaks;
} Patient;

typedef struct {
    World *world;
    Device *device;
    Collective *collective; /* for the device's memory; NULL if there is none */
    CommLibraries comm;
    Patient *all; /* [ranks] */
    double link;  /* bytes per second of the slowest link; 0: unknown */
    int warnings;
} Doctor;

static bool speaks(const Doctor *d) { return d->world->rank == 0; }

__attribute__((format(printf, 2, 3))) static void warn(Doctor *d, const char *format, ...)
{
    va_list arguments;
    if (!speaks(d)) return;
    va_start(arguments, format);
    (void)printf(d->warnings++ == 0 ? "\nWarnings\n  - " : "  - ");
    (void)vprintf(format, arguments);
    (void)printf("\n");
    va_end(arguments);
}

/* ---- what there is ---- */

static Status open_device(Doctor *d, const char *wish)
{
    const World *world = d->world;
    const bool cpu = wish != NULL && strcmp(wish, "cpu") == 0,
               cuda = wish != NULL && strcmp(wish, "cuda") == 0;
    Status why = OK;
    const int gpus = cpu ? 0 : device_count(DEVICE_CUDA, &why);
    if (gpus > 0) return device_open(DEVICE_CUDA, world->local_rank % gpus, comm_threads(world), &d->device);
    if (cuda) return why;
    status_free(why);
    return device_open(DEVICE_CPU, 0, comm_threads(world), &d->device);
}

static Status examine(Doctor *d)
{
    const World *world = d->world;
    Patient mine = {.kind = device_kind(d->device),
                    .local_rank = world->local_rank,
                    .threads = device_threads(d->device),
                    .may_share =
                        getenv("NCCL_HOSTID") != NULL || getenv("NCCL_MULTI_RANK_GPU_ENABLE") != NULL};
    (void)snprintf(mine.host, sizeof mine.host, "%s", world->host);
    (void)snprintf(mine.name, sizeof mine.name, "%s", device_name(d->device));
    (void)snprintf(mine.identity, sizeof mine.identity, "%s", device_identity(d->device));
    device_libraries(d->device, mine.libraries);
    (void)sched_getaffinity(0, sizeof mine.processors, &mine.processors);
    TRY(comm_agree(d->world, device_measure_peaks(d->device, &mine.peaks)));
    TRY(memory_new(&d->all, (size_t)world->size, sizeof *d->all, "the ranks"));
    return comm_gather(d->world, &mine, sizeof mine, d->all, "what the ranks run on");
}

static void print_versions(const Doctor *d)
{
    char onednn[32];
    (void)printf("plumb %s\n", PLUMB_VERSION);
    (void)printf("  ranks      %d, connected by %s\n", d->world->size, d->comm.transport);
    (void)printf("  NCCL       %s\n", d->comm.nccl);
    (void)printf("  oneDNN     %s\n", onednn_version(onednn));
    for (const char *line = d->all[0].libraries; *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        (void)printf("  GPU        %.*s\n", (int)length, line);
        line += length + (line[length] == '\n' ? 1 : 0);
    }
}

static void print_ranks(const Doctor *d)
{
    (void)printf("\n%5s %-20s %5s  %-44s %7s %10s %10s %10s\n", "rank", "host", "local", "device", "threads",
                 "Gflop/s", "matrix", "GB/s");
    for (int i = 0; i < d->world->size; ++i) {
        const Patient *p = &d->all[i];
        (void)printf("%5d %-20s %5d  %-44.44s %7d %10.1f ", i, p->host, p->local_rank, p->name, p->threads,
                     p->peaks.flops_per_second / 1e9);
        if (p->peaks.matrix_flops_per_second > 0)
            (void)printf("%10.1f", p->peaks.matrix_flops_per_second / 1e9);
        else
            (void)printf("%10s", "-");
        (void)printf(" %10.2f\n", p->peaks.bytes_per_second / 1e9);
    }
    (void)printf("Gflop/s: float32 multiply-adds; matrix: bfloat16 products; GB/s: copies. Each measured "
                 "now, by all ranks at "
                 "once.\n");
}

/* ---- links ---- */

/* The first rank of each host measures its GPU's links to the host's others. */
static Status measure_links(Doctor *d)
{
    typedef struct {
        double slowest;
        int32_t count, direct, measured;
    } Links;
    Links mine = {0, 0, 0, 0}, *all;
    Status status = OK;
    const int gpus = device_kind(d->device) == DEVICE_CUDA ? device_count(DEVICE_CUDA, NULL) : 0;
    for (int other = 1; other < gpus && d->world->local_rank == 0 && status == OK; ++other) {
        DeviceLink link;
        status = device_measure_link(d->device, other, &link);
        if (status != OK) break;
        ++mine.count;
        mine.direct += link.direct ? 1 : 0;
        if (link.bytes_per_second == 0) continue; /* not measured */
        if (mine.measured == 0 || link.bytes_per_second < mine.slowest) mine.slowest = link.bytes_per_second;
        ++mine.measured;
    }
    TRY(comm_agree(d->world, status));
    TRY(memory_new(&all, (size_t)d->world->size, sizeof *all, "links"));
    status = comm_gather(d->world, &mine, sizeof mine, all, "links");
    for (int i = 0; i < d->world->size && status == OK; ++i) {
        if (all[i].count == 0) continue;
        if (speaks(d)) {
            (void)printf("\nlinks of host %s: GPU 0 to %d others, %d of them direct; ", d->all[i].host,
                         all[i].count, all[i].direct);
            if (all[i].measured > 0) (void)printf("the slowest copies %.1f GB/s", all[i].slowest / 1e9);
            if (all[i].measured < all[i].count)
                (void)printf("%s%d not measured, since the GPU is another process's alone (compute mode)",
                             all[i].measured > 0 ? "; " : "", all[i].count - all[i].measured);
            (void)printf("\n");
        }
        if (all[i].measured == 0) continue;
        if (d->link == 0 || all[i].slowest < d->link) d->link = all[i].slowest;
    }
    free(all);
    /* On CPUs of one host, sums can go no faster than memory is copied. */
    if (status == OK && device_kind(d->device) == DEVICE_CPU) d->link = d->all[0].peaks.bytes_per_second;
    return status;
}

/* ---- sums over the ranks ---- */

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static Status sum_once(Doctor *d, void *data, int64_t count)
{
    const Stream stream = device_stream(d->device);
    TRY(collective_sum(d->collective, (Span){data, count, FLOAT32}, stream));
    TRY(collective_join(d->collective, stream));
    return collective_wait(d->collective, d->device, EVERYTHING);
}

/* Seconds of one sum, the mean of as many as a fifth of a second holds; the same number on all ranks. */
static Status time_sum(Doctor *d, void *data, int64_t count, double *seconds)
{
    static const double enough = 0.2;
    bool more = true;
    int64_t times = 0;
    TRY(sum_once(d, data, count)); /* to warm up */
    TRY(comm_barrier(d->world));
    const double start = now();
    while (more) {
        TRY(sum_once(d, data, count));
        ++times;
        TRY(comm_any(d->world, speaks(d) && now() - start < enough && times < 50, &more));
    }
    *seconds = (now() - start) / (double)times;
    return OK;
}

static Status measure_sums(Doctor *d)
{
    enum { SMALLEST = 4 << 10, LARGEST = 256 << 20, FACTOR = 8 };
    static const double patience = 2; /* seconds for one sum */
    const int ranks = d->world->size;
    void *data;
    double bus = 0;
    if (ranks == 1) return OK;
    TRY(comm_agree(d->world, device_allocate(d->device, LARGEST, "sums over ranks", &data)));
    if (speaks(d))
        (void)printf("\nsums of float32 over %d ranks\n%14s %12s %12s %12s\n", ranks, "bytes", "ms", "GB/s",
                     "bus GB/s");
    Status status = OK;
    for (int64_t bytes = SMALLEST; bytes <= LARGEST && status == OK; bytes *= FACTOR) {
        double seconds = 0;
        status = time_sum(d, data, bytes / (int64_t)sizeof(float), &seconds);
        if (status != OK) break;
        bus = 2.0 * (ranks - 1) / ranks * (double)bytes / seconds;
        if (speaks(d))
            (void)printf("%14" PRId64 " %12.3f %12.2f %12.2f\n", bytes, seconds * 1e3,
                         (double)bytes / seconds / 1e9, bus / 1e9);
        bool slow = seconds > patience;
        status = comm_any(d->world, slow, &slow);
        if (slow) break;
    }
    device_free(d->device, data);
    TRY(status);
    if (d->link > 0 && speaks(d))
        (void)printf(
            "bus: what each link carries; at the largest size %.0f %% of %.1f GB/s, the slowest %s\n",
            100 * bus / d->link, d->link / 1e9, device_kind(d->device) == DEVICE_CPU ? "memory" : "link");
    static const double little = 0.25;
    if (d->link > 0 && bus < little * d->link && device_kind(d->device) == DEVICE_CUDA)
        warn(d, "sums over ranks use %.0f %% of the slowest link: NCCL_DEBUG=INFO shows which way they go",
             100 * bus / d->link);
    return OK;
}

/* ---- what is wrong ---- */

static bool share_a_gpu(const Patient *a, const Patient *b)
{
    return a->identity[0] != '\0' && strcmp(a->identity, b->identity) == 0 && strcmp(a->host, b->host) == 0;
}

static void find_shared(Doctor *d)
{
    for (int i = 1; i < d->world->size; ++i)
        for (int j = 0; j < i; ++j) {
            const Patient *a = &d->all[j], *b = &d->all[i];
            cpu_set_t both;
            if (strcmp(a->host, b->host) != 0) continue;
            if (share_a_gpu(a, b))
                warn(d, "ranks %d and %d share one GPU of host %s: start as many ranks there as it has GPUs",
                     j, i, a->host);
            CPU_AND(&both, &a->processors, &b->processors);
            if (CPU_COUNT(&both) > 0) {
                warn(d,
                     "ranks %d and %d share %d processors of host %s: start fewer, or let the launcher bind "
                     "them "
                     "(mpirun --bind-to core --map-by slot:PE=N)",
                     j, i, CPU_COUNT(&both), a->host);
                return; /* one says it */
            }
        }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Ranks whose device is much slower than the median. */
static Status find_slow(Doctor *d)
{
    static const double much = 0.75;
    const int ranks = d->world->size;
    double *sorted;
    TRY(memory_new(&sorted, (size_t)ranks, sizeof *sorted, "peaks"));
    for (int memory = 0; memory < 2; ++memory) {
        for (int i = 0; i < ranks; ++i)
            sorted[i] = memory ? d->all[i].peaks.bytes_per_second : d->all[i].peaks.flops_per_second;
        qsort(sorted, (size_t)ranks, sizeof *sorted, ascending);
        const double median = sorted[ranks / 2];
        for (int i = 0; i < ranks; ++i) {
            const double own = memory ? d->all[i].peaks.bytes_per_second : d->all[i].peaks.flops_per_second;
            if (own < much * median)
                warn(d, "rank %d on host %s %s %.0f %% as fast as the median: all ranks wait for it", i,
                     d->all[i].host, memory ? "copies memory" : "computes", 100 * own / median);
        }
    }
    free(sorted);
    return OK;
}

/* A daemon of Open MPI 4 that cannot reach its mpirun any more, or the other way round, learns of it from TCP's own
 * probes, which begin after five minutes; or, if it has said something since, after fifteen of repetition. */
static bool mpirun_notices_lost_hosts(void)
{
    const char *nodes = getenv("OMPI_MCA_orte_num_nodes"), *idle = getenv("OMPI_MCA_oob_tcp_keepalive_time");
    return nodes == NULL || atoi(nodes) < 2 || (idle != NULL && atoi(idle) > 0 && atoi(idle) <= 60);
}

static void find_faults(Doctor *d, Status no_gpu)
{
    const World *world = d->world;
    if (no_gpu != OK && device_kind(d->device) == DEVICE_CPU && status_code(no_gpu) == STATUS_UNSUPPORTED &&
        strstr(status_message(no_gpu), "build of plumb") == NULL)
        warn(d, "this build could use GPUs, but: %s", status_message(no_gpu));
    if (!d->comm.threads)
        warn(d,
             "MPI allows a rank no threads (%s): kernels with threads may break it; build MPI with thread "
             "support",
             d->comm.transport);
    if (!mpirun_notices_lost_hosts())
        warn(d,
             "mpirun itself takes minutes to notice that a host has vanished from the network, and lingers: "
             "start it with --mca oob_tcp_keepalive_time 10 --mca oob_tcp_keepalive_intvl 5 --mca "
             "oob_tcp_keepalive_probes 3 (or have openmpi-mca-params.conf say so)");
    if (world->size > 1 && device_kind(d->device) == DEVICE_CUDA && !d->comm.has_nccl)
        warn(d, "several ranks on GPUs, and NCCL is missing: training refuses to start");
    if (strstr(d->all[0].libraries, "no cuDNN") != NULL || strstr(d->all[0].libraries, "no cuBLASLt") != NULL)
        warn(d, "a library that training on a GPU needs is missing (see above)");
    for (int i = 1; i < world->size; ++i) {
        if (strcmp(d->all[i].libraries, d->all[0].libraries) != 0)
            warn(d, "rank %d on host %s has other versions of driver or libraries than rank 0", i,
                 d->all[i].host);
        if (d->all[i].kind != d->all[0].kind)
            warn(d, "rank %d on host %s runs on %s, rank 0 on %s", i, d->all[i].host, d->all[i].name,
                 d->all[0].name);
    }
}

/* ---- the visit ---- */

/* NCCL refuses two ranks on one GPU of a host, unless it is told that it may or that they are of two hosts.
 */
static bool nccl_would_refuse(const Doctor *d)
{
    for (int i = 1; i < d->world->size; ++i)
        for (int j = 0; j < i; ++j)
            if (share_a_gpu(&d->all[i], &d->all[j]) && !(d->all[i].may_share && d->all[j].may_share))
                return true;
    return false;
}

static Status open_collective(Doctor *d)
{
    const CommOptions options = {.kind = "auto", .timeout_seconds = 120};
    if (d->world->size > 1 && device_kind(d->device) == DEVICE_CUDA && !d->comm.has_nccl) return OK;
    if (nccl_would_refuse(d)) {
        if (speaks(d))
            (void)printf("\nsums over ranks: not measured, since NCCL refuses ranks that share a GPU\n");
        return OK;
    }
    return comm_device_collective(d->world, d->device, &options, &d->collective);
}

static Status visit(Doctor *d, const char *wish)
{
    Status no_gpu = OK;
    comm_libraries(d->world, &d->comm);
    TRY(comm_agree(d->world, open_device(d, wish)));
    TRY(examine(d));
    if (speaks(d)) {
        print_versions(d);
        print_ranks(d);
    }
    TRY(measure_links(d));
    TRY(open_collective(d));
    if (d->collective != NULL) TRY(measure_sums(d));
    (void)device_count(DEVICE_CUDA, &no_gpu);
    find_faults(d, no_gpu);
    status_free(no_gpu);
    find_shared(d);
    TRY(find_slow(d));
    if (speaks(d) && d->warnings == 0) (void)printf("\nNothing is wrong.\n");
    return OK;
}

Status command_doctor(World *world, int argc, char **argv)
{
    Doctor doctor = {.world = world};
    if (argc > 2 || (argc == 2 && strcmp(argv[1], "cpu") != 0 && strcmp(argv[1], "cuda") != 0))
        return fail(STATUS_USAGE, "plumb doctor takes nothing, cpu or cuda");
    const Status status = visit(&doctor, argc == 2 ? argv[1] : NULL);
    collective_free(doctor.collective);
    device_close(doctor.device);
    free(doctor.all);
    return status;
}
