/* Numbers in words: those that are easily got wrong, and that all differ; draws. */
#include "tests/support.h"

#include "nlp/numbers.h"
#include "nlp/utf8.h"
#include "nlp/vocabulary.h"

#include <stdlib.h>
#include <string.h>

static void words_are_those_of_the_languages(void **state)
{
    (void)state;
    static const struct {
        int64_t number;
        const char *english, *german;
    } cases[] = {
        {1, "one", "eins"},
        {7, "seven", "sieben"},
        {11, "eleven", "elf"},
        {12, "twelve", "zw\xC3\xB6lf"},
        {16, "sixteen", "sechzehn"},
        {17, "seventeen", "siebzehn"},
        {20, "twenty", "zwanzig"},
        {21, "twenty-one", "einundzwanzig"},
        {30, "thirty", "drei\xC3\x9Fig"},
        {60, "sixty", "sechzig"},
        {76, "seventy-six", "sechsundsiebzig"},
        {100, "one hundred", "einhundert"},
        {101, "one hundred one", "einhunderteins"},
        {421, "four hundred twenty-one", "vierhunderteinundzwanzig"},
        {1000, "one thousand", "eintausend"},
        {1001, "one thousand one", "eintausendeins"},
        {16017, "sixteen thousand seventeen", "sechzehntausendsiebzehn"},
        {21000, "twenty-one thousand", "einundzwanzigtausend"},
        {100000, "one hundred thousand", "einhunderttausend"},
        {101101, "one hundred one thousand one hundred one", "einhunderteintausendeinhunderteins"},
        {777777, "seven hundred seventy-seven thousand seven hundred seventy-seven",
         "siebenhundertsiebenundsiebzigtausendsiebenhundertsiebenundsiebzig"},
        {555555, "five hundred fifty-five thousand five hundred fifty-five",
         "f\xC3\xBCnfhundertf\xC3\xBCnfundf\xC3\xBCnfzigtausendf\xC3\xBCnfhundertf\xC3\xBCnfundf\xC3\xBCnfzi"
         "g"},
        {999999, "nine hundred ninety-nine thousand nine hundred ninety-nine",
         "neunhundertneunundneunzigtausendneunhundertneunundneunzig"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char words[NUMBER_WORDS];
        assert_int_equal(number_english(cases[i].number, words), strlen(cases[i].english));
        assert_string_equal(words, cases[i].english);
        assert_int_equal(number_german(cases[i].number, words), strlen(cases[i].german));
        assert_string_equal(words, cases[i].german);
    }
}

static void no_two_numbers_have_the_same_words(void **state)
{
    (void)state;
    static size_t (*const languages[])(int64_t, char[NUMBER_WORDS]) = {number_english, number_german};
    for (int l = 0; l < 2; ++l) {
        WordCounts *counts;
        assert_ok(word_counts_new(&counts));
        for (int64_t n = 1; n <= NUMBERS_LAST; n += n < 2000 || n > 998000 ? 1 : 7) {
            char words[NUMBER_WORDS];
            const size_t size = languages[l](n, words);
            assert_true(size > 0 && size < NUMBER_WORDS && words[size] == '\0');
            assert_int_equal(utf8_invalid(words, size), size);
            assert_ok(word_counts_add(counts, (TextSpan){.data = words, .size = size}));
        }
        assert_int_equal(word_counts_distinct(counts), word_counts_total(counts));
        word_counts_free(counts);
    }
}

static void draws_are_distinct_and_repeatable(void **state)
{
    (void)state;
    enum { COUNT = 20000, FEWER = 500 };
    int64_t *number, *again, *fewer, *other;
    assert_ok(numbers_draw(5, COUNT, &number));
    assert_ok(numbers_draw(5, COUNT, &again));
    assert_ok(numbers_draw(5, FEWER, &fewer));
    assert_ok(numbers_draw(6, FEWER, &other));
    assert_memory_equal(number, again, COUNT * sizeof *number);
    assert_memory_equal(number, fewer, FEWER * sizeof *number);
    assert_memory_not_equal(fewer, other, FEWER * sizeof *fewer);
    uint8_t *seen = calloc(NUMBERS_LAST + 1, 1);
    assert_non_null(seen);
    int64_t small = 0;
    for (int i = 0; i < COUNT; ++i) {
        assert_in_range(number[i], 1, NUMBERS_LAST);
        assert_int_equal(seen[number[i]]++, 0);
        small += number[i] < 10000;
    }
    assert_in_range(small, COUNT / 8, COUNT / 4);
    free(seen);
    char *text;
    size_t size;
    assert_ok(numbers_text((const int64_t[]){2, 21}, 2, number_german, &text, &size));
    assert_int_equal(size, strlen("zwei\neinundzwanzig\n"));
    assert_memory_equal(text, "zwei\neinundzwanzig\n", size);
    free(text);
    free(number);
    free(again);
    free(fewer);
    free(other);
    assert_fails(numbers_draw(1, 800000, &number), STATUS_INPUT, "take at most");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_those_of_the_languages),
        cmocka_unit_test(no_two_numbers_have_the_same_words),
        cmocka_unit_test(draws_are_distinct_and_repeatable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
