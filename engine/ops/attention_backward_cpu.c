/* Gradients of attention on the CPU: the weights of a block of queries and one of keys are made anew. */
#include "engine/ops/attention_cpu.h"

#include "engine/ops/vector_exp_cpu.h"

/* Of a block of queries and one of keys: scores become the weights after dropout, d_score (the gradient of the weights) the
 * gradient of the scores. */
static void backward_scores(const AttentionJob *j, AttentionTask *t, int64_t begin,
                            const float sum[ATTENTION_QUERIES], const float product_of_y[ATTENTION_QUERIES])
{
    const int64_t vectors = vectors_of(t, begin);
    for (int64_t q = 0; q < ATTENTION_QUERIES; ++q) {
        float *score = t->score + q * ATTENTION_KEYS, *d_score = t->d_score + q * ATTENTION_KEYS;
        for (int64_t v = 0; v < vectors; ++v) {
            const IntVector there = vector_present(lanes_seen(t->seen[q], begin + v * LANES));
            const Vector e = vector_exp(vector_load(score, v * LANES, LANES, false) - sum[q]);
            Vector kept = e, d = vector_load(d_score, v * LANES, LANES, false);
            if (j->drops) {
                const Vector mask = vector_load(t->mask + q * ATTENTION_KEYS, v * LANES, LANES, false);
                kept *= mask;
                d *= mask;
            }
            vector_store(score, v * LANES, LANES, false, (Vector)(there & (IntVector)kept));
            vector_store(d_score, v * LANES, LANES, false,
                         (Vector)(there & (IntVector)(e * (d - product_of_y[q]))));
        }
        for (int64_t k = vectors * LANES; k < ATTENTION_KEYS;
             k += LANES) { /* read by products of whole tiles of keys */
            vector_store(score, k, LANES, false, vector_all(0));
            vector_store(d_score, k, LANES, false, vector_all(0));
        }
    }
}

/* dy of a block; returns in `skip` which queries have none, in product_of_y dy . y of the others. */
static void load_dy(const AttentionJob *j, AttentionTask *t, int64_t query, const void *dy, const void *y,
                    bool skip[ATTENTION_QUERIES], float product_of_y[ATTENTION_QUERIES])
{
    const int64_t all = j->size.heads * j->size.width;
    for (int64_t q = 0; q < ATTENTION_QUERIES; ++q) {
        float *to = t->d_y + q * j->row;
        skip[q] = true;
        product_of_y[q] = 0;
        if (query + q >= j->size.queries) {
            memset(to, 0, (size_t)j->row * sizeof *to);
            continue;
        }
        const int64_t place = (t->sample * j->size.queries + query + q) * all + t->head * j->size.width;
        attention_load_row(to, dy, place, j->size.width, j->bf16, 1);
        Vector sum = vector_all(0);
        IntVector differs = {0};
        for (int64_t c = 0; c < j->size.width; c += LANES) {
            const int lanes = j->size.width - c < LANES ? (int)(j->size.width - c) : LANES;
            const Vector d = vector_load(to, c, LANES, false);
            sum += d * (j->bf16 ? vector_load(y, place + c, lanes, true)
                                : vector_load(y, place + c, lanes, false));
            differs |= d != vector_all(0);
        }
        for (int i = 0; i < LANES; ++i)
            if (differs[i]) skip[q] = false;
        if (!skip[q]) product_of_y[q] = vector_sum(sum);
    }
}

typedef struct {
    const void *dy, *y;
    const float *sums;
    void *d_query, *d_key_value;
} Gradients;

