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

/* Which words of a hypothesis are right: those that, after the shifts that TER makes, its alignment puts on an equal word of the
 * reference. right[words], in the hypothesis' own order (places travel with the words that are shifted). Words are any numbers;
 * edits: as TER counts them, shifts included. */
typedef struct {
    const uint32_t *word;
    int64_t words;
} TerWords;
CHECKED Status ter_counter_align(TerCounter *, TerWords reference, TerWords hypothesis, uint8_t right[],
                                 int64_t *edits);

Number ter_score(const double row[TER_WIDTH], Arithmetic); /* in percent; 0 is best, and it may pass 100 */

#endif
