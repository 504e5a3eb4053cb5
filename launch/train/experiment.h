/* An experiment: everything that a config says of a run, read once. The check of a sweep and the run itself read it
 * through the same function, so that what the one accepts the other understands. */
#ifndef PLUMB_LAUNCH_TRAIN_EXPERIMENT_H
#define PLUMB_LAUNCH_TRAIN_EXPERIMENT_H

#include "comm/comm.h"
#include "engine/base/config.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/plan.h"
#include "launch/evaluate/ood_sets.h"
#include "launch/tasks/task.h"
#include "launch/train/measures.h"
#include "losses/loss.h"
#include "models/model.h"

typedef enum { DEVICE_WISH_AUTO, DEVICE_WISH_CPU, DEVICE_WISH_CUDA } DeviceWish;

/* Numbers of epochs, counted from 1; the config's. */
typedef struct {
    const int64_t *epoch;
    int count;
} EpochList;

typedef struct Experiment {
    const Config *config; /* for errors that name a setting's place */
    TaskData *data;       /* described; owned */
    ModelOptions model;
    LossOptions loss;

    uint64_t seed;
    DType compute;
    bool fuse;   /* chains of nodes (plan.fuse) */
    bool record; /* a step, once, to be launched as one (graph) */

    bool trains; /* else what was trained is used */
    DeviceWish device;
    int threads; /* 0: this rank's share of the host */
    bool share_gpus;
    DeviceNumerics numerics;
    CommOptions comm;
    PlanOptions plan;

    int64_t epochs, steps;       /* of training: what is reached first; INT64_MAX: no limit */
    const char *init;            /* file of starting weights; "": none */
    const char *init_parameters; /* pattern of those that are taken from it; "": all */
    OptimizerOptions optimizer;
    OptimizerGroup *groups; /* those of the optimizer; owned */
    Schedule schedule;      /* total_steps is for the trainer to set */

    struct {
        int64_t every;                               /* epochs; 0: only at the end */
        bool train;                                  /* the training split, too */
        int64_t train_every;                         /* epochs */
        int64_t every_steps;                         /* 0: only at the ends of epochs */
        bool norms;                                  /* of the last linear layer */
        EpochList gradient_norms, train_reliability; /* after which epochs these are measured */
        bool best_models;                            /* at the end, those of checkpoint.best */
        int bins;
        int64_t bootstrap;
        struct {
            bool wanted; /* of the validation split, at evaluations */
            bool greedy; /* else by beam search */
            int beam;
            int64_t every; /* evaluations */
        } bleu;
        OodChoices ood; /* at the end; their texts are the config's */
    } evaluate;
    struct {
        int64_t epochs;
        double minutes;
        int64_t keep, keep_steps, keep_last;
        const Measure *best[MEASURES_MOST]; /* of the validation split: by each the best model is kept */
        int best_count;
    } checkpoint;
    struct {
        int64_t patience;       /* evaluations; 0: training does not end early */
        const Measure *measure; /* of the validation split */
    } early_stop;
} Experiment;

/* Reads all settings that a run of this config uses, and no others: config_check_all_read then finds those that have no
 * effect. Opens nothing. STATUS_INPUT names file and line. Release with experiment_free, also after an error. */
CHECKED Status experiment_read(const Config *, TaskShare, Experiment *);
void experiment_free(Experiment *);

/* Are the norms of the last linear layer's inputs ever wanted of the training split? */
bool experiment_wants_norms(const Experiment *);

/* That the file of starting weights, if there is to be one, is there and is such a file. */
CHECKED Status experiment_check_init(const Experiment *);

#endif
