#include "losses/temperature.h"

#include "engine/base/memory.h"
#include "losses/bins.h"
#include "losses/exact_sum.h"
#include "losses/softmax_row.h"
#include "losses/threads.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What a row must give for every temperature T is s(T) = sum_k exp(d_k / T), d_k = x_k - max: the confidence
 * is 1 / s and the NLL is log s - d_label / T. Temperatures lie in the lanes of vectors, so no sum crosses
 * lanes, and a row of any length is one loop over its classes.
 *
 * T is n / 10, n = 1..100 (up to roundings of 1e-13, far below what matters here), and exp(d / (T / 2)) is
 * the square of exp(d / T): only the 50 temperatures of n > 50 need an exponential, all others are reached
 * from them by squaring: 96 gives 48, 24, 12, 6 and 3. The bases are sorted by how often they can be halved,
 * so that the lanes of one vector are squared equally often.
 *
 * Sums go into int64 with fixed units, every BLOCK rows into exact sums. */
enum {
    BLOCK = 512,
    BASES = TEMPERATURE_COUNT / 2,
    GROUPS = (BASES + LANES - 1) / LANES,
    MAX_SQUARINGS = 6,
    SLOTS = 2 * TEMPERATURE_COUNT + 7 * LANES, /* more than enough lanes for all vectors of a row */
    GAP_SHIFT = 50,                            /* unit of (confidence - correct): 512 rows fit */
    LOG_SHIFT = 46 /* unit of log s, which is below 44 = log(2^63): 512 rows fit */
};

/* A group is LANES bases and what is reached from them: 1 + squarings vectors of sums, one after the other.
 */
typedef struct {
    double factor[LANES]; /* log2(e) / T */
    int squarings;
} Group;

typedef struct {
    Group group[GROUPS];
    int vectors;      /* of sums a row: over all groups, 1 + squarings */
    int index[SLOTS]; /* which temperature a lane of the sums is for; -1: none */
    double edge[CALIBRATION_MAX_BINS + 1];
    int bins;
} Layout;

typedef struct {
    ExactSum log_sum[TEMPERATURE_COUNT];
    ExactSum gap[TEMPERATURE_COUNT][CALIBRATION_MAX_BINS];
    ExactSum label_distance; /* sum of (max - label's logit) */
} Sums;
enum { SUMS = sizeof(Sums) / sizeof(ExactSum) };

/* Where a thread works. */
typedef struct {
    double sum[SLOTS];
    int64_t log_sum[SLOTS];
    int64_t gap[TEMPERATURE_COUNT * CALIBRATION_MAX_BINS];
    Sums total;
} Workspace;

static int halvings(int n)
{
    int count = 0;
    for (; n % 2 == 0; n /= 2)
        ++count;
    return count;
}

static void layout_prepare(Layout *layout, int bins, const double *temperature)
{
    *layout = (Layout){.bins = bins};
    bins_edges(bins, layout->edge);
    int base[GROUPS * LANES] = {0}, bases = 0; /* 0: an empty lane */
    for (int times = MAX_SQUARINGS; times >= 0; --times)
        for (int n = BASES + 1; n <= TEMPERATURE_COUNT; ++n)
            if (halvings(n) == times) base[bases++] = n;
    for (int slot = 0; slot < SLOTS; ++slot)
        layout->index[slot] = -1;
    for (int g = 0; g < GROUPS; ++g) {
        Group *group = &layout->group[g];
        group->squarings = halvings(base[g * LANES]);
        for (int lane = 0; lane < LANES; ++lane) {
            const int n = base[g * LANES + lane];
            if (n == 0) continue; /* factor 0: exp(0), harmless */
            group->factor[lane] = 0x1.71547652b82fep0 / temperature[n - 1];
            for (int times = 0; times <= halvings(n); ++times)
                layout->index[(layout->vectors + times) * LANES + lane] = (n >> times) - 1;
        }
        layout->vectors += 1 + group->squarings;
    }
}

/* The sums of one group over the classes. d is limited to -1700, so that exp(d / T) is at least 2^-500 for
 * the bases' T > 5; that much is added after squaring, to keep products out of the subnormal numbers, which
 * are slow. Beside a sum that is at least 1 it is nothing. */
VECTOR_INLINE void group_sums(const double *d, int64_t classes, const double *factor, double *sums,
                              int squarings)
{
    const VectorDouble scale = vector_load(factor);
    VectorDouble sum[MAX_SQUARINGS + 1] = {{0}};
    for (int64_t k = 0; k < classes; ++k) {
        VectorDouble e = vector_exp2(scale * d[k]);
        sum[0] += e;
        for (int times = 1; times <= squarings; ++times) {
            e = e * e + 0x1p-500;
            sum[times] += e;
        }
    }
    for (int times = 0; times <= squarings; ++times)
        vector_store(sums + times * LANES, sum[times]);
}

static void row_sums(const Layout *layout, const double *d, int64_t classes, double *sums)
{
    for (int g = 0; g < GROUPS; ++g) {
        const Group *group = &layout->group[g];
        /* The number of squarings as a constant lets the compiler keep all sums in registers. */
        switch (group->squarings) {
        case 0:
            group_sums(d, classes, group->factor, sums, 0);
            break;
        case 1:
            group_sums(d, classes, group->factor, sums, 1);
            break;
        case 2:
            group_sums(d, classes, group->factor, sums, 2);
            break;
        case 3:
            group_sums(d, classes, group->factor, sums, 3);
            break;
        case 4:
            group_sums(d, classes, group->factor, sums, 4);
            break;
        case 5:
            group_sums(d, classes, group->factor, sums, 5);
            break;
        default:
            group_sums(d, classes, group->factor, sums, 6);
            break;
        }
        sums += (1 + group->squarings) * LANES;
    }
}

