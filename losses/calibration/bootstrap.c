#include "losses/calibration/bootstrap.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/threads.h"
#include "losses/softmax_row.h"

#include <stdbool.h>
#include <stdlib.h>

/* A resample is how often each sample was drawn, and every calibration error is made of sums over samples of
 * count * (q - y) by bin. REPLICATES of them go side by side: one step of a loop over the samples serves them
 * all with one vector of counts. A replicate's numbers are computed by one thread in the order of the
 * samples, so they do not depend on who computes them. */
enum {
    REPLICATES = 16, /* side by side */
    CLASS_TILE = 64, /* classes whose sums stay in cache while the samples pass */
    TARGETS = 2 * (CALIBRATION_MAX_BINS + 1)
};
enum { ECE, ADA_ECE, CLASSWISE_ECE, METRICS };

typedef double Lane[REPLICATES];

/* All ranks' samples. */
typedef struct {
    int64_t samples, classes; /* classes: those that classwise_ece averages over */
    int bins;
    double *confidence; /* [samples] */
    uint8_t *correct;   /* [samples] */
    float *gap;         /* [samples, classes]: probability - is it the label; 0 where the probability is 0 */
    uint8_t *gap_bin;   /* [samples, classes] */
    uint8_t *bin;       /* [samples]: of the confidence */
    int64_t *order;     /* [samples]: by ascending confidence, equal ones by index */
    /* Where the edges of the adaptive bins lie: the same positions in every resample. */
    int targets;
    int64_t target[TARGETS];                                           /* distinct positions, ascending */
    int low[CALIBRATION_MAX_BINS + 1], high[CALIBRATION_MAX_BINS + 1]; /* edge b: between these two targets */
    double fraction[CALIBRATION_MAX_BINS + 1];
} Samples;

/* A thread's place to work. */
typedef struct {
    uint16_t *count;   /* [samples][REPLICATES] */
    double *class_sum; /* [CLASS_TILE][bins][REPLICATES] */
    double sum[CALIBRATION_MAX_BINS][REPLICATES];
    double statistic[TARGETS][REPLICATES];
    double edge[REPLICATES][CALIBRATION_MAX_BINS + 1];
} Workspace;

typedef struct {
    double confidence;
    int64_t index;
} Ranked;

static int compare_ranked(const void *a, const void *b)
{
    const Ranked *left = a, *right = b;
    if (left->confidence != right->confidence) return left->confidence < right->confidence ? -1 : 1;
    return (left->index > right->index) - (left->index < right->index);
}

static Status sort_samples(Samples *samples)
{
    Ranked *ranked;
    TRY(memory_new(&ranked, (size_t)samples->samples, sizeof *ranked, "sorted confidences"));
    for (int64_t i = 0; i < samples->samples; ++i)
        ranked[i] = (Ranked){samples->confidence[i], i};
    qsort(ranked, (size_t)samples->samples, sizeof *ranked, compare_ranked);
    for (int64_t i = 0; i < samples->samples; ++i)
        samples->order[i] = ranked[i].index;
    free(ranked);
    return OK;
}

