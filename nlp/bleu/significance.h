/* How sure a score is, and a difference of two: sacreBLEU's resamples (see numpy_random.h), sums and rounding, so that intervals and
 * p-values are its own. Bootstrap: Koehn, EMNLP 2004; approximate randomisation: Riezler and Maxwell, 2005. */
#ifndef PLUMB_NLP_BLEU_SIGNIFICANCE_H
#define PLUMB_NLP_BLEU_SIGNIFICANCE_H

#include "nlp/bleu/metric.h"
#include "nlp/bleu/numpy_random.h"

typedef struct {
    double score;
    bool has_interval;
    double mean, interval; /* of the resamples: mean, and half the width of the middle 95 % */
    bool has_p;
    double p; /* of the difference to the first system */
} Significance;

/* Rows of statistics, as metric_rows gives them. */
typedef struct {
    const Metric *metric;
    const double *rows; /* [segments][systems][width] */
    int64_t segments;   /* at least 1 */
    int systems;
} Statistics;

typedef struct {
    int64_t samples; /* at least 1 */
    NumpySeed seed;
    Numpy numpy; /* as beside this version */
    int threads;
} Resampling;

/* The plain score of each system, and nothing else: result[systems]. */
void significance_scores(const Statistics *, Significance result[]);

/* One system's interval, as -ci gives it: beside NumPy 2 the mean is Python's, exact and then rounded. */
CHECKED Status significance_interval(const Statistics *, const Resampling *, Significance *);
/* Paired tests of each system with the first: result[systems]. The bootstrap gives intervals, too. */
CHECKED Status significance_bootstrap(const Statistics *, const Resampling *, Significance result[]);
CHECKED Status significance_randomisation(const Statistics *, const Resampling *, Significance result[]);

#endif
