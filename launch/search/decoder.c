#include "launch/search/decoder.h"

#include "engine/base/memory.h"
#include "engine/device/collective.h"
#include "launch/search/decoder_programs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct Decoder {
    DecoderOptions options;
    SearchNetwork network;
    Device *device;
    Store *store;
    Arena *arena;
    Collective *collective;
    DecoderPrograms programs;
    int32_t *source_length; /* [memory_rows] */
    int32_t *memory;        /* [slots]: which row of the memories the slot's sentence has */
    int32_t *lineage;       /* [slots][beam][most_target]: which beam held each position */
    int32_t *older;         /* [beam][most_target]: of one sentence before it is rewritten */
    /* Host copies of what programs take and give: */
    int32_t *ids, *length, *slot;
    int32_t *token, *position, *table, *sentence, *forced, *banned_start, *banned;
    int32_t *best_token;
    float *best_logit, *scale;
    DecoderReport report;
};

static const int32_t unused = -1;

/* ---- options ---- */

int decoder_usual_sentences(const Device *device)
{
    enum { ON_CPU = 32, ON_GPU = 256 };
    return device_kind(device) == DEVICE_CPU ? ON_CPU : ON_GPU;
}

DecoderOptions decoder_options_of(const SearchOptions *search, int most_source, int most_target)
{
    return (DecoderOptions){.beam = search->beam,
                            .candidates = search->method == SEARCH_SAMPLE   ? 0
                                          : search->method == SEARCH_GREEDY ? 1
                                                                            : 2 * search->beam,
                            .most_source = most_source,
                            .most_target = most_target,
                            .most_banned = search_most_banned(search, most_target)};
}

/* ---- plans ---- */

static Status make_plans(Decoder *decoder)
{
    const Graph *graph[DECODER_MOST_PROGRAMS];
    DecoderPrograms *programs = &decoder->programs;
    for (int i = 0; i < programs->count; ++i)
        graph[i] = programs->program[i].planned.graph;
    TRY(store_create(decoder->device, graph, programs->count, 0, &decoder->store));
    TRY(arena_create(decoder->device, &decoder->arena));
    TRY(collective_self(&decoder->collective));
    for (int i = 0; i < programs->count; ++i) {
        PlannedGraph *planned = &programs->program[i].planned;
        TRY(plan_create(planned->graph, decoder->store, decoder->arena, decoder->collective,
                        decoder->options.plan, &planned->plan));
        const PlanReport report = plan_report(planned->plan);
        if (report.arena_bytes > decoder->report.arena_bytes)
            decoder->report.arena_bytes = report.arena_bytes;
    }
    decoder->report.programs = programs->count;
    decoder->report.packed_bytes = store_packed_bytes(decoder->store);
    for (int i = 0; i < store_count(decoder->store); ++i) {
        const StoreEntry *entry = store_at(decoder->store, i);
        *(entry->transient ? &decoder->report.cache_bytes : &decoder->report.parameter_bytes) +=
            shape_bytes(entry->shape);
    }
    return OK;
}

/* ---- opening ---- */

static Status new_integers(int32_t **out, int64_t count)
{
    return memory_new(out, (size_t)count, sizeof **out, "a decoder");
}

static Status make_room(Decoder *decoder)
{
    const DecoderOptions *options = &decoder->options;
    int64_t sentences = 0, places = 0, rows = 0, steps = 0;
    for (int i = 0; i < decoder->programs.count; ++i) {
        const DecoderProgram *program = &decoder->programs.program[i];
        const bool encodes = program->kind == DECODER_ENCODES;
        if (encodes && program->sentences > sentences) sentences = program->sentences;
        if (encodes && program->sentences * program->length > places)
            places = program->sentences * program->length;
        if (!encodes && program->sentences * program->each > rows) rows = program->sentences * program->each;
        if (!encodes && program->sentences > steps) steps = program->sentences;
    }
    const int64_t candidates = options->candidates > 0 ? options->candidates : 1;
    TRY(new_integers(&decoder->source_length, decoder_memory_rows(options)));
    TRY(new_integers(&decoder->memory, options->slots));
    TRY(new_integers(&decoder->lineage, (int64_t)options->slots * options->beam * options->most_target));
    TRY(new_integers(&decoder->older, (int64_t)options->beam * options->most_target));
    TRY(new_integers(&decoder->ids, places));
    TRY(new_integers(&decoder->length, sentences));
    TRY(new_integers(&decoder->slot, sentences));
    TRY(new_integers(&decoder->token, rows));
    TRY(new_integers(&decoder->position, rows));
    TRY(new_integers(&decoder->table, rows * options->most_target));
    TRY(new_integers(&decoder->sentence, steps));
    TRY(new_integers(&decoder->forced, rows));
    TRY(new_integers(&decoder->banned_start, rows + 1));
    TRY(new_integers(&decoder->banned, rows * options->most_banned));
    TRY(new_integers(&decoder->best_token, rows * candidates));
    TRY(memory_new(&decoder->best_logit, (size_t)(rows * candidates), sizeof *decoder->best_logit,
                   "a decoder"));
    return memory_new(&decoder->scale, (size_t)rows * 2, sizeof *decoder->scale, "a decoder");
}

