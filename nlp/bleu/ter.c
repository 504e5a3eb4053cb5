#include "nlp/bleu/ter.h"

#include "engine/base/memory.h"
#include "nlp/bleu/edit_distance.h"
#include "nlp/bleu/grams.h"
#include "nlp/bleu/ter_tokens.h"

#include <stdlib.h>
#include <string.h>

/* Tercom's limits, and sacreBLEU's on the shifts tried. */
enum { MOST_SHIFTED = 10, FARTHEST = 50, MOST_TRIED = 1000 };

typedef struct {
    BleuTokens tokens;
    uint32_t *word;
    size_t room;
} Words;

struct TerCounter {
    TerOptions options;
    Words *reference; /* [reference_room] */
    size_t reference_room;
    int references;
    Words hypothesis;
    WordNumbers numbers;
    EditDistance distance;
    uint32_t *shifted, *best; /* [hypothesis] */
    uint32_t *place;          /* [hypothesis] where each word stood before the shifts */
    int32_t *align;           /* [reference] the place in the hypothesis of a word of the reference */
    int32_t *wrong_here, *wrong_there; /* [hypothesis + 1], [reference + 1] errors before a place */
    size_t shifted_room, best_room, place_room, align_room, here_room, there_room;
};

Status ter_counter_new(const TerOptions *options, TerCounter **out)
{
    *out = NULL;
    TerCounter *counter;
    TRY(memory_new(&counter, 1, sizeof *counter, "a counter of edits"));
    counter->options = *options;
    *out = counter;
    return OK;
}

static void words_free(Words *words)
{
    bleu_tokens_free(&words->tokens);
    free(words->word);
}

void ter_counter_free(TerCounter *counter)
{
    if (counter == NULL) return;
    for (size_t r = 0; r < counter->reference_room; ++r)
        words_free(&counter->reference[r]);
    free(counter->reference);
    words_free(&counter->hypothesis);
    word_numbers_free(&counter->numbers);
    edit_distance_free(&counter->distance);
    free(counter->shifted);
    free(counter->best);
    free(counter->place);
    free(counter->align);
    free(counter->wrong_here);
    free(counter->wrong_there);
    free(counter);
}

static Status make_words(TerCounter *counter, TextSpan line, bool reference, Words *words)
{
    TRY(ter_tokenize(&counter->options, line, reference ? 2 : 1, &words->tokens));
    const int64_t count = words->tokens.count;
    if (count > INT32_MAX / 2) return fail(STATUS_INPUT, "TER: a line of %lld words", (long long)count);
    TRY(memory_grow(&words->word, &words->room, (size_t)count + 1, sizeof *words->word,
                    "words of a segment"));
    for (int64_t i = 0; i < count; ++i) {
        if (reference)
            TRY(word_numbers_add(&counter->numbers, words->tokens.token[i], &words->word[i]));
        else
            words->word[i] = word_numbers_find(&counter->numbers, words->tokens.token[i]);
    }
    return OK;
}

Status ter_counter_references(TerCounter *counter, const TextSpan reference[], int references)
{
    counter->references = 0;
    if (references < 1) return fail(STATUS_INPUT, "a segment without a reference");
    TRY(memory_grow(&counter->reference, &counter->reference_room, (size_t)references,
                    sizeof *counter->reference, "references of a segment"));
    word_numbers_clear(&counter->numbers);
    for (int r = 0; r < references; ++r)
        TRY(make_words(counter, reference[r], true, &counter->reference[r]));
    counter->references = references;
    return OK;
}

/* ---- Shifts ---- */

/* A search for the best next shift. */
typedef struct {
    TerCounter *counter;
    const uint32_t *here, *there; /* the words of hypothesis and reference */
    int32_t words_here, words_there;
    int tried; /* shifts, over all rounds */
    /* The best so far: by distance gained, then longest, then earliest, then nearest to the start. */
    bool found;
    int32_t gain, length, start, target;
} Search;

/* Words [start, start+length) of `from` go before place `target`; returns the first place that changes. */
static int32_t perform(const uint32_t from[], int32_t count, int32_t start, int32_t length, int32_t target,
                       uint32_t to[])
{
    const size_t word = sizeof *from;
    memcpy(to, from, (size_t)count * word);
    if (target < start) {
        memcpy(to + target, from + start, (size_t)length * word);
        memcpy(to + target + length, from + target, (size_t)(start - target) * word);
        return target;
    }
    /* Up to start+length the target lies within the words that move, and they go on by as many places as it is behind start. */
    int32_t passed = target > start + length ? target - start - length : target - start;
    if (passed > count - start - length) passed = count - start - length;
    memcpy(to + start, from + start + length, (size_t)passed * word);
    memcpy(to + start + passed, from + start, (size_t)length * word);
    return start;
}

