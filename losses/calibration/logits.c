#include "losses/calibration/logits.h"

#include "losses/calibration/threads.h"

#include <math.h>
#include <stdbool.h>

/* Rows a thread takes at a time. */
enum { BLOCK = 1024 };

static bool row_is_finite(const Logits *logits, int64_t row)
{
    /* The exponent field all ones, by integer operations that vectorise. */
    const int64_t classes = logits->classes;
    if (logits->type == FLOAT32) {
        const uint32_t *bits = (const uint32_t *)logits->values + row * classes;
        uint32_t bad = 0;
        for (int64_t k = 0; k < classes; ++k)
            bad |= (bits[k] & 0x7f800000U) == 0x7f800000U;
        return bad == 0;
    }
    const uint64_t mask = UINT64_C(0x7ff0000000000000);
    const uint64_t *bits = (const uint64_t *)logits->values + row * classes;
    uint64_t bad = 0;
    for (int64_t k = 0; k < classes; ++k)
        bad |= (bits[k] & mask) == mask;
    return bad == 0;
}

Status logits_fail(const Logits *logits, int64_t row, int64_t column, double value)
{
    return fail(STATUS_NUMERIC, "%s: the logit of row %lld, column %lld is %s", logits->name,
                (long long)(logits->first + row), (long long)column,
                isnan(value) ? "NaN"
                : value > 0  ? "infinity"
                             : "-infinity");
}

static Status bad_value(const Logits *logits, int64_t row)
{
    for (int64_t k = 0; k < logits->classes; ++k) {
        const int64_t at = row * logits->classes + k;
        const double value = logits->type == FLOAT32 ? (double)((const float *)logits->values)[at]
                                                     : ((const double *)logits->values)[at];
        if (!isfinite(value)) return logits_fail(logits, row, k, value);
    }
    return fail(STATUS_INTERNAL, "%s: row %lld is finite after all", logits->name, (long long)row);
}

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

    const int64_t blocks = (logits->count + BLOCK - 1) / BLOCK;
    const int team = threads_for(threads, blocks);
    (void)team; /* for compilers without OpenMP */
    int64_t bad_row = INT64_MAX, bad_label = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(team) reduction(min : bad_row, bad_label)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t end = (block + 1) * BLOCK < logits->count ? (block + 1) * BLOCK : logits->count;
        for (int64_t row = block * BLOCK; row < end; ++row) {
            if (logits->values && !row_is_finite(logits, row) && row < bad_row) bad_row = row;
            if (logits->labels && row < bad_label) {
                const int64_t label = logits_label(logits, row);
                if (label < 0 || label >= logits->classes) bad_label = row;
            }
        }
    }
    if (bad_row != INT64_MAX) return bad_value(logits, bad_row);
    if (bad_label != INT64_MAX)
        return fail(STATUS_INPUT,
                    "%s: the label of row %lld is %lld; with %lld classes it must be in 0..%lld",
                    logits->label_name != NULL ? logits->label_name : logits->name,
                    (long long)(logits->first + bad_label), (long long)logits_label(logits, bad_label),
                    (long long)logits->classes, (long long)logits->classes - 1);
    return OK;
}

void logits_share(int64_t total, int rank, int size, int64_t *first, int64_t *count)
{
    const int64_t each = total / size, more = total % size; /* the first `more` ranks take one more */
    *first = each * rank + (rank < more ? rank : more);
    *count = each + (rank < more ? 1 : 0);
}
