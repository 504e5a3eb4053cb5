#include "launch/search/decoder_programs.h"

#include "engine/base/memory.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SHORTEST = 8,                /* about the least padded length of a source */
    ENCODE_PLACES_CPU = 1024,    /* padded tokens of a program that encodes */
    ENCODE_PLACES_CUDA = 8192,   /* more rows keep a GPU busy */
    DETERMINISTIC_PLACES = 512,  /* of the one size that there is then */
    DETERMINISTIC_SENTENCES = 8, /* and of steps: rows of so many sentences */
};

/* What programs are made of and for. */
typedef struct {
    const DecoderOptions *options;
    DeviceKind kind;
    DecoderPrograms *programs;
} Builder;

/* ---- graphs ---- */

static void name_layer(char name[64], const char *what, int64_t layer)
{
    (void)snprintf(name, 64, "%s.%lld", what, (long long)layer);
}

int decoder_memory_rows(const DecoderOptions *options)
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
                 (int64_t[]){decoder_memory_rows(options), options->most_source, 2 * options->network.width}),
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

static void build_encode(const DecoderOptions *options, DecoderProgram *program)
{
    Graph *graph = program->planned.graph;
    const Transformer *network = &options->network;
    program->source = planned_integers(graph, "source", 2, program->sentences, program->length);
    program->source_length = planned_integers(graph, "source_length", 1, program->sentences, 0);
    program->slot = planned_integers(graph, "slot", 1, program->sentences, 0);
    const Value memory = transformer_encoder(graph, network, program->source, program->source_length);
    for (int64_t layer = 0; layer < network->layers; ++layer)
        graph_keep(graph,
                   place_sequences(graph,
                                   transformer_memory(graph, network, layer, memory, program->source_length),
                                   memory_state(graph, options, layer), program->slot));
}

static void build_step(const DecoderOptions *options, DecoderProgram *program, Value memory[], Value cache[])
{
    Graph *graph = program->planned.graph;
    const Transformer *network = &options->network;
    const int64_t rows = program->sentences * program->each;
    for (int64_t layer = 0; layer < network->layers; ++layer) {
        memory[layer] = memory_state(graph, options, layer);
        cache[layer] = cache_state(graph, options, layer);
    }
    program->token = planned_integers(graph, "token", 1, rows, 0);
    program->position = planned_integers(graph, "position", 1, rows, 0);
    program->table = planned_integers(graph, "table", 2, rows, options->most_target);
    program->sentence = planned_integers(graph, "sentence", 1, program->sentences, 0);
    program->source_length = planned_integers(graph, "source_length", 1, decoder_memory_rows(options), 0);
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
    program->forced = planned_integers(graph, "forced", 1, rows, 0);
    program->banned_start = planned_integers(graph, "banned_start", 1, rows + 1, 0);
    program->banned = planned_integers(graph, "banned", 1, rows * options->most_banned, 0);
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
    TRY(graph_create(GRAPH_EVALUATE, options->compute, &program->planned.graph));
    if (program->kind == DECODER_ENCODES) {
        build_encode(options, program);
    } else {
        TRY(memory_new(&values, 2 * (size_t)options->network.layers, sizeof *values, "layers of a decoder"));
        build_step(options, program, values, values + options->network.layers);
        free(values);
    }
    if (options->fuse) (void)graph_fuse(program->planned.graph);
    return graph_finish(program->planned.graph);
}

/* ---- sizes ---- */

