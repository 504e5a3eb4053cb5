/* Search for the best continuations: beam search, greedy search and sampling over a network that gives, for each beginning of
 * a sentence, the probability of its next token.
 *
 * The network is an interface, so that nothing here knows a model or a device. A few sentences are searched at a time, each
 * in a slot; one that is finished leaves at once and the next takes its slot, so the rows of a step are live hypotheses and
 * nothing else. Each sentence decides for itself: its limit, its stop and its candidates depend on no other sentence.
 *
 * Beam search, at each step of a sentence:
 *   1. The candidates are the best 2 * beam continuations of its live hypotheses by log P, the sum of
 *      log softmax(logits / temperature) over the whole vocabulary; ties: the lower token, then the lower beam. Tokens that are
 *      banned (padding, start) are never produced; their probability is not shared out.
 *   2. Candidates that end the sentence join the finished list (SearchEnds says which); the best `beam` others live on.
 *   3. score = log P / penalty(length). The finished list is sorted by it; an equal score stays behind the earlier one.
 *   4. SearchStop says when the sentence is finished, SearchLimit what happens at its most tokens.
 * Greedy search takes the best token at each step until that is the end token. Beam 1 is not greedy search: a finished
 * second-best candidate counts there, and the search may pass the first end token. */
#ifndef PLUMB_NLP_BEAM_SEARCH_H
#define PLUMB_NLP_BEAM_SEARCH_H

#include "nlp/search_rules.h"

/* ---- the network ---- */

typedef struct {
    int slot;              /* from now on this sentence's, until the slot is started again */
    int64_t number;        /* SearchInput.number */
    const int32_t *source; /* its end token is the last */
    int length;
} SearchStart;

/* A live hypothesis. The rows of a sentence stand together, in the order of its beams. */
typedef struct {
    int32_t slot;
    int32_t beam; /* 0 to beam - 1, among the rows of the sentence */
    int32_t
        parent; /* the `beam` of the row of the sentence's step before that this one continues; 0 at position 0 */
    int32_t position; /* of `token`; 0: that is the start token */
    int32_t token;    /* the last one */
    int32_t forced;   /* >= 0: only this continuation is wanted */
    int64_t
        banned; /* the tokens SearchStep.banned[banned .. banned + banned_count - 1] are not to be given; each is there once */
    int32_t banned_count;
} SearchRow;

typedef struct {
    const SearchRow *row;
    int rows;
    const int32_t *banned;
    int64_t banned_count;
    int candidates; /* of a row */
    double temperature;
    /* To be filled: */
    int32_t *
        token; /* [rows][candidates] by falling logit, the lower token first on a tie; -1 ends a shorter list */
    double *
        log_probability; /* [rows][candidates] log softmax(logits / temperature) of them, over the whole vocabulary */
    float *logits; /* if not NULL, these are wanted instead: [rows][vocabulary] */
    int failed;    /* the row that an error is about; -1, as it is given: not one alone */
} SearchStep;

typedef struct SearchNetwork {
    void *context;
    int64_t vocabulary;
    int slots;       /* sentences at a time */
    int most_source; /* tokens of a source, its end token among them */
    int most_target; /* tokens of a hypothesis, its end token among them */
    Status (*start)(void *context, const SearchStart[], int count);
    Status (*step)(void *context, SearchStep *);
} SearchNetwork;

/* ---- searching ---- */

typedef struct {
    int64_t number;        /* the caller's; sampling is keyed by it */
    int64_t line;          /* what errors name, from 1; 0: they name `number` */
    void *owner;           /* the caller's, too: comes back with the result */
    const int32_t *source; /* copied */
    int length;
    const int32_t *prefix; /* each hypothesis begins with these tokens; copied */
    int prefix_length;
    int limit; /* the most tokens of a hypothesis, its end token among them; more than prefix_length */
} SearchInput;

typedef struct {
    int32_t *token;                /* [length], with the end token if it ended */
    double *token_log_probability; /* [length] */
    int length;
    bool ended;
    double log_probability, score;
} Hypothesis;

typedef struct {
    int64_t number;
    void *owner;
    Hypothesis *list; /* best first; sampling: in the order of the samples */
    int count;        /* 0: all continuations were banned before any hypothesis was finished */
    int steps;        /* of the decoder, for this sentence */
} SearchResult;
void search_result_free(SearchResult *);

typedef struct Search Search;
/* The network must outlive it. */
CHECKED Status search_create(const SearchOptions *, const SearchNetwork *, Search **);
void search_free(Search *); /* NULL is allowed */

/* Puts a sentence at the end of the queue. STATUS_INPUT if the network has no room for it. */
CHECKED Status search_add(Search *, const SearchInput *);
int search_waiting(const Search *); /* in the queue */
int search_active(const Search *);  /* in a slot */
/* Starts sentences of the queue where slots are free, and makes one step of all that are active. STATUS_NUMERIC where the
 * network gives NaN. */
CHECKED Status search_step(Search *);
/* The next finished sentence, in the order in which they finish; false: none. The caller frees it. */
bool search_take(Search *, SearchResult *);

typedef struct {
    int64_t steps, rows,
        tokens; /* steps of the network, their rows in all, tokens of the hypotheses given back */
} SearchCounts;
SearchCounts search_counts(const Search *);

#endif
