/* Weighted ECE of next-token distributions (Kumar and Sarawagi, "Calibration of encoder decoder models for neural machine
 * translation", 2019): calibration of all that a distribution says, since a search uses more than the likeliest token.
 *
 *     1/L sum_b | sum over all positions i and tokens v whose p_i(v) lies in bin b of p_i(v) ([v = y_i] - p_i(v)) |
 *
 * with L positions, p_i = softmax(logits_i / T), y_i the true token; bins are those of ECE (calibration.h). A token weighs as much
 * as its probability, so that the many of nearly none do not drown the others. */
#ifndef PLUMB_LOSSES_CALIBRATION_WEIGHTED_ECE_H
#define PLUMB_LOSSES_CALIBRATION_WEIGHTED_ECE_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "engine/device/device.h"
#include "losses/calibration/logits.h"

enum { WEIGHTED_ECE_MOST = 4 }; /* temperatures */

typedef struct {
    const char *name;      /* of the set, for messages; outlives the pass */
    int64_t classes;       /* at least 2 */
    const uint8_t *masked; /* [classes]: 1 for classes that are left out; outlives the pass. NULL: none */
    int temperatures;
    double temperature[WEIGHTED_ECE_MOST];
    int bins;
    int64_t most_rows; /* in one batch */
} WeightedEceSetup;

/* Rows come batch by batch, and are not kept. All sums are exact: the same bits whatever the batches, threads and ranks. From a GPU
 * each batch of logits is taken to the host, which does the work. */
typedef struct WeightedEcePass WeightedEcePass;
CHECKED Status weighted_ece_open(Device *, const WeightedEceSetup *, WeightedEcePass **);
void weighted_ece_close(WeightedEcePass *); /* NULL is allowed */
/* Waits for the rows. An error of a row is as logit_rows_check has it. nll [temperatures, rows]: of each row with a weight, infinite
 * where its label is masked; NULL: not wanted. Not collective. */
CHECKED Status weighted_ece_add(WeightedEcePass *, const LogitRows *, double nll[]);
/* value[temperatures]. Collective, once after all rows were added. An error if no rank has a row. */
CHECKED Status weighted_ece_measure(WeightedEcePass *, Collective *, double value[]);

#endif
