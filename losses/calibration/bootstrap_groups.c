/* Resamples of groups (bootstrap.h). */
#include "losses/calibration/bootstrap_set.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/softmax_row.h"
#include "losses/calibration/threads.h"

#include <stdlib.h>

enum {
    GROUPS = BOOTSTRAP_GROUPS,
    RUN = 64,             /* sorted samples that are passed at once */
    TILE_CELLS = 1 << 10, /* about as many cells (class and bin) a group are in memory at a time */
    CHUNK_CELLS = 64,     /* whose sums stay in cache while the groups pass */
    GAP_SHIFT = 32        /* unit of sums over a group: up to 2^30 samples fit */
};
#define GAP_UNIT 0x1p32

typedef struct {
    const BootstrapSet *set;
    int64_t groups;          /* at most GROUPS; fewer if there are fewer clusters */
    uint16_t *group;         /* [samples] */
    uint16_t *sorted_group;  /* [samples]: in the order of confidence */
    double *sorted_score;    /* [samples] */
    int64_t size[GROUPS];    /* samples of each */
    double *bin_gap;         /* [GROUPS][bins]: sums of (confidence - correct) */
    double *maximum, *scale; /* [rows of this rank]: of a row's logits; 1 / sum of exponentials */
    int64_t tile_classes;
    int64_t *cell; /* [GROUPS][bins][tile_classes]: sums of (probability - is it the label) */
} Groups;

/* A resampled edge lies between two order statistics: each has its value, and the sum of (confidence - correct) over all
 * that is not above it. */
typedef struct {
    int64_t position;
    double value, gap;
} Statistic;

/* Where a replicate is on its way through the sorted samples. */
typedef struct {
    Statistic statistic[2 * (CALIBRATION_MAX_BINS + 1)];
    double fraction[CALIBRATION_MAX_BINS + 1];
    int next; /* the first statistic whose position is not passed */
    int open; /* the first one whose gap still grows: samples of the same confidence may follow */
    int64_t passed;
    double gap;
} Walk;

/* A thread's place to work. */
typedef struct {
    uint16_t count[GROUPS * REPLICATES];
    Walk walk[REPLICATES];
} Workspace;

/* ---- what the groups are ---- */

static void groups_release(Groups *groups)
{
    free(groups->group);
    free(groups->sorted_group);
    free(groups->sorted_score);
    free(groups->bin_gap);
    free(groups->maximum);
    free(groups->scale);
    free(groups->cell);
}

/* Every GROUPS-th item (sample or cluster) of a random order: whatever order a file has, the groups do not know. */
static Status choose_groups(const BootstrapSet *set, Groups *groups)
{
    const int64_t items = set->cluster != NULL ? set->options->clusters : set->samples;
    int64_t *shuffled;
    uint16_t *of_item;
    groups->groups = set->cluster != NULL && items < GROUPS ? items : GROUPS;
    TRY(memory_new(&shuffled, (size_t)items, sizeof *shuffled, "groups of samples"));
    Status status = memory_new(&of_item, (size_t)items, sizeof *of_item, "groups of samples");
    if (status == OK) {
        for (int64_t i = 0; i < items; ++i)
            shuffled[i] = i;
        random_shuffle(set->options->seed, RANDOM_BOOTSTRAP, UINT64_MAX, shuffled, items);
        for (int64_t i = 0; i < items; ++i)
            of_item[shuffled[i]] = (uint16_t)(i % groups->groups);
        for (int64_t i = 0; i < set->samples; ++i) {
            groups->group[i] = of_item[set->cluster != NULL ? set->cluster[i] : i];
            groups->size[groups->group[i]] += 1;
        }
    }
    free(of_item);
    free(shuffled);
    return status;
}

static Status groups_prepare(const BootstrapSet *set, Groups *groups)
{
    const size_t samples = (size_t)set->samples;
    *groups = (Groups){.set = set};
    TRY(memory_new(&groups->group, samples, sizeof *groups->group, "groups of samples"));
    TRY(memory_new(&groups->sorted_group, samples, sizeof *groups->sorted_group, "groups of samples"));
    TRY(memory_new(&groups->sorted_score, samples, sizeof *groups->sorted_score, "sorted confidences"));
    TRY(memory_new(&groups->bin_gap, (size_t)GROUPS * (size_t)set->bins, sizeof(double), "sums of groups"));
    TRY(choose_groups(set, groups));
    for (int64_t i = 0; i < set->samples; ++i) {
        const double score = set->score[i];
        groups->bin_gap[groups->group[i] * set->bins + bins_find(set->edge, set->bins, fabs(score))] +=
            bootstrap_gap(score);
        groups->sorted_score[i] = set->score[set->order[i]];
        groups->sorted_group[i] = groups->group[set->order[i]];
    }
    return OK;
}

