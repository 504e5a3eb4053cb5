#include "nlp/bleu/bleu.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- n-grams of one segment ---- */

typedef struct {
    int32_t word[BLEU_ORDER]; /* -1 behind the last */
} Gram;

typedef struct {
    Gram *gram;
    int64_t count, length; /* n-grams; tokens */
} Grams;

typedef struct {
    TextSpan text;
    int32_t *number; /* where the word's number goes */
} Word;

static int by_text(const void *a, const void *b)
{
    const TextSpan left = ((const Word *)a)->text, right = ((const Word *)b)->text;
    const int order = memcmp(left.data, right.data, left.size < right.size ? left.size : right.size);
    if (order != 0) return order;
    return left.size < right.size ? -1 : left.size > right.size;
}

static int by_words(const void *a, const void *b)
{
    const Gram *left = a, *right = b;
    for (int i = 0; i < BLEU_ORDER; ++i)
        if (left->word[i] != right->word[i]) return left->word[i] < right->word[i] ? -1 : 1;
    return 0;
}

static int order_of(const Gram *gram)
{
    int order = BLEU_ORDER;
    while (gram->word[order - 1] < 0)
        --order;
    return order - 1;
}

/* All n-grams of a text of `length` words, sorted. */
static Status make_grams(const int32_t word[], int64_t length, Grams *grams)
{
    *grams = (Grams){.length = length};
    TRY(memory_new(&grams->gram, (size_t)length * BLEU_ORDER, sizeof *grams->gram, "n-grams"));
    for (int64_t start = 0; start < length; ++start) {
        Gram gram = {{-1, -1, -1, -1}};
        for (int n = 0; n < BLEU_ORDER && start + n < length; ++n) {
            gram.word[n] = word[start + n];
            grams->gram[grams->count++] = gram;
        }
    }
    qsort(grams->gram, (size_t)grams->count, sizeof *grams->gram, by_words);
    return OK;
}

/* How often *gram follows from `at` on; *at goes behind. Those that sort before it are skipped. */
static int64_t occurrences(const Grams *grams, int64_t *at, const Gram *gram)
{
    while (*at < grams->count && by_words(&grams->gram[*at], gram) < 0)
        ++*at;
    const int64_t first = *at;
    while (*at < grams->count && by_words(&grams->gram[*at], gram) == 0)
        ++*at;
    return *at - first;
}

static int64_t closest_length(const Grams texts[], int references, int64_t length)
{
    int64_t closest = texts[1].length;
    for (int r = 2; r <= references; ++r) {
        const int64_t far = llabs(texts[r].length - length), best = llabs(closest - length);
        if (far < best || (far == best && texts[r].length < closest)) closest = texts[r].length;
    }
    return closest;
}

/* texts[0] is the hypothesis; `at` has a place for each text. */
static void count(const Grams texts[], int references, int64_t at[], BleuStatistics *statistics)
{
    const Grams *hypothesis = &texts[0];
    statistics->hypothesis = hypothesis->length;
    statistics->reference = closest_length(texts, references, hypothesis->length);
    while (at[0] < hypothesis->count) {
        const Gram *gram = &hypothesis->gram[at[0]];
        const int64_t made = occurrences(hypothesis, &at[0], gram);
        int64_t allowed = 0;
        for (int r = 1; r <= references; ++r) {
            const int64_t there = occurrences(&texts[r], &at[r], gram);
            if (there > allowed) allowed = there;
        }
        statistics->total[order_of(gram)] += made;
        statistics->correct[order_of(gram)] += made < allowed ? made : allowed;
    }
}

/* ---- One segment ---- */

typedef struct {
    BleuTokens *tokens; /* [texts] */
    Grams *grams;       /* [texts] */
    int64_t *at;        /* [texts] */
    Word *words;        /* [all tokens] */
    int32_t *numbers;   /* [all tokens] */
} Work;

