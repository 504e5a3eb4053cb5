/* attention_step on the CPU: a row's cached keys, then its values are read once, for all heads. */
#include "engine/ops/attention.h"

#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"
#include "engine/ops/vector_exp_cpu.h"

#include <math.h>

enum { VALUES = 4 }; /* vectors of a row of values at a time */

typedef struct {
    int64_t rows, heads, width, slots, positions;
    bool bf16;
    const void *x;
    void *cache, *y;
    const int32_t *table, *position;
} AttentionStep;

static AttentionStep step_of(const Call *call)
{
    const AttentionStepAttributes *a = call->attributes;
    const Tensor *x = &call->in[ATTENTION_STEP_QUERY_KEY_VALUE], *cache = &call->in[ATTENTION_STEP_CACHE];
    return (AttentionStep){.rows = x->shape.extent[0],
                           .heads = a->heads,
                           .width = a->head_width,
                           .slots = cache->shape.extent[0],
                           .positions = cache->shape.extent[1],
                           .bf16 = x->shape.type == BFLOAT16,
                           .x = x->data,
                           .cache = cache->data,
                           .y = call->out[0].data,
                           .table = call->in[ATTENTION_STEP_TABLE].data,
                           .position = call->in[ATTENTION_STEP_POSITION].data};
}

static Status check_tables(const AttentionStep *s)
{
    for (int64_t r = 0; r < s->rows; ++r) {
        if (s->position[r] < -1 || s->position[r] >= s->positions)
            return fail(STATUS_INPUT, "row %lld is at position %d; the cache has %lld positions",
                        (long long)r, (int)s->position[r], (long long)s->positions);
        for (int64_t p = 0; p <= s->position[r]; ++p)
            if (s->table[r * s->positions + p] < 0 || s->table[r * s->positions + p] >= s->slots)
                return fail(STATUS_INPUT, "row %lld has position %lld in slot %d; the cache has %lld slots",
                            (long long)r, (long long)p, (int)s->table[r * s->positions + p],
                            (long long)s->slots);
    }
    return OK;
}

VECTOR_INLINE int lanes_at(int64_t c, int64_t width) { return width - c < LANES ? (int)(width - c) : LANES; }

/* Where position p of a row's keys and values is. */
static const char *cached(const AttentionStep *s, int64_t r, int64_t p)
{
    const int64_t bytes = 2 * s->heads * s->width * (s->bf16 ? 2 : 4);
    return (const char *)s->cache + (s->table[r * s->positions + p] * s->positions + p) * bytes;
}

/* Caches of all hypotheses are larger than the second-level cache, and rows take them from anywhere: position p of the next row
 * is asked for while this one is at its own. */
static void ask_for(const AttentionStep *s, int64_t r, int64_t p)
{
    enum { LINE = 64 };
    if (r >= s->rows || p > s->position[r]) return;
    const int64_t bytes = 2 * s->heads * s->width * (s->bf16 ? 2 : 4);
    const char *from = cached(s, r, p);
    for (int64_t byte = 0; byte < bytes; byte += LINE)
        __builtin_prefetch(from + byte, 0, 2);
}

/* w[p] times the values of each position, of a head: so many vectors of sums stay in registers. */
VECTOR_INLINE void add_values(const AttentionStep *s, int64_t r, const float *w, int64_t c, int vectors,
                              int lanes, bool bf16, void *y)
{
    const int64_t all = s->heads * s->width;
    Vector sum[VALUES];
    for (int v = 0; v < vectors; ++v)
        sum[v] = vector_all(0);
    for (int64_t p = 0; p <= s->position[r]; ++p) {
        const void *value = vector_at(cached(s, r, p), all + c, bf16);
        for (int v = 0; v < vectors; ++v)
            sum[v] += w[p] * vector_load(value, v * LANES, v == vectors - 1 ? lanes : LANES, bf16);
    }
    for (int v = 0; v < vectors; ++v)
        vector_store(y, c + v * LANES, v == vectors - 1 ? lanes : LANES, bf16, sum[v]);
}

