#include "launch/evaluate/evaluate_more.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "losses/calibration/calibrator.h"
#include "losses/calibration/shares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* All ranks' samples, on every rank. */
typedef struct {
    int64_t first, total; /* of this rank's samples, and of all */
    double *confidence;
    uint8_t *correct;
    double *p;      /* [total, classes]; NULL: not gathered */
    int64_t *label; /* [total]; likewise */
    int64_t classes;
} Gathered;

static void gathered_free(Gathered *all)
{
    free(all->confidence);
    free(all->correct);
    free(all->p);
    free(all->label);
}

/* Each rank fills its own places; the sum with the zeros of the others is exact. */
static Status share(Collective *collective, void *data, int64_t count, DType type)
{
    if (collective->size == 1) return OK;
    TRY(collective_sum(collective, (Span){data, count, type}, NULL));
    return collective_join(collective, NULL);
}

static Status gather_confidences(Collective *collective, const CalibrationScores *scores, Gathered *all)
{
    TRY(memory_new(&all->confidence, (size_t)all->total, sizeof *all->confidence, "confidences"));
    TRY(memory_new(&all->correct, (size_t)all->total, 1, "right predictions"));
    for (int64_t i = 0; i < scores->count; ++i) {
        const double score = scores->signed_confidence[i];
        all->confidence[all->first + i] = fabs(score);
        all->correct[all->first + i] = !signbit(score);
    }
    TRY(share(collective, all->confidence, all->total, FLOAT64));
    return share(collective, all->correct, all->total, UINT8);
}

static Status gather_probabilities(World *world, Collective *collective, const Logits *set,
                                   double temperature, int threads, Gathered *all)
{
    if (set == NULL || (double)all->total * (double)set->classes > MORE_PROBABILITIES) return OK;
    const size_t row = (size_t)set->classes * sizeof(double);
    all->classes = set->classes;
    Status status = memory_new(&all->p, (size_t)all->total, row, "probabilities of all ranks");
    if (status == OK)
        status = memory_new(&all->label, (size_t)all->total, sizeof *all->label, "labels of all ranks");
    if (status == OK)
        status = logits_probabilities(set, temperature, threads, all->p + all->first * set->classes);
    TRY(comm_agree(world, status));
    for (int64_t i = 0; i < set->count; ++i)
        all->label[all->first + i] = logits_label(set, i);
    TRY(share(collective, all->p, all->total * set->classes, FLOAT64));
    return share(collective, all->label, all->total, INT64);
}

/* ---- what only needs confidences ---- */

static Status measure_curve(const ConfidenceSet *top, const MoreOptions *options, MoreMeasures *more)
{
    double at[MORE_POINTS];
    for (int i = 0; i < MORE_POINTS; ++i) {
        at[i] = (double)i / (MORE_POINTS - 1);
        more->lower[i] = more->upper[i] = NAN;
    }
    /* Of a bandwidth next to nothing there is no curve, but samples. */
    const double width = fmax(more->smooth.bandwidth, 0.005);
    if (options->relplot)
        TRY(smooth_curve_relplot(top, width, MORE_POINTS, at, more->accuracy, more->density));
    else
        TRY(smooth_curve(top, width, MORE_POINTS, at, more->accuracy, more->density));
    more->replicates = options->replicates;
    if (options->replicates < 1) return OK;
    const SmoothBandOptions band = {.replicates = options->replicates,
                                    .seed = options->seed,
                                    .level = MORE_LEVEL,
                                    .relplot = options->relplot,
                                    .threads = options->threads};
    return smooth_band(top, width, MORE_POINTS, at, &band, more->lower, more->upper);
}

static Status measure_top(const ConfidenceSet *top, const MoreOptions *options, const Calibration *measured,
                          MoreMeasures *more)
{
    static const double levels[2] = {(1 - MORE_LEVEL) / 2, (1 + MORE_LEVEL) / 2};
    more->relplot = options->relplot;
    if (options->relplot)
        TRY(smooth_ece_relplot(top, &more->smooth));
    else
        TRY(smooth_ece(top, options->threads, &more->smooth));
    TRY(measure_curve(top, options, more));
    for (int scheme = 0; scheme < 2; ++scheme)
        TRY(binned_error_top(top, (BinScheme)scheme, options->bins, &more->top[scheme]));
    for (int b = 0; b < measured->bins; ++b)
        TRY(consistency_quantiles(measured->samples, measured->bin[b].count, measured->bin[b].confidence, 2,
                                  levels, more->consistency[b]));
    return brier_parts_top(top, options->bins, &more->brier_top);
}

/* ---- what needs all probabilities ---- */

