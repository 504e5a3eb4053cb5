#include "launch/translate/translate.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/search/decoder.h"
#include "launch/train/progress.h"
#include "launch/translate/shared_lines.h"
#include "launch/translate/translation_run.h"
#include "nlp/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    READ_AHEAD = 16,       /* lines for each sentence at a time, which are sorted together */
    MOST_SURPLUS = 1 << 20 /* prefixes that are counted: they may be endless */
};

typedef struct {
    const TranslateOptions *options;
    World *world;
    TranslationRun run;
    Decoder *decoder;
    Translator *translator;
    Collective *collective; /* of several ranks */
    LineReader *reader, *prefixes;
    LineWriter *writer; /* rank 0's */
    int prefix_file;
    int64_t longest;       /* tokens of a source, its end token among them */
    int64_t read, written; /* lines */
    int64_t invalid, first_invalid, cut_bytes;
    int64_t invalid_prefix, first_invalid_prefix, cut_prefix;
    double started, drawn;
    bool terminal; /* progress is drawn on it */
    int64_t shown; /* lines written when it was shown last */
} Translation;

static const char *plural(int64_t count) { return count == 1 ? "" : "s"; }

/* ---- opening ---- */

/* The least length has to leave a place for the end token within the most. The most of a longer source may be more. */
static Status check_minimum(const Translation *t, const SearchOptions *search, int most_target)
{
    enum { SHORTEST_SOURCE = 2 }; /* a token and the end token */
    const int least = search->minimum + 1;
    const int shortest = translator_limit(&t->options->lines, SHORTEST_SOURCE, most_target);
    if (search->minimum > 0 && least > most_target)
        return fail(
            STATUS_USAGE,
            "--min-length %d leaves no place for the end token: --max-length allows %d tokens at most",
            search->minimum, most_target);
    if (search->minimum > 0 && least > shortest && t->world->rank == 0)
        log_warning("--min-length %d is more than --max-length allows a short source (%d tokens for a source "
                    "of one): "
                    "such translations end where --max-length says",
                    search->minimum, shortest);
    return OK;
}

static Status open_decoder(Translation *t, SearchOptions *search)
{
    const TranslateOptions *options = t->options;
    TranslationRun *run = &t->run;
    t->longest = translation_run_longest(run, options->longest);
    const int most_source = (int)t->longest;
    const int most_target = translator_limit(&options->lines, most_source,
                                             (int)translation_run_longest(run, DECODER_MOST_TARGET));
    TRY(check_minimum(t, search, most_target));
    if (options->deterministic) device_set_numerics(run->device, (DeviceNumerics){.deterministic = true});
    DecoderOptions decoder = decoder_options_of(search, most_source, most_target);
    decoder.network = run->network;
    decoder.compute = run->experiment.compute;
    decoder.slots = options->sentences > 0 ? (int)options->sentences : decoder_usual_sentences(run->device);
    decoder.deterministic = options->deterministic;
    decoder.record = run->experiment.record;
    decoder.fuse = run->experiment.fuse;
    decoder.plan = run->experiment.plan;
    return decoder_create(&decoder, run->device, &t->decoder);
}

static Status open_lines(Translation *t)
{
    const TranslateOptions *options = t->options;
    const bool at_once = options->stream || isatty(options->input) == 1;
    TRY(line_reader_open(options->input, "the standard input", &t->reader));
    TRY(line_writer_open(options->output, "the standard output", at_once, &t->writer));
    if (options->prefix == NULL) return OK;
    t->prefix_file = open(options->prefix, O_RDONLY | O_CLOEXEC);
    if (t->prefix_file < 0)
        return fail(STATUS_IO, "%s cannot be opened: %s", options->prefix, strerror(errno));
    return line_reader_open(t->prefix_file, options->prefix, &t->prefixes);
}

static Status open_translator(Translation *t)
{
    TranslatorOptions lines = t->options->lines;
    if (t->options->calibrated)
        TRY(translation_run_temperature(&t->run, t->options->checkpoint, &lines.search.temperature));
    TRY(search_check(&lines.search));
    TRY(open_decoder(t, &lines.search));
    return translator_create(&lines, t->run.subwords, decoder_network(t->decoder), &t->translator);
}

