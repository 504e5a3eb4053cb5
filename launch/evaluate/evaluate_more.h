/* Measures that plumb evaluate makes when asked for all: SmoothECE with its curve, debiased errors, parts of the Brier score, the
 * kernel calibration error, consistency bars, and the classes that are measured worst. */
#ifndef PLUMB_LAUNCH_EVALUATE_EVALUATE_MORE_H
#define PLUMB_LAUNCH_EVALUATE_EVALUATE_MORE_H

#include "comm/comm.h"
#include "losses/calibration/binned_errors.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/kernel_error.h"
#include "losses/calibration/smooth_ece.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    bool relplot; /* SmoothECE as that package has it */
    KernelForm kernel;
    double kernel_width;    /* 0: the median distance */
    int64_t kernel_samples; /* at most so many, drawn at random */
    int64_t replicates;     /* of the band and of the test by resamples */
    uint64_t seed;
    int bins, threads;
} MoreOptions;

enum { MORE_POINTS = 101, MORE_WORST = 10, MORE_JOINT_BINS = 10 };
#define MORE_LEVEL 0.9            /* of the band and of consistency bars */
#define MORE_PROBABILITIES 0x1p26 /* up to so many numbers of all samples and classes are gathered */

/* A class against the rest. */
typedef struct {
    int64_t k, samples;
    double mean_probability, accuracy; /* of its samples, the share that was predicted so; NaN without any */
    double error;                      /* its ECE, equal width */
} ClassMeasure;

typedef struct {
    SmoothEce smooth;
    bool relplot;
    /* At points 0, 0.01 ... 1; NaN where there are no samples. The band: NaN without resamples. */
    double accuracy[MORE_POINTS], density[MORE_POINTS], lower[MORE_POINTS], upper[MORE_POINTS];
    int64_t replicates;
    BinnedError top[2]; /* by BinScheme */
    BrierParts brier_top;
    double consistency[CALIBRATION_MAX_BINS][2]; /* of the bins of ece */
    bool has_classes; /* what follows; it needs the probabilities of all classes, and not too many */
    BinnedError classes[2];
    double joint;
    BrierParts brier_by_confidence, brier_by_class;
    KernelError kernel;
    ClassMeasure worst[MORE_WORST]; /* by error, the largest first */
    int worst_count;
} MoreMeasures;

/* Of a set at a temperature, as calibration_measure found it. set: NULL where only confidences are known. Rank 0 measures what is
 * gathered; all ranks get it. Collective. */
CHECKED Status evaluate_more(World *, Collective *, const MoreOptions *, const Logits *set,
                             double temperature, const Calibration *measured, const CalibrationScores *scores,
                             MoreMeasures *);

#endif
