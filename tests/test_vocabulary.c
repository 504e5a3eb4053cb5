/* UTF-8, and words with their ids. */
#include "tests/scratch.h"

#include "nlp/utf8.h"
#include "nlp/vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static void utf8_is_told_from_what_is_not(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t invalid; /* offset; the text's size if all is valid */
        size_t characters;
    } cases[] = {
        {"", 0, 0},
        {"plain ASCII of more than eight bytes", 36, 36},
        {"caf\xC3\xA9", 5, 4},
        {"\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 18, 6},
        {"\xED\x9F\xBF\xEE\x80\x80", 6, 2}, /* both sides of the surrogates */
        {"12345678\xC3", 8, 9},
        {"a\xC3(", 1, 3},
        {"\x80", 0, 0},
        {"\xC0\xAF", 0, 1},         /* overlong */
        {"\xC1\xBF", 0, 1},         /* overlong */
        {"\xE0\x9F\xBF", 0, 1},     /* overlong */
        {"\xF0\x8F\xBF\xBF", 0, 1}, /* overlong */
        {"\xED\xA0\x80", 0, 1},     /* a surrogate */
        {"\xF4\x90\x80\x80", 0, 1}, /* beyond U+10FFFF */
        {"\xF5\x80\x80\x80", 0, 1},
        {"ab\xE2\x82", 2, 3}, /* cut short */
        {"ab\xF0\x9F\x98", 2, 3},
        {"ab\xF0\x9F\x98(", 2, 4},
        {"\xFF", 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const size_t size = strlen(cases[i].text);
        char *exact = malloc(size + 1); /* a sanitizer sees reads beyond it */
        assert_non_null(exact);
        memcpy(exact + 1, cases[i].text, size);
        assert_int_equal(utf8_invalid(exact + 1, size), cases[i].invalid);
        assert_int_equal(utf8_characters(exact + 1, size), cases[i].characters);
        free(exact);
    }
}

static WordCounts *counts_of(const char *text)
{
    WordCounts *counts;
    assert_ok(word_counts_new(&counts));
    while (*text != '\0') {
        const size_t size = strcspn(text, " ");
        assert_ok(word_counts_add(counts, (TextSpan){.data = text, .size = size}));
        text += size + (text[size] == ' ');
    }
    return counts;
}

static void assert_word(const Vocabulary *vocabulary, int64_t id, const char *word, int64_t count)
{
    assert_true(text_span_equal(vocabulary_word(vocabulary, id), text_span(word)));
    assert_int_equal(vocabulary_count(vocabulary, id), count);
    if (id >= vocabulary_specials(vocabulary))
        assert_int_equal(vocabulary_find(vocabulary, text_span(word)), id);
}

static const char *const padding[] = {"<pad>"};

static void frequent_words_come_first_and_ties_as_they_appear(void **state)
{
    (void)state;
    WordCounts *counts = counts_of("d c b a b c <pad> c");
    assert_int_equal(word_counts_distinct(counts), 5);
    assert_int_equal(word_counts_total(counts), 8);
    const VocabularyOptions options = {.special = padding, .specials = 1};
    Vocabulary *vocabulary;
    assert_ok(vocabulary_create(counts, &options, &vocabulary));
    word_counts_free(counts);
    assert_int_equal(vocabulary_size(vocabulary), 6);
    assert_int_equal(vocabulary_specials(vocabulary), 1);
    assert_int_equal(vocabulary_left_out(vocabulary), 0);
    assert_word(vocabulary, 0, "<pad>", 0);
    assert_word(vocabulary, 1, "c", 3);
    assert_word(vocabulary, 2, "b", 2);
    assert_word(vocabulary, 3, "d", 1);
    assert_word(vocabulary, 4, "a", 1);
    assert_word(vocabulary, 5, "<pad>", 1); /* a word of the text is never taken for the special one */
    assert_int_equal(vocabulary_find(vocabulary, text_span("e")), -1);
    assert_int_equal(vocabulary_find(vocabulary, text_span("")), -1);
    vocabulary_free(vocabulary);
}

static void a_limit_counts_words_or_as_keras_does_ids(void **state)
{
    (void)state;
    WordCounts *counts = counts_of("d c b a b c c");
    static const struct {
        int64_t limit;
        bool keras;
        int64_t size;
    } cases[] = {{0, false, 5}, {0, true, 5},  {1, false, 2}, {2, true, 2}, {3, false, 4},
                 {3, true, 3},  {4, false, 5}, {4, true, 4},  {5, true, 5}, {1000, true, 5}};
    Vocabulary *vocabulary;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const VocabularyOptions options = {
            .special = padding, .specials = 1, .limit = cases[i].limit, .keras = cases[i].keras};
        assert_ok(vocabulary_create(counts, &options, &vocabulary));
        assert_int_equal(vocabulary_size(vocabulary), cases[i].size);
        assert_int_equal(vocabulary_left_out(vocabulary), 5 - cases[i].size);
        assert_word(vocabulary, 1, "c", 3);
        vocabulary_free(vocabulary);
    }
    const VocabularyOptions too_small = {.special = padding, .specials = 1, .limit = 1, .keras = true};
    assert_fails(vocabulary_create(counts, &too_small, &vocabulary), STATUS_INPUT,
                 "limit of 1 leaves no word, as padding and special words count too: the smallest that makes "
                 "sense is 2");
    assert_null(vocabulary);
    const VocabularyOptions negative = {.special = padding, .specials = 1, .limit = -5};
    assert_fails(vocabulary_create(counts, &negative, &vocabulary), STATUS_INPUT, "-5 is negative");
    word_counts_free(counts);
    counts = counts_of("");
    const VocabularyOptions all = {.special = padding, .specials = 1};
    assert_fails(vocabulary_create(counts, &all, &vocabulary), STATUS_INPUT, "no word");
    word_counts_free(counts);
}

