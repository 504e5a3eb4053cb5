#include "launch/report/paper_published.h"

#include "launch/report/paper_runs.h"

#include <math.h>
#include <stddef.h>

const char published_source[] =
    "Published numbers: test error, ECE and T on CIFAR-10 from the tables in the README of the paper's code "
    "(torrvision/focal_calibration); "
    "the best BLEUs from the text of appendix K. The paper's other tables are not at hand as numbers.";

typedef struct {
    int subject, loss;
    double error, ece, ece_after, temperature; /* percent; 15 bins; T by ECE on the validation split */
} Published;

/* clang-format off */
static const Published published[] = {
    {PAPER_CIFAR10_RESNET50, PAPER_CROSS_ENTROPY, 4.95, 4.35, 1.35, 2.5},
    {PAPER_CIFAR10_RESNET50, PAPER_BRIER, 5, 1.82, 1.08, 1.1},
    {PAPER_CIFAR10_RESNET50, PAPER_MMCE, 4.99, 4.56, 1.19, 2.6},
    {PAPER_CIFAR10_RESNET50, PAPER_LABEL_SMOOTHING, 5.29, 2.96, 1.67, 0.9},
    {PAPER_CIFAR10_RESNET50, PAPER_FOCAL_3, 5.25, 1.48, 1.42, 1.1},
    {PAPER_CIFAR10_RESNET50, PAPER_FLSD_53, 4.98, 1.55, 0.95, 1.1},
    {PAPER_CIFAR10_RESNET110, PAPER_CROSS_ENTROPY, 4.89, 4.41, 1.09, 2.8},
    {PAPER_CIFAR10_RESNET110, PAPER_BRIER, 5.48, 2.56, 1.25, 1.2},
    {PAPER_CIFAR10_RESNET110, PAPER_MMCE, 5.4, 5.08, 1.42, 2.8},
    {PAPER_CIFAR10_RESNET110, PAPER_LABEL_SMOOTHING, 5.52, 2.09, 2.09, 1.0},
    {PAPER_CIFAR10_RESNET110, PAPER_FOCAL_3, 5.08, 1.55, 1.02, 1.1},
    {PAPER_CIFAR10_RESNET110, PAPER_FLSD_53, 5.42, 1.87, 1.07, 1.1},
    {PAPER_CIFAR10_WIDE_RESNET, PAPER_CROSS_ENTROPY, 3.86, 3.23, 0.92, 2.2},
    {PAPER_CIFAR10_WIDE_RESNET, PAPER_BRIER, 4.08, 1.25, 1.25, 1.0},
    {PAPER_CIFAR10_WIDE_RESNET, PAPER_MMCE, 3.91, 3.29, 0.86, 2.2},
    {PAPER_CIFAR10_WIDE_RESNET, PAPER_LABEL_SMOOTHING, 4.2, 4.26, 1.84, 0.8},
    {PAPER_CIFAR10_WIDE_RESNET, PAPER_FOCAL_3, 4.13, 1.69, 0.97, 0.9},
    {PAPER_CIFAR10_WIDE_RESNET, PAPER_FLSD_53, 4.01, 1.56, 0.84, 0.9},
    {PAPER_CIFAR10_DENSENET, PAPER_CROSS_ENTROPY, 5, 4.52, 1.31, 2.4},
    {PAPER_CIFAR10_DENSENET, PAPER_BRIER, 5.11, 1.53, 1.53, 1.0},
    {PAPER_CIFAR10_DENSENET, PAPER_MMCE, 5.41, 5.1, 1.61, 2.5},
    {PAPER_CIFAR10_DENSENET, PAPER_LABEL_SMOOTHING, 5.09, 1.88, 1.82, 0.9},
    {PAPER_CIFAR10_DENSENET, PAPER_FOCAL_3, 5.33, 1.32, 1.26, 0.9},
    {PAPER_CIFAR10_DENSENET, PAPER_FLSD_53, 5.46, 1.22, 1.22, 1.0},
};
/* clang-format on */

static const Published *find(int subject, int loss)
{
    for (size_t i = 0; i < sizeof published / sizeof published[0]; ++i)
        if (published[i].subject == subject && published[i].loss == loss) return &published[i];
    return NULL;
}

double published_error(int subject, int loss, int stage)
{
    const Published *row = find(subject, loss);
    return row != NULL && stage == EVALUATE_BEFORE ? row->error / 100 : NAN;
}

double published_ece(int subject, int loss, int stage)
{
    const Published *row = find(subject, loss);
    if (row == NULL || stage == EVALUATE_AFTER_NLL) return NAN;
    return (stage == EVALUATE_BEFORE ? row->ece : row->ece_after) / 100;
}

double published_temperature(int subject, int loss)
{
    const Published *row = find(subject, loss);
    return row != NULL ? row->temperature : NAN;
}

double published_bleu(int subject, int loss, int stage)
{
    if (subject != PAPER_WMT14 || stage != EVALUATE_BEFORE) return NAN;
    return loss == PAPER_CROSS_ENTROPY        ? 26.33
           : loss == PAPER_LABEL_SMOOTHING_10 ? 26.36
           : loss == PAPER_FOCAL_1            ? 26.39
                                              : NAN;
}
