/* softmax and log_softmax on the CPU. Rows are short and stay in the first-level cache, so the exponential is
 * computed anew rather than stored and rounded. */
#include "engine/ops/softmax.h"

#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_exp_cpu.h"

#include <math.h>

VECTOR_INLINE Vector load_or(const void *row, int64_t c, int lanes, bool bf16, float otherwise)
{
    const Vector x = vector_load(row, c, lanes, bf16);
    return lanes == LANES ? x : vector_select(vector_present(lanes), x, vector_all(otherwise));
}

VECTOR_INLINE int lanes_at(int64_t c, int64_t columns)
{
    return columns - c < LANES ? (int)(columns - c) : LANES;
}

/* NaN is passed over: it comes back with the exponentials. */
VECTOR_INLINE float row_maximum(const void *row, int64_t columns, bool bf16)
{
    Vector greatest = vector_all(-INFINITY);
    for (int64_t c = 0; c < columns; c += LANES) {
        const Vector x = load_or(row, c, lanes_at(c, columns), bf16, -INFINITY);
        greatest = vector_select(x > greatest, x, greatest);
    }
    float maximum = -INFINITY;
    for (int i = 0; i < LANES; ++i)
        maximum = greatest[i] > maximum ? greatest[i] : maximum;
    return maximum;
}

/* ln of the sum of e^(x - maximum). What equals the maximum is counted, the rest summed apart, so that the
 * result is accurate also when the rest is tiny beside 1. */
VECTOR_INLINE double row_sum(const void *row, int64_t columns, bool bf16, float maximum, int64_t *equal)
{
    Vector sum = {0};
    *equal = 0;
    IntVector equals = {0};
    for (int64_t c = 0; c < columns; c += LANES) {
        const Vector x = load_or(row, c, lanes_at(c, columns), bf16, -INFINITY);
        const IntVector is_maximum = (x == vector_all(maximum));
        equals -= is_maximum;
        sum += (Vector)((IntVector)vector_exp(x - maximum) & ~is_maximum);
    }
    for (int i = 0; i < LANES; ++i)
        *equal += equals[i];
    return (double)vector_sum(sum);
}

VECTOR_INLINE void softmax_row(const void *x, void *y, int64_t columns, bool bf16)
{
    const float maximum = row_maximum(x, columns, bf16);
    int64_t equal;
    const double rest = row_sum(x, columns, bf16, maximum, &equal);
    const float share = (float)(1 / ((double)equal + rest));
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        vector_store(y, c, lanes, bf16, vector_exp(vector_load(x, c, lanes, bf16) - maximum) * share);
    }
}

VECTOR_INLINE void log_softmax_row(const void *x, void *y, int64_t columns, bool bf16)
{
    const float maximum = row_maximum(x, columns, bf16);
    int64_t equal;
    const double rest = row_sum(x, columns, bf16, maximum, &equal);
    const float logarithm = (float)log1p((double)(equal - 1) + rest);
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        vector_store(y, c, lanes, bf16, (vector_load(x, c, lanes, bf16) - maximum) - logarithm);
    }
}

/* d_x = y (d_y - sum d_y y) */
VECTOR_INLINE void softmax_backward_row(const void *dy, const void *y, void *dx, int64_t columns, bool bf16)
{
    Vector sums = {0};
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        sums += vector_load(dy, c, lanes, bf16) * vector_load(y, c, lanes, bf16);
    }
    const float sum = vector_sum(sums);
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        vector_store(dx, c, lanes, bf16,
                     vector_load(y, c, lanes, bf16) * (vector_load(dy, c, lanes, bf16) - sum));
    }
}

/* d_x = d_y - e^y sum d_y */
VECTOR_INLINE void log_softmax_backward_row(const void *dy, const void *y, void *dx, int64_t columns,
                                            bool bf16)
{
    Vector sums = {0};
    for (int64_t c = 0; c < columns; c += LANES)
        sums += vector_load(dy, c, lanes_at(c, columns), bf16);
    const float sum = vector_sum(sums);
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        vector_store(dx, c, lanes, bf16,
                     vector_load(dy, c, lanes, bf16) - vector_exp(vector_load(y, c, lanes, bf16)) * sum);
    }
}

typedef enum { FORWARD, LOG_FORWARD, BACKWARD, LOG_BACKWARD } Kind;

VECTOR_INLINE void run_rows(const Call *call, Kind kind, bool bf16)
{
    const Shape shape = call->out[0].shape;
    const int64_t rows = shape_rows(shape), columns = shape_columns(shape);
    const int64_t bytes = columns * (bf16 ? 2 : 4);
    const bool backward = kind == BACKWARD || kind == LOG_BACKWARD;
    /* An exponential costs several additions. */
#pragma omp parallel num_threads(threads_for(call->device, 4 * shape_count(shape)))
    {
        int64_t first, last;
        thread_share(rows, &first, &last);
        for (int64_t row = first; row < last; ++row) {
            const char *a = (const char *)call->in[0].data + row * bytes;
            const char *b = backward ? (const char *)call->in[1].data + row * bytes : NULL;
            char *out = (char *)call->out[0].data + row * bytes;
            if (kind == FORWARD) softmax_row(a, out, columns, bf16);
            if (kind == LOG_FORWARD) log_softmax_row(a, out, columns, bf16);
            if (kind == BACKWARD) softmax_backward_row(a, b, out, columns, bf16);
            if (kind == LOG_BACKWARD) log_softmax_backward_row(a, b, out, columns, bf16);
        }
    }
}

VECTOR_INLINE Status run_kind(const Call *call, Kind kind)
{
    if (call->out[0].shape.type == BFLOAT16)
        run_rows(call, kind, true);
    else
        run_rows(call, kind, false);
    return OK;
}

static Status softmax_run(const Call *call) { return run_kind(call, FORWARD); }
static Status log_softmax_run(const Call *call) { return run_kind(call, LOG_FORWARD); }
static Status softmax_backward_run(const Call *call) { return run_kind(call, BACKWARD); }
static Status log_softmax_backward_run(const Call *call) { return run_kind(call, LOG_BACKWARD); }

const Kernel softmax_cpu = {.run = softmax_run, .in_place = 1};
const Kernel log_softmax_cpu = {.run = log_softmax_run, .in_place = 1};
const Kernel softmax_backward_cpu = {.run = softmax_backward_run, .in_place = 3};
const Kernel log_softmax_backward_cpu = {.run = log_softmax_backward_run, .in_place = 3};
