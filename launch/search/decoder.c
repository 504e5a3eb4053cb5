#include "launch/search/decoder.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/device/collective.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHORTEST = 8,                /* about the least padded length of a source */
    ENCODE_PLACES_CPU = 1024,    /* padded tokens of a program that encodes */
    ENCODE_PLACES_CUDA = 8192,   /* more rows keep a GPU busy */
    DETERMINISTIC_PLACES = 512,  /* of the one size that there is then */
    DETERMINISTIC_SENTENCES = 8, /* and of steps: rows of so many sentences */
    MOST_LENGTHS = 96,           /* four for each doubling of SHORTEST */
    MOST_SIZES = 80,
    MOST_PROGRAMS = 3 * MOST_LENGTHS + 2 * MOST_SIZES
};

typedef enum { ENCODE, STEP } ProgramKind;

/* Encoding: sentences x length. A step: sentences of `each` rows. */
typedef struct {
    ProgramKind kind;
    int64_t sentences, length, each;
    Graph *graph;
    Plan *plan;
    Recording recording;
    /* Inputs of encoding: */
    Value source, source_length, slot;
    /* Inputs of a step; source_length is of all slots: */
    Value token, position, table, sentence, temperature, forced, banned_start, banned;
    /* Results of a step: */
    BestTokens best;
    Value logits;
} DecoderProgram;

