/* The pass over the samples behind calibration.h: what it adds up, and who does the adding. Internal to losses/.
 *
 * All that is added are integers, so the order does not matter; what one sample adds is stated once, in
 * calibration_sample, for the CPU and for CUDA. The files that compute it are compiled without contraction of
 * a * b + c, so a sample adds the same bits on every processor and GPU. */
#ifndef PLUMB_LOSSES_CALIBRATION_CALIBRATION_PASS_H
#define PLUMB_LOSSES_CALIBRATION_CALIBRATION_PASS_H

#include "engine/graph/op.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/softmax_row.h"

enum {
    SUM_NLL,
    SUM_NLL_CORRECT,
    SUM_BRIER,
    SUM_ENTROPY,
    SUM_ENTROPY_CORRECT,
    SUM_CONFIDENCE,
    SUM_BIN,                                      /* confidences, by the bins of ece */
    SUM_CEILING = SUM_BIN + CALIBRATION_MAX_BINS, /* by those of mce */
    SUMS = SUM_CEILING + CALIBRATION_MAX_BINS
};

enum {
    COUNT_SAMPLES, /* rows that count */
    COUNT_CORRECT,
    COUNT_TOP5,
    COUNT_S99,
    COUNT_S99_CORRECT,
    COUNT_BIN,
    COUNT_BIN_CORRECT = COUNT_BIN + CALIBRATION_MAX_BINS,
    COUNT_CEILING = COUNT_BIN_CORRECT + CALIBRATION_MAX_BINS,
    COUNT_CEILING_CORRECT = COUNT_CEILING + CALIBRATION_MAX_BINS,
    COUNTS = COUNT_CEILING_CORRECT + CALIBRATION_MAX_BINS
};

/* Per-class sums of (probability - is it the label) are gathered in int64 with the unit 2^-CLASS_SHIFT, and
 * before they can overflow, after CLASS_ROWS rows, go into exact sums. */
enum { CLASS_SHIFT = 50, CLASS_ROWS = 4096, CLASS_FACTOR = 1 << (EXACT_SUM_SHIFT - 50) };
#define CLASS_UNIT 0x1p50

/* Signed confidences as they come, 0 for a row that does not count: a list, since memory that a GPU copies to must stay
 * where it is. Chunks are used again after begin. */
typedef struct ScoreChunk {
    struct ScoreChunk *next;
    int64_t used, capacity;
    double signed_confidence[];
} ScoreChunk;

struct CalibrationPass {
    const char *name;
    int64_t classes;
    uint8_t *masked; /* [classes]; NULL: none */
    Device *device;
    const struct CalibrationKernel *kernel;
    double temperature;
    int bins, threads;
    int64_t most_rows;
    int64_t padded;                        /* classes, as row_padded says */
    double edge[CALIBRATION_MAX_BINS + 1]; /* of the bins of ece */
    ExactSum sum[SUMS];
    LargeSum large; /* the NLL that is not in SUM_NLL */
    int64_t count[COUNTS];
    ExactSum *class_sum;              /* [bins, padded] */
    int64_t largest_label, large_row; /* -1 and INT64_MAX without any */
    ScoreChunk *chunks, *chunk;       /* all; the one being filled */
    CalibrationScores scores;         /* of collect */
    void *state;                      /* the kernel's own */
};

/* Who adds. Errors other than those of memory are as calibration.h says. */
typedef struct CalibrationKernel {
    Status (*open)(CalibrationPass *);
    Status (*begin)(CalibrationPass *); /* nothing is added yet */
    /* score [rows]: host memory that stays until collect. */
    Status (*add)(CalibrationPass *, const LogitRows *rows, double *score);
    /* Completes sums, counts and scores. */
    Status (*collect)(CalibrationPass *);
    void (*close)(CalibrationPass *); /* state may be NULL */
} CalibrationKernel;