static Status open_all(Translation *t)
{
    World *world = t->world;
    TRY(translation_run_open(world, t->options->run, &t->options->use, &t->run));
    TRY(comm_agree(world, open_translator(t)));
    TRY(translation_run_load(&t->run, t->options->checkpoint, decoder_store(t->decoder)));
    if (world->size > 1) TRY(comm_collective(world, t->run.experiment.comm.timeout_seconds, &t->collective));
    return comm_agree(world, world->rank == 0 ? open_lines(t) : OK);
}

static void close_all(Translation *t)
{
    line_writer_close(t->writer);
    line_reader_close(t->reader);
    line_reader_close(t->prefixes);
    if (t->prefix_file >= 0) (void)close(t->prefix_file);
    collective_free(t->collective);
    translator_free(t->translator);
    decoder_free(t->decoder);
    translation_run_close(&t->run);
}

/* ---- lines in ---- */

/* The next line as UTF-8, with its prefix. Both are to be released with free(). *got false: see line_reader_next. */
static Status read_line(Translation *t, bool wait, TextSpan *text, TextSpan *prefix, bool *got)
{
    Line line, beginning;
    char *copy = NULL;
    size_t size;
    bool changed, has_prefix;
    *text = *prefix = (TextSpan){.data = NULL};
    TRY(line_reader_next(t->reader, wait, &line, got));
    if (!*got) return OK;
    ++t->read;
    t->cut_bytes += line.cut;
    TRY(line_to_utf8(line.text, &copy, &size, &changed));
    *text = (TextSpan){.data = copy, .size = size};
    if (changed && t->invalid++ == 0) t->first_invalid = t->read;
    if (t->prefixes == NULL) return OK;
    TRY(line_reader_next(t->prefixes, true, &beginning, &has_prefix));
    if (!has_prefix)
        return fail(STATUS_INPUT, "%s has %" PRId64 " line%s; line %" PRId64 " of the input has no prefix",
                    t->options->prefix, t->read - 1, plural(t->read - 1), t->read);
    TRY(line_to_utf8(beginning.text, &copy, &size, &changed));
    *prefix = (TextSpan){.data = copy, .size = size};
    t->cut_prefix += beginning.cut;
    if (changed && t->invalid_prefix++ == 0) t->first_invalid_prefix = t->read;
    return OK;
}

static void free_lines(TextSpan *text, TextSpan *prefix)
{
    free((void *)text->data);
    free((void *)prefix->data);
}

/* ---- progress ---- */

/* On a terminal a line that is drawn again and again; else, as under mpirun, a new line from time to time where there is news,
 * and none if all ends before it is time for the first. */
static void show_progress(Translation *t, bool last)
{
    const double now = progress_clock(), often = t->terminal ? 0.5 : (double)t->options->progress;
    if (t->world->rank != 0) return;
    if (!t->terminal && (t->options->progress == 0 || t->written == t->shown)) return;
    if (now - t->drawn < often && !(last && (t->terminal || t->shown > 0))) return;
    const TranslatorCounts counts = translator_counts(t->translator);
    const double seconds = now - t->started > 1e-9 ? now - t->started : 1e-9;
    t->drawn = now;
    t->shown = t->written;
    (void)fprintf(stderr, "%s%" PRId64 " lines, %.1f lines/s, %.0f tokens/s%s%s%s", t->terminal ? "\r" : "",
                  t->written, (double)t->written / seconds,
                  (double)(counts.tokens * t->world->size) / seconds,
                  t->world->size > 1 ? " (estimated)" : "", t->terminal ? "\033[K" : "",
                  t->terminal && !last ? "" : "\n");
}

/* ---- one rank ---- */

/* Takes lines until the search has enough to choose from, as far as they are there. wait: for the first. */
static Status read_ahead(Translation *t, bool wait)
{
    const int64_t most = (int64_t)READ_AHEAD * decoder_network(t->decoder)->slots;
    bool got = true;
    for (int64_t i = 0; i < most && got; ++i) {
        TextSpan text, prefix;
        Status status = read_line(t, wait && i == 0, &text, &prefix, &got);
        if (status == OK && got) status = translator_add(t->translator, t->read - 1, text, prefix);
        free_lines(&text, &prefix);
        TRY(status);
    }
    return translator_begin(t->translator);
}

static Status write_done(Translation *t)
{
    const int64_t before = t->written;
    for (;;) {
        bool got;
        char *text;
        size_t size;
        TRY(translator_next(t->translator, &got, &text, &size));
        if (!got) break;
        const Status status = line_writer_write(t->writer, text, size);
        free(text);
        TRY(status);
        ++t->written;
    }
    return t->written > before ? line_writer_flush(t->writer) : OK;
}

