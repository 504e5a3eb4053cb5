/* A row is taken while it is in cache. A penalty needs the confidences of the whole batch before any gradient: then rows
 * are gone through twice. */
#include "losses/loss_rows.h"

#include <string.h>

static Status prepare(Call *call, size_t *scratch_bytes)
{
    const Shape logits = call->in[HEAD_LOGITS].shape;
    *scratch_bytes = loss_scratch(call, call->attributes, logits.extent[0], logits.extent[1]).bytes;
    return OK;
}

/* One sample: its outputs, and its weighted loss. */
static double take_sample(const Call *call, const LossRows *rows, int64_t n, double slope, bool with_gradient,
                          double row[], Judged *judged)
{
    const int64_t classes = rows->classes;
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
    const int32_t target = ((const int32_t *)call->in[HEAD_TARGET].data)[n];
    const RowLoss loss = loss_row(rows, target, weight, slope, with_gradient, row);
    *confidence = loss.confidence;
    *correct = loss.correct;
    *judged = loss.judged;
    for (int64_t k = 0; k < classes && gradient != NULL; ++k)
        gradient[k] = (float)row[k];
    return loss.loss;
}

/* All samples of this rank. slope [N]: d penalty / d confidence, times `scale`; NULL: no penalty (yet). */
static void sweep(const Call *call, const LossScratch *layout, const double slope[], double scale,
                  bool with_gradient)
{
    const LossHead *head = call->attributes;
    const int64_t samples = call->in[HEAD_LOGITS].shape.extent[0];
    const LossRows rows = {
        .head = head,
        .classes = call->in[HEAD_LOGITS].shape.extent[1],
        .epoch = head->gamma.by_epoch ? ((const int64_t *)call->in[HEAD_CLOCK].data)[CLOCK_EPOCH] : 0};
    const float *weight = call->in[HEAD_WEIGHT].data;
#pragma omp parallel for schedule(static) num_threads(layout->threads)
    for (int64_t n = 0; n < samples; ++n) {
        Judged judged;
        const double added = slope != NULL && weight[n] != 0 ? slope[n] * scale / (double)weight[n] : 0;
        layout->losses[n] =
            take_sample(call, &rows, n, added, with_gradient, loss_scratch_row(layout), &judged);
        if (layout->mine != NULL) layout->mine[n] = judged;
    }
}

static Status run(const Call *call)
{
    const LossHead *head = call->attributes;
    const Shape logits = call->in[HEAD_LOGITS].shape;
    const int64_t samples = logits.extent[0];
    const LossScratch layout = loss_scratch(call, head, samples, logits.extent[1]);
    const bool penalty = head->penalty != PENALTY_NONE, with_gradient = call->wanted[HEAD_GRADIENT];
    double *sums = call->out[HEAD_SUMS].data, scale;
    const double *slope;
    sweep(call, &layout, NULL, 0, with_gradient && !penalty);
    loss_add_up(&layout, call->in[HEAD_WEIGHT].data, call->out[HEAD_CORRECT].data, samples, sums);
    if (!penalty) return OK;
    TRY(loss_penalty(call, head, &layout, samples, sums, &slope, &scale));
    if (with_gradient) sweep(call, &layout, slope, scale, true);
    return OK;
}

const Kernel loss_head_cpu = {.prepare = prepare, .run = run};
