#include "losses/loss_rows.h"

#include "engine/device/collective.h"
#include "losses/sample_loss.h"

#include <omp.h>

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

SampleLoss loss_head_sample(const Sample *sample, const LossHead *head, int64_t epoch)
{
    return sample_functions[head->form](sample, head, epoch);
}

typedef double (*PenaltyFunction)(const Judged[], int64_t, double width, void *workspace, double gradient[]);

static const PenaltyFunction penalty_functions[] = {
    [PENALTY_NONE] = NULL, [PENALTY_MMCE] = mmce, [PENALTY_MMCE_WEIGHTED] = mmce_weighted};

/* ---- rows ---- */

RowLoss loss_row(const LossRows *rows, int32_t target, double weight, double slope, bool with_gradient,
                 double row[])
{
    const Sample sample = sample_softmax(row, rows->classes, target);
    SampleLoss loss = sample_functions[rows->head->form](&sample, rows->head, rows->epoch);
    const double value = weight * loss.value;
    if (with_gradient) {
        if (slope != 0) sample_couple(&sample, slope, &loss);
        sample_gradient(&sample, &loss, weight, row);
    }
    return (RowLoss){.loss = value,
                     .confidence = (float)sample.confidence,
                     .correct = sample.correct ? 1 : 0,
                     .judged = {sample.confidence, sample.correct ? 1 : 0, weight}};
}

/* ---- memory ---- */

void *loss_scratch_take(LossScratch *layout, void *scratch, size_t bytes)
{
    enum { LINE = 64 };
    void *part = scratch != NULL ? (char *)scratch + layout->bytes : NULL;
    layout->bytes += (bytes + LINE - 1) / LINE * LINE;
    return part;
}

LossScratch loss_scratch(const Call *call, const LossHead *head, int64_t count, int64_t classes)
{
    const size_t samples = (size_t)count;
    LossScratch layout = {.threads = device_threads(call->device)};
    enum { LANES = 8 };
    layout.row_bytes = (int64_t)(((size_t)classes + LANES - 1) / LANES * LANES * sizeof(double));
    layout.rows =
        loss_scratch_take(&layout, call->scratch, (size_t)layout.threads * (size_t)layout.row_bytes);
    layout.losses = loss_scratch_take(&layout, call->scratch, samples * sizeof(double));
    if (head->penalty == PENALTY_NONE) return layout;
    const size_t all = samples * (size_t)call->collective->size;
    layout.mine = loss_scratch_take(&layout, call->scratch, samples * sizeof(Judged));
    layout.all = loss_scratch_take(&layout, call->scratch, all * sizeof(Judged));
    layout.slope = loss_scratch_take(&layout, call->scratch, all * sizeof(double));
    layout.workspace = loss_scratch_take(&layout, call->scratch, mmce_workspace((int64_t)all));
    return layout;
}

double *loss_scratch_row(const LossScratch *layout)
{
    return (double *)(void *)((char *)layout->rows + omp_get_thread_num() * layout->row_bytes);
}

/* ---- the batch ---- */

void loss_add_up(const LossScratch *layout, const float weight[], const float correct[], int64_t samples,
                 double sums[LOSS_SUMS])
{
    for (int i = 0; i < LOSS_SUMS; ++i)
        sums[i] = 0;
    for (int64_t n = 0; n < samples; ++n) {
        sums[LOSS_SUM] += layout->losses[n];
        sums[LOSS_WEIGHT] += (double)weight[n];
        sums[LOSS_CORRECT] += (double)weight[n] * (double)correct[n];
    }
}

Status loss_penalty(const Call *call, const LossHead *head, const LossScratch *layout, int64_t samples,
                    double sums[LOSS_SUMS], const double **own_slope, double *scale)
{
    Collective *collective = call->collective;
    enum { NUMBERS = sizeof(Judged) / sizeof(double) };
    const Stream stream = device_stream(call->device);
    TRY(collective_gather(collective, (Span){layout->mine, samples * NUMBERS, FLOAT64},
                          (Span){layout->all, samples * NUMBERS * collective->size, FLOAT64}, stream));
    TRY(collective_join(collective, stream));
    const int64_t all = samples * collective->size;
    const double penalty = penalty_functions[head->penalty](layout->all, all, head->kernel_width,
                                                            layout->workspace, layout->slope);
    sums[LOSS_SUM] += head->lambda * penalty * sums[LOSS_WEIGHT];
    double total = 0;
    for (int64_t i = 0; i < all; ++i)
        total += layout->all[i].weight;
    *own_slope = layout->slope + collective->rank * samples;
    *scale = head->lambda * total;
    return OK;
}
