#include "nlp/word_vectors.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "nlp/float_parse.h"
#include "nlp/utf8.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t most_unpacked = (size_t)64 << 30; /* bytes of a .gz */
enum { CHUNK = 4 << 20 };                             /* bytes that a thread takes at a time */

void word_vectors_free(WordVectors *vectors)
{
    free(vectors->vector);
    free(vectors->known);
    *vectors = (WordVectors){.vector = NULL};
}

/* What all threads share. */
typedef struct {
    const char *name; /* of the file */
    const char *text, *end;
    int64_t dimension;
    const Vocabulary *vocabulary;
    _Atomic(const char *)
        *first; /* [size of the vocabulary] the first line of each word; NULL: none so far */
} File;

static bool is_space(char c) { return c == ' ' || c == '\t'; }

static const char *line_end(const char *line, const char *end)
{
    const char *stop = memchr(line, '\n', (size_t)(end - line));
    return stop != NULL ? stop : end;
}

/* Without CR and spaces at the end. */
static const char *trimmed_end(const char *line, const char *stop)
{
    while (stop > line && (is_space(stop[-1]) || stop[-1] == '\r'))
        --stop;
    return stop;
}

/* ---- One line ---- */

/* Exactly `count` numbers, each behind spaces, up to the end. */
static bool parse_numbers(const char *at, const char *stop, int64_t count, float numbers[])
{
    for (int64_t i = 0; i < count; ++i) {
        if (at == stop || !is_space(*at)) return false;
        do
            ++at;
        while (at < stop && is_space(*at));
        at = float_parse(at, stop, &numbers[i]);
        if (at == NULL) return false;
    }
    return at == stop;
}

/* The start of the field that ends at `stop`. */
static const char *field_start(const char *line, const char *stop)
{
    while (stop > line && !is_space(stop[-1]))
        --stop;
    return stop;
}

static const char *before_spaces(const char *line, const char *at)
{
    while (at > line && is_space(at[-1]))
        --at;
    return at;
}

static bool is_number(const char *start, const char *stop)
{
    float number;
    return float_parse(start, stop, &number) == stop;
}

/* The error of a place, with its line and column. Lines are counted only now. */
static Status fail_at(const File *file, const char *place, const char *what)
{
    long long lines = 1;
    const char *line = file->text;
    for (const char *next; (next = memchr(line, '\n', (size_t)(place - line))) != NULL; line = next + 1)
        ++lines;
    return fail(STATUS_INPUT, "%s:%lld:%zu: %s", file->name, lines,
                utf8_characters(line, (size_t)(place - line)) + 1, what);
}

/* How many fields at the end of a line are numbers. */
static int64_t numbers_at_end(const char *line, const char *stop)
{
    int64_t count = 0;
    while (stop > line) {
        const char *start = field_start(line, stop);
        if (start == line || !is_number(start, stop)) break;
        ++count;
        stop = before_spaces(line, start);
    }
    return count;
}

static Status wrong_width(const File *file, const char *line, const char *stop)
{
    char what[160];
    (void)snprintf(what, sizeof what, "%lld numbers behind the word; vectors of %lld are expected",
                   (long long)numbers_at_end(line, stop), (long long)file->dimension);
    return fail_at(file, line, what);
}

/* Why this field is none of the numbers. */
static Status not_a_number(const File *file, const char *start, const char *stop)
{
    char what[160];
    const size_t invalid = utf8_invalid(start, (size_t)(stop - start));
    if (invalid < (size_t)(stop - start)) {
        (void)snprintf(what, sizeof what, "the byte 0x%02X is not valid UTF-8",
                       (unsigned char)start[invalid]);
        return fail_at(file, start + invalid, what);
    }
    (void)snprintf(what, sizeof what,
                   "\"%.*s\" is not a finite number; the last %lld fields of a line must be",
                   (int)(stop - start < 40 ? stop - start : 40), start, (long long)file->dimension);
    return fail_at(file, start, what);
}

/* A line whose word holds spaces, or that is wrong: from its end. */
static Status parse_backwards(const File *file, const char *line, const char *stop, float numbers[],
                              TextSpan *word)
{
    const char *end = stop;
    for (int64_t i = file->dimension - 1; i >= 0; --i) {
        const char *start = field_start(line, end);
        if (start == line) return wrong_width(file, line, stop);
        if (float_parse(start, end, &numbers[i]) != end) return not_a_number(file, start, end);
        end = start;
        if (i > 0) end = before_spaces(line, end);
        if (end == line) return wrong_width(file, line, stop);
    }
    end = before_spaces(line, end);
    const char *last = field_start(line, end);
    /* "the 0.25" is a vector with a number too many, "World War 2" a word. */
    if (last > line && memchr(last, '.', (size_t)(end - last)) != NULL && is_number(last, end))
        return wrong_width(file, line, stop);
    *word = (TextSpan){.data = line, .size = (size_t)(end - line)};
    return OK;
}

