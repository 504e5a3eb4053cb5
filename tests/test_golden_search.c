/* Beam search against golden searches: on tables with ties, on a tiny network beside brute force, and on a trained one. */
#include "tests/golden.h"
#include "tests/search_network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item == NULL) print_error("an entry has no %s\n", key);
    assert_non_null(item);
    return item;
}
static double number(const cJSON *object, const char *key) { return golden_json_number(member(object, key)); }
static double number_at(const cJSON *list, int index)
{
    return golden_json_number(cJSON_GetArrayItem(list, index));
}

static SearchOptions options_of(const cJSON *entry, int beam, const char *limit_rule)
{
    SearchOptions options = search_defaults(0, START, END);
    options.beam = options.best = beam;
    options.alpha = cJSON_HasObjectItem(entry, "alpha") ? number(entry, "alpha") : 0;
    options.temperature = cJSON_HasObjectItem(entry, "temperature") ? number(entry, "temperature") : 1;
    assert_true(strcmp(limit_rule, "tensor2tensor") == 0 || strcmp(limit_rule, "forced_end") == 0);
    options.rules.limit = limit_rule[0] == 't' ? LIMIT_TENSOR2TENSOR : LIMIT_FORCED_END;
    return options;
}

/* `want`: [[tokens, log P, score], ...] */
static void check_list(const SearchResult *got, const cJSON *want, GoldenTolerance tolerance,
                       const char *what)
{
    if (got->count != cJSON_GetArraySize(want))
        print_error("%s: %d hypotheses, not %d\n", what, got->count, cJSON_GetArraySize(want));
    assert_int_equal(got->count, cJSON_GetArraySize(want));
    for (int i = 0; i < got->count; ++i) {
        const cJSON *one = cJSON_GetArrayItem(want, i), *tokens = cJSON_GetArrayItem(one, 0);
        const Hypothesis *hypothesis = &got->list[i];
        double sum = 0;
        bool same = hypothesis->length == cJSON_GetArraySize(tokens);
        for (int j = 0; same && j < hypothesis->length; ++j)
            same = hypothesis->token[j] == (int32_t)number_at(tokens, j);
        for (int j = 0; j < hypothesis->length; ++j)
            sum += hypothesis->token_log_probability[j];
        same = same && golden_is_close(hypothesis->log_probability, number_at(one, 1), tolerance) &&
               golden_is_close(sum, number_at(one, 1), (GoldenTolerance){1e-9, 1e-9}) &&
               (cJSON_GetArraySize(one) < 3 ||
                golden_is_close(hypothesis->score, number_at(one, 2), tolerance)) &&
               hypothesis->ended == (hypothesis->token[hypothesis->length - 1] == END);
        if (!same)
            print_error("%s: hypothesis %d is another (log P %.17g)\n", what, i, hypothesis->log_probability);
        assert_true(same);
        golden_count(2 + hypothesis->length);
    }
}

static void test_golden_tables(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("beam_search_table", NULL, golden)) != NULL;
         ++cases) {
        GoldenArray table = golden_array(golden, "inputs/log_probability");
        const int tables = (int)table.extent[0];
        TestNetwork test = {.table = table.values};
        cJSON *document = golden_document(golden, "expected_files/results"), *entry;
        const GoldenTolerance tolerance = {1e-12, 0};
        cJSON_ArrayForEach(entry, document)
        {
            const SearchOptions options =
                options_of(entry, (int)number(entry, "beam"), member(entry, "limit_rule")->valuestring);
            SearchInput *inputs = calloc((size_t)tables, sizeof *inputs);
            SearchResult *results = calloc((size_t)tables, sizeof *results);
            int32_t *source = calloc((size_t)tables, sizeof *source);
            assert_true(inputs != NULL && results != NULL && source != NULL);
            for (int i = 0; i < tables; ++i) {
                source[i] = i;
                inputs[i] = (SearchInput){.number = i,
                                          .source = &source[i],
                                          .length = 1,
                                          .limit = (int)number(entry, "max_length")};
            }
            test.network = search_network(&test, table.extent[1], 5);
            test.rows_of_first_steps = 0;
            run_searches(&options, &test, inputs, tables, results);
            assert_int_equal(test.rows_of_first_steps, tables); /* the first step is not expanded */
            for (int i = 0; i < tables; ++i) {
                char what[160];
                (void)snprintf(what, sizeof what, "%s, beam %d, alpha %g, limit %d by %s, table %d",
                               golden->id, options.beam, options.alpha, inputs[i].limit,
                               member(entry, "limit_rule")->valuestring, i);
                check_list(&results[i], cJSON_GetArrayItem(member(entry, "nbest"), i), tolerance, what);
                assert_int_equal(results[i].steps, (int)number_at(member(entry, "steps"), i));
            }
            free_results(results, tables);
            free(inputs);
            free(results);
            free(source);
        }
        cJSON_Delete(document);
        golden_array_free(&table);
    }
    if (cases == 0) skip();
}

