/* What evaluation measures: error, NLL, Brier score and the calibration errors of the published code
 * (torrvision/focal_calibration, Metrics/metrics.py), in double precision from the stored logits, with the
 * same bits at any number of ranks and threads, and in any order of the samples and of the classes.
 *
 * Conventions: the prediction is the first index of the maximum; confidence is its softmax probability; q is
 * confidence or probability, y 1 if right (for a class: if it is the label) else 0; S_b = sum over the
 * samples of bin b of (q - y).
 *
 *   ece              sum_b |S_b| / N. Bins are (lower, upper] with edges b/B rounded to float32, as the
 *                    published ECELoss has them; a probability of exactly 0 is in no bin.
 *   ece_debiased     2 ece - E[ece'], ece' with each bin's accuracy a drawn from Normal(a, a (1 - a) / n): Kumar,
 *                    Liang and Ma (2019), in closed form. May fall a little below 0.
 *   mce, ece_l2      max_b |S_b| / n_b, and sqrt(sum_b n_b / N (S_b / n_b)^2), over the bins of the published
 *                    test_utils: ceil(B q) - 1 in double precision. Empty bins count as 0.
 *   ece_l2_debiased  sqrt(max(0, sum_b n_b / N ((S_b / n_b)^2 - a (1 - a) / (n_b - 1)))), bins with n_b > 1.
 *   ada_ece          sum_b |S_b| / N with edges at the positions b N / B of the sorted confidences, linearly
 *                    interpolated, position N meaning the last: bins (lower, upper], so the smallest confidence
 *                    and its copies are in no bin.
 *   classwise_ece    mean over the classes 0 .. max label of the class' ece (the published rule);
 *                    classwise_ece_all: over all K classes.
 *   nll              has no bound: infinite where a label's probability is 0 because its class is masked.
 *   s99              samples with confidence >= 0.99: their fraction, and accuracy among them (NaN if none).
 *
 * Probabilities that come as such (Logits.probabilities) are taken as they are, but divided by their row's sum where that is
 * not 1 up to rounding; at another temperature than 1 their logarithms are the logits.
 */
#ifndef PLUMB_LOSSES_CALIBRATION_CALIBRATION_H
#define PLUMB_LOSSES_CALIBRATION_CALIBRATION_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "engine/device/device.h"
#include "losses/calibration/logits.h"

#include <stdbool.h>
#include <stdint.h>

enum { CALIBRATION_MAX_BINS = 200 };

typedef struct {
    double lower, upper;
    int64_t count;
    double confidence, accuracy; /* means; 0 for an empty bin */
} CalibrationBin;

typedef struct {
    int64_t samples, classes;
    int64_t label_classes; /* largest label + 1 */
    double error, top5_error, nll, brier;
    double nll_correct, nll_misclassified; /* means over those samples (Figure 2); NaN without any */
    double ece, mce, ada_ece, classwise_ece;
    double ece_debiased, ece_l2, ece_l2_debiased, classwise_ece_all;
    double mean_confidence, mean_entropy;
    double entropy_correct, entropy_misclassified; /* means over those samples (Figure 2); NaN without any */
    /* Samples whose NLL is above 2^40, as no network means it (the label's logit is that of a masked class): how many,
     * how many of them infinite, and the row of the first, -1 without any. */
    int64_t large_nll_count, infinite_nll_count, large_nll_row;
    int64_t ada_ece_left_out; /* samples in no bin of ada_ece */
    int64_t s99_count;
    double s99_fraction, s99_accuracy;
    int bins;
    CalibrationBin bin[CALIBRATION_MAX_BINS];          /* those of ece */
    CalibrationBin adaptive_bin[CALIBRATION_MAX_BINS]; /* those of ada_ece */
} Calibration;

/* Is ada_ece about the set? Its bins leave out the smallest confidence and its copies: if more than half of the samples
 * have it (all, of a network that diverged to equal logits), a small value says nothing. */
bool calibration_has_ada_ece(const Calibration *);

/* The samples of this rank, in their order: the confidence, negative where the prediction is wrong. */
typedef struct {
    int64_t count;
    double *signed_confidence;
} CalibrationScores;
void calibration_scores_free(CalibrationScores *);

/* Measures softmax(logits / temperature) against the labels. bins in [1, CALIBRATION_MAX_BINS]. scores: NULL,
 * or receives what the bootstrap needs (owned by the caller). Checked logits only (logits_check). Collective.
 * Memory: 8 bytes a sample of this rank, nothing gathered; 16 bins bytes a class, and 8 bins more with each thread.
 * threads: 0 means as OpenMP says. */
CHECKED Status calibration_measure(Collective *, const Logits *, double temperature, int bins, int threads,
                                   Calibration *, CalibrationScores *scores);

/* A rank's share of a set of which only this is known: each sample's confidence in [0, 1], and whether the prediction was
 * right. */
typedef struct {
    const char *name;
    const double *confidence; /* [count] */
    const uint8_t *correct;   /* [count] */
    int64_t count;
} ConfidenceSet;
/* The same of such a set; what needs more than that is NaN: top5_error, nll, brier, classwise_ece, the entropies. Collective. */
CHECKED Status calibration_measure_confidences(Collective *, const ConfidenceSet *, int bins, int threads,
                                               Calibration *, CalibrationScores *scores);

/* The same of logits as a network makes them, batch by batch, in the memory of the device that has them, with the same
 * bits. The ranks may share the rows out as they like. Nothing is kept of the rows but the sums, in memory that does
 * not depend on how many rows come, and, for AdaECE, whose edges are quantiles of all samples, 8 bytes a sample in
 * host memory. Opened once; then, for every set, or each time the network has changed:
 *
 *     calibration_pass_begin(pass);
 *     for each batch: calibration_pass_add(pass, &rows);
 *     calibration_pass_collect(pass);                     // then the ranks agree that all went well
 *     calibration_pass_measure(pass, collective, &result); */
typedef struct {
    const char *name; /* of the set, for messages; outlives the pass */
    int64_t classes;  /* at least 2 */
    const uint8_t
        *masked; /* [classes]: 1 for classes that are left out, as if their logits were -infinity; copied.
                              NULL: none */
    double temperature;
    int bins;
    int64_t most_rows; /* in one batch */
} CalibrationSetup;

typedef struct CalibrationPass CalibrationPass;
/* All device memory is allocated here. */
CHECKED Status calibration_pass_open(Device *, const CalibrationSetup *, CalibrationPass **);
void calibration_pass_close(CalibrationPass *); /* NULL is allowed */
CHECKED Status calibration_pass_begin(CalibrationPass *);
/* Reads the rows in the order of the device's stream. An error of a row, as logit_rows_check has it, comes now or from
 * collect. Not collective. */
CHECKED Status calibration_pass_add(CalibrationPass *, const LogitRows *);
/* Waits until all rows are added. Not collective. */
CHECKED Status calibration_pass_collect(CalibrationPass *);
/* Collective: for host memory. Once after each collect. An error if no rank has a sample. */
CHECKED Status calibration_pass_measure(CalibrationPass *, Collective *, Calibration *);
/* After collect, until the next begin: the pass owns them. */
const CalibrationScores *calibration_pass_scores(const CalibrationPass *);

/* confidence and entropy of each row of this rank, [count] each. Labels are not looked at. Not collective. */
CHECKED Status calibration_row_scores(const Logits *, double temperature, int threads, double *confidence,
                                      double *entropy);

#endif
