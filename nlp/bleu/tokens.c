#include "nlp/bleu/tokens.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

void bleu_tokens_free(BleuTokens *tokens)
{
    free(tokens->text);
    free(tokens->other);
    free(tokens->token);
    *tokens = (BleuTokens){.text = NULL};
}

/* ---- Characters ---- */

/* The code point at `at`, and its bytes. What is not UTF-8 counts a byte for a character. */
static uint32_t character(const char *at, const char *end, size_t *bytes)
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

/* White space as Python's str.split and str.strip have it. */
static bool is_space(uint32_t code)
{
    if (code <= 0x20) return code == 0x20 || (code >= 0x09 && code <= 0x0D) || code >= 0x1C;
    if (code < 0x1680) return code == 0x85 || code == 0xA0;
    return code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
           code == 0x202F || code == 0x205F || code == 0x3000;
}

static TextSpan without_space_at_start(TextSpan line)
{
    size_t bytes;
    while (line.size > 0 && is_space(character(line.data, line.data + line.size, &bytes))) {
        line.data += bytes;
        line.size -= bytes;
    }
    return line;
}

static TextSpan without_space_at_end(TextSpan line)
{
    while (line.size > 0) {
        size_t start = line.size - 1, bytes;
        while (start > 0 && ((unsigned char)line.data[start] & 0xC0) == 0x80)
            --start;
        const uint32_t code = character(line.data + start, line.data + line.size, &bytes);
        if (start + bytes != line.size || !is_space(code)) break;
        line.size = start;
    }
    return line;
}

/* ---- Rules: each writes what it makes of `text` into `other` and changes the two ---- */

/* Room for a line that a rule makes `times` as long. */
static Status make_room(BleuTokens *tokens, size_t times)
{
    return memory_grow(&tokens->other, &tokens->other_room, tokens->size * times + 2, 1, "a line's tokens");
}

static void take_other(BleuTokens *tokens, size_t size)
{
    char *text = tokens->other;
    const size_t room = tokens->other_room;
    tokens->other = tokens->text;
    tokens->other_room = tokens->text_room;
    tokens->text = text;
    tokens->text_room = room;
    tokens->size = size;
}