static bool is_better(const Search *search, int32_t gain, int32_t length, int32_t start, int32_t target)
{
    if (!search->found || gain != search->gain) return !search->found || gain > search->gain;
    if (length != search->length) return length > search->length;
    if (start != search->start) return start < search->start;
    return target < search->target;
}

static void try_target(Search *search, int32_t start, int32_t length, int32_t target)
{
    TerCounter *counter = search->counter;
    const int32_t first = perform(search->here, search->words_here, start, length, target, counter->shifted);
    const int32_t gain = edit_distance_cost(&counter->distance) -
                         edit_distance_changed(&counter->distance, counter->shifted, first);
    ++search->tried;
    if (!is_better(search, gain, length, start, target)) return;
    search->found = true;
    search->gain = gain;
    search->length = length;
    search->start = start;
    search->target = target;
    memcpy(counter->best, counter->shifted, (size_t)search->words_here * sizeof *counter->best);
}

/* `length` equal words at `start` of the hypothesis and `there` of the reference. */
static void try_pair(Search *search, int32_t start, int32_t there, int32_t length)
{
    const TerCounter *counter = search->counter;
    if (counter->wrong_here[start + length] == counter->wrong_here[start]) return;
    if (counter->wrong_there[there + length] == counter->wrong_there[there]) return;
    if (counter->align[there] >= start && counter->align[there] < start + length) return;
    int32_t last = -1;
    for (int32_t offset = -1; offset < length && there + offset < search->words_there; ++offset) {
        const int32_t target = there + offset == -1 ? 0 : counter->align[there + offset] + 1;
        if (target == last) continue;
        last = target;
        try_target(search, start, length, target);
    }
}

static void try_places(Search *search, int32_t start, int32_t there)
{
    for (int32_t length = 0;
         length < MOST_SHIFTED && search->here[start + length] == search->there[there + length];) {
        ++length;
        try_pair(search, start, there, length);
        if (search->tried >= MOST_TRIED) return;
        if (start + length == search->words_here || there + length == search->words_there) return;
    }
}

static void try_all(Search *search)
{
    for (int32_t start = 0; start < search->words_here; ++start) {
        const int32_t from = start > FARTHEST ? start - FARTHEST : 0;
        for (int32_t there = from; there < search->words_there && there <= start + FARTHEST; ++there) {
            try_places(search, start, there);
            if (search->tried >= MOST_TRIED) return;
        }
    }
}

/* Where the words of the reference are in the hypothesis, and which words of both are wrong. */
static Status align(TerCounter *counter, const Search *search)
{
    const char *step;
    int64_t steps;
    TRY(edit_distance_steps(&counter->distance, &step, &steps));
    int32_t here = 0, there = 0;
    for (int64_t i = 0; i < steps; ++i) {
        const bool wrong = step[i] != EDIT_NONE;
        if (step[i] != EDIT_INSERT) { /* a word of the hypothesis is used up */
            counter->wrong_here[here + 1] = counter->wrong_here[here] + wrong;
            ++here;
        }
        if (step[i] != EDIT_DELETE) {
            counter->align[there] = here - 1;
            counter->wrong_there[there + 1] = counter->wrong_there[there] + wrong;
            ++there;
        }
    }
    if (here != search->words_here || there != search->words_there)
        return fail(STATUS_INTERNAL, "TER: an alignment of %d and %d words has %d and %d", search->words_here,
                    search->words_there, here, there);
    return OK;
}

static Status make_room(TerCounter *counter, int64_t here, int64_t there)
{
    static const char what[] = "words of a segment";
    const size_t words_here = (size_t)here + 1, words_there = (size_t)there + 1;
    TRY(memory_grow(&counter->shifted, &counter->shifted_room, words_here, sizeof *counter->shifted, what));
    TRY(memory_grow(&counter->best, &counter->best_room, words_here, sizeof *counter->best, what));
    TRY(memory_grow(&counter->place, &counter->place_room, words_here, sizeof *counter->place, what));
    TRY(memory_grow(&counter->wrong_here, &counter->here_room, words_here, sizeof *counter->wrong_here,
                    what));
    TRY(memory_grow(&counter->wrong_there, &counter->there_room, words_there, sizeof *counter->wrong_there,
                    what));
    return memory_grow(&counter->align, &counter->align_room, words_there, sizeof *counter->align, what);
}

