/* What tokenisers are made of: rules, each of which makes `text` of a line under work into the next (see tokens.h). */
#ifndef PLUMB_NLP_BLEU_TOKEN_RULES_H
#define PLUMB_NLP_BLEU_TOKEN_RULES_H

#include "nlp/bleu/tokens.h"

/* Room in `other` for a line that is to be `times` as long; and: what stands there, `size` bytes, is the line now. */
CHECKED Status rule_room(BleuTokens *, size_t times);
void rule_take(BleuTokens *, size_t size);

/* Every `from` becomes `to`, which is not longer. */
void rule_replace(BleuTokens *, const char *from, const char *to);
/* Line ends become blanks, and &quot; &amp; &lt; &gt; what they stand for. */
void rule_entities(BleuTokens *);
/* A blank before and behind the line. */
CHECKED Status rule_surround(BleuTokens *);
/* A blank before and behind each character that `apart` names. */
CHECKED Status rule_apart(BleuTokens *, bool (*apart)(uint32_t));

/* Of mteval: ASCII punctuation apart; points and commas but between digits, and dashes behind digits; both. */
CHECKED Status rule_punctuation(BleuTokens *);
CHECKED Status rule_points(BleuTokens *);
CHECKED Status rule_western(BleuTokens *);

#endif
