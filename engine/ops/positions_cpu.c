#include "engine/ops/positions.h"

#include "engine/base/memory.h"
#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

#include <stdlib.h>

/* The state: the table of sines and cosines. */
static Status prepare(Call *call, size_t *scratch_bytes)
{
    const PositionsAttributes *a = call->attributes;
    const int64_t width = shape_columns(call->in[POSITIONS_X].shape);
    *scratch_bytes = 0;
    if (a->kind == POSITIONS_LEARNED) return OK;
    TRY(memory_new(&call->state, (size_t)(a->most * width), sizeof(float), "the vectors of positions"));
    positions_table(a->kind, a->most, width, call->state);
    return OK;
}

static void release(Call *call)
{
    free(call->state);
    call->state = NULL;
}

VECTOR_INLINE void add_row(const void *x, const float *vector, void *y, int64_t width, bool bf16)
{
    for (int64_t c = 0; c < width; c += LANES) {
        const int lanes = width - c < LANES ? (int)(width - c) : LANES;
        Vector sum = vector_load(x, c, lanes, bf16);
        if (vector != NULL) sum += vector_load(vector, c, lanes, false);
        vector_store(y, c, lanes, bf16, sum);
    }
}

static Status run(const Call *call)
{
    const PositionsAttributes *a = call->attributes;
    const Shape x = call->in[POSITIONS_X].shape;
    const bool bf16 = x.type == BFLOAT16;
    const int64_t width = shape_columns(x), rows = shape_rows(x), length = x.extent[x.rank - 2];
    const int32_t *position = call->in[POSITIONS_POSITION].data;
    const float *table = call->in[POSITIONS_WEIGHT].data;
    if (table == NULL) table = call->state;
    for (int64_t r = 0; position != NULL && r < rows; ++r)
        if (position[r] < -1 || position[r] >= a->most)
            return fail(STATUS_INPUT, "row %lld is at position %d; there are the positions 0 to %lld",
                        (long long)r, (int)position[r], (long long)(a->most - 1));
    const int64_t bytes = width * (bf16 ? 2 : 4);
#pragma omp parallel for schedule(static) num_threads(threads_for(call->device, rows *width))
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t p = position != NULL ? position[r] : r % length;
        const float *vector = p < 0 ? NULL : table + p * width;
        const char *from = (const char *)call->in[POSITIONS_X].data + r * bytes;
        char *to = (char *)call->out[0].data + r * bytes;
        if (bf16)
            add_row(from, vector, to, width, true);
        else
            add_row(from, vector, to, width, false);
    }
    return OK;
}

static Status backward_run(const Call *call)
{
    const PositionsAttributes *a = call->attributes;
    const Shape d_y = call->in[0].shape;
    const bool bf16 = d_y.type == BFLOAT16;
    const int64_t samples = d_y.extent[0], length = d_y.extent[1], width = d_y.extent[2];
    float *d_weight = call->out[0].data;
#pragma omp parallel for schedule(static) num_threads(threads_for(call->device, samples *length *width))
    for (int64_t p = 0; p < a->most; ++p) {
        for (int64_t c = 0; c < width; c += LANES) {
            const int lanes = width - c < LANES ? (int)(width - c) : LANES;
            Vector sum = vector_all(0);
            for (int64_t n = 0; p < length && n < samples; ++n) {
                const int64_t at = (n * length + p) * width + c;
                sum += bf16 ? vector_load(call->in[0].data, at, lanes, true)
                            : vector_load(call->in[0].data, at, lanes, false);
            }
            vector_store(d_weight, p * width + c, lanes, false, sum);
        }
    }
    return OK;
}

const Kernel positions_cpu = {
    .prepare = prepare, .run = run, .release = release, .in_place = 1U << POSITIONS_X};
const Kernel positions_backward_cpu = {.run = backward_run};
