/* Lines in, lines out, over a search of tables. */
#include "launch/search/translator.h"
#include "tests/search_network.h"
#include "tests/support.h"

#include <cJSON.h>
#include <stdlib.h>
#include <string.h>

/* Of words: ids 4 to WORDS - 1 are a, b, ... */
static Subwords *open_subwords(void)
{
    static const char words[] = "<pad>\n<s>\n</s>\n<unk>\na\nb\nc\nd\ne\nf\ng\n";
    Subwords *subwords;
    assert_ok(subwords_parse("words", SUBWORDS_WORDS, words, sizeof words - 1, &subwords));
    assert_int_equal(subwords_size(subwords), WORDS);
    return subwords;
}

/* Translates one line; *text is to be released with free(). */
static Status translate(const TranslatorOptions *options, const Subwords *subwords,
                        const SearchNetwork *network, char **text)
{
    Translator *translator;
    size_t size;
    bool got = false;
    *text = NULL;
    assert_ok(translator_create(options, subwords, network, &translator));
    assert_ok(translator_add(translator, 6, text_span("a b c"), (TextSpan){.data = NULL}));
    assert_ok(translator_begin(translator));
    while (translator_waiting(translator) + translator_active(translator) > 0)
        assert_ok(translator_step(translator));
    const Status status = translator_next(translator, &got, text, &size);
    assert_true(got);
    translator_free(translator);
    return status;
}

static int64_t left; /* allocations of cJSON before the one that fails */
static void *allocate(size_t size) { return left-- == 0 ? NULL : malloc(size); }

/* Whatever part of the JSON there is no memory for, there is an error and no line without that part. */
static void test_json_is_whole_or_an_error(void **state)
{
    (void)state;
    static double table[WORDS * WORDS * WORDS];
    char *whole, *text;
    Subwords *subwords = open_subwords();
    TranslatorOptions options = translator_defaults();
    options.json = true;
    options.search.best = 2;
    for (int i = 0; i < WORDS; ++i)
        fill_search_table(table + i * WORDS * WORDS, WORDS, (uint64_t)i, false);
    TestNetwork test = {.table = table};
    test.network = search_network(&test, WORDS, 2);
    assert_ok(translate(&options, subwords, &test.network, &whole));
    assert_non_null(strstr(whole, "{\"line\":7,\"source\":\"a b c\",\"hypotheses\":[{\"text\":"));
    cJSON_Hooks failing = {.malloc_fn = allocate, .free_fn = free};
    cJSON_InitHooks(&failing);
    int64_t errors = 0;
    for (bool failed = true; failed; ++errors) {
        left = errors;
        Status status = translate(&options, subwords, &test.network, &text);
        failed = status != OK;
        if (failed)
            assert_fails(status, STATUS_MEMORY, "no memory for the JSON of line 7");
        else
            assert_string_equal(text, whole);
        free(text);
    }
    cJSON_InitHooks(NULL);
    assert_true(errors > 20);
    free(whole);
    subwords_free(subwords);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_is_whole_or_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
