/* Searches through the programs of a decoder, against golden ones in float32; and that no translation depends on what is
 * translated beside it. */
#include "engine/base/random.h"
#include "launch/search/decoder.h"
#include "tests/golden.h"
#include "tests/golden_transformer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { START = 1, END = 2 };

static int threads = 2;

/* Threads of a block are fibres where kernels for a GPU run on the host: less is tested there. */
static bool is_slow(void) { return test_device() != DEVICE_CPU; }
enum { FEW_SOURCES = 6 };

typedef struct {
    Device *device;
    Decoder *decoder;
} Opened;

static DecoderOptions options_for(const GoldenCase *golden, int slots, int beam)
{
    return (DecoderOptions){.network = golden_transformer(golden),
                            .compute = FLOAT32,
                            .slots = slots,
                            .beam = beam,
                            .candidates = 2 * beam,
                            .most_source = 16,
                            .most_target = 26,
                            .most_banned = 3,
                            .record = true,
                            .fuse = true,
                            .plan = PLAN_DEFAULTS};
}

static Opened open_decoder(const GoldenCase *golden, const DecoderOptions *options)
{
    Opened opened;
    assert_ok(device_open(test_device(), 0, threads, &opened.device));
    device_set_numerics(opened.device, (DeviceNumerics){.deterministic = true});
    assert_ok(decoder_create(options, opened.device, &opened.decoder));
    golden_transformer_fill(golden, decoder_store(opened.decoder));
    return opened;
}

static void close_decoder(Opened *opened)
{
    decoder_free(opened->decoder);
    device_close(opened->device);
}

/* ---- sources ---- */

typedef struct {
    GoldenArray array;
    int count, width;
    int32_t *id;
    int *length;
} Sources;

static Sources read_sources(const GoldenCase *golden)
{
    Sources sources = {.array = golden_array(golden, "inputs/source")};
    sources.count = is_slow() ? FEW_SOURCES : (int)sources.array.extent[0];
    sources.width = (int)sources.array.extent[1];
    sources.id = calloc((size_t)sources.array.count, sizeof *sources.id);
    sources.length = calloc((size_t)sources.count, sizeof *sources.length);
    assert_true(sources.id != NULL && sources.length != NULL);
    for (int i = 0; i < sources.count * sources.width; ++i) {
        sources.id[i] = (int32_t)sources.array.values[i];
        if (sources.id[i] != 0) sources.length[i / sources.width] = i % sources.width + 1;
    }
    return sources;
}

static void free_sources(Sources *sources)
{
    golden_array_free(&sources->array);
    free(sources->id);
    free(sources->length);
}

/* Searches all sources; results in their order. */
static void run(const SearchOptions *search_options, Decoder *decoder, const Sources *sources,
                const int limit[], SearchResult results[])
{
    Search *search;
    SearchResult result;
    assert_ok(search_create(search_options, decoder_network(decoder), &search));
    for (int i = 0; i < sources->count; ++i) {
        const SearchInput input = {.number = i,
                                   .source = sources->id + i * sources->width,
                                   .length = sources->length[i],
                                   .limit = limit[i]};
        assert_ok(search_add(search, &input));
    }
    int taken = 0;
    while (search_waiting(search) + search_active(search) > 0) {
        assert_ok(search_step(search));
        for (; search_take(search, &result); ++taken)
            results[result.number] = result;
    }
    assert_int_equal(taken, sources->count);
    search_free(search);
}

static void free_results(SearchResult results[], int count)
{
    for (int i = 0; i < count; ++i)
        search_result_free(&results[i]);
}

/* ---- golden ---- */

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_non_null(item);
    return item;
}

static double number_at(const cJSON *list, int index)
{
    return golden_json_number(cJSON_GetArrayItem(list, index));
}

static bool same_hypothesis(const Hypothesis *got, const cJSON *want, GoldenTolerance tolerance)
{
    const cJSON *tokens = cJSON_GetArrayItem(want, 0);
    bool same = got->length == cJSON_GetArraySize(tokens) &&
                golden_is_close(got->log_probability, number_at(want, 1), tolerance) &&
                (cJSON_GetArraySize(want) < 3 || golden_is_close(got->score, number_at(want, 2), tolerance));
    for (int i = 0; same && i < got->length; ++i)
        same = got->token[i] == (int32_t)number_at(tokens, i);
    return same;
}

