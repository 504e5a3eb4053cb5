/* What is known of a network after an epoch: a line for people, a line of metrics.jsonl. */
#ifndef PLUMB_LAUNCH_TRAIN_EPOCH_METRICS_H
#define PLUMB_LAUNCH_TRAIN_EPOCH_METRICS_H

#include "launch/train/session.h"
#include "losses/calibration/calibration.h"

typedef struct {
    double epoch; /* done; with a fraction in the course of one */
    int64_t step; /* done */
    double learning_rate, train_loss, train_error, gradient_norm;
    double seconds, rate;
    const char *rate_name, *unit; /* "samples_per_second", "images"; constants */
    bool has[SPLIT_COUNT];        /* which splits were measured */
    Calibration split[SPLIT_COUNT];
    double bleu; /* of the validation split's translations; NaN: they were not made */
} EpochMetrics;

/* Evaluates the validation and test splits as they are now, and the training split where the config wants it. Collective. */
CHECKED Status epoch_metrics_measure(Session *, EpochMetrics *);
void epoch_metrics_print(const EpochMetrics *, int64_t epochs);
/* {"epoch":..,"step":..,"train":{"loss","error"},"train_split":{..},"validation":{..},"test":{..}}; release with
 * free(). */
CHECKED Status epoch_metrics_json(const EpochMetrics *, char **line);

#endif
