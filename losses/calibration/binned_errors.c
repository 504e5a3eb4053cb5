#include "losses/calibration/binned_errors.h"

#include "engine/base/memory.h"
#include "losses/calibration/bins.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_randist.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const bin_scheme_names[BINS_SCHEMES] = {"equal_width", "equal_mass", "discrete"};

static int compare_numbers(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* ---- bins of one probability each sample ---- */

/* Probabilities, hits, and which bin each is in. */
typedef struct {
    int64_t count;
    double *p;
    uint8_t *hit;
    int32_t *bin;
    double *sorted;
    double *edge; /* upper edges */
    int64_t bins;
} Column;

static Status column_new(int64_t count, int64_t bins, Column *column)
{
    const size_t edges = (size_t)(bins > count ? bins : count);
    *column = (Column){.count = count};
    TRY(memory_new(&column->p, (size_t)count, sizeof *column->p, "probabilities"));
    TRY(memory_new(&column->sorted, (size_t)count, sizeof *column->sorted, "probabilities"));
    TRY(memory_new(&column->edge, edges + 1, sizeof *column->edge, "edges of bins"));
    TRY(memory_new(&column->hit, (size_t)count, 1, "hits"));
    return memory_new(&column->bin, (size_t)count, sizeof *column->bin, "bins");
}

static void column_free(Column *column)
{
    free(column->p);
    free(column->sorted);
    free(column->edge);
    free(column->hit);
    free(column->bin);
}

static void column_edges(Column *column, BinScheme scheme, int bins)
{
    memcpy(column->sorted, column->p, (size_t)column->count * sizeof *column->p);
    qsort(column->sorted, (size_t)column->count, sizeof *column->sorted, compare_numbers);
    column->bins = 0;
    if (scheme == BINS_EQUAL_MASS) {
        column->bins = bins_equal_mass(column->sorted, 1, column->count, bins, column->edge);
        return;
    }
    for (int64_t i = 0; i < column->count; ++i) /* each value once */
        if (i == 0 || column->sorted[i] > column->sorted[i - 1])
            column->edge[column->bins++] = column->sorted[i];
}

static void column_bins(Column *column, BinScheme scheme, int bins)
{
    if (scheme == BINS_EQUAL_WIDTH) {
        column->bins = bins;
        for (int64_t i = 0; i < column->count; ++i)
            column->bin[i] = bins_find_ceiling(bins, column->p[i]);
        return;
    }
    column_edges(column, scheme, bins);
    for (int64_t i = 0; i < column->count; ++i) {
        const int64_t bin = bins_find_upper(column->edge, column->bins, column->p[i]);
        column->bin[i] = (int32_t)(bin < column->bins ? bin : column->bins - 1);
    }
}

/* Sums of a bin. */
typedef struct {
    int64_t count, hits;
    double p;
} Cell;

static Status column_cells(const Column *column, Cell **cells)
{
    TRY(memory_new(cells, (size_t)column->bins, sizeof **cells, "bins"));
    for (int64_t i = 0; i < column->count; ++i) {
        Cell *cell = &(*cells)[column->bin[i]];
        cell->count += 1;
        cell->hits += column->hit[i];
        cell->p += column->p[i];
    }
    return OK;
}

static double folded_normal(double mean, double variance)
{
    if (!(variance > 0)) return fabs(mean);
    const double ratio = mean / sqrt(2 * variance);
    return sqrt(2 * variance / 3.14159265358979323846) * exp(-ratio * ratio) + mean * erf(ratio);
}

/* plug_in[2] is a square here, and debiased[2] clipped, but without its root. */
static void error_of_cells(const Cell *cells, int64_t bins, int64_t total, BinnedError *error)
{
    double expected = 0;
    bool is_single = false;
    *error = (BinnedError){.square = 0};
    for (int64_t b = 0; b < bins; ++b) {
        const Cell *cell = &cells[b];
        if (cell->count == 0) continue;
        const double n = (double)cell->count, share = n / (double)total, hits = (double)cell->hits / n;
        const double gap = (cell->p - (double)cell->hits) / n, variance = hits * (1 - hits);
        error->plug_in[1] += share * fabs(gap);
        error->plug_in[2] += share * gap * gap;
        expected += share * folded_normal(gap, variance / n);
        is_single = is_single || cell->count == 1;
        if (cell->count > 1) error->square += share * (gap * gap - variance / (n - 1));
    }
    error->debiased[1] = is_single ? NAN : 2 * error->plug_in[1] - expected;
    error->debiased[2] = fmax(error->square, 0);
}

static Status error_of_column(Column *column, BinScheme scheme, int bins, BinnedError *error)
{
    Cell *cells;
    column_bins(column, scheme, bins);
    TRY(column_cells(column, &cells));
    error_of_cells(cells, column->bins, column->count, error);
    free(cells);
    return OK;
}

static Status take_top(const ConfidenceSet *set, int bins, Column *column)
{
    TRY(column_new(set->count, bins, column));
    memcpy(column->p, set->confidence, (size_t)set->count * sizeof *column->p);
    for (int64_t i = 0; i < set->count; ++i)
        column->hit[i] = set->correct[i] != 0;
    return OK;
}

static void take_class(const ProbabilitySet *set, int64_t k, Column *column)
{
    for (int64_t i = 0; i < set->count; ++i) {
        column->p[i] = set->p[i * set->classes + k];
        column->hit[i] = set->label[i] == k;
    }
}

Status binned_error_top(const ConfidenceSet *set, BinScheme scheme, int bins, BinnedError *error)
{
    Column column;
    Status status;
    TRY_ELSE(done, take_top(set, bins, &column));
    TRY_ELSE(done, error_of_column(&column, scheme, bins, error));
    error->plug_in[2] = sqrt(error->plug_in[2]);
    error->debiased[2] = sqrt(error->debiased[2]);
done:
    column_free(&column);
    return status;
}

Status binned_error_classes(const ProbabilitySet *set, BinScheme scheme, int bins, BinnedError *error)
{
    const double classes = (double)set->classes;
    Column column;
    Status status;
    *error = (BinnedError){.square = 0};
    TRY_ELSE(done, column_new(set->count, bins, &column));
    for (int64_t k = 0; k < set->classes; ++k) {
        BinnedError of_class;
        take_class(set, k, &column);
        TRY_ELSE(done, error_of_column(&column, scheme, bins, &of_class));
        for (int p = 1; p <= 2; ++p) {
            error->plug_in[p] += of_class.plug_in[p] / classes;
            error->debiased[p] += of_class.debiased[p] / classes;
        }
    }
    error->square = error->debiased[2];
    error->plug_in[2] = sqrt(error->plug_in[2]);
    error->debiased[2] = sqrt(error->debiased[2]);
done:
    column_free(&column);
    return status;
}

/* ---- bins of whole vectors ---- */

typedef struct {
    const uint8_t *key; /* [classes] */
    int64_t classes, row;
} JointRow;

static int compare_rows(const void *a, const void *b)
{
    const JointRow *left = a, *right = b;
    const int order = memcmp(left->key, right->key, (size_t)left->classes);
    return order != 0 ? order : (left->row > right->row) - (left->row < right->row);
}

Status binned_error_joint(const ProbabilitySet *set, int bins, double *error)
{
    enum { MOST_BINS = 256 };
    uint8_t *keys = NULL;
    JointRow *rows = NULL;
    double *gap = NULL;
    Status status;
    if (bins < 1 || bins > MOST_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", bins, MOST_BINS);
    TRY_ELSE(done, memory_new(&keys, (size_t)set->count, (size_t)set->classes, "bins of vectors"));
    TRY_ELSE(done, memory_new(&rows, (size_t)set->count, sizeof *rows, "bins of vectors"));
    TRY_ELSE(done, memory_new(&gap, (size_t)set->classes, sizeof *gap, "bins of vectors"));
    for (int64_t i = 0; i < set->count; ++i) {
        uint8_t *key = keys + i * set->classes;
        for (int64_t k = 0; k < set->classes; ++k)
            key[k] = (uint8_t)bins_find_ceiling(bins, set->p[i * set->classes + k]);
        rows[i] = (JointRow){key, set->classes, i};
    }
    qsort(rows, (size_t)set->count, sizeof *rows, compare_rows);
    *error = 0;
    for (int64_t i = 0; i < set->count; ++i) {
        const double *p = set->p + rows[i].row * set->classes;
        for (int64_t k = 0; k < set->classes; ++k)
            gap[k] += p[k] - (set->label[rows[i].row] == k);
        if (i + 1 < set->count && memcmp(rows[i].key, rows[i + 1].key, (size_t)set->classes) == 0) continue;
        for (int64_t k = 0; k < set->classes; ++k) {
            *error += fabs(gap[k]) / (2 * (double)set->count);
            gap[k] = 0;
        }
    }
done:
    free(keys);
    free(rows);
    free(gap);
    return status;
}

/* ---- parts of the Brier score ---- */

/* One class' probabilities in given bins: its part of each sum. */
static Status add_parts(const Column *column, BrierParts *parts)
{
    Cell *cells;
    const double total = (double)column->count;
    double hits = 0;
    TRY(column_cells(column, &cells));
    for (int64_t b = 0; b < column->bins; ++b)
        hits += (double)cells[b].hits / total;
    parts->uncertainty += hits * (1 - hits);
    for (int64_t b = 0; b < column->bins; ++b) {
        if (cells[b].count == 0) continue;
        const double n = (double)cells[b].count, mean = cells[b].p / n, share = (double)cells[b].hits / n;
        parts->reliability += n * (mean - share) * (mean - share) / total;
        parts->resolution += n * (share - hits) * (share - hits) / total;
    }
    for (int64_t i = 0; i < column->count; ++i) {
        const Cell *cell = &cells[column->bin[i]];
        const double n = (double)cell->count, from_mean = column->p[i] - cell->p / n;
        const double hit = column->hit[i], gap = column->p[i] - hit;
        parts->within_variance += from_mean * from_mean / total;
        parts->within_covariance += 2 * from_mean * (hit - (double)cell->hits / n) / total;
        parts->brier += gap * gap / total;
    }
    free(cells);
    parts->generalised_resolution = parts->resolution - parts->within_variance + parts->within_covariance;
    return OK;
}

Status brier_parts_top(const ConfidenceSet *set, int bins, BrierParts *parts)
{
    Column column;
    Status status;
    *parts = (BrierParts){.brier = 0};
    TRY_ELSE(done, take_top(set, bins, &column));
    column_bins(&column, BINS_EQUAL_WIDTH, bins);
    TRY_ELSE(done, add_parts(&column, parts));
done:
    column_free(&column);
    return status;
}

static void bins_of_confidence(const ProbabilitySet *set, int bins, Column *column)
{
    column->bins = bins;
    for (int64_t i = 0; i < set->count; ++i) {
        const double *p = set->p + i * set->classes;
        double most = p[0];
        for (int64_t k = 1; k < set->classes; ++k)
            most = p[k] > most ? p[k] : most;
        column->bin[i] = bins_find_ceiling(bins, most);
    }
}

static Status parts_of_classes(const ProbabilitySet *set, int bins, bool by_confidence, BrierParts *parts)
{
    Column column;
    Status status;
    *parts = (BrierParts){.brier = 0};
    TRY_ELSE(done, column_new(set->count, bins, &column));
    if (by_confidence) bins_of_confidence(set, bins, &column);
    for (int64_t k = 0; k < set->classes; ++k) {
        take_class(set, k, &column);
        if (!by_confidence) column_bins(&column, BINS_EQUAL_WIDTH, bins);
        TRY_ELSE(done, add_parts(&column, parts));
    }
done:
    column_free(&column);
    return status;
}

Status brier_parts_by_confidence(const ProbabilitySet *set, int bins, BrierParts *parts)
{
    return parts_of_classes(set, bins, true, parts);
}

Status brier_parts_by_class(const ProbabilitySet *set, int bins, BrierParts *parts)
{
    return parts_of_classes(set, bins, false, parts);
}

/* ---- consistency ---- */

/* The law of the number of samples in a bin, where it is more than nothing; of large numbers every stride-th. */
typedef struct {
    int64_t first, stride, numbers;
    double *probability;
} CountLaw;

static Status law_of_count(int64_t total, int64_t count, CountLaw *law)
{
    enum { MOST_NUMBERS = 1024 };
    const double share = (double)count / (double)total, spread = sqrt((double)count * (1 - share));
    const double reach = 9 * spread + 20;
    int64_t last = count + (int64_t)reach;
    law->first = count > (int64_t)reach ? count - (int64_t)reach : 1;
    last = last > total ? total : last;
    law->stride = (last - law->first) / MOST_NUMBERS + 1;
    law->numbers = (last - law->first) / law->stride + 1;
    TRY(memory_new(&law->probability, (size_t)law->numbers, sizeof(double), "the law of a bin's count"));
    double sum = 0;
    for (int64_t i = 0; i < law->numbers; ++i) {
        const int64_t m = law->first + i * law->stride;
        const double p = share < 1 ? exp(lgamma((double)total + 1) - lgamma((double)m + 1) -
                                         lgamma((double)(total - m) + 1) + (double)m * log(share) +
                                         (double)(total - m) * log1p(-share))
                                   : (double)(m == total);
        law->probability[i] = p;
        sum += p;
    }
    for (int64_t i = 0; i < law->numbers; ++i)
        law->probability[i] /= sum;
    return OK;
}

/* P(Binomial(m, p) <= most); where that is as good as normal, with a correction for the steps. */
static double binomial_below(double most, double p, int64_t m)
{
    const double mean = (double)m * p, variance = mean * (1 - p), as_normal = 2000;
    if (most >= (double)m) return 1;
    if (variance > as_normal) return erfc((mean - most - 0.5) / sqrt(2 * variance)) / 2;
    return gsl_cdf_binomial_P((unsigned)most, p, (unsigned)m);
}

/* The probability that the share of hits is at most x. */
static double law_below(const CountLaw *law, double confidence, double x)
{
    double sum = 0;
    for (int64_t i = 0; i < law->numbers; ++i) {
        const int64_t m = law->first + i * law->stride;
        const double most = floor(x * (double)m + 1e-9);
        if (law->probability[i] < 1e-13 || most < 0) continue;
        sum += law->probability[i] * binomial_below(most, confidence, m);
    }
    return sum;
}

Status consistency_quantiles(int64_t total, int64_t count, double confidence, int levels, const double *level,
                             double *quantile)
{
    CountLaw law;
    for (int i = 0; i < levels; ++i)
        quantile[i] = NAN;
    if (count == 0) return OK;
    TRY(law_of_count(total, count, &law));
    confidence = fmin(fmax(confidence, 0), 1); /* a mean may be off by a rounding */
    for (int i = 0; i < levels; ++i) {
        double low = -1e-3, high = 1; /* not enough below low, enough below high */
        while (high - low > 1e-10) {
            const double middle = (low + high) / 2;
            if (law_below(&law, confidence, middle) >= level[i])
                high = middle;
            else
                low = middle;
        }
        quantile[i] = high < 0 ? 0 : high;
    }
    free(law.probability);
    return OK;
}
