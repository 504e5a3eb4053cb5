/* BLEU (Papineni et al., ACL 2002) with the numbers of sacreBLEU 2.6.0. */
#ifndef PLUMB_NLP_BLEU_BLEU_H
#define PLUMB_NLP_BLEU_BLEU_H

#include "nlp/bleu/tokens.h"

enum { BLEU_ORDER = 4 };

/* What a score is computed from. The statistics of a corpus are the sums of those of its segments. */
typedef struct {
    int64_t correct[BLEU_ORDER],
        total[BLEU_ORDER];         /* n-grams of the hypotheses: also in a reference, and all */
    int64_t hypothesis, reference; /* tokens */
} BleuStatistics;

/* Of one segment. Several references: an n-gram may be met as often as in the one that has it most; the length is that
 * of the closest one, of two the shorter. STATUS_INPUT without a reference. */
CHECKED Status bleu_segment(BleuTokenizer, TextSpan hypothesis, const TextSpan reference[], int references,
                            BleuStatistics *);
void bleu_add(BleuStatistics *sum, const BleuStatistics *part);

typedef enum { BLEU_SMOOTH_EXP, BLEU_SMOOTH_NONE, BLEU_SMOOTH_FLOOR, BLEU_SMOOTH_ADD_K } BleuSmoothing;

typedef struct {
    BleuSmoothing smoothing;
    double value;         /* of FLOOR and ADD_K; negative: 0.1 and 1 */
    bool effective_order; /* only orders that the hypothesis is long enough for: for single sentences */
} BleuOptions;

typedef struct {
    double score; /* 0 to 100 */
    double precision[BLEU_ORDER], brevity_penalty;
} BleuScore;
BleuScore bleu_score(const BleuStatistics *, const BleuOptions *);

#endif
