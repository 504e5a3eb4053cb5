#include "nlp/bleu/bleu.h"

#include "engine/base/memory.h"
#include "nlp/bleu/grams.h"

#include <math.h>
#include <stdlib.h>

/* ---- Counting ---- */

struct BleuCounter {
    BleuTokenization tokenization;
    BleuTokens *reference; /* [reference_room]; the words' texts stand there */
    size_t reference_room;
    int references;
    BleuTokens hypothesis;
    WordNumbers words;
    Grams grams;
    uint32_t *unit;
    size_t unit_room;
};

Status bleu_counter_new(BleuTokenization tokenization, BleuCounter **out)
{
    *out = NULL;
    BleuCounter *counter;
    TRY(memory_new(&counter, 1, sizeof *counter, "a counter of n-grams"));
    counter->tokenization = tokenization;
    *out = counter;
    return OK;
}

void bleu_counter_free(BleuCounter *counter)
{
    if (counter == NULL) return;
    for (size_t r = 0; r < counter->reference_room; ++r)
        bleu_tokens_free(&counter->reference[r]);
    free(counter->reference);
    bleu_tokens_free(&counter->hypothesis);
    word_numbers_free(&counter->words);
    grams_free(&counter->grams);
    free(counter->unit);
    free(counter);
}

static Status unit_room(BleuCounter *counter, const BleuTokens *tokens)
{
    return memory_grow(&counter->unit, &counter->unit_room, (size_t)tokens->count + 1, sizeof *counter->unit,
                       "words of a segment");
}

static Status add_reference(BleuCounter *counter, TextSpan line, BleuTokens *tokens)
{
    TRY(bleu_tokenize(&counter->tokenization, line, tokens));
    TRY(unit_room(counter, tokens));
    for (int64_t i = 0; i < tokens->count; ++i)
        TRY(word_numbers_add(&counter->words, tokens->token[i], &counter->unit[i]));
    return grams_add(&counter->grams, counter->unit, tokens->count, BLEU_ORDER);
}

Status bleu_counter_references(BleuCounter *counter, const TextSpan reference[], int references)
{
    counter->references = 0;
    if (references < 1) return fail(STATUS_INPUT, "a segment without a reference");
    TRY(memory_grow(&counter->reference, &counter->reference_room, (size_t)references,
                    sizeof *counter->reference, "references of a segment"));
    word_numbers_clear(&counter->words);
    grams_clear(&counter->grams);
    for (int r = 0; r < references; ++r)
        TRY(add_reference(counter, reference[r], &counter->reference[r]));
    counter->references = references;
    return OK;
}

static int64_t closest_length(const BleuCounter *counter, int64_t length)
{
    int64_t closest = counter->reference[0].count;
    for (int r = 1; r < counter->references; ++r) {
        const int64_t here = counter->reference[r].count;
        const int64_t far = llabs(here - length), best = llabs(closest - length);
        if (far < best || (far == best && here < closest)) closest = here;
    }
    return closest;
}

Status bleu_counter_count(BleuCounter *counter, TextSpan hypothesis, BleuStatistics *statistics)
{
    *statistics = (BleuStatistics){.hypothesis = 0};
    if (counter->references < 1) return fail(STATUS_INPUT, "a segment without a reference");
    BleuTokens *tokens = &counter->hypothesis;
    TRY(bleu_tokenize(&counter->tokenization, hypothesis, tokens));
    TRY(unit_room(counter, tokens));
    for (int64_t i = 0; i < tokens->count; ++i)
        counter->unit[i] = word_numbers_find(&counter->words, tokens->token[i]);
    grams_match(&counter->grams, counter->unit, tokens->count, BLEU_ORDER, statistics->correct);
    for (int n = 0; n < BLEU_ORDER; ++n)
        statistics->total[n] = grams_total(tokens->count, n);
    statistics->hypothesis = tokens->count;
    statistics->reference = closest_length(counter, tokens->count);
    return OK;
}

Status bleu_segment(BleuTokenizer tokenizer, TextSpan hypothesis, const TextSpan reference[], int references,
                    BleuStatistics *statistics)
{
    *statistics = (BleuStatistics){.hypothesis = 0};
    BleuCounter *counter;
    TRY(bleu_counter_new((BleuTokenization){.tokenizer = tokenizer}, &counter));
    Status status = OK;
    TRY_ELSE(done, bleu_counter_references(counter, reference, references));
    TRY_ELSE(done, bleu_counter_count(counter, hypothesis, statistics));
done:
    bleu_counter_free(counter);
    return status;
}