/* Adds log s and, in the confidence's bin, (confidence - correct), for all temperatures. */
static void add_row(const Layout *layout, Workspace *work, bool correct)
{
    const VectorInt hit = (VectorInt){0} + (correct ? INT64_C(1) << GAP_SHIFT : 0);
    for (int v = 0; v < layout->vectors; ++v) {
        const VectorDouble sum = vector_load(work->sum + v * LANES);
        VectorInt total;
        memcpy(&total, work->log_sum + v * LANES, sizeof total);
        total += vector_fixed(vector_log(sum), 0x1p46);
        memcpy(work->log_sum + v * LANES, &total, sizeof total);
        const VectorDouble confidence = 1.0 / sum;
        const VectorInt gap = vector_fixed(confidence, 0x1p50) - hit;
        for (int lane = 0; lane < LANES; ++lane) {
            const int index = layout->index[v * LANES + lane];
            if (index < 0) continue;
            const int bin = bins_find(layout->edge, layout->bins, confidence[lane]);
            work->gap[index * layout->bins + bin] += gap[lane];
        }
    }
}

static void flush(const Layout *layout, Workspace *work)
{
    for (int slot = 0; slot < layout->vectors * LANES; ++slot) {
        const int index = layout->index[slot];
        if (index >= 0)
            work->total.log_sum[index].units +=
                (__int128)work->log_sum[slot] * (1 << (EXACT_SUM_SHIFT - LOG_SHIFT));
    }
    for (int t = 0; t < TEMPERATURE_COUNT; ++t)
        for (int b = 0; b < layout->bins; ++b)
            work->total.gap[t][b].units +=
                (__int128)work->gap[t * layout->bins + b] * (1 << (EXACT_SUM_SHIFT - GAP_SHIFT));
    memset(work->log_sum, 0, sizeof work->log_sum);
    memset(work->gap, 0, sizeof work->gap);
}

static void add_block(const Layout *layout, const Logits *logits, int64_t begin, int64_t end, double *x,
                      Workspace *work)
{
    const int64_t padded = row_padded(logits->classes);
    for (int64_t row = begin; row < end; ++row) {
        row_load(logits, row, x, padded);
        const double maximum = row_maximum(x, padded);
        const int64_t label = logits_label(logits, row);
        const bool correct = row_first(x, maximum) == label;
        exact_sum_add(&work->total.label_distance, maximum - x[label]);
        for (int64_t k = 0; k < padded; k += LANES)
            vector_store(x + k, vector_maximum(vector_load(x + k) - maximum, vector_all(-1700.0)));
        row_sums(layout, x, logits->classes, work->sum);
        add_row(layout, work, correct);
    }
    flush(layout, work);
}

static void conclude(const Sums *sums, const Logits *logits, int bins, TemperatureSearch *search)
{
    const double samples = (double)logits->total;
    for (int t = 0; t < TEMPERATURE_COUNT; ++t) {
        search->ece[t] = 0;
        for (int b = 0; b < bins; ++b)
            search->ece[t] += fabs(exact_sum_value(sums->gap[t][b])) / samples;
        search->nll[t] = exact_sum_value(sums->log_sum[t]) / samples +
                         exact_sum_value(sums->label_distance) / samples / search->temperature[t];
        if (search->ece[t] < search->ece[search->best_ece]) search->best_ece = t;
        if (search->nll[t] < search->nll[search->best_nll]) search->best_nll = t;
    }
}

Status temperature_search(Collective *collective, const Logits *logits, int bins, int threads,
                          TemperatureSearch *search)
{
    if (bins < 1 || bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", bins, CALIBRATION_MAX_BINS);
    *search = (TemperatureSearch){0};
    double temperature = 0.1;
    for (int t = 0; t < TEMPERATURE_COUNT; ++t, temperature += 0.1)
        search->temperature[t] = temperature;

    Layout layout;
    layout_prepare(&layout, bins, search->temperature);
    const int64_t rows = logits->count, blocks = (rows + BLOCK - 1) / BLOCK;
    const int64_t padded = row_padded(logits->classes);
    const int team = threads_for(threads, blocks);
    double *x = NULL;
    Workspace *work = NULL;
    Status status;
    TRY_ELSE(done, memory_new(&x, (size_t)team * (size_t)padded, sizeof *x, "rows of logits"));
    TRY_ELSE(done, memory_new(&work, (size_t)team, sizeof *work, "temperature sums"));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t block = 0; block < blocks; ++block) {
        const int me = omp_get_thread_num();
        const int64_t end = (block + 1) * BLOCK < rows ? (block + 1) * BLOCK : rows;
        add_block(&layout, logits, block * BLOCK, end, x + me * padded, &work[me]);
    }
    ExactSum *total = (ExactSum *)&work[0].total;
    for (int thread = 1; thread < team; ++thread)
        for (int i = 0; i < SUMS; ++i)
            total[i].units += ((const ExactSum *)&work[thread].total)[i].units;
    TRY_ELSE(done, exact_sum_reduce(collective, total, SUMS));
    conclude(&work[0].total, logits, bins, search);
done:
    free(x);
    free(work);
    return status;
}
