/* plumb evaluate: what a set of logits says about the network that made them. */
#ifndef PLUMB_LAUNCH_EVALUATE_EVALUATE_H
#define PLUMB_LAUNCH_EVALUATE_EVALUATE_H

#include "comm/comm.h"
#include "engine/device/collective.h"
#include "losses/calibration/bootstrap.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/evaluated_losses.h"
#include "losses/calibration/logits.h"
#include "losses/calibration/ood.h"
#include "losses/calibration/temperature.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct {
    int bins;           /* 15 */
    int64_t replicates; /* of the bootstrap; 0: no intervals */
    uint64_t seed;
    TemperatureGrid grid; /* temperature_published */
    int threads;          /* 0: as OpenMP says */
} EvaluateOptions;
EvaluateOptions evaluate_defaults(void);

enum { EVALUATE_BEFORE, EVALUATE_AFTER_ECE, EVALUATE_AFTER_NLL, EVALUATE_STAGES };

typedef struct {
    int64_t samples, classes;
    bool has_temperature, has_intervals, has_ood;
    TemperatureSearch search; /* of the validation set */
    Calibration measured[EVALUATE_STAGES];
    BootstrapIntervals interval[EVALUATE_STAGES];
    EvaluatedLosses loss; /* in the order of evaluated_loss_names */
    OodScores ood;
} EvaluationResult;

/* Everything from this rank's share of the sets. validation and ood may be NULL. All ranks get the same
 * result, bit for bit whatever their number. Checks the logits first (an error is agreed on by all ranks).
 * Collective. */
CHECKED Status evaluate_logits(World *, Collective *, const EvaluateOptions *, const Logits *test,
                               const Logits *validation, const Logits *ood, EvaluationResult *);

/* What temperature scaling did to the test set's ECE where it made it worse; "" otherwise. */
void evaluation_note(const EvaluationResult *, char note[256]);
/* The result as JSON text (fractions), released with free(). */
CHECKED Status evaluation_json(const EvaluationResult *, char **text);
/* The result as an aligned table in percent, for people. */
void evaluation_print(const EvaluationResult *, FILE *);

/* The command: see `plumb evaluate --help`. */
CHECKED Status command_evaluate(World *, int argc, char **argv);
extern const char evaluate_help[];

#endif
