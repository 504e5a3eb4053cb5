/* dot on the CPU: pieces of fixed length are summed in double, then the pieces in order. */
#include "engine/ops/dot.h"

#include "engine/ops/rows_cpu.h"

enum { PIECE = 4096 };

static double element(const Tensor *tensor, int64_t i)
{
    return tensor->shape.type == BFLOAT16 ? (double)bfloat16_to_float(((const bfloat16 *)tensor->data)[i])
                                          : (double)((const float *)tensor->data)[i];
}

static int64_t piece_count(const Tensor *x) { return (shape_count(x->shape) + PIECE - 1) / PIECE; }

static Status prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = (size_t)piece_count(&call->in[0]) * sizeof(double);
    return OK;
}

static Status run(const Call *call)
{
    const Tensor *x = &call->in[0], *weight = &call->in[1];
    const int64_t count = shape_count(x->shape), pieces = piece_count(x);
    double *sum = call->scratch;
#pragma omp parallel for num_threads(threads_for(call->device, count)) schedule(static)
    for (int64_t p = 0; p < pieces; ++p) {
        const int64_t end = (p + 1) * PIECE < count ? (p + 1) * PIECE : count;
        sum[p] = 0;
        for (int64_t i = p * PIECE; i < end; ++i)
            sum[p] += element(x, i) * element(weight, i);
    }
    double total = 0;
    for (int64_t p = 0; p < pieces; ++p)
        total += sum[p];
    *(double *)call->out[0].data = total;
    return OK;
}

const Kernel dot_cpu = {.prepare = prepare, .run = run};

static Status backward_run(const Call *call)
{
    const Tensor *other = &call->in[0], *dx = &call->out[0];
    const double factor = call->in[1].data != NULL ? *(const double *)call->in[1].data : 1;
    const int64_t count = shape_count(dx->shape);
    const bool bf16 = dx->shape.type == BFLOAT16;
#pragma omp parallel for num_threads(threads_for(call->device, count)) schedule(static)
    for (int64_t i = 0; i < count; ++i) {
        const float value = (float)(factor * element(other, i));
        if (bf16)
            ((bfloat16 *)dx->data)[i] = bfloat16_from_float(value);
        else
            ((float *)dx->data)[i] = value;
    }
    return OK;
}

const Kernel dot_backward_cpu = {.run = backward_run};