static int compare_positions(const void *a, const void *b)
{
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static int target_of(const Samples *samples, int64_t position)
{
    const int64_t *found =
        bsearch(&position, samples->target, (size_t)samples->targets, sizeof position, compare_positions);
    return (int)(found - samples->target);
}

static void find_targets(Samples *samples)
{
    int64_t position[TARGETS] = {0};
    for (int b = 0; b <= samples->bins; ++b) {
        bins_adaptive_position(samples->samples, samples->bins, b, &position[2 * b], &samples->fraction[b]);
        position[2 * b + 1] = position[2 * b] + (samples->fraction[b] > 0);
    }
    const int positions = 2 * (samples->bins + 1);
    memcpy(samples->target, position, (size_t)positions * sizeof *position);
    qsort(samples->target, (size_t)positions, sizeof *position, compare_positions);
    samples->targets = 0;
    for (int i = 0; i < positions; ++i)
        if (samples->targets == 0 || samples->target[samples->targets - 1] != samples->target[i])
            samples->target[samples->targets++] = samples->target[i];
    for (int b = 0; b <= samples->bins; ++b) {
        samples->low[b] = target_of(samples, position[2 * b]);
        samples->high[b] = target_of(samples, position[2 * b + 1]);
    }
}

/* This rank's rows of gap and gap_bin. */
static Status fill_gaps(const Logits *logits, double temperature, int threads, Samples *samples)
{
    const int64_t padded = row_padded(logits->classes), classes = samples->classes;
    const int team = threads_for(threads, logits->count);
    double edge[CALIBRATION_MAX_BINS + 1];
    bins_edges(samples->bins, edge);
    double *workspace;
    TRY(memory_new(&workspace, (size_t)team * 2 * (size_t)padded, sizeof *workspace, "rows of logits"));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t row = 0; row < logits->count; ++row) {
        double *x = workspace + omp_get_thread_num() * 2 * padded, *p = x + padded, weighted;
        row_load(logits, row, x, padded);
        const double sum = row_exponentials(x, row_maximum(x, padded), temperature, padded, p, &weighted);
        const double scale = 1.0 / sum;
        const int64_t at = (logits->first + row) * classes, label = logits_label(logits, row);
        for (int64_t k = 0; k < classes; ++k) {
            const double probability = p[k] * scale; /* as calibration_measure has it */
            const int bin = probability <= edge[1] ? 0 : bins_find(edge, samples->bins, probability);
            samples->gap_bin[at + k] = (uint8_t)bin;
            samples->gap[at + k] = (float)(probability - (k == label && probability > 0));
        }
    }
    for (int64_t row = 0; row < logits->count; ++row) /* never 0, so always in a bin */
        samples->bin[logits->first + row] =
            (uint8_t)bins_find(edge, samples->bins, samples->confidence[logits->first + row]);
    free(workspace);
    return OK;
}

/* Every rank filled its rows and left zeros elsewhere: the sum over ranks is exact. */
static Status share_rows(Collective *collective, Samples *samples)
{
    const int64_t rows = samples->samples, cells = rows * samples->classes;
    TRY(collective_sum(collective, (Span){samples->confidence, rows, FLOAT64}, NULL));
    TRY(collective_sum(collective, (Span){samples->correct, rows, UINT8}, NULL));
    TRY(collective_sum(collective, (Span){samples->bin, rows, UINT8}, NULL));
    TRY(collective_sum(collective, (Span){samples->gap, cells, FLOAT32}, NULL));
    TRY(collective_sum(collective, (Span){samples->gap_bin, cells, UINT8}, NULL));
    TRY(collective_join(collective, NULL));
    return OK;
}

static void samples_release(Samples *samples)
{
    free(samples->confidence);
    free(samples->correct);
    free(samples->gap);
    free(samples->gap_bin);
    free(samples->bin);
    free(samples->order);
}

static Status samples_prepare(Collective *collective, const Logits *logits, double temperature,
                              const Calibration *measured, const CalibrationScores *scores, int bins,
                              int threads, Samples *samples)
{
    *samples = (Samples){.samples = logits->total, .classes = measured->label_classes, .bins = bins};
    size_t cells;
    if (__builtin_mul_overflow((size_t)samples->samples, (size_t)samples->classes, &cells))
        return fail(STATUS_MEMORY, "%s: too many samples and classes for the bootstrap", logits->name);
    const size_t rows = (size_t)samples->samples;
    TRY(memory_new(&samples->confidence, rows, sizeof(double), "confidences of all samples"));
    TRY(memory_new(&samples->correct, rows, sizeof(uint8_t), "hits of all samples"));
    TRY(memory_new(&samples->bin, rows, sizeof(uint8_t), "bins of all samples"));
    TRY(memory_new(&samples->order, rows, sizeof(int64_t), "sorted samples"));
    TRY(memory_new(&samples->gap, cells, sizeof(float), "probabilities of all samples"));
    TRY(memory_new(&samples->gap_bin, cells, sizeof(uint8_t), "bins of all probabilities"));
    for (int64_t i = 0; i < logits->count; ++i) {
        samples->confidence[logits->first + i] = fabs(scores->signed_confidence[i]);
        samples->correct[logits->first + i] = scores->signed_confidence[i] > 0;
    }
    TRY(fill_gaps(logits, temperature, threads, samples));
    TRY(share_rows(collective, samples));
    TRY(sort_samples(samples));
    find_targets(samples);
    return OK;
}

/* ---- a block of replicates ---- */

/* count[i][r]: how often sample i is in replicate first + r. A draw is 64 random bits times the number of
 * samples, without the low 64 bits: its bias is below samples / 2^64. */
