#include "launch/report/html.h"

#include <stdbool.h>
#include <stdint.h>

/* The length of the UTF-8 sequence that `text` begins with, 0 if it is not one (overlong, a surrogate, above
 * U+10FFFF, cut short). A NUL is no continuation byte, so nothing behind the end is looked at. */
static int sequence(const unsigned char *text, uint32_t *code)
{
    const unsigned char first = text[0];
    const int length = first < 0x80   ? 1
                       : first < 0xC2 ? 0
                       : first < 0xE0 ? 2
                       : first < 0xF0 ? 3
                       : first < 0xF5 ? 4
                                      : 0;
    static const unsigned char mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (length == 0) return 0;
    *code = first & mask[length];
    for (int i = 1; i < length; ++i) {
        if ((text[i] & 0xC0) != 0x80) return 0;
        *code = *code << 6 | (text[i] & 0x3FU);
    }
    if (*code < smallest[length] || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000)) return 0;
    return length;
}

/* Control characters, noncharacters: a parse error in HTML. */
static bool is_forbidden(uint32_t code)
{
    if (code < 0x20) return code != '\t' && code != '\n';
    return (code >= 0x7F && code < 0xA0) || (code >= 0xFDD0 && code <= 0xFDEF) || (code & 0xFFFE) == 0xFFFE;
}

static const char replacement[] = "\xEF\xBF\xBD";

/* Reads one character; false at the end. What HTML or UTF-8 does not allow comes as U+FFFD. */
typedef struct {
    const char *bytes;
    size_t length;
    uint32_t code;
} Character;

static bool next_character(const char **text, Character *character)
{
    if (**text == '\0') return false;
    const int length = sequence((const unsigned char *)*text, &character->code);
    if (length == 0 || is_forbidden(character->code))
        *character = (Character){replacement, sizeof replacement - 1, 0xFFFD};
    else
        *character = (Character){*text, (size_t)length, character->code};
    *text += length > 0 ? length : 1;
    return true;
}

static const char *entity(uint32_t code)
{
    switch (code) {
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '&':
        return "&amp;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void html_text(FILE *page, const char *text)
{
    Character character;
    while (next_character(&text, &character)) {
        const char *escaped = entity(character.code);
        if (escaped != NULL)
            (void)fputs(escaped, page);
        else
            (void)fwrite(character.bytes, 1, character.length, page);
    }
}

int html_length(const char *text)
{
    Character character;
    int length = 0;
    while (next_character(&text, &character))
        ++length;
    return length;
}

void html_gnuplot_string(FILE *script, const char *text, int limit)
{
    Character character;
    const int length = html_length(text), dropped = length > limit ? length - limit + 3 : 0;
    const int first_dropped = (length - dropped + 1) / 2; /* names differ at their ends: the middle goes */
    (void)fputc('\'', script);
    for (int i = 0; next_character(&text, &character); ++i) {
        if (dropped > 0 && i == first_dropped) (void)fputs("...", script);
        if (i >= first_dropped && i < first_dropped + dropped) continue;
        if (character.code == '\'')
            (void)fputs("\xE2\x80\x99", script); /* an apostrophe that ends no string */
        else if (character.code < 0x20)
            (void)fputc(' ', script);
        else
            (void)fwrite(character.bytes, 1, character.length, script);
    }
    (void)fputc('\'', script);
}
