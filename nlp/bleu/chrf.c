#include "nlp/bleu/chrf.h"

#include "engine/base/memory.h"
#include "nlp/bleu/grams.h"
#include "nlp/bleu/tokens.h"

#include "nlp/bleu/characters.h"

#include <stdlib.h>
#include <string.h>

const ChrfOptions chrf_usual = {.characters = 6, .beta = 2};

static int orders_of(const ChrfOptions *options) { return options->characters + options->words; }

int chrf_width(const ChrfOptions *options) { return 3 * orders_of(options); }

/* ---- Counting ---- */

/* A text as numbers of characters and of words. */
typedef struct {
    BleuTokens tokens;
    uint32_t *character, *word;
    size_t character_room, word_room;
    int64_t characters, words;
} Units;

typedef struct {
    Units units; /* the words' texts stand there */
    Grams characters, words;
} Reference;

struct ChrfCounter {
    ChrfOptions options;
    Reference *reference;
    size_t reference_room;
    int references;
    WordNumbers words;
    Units hypothesis;
};

static void units_free(Units *units)
{
    bleu_tokens_free(&units->tokens);
    free(units->character);
    free(units->word);
}

Status chrf_counter_new(const ChrfOptions *options, ChrfCounter **out)
{
    *out = NULL;
    if (options->characters < 0 || options->words < 0 || orders_of(options) < 1 ||
        orders_of(options) > CHRF_MOST_ORDERS)
        return fail(STATUS_INPUT,
                    "chrF counts n-grams of 1 to %d orders, not of %d of characters and %d of words",
                    CHRF_MOST_ORDERS, options->characters, options->words);
    ChrfCounter *counter;
    TRY(memory_new(&counter, 1, sizeof *counter, "a counter of n-grams"));
    counter->options = *options;
    *out = counter;
    return OK;
}

void chrf_counter_free(ChrfCounter *counter)
{
    if (counter == NULL) return;
    for (size_t r = 0; r < counter->reference_room; ++r) {
        units_free(&counter->reference[r].units);
        grams_free(&counter->reference[r].characters);
        grams_free(&counter->reference[r].words);
    }
    free(counter->reference);
    word_numbers_free(&counter->words);
    units_free(&counter->hypothesis);
    free(counter);
}

static void add_characters(Units *units, const char *at, const char *end)
{
    size_t bytes;
    for (; at < end; at += bytes)
        units->character[units->characters++] = character_at(at, end, &bytes);
}

static bool is_punctuation(char c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
}

/* One character of punctuation comes off a word: at its end or, if none is there, at its start. Returns the parts. */
static int word_parts(TextSpan word, TextSpan part[2])
{
    size_t bytes;
    (void)character_at(word.data, word.data + word.size, &bytes);
    part[0] = word;
    if (bytes == word.size) return 1;
    const bool at_end = is_punctuation(word.data[word.size - 1]);
    if (!at_end && !is_punctuation(word.data[0])) return 1;
    const size_t first = at_end ? word.size - 1 : 1;
    part[0].size = first;
    part[1] = (TextSpan){.data = word.data + first, .size = word.size - first};
    return 2;
}

/* known: words that are not in the table get no number; else they get one. */
static Status add_words(ChrfCounter *counter, Units *units, bool known)
{
    const size_t most = 2 * (size_t)units->tokens.count + 1;
    TRY(memory_grow(&units->word, &units->word_room, most, sizeof *units->word, "words of a segment"));
    for (int64_t i = 0; i < units->tokens.count; ++i) {
        TextSpan part[2];
        const int parts = word_parts(units->tokens.token[i], part);
        for (int p = 0; p < parts; ++p, ++units->words) {
            if (known)
                units->word[units->words] = word_numbers_find(&counter->words, part[p]);
            else
                TRY(word_numbers_add(&counter->words, part[p], &units->word[units->words]));
        }
    }
    return OK;
}

static Status make_units(ChrfCounter *counter, TextSpan line, bool known, Units *units)
{
    BleuTokens *tokens = &units->tokens;
    TRY(bleu_tokens_set(tokens, line, counter->options.lowercase));
    TRY(bleu_tokens_split(tokens));
    units->characters = units->words = 0;
    TRY(memory_grow(&units->character, &units->character_room, tokens->size + 1, sizeof *units->character,
                    "characters of a segment"));
    if (counter->options.whitespace)
        add_characters(units, tokens->text, tokens->text + tokens->size);
    else
        for (int64_t i = 0; i < tokens->count; ++i)
            add_characters(units, tokens->token[i].data, tokens->token[i].data + tokens->token[i].size);
    return counter->options.words > 0 ? add_words(counter, units, known) : OK;
}

