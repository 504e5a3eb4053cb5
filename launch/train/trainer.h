/* The training loop: epochs of steps, evaluations, checkpoints; resumable at any step with the same bits. */
#ifndef PLUMB_LAUNCH_TRAIN_TRAINER_H
#define PLUMB_LAUNCH_TRAIN_TRAINER_H

#include "launch/runs/run_folder.h"
#include "launch/train/session.h"

typedef struct {
    bool log_view; /* print the profile at the end */
    bool quiet;    /* no progress and no table */
} TrainerOptions;

/* Trains to the last epoch, from the newest checkpoint of the run if there is one; evaluates and writes
 * predictions at the end. STATUS_INTERRUPTED after a signal (SIGTERM, SIGUSR1, SIGINT, SIGHUP on any rank): the step
 * is finished and saved. STATUS_NUMERIC for a loss or gradient that is not finite: nothing is saved. Every
 * rank calls it; rank 0 holds the folder's lock. */
CHECKED Status trainer_run(Session *, RunFolder *, TrainerOptions);

/* From here on the signals above ask trainer_run to stop, instead of ending the process. */
void trainer_catch_signals(void);

#endif
