#include "nlp/bleu/characters.h"

#include "nlp/bleu/unicode.h"

#include <string.h>

uint32_t character_at(const char *at, const char *end, size_t *bytes)
{
    const unsigned char *c = (const unsigned char *)at;
    const size_t left = (size_t)(end - at);
    const size_t size = c[0] < 0xC0 ? 1 : c[0] < 0xE0 ? 2 : c[0] < 0xF0 ? 3 : 4;
    *bytes = 1;
    if (size == 1 || size > left) return c[0];
    uint32_t code = c[0] & (0xFFU >> (size + 1));
    for (size_t i = 1; i < size; ++i) {
        if ((c[i] & 0xC0) != 0x80) return c[0];
        code = code << 6 | (c[i] & 0x3FU);
    }
    *bytes = size;
    return code;
}

bool character_is_space(uint32_t code)
{
    if (code <= 0x20) return code == 0x20 || (code >= 0x09 && code <= 0x0D) || code >= 0x1C;
    if (code < 0x1680) return code == 0x85 || code == 0xA0;
    return code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
           code == 0x202F || code == 0x205F || code == 0x3000;
}

TextSpan text_without_space_at_start(TextSpan text)
{
    size_t bytes;
    while (text.size > 0 && character_is_space_at(text.data, text.data + text.size, &bytes)) {
        text.data += bytes;
        text.size -= bytes;
    }
    return text;
}

/* Where the character before `end` begins. */
static const char *character_before(const char *start, const char *end)
{
    const char *at = end - 1;
    while (at > start && end - at < 4 && ((unsigned char)*at & 0xC0) == 0x80)
        --at;
    size_t bytes;
    (void)character_at(at, end, &bytes);
    return at + bytes == end ? at : end - 1;
}

TextSpan text_without_space_at_end(TextSpan text)
{
    while (text.size > 0) {
        const char *end = text.data + text.size, *at = character_before(text.data, end);
        size_t bytes;
        if (!character_is_space_at(at, end, &bytes)) break;
        text.size = (size_t)(at - text.data);
    }
    return text;
}

/* ---- Lower case ---- */

enum { DOTTED_I = 0x130, SIGMA = 0x3A3, SMALL_SIGMA = 0x3C3, FINAL_SIGMA = 0x3C2 };

static size_t put(uint32_t code, char *out)
{
    unsigned char *c = (unsigned char *)out;
    if (code < 0x80) {
        c[0] = (unsigned char)code;
        return 1;
    }
    if (code < 0x800) {
        c[0] = (unsigned char)(0xC0 | code >> 6);
        c[1] = (unsigned char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        c[0] = (unsigned char)(0xE0 | code >> 12);
        c[1] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
        c[2] = (unsigned char)(0x80 | (code & 0x3F));
        return 3;
    }
    c[0] = (unsigned char)(0xF0 | code >> 18);
    c[1] = (unsigned char)(0x80 | (code >> 12 & 0x3F));
    c[2] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
    c[3] = (unsigned char)(0x80 | (code & 0x3F));
    return 4;
}

/* Of the sigma at [at, behind) of a text. */
static bool ends_word(TextSpan text, const char *at, const char *behind)
{
    const char *end = text.data + text.size;
    size_t bytes;
    uint32_t code = 0;
    while (at > text.data) {
        const char *before = character_before(text.data, at);
        code = character_at(before, at, &bytes);
        at = before;
        if (!unicode_is_ignorable(code)) break;
        code = 0;
    }
    if (code == 0 || !unicode_is_cased(code)) return false;
    for (; behind < end; behind += bytes) {
        code = character_at(behind, end, &bytes);
        if (!unicode_is_ignorable(code)) return !unicode_is_cased(code);
    }
    return true;
}

size_t text_lower_room(size_t size) { return 2 * size; } /* U+0130 and U+023A become 3 bytes of 2 */

size_t text_lower(TextSpan text, char *out)
{
    const char *end = text.data + text.size;
    size_t made = 0, bytes;
    for (const char *at = text.data; at < end; at += bytes) {
        const uint32_t code = character_at(at, end, &bytes);
        if (code < 0x80) {
            out[made++] = (char)(code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code);
        } else if (bytes == 1) { /* not UTF-8 */
            out[made++] = *at;
        } else if (code == DOTTED_I) {
            memcpy(out + made, "i\xCC\x87", 3);
            made += 3;
        } else if (code == SIGMA) {
            made += put(ends_word(text, at, at + bytes) ? FINAL_SIGMA : SMALL_SIGMA, out + made);
        } else {
            made += put(unicode_lower(code), out + made);
        }
    }
    return made;
}
