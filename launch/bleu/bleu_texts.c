#include "launch/bleu/bleu_texts.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char input_name[] = "the standard input";

void bleu_texts_free(BleuTexts *texts)
{
    for (int i = 0; i < texts->files; ++i)
        text_lines_free(&texts->file[i]);
    free(texts->file);
    text_columns_free(&texts->reference_columns);
    text_columns_free(&texts->system_columns);
    for (int s = 0; texts->name != NULL && s < texts->segments.systems; ++s)
        free(texts->name[s]);
    free((void *)texts->name);
    free(texts->reference);
    free(texts->reference_count);
    free((void *)texts->hypothesis);
    *texts = (BleuTexts){.references = 0};
}

static Status read_input(char **data, size_t *size)
{
    size_t room = 0;
    *data = NULL;
    *size = 0;
    for (;;) {
        TRY(memory_grow(data, &room, *size + 65536, 1, "the standard input"));
        const ssize_t got = read(STDIN_FILENO, *data + *size, room - *size);
        if (got > 0) *size += (size_t)got;
        if (got == 0) return OK;
        if (got < 0 && errno != EINTR)
            return fail(STATUS_IO, "%s cannot be read: %s", input_name, strerror(errno));
    }
}

static void warn_of_mark(const BleuArguments *arguments, const char *name, const TextLines *lines)
{
    if (arguments->quiet || lines->count == 0) return;
    if (text_mark_bytes(lines->line[0].data, lines->line[0].size) > 0)
        log_warning("%s begins with a byte order mark, which counts as part of its first word", name);
}

static Status read_file(const BleuArguments *arguments, const char *path, BleuTexts *texts, TextLines **lines)
{
    *lines = &texts->file[texts->files++];
    TRY(text_lines_read(path, *lines));
    warn_of_mark(arguments, path, *lines);
    return OK;
}

/* ---- References ---- */

static Status lengths_differ(const char *name, int64_t lines, const char *other, int64_t other_lines)
{
    return fail(STATUS_INPUT, "%s has %lld line%s, but %s has %lld: line for line they must belong together",
                name, (long long)lines, lines == 1 ? "" : "s", other, (long long)other_lines);
}

/* Room for `most` references of each of `count` segments. */
static Status new_segments(BleuTexts *texts, int64_t count, int most)
{
    texts->segments.count = count;
    TRY(memory_new(&texts->reference, (size_t)count * (size_t)most, sizeof *texts->reference, "references"));
    TRY(memory_new(&texts->reference_count, (size_t)count, sizeof *texts->reference_count, "references"));
    texts->segments.reference = texts->reference;
    texts->segments.references = texts->reference_count;
    return OK;
}

/* A file a reference. */
static Status take_files(const BleuArguments *arguments, BleuTexts *texts)
{
    const int files = arguments->references;
    const int64_t count = texts->file[0].count;
    for (int f = 1; f < files; ++f)
        if (texts->file[f].count != count)
            return lengths_differ(arguments->reference[f], texts->file[f].count, arguments->reference[0],
                                  count);
    TRY(new_segments(texts, count, files));
    for (int64_t i = 0; i < count; ++i) {
        for (int f = 0; f < files; ++f)
            texts->reference[i * files + f] = texts->file[f].line[i];
        texts->reference_count[i] = files;
    }
    texts->references = files;
    return OK;
}

/* One file whose lines hold several; `var`: an empty one is none. */
static Status take_columns(const BleuArguments *arguments, BleuTexts *texts)
{
    const bool varying = arguments->reference_fields == 0;
    const char *path = arguments->reference[0];
    TextColumns *columns = &texts->reference_columns;
    TRY(text_columns_split(path, &texts->file[0], varying ? COLUMNS_UP_TO : COLUMNS_OF_REFERENCES,
                           arguments->reference_fields, columns));
    TRY(new_segments(texts, columns->count, columns->columns));
    TextSpan *next = texts->reference;
    for (int64_t i = 0; i < columns->count; ++i) {
        int taken = 0;
        for (int c = 0; c < columns->columns; ++c) {
            const TextSpan cell = columns->cell[c * columns->count + i];
            if (varying && cell.size == 0) continue;
            *next++ = cell;
            ++taken;
        }
        if (taken == 0) return fail(STATUS_INPUT, "%s:%lld: no reference", path, (long long)i + 1);
        texts->reference_count[i] = taken;
        texts->references = i == 0 || texts->references == taken ? taken : -1;
    }
    return OK;
}

