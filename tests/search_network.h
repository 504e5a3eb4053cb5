/* Networks that suites of searches search: tables and a Transformer in double precision. */
#ifndef PLUMB_TESTS_SEARCH_NETWORK_H
#define PLUMB_TESTS_SEARCH_NETWORK_H

#include "nlp/beam_search.h"
#include "tests/plain_transformer.h"

enum { MOST_SLOTS = 64, MOST_LENGTH = 64, START = 1, END = 2 };

/* Tables of log-probabilities (the source's first token says which table), or a Transformer. */
typedef struct {
    SearchNetwork network;
    const double *table; /* [tables][vocabulary][vocabulary] by the token before */
    const PlainTransformer *transformer;
    PlainSentence **sentence; /* one for each source, made when it is first seen, kept; [sources] */
    int sources;
    const int32_t *source; /* [sources][width]: to find a sentence by its ids */
    int width;
    int of_slot[MOST_SLOTS]; /* table or sentence */
    int beginning[2][MOST_SLOTS]
                 [SEARCH_MOST_BEAM]; /* of a Transformer: of this step's rows and the last one's */
    int which;
    int rows_of_first_steps, steps;
} TestNetwork;

/* What a search asks, of the test, which says table or transformer. */
SearchNetwork search_network(TestNetwork *, int64_t vocabulary, int slots);
/* Searches all sentences; results in their order. */
void run_searches(const SearchOptions *, TestNetwork *, const SearchInput inputs[], int count,
                  SearchResult results[]);
void free_results(SearchResult results[], int count);

/* Log-probabilities of a random network, [vocabulary][vocabulary]; coarse ones meet ties. */
void fill_search_table(double *table, int vocabulary, uint64_t which, bool coarse);
/* A sentence for each of so many tables of WORDS words. */
enum { TABLES = 6, WORDS = 11 };
void make_search_inputs(SearchInput inputs[TABLES], int32_t source[TABLES], const int32_t *prefix,
                        int prefix_length);

#endif
