#include "nlp/subwords.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "nlp/sentencepiece.h"
#include "nlp/sentencepiece_file.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static const char *const special_words[SUBWORD_SPECIALS] = {"<pad>", "<s>", "</s>", "<unk>"};

enum { MOST_MODEL_BYTES = 1 << 30 };

struct Subwords {
    SubwordsKind kind;
    char *bytes;
    size_t size;
    uint64_t hash;
    SentencePiece *model; /* SUBWORDS_PIECES */
    SentencePieceFile file;
    Vocabulary *words; /* SUBWORDS_WORDS */
};

/* ---- models ---- */

static Status check_special(const char *name, const SentencePiece *model)
{
    const int32_t have[] = {sentencepiece_padding(model), sentencepiece_start(model),
                            sentencepiece_end(model), sentencepiece_unknown(model)};
    for (int i = 0; i < SUBWORD_SPECIALS; ++i)
        if (have[i] != i)
            return fail(
                STATUS_INPUT,
                "%s has the ids %d, %d, %d, %d for padding, start, end and unknown (-1: none), where 0, "
                "1, 2, 3 are needed: train it with pad_id=0, bos_id=1, eos_id=2, unk_id=3",
                name, have[0], have[1], have[2], have[3]);
    return OK;
}

static Status parse_pieces(const char *name, Subwords *subwords)
{
    TRY(sentencepiece_file_check(name, subwords->bytes, subwords->size, &subwords->file));
    TRY(sentencepiece_parse(name, subwords->bytes, subwords->size, &subwords->model));
    return check_special(name, subwords->model);
}

/* The next line, without its LF; false at the end. */
static bool next_line(TextSpan *rest, TextSpan *line)
{
    if (rest->size == 0) return false;
    const char *end = memchr(rest->data, '\n', rest->size);
    const size_t size = end != NULL ? (size_t)(end - rest->data) : rest->size;
    *line = (TextSpan){.data = rest->data, .size = size};
    const size_t used = end != NULL ? size + 1 : size;
    *rest = (TextSpan){.data = rest->data + used, .size = rest->size - used};
    return true;
}

/* The next word between spaces, maybe empty; false at the end of the line. */
static bool next_word(TextSpan *rest, TextSpan *word)
{
    if (rest->data == NULL) return false;
    const char *space = rest->size > 0 ? memchr(rest->data, ' ', rest->size) : NULL;
    *word = (TextSpan){.data = rest->data, .size = space != NULL ? (size_t)(space - rest->data) : rest->size};
    const size_t used = word->size + 1;
    *rest =
        (TextSpan){.data = space != NULL ? space + 1 : NULL, .size = space != NULL ? rest->size - used : 0};
    return true;
}

static Status add_words(const char *name, TextSpan rest, WordCounts *counts)
{
    TextSpan line;
    int64_t number = 0;
    for (; next_line(&rest, &line); ++number) {
        if (number < SUBWORD_SPECIALS && !text_span_equal(line, text_span(special_words[number])))
            return fail(STATUS_INPUT, "%s:%lld: \"%.*s\" stands where the special word %s should", name,
                        (long long)number + 1, (int)(line.size < 40 ? line.size : 40), line.data,
                        special_words[number]);
        if (line.size == 0)
            return fail(STATUS_INPUT, "%s:%lld: the line is empty", name, (long long)number + 1);
        if (number >= SUBWORD_SPECIALS) TRY(word_counts_add(counts, line));
    }
    if (number <= SUBWORD_SPECIALS) return fail(STATUS_INPUT, "%s holds no word", name);
    if (word_counts_distinct(counts) != number - SUBWORD_SPECIALS)
        return fail(STATUS_INPUT, "%s: a word stands there twice", name);
    return OK;
}

static const VocabularyOptions word_options = {.special = special_words, .specials = SUBWORD_SPECIALS};

static Status parse_words(const char *name, Subwords *subwords)
{
    WordCounts *counts;
    TRY(word_counts_new(&counts));
    Status status = add_words(name, (TextSpan){.data = subwords->bytes, .size = subwords->size}, counts);
    if (status == OK)
        status = vocabulary_create(counts, &word_options, &subwords->words); /* in their order */
    word_counts_free(counts);
    return status;
}

