/* A libnccl.so.2 for tests on machines without GPUs: the functions that plumb uses, for host memory, between
 * the processes of one host through POSIX shared memory. Streams do not exist: an operation is done when its
 * call returns, unless the program executes CUDA's work on the host (cuda_device_on_host.cc): then it is
 * given to that, which may record it as a GPU does. Sums are made in the order of ranks.
 *
 * NCCL_STAND_IN_FAULT makes a rank go wrong, "RANK:FAULT:NUMBER", in its operation of that number (from 1):
 *     fail    the call returns an error
 *     error   the operation waits, and ncclCommGetAsyncError says that it failed
 *     hang    the operation waits until it is aborted
 *     stuck   the operation waits, and nothing ends it
 *     stop, kill   the process gets SIGSTOP, SIGKILL
 *     nan     a NaN is summed for this rank's first element
 * and, with other numbers, for a rank:
 *     version the version that ncclGetVersion tells
 *     start   ncclCommInitRank waits for ever (any number) */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <nccl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SLOT = 1 << 18, RANKS = 256 };

/* What a rank is about to do; all must be about to do the same. */
typedef struct {
    int64_t number, count;
    int32_t kind, type, root;
} Plan;

typedef struct {
    atomic_uint arrived, generation;
    Plan plan[RANKS];
    char slot[][SLOT];
} Shared;

struct ncclComm {
    Shared *shared;
    int rank, size;
    int64_t operations;
    atomic_int enqueued; /* that a device still holds; a recorded one until its recording is gone */
    atomic_bool aborted;
    ncclComm_t kept_before; /* when it was aborted */
    _Atomic ncclResult_t asynchronous;
};

/* plumb looks for it before it hands over host memory. */
const int nccl_stand_in_for_host_memory = 1;

/* The stream that the last operation was given, for tests to look at. */
void *nccl_stand_in_stream;

/* Takes the argument, calls run(argument) now or whenever it is replayed, and drop(argument) in the end. Only
 * in a program that has such a device. */
__attribute__((weak)) void enqueue_device_work(void (*run)(void *argument), void (*drop)(void *argument),
                                               void *argument);

static const char *last_error = "";

static void pause_shortly(void)
{
    const struct timespec time = {.tv_nsec = 50000};
    (void)nanosleep(&time, NULL);
}

static int process_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        if (getenv(names[i]) != NULL) return atoi(getenv(names[i]));
    return 0;
}

/* Is this rank to go wrong in that way? */
static bool fault(int rank, const char *kind, long *number)
{
    char name[16] = "";
    int where = -1;
    const char *text = getenv("NCCL_STAND_IN_FAULT");
    return text != NULL && sscanf(text, "%d:%15[a-z]:%ld", &where, name, number) == 3 && where == rank &&
           strcmp(name, kind) == 0;
}

static bool fault_now(const struct ncclComm *comm, const char *kind)
{
    long number = 0;
    return fault(comm->rank, kind, &number) && number == comm->operations;
}

static ncclResult_t wait_for_ever(const struct ncclComm *comm, bool heeding)
{
    while (!heeding || !atomic_load(&comm->aborted))
        pause_shortly();
    return ncclInternalError;
}

/* False when it was aborted before all came. */
static bool barrier(struct ncclComm *comm)
{
    Shared *shared = comm->shared;
    const unsigned generation = atomic_load(&shared->generation);
    if (atomic_fetch_add(&shared->arrived, 1) + 1 == (unsigned)comm->size) {
        atomic_store(&shared->arrived, 0);
        atomic_fetch_add(&shared->generation, 1);
        return true;
    }
    for (int turn = 0; atomic_load(&shared->generation) == generation; ++turn) {
        if (atomic_load(&comm->aborted)) return false;
        if (turn > 1000) pause_shortly();
    }
    return true;
}

/* ---- start and end ---- */

