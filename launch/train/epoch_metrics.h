/* What is known of a network after an epoch: a line for people, a line of metrics.jsonl. */
#ifndef PLUMB_LAUNCH_TRAIN_EPOCH_METRICS_H
#define PLUMB_LAUNCH_TRAIN_EPOCH_METRICS_H

#include "launch/train/training_pass.h"

typedef struct {
    double epoch; /* done; with a fraction in the course of one */
    int64_t step; /* done */
    double learning_rate, train_loss, train_error, gradient_norm;
    double seconds, rate;
    const char *rate_name, *unit; /* "samples_per_second", "images"; constants */
    bool has[SPLIT_COUNT];        /* which splits were measured */
    Calibration split[SPLIT_COUNT];
    double bleu; /* of the validation split's translations; NaN: they were not made */
    bool
        has_norms; /* evaluate.norms: of the last linear layer's weights, and with the training split the others */
    double weight_norm;
    TrainingMeasures training;
} EpochMetrics;

/* When. */
typedef struct {
    bool evaluated;  /* the splits are to be evaluated */
    int64_t epoch;   /* counted from 0, of the last step */
    bool epoch_ends; /* and that was the epoch's last */
} EpochMoment;

/* Measures the network as it is: the weights; the validation and test splits, and the training split where the config wants it. Collective. */
CHECKED Status epoch_metrics_measure(Session *, EpochMoment, EpochMetrics *);
void epoch_metrics_print(const EpochMetrics *, int64_t epochs);
/* {"epoch":..,"step":..,"train":{"loss","error"},"train_split":{..},"validation":{..},"test":{..},
 * "norms":{"weights","features","logits"}}; release with free(). */
CHECKED Status epoch_metrics_json(const EpochMetrics *, char **line);

#endif
