/* plumb evaluate: what a set of logits says about the network that made them. */
#ifndef PLUMB_LAUNCH_EVALUATE_EVALUATE_H
#define PLUMB_LAUNCH_EVALUATE_EVALUATE_H

#include "comm/comm.h"
#include "engine/device/collective.h"
#include "launch/evaluate/evaluate_groups.h"
#include "launch/evaluate/evaluate_more.h"
#include "losses/calibration/bootstrap.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/calibrator.h"
#include "losses/calibration/evaluated_losses.h"
#include "losses/calibration/logits.h"
#include "losses/calibration/ood.h"
#include "losses/calibration/temperature.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { EVALUATE_MOST_RECALIBRATIONS = 12 };

typedef struct {
    int bins;           /* 15 */
    int64_t replicates; /* of the bootstrap; 0: no intervals */
    uint64_t seed;
    TemperatureGrid grid; /* temperature_published */
    bool wants_curve;     /* ECE and NLL at every temperature of this grid */
    TemperatureGrid curve;
    BootstrapChoice classwise; /* intervals of Classwise-ECE */
    bool progress;             /* show on a terminal how far the intervals are */
    int threads;               /* 0: as OpenMP says */
    CalibratorSettings recalibrate[EVALUATE_MOST_RECALIBRATIONS]; /* fitted to the validation set */
    int recalibrations;
    const Calibrator *calibrator; /* applied as it is; NULL: none */
    const char *calibrator_file;  /* that it was read from */
    const MoreOptions *more; /* all measures; NULL: the usual ones. bins, seed and the like are those above */
    char **save;             /* receives the first one that was fitted, as a file's text; NULL: not wanted */
} EvaluateOptions;
EvaluateOptions evaluate_defaults(void);

enum { EVALUATE_BEFORE, EVALUATE_AFTER_ECE, EVALUATE_AFTER_NLL, EVALUATE_STAGES };
enum { EVALUATE_TEST, EVALUATE_VALIDATION, EVALUATE_OOD, EVALUATE_SETS };

/* What a calibrator does to the test set. */
typedef struct {
    CalibratorSettings settings;
    bool is_given; /* and not fitted here */
    int64_t samples, missing, first_missing;
    double objective, gap;
    bool finished;
    Calibration measured;
    BootstrapIntervals interval;
    MoreMeasures more;
} Recalibration;

/* Inference calibration (Wang et al., "On the inference calibration of neural machine translation", 2020): tokens of the network's
 * own translations, confidence the probability with which it chose each, right where TER's alignment with the reference has it
 * (ter_counter_align). Bins are [lower, upper), the last closed, as published. */
enum { INFERENCE_BINS = 20 };
typedef struct {
    int64_t tokens; /* without end tokens */
    double ece, mean_confidence, accuracy;
    CalibrationBin bin[INFERENCE_BINS];
} InferenceCalibration;