struct Decoder {
    DecoderOptions options;
    SearchNetwork network;
    Device *device;
    Store *store;
    Arena *arena;
    Collective *collective;
    DecoderProgram program[MOST_PROGRAMS];
    int programs;
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

/* ---- graphs ---- */

static void name_layer(char name[64], const char *what, int64_t layer)
{
    (void)snprintf(name, 64, "%s.%lld", what, (long long)layer);
}

static int memory_rows(const DecoderOptions *options)
{
    return options->kept > 0 ? options->kept : options->slots;
}

static Value memory_state(Graph *graph, const DecoderOptions *options, int64_t layer)
{
    char name[64];
    name_layer(name, "search.memory", layer);
    return graph_transient_state(
        graph, name,
        shape_of(options->compute, 3,
                 (int64_t[]){memory_rows(options), options->most_source, 2 * options->network.width}),
        (Init){INIT_ZEROS, 0});
}

static Value cache_state(Graph *graph, const DecoderOptions *options, int64_t layer)
{
    char name[64];
    name_layer(name, "search.cache", layer);
    return graph_transient_state(graph, name,
                                 shape_of(options->compute, 3,
                                          (int64_t[]){(int64_t)options->slots * options->beam,
                                                      options->most_target, 2 * options->network.width}),
                                 (Init){INIT_ZEROS, 0});
}

static Value integers(Graph *graph, const char *name, int rank, int64_t first, int64_t second)
{
    return graph_input(graph, name, shape_of(INT32, rank, (int64_t[]){first, second}));
}

static void build_encode(const DecoderOptions *options, DecoderProgram *program)
{
    Graph *graph = program->graph;
    const Transformer *network = &options->network;
    program->source = integers(graph, "source", 2, program->sentences, program->length);
    program->source_length = integers(graph, "source_length", 1, program->sentences, 0);
    program->slot = integers(graph, "slot", 1, program->sentences, 0);
    const Value memory = transformer_encoder(graph, network, program->source, program->source_length);
    for (int64_t layer = 0; layer < network->layers; ++layer)
        graph_keep(graph, place_sequences(graph, transformer_memory(graph, network, layer, memory),
                                          memory_state(graph, options, layer), program->slot));
}

static void build_step(const DecoderOptions *options, DecoderProgram *program, Value memory[], Value cache[])
{
    Graph *graph = program->graph;
    const Transformer *network = &options->network;
    const int64_t rows = program->sentences * program->each;
    for (int64_t layer = 0; layer < network->layers; ++layer) {
        memory[layer] = memory_state(graph, options, layer);
        cache[layer] = cache_state(graph, options, layer);
    }
    program->token = integers(graph, "token", 1, rows, 0);
    program->position = integers(graph, "position", 1, rows, 0);
    program->table = integers(graph, "table", 2, rows, options->most_target);
    program->sentence = integers(graph, "sentence", 1, program->sentences, 0);
    program->source_length = integers(graph, "source_length", 1, memory_rows(options), 0);
    const TransformerStep step = {.token = program->token,
                                  .position = program->position,
                                  .table = program->table,
                                  .sentence = program->sentence,
                                  .source_length = program->source_length,
                                  .memory = memory,
                                  .cache = cache};
    program->logits = transformer_logits(graph, network, transformer_step(graph, network, &step));
    if (options->candidates == 0) {
        graph_keep(graph, program->logits);
        return;
    }
    program->temperature = graph_input(graph, "temperature", shape_of(FLOAT32, 1, (int64_t[]){1}));
    program->forced = integers(graph, "forced", 1, rows, 0);
    program->banned_start = integers(graph, "banned_start", 1, rows + 1, 0);
    program->banned = integers(graph, "banned", 1, rows * options->most_banned, 0);
    program->best = best_tokens(graph, program->logits,
                                (BestTokens){.count = options->candidates,
                                             .temperature = program->temperature,
                                             .forced = program->forced,
                                             .banned_start = program->banned_start,
                                             .banned = program->banned});
    graph_keep(graph, program->best.token);
    graph_keep(graph, program->best.logit);
    graph_keep(graph, program->best.scale);
}

static Status build(const DecoderOptions *options, DecoderProgram *program)
{
    Value *values; /* memories and caches of the layers */
    TRY(graph_create(GRAPH_EVALUATE, options->compute, &program->graph));
    if (program->kind == ENCODE) {
        build_encode(options, program);
    } else {
        TRY(memory_new(&values, 2 * (size_t)options->network.layers, sizeof *values, "layers of a decoder"));
        build_step(options, program, values, values + options->network.layers);
        free(values);
    }
    if (options->fuse) (void)graph_fuse(program->graph);
    return graph_finish(program->graph);
}

/* ---- sizes ---- */

static Status add_program(Decoder *decoder, ProgramKind kind, int64_t sentences, int64_t length, int64_t each)
{
    for (int i = 0; i < decoder->programs; ++i) {
        const DecoderProgram *other = &decoder->program[i];
        if (other->kind == kind && other->sentences == sentences && other->length == length &&
            other->each == each)
            return OK;
    }
    if (decoder->programs == MOST_PROGRAMS)
        return fail(STATUS_INTERNAL, "a decoder has more than %d programs", MOST_PROGRAMS);
    DecoderProgram *program = &decoder->program[decoder->programs++];
    *program = (DecoderProgram){.kind = kind, .sentences = sentences, .length = length, .each = each};
    return build(&decoder->options, program);
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* How far the sizes between one and its half are apart. A program on the CPU costs little, and padding is work; on a GPU each
 * is a recording, and rows that are not used cost less. */
static int eighths_apart(const Decoder *decoder, int on_gpu)
{
    return device_kind(decoder->device) == DEVICE_CPU ? 1 : on_gpu;
}

/* A full program, one of a quarter of its sentences and one of a sentence. */
static Status add_encoders_of(Decoder *decoder, int64_t length)
{
    const DecoderOptions *options = &decoder->options;
    int64_t places = device_kind(decoder->device) == DEVICE_CPU ? ENCODE_PLACES_CPU : ENCODE_PLACES_CUDA;
    if (options->deterministic) places = DETERMINISTIC_PLACES;
    const int64_t most = places / length > 1 ? places / length : 1;
    if (options->deterministic) return add_program(decoder, ENCODE, most, length, 0);
    const int64_t all = smaller(most, memory_rows(options));
    TRY(add_program(decoder, ENCODE, all, length, 0));
    TRY(add_program(decoder, ENCODE, (all + 3) / 4, length, 0));
    return add_program(decoder, ENCODE, 1, length, 0);
}

/* Lengths from the longest to its half, and so on. */
static Status add_encoders(Decoder *decoder)
{
    for (int64_t whole = decoder->options.most_source;; whole = (whole + 1) / 2) {
        for (int eighths = 8; eighths > 4; eighths -= eighths_apart(decoder, 4)) {
            const int64_t length = (whole * eighths + 7) / 8;
            TRY(add_encoders_of(decoder, length));
            if (length <= SHORTEST) return OK;
        }
    }
}

/* All slots and less of them, down to one sentence. */
static Status add_steps(Decoder *decoder)
{
    const DecoderOptions *options = &decoder->options;
    const int64_t most = options->deterministic ? DETERMINISTIC_SENTENCES : options->slots;
    for (int64_t whole = most; whole >= 1; whole /= 2) {
        for (int eighths = 8; eighths > 4; eighths -= eighths_apart(decoder, 2)) {
            const int64_t size = (whole * eighths + 7) / 8;
            TRY(add_program(decoder, STEP, size, 0, options->beam));
            TRY(add_program(decoder, STEP, size, 0, 1));
            if (options->deterministic) return OK;
        }
    }
    return OK;
}

static Status make_plans(Decoder *decoder)
{
    const Graph *graph[MOST_PROGRAMS];
    for (int i = 0; i < decoder->programs; ++i)
        graph[i] = decoder->program[i].graph;
    TRY(store_create(decoder->device, graph, decoder->programs, 0, &decoder->store));
    TRY(arena_create(decoder->device, &decoder->arena));
    TRY(collective_self(&decoder->collective));
    for (int i = 0; i < decoder->programs; ++i) {
        DecoderProgram *program = &decoder->program[i];
        TRY(plan_create(program->graph, decoder->store, decoder->arena, decoder->collective,
                        decoder->options.plan, &program->plan));
        const PlanReport report = plan_report(program->plan);
        if (report.arena_bytes > decoder->report.arena_bytes)
            decoder->report.arena_bytes = report.arena_bytes;
    }
    decoder->report.programs = decoder->programs;
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
    for (int i = 0; i < decoder->programs; ++i) {
        const DecoderProgram *program = &decoder->program[i];
        const bool encodes = program->kind == ENCODE;
        if (encodes && program->sentences > sentences) sentences = program->sentences;
        if (encodes && program->sentences * program->length > places)
            places = program->sentences * program->length;
        if (!encodes && program->sentences * program->each > rows) rows = program->sentences * program->each;
        if (!encodes && program->sentences > steps) steps = program->sentences;
    }
    const int64_t candidates = options->candidates > 0 ? options->candidates : 1;
    TRY(new_integers(&decoder->source_length, memory_rows(options)));
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
                 memories = (double)memory_rows(options) * options->most_source * position,
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
    Status status = add_encoders(decoder);
    if (status == OK) status = add_steps(decoder);
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
    for (int i = 0; i < decoder->programs; ++i) {
        device_forget(decoder->device, &decoder->program[i].recording);
        plan_free(decoder->program[i].plan);
        graph_free(decoder->program[i].graph);
    }
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

/* ---- running ---- */

static Status enqueue(void *plan) { return plan_run(plan); }

/* What cannot be recorded is slower, but no reason to stop. */
static Status run(Decoder *decoder, DecoderProgram *program)
{
    if (!decoder->options.record) return plan_run(program->plan);
    const int64_t calls = program->recording.calls;
    Status status = device_repeat(decoder->device, &program->recording, enqueue, program->plan);
    if (status == OK || calls == 0 || program->recording.implementation != NULL) return status;
    log_warning("a step of the search cannot be recorded, and runs without: %s", status_message(status));
    status_free(status);
    decoder->options.record = false;
    return plan_run(program->plan);
}

static Status upload(Decoder *decoder, DecoderProgram *program, Value input, const void *data)
{
    return device_upload(decoder->device, plan_data(program->plan, input), data,
                         shape_bytes(graph_shape(program->graph, input)));
}

static Status download(Decoder *decoder, DecoderProgram *program, Value result, void *data, int64_t rows)
{
    const Shape shape = graph_shape(program->graph, result);
    return device_download(decoder->device, data, plan_data(program->plan, result),
                           (size_t)(rows * shape_columns(shape)) * dtype_size(shape.type));
}

/* ---- encoding ---- */

/* The program for the sentences that come next: of the shortest length that holds the first, the longest of them, and of the
 * fewest sentences that hold all that are left, or else of the most. */
static DecoderProgram *choose_encoder(Decoder *decoder, int longest, int count)
{
    DecoderProgram *best = NULL;
    for (int i = 0; i < decoder->programs; ++i) {
        DecoderProgram *program = &decoder->program[i];
        if (program->kind != ENCODE || program->length < longest) continue;
        if (best == NULL || program->length < best->length) {
            best = program;
        } else if (program->length == best->length) {
            const bool fits = program->sentences >= count, best_fits = best->sentences >= count;
            if (fits && best_fits ? program->sentences < best->sentences
                                  : program->sentences > best->sentences)
                best = program;
        }
    }
    return best;
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
    TRY(upload(decoder, program, program->source, decoder->ids));
    TRY(upload(decoder, program, program->source_length, decoder->length));
    TRY(upload(decoder, program, program->slot, decoder->slot));
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
        DecoderProgram *program = choose_encoder(decoder, sorted[first]->length, count - first);
        int together = 0;
        /* In another program than their own length's sentences might get other bits. */
        while (first + together < count && together < program->sentences &&
               (!decoder->options.deterministic ||
                choose_encoder(decoder, sorted[first + together]->length, 1) == program))
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
    TRY(upload(decoder, program, program->token, decoder->token));
    TRY(upload(decoder, program, program->position, decoder->position));
    TRY(upload(decoder, program, program->table, decoder->table));
    TRY(upload(decoder, program, program->sentence, decoder->sentence));
    TRY(upload(decoder, program, program->source_length, decoder->source_length));
    if (decoder->options.candidates == 0) return OK;
    TRY(upload(decoder, program, program->temperature, &value));
    TRY(upload(decoder, program, program->forced, decoder->forced));
    TRY(upload(decoder, program, program->banned_start, decoder->banned_start));
    return upload(decoder, program, program->banned, decoder->banned);
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
        TRY(download(decoder, program, program->best.token, decoder->best_token, rows));
        TRY(download(decoder, program, program->best.logit, decoder->best_logit, rows));
        TRY(download(decoder, program, program->best.scale, decoder->scale, rows));
        TRY(device_synchronize(decoder->device));
    }
    const size_t vocabulary = (size_t)decoder->network.vocabulary;
    const char *logits = plan_data(program->plan, program->logits);
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

/* The program of the fewest sentences that hold all, or else of the most. */
static DecoderProgram *choose_step(Decoder *decoder, int64_t each, int count)
{
    DecoderProgram *best = NULL;
    for (int i = 0; i < decoder->programs; ++i) {
        DecoderProgram *program = &decoder->program[i];
        if (program->kind != STEP || program->each != each) continue;
        const bool fits = program->sentences >= count, best_fits = best != NULL && best->sentences >= count;
        if (best == NULL ||
            (fits && best_fits ? program->sentences < best->sentences : program->sentences > best->sentences))
            best = program;
    }
    return best;
}

/* All sentences that begin, or all others: program after program. */
static Status step_sentences(Decoder *decoder, SearchStep *asked, int first[], bool begin)
{
    int count = 0;
    for (int i = 0; i < asked->rows; ++i)
        if (asked->row[i].beam == 0 && (asked->row[i].position == 0) == begin) first[count++] = i;
    for (int done = 0; done < count;) {
        DecoderProgram *program = choose_step(decoder, begin ? 1 : decoder->options.beam, count - done);
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
