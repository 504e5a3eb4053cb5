/* chrF (Popovic, WMT 2015) and chrF++ (Popovic, WMT 2017) with the numbers of sacreBLEU 2.6.0. */
#ifndef PLUMB_NLP_BLEU_CHRF_H
#define PLUMB_NLP_BLEU_CHRF_H

#include "nlp/bleu/number.h"
#include "nlp/vocabulary.h"

enum { CHRF_MOST_ORDERS = 64 };

typedef struct {
    int characters,
        words; /* n-grams up to so many; words 2: chrF++. At most CHRF_MOST_ORDERS together, at least 1 */
    int beta;
    bool whitespace, lowercase;
    bool epsilon; /* an order without n-grams counts as 1e-16, as in chrF++.py; else it is left out */
} ChrfOptions;
extern const ChrfOptions chrf_usual; /* chrF2 */

/* A row of statistics: for each order, characters first, n-grams of the hypothesis, of the reference, and in both. */
int chrf_width(const ChrfOptions *);

/* Counts segments: the references of one first, then any number of hypotheses of it. */
typedef struct ChrfCounter ChrfCounter;
CHECKED Status chrf_counter_new(const ChrfOptions *, ChrfCounter **);
void chrf_counter_free(ChrfCounter *); /* NULL is allowed */
/* Of several references the one counts that gives the hypothesis the best score, of equals the first. STATUS_INPUT without one. */
CHECKED Status chrf_counter_references(ChrfCounter *, const TextSpan reference[], int references);
CHECKED Status chrf_counter_count(ChrfCounter *, TextSpan hypothesis, double row[]);

Number chrf_score(const double row[], const ChrfOptions *, Arithmetic); /* 0 to 100 */

#endif
