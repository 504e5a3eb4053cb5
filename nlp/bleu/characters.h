/* Lines as Python has them: characters of UTF-8, white space, lower case. */
#ifndef PLUMB_NLP_BLEU_CHARACTERS_H
#define PLUMB_NLP_BLEU_CHARACTERS_H

#include "nlp/vocabulary.h"

/* The code point at `at`, and its bytes. What is not UTF-8 counts a byte for a character. at < end. */
uint32_t character_at(const char *at, const char *end, size_t *bytes);

/* White space as str.split and str.strip have it. */
bool character_is_space(uint32_t code);
/* The same of what stands at `at`. */
static inline bool character_is_space_at(const char *at, const char *end, size_t *bytes)
{
    const unsigned char c = (unsigned char)*at;
    *bytes = 1;
    if (c < 0x80) return c <= 0x20 && (c == 0x20 || (c >= 0x09 && c <= 0x0D) || c >= 0x1C);
    return character_is_space(character_at(at, end, bytes));
}
TextSpan text_without_space_at_start(TextSpan);
TextSpan text_without_space_at_end(TextSpan);

/* str.lower, final sigmas and U+0130 included. `out` needs room for text_lower_room(size) bytes; returns those written. */
size_t text_lower_room(size_t size);
size_t text_lower(TextSpan, char *out);

#endif
