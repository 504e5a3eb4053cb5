#include "engine/ops/linear_packed_cpu.h"

#include "engine/ops/rows_cpu.h"

#include <string.h>

/* Rows a multiple of this apart fall into the same few sets of the first-level cache, and a tile reads many at once. */
enum { CLASH_BYTES = 2048, PAD_BYTES = 64, ALIGNMENT = 64 };

static bool is_ours(const Call *call)
{
    const LinearAttributes *a = call->attributes;
    if (!call->in[1].packs) return false;
    if (a->in_type == FLOAT32) return a->out_type == FLOAT32;
    return window_has_bfloat16() && a->extent[a->rank - 1] % 2 == 0;
}

bool packed_linear_prepare(Call *call, PackedLinear *linear, size_t *scratch_bytes)
{
    const LinearAttributes *a = call->attributes;
    const Shape x = shape_of(a->in_type, a->rank, a->extent);
    const size_t rows = (size_t)shape_rows(x), row_bytes = (size_t)shape_columns(x) * dtype_size(a->in_type);
    if (!is_ours(call)) return false;
    linear->matrix = (WindowMatrix){.type = a->in_type, .depth = shape_columns(x), .columns = a->features};
    linear->copy_at = (rows * (2 * sizeof(void *) + sizeof(int32_t)) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    linear->pad = row_bytes % CLASH_BYTES == 0 && rows > 1 ? PAD_BYTES : 0;
    call->in[1].packed_bytes = window_matrix_bytes(a->in_type, shape_columns(x), a->features);
    *scratch_bytes = linear->copy_at + (linear->pad > 0 ? rows * (row_bytes + linear->pad) : 0);
    return true;
}

static WindowMatrix matrix_of(const Call *call, const PackedLinear *linear)
{
    WindowMatrix matrix = linear->matrix;
    matrix.packed = call->in[1].packed;
    return matrix;
}

void packed_linear_pack(const Call *call, const PackedLinear *linear)
{
    const WindowMatrix matrix = matrix_of(call, linear);
    window_matrix_pack(&matrix, call->in[1].data, 1, matrix.depth);
}

void packed_linear_run(const Call *call, const PackedLinear *linear)
{
    const WindowMatrix matrix = matrix_of(call, linear);
    const Shape x = call->in[0].shape;
    const int64_t places = shape_rows(x);
    const size_t row_bytes = (size_t)matrix.depth * dtype_size(x.type), apart = row_bytes + linear->pad;
    const size_t out_bytes = (size_t)matrix.columns * dtype_size(call->out[0].shape.type);
    const char *from = call->in[0].data;
    const void **window = call->scratch;
    void **to = (void **)call->scratch + places;
    const SequenceRows rows = linear_sequence_rows(call, LINEAR_LENGTH, (int32_t *)(void *)(to + places));
    char *copy = (char *)call->scratch + linear->copy_at;
    for (int64_t i = 0; i < rows.count; ++i) {
        const int64_t row = rows.row != NULL ? rows.row[i] : i;
        to[i] = (char *)call->out[0].data + (size_t)row * out_bytes;
        window[i] = from + (size_t)row * row_bytes;
    }
    linear_clear_other_rows(call, LINEAR_LENGTH, &call->out[0]);
    const WindowRows product = {.window = window,
                                .to = to,
                                .count = rows.count,
                                .bias = linear_has_bias(call) ? call->in[LINEAR_BIAS].data : NULL,
                                .type = call->out[0].shape.type};
#pragma omp parallel num_threads(threads_for(call->device, rows.count *matrix.depth *matrix.columns / 16))
    {
        int64_t first, end;
        if (linear->pad > 0) {
            thread_share(rows.count, &first, &end);
            for (int64_t i = first; i < end; ++i) {
                memcpy(copy + (size_t)i * apart, window[i], row_bytes);
                window[i] = copy + (size_t)i * apart;
            }
#pragma omp barrier
        }
        thread_share(window_panels(&matrix), &first, &end);
        window_panel_rows(&matrix, &product, first, end);
    }
}