ncclResult_t ncclGetVersion(int *version)
{
    long wanted = 0;
    *version = fault(process_rank(), "version", &wanted) ? (int)wanted : NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const text[] = {"no error",
                                       "unhandled cuda error",
                                       "unhandled system error",
                                       "internal error",
                                       "invalid argument",
                                       "invalid usage",
                                       "remote process exited or there was a network error"};
    return (size_t)result < sizeof text / sizeof *text ? text[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return last_error;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    memset(id, 0, sizeof *id);
    (void)snprintf(id->internal, sizeof id->internal, "/nccl-stand-in-%ld-%lld%09ld", (long)getpid(),
                   (long long)now.tv_sec, now.tv_nsec);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int size, ncclUniqueId id, int rank)
{
    long number;
    if (fault(rank, "start", &number))
        for (;;)
            pause_shortly();
    const size_t bytes = sizeof(Shared) + (size_t)size * SLOT;
    struct ncclComm *comm = calloc(1, sizeof *comm);
    const int file = shm_open(id.internal, O_RDWR | O_CREAT, 0600);
    if (comm != NULL && size <= RANKS && file >= 0 && ftruncate(file, (off_t)bytes) == 0)
        comm->shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) (void)close(file);
    if (comm == NULL || comm->shared == NULL || comm->shared == MAP_FAILED) {
        last_error = strerror(errno);
        free(comm);
        return ncclSystemError;
    }
    comm->rank = rank;
    comm->size = size;
    *out = comm;
    if (!barrier(comm)) return ncclInternalError;
    if (rank == 0) (void)shm_unlink(id.internal);
    return ncclSuccess;
}