/* Equal words of all texts get equal numbers. */
static Status number_words(Work *work, int texts)
{
    int64_t total = 0, next = 0;
    for (int t = 0; t < texts; ++t)
        total += work->tokens[t].count;
    TRY(memory_new(&work->words, (size_t)total, sizeof *work->words, "words of a segment"));
    TRY(memory_new(&work->numbers, (size_t)total, sizeof *work->numbers, "words of a segment"));
    for (int t = 0; t < texts; ++t)
        for (int64_t i = 0; i < work->tokens[t].count; ++i, ++next)
            work->words[next] = (Word){.text = work->tokens[t].token[i], .number = &work->numbers[next]};
    qsort(work->words, (size_t)total, sizeof *work->words, by_text);
    int32_t number = 0;
    for (int64_t i = 0; i < total; ++i) {
        if (i > 0 && by_text(&work->words[i - 1], &work->words[i]) != 0) ++number;
        *work->words[i].number = number;
    }
    return OK;
}

static Status segment(BleuTokenizer tokenizer, TextSpan hypothesis, const TextSpan reference[],
                      int references, Work *work, BleuStatistics *statistics)
{
    const int texts = references + 1;
    TRY(memory_new(&work->tokens, (size_t)texts, sizeof *work->tokens, "texts of a segment"));
    TRY(memory_new(&work->grams, (size_t)texts, sizeof *work->grams, "texts of a segment"));
    TRY(memory_new(&work->at, (size_t)texts, sizeof *work->at, "texts of a segment"));
    for (int t = 0; t < texts; ++t)
        TRY(bleu_tokenize(tokenizer, t == 0 ? hypothesis : reference[t - 1], &work->tokens[t]));
    TRY(number_words(work, texts));
    const int32_t *number = work->numbers;
    for (int t = 0; t < texts; ++t) {
        TRY(make_grams(number, work->tokens[t].count, &work->grams[t]));
        number += work->tokens[t].count;
    }
    count(work->grams, references, work->at, statistics);
    return OK;
}

Status bleu_segment(BleuTokenizer tokenizer, TextSpan hypothesis, const TextSpan reference[], int references,
                    BleuStatistics *statistics)
{
    *statistics = (BleuStatistics){.hypothesis = 0};
    if (references < 1) return fail(STATUS_INPUT, "a segment without a reference");
    Work work = {.tokens = NULL};
    Status status = segment(tokenizer, hypothesis, reference, references, &work, statistics);
    for (int t = 0; t <= references; ++t) {
        if (work.tokens != NULL) bleu_tokens_free(&work.tokens[t]);
        if (work.grams != NULL) free(work.grams[t].gram);
    }
    free(work.tokens);
    free(work.grams);
    free(work.at);
    free(work.words);
    free(work.numbers);
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

/* ---- Score ---- */

/* The precision of an order without a match, in percent; *doubling grows with each such order. */
static double smoothed(BleuSmoothing smoothing, double value, double total, double *doubling)
{
    if (smoothing == BLEU_SMOOTH_FLOOR) return 100.0 * value / total;
    if (smoothing != BLEU_SMOOTH_EXP) return 0;
    *doubling *= 2;
    return 100.0 / (*doubling * total);
}

/* The steps and their order are sacreBLEU's, so that the last digit is, too. */
BleuScore bleu_score(const BleuStatistics *statistics, const BleuOptions *options)
{
    const double hypothesis = (double)statistics->hypothesis, reference = (double)statistics->reference;
    double value = options->value;
    if (value < 0) value = options->smoothing == BLEU_SMOOTH_ADD_K ? 1 : 0.1;
    BleuScore score = {.brevity_penalty = 1};
    if (hypothesis < reference) score.brevity_penalty = hypothesis > 0 ? exp(1 - reference / hypothesis) : 0;
    bool matches = false;
    for (int n = 0; n < BLEU_ORDER; ++n)
        matches = matches || statistics->correct[n] > 0;
    if (!matches) return score;
    int orders = BLEU_ORDER;
    double doubling = 1;
    for (int n = 0; n < BLEU_ORDER; ++n) {
        const double added = options->smoothing == BLEU_SMOOTH_ADD_K && n > 0 ? value : 0;
        const double correct = (double)statistics->correct[n] + added,
                     total = (double)statistics->total[n] + added;
        if (total == 0) break;
        if (options->effective_order) orders = n + 1;
        score.precision[n] =
            correct == 0 ? smoothed(options->smoothing, value, total, &doubling) : 100.0 * correct / total;
    }
    double logarithms = 0;
    for (int n = 0; n < orders; ++n)
        logarithms += score.precision[n] == 0 ? -9999999999.0 : log(score.precision[n]);
    score.score = score.brevity_penalty * exp(logarithms / orders);
    return score;
}