static Status translate_alone(Translation *t)
{
    const int slots = decoder_network(t->decoder)->slots;
    while (!line_writer_closed(t->writer)) {
        const bool idle = translator_active(t->translator) == 0 && translator_waiting(t->translator) == 0;
        if (idle && line_reader_ended(t->reader)) return OK;
        if (translator_waiting(t->translator) < slots && !line_reader_ended(t->reader))
            TRY(read_ahead(t, idle));
        TRY(translator_step(t->translator));
        TRY(write_done(t));
        show_progress(t, false);
    }
    return OK;
}

/* ---- several ranks ---- */

/* Rank 0: the lines of a round. Without any after idle_seconds, so that the others know that it lives. */
static Status read_round(void *of, SharedLines *lines)
{
    Translation *t = of;
    const int64_t most = (int64_t)READ_AHEAD * decoder_network(t->decoder)->slots * t->world->size;
    const bool stream = t->options->stream || isatty(t->options->input) == 1;
    const double began = progress_clock(),
                 idle = shared_lines_idle_seconds(t->run.experiment.comm.timeout_seconds);
    bool got = true;
    while ((int64_t)lines->count < most && !line_reader_ended(t->reader)) {
        TextSpan text, prefix;
        Status status = read_line(t, false, &text, &prefix, &got);
        if (status == OK && got) status = shared_lines_add(lines, t->read - 1, text, prefix);
        free_lines(&text, &prefix);
        TRY(status);
        if (got) continue;
        if ((stream && lines->count > 0) || progress_clock() - began > idle) return OK;
        TRY(line_reader_wait(t->reader, idle < 1 ? idle : 1));
    }
    return OK;
}

static Status translate_share(void *of, SharedLines *lines, const int rank[])
{
    Translation *t = of;
    for (size_t i = 0; i < lines->count; ++i) {
        const SharedLine *line = &lines->line[i];
        if (rank[i] == t->world->rank)
            TRY(translator_add(t->translator, line->number,
                               (TextSpan){.data = line->first, .size = line->first_size},
                               (TextSpan){.data = line->second, .size = line->second_size}));
    }
    TRY(translator_begin(t->translator));
    while (translator_waiting(t->translator) + translator_active(t->translator) > 0)
        TRY(translator_step(t->translator));
    for (size_t i = 0; i < lines->count; ++i) {
        bool got;
        if (rank[i] != t->world->rank) continue;
        TRY(translator_next(t->translator, &got, &lines->line[i].result, &lines->line[i].result_size));
        if (!got)
            return fail(STATUS_INTERNAL, "line %" PRId64 " has no translation", lines->line[i].number + 1);
    }
    return OK;
}

static Status write_round(void *of, const SharedLines *lines)
{
    Translation *t = of;
    for (size_t i = 0; i < lines->count; ++i, ++t->written) {
        const SharedLine *line = &lines->line[i];
        if (line->result == NULL)
            return fail(STATUS_INTERNAL, "no rank has translated line %" PRId64, line->number + 1);
        TRY(line_writer_write(t->writer, line->result, line->result_size));
    }
    return line_writer_flush(t->writer);
}

static bool is_over(const void *of)
{
    const Translation *t = of;
    return line_writer_closed(t->writer) || line_reader_ended(t->reader);
}

static Status translate_together(Translation *t)
{
    const SharedWork work = {t, read_round, translate_share, write_round, is_over};
    for (bool ended = false; !ended;) {
        TRY(shared_lines_round(t->world, t->collective, &work, &ended));
        show_progress(t, false);
    }
    return OK;
}

/* ---- the end ---- */

/* What all ranks have counted, on all of them. */
static Status sum_counts(World *world, TranslatorCounts *counts)
{
    if (world->size == 1) return OK;
    TranslatorCounts *all, sum = {.first_long = -1, .first_stuck = -1};
    TRY(memory_new(&all, (size_t)world->size, sizeof *all, "counts of ranks"));
    Status status = comm_gather(world, counts, sizeof *counts, all, "counts of ranks");
    for (int r = 0; r < world->size && status == OK; ++r) {
        sum.lines += all[r].lines;
        sum.blank += all[r].blank;
        sum.cut += all[r].cut;
        sum.split += all[r].split;
        sum.beyond += all[r].beyond;
        sum.stuck += all[r].stuck;
        sum.at_limit += all[r].at_limit;
        sum.source_tokens += all[r].source_tokens;
        sum.tokens += all[r].tokens;
        if (all[r].first_long >= 0 && (sum.first_long < 0 || all[r].first_long < sum.first_long)) {
            sum.first_long = all[r].first_long;
            sum.longest = all[r].longest;
        }
        if (all[r].first_stuck >= 0 && (sum.first_stuck < 0 || all[r].first_stuck < sum.first_stuck))
            sum.first_stuck = all[r].first_stuck;
    }
    free(all);
    *counts = sum;
    return status;
}

