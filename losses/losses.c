/* The table of losses. */
#include "losses/loss.h"
#include "losses/loss_head.h"

#include <string.h>

/* Appends a head whose settings may be wrong: then the error sticks to the graph. */
static Value build_head(Graph *graph, Status status, Value logits, Value target, Value weight,
                        const LossHead *head)
{
    if (status == OK) return loss_head(graph, logits, target, weight, head);
    graph_fail(graph, status_code(status), "%s", status_message(status));
    status_free(status);
    return NO_VALUE;
}

static Value build_cross_entropy(Graph *graph, const Config *config, Value logits, Value target, Value weight)
{
    (void)config;
    return loss_head(graph, logits, target, weight, &(LossHead){.form = SAMPLE_LABEL_SMOOTHING});
}

static Value build_label_smoothing(Graph *graph, const Config *config, Value logits, Value target,
                                   Value weight)
{
    const LossHead head = {.form = SAMPLE_LABEL_SMOOTHING,
                           .alpha = config_real(config, "loss.alpha"),
                           .uniform = strcmp(config_text(config, "loss.form"), "uniform") == 0};
    return loss_head(graph, logits, target, weight, &head);
}

static Value build_brier(Graph *graph, const Config *config, Value logits, Value target, Value weight)
{
    (void)config;
    return loss_head(graph, logits, target, weight, &(LossHead){.form = SAMPLE_BRIER});
}

static Value build_focal(Graph *graph, const Config *config, Value logits, Value target, Value weight)
{
    LossHead head = {.form = SAMPLE_FOCAL};
    Status status = gamma_read(config, &head.gamma);
    return build_head(graph, status, logits, target, weight, &head);
}

static Status check_focal(const Config *config)
{
    GammaPolicy policy;
    return gamma_read(config, &policy);
}

static Value build_penalty(Graph *graph, const Config *config, Value logits, Value target, Value weight,
                           PenaltyForm penalty)
{
    const LossHead head = {.form = SAMPLE_LABEL_SMOOTHING,
                           .penalty = penalty,
                           .lambda = config_real(config, "loss.lambda"),
                           .kernel_width = config_real(config, "loss.kernel_width")};
    return loss_head(graph, logits, target, weight, &head);
}

static Value build_mmce(Graph *graph, const Config *config, Value logits, Value target, Value weight)
{
    return build_penalty(graph, config, logits, target, weight, PENALTY_MMCE);
}

static Value build_mmce_weighted(Graph *graph, const Config *config, Value logits, Value target, Value weight)
{
    return build_penalty(graph, config, logits, target, weight, PENALTY_MMCE_WEIGHTED);
}

/* The published code divides only Brier by the batch; MMCE it multiplies by the batch, which the head does.
 */
static const Loss losses[] = {
    {"cross_entropy", "-log p of the true class", REDUCTION_SUM, build_cross_entropy, NULL},
    {"label_smoothing", "cross-entropy with a share alpha of the label given to the other classes",
     REDUCTION_SUM, build_label_smoothing, NULL},
    {"brier", "squared distance of the probabilities from the one-hot label", REDUCTION_MEAN, build_brier,
     NULL},
    {"focal", "(1-p)^gamma times cross-entropy; gamma fixed, by epoch, by sample or from a threshold",
     REDUCTION_SUM, build_focal, check_focal},
    {"mmce", "cross-entropy with lambda times the maximum mean calibration error of the batch", REDUCTION_SUM,
     build_mmce, NULL},
    {"mmce_weighted", "the same, right and wrong samples weighted alike", REDUCTION_SUM, build_mmce_weighted,
     NULL},
};
enum { LOSSES = sizeof losses / sizeof losses[0] };

const Loss *losses_table(int *count)
{
    *count = LOSSES;
    return losses;
}

Status loss_find(const Config *config, const Loss **loss)
{
    const char *name = config_text(config, "loss.name");
    const char *known[LOSSES];
    for (int i = 0; i < LOSSES; ++i) {
        known[i] = losses[i].name;
        if (strcmp(name, losses[i].name) != 0) continue;
        *loss = &losses[i];
        return OK;
    }
    *loss = NULL;
    const char *nearest = config_nearest(name, known, LOSSES);
    if (nearest != NULL)
        return config_error(config, "loss.name", "there is no loss \"%s\"; did you mean \"%s\"?", name,
                            nearest);
    return config_error(config, "loss.name", "there is no loss \"%s\" (see plumb list losses)", name);
}

Reduction loss_reduction(const Loss *loss, const Config *config)
{
    const char *reduction = config_text(config, "loss.reduction");
    if (strcmp(reduction, "sum") == 0) return REDUCTION_SUM;
    if (strcmp(reduction, "mean") == 0) return REDUCTION_MEAN;
    return loss->reduction;
}
