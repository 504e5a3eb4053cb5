#include "tests/loss_set.h"

#include "tests/support.h"

#include <stdlib.h>
#include <string.h>

void *loss_allocate(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    assert_non_null(memory);
    return memory;
}

LossSet loss_set_new(int64_t samples, int64_t classes)
{
    return (LossSet){samples, classes, loss_allocate(samples * classes, sizeof(double)),
                     loss_allocate(samples, sizeof(int64_t))};
}

void loss_set_free(LossSet *set)
{
    free(set->logits);
    free(set->labels);
}

static SampleLoss sample_loss(const Sample *sample, const LossHead *head, int64_t epoch)
{
    if (head->form == SAMPLE_BRIER) return sample_brier(sample);
    if (head->form == SAMPLE_FOCAL)
        return sample_focal(sample, gamma_choose(&head->gamma, sample->probability, epoch));
    return sample_label_smoothing(sample, head->uniform ? smoothing_uniform(head->alpha, sample->classes)
                                                        : smoothing_paper(head->alpha, sample->classes));
}

double loss_set_evaluate(const LossSet *set, const LossHead *head, bool alone, int64_t epoch,
                         double *gradient)
{
    const int64_t samples = set->samples, classes = set->classes;
    Judged *judged = loss_allocate(samples, sizeof *judged);
    double *row = loss_allocate(classes, sizeof *row), *slope = loss_allocate(samples, sizeof *slope);
    double value = 0, scale = 0;
    for (int64_t n = 0; n < samples; ++n) {
        memcpy(row, set->logits + n * classes, (size_t)classes * sizeof *row);
        const Sample sample = sample_softmax(row, classes, set->labels[n]);
        judged[n] = (Judged){sample.confidence, sample.correct, 1};
        if (!alone) value += sample_loss(&sample, head, epoch).value;
    }
    if (head->penalty != PENALTY_NONE) {
        void *workspace = loss_allocate((int64_t)mmce_workspace(samples), 1);
        scale = alone ? head->lambda : head->lambda * (double)samples;
        value += scale * (head->penalty == PENALTY_MMCE ? mmce : mmce_weighted)(
                             judged, samples, head->kernel_width, workspace, slope);
        free(workspace);
    }
    for (int64_t n = 0; gradient != NULL && n < samples; ++n) {
        double *d = gradient + n * classes;
        memcpy(d, set->logits + n * classes, (size_t)classes * sizeof *d);
        const Sample sample = sample_softmax(d, classes, set->labels[n]);
        SampleLoss loss = {0};
        if (!alone) loss = sample_loss(&sample, head, epoch);
        if (head->penalty != PENALTY_NONE) sample_couple(&sample, scale * slope[n], &loss);
        sample_gradient(&sample, &loss, 1, d);
    }
    free(slope);
    free(row);
    free(judged);
    return value;
}