static int compare_indices(const void *a, const void *b)
{
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

/* As many samples as the kernel's work allows, in their order. */
static Status measure_kernel(const ProbabilitySet *set, const MoreOptions *options, MoreMeasures *more)
{
    const int64_t count = set->count < options->kernel_samples ? set->count : options->kernel_samples;
    const KernelOptions kernel = {.form = options->kernel,
                                  .width = options->kernel_width,
                                  .resamples = options->replicates,
                                  .seed = options->seed};
    int64_t *index = NULL, *label = NULL;
    double *p = NULL;
    Status status;
    if (count < 2) {
        more->kernel = (KernelError){
            .form = options->kernel, .samples = count, .biased = NAN, .unbiased = NAN, .p = NAN};
        return OK;
    }
    if (count == set->count) return kernel_error(set, &kernel, options->threads, &more->kernel);
    TRY_ELSE(done, memory_new(&index, (size_t)set->count, sizeof *index, "samples of the kernel"));
    TRY_ELSE(done, memory_new(&label, (size_t)count, sizeof *label, "samples of the kernel"));
    TRY_ELSE(done, memory_new(&p, (size_t)count, (size_t)set->classes * sizeof *p, "samples of the kernel"));
    for (int64_t i = 0; i < set->count; ++i)
        index[i] = i;
    random_shuffle(options->seed, RANDOM_BOOTSTRAP, random_name_key("kernel"), index, set->count);
    qsort(index, (size_t)count, sizeof *index, compare_indices);
    for (int64_t i = 0; i < count; ++i) {
        label[i] = set->label[index[i]];
        memcpy(p + i * set->classes, set->p + index[i] * set->classes, (size_t)set->classes * sizeof *p);
    }
    const ProbabilitySet drawn = {p, label, count, set->classes};
    TRY_ELSE(done, kernel_error(&drawn, &kernel, options->threads, &more->kernel));
done:
    free(index);
    free(label);
    free(p);
    return status;
}

/* Puts the class in its place among the worst. */
static void keep_worst(MoreMeasures *more, const ClassMeasure *of)
{
    int place = more->worst_count;
    while (place > 0 && more->worst[place - 1].error < of->error)
        --place;
    if (place == MORE_WORST) return;
    const int moved = more->worst_count - place - (more->worst_count == MORE_WORST);
    memmove(&more->worst[place + 1], &more->worst[place], (size_t)moved * sizeof *more->worst);
    more->worst[place] = *of;
    if (more->worst_count < MORE_WORST) more->worst_count += 1;
}

/* A class' probabilities as confidences of "it is this class". */
static Status measure_classes(const ProbabilitySet *set, const MoreOptions *options, MoreMeasures *more)
{
    double *p = NULL;
    uint8_t *hit = NULL;
    int64_t *prediction = NULL;
    Status status;
    TRY_ELSE(done, memory_new(&p, (size_t)set->count, sizeof *p, "a class"));
    TRY_ELSE(done, memory_new(&hit, (size_t)set->count, 1, "a class"));
    TRY_ELSE(done, memory_new(&prediction, (size_t)set->count, sizeof *prediction, "predictions"));
    for (int64_t i = 0; i < set->count; ++i)
        for (int64_t k = 1; k < set->classes; ++k)
            if (set->p[i * set->classes + k] > set->p[i * set->classes + prediction[i]]) prediction[i] = k;
    for (int64_t k = 0; k < set->classes; ++k) {
        ClassMeasure of = {.k = k, .mean_probability = 0};
        int64_t right = 0;
        for (int64_t i = 0; i < set->count; ++i) {
            p[i] = set->p[i * set->classes + k];
            hit[i] = set->label[i] == k;
            of.samples += hit[i];
            of.mean_probability += p[i] / (double)set->count;
            right += hit[i] && prediction[i] == k;
        }
        BinnedError error;
        const ConfidenceSet column = {"class", p, hit, set->count};
        TRY_ELSE(done, binned_error_top(&column, BINS_EQUAL_WIDTH, options->bins, &error));
        of.error = error.plug_in[1];
        of.accuracy = of.samples > 0 ? (double)right / (double)of.samples : NAN;
        keep_worst(more, &of);
    }
done:
    free(p);
    free(hit);
    free(prediction);
    return status;
}

static Status measure_all(const ProbabilitySet *set, const MoreOptions *options, MoreMeasures *more)
{
    more->has_classes = true;
    for (int scheme = 0; scheme < 2; ++scheme)
        TRY(binned_error_classes(set, (BinScheme)scheme, options->bins, &more->classes[scheme]));
    TRY(binned_error_joint(set, MORE_JOINT_BINS, &more->joint));
    TRY(brier_parts_by_confidence(set, options->bins, &more->brier_by_confidence));
    TRY(brier_parts_by_class(set, options->bins, &more->brier_by_class));
    TRY(measure_kernel(set, options, more));
    return measure_classes(set, options, more);
}

Status evaluate_more(World *world, Collective *collective, const MoreOptions *options, const Logits *set,
                     double temperature, const Calibration *measured, const CalibrationScores *scores,
                     MoreMeasures *more)
{
    Gathered all = {.first = 0};
    Shares shares;
    Status status;
    memset(more, 0, sizeof *more);
    TRY_ELSE(done, shares_find(collective, scores->count, &shares));
    all.first = shares.first;
    all.total = shares.total;
    TRY_ELSE(done, gather_confidences(collective, scores, &all));
    TRY_ELSE(done, gather_probabilities(world, collective, set, temperature, options->threads, &all));
    if (world->rank == 0) {
        const ConfidenceSet top = {"all", all.confidence, all.correct, all.total};
        const ProbabilitySet whole = {all.p, all.label, all.total, all.classes};
        status = measure_top(&top, options, measured, more);
        if (status == OK && all.p != NULL) status = measure_all(&whole, options, more);
    }
    TRY_ELSE(done, comm_agree(world, status));
    if (collective->size == 1) goto done;
    TRY_ELSE(done, collective_broadcast(collective, (Span){more, sizeof *more, UINT8}, 0, NULL));
    TRY_ELSE(done, collective_join(collective, NULL));
done:
    gathered_free(&all);
    return status;
}
