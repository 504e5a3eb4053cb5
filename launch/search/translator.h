/* Lines of text into lines of text: what stands between the input and a search. A line becomes subwords, one that is too long is
 * cut or becomes several parts, the search finds hypotheses, and these become a line again. Lines come back in the order
 * in which they were given. */
#ifndef PLUMB_LAUNCH_SEARCH_TRANSLATOR_H
#define PLUMB_LAUNCH_SEARCH_TRANSLATOR_H

#include "nlp/beam_search.h"
#include "nlp/subwords.h"

typedef enum { LONG_CUT, LONG_SPLIT } LongLines;
enum { TRANSLATOR_MOST_PARTS = 1 << 16 }; /* of a line */

typedef struct {
    SearchOptions search;
    double limit_constant,
        limit_factor; /* the most tokens of a translation: constant + factor * those of the source, both
                                            with their end tokens */
    LongLines long_lines;
    bool scores; /* before each hypothesis its score and a TAB */
    bool json;   /* an object a line, with the tokens */
} TranslatorOptions;

/* Beam 4, at most 50 tokens more than the source has. */
TranslatorOptions translator_defaults(void);
/* The limit for a source of `tokens` tokens: at least 1, at most `most`. */
int translator_limit(const TranslatorOptions *, int tokens, int most);

typedef struct Translator Translator;
/* Subwords and network must outlive it. */
CHECKED Status translator_create(const TranslatorOptions *, const Subwords *, const SearchNetwork *,
                                 Translator **);
void translator_free(Translator *); /* NULL is allowed */

/* Takes line `number` (from 0; rising, but not each must come), valid UTF-8. prefix: what its translation begins with; without
 * bytes: anything. The search does not see it before translator_begin. */
CHECKED Status translator_add(Translator *, int64_t number, TextSpan line, TextSpan prefix);
/* Gives what was added since to the search, the longest first. */
CHECKED Status translator_begin(Translator *);
/* One step of the search. */
CHECKED Status translator_step(Translator *);
/* Sentences that the search has not begun, and is at. */
int translator_waiting(const Translator *);
int translator_active(const Translator *);
/* The next line in the order of adding, if it is done: several hypotheses are parted by TABs, a TAB within them is a space. The
 * text is the caller's, to be released with free(). */
CHECKED Status translator_next(Translator *, bool *got, char **text, size_t *size);

typedef struct {
    int64_t lines, blank;
    int64_t cut, split, first_long; /* lines that were too long; the number of the first, -1: none */
    int64_t longest;                /* its tokens */
    int64_t beyond;                 /* lines of too many parts, whose rest was left out */
    int64_t stuck, first_stuck;     /* lines without a hypothesis, as everything was banned; as above */
    int64_t at_limit;               /* lines whose best hypothesis is as long as it may be */
    int64_t source_tokens;          /* of the parts that were translated, with end tokens */
    int64_t tokens;                 /* of the hypotheses given back, with end tokens */
} TranslatorCounts;
TranslatorCounts translator_counts(const Translator *);

#endif
