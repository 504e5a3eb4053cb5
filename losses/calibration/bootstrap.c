#include "losses/calibration/bootstrap.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/bootstrap_set.h"
#include "losses/calibration/shares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void bootstrap_draw(uint64_t seed, int64_t first, int64_t items, uint16_t *count)
{
    const uint64_t bound = (uint64_t)items;
    memset(count, 0, (size_t)items * REPLICATES * sizeof *count);
    for (int r = 0; r < REPLICATES; ++r)
        for (uint64_t d = 0; d < bound; d += 2) {
            const RandomBlock random = random_block(seed, RANDOM_BOOTSTRAP, (uint64_t)(first + r), d / 2);
            for (int half = 0; half < 2 && d + (uint64_t)half < bound; ++half) {
                const uint64_t bits = random.word[2 * half] | (uint64_t)random.word[2 * half + 1] << 32;
                const uint64_t item = (uint64_t)((unsigned __int128)bits * bound >> 64);
                count[item * REPLICATES + (uint64_t)r] += 1;
            }
        }
}

void bootstrap_progress(const BootstrapSet *set, double done)
{
    if (set->options->progress != NULL) set->options->progress(set->options->context, done);
}

/* ---- all ranks' samples ---- */

typedef struct {
    double score;
    int64_t index;
} Ranked;

static int compare_ranked(const void *a, const void *b)
{
    const Ranked *left = a, *right = b;
    const double low = fabs(left->score), high = fabs(right->score);
    if (low != high) return low < high ? -1 : 1;
    return (left->index > right->index) - (left->index < right->index);
}

/* Without an order of their own samples are numbered by their confidence, of equal ones the wrong first: so the numbers do
 * not depend on which rank had which. */
static int compare_scores(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    const double low = fabs(left), high = fabs(right);
    if (low != high) return low < high ? -1 : 1;
    return (left > right) - (left < right);
}

typedef struct {
    double score;
    int32_t cluster;
} Clustered;

static int compare_clustered(const void *a, const void *b)
{
    const Clustered *left = a, *right = b;
    const int by_score = compare_scores(&left->score, &right->score);
    return by_score != 0 ? by_score : (left->cluster > right->cluster) - (left->cluster < right->cluster);
}

static Status sort_clustered(BootstrapSet *set)
{
    Clustered *sorted;
    TRY(memory_new(&sorted, (size_t)set->samples, sizeof *sorted, "sorted confidences"));
    for (int64_t i = 0; i < set->samples; ++i)
        sorted[i] = (Clustered){set->score[i], set->cluster[i]};
    qsort(sorted, (size_t)set->samples, sizeof *sorted, compare_clustered);
    for (int64_t i = 0; i < set->samples; ++i) {
        set->score[i] = sorted[i].score;
        set->cluster[i] = sorted[i].cluster;
        set->order[i] = i;
    }
    free(sorted);
    return OK;
}

static Status sort_samples(BootstrapSet *set)
{
    const size_t samples = (size_t)set->samples;
    if (set->cluster != NULL) return sort_clustered(set);
    if (set->logits == NULL) {
        qsort(set->score, samples, sizeof *set->score, compare_scores);
        for (int64_t i = 0; i < set->samples; ++i)
            set->order[i] = i;
        return OK;
    }
    Ranked *ranked;
    TRY(memory_new(&ranked, samples, sizeof *ranked, "sorted confidences"));
    for (int64_t i = 0; i < set->samples; ++i)
        ranked[i] = (Ranked){set->score[i], i};
    qsort(ranked, samples, sizeof *ranked, compare_ranked);
    for (int64_t i = 0; i < set->samples; ++i)
        set->order[i] = ranked[i].index;
    free(ranked);
    return OK;
}

static Status gather_clusters(Collective *collective, int64_t count, int64_t first, BootstrapSet *set)
{
    const BootstrapOptions *options = set->options;
    TRY(memory_new(&set->cluster, (size_t)set->samples, sizeof *set->cluster, "clusters of samples"));
    for (int64_t i = 0; i < count; ++i) {
        if (options->cluster[i] < 0 || options->cluster[i] >= options->clusters)
            return fail(STATUS_INTERNAL, "bootstrap: cluster %d of %lld", options->cluster[i],
                        (long long)options->clusters);
        set->cluster[first + i] = options->cluster[i];
    }
    TRY(collective_sum(collective, (Span){set->cluster, set->samples, INT32}, NULL));
    return collective_join(collective, NULL);
}

