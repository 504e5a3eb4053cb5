/* The collective without MPI, for host memory: through rank 0, which makes the sums in the order of ranks.
 * What it moves grows with the number of ranks, so it is for few of them, or little data; between GPUs there
 * is NCCL.
 *
 * Spans are cut into pieces, so that one is on its way while another is summed. */
#include "comm/star/sockets.h"
#include "engine/base/memory.h"
#include "engine/device/collective_methods.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20 }; /* bytes of all ranks */

/* A piece whose result has not been taken yet. */
typedef struct {
    int64_t number; /* of the exchange */
    char *to;
    size_t bytes;  /* of each part of it */
    size_t stride; /* between the places of ranks' parts; 0: there is one part */
    Operation operation;
} Pending;

typedef struct {
    Collective collective;
    Sockets *sockets;
    double timeout;
    Pending *queue; /* outstanding from head on; empty when head equals count */
    size_t head, count, capacity;
    /* The first failure; repeated ever after, since the ranks are no longer in step. */
    StatusCode failure;
    char *failure_message;
} CollectiveSockets;

static CollectiveSockets *self_of(Collective *collective) { return collective->implementation; }

/* Remembers and returns the failure. */
static Status failed(CollectiveSockets *self, Status status)
{
    self->sockets->stuck = true;
    if (self->failure == 0) {
        self->failure = status_code(status);
        self->failure_message = strdup(status_message(status));
    }
    return status;
}

static Status check(const CollectiveSockets *self)
{
    if (self->failure == 0) return OK;
    return fail(self->failure, "%s", self->failure_message != NULL ? self->failure_message : "out of memory");
}

static Operation operation_next(CollectiveSockets *self, const char *what, Span span)
{
    return (Operation){
        .number = ++self->sockets->operations, .what = what, .count = span.count, .type = span.type};
}

/* ---- pieces ---- */

/* Sends `bytes` of part, in pieces whose results will go to `to`. */
static Status send_pieces(CollectiveSockets *self, int kind, const char *part, size_t bytes, char *to,
                          size_t stride, size_t piece, const Operation *operation)
{
    if (self->head == self->count) self->head = self->count = 0;
    TRY(memory_grow(&self->queue, &self->capacity, self->count + bytes / piece + 1, sizeof *self->queue,
                    "outstanding reductions"));
    for (size_t from = 0; from < bytes; from += piece) {
        Pending *pending = &self->queue[self->count];
        *pending = (Pending){.to = to + from,
                             .bytes = bytes - from < piece ? bytes - from : piece,
                             .stride = stride,
                             .operation = *operation};
        /* Who only receives has no part. */
        TRY(star_send(self->sockets->star, kind, part != NULL ? part + from : NULL,
                      part != NULL ? pending->bytes : 0, &pending->number));
        ++self->count;
    }
    return OK;
}

/* Waits for the oldest. Only what is wanted still has a place to go to. */
static Status take_one(CollectiveSockets *self, double seconds, bool wanted)
{
    const Pending *pending = &self->queue[self->head];
    const size_t parts = pending->stride > 0 ? (size_t)self->collective.size : 1;
    char *whole;
    size_t bytes;
    TRY(star_receive(self->sockets->star, pending->number, &pending->operation, seconds, &whole, &bytes));
    if (bytes != parts * pending->bytes) {
        free(whole);
        return fail(STATUS_INTERNAL, "%s: the ranks are out of step", pending->operation.what);
    }
    for (size_t i = 0; wanted && i < parts; ++i)
        memcpy(pending->to + i * pending->stride, whole + i * pending->bytes, pending->bytes);
    free(whole);
    ++self->head;
    return OK;
}

static Status drain(CollectiveSockets *self, double seconds, bool wanted)
{
    while (self->head < self->count)
        TRY(take_one(self, seconds, wanted));
    self->head = self->count = 0;
    return OK;
}

static Status take_ready(CollectiveSockets *self)
{
    while (self->head < self->count && star_ready(self->sockets->star, self->queue[self->head].number))
        TRY(take_one(self, self->timeout, true));
    return OK;
}

/* ---- the interface ---- */

static size_t span_bytes(Span span) { return (size_t)span.count * dtype_size(span.type); }

static Status sum_sockets(Collective *collective, Span span, Stream after)
{
    (void)after;
    CollectiveSockets *self = self_of(collective);
    TRY(check(self));
    const Operation operation = operation_next(self, "sum", span);
    const Status status =
        send_pieces(self, (int)span.type, span.data, span_bytes(span), span.data, 0, PIECE, &operation);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

static Status gather_sockets(Collective *collective, Span part, Span all, Stream after)
{
    (void)after;
    CollectiveSockets *self = self_of(collective);
    TRY(check(self));
    const Operation operation = operation_next(self, "gather", part);
    const size_t bytes = span_bytes(part), share = (size_t)PIECE / (size_t)collective->size;
    const Status status =
        send_pieces(self, STAR_GATHER, part.data, bytes, all.data, bytes, share > 0 ? share : 1, &operation);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

static Status broadcast_sockets(Collective *collective, Span span, int root, Stream after)
{
    (void)after;
    CollectiveSockets *self = self_of(collective);
    TRY(check(self));
    const Operation operation = operation_next(self, "broadcast", span);
    const Status status = send_pieces(self, STAR_GATHER, collective->rank == root ? span.data : NULL,
                                      span_bytes(span), span.data, 0, PIECE, &operation);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

static Status join_sockets(Collective *collective, Stream stream)
{
    (void)stream;
    CollectiveSockets *self = self_of(collective);
    TRY(check(self));
    const Status status = drain(self, self->timeout, true);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

/* The host waits for other ranks in join. */
static Status wait_sockets(Collective *collective, Device *device, Mark mark)
{
    TRY(check(self_of(collective)));
    return device_wait(device, mark);
}

static Status health_sockets(Collective *collective)
{
    CollectiveSockets *self = self_of(collective);
    TRY(check(self));
    Status status = star_failure(self->sockets->star);
    if (status == OK) status = take_ready(self);
    return status == OK ? OK : failed(self, status_trail(status, __func__, __FILE__, __LINE__));
}

static void free_sockets(Collective *collective)
{
    CollectiveSockets *self = self_of(collective);
    /* After a timeout what was late may have come meanwhile, and then the ranks are in step again; it is not
     * waited for long a second time. */
    const Status status = drain(self, self->failure != 0 ? 0.5 : self->timeout, false);
    if (self->failure != 0 || status != OK) self->sockets->stuck = status != OK;
    status_free(status);
    free(self->failure_message);
    free(self->queue);
    free(self);
}

static const CollectiveMethods methods = {.sum = sum_sockets,
                                          .gather = gather_sockets,
                                          .broadcast = broadcast_sockets,
                                          .join = join_sockets,
                                          .wait = wait_sockets,
                                          .health = health_sockets,
                                          .free = free_sockets};

Status sockets_collective(World *world, double timeout_seconds, Collective **collective)
{
    CollectiveSockets *self;
    TRY(memory_new(&self, 1, sizeof *self, "the collective"));
    self->sockets = world->implementation;
    self->sockets->patience = self->timeout = timeout_seconds;
    self->collective =
        (Collective){.rank = world->rank, .size = world->size, .methods = &methods, .implementation = self};
    *collective = &self->collective;
    return OK;
}