enum { EVALUATION_SEARCH = 128 };
typedef struct EvaluationResult {
    int64_t samples, classes, replicates; /* classes: 0 of confidences */
    int64_t ignored[EVALUATE_SETS];       /* rows left out for their label, if a set came from a file */
    int64_t ignore_label;
    const char *const *class_name;     /* [classes]; NULL: they have no names */
    bool probabilities[EVALUATE_SETS]; /* does the set look like what softmax gives? */
    bool has_temperature, has_intervals, has_ood, has_more;
    bool streamed;    /* the logits were not kept: no losses */
    int64_t clusters; /* what the intervals resample, if that is not the samples: sentences; 0: samples */
    bool has_curve;
    TemperatureSearch
        curve[EVALUATE_VALIDATION + 1]; /* of the test and, with has_temperature, the validation set */
    bool has_weighted;
    double weighted_ece[EVALUATE_STAGES]; /* losses/calibration/weighted_ece.h */
    bool has_inference;
    InferenceCalibration inference[EVALUATE_STAGES];
    /* BLEU of the set that is measured, as the network translates it, at every temperature of the curve: 0 to 100. */
    bool has_bleu;
    double bleu[TEMPERATURE_MOST];
    char bleu_search[EVALUATION_SEARCH], bleu_signature[EVALUATION_SEARCH];
    int group_kinds; /* ways in which the samples are parted */
    GroupKind group_kind[GROUP_KINDS_MOST];
    GroupMeasures group[GROUP_KINDS_MOST][EVALUATE_STAGES][GROUPS_MOST];
    TemperatureSearch search; /* of the validation set */
    Calibration measured[EVALUATE_STAGES];
    BootstrapIntervals interval[EVALUATE_STAGES];
    MoreMeasures more[EVALUATE_STAGES];
    EvaluatedLosses loss; /* in the order of evaluated_loss_names */
    OodScores ood;
    int recalibrations;
    Recalibration recalibrated[EVALUATE_MOST_RECALIBRATIONS + 1];
    const char *checkpoint;          /* of a run: which model was measured; NULL: of files */
    int64_t step;                    /* of training that it is of; 0: of none, or it does not say */
    const struct OodResult *outside; /* sets of samples from elsewhere (ood_sets.h); NULL: none */
    /* Of a task that leaves out classes: the same samples with all of them, temperature included; NULL: it leaves out none. Owned. */
    struct EvaluationResult *unmasked;
} EvaluationResult;
/* Also what it owns; NULL is allowed. */
void evaluation_free(EvaluationResult *);

/* Everything from this rank's share of the sets. validation and ood may be NULL. All ranks get the same
 * result, bit for bit whatever their number. Checks the logits first (an error is agreed on by all ranks).
 * Collective. */
CHECKED Status evaluate_logits(World *, Collective *, const EvaluateOptions *, const Logits *test,
                               const Logits *validation, const Logits *ood, EvaluationResult *);

/* The same of confidences, of which only the calibration of the top label can be measured, at no temperature. */
CHECKED Status evaluate_confidences(World *, Collective *, const EvaluateOptions *, const ConfidenceSet *,
                                    int64_t total, EvaluationResult *);

/* What a reader must know beside the numbers: what scaling made worse, ends of the grid, infinite losses, measures that
 * say nothing. */
enum { EVALUATION_MOST_NOTES = 32 };
typedef struct {
    int count;
    char text[EVALUATION_MOST_NOTES][320];
} EvaluationNotes;
void evaluation_notes(const EvaluationResult *, EvaluationNotes *);
/* A calibrator with its settings: "matrix_scaling, lambda 1, mu 1". */
enum { EVALUATION_NAME = 128 };
void evaluation_recalibration_name(const Recalibration *, char name[EVALUATION_NAME]);
/* Of a stage: 1 before scaling. */
double evaluation_temperature(const EvaluationResult *, int stage);
/* A temperature of the curve: 1.8, not 1.8000000000000005, as sums of steps are. */
double evaluation_curve_temperature(const EvaluationResult *, int index);
/* Is the ECE after scaling by T worse, by as much as can be seen? T = 1 is no scaling, but for rounding. */
bool evaluation_scaling_hurts(double before, double after, double temperature);
/* Does the value of this loss say anything about the set? */
bool evaluation_has_loss(const EvaluationResult *, int loss);

/* Shows how far the intervals are, on a terminal's standard error; one at a time. */
typedef struct {
    bool shown;
    double started;
    int stages, stage; /* how many sets of intervals there will be, and which one is made */
} EvaluateProgress;
void evaluate_progress_start(EvaluateProgress *, bool wanted, int stages);
void evaluate_progress(void *progress, double done); /* of the stage */
void evaluate_progress_end(EvaluateProgress *);

/* The result as JSON text (fractions), released with free(). */
CHECKED Status evaluation_json(const EvaluationResult *, char **text);
/* Of a result with curves: these alone as JSON text, with what they are of (launch/runs/bleu_curves.h); released with free(). */
CHECKED Status evaluation_curves_json(const EvaluationResult *, char **text);
/* The result as an aligned table in percent, for people. */
void evaluation_print(const EvaluationResult *, FILE *);

/* The command: see `plumb evaluate --help`. */
CHECKED Status command_evaluate(World *, int argc, char **argv);
extern const char evaluate_help[];

#endif
