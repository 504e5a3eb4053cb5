#include "nlp/numbers.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static size_t put(char *words, size_t at, const char *word)
{
    const size_t size = strlen(word);
    memcpy(words + at, word, size + 1);
    return at + size;
}

/* ---- English ---- */

static const char *const english_ones[] = {"",        "one",     "two",       "three",    "four",
                                           "five",    "six",     "seven",     "eight",    "nine",
                                           "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                           "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
static const char *const english_tens[] = {"",      "",      "twenty",  "thirty", "forty",
                                           "fifty", "sixty", "seventy", "eighty", "ninety"};

/* Of a part the words go on with a space. */
static size_t put_english(char *words, size_t at, const char *word)
{
    if (at > 0) at = put(words, at, " ");
    return put(words, at, word);
}

/* 1 .. 999 */
static size_t english_part(int64_t part, char *words, size_t at)
{
    if (part >= 100) {
        at = put_english(words, at, english_ones[part / 100]);
        at = put_english(words, at, "hundred");
        part %= 100;
    }
    if (part == 0) return at;
    if (part < 20) return put_english(words, at, english_ones[part]);
    at = put_english(words, at, english_tens[part / 10]);
    if (part % 10 == 0) return at;
    at = put(words, at, "-");
    return put(words, at, english_ones[part % 10]);
}

size_t number_english(int64_t number, char words[NUMBER_WORDS])
{
    size_t at = 0;
    words[0] = '\0';
    if (number >= 1000) {
        at = english_part(number / 1000, words, at);
        at = put_english(words, at, "thousand");
    }
    return number % 1000 != 0 ? english_part(number % 1000, words, at) : at;
}

/* ---- German ---- */

static const char *const german_ones[] = {"",
                                          "ein",
                                          "zwei",
                                          "drei",
                                          "vier",
                                          "f\xC3\xBCnf",
                                          "sechs",
                                          "sieben",
                                          "acht",
                                          "neun",
                                          "zehn",
                                          "elf",
                                          "zw\xC3\xB6lf",
                                          "dreizehn",
                                          "vierzehn",
                                          "f\xC3\xBCnfzehn",
                                          "sechzehn",
                                          "siebzehn",
                                          "achtzehn",
                                          "neunzehn"};
static const char *const german_tens[] = {
    "",        "",        "zwanzig", "drei\xC3\x9Fig", "vierzig", "f\xC3\xBCnfzig",
    "sechzig", "siebzig", "achtzig", "neunzig"};

/* 1 .. 999; last: of the whole number. */
static size_t german_part(int64_t part, bool last, char *words, size_t at)
{
    if (part >= 100) {
        at = put(words, at, german_ones[part / 100]);
        at = put(words, at, "hundert");
        part %= 100;
    }
    if (part == 0) return at;
    if (part == 1 && last) return put(words, at, "eins");
    if (part < 20) return put(words, at, german_ones[part]);
    if (part % 10 != 0) {
        at = put(words, at, german_ones[part % 10]);
        at = put(words, at, "und");
    }
    return put(words, at, german_tens[part / 10]);
}

size_t number_german(int64_t number, char words[NUMBER_WORDS])
{
    size_t at = 0;
    words[0] = '\0';
    if (number >= 1000) {
        at = german_part(number / 1000, false, words, at);
        at = put(words, at, "tausend");
    }
    return number % 1000 != 0 ? german_part(number % 1000, true, words, at) : at;
}

/* ---- the corpus ---- */

Status numbers_draw(uint64_t seed, int64_t count, int64_t **number)
{
    enum { SHORT_LAST = 9999, MOST = NUMBERS_LAST / 2 };
    uint8_t *drawn;
    *number = NULL;
    if (count > MOST)
        return fail(STATUS_INPUT, "%lld numbers are too many: take at most %d", (long long)count, (int)MOST);
    TRY(memory_new(&drawn, NUMBERS_LAST + 1, 1, "numbers"));
    Status status = memory_new(number, (size_t)count + 1, sizeof **number, "numbers");
    RandomStream random = random_stream(seed, RANDOM_SPLIT, 0);
    for (int64_t i = 0; i < count && status == OK;) {
        const bool is_short = random_below(&random, 4) == 0;
        const int64_t n = 1 + (int64_t)random_below(&random, is_short ? SHORT_LAST : NUMBERS_LAST);
        if (drawn[n] != 0) continue;
        drawn[n] = 1;
        (*number)[i++] = n;
    }
    free(drawn);
    return status;
}

Status numbers_text(const int64_t number[], int64_t count, size_t (*words)(int64_t, char[NUMBER_WORDS]),
                    char **text, size_t *size)
{
    *size = 0;
    TRY(memory_new(text, (size_t)count * NUMBER_WORDS + 1, 1, "numbers"));
    for (int64_t i = 0; i < count; ++i) {
        *size += words(number[i], *text + *size);
        (*text)[(*size)++] = '\n';
    }
    return OK;
}
