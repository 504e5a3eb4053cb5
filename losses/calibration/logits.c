#include "losses/calibration/logits.h"

#include "losses/calibration/threads.h"

#include <math.h>
#include <stdbool.h>

/* Rows a thread takes at a time. */
enum { BLOCK = 1024 };

/* Every logit a number or -infinity, and at least one a number: by integer operations that vectorise. */
static bool row_is_good(DType type, const void *values, int64_t classes)
{
    if (type == FLOAT32) {
        const uint32_t ones = 0x7f800000U,
                       masked = 0xff800000U; /* the exponent of NaN and infinities; -infinity */
        const uint32_t *bits = values;
        uint32_t bad = 0, finite = 0;
        for (int64_t k = 0; k < classes; ++k) {
            const uint32_t special = (bits[k] & ones) == ones;
            bad |= special & (bits[k] != masked);
            finite |= special ^ 1;
        }
        return bad == 0 && finite != 0;
    }
    const uint64_t ones = UINT64_C(0x7ff0000000000000), masked = UINT64_C(0xfff0000000000000);
    const uint64_t *bits = values;
    uint64_t bad = 0, finite = 0;
    for (int64_t k = 0; k < classes; ++k) {
        const uint64_t special = (bits[k] & ones) == ones;
        bad |= special & (bits[k] != masked);
        finite |= special ^ 1;
    }
    return bad == 0 && finite != 0;
}

Status row_fail(const char *name, int64_t classes, RowFault fault, int64_t row, int64_t column, double value)
{
    static const char *const what[ROW_FAULTS] = {[ROW_NAN] = "NaN", [ROW_INFINITE] = "infinity"};
    switch (fault) {
    case ROW_NOT_FINITE:
        return fail(
            STATUS_NUMERIC,
            "%s: all logits of row %lld are -infinity, which masks a class; at least one must be finite",
            name, (long long)row);
    case ROW_LABEL:
        if (isnan(value))
            return fail(STATUS_INPUT,
                        "%s: the label of row %lld is no class; with %lld classes it must be in 0..%lld",
                        name, (long long)row, (long long)classes, (long long)classes - 1);
        return fail(STATUS_INPUT,
                    "%s: the label of row %lld is %lld; with %lld classes it must be in 0..%lld", name,
                    (long long)row, (long long)value, (long long)classes, (long long)classes - 1);
    case ROW_WEIGHT:
        return fail(STATUS_INPUT, "%s: the weight of row %lld is neither 0 nor 1", name, (long long)row);
    default:
        return fail(STATUS_NUMERIC, "%s: the logit of row %lld, column %lld is %s", name, (long long)row,
                    (long long)column, what[fault]);
    }
}

static Status bad_row(const char *name, DType type, const void *values, int64_t classes, int64_t row)
{
    for (int64_t k = 0; k < classes; ++k) {
        const double value =
            type == FLOAT32 ? (double)((const float *)values)[k] : ((const double *)values)[k];
        if (isnan(value) || value == INFINITY)
            return row_fail(name, classes, isnan(value) ? ROW_NAN : ROW_INFINITE, row, k, value);
    }
    return row_fail(name, classes, ROW_NOT_FINITE, row, 0, 0);
}

/* Every number one of [0, 1], up to the tolerance, and their sum 1. */
static bool row_is_distribution(const Logits *logits, int64_t row, double *sum, int64_t *column)
{
    const double most = 1 + PROBABILITY_TOLERANCE;
    *sum = 0;
    *column = -1;
    for (int64_t k = 0; k < logits->classes; ++k) {
        const int64_t at = row * logits->classes + k;
        const double value = logits->type == FLOAT32 ? (double)((const float *)logits->values)[at]
                                                     : ((const double *)logits->values)[at];
        if (!(value >= 0 && value <= most) && *column < 0) *column = k;
        *sum += value;
    }
    return *column < 0 && fabs(*sum - 1) <= PROBABILITY_TOLERANCE;
}