/* Every `from` becomes `to`, which is not longer; in place. */
static void replace(BleuTokens *tokens, const char *from, const char *to)
{
    const size_t from_size = strlen(from), to_size = strlen(to);
    char *at = tokens->text, *end = tokens->text + tokens->size;
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

/* [{-~[-` -&(-+:-@/], the blank among them */
static bool stands_apart(char c)
{
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
           (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

static size_t punctuation(const char *in, size_t size, char *out)
{
    size_t made = 0;
    for (size_t i = 0; i < size; ++i) {
        const bool apart = stands_apart(in[i]);
        if (apart) out[made++] = ' ';
        out[made++] = in[i];
        if (apart) out[made++] = ' ';
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

static Status western_rules(BleuTokens *tokens)
{
    static size_t (*const rules[])(const char *, size_t, char *) = {punctuation, point_behind_no_digit,
                                                                    point_before_no_digit, dash_behind_digit};
    for (int i = 0; i < 4; ++i) {
        TRY(make_room(tokens, 3));
        take_other(tokens, rules[i](tokens->text, tokens->size, tokens->other));
    }
    return OK;
}

/* ---- Tokenisers ---- */

static Status tokens_13a(BleuTokens *tokens)
{
    replace(tokens, "<skipped>", "");
    replace(tokens, "-\n", "");
    replace(tokens, "\n", " ");
    replace(tokens, "&quot;", "\"");
    replace(tokens, "&amp;", "&");
    replace(tokens, "&lt;", "<");
    replace(tokens, "&gt;", ">");
    TRY(make_room(tokens, 1));
    tokens->other[0] = ' ';
    memcpy(tokens->other + 1, tokens->text, tokens->size);
    tokens->other[tokens->size + 1] = ' ';
    take_other(tokens, tokens->size + 2);
    return western_rules(tokens);
}

static Status tokens_none(BleuTokens *tokens)
{
    (void)tokens;
    return OK;
}

/* A blank before and behind each character that `apart` names. */
static Status set_apart(BleuTokens *tokens, bool (*apart)(uint32_t))
{
    TRY(make_room(tokens, 3));
    size_t made = 0, bytes;
    for (size_t i = 0; i < tokens->size; i += bytes) {
        const bool alone = apart(character(tokens->text + i, tokens->text + tokens->size, &bytes));
        if (alone) tokens->other[made++] = ' ';
        memcpy(tokens->other + made, tokens->text + i, bytes);
        made += bytes;
        if (alone) tokens->other[made++] = ' ';
    }
    take_other(tokens, made);
    return OK;
}

static bool any(uint32_t code)
{
    (void)code;
    return true;
}

static Status tokens_char(BleuTokens *tokens) { return set_apart(tokens, any); }

/* sacreBLEU writes two ranges beyond U+FFFF with four digits: '\u20000' is U+2000 and a zero. Compared with one character,
 * these say U+2001 to U+2A6D and U+2F81 to U+2FA1, while the ideographs that were meant are left out. */
static bool is_chinese(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0x2001, 0x2A6D}, {0x2E80, 0x2EFF}, {0x2F00, 0x2FDF}, {0x2FF0, 0x2FFF}, {0x3000, 0x303F},
                  {0x3100, 0x312F}, {0x31A0, 0x31BF}, {0x31C0, 0x31EF}, {0x3200, 0x33FF}, {0x3400, 0x4DB5},
                  {0x4E00, 0x9FBB}, {0xF900, 0xFA2D}, {0xFA30, 0xFA6A}, {0xFA70, 0xFAD9}, {0xFE10, 0xFE1F},
                  {0xFE30, 0xFE4F}, {0xFF00, 0xFFEF}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; ++i)
        if (code >= ranges[i].first && code <= ranges[i].last) return true;
    return false;
}

static Status tokens_zh(BleuTokens *tokens)
{
    TRY(set_apart(tokens, is_chinese));
    return western_rules(tokens);
}

static const struct {
    const char *name;
    Status (*apply)(BleuTokens *);
    bool strips_start; /* white space at the start of the line, too */
} tokenizers[BLEU_TOKENIZERS] = {
    [BLEU_TOKENS_13A] = {"13a", tokens_13a, false},
    [BLEU_TOKENS_NONE] = {"none", tokens_none, false},
    [BLEU_TOKENS_CHAR] = {"char", tokens_char, false},
    [BLEU_TOKENS_ZH] = {"zh", tokens_zh, true},
};

const char *bleu_tokenizer_name(BleuTokenizer tokenizer) { return tokenizers[tokenizer].name; }

/* The runs that are not white space. */
static Status split(BleuTokens *tokens)
{
    tokens->count = 0;
    const char *at = tokens->text, *end = tokens->text + tokens->size;
    size_t bytes;
    while (at < end) {
        while (at < end && is_space(character(at, end, &bytes)))
            at += bytes;
        const char *start = at;
        while (at < end && !is_space(character(at, end, &bytes)))
            at += bytes;
        if (at == start) break;
        TRY(memory_grow(&tokens->token, &tokens->token_room, (size_t)tokens->count + 1, sizeof *tokens->token,
                        "a line's tokens"));
        tokens->token[tokens->count++] = (TextSpan){.data = start, .size = (size_t)(at - start)};
    }
    return OK;
}

Status bleu_tokenize(BleuTokenizer tokenizer, TextSpan line, BleuTokens *tokens)
{
    line = without_space_at_end(line);
    if (tokenizers[tokenizer].strips_start) line = without_space_at_start(line);
    TRY(memory_grow(&tokens->text, &tokens->text_room, line.size + 1, 1, "a line's tokens"));
    if (line.size > 0) memcpy(tokens->text, line.data, line.size);
    tokens->size = line.size;
    TRY(tokenizers[tokenizer].apply(tokens));
    return split(tokens);
}
