/* The evaluation of a trained network: at the end of a run, and by `plumb evaluate RUN`. */
#ifndef PLUMB_LAUNCH_TRAIN_EVALUATE_RUN_H
#define PLUMB_LAUNCH_TRAIN_EVALUATE_RUN_H

#include "launch/evaluate/evaluate.h"
#include "launch/runs/run_folder.h"
#include "launch/train/session.h"

/* Measures `split` with temperatures chosen on the validation split (if there is one and it is not the split
 * itself). With `predictions`, rank 0 writes logits and labels of both as .npy into that folder. Collective.
 */
CHECKED Status evaluate_network(Session *, Split split, const EvaluateOptions *, const char *predictions,
                                EvaluationResult *);

/* The end of a training run: predictions, evaluation.json, and, unless quiet, the table on the terminal.
 * Collective. */
CHECKED Status evaluate_trained(Session *, const RunFolder *, bool quiet);

/* plumb evaluate RUN [--split ..] [--checkpoint ..]: loads the run's config and checkpoint. Collective. */
typedef struct {
    const char *run;
    Split split;
    const char *checkpoint; /* "best", "last" or an epoch's number */
    const char *data;       /* the folder of the data; NULL: where they were when the run trained */
    EvaluateOptions options;
} EvaluateRunOptions;
CHECKED Status evaluate_run(World *, const EvaluateRunOptions *, EvaluationResult *);

#endif