static int64_t tile_classes_of(const BootstrapSet *set)
{
    const int64_t classes = TILE_CELLS / set->bins < 1 ? 1 : TILE_CELLS / set->bins;
    return classes < set->classes ? classes : set->classes;
}

double bootstrap_groups_bytes(const BootstrapSet *set)
{
    const double tile = set->classes > 0 ? (double)(tile_classes_of(set) * set->bins * GROUPS * 8) : 0;
    return 12 * (double)set->samples + tile;
}

/* Counts of groups that there are not stay 0. */
static void draw_counts(const Groups *groups, int64_t block, Workspace *work)
{
    bootstrap_draw(groups->set->options->seed, block * REPLICATES, groups->groups, work->count);
}

/* ---- ECE ---- */

static void add_product(double *restrict sums, const uint16_t *restrict count, double gap)
{
    for (int r = 0; r < REPLICATES; ++r)
        sums[r] += count[r] * gap;
}

static void replicate_ece(const Groups *groups, const Workspace *work, Lane result)
{
    const int bins = groups->set->bins;
    double sum[CALIBRATION_MAX_BINS][REPLICATES] = {{0}};
    for (int64_t g = 0; g < GROUPS; ++g)
        for (int b = 0; b < bins; ++b)
            add_product(sum[b], work->count + g * REPLICATES, groups->bin_gap[g * bins + b]);
    for (int b = 0; b < bins; ++b)
        for (int r = 0; r < REPLICATES; ++r)
            result[r] += fabs(sum[b][r]);
}

/* ---- AdaECE: a walk through the samples in order of confidence ---- */

static void walk_start(const BootstrapSet *set, int64_t samples, Walk *walk)
{
    *walk = (Walk){0};
    for (int b = 0; b <= set->bins; ++b) {
        int64_t position;
        bins_adaptive_position(samples, set->bins, b, &position, &walk->fraction[b]);
        walk->statistic[2 * b].position = position;
        walk->statistic[2 * b + 1].position = position + (walk->fraction[b] > 0);
    }
}

/* Past one sample that was drawn `count` times. Positions ascend but for those of a last edge, which are equal. */
static void walk_past(Walk *walk, int statistics, int64_t count, double score)
{
    if (count == 0) return;
    const double confidence = fabs(score);
    for (; walk->open < walk->next && walk->statistic[walk->open].value < confidence; ++walk->open)
        walk->statistic[walk->open].gap = walk->gap;
    walk->passed += count;
    walk->gap += (double)count * bootstrap_gap(score);
    for (; walk->next < statistics && walk->passed > walk->statistic[walk->next].position; ++walk->next)
        walk->statistic[walk->next].value = confidence;
}

static double walk_error(const BootstrapSet *set, Walk *walk)
{
    for (; walk->open < walk->next; ++walk->open)
        walk->statistic[walk->open].gap = walk->gap;
    double error = 0, before = 0;
    for (int b = 0; b <= set->bins; ++b) {
        const Statistic *low = &walk->statistic[2 * b], *high = low + 1;
        const double edge = bins_adaptive_edge(low->value, high->value, walk->fraction[b]);
        const double gap = edge >= high->value ? high->gap : low->gap;
        if (b > 0) error += fabs(gap - before);
        before = gap;
    }
    return error;
}

/* Most runs of samples hold no statistic: they are passed with one vector of counts for all replicates. */
static void replicate_adaptive(const Groups *groups, Workspace *work, const int64_t drawn[REPLICATES],
                               Lane result)
{
    const BootstrapSet *set = groups->set;
    const int statistics = 2 * (set->bins + 1);
    for (int r = 0; r < REPLICATES; ++r)
        walk_start(set, drawn[r], &work->walk[r]);
    for (int64_t begin = 0; begin < set->samples; begin += RUN) {
        const int64_t end = begin + RUN < set->samples ? begin + RUN : set->samples;
        int32_t passed[REPLICATES] = {0};
        Lane gap = {0};
        for (int64_t i = begin; i < end; ++i) {
            const uint16_t *count = work->count + (int64_t)groups->sorted_group[i] * REPLICATES;
            add_product(gap, count, bootstrap_gap(groups->sorted_score[i]));
            for (int r = 0; r < REPLICATES; ++r)
                passed[r] += count[r];
        }
        for (int r = 0; r < REPLICATES; ++r) {
            Walk *walk = &work->walk[r];
            if (walk->open == walk->next &&
                (walk->next == statistics ||
                 walk->passed + passed[r] <= walk->statistic[walk->next].position)) {
                walk->passed += passed[r];
                walk->gap += gap[r];
                continue;
            }
            for (int64_t i = begin; i < end; ++i)
                walk_past(walk, statistics, work->count[(int64_t)groups->sorted_group[i] * REPLICATES + r],
                          groups->sorted_score[i]);
        }
    }
    for (int r = 0; r < REPLICATES; ++r)
        result[r] = walk_error(set, &work->walk[r]);
}

