/* attention on the CPU. A task is a head of a sample: keys and values are packed as float32 once, the keys with key beside
 * key, so that scores are made of whole vectors; queries come in blocks, and for each of them the keys do. All that a task
 * needs stays in the second-level cache. No result depends on threads, on other samples or on padding. */
#include "engine/ops/attention_cpu.h"

#include "engine/ops/vector_exp_cpu.h"

#include <math.h>

static Status check_sequences(const AttentionJob *j)
{
    for (int64_t n = 0; j->sequence != NULL && n < j->size.samples; ++n)
        if (j->sequence[n] < -1 || j->sequence[n] >= j->size.sequences)
            return fail(STATUS_INPUT, "sample %lld attends to sequence %d; there are %lld", (long long)n,
                        (int)j->sequence[n], (long long)j->size.sequences);
    return OK;
}

/* Asks for the keys and values of task `index`: a search's are spread over more than the second-level cache. */
static void ask_for(const AttentionJob *j, int64_t index, int64_t end)
{
    enum { LINE = 64, MOST_KEYS = 64 };
    if (index >= end) return;
    AttentionTask t = {0};
    attention_task_begin(j, index, &t);
    const int64_t size = j->bf16 ? 2 : 4, keys = t.count < MOST_KEYS ? t.count : MOST_KEYS;
    for (int64_t k = 0; k < keys; ++k) {
        const char *row = (const char *)j->key_value + key_place(j, &t, t.first + k, 0) * size;
        for (int64_t byte = 0; byte < j->size.width * size; byte += LINE) {
            __builtin_prefetch(row + j->size.key_column * size + byte, 0, 2);
            __builtin_prefetch(row + j->size.value_column * size + byte, 0, 2);
        }
    }
}

static float vector_maximum(Vector x)
{
    float lane[LANES], most = -INFINITY;
    memcpy(lane, &x, sizeof lane);
    for (int i = 0; i < LANES; ++i)
        most = lane[i] > most ? lane[i] : most;
    return most;
}

/* The scores of query `q` of a block become e^(score - maximum), 0 where no key is seen; what was summed before under a smaller
 * maximum is made smaller. */
static void soften(AttentionTask *t, int64_t q, int64_t begin, int64_t vectors, int64_t row, float *maximum,
                   float *sum)
{
    float *score = t->score + q * ATTENTION_KEYS;
    Vector most = vector_all(-INFINITY);
    for (int64_t v = 0; v < vectors; ++v) {
        const IntVector there = vector_present(lanes_seen(t->seen[q], begin + v * LANES));
        const Vector s = vector_load(score, v * LANES, LANES, false);
        most = vector_select(there & (s > most), s, most);
    }
    const float block_most = vector_maximum(most), next = block_most > *maximum ? block_most : *maximum;
    const float shrink = *maximum == next ? 1 : expf(*maximum - next);
    Vector added = vector_all(0);
    for (int64_t v = 0; v < vectors; ++v) {
        const IntVector there = vector_present(lanes_seen(t->seen[q], begin + v * LANES));
        const Vector e = vector_exp(vector_load(score, v * LANES, LANES, false) - next);
        const Vector p = (Vector)(there & (IntVector)e);
        vector_store(score, v * LANES, LANES, false, p);
        added += p;
    }
    *sum = *sum * shrink + vector_sum(added);
    *maximum = next;
    if (shrink == 1) return;
    for (int64_t c = 0; c < row; c += LANES)
        vector_store(t->y + q * row, c, LANES, false, vector_load(t->y + q * row, c, LANES, false) * shrink);
}

static void apply_mask(const AttentionTask *t, float *scores, int64_t vectors)
{
    for (int64_t q = 0; q < t->rows; ++q)
        for (int64_t v = 0; v < vectors; ++v)
            vector_store(scores + q * ATTENTION_KEYS, v * LANES, LANES, false,
                         vector_load(scores + q * ATTENTION_KEYS, v * LANES, LANES, false) *
                             vector_load(t->mask + q * ATTENTION_KEYS, v * LANES, LANES, false));
}

static void forward_block(const AttentionJob *j, AttentionTask *t, int64_t query, void *y, float *sums)
{
    float maximum[ATTENTION_QUERIES], sum[ATTENTION_QUERIES] = {0};
    for (int q = 0; q < ATTENTION_QUERIES; ++q)
        maximum[q] = -INFINITY;
    const int64_t left = j->size.queries - query;
    t->rows = left < ATTENTION_QUERIES ? round_up(left, ATTENTION_TILE_ROWS)
                                       : ATTENTION_QUERIES; /* a step of a search has few */
    attention_load_queries(j, t, query, NULL);
    memset(t->y, 0, (size_t)(t->rows * j->row) * sizeof(float));
    const int64_t most = attention_most_seen(t);
    for (int64_t begin = 0; begin < most; begin += ATTENTION_KEYS) {
        const int64_t vectors = vectors_of(t, begin);
        attention_multiply_across(j, t, t->query, t->key, begin, t->score);
        for (int64_t q = 0; q < t->rows; ++q) {
            if (t->seen[q] > begin)
                soften(t, q, begin, vectors, j->row, &maximum[q], &sum[q]);
            else
                memset(t->score + q * ATTENTION_KEYS, 0, ATTENTION_KEYS * sizeof(float));
        }
        if (j->drops) {
            attention_make_mask(j, t, query, begin);
            for (int64_t q = 0; q < ATTENTION_QUERIES; ++q)
                if (t->seen[q] <= begin)
                    memset(t->mask + q * ATTENTION_KEYS, 0, ATTENTION_KEYS * sizeof(float));
            apply_mask(t, t->score, vectors);
        }
        attention_multiply_along(j, t, t->score, t->value, begin, t->y);
    }
    const int64_t all = j->size.heads * j->size.width;
    for (int64_t q = 0; q < ATTENTION_QUERIES && query + q < j->size.queries; ++q) {
        const bool sees = t->seen[q] > 0;
        attention_store_row(y, (t->sample * j->size.queries + query + q) * all + t->head * j->size.width,
                            t->y + q * j->row, j->size.width, j->bf16, sees ? 1 / sum[q] : 1);
        sums[(t->sample * j->size.heads + t->head) * j->size.queries + query + q] =
            sees ? maximum[q] + logf(sum[q]) : 0;
    }
}

static Status forward_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = attention_scratch(call, call->in, false);
    return OK;
}

static Status forward_run(const Call *call)
{
    const AttentionJob j = attention_job(call, call->in);
    TRY(check_sequences(&j));
    AttentionTask none;
    const int64_t floats = attention_task_floats(&j, false, NULL, &none);
#pragma omp parallel num_threads(attention_threads(call->device, &j))
    {
        int64_t first, last;
        AttentionTask t = {0};
        (void)attention_task_floats(&j, false, (float *)call->scratch + omp_get_thread_num() * floats, &t);
        thread_share(j.size.samples * j.size.heads, &first, &last);
        for (int64_t index = first; index < last; ++index) {
            attention_task_begin(&j, index, &t);
            ask_for(&j, index + 1, last);
            attention_load_across(&j, &t, j.size.key_column, t.key);
            attention_load_rows(&j, &t, j.size.value_column, t.value);
            for (int64_t query = 0; query < j.size.queries; query += ATTENTION_QUERIES)
                forward_block(&j, &t, query, call->out[ATTENTION_Y].data, call->out[ATTENTION_SUM].data);
        }
    }
    return OK;
}

const Kernel attention_cpu = {.prepare = forward_prepare, .run = forward_run};