static void check_configuration(const GoldenCase *golden, const cJSON *entry, Opened *opened, int beam,
                                bool greedy, const Sources *sources)
{
    const GoldenTolerance tolerance = golden_tolerance(golden, "f32", "log_probability_and_score");
    SearchOptions options = search_defaults(0, START, END);
    options.method = greedy ? SEARCH_GREEDY : SEARCH_BEAM;
    options.beam = options.best = beam;
    options.alpha = cJSON_HasObjectItem(entry, "alpha") ? golden_json_number(member(entry, "alpha")) : 0;
    options.temperature = golden_json_number(member(entry, "temperature"));
    if (strcmp(member(entry, "limit_rule")->valuestring, "tensor2tensor") == 0)
        options.rules.limit = LIMIT_TENSOR2TENSOR;
    SearchResult *results = calloc((size_t)sources->count, sizeof *results);
    int *limit = calloc((size_t)sources->count, sizeof *limit);
    assert_true(results != NULL && limit != NULL);
    for (int i = 0; i < sources->count; ++i)
        limit[i] = (int)number_at(member(entry, "max_length"), i);
    run(&options, opened->decoder, sources, limit, results);
    for (int i = 0; i < sources->count; ++i) {
        if (number_at(member(entry, "margin"), i) < 1e-4) continue;
        const cJSON *want = cJSON_GetArrayItem(member(entry, greedy ? "results" : "nbest"), i);
        bool same = greedy || results[i].count == cJSON_GetArraySize(want);
        for (int k = 0; same && k < results[i].count; ++k)
            same =
                same_hypothesis(&results[i].list[k], greedy ? want : cJSON_GetArrayItem(want, k), tolerance);
        if (!same)
            print_error("%s: source %d, beam %d, alpha %g, T %g by %s\n", golden->id, i, greedy ? 0 : beam,
                        options.alpha, options.temperature, member(entry, "limit_rule")->valuestring);
        assert_true(same);
        golden_count(results[i].count);
    }
    free_results(results, sources->count);
    free(results);
    free(limit);
}

static void test_golden_searches(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("beam_search", NULL, golden)) != NULL;
         ++cases) {
        Sources sources = read_sources(golden);
        cJSON *document = golden_document(golden, "expected_files/results"), *entry;
        for (int beam = 1; beam <= 8; beam *= 2) {
            if (is_slow() && beam != 4) continue;
            const DecoderOptions options = options_for(golden, 5 + beam, beam);
            Opened opened = open_decoder(golden, &options);
            cJSON_ArrayForEach(entry, document)
            {
                const bool rare = golden_json_number(member(entry, "temperature")) > 1;
                if ((int)golden_json_number(member(entry, "beam")) == beam && (rare || !is_slow()))
                    check_configuration(golden, entry, &opened, beam, false, &sources);
            }
            close_decoder(&opened);
        }
        cJSON_Delete(document);
        document = golden_document(golden, "expected_files/greedy");
        DecoderOptions options = options_for(golden, 30, 1);
        options.candidates = 1;
        Opened opened = open_decoder(golden, &options);
        cJSON_ArrayForEach(entry, document)
        {
            check_configuration(golden, entry, &opened, 1, true, &sources);
            if (is_slow()) break;
        }
        close_decoder(&opened);
        cJSON_Delete(document);
        free_sources(&sources);
    }
    if (cases == 0) skip();
}

/* ---- nothing depends on the batch ---- */

static const GoldenCase *any_case(void)
{
    const GoldenCase *golden = golden_next("beam_search", NULL, NULL);
    if (golden == NULL) skip();
    return golden;
}

static void search_all(const GoldenCase *golden, const DecoderOptions *options, const SearchOptions *search,
                       const Sources *sources, SearchResult results[])
{
    int limit[64];
    assert_true(sources->count <= 64);
    for (int i = 0; i < sources->count; ++i)
        limit[i] = sources->length[i] + 10;
    Opened opened = open_decoder(golden, options);
    run(search, opened.decoder, sources, limit, results);
    const DecoderReport report = decoder_report(opened.decoder);
    assert_true(report.encoded_places >= report.encoded_tokens && report.step_places >= report.step_rows);
    assert_true(report.cache_bytes > 0 && report.parameter_bytes > 0);
    close_decoder(&opened);
}