static Status start(void *context, const SearchStart starts[], int count);
static Status step(void *context, SearchStep *search_step);

static Status check(const DecoderOptions *options)
{
    if (options->slots < 1 || options->beam < 1 || options->most_source < 1 || options->most_target < 1)
        return fail(STATUS_INTERNAL, "a decoder of %d sentences, beam %d, %d and %d tokens", options->slots,
                    options->beam, options->most_source, options->most_target);
    const Positions *positions = &options->network.positions;
    if (positions->kind == POSITIONS_LEARNED &&
        (options->most_source > positions->most || options->most_target > positions->most))
        return fail(
            STATUS_INPUT,
            "the network has learned %lld positions: sources of %d and targets of %d tokens have more",
            (long long)positions->most, options->most_source, options->most_target);
    return OK;
}

/* Before anything is allocated: the system would rather end the program, or another one, than say that there is no memory. */
static Status check_memory(const DecoderOptions *options, const Device *device)
{
    static const double gigabyte = 1e9;
    const double position = 2.0 * (double)options->network.width * (double)options->network.layers *
                            (double)dtype_size(options->compute);
    const double rows = (double)options->slots * options->beam;
    const double caches = rows * options->most_target * position,
                 memories = (double)decoder_memory_rows(options) * options->most_source * position,
                 tables = 2 * rows * options->most_target * sizeof(int32_t);
    const bool cpu = device_kind(device) == DEVICE_CPU;
    const double has = cpu ? (double)memory_available() : (double)device_memory(device);
    if (caches + memories + tables <= has) return OK;
    return fail(STATUS_MEMORY,
                "a search of %d sentences at a time, each with %d hypotheses of up to %d tokens and a source "
                "of up to "
                "%d, needs %.1f GB for what it keeps of them; %s %.1f GB. Fewer sentences (--batch), shorter "
                "translations (--max-length) or shorter sources (--longest) need less",
                options->slots, options->beam, options->most_target, options->most_source,
                (caches + memories + tables) / gigabyte, cpu ? "there are" : "the GPU has", has / gigabyte);
}

Status decoder_create(const DecoderOptions *options, Device *device, Decoder **out)
{
    *out = NULL;
    TRY(check(options));
    TRY(check_memory(options, device));
    Decoder *decoder;
    TRY(memory_new(&decoder, 1, sizeof *decoder, "a decoder"));
    decoder->options = *options;
    decoder->options.plan.packs = true;
    decoder->device = device;
    decoder->network = (SearchNetwork){.context = decoder,
                                       .vocabulary = options->network.vocabulary,
                                       .slots = options->slots,
                                       .most_source = options->most_source,
                                       .most_target = options->most_target,
                                       .start = start,
                                       .step = step};
    Status status = decoder_programs_build(&decoder->options, device_kind(device), &decoder->programs);
    if (status == OK) status = make_plans(decoder);
    if (status == OK) status = make_room(decoder);
    if (status != OK) {
        decoder_free(decoder);
        return status;
    }
    *out = decoder;
    return OK;
}

