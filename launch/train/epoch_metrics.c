#include "launch/train/epoch_metrics.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/runs/run_summary.h"

#include <cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* "train" is what the steps of the epoch found, each with the network of its moment. */
static const char *epoch_split_name(Split split)
{
    return split == SPLIT_TRAIN ? EPOCH_TRAIN_SPLIT : split_name(split);
}

Status epoch_metrics_measure(Session *session, EpochMetrics *metrics)
{
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        if (session->evaluate[split].source == NULL) continue;
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

/* Numbers of full precision; JSON has no NaN, so what has no value is null. */
static void add_number(cJSON *object, const char *name, double value)
{
    char text[40];
    if (isfinite(value))
        (void)snprintf(text, sizeof text, "%.17g", value);
    else
        (void)snprintf(text, sizeof text, "null");
    cJSON_AddRawToObject(object, name, text);
}

Status epoch_metrics_json(const EpochMetrics *metrics, char **line)
{
    cJSON *object = cJSON_CreateObject();
    add_number(object, "epoch", metrics->epoch);
    add_number(object, "step", (double)metrics->step);
    add_number(object, "learning_rate", metrics->learning_rate);
    add_number(object, "gradient_norm", metrics->gradient_norm);
    cJSON *train = cJSON_AddObjectToObject(object, "train");
    add_number(train, "loss", metrics->train_loss);
    add_number(train, "error", metrics->train_error);
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        if (!metrics->has[split]) continue;
        const Calibration *c = &metrics->split[split];
        cJSON *part = cJSON_AddObjectToObject(object, epoch_split_name((Split)split));
        add_number(part, "error", c->error);
        add_number(part, "nll", c->nll);
        add_number(part, "nll_correct", c->nll_correct);
        add_number(part, "nll_misclassified", c->nll_misclassified);
        add_number(part, "ece", c->ece);
        add_number(part, "ada_ece", calibration_has_ada_ece(c) ? c->ada_ece : NAN);
        if (!calibration_has_ada_ece(
                c)) /* says nothing of samples whose confidences are equal: calibration.h */
            add_number(part, "ada_ece_left_out", (double)c->ada_ece_left_out / (double)c->samples);
        add_number(part, "classwise_ece", c->classwise_ece);
        add_number(part, "mce", c->mce);
        add_number(part, "brier", c->brier);
        add_number(part, "mean_confidence", c->mean_confidence);
        add_number(part, "mean_entropy", c->mean_entropy);
        add_number(part, "entropy_correct", c->entropy_correct);
        add_number(part, "entropy_misclassified", c->entropy_misclassified);
        if (split == SPLIT_VALIDATION && !isnan(metrics->bleu)) add_number(part, "bleu", metrics->bleu);
    }
    add_number(object, "seconds", metrics->seconds);
    add_number(object, metrics->rate_name, metrics->rate);
    char *text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    if (text == NULL) return fail(STATUS_MEMORY, "no memory for a line of metrics");
    Status status = text_copy(text, line);
    cJSON_free(text);
    return status;
}