static Status add_program(const Builder *builder, DecoderProgramKind kind, int64_t sentences, int64_t length,
                          int64_t each)
{
    DecoderPrograms *all = builder->programs;
    for (int i = 0; i < all->count; ++i) {
        const DecoderProgram *other = &all->program[i];
        if (other->kind == kind && other->sentences == sentences && other->length == length &&
            other->each == each)
            return OK;
    }
    if (all->count == DECODER_MOST_PROGRAMS)
        return fail(STATUS_INTERNAL, "a decoder has more than %d programs", DECODER_MOST_PROGRAMS);
    DecoderProgram *program = &all->program[all->count++];
    *program = (DecoderProgram){.kind = kind, .sentences = sentences, .length = length, .each = each};
    return build(builder->options, program);
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* How far the sizes between one and its half are apart. A program on the CPU costs little, and padding is work; on a GPU each
 * is a recording, and rows that are not used cost less. */
static int eighths_apart(const Builder *builder, int on_gpu)
{
    return builder->kind == DEVICE_CPU ? 1 : on_gpu;
}

/* A full program, one of a quarter of its sentences and one of a sentence. */
static Status add_encoders_of(const Builder *builder, int64_t length)
{
    const DecoderOptions *options = builder->options;
    int64_t places = builder->kind == DEVICE_CPU ? ENCODE_PLACES_CPU : ENCODE_PLACES_CUDA;
    if (options->deterministic) places = DETERMINISTIC_PLACES;
    const int64_t most = places / length > 1 ? places / length : 1;
    if (options->deterministic) return add_program(builder, DECODER_ENCODES, most, length, 0);
    const int64_t all = smaller(most, decoder_memory_rows(options));
    TRY(add_program(builder, DECODER_ENCODES, all, length, 0));
    TRY(add_program(builder, DECODER_ENCODES, (all + 3) / 4, length, 0));
    return add_program(builder, DECODER_ENCODES, 1, length, 0);
}

/* Lengths from the longest to its half, and so on. */
static Status add_encoders(const Builder *builder)
{
    for (int64_t whole = builder->options->most_source;; whole = (whole + 1) / 2) {
        for (int eighths = 8; eighths > 4; eighths -= eighths_apart(builder, 4)) {
            const int64_t length = (whole * eighths + 7) / 8;
            TRY(add_encoders_of(builder, length));
            if (length <= SHORTEST) return OK;
        }
    }
}

/* All slots and less of them, down to one sentence. */
static Status add_steps(const Builder *builder)
{
    const DecoderOptions *options = builder->options;
    const int64_t most = options->deterministic ? DETERMINISTIC_SENTENCES : options->slots;
    for (int64_t whole = most; whole >= 1; whole /= 2) {
        for (int eighths = 8; eighths > 4; eighths -= eighths_apart(builder, 2)) {
            const int64_t size = (whole * eighths + 7) / 8;
            TRY(add_program(builder, DECODER_STEPS, size, 0, options->beam));
            TRY(add_program(builder, DECODER_STEPS, size, 0, 1));
            if (options->deterministic) return OK;
        }
    }
    return OK;
}

Status decoder_programs_build(const DecoderOptions *options, DeviceKind kind, DecoderPrograms *all)
{
    const Builder builder = {options, kind, all};
    TRY(add_encoders(&builder));
    return add_steps(&builder);
}

void decoder_programs_free(Device *device, DecoderPrograms *all)
{
    for (int i = 0; i < all->count; ++i)
        planned_free(device, &all->program[i].planned);
}

/* ---- choosing ---- */

DecoderProgram *decoder_choose_encoder(DecoderPrograms *all, int longest, int count)
{
    DecoderProgram *best = NULL;
    for (int i = 0; i < all->count; ++i) {
        DecoderProgram *program = &all->program[i];
        if (program->kind != DECODER_ENCODES || program->length < longest) continue;
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

DecoderProgram *decoder_choose_step(DecoderPrograms *all, int64_t each, int count)
{
    DecoderProgram *best = NULL;
    for (int i = 0; i < all->count; ++i) {
        DecoderProgram *program = &all->program[i];
        if (program->kind != DECODER_STEPS || program->each != each) continue;
        const bool fits = program->sentences >= count, best_fits = best != NULL && best->sentences >= count;
        if (best == NULL ||
            (fits && best_fits ? program->sentences < best->sentences : program->sentences > best->sentences))
            best = program;
    }
    return best;
}
