#include "nlp/bleu/token_rules.h"

#include "engine/base/memory.h"
#include "nlp/bleu/characters.h"

#include <string.h>

Status rule_room(BleuTokens *tokens, size_t times)
{
    return memory_grow(&tokens->other, &tokens->other_room, tokens->size * times + 2, 1, "a line's tokens");
}

void rule_take(BleuTokens *tokens, size_t size)
{
    char *text = tokens->other;
    const size_t room = tokens->other_room;
    tokens->other = tokens->text;
    tokens->other_room = tokens->text_room;
    tokens->text = text;
    tokens->text_room = room;
    tokens->size = size;
}

void rule_replace(BleuTokens *tokens, const char *from, const char *to)
{
    const size_t from_size = strlen(from), to_size = strlen(to);
    char *at = tokens->text, *end = tokens->text + tokens->size;
    if (memchr(at, from[0], tokens->size) == NULL) return; /* of most lines */
    while ((at = memmem(at, (size_t)(end - at), from, from_size)) != NULL) {
        memcpy(at, to, to_size);
        memmove(at + to_size, at + from_size, (size_t)(end - at) - from_size);
        end -= from_size - to_size;
        at += to_size;
    }
    tokens->size = (size_t)(end - tokens->text);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_point(char c) { return c == '.' || c == ','; }

void rule_entities(BleuTokens *tokens)
{
    rule_replace(tokens, "\n", " ");
    rule_replace(tokens, "&quot;", "\"");
    rule_replace(tokens, "&amp;", "&");
    rule_replace(tokens, "&lt;", "<");
    rule_replace(tokens, "&gt;", ">");
}

Status rule_surround(BleuTokens *tokens)
{
    TRY(rule_room(tokens, 1));
    tokens->other[0] = ' ';
    memcpy(tokens->other + 1, tokens->text, tokens->size);
    tokens->other[tokens->size + 1] = ' ';
    rule_take(tokens, tokens->size + 2);
    return OK;
}

/* ---- Western punctuation ---- */

/* [{-~[-` -&(-+:-@/], the blank among them */
static const bool stands_apart[256] = {
    [' '] = 1,  ['!'] = 1, ['"'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['('] = 1,
    [')'] = 1,  ['*'] = 1, ['+'] = 1, ['/'] = 1, [':'] = 1, [';'] = 1, ['<'] = 1, ['='] = 1,
    ['>'] = 1,  ['?'] = 1, ['@'] = 1, ['['] = 1, [']'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1,
    ['\\'] = 1, ['{'] = 1, ['|'] = 1, ['}'] = 1, ['~'] = 1,
};

static size_t punctuation(const char *in, size_t size, char *out)
{
    size_t made = 0;
    for (size_t i = 0; i < size; ++i) {
        const bool apart = stands_apart[(unsigned char)in[i]];
        out[made] = ' ';
        made += apart;
        out[made++] = in[i];
        out[made] = ' '; /* goes if it is not wanted */
        made += apart;
    }
    return made;
}

/* The three rules on pairs go from left to right, and a byte belongs to one pair only. Bytes do for characters: what
 * they look for is ASCII. */
static size_t point_behind_no_digit(const char *in, size_t size, char *out)
{
    size_t made = 0;
    for (size_t i = 0; i < size; ++i) {
        out[made++] = in[i];
        if (i + 1 == size || is_digit(in[i]) || !is_point(in[i + 1])) continue;
        out[made++] = ' ';
        out[made++] = in[++i];
        out[made++] = ' ';
    }
    return made;
}

static size_t point_before_no_digit(const char *in, size_t size, char *out)
{
    size_t made = 0;
    for (size_t i = 0; i < size; ++i) {
        if (i + 1 == size || !is_point(in[i]) || is_digit(in[i + 1])) {
            out[made++] = in[i];
            continue;
        }
        out[made++] = ' ';
        out[made++] = in[i];
        out[made++] = ' ';
        out[made++] = in[++i];
    }
    return made;
}

static size_t dash_behind_digit(const char *in, size_t size, char *out)
{
    size_t made = 0;
    for (size_t i = 0; i < size; ++i) {
        out[made++] = in[i];
        if (i + 1 == size || !is_digit(in[i]) || in[i + 1] != '-') continue;
        out[made++] = ' ';
        out[made++] = in[++i];
        out[made++] = ' ';
    }
    return made;
}

typedef size_t (*Rule)(const char *in, size_t size, char *out);

static Status apply(BleuTokens *tokens, Rule rule)
{
    TRY(rule_room(tokens, 3));
    rule_take(tokens, rule(tokens->text, tokens->size, tokens->other));
    return OK;
}

Status rule_punctuation(BleuTokens *tokens) { return apply(tokens, punctuation); }

Status rule_points(BleuTokens *tokens)
{
    TRY(apply(tokens, point_behind_no_digit));
    TRY(apply(tokens, point_before_no_digit));
    if (memchr(tokens->text, '-', tokens->size) == NULL) return OK;
    return apply(tokens, dash_behind_digit);
}

Status rule_western(BleuTokens *tokens)
{
    TRY(rule_punctuation(tokens));
    return rule_points(tokens);
}

/* ---- Characters ---- */

Status rule_apart(BleuTokens *tokens, bool (*apart)(uint32_t))
{
    TRY(rule_room(tokens, 3));
    size_t made = 0, bytes;
    for (size_t i = 0; i < tokens->size; i += bytes) {
        const bool alone = apart(character_at(tokens->text + i, tokens->text + tokens->size, &bytes));
        if (alone) tokens->other[made++] = ' ';
        memcpy(tokens->other + made, tokens->text + i, bytes);
        made += bytes;
        if (alone) tokens->other[made++] = ' ';
    }
    rule_take(tokens, made);
    return OK;
}