void decoder_free(Decoder *decoder)
{
    if (decoder == NULL) return;
    decoder_programs_free(decoder->device, &decoder->programs);
    collective_free(decoder->collective);
    arena_free(decoder->arena);
    store_free(decoder->store);
    int32_t *const arrays[] = {decoder->source_length, decoder->memory, decoder->lineage,   decoder->older,
                               decoder->ids,           decoder->length, decoder->slot,      decoder->token,
                               decoder->position,      decoder->table,  decoder->sentence,  decoder->forced,
                               decoder->banned_start,  decoder->banned, decoder->best_token};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; ++i)
        free(arrays[i]);
    free(decoder->best_logit);
    free(decoder->scale);
    free(decoder);
}

Store *decoder_store(Decoder *decoder) { return decoder->store; }

Status decoder_take_parameters(Decoder *decoder, const Store *from)
{
    for (int i = 0; i < store_count(decoder->store); ++i) {
        const StoreEntry *entry = store_at(decoder->store, i);
        if (entry->role != ROLE_PARAMETER) continue;
        const StoreEntry *other = store_find(from, entry->name);
        char text[SHAPE_TEXT];
        if (other == NULL || !shape_equal(other->shape, entry->shape))
            return fail(STATUS_INPUT, "the network has no parameter %s of %s", entry->name,
                        shape_text(entry->shape, text));
        const size_t bytes = shape_bytes(entry->shape);
        TRY(device_copy_rows(decoder->device, entry->data, bytes, other->data, bytes, bytes, 1));
    }
    store_changed(decoder->store);
    return OK;
}

const SearchNetwork *decoder_network(const Decoder *decoder) { return &decoder->network; }
DecoderReport decoder_report(const Decoder *decoder) { return decoder->report; }

/* ---- encoding ---- */

static Status run(Decoder *decoder, DecoderProgram *program)
{
    return planned_run(decoder->device, &program->planned, "a step of the search", &decoder->options.record);
}

static Status encode(Decoder *decoder, DecoderProgram *program, const SearchStart *const starts[], int count)
{
    const int64_t length = program->length;
    memset(decoder->ids, 0, (size_t)(program->sentences * length) * sizeof *decoder->ids);
    for (int64_t i = 0; i < program->sentences; ++i) {
        const SearchStart *one = i < count ? starts[i] : NULL;
        decoder->length[i] = one != NULL ? one->length : 0;
        decoder->slot[i] = one != NULL ? one->slot : unused;
        if (one == NULL) continue;
        memcpy(decoder->ids + i * length, one->source, (size_t)one->length * sizeof *decoder->ids);
        decoder->source_length[one->slot] = one->length;
        decoder->report.encoded_tokens += one->length;
    }
    decoder->report.encoded_places += program->sentences * length;
    TRY(planned_upload(decoder->device, &program->planned, program->source, decoder->ids));
    TRY(planned_upload(decoder->device, &program->planned, program->source_length, decoder->length));
    TRY(planned_upload(decoder->device, &program->planned, program->slot, decoder->slot));
    return run(decoder, program);
}

static int longest_first(const void *a, const void *b)
{
    const SearchStart *const *left = a, *const *right = b;
    if ((*left)->length != (*right)->length) return (*left)->length > (*right)->length ? -1 : 1;
    return (*left)->slot < (*right)->slot ? -1 : (*left)->slot > (*right)->slot;
}

static Status encode_all(Decoder *decoder, const SearchStart starts[], int count)
{
    const SearchStart **sorted;
    TRY(memory_new(&sorted, (size_t)count, sizeof *sorted, "sentences to encode"));
    for (int i = 0; i < count; ++i)
        sorted[i] = &starts[i];
    qsort(sorted, (size_t)count, sizeof *sorted, longest_first);
    Status status = OK;
    for (int first = 0; first < count && status == OK;) {
        DecoderProgram *program =
            decoder_choose_encoder(&decoder->programs, sorted[first]->length, count - first);
        int together = 0;
        /* In another program than their own length's sentences might get other bits. */
        while (first + together < count && together < program->sentences &&
               (!decoder->options.deterministic ||
                decoder_choose_encoder(&decoder->programs, sorted[first + together]->length, 1) == program))
            ++together;
        status = encode(decoder, program, sorted + first, together);
        first += together;
    }
    free(sorted);
    return status;
}