/* exact: the same bits. */
static void compare(const SearchResult a[], const SearchResult b[], int count, bool exact)
{
    for (int i = 0; i < count; ++i) {
        assert_int_equal(a[i].count, b[i].count);
        for (int k = 0; k < a[i].count; ++k) {
            const Hypothesis *x = &a[i].list[k], *y = &b[i].list[k];
            assert_int_equal(x->length, y->length);
            assert_memory_equal(x->token, y->token, (size_t)x->length * sizeof *x->token);
            assert_true(exact ? x->score == y->score : fabs(x->score - y->score) < 1e-5);
        }
    }
}

static void check_batches(DType compute, bool deterministic)
{
    static const int slots[] = {1, 2, 7, 30};
    const GoldenCase *golden = any_case();
    Sources sources = read_sources(golden);
    SearchOptions search = search_defaults(0, START, END);
    search.best = 4;
    SearchResult first[64], other[64];
    for (int i = 0; i < 4; ++i) {
        if (is_slow() && i % 3 != 0) continue; /* 1 and 30 */
        DecoderOptions options = options_for(golden, slots[i], search.beam);
        options.compute = compute;
        options.deterministic = deterministic;
        threads = 1 + i % 2;
        search_all(golden, &options, &search, &sources, i == 0 ? first : other);
        if (i == 0) continue;
        compare(first, other, sources.count, deterministic);
        free_results(other, sources.count);
    }
    threads = 2;
    free_results(first, sources.count);
    free_sources(&sources);
}

static void test_batches_change_nothing(void **state)
{
    (void)state;
    check_batches(FLOAT32, false);
}

static void test_deterministic_batches_change_no_bit(void **state)
{
    (void)state;
    check_batches(FLOAT32, true);
    if (!is_slow()) check_batches(BFLOAT16, true);
}

/* ---- sampling takes whole rows of logits ---- */

static void test_samples(void **state)
{
    (void)state;
    const GoldenCase *golden = any_case();
    Sources sources = read_sources(golden);
    SearchOptions search = search_defaults(0, START, END);
    search.method = SEARCH_SAMPLE;
    search.beam = search.best = 3;
    search.seed = 11;
    SearchResult first[64], other[64];
    DecoderOptions options = options_for(golden, 2, 3);
    options.candidates = 0;
    options.deterministic = true;
    search_all(golden, &options, &search, &sources, first);
    options.slots = 9;
    search_all(golden, &options, &search, &sources, other);
    compare(first, other, sources.count, true);
    free_results(first, sources.count);
    free_results(other, sources.count);
    free_sources(&sources);
}

/* ---- forced tokens, banned tokens ---- */

static void test_rules_reach_the_programs(void **state)
{
    (void)state;
    const GoldenCase *golden = any_case();
    Sources sources = read_sources(golden);
    const int32_t prefix[] = {5, 9, 5};
    SearchOptions search = search_defaults(0, START, END);
    search.minimum = 6;
    search.no_repeat = 2;
    DecoderOptions options = options_for(golden, 4, search.beam);
    options.most_banned = search_most_banned(&search, options.most_target);
    Opened opened = open_decoder(golden, &options);
    Search *finder;
    assert_ok(search_create(&search, decoder_network(opened.decoder), &finder));
    for (int i = 0; i < sources.count; ++i) {
        const SearchInput input = {.number = i,
                                   .source = sources.id + i * sources.width,
                                   .length = sources.length[i],
                                   .prefix = prefix,
                                   .prefix_length = 3,
                                   .limit = 20};
        assert_ok(search_add(finder, &input));
    }
    SearchResult result;
    for (int taken = 0; taken < sources.count;) {
        assert_ok(search_step(finder));
        for (; search_take(finder, &result); ++taken) {
            const Hypothesis *one = &result.list[0];
            assert_true(one->length > search.minimum && one->ended);
            assert_memory_equal(one->token, prefix, sizeof prefix);
            for (int i = 0; i < one->length; ++i)
                for (int k = 0; k < i; ++k)
                    assert_false(i + 1 < one->length && one->token[i] == one->token[k] &&
                                 one->token[i + 1] == one->token[k + 1]);
            search_result_free(&result);
        }
    }
    search_free(finder);
    close_decoder(&opened);
    free_sources(&sources);
}