/* The best shift becomes the hypothesis. */
static void take_shift(TerCounter *counter, const Search *search, uint32_t here[])
{
    const size_t bytes = (size_t)search->words_here * sizeof *here;
    memcpy(here, counter->best, bytes);
    (void)perform(counter->place, search->words_here, search->start, search->length, search->target,
                  counter->shifted);
    memcpy(counter->place, counter->shifted, bytes);
}

/* Shifts as long as each makes the distance smaller; then what is left to edit. The words of `here` change their order. */
static Status count_edits(TerCounter *counter, TerWords reference, uint32_t here[], int64_t words_here,
                          int64_t *edits)
{
    const int64_t words_there = reference.words;
    *edits = words_here;
    if (words_there == 0) return OK;
    TRY(make_room(counter, words_here, words_there));
    for (int64_t i = 0; i < words_here; ++i)
        counter->place[i] = (uint32_t)i;
    TRY(edit_distance_begin(&counter->distance, reference.word, (int32_t)words_there, (int32_t)words_here));
    Search search = {.counter = counter,
                     .here = here,
                     .there = reference.word,
                     .words_here = (int32_t)words_here,
                     .words_there = (int32_t)words_there};
    for (int64_t shifts = 0;; ++shifts) {
        edit_distance_set(&counter->distance, here);
        *edits = shifts + edit_distance_cost(&counter->distance);
        TRY(align(counter, &search));
        search.found = false;
        try_all(&search);
        if (search.tried >= MOST_TRIED || !search.found || search.gain <= 0) return OK;
        take_shift(counter, &search, here);
    }
}

Status ter_counter_align(TerCounter *counter, TerWords reference, TerWords hypothesis, uint8_t right[],
                         int64_t *edits)
{
    Words *words = &counter->hypothesis;
    const char *step;
    int64_t steps, here = 0;
    if (hypothesis.words > INT32_MAX / 2 || reference.words > INT32_MAX / 2)
        return fail(STATUS_INPUT, "TER: a line of %lld words",
                    (long long)(hypothesis.words > reference.words ? hypothesis.words : reference.words));
    TRY(memory_grow(&words->word, &words->room, (size_t)hypothesis.words + 1, sizeof *words->word,
                    "words of a segment"));
    if (hypothesis.words > 0) {
        memcpy(words->word, hypothesis.word, (size_t)hypothesis.words * sizeof *words->word);
        memset(right, 0, (size_t)hypothesis.words);
    }
    TRY(count_edits(counter, reference, words->word, hypothesis.words, edits));
    if (reference.words == 0 || hypothesis.words == 0) return OK;
    TRY(edit_distance_steps(&counter->distance, &step, &steps));
    for (int64_t i = 0; i < steps; ++i) {
        if (step[i] == EDIT_INSERT) continue;
        right[counter->place[here++]] = step[i] == EDIT_NONE;
    }
    return OK;
}

Status ter_counter_count(TerCounter *counter, TextSpan hypothesis, double row[TER_WIDTH])
{
    row[0] = row[1] = 0;
    if (counter->references < 1) return fail(STATUS_INPUT, "a segment without a reference");
    int64_t fewest = INT64_MAX, words = 0;
    for (int r = 0; r < counter->references; ++r) {
        int64_t edits;
        TRY(make_words(counter, hypothesis, false, &counter->hypothesis)); /* shifts change their order */
        const TerWords reference = {counter->reference[r].word, counter->reference[r].tokens.count};
        TRY(count_edits(counter, reference, counter->hypothesis.word, counter->hypothesis.tokens.count,
                        &edits));
        if (edits < fewest) fewest = edits;
        words += counter->reference[r].tokens.count;
    }
    row[0] = (double)fewest;
    row[1] = (double)words / counter->references;
    return OK;
}

Number ter_score(const double row[TER_WIDTH], Arithmetic arithmetic)
{
    const bool single = arithmetic.kept == KEPT_IN_SINGLE;
    const Number edits = number_result(row[0], single), words = number_result(row[1], single);
    Number share = number_of(edits.value > 0); /* of no words */
    if (words.value > 0) share = number_divide(edits, words, arithmetic.numpy);
    return number_multiply(number_of(100), share, arithmetic.numpy);
}
