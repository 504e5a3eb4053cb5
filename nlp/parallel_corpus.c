#include "nlp/parallel_corpus.h"

#include "engine/base/memory.h"
#include "nlp/utf8.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#define MOST_UNPACKED ((size_t)1 << 33)

/* ---- checks ---- */

static Status check_utf8(const char *name, TextSpan text)
{
    const size_t wrong = utf8_invalid(text.data, text.size);
    if (wrong == text.size) return OK;
    int64_t line = 1;
    size_t start = 0;
    for (size_t i = 0; i < wrong; ++i)
        if (text.data[i] == '\n') {
            ++line;
            start = i + 1;
        }
    return fail(STATUS_INPUT, "%s:%lld:%zu: the byte 0x%02X is not part of UTF-8 text", name, (long long)line,
                utf8_characters(text.data + start, wrong - start) + 1, (unsigned char)text.data[wrong]);
}

static int64_t count_lines(TextSpan text)
{
    int64_t lines = 0;
    const char *end = text.data + text.size;
    for (const char *at = text.data; at < end; ++lines) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        if (next == NULL) return lines + 1; /* the last without LF */
        at = next + 1;
    }
    return lines;
}

static TextSpan line_at(TextSpan text, size_t at, size_t *next)
{
    const char *start = text.data + at, *end = memchr(start, '\n', text.size - at);
    size_t size = end != NULL ? (size_t)(end - start) : text.size - at;
    *next = at + size + (end != NULL ? 1 : 0);
    if (end != NULL && size > 0 && end[-1] == '\r') --size;
    return (TextSpan){.data = start, .size = size};
}

bool parallel_corpus_next(const ParallelCorpus *corpus, CorpusPlace *place, TextSpan pair[SIDES])
{
    if (place->line >= corpus->lines) return false;
    for (int side = 0; side < SIDES; ++side)
        pair[side] = line_at(corpus->text[side], place->at[side], &place->at[side]);
    ++place->line;
    return true;
}

static Status check_counts(ParallelCorpus *corpus)
{
    const int64_t source = count_lines(corpus->text[SOURCE_SIDE]);
    const int64_t target = count_lines(corpus->text[TARGET_SIDE]);
    if (source != target)
        return fail(
            STATUS_INPUT,
            "%s has %lld line%s, but %s has %lld: line %lld is the last that both have, and each must be the "
            "other's translation",
            corpus->name[SOURCE_SIDE], (long long)source, source == 1 ? "" : "s", corpus->name[TARGET_SIDE],
            (long long)target, (long long)(source < target ? source : target));
    corpus->lines = source;
    return OK;
}

static Status find_blocks(ParallelCorpus *corpus)
{
    corpus->blocks = (corpus->lines + CORPUS_BLOCK - 1) / CORPUS_BLOCK;
    TRY(memory_new(&corpus->block, (size_t)corpus->blocks, sizeof *corpus->block, "places in a corpus"));
    CorpusPlace place = {.line = 0};
    TextSpan pair[SIDES];
    do {
        if (place.line % CORPUS_BLOCK == 0 && place.line < corpus->lines)
            corpus->block[place.line / CORPUS_BLOCK] = place;
    } while (parallel_corpus_next(corpus, &place, pair));
    return OK;
}

static Status check(ParallelCorpus *corpus)
{
    for (int side = 0; side < SIDES; ++side) {
        TextSpan *text = &corpus->text[side];
        const size_t mark = text_mark_bytes(text->data, text->size);
        *text = (TextSpan){.data = text->data + mark, .size = text->size - mark};
        if (text->size == 0) return fail(STATUS_INPUT, "%s is empty", corpus->name[side]);
        TRY(check_utf8(corpus->name[side], *text));
        corpus->hash[side] = XXH3_64bits(text->data, text->size);
    }
    TRY(check_counts(corpus));
    return find_blocks(corpus);
}

/* ---- opening ---- */

static bool is_packed(const char *path)
{
    const size_t length = strlen(path);
    return length > 3 && strcmp(path + length - 3, ".gz") == 0;
}

static Status open_side(const char *path, int side, ParallelCorpus *corpus)
{
    TRY(text_copy(path, &corpus->name[side]));
    if (is_packed(path)) {
        size_t size;
        TRY(file_read(path, MOST_UNPACKED, &corpus->owned[side], &size));
        corpus->text[side] = (TextSpan){.data = corpus->owned[side], .size = size};
        return OK;
    }
    TRY(file_map(path, &corpus->map[side]));
    corpus->text[side] =
        (TextSpan){.data = (const char *)corpus->map[side].data, .size = corpus->map[side].size};
    if (corpus->text[side].data == NULL) corpus->text[side] = text_span("");
    return OK;
}

Status parallel_corpus_open(const char *source, const char *target, ParallelCorpus *corpus)
{
    *corpus = (ParallelCorpus){.lines = 0};
    Status status = open_side(source, SOURCE_SIDE, corpus);
    if (status == OK) status = open_side(target, TARGET_SIDE, corpus);
    if (status == OK) status = check(corpus);
    if (status != OK) parallel_corpus_close(corpus);
    return status;
}

Status parallel_corpus_of_texts(const char *const name[SIDES], char *text[SIDES], const size_t size[SIDES],
                                ParallelCorpus *corpus)
{
    *corpus = (ParallelCorpus){.lines = 0};
    Status status = OK;
    for (int side = 0; side < SIDES; ++side) {
        corpus->owned[side] = text[side];
        corpus->text[side] = (TextSpan){.data = text[side], .size = size[side]};
    }
    for (int side = 0; side < SIDES && status == OK; ++side)
        status = text_copy(name[side], &corpus->name[side]);
    if (status == OK) status = check(corpus);
    if (status != OK) parallel_corpus_close(corpus);
    return status;
}

void parallel_corpus_close(ParallelCorpus *corpus)
{
    for (int side = 0; side < SIDES; ++side) {
        file_unmap(&corpus->map[side]);
        free(corpus->owned[side]);
        free(corpus->name[side]);
    }
    free(corpus->block);
    *corpus = (ParallelCorpus){.lines = 0};
}