Status subwords_parse(const char *name, SubwordsKind kind, const void *bytes, size_t size, Subwords **out)
{
    Subwords *subwords;
    *out = NULL;
    TRY(memory_new(&subwords, 1, sizeof *subwords, "subwords"));
    subwords->kind = kind;
    subwords->size = size;
    subwords->hash = XXH64(bytes, size, 0);
    Status status;
    TRY_ELSE(failed, memory_new(&subwords->bytes, size + 1, 1, "subwords"));
    if (size > 0) memcpy(subwords->bytes, bytes, size);
    TRY_ELSE(failed, kind == SUBWORDS_PIECES ? parse_pieces(name, subwords) : parse_words(name, subwords));
    *out = subwords;
    return OK;
failed:
    subwords_free(subwords);
    return status;
}

Status subwords_read(const char *path, SubwordsKind kind, Subwords **out)
{
    char *bytes;
    size_t size;
    *out = NULL;
    TRY(file_read(path, MOST_MODEL_BYTES, &bytes, &size));
    Status status = subwords_parse(path, kind, bytes, size, out);
    free(bytes);
    return status;
}

void subwords_free(Subwords *subwords)
{
    if (subwords == NULL) return;
    sentencepiece_free(subwords->model);
    vocabulary_free(subwords->words);
    free(subwords->bytes);
    free(subwords);
}

SubwordsKind subwords_kind(const Subwords *subwords) { return subwords->kind; }

const char *subwords_file_name(SubwordsKind kind)
{
    return kind == SUBWORDS_PIECES ? "subwords.model" : "vocabulary.txt";
}

int64_t subwords_size(const Subwords *subwords)
{
    return subwords->kind == SUBWORDS_PIECES ? sentencepiece_size(subwords->model)
                                             : vocabulary_size(subwords->words);
}

uint64_t subwords_hash(const Subwords *subwords) { return subwords->hash; }

TextSpan subwords_piece(const Subwords *subwords, int64_t id)
{
    return subwords->kind == SUBWORDS_PIECES ? sentencepiece_piece(subwords->model, id)
                                             : vocabulary_word(subwords->words, id);
}

Status subwords_write(const Subwords *subwords, const char *path)
{
    return file_write(path, subwords->bytes, subwords->size);
}

/* ---- text to ids ---- */

/* Words by their hash. A word of this size and hash that is another one is met in files made to that end alone; so that
 * these do no harm either, words are compared. */
typedef struct {
    uint64_t hash;
    size_t word; /* offset in `text` */
    size_t ids;  /* offset in `id` */
    uint32_t word_size, count;
    bool used, changed;
} KnownWord;

enum { MOST_WORD = 256, MOST_KNOWN = 1 << 20 }; /* bytes; words, after which none is added */

struct SubwordEncoder {
    const Subwords *subwords;
    KnownWord *slot; /* [slots] open addressing; a power of two, at least twice the number of words */
    size_t slots, known;
    char *text;
    size_t text_size, text_capacity;
    TokenIds id; /* of all known words, one after the other */
    TokenIds one;
};

void token_ids_free(TokenIds *ids)
{
    free(ids->id);
    *ids = (TokenIds){.id = NULL};
}

static Status append_ids(TokenIds *ids, const int32_t id[], size_t count)
{
    TRY(memory_grow(&ids->id, &ids->capacity, ids->count + count, sizeof *ids->id, "ids of a line"));
    if (count > 0) memcpy(ids->id + ids->count, id, count * sizeof *id);
    ids->count += count;
    return OK;
}

static Status take_ids(void *context, const int32_t *id, size_t count)
{
    TokenIds *ids = context;
    return append_ids(ids, id, count);
}

typedef struct {
    TextSpan text;
    bool differs;
} Comparison;

static Status compare(void *context, TextSpan text)
{
    Comparison *comparison = context;
    comparison->differs = !text_span_equal(text, comparison->text);
    return OK;
}

static Status normalisation_changes(const Subwords *subwords, TextSpan text, bool *changes)
{
    Comparison comparison = {.text = text};
    TRY(sentencepiece_normalise(subwords->model, text, compare, &comparison));
    *changes = comparison.differs;
    return OK;
}

Status subword_encoder_new(const Subwords *subwords, SubwordEncoder **out)
{
    SubwordEncoder *encoder;
    enum { FIRST_SLOTS = 1024 };
    *out = NULL;
    TRY(memory_new(&encoder, 1, sizeof *encoder, "an encoder of subwords"));
    encoder->subwords = subwords;
    encoder->slots = FIRST_SLOTS;
    Status status = memory_new(&encoder->slot, encoder->slots, sizeof *encoder->slot, "known words");
    if (status != OK) {
        free(encoder);
        return status;
    }
    *out = encoder;
    return OK;
}

