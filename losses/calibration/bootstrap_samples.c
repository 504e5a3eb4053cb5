#include "losses/calibration/bootstrap_set.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/softmax_row.h"
#include "losses/calibration/threads.h"

#include <stdlib.h>

/* A resample is how often each sample was drawn, and every calibration error is made of sums over samples of
 * count * (q - y) by bin. */
enum {
    CLASS_TILE = 64, /* classes whose sums stay in cache while the samples pass */
    TARGETS = 2 * (CALIBRATION_MAX_BINS + 1)
};

/* All ranks' samples. */
typedef struct {
    const BootstrapSet *set;
    int64_t samples, classes;
    int bins;
    float *gap;       /* [samples, classes]: probability - is it the label; 0 where the probability is 0 */
    uint8_t *gap_bin; /* [samples, classes] */
    uint8_t *bin;     /* [samples]: of the confidence */
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
static Status fill_gaps(const BootstrapSet *set, Samples *samples)
{
    const Logits *logits = set->logits;
    const int64_t padded = row_padded(logits->classes), classes = samples->classes;
    const int team = team_size(set->threads, logits->count);
    double *workspace;
    TRY(memory_new(&workspace, (size_t)team * 2 * (size_t)padded, sizeof *workspace, "rows of logits"));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t row = 0; row < logits->count; ++row) {
        double *x = workspace + omp_get_thread_num() * 2 * padded, *p = x + padded, weighted;
        row_load(logits, row, x, padded);
        const double sum =
            row_exponentials(x, row_maximum(x, padded), set->temperature, padded, p, &weighted);
        const double scale = 1.0 / sum;
        const int64_t at = (logits->first + row) * classes, label = logits_label(logits, row);
        for (int64_t k = 0; k < classes; ++k) {
            const double probability = p[k] * scale; /* as calibration_measure has it */
            const int bin =
                probability <= set->edge[1] ? 0 : bins_find(set->edge, samples->bins, probability);
            samples->gap_bin[at + k] = (uint8_t)bin;
            samples->gap[at + k] = (float)(probability - (k == label && probability > 0));
        }
    }
    free(workspace);
    return OK;
}

/* Every rank filled its rows and left zeros elsewhere: the sum over ranks is exact. */
static Status share_gaps(Collective *collective, Samples *samples)
{
    const int64_t cells = samples->samples * samples->classes;
    TRY(collective_sum(collective, (Span){samples->gap, cells, FLOAT32}, NULL));
    TRY(collective_sum(collective, (Span){samples->gap_bin, cells, UINT8}, NULL));
    TRY(collective_join(collective, NULL));
    return OK;
}

static void samples_release(Samples *samples)
{
    free(samples->gap);
    free(samples->gap_bin);
    free(samples->bin);
}

static Status samples_prepare(Collective *collective, const BootstrapSet *set, Samples *samples)
{
    *samples = (Samples){.set = set, .samples = set->samples, .classes = set->classes, .bins = set->bins};
    size_t cells;
    if (__builtin_mul_overflow((size_t)samples->samples, (size_t)samples->classes, &cells))
        return fail(STATUS_MEMORY, "too many samples and classes for the bootstrap");
    TRY(memory_new(&samples->bin, (size_t)samples->samples, sizeof(uint8_t), "bins of all samples"));
    for (int64_t i = 0; i < samples->samples; ++i) /* never 0, so always in a bin */
        samples->bin[i] = (uint8_t)bins_find(set->edge, samples->bins, fabs(set->score[i]));
    find_targets(samples);
    if (samples->classes == 0) return OK;
    TRY(memory_new(&samples->gap, cells, sizeof(float), "probabilities of all samples"));
    TRY(memory_new(&samples->gap_bin, cells, sizeof(uint8_t), "bins of all probabilities"));
    TRY(fill_gaps(set, samples));
    return share_gaps(collective, samples);
}

double bootstrap_samples_bytes(const BootstrapSet *set)
{
    return (double)set->samples * (1 + 5 * (double)set->classes);
}

/* ---- a block of replicates ---- */

static inline void counts_of(const Workspace *work, int64_t sample, Lane count)
{
    for (int r = 0; r < REPLICATES; ++r)
        count[r] = work->count[sample * REPLICATES + r];
}

/* sums[r] += count[r] * gap */
static inline void add_to(double *restrict sums, const Lane count, double gap)
{
    for (int r = 0; r < REPLICATES; r += DOUBLES_LANES)
        doubles_store(sums + r, doubles_load(sums + r) + doubles_load(count + r) * gap);
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
        add_to(work->sum[samples->bin[i]], count, bootstrap_gap(samples->set->score[i]));
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
        const int64_t sample = samples->set->order[i];
        const uint16_t *count = work->count + sample * REPLICATES;
        for (int r = 0; r < REPLICATES; ++r) {
            passed[r] += count[r];
            while (next[r] < samples->targets && passed[r] > samples->target[next[r]])
                work->statistic[next[r]++][r] = fabs(samples->set->score[sample]);
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
        const int64_t sample = samples->set->order[i];
        const uint16_t *count = work->count + sample * REPLICATES;
        const double score = samples->set->score[sample], confidence = fabs(score),
                     gap = bootstrap_gap(score);
        for (int r = 0; r < REPLICATES; ++r) {
            while (bin[r] < samples->bins && confidence > work->edge[r][bin[r] + 1])
                ++bin[r];
            /* Behind the last edge there is nothing that was drawn. */
            if (bin[r] >= 0 && bin[r] < samples->bins) work->sum[bin[r]][r] += count[r] * gap;
        }
    }
    add_magnitudes(work->sum[0], samples->bins, result);
}

static void replicate_block(const Samples *samples, int64_t first, Workspace *work, double *values)
{
    const BootstrapOptions *options = samples->set->options;
    Lane result[BOOTSTRAP_METRICS] = {{0}};
    bootstrap_draw(options->seed, first, samples->samples, work->count);
    replicate_ece(samples, work, result[BOOTSTRAP_ECE]);
    replicate_adaptive(samples, work, result[BOOTSTRAP_ADA_ECE]);
    if (samples->classes > 0) replicate_classwise(samples, work, result[BOOTSTRAP_CLASSWISE_ECE]);
    for (int metric = 0; metric < BOOTSTRAP_METRICS; ++metric)
        for (int r = 0; r < REPLICATES && first + r < options->replicates; ++r)
            values[metric * options->replicates + first + r] = result[metric][r] / (double)samples->samples;
}

static void workspaces_free(Workspace *work, int team)
{
    for (int i = 0; work != NULL && i < team; ++i) {
        free(work[i].count);
        free(work[i].class_sum);
    }
    free(work);
}

static Status run_replicates(Collective *collective, const Samples *samples, double *values)
{
    const BootstrapSet *set = samples->set;
    const int64_t blocks = (set->options->replicates + REPLICATES - 1) / REPLICATES;
    const int team = team_size(set->threads, (blocks + collective->size - 1) / collective->size);
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
    for (int64_t block = collective->rank; block < blocks; block += collective->size) {
        replicate_block(samples, block * REPLICATES, &work[omp_get_thread_num()], values);
        if (omp_get_thread_num() == 0) bootstrap_progress(set, (double)(block + 1) / (double)blocks);
    }
done:
    workspaces_free(work, team);
    return status;
}

Status bootstrap_by_samples(Collective *collective, const BootstrapSet *set, double *values)
{
    Samples samples;
    Status status = samples_prepare(collective, set, &samples);
    if (status == OK) status = run_replicates(collective, &samples, values);
    samples_release(&samples);
    return status;
}