static void store_values(const BootstrapSet *set, int metric, int64_t block, const Lane result,
                         const int64_t drawn[REPLICATES], double divisor, double *values)
{
    const int64_t replicates = set->options->replicates, first = block * REPLICATES;
    for (int r = 0; r < REPLICATES && first + r < replicates; ++r)
        values[metric * replicates + first + r] += result[r] / ((double)drawn[r] * divisor);
}

static void count_drawn(const Groups *groups, const Workspace *work, int64_t drawn[REPLICATES])
{
    memset(drawn, 0, REPLICATES * sizeof *drawn);
    for (int64_t g = 0; g < GROUPS; ++g)
        for (int r = 0; r < REPLICATES; ++r)
            drawn[r] += groups->size[g] * work->count[g * REPLICATES + r];
}

/* ---- Classwise-ECE ---- */

/* What the rows' probabilities need. */
static Status prepare_rows(Groups *groups)
{
    const BootstrapSet *set = groups->set;
    const Logits *logits = set->logits;
    const int64_t padded = row_padded(logits->classes);
    const int team = team_size(set->threads, logits->count / 64 + 1);
    double *rows;
    TRY(memory_new(&groups->maximum, (size_t)logits->count, sizeof(double), "maxima of rows"));
    TRY(memory_new(&groups->scale, (size_t)logits->count, sizeof(double), "sums of rows"));
    groups->tile_classes = tile_classes_of(set);
    TRY(memory_new(&groups->cell, (size_t)(GROUPS * set->bins * groups->tile_classes), sizeof(int64_t),
                   "sums of groups by class"));
    TRY(memory_new(&rows, (size_t)team * (size_t)padded, sizeof *rows, "rows of logits"));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t row = 0; row < logits->count; ++row) {
        double *x = rows + omp_get_thread_num() * padded;
        row_load(logits, row, x, padded);
        groups->maximum[row] = row_maximum(x, padded);
        groups->scale[row] = 1.0 / row_denominator(x, groups->maximum[row], set->temperature, padded);
    }
    free(rows);
    return OK;
}

/* The sums of classes begin .. end - 1, which are those from `offset` on in the tile. */
static void add_classes(Groups *groups, int64_t begin, int64_t end, int64_t offset)
{
    const BootstrapSet *set = groups->set;
    const Logits *logits = set->logits;
    const int64_t tile = groups->tile_classes, cells = tile * set->bins;
    const double cool = 1.0 / set->temperature;
    double z[DOUBLES_LANES], p[DOUBLES_LANES];
    for (int64_t row = 0; row < logits->count; ++row) {
        int64_t *cell = groups->cell + groups->group[logits->first + row] * cells + offset;
        const int64_t label = logits_label(logits, row);
        for (int64_t k = begin; k < end; k += DOUBLES_LANES) {
            const int64_t lanes = end - k < DOUBLES_LANES ? end - k : DOUBLES_LANES;
            for (int64_t lane = 0; lane < DOUBLES_LANES; ++lane)
                z[lane] = lane < lanes ? logits_value(logits, row, k + lane) : -INFINITY;
            doubles_store(p,
                          doubles_exp((doubles_load(z) - groups->maximum[row]) * cool) * groups->scale[row]);
            for (int64_t lane = 0; lane < lanes; ++lane) {
                const int bin = p[lane] <= set->edge[1] ? 0 : bins_find(set->edge, set->bins, p[lane]);
                const bool hit = k + lane == label && p[lane] > 0;
                cell[bin * tile + k + lane - begin] += llrint((p[lane] - hit) * GAP_UNIT);
            }
        }
    }
}

static Status fill_tile(Collective *collective, Groups *groups, int64_t first, int64_t classes)
{
    const BootstrapSet *set = groups->set;
    const int64_t cells = GROUPS * set->bins * groups->tile_classes;
    memset(groups->cell, 0, (size_t)cells * sizeof *groups->cell);
    /* Each thread has classes of its own, so no two write to one sum. */
    const int64_t parts = team_size(set->threads, classes), each = (classes + parts - 1) / parts;
#pragma omp parallel for schedule(static) num_threads((int)parts)
    for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = part * each, end = begin + each < classes ? begin + each : classes;
        if (begin < end) add_classes(groups, first + begin, first + end, begin);
    }
    return counts_reduce(collective, groups->cell, cells);
}

