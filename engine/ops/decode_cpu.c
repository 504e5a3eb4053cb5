#include "engine/ops/decode.h"

#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_exp_cpu.h"

#include <math.h>
#include <string.h>

/* ---- best tokens ---- */

/* A list that is kept sorted: with few candidates hardly any token comes into it. */
typedef struct {
    float *logit;
    int32_t *token;
    int64_t count, most;
    const int32_t *banned, *banned_end;
    float least; /* only what is greater comes in */
} BestList;

static void consider(BestList *list, float logit, int32_t token)
{
    for (const int32_t *banned = list->banned; banned < list->banned_end; ++banned)
        if (*banned == token) return;
    int64_t place = list->count < list->most ? list->count++ : list->most - 1;
    for (; place > 0 && list->logit[place - 1] < logit; --place) {
        list->logit[place] = list->logit[place - 1];
        list->token[place] = list->token[place - 1];
    }
    list->logit[place] = logit;
    list->token[place] = token;
    if (list->count == list->most) list->least = list->logit[list->most - 1];
}

VECTOR_INLINE Vector load_logits(const float *row, int64_t c, int64_t columns)
{
    const int lanes = columns - c < LANES ? (int)(columns - c) : LANES;
    const Vector x = vector_load(row, c, lanes, false);
    return lanes == LANES ? x : vector_select(vector_present(lanes), x, vector_all(-INFINITY));
}

/* Bit i: lane i is greater. */
VECTOR_INLINE uint32_t lanes_above(Vector x, float limit)
{
#if VECTOR_AVX512
    return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(limit), _CMP_GT_OQ);
#elif VECTOR_AVX2
    return (uint32_t)_mm256_movemask_ps((__m256)(x > vector_all(limit)));
#else
    const IntVector above = x > vector_all(limit);
    uint32_t bits = 0;
    for (int i = 0; i < LANES; ++i)
        bits |= (uint32_t)(above[i] & 1) << i;
    return bits;
#endif
}

/* The greatest of columns first .. end-1, which are also considered. NaN is passed over: it comes back with the exponentials. */
VECTOR_INLINE float scan(BestList *list, const float *row, int64_t first, int64_t end)
{
    Vector greatest = vector_all(-INFINITY);
    for (int64_t c = first; c < end; c += LANES) {
        const Vector x = load_logits(row, c, end);
        greatest = vector_select(x > greatest, x, greatest);
        for (uint32_t enters = lanes_above(x, list->least); enters != 0; enters &= enters - 1) {
            const int i = __builtin_ctz(enters);
            if (x[i] > list->least) consider(list, x[i], (int32_t)(c + i));
        }
    }
    float maximum = -INFINITY;
    for (int i = 0; i < LANES; ++i)
        maximum = greatest[i] > maximum ? greatest[i] : maximum;
    return maximum;
}

VECTOR_INLINE float exponentials(const float *row, int64_t first, int64_t end, float maximum, float inverse)
{
    Vector sum = {0};
    for (int64_t c = first; c < end; c += LANES)
        sum += vector_exp((load_logits(row, c, end) - maximum) * inverse);
    return vector_sum(sum);
}

/* Strips are read twice, but the second time from the first-level cache; the sum so far is scaled when a strip has a greater
 * maximum. */
static void best_of_row(BestList *list, const float *row, int64_t columns, double temperature, float scale[2])
{
    enum { STRIP_COLUMNS = 4096 };
    const float inverse = (float)(1 / temperature);
    float maximum = -INFINITY;
    double sum = 0;
    for (int64_t first = 0; first < columns; first += STRIP_COLUMNS) {
        const int64_t end = first + STRIP_COLUMNS < columns ? first + STRIP_COLUMNS : columns;
        const float greatest = scan(list, row, first, end);
        if (greatest > maximum) {
            if (maximum > -INFINITY) sum *= exp(((double)maximum - (double)greatest) / temperature);
            maximum = greatest;
        }
        sum += (double)exponentials(row, first, end, maximum > -INFINITY ? maximum : 0, inverse);
    }
    scale[0] = maximum;
    scale[1] = maximum > -INFINITY ? (float)sum : NAN;
}

static Status best_tokens_run(const Call *call)
{
    const BestTokensAttributes *a = call->attributes;
    const Shape shape = call->in[BEST_TOKENS_LOGITS].shape;
    const int64_t rows = shape.extent[0], columns = shape.extent[1];
    const float *logits = call->in[BEST_TOKENS_LOGITS].data,
                *temperature = call->in[BEST_TOKENS_TEMPERATURE].data;
    const int32_t *forced = call->in[BEST_TOKENS_FORCED].data,
                  *start = call->in[BEST_TOKENS_BANNED_START].data;
    const int32_t *banned = call->in[BEST_TOKENS_BANNED].data;
    int32_t *token = call->out[BEST_TOKENS_TOKEN].data;
    float *logit = call->out[BEST_TOKENS_LOGIT].data, *scale = call->out[BEST_TOKENS_SCALE].data;
#pragma omp parallel for schedule(static) num_threads(threads_for(call->device, rows *columns))
    for (int64_t r = 0; r < rows; ++r) {
        const float *row = logits + r * columns;
        BestList list = {.logit = logit + r * a->count,
                         .token = token + r * a->count,
                         .most = a->count,
                         .banned = banned + start[r],
                         .banned_end = banned + start[r + 1],
                         .least = forced[r] >= 0 ? INFINITY : -INFINITY};
        best_of_row(&list, row, columns, (double)temperature[0], scale + 2 * r);
        if (forced[r] >= 0 && forced[r] < columns) {
            list.logit[0] = row[forced[r]];
            list.token[0] = forced[r];
            list.count = 1;
        }
        for (int64_t i = list.count; i < a->count; ++i) {
            list.logit[i] = -INFINITY;
            list.token[i] = -1;
        }
    }
    return OK;
}

const Kernel best_tokens_cpu = {.run = best_tokens_run};

/* ---- places of sequences ---- */

static Status place_sequences_run(const Call *call)
{
    const Shape x = call->in[PLACE_SEQUENCES_X].shape, state = call->in[PLACE_SEQUENCES_STATE].shape;
    const int32_t *row = call->in[PLACE_SEQUENCES_ROW].data;
    const size_t element = dtype_size(x.type);
    const size_t bytes = (size_t)(x.extent[1] * x.extent[2]) * element;
    const size_t apart = (size_t)(state.extent[1] * state.extent[2]) * element;
    for (int64_t n = 0; n < x.extent[0]; ++n)
        if (row[n] >= state.extent[0])
            return fail(STATUS_INPUT, "sequence %lld goes to row %d of a state with %lld", (long long)n,
                        (int)row[n], (long long)state.extent[0]);
#pragma omp parallel for schedule(static) num_threads(threads_for(call->device, shape_count(x)))
    for (int64_t n = 0; n < x.extent[0]; ++n)
        if (row[n] >= 0)
            memcpy((char *)call->in[PLACE_SEQUENCES_STATE].data + (size_t)row[n] * apart,
                   (const char *)call->in[PLACE_SEQUENCES_X].data + (size_t)n * bytes, bytes);
    memcpy(call->out[0].data, row, (size_t)x.extent[0] * sizeof *row);
    return OK;
}

const Kernel place_sequences_cpu = {.run = place_sequences_run};
