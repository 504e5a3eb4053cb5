/* The table of losses. */
#include "losses/loss.h"

#include <string.h>

static Status read_label_smoothing(const Config *config, LossHead *head)
{
    head->alpha = config_real(config, "loss.alpha");
    head->uniform = strcmp(config_text(config, "loss.form"), "uniform") == 0;
    return OK;
}

static Status read_focal(const Config *config, LossHead *head) { return gamma_read(config, &head->gamma); }

static Status read_penalty(const Config *config, LossHead *head)
{
    head->lambda = config_real(config, "loss.lambda");
    head->kernel_width = config_real(config, "loss.kernel_width");
    return OK;
}

/* The published code divides only Brier by the batch; MMCE it multiplies by the batch, which the head does.
 */
static const Loss losses[] = {
    {"cross_entropy", "-log p of the true class", REDUCTION_SUM, NULL, {.form = SAMPLE_LABEL_SMOOTHING}},
    {"label_smoothing",
     "cross-entropy with a share alpha of the label given to the other classes",
     REDUCTION_SUM,
     read_label_smoothing,
     {.form = SAMPLE_LABEL_SMOOTHING}},
    {"brier",
     "squared distance of the probabilities from the one-hot label",
     REDUCTION_MEAN,
     NULL,
     {.form = SAMPLE_BRIER}},
    {"focal",
     "(1-p)^gamma times cross-entropy; gamma fixed, by epoch, by sample or from a threshold",
     REDUCTION_SUM,
     read_focal,
     {.form = SAMPLE_FOCAL}},
    {"mmce",
     "cross-entropy with lambda times the maximum mean calibration error of the batch",
     REDUCTION_SUM,
     read_penalty,
     {.form = SAMPLE_LABEL_SMOOTHING, .penalty = PENALTY_MMCE}},
    {"mmce_weighted",
     "the same, right and wrong samples weighted alike",
     REDUCTION_SUM,
     read_penalty,
     {.form = SAMPLE_LABEL_SMOOTHING, .penalty = PENALTY_MMCE_WEIGHTED}},
};
enum { LOSSES = sizeof losses / sizeof losses[0] };

const Loss *losses_table(int *count)
{
    *count = LOSSES;
    return losses;
}

static Reduction read_reduction(const Config *config, const Loss *loss)
{
    const char *reduction = config_text(config, "loss.reduction");
    if (strcmp(reduction, "sum") == 0) return REDUCTION_SUM;
    if (strcmp(reduction, "mean") == 0) return REDUCTION_MEAN;
    return loss->reduction;
}

Status loss_read(const Config *config, LossOptions *options)
{
    const char *known[LOSSES];
    int index;
    *options = (LossOptions){.loss = NULL};
    for (int i = 0; i < LOSSES; ++i)
        known[i] = losses[i].name;
    TRY(config_choose(config, "loss.name", "loss", "plumb list losses", known, LOSSES, &index));
    options->loss = &losses[index];
    options->head = options->loss->head;
    options->reduction = read_reduction(config, options->loss);
    return options->loss->read != NULL ? options->loss->read(config, &options->head) : OK;
}

Value loss_build(Graph *graph, const LossOptions *options, Value logits, Value target, Value weight)
{
    return loss_head(graph, logits, target, weight, &options->head);
}