static Status read_references(const BleuArguments *arguments, BleuTexts *texts)
{
    for (int f = 0; f < arguments->references; ++f) {
        TextLines *lines;
        TRY(read_file(arguments, arguments->reference[f], texts, &lines));
    }
    return arguments->reference_fields == 1 ? take_files(arguments, texts) : take_columns(arguments, texts);
}

/* ---- Systems ---- */

static bool is_paired(const BleuArguments *arguments)
{
    return arguments->paired_bootstrap || arguments->paired_randomisation;
}

static Status new_systems(BleuTexts *texts, int most)
{
    TRY(memory_new(&texts->name, (size_t)most, sizeof *texts->name, "systems"));
    return memory_new(&texts->hypothesis, (size_t)most, sizeof *texts->hypothesis, "systems");
}

/* Columns of the standard input. */
static Status read_columns(const BleuArguments *arguments, BleuTexts *texts)
{
    char *data;
    size_t size;
    Status status = read_input(&data, &size);
    if (status != OK) {
        free(data);
        return status;
    }
    TextLines *lines = &texts->file[texts->files++];
    TRY(text_lines_split(input_name, data, size, LINES_END_IN_ANY, lines));
    if (lines->count == 0) return fail(STATUS_INPUT, "%s has no line of a system's", input_name);
    warn_of_mark(arguments, input_name, lines);
    TextColumns *columns = &texts->system_columns;
    TRY(text_columns_split(input_name, lines, COLUMNS_OF_SYSTEMS, 0, columns));
    TRY(new_systems(texts, columns->columns));
    for (int s = 0; s < columns->columns; ++s) {
        texts->hypothesis[s] = columns->cell + s * columns->count;
        ++texts->segments.systems;
        TRY(is_paired(arguments) && s == 0
                ? text_copy("Baseline", &texts->name[s])
                : text_format(&texts->name[s], "System %d", is_paired(arguments) ? s : s + 1));
    }
    if (columns->count != texts->segments.count)
        return lengths_differ(input_name, columns->count, arguments->reference[0], texts->segments.count);
    return OK;
}

/* The baseline may be given again, among the systems that are compared with it. */
static Status is_repeated(const BleuArguments *arguments, int input, bool *skip)
{
    *skip = false;
    for (int before = 0; before < input; ++before) {
        if (strcmp(arguments->input[before], arguments->input[input]) != 0) continue;
        *skip = is_paired(arguments) && before == 0;
        if (!*skip) return fail(STATUS_USAGE, "plumb bleu: --input has %s twice", arguments->input[input]);
        return OK;
    }
    return OK;
}

static Status read_systems(const BleuArguments *arguments, BleuTexts *texts)
{
    if (arguments->inputs == 0) return fail(STATUS_USAGE, "plumb bleu: --input needs a file");
    TRY(new_systems(texts, arguments->inputs));
    for (int i = 0; i < arguments->inputs; ++i) {
        const char *path = arguments->input[i];
        bool skip;
        TRY(is_repeated(arguments, i, &skip));
        if (skip) continue;
        TextLines *lines;
        TRY(read_file(arguments, path, texts, &lines));
        if (lines->count != texts->segments.count)
            return lengths_differ(path, lines->count, arguments->reference[0], texts->segments.count);
        const int s = texts->segments.systems++;
        texts->hypothesis[s] = lines->line;
        TRY(text_format(&texts->name[s], "%s%s", is_paired(arguments) && s == 0 ? "Baseline: " : "", path));
    }
    return OK;
}

