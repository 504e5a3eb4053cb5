/* The collective over NCCL.
 *
 * Operations go to a stream of their own in the order in which they are asked for, the same on all ranks:
 * each waits there for what makes its operands, and beside it the device's own stream goes on with the
 * backward pass. join makes that stream wait for all of them. Nothing here waits on the host or reads device
 * memory, so that the whole step can be recorded and repeated without these calls. */
#if PLUMB_HAVE_NCCL

#include "comm/nccl.h"
#include "comm/nccl_watch.h"
#include "comm/transport.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/device/collective_methods.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    AtStop at_stop;
    World *world;
    Collective collective;
    NcclLibrary library;
    Device *device;
    Stream stream;
    ncclComm_t communicator;
    Watch *watch;
    double step_seconds;
    bool outstanding; /* something was asked for since the last join */
} CollectiveNccl;

static CollectiveNccl *self_of(Collective *collective) { return collective->implementation; }

/* Operations wait on their stream for what makes their operands. */
static Status follow(CollectiveNccl *self, Stream after)
{
    TRY(device_stream_follow(self->device, self->stream, after));
    self->outstanding = true;
    return OK;
}

/* Called before NCCL is: the watch looks from here on whether it returns. */
static Status begin(CollectiveNccl *self, const char *what, Span span)
{
    return watch_enter(self->watch, WATCH_CALL, what, span.count, span.type, self->step_seconds);
}

/* And after it. */
static Status finish(CollectiveNccl *self, ncclResult_t result, const char *what)
{
    watch_leave(self->watch);
    const Status status = nccl_status(&self->library, result, self->communicator, what);
    return status == OK ? OK : watch_failed(self->watch, status_trail(status, __func__, __FILE__, __LINE__));
}

/* ---- the interface ---- */

static const ncclDataType_t types[DTYPE_COUNT] = {
    [FLOAT32] = ncclFloat32, [BFLOAT16] = ncclBfloat16, [FLOAT64] = ncclFloat64,
    [INT32] = ncclInt32,     [INT64] = ncclInt64,       [UINT8] = ncclUint8};

static Status sum_nccl(Collective *collective, Span span, Stream after)
{
    CollectiveNccl *self = self_of(collective);
    TRY(follow(self, after));
    TRY(begin(self, "sum", span));
    return finish(self,
                  self->library.all_reduce(span.data, span.data, (size_t)span.count, types[span.type],
                                           ncclSum, self->communicator, self->stream),
                  "ncclAllReduce");
}

static Status gather_nccl(Collective *collective, Span part, Span all, Stream after)
{
    CollectiveNccl *self = self_of(collective);
    TRY(follow(self, after));
    TRY(begin(self, "gather", part));
    return finish(self,
                  self->library.all_gather(part.data, all.data, (size_t)part.count, types[part.type],
                                           self->communicator, self->stream),
                  "ncclAllGather");
}

static Status broadcast_nccl(Collective *collective, Span span, int root, Stream after)
{
    CollectiveNccl *self = self_of(collective);
    TRY(follow(self, after));
    TRY(begin(self, "broadcast", span));
    return finish(self,
                  self->library.broadcast(span.data, span.data, (size_t)span.count, types[span.type], root,
                                          self->communicator, self->stream),
                  "ncclBroadcast");
}

/* Where nothing was asked for nothing is waited for: a stream that is recorded may not be made to wait for
 * one that is not, and a plan that only evaluates asks the other ranks for nothing. */
static Status join_nccl(Collective *collective, Stream stream)
{
    CollectiveNccl *self = self_of(collective);
    TRY(watch_failure(self->watch));
    if (!self->outstanding) return OK;
    self->outstanding = false;
    return device_stream_follow(self->device, stream, self->stream);
}

static Status wait_nccl(Collective *collective, Device *device, Mark mark)
{
    CollectiveNccl *self = self_of(collective);
    TRY(watch_enter(self->watch, WATCH_WAIT, "the step of all ranks", -1, FLOAT32, self->step_seconds));
    const Status status = device_wait(device, mark);
    watch_leave(self->watch);
    /* What an aborted communicator leaves behind on the GPU is not the cause. */
    if (status != OK) return watch_failed(self->watch, status_trail(status, __func__, __FILE__, __LINE__));
    return watch_failure(self->watch);
}

static Status health_nccl(Collective *collective) { return watch_failure(self_of(collective)->watch); }

static void destroy(AtStop *at_stop)
{
    CollectiveNccl *self = (CollectiveNccl *)(void *)at_stop; /* its first member */
    Status status = watch_failure(self->watch);
    if (status == OK) status = star_failure(self->world->star);
    if (status != OK) status = watch_failed(self->watch, status); /* which aborts the communicator */
    if (self->communicator != NULL && status == OK) {
        watch_communicator(self->watch, NULL); /* it must not be aborted meanwhile */
        status = watch_enter(self->watch, WATCH_CALL, "the end of NCCL", -1, FLOAT32, self->step_seconds);
        if (status == OK) (void)self->library.comm_destroy(self->communicator);
        watch_leave(self->watch);
    }
    status_free(status);
    watch_stop(self->watch);
    free(self);
}

