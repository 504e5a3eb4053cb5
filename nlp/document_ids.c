#include "nlp/document_ids.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- Words as Keras has them ---- */

/* A lower-case letter, a space for what is filtered, else the byte itself. */
static void make_table(unsigned char table[128])
{
    for (int c = 0; c < 128; ++c)
        table[c] = (unsigned char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
    for (const char *c = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n"; *c != '\0'; ++c)
        table[(unsigned char)*c] = ' ';
}

void keras_filter(const char *text, size_t size, char *out)
{
    unsigned char table[128];
    make_table(table);
    for (size_t i = 0; i < size; ++i) {
        const unsigned char byte = (unsigned char)text[i];
        if (byte < 0x80) {
            out[i] = (char)table[byte];
        } else if (byte == 0xC3 && i + 1 < size) { /* U+00C0 to U+00FF */
            const unsigned char low = (unsigned char)text[i + 1];
            const bool capital =
                low >= 0x80 && low <= 0x9E && low != 0x97; /* all but the multiplication sign */
            out[i] = (char)byte;
            out[++i] = (char)(capital ? low + 0x20 : low);
        } else {
            out[i] = (char)byte;
        }
    }
}

bool keras_next_word(const char *filtered, size_t size, size_t *at, TextSpan *word)
{
    size_t start = *at;
    while (start < size && filtered[start] == ' ')
        ++start;
    size_t end = start;
    while (end < size && filtered[end] != ' ')
        ++end;
    *at = end;
    *word = (TextSpan){.data = filtered + start, .size = end - start};
    return end > start;
}

/* ---- Documents ---- */

/* What the words of one document are read from: its text behind the filter. */
typedef struct {
    char *text;
    size_t size, capacity, at;
} Words;

static Status words_open(Words *words, const Documents *documents, int64_t document)
{
    const TextSpan text = documents_text(documents, document);
    TRY(memory_grow(&words->text, &words->capacity, text.size + 1, 1, "the words of a document"));
    keras_filter(text.data, text.size, words->text);
    words->size = text.size;
    words->at = 0;
    return OK;
}

static bool words_next(Words *words, TextSpan *word)
{
    return keras_next_word(words->text, words->size, &words->at, word);
}

Status document_words(const Documents *documents, const int64_t sample[], int64_t samples, WordCounts *counts)
{
    Words words = {.text = NULL};
    TextSpan word;
    Status status = OK;
    for (int64_t i = 0; i < samples; ++i) {
        TRY_ELSE(done, words_open(&words, documents, sample[i]));
        while (words_next(&words, &word))
            TRY_ELSE(done, word_counts_add(counts, word));
    }
done:
    free(words.text);
    return status;
}

Status document_vocabulary(const Documents *documents, const int64_t sample[], int64_t samples, int64_t limit,
                           bool keras, Vocabulary **vocabulary)
{
    static const char *const special[] = {[DOCUMENT_PADDING] = "<pad>"};
    const VocabularyOptions options = {.special = special, .specials = 1, .limit = limit, .keras = keras};
    *vocabulary = NULL;
    WordCounts *counts;
    TRY(word_counts_new(&counts));
    Status status = document_words(documents, sample, samples, counts);
    if (status == OK) status = vocabulary_create(counts, &options, vocabulary);
    word_counts_free(counts);
    return status;
}

/* ---- Ids ---- */

void document_ids_free(DocumentIds *ids)
{
    free(ids->start);
    free(ids->id);
    *ids = (DocumentIds){.id = NULL};
}

/* Appends a document's ids; a document that has more than ids->longest is then moved to its last ones. */
static Status append(DocumentIds *ids, size_t *capacity, Words *words, const Vocabulary *vocabulary)
{
    const int64_t start = ids->start[ids->count];
    int64_t end = start;
    TextSpan word;
    while (words_next(words, &word)) {
        const int32_t id = vocabulary_find(vocabulary, word);
        if (id < 0) {
            ++ids->words_left_out;
            continue;
        }
        TRY(memory_grow(&ids->id, capacity, (size_t)end + 1, sizeof *ids->id, "ids of documents"));
        ids->id[end++] = id;
    }
    const int64_t length = end - start;
    ids->words_kept += length;
    ids->empty += length == 0;
    if (length > ids->longest) {
        ++ids->cut;
        memmove(ids->id + start, ids->id + end - ids->longest, (size_t)ids->longest * sizeof *ids->id);
        end = start + ids->longest;
    }
    ids->start[++ids->count] = end;
    return OK;
}

Status document_ids(const Documents *documents, const Vocabulary *vocabulary, int64_t longest,
                    DocumentIds *ids)
{
    *ids = (DocumentIds){.longest = longest};
    if (longest < 1)
        return fail(STATUS_INPUT, "documents of at most %lld words: at least 1 is needed",
                    (long long)longest);
    Words words = {.text = NULL};
    size_t capacity = 0;
    Status status;
    TRY_ELSE(done,
             memory_new(&ids->start, (size_t)documents->count + 1, sizeof *ids->start, "ids of documents"));
    for (int64_t i = 0; i < documents->count; ++i) {
        TRY_ELSE(done, words_open(&words, documents, i));
        TRY_ELSE(done, append(ids, &capacity, &words, vocabulary));
    }
done:
    free(words.text);
    if (status != OK) document_ids_free(ids);
    return status;
}

Status document_ids_of_text(TextSpan text, const Vocabulary *vocabulary, int64_t longest, int32_t **id,
                            int64_t *count)
{
    int64_t start[] = {0, (int64_t)text.size};
    /* The corpus is read only; its arrays are not const because it owns those that it has read. */
    const Documents alone = {.count = 1, .text = (char *)(uintptr_t)text.data, .text_start = start};
    DocumentIds ids;
    *id = NULL;
    *count = 0;
    TRY(document_ids(&alone, vocabulary, longest, &ids));
    *count = document_ids_length(&ids, 0);
    *id = ids.id;
    ids.id = NULL;
    document_ids_free(&ids);
    return OK;
}

int64_t document_ids_length(const DocumentIds *ids, int64_t document)
{
    return ids->start[document + 1] - ids->start[document];
}

void document_ids_fill(const DocumentIds *ids, const int64_t sample[], int64_t samples, int64_t length,
                       int32_t out[])
{
    for (int64_t i = 0; i < samples; ++i, out += length) {
        const int64_t has = document_ids_length(ids, sample[i]);
        const int64_t kept = has < length ? has : length;
        for (int64_t p = 0; p < length - kept; ++p)
            out[p] = DOCUMENT_PADDING;
        if (kept > 0)
            memcpy(out + length - kept, ids->id + ids->start[sample[i] + 1] - kept,
                   (size_t)kept * sizeof *out);
    }
}