VECTOR_INLINE void step_row(const AttentionStep *s, int64_t r, float *weight, bool bf16)
{
    const int64_t all = s->heads * s->width, size = bf16 ? 2 : 4, last = s->position[r];
    const int32_t *slot = s->table + r * s->positions;
    char *y = (char *)s->y + r * all * size;
    if (last < 0) {
        memset(y, 0, (size_t)(all * size));
        return;
    }
    const char *x = (const char *)s->x + r * 3 * all * size;
    memcpy((char *)s->cache + (slot[last] * s->positions + last) * 2 * all * size, x + all * size,
           (size_t)(2 * all * size));
    const float scale = (float)(1 / sqrt((double)s->width));
    for (int64_t p = 0; p <= last; ++p) {
        const char *key = cached(s, r, p);
        ask_for(s, r + 1, p);
        for (int64_t h = 0; h < s->heads; ++h) {
            Vector product = vector_all(0);
            for (int64_t c = 0; c < s->width; c += LANES)
                product += vector_load(x, h * s->width + c, lanes_at(c, s->width), bf16) *
                           vector_load(key, h * s->width + c, lanes_at(c, s->width), bf16);
            weight[h * s->positions + p] = vector_sum(product) * scale;
        }
    }
    for (int64_t h = 0; h < s->heads; ++h) {
        float *w = weight + h * s->positions, most = w[0];
        for (int64_t p = 1; p <= last; ++p)
            most = w[p] > most ? w[p] : most;
        Vector total = vector_all(0);
        for (int64_t p = 0; p <= last; p += LANES) {
            const int lanes = lanes_at(p, last + 1);
            const Vector e = vector_exp(vector_load(w, p, lanes, false) - most);
            vector_store(w, p, lanes, false, e);
            total += (Vector)(vector_present(lanes) & (IntVector)e);
        }
        const float share = 1 / vector_sum(total);
        for (int64_t p = 0; p <= last; ++p)
            w[p] *= share;
    }
    for (int64_t h = 0; h < s->heads; ++h) {
        const float *w = weight + h * s->positions;
        for (int64_t c = 0; c < s->width; c += VALUES * LANES) {
            const int64_t left = s->width - c;
            const int vectors = left >= VALUES * LANES ? VALUES : (int)((left + LANES - 1) / LANES);
            if (left >= VALUES * LANES)
                add_values(s, r, w, h * s->width + c, VALUES, LANES, bf16, y);
            else
                add_values(s, r, w, h * s->width + c, vectors, lanes_at((vectors - 1) * LANES, left), bf16,
                           y);
        }
    }
}

/* Floats of a thread's scratch: weights of all heads. */
static int64_t scratch_floats(const AttentionStepAttributes *a, Shape cache)
{
    return a->heads * cache.extent[1];
}

static Status prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = (size_t)scratch_floats(call->attributes, call->in[ATTENTION_STEP_CACHE].shape) *
                     sizeof(float) * (size_t)device_threads(call->device);
    return OK;
}

static Status run(const Call *call)
{
    const AttentionStep s = step_of(call);
    TRY(check_tables(&s));
    const int64_t floats = scratch_floats(call->attributes, call->in[ATTENTION_STEP_CACHE].shape);
    int64_t work = 0;
    for (int64_t r = 0; r < s.rows; ++r)
        work += (s.position[r] + 1) * s.heads * s.width;
#pragma omp parallel num_threads(threads_for(call->device, 2 * work))
    {
        int64_t first, last;
        float *weight = (float *)call->scratch + omp_get_thread_num() * floats;
        thread_share(s.rows, &first, &last);
        for (int64_t r = first; r < last; ++r) {
            if (s.bf16)
                step_row(&s, r, weight, true);
            else
                step_row(&s, r, weight, false);
        }
    }
    return OK;
}

const Kernel attention_step_cpu = {.prepare = prepare, .run = run};