Status chrf_counter_references(ChrfCounter *counter, const TextSpan reference[], int references)
{
    counter->references = 0;
    if (references < 1) return fail(STATUS_INPUT, "a segment without a reference");
    TRY(memory_grow(&counter->reference, &counter->reference_room, (size_t)references,
                    sizeof *counter->reference, "references of a segment"));
    word_numbers_clear(&counter->words);
    for (int r = 0; r < references; ++r) {
        Reference *here = &counter->reference[r];
        TRY(make_units(counter, reference[r], false, &here->units));
        grams_clear(&here->characters);
        grams_clear(&here->words);
        TRY(grams_add(&here->characters, here->units.character, here->units.characters,
                      counter->options.characters));
        TRY(grams_add(&here->words, here->units.word, here->units.words, counter->options.words));
    }
    counter->references = references;
    return OK;
}

static void fill(Grams *grams, const uint32_t unit[], int64_t count, int64_t reference, int orders,
                 double row[])
{
    int64_t matches[CHRF_MOST_ORDERS];
    grams_match(grams, unit, count, orders, matches);
    for (int n = 0; n < orders; ++n) {
        const int64_t there = grams_total(reference, n);
        /* n-grams do not count against a hypothesis where the reference has none. */
        row[3 * n] = there > 0 ? (double)grams_total(count, n) : 0;
        row[3 * n + 1] = (double)there;
        row[3 * n + 2] = (double)matches[n];
    }
}

Status chrf_counter_count(ChrfCounter *counter, TextSpan hypothesis, double row[])
{
    const ChrfOptions *options = &counter->options;
    if (counter->references < 1) return fail(STATUS_INPUT, "a segment without a reference");
    Units *units = &counter->hypothesis;
    TRY(make_units(counter, hypothesis, true, units));
    double best = -1; /* so that a reference counts also where nothing is met */
    for (int r = 0; r < counter->references; ++r) {
        Reference *here = &counter->reference[r];
        double one[3 * CHRF_MOST_ORDERS];
        fill(&here->characters, units->character, units->characters, here->units.characters,
             options->characters, one);
        fill(&here->words, units->word, units->words, here->units.words, options->words,
             one + 3 * options->characters);
        const double score = chrf_score(one, options, (Arithmetic){.kept = KEPT_IN_PYTHON}).value;
        if (score <= best) continue;
        best = score;
        memcpy(row, one, (size_t)chrf_width(options) * sizeof *row);
    }
    return OK;
}

/* ---- Score: the steps and their order are sacreBLEU's ---- */

static Number add(Number a, Number b, Numpy numpy) { return number_add(a, b, numpy); }

static Number times(Number a, Number b, Numpy numpy) { return number_multiply(a, b, numpy); }

static Number share(Number part, Number whole, Numpy numpy)
{
    return whole.value > 0 ? number_divide(part, whole, numpy) : number_of(1e-16);
}

Number chrf_score(const double row[], const ChrfOptions *options, Arithmetic arithmetic)
{
    const bool single = arithmetic.kept == KEPT_IN_SINGLE;
    const Numpy numpy = arithmetic.numpy;
    const int orders = orders_of(options);
    const Number factor = number_of((double)options->beta * options->beta);
    const Number weight = number_of(1 + factor.value), hundred = number_of(100);
    Number sum = number_of(0), precision = number_of(0), recall = number_of(0);
    int effective = 0;
    for (int n = 0; n < orders; ++n) {
        const Number hypothesis = number_result(row[3 * n], single);
        const Number reference = number_result(row[3 * n + 1], single);
        const Number both = number_result(row[3 * n + 2], single);
        const Number p = share(both, hypothesis, numpy), r = share(both, reference, numpy);
        const Number below = add(times(factor, p, numpy), r, numpy);
        const Number above = times(times(weight, p, numpy), r, numpy);
        sum = add(sum, below.value > 0 ? number_divide(above, below, numpy) : number_of(1e-16), numpy);
        if (hypothesis.value <= 0 || reference.value <= 0) continue;
        precision = add(precision, p, numpy);
        recall = add(recall, r, numpy);
        ++effective;
    }
    if (options->epsilon) return number_divide(times(hundred, sum, numpy), number_of(orders), numpy);
    if (effective == 0) return number_of(0);
    precision = number_divide(precision, number_of(effective), numpy);
    recall = number_divide(recall, number_of(effective), numpy);
    if (add(precision, recall, numpy).value == 0) return number_of(0);
    const Number above = times(times(weight, precision, numpy), recall, numpy);
    const Number below = add(times(factor, precision, numpy), recall, numpy);
    return times(hundred, number_divide(above, below, numpy), numpy);
}