Status decoder_encode(Decoder *decoder, const SearchStart starts[], int count)
{
    for (int i = 0; i < count; ++i)
        if (starts[i].slot < 0 || starts[i].slot >= decoder->options.kept ||
            starts[i].length > decoder->options.most_source)
            return fail(STATUS_INTERNAL, "a decoder keeps %d sentences of %d tokens: %d has %d",
                        decoder->options.kept, decoder->options.most_source, starts[i].slot,
                        starts[i].length);
    return encode_all(decoder, starts, count);
}

static Status start(void *context, const SearchStart starts[], int count)
{
    Decoder *decoder = context;
    const int kept = decoder->options.kept;
    for (int i = 0; i < count; ++i) {
        const SearchStart *one = &starts[i];
        decoder->memory[one->slot] = kept > 0 ? (int32_t)one->number : one->slot;
        if (kept > 0 &&
            (one->number < 0 || one->number >= kept || decoder->source_length[one->number] != one->length))
            return fail(STATUS_INTERNAL, "sentence %lld of a search was not encoded", (long long)one->number);
    }
    return kept > 0 ? OK : encode_all(decoder, starts, count);
}

/* ---- steps ---- */

/* Where each hypothesis of a sentence has its positions, from where its parents had them. */
static void follow_parents(Decoder *decoder, const SearchRow rows[], int count)
{
    const size_t most = (size_t)decoder->options.most_target;
    int32_t *lineage = decoder->lineage + (size_t)rows[0].slot * (size_t)decoder->options.beam * most;
    const size_t known = (size_t)rows[0].position;
    if (known > 0) memcpy(decoder->older, lineage, (size_t)decoder->options.beam * most * sizeof *lineage);
    for (int i = 0; i < count; ++i) {
        memcpy(lineage + (size_t)i * most, decoder->older + (size_t)rows[i].parent * most,
               known * sizeof *lineage);
        lineage[(size_t)i * most + known] = i;
    }
}

/* Puts a row of the search, NULL: none, into row `at` of a program. */
static void fill_row(Decoder *decoder, const SearchStep *asked, const SearchRow *row, int64_t at)
{
    const int64_t most = decoder->options.most_target;
    decoder->token[at] = row != NULL ? row->token : 0;
    decoder->position[at] = row != NULL ? row->position : unused;
    decoder->forced[at] = row != NULL ? row->forced : unused;
    decoder->banned_start[at + 1] = decoder->banned_start[at];
    int32_t *table = decoder->table + at * most;
    if (row == NULL) return;
    const int32_t beam = decoder->options.beam,
                  *lineage = decoder->lineage + ((int64_t)row->slot * beam + row->beam) * most;
    for (int32_t s = 0; s <= row->position; ++s)
        table[s] = row->slot * beam + lineage[s];
    if (row->banned_count > 0)
        memcpy(decoder->banned + decoder->banned_start[at], asked->banned + row->banned,
               (size_t)row->banned_count * sizeof *decoder->banned);
    decoder->banned_start[at + 1] += row->banned_count;
}

static Status upload_step(Decoder *decoder, DecoderProgram *program, double temperature)
{
    const float value = (float)temperature;
    TRY(planned_upload(decoder->device, &program->planned, program->token, decoder->token));
    TRY(planned_upload(decoder->device, &program->planned, program->position, decoder->position));
    TRY(planned_upload(decoder->device, &program->planned, program->table, decoder->table));
    TRY(planned_upload(decoder->device, &program->planned, program->sentence, decoder->sentence));
    TRY(planned_upload(decoder->device, &program->planned, program->source_length, decoder->source_length));
    if (decoder->options.candidates == 0) return OK;
    TRY(planned_upload(decoder->device, &program->planned, program->temperature, &value));
    TRY(planned_upload(decoder->device, &program->planned, program->forced, decoder->forced));
    TRY(planned_upload(decoder->device, &program->planned, program->banned_start, decoder->banned_start));
    return planned_upload(decoder->device, &program->planned, program->banned, decoder->banned);
}

static Status give_best(const Decoder *decoder, SearchStep *asked, int64_t from, int64_t to)
{
    const int64_t count = decoder->options.candidates;
    const double greatest = (double)decoder->scale[2 * from], total = (double)decoder->scale[2 * from + 1];
    if (!(total > 0) || isinf(total)) {
        asked->failed = (int)to;
        return fail(STATUS_NUMERIC, "the network's logits are no numbers (their greatest is %g)", greatest);
    }
    for (int64_t i = 0; i < asked->candidates; ++i) {
        const int64_t at = from * count + i;
        asked->token[to * asked->candidates + i] = decoder->best_token[at];
        asked->log_probability[to * asked->candidates + i] =
            decoder->best_token[at] >= 0
                ? ((double)decoder->best_logit[at] - greatest) / asked->temperature - log(total)
                : -INFINITY;
    }
    return OK;
}

