/* A network made ready to run: what the config names, opened, built, planned. Shared by train and evaluate.
 */
#ifndef PLUMB_LAUNCH_TRAIN_SESSION_H
#define PLUMB_LAUNCH_TRAIN_SESSION_H

#include "comm/comm.h"
#include "engine/base/config.h"
#include "engine/data/images/dataset.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/plan.h"
#include "launch/train/pixels.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/logits.h"
#include "losses/loss.h"
#include "models/model.h"

/* One graph with its plan and the values the loop touches. */
typedef struct {
    Graph *graph;
    Plan *plan;
    Value table, index, crop, target, weight, clock; /* inputs; target and weight only for training */
    Value logits, sums;                              /* kept results; sums only for training */
    int64_t batch;                                   /* samples of this rank in one run */
    int fused;
    Recording recording;          /* of evaluation */
    CalibrationPass *calibration; /* of evaluation while training */
    int32_t *labels;              /* of this rank's share, in the device's memory, for it */
} Step;

typedef struct {
    World *world;
    const Config *config;
    Collective *host; /* for host memory */
    Device *device;
    Collective *collective; /* for the device's memory */
    Dataset *dataset;
    Pixels *pixels;
    ModelOptions model;
    LossOptions loss;
    Store *store;
    Arena *arena;
    Optimizer *optimizer;       /* NULL when only evaluating */
    Step train;                 /* no plan when only evaluating */
    Step evaluate[SPLIT_COUNT]; /* validation and test; no plan for an empty split */
    int micro_batches;
} Session;

/* Opens everything. Every rank calls it; an error on one is an error on all. `profile`: time every node. */
CHECKED Status session_open(World *, const Config *, bool training, bool profile, Session *);
void session_close(Session *);

/* What can be said of a config for training without its data and a device: that there are such a data set, network
 * and loss, that the network takes such images, that the loss's settings fit, that so many ranks can share the
 * batch. Reads all settings that session_open reads for training, and no others. */
CHECKED Status session_check_config(const Config *, int ranks);

/* The data set that a config describes. */
DatasetOptions session_dataset_options(const Config *);
CHECKED Status session_open_dataset(const Config *, Dataset **);
/* That the file of starting weights, if there is to be one, is there and is such a file. */
CHECKED Status session_check_init(const Config *);

/* Collective. Runs the network on this rank's share of a split, with rank 0's batch statistics, in evaluation
 * mode and without augmentation. `out` refers to *logits (FLOAT32 [count, classes]) and *labels, released
 * with free() by the caller. */
CHECKED Status session_logits(Session *, Split, Logits *out, float **logits, int32_t **labels);

/* Collective, of a session for training. The same pass, of which only the calibration at temperature 1 is kept: the
 * logits stay where the device makes them. */
CHECKED Status session_calibration(Session *, Split, Calibration *);

#endif