static void draw(const Samples *samples, uint64_t seed, int64_t first, uint16_t *count)
{
    const uint64_t bound = (uint64_t)samples->samples;
    memset(count, 0, (size_t)samples->samples * REPLICATES * sizeof *count);
    for (int r = 0; r < REPLICATES; ++r)
        for (uint64_t d = 0; d < bound; d += 2) {
            const RandomBlock random = random_block(seed, RANDOM_BOOTSTRAP, (uint64_t)(first + r), d / 2);
            for (int half = 0; half < 2 && d + (uint64_t)half < bound; ++half) {
                const uint64_t bits = random.word[2 * half] | (uint64_t)random.word[2 * half + 1] << 32;
                const uint64_t sample = (uint64_t)((unsigned __int128)bits * bound >> 64);
                count[sample * REPLICATES + (uint64_t)r] += 1;
            }
        }
}

static inline void counts_of(const Workspace *work, int64_t sample, Lane count)
{
    for (int r = 0; r < REPLICATES; ++r)
        count[r] = work->count[sample * REPLICATES + r];
}

/* sums[r] += count[r] * gap */
static inline void add_to(double *restrict sums, const Lane count, double gap)
{
    for (int r = 0; r < REPLICATES; r += LANES)
        vector_store(sums + r, vector_load(sums + r) + vector_load(count + r) * gap);
}

/* result[r] += sum over bins of |sums| */
static void add_magnitudes(const double *sums, int bins, Lane result)
{
    for (int b = 0; b < bins; ++b)
        for (int r = 0; r < REPLICATES; ++r)
            result[r] += fabs(sums[b * REPLICATES + r]);
}

static void replicate_ece(const Samples *samples, Workspace *work, Lane result)
{
    memset(work->sum, 0, sizeof work->sum);
    for (int64_t i = 0; i < samples->samples; ++i) {
        Lane count;
        counts_of(work, i, count);
        add_to(work->sum[samples->bin[i]], count, samples->confidence[i] - samples->correct[i]);
    }
    add_magnitudes(work->sum[0], samples->bins, result);
}

static void replicate_classwise(const Samples *samples, Workspace *work, Lane result)
{
    const int bins = samples->bins;
    for (int64_t begin = 0; begin < samples->classes; begin += CLASS_TILE) {
        const int64_t left = samples->classes - begin, tile = left < CLASS_TILE ? left : CLASS_TILE;
        memset(work->class_sum, 0, (size_t)(tile * bins) * sizeof(Lane));
        for (int64_t i = 0; i < samples->samples; ++i) {
            Lane count;
            counts_of(work, i, count);
            const float *gap = samples->gap + i * samples->classes + begin;
            const uint8_t *bin = samples->gap_bin + i * samples->classes + begin;
            for (int64_t k = 0; k < tile; ++k)
                add_to(work->class_sum + (k * bins + bin[k]) * REPLICATES, count, (double)gap[k]);
        }
        add_magnitudes(work->class_sum, (int)tile * bins, result);
    }
    for (int r = 0; r < REPLICATES; ++r)
        result[r] /= (double)samples->classes;
}

/* The resamples' order statistics, by walking through the samples in order of confidence: the one at
 * `position` is where the count of samples walked past first exceeds it. Then the edges. */
static void adaptive_edges(const Samples *samples, Workspace *work)
{
    int64_t passed[REPLICATES] = {0};
    int next[REPLICATES] = {0};
    for (int64_t i = 0; i < samples->samples; ++i) {
        const int64_t sample = samples->order[i];
        const uint16_t *count = work->count + sample * REPLICATES;
        for (int r = 0; r < REPLICATES; ++r) {
            passed[r] += count[r];
            while (next[r] < samples->targets && passed[r] > samples->target[next[r]])
                work->statistic[next[r]++][r] = samples->confidence[sample];
        }
    }
    for (int r = 0; r < REPLICATES; ++r)
        for (int b = 0; b <= samples->bins; ++b)
            work->edge[r][b] = bins_adaptive_edge(work->statistic[samples->low[b]][r],
                                                  work->statistic[samples->high[b]][r], samples->fraction[b]);
}

static void replicate_adaptive(const Samples *samples, Workspace *work, Lane result)
{
    adaptive_edges(samples, work);
    memset(work->sum, 0, sizeof work->sum);
    int bin[REPLICATES];
    for (int r = 0; r < REPLICATES; ++r)
        bin[r] = -1; /* up to and including the lowest edge: in no bin */
    for (int64_t i = 0; i < samples->samples; ++i) {
        const int64_t sample = samples->order[i];
        const uint16_t *count = work->count + sample * REPLICATES;
        const double confidence = samples->confidence[sample], gap = confidence - samples->correct[sample];
        for (int r = 0; r < REPLICATES; ++r) {
            while (bin[r] < samples->bins && confidence > work->edge[r][bin[r] + 1])
                ++bin[r];
            /* Behind the last edge there is nothing that was drawn. */
            if (bin[r] >= 0 && bin[r] < samples->bins) work->sum[bin[r]][r] += count[r] * gap;
        }
    }
    add_magnitudes(work->sum[0], samples->bins, result);
}

