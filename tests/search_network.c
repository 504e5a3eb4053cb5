#include "tests/search_network.h"

#include "engine/base/random.h"
#include "tests/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int find_sentence(TestNetwork *test, const SearchStart *start)
{
    for (int i = 0; i < test->sources; ++i) {
        if (memcmp(test->source + i * test->width, start->source, (size_t)start->length * sizeof(int32_t)) !=
            0)
            continue;
        if (test->sentence[i] == NULL)
            test->sentence[i] = plain_sentence_open(test->transformer, start->source, start->length);
        return i;
    }
    assert_true(false);
    return -1;
}

static Status start(void *context, const SearchStart starts[], int count)
{
    TestNetwork *test = context;
    for (int i = 0; i < count; ++i) {
        assert_in_range(starts[i].slot, 0, test->network.slots - 1);
        test->of_slot[starts[i].slot] =
            test->table != NULL ? starts[i].source[0] : find_sentence(test, &starts[i]);
    }
    return OK;
}

static void log_softmax(const double *logits, int count, double temperature, double *out)
{
    double highest = -INFINITY, total = 0;
    for (int i = 0; i < count; ++i)
        if (logits[i] > highest) highest = logits[i];
    for (int i = 0; i < count; ++i)
        total += exp((logits[i] - highest) / temperature);
    for (int i = 0; i < count; ++i)
        out[i] = (logits[i] - highest) / temperature - log(total);
}

static bool is_banned(const SearchStep *step, const SearchRow *row, int32_t token)
{
    if (row->forced >= 0) return token != row->forced;
    for (int i = 0; i < row->banned_count; ++i)
        if (step->banned[row->banned + i] == token) return true;
    return false;
}

static void give(SearchStep *step, int at, const double *log_probability, int vocabulary)
{
    const SearchRow *row = &step->row[at];
    bool taken[4096] = {false};
    assert_true(vocabulary <= 4096);
    for (int i = 0; i < step->candidates; ++i) {
        int best = -1;
        for (int token = 0; token < vocabulary; ++token)
            if (!taken[token] && !is_banned(step, row, token) && log_probability[token] > -INFINITY &&
                (best < 0 || log_probability[token] > log_probability[best]))
                best = token;
        step->token[at * step->candidates + i] = best;
        step->log_probability[at * step->candidates + i] = best >= 0 ? log_probability[best] : -1;
        if (best < 0) return;
        taken[best] = true;
    }
}

static Status take_step(void *context, SearchStep *step)
{
    TestNetwork *test = context;
    const int vocabulary = (int)test->network.vocabulary, before = test->which;
    double *values = calloc((size_t)vocabulary, sizeof *values);
    assert_non_null(values);
    test->which = 1 - before;
    ++test->steps;
    for (int i = 0; i < step->rows; ++i) {
        const SearchRow *row = &step->row[i];
        const int of = test->of_slot[row->slot];
        const double *raw;
        /* Rows of a sentence stand together, in order; a sentence begins with one. */
        assert_int_equal(row->beam,
                         i > 0 && step->row[i - 1].slot == row->slot ? step->row[i - 1].beam + 1 : 0);
        for (int k = 0; k < row->banned_count; ++k) /* each is there once */
            for (int l = 0; l < k; ++l)
                assert_int_not_equal(step->banned[row->banned + k], step->banned[row->banned + l]);
        if (row->position == 0) {
            assert_int_equal(row->beam, 0);
            assert_int_equal(row->token, START);
            ++test->rows_of_first_steps;
        }
        if (test->table != NULL) {
            raw = test->table + ((size_t)of * (size_t)vocabulary + (size_t)row->token) * (size_t)vocabulary;
            memcpy(values, raw, (size_t)vocabulary * sizeof *values);
        } else {
            const int begun = row->position == 0 ? -1 : test->beginning[before][row->slot][row->parent];
            const int now = plain_sentence_extend(test->sentence[of], begun, row->token);
            test->beginning[test->which][row->slot][row->beam] = now;
            raw = plain_sentence_logits(test->sentence[of], now);
            log_softmax(raw, vocabulary, step->temperature, values);
        }
        if (step->logits != NULL)
            for (int token = 0; token < vocabulary; ++token)
                step->logits[i * vocabulary + token] = (float)raw[token];
        else
            give(step, i, values, vocabulary);
    }
    free(values);
    return OK;
}

SearchNetwork search_network(TestNetwork *test, int64_t vocabulary, int slots)
{
    return (SearchNetwork){.context = test,
                           .vocabulary = vocabulary,
                           .slots = slots,
                           .most_source = MOST_LENGTH,
                           .most_target = MOST_LENGTH,
                           .start = start,
                           .step = take_step};
}

void run_searches(const SearchOptions *options, TestNetwork *test, const SearchInput inputs[], int count,
                  SearchResult results[])
{
    Search *search;
    SearchResult result;
    int taken = 0;
    assert_ok(search_create(options, &test->network, &search));
    for (int i = 0; i < count; ++i)
        assert_ok(search_add(search, &inputs[i]));
    while (search_waiting(search) + search_active(search) > 0) {
        assert_ok(search_step(search));
        for (; search_take(search, &result); ++taken)
            results[result.number] = result;
    }
    assert_int_equal(taken, count);
    search_free(search);
}

void free_results(SearchResult results[], int count)
{
    for (int i = 0; i < count; ++i)
        search_result_free(&results[i]);
}

void fill_search_table(double *table, int vocabulary, uint64_t which, bool coarse)
{
    RandomStream stream = random_stream(7, RANDOM_TEST, which);
    for (int i = 0; i < vocabulary; ++i) {
        double logits[64];
        for (int j = 0; j < vocabulary; ++j)
            logits[j] = 2 * random_normal(&stream) + (j == END ? -0.5 : 0);
        log_softmax(logits, vocabulary, 1, table + i * vocabulary);
        for (int j = 0; coarse && j < vocabulary; ++j)
            table[i * vocabulary + j] = floor(table[i * vocabulary + j] * 2) / 2;
    }
}

void make_search_inputs(SearchInput inputs[TABLES], int32_t source[TABLES], const int32_t *prefix,
                        int prefix_length)
{
    for (int i = 0; i < TABLES; ++i) {
        source[i] = i;
        inputs[i] = (SearchInput){.number = i,
                                  .source = &source[i],
                                  .length = 1,
                                  .limit = 4 + 3 * i, /* each its own */
                                  .prefix = prefix,
                                  .prefix_length = prefix_length};
    }
}