/* Every rank fills its places and leaves zeros elsewhere: the sum over ranks is exact. */
static Status gather_samples(Collective *collective, const CalibrationScores *scores, BootstrapSet *set)
{
    Shares shares;
    TRY(shares_find(collective, scores->count, &shares));
    TRY(memory_new(&set->score, (size_t)set->samples, sizeof *set->score, "confidences of all samples"));
    TRY(memory_new(&set->order, (size_t)set->samples, sizeof *set->order, "sorted samples"));
    memcpy(set->score + shares.first, scores->signed_confidence, (size_t)scores->count * sizeof *set->score);
    TRY(collective_sum(collective, (Span){set->score, set->samples, FLOAT64}, NULL));
    TRY(collective_join(collective, NULL));
    if (set->options->cluster != NULL) TRY(gather_clusters(collective, scores->count, shares.first, set));
    return sort_samples(set);
}

/* ---- intervals ---- */

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

static bool wants_groups(const BootstrapSet *set)
{
    const BootstrapChoice choice = set->options->by_groups;
    if (set->options->cluster != NULL) return true;
    if (choice != BOOTSTRAP_AS_FITS) return choice == BOOTSTRAP_YES;
    const double work = (double)set->samples * (double)set->options->replicates * ((double)set->classes + 32);
    /* Neither depends on ranks and threads: the intervals must not. */
    const double bytes = (double)set->samples * 5 * (double)set->classes;
    return set->samples > BOOTSTRAP_GROUPS && (work > BOOTSTRAP_MOST_WORK || bytes > BOOTSTRAP_MOST_MEMORY);
}

static bool wants_classwise(const BootstrapOptions *options, const Logits *logits,
                            const Calibration *measured)
{
    if (logits == NULL || options->classwise == BOOTSTRAP_NO) return false;
    return options->classwise == BOOTSTRAP_YES || measured->label_classes <= BOOTSTRAP_MOST_CLASSES;
}

Status bootstrap_intervals(Collective *collective, const Logits *logits, double temperature,
                           const Calibration *measured, const CalibrationScores *scores,
                           const BootstrapOptions *options, int threads, BootstrapIntervals *intervals)
{
    const int64_t replicates = options->replicates;
    if (replicates < 1 || replicates > INT32_MAX)
        return fail(STATUS_USAGE, "%lld bootstrap replicates: it must be 1 to %d", (long long)replicates,
                    INT32_MAX);
    if (options->cluster != NULL && logits != NULL)
        return fail(STATUS_INTERNAL, "bootstrap: clusters are of samples whose logits were not kept");
    if (options->bins < 1 || options->bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", options->bins, CALIBRATION_MAX_BINS);
    BootstrapSet set = {.samples = measured->samples,
                        .bins = options->bins,
                        .threads = threads,
                        .temperature = temperature,
                        .logits = logits,
                        .options = options};
    if (wants_classwise(options, logits, measured)) set.classes = measured->label_classes;
    bins_edges(set.bins, set.edge);
    const bool groups = wants_groups(&set);
    double *values = NULL; /* [BOOTSTRAP_METRICS][replicates] */
    Status status;
    TRY_ELSE(done, memory_new(&values, (size_t)replicates * BOOTSTRAP_METRICS, sizeof *values, "replicates"));
    TRY_ELSE(done, gather_samples(collective, scores, &set));
    TRY_ELSE(done, (groups ? bootstrap_by_groups : bootstrap_by_samples)(collective, &set, values));
    TRY_ELSE(done, collective_sum(collective, (Span){values, replicates * BOOTSTRAP_METRICS, FLOAT64}, NULL));
    TRY_ELSE(done, collective_join(collective, NULL));
    *intervals = (BootstrapIntervals){
        .ece = interval_of(values + BOOTSTRAP_ECE * replicates, options),
        .ada_ece = interval_of(values + BOOTSTRAP_ADA_ECE * replicates, options),
        .classwise_ece = interval_of(values + BOOTSTRAP_CLASSWISE_ECE * replicates, options),
        .has_classwise = set.classes > 0,
        .groups = !groups                                                       ? 0
                  : set.cluster != NULL && options->clusters < BOOTSTRAP_GROUPS ? options->clusters
                                                                                : BOOTSTRAP_GROUPS,
        .bytes =
            16 * (double)set.samples + (groups ? bootstrap_groups_bytes : bootstrap_samples_bytes)(&set)};
done:
    free(values);
    free(set.score);
    free(set.order);
    free(set.cluster);
    return status;
}