void bleu_add(BleuStatistics *sum, const BleuStatistics *part)
{
    for (int n = 0; n < BLEU_ORDER; ++n) {
        sum->correct[n] += part->correct[n];
        sum->total[n] += part->total[n];
    }
    sum->hypothesis += part->hypothesis;
    sum->reference += part->reference;
}

void bleu_row(const BleuStatistics *statistics, double row[BLEU_WIDTH])
{
    row[0] = (double)statistics->hypothesis;
    row[1] = (double)statistics->reference;
    for (int n = 0; n < BLEU_ORDER; ++n) {
        row[2 + n] = (double)statistics->correct[n];
        row[2 + BLEU_ORDER + n] = (double)statistics->total[n];
    }
}

/* ---- Score: the steps and their order are sacreBLEU's, so that the last digit is, too ---- */

double bleu_smoothing_value(const BleuOptions *options)
{
    if (options->value >= 0) return options->value;
    return options->smoothing == BLEU_SMOOTH_ADD_K ? 1 : 0.1;
}

/* A count that add-k makes larger where it stands: an array keeps its type. */
static Number increased(Number count, double by, Arithmetic arithmetic)
{
    const Number sum = number_add(count, number_of(by), arithmetic.numpy);
    if (arithmetic.kept == KEPT_IN_INTEGER) return number_of(trunc(sum.value));
    return arithmetic.kept == KEPT_IN_SINGLE ? number_single(sum.value) : sum;
}

/* The precision of an order without a match, in percent; *doubling grows with each such order. */
static Number smoothed(const BleuOptions *options, Number total, double *doubling, Numpy numpy)
{
    if (options->smoothing == BLEU_SMOOTH_FLOOR)
        return number_divide(number_of(100.0 * bleu_smoothing_value(options)), total, numpy);
    if (options->smoothing != BLEU_SMOOTH_EXP) return number_of(0);
    *doubling *= 2;
    return number_divide(number_of(100.0), number_multiply(number_of(*doubling), total, numpy), numpy);
}

BleuScore bleu_score_of(const double row[BLEU_WIDTH], const BleuOptions *options, Arithmetic arithmetic)
{
    const bool single = arithmetic.kept == KEPT_IN_SINGLE;
    const Numpy numpy = arithmetic.numpy;
    const double hypothesis = row[0], reference = row[1];
    BleuScore score = {.brevity_penalty = 1};
    if (hypothesis < reference) score.brevity_penalty = hypothesis > 0 ? exp(1 - reference / hypothesis) : 0;
    bool matches = false;
    for (int n = 0; n < BLEU_ORDER; ++n)
        matches = matches || row[2 + n] != 0;
    if (!matches) return score;
    int orders = BLEU_ORDER;
    double doubling = 1;
    for (int n = 0; n < BLEU_ORDER; ++n) {
        Number correct = number_result(row[2 + n], single);
        Number total = number_result(row[2 + BLEU_ORDER + n], single);
        if (options->smoothing == BLEU_SMOOTH_ADD_K && n > 0) {
            correct = increased(correct, bleu_smoothing_value(options), arithmetic);
            total = increased(total, bleu_smoothing_value(options), arithmetic);
        }
        if (total.value == 0) break;
        if (options->effective_order) orders = n + 1;
        const Number precision =
            correct.value == 0
                ? smoothed(options, total, &doubling, numpy)
                : number_divide(number_multiply(number_of(100.0), correct, numpy), total, numpy);
        score.precision[n] = precision.value;
    }
    double logarithms =
        0; /* one after the other, as Python's sum does it up to 3.11; later ones may differ in the last bit */
    for (int n = 0; n < orders; ++n)
        logarithms += score.precision[n] == 0 ? -9999999999.0 : log(score.precision[n]);
    score.score = score.brevity_penalty * exp(logarithms / orders);
    return score;
}

BleuScore bleu_score(const BleuStatistics *statistics, const BleuOptions *options)
{
    double row[BLEU_WIDTH];
    bleu_row(statistics, row);
    return bleu_score_of(row, options, (Arithmetic){.kept = KEPT_IN_PYTHON});
}