/* Rows of the search that are a step of one program: those of `count` sentences, first[i] the first row of each. */
static Status run_step(Decoder *decoder, DecoderProgram *program, SearchStep *asked, const int first[],
                       int count)
{
    const int64_t each = program->each, rows = program->sentences * each;
    decoder->banned_start[0] = 0;
    for (int64_t s = 0; s < program->sentences; ++s) {
        const SearchRow *row = s < count ? &asked->row[first[s]] : NULL;
        decoder->sentence[s] = row != NULL ? decoder->memory[row->slot] : unused;
        for (int64_t i = 0; i < each; ++i) {
            const bool live =
                row != NULL && first[s] + i < asked->rows && row[i].slot == row->slot && row[i].beam == i;
            fill_row(decoder, asked, live ? &row[i] : NULL, s * each + i);
            decoder->report.step_rows += live;
        }
    }
    decoder->report.step_places += rows;
    TRY(upload_step(decoder, program, asked->temperature));
    TRY(run(decoder, program));
    if (decoder->options.candidates > 0) {
        TRY(planned_download(decoder->device, &program->planned, program->best.token, decoder->best_token,
                             rows));
        TRY(planned_download(decoder->device, &program->planned, program->best.logit, decoder->best_logit,
                             rows));
        TRY(planned_download(decoder->device, &program->planned, program->best.scale, decoder->scale, rows));
        TRY(device_synchronize(decoder->device));
    }
    const size_t vocabulary = (size_t)decoder->network.vocabulary;
    const char *logits = plan_data(program->planned.plan, program->logits);
    for (int64_t s = 0; s < count; ++s)
        for (int64_t i = 0; i < each && first[s] + i < asked->rows; ++i) {
            const SearchRow *row = &asked->row[first[s] + i];
            if (row->slot != asked->row[first[s]].slot) break;
            if (decoder->options.candidates > 0)
                TRY(give_best(decoder, asked, s * each + i, first[s] + i));
            else
                TRY(device_download(decoder->device, asked->logits + (size_t)(first[s] + i) * vocabulary,
                                    logits + (size_t)(s * each + i) * vocabulary * sizeof(float),
                                    vocabulary * sizeof(float)));
        }
    return decoder->options.candidates > 0 ? OK : device_synchronize(decoder->device);
}

/* All sentences that begin, or all others: program after program. */
static Status step_sentences(Decoder *decoder, SearchStep *asked, int first[], bool begin)
{
    int count = 0;
    for (int i = 0; i < asked->rows; ++i)
        if (asked->row[i].beam == 0 && (asked->row[i].position == 0) == begin) first[count++] = i;
    for (int done = 0; done < count;) {
        DecoderProgram *program =
            decoder_choose_step(&decoder->programs, begin ? 1 : decoder->options.beam, count - done);
        const int together = count - done < program->sentences ? count - done : (int)program->sentences;
        TRY(run_step(decoder, program, asked, first + done, together));
        done += together;
    }
    return OK;
}

static Status step(void *context, SearchStep *asked)
{
    Decoder *decoder = context;
    if ((asked->logits != NULL) != (decoder->options.candidates == 0) ||
        asked->candidates > (asked->logits != NULL ? asked->candidates : decoder->options.candidates))
        return fail(STATUS_INTERNAL, "the decoder gives %d candidates of a row, and %d are asked for",
                    decoder->options.candidates, asked->candidates);
    int *first;
    TRY(memory_new(&first, (size_t)asked->rows, sizeof *first, "a step"));
    for (int i = 0, count; i < asked->rows; i += count) {
        for (count = 1; i + count < asked->rows && asked->row[i + count].slot == asked->row[i].slot;)
            ++count;
        follow_parents(decoder, asked->row + i, count);
    }
    Status status = step_sentences(decoder, asked, first, true);
    if (status == OK) status = step_sentences(decoder, asked, first, false);
    free(first);
    return status;
}
