/* The evaluation of a trained network: at the end of a run, and by `plumb evaluate RUN`. */
#ifndef PLUMB_LAUNCH_TRAIN_EVALUATE_RUN_H
#define PLUMB_LAUNCH_TRAIN_EVALUATE_RUN_H

#include "launch/evaluate/evaluate.h"
#include "launch/evaluate/ood_sets.h"
#include "launch/runs/run_folder.h"
#include "launch/train/run_use.h"
#include "launch/train/session.h"

/* Measures `split` with temperatures chosen on the validation split (if there is one and it is not the split
 * itself), and how well its samples are told from those of `choices`, into *ood, which result->outside then refers to; release with
 * ood_result_free, also after an error. A set that cannot be opened is an error or, if `forgiving`, left out with a warning.
 * With `predictions`, rank 0 writes logits and labels of both as .npy into that folder. Collective. */
typedef struct {
    const OodChoices *choices;
    bool forgiving;
    OodResult *result;
} EvaluateOutside;
CHECKED Status evaluate_network(Session *, Split split, const EvaluateOptions *, const EvaluateOutside *,
                                const char *predictions, EvaluationResult *);

/* The end of a training run, after so many steps: predictions, evaluation.json, ood.json if the config has evaluate.ood, best_models.json if it has
 * evaluate.best_models, and, unless quiet, the table on the terminal. The session then holds another model than the last.
 * Collective. */
CHECKED Status evaluate_trained(Session *, const RunFolder *, int64_t step, bool quiet);

/* plumb evaluate RUN [--split ..] [--checkpoint ..] [--ood ..]: loads the run's config and checkpoint. Collective. */
typedef struct {
    const char *run;
    Split split;
    const char *checkpoint; /* KEPT_MODEL_NAMES (launch/runs/kept_models.h) */
    RunUse use;
    const char *data;  /* the folder of the data; NULL: where they were when the run trained */
    const char *cache; /* of a run of translation: for its encoded corpora; NULL: the run's dataset.cache */
    EvaluateOptions options;
    OodChoices ood; /* what came of them is in the run's ood.json too */
    bool inference; /* calibration of the network's own translations */
    bool bleu; /* at every temperature of the curve; of the test split in the run's temperatures.json too */
} EvaluateRunOptions;
CHECKED Status evaluate_run(World *, const EvaluateRunOptions *, OodResult *ood, EvaluationResult *);

#endif
