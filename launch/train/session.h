/* A network made ready to run: what an experiment names, opened, built, planned. Shared by train and evaluate.
 */
#ifndef PLUMB_LAUNCH_TRAIN_SESSION_H
#define PLUMB_LAUNCH_TRAIN_SESSION_H

#include "comm/comm.h"
#include "engine/data/loader.h"
#include "engine/optim/optimizer.h"
#include "launch/train/experiment.h"
#include "launch/train/program.h"
#include "launch/train/session_device.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/logits.h"

/* A split's batches, and the programs that take them: one for each of the source's shapes. */
typedef struct {
    Source *source; /* NULL: the split is not used */
    Loader *loader;
    int programs;
    Program program[BATCH_MAX_SHAPES]; /* the largest first */
    /* Of evaluation while training: the pass, and the labels, weights and samples of a part in the device's memory. */
    CalibrationPass *calibration;
    int32_t *labels;
    float *weights;
    int64_t *samples;     /* of each row: messages name them */
    int64_t *row_samples; /* the same in host memory, where rows share a sample: tokens of a sentence */
} Feed;

typedef struct TrainingPass TrainingPass; /* launch/train/training_pass.h */

/* What for. Who goes on takes all parameters from a checkpoint: the files of starting values (vectors.file, init) are not read. */
typedef enum { SESSION_EVALUATES, SESSION_TRAINS, SESSION_GOES_ON } SessionUse;

typedef struct {
    World *world;
    Experiment experiment;
    TaskData *data;              /* the experiment's, loaded */
    Collective *host_collective; /* for host memory */
    Device *device;
    Collective *collective; /* for the device's memory */
    Store *store;
    Arena *arena;
    Optimizer *optimizer; /* NULL when only evaluating */
    Feed train;           /* not used when only evaluating */
    Feed evaluate
        [SPLIT_COUNT]; /* validation and test, not for an empty split; training split as evaluation sees it, if wanted */
    TrainingPass *training; /* with that of the training split */
} Session;

/* Opens everything. Every rank calls it; an error on one is an error on all. `profile`: time every node. The config must
 * outlive the session. */
CHECKED Status session_open(World *, const Config *, SessionUse, bool profile, Session *);
/* The same for samples that a user gives: without the data set, of what the folder of the run holds. evaluate[SPLIT_TEST] has the
 * programs of Task.inputs.shapes and no source. The task has inputs. */
CHECKED Status session_open_inputs(World *, const Config *, const char *run, const InputOptions *, Session *);
void session_close(Session *);

/* device_repeat if *record, else enqueue(argument). If the work cannot be recorded and there is one rank, a warning says so,
 * and *record becomes false. */
CHECKED Status session_repeat(Session *, Recording *, Status (*enqueue)(void *argument), void *argument,
                              bool *record);

/* What can be found wrong with a config for training before anything is opened: that there are such a data set, network
 * and loss, that the network takes such samples, that so many ranks can share the batch, that every setting that was set
 * is used. Every rank finds the same. */
CHECKED Status session_check_config(const Config *, int ranks);

/* Runs a part through its program of the feed: logits FLOAT32 [rows, classes], on the host. Not collective. */
CHECKED Status session_part_logits(Session *, Feed *, const BatchPart *, float *logits);

/* Collective. Runs the network on this rank's share of a split, with rank
 * 0's batch statistics, in evaluation mode and without augmentation. `out` refers to *logits (FLOAT32 [count, classes])
 * and *labels, released with free() by the caller. masked: without the classes that the task leaves out. */
CHECKED Status session_logits(Session *, Split, bool masked, Logits *out, float **logits, int32_t **labels);

/* Collective. The same of samples from outside (Task.outside), which have no labels. Their programs are made for this pass: a
 * session that trains calls it when its last step is done. */
CHECKED Status session_outside_logits(Session *, TaskData *outside, Logits *out, float **logits);

/* Rows of a part as the network makes them, in the device's memory until the next part; their labels and weights came with
 * the batch. */
typedef Status TakeRows(void *taker, const LogitRows *, const BatchPart *, const BatchShape *);
/* Collective. The same run, of which nothing is kept: `take` is given the rows of every part of this rank's share. */
CHECKED Status session_stream(Session *, Split, TakeRows *take, void *taker);
/* The most rows of a part of the split. */
int64_t session_most_rows(const Session *, Split);

/* Collective, of a session for training. The same pass, of which only the calibration at temperature 1 is kept: the
 * logits stay where the device makes them. */
CHECKED Status session_calibration(Session *, Split, Calibration *);

/* A pass over rows, and where what it finds is to go. */
typedef struct {
    CalibrationPass *pass;
    Calibration *result;
} SessionCalibration;
/* Collective. The same of several passes at once, or none; `take`, if not NULL, is given the rows, too. */
CHECKED Status session_calibrations(Session *, Split, const SessionCalibration wanted[], int count,
                                    TakeRows *take, void *taker);
/* A pass for the rows of a split, in so many bins. */
CHECKED Status session_open_calibration(const Session *, Split, int bins, CalibrationPass **);

/* Collective. The Euclidean norm of the weights of the network's last linear layer; NaN if it has none. */
CHECKED Status session_weight_norm(Session *, double *norm);

#endif