static Status check_systems(const BleuArguments *arguments, const BleuTexts *texts)
{
    const int systems = texts->segments.systems;
    if (texts->segments.count == 0) return fail(STATUS_INPUT, "%s has no line", arguments->reference[0]);
    if (arguments->sentences && systems > 1)
        return fail(STATUS_USAGE, "plumb bleu: --sentence-level takes one system, not %d", systems);
    if (is_paired(arguments) && systems == 1)
        return fail(STATUS_USAGE,
                    "plumb bleu: paired tests compare several systems: --input BASELINE SYSTEM ...");
    if (systems > 1 && arguments->confidence)
        return fail(STATUS_USAGE,
                    "plumb bleu: --confidence takes one system, not %d: see --paired-bs and --paired-ar",
                    systems);
    return OK;
}

/* ---- What looks wrong ---- */

static bool ends_in(TextSpan line, const char *end)
{
    const size_t size = strlen(end);
    return line.size >= size && memcmp(line.data + line.size - size, end, size) == 0;
}

enum { SUSPICIOUS = 100 }; /* lines that end in a point on its own */

static void warn_of_tokens(const BleuTexts *texts, int system)
{
    int64_t lines = 0;
    for (int64_t i = 0; i < texts->segments.count; ++i)
        lines += ends_in(texts->hypothesis[system][i], " .");
    if (lines >= SUSPICIOUS)
        log_warning(
            "%lld of %lld lines of %s end in \" .\": they look tokenised, and BLEU is for text that is not; "
            "detokenise them, or silence this with --force",
            (long long)lines, (long long)texts->segments.count, texts->name[system]);
}

/* Of non-empty lines. All of them are equal only if one file was taken for the other. */
static void warn_of_copies(const BleuTexts *texts, int system)
{
    int64_t lines = 0;
    const TextSpan *reference = texts->reference;
    for (int64_t i = 0; i < texts->segments.count; reference += texts->reference_count[i++]) {
        const TextSpan hypothesis = texts->hypothesis[system][i];
        bool same = hypothesis.size == 0;
        for (int r = 0; r < texts->reference_count[i]; ++r)
            same = same || text_span_equal(hypothesis, reference[r]);
        if (!same) return;
        lines += hypothesis.size > 0;
    }
    if (lines > 1)
        log_warning("all %lld lines of %s are equal to a reference: are system and references what they are "
                    "meant to be?",
                    (long long)lines, texts->name[system]);
}

static void warn(const BleuArguments *arguments, const BleuTexts *texts)
{
    bool bleu = false;
    for (int m = 0; m < arguments->metrics; ++m)
        bleu = bleu || (arguments->metric[m].kind == METRIC_BLEU &&
                        arguments->metric[m].tokenization.tokenizer != BLEU_TOKENS_COMPOUND_SPLIT);
    for (int s = 0; s < texts->segments.systems && !arguments->quiet; ++s) {
        if (bleu && !arguments->force) warn_of_tokens(texts, s);
        warn_of_copies(texts, s);
    }
}

Status bleu_texts_read(const BleuArguments *arguments, BleuTexts *texts)
{
    *texts = (BleuTexts){.references = 0};
    Status status = OK;
    TRY_ELSE(failed, memory_new(&texts->file, (size_t)(arguments->references + arguments->inputs) + 1,
                                sizeof *texts->file, "texts"));
    TRY_ELSE(failed, read_references(arguments, texts));
    TRY_ELSE(failed, arguments->has_input ? read_systems(arguments, texts) : read_columns(arguments, texts));
    texts->segments.hypothesis = texts->hypothesis;
    TRY_ELSE(failed, check_systems(arguments, texts));
    warn(arguments, texts);
    return OK;
failed:
    bleu_texts_free(texts);
    return status;
}
