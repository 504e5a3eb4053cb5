#include "nlp/bleu/tokens.h"

#include "engine/base/memory.h"
#include "nlp/bleu/characters.h"
#include "nlp/bleu/spm.h"
#include "nlp/bleu/token_rules.h"
#include "nlp/bleu/unicode.h"

#include <stdlib.h>
#include <string.h>

void bleu_tokens_free(BleuTokens *tokens)
{
    free(tokens->text);
    free(tokens->other);
    free(tokens->token);
    *tokens = (BleuTokens){.text = NULL};
}

/* ---- Tokenisers ---- */

static Status tokens_13a(const BleuTokenization *how, BleuTokens *tokens)
{
    (void)how;
    rule_replace(tokens, "<skipped>", "");
    rule_replace(tokens, "-\n", "");
    rule_entities(tokens);
    TRY(rule_surround(tokens));
    return rule_western(tokens);
}

static Status tokens_none(const BleuTokenization *how, BleuTokens *tokens)
{
    (void)how;
    (void)tokens;
    return OK;
}

static bool any(uint32_t code)
{
    (void)code;
    return true;
}

static Status tokens_char(const BleuTokenization *how, BleuTokens *tokens)
{
    (void)how;
    return rule_apart(tokens, any);
}

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

static Status tokens_zh(const BleuTokenization *how, BleuTokens *tokens)
{
    (void)how;
    TRY(rule_apart(tokens, is_chinese));
    return rule_western(tokens);
}

/* ---- intl: of mteval-v14.pl ---- */

/* Rules of two characters go from left to right, and a character belongs to one pair only. */
static UnicodeClass class_at(const char *at, const char *end, size_t *bytes)
{
    return unicode_class(character_at(at, end, bytes));
}

/* (\P{N})(\p{P}) -> \1 \2_ */
static size_t punctuation_behind_no_number(const char *in, size_t size, char *out)
{
    const char *at = in, *end = in + size;
    size_t made = 0, bytes, next;
    while (at < end) {
        const bool number = class_at(at, end, &bytes) == UNICODE_NUMBER;
        memcpy(out + made, at, bytes);
        made += bytes;
        at += bytes;
        if (number || at == end || class_at(at, end, &next) != UNICODE_PUNCTUATION) continue;
        out[made++] = ' ';
        memcpy(out + made, at, next);
        made += next;
        at += next;
        out[made++] = ' ';
    }
    return made;
}

/* (\p{P})(\P{N}) -> _\1 \2 */
static size_t punctuation_before_no_number(const char *in, size_t size, char *out)
{
    const char *at = in, *end = in + size;
    size_t made = 0, bytes, next;
    while (at < end) {
        const bool pair = class_at(at, end, &bytes) == UNICODE_PUNCTUATION && at + bytes < end &&
                          class_at(at + bytes, end, &next) != UNICODE_NUMBER;
        if (pair) out[made++] = ' ';
        memcpy(out + made, at, bytes);
        made += bytes;
        at += bytes;
        if (!pair) continue;
        out[made++] = ' ';
        memcpy(out + made, at, next);
        made += next;
        at += next;
    }
    return made;
}

static bool is_symbol(uint32_t code) { return unicode_class(code) == UNICODE_SYMBOL; }

static Status tokens_intl(const BleuTokenization *how, BleuTokens *tokens)
{
    (void)how;
    TRY(rule_room(tokens, 3));
    rule_take(tokens, punctuation_behind_no_number(tokens->text, tokens->size, tokens->other));
    TRY(rule_room(tokens, 3));
    rule_take(tokens, punctuation_before_no_number(tokens->text, tokens->size, tokens->other));
    return rule_apart(tokens, is_symbol);
}

/* ---- Compounds apart, in text that is tokenised already ---- */

