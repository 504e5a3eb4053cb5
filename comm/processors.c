/* mpirun of Open MPI binds each rank of a job of one or two to a single core, which would make a rank's
 * OpenMP threads share that core; larger jobs are bound to a socket, which several ranks then fill with too
 * many threads. So, unless the user said how to bind, the ranks of a host divide what the launcher itself may
 * use. */
#include "comm/processors.h"

#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { ANCESTORS = 8 }; /* a shell script or a profiler may stand between mpirun and us */

/* "PID (COMMAND) STATE PARENT ..." */
static bool process_read(pid_t process, char command[64], pid_t *parent)
{
    char path[64], text[512];
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)process);
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    const size_t length = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[length] = '\0';
    const char *open = strchr(text, '('), *close = strrchr(text, ')');
    long value = 0;
    if (open == NULL || close == NULL || close < open || sscanf(close + 1, " %*c %ld", &value) != 1)
        return false;
    (void)snprintf(command, 64, "%.*s", (int)(close - open - 1), open + 1);
    *parent = (pid_t)value;
    return true;
}

/* The mask of the mpirun (or its daemon) that started us: what the user, a batch system or a container
 * allows.
 */
static bool launcher_mask(cpu_set_t *mask)
{
    static const char *const names[] = {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prted"};
    pid_t process = getppid();
    for (int i = 0; i < ANCESTORS && process > 1; ++i) {
        char command[64];
        pid_t parent;
        if (!process_read(process, command, &parent)) return false;
        for (size_t n = 0; n < sizeof names / sizeof *names; ++n)
            if (strncmp(command, names[n], strlen(names[n])) == 0)
                return sched_getaffinity(process, sizeof *mask, mask) == 0;
        process = parent;
    }
    return false;
}

/* Open MPI passes on what the command line says about binding. Mapping alone ("--map-by node") says where
 * ranks go, not how many processors each gets, unless it names processing elements. */
static bool open_mpi_binding_chosen(void)
{
    const char *mapping = getenv("OMPI_MCA_rmaps_base_mapping_policy");
    return getenv("OMPI_MCA_hwloc_base_binding_policy") != NULL ||
           getenv("OMPI_MCA_hwloc_base_cpu_set") != NULL || getenv("OMPI_MCA_rmaps_rank_file_path") != NULL ||
           (mapping != NULL && strcasestr(mapping, "pe=") != NULL);
}

Processors processors_find(void)
{
    Processors result;
    memset(&result, 0, sizeof result); /* compared and sent as bytes */
    result.known = sched_getaffinity(0, sizeof result.allowed, &result.allowed) == 0;
    if (getenv("OMPI_COMM_WORLD_SIZE") != NULL) {
        result.chosen = open_mpi_binding_chosen();
        cpu_set_t mask;
        CPU_ZERO(&mask);
        if (result.known && !result.chosen && launcher_mask(&mask))
            CPU_OR(&result.allowed, &result.allowed, &mask);
    } else {
        /* srun binds each task to the processors that the user asked for. */
        result.chosen = getenv("SLURM_STEP_ID") != NULL;
    }
    if (CPU_COUNT(&result.allowed) == 0) result.known = false;
    return result;
}

typedef struct {
    int package, core, cpu;
} ProcessingUnit;

static int topology_number(int cpu, const char *what)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, what);
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    int value = 0;
    if (fscanf(file, "%d", &value) != 1) value = 0;
    (void)fclose(file);
    return value;
}

static int unit_order(const void *left, const void *right)
{
    const ProcessingUnit *a = left, *b = right;
    if (a->package != b->package) return a->package < b->package ? -1 : 1;
    if (a->core != b->core) return a->core < b->core ? -1 : 1;
    return a->cpu < b->cpu ? -1 : 1;
}

