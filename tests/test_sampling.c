/* Sampling: alone, and as a search. */
#include "engine/base/random.h"
#include "nlp/sampling.h"
#include "tests/search_network.h"
#include "tests/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_samples_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    double table[TABLES * WORDS * WORDS];
    SearchInput inputs[TABLES];
    int32_t source[TABLES];
    for (int i = 0; i < TABLES; ++i)
        fill_search_table(table + i * WORDS * WORDS, WORDS, 200 + (uint64_t)i, false);
    TestNetwork test = {.table = table};
    make_search_inputs(inputs, source, NULL, 0);
    SearchOptions options = search_defaults(0, START, END);
    options.method = SEARCH_SAMPLE;
    options.beam = options.best = 5;
    options.seed = 3;
    SearchResult alone[TABLES], together[TABLES], other[TABLES];
    test.network = search_network(&test, WORDS, 1);
    run_searches(&options, &test, inputs, TABLES, alone);
    test.network = search_network(&test, WORDS, 4);
    run_searches(&options, &test, inputs, TABLES, together);
    options.seed = 4;
    run_searches(&options, &test, inputs, TABLES, other);
    int differences = 0, samples = 0;
    for (int i = 0; i < TABLES; ++i) {
        assert_int_equal(alone[i].count, 5);
        for (int j = 0; j < 5; ++j, ++samples) {
            const Hypothesis *a = &alone[i].list[j], *b = &together[i].list[j], *c = &other[i].list[j];
            assert_int_equal(a->length, b->length);
            assert_memory_equal(a->token, b->token, (size_t)a->length * sizeof(int32_t));
            differences += a->length != c->length ||
                           memcmp(a->token, c->token, (size_t)a->length * sizeof(int32_t)) != 0;
            double sum = 0;
            for (int k = 0; k < a->length; ++k)
                sum += a->token_log_probability[k];
            assert_true(fabs(sum - a->log_probability) < 1e-9);
            assert_true(a->ended == (a->token[a->length - 1] == END));
        }
    }
    assert_true(differences > samples / 2);
    free_results(alone, TABLES);
    free_results(together, TABLES);
    free_results(other, TABLES);
}

/* Shares of drawn tokens against the probabilities that they are drawn from. */
static void check_shares(const SamplingOptions *options, const float logits[], int32_t banned,
                         const double want[])
{
    enum { DRAWS = 20000 };
    Sampler *sampler;
    RandomStream stream = random_stream(1, RANDOM_TEST, 9);
    int drawn[8] = {0};
    assert_ok(sampler_create(options, &sampler));
    for (int i = 0; i < DRAWS; ++i) {
        int32_t token;
        double log_probability;
        assert_ok(
            sampler_draw(sampler, logits, &banned, 1, random_uniform(&stream), &token, &log_probability));
        ++drawn[token];
    }
    for (int i = 0; i < (int)options->vocabulary; ++i) {
        const double deviation = sqrt(want[i] * (1 - want[i]) / DRAWS);
        assert_true(fabs((double)drawn[i] / DRAWS - want[i]) <= 4 * deviation);
    }
    sampler_free(sampler);
}

static void test_samples_have_their_shares(void **state)
{
    (void)state;
    /* Probabilities 0.1, 0.4, 0.2, 0.25, 0.05; token 0 is banned. */
    const float logits[] = {logf(0.1F), logf(0.4F), logf(0.2F), logf(0.25F), logf(0.05F)};
    SamplingOptions options = {.vocabulary = 5, .temperature = 1, .top_p = 1};
    check_shares(&options, logits, 0, (double[]){0, 0.4 / 0.9, 0.2 / 0.9, 0.25 / 0.9, 0.05 / 0.9});
    options.top_k = 3;
    check_shares(&options, logits, 0, (double[]){0, 0.4 / 0.85, 0.2 / 0.85, 0.25 / 0.85, 0});
    options.top_p = 0.7; /* 0.65 / 0.85 is more than that */
    check_shares(&options, logits, 0, (double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
    options.top_k = 0;
    options.top_p = 1;
    options.temperature = 0.5; /* squares */
    check_shares(&options, logits, 0,
                 (double[]){0, 0.16 / 0.265, 0.04 / 0.265, 0.0625 / 0.265, 0.0025 / 0.265});
    Sampler *sampler;
    int32_t token;
    double log_probability;
    assert_ok(sampler_create(&options, &sampler));
    const float wrong[] = {0, NAN, 0, 0, 0};
    assert_fails(sampler_draw(sampler, wrong, NULL, 0, 0.5, &token, &log_probability), STATUS_NUMERIC,
                 "token 1");
    assert_ok(sampler_draw(sampler, logits, (int32_t[]){0, 1, 2, 3, 4}, 5, 0.5, &token, &log_probability));
    assert_int_equal(token, -1);
    assert_ok(sampler_take(sampler, logits, 1, &log_probability));
    assert_true(fabs(log_probability - log(0.16 / 0.275)) < 1e-6);
    sampler_free(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_do_not_depend_on_the_batch),
        cmocka_unit_test(test_samples_have_their_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