void subword_encoder_free(SubwordEncoder *encoder)
{
    if (encoder == NULL) return;
    free(encoder->slot);
    free(encoder->text);
    token_ids_free(&encoder->id);
    token_ids_free(&encoder->one);
    free(encoder);
}

/* The slot of the word, or the free one where it belongs. */
static KnownWord *slot_of(const SubwordEncoder *encoder, TextSpan word, uint64_t hash)
{
    for (size_t i = (size_t)hash & (encoder->slots - 1);; i = (i + 1) & (encoder->slots - 1)) {
        KnownWord *slot = &encoder->slot[i];
        if (!slot->used) return slot;
        if (slot->hash == hash && slot->word_size == word.size &&
            memcmp(encoder->text + slot->word, word.data, word.size) == 0)
            return slot;
    }
}

static Status grow_slots(SubwordEncoder *encoder)
{
    KnownWord *before = encoder->slot;
    const size_t count = encoder->slots;
    KnownWord *slot;
    TRY(memory_new(&slot, 2 * count, sizeof *slot, "known words"));
    encoder->slot = slot;
    encoder->slots = 2 * count;
    for (size_t i = 0; i < count; ++i) {
        if (!before[i].used) continue;
        size_t at = (size_t)before[i].hash & (encoder->slots - 1);
        while (slot[at].used)
            at = (at + 1) & (encoder->slots - 1);
        slot[at] = before[i];
    }
    free(before);
    return OK;
}

/* Remembers what encoder->one holds as the word's ids. */
static Status remember(SubwordEncoder *encoder, TextSpan word, uint64_t hash, bool changed)
{
    if (encoder->known == MOST_KNOWN) return OK;
    if (2 * (encoder->known + 1) > encoder->slots) TRY(grow_slots(encoder));
    TRY(memory_grow(&encoder->text, &encoder->text_capacity, encoder->text_size + word.size, 1,
                    "known words"));
    KnownWord *slot = slot_of(encoder, word, hash);
    *slot = (KnownWord){.hash = hash,
                        .word = encoder->text_size,
                        .ids = encoder->id.count,
                        .word_size = (uint32_t)word.size,
                        .count = (uint32_t)encoder->one.count,
                        .changed = changed};
    memcpy(encoder->text + encoder->text_size, word.data, word.size);
    encoder->text_size += word.size;
    TRY(append_ids(&encoder->id, encoder->one.id, encoder->one.count));
    slot->used = true;
    ++encoder->known;
    return OK;
}

static Status encode_word(SubwordEncoder *encoder, TextSpan word, TokenIds *ids, bool *changed)
{
    const uint64_t hash = XXH3_64bits(word.data, word.size);
    if (word.size <= MOST_WORD) {
        const KnownWord *known = slot_of(encoder, word, hash);
        if (known->used) {
            *changed = *changed || known->changed;
            return append_ids(ids, encoder->id.id + known->ids, known->count);
        }
    }
    bool changes;
    encoder->one.count = 0;
    TRY(sentencepiece_encode(encoder->subwords->model, word, take_ids, &encoder->one));
    TRY(normalisation_changes(encoder->subwords, word, &changes));
    if (word.size <= MOST_WORD) TRY(remember(encoder, word, hash, changes));
    *changed = *changed || changes;
    return append_ids(ids, encoder->one.id, encoder->one.count);
}

static Status encode_words(SubwordEncoder *encoder, TextSpan line, TokenIds *ids, bool *changed)
{
    TextSpan word;
    if (line.size == 0) return OK;
    while (next_word(&line, &word)) {
        if (word.size == 0)
            *changed = true; /* a space too many: two in a row, or one at an end */
        else
            TRY(encode_word(encoder, word, ids, changed));
    }
    return OK;
}

static Status find_words(const Vocabulary *words, TextSpan line, TokenIds *ids)
{
    TextSpan word;
    while (next_word(&line, &word)) {
        if (word.size == 0) continue;
        const int32_t found = vocabulary_find(words, word);
        const int32_t id = found < 0 ? SUBWORD_UNKNOWN : found;
        TRY(append_ids(ids, &id, 1));
    }
    return OK;
}