static void free_nccl(Collective *collective)
{
    CollectiveNccl *self = self_of(collective);
    if (self->stream != NULL) device_stream_close(self->device, self->stream);
    if (self->watch == NULL) {
        free(self);
        return;
    }
    /* The ranks of a host may wait for one another in it. */
    self->at_stop.release = destroy;
    world_leave_to_stop(self->world, &self->at_stop);
}

/* ---- start ---- */

/* Fixes what NCCL would choose anew each time: the algorithm, and with it the order of summation; and that a
 * recorded operation is done as a plain one, for a run that goes on begins with a plain step. The user's own
 * choice stands. */
static void pin_order(void)
{
    (void)setenv("NCCL_ALGO", "Ring", 0);
    (void)setenv("NCCL_PROTO", "Simple", 0);
    (void)setenv("NCCL_GRAPH_REGISTER", "0", 0);
}

/* "2.28.9 on rank 0, 2 and 6 more" */
static void list_ranks(const int version[], int size, int wanted, char *text, size_t room)
{
    enum { NAMED = 8 };
    char name[32];
    int named = 0, length;
    nccl_version_text(wanted, name);
    length = snprintf(text, room, "%s on rank", name);
    for (int rank = 0; rank < size; ++rank) {
        if (version[rank] != wanted) continue;
        if (named < NAMED && length >= 0 && (size_t)length < room)
            length += snprintf(text + length, room - (size_t)length, "%s %d", named > 0 ? "," : "", rank);
        ++named;
    }
    if (named > NAMED && length >= 0 && (size_t)length < room)
        (void)snprintf(text + length, room - (size_t)length, " and %d more", named - NAMED);
}

/* Calls that return before they are done are not waited for here. */
static Status check_blocking(void)
{
    const char *blocking = getenv("NCCL_COMM_BLOCKING");
    if (blocking == NULL || strcmp(blocking, "0") != 0) return OK;
    return fail(STATUS_UNSUPPORTED,
                "NCCL_COMM_BLOCKING is 0; plumb needs NCCL's calls to be blocking: unset it");
}

/* Ranks with different versions hang or crash in NCCL. */
static Status check_versions(World *world, int mine)
{
    int *version;
    TRY(memory_new(&version, (size_t)world->size, sizeof *version, "the versions of NCCL"));
    Status status = comm_gather(world, &mine, sizeof mine, version, "the versions of NCCL");
    for (int rank = 1; rank < world->size && status == OK; ++rank) {
        if (version[rank] == version[0]) continue;
        char first[200], other[200];
        list_ranks(version, world->size, version[0], first, sizeof first);
        list_ranks(version, world->size, version[rank], other, sizeof other);
        status = fail(STATUS_COMMUNICATION,
                      "the ranks have different versions of NCCL: %s; %s. Let all find the same libnccl.so.2",
                      first, other);
    }
    free(version);
    return status;
}

static Status open_communicator(World *world, const CommOptions *options, CollectiveNccl *self)
{
    Status status = check_blocking();
    if (status == OK) status = nccl_load(&self->library);
    if (status == OK && device_kind(self->device) != DEVICE_CUDA && !self->library.host_memory)
        status = fail(STATUS_UNSUPPORTED,
                      "NCCL moves memory of GPUs only, and the device is %s: set collective "
                      "to mpi or auto",
                      device_name(self->device));
    TRY(comm_agree(world, status));
    TRY(check_versions(world, self->library.version));
    TRY(world_open_star(world, options->timeout_seconds));
    if (options->deterministic) pin_order();
    TRY(comm_agree(world, device_stream_open(self->device, &self->stream)));
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    if (world->rank == 0)
        status = nccl_status(&self->library, self->library.get_unique_id(&id), NULL, "ncclGetUniqueId");
    TRY(comm_agree(world, status));
    TRY(world->transport->broadcast(world, &id, sizeof id, 0, "the start of NCCL"));
    TRY(comm_agree(world, watch_start(world->star, &self->library, &self->watch)));
    TRY(watch_enter(self->watch, WATCH_CALL, "the start of NCCL", -1, FLOAT32, options->timeout_seconds));
    status = finish(self, self->library.comm_init_rank(&self->communicator, world->size, id, world->rank),
                    "ncclCommInitRank");
    if (status == OK) watch_communicator(self->watch, self->communicator);
    return status;
}

static const CollectiveMethods methods = {.sum = sum_nccl,
                                          .gather = gather_nccl,
                                          .broadcast = broadcast_nccl,
                                          .join = join_nccl,
                                          .wait = wait_nccl,
                                          .health = health_nccl,
                                          .free = free_nccl};

Status nccl_collective(World *world, Device *device, const CommOptions *options, Collective **collective)
{
    *collective = NULL;
    CollectiveNccl *self = NULL;
    TRY(comm_agree(world, memory_new(&self, 1, sizeof *self, "the collective")));
    self->world = world;
    self->device = device;
    self->step_seconds = options->step_seconds > 0 ? options->step_seconds : options->timeout_seconds;
    self->collective =
        (Collective){.rank = world->rank, .size = world->size, .methods = &methods, .implementation = self};
    Status status = open_communicator(world, options, self);
    if (status != OK) {
        free_nccl(&self->collective);
        return status;
    }
    char version[32];
    nccl_version_text(self->library.version, version);
    log_info("NCCL %s connects %d ranks", version, world->size);
    *collective = &self->collective;
    return OK;
}

#endif
