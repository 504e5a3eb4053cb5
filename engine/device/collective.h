/* What a plan may ask of the other ranks: typed spans of device memory, asynchronous, in order. comm/ implements it
 * (MPI, sockets, and NCCL for GPUs). Collectivity: every rank makes the same calls in the same order. Spans are the
 * caller's, who keeps them until collective_join has returned, be it with an error, or else until after
 * collective_free. */
#ifndef PLUMB_ENGINE_DEVICE_COLLECTIVE_H
#define PLUMB_ENGINE_DEVICE_COLLECTIVE_H

#include "engine/base/dtype.h"
#include "engine/base/status.h"
#include "engine/device/device.h"

#include <stdint.h>

typedef struct {
    void *data;
    int64_t count; /* elements */
    DType type;
} Span;

typedef struct Collective {
    int rank, size;
    const struct CollectiveMethods *methods;
    void *implementation;
} Collective;

/* All of these refuse a span that cannot be one (STATUS_INTERNAL) before any other rank is told of the call: a
 * negative count, no memory, an unknown type. An empty span is done at once. */

/* In place sum over ranks, after what is enqueued on `after`. Returns at once; the result is there after the join.
 * Integer sums are exact; float sums are in an order that depends only on (count, size). */
CHECKED Status collective_sum(Collective *, Span, Stream after);
/* all = the parts of rank 0, 1, ... one after the other; every rank's part has the same count. */
CHECKED Status collective_gather(Collective *, Span part, Span all, Stream after);
CHECKED Status collective_broadcast(Collective *, Span, int root, Stream after);
/* Everything asked for so far is complete for work enqueued on the stream from now on. An error names the rank and
 * host that failed or was last waited for. */
CHECKED Status collective_join(Collective *, Stream);
/* device_wait of the device whose memory this moves, with an error in place of an endless wait when other ranks do not
 * come to what the device has been given. */
CHECKED Status collective_wait(Collective *, Device *, Mark);
/* Late failures and timeouts; also gives outstanding work a chance to proceed. Called between nodes, so cheap. Not
 * collective. */
CHECKED Status collective_health(Collective *);
void collective_free(Collective *); /* NULL is allowed */

/* A world of one: copies and no-ops. */
CHECKED Status collective_self(Collective **);

#endif
