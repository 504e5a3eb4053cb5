/* The tokeniser of Tercom as sacreBLEU 2.6.0 has it. */
#ifndef PLUMB_NLP_BLEU_TER_TOKENS_H
#define PLUMB_NLP_BLEU_TER_TOKENS_H

#include "nlp/bleu/ter.h"
#include "nlp/bleu/tokens.h"

/* `times`: how often the line is prepared. sacreBLEU prepares references twice and hypotheses once, which differs where
 * options->normalized: "Donald's," is "donald's ," after the first time and "donald 's ," after the second. */
CHECKED Status ter_tokenize(const TerOptions *, TextSpan line, int times, BleuTokens *);

#endif
