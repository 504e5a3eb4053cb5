#include "nlp/utf8.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the character at `at` of at most `left` bytes; 0 if none is valid there (RFC 3629, section 4). */
static size_t character_size(const unsigned char *at, size_t left)
{
    const unsigned char lead = at[0];
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (size > left) return 0;
    /* The second byte's range keeps out overlong forms, surrogates and what lies beyond U+10FFFF. */
    const unsigned char lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < lowest || at[1] > highest) return 0;
    for (size_t i = 2; i < size; ++i)
        if ((at[i] & 0xC0) != 0x80) return 0;
    return size;
}

size_t utf8_invalid(const char *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        uint64_t eight;
        if (size - at >= sizeof eight) { /* most text is ASCII */
            memcpy(&eight, text + at, sizeof eight);
            if ((eight & 0x8080808080808080U) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        const size_t step = character_size((const unsigned char *)text + at, size - at);
        if (step == 0) return at;
        at += step;
    }
    return size;
}

size_t utf8_characters(const char *text, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < size; ++i)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}
