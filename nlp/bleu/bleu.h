/* BLEU (Papineni et al., ACL 2002) with the numbers of sacreBLEU 2.6.0. */
#ifndef PLUMB_NLP_BLEU_BLEU_H
#define PLUMB_NLP_BLEU_BLEU_H

#include "nlp/bleu/number.h"
#include "nlp/bleu/tokens.h"

enum { BLEU_ORDER = 4 };

/* What a score is computed from. The statistics of a corpus are the sums of those of its segments. */
typedef struct {
    int64_t correct[BLEU_ORDER],
        total[BLEU_ORDER];         /* n-grams of the hypotheses: also in a reference, and all */
    int64_t hypothesis, reference; /* tokens */
} BleuStatistics;
void bleu_add(BleuStatistics *sum, const BleuStatistics *part);

/* Counts segments: the references of one first, then any number of hypotheses of it. */
typedef struct BleuCounter BleuCounter;
CHECKED Status bleu_counter_new(BleuTokenization, BleuCounter **);
void bleu_counter_free(BleuCounter *); /* NULL is allowed */
/* Several references: an n-gram may be met as often as in the one that has it most; the length is that of the closest one, of
 * two the shorter. STATUS_INPUT without a reference. */
CHECKED Status bleu_counter_references(BleuCounter *, const TextSpan reference[], int references);
CHECKED Status bleu_counter_count(BleuCounter *, TextSpan hypothesis, BleuStatistics *);

/* The same for one segment alone. */
CHECKED Status bleu_segment(BleuTokenizer, TextSpan hypothesis, const TextSpan reference[], int references,
                            BleuStatistics *);

typedef enum { BLEU_SMOOTH_EXP, BLEU_SMOOTH_NONE, BLEU_SMOOTH_FLOOR, BLEU_SMOOTH_ADD_K } BleuSmoothing;

typedef struct {
    BleuSmoothing smoothing;
    double value;         /* of FLOOR and ADD_K; negative: 0.1 and 1 */
    bool effective_order; /* only orders that the hypothesis is long enough for: for single sentences */
} BleuOptions;
double bleu_smoothing_value(const BleuOptions *); /* the value, or what stands for a negative one */

typedef struct {
    double score; /* 0 to 100 */
    double precision[BLEU_ORDER], brevity_penalty;
} BleuScore;
BleuScore bleu_score(const BleuStatistics *, const BleuOptions *);

/* The same of statistics as a row of numbers: tokens of hypothesis and reference, correct, total. */
enum { BLEU_WIDTH = 2 + 2 * BLEU_ORDER };
void bleu_row(const BleuStatistics *, double row[BLEU_WIDTH]);
BleuScore bleu_score_of(const double row[BLEU_WIDTH], const BleuOptions *, Arithmetic);

#endif
