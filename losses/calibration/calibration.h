/* What evaluation measures: error, NLL, Brier score and the calibration errors of the published code
 * (torrvision/focal_calibration, Metrics/metrics.py), in double precision from the stored logits, with the
 * same bits at any number of ranks and threads.
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
 *   s99              samples with confidence >= 0.99: their fraction, and accuracy among them (NaN if none).
 */
#ifndef PLUMB_LOSSES_CALIBRATION_CALIBRATION_H
#define PLUMB_LOSSES_CALIBRATION_CALIBRATION_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "engine/device/device.h"
#include "losses/calibration/logits.h"

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
    int64_t s99_count;
    double s99_fraction, s99_accuracy;
    int bins;
    CalibrationBin bin[CALIBRATION_MAX_BINS];          /* those of ece */
    CalibrationBin adaptive_bin[CALIBRATION_MAX_BINS]; /* those of ada_ece */
} Calibration;

/* Per sample of this rank, [count] each. */
typedef struct {
    double *confidence;
    uint8_t *correct;
} CalibrationScores;
void calibration_scores_free(CalibrationScores *);

/* Measures softmax(logits / temperature) against the labels. bins in [1, CALIBRATION_MAX_BINS]. scores: NULL,
 * or receives what the bootstrap needs (owned by the caller). Checked logits only (logits_check). Collective.
 * Memory: 9 bytes a sample of this rank, nothing gathered. threads: 0 means as OpenMP says. */
CHECKED Status calibration_measure(Collective *, const Logits *, double temperature, int bins, int threads,
                                   Calibration *, CalibrationScores *scores);

/* The same of logits as a network makes them, batch by batch, on the device that has them: nothing of them is
 * kept but the sums and 9 bytes a sample, and the result has the same bits. Opened once for a set; then, each time
 * the network has changed:
 *
 *     calibration_pass_begin(pass);
 *     for each batch: calibration_pass_add(pass, logits, rows);
 *     calibration_pass_collect(pass);                     // then the ranks agree that all went well
 *     calibration_pass_measure(pass, collective, &result);
 *
 * set: this rank's share; values and type are not looked at, labels are host memory that outlives the pass.
 * A label that is no class is an error of open, with its row. All memory is allocated by open. */
typedef struct CalibrationPass CalibrationPass;
CHECKED Status calibration_pass_open(Device *, const Logits *set, int bins, CalibrationPass **);
void calibration_pass_close(CalibrationPass *); /* NULL is allowed */
CHECKED Status calibration_pass_begin(CalibrationPass *);
/* The next rows of the set. logits: device memory [rows, classes], read in the order of the device's stream. */
CHECKED Status calibration_pass_add(CalibrationPass *, const float *logits, int64_t rows);
/* Waits until all rows are added. STATUS_NUMERIC, also of add, names row and column of the first NaN or
 * infinity. Not collective. */
CHECKED Status calibration_pass_collect(CalibrationPass *);
/* Collective: for host memory. Once after each collect. */
CHECKED Status calibration_pass_measure(CalibrationPass *, Collective *, Calibration *);

/* confidence and entropy of each row of this rank, [count] each. Labels are not looked at. Not collective. */
CHECKED Status calibration_row_scores(const Logits *, double temperature, int threads, double *confidence,
                                      double *entropy);

#endif
