/* Translation edit rate (Snover et al., AMTA 2006) with the numbers of sacreBLEU 2.6.0: its shifts, its limits and its beam, which
 * are part of the number. */
#ifndef PLUMB_NLP_BLEU_TER_H
#define PLUMB_NLP_BLEU_TER_H

#include "nlp/bleu/number.h"
#include "nlp/vocabulary.h"

typedef struct {
    bool case_sensitive; /* else all is lower case */
    bool normalized;     /* Tercom's tokens, else words are what white space separates */
    bool no_punctuation; /* .,?:;!"() are left out */
    bool asian;          /* normalized: East Asian characters apart; no_punctuation: theirs too */
} TerOptions;

/* A row of statistics: fewest edits over the references, mean length of the references. */
enum { TER_WIDTH = 2 };

/* Counts segments: the references of one first, then any number of hypotheses of it. */
typedef struct TerCounter TerCounter;
CHECKED Status ter_counter_new(const TerOptions *, TerCounter **);
void ter_counter_free(TerCounter *); /* NULL is allowed */
CHECKED Status ter_counter_references(TerCounter *, const TextSpan reference[], int references);
CHECKED Status ter_counter_count(TerCounter *, TextSpan hypothesis, double row[TER_WIDTH]);

Number ter_score(const double row[TER_WIDTH], Arithmetic); /* in percent; 0 is best, and it may pass 100 */

#endif