/* The word and the numbers of the line from `line` to `stop`. */
static Status parse_line(const File *file, const char *line, const char *stop, float numbers[],
                         TextSpan *word)
{
    stop = trimmed_end(line, stop);
    if (stop == line) return fail_at(file, line, "an empty line");
    const char *space = line;
    while (space < stop && !is_space(*space))
        ++space;
    *word = (TextSpan){.data = line, .size = (size_t)(space - line)};
    if (!parse_numbers(space, stop, file->dimension, numbers))
        TRY(parse_backwards(file, line, stop, numbers, word));
    const size_t invalid = utf8_invalid(word->data, word->size);
    if (invalid == word->size) return OK;
    char what[80];
    (void)snprintf(what, sizeof what, "the byte 0x%02X is not valid UTF-8",
                   (unsigned char)word->data[invalid]);
    return fail_at(file, word->data + invalid, what);
}

/* ---- A header ---- */

/* A whole number that is the field from *at on; -1 if it is none. */
static int64_t whole_number(const char **at, const char *stop)
{
    int64_t value = 0;
    const char *start = *at;
    for (; *at < stop && **at >= '0' && **at <= '9' && value < INT64_MAX / 20; ++*at)
        value = value * 10 + (**at - '0');
    return *at > start && (*at == stop || is_space(**at)) ? value : -1;
}

/* "count dimension" as the first line: *lines is the count and file->text behind it; else *lines is -1. */
static Status take_header(File *file, const char **text, int64_t *lines)
{
    *lines = -1;
    const char *stop = line_end(*text, file->end), *last = trimmed_end(*text, stop), *at = *text;
    const int64_t count = whole_number(&at, last);
    while (at < last && is_space(*at))
        ++at;
    const int64_t dimension = count >= 0 && at < last ? whole_number(&at, last) : -1;
    if (dimension < 0 || at != last || file->dimension == 1) return OK;
    if (dimension != file->dimension)
        return fail(STATUS_INPUT, "%s:1:1: the header says vectors of %lld numbers; %lld are expected",
                    file->name, (long long)dimension, (long long)file->dimension);
    *lines = count;
    *text = stop < file->end ? stop + 1 : file->end;
    return OK;
}

/* ---- All lines ---- */

typedef struct {
    int64_t lines, hits, nameless;
} Found;

