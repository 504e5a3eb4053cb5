/* What a plan may ask of the other ranks: typed spans, asynchronous, in order. comm/ implements it (self,
 * MPI, sockets, and NCCL for device memory). Collectivity: every rank makes the same calls in the same order.
 * Spans are the caller's, who keeps them until join has returned, be it with an error, or else until after
 * free. */
#ifndef PLUMB_ENGINE_PLAN_COLLECTIVE_H
#define PLUMB_ENGINE_PLAN_COLLECTIVE_H

#include "engine/base/dtype.h"
#include "engine/base/status.h"
#include "engine/device/device.h"

#include <stdint.h>

typedef struct {
    void *data;
    int64_t count;
    DType type;
} Span;

typedef struct Collective Collective;
struct Collective {
    int rank, size;
    /* In place sum over ranks, after what is enqueued on `after`. Returns at once; the result is there after
     * join. Integer sums are exact; float sums are in an order that depends only on (count, size). */
    Status (*sum)(Collective *, Span, Stream after);
    /* all = the parts of rank 0, 1, ... one after the other; every rank's part has the same count. */
    Status (*gather)(Collective *, Span part, Span all, Stream after);
    Status (*broadcast)(Collective *, Span, int root, Stream after);
    /* Everything asked for so far is complete for work enqueued on the stream from now on. An error names the
     * rank and host that failed or was last waited for. */
    Status (*join)(Collective *, Stream);
    /* device_wait of the device whose memory this moves, with an error in place of an endless wait when other ranks
     * do not come to what it has been given. */
    Status (*wait)(Collective *, Device *, Mark);
    /* Late failures and timeouts; also gives outstanding work a chance to proceed. Called between nodes, so
     * cheap. */
    Status (*health)(Collective *);
    void (*free)(Collective *);
    void *implementation;
};

/* A world of one: copies and no-ops. Release through its free. */
CHECKED Status collective_self(Collective **);

#endif