/* A second decoder that takes the parameters of the first finds the same. */
static void test_parameters_are_taken_from_another_store(void **state)
{
    (void)state;
    const GoldenCase *golden = any_case();
    Sources sources = read_sources(golden);
    const SearchOptions search = search_defaults(0, START, END);
    DecoderOptions options = options_for(golden, 6, search.beam);
    Opened first = open_decoder(golden, &options);
    Decoder *second, *other;
    SearchResult want[64], got[64];
    int limit[64];
    for (int i = 0; i < sources.count; ++i)
        limit[i] = 12;
    options.slots = 4;
    assert_ok(decoder_create(&options, first.device, &second));
    assert_int_equal(decoder_report(second).packed_bytes > 0, test_device() == DEVICE_CPU);
    run(&search, second, &sources, limit, got); /* kernels have made forms of the first values */
    free_results(got, sources.count);
    assert_ok(decoder_take_parameters(second, decoder_store(first.decoder)));
    run(&search, first.decoder, &sources, limit, want);
    run(&search, second, &sources, limit, got);
    compare(want, got, sources.count, false);
    options.network.feed_forward_width *= 2;
    assert_ok(decoder_create(&options, first.device, &other));
    assert_fails(decoder_take_parameters(other, decoder_store(first.decoder)), STATUS_INPUT, "fc1.weight");
    decoder_free(other);
    decoder_free(second);
    free_results(want, sources.count);
    free_results(got, sources.count);
    close_decoder(&first);
    free_sources(&sources);
}

/* Sentences that are encoded once serve searches at several temperatures, in any slots. */
static void test_kept_sentences_are_searched_again(void **state)
{
    (void)state;
    const GoldenCase *golden = any_case();
    Sources sources = read_sources(golden);
    SearchOptions search = search_defaults(0, START, END);
    DecoderOptions options = options_for(golden, 3, search.beam);
    Opened plain = open_decoder(golden, &options);
    SearchStart start[64];
    SearchResult want[64], got[64];
    int limit[64];
    for (int i = 0; i < sources.count; ++i) {
        limit[i] = 12;
        start[i] =
            (SearchStart){.slot = i, .source = sources.id + i * sources.width, .length = sources.length[i]};
    }
    options.kept = sources.count;
    Opened keeping = open_decoder(golden, &options);
    assert_ok(decoder_encode(keeping.decoder, start, sources.count));
    const int64_t encoded = decoder_report(keeping.decoder).encoded_tokens;
    for (int i = 0; i < 2; ++i) {
        search.temperature = i == 0 ? 1 : 0.7;
        run(&search, plain.decoder, &sources, limit, want);
        run(&search, keeping.decoder, &sources, limit, got);
        compare(want, got, sources.count, false);
        free_results(want, sources.count);
        free_results(got, sources.count);
    }
    assert_int_equal(decoder_report(keeping.decoder).encoded_tokens, encoded);
    start[0].slot = sources.count;
    assert_fails(decoder_encode(keeping.decoder, start, 1), STATUS_INTERNAL, "keeps");
    close_decoder(&keeping);
    close_decoder(&plain);
    free_sources(&sources);
}

static void test_memory_is_looked_at_before(void **state)
{
    (void)state;
    const GoldenCase *golden = any_case();
    DecoderOptions options = options_for(golden, 1 << 16, 64);
    Device *device;
    Decoder *decoder;
    options.most_target = 1 << 24;
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_fails(decoder_create(&options, device, &decoder), STATUS_MEMORY,
                 "a search of 65536 sentences at a time, each with 64 hypotheses of up to 16777216 tokens");
    device_close(device);
}

static void test_learned_positions_end(void **state)
{
    (void)state;
    const GoldenCase *golden = any_case();
    DecoderOptions options = options_for(golden, 2, 2);
    options.network.positions = (Positions){.kind = POSITIONS_LEARNED, .most = 20};
    Device *device;
    Decoder *decoder;
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_fails(decoder_create(&options, device, &decoder), STATUS_INPUT, "has learned 20 positions");
    options.most_target = 20;
    assert_ok(decoder_create(&options, device, &decoder));
    decoder_free(decoder);
    device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_searches),
        cmocka_unit_test(test_batches_change_nothing),
        cmocka_unit_test(test_deterministic_batches_change_no_bit),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_rules_reach_the_programs),
        cmocka_unit_test(test_parameters_are_taken_from_another_store),
        cmocka_unit_test(test_kept_sentences_are_searched_again),
        cmocka_unit_test(test_memory_is_looked_at_before),
        cmocka_unit_test(test_learned_positions_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