/* Words are bytes: two that differ behind a NUL differ. */
static void words_may_hold_any_bytes(void **state)
{
    (void)state;
    WordCounts *counts;
    assert_ok(word_counts_new(&counts));
    const TextSpan words[] = {{"a\0b", 3}, {"a\0c", 3}, {"a", 1}, {"", 0}, {"\xFF", 1}};
    for (int i = 0; i < 5; ++i)
        assert_ok(word_counts_add(counts, words[i]));
    const VocabularyOptions options = {.specials = 0};
    Vocabulary *vocabulary;
    assert_ok(vocabulary_create(counts, &options, &vocabulary));
    word_counts_free(counts);
    for (int i = 0; i < 5; ++i) {
        assert_int_equal(vocabulary_find(vocabulary, words[i]), i);
        assert_true(text_span_equal(vocabulary_word(vocabulary, i), words[i]));
    }
    vocabulary_free(vocabulary);
}

static void many_words_keep_their_ids(void **state)
{
    (void)state;
    enum { WORDS = 30000 };
    WordCounts *counts;
    assert_ok(word_counts_new(&counts));
    char name[16];
    for (int i = 0; i < WORDS; ++i) { /* word i: once, and those below a hundred once more */
        (void)snprintf(name, sizeof name, "word%d", i);
        assert_ok(word_counts_add(counts, text_span(name)));
        if (i < 100) assert_ok(word_counts_add(counts, text_span(name)));
    }
    const VocabularyOptions options = {.special = padding, .specials = 1};
    Vocabulary *vocabulary;
    assert_ok(vocabulary_create(counts, &options, &vocabulary));
    word_counts_free(counts);
    for (int i = 0; i < WORDS; ++i) {
        (void)snprintf(name, sizeof name, "word%d", i);
        assert_int_equal(vocabulary_find(vocabulary, text_span(name)), i + 1);
    }
    vocabulary_free(vocabulary);
}

static void the_hash_is_that_of_the_file(void **state)
{
    (void)state;
    WordCounts *counts = counts_of("the cat the");
    const VocabularyOptions options = {.special = padding, .specials = 1};
    Vocabulary *vocabulary;
    assert_ok(vocabulary_create(counts, &options, &vocabulary));
    const char *path = in_scratch("vocabulary.txt");
    assert_ok(vocabulary_write(vocabulary, path));
    assert_holds(path, "<pad>\nthe\ncat\n");
    assert_true(vocabulary_hash(vocabulary) == XXH64("<pad>\nthe\ncat\n", 14, 0));
    Vocabulary *shorter;
    const VocabularyOptions one = {.special = padding, .specials = 1, .limit = 1};
    assert_ok(vocabulary_create(counts, &one, &shorter));
    assert_true(vocabulary_hash(vocabulary) != vocabulary_hash(shorter));
    word_counts_free(counts);
    vocabulary_free(shorter);
    vocabulary_free(vocabulary);
}

static void a_vocabulary_is_read_as_it_was_written(void **state)
{
    (void)state;
    WordCounts *counts = counts_of("the cat the \xFF\x01");
    const VocabularyOptions options = {.special = padding, .specials = 1};
    Vocabulary *vocabulary, *again;
    assert_ok(vocabulary_create(counts, &options, &vocabulary));
    const char *path = in_scratch("vocabulary.txt");
    assert_ok(vocabulary_write(vocabulary, path));
    assert_ok(vocabulary_read(path, padding, 1, &again));
    assert_true(vocabulary_hash(again) == vocabulary_hash(vocabulary));
    assert_int_equal(vocabulary_size(again), vocabulary_size(vocabulary));
    assert_int_equal(vocabulary_specials(again), 1);
    for (int64_t id = 0; id < vocabulary_size(again); ++id)
        assert_true(text_span_equal(vocabulary_word(again, id), vocabulary_word(vocabulary, id)));
    assert_int_equal(vocabulary_find(again, text_span("cat")), vocabulary_find(vocabulary, text_span("cat")));
    assert_int_equal(vocabulary_find(again, text_span("<pad>")), -1);
    assert_int_equal(vocabulary_count(again, 1), 0);
    word_counts_free(counts);
    vocabulary_free(again);
    vocabulary_free(vocabulary);
}

static void files_that_are_no_vocabulary_are_errors_with_a_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {{"", "v.txt: there is no word"},
                 {"<pad>\n", "v.txt: there is no word"},
                 {"<unk>\nthe\n", "v.txt:1: \"<unk>\", but such a vocabulary has <pad> here"},
                 {"<pad>\nthe\ncat", "v.txt:3: this line has no end"},
                 {"<pad>\nthe\n\ncat\n", "v.txt:3: an empty word"},
                 {"<pad>\nthe\ncat\nthe\n", "v.txt:4: this word is in line 2, too"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Vocabulary *vocabulary;
        assert_fails(vocabulary_parse("v.txt", cases[i].text, strlen(cases[i].text), padding, 1, &vocabulary),
                     STATUS_INPUT, cases[i].message);
        assert_null(vocabulary);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_is_told_from_what_is_not),
        cmocka_unit_test(frequent_words_come_first_and_ties_as_they_appear),
        cmocka_unit_test(a_limit_counts_words_or_as_keras_does_ids),
        cmocka_unit_test(words_may_hold_any_bytes),
        cmocka_unit_test(many_words_keep_their_ids),
        SCRATCH(the_hash_is_that_of_the_file),
        SCRATCH(a_vocabulary_is_read_as_it_was_written),
        cmocka_unit_test(files_that_are_no_vocabulary_are_errors_with_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