static const char *were(int64_t lines) { return lines == 1 ? "line was" : "lines were"; }

static void report_invalid(const char *file, int64_t lines, int64_t first)
{
    if (lines > 0)
        log_warning("%s%" PRId64 " %s no valid UTF-8 or had a NUL (the first is line %" PRId64
                    "): what was wrong became U+FFFD",
                    file, lines, were(lines), first);
}

static void report_cut_bytes(const char *file, int64_t lines)
{
    if (lines > 0)
        log_warning("%s%" PRId64 " line%s had more than %d bytes: what is behind was left out", file, lines,
                    plural(lines), LINE_MOST_BYTES);
}

/* Prefixes: what was wrong in them, and those that no line of the input had. */
static Status report_prefixes(Translation *t)
{
    char *name;
    int64_t surplus = 0;
    if (t->prefixes == NULL) return OK;
    TRY(text_format(&name, "%s: ", t->options->prefix));
    report_invalid(name, t->invalid_prefix, t->first_invalid_prefix);
    report_cut_bytes(name, t->cut_prefix);
    free(name);
    if (!line_reader_ended(t->reader)) return OK; /* nobody wanted the other lines */
    for (bool got = true; got && surplus < MOST_SURPLUS; surplus += got) {
        Line line;
        TRY(line_reader_next(t->prefixes, false, &line, &got));
    }
    if (surplus > 0)
        log_warning("%s has %s%" PRId64 " line%s more than the input: nothing begins with %s",
                    t->options->prefix, line_reader_ended(t->prefixes) ? "" : "at least ", surplus,
                    plural(surplus), surplus == 1 ? "it" : "them");
    return OK;
}

static void report_lines(const Translation *t, const TranslatorCounts *counts)
{
    report_invalid("", t->invalid, t->first_invalid);
    report_cut_bytes("", t->cut_bytes);
    if (counts->cut > 0)
        log_warning("%" PRId64 " %s longer than %" PRId64 " token%s and cut (the first is line %" PRId64
                    ", with %" PRId64 " tokens): --long split translates in parts, --longest allows more",
                    counts->cut, were(counts->cut), t->longest - 1, plural(t->longest - 1),
                    counts->first_long + 1, counts->longest);
    if (counts->split > 0)
        log_warning("%" PRId64 " %s longer than %" PRId64
                    " token%s and translated in parts (the first is line %" PRId64 ", with %" PRId64
                    " tokens)",
                    counts->split, were(counts->split), t->longest - 1, plural(t->longest - 1),
                    counts->first_long + 1, counts->longest);
    if (counts->beyond > 0)
        log_warning("%" PRId64 " %s cut behind %d parts: --longest allows longer ones", counts->beyond,
                    were(counts->beyond), TRANSLATOR_MOST_PARTS);
    if (counts->stuck > 0)
        log_warning("%" PRId64 " %s left empty, as all continuations are banned (the first is line %" PRId64
                    "): --no-repeat and --min-length decide",
                    counts->stuck, were(counts->stuck), counts->first_stuck + 1);
    if (counts->at_limit > 0)
        log_warning("%" PRId64 " translation%s as long as --max-length allows", counts->at_limit,
                    counts->at_limit == 1 ? " is" : "s are");
}

Status translate(World *world, const TranslateOptions *options)
{
    Translation t = {.options = options, .world = world, .prefix_file = -1};
    TranslatorCounts counts;
    Status status;
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that has gone is an end, not an accident */
    TRY_ELSE(done, open_all(&t));
    t.terminal = isatty(STDERR_FILENO) == 1;
    t.started = t.drawn = progress_clock();
    TRY_ELSE(done, world->size == 1 ? translate_alone(&t) : translate_together(&t));
    if (t.written > 0) show_progress(&t, true);
    counts = translator_counts(t.translator);
    TRY_ELSE(done, sum_counts(world, &counts));
    if (world->rank == 0) {
        report_lines(&t, &counts);
        TRY_ELSE(done, report_prefixes(&t));
    }
done:
    close_all(&t);
    return status;
}
