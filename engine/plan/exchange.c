#include "engine/plan/exchange.h"

#include "engine/base/memory.h"
#include "engine/graph/op.h"
#include "engine/ops/elementwise.h"

#include <stdlib.h>

struct Exchange {
    Store *store;
    Device *device;
    Collective *collective;
    const NarrowGradients *left_narrow; /* by kernels; NULL: none */
    bfloat16 *narrow;                   /* as gradients travel; NULL: as they are */
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

Status exchange_create(Store *store, Collective *collective, const NarrowGradients *narrow, DType type,
                       Exchange **out)
{
    *out = NULL;
    Exchange *exchange;
    TRY(memory_new(&exchange, 1, sizeof *exchange, "the exchange of gradients"));
    *exchange = (Exchange){
        .store = store, .device = store_device(store), .collective = collective, .left_narrow = narrow};
    if (type == BFLOAT16 && collective->size > 1) {
        const Status status = store_narrow_gradients(store, (void **)&exchange->narrow);
        if (status != OK) {
            free(exchange);
            return status;
        }
    }
    *out = exchange;
    return OK;
}

void exchange_free(Exchange *exchange) { free(exchange); }

Status exchange_start(Exchange *exchange, int64_t first, int64_t count, const float *gathered)
{
    Device *device = exchange->device;
    float *gradient = store_gradients(exchange->store) + first;
    Span span = {gradient, count, FLOAT32};
    /* Where nothing is to be added, what kernels left as BFLOAT16 travels as it is. */
    const bool as_left = exchange->left_narrow != NULL && exchange->narrow != NULL && gathered == NULL;
    if (exchange->left_narrow != NULL && !as_left)
        TRY(narrow_gradients_widen(exchange->left_narrow, first, count));
    if (gathered != NULL) TRY(device_accumulate(device, gradient, gathered + first, count));
    if (exchange->narrow != NULL) {
        if (as_left)
            TRY(narrow_gradients_complete(exchange->left_narrow, first, count));
        else
            TRY(convert(device, gradient, FLOAT32, exchange->narrow + first, BFLOAT16, count));
        span = (Span){exchange->narrow + first, count, BFLOAT16};
    }
    exchange->started = true;
    return collective_sum(exchange->collective, span, device_stream(device));
}

Status exchange_finish(Exchange *exchange)
{
    const bool started = exchange->started;
    exchange->started = false;
    if (!started || exchange->narrow == NULL) return OK;
    return convert(exchange->device, exchange->narrow, BFLOAT16, store_gradients(exchange->store), FLOAT32,
                   store_trained_count(exchange->store));
}
