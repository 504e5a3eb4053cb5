/* A split of a translation task as the session's network translates it: how an evaluation, and a training, measure BLEU and what
 * else there is to say of a network's own output. */
#ifndef PLUMB_LAUNCH_TRAIN_SPLIT_TRANSLATION_H
#define PLUMB_LAUNCH_TRAIN_SPLIT_TRANSLATION_H

#include "launch/search/translator.h"
#include "launch/train/session.h"

typedef struct {
    TranslatorOptions lines; /* the search and its limit; its temperature is that of each pass */
    int64_t sentences;       /* at a time; 0: as fits the device */
    bool progress;           /* how far it is, on a terminal */
    bool keeps; /* sentences are encoded once for all temperatures, as many at a time as fit a few hundred
                                megabytes; else once a temperature, which is enough for one */
} SplitTranslationOptions;
/* As plumb translate has them. */
SplitTranslationOptions split_translation_defaults(void);

typedef struct {
    int64_t number; /* in the split, from 0 */
    int32_t *
        source; /* [length] ids and the end token: as long as plumb translate takes it; length 1: nothing to translate */
    int length;
    int32_t *target; /* [target_length] the reference's ids and the end token */
    int target_length;
    TextSpan reference; /* the text, as in the file */
} SplitSentence;

typedef struct SplitTranslation SplitTranslation;
/* Takes this rank's share of the sentences, and makes the programs. STATUS_UNSUPPORTED for a task that translates nothing. The
 * session must outlive it. Collective. */
CHECKED Status split_translation_open(Session *, Split, const SplitTranslationOptions *, SplitTranslation **);
void split_translation_close(SplitTranslation *); /* NULL is allowed */
Session *split_translation_session(const SplitTranslation *);

/* A sentence's best hypothesis at temperature `pass`; NULL: it has none (a blank line). */
typedef Status TakeTranslation(void *taker, int pass, const SplitSentence *, const Hypothesis *);
/* Translates this rank's share with the session's parameters as they are now, at each of the temperatures. Not collective. */
CHECKED Status split_translation_run(SplitTranslation *, const double temperature[], int count,
                                     TakeTranslation *take, void *taker);

/* BLEU of the whole split at each temperature, 0 to 100, as plumb bleu has it of the files: tokeniser 13a, exponential smoothing.
 * The same at any number of ranks if the translations are. Collective. */
CHECKED Status split_translation_bleu(SplitTranslation *, const double temperature[], int count,
                                      double bleu[]);
/* "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:..."; release with free(). */
CHECKED Status split_translation_signature(char **text);
/* "beam 4, alpha 0.6" or "greedy". */
enum { SEARCH_TEXT = 96 };
void split_translation_search_text(const SplitTranslationOptions *, char text[SEARCH_TEXT]);

#endif
