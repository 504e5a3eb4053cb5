#include "nlp/bleu/unicode.h"

#include "nlp/bleu/unicode_tables.h"

#include <stddef.h>

/* The first of `count` groups of `width` numbers whose second is not below `code`. */
static size_t search(const uint32_t table[], size_t count, size_t width, uint32_t code)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (table[middle * width + 1] < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_in(const uint32_t pair[], size_t size, uint32_t code)
{
    const size_t count = size / sizeof *pair / 2, at = search(pair, count, 2, code);
    return at < count && pair[2 * at] <= code;
}

UnicodeClass unicode_class(uint32_t code)
{
    if (is_in(punctuation, sizeof punctuation, code)) return UNICODE_PUNCTUATION;
    if (is_in(numbers, sizeof numbers, code)) return UNICODE_NUMBER;
    return is_in(symbols, sizeof symbols, code) ? UNICODE_SYMBOL : UNICODE_OTHER;
}

bool unicode_is_cased(uint32_t code) { return is_in(cased, sizeof cased, code); }

bool unicode_is_ignorable(uint32_t code) { return is_in(ignorable, sizeof ignorable, code); }

uint32_t unicode_lower(uint32_t code)
{
    const size_t count = sizeof lower / sizeof *lower / 4;
    const size_t at = search((const uint32_t *)lower, count, 4, code);
    if (at == count) return code;
    const int32_t *row = &lower[4 * at], from_first = (int32_t)code - row[0];
    if (from_first < 0 || (row[2] > 1 && from_first % row[2] != 0)) return code;
    return (uint32_t)((int32_t)code + row[3]);
}