static void backward_block(const AttentionJob *j, AttentionTask *t, int64_t query, const Gradients *g)
{
    bool skip[ATTENTION_QUERIES];
    float product_of_y[ATTENTION_QUERIES], sum[ATTENTION_QUERIES] = {0};
    t->rows = ATTENTION_QUERIES; /* products back have them for their depth */
    load_dy(j, t, query, g->dy, g->y, skip, product_of_y);
    attention_load_queries(j, t, query, skip);
    for (int64_t q = 0; q < ATTENTION_QUERIES; ++q)
        if (t->seen[q] > 0)
            sum[q] = g->sums[(t->sample * j->size.heads + t->head) * j->size.queries + query + q];
    memset(t->d_query, 0, (size_t)(ATTENTION_QUERIES * j->row) * sizeof(float));
    const int64_t most = attention_most_seen(t);
    for (int64_t begin = 0; begin < most; begin += ATTENTION_KEYS) {
        attention_multiply_across(j, t, t->query, t->key, begin, t->score);
        attention_multiply_across(j, t, t->d_y, t->value_across, begin, t->d_score);
        if (j->drops) attention_make_mask(j, t, query, begin);
        backward_scores(j, t, begin, sum, product_of_y);
        attention_multiply_along(j, t, t->d_score, t->key_along, begin, t->d_query);
        attention_multiply_back(j, t, t->score, t->d_y, begin, t->d_value);
        attention_multiply_back(j, t, t->d_score, t->query, begin, t->d_key);
    }
    for (int64_t q = 0; q < ATTENTION_QUERIES && query + q < j->size.queries; ++q)
        attention_store_row(g->d_query, query_place(j, t, query + q), t->d_query + q * j->row, j->size.width,
                            j->bf16, j->scale);
}

static void backward_task(const AttentionJob *j, AttentionTask *t, int64_t index, const Gradients *g)
{
    attention_task_begin(j, index, t);
    attention_load_across(j, t, j->size.key_column, t->key);
    attention_load_across(j, t, j->size.value_column, t->value_across);
    attention_load_rows(j, t, j->size.key_column, t->key_along);
    const size_t bytes = (size_t)(round_up(t->count, ATTENTION_TILE_ROWS) * j->row) * sizeof(float);
    memset(t->d_key, 0, bytes);
    memset(t->d_value, 0, bytes);
    for (int64_t query = 0; query < j->size.queries; query += ATTENTION_QUERIES)
        backward_block(j, t, query, g);
    static const float nothing[LANES];
    for (int64_t p = 0; p < j->size.keys; ++p) {
        const bool seen = p >= t->first && p < t->first + t->count;
        const int64_t key = key_place(j, t, p, j->size.key_column),
                      value = key_place(j, t, p, j->size.value_column);
        if (seen) {
            attention_store_row(g->d_key_value, key, t->d_key + (p - t->first) * j->row, j->size.width,
                                j->bf16, 1);
            attention_store_row(g->d_key_value, value, t->d_value + (p - t->first) * j->row, j->size.width,
                                j->bf16, 1);
            continue;
        }
        for (int64_t c = 0; c < j->size.width; c += LANES) {
            const int64_t width = j->size.width - c < LANES ? j->size.width - c : LANES;
            attention_store_row(g->d_key_value, key + c, nothing, width, j->bf16, 1);
            attention_store_row(g->d_key_value, value + c, nothing, width, j->bf16, 1);
        }
    }
}

static Status backward_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = attention_scratch(call, call->in + ATTENTION_BACKWARD_FORWARD, true);
    return OK;
}

static Status backward_run(const Call *call)
{
    const AttentionJob j = attention_job(call, call->in + ATTENTION_BACKWARD_FORWARD);
    const Gradients g = {.dy = call->in[ATTENTION_BACKWARD_DY].data,
                         .y = call->in[ATTENTION_BACKWARD_Y].data,
                         .sums = call->in[ATTENTION_BACKWARD_SUM].data,
                         .d_query = call->out[ATTENTION_BACKWARD_DQUERY].data,
                         .d_key_value = j.size.fused ? call->out[ATTENTION_BACKWARD_DQUERY].data
                                                     : call->out[ATTENTION_BACKWARD_DKEY_VALUE].data};
    AttentionTask none;
    const int64_t floats = attention_task_floats(&j, true, NULL, &none);
#pragma omp parallel num_threads(attention_threads(call->device, &j))
    {
        int64_t first, last;
        AttentionTask t = {0};
        (void)attention_task_floats(&j, true, (float *)call->scratch + omp_get_thread_num() * floats, &t);
        thread_share(j.size.samples * j.size.heads, &first, &last);
        for (int64_t index = first; index < last; ++index)
            backward_task(&j, &t, index, &g);
    }
    return OK;
}

const Kernel attention_backward_cpu = {.prepare = backward_prepare, .run = backward_run};
