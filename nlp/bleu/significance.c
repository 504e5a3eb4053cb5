#include "nlp/bleu/significance.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64 }; /* resamples drawn at a time, which threads then share */

/* ---- Arrays as NumPy has them ---- */

/* Scores of all samples; float32 only if each of them is. */
typedef struct {
    double *value;
    int64_t count;
    bool single;
} Array;

static double rounded(double value, bool single) { return single ? (double)(float)value : value; }

static int by_value(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* numpy.sum's order of additions, of at most 128 numbers. Float32 in a function of its own: of one with a choice inside of its
 * loops GCC 12 makes wrong vectors. */
static double block_sum_single(const double value[], int64_t count)
{
    float part[8] = {0}, sum = 0;
    int64_t next = 0;
    for (; next + 8 <= count; next += 8)
        for (int k = 0; k < 8; ++k)
            part[k] += (float)value[next + k];
    if (next > 0)
        sum = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    for (; next < count; ++next)
        sum += (float)value[next];
    return (double)sum;
}

static double block_sum(const double value[], int64_t count)
{
    double part[8] = {0}, sum = 0;
    int64_t next = 0;
    for (; next + 8 <= count; next += 8)
        for (int k = 0; k < 8; ++k)
            part[k] += value[next + k];
    if (next > 0)
        sum = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    for (; next < count; ++next)
        sum += value[next];
    return sum;
}

static double pairwise_sum(const double value[], int64_t count, bool single)
{
    if (count <= 128) return single ? block_sum_single(value, count) : block_sum(value, count);
    const int64_t half = count / 2 - count / 2 % 8;
    return rounded(pairwise_sum(value, half, single) + pairwise_sum(value + half, count - half, single),
                   single);
}

static double mean_of(const Array *array)
{
    return rounded(pairwise_sum(array->value, array->count, array->single) / (double)array->count,
                   array->single);
}

/* Python's statistics.mean: exact, and rounded once. A sum of two doubles is exact here but for what a third would hold. */
static double exact_mean(const Array *array)
{
    double high = 0, low = 0;
    for (int64_t i = 0; i < array->count; ++i) {
        const double value = array->value[i], sum = high + value, part = sum - high;
        low += (high - (sum - part)) + (value - part);
        high = sum;
    }
    const double count = (double)array->count, quotient = (high + low) / count;
    const double rest = fma(-quotient, count, high) + low;
    return rounded(quotient + rest / count, array->single);
}

/* Of the sorted samples. */
static double half_width(const Array *array)
{
    const int64_t lower = array->count / 40, upper = array->count - lower - 1;
    return rounded(0.5 * rounded(array->value[upper] - array->value[lower], array->single), array->single);
}

/* The share of samples with a larger difference than the real one, which a float32 rounds. */
static double p_value(const double sample[], int64_t count, double difference, bool single)
{
    const double limit = rounded(difference, single);
    int64_t larger = 0;
    for (int64_t i = 0; i < count; ++i)
        larger += sample[i] > limit;
    return (double)(larger + 1) / (double)(count + 1);
}

/* ---- Scores ---- */

static void sum_row(const Statistics *statistics, int system, double sum[])
{
    const int width = metric_width(statistics->metric);
    memset(sum, 0, (size_t)width * sizeof *sum);
    for (int64_t i = 0; i < statistics->segments; ++i) {
        const double *row = statistics->rows + (i * statistics->systems + system) * width;
        for (int k = 0; k < width; ++k)
            sum[k] += row[k];
    }
}

void significance_scores(const Statistics *statistics, Significance result[])
{
    for (int s = 0; s < statistics->systems; ++s) {
        double sum[METRIC_WIDEST];
        sum_row(statistics, s, sum);
        result[s] = (Significance){
            .score = metric_score(statistics->metric, sum, (Arithmetic){.kept = KEPT_IN_PYTHON}).value};
    }
}

/* Statistics in float32, and the scores of all resamples. */
typedef struct {
    float *rows;
    uint32_t *chosen; /* [BATCH][segments] */
    float *sums;      /* [BATCH][columns] */
    bool *single;     /* [systems][samples] */
    Array *score;     /* [systems] */
    double *values;   /* [systems][samples], and as many again for work */
} Bootstrap;

static void bootstrap_free(Bootstrap *bootstrap)
{
    free(bootstrap->rows);
    free(bootstrap->chosen);
    free(bootstrap->sums);
    free(bootstrap->single);
    free(bootstrap->score);
    free(bootstrap->values);
}

static Status bootstrap_new(const Statistics *statistics, const Resampling *resampling, Bootstrap *bootstrap)
{
    static const char what[] = "resamples";
    const size_t systems = (size_t)statistics->systems, samples = (size_t)resampling->samples;
    const size_t segments = (size_t)statistics->segments,
                 columns = systems * (size_t)metric_width(statistics->metric);
    if (statistics->segments < 1 || segments > UINT32_MAX)
        return fail(STATUS_INPUT, "%lld segments cannot be resampled", (long long)statistics->segments);
    TRY(memory_new(&bootstrap->rows, segments * columns, sizeof *bootstrap->rows, what));
    TRY(memory_new(&bootstrap->chosen, BATCH * segments, sizeof *bootstrap->chosen, what));
    TRY(memory_new(&bootstrap->sums, BATCH * columns, sizeof *bootstrap->sums, what));
    TRY(memory_new(&bootstrap->single, systems * samples, sizeof *bootstrap->single, what));
    TRY(memory_new(&bootstrap->score, systems, sizeof *bootstrap->score, what));
    TRY(memory_new(&bootstrap->values, (systems + 1) * samples, sizeof *bootstrap->values, what));
    for (size_t i = 0; i < segments * columns; ++i)
        bootstrap->rows[i] = (float)statistics->rows[i];
    for (size_t s = 0; s < systems; ++s)
        bootstrap->score[s] =
            (Array){.value = bootstrap->values + s * samples, .count = resampling->samples, .single = true};
    return OK;
}

/* One row after another, as NumPy sums along the first axis: float32 rounds each time. */
static void sum_chosen(const float rows[], const uint32_t chosen[], int64_t count, int64_t columns,
                       float sum[])
{
    memset(sum, 0, (size_t)columns * sizeof *sum);
    for (int64_t i = 0; i < count; ++i) {
        const float *row = rows + (int64_t)chosen[i] * columns;
        for (int64_t k = 0; k < columns; ++k)
            sum[k] += row[k];
    }
}

static void score_sample(const Statistics *statistics, const Resampling *resampling, Bootstrap *bootstrap,
                         int64_t sample, const float sum[])
{
    const int width = metric_width(statistics->metric);
    const Arithmetic arithmetic = {.kept = KEPT_IN_SINGLE, .numpy = resampling->numpy};
    for (int s = 0; s < statistics->systems; ++s) {
        double row[METRIC_WIDEST];
        for (int k = 0; k < width; ++k)
            row[k] = (double)sum[s * width + k];
        const Number score = metric_score(statistics->metric, row, arithmetic);
        bootstrap->score[s].value[sample] = score.value;
        bootstrap->single[s * resampling->samples + sample] = score.single;
    }
}

/* The scores of all resamples; the same resamples for all systems. */
static Status resample(const Statistics *statistics, const Resampling *resampling, Bootstrap *bootstrap)
{
    const int64_t segments = statistics->segments, samples = resampling->samples;
    const int64_t columns = (int64_t)statistics->systems * metric_width(statistics->metric);
    TRY(bootstrap_new(statistics, resampling, bootstrap));
    NumpyRandom random;
    TRY(numpy_random_start(&resampling->seed, &random));
    for (int64_t first = 0; first < samples; first += BATCH) {
        const int64_t batch = samples - first < BATCH ? samples - first : BATCH;
        numpy_random_integers(&random, (uint32_t)segments, batch * segments, bootstrap->chosen);
#pragma omp parallel for num_threads(resampling->threads)
        for (int64_t b = 0; b < batch; ++b) {
            float *sum = bootstrap->sums + b * columns;
            sum_chosen(bootstrap->rows, bootstrap->chosen + b * segments, segments, columns, sum);
            score_sample(statistics, resampling, bootstrap, first + b, sum);
        }
    }
    for (int64_t i = 0; i < statistics->systems * samples; ++i)
        if (!bootstrap->single[i]) bootstrap->score[i / samples].single = false;
    return OK;
}

/* ---- Intervals and tests ---- */

static void take_interval(Array *score, double (*mean)(const Array *), Significance *result)
{
    qsort(score->value, (size_t)score->count, sizeof *score->value, by_value);
    result->has_interval = true;
    result->mean = mean(score);
    result->interval = half_width(score);
}

Status significance_interval(const Statistics *statistics, const Resampling *resampling, Significance *result)
{
    significance_scores(statistics, result);
    Bootstrap bootstrap = {.rows = NULL};
    Status status = resample(statistics, resampling, &bootstrap);
    if (status == OK) take_interval(&bootstrap.score[0], exact_mean, result);
    bootstrap_free(&bootstrap);
    return status;
}

static void round_all(double value[], int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        value[i] = (double)(float)value[i];
}

/* The resamples' differences around their own mean. `work` has room for them. */
static double bootstrap_p_value(const Array *base, const Array *system, double difference, double work[])
{
    Array differences = {.value = work, .count = base->count, .single = base->single && system->single};
    for (int64_t i = 0; i < base->count; ++i)
        work[i] = fabs(system->value[i] - base->value[i]);
    if (differences.single) round_all(work, base->count);
    const double mean = mean_of(&differences);
    for (int64_t i = 0; i < base->count; ++i)
        work[i] -= mean;
    if (differences.single) round_all(work, base->count);
    return p_value(work, base->count, difference, differences.single);
}

Status significance_bootstrap(const Statistics *statistics, const Resampling *resampling,
                              Significance result[])
{
    significance_scores(statistics, result);
    Bootstrap bootstrap = {.rows = NULL};
    Status status = resample(statistics, resampling, &bootstrap);
    if (status == OK) {
        const int systems = statistics->systems;
        double *work = bootstrap.values + systems * resampling->samples;
        for (int s = 1; s < systems; ++s) {
            result[s].has_p = true;
            result[s].p = bootstrap_p_value(&bootstrap.score[0], &bootstrap.score[s],
                                            fabs(result[0].score - result[s].score), work);
        }
        for (int s = 0; s < systems; ++s) /* sorts the scores */
            take_interval(&bootstrap.score[s], mean_of, &result[s]);
    }
    bootstrap_free(&bootstrap);
    return status;
}

/* ---- Approximate randomisation ---- */

typedef struct {
    uint8_t *chosen;    /* [BATCH][segments] 1: the first system's segment goes to the first pseudo-system */
    double *sums;       /* [BATCH][2][columns] of segments where chosen is 0, and 1 */
    double *difference; /* [systems][samples] */
} Randomisation;

static void sum_both(const double rows[], const uint8_t chosen[], int64_t count, int64_t columns,
                     double sums[])
{
    memset(sums, 0, 2 * (size_t)columns * sizeof *sums);
    for (int64_t i = 0; i < count; ++i) {
        double *sum = sums + chosen[i] * columns;
        const double *row = rows + i * columns;
        for (int64_t k = 0; k < columns; ++k)
            sum[k] += row[k];
    }
}

/* Scores of the two pseudo-systems that come of exchanging segments between system s and the first one. */
static double exchanged_difference(const Metric *metric, const double sums[], int64_t columns, int system)
{
    const int width = metric_width(metric);
    const double *zero = sums, *one = sums + columns;
    double a[METRIC_WIDEST], b[METRIC_WIDEST];
    for (int k = 0; k < width; ++k) {
        a[k] = one[k] + zero[system * width + k];
        b[k] = zero[k] + one[system * width + k];
    }
    const Arithmetic arithmetic = {.kept = metric->kind == METRIC_TER ? KEPT_IN_PYTHON : KEPT_IN_INTEGER};
    return fabs(metric_score(metric, a, arithmetic).value - metric_score(metric, b, arithmetic).value);
}

static Status randomise(const Statistics *statistics, const Resampling *resampling, Randomisation *work)
{
    static const char what[] = "trials";
    const int64_t segments = statistics->segments, samples = resampling->samples;
    const int64_t columns = (int64_t)statistics->systems * metric_width(statistics->metric);
    TRY(memory_new(&work->chosen, BATCH * (size_t)segments, 1, what));
    TRY(memory_new(&work->sums, BATCH * 2 * (size_t)columns, sizeof *work->sums, what));
    TRY(memory_new(&work->difference, (size_t)(statistics->systems * samples), sizeof *work->difference,
                   what));
    NumpyRandom random;
    TRY(numpy_random_start(&resampling->seed, &random));
    for (int64_t first = 0; first < samples; first += BATCH) {
        const int64_t batch = samples - first < BATCH ? samples - first : BATCH;
        numpy_random_choose(&random, batch * segments, work->chosen);
#pragma omp parallel for num_threads(resampling->threads)
        for (int64_t b = 0; b < batch; ++b) {
            double *sums = work->sums + b * 2 * columns;
            sum_both(statistics->rows, work->chosen + b * segments, segments, columns, sums);
            for (int s = 1; s < statistics->systems; ++s)
                work->difference[s * samples + first + b] =
                    exchanged_difference(statistics->metric, sums, columns, s);
        }
    }
    return OK;
}

Status significance_randomisation(const Statistics *statistics, const Resampling *resampling,
                                  Significance result[])
{
    significance_scores(statistics, result);
    Randomisation work = {.chosen = NULL};
    Status status = randomise(statistics, resampling, &work);
    for (int s = 1; s < statistics->systems && status == OK; ++s) {
        result[s].has_p = true;
        result[s].p = p_value(work.difference + s * resampling->samples, resampling->samples,
                              fabs(result[0].score - result[s].score), false);
    }
    free(work.chosen);
    free(work.sums);
    free(work.difference);
    return status;
}