Status subword_encoder_encode(SubwordEncoder *encoder, TextSpan line, TokenIds *ids, bool *changed)
{
    const Subwords *subwords = encoder->subwords;
    bool changes = false;
    ids->count = 0;
    if (subwords->kind == SUBWORDS_WORDS)
        TRY(find_words(subwords->words, line, ids));
    else if (subwords->file.word_by_word)
        TRY(encode_words(encoder, line, ids, &changes));
    else {
        TRY(sentencepiece_encode(subwords->model, line, take_ids, ids));
        if (changed != NULL) TRY(normalisation_changes(subwords, line, &changes));
    }
    if (changed != NULL) *changed = changes;
    return OK;
}

/* ---- ids to text ---- */

typedef struct {
    char *data;
    size_t size;
} OwnText;

static Status take_text(void *context, TextSpan text)
{
    OwnText *own = context;
    TRY(memory_new(&own->data, text.size + 1, 1, "text"));
    if (text.size > 0) memcpy(own->data, text.data, text.size);
    own->size = text.size;
    return OK;
}

static bool is_silent(int32_t id) { return id < SUBWORD_UNKNOWN; }

static Status join_words(const Vocabulary *words, const int32_t id[], size_t count, OwnText *own)
{
    size_t size = 0;
    for (size_t i = 0; i < count; ++i) {
        if (id[i] < 0 || id[i] >= vocabulary_size(words))
            return fail(STATUS_INPUT, "there is no word %d: ids are from 0 to %lld", (int)id[i],
                        (long long)vocabulary_size(words) - 1);
        if (!is_silent(id[i])) size += vocabulary_word(words, id[i]).size + 1;
    }
    TRY(memory_new(&own->data, size + 1, 1, "text"));
    for (size_t i = 0; i < count; ++i) {
        if (is_silent(id[i])) continue;
        const TextSpan word = vocabulary_word(words, id[i]);
        if (own->size > 0) own->data[own->size++] = ' ';
        if (word.size > 0) memcpy(own->data + own->size, word.data, word.size);
        own->size += word.size;
    }
    return OK;
}

Status subwords_decode(const Subwords *subwords, const int32_t id[], size_t count, char **text, size_t *size)
{
    OwnText own = {.data = NULL};
    *text = NULL;
    *size = 0;
    TRY(subwords->kind == SUBWORDS_PIECES ? sentencepiece_decode(subwords->model, id, count, take_text, &own)
                                          : join_words(subwords->words, id, count, &own));
    *text = own.data;
    *size = own.size;
    return OK;
}

/* ---- making a model ---- */

static Status count_words(TextSpan line, WordCounts *counts)
{
    TextSpan word;
    while (next_word(&line, &word)) {
        bool special = false; /* text may hold them: they are unknown words there */
        for (int i = 0; i < SUBWORD_SPECIALS; ++i)
            special = special || text_span_equal(word, text_span(special_words[i]));
        if (word.size > 0 && !special) TRY(word_counts_add(counts, word));
    }
    return OK;
}

static Status train_words(const SubwordsTraining *training, NextTrainingLine *next, void *context,
                          char **bytes, size_t *size)
{
    WordCounts *counts;
    Vocabulary *words = NULL;
    TextSpan line;
    VocabularyOptions options = word_options;
    options.limit = training->size > SUBWORD_SPECIALS ? training->size - SUBWORD_SPECIALS : 1;
    TRY(word_counts_new(&counts));
    Status status = OK;
    while (status == OK && next(context, &line))
        status = count_words(line, counts);
    if (status == OK) status = vocabulary_create(counts, &options, &words);
    if (status == OK) status = vocabulary_text(words, bytes, size);
    vocabulary_free(words);
    word_counts_free(counts);
    return status;
}

static Status train_pieces(const SubwordsTraining *training, NextTrainingLine *next, void *context,
                           char **bytes, size_t *size)
{
    const SentencePieceTraining options = {.type = training->type,
                                           .size = training->size,
                                           .normalisation = training->normalisation,
                                           .coverage = training->coverage,
                                           .longest = training->longest};
    return sentencepiece_train(&options, next, context, bytes, size);
}

Status subwords_train(const SubwordsTraining *training, NextTrainingLine *next, void *context, Subwords **out)
{
    char *bytes = NULL;
    size_t size = 0;
    *out = NULL;
    Status status = training->kind == SUBWORDS_PIECES ? train_pieces(training, next, context, &bytes, &size)
                                                      : train_words(training, next, context, &bytes, &size);
    if (status == OK) status = subwords_parse("the subwords just made", training->kind, bytes, size, out);
    free(bytes);
    return status;
}