/* Logits as a file has them, in host memory, without weights. score [count]. */
CHECKED Status calibration_cpu_add_logits(CalibrationPass *, const Logits *, double *score);

CHECKED Status calibration_cpu_add_confidences(CalibrationPass *, const ConfidenceSet *, double *score);

extern const CalibrationKernel calibration_cpu;
extern const CalibrationKernel calibration_cuda OPTIONAL_KERNEL;

/* What a row of logits comes to: z_k = (x_k - maximum) / temperature, sums over k. */
typedef struct {
    double confidence;
    double sum;      /* of exp z_k */
    double weighted; /* of exp z_k z_k */
    double squares;  /* of p_k^2 */
    double label_z, label_probability;
    int64_t before_label; /* classes that come before the label, sorted by logit, equal ones by index */
    bool correct;
} CalibrationRow;

/* What a sample adds: term[i] to sum sum[i], and 1 to every count named. */
typedef struct {
    double term[8];
    int sum[8], count[9];
    int sums, counts;
    double confidence;
    double nll;
} CalibrationSample;

SHARED_FUNCTION void calibration_sample_sum(CalibrationSample *sample, int sum, double term)
{
    sample->sum[sample->sums] = sum;
    sample->term[sample->sums++] = term;
}

SHARED_FUNCTION void calibration_sample_count(CalibrationSample *sample, bool counts, int count)
{
    sample->count[sample->counts] = count;
    sample->counts += counts;
}

/* What the confidence and whether it is right add. A confidence of 0, which no softmax has, is in no bin of ece. */
SHARED_FUNCTION void calibration_sample_confidence(CalibrationSample *sample, double confidence, bool correct,
                                                   const double *edge, int bins)
{
    const int bin = bins_find(edge, bins, confidence), ceiling = bins_find_ceiling(bins, confidence);
    const bool s99 = confidence >= 0.99;
    sample->confidence = confidence;
    calibration_sample_sum(sample, SUM_CONFIDENCE, confidence);
    calibration_sample_sum(sample, SUM_CEILING + ceiling, confidence);
    calibration_sample_count(sample, true, COUNT_SAMPLES);
    calibration_sample_count(sample, correct, COUNT_CORRECT);
    calibration_sample_count(sample, s99, COUNT_S99);
    calibration_sample_count(sample, s99 && correct, COUNT_S99_CORRECT);
    calibration_sample_count(sample, true, COUNT_CEILING + ceiling);
    calibration_sample_count(sample, correct, COUNT_CEILING_CORRECT + ceiling);
    if (bin < 0) return;
    calibration_sample_sum(sample, SUM_BIN + bin, confidence);
    calibration_sample_count(sample, true, COUNT_BIN + bin);
    calibration_sample_count(sample, correct, COUNT_BIN_CORRECT + bin);
}

SHARED_FUNCTION CalibrationSample calibration_sample(const CalibrationRow *row, const double *edge, int bins)
{
    CalibrationSample sample;
    sample.sums = sample.counts = 0;
    calibration_sample_confidence(&sample, row->confidence, row->correct, edge, bins);
    const double log_sum = number_log(row->sum);
    sample.nll = log_sum - row->label_z;
    if (!large_sum_takes(sample.nll))
        calibration_sample_sum(&sample, SUM_NLL, sample.nll);                       /* else in `large` */
    if (row->correct) calibration_sample_sum(&sample, SUM_NLL_CORRECT, sample.nll); /* at most log classes */
    calibration_sample_sum(&sample, SUM_BRIER, row->squares - 2 * row->label_probability + 1);
    const double entropy = log_sum - row->weighted / row->sum;
    calibration_sample_sum(&sample, SUM_ENTROPY, entropy);
    if (row->correct) calibration_sample_sum(&sample, SUM_ENTROPY_CORRECT, entropy);
    calibration_sample_count(&sample, row->before_label < 5, COUNT_TOP5);
    return sample;
}

#endif