/* Keeps the smallest address: the file's first line wins, whichever thread meets it. */
static void note_line(_Atomic(const char *) *first, const char *line)
{
    const char *seen = atomic_load_explicit(first, memory_order_relaxed);
    while ((seen == NULL || line < seen) &&
           !atomic_compare_exchange_weak_explicit(first, &seen, line, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

static Status scan_chunk(const File *file, const char *line, const char *end, float numbers[], Found *found)
{
    while (line < end) {
        const char *stop = line_end(line, file->end);
        TextSpan word;
        TRY(parse_line(file, line, stop, numbers, &word));
        ++found->lines;
        if (word.size == 0) {
            ++found->nameless;
        } else {
            const int32_t id = vocabulary_find(file->vocabulary, word);
            if (id >= 0) {
                ++found->hits;
                note_line(&file->first[id], line);
            }
        }
        line = stop + 1;
    }
    return OK;
}

/* The first line that begins at or after `at`. */
static const char *next_line(const File *file, const char *text, const char *at)
{
    if (at >= file->end) return file->end;
    if (at == text) return at;
    const char *stop = line_end(at - 1, file->end);
    return stop < file->end ? stop + 1 : file->end;
}

/* Checks every line and finds the first one of each word. Of several errors the file's first is returned. */
static Status scan(const File *file, const char *text, float *numbers, int threads, Found *total)
{
    const int64_t chunks = (file->end - text) / CHUNK + 1;
    Status first_error = OK;
    int64_t failed = chunks;
    int64_t lines = 0, hits = 0, nameless = 0;
#pragma omp parallel for schedule(dynamic) num_threads(threads) reduction(+ : lines, hits, nameless)
    for (int64_t c = 0; c < chunks; ++c) {
        int64_t known;
#pragma omp atomic read
        known = failed;
        if (c > known) continue;
        Found found = {0};
        const char *start = next_line(file, text, text + c * CHUNK);
        const char *end = c + 1 < chunks ? next_line(file, text, text + (c + 1) * CHUNK) : file->end;
        Status status =
            scan_chunk(file, start, end, numbers + omp_get_thread_num() * file->dimension, &found);
        lines += found.lines;
        hits += found.hits;
        nameless += found.nameless;
        if (status == OK) continue;
#pragma omp critical(word_vectors_error)
        {
            if (c < failed) {
                status_free(first_error);
                first_error = status;
#pragma omp atomic write
                failed = c;
            } else {
                status_free(status);
            }
        }
    }
    *total = (Found){.lines = lines, .hits = hits, .nameless = nameless};
    return first_error;
}

/* The rows of the words that were found. Their lines have been checked. */
static Status fill(const File *file, int threads, WordVectors *vectors)
{
    int64_t wrong = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : wrong)
    for (int64_t id = 0; id < vectors->size; ++id) {
        const char *line = atomic_load_explicit(&file->first[id], memory_order_relaxed);
        if (line == NULL) continue;
        TextSpan word;
        Status status = parse_line(file, line, line_end(line, file->end),
                                   vectors->vector + id * vectors->dimension, &word);
        wrong += status != OK;
        status_free(status);
        vectors->known[id] = true;
    }
    if (wrong > 0) return fail(STATUS_INPUT, "%s: the file changed while it was read", file->name);
    for (int64_t id = 0; id < vectors->size; ++id)
        vectors->found += vectors->known[id];
    vectors->missing = vectors->size - vocabulary_specials(file->vocabulary) - vectors->found;
    return OK;
}

static const char *behind_byte_order_mark(const File *file)
{
    return file->end - file->text >= 3 && memcmp(file->text, "\xEF\xBB\xBF", 3) == 0 ? file->text + 3
                                                                                     : file->text;
}

static Status check_first(File *file, float numbers[])
{
    const char *text = behind_byte_order_mark(file);
    int64_t promised;
    TextSpan word;
    if (text < file->end) TRY(take_header(file, &text, &promised)); /* an empty map is NULL */
    if (text == file->end) return fail(STATUS_INPUT, "%s: there is no vector in this file", file->name);
    return parse_line(file, text, line_end(text, file->end), numbers, &word);
}

static Status parse(File *file, WordVectors *vectors)
{
    const char *text = behind_byte_order_mark(file);
    while (file->end > text && (is_space(file->end[-1]) || file->end[-1] == '\n' || file->end[-1] == '\r'))
        --file->end; /* empty lines at the end */
    int64_t promised = -1;
    if (text < file->end) TRY(take_header(file, &text, &promised)); /* an empty map is NULL */
    if (text == file->end) return fail(STATUS_INPUT, "%s: there is no vector in this file", file->name);
    const int threads = omp_get_max_threads();
    float *numbers;
    TRY(memory_new(&numbers, (size_t)threads * (size_t)file->dimension, sizeof *numbers, "a word's vector"));
    Found found;
    Status status = scan(file, text, numbers, threads, &found);
    free(numbers);
    TRY(status);
    if (promised >= 0 && promised != found.lines)
        return fail(STATUS_INPUT, "%s: the header says %lld vectors, but there are %lld", file->name,
                    (long long)promised, (long long)found.lines);
    TRY(fill(file, threads, vectors));
    vectors->lines = found.lines;
    vectors->nameless = found.nameless;
    vectors->duplicates = found.hits - vectors->found;
    return OK;
}

Status word_vectors_parse(const char *name, const char *text, size_t size, const Vocabulary *vocabulary,
                          int64_t dimension, WordVectors *vectors)
{
    *vectors = (WordVectors){.size = vocabulary_size(vocabulary), .dimension = dimension};
    if (dimension < 1)
        return fail(STATUS_INPUT, "%s: vectors of %lld numbers: at least 1 is needed", name,
                    (long long)dimension);
    File file = {
        .name = name, .text = text, .end = text + size, .dimension = dimension, .vocabulary = vocabulary};
    const size_t rows = (size_t)vectors->size;
    Status status;
    TRY_ELSE(done, memory_new(&file.first, rows, sizeof *file.first, "lines of word vectors"));
    TRY_ELSE(done, memory_new(&vectors->known, rows, sizeof *vectors->known, "known word vectors"));
    if ((size_t)dimension > SIZE_MAX / sizeof(float) / rows) {
        status = fail(STATUS_MEMORY, "%s: no memory for vectors of %lld numbers", name, (long long)dimension);
        goto done;
    }
    TRY_ELSE(done,
             memory_new(&vectors->vector, rows * (size_t)dimension, sizeof *vectors->vector, "word vectors"));
    TRY_ELSE(done, parse(&file, vectors));
done:
    free(file.first);
    if (status != OK) word_vectors_free(vectors);
    return status;
}

static bool is_packed(const char *path)
{
    const size_t length = strlen(path);
    return length > 3 && strcmp(path + length - 3, ".gz") == 0;
}

Status word_vectors_check(const char *path, int64_t dimension)
{
    FileMap map;
    float *numbers;
    if (is_packed(path)) return OK;
    TRY(memory_new(&numbers, (size_t)dimension, sizeof *numbers, "a word's vector"));
    Status status = file_map(path, &map);
    if (status == OK) {
        File file = {.name = path,
                     .text = (const char *)map.data,
                     .end = (const char *)map.data + map.size,
                     .dimension = dimension};
        status = check_first(&file, numbers);
        file_unmap(&map);
    }
    free(numbers);
    return status;
}

Status word_vectors_read(const char *path, const Vocabulary *vocabulary, int64_t dimension,
                         WordVectors *vectors)
{
    *vectors = (WordVectors){.vector = NULL};
    if (is_packed(path)) {
        char *text;
        size_t size;
        TRY(file_read(path, most_unpacked, &text, &size));
        Status status = word_vectors_parse(path, text, size, vocabulary, dimension, vectors);
        free(text);
        return status;
    }
    FileMap map;
    TRY(file_map(path, &map));
    Status status =
        word_vectors_parse(path, (const char *)map.data, map.size, vocabulary, dimension, vectors);
    file_unmap(&map);
    return status;
}
