/* The rules of a search (nlp/beam_search.h): what counts as a candidate, what ends a sentence, and how length is penalised. */
#ifndef PLUMB_NLP_SEARCH_RULES_H
#define PLUMB_NLP_SEARCH_RULES_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { SEARCH_MOST_BEAM = 64 };

typedef enum {
    LENGTH_WU,    /* ((5 + length) / 6)^alpha (Wu et al. 2016) */
    LENGTH_POWER, /* length^alpha */
    LENGTH_NONE   /* 1 */
} LengthPenalty;

typedef enum {
    ENDS_ANYWHERE, /* every candidate that ends joins the finished list */
    ENDS_IN_BEAM   /* only those among the best `beam` candidates */
} SearchEnds;

typedef enum {
    STOP_BOUND, /* `beam` finished, and the worst of them scores at least what the best live one can still reach */
    STOP_FINISHED, /* `beam` have finished */
    STOP_FIRST     /* the best candidate of some step ended, and as many have finished as are given back */
} SearchStop;

typedef enum {
    LIMIT_FORCED_END, /* the last place holds the end token, for every live hypothesis */
    LIMIT_TENSOR2TENSOR, /* only what ended by itself counts; if nothing did, the live ones, without an end token */
    LIMIT_CUT            /* the best `beam` candidates as they are, with or without an end token */
} SearchLimit;

typedef enum {
    KEEP_BEST,  /* the finished list keeps the best `beam` by score */
    KEEP_FIRST, /* the first `beam` */
    KEEP_ALL    /* all until the sentence stops */
} SearchKeep;

typedef struct {
    const char *name;
    LengthPenalty penalty;
    bool count_end; /* the end token counts in the penalty's length */
    SearchEnds ends;
    SearchStop stop, stop_without_penalty; /* the second where alpha is 0 or the penalty NONE */
    SearchLimit limit;
    SearchKeep keep;
} SearchRules;
/* The rules "plumb" (the first, the default), "tensor2tensor", "fairseq" and "ctranslate2"; NULL for another name. A limit of L
 * tokens is --max-len-b L - 1 of fairseq, which does not count the end token. */
const SearchRules *search_rules(const char *name);
const SearchRules *search_rules_table(int *count);

typedef enum { SEARCH_BEAM, SEARCH_GREEDY, SEARCH_SAMPLE } SearchMethod;

typedef struct {
    SearchMethod method;
    SearchRules rules;
    int beam; /* 1 to SEARCH_MOST_BEAM; of sampling: how many samples of a sentence */
    int best; /* hypotheses of a sentence that are given back: the first of its list; 1 to beam */
    double alpha, temperature;
    int minimum;   /* tokens before the end token may come */
    int no_repeat; /* no sequence of so many tokens comes twice in a hypothesis; 0: any may */
    int64_t top_k; /* sampling: from the best so many tokens; 0: from all */
    double top_p;  /* sampling: from the fewest tokens that have this share of what top_k left; 1: from all */
    uint64_t seed; /* sampling */
    int32_t start, end;
    int32_t never[2]; /* tokens that are never produced; -1: none */
} SearchOptions;
/* beam 4, alpha 0.6, temperature 1, the rules "plumb", one hypothesis. */
SearchOptions search_defaults(int32_t padding, int32_t start, int32_t end);
/* STATUS_INPUT names what is out of its range or does not go together. */
CHECKED Status search_check(const SearchOptions *);

/* penalty(length), of a hypothesis of `tokens` tokens, the end token among them if it ended. */
double search_penalty(const SearchOptions *, int tokens, bool ended);
/* When a sentence is finished. */
SearchStop search_stop(const SearchOptions *);
/* The most tokens that SearchStep.banned (nlp/beam_search.h) can hold for one row. */
int search_most_banned(const SearchOptions *, int most_target);

#endif