/* NCCL itself waits so before it gives memory back, also after an abort. */
static void wait_for_recordings(const struct ncclComm *comm)
{
    while (atomic_load(&comm->enqueued) > 0)
        pause_shortly();
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    wait_for_recordings(comm);
    if (!barrier(comm)) return ncclInternalError; /* so NCCL may do with the ranks of a host */
    (void)munmap(comm->shared, sizeof(Shared) + (size_t)comm->size * SLOT);
    free(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    static _Atomic ncclComm_t kept; /* another thread may still be in an operation of one */
    comm->kept_before = atomic_exchange(&kept, comm);
    atomic_store(&comm->aborted, true);
    wait_for_recordings(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *result)
{
    *result = atomic_load(&comm->asynchronous);
    return ncclSuccess;
}

/* ---- operations ---- */

typedef enum { SUM, GATHER, BROADCAST } Kind;

typedef struct {
    ncclComm_t comm;
    Kind kind;
    const void *from;
    void *to;
    size_t count;
    ncclDataType_t type;
    int root;
} Work;

static size_t type_size(ncclDataType_t type)
{
    static const size_t size[ncclNumTypes] = {
        [ncclInt8] = 1,   [ncclUint8] = 1,   [ncclInt32] = 4,   [ncclUint32] = 4,  [ncclInt64] = 8,
        [ncclUint64] = 8, [ncclFloat16] = 2, [ncclFloat32] = 4, [ncclFloat64] = 8, [ncclBfloat16] = 2};
    return size[type];
}

/* Announces the operation, goes wrong if asked to, and makes sure that all ranks do the same. */
static ncclResult_t begin(const Work *work)
{
    struct ncclComm *comm = work->comm;
    const Plan mine = {++comm->operations, (int64_t)work->count, (int32_t)work->kind, (int32_t)work->type,
                       work->root};
    if (fault_now(comm, "stop")) (void)raise(SIGSTOP);
    if (fault_now(comm, "kill")) (void)raise(SIGKILL);
    if (fault_now(comm, "fail")) {
        last_error = "the stand-in was told to fail\nand this is a second line";
        return ncclSystemError;
    }
    if (fault_now(comm, "error")) atomic_store(&comm->asynchronous, ncclRemoteError);
    if (fault_now(comm, "error") || fault_now(comm, "hang")) return wait_for_ever(comm, true);
    if (fault_now(comm, "stuck")) return wait_for_ever(comm, false);
    comm->shared->plan[comm->rank] = mine;
    if (!barrier(comm)) return ncclInternalError;
    for (int rank = 0; rank < comm->size; ++rank) {
        const Plan *other = &comm->shared->plan[rank];
        if (other->number == mine.number && other->count == mine.count && other->kind == mine.kind &&
            other->type == mine.type && other->root == mine.root)
            continue;
        last_error = "the ranks do not do the same";
        return ncclInvalidUsage;
    }
    return ncclSuccess;
}

static float from_bfloat16(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static uint16_t to_bfloat16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40U);
    return (uint16_t)((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

#define SUM_RANKS(type)                                                                                      \
    do {                                                                                                     \
        type *sum = to;                                                                                      \
        for (size_t i = 0; i < count; ++i) {                                                                 \
            type total = ((const type *)slot_of(comm, 0))[i];                                                \
            for (int rank = 1; rank < comm->size; ++rank)                                                    \
                total = (type)(total + ((const type *)slot_of(comm, rank))[i]);                              \
            sum[i] = total;                                                                                  \
        }                                                                                                    \
    } while (0)

static const void *slot_of(const struct ncclComm *comm, int rank) { return comm->shared->slot[rank]; }

static void sum_slots(const struct ncclComm *comm, void *to, size_t count, ncclDataType_t type)
{
    switch (type) {
    case ncclUint8:
        SUM_RANKS(uint8_t);
        break;
    case ncclInt32:
        SUM_RANKS(int32_t);
        break;
    case ncclInt64:
        SUM_RANKS(int64_t);
        break;
    case ncclFloat32:
        SUM_RANKS(float);
        break;
    case ncclFloat64:
        SUM_RANKS(double);
        break;
    default: /* bfloat16; nothing else is let through */
        for (size_t i = 0; i < count; ++i) {
            float total = 0;
            for (int rank = 0; rank < comm->size; ++rank)
                total += from_bfloat16(((const uint16_t *)slot_of(comm, rank))[i]);
            ((uint16_t *)to)[i] = to_bfloat16(total);
        }
        break;
    }
}

static void put_nan(void *slot, ncclDataType_t type)
{
    if (type == ncclFloat32) *(float *)slot = NAN;
    if (type == ncclFloat64) *(double *)slot = NAN;
    if (type == ncclBfloat16) *(uint16_t *)slot = 0x7fc0;
}

/* One piece of it, which fits into a slot: to and from there, between barriers. */
static void put(const Work *work, size_t at, size_t bytes)
{
    struct ncclComm *comm = work->comm;
    char *slot = comm->shared->slot[comm->rank];
    if (work->kind == BROADCAST && comm->rank != work->root) return;
    memcpy(slot, (const char *)work->from + at, bytes);
    if (at == 0 && fault_now(comm, "nan")) put_nan(slot, work->type);
}

static void get(const Work *work, size_t at, size_t bytes)
{
    const struct ncclComm *comm = work->comm;
    char *to = (char *)work->to + at;
    const size_t size = type_size(work->type);
    if (work->kind == SUM) sum_slots(comm, to, bytes / size, work->type);
    if (work->kind == BROADCAST) memcpy(to, slot_of(comm, work->root), bytes);
    if (work->kind == BROADCAST && comm->rank != work->root && at == 0 && fault_now(comm, "nan"))
        put_nan(to, work->type);
    for (int rank = 0; rank < comm->size && work->kind == GATHER; ++rank)
        memcpy(to + (size_t)rank * work->count * size, slot_of(comm, rank), bytes);
}

static ncclResult_t perform(const Work *work)
{
    const ncclResult_t result = begin(work);
    if (result != ncclSuccess) return result;
    const size_t bytes = work->count * type_size(work->type);
    for (size_t at = 0; at < bytes; at += SLOT) {
        const size_t here = bytes - at < SLOT ? bytes - at : SLOT;
        put(work, at, here);
        if (!barrier(work->comm)) return ncclInternalError;
        get(work, at, here);
        if (!barrier(work->comm)) return ncclInternalError;
    }
    return ncclSuccess;
}

static void perform_enqueued(void *argument)
{
    const Work *work = argument;
    const ncclResult_t result = perform(work);
    if (result != ncclSuccess) atomic_store(&work->comm->asynchronous, result);
}

static void drop_enqueued(void *argument)
{
    const Work *work = argument;
    (void)atomic_fetch_sub(&work->comm->enqueued, 1);
    free(argument);
}

static ncclResult_t submit(Work work, cudaStream_t stream)
{
    nccl_stand_in_stream = stream;
    if (enqueue_device_work == NULL) return perform(&work);
    Work *copy = malloc(sizeof *copy);
    if (copy == NULL) return ncclSystemError;
    *copy = work;
    (void)atomic_fetch_add(&work.comm->enqueued, 1);
    enqueue_device_work(perform_enqueued, drop_enqueued, copy);
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    const bool summable = type == ncclUint8 || type == ncclInt32 || type == ncclInt64 ||
                          type == ncclFloat32 || type == ncclFloat64 || type == ncclBfloat16;
    if (op != ncclSum || !summable) return ncclInvalidArgument;
    return submit((Work){comm, SUM, from, to, count, type, 0}, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream)
{
    return submit((Work){comm, GATHER, from, to, count, type, 0}, stream);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    return submit((Work){comm, BROADCAST, from, to, count, type, root}, stream);
}