/* (\S)-(\S) -> \1 ##AT##-##AT## \2, as in the scripts with which the numbers of Vaswani et al. are compared. */
static Status tokens_compound_split(const BleuTokenization *how, BleuTokens *tokens)
{
    (void)how;
    static const char split[] = " ##AT##-##AT## ";
    TRY(rule_room(tokens, sizeof split)); /* of three characters, at the least */
    const char *at = tokens->text, *end = tokens->text + tokens->size;
    size_t made = 0, bytes, next;
    while (at < end) {
        const bool space = character_is_space_at(at, end, &bytes);
        memcpy(tokens->other + made, at, bytes);
        made += bytes;
        at += bytes;
        if (space || end - at < 2 || *at != '-' || character_is_space_at(at + 1, end, &next)) continue;
        memcpy(tokens->other + made, split, sizeof split - 1);
        made += sizeof split - 1;
        memcpy(tokens->other + made, at + 1, next);
        made += next;
        at += 1 + next;
    }
    rule_take(tokens, made);
    return OK;
}

static Status tokens_spm(const BleuTokenization *how, BleuTokens *tokens)
{
    if (how->pieces == NULL) return fail(STATUS_INTERNAL, "the tokeniser spm without a model");
    return bleu_pieces_split(how->pieces, tokens);
}

static const struct {
    const char *name;
    Status (*apply)(const BleuTokenization *, BleuTokens *);
    bool strips_start; /* white space at the start of the line, too */
} tokenizers[BLEU_TOKENIZERS] = {
    [BLEU_TOKENS_13A] = {"13a", tokens_13a, false},
    [BLEU_TOKENS_NONE] = {"none", tokens_none, false},
    [BLEU_TOKENS_CHAR] = {"char", tokens_char, false},
    [BLEU_TOKENS_ZH] = {"zh", tokens_zh, true},
    [BLEU_TOKENS_INTL] = {"intl", tokens_intl, false},
    [BLEU_TOKENS_COMPOUND_SPLIT] = {"none-compound-split", tokens_compound_split, false},
    [BLEU_TOKENS_SPM] = {"spm", tokens_spm, false},
};

const char *bleu_tokenizer_name(BleuTokenizer tokenizer) { return tokenizers[tokenizer].name; }

const char *bleu_tokenization_name(const BleuTokenization *how)
{
    return how->pieces != NULL ? bleu_pieces_name(how->pieces) : bleu_tokenizer_name(how->tokenizer);
}

Status bleu_tokens_set(BleuTokens *tokens, TextSpan line, bool lowercase)
{
    const size_t room = lowercase ? text_lower_room(line.size) : line.size;
    TRY(memory_grow(&tokens->text, &tokens->text_room, room + 1, 1, "a line's tokens"));
    if (lowercase)
        tokens->size = text_lower(line, tokens->text);
    else if ((tokens->size = line.size) > 0)
        memcpy(tokens->text, line.data, line.size);
    return OK;
}

Status bleu_tokens_split(BleuTokens *tokens)
{
    tokens->count = 0;
    const char *at = tokens->text, *end = tokens->text + tokens->size;
    size_t bytes;
    while (at < end) {
        while (at < end && character_is_space_at(at, end, &bytes))
            at += bytes;
        const char *start = at;
        while (at < end && !character_is_space_at(at, end, &bytes))
            at += bytes;
        if (at == start) break;
        TRY(memory_grow(&tokens->token, &tokens->token_room, (size_t)tokens->count + 1, sizeof *tokens->token,
                        "a line's tokens"));
        tokens->token[tokens->count++] = (TextSpan){.data = start, .size = (size_t)(at - start)};
    }
    return OK;
}

Status bleu_tokenize(const BleuTokenization *how, TextSpan line, BleuTokens *tokens)
{
    const BleuTokenizer tokenizer = how->tokenizer;
    line = text_without_space_at_end(line);
    if (tokenizers[tokenizer].strips_start) line = text_without_space_at_start(line);
    TRY(bleu_tokens_set(tokens, line, how->lowercase));
    TRY(tokenizers[tokenizer].apply(how, tokens));
    return bleu_tokens_split(tokens);
}
