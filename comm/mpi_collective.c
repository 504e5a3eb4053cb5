/* The collective over MPI, for host memory.
 *
 * Long spans are cut into pieces. Pieces are what overlaps: while one is summed the next is on its way, and
 * whatever MPI can do without waiting is done whenever health is called between the nodes of the backward
 * pass. They also keep counts far inside MPI's int, and the order of summation a function of (count, size)
 * only. */
#if PLUMB_HAVE_MPI

#include "comm/mpi_ranks.h"
#include "engine/base/memory.h"
#include "engine/device/collective_methods.h"

#include <stdlib.h>
#include <string.h>

enum {
    PIECE = 1 << 18,       /* elements, and bytes of a broadcast times 4: about a core's second-level cache */
    GATHER_LIMIT = 1 << 20 /* elements of all ranks together that MPI gathers at once */
};

typedef struct {
    MPI_Request request;
    Operation operation;
} Pending;

typedef struct {
    Collective collective;
    Ranks *ranks;
    MPI_Comm communicator;
    double timeout;
    /* Outstanding pieces in the order of issue, from head on; empty when head equals count. */
    Pending *queue;
    size_t head, count, capacity;
    /* The first failure; repeated ever after, since the ranks are no longer in step. */
    StatusCode failure;
    char *failure_message;
} CollectiveMpi;

static CollectiveMpi *self_of(Collective *collective) { return collective->implementation; }

/* Remembers and returns the failure. */
static Status failed(CollectiveMpi *self, Status status)
{
    self->ranks->stuck = true;
    if (self->failure == 0) {
        self->failure = status_code(status);
        self->failure_message = strdup(status_message(status));
    }
    return status;
}

static Status check(const CollectiveMpi *self)
{
    if (self->failure == 0) return OK;
    return fail(self->failure, "%s", self->failure_message != NULL ? self->failure_message : "out of memory");
}

static Operation operation_next(CollectiveMpi *self, const char *what, Span span)
{
    return (Operation){.channel = CHANNEL_COLLECTIVE,
                       .number = ++self->ranks->progress.issued[CHANNEL_COLLECTIVE],
                       .what = what,
                       .count = span.count,
                       .type = span.type};
}

static Status queue_push(CollectiveMpi *self, int code, MPI_Request request, const Operation *operation)
{
    TRY(mpi_status(code, operation->what));
    Pending *slot = &self->queue[self->count++];
    *slot = (Pending){.request = request, .operation = *operation};
    return OK;
}

/* Room for `pieces` more; before MPI starts them, so that none is lost. */
static Status queue_reserve(CollectiveMpi *self, int64_t pieces)
{
    if (self->head == self->count) self->head = self->count = 0;
    TRY(memory_grow(&self->queue, &self->capacity, self->count + (size_t)pieces, sizeof *self->queue,
                    "outstanding reductions"));
    return OK;
}

static int64_t pieces_of(int64_t count) { return (count + PIECE - 1) / PIECE; }

static Status sum_pieces(CollectiveMpi *self, Span span)
{
    const MPI_Datatype types[DTYPE_COUNT] = {
        [FLOAT32] = MPI_FLOAT, [BFLOAT16] = MPI_UINT16_T, [FLOAT64] = MPI_DOUBLE,
        [INT32] = MPI_INT32_T, [INT64] = MPI_INT64_T,     [UINT8] = MPI_UINT8_T};
    const MPI_Op sum = span.type == BFLOAT16 ? self->ranks->sum_bfloat16 : MPI_SUM;
    const size_t size = dtype_size(span.type);
    const Operation operation = operation_next(self, "sum", span);
    TRY(queue_reserve(self, pieces_of(span.count)));
    for (int64_t from = 0; from < span.count; from += PIECE) {
        const int count = (int)(span.count - from < PIECE ? span.count - from : PIECE);
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = MPI_Iallreduce(MPI_IN_PLACE, (char *)span.data + (size_t)from * size, count,
                                        types[span.type], sum, self->communicator, &request);
        TRY(queue_push(self, code, request, &operation));
    }
    return OK;
}

static Status broadcast_pieces(CollectiveMpi *self, void *data, int64_t bytes, int root,
                               const Operation *operation)
{
    const int64_t piece = 4 * (int64_t)PIECE;
    TRY(queue_reserve(self, bytes / piece + 1));
    for (int64_t from = 0; from < bytes; from += piece) {
        const int count = (int)(bytes - from < piece ? bytes - from : piece);
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = MPI_Ibcast((char *)data + from, count, MPI_BYTE, root, self->communicator, &request);
        TRY(queue_push(self, code, request, operation));
    }
    return OK;
}