/* ---- with a Transformer ---- */

typedef struct {
    TestNetwork test;
    PlainTransformer *transformer;
    GoldenArray source;
    int32_t *ids; /* [sources][width] */
    int *length;
} SearchCase;

static void open_case(const GoldenCase *golden, SearchCase *searched)
{
    *searched = (SearchCase){.transformer = plain_transformer_open(golden)};
    searched->source = golden_array(golden, "inputs/source");
    const int sources = (int)searched->source.extent[0], width = (int)searched->source.extent[1];
    searched->ids = calloc((size_t)(sources * width), sizeof *searched->ids);
    searched->length = calloc((size_t)sources, sizeof *searched->length);
    searched->test = (TestNetwork){.transformer = searched->transformer,
                                   .sources = sources,
                                   .source = searched->ids,
                                   .width = width,
                                   .sentence = calloc((size_t)sources, sizeof(PlainSentence *))};
    assert_true(searched->ids != NULL && searched->length != NULL && searched->test.sentence != NULL);
    for (int i = 0; i < sources * width; ++i) {
        searched->ids[i] = (int32_t)searched->source.values[i];
        if (searched->ids[i] != 0) searched->length[i / width] = i % width + 1;
    }
    searched->test.network =
        search_network(&searched->test, plain_transformer_vocabulary(searched->transformer), 7);
}

static void close_case(SearchCase *searched)
{
    for (int i = 0; i < searched->test.sources; ++i)
        if (searched->test.sentence[i] != NULL) plain_sentence_close(searched->test.sentence[i]);
    free(searched->test.sentence);
    free(searched->ids);
    free(searched->length);
    golden_array_free(&searched->source);
    plain_transformer_close(searched->transformer);
}

/* Translates source `of` (-1: all), with the limits of `max_length`, a number or a list. */
static void translate(SearchCase *searched, const SearchOptions *options, const cJSON *max_length, int of,
                      SearchResult results[])
{
    const int count = of < 0 ? searched->test.sources : 1;
    SearchInput *inputs = calloc((size_t)count, sizeof *inputs);
    assert_non_null(inputs);
    for (int i = 0; i < count; ++i) {
        const int source = of < 0 ? i : of;
        inputs[i] = (SearchInput){.number = i,
                                  .source = searched->ids + source * searched->test.width,
                                  .length = searched->length[source],
                                  .limit = (int)(cJSON_IsArray(max_length) ? number_at(max_length, i)
                                                                           : golden_json_number(max_length))};
    }
    run_searches(options, &searched->test, inputs, count, results);
    free(inputs);
}

static void check_searches(SearchCase *searched, const GoldenCase *golden, GoldenTolerance tolerance)
{
    cJSON *document = golden_document(golden, "expected_files/results"), *entry;
    SearchResult *results = calloc((size_t)searched->test.sources, sizeof *results);
    assert_non_null(results);
    cJSON_ArrayForEach(entry, document)
    {
        const SearchOptions options =
            options_of(entry, (int)number(entry, "beam"), member(entry, "limit_rule")->valuestring);
        translate(searched, &options, member(entry, "max_length"), -1, results);
        for (int i = 0; i < searched->test.sources; ++i) {
            char what[160];
            (void)snprintf(what, sizeof what, "%s, beam %d, alpha %g, T %g, limit %s by %s, source %d",
                           golden->id, options.beam, options.alpha, options.temperature,
                           member(entry, "limit")->valuestring, member(entry, "limit_rule")->valuestring, i);
            if (number_at(member(entry, "margin"), i) < 1e-9) continue;
            check_list(&results[i], cJSON_GetArrayItem(member(entry, "nbest"), i), tolerance, what);
            assert_int_equal(results[i].steps, (int)number_at(member(entry, "steps"), i));
        }
        free_results(results, searched->test.sources);
    }
    free(results);
    cJSON_Delete(document);
}