static Status bad_probabilities(const Logits *logits, int64_t row)
{
    double sum;
    int64_t column;
    (void)row_is_distribution(logits, row, &sum, &column);
    const int64_t number = logits_row_number(logits, row);
    if (column >= 0) {
        const int64_t at = row * logits->classes + column;
        return fail(
            STATUS_INPUT,
            "%s: the probability of row %lld, column %lld is %g; it must be in 0..1 (are these logits? "
            "then give --logits)",
            logits->name, (long long)number, (long long)column,
            logits->type == FLOAT32 ? (double)((const float *)logits->values)[at]
                                    : ((const double *)logits->values)[at]);
    }
    return fail(STATUS_INPUT, "%s: the probabilities of row %lld sum to %.6g; they must sum to 1 within %g",
                logits->name, (long long)number, sum, PROBABILITY_TOLERANCE);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

Status logits_check(const Logits *logits, int threads)
{
    if (logits->total < 1) return fail(STATUS_INPUT, "%s: there are no samples", logits->name);
    if (logits->classes < 2)
        return fail(STATUS_INPUT, "%s: %lld class; at least 2 are needed", logits->name,
                    (long long)logits->classes);
    if (logits->values && logits->type != FLOAT32 && logits->type != FLOAT64)
        return fail(STATUS_INPUT, "%s: logits are %s; float32 or float64 is needed", logits->name,
                    dtype_name(logits->type));
    if (logits->labels && logits->label_type != UINT8 && logits->label_type != INT32 &&
        logits->label_type != INT64)
        return fail(STATUS_INPUT, "%s: labels are %s; an integer type is needed", logits->name,
                    dtype_name(logits->label_type));

    const int64_t blocks = (logits->count + BLOCK - 1) / BLOCK, classes = logits->classes;
    const size_t row_bytes = logits->values ? (size_t)classes * dtype_size(logits->type) : 0;
    const char *values = logits->values;
    const int team = team_size(threads, blocks);
    (void)team; /* for compilers without OpenMP */
    int64_t bad_logit = INT64_MAX, bad_label = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(team) reduction(min : bad_logit, bad_label)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t end = least((block + 1) * BLOCK, logits->count);
        for (int64_t row = block * BLOCK; row < end; ++row) {
            double sum;
            int64_t column;
            if (values && logits->probabilities && !row_is_distribution(logits, row, &sum, &column))
                bad_logit = least(row, bad_logit);
            if (values && !logits->probabilities &&
                !row_is_good(logits->type, values + (size_t)row * row_bytes, classes))
                bad_logit = least(row, bad_logit);
            if (logits->labels && row < bad_label) {
                const int64_t label = logits_label(logits, row);
                if (label < 0 || label >= classes) bad_label = row;
            }
        }
    }
    if (bad_logit != INT64_MAX && logits->probabilities) return bad_probabilities(logits, bad_logit);
    if (bad_logit != INT64_MAX)
        return bad_row(logits->name, logits->type, values + (size_t)bad_logit * row_bytes, classes,
                       logits_row_number(logits, bad_logit));
    if (bad_label != INT64_MAX)
        return row_fail(logits->label_name != NULL ? logits->label_name : logits->name, classes, ROW_LABEL,
                        logits_row_number(logits, bad_label), 0, (double)logits_label(logits, bad_label));
    return OK;
}

Status logit_rows_check(const char *name, int64_t classes, const LogitRows *rows, int threads)
{
    const int64_t count = rows->rows;
    const int team = team_size(threads, count);
    (void)team; /* for compilers without OpenMP */
    int64_t bad_logit = INT64_MAX, bad_label = INT64_MAX, bad_weight = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(team) reduction(min : bad_logit, bad_label, bad_weight)
    for (int64_t row = 0; row < count; ++row) {
        const float weight = rows->weights ? rows->weights[row] : 1;
        if (weight == 0) continue;
        if (weight != 1) bad_weight = least(row, bad_weight);
        if (!row_is_good(FLOAT32, rows->logits + row * classes, classes)) bad_logit = least(row, bad_logit);
        const int32_t label = rows->labels[row];
        if (label < 0 || label >= classes) bad_label = least(row, bad_label);
    }
    if (bad_weight != INT64_MAX)
        return row_fail(name, classes, ROW_WEIGHT, logit_rows_number(rows, bad_weight), 0, 0);
    if (bad_logit != INT64_MAX)
        return bad_row(name, FLOAT32, rows->logits + bad_logit * classes, classes,
                       logit_rows_number(rows, bad_logit));
    if (bad_label != INT64_MAX)
        return row_fail(name, classes, ROW_LABEL, logit_rows_number(rows, bad_label), 0,
                        rows->labels[bad_label]);
    return OK;
}
