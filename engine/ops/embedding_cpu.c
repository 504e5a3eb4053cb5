#include "engine/ops/embedding.h"

#include "engine/ops/rows_cpu.h"

static void take_row(const EmbeddingAttributes *a, const float *from, void *y, int64_t first)
{
    const float scale = (float)a->scale;
    if (a->type == FLOAT32) {
        float *to = (float *)y + first;
        for (int64_t c = 0; c < a->width; ++c)
            to[c] = scale * from[c];
    } else {
        bfloat16 *to = (bfloat16 *)y + first;
        for (int64_t c = 0; c < a->width; ++c)
            to[c] = bfloat16_from_float(scale * from[c]);
    }
}

static Status forward(const Call *call)
{
    const EmbeddingAttributes *a = call->attributes;
    const int32_t *index = call->in[0].data;
    const float *weight = call->in[1].data;
    const int64_t count = shape_count(a->index);
    /* Before anything is read: the indices are few beside what they stand for. */
    for (int64_t i = 0; i < count; ++i)
        if (index[i] < 0 || index[i] >= a->rows)
            return fail(STATUS_INPUT, "element %lld of the index is %d; the table has the rows 0 to %lld",
                        (long long)i, (int)index[i], (long long)(a->rows - 1));
    const int threads = threads_for(call->device, count * a->width);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < count; ++i)
        take_row(a, weight + index[i] * a->width, call->out[0].data, i * a->width);
    return OK;
}

static Status backward(const Call *call)
{
    const RowSums sums = embedding_row_sums(call);
    return row_sums_cpu(call->device, &sums);
}

const Kernel embedding_cpu = {.run = forward};
const Kernel embedding_backward_cpu = {
    .prepare = embedding_backward_prepare, .run = backward, .in_place = 1U << 2};
const Kernel embedding_backward_rows_cpu = {.prepare = embedding_backward_prepare, .run = backward};
