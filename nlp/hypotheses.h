/* The hypotheses of one sentence as a search goes on: those that live, each to be continued by a token a step, and those that are
 * finished. Internal to nlp/. */
#ifndef PLUMB_NLP_HYPOTHESES_H
#define PLUMB_NLP_HYPOTHESES_H

#include "nlp/beam_search.h"

#include <stddef.h>

/* A token of a hypothesis. Hypotheses are paths in a tree: what they share is there once. */
typedef struct {
    int32_t parent, token; /* parent -1: it is the first token */
    double log_probability;
} HypothesisLink;

typedef struct {
    int32_t link;   /* its last token; -1: nothing yet */
    int32_t parent; /* row of the step before */
    int32_t sample; /* sampling: which sample */
    int32_t length;
    double log_probability;
} LiveHypothesis;

typedef struct {
    int32_t link, sample;
    int length;
    bool ended;
    double log_probability, score;
} FinishedHypothesis;

/* A live hypothesis with a further token. */
typedef struct {
    int row; /* which one, of the sentence's rows */
    int32_t token;
    int32_t sample;                /* sampling: which sample */
    double total, log_probability; /* of the hypothesis with the token, and of the token */
} SearchCandidate;

typedef struct {
    HypothesisLink *link;
    size_t links, link_capacity;
    LiveHypothesis *live;         /* [beam] */
    FinishedHypothesis *finished; /* [2 * beam] */
    int live_count, finished_count;
    int position;    /* tokens of those that live */
    bool best_ended; /* of some step the best candidate was finished */
    bool done;       /* the finished are what there is to find */
} Hypotheses;
/* One live hypothesis without a token. On an error the caller still frees. */
CHECKED Status hypotheses_begin(const SearchOptions *, Hypotheses *);
void hypotheses_free(Hypotheses *);

/* The last token of a live hypothesis; of one without any the start token. */
int32_t hypotheses_last(const SearchOptions *, const Hypotheses *, const LiveHypothesis *);
/* token[length] */
void hypotheses_tokens(const Hypotheses *, const LiveHypothesis *, int32_t token[]);

/* A step of beam or greedy search: the best candidates, in order. limit: SearchInput.limit. */
CHECKED Status hypotheses_advance(const SearchOptions *, int limit, const SearchCandidate[], int count,
                                  Hypotheses *);
/* A step of sampling: the token of each sample that goes on. */
CHECKED Status hypotheses_sample(const SearchOptions *, int limit, const SearchCandidate[], int count,
                                 Hypotheses *);

/* A finished one, by its place in the list; *out owns its arrays, also on an error. */
CHECKED Status hypotheses_write(const Hypotheses *, int place, Hypothesis *out);

#endif
