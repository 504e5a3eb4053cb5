/* A run's checkpoints: when they are worth their time, what is in them, and going on from the newest. All is
 * collective; rank 0 writes, every rank reads. */
#ifndef PLUMB_LAUNCH_TRAIN_SAVER_H
#define PLUMB_LAUNCH_TRAIN_SAVER_H

#include "engine/plan/checkpoint.h"
#include "launch/runs/run_folder.h"
#include "launch/train/session.h"

/* How far training is: everything that a checkpoint must hold beside the store, for the same bits after a resume. */
typedef struct {
    int64_t step;           /* steps done */
    int64_t epoch, batch;   /* the next step is this batch of this epoch */
    double sums[LOSS_SUMS]; /* of the epoch so far */
    /* The validation split's best measures so far, those of checkpoint.best; infinite before the first evaluation. */
    double best[MEASURES_MOST];
    /* Of early_stop.measure, and evaluations since. */
    double stop_best;
    int64_t stop_waited;
} Position;

/* A model that is the best, if it is not written yet. */
typedef struct {
    HostCopy *copy; /* rank 0's; several may be one */
    Position position;
} BestModel;

typedef struct {
    Session *session;
    RunFolder *run;
    uint64_t config_hash;
    char restored[64];             /* stem of the checkpoint that it went on from; empty: none */
    int64_t step;                  /* that was saved last, or gone on from */
    double last, needed;           /* when that was, on the progress clock, and how many seconds it took */
    BestModel best[MEASURES_MOST]; /* by each measure of checkpoint.best */
} Saver;

/* Loads a checkpoint (checkpoint_load) of the vocabulary that the session's data have; of another one it is a
 * STATUS_INPUT that says so. Not collective. */
CHECKED Status saver_load(Session *, const char *folder, const char *stem, SafeFile **file);

/* Goes on from the newest checkpoint of the run, if there is one, and sees to it that all ranks have the same
 * parameters. *position: where training is to go on. STATUS_INPUT for a checkpoint that cannot be used. */
CHECKED Status saver_open(Saver *, Session *, RunFolder *, Position *position);
/* Writes the best model if that is still to be done, as after an error that would come again: then nobody would find
 * it again. The error counts, not whether that succeeds. */
void saver_close(Saver *);

CHECKED Status saver_save(Saver *, const Position *);
/* The same at the end of an epoch, but so seldom that it costs a fiftieth of the time at most: an epoch may take a
 * GPU a second, and a file system as long to take the files. */
CHECKED Status saver_save_if_worth_it(Saver *, const Position *);
/* Is it so many minutes since the last time? What rank 0 says counts. 0 minutes: never. */
bool saver_is_overdue(const Saver *, double minutes);

/* The model is the best so far by those measures of checkpoint.best that are marked: it is written before the next checkpoint is,
 * unless a better one comes. A job that is killed before finds it again. */
CHECKED Status saver_keep_best(Saver *, const Position *, const bool by[MEASURES_MOST]);
/* The file of the best model by measure `index` of checkpoint.best: "best" by the first one, "best-nll" by a further one. */
void saver_best_stem(const Experiment *, int index, char stem[64]);
/* Writes the model of this position, to stay unless checkpoint.keep_last says otherwise: that of the epoch that ends here, or
 * of the step. */
CHECKED Status saver_keep_epoch(Saver *, const Position *);
CHECKED Status saver_keep_step(Saver *, const Position *);

#endif
