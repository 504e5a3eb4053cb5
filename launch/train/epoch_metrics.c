#include "launch/train/epoch_metrics.h"

#include "engine/base/log.h"
#include "launch/runs/json_file.h"
#include "launch/runs/run_summary.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* "train" is what the steps of the epoch found, each with the network of its moment. */
static const char *epoch_split_name(Split split)
{
    return split == SPLIT_TRAIN ? EPOCH_TRAIN_SPLIT : split_name(split);
}

static Status measure_training_split(Session *session, EpochMoment moment, EpochMetrics *metrics)
{
    const TrainingWishes wishes =
        training_wishes(&session->experiment, moment.evaluated, moment.epoch_ends ? moment.epoch + 1 : 0);
    if (!training_wishes_any(&wishes)) return OK;
    TRY(training_pass_measure(session, &wishes, moment.epoch, &metrics->training));
    metrics->has[SPLIT_TRAIN] = wishes.calibration;
    if (wishes.calibration) metrics->split[SPLIT_TRAIN] = metrics->training.calibration;
    return OK;
}

Status epoch_metrics_measure(Session *session, EpochMoment moment, EpochMetrics *metrics)
{
    metrics->has_norms = session->experiment.evaluate.norms;
    if (metrics->has_norms) TRY(session_weight_norm(session, &metrics->weight_norm));
    TRY(measure_training_split(session, moment, metrics));
    for (int split = 0; split < SPLIT_COUNT && moment.evaluated; ++split) {
        if (split == SPLIT_TRAIN || session->evaluate[split].source == NULL) continue;
        TRY(session_calibration(session, (Split)split, &metrics->split[split]));
        metrics->has[split] = true;
    }
    return OK;
}

void epoch_metrics_print(const EpochMetrics *metrics, int64_t epochs)
{
    char text[400];
    int used = snprintf(text, sizeof text, "epoch %.6g/%" PRId64 ": train loss %.4f error %.2f %%",
                        metrics->epoch, epochs, metrics->train_loss, 100 * metrics->train_error);
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        if (split == SPLIT_TRAIN || !metrics->has[split] || used < 0 || used >= (int)sizeof text) continue;
        const Calibration *c = &metrics->split[split];
        used += snprintf(text + used, sizeof text - (size_t)used, " | %s error %.2f %% NLL %.4f ECE %.2f %%",
                         split_name((Split)split), 100 * c->error, c->nll, 100 * c->ece);
    }
    if (!isnan(metrics->bleu) && used >= 0 && used < (int)sizeof text)
        (void)snprintf(text + used, sizeof text - (size_t)used, " | validation BLEU %.2f", metrics->bleu);
    log_info("%s | %.1f s, %.0f %s/s", text, metrics->seconds, metrics->rate, metrics->unit);
}

static void add_norms(cJSON *object, const EpochMetrics *metrics)
{
    const TrainingMeasures *training = &metrics->training;
    cJSON *norms = cJSON_AddObjectToObject(object, "norms");
    json_add_number(norms, "weights", metrics->weight_norm);
    if (!training->has.norms) return;
    json_add_number(norms, "features", norm_sums_mean(&training->norms, NORM_FEATURES));
    json_add_number(norms, "logits", norm_sums_mean(&training->norms, NORM_LOGITS));
}

Status epoch_metrics_json(const EpochMetrics *metrics, char **line)
{
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "epoch", metrics->epoch);
    json_add_number(object, "step", (double)metrics->step);
    json_add_number(object, "learning_rate", metrics->learning_rate);
    json_add_number(object, "gradient_norm", metrics->gradient_norm);
    cJSON *train = cJSON_AddObjectToObject(object, "train");
    json_add_number(train, "loss", metrics->train_loss);
    json_add_number(train, "error", metrics->train_error);
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        if (!metrics->has[split]) continue;
        const Calibration *c = &metrics->split[split];
        cJSON *part = cJSON_AddObjectToObject(object, epoch_split_name((Split)split));
        json_add_number(part, "error", c->error);
        json_add_number(part, "nll", c->nll);
        json_add_number(part, "nll_correct", c->nll_correct);
        json_add_number(part, "nll_misclassified", c->nll_misclassified);
        json_add_number(part, "ece", c->ece);
        json_add_number(part, "ada_ece", calibration_has_ada_ece(c) ? c->ada_ece : NAN);
        if (!calibration_has_ada_ece(
                c)) /* says nothing of samples whose confidences are equal: calibration.h */
            json_add_number(part, "ada_ece_left_out", (double)c->ada_ece_left_out / (double)c->samples);
        json_add_number(part, "classwise_ece", c->classwise_ece);
        json_add_number(part, "mce", c->mce);
        json_add_number(part, "brier", c->brier);
        json_add_number(part, "mean_confidence", c->mean_confidence);
        json_add_number(part, "mean_entropy", c->mean_entropy);
        json_add_number(part, "entropy_correct", c->entropy_correct);
        json_add_number(part, "entropy_misclassified", c->entropy_misclassified);
        if (split == SPLIT_VALIDATION && !isnan(metrics->bleu)) json_add_number(part, "bleu", metrics->bleu);
    }
    if (metrics->has_norms) add_norms(object, metrics);
    json_add_number(object, "seconds", metrics->seconds);
    json_add_number(object, metrics->rate_name, metrics->rate);
    return json_line(object, "a line of metrics", line);
}