static Status gather_parts(CollectiveMpi *self, Span part, Span all)
{
    const int64_t bytes = part.count * (int64_t)dtype_size(part.type);
    const Operation operation = operation_next(self, "gather", part);
    char *mine = (char *)all.data + self->ranks->rank * bytes;
    if (mine != part.data) memcpy(mine, part.data, (size_t)bytes);
    if (all.count > GATHER_LIMIT) {
        for (int root = 0; root < self->ranks->size; ++root)
            TRY(broadcast_pieces(self, (char *)all.data + root * bytes, bytes, root, &operation));
        return OK;
    }
    TRY(queue_reserve(self, 1));
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all.data, (int)bytes, MPI_BYTE,
                                    self->communicator, &request);
    return queue_push(self, code, request, &operation);
}

/* What MPI has finished leaves the queue; the first piece that it has not ends the look, and gives MPI its
 * chance to proceed with all of them. */
static Status queue_advance(CollectiveMpi *self)
{
    while (self->head < self->count) {
        Pending *pending = &self->queue[self->head];
        int done = 0;
        TRY(mpi_status(MPI_Test(&pending->request, &done, MPI_STATUS_IGNORE), pending->operation.what));
        if (!done) return OK;
        ++self->head;
    }
    return OK;
}

static Status queue_drain(CollectiveMpi *self, double timeout)
{
    for (; self->head < self->count; ++self->head) {
        Pending *pending = &self->queue[self->head];
        TRY(ranks_wait(self->ranks, &pending->request, &pending->operation, timeout));
    }
    self->head = self->count = 0;
    return OK;
}

/* ---- the interface ---- */

static Status sum_mpi(Collective *collective, Span span, Stream after)
{
    (void)after;
    CollectiveMpi *self = self_of(collective);
    TRY(check(self));
    const Status status = sum_pieces(self, span);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

static Status gather_mpi(Collective *collective, Span part, Span all, Stream after)
{
    (void)after;
    CollectiveMpi *self = self_of(collective);
    TRY(check(self));
    const Status status = gather_parts(self, part, all);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

static Status broadcast_mpi(Collective *collective, Span span, int root, Stream after)
{
    (void)after;
    CollectiveMpi *self = self_of(collective);
    TRY(check(self));
    const Operation operation = operation_next(self, "broadcast", span);
    const Status status =
        broadcast_pieces(self, span.data, span.count * (int64_t)dtype_size(span.type), root, &operation);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

static Status join_mpi(Collective *collective, Stream stream)
{
    (void)stream;
    CollectiveMpi *self = self_of(collective);
    TRY(check(self));
    const Status status = queue_drain(self, self->timeout);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

/* The host waits for other ranks in join. */
static Status wait_mpi(Collective *collective, Device *device, Mark mark)
{
    TRY(check(self_of(collective)));
    return device_wait(device, mark);
}

static Status health_mpi(Collective *collective)
{
    CollectiveMpi *self = self_of(collective);
    ranks_poll(self->ranks);
    const Status status = queue_advance(self);
    if (self->failure != 0) { /* what was late may have come nevertheless */
        status_free(status);
        return check(self);
    }
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

static void free_mpi(Collective *collective)
{
    CollectiveMpi *self = self_of(collective);
    /* After a failure the memory of what is outstanding may be gone, and MPI would write to it: it is not
     * asked to go on, and the ranks are out of step. */
    if (self->failure != 0) {
        self->ranks->stuck = self->head < self->count || self->ranks->abandoned != NULL;
    } else {
        Status status = queue_drain(self, self->timeout);
        if (status != OK) self->ranks->stuck = true;
        status_free(status);
    }
    if (!self->ranks->stuck) (void)MPI_Comm_free(&self->communicator);
    free(self->failure_message);
    free(self->queue);
    free(self);
}

static const CollectiveMethods methods = {.sum = sum_mpi,
                                          .gather = gather_mpi,
                                          .broadcast = broadcast_mpi,
                                          .join = join_mpi,
                                          .wait = wait_mpi,
                                          .health = health_mpi,
                                          .free = free_mpi};

Status mpi_collective(World *world, double timeout_seconds, Collective **collective)
{
    Ranks *ranks = world->implementation;
    CollectiveMpi *self;
    TRY(memory_new(&self, 1, sizeof *self, "the collective"));
    Status status = mpi_status(MPI_Comm_dup(ranks->everyone, &self->communicator), "MPI_Comm_dup");
    if (status != OK) {
        free(self);
        return status;
    }
    ranks->patience = timeout_seconds;
    self->ranks = ranks;
    self->timeout = timeout_seconds;
    self->collective =
        (Collective){.rank = world->rank, .size = world->size, .methods = &methods, .implementation = self};
    *collective = &self->collective;
    return OK;
}

#endif
