/* One thread takes a row: softmax, loss and gradient in float64, while the row is in cache. Sums are formed
 * afterwards in the order of the samples, so they do not depend on the number of threads. A penalty needs the
 * confidences of the whole batch before any gradient: then rows are gone through twice. */
#include "engine/device/collective.h"
#include "losses/loss_head.h"
#include "losses/mmce.h"
#include "losses/sample_loss.h"

#include <omp.h>
#include <string.h>

/* ---- what the forms are ---- */

typedef SampleLoss (*SampleFunction)(const Sample *, const LossHead *, int64_t epoch);

static SampleLoss apply_label_smoothing(const Sample *sample, const LossHead *head, int64_t epoch)
{
    (void)epoch;
    return sample_label_smoothing(sample, head->uniform ? smoothing_uniform(head->alpha, sample->classes)
                                                        : smoothing_paper(head->alpha, sample->classes));
}

static SampleLoss apply_brier(const Sample *sample, const LossHead *head, int64_t epoch)
{
    (void)head;
    (void)epoch;
    return sample_brier(sample);
}

static SampleLoss apply_focal(const Sample *sample, const LossHead *head, int64_t epoch)
{
    return sample_focal(sample, gamma_choose(&head->gamma, sample->probability, epoch));
}

static const SampleFunction sample_functions[] = {
    [SAMPLE_LABEL_SMOOTHING] = apply_label_smoothing,
    [SAMPLE_BRIER] = apply_brier,
    [SAMPLE_FOCAL] = apply_focal,
};

typedef double (*PenaltyFunction)(const Judged[], int64_t, double width, void *workspace, double gradient[]);

static const PenaltyFunction penalty_functions[] = {
    [PENALTY_NONE] = NULL, [PENALTY_MMCE] = mmce, [PENALTY_MMCE_WEIGHTED] = mmce_weighted};

/* ---- memory ---- */

/* Parts of the scratch memory. */
typedef struct {
    double *rows;      /* [threads, padded classes] */
    double *losses;    /* [N]: weighted */
    Judged *mine;      /* [N] */
    Judged *all;       /* [ranks, N] */
    double *slope;     /* [ranks, N]: d penalty / d confidence */
    void *workspace;   /* of the penalty */
    size_t bytes;      /* of all of them */
    int64_t row_bytes; /* of one thread */
    int threads;
} Layout;

/* The next `bytes` of the scratch memory; NULL while only counting. */
static void *take(Layout *layout, void *scratch, size_t bytes)
{
    enum { LINE = 64 };
    void *part = scratch != NULL ? (char *)scratch + layout->bytes : NULL;
    layout->bytes += (bytes + LINE - 1) / LINE * LINE;
    return part;
}

static Layout lay_out(const Call *call)
{
    const LossHead *head = call->attributes;
    const size_t samples = (size_t)call->in[HEAD_LOGITS].shape.extent[0];
    const size_t classes = (size_t)call->in[HEAD_LOGITS].shape.extent[1];
    Layout layout = {.threads = device_threads(call->device)};
    enum { LANES = 8 };
    layout.row_bytes = (int64_t)((classes + LANES - 1) / LANES * LANES * sizeof(double));
    layout.rows = take(&layout, call->scratch, (size_t)layout.threads * (size_t)layout.row_bytes);
    layout.losses = take(&layout, call->scratch, samples * sizeof(double));
    if (head->penalty == PENALTY_NONE) return layout;
    const size_t all = samples * (size_t)call->collective->size;
    layout.mine = take(&layout, call->scratch, samples * sizeof(Judged));
    layout.all = take(&layout, call->scratch, all * sizeof(Judged));
    layout.slope = take(&layout, call->scratch, all * sizeof(double));
    layout.workspace = take(&layout, call->scratch, mmce_workspace((int64_t)all));
    return layout;
}

static Status prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = lay_out(call).bytes;
    return OK;
}

/* ---- work ---- */

/* One sample: its outputs, and its weighted loss. slope: what the penalty adds to the derivative by its
 * confidence, per unit of weight. */
