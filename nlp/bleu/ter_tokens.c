#include "nlp/bleu/ter_tokens.h"

#include "nlp/bleu/characters.h"
#include "nlp/bleu/token_rules.h"

#include <string.h>

typedef struct {
    uint32_t first, last;
} Range;

static bool is_in(const Range range[], size_t count, uint32_t code)
{
    for (size_t i = 0; i < count; ++i)
        if (code >= range[i].first && code <= range[i].last) return true;
    return false;
}

/* The same marks at full and half width. */
static bool is_asian_punctuation(uint32_t code)
{
    static const Range ranges[] = {{0x3001, 0x3002}, {0x3008, 0x3011}, {0x3014, 0x301F}, {0xFF61, 0xFF65},
                                   {0x30FB, 0x30FB}, {0xFF0E, 0xFF0E}, {0xFF0C, 0xFF0C}, {0xFF1F, 0xFF1F},
                                   {0xFF1A, 0xFF1B}, {0xFF01, 0xFF02}, {0xFF08, 0xFF09}};
    return is_in(ranges, sizeof ranges / sizeof *ranges, code);
}

/* sacreBLEU writes U+3F22 where U+32FF was meant. Its rules for runs of kana look for them at the very start of the line, where
 * a blank stands: these never apply. */
static bool is_asian(uint32_t code)
{
    static const Range ranges[] = {{0x4E00, 0x9FFF}, {0x3400, 0x4DBF}, {0x31C0, 0x31EF}, {0x2E80, 0x2EFF},
                                   {0x3300, 0x33FF}, {0xF900, 0xFAFF}, {0xFE30, 0xFE4F}, {0x3200, 0x3F22}};
    return is_in(ranges, sizeof ranges / sizeof *ranges, code) || is_asian_punctuation(code);
}

static bool is_left_out(uint32_t code)
{
    return code < 0x80 && code != 0 && strchr(".,?:;!\"()", (int)code) != NULL;
}

static void leave_out(BleuTokens *tokens, bool (*out)(uint32_t))
{
    size_t made = 0, bytes;
    for (size_t i = 0; i < tokens->size; i += bytes) {
        if (out(character_at(tokens->text + i, tokens->text + tokens->size, &bytes))) continue;
        memmove(tokens->text + made, tokens->text + i, bytes);
        made += bytes;
    }
    tokens->size = made;
}

/* "'s " -> " 's " */
static Status possessives(BleuTokens *tokens)
{
    TRY(rule_room(tokens, 2));
    size_t made = 0;
    for (size_t i = 0; i < tokens->size; ++i) {
        const bool found = tokens->size - i >= 3 && memcmp(tokens->text + i, "'s ", 3) == 0;
        if (!found) {
            tokens->other[made++] = tokens->text[i];
            continue;
        }
        memcpy(tokens->other + made, " 's ", 4);
        made += 4;
        i += 2;
    }
    rule_take(tokens, made);
    return OK;
}

static Status normalize(BleuTokens *tokens, bool asian)
{
    rule_replace(tokens, "\n-", "");
    rule_entities(tokens);
    TRY(rule_surround(tokens));
    TRY(rule_punctuation(tokens));
    TRY(possessives(tokens));
    TRY(rule_points(tokens));
    return asian ? rule_apart(tokens, is_asian) : OK;
}

/* The tokens in the line, with one blank between them. */
static void join(BleuTokens *tokens)
{
    size_t made = 0;
    for (int64_t i = 0; i < tokens->count; ++i) {
        if (i > 0) tokens->text[made++] = ' ';
        memmove(tokens->text + made, tokens->token[i].data, tokens->token[i].size);
        made += tokens->token[i].size;
    }
    tokens->size = made;
}

static Status prepare(const TerOptions *options, BleuTokens *tokens)
{
    if (options->normalized) TRY(normalize(tokens, options->asian));
    if (options->no_punctuation) {
        leave_out(tokens, is_left_out);
        if (options->asian) leave_out(tokens, is_asian_punctuation);
    }
    return bleu_tokens_split(tokens);
}

Status ter_tokenize(const TerOptions *options, TextSpan line, int times, BleuTokens *tokens)
{
    TRY(bleu_tokens_set(tokens, text_without_space_at_end(line), !options->case_sensitive));
    TRY(prepare(options, tokens));
    for (int i = 1; i < times && tokens->count > 0; ++i) {
        join(tokens);
        TRY(prepare(options, tokens));
    }
    return OK;
}
