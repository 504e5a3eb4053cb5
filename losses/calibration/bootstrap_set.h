/* What the two kinds of resampling behind bootstrap.h share. Internal to losses/. */
#ifndef PLUMB_LOSSES_CALIBRATION_BOOTSTRAP_SET_H
#define PLUMB_LOSSES_CALIBRATION_BOOTSTRAP_SET_H

#include "losses/calibration/bootstrap.h"

enum { BOOTSTRAP_ECE, BOOTSTRAP_ADA_ECE, BOOTSTRAP_CLASSWISE_ECE, BOOTSTRAP_METRICS };

/* REPLICATES resamples go side by side: one step of a loop over what is drawn serves them all with one vector of counts.
 * A replicate's numbers are computed by one thread in a fixed order, so they do not depend on who computes them. */
enum { REPLICATES = 16 };
typedef double Lane[REPLICATES];

typedef struct {
    int64_t samples; /* of all ranks */
    int64_t classes; /* those that classwise_ece averages over; 0: no such interval */
    int bins, threads;
    double temperature;
    const Logits *logits; /* this rank's rows, for classwise_ece */
    double *score;        /* [samples] of all ranks: signed confidences */
    int32_t *cluster;     /* [samples] of all ranks; NULL: each sample is one */
    int64_t *order;       /* [samples]: by ascending confidence, equal ones by index */
    double edge[CALIBRATION_MAX_BINS + 1];
    const BootstrapOptions *options;
} BootstrapSet;

static inline double bootstrap_gap(double score) { return score > 0 ? score - 1 : -score; }

/* count[i][r]: how often item i of `items` is in replicate first + r. A draw is 64 random bits times the number of items,
 * without the low 64 bits: its bias is below items / 2^64. */
void bootstrap_draw(uint64_t seed, int64_t first, int64_t items, uint16_t *count);
void bootstrap_progress(const BootstrapSet *, double done);

/* values [BOOTSTRAP_METRICS][replicates]: those of this rank's replicates; 0 stays for the others. Collective. */
CHECKED Status bootstrap_by_samples(Collective *, const BootstrapSet *, double *values);
CHECKED Status bootstrap_by_groups(Collective *, const BootstrapSet *, double *values);
/* Bytes of every rank, beyond score and order and what threads need. */
double bootstrap_samples_bytes(const BootstrapSet *);
double bootstrap_groups_bytes(const BootstrapSet *);

#endif