static double take_sample(const Call *call, int64_t n, int64_t epoch, double slope, bool with_gradient,
                          double row[], Judged *judged)
{
    const LossHead *head = call->attributes;
    const int64_t classes = call->in[HEAD_LOGITS].shape.extent[1];
    const float *logits = (const float *)call->in[HEAD_LOGITS].data + n * classes;
    float *gradient = with_gradient ? (float *)call->out[HEAD_GRADIENT].data + n * classes : NULL;
    const double weight = (double)((const float *)call->in[HEAD_WEIGHT].data)[n];
    float *confidence = (float *)call->out[HEAD_CONFIDENCE].data + n;
    float *correct = (float *)call->out[HEAD_CORRECT].data + n;
    if (weight == 0) {
        if (gradient != NULL) memset(gradient, 0, (size_t)classes * sizeof *gradient);
        *confidence = *correct = 0;
        *judged = (Judged){0, 0, 0};
        return 0;
    }
    for (int64_t k = 0; k < classes; ++k)
        row[k] = (double)logits[k];
    const Sample sample = sample_softmax(row, classes, ((const int32_t *)call->in[HEAD_TARGET].data)[n]);
    SampleLoss loss = sample_functions[head->form](&sample, head, epoch);
    *confidence = (float)sample.confidence;
    *correct = sample.correct ? 1 : 0;
    *judged = (Judged){sample.confidence, sample.correct ? 1 : 0, weight};
    if (gradient != NULL) {
        if (slope != 0) sample_couple(&sample, slope, &loss);
        sample_gradient(&sample, &loss, weight, row);
        for (int64_t k = 0; k < classes; ++k)
            gradient[k] = (float)row[k];
    }
    return weight * loss.value;
}

/* All samples of this rank. slope [N]: d penalty / d confidence, times `scale`; NULL: no penalty (yet). */
static void sweep(const Call *call, const Layout *layout, const double slope[], double scale,
                  bool with_gradient)
{
    const LossHead *head = call->attributes;
    const int64_t samples = call->in[HEAD_LOGITS].shape.extent[0];
    const int64_t epoch =
        head->gamma.by_epoch ? ((const int64_t *)call->in[HEAD_CLOCK].data)[CLOCK_EPOCH] : 0;
    const float *weight = call->in[HEAD_WEIGHT].data;
#pragma omp parallel for schedule(static) num_threads(layout->threads)
    for (int64_t n = 0; n < samples; ++n) {
        double *row = (double *)(void *)((char *)layout->rows + omp_get_thread_num() * layout->row_bytes);
        Judged judged;
        const double added = slope != NULL && weight[n] != 0 ? slope[n] * scale / (double)weight[n] : 0;
        layout->losses[n] = take_sample(call, n, epoch, added, with_gradient, row, &judged);
        if (layout->mine != NULL) layout->mine[n] = judged;
    }
}

static void add_up(const Call *call, const Layout *layout)
{
    const int64_t samples = call->in[HEAD_LOGITS].shape.extent[0];
    const float *weight = call->in[HEAD_WEIGHT].data;
    const float *correct = call->out[HEAD_CORRECT].data;
    double *sums = call->out[HEAD_SUMS].data;
    for (int i = 0; i < LOSS_SUMS; ++i)
        sums[i] = 0;
    for (int64_t n = 0; n < samples; ++n) {
        sums[LOSS_SUM] += layout->losses[n];
        sums[LOSS_WEIGHT] += (double)weight[n];
        sums[LOSS_CORRECT] += (double)weight[n] * (double)correct[n];
    }
}

static Status run(const Call *call)
{
    const LossHead *head = call->attributes;
    const Layout layout = lay_out(call);
    const bool with_gradient = call->wanted[HEAD_GRADIENT];
    if (head->penalty == PENALTY_NONE) {
        sweep(call, &layout, NULL, 0, with_gradient);
        add_up(call, &layout);
        return OK;
    }
    sweep(call, &layout, NULL, 0, false);
    add_up(call, &layout);

    const int64_t samples = call->in[HEAD_LOGITS].shape.extent[0];
    Collective *collective = call->collective;
    enum { NUMBERS = sizeof(Judged) / sizeof(double) };
    const Stream stream = device_stream(call->device);
    TRY(collective_gather(collective, (Span){layout.mine, samples * NUMBERS, FLOAT64},
                          (Span){layout.all, samples * NUMBERS * collective->size, FLOAT64}, stream));
    TRY(collective_join(collective, stream));

    const int64_t all = samples * collective->size;
    const double penalty =
        penalty_functions[head->penalty](layout.all, all, head->kernel_width, layout.workspace, layout.slope);
    double *sums = call->out[HEAD_SUMS].data;
    sums[LOSS_SUM] += head->lambda * penalty * sums[LOSS_WEIGHT];
    if (!with_gradient) return OK;
    double total = 0;
    for (int64_t i = 0; i < all; ++i)
        total += layout.all[i].weight;
    sweep(call, &layout, layout.slope + collective->rank * samples, head->lambda * total, true);
    return OK;
}

const Kernel loss_head_cpu = {.prepare = prepare, .run = run};