void processors_slice(const cpu_set_t *all, int index, int parts, cpu_set_t *slice)
{
    ProcessingUnit units[CPU_SETSIZE] = {{0}};
    int count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, all))
            units[count++] = (ProcessingUnit){.package = topology_number(cpu, "physical_package_id"),
                                              .core = topology_number(cpu, "core_id"),
                                              .cpu = cpu};
    /* Linux numbers the second threads of all cores after the first ones; in the order of cores a slice holds
     * whole cores, so that ranks do not compete for one. */
    qsort(units, (size_t)count, sizeof *units, unit_order);
    const int first = (int)((int64_t)index * count / parts);
    int end = (int)(((int64_t)index + 1) * count / parts);
    if (end == first) end = first + 1;
    CPU_ZERO(slice);
    for (int i = first; i < end; ++i)
        CPU_SET(units[i].cpu, slice);
}

void processors_text(const cpu_set_t *set, char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, set)) continue;
        const int first = cpu;
        while (cpu + 1 < CPU_SETSIZE && CPU_ISSET(cpu + 1, set))
            ++cpu;
        char part[32];
        const int wrote =
            snprintf(part, sizeof part, first < cpu ? "%s%d-%d" : "%s%d", length > 0 ? "," : "", first, cpu);
        if (wrote < 0 || length + (size_t)wrote >= size) return;
        memcpy(text + length, part, (size_t)wrote + 1);
        length += (size_t)wrote;
    }
}

static double quota_read(const char *limit_path, const char *period_path)
{
    double quota = -1, period = 100000;
    FILE *file = fopen(limit_path, "re");
    if (file == NULL) return -1;
    /* Version 2: "LIMIT PERIOD" or "max PERIOD" in one file; version 1: a file each, -1 for no limit. */
    const int fields = fscanf(file, "%lf %lf", &quota, &period);
    (void)fclose(file);
    if (fields < 1) return -1;
    if (fields == 1 && period_path != NULL && (file = fopen(period_path, "re")) != NULL) {
        if (fscanf(file, "%lf", &period) != 1) period = 100000;
        (void)fclose(file);
    }
    return quota > 0 && period > 0 ? quota / period : -1;
}

int processors_quota(void)
{
    double quota = quota_read("/sys/fs/cgroup/cpu.max", NULL);
    if (quota < 0)
        quota = quota_read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    if (quota < 0 || quota > 1e6) return INT_MAX;
    return quota < 1 ? 1 : (int)quota;
}

int processors_take(const Processors *all, int index, int count)
{
    /* Those that may use the same processors as this rank divide them; ranks with masks of their own keep
     * them.
     */
    int sharers = 0, mine = 0;
    for (int i = 0; i < count; ++i) {
        if (!CPU_EQUAL(&all[i].allowed, &all[index].allowed)) continue;
        if (i == index) mine = sharers;
        ++sharers;
    }
    int threads = 1;
    if (all[index].known) {
        cpu_set_t slice;
        processors_slice(&all[index].allowed, mine, sharers, &slice);
        threads = CPU_COUNT(&slice);
        if (!all[index].chosen) {
            /* OMP_NUM_THREADS says that somebody (a user, a sweep with several jobs a host) plans the host;
             * then only a binding by default is undone. A refusal of the kernel costs speed, not correctness.
             */
            const cpu_set_t *mask = getenv("OMP_NUM_THREADS") != NULL ? &all[index].allowed : &slice;
            (void)sched_setaffinity(0, sizeof *mask, mask);
        }
        const int granted = processors_quota() / count;
        if (threads > granted) threads = granted < 1 ? 1 : granted;
    } else {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        if (online / count > 1) threads = online / count > INT_MAX ? INT_MAX : (int)(online / count);
    }
    /* OpenMP read OMP_NUM_THREADS, and the mask of that moment, when the program was loaded. */
    if (getenv("OMP_NUM_THREADS") != NULL) return omp_get_max_threads();
    omp_set_num_threads(threads);
    return threads;
}
