#include "engine/plan/exchange.h"

#include "engine/base/memory.h"
#include "engine/graph/op.h"
#include "engine/ops/elementwise.h"

#include <stdlib.h>

struct Exchange {
    Device *device;
    Collective *collective;
    float *gradients;
    int64_t count;
    bfloat16 *narrow; /* as they travel; NULL: as they are */
    bool started;
};

static Status cast_on(Device *device, const Call *call)
{
    static const Kernel *const kernels[DEVICE_KINDS] = {[DEVICE_CPU] = &cast_cpu, [DEVICE_CUDA] = &cast_cuda};
    return kernels[device_kind(device)]->run(call);
}

/* Enqueues the conversion of `count` elements from one type to the other. */
static Status convert(Device *device, void *from, DType from_type, void *to, DType to_type, int64_t count)
{
    const Call call = {
        .device = device,
        .in = {{.data = from, .shape = shape_of(from_type, 1, &count), .stride = count}},
        .out = {{.data = to, .shape = shape_of(to_type, 1, &count), .stride = count}},
    };
    TRY(cast_on(device, &call));
    return OK;
}

Status exchange_create(Device *device, Collective *collective, float *gradients, int64_t count, DType type,
                       Exchange **out)
{
    *out = NULL;
    Exchange *exchange;
    TRY(memory_new(&exchange, 1, sizeof *exchange, "the exchange of gradients"));
    *exchange =
        (Exchange){.device = device, .collective = collective, .gradients = gradients, .count = count};
    if (type == BFLOAT16 && collective->size > 1) {
        const Status status = device_allocate(device, (size_t)count * sizeof *exchange->narrow,
                                              "gradients as bfloat16", (void **)&exchange->narrow);
        if (status != OK) {
            free(exchange);
            return status;
        }
    }
    *out = exchange;
    return OK;
}

void exchange_free(Exchange *exchange)
{
    if (exchange == NULL) return;
    device_free(exchange->device, exchange->narrow);
    free(exchange);
}

Status exchange_start(Exchange *exchange, int64_t first, int64_t count)
{
    Span span = {exchange->gradients + first, count, FLOAT32};
    if (exchange->narrow != NULL) {
        TRY(convert(exchange->device, span.data, FLOAT32, exchange->narrow + first, BFLOAT16, count));
        span = (Span){exchange->narrow + first, count, BFLOAT16};
    }
    exchange->started = true;
    return collective_sum(exchange->collective, span, device_stream(exchange->device));
}

Status exchange_finish(Exchange *exchange)
{
    const bool started = exchange->started;
    exchange->started = false;
    if (!started || exchange->narrow == NULL) return OK;
    return convert(exchange->device, exchange->narrow, BFLOAT16, exchange->gradients, FLOAT32,
                   exchange->count);
}