static void check_greedy(SearchCase *searched, const GoldenCase *golden, GoldenTolerance tolerance)
{
    cJSON *document = golden_document(golden, "expected_files/greedy"), *entry;
    SearchResult *results = calloc((size_t)searched->test.sources, sizeof *results);
    assert_non_null(results);
    cJSON_ArrayForEach(entry, document)
    {
        SearchOptions options = options_of(entry, 1, member(entry, "limit_rule")->valuestring);
        options.method = SEARCH_GREEDY;
        translate(searched, &options, member(entry, "max_length"), -1, results);
        for (int i = 0; i < searched->test.sources; ++i) {
            cJSON *list = cJSON_CreateArray();
            cJSON_AddItemReferenceToArray(list, cJSON_GetArrayItem(member(entry, "results"), i));
            check_list(&results[i], list, tolerance, "greedy");
            cJSON_Delete(list);
        }
        free_results(results, searched->test.sources);
    }
    free(results);
    cJSON_Delete(document);
}

static void test_golden_searches(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("beam_search", NULL, golden)) != NULL;
         ++cases) {
        const GoldenTolerance tolerance = golden_tolerance(golden, "f64", "log_probability_and_score");
        SearchCase searched;
        open_case(golden, &searched);
        check_searches(&searched, golden, tolerance);
        check_greedy(&searched, golden, tolerance);
        close_case(&searched);
    }
    if (cases == 0) skip();
}

static void test_golden_brute_force(void **state)
{
    (void)state;
    int cases = 0, exhaustive = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("beam_brute_force", NULL, golden)) != NULL;
         ++cases) {
        const GoldenTolerance tolerance = golden_tolerance(golden, "f64", "log_probability_and_score");
        SearchCase searched;
        open_case(golden, &searched);
        cJSON *document = golden_document(golden, "expected_files/results"), *entry, *beam;
        cJSON_ArrayForEach(entry, document)
        {
            cJSON_ArrayForEach(beam, member(entry, "beam")) /* "tensor2tensor 4" */
            {
                char rule[32], what[96];
                int width;
                assert_int_equal(sscanf(beam->string, "%31s %d", rule, &width), 2);
                SearchOptions options = options_of(entry, width, rule);
                if (options.best > 10) options.best = 10;
                SearchResult result;
                translate(&searched, &options, member(entry, "max_length"), (int)number(entry, "source"),
                          &result);
                (void)snprintf(what, sizeof what, "%s, source %d, %s", golden->id,
                               (int)number(entry, "source"), beam->string);
                if (number(beam, "margin") > 1e-9) {
                    check_list(&result, member(beam, "nbest"), tolerance, what);
                    assert_int_equal(result.steps, (int)number(beam, "steps"));
                }
                if (width == 64 && cJSON_IsTrue(member(entry, "beam_64_best_8_equal_brute_force")) &&
                    strcmp(rule, "forced_end") == 0) {
                    cJSON *best = cJSON_CreateArray();
                    for (int i = 0; i < 8; ++i)
                        cJSON_AddItemReferenceToArray(
                            best, cJSON_GetArrayItem(member(entry, "brute_force_best_15"), i));
                    SearchResult shorter = result;
                    shorter.count = 8;
                    check_list(&shorter, best, tolerance, what);
                    cJSON_Delete(best);
                    ++exhaustive;
                }
                search_result_free(&result);
            }
        }
        cJSON_Delete(document);
        close_case(&searched);
    }
    if (cases == 0) skip();
    assert_true(exhaustive > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_tables),
        cmocka_unit_test(test_golden_searches),
        cmocka_unit_test(test_golden_brute_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
