#include "nlp/vocabulary.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

TextSpan text_span(const char *text) { return (TextSpan){.data = text, .size = strlen(text)}; }

bool text_span_equal(TextSpan a, TextSpan b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* ---- A table of words: numbers 0, 1, ... in the order in which they were added ---- */

typedef struct {
    char *text; /* all words, one after the other */
    size_t text_size, text_capacity;
    size_t *start; /* [count+1] */
    size_t start_capacity;
    int64_t count;
    int32_t *slot; /* [slots] number of a word, or -1; open addressing */
    size_t slots;  /* a power of two, at least twice the count */
} WordTable;

static void table_free(WordTable *table)
{
    free(table->text);
    free(table->start);
    free(table->slot);
    *table = (WordTable){.text = NULL};
}

static TextSpan table_word(const WordTable *table, int64_t number)
{
    return (TextSpan){.data = table->text + table->start[number],
                      .size = table->start[number + 1] - table->start[number]};
}

/* The slot that holds the word, or the free one where it belongs. */
static size_t table_slot(const WordTable *table, TextSpan word)
{
    size_t slot = (size_t)XXH3_64bits(word.data, word.size) & (table->slots - 1);
    while (table->slot[slot] >= 0 && !text_span_equal(table_word(table, table->slot[slot]), word))
        slot = (slot + 1) & (table->slots - 1);
    return slot;
}

static int32_t table_find(const WordTable *table, TextSpan word)
{
    return table->slots == 0 ? -1 : table->slot[table_slot(table, word)];
}

static Status table_make_slots(WordTable *table, size_t slots)
{
    int32_t *slot;
    TRY(memory_new(&slot, slots, sizeof *slot, "a table of words"));
    memset(slot, 0xFF, slots * sizeof *slot);
    free(table->slot);
    table->slot = slot;
    table->slots = slots;
    for (int32_t number = 0; number < table->count; ++number)
        table->slot[table_slot(table, table_word(table, number))] = number;
    return OK;
}

/* The number of the word, which is added if it is new. */
static Status table_add(WordTable *table, TextSpan word, int32_t *number)
{
    if (table->slots < 2 * ((size_t)table->count + 1))
        TRY(table_make_slots(table, table->slots == 0 ? 64 : 2 * table->slots));
    const size_t slot = table_slot(table, word);
    *number = table->slot[slot];
    if (*number >= 0) return OK;
    if (table->count == INT32_MAX) return fail(STATUS_UNSUPPORTED, "more than 2^31 - 1 different words");
    TRY(memory_grow(&table->text, &table->text_capacity, table->text_size + word.size, 1, "words"));
    TRY(memory_grow(&table->start, &table->start_capacity, (size_t)table->count + 2, sizeof *table->start,
                    "words"));
    if (word.size > 0) memcpy(table->text + table->text_size, word.data, word.size);
    table->text_size += word.size;
    *number = (int32_t)table->count;
    table->slot[slot] = *number;
    table->start[++table->count] = table->text_size;
    return OK;
}

/* ---- Counting ---- */

struct WordCounts {
    WordTable table;
    int64_t *met; /* [table.count] */
    size_t met_capacity;
    int64_t total;
};

Status word_counts_new(WordCounts **counts)
{
    return memory_new(counts, 1, sizeof **counts, "counts of words");
}

void word_counts_free(WordCounts *counts)
{
    if (counts == NULL) return;
    table_free(&counts->table);
    free(counts->met);
    free(counts);
}

Status word_counts_add(WordCounts *counts, TextSpan word)
{
    int32_t number;
    TRY(table_add(&counts->table, word, &number));
    TRY(memory_grow(&counts->met, &counts->met_capacity, (size_t)counts->table.count, sizeof *counts->met,
                    "counts of words"));
    ++counts->met[number];
    ++counts->total;
    return OK;
}

int64_t word_counts_distinct(const WordCounts *counts) { return counts->table.count; }

int64_t word_counts_total(const WordCounts *counts) { return counts->total; }

/* ---- Vocabulary ---- */

struct Vocabulary {
    WordTable table; /* numbers are ids less `specials` */
    int64_t *met;    /* [table.count] */
    char **special;  /* [specials] */
    int64_t specials, left_out;
    uint64_t hash;
};

void vocabulary_free(Vocabulary *vocabulary)
{
    if (vocabulary == NULL) return;
    table_free(&vocabulary->table);
    free(vocabulary->met);
    for (int64_t i = 0; vocabulary->special != NULL && i < vocabulary->specials; ++i)
        free(vocabulary->special[i]);
    free(vocabulary->special);
    free(vocabulary);
}

int64_t vocabulary_size(const Vocabulary *vocabulary)
{
    return vocabulary->specials + vocabulary->table.count;
}

int64_t vocabulary_specials(const Vocabulary *vocabulary) { return vocabulary->specials; }

int64_t vocabulary_left_out(const Vocabulary *vocabulary) { return vocabulary->left_out; }

int32_t vocabulary_find(const Vocabulary *vocabulary, TextSpan word)
{
    const int32_t number = table_find(&vocabulary->table, word);
    return number < 0 ? -1 : number + (int32_t)vocabulary->specials;
}

TextSpan vocabulary_word(const Vocabulary *vocabulary, int64_t id)
{
    if (id < vocabulary->specials) return text_span(vocabulary->special[id]);
    return table_word(&vocabulary->table, id - vocabulary->specials);
}

int64_t vocabulary_count(const Vocabulary *vocabulary, int64_t id)
{
    return id < vocabulary->specials ? 0 : vocabulary->met[id - vocabulary->specials];
}

Status vocabulary_text(const Vocabulary *vocabulary, char **text, size_t *size)
{
    *size = 0;
    for (int64_t id = 0; id < vocabulary_size(vocabulary); ++id)
        *size += vocabulary_word(vocabulary, id).size + 1;
    TRY(memory_new(text, *size, 1, "a vocabulary's text"));
    char *at = *text;
    for (int64_t id = 0; id < vocabulary_size(vocabulary); ++id) {
        const TextSpan word = vocabulary_word(vocabulary, id);
        memcpy(at, word.data, word.size);
        at += word.size;
        *at++ = '\n';
    }
    return OK;
}

typedef struct {
    int64_t met;
    int32_t number; /* the order of first appearance */
} Rank;

static int more_frequent_first(const void *a, const void *b)
{
    const Rank *left = a, *right = b;
    if (left->met != right->met) return left->met > right->met ? -1 : 1;
    return left->number < right->number ? -1 : 1;
}

static Status words_within(const WordCounts *counts, const VocabularyOptions *options, int64_t *words)
{
    const int64_t distinct = word_counts_distinct(counts);
    *words = distinct;
    if (options->limit == 0) return OK;
    const int64_t taken = options->keras ? options->specials : 0; /* ids that the limit counts too */
    if (options->limit <= taken)
        return fail(STATUS_INPUT,
                    "a vocabulary's limit of %lld leaves no word%s: the smallest that makes sense is %lld",
                    (long long)options->limit, taken > 0 ? ", as padding and special words count too" : "",
                    (long long)taken + 1);
    if (options->limit - taken < distinct) *words = options->limit - taken;
    return OK;
}

static Status fill(const WordCounts *counts, const VocabularyOptions *options, int64_t words, Rank *ranks,
                   Vocabulary *vocabulary)
{
    TRY(memory_new(&vocabulary->special, (size_t)options->specials, sizeof *vocabulary->special,
                   "special words"));
    for (; vocabulary->specials < options->specials; ++vocabulary->specials)
        TRY(text_copy(options->special[vocabulary->specials], &vocabulary->special[vocabulary->specials]));
    const int64_t distinct = word_counts_distinct(counts);
    for (int64_t i = 0; i < distinct; ++i)
        ranks[i] = (Rank){.met = counts->met[i], .number = (int32_t)i};
    qsort(ranks, (size_t)distinct, sizeof *ranks, more_frequent_first);
    TRY(memory_new(&vocabulary->met, (size_t)words, sizeof *vocabulary->met, "counts of words"));
    for (int64_t i = 0; i < words; ++i) {
        int32_t number;
        TRY(table_add(&vocabulary->table, table_word(&counts->table, ranks[i].number), &number));
        vocabulary->met[i] = ranks[i].met;
    }
    vocabulary->left_out = distinct - words;
    char *text;
    size_t size;
    TRY(vocabulary_text(vocabulary, &text, &size));
    vocabulary->hash = XXH64(text, size, 0);
    free(text);
    return OK;
}

Status vocabulary_create(const WordCounts *counts, const VocabularyOptions *options, Vocabulary **out)
{
    *out = NULL;
    if (options->limit < 0)
        return fail(STATUS_INPUT, "a vocabulary's limit of %lld is negative", (long long)options->limit);
    const int64_t distinct = word_counts_distinct(counts);
    if (distinct == 0) return fail(STATUS_INPUT, "there is no word to make a vocabulary of");
    if (distinct > INT32_MAX - options->specials)
        return fail(STATUS_UNSUPPORTED, "more than 2^31 - 1 different words");
    int64_t words;
    TRY(words_within(counts, options, &words));
    Rank *ranks;
    TRY(memory_new(&ranks, (size_t)distinct, sizeof *ranks, "words"));
    Vocabulary *vocabulary;
    Status status = memory_new(&vocabulary, 1, sizeof *vocabulary, "a vocabulary");
    if (status == OK) status = fill(counts, options, words, ranks, vocabulary);
    free(ranks);
    if (status == OK)
        *out = vocabulary;
    else
        vocabulary_free(vocabulary);
    return status;
}

uint64_t vocabulary_hash(const Vocabulary *vocabulary) { return vocabulary->hash; }

Status vocabulary_write(const Vocabulary *vocabulary, const char *path)
{
    char *text;
    size_t size;
    TRY(vocabulary_text(vocabulary, &text, &size));
    Status status = file_write(path, text, size);
    free(text);
    return status;
}

/* ---- Reading ---- */

static Status add_entry(const char *name, int64_t line, TextSpan entry, const char *const special[],
                        int specials, Vocabulary *vocabulary)
{
    if (line <= specials) {
        if (!text_span_equal(entry, text_span(special[line - 1])))
            return fail(STATUS_INPUT, "%s:%lld: \"%.*s\", but such a vocabulary has %s here", name,
                        (long long)line, (int)(entry.size < 40 ? entry.size : 40), entry.data,
                        special[line - 1]);
        return text_copy(special[line - 1], &vocabulary->special[vocabulary->specials++]);
    }
    int32_t number;
    if (entry.size == 0) return fail(STATUS_INPUT, "%s:%lld: an empty word", name, (long long)line);
    TRY(table_add(&vocabulary->table, entry, &number));
    if (number == line - specials - 1) return OK;
    return fail(STATUS_INPUT, "%s:%lld: this word is in line %lld, too", name, (long long)line,
                (long long)number + specials + 1);
}

static Status parse_entries(const char *name, const char *text, size_t size, const char *const special[],
                            int specials, Vocabulary *vocabulary)
{
    int64_t line = 0;
    TRY(memory_new(&vocabulary->special, (size_t)specials, sizeof *vocabulary->special, "special words"));
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        ++line;
        if (end == NULL)
            return fail(STATUS_INPUT, "%s:%lld: this line has no end: the file is cut short", name,
                        (long long)line);
        const TextSpan entry = {.data = text + at, .size = (size_t)(end - text) - at};
        TRY(add_entry(name, line, entry, special, specials, vocabulary));
        at += entry.size + 1;
    }
    if (vocabulary->table.count == 0) return fail(STATUS_INPUT, "%s: there is no word", name);
    vocabulary->hash = XXH64(text, size, 0);
    return memory_new(&vocabulary->met, (size_t)vocabulary->table.count, sizeof *vocabulary->met,
                      "counts of words");
}

Status vocabulary_parse(const char *name, const char *text, size_t size, const char *const special[],
                        int specials, Vocabulary **out)
{
    *out = NULL;
    Vocabulary *vocabulary;
    TRY(memory_new(&vocabulary, 1, sizeof *vocabulary, "a vocabulary"));
    Status status = parse_entries(name, text, size, special, specials, vocabulary);
    if (status == OK)
        *out = vocabulary;
    else
        vocabulary_free(vocabulary);
    return status;
}

Status vocabulary_read(const char *path, const char *const special[], int specials, Vocabulary **vocabulary)
{
    enum { MOST_BYTES = 1 << 30 };
    char *text;
    size_t size;
    *vocabulary = NULL;
    TRY(file_read(path, MOST_BYTES, &text, &size));
    Status status = vocabulary_parse(path, text, size, special, specials, vocabulary);
    free(text);
    return status;
}