static void replicate_block(const Samples *samples, const BootstrapOptions *options, int64_t first,
                            Workspace *work, double *values)
{
    Lane result[METRICS] = {{0}};
    draw(samples, options->seed, first, work->count);
    replicate_ece(samples, work, result[ECE]);
    replicate_adaptive(samples, work, result[ADA_ECE]);
    replicate_classwise(samples, work, result[CLASSWISE_ECE]);
    for (int metric = 0; metric < METRICS; ++metric)
        for (int r = 0; r < REPLICATES && first + r < options->replicates; ++r)
            values[metric * options->replicates + first + r] = result[metric][r] / (double)samples->samples;
}

/* ---- all of them ---- */

static int compare_values(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Linear between the two nearest of the sorted values. */
static double percentile(const double *sorted, int64_t count, double share)
{
    const double at = share * (double)(count - 1);
    const int64_t low = (int64_t)at, high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

static Interval interval_of(double *values, const BootstrapOptions *options)
{
    qsort(values, (size_t)options->replicates, sizeof *values, compare_values);
    const double tail = (1 - options->level) / 2;
    return (Interval){percentile(values, options->replicates, tail),
                      percentile(values, options->replicates, 1 - tail)};
}

static void workspaces_free(Workspace *work, int team)
{
    for (int i = 0; work != NULL && i < team; ++i) {
        free(work[i].count);
        free(work[i].class_sum);
    }
    free(work);
}

static Status run_replicates(Collective *collective, const Samples *samples, const BootstrapOptions *options,
                             int threads, double *values)
{
    const int64_t blocks = (options->replicates + REPLICATES - 1) / REPLICATES;
    const int team = threads_for(threads, (blocks + collective->size - 1) / collective->size);
    Workspace *work;
    Status status = OK;
    TRY(memory_new(&work, (size_t)team, sizeof *work, "bootstrap"));
    for (int i = 0; i < team; ++i) {
        TRY_ELSE(done, memory_new(&work[i].count, (size_t)samples->samples, REPLICATES * sizeof(uint16_t),
                                  "counts of resamples"));
        TRY_ELSE(done, memory_new(&work[i].class_sum, (size_t)CLASS_TILE * (size_t)samples->bins,
                                  sizeof(Lane), "sums of resamples"));
    }
#pragma omp parallel for schedule(dynamic) num_threads(team)
    for (int64_t block = collective->rank; block < blocks; block += collective->size)
        replicate_block(samples, options, block * REPLICATES, &work[omp_get_thread_num()], values);
done:
    workspaces_free(work, team);
    return status;
}

Status bootstrap_intervals(Collective *collective, const Logits *logits, double temperature,
                           const Calibration *measured, const CalibrationScores *scores,
                           const BootstrapOptions *options, int threads, BootstrapIntervals *intervals)
{
    if (options->replicates < 1 || options->replicates > INT32_MAX)
        return fail(STATUS_USAGE, "%lld bootstrap replicates: it must be 1 to %d",
                    (long long)options->replicates, INT32_MAX);
    if (options->bins < 1 || options->bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", options->bins, CALIBRATION_MAX_BINS);
    Samples samples = {0};
    double *values = NULL; /* [METRICS][replicates] */
    Status status;
    TRY_ELSE(done, memory_new(&values, (size_t)options->replicates * METRICS, sizeof *values, "replicates"));
    TRY_ELSE(done, samples_prepare(collective, logits, temperature, measured, scores, options->bins, threads,
                                   &samples));
    TRY_ELSE(done, run_replicates(collective, &samples, options, threads, values));
    TRY_ELSE(done, collective_sum(collective, (Span){values, options->replicates * METRICS, FLOAT64}, NULL));
    TRY_ELSE(done, collective_join(collective, NULL));
    intervals->ece = interval_of(values + ECE * options->replicates, options);
    intervals->ada_ece = interval_of(values + ADA_ECE * options->replicates, options);
    intervals->classwise_ece = interval_of(values + CLASSWISE_ECE * options->replicates, options);
done:
    free(values);
    samples_release(&samples);
    return status;
}