/* result[r] += sum over the tile's cells of |sum over groups of count * sum| */
static void replicate_tile(const Groups *groups, const Workspace *work, Lane result)
{
    const int64_t cells = groups->set->bins * groups->tile_classes;
    for (int64_t begin = 0; begin < cells; begin += CHUNK_CELLS) {
        const int64_t chunk = cells - begin < CHUNK_CELLS ? cells - begin : CHUNK_CELLS;
        double sum[CHUNK_CELLS][REPLICATES] = {{0}};
        for (int64_t g = 0; g < GROUPS; ++g) {
            const int64_t *cell = groups->cell + g * cells + begin;
            Lane count;
            for (int r = 0; r < REPLICATES; ++r)
                count[r] = work->count[g * REPLICATES + r];
            for (int64_t i = 0; i < chunk; ++i) {
                if (cell[i] == 0) continue;
                const double gap = (double)cell[i];
                for (int r = 0; r < REPLICATES; ++r)
                    sum[i][r] += count[r] * gap;
            }
        }
        for (int64_t i = 0; i < chunk; ++i)
            for (int r = 0; r < REPLICATES; ++r)
                result[r] += fabs(sum[i][r]) / GAP_UNIT;
    }
}

/* ---- all of them ---- */

/* One pass over this rank's blocks of replicates, on all threads. classes: 0 for ECE and AdaECE. */
static void run_blocks(Collective *collective, const Groups *groups, bool classwise, double from, double to,
                       Workspace *work, int team, double *values)
{
    const BootstrapSet *set = groups->set;
    const int64_t blocks = (set->options->replicates + REPLICATES - 1) / REPLICATES;
    (void)team; /* for compilers without OpenMP */
#pragma omp parallel for schedule(dynamic) num_threads(team)
    for (int64_t block = collective->rank; block < blocks; block += collective->size) {
        Workspace *mine = &work[omp_get_thread_num()];
        int64_t drawn[REPLICATES];
        Lane ece = {0}, other = {0};
        draw_counts(groups, block, mine);
        count_drawn(groups, mine, drawn);
        if (classwise) {
            replicate_tile(groups, mine, other);
            store_values(set, BOOTSTRAP_CLASSWISE_ECE, block, other, drawn, (double)set->classes, values);
        } else {
            replicate_ece(groups, mine, ece);
            store_values(set, BOOTSTRAP_ECE, block, ece, drawn, 1, values);
            replicate_adaptive(groups, mine, drawn, other);
            store_values(set, BOOTSTRAP_ADA_ECE, block, other, drawn, 1, values);
        }
        if (omp_get_thread_num() == 0)
            bootstrap_progress(set, from + (to - from) * (double)(block + 1) / (double)blocks);
    }
}

static Status run_groups(Collective *collective, Groups *groups, Workspace *work, int team, double *values)
{
    const BootstrapSet *set = groups->set;
    const int64_t classes = set->classes;
    /* About as long as the sums of 64 classes take. */
    const double steps = 1 + (double)classes / 64;
    run_blocks(collective, groups, false, 0, 1 / steps, work, team, values);
    if (classes == 0) return OK;
    TRY(prepare_rows(groups));
    for (int64_t first = 0; first < classes; first += groups->tile_classes) {
        const int64_t left = classes - first,
                      tile = left < groups->tile_classes ? left : groups->tile_classes;
        TRY(fill_tile(collective, groups, first, tile));
        run_blocks(collective, groups, true, (1 + (double)first / 64) / steps,
                   (1 + (double)(first + tile) / 64) / steps, work, team, values);
    }
    return OK;
}

Status bootstrap_by_groups(Collective *collective, const BootstrapSet *set, double *values)
{
    const int64_t blocks = (set->options->replicates + REPLICATES - 1) / REPLICATES;
    const int team = team_size(set->threads, (blocks + collective->size - 1) / collective->size);
    Groups groups;
    Workspace *work = NULL;
    Status status;
    TRY_ELSE(done, groups_prepare(set, &groups));
    TRY_ELSE(done, memory_new(&work, (size_t)team, sizeof *work, "resamples of groups"));
    TRY_ELSE(done, run_groups(collective, &groups, work, team, values));
done:
    free(work);
    groups_release(&groups);
    return status;
}
