/* Training steps of a Transformer, timed: forward, label smoothing, backward, Adam. Prints one JSON object.
 * perf/train_transformer_peer.py does the same work in PyTorch.
 *
 *     train_transformer [--batches FILE] [--sentences 128] [--source 16] [--target 16] [--vocabulary 10000] [--width 512]
 *                       [--inner 2048] [--heads 8] [--layers 6] [--steps 5] [--warmup 1] [--threads 0] [--bfloat16]
 *                       [--pre-norm] [--profile]
 *
 * FILE has a pair of sentences a line: the ids of the source, a TAB, those of the target, both with the end token; an empty
 * line ends a batch. A step is timed `steps` times for each batch, each padded to its longest sentences, and tokens a second
 * are all batches' target tokens over the sum of their medians, or of the best. Padding counts for nothing.
 *
 * Without FILE one batch of random ids: all sentences but every fourth are as long as the batch; those are two shorter.
 * Dropout 0.1, as published. */
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/plan.h"
#include "launch/options.h"
#include "losses/loss_head.h"
#include "models/transformer.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_BATCHES = 64, END = 2 };

typedef struct {
    const char *batches;
    int64_t sentences, source, target, vocabulary, width, inner, heads, layers, steps, warmup, threads;
    bool bfloat16, pre_norm, profile;
} Options;

/* What the inputs are filled with anew each step. */
typedef struct {
    int64_t sentences, source, target; /* the last two: positions */
    int32_t *source_ids, *length, *target_ids, *label;
    float *weight;
    double tokens;
} Batch;

/* The network for one batch. */
typedef struct {
    Batch batch;
    Graph *graph;
    Plan *plan;
    Value source, length, target, label, weight, clock, sums;
    double *seconds; /* of each timed step */
} Program;

typedef struct {
    Device *device;
    Collective *collective;
    Arena *arena;
    Store *store;
    Optimizer *optimizer;
    Program program[MOST_BATCHES];
    int programs;
    double processor_seconds; /* of all timed steps */
    int fused;
} Training;

static double clock_seconds(clockid_t id)
{
    struct timespec time;
    (void)clock_gettime(id, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static Status parse(int argc, char **argv, Options *o)
{
    enum { MANY = 1 << 24 };
    const Option table[] = {{"batches", "a file", .text = &o->batches},
                            {"sentences", .number = &o->sentences, .low = 1, .high = MANY},
                            {"source", .number = &o->source, .low = 3, .high = MANY},
                            {"target", .number = &o->target, .low = 3, .high = MANY},
                            {"vocabulary", .number = &o->vocabulary, .low = 5, .high = MANY},
                            {"width", .number = &o->width, .low = 1, .high = MANY},
                            {"inner", .number = &o->inner, .low = 1, .high = MANY},
                            {"heads", .number = &o->heads, .low = 1, .high = MANY},
                            {"layers", .number = &o->layers, .low = 1, .high = MANY},
                            {"steps", .number = &o->steps, .low = 1, .high = MANY},
                            {"warmup", .number = &o->warmup, .low = 0, .high = MANY},
                            {"threads", .number = &o->threads, .low = 0, .high = 1024},
                            {"bfloat16", .flag = &o->bfloat16},
                            {"pre-norm", .flag = &o->pre_norm},
                            {"profile", .flag = &o->profile}};
    const char **words;
    int count = 0;
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "words"));
    Status status = options_parse(table, sizeof table / sizeof *table, argc, argv, words, &count);
    if (status == OK && count > 0)
        status = fail(STATUS_USAGE, "train_transformer takes options only, not %s", words[0]);
    free(words);
    return status;
}

/* ---- batches ---- */

static Status batch_create(int64_t sentences, int64_t source, int64_t target, Batch *b)
{
    *b = (Batch){.sentences = sentences, .source = source, .target = target};
    const size_t n = (size_t)sentences;
    TRY(memory_new(&b->source_ids, n * (size_t)source, sizeof *b->source_ids, "ids"));
    TRY(memory_new(&b->length, n, sizeof *b->length, "lengths"));
    TRY(memory_new(&b->target_ids, n * (size_t)target, sizeof *b->target_ids, "ids"));
    TRY(memory_new(&b->label, n * (size_t)target, sizeof *b->label, "ids"));
    return memory_new(&b->weight, n * (size_t)target, sizeof *b->weight, "weights");
}

static void batch_free(Batch *b)
{
    free(b->source_ids);
    free(b->length);
    free(b->target_ids);
    free(b->label);
    free(b->weight);
}

/* Sentence `s` from its ids. The decoder reads the start token, then the labels, one later. */
static void batch_set(Batch *b, int64_t s, const int32_t source[], int64_t source_tokens,
                      const int32_t target[], int64_t target_tokens)
{
    enum { START = 1 };
    memcpy(b->source_ids + s * b->source, source, (size_t)source_tokens * sizeof *source);
    b->length[s] = (int32_t)source_tokens;
    for (int64_t p = 0; p < target_tokens; ++p) {
        const int64_t at = s * b->target + p;
        b->label[at] = target[p];
        b->target_ids[at] = p == 0 ? START : target[p - 1];
        b->weight[at] = 1;
    }
    b->tokens += (double)target_tokens;
}

static void random_sentence(RandomStream *random, int64_t vocabulary, int32_t ids[], int64_t tokens)
{
    for (int64_t p = 0; p < tokens; ++p)
        ids[p] = p == tokens - 1 ? END : 4 + (int32_t)random_below(random, (uint64_t)vocabulary - 4);
}

static Status make_random(Training *t, const Options *o)
{
    Batch *b = &t->program[0].batch;
    int32_t *ids;
    t->programs = 1;
    TRY(batch_create(o->sentences, o->source, o->target, b));
    TRY(memory_new(&ids, (size_t)(o->source + o->target), sizeof *ids, "ids"));
    RandomStream random = random_stream(1, RANDOM_TEST, 0);
    for (int64_t s = 0; s < b->sentences; ++s) {
        const int64_t shorter = s % 4 == 3 ? 2 : 0, source = o->source - shorter,
                      target = o->target - shorter;
        random_sentence(&random, o->vocabulary, ids, source);
        random_sentence(&random, o->vocabulary, ids + source, target);
        batch_set(b, s, ids, source, ids + source, target);
    }
    free(ids);
    return OK;
}

/* The ids of a file's batches, one behind the other. */
typedef struct {
    int32_t *ids;
    int64_t *start; /* of sentences: source, target, source, ...; and one behind the last */
    int64_t pairs;
    int64_t first[MOST_BATCHES + 1]; /* pair of a batch; and one behind the last */
    int batches;
} Corpus;

/* The ids of a line's half, up to `until`; at: where the next one goes. */
static Status read_ids(const Options *o, int64_t line, char **text, char until, int32_t *ids, int64_t *at)
{
    const int64_t first = *at;
    while (**text != until) {
        char *end;
        const long long id = strtoll(*text, &end, 10);
        if (end == *text || id < 0 || id >= o->vocabulary)
            return fail(
                STATUS_INPUT,
                "%s, line %lld: a pair is ids of the source, a TAB and ids of the target, all below %lld",
                o->batches, (long long)line, (long long)o->vocabulary);
        ids[(*at)++] = (int32_t)id;
        for (*text = end; **text == ' ';)
            ++*text;
    }
    if (*at == first) return fail(STATUS_INPUT, "%s, line %lld: no ids", o->batches, (long long)line);
    ++*text;
    return OK;
}

static Status parse_corpus(const Options *o, char *text, Corpus *c)
{
    int64_t at = 0;
    for (int64_t line = 1; *text != '\0'; ++line) {
        if (*text == '\n') {
            ++text;
            if (c->pairs > c->first[c->batches]) c->first[++c->batches] = c->pairs;
            continue;
        }
        if (c->batches >= MOST_BATCHES)
            return fail(STATUS_INPUT, "%s: more than %d batches", o->batches, MOST_BATCHES);
        c->start[2 * c->pairs] = at;
        TRY(read_ids(o, line, &text, '\t', c->ids, &at));
        c->start[2 * c->pairs + 1] = at;
        TRY(read_ids(o, line, &text, '\n', c->ids, &at));
        c->start[2 * ++c->pairs] = at;
    }
    if (c->pairs > c->first[c->batches]) c->first[++c->batches] = c->pairs;
    return c->batches > 0 ? OK : fail(STATUS_INPUT, "%s holds no pair of sentences", o->batches);
}

static Status make_batch(const Corpus *c, int index, Batch *b)
{
    int64_t most[2] = {0, 0};
    for (int64_t i = 2 * c->first[index]; i < 2 * c->first[index + 1]; ++i)
        if (c->start[i + 1] - c->start[i] > most[i % 2]) most[i % 2] = c->start[i + 1] - c->start[i];
    TRY(batch_create(c->first[index + 1] - c->first[index], most[0], most[1], b));
    for (int64_t s = 0; s < b->sentences; ++s) {
        const int64_t *start = c->start + 2 * (c->first[index] + s);
        batch_set(b, s, c->ids + start[0], start[1] - start[0], c->ids + start[1], start[2] - start[1]);
    }
    return OK;
}

static Status read_batches(Training *t, const Options *o)
{
    enum { LIMIT = 64 << 20 };
    char *text = NULL;
    size_t bytes;
    Corpus corpus = {.ids = NULL};
    Status status;
    TRY(file_read(o->batches, LIMIT, &text, &bytes));
    TRY_ELSE(done, memory_new(&corpus.ids, bytes + 1, sizeof *corpus.ids, "ids"));
    TRY_ELSE(done, memory_new(&corpus.start, bytes + 2, sizeof *corpus.start, "sentences"));
    TRY_ELSE(done, parse_corpus(o, text, &corpus));
    t->programs = corpus.batches;
    for (int i = 0; i < corpus.batches; ++i)
        TRY_ELSE(done, make_batch(&corpus, i, &t->program[i].batch));
done:
    free(corpus.ids);
    free(corpus.start);
    free(text);
    return status;
}

/* ---- training ---- */

static Status build(Training *t, Program *p, const Options *o)
{
    const Batch *b = &p->batch;
    const int64_t n = b->sentences, rows = n * b->target;
    const Transformer network = {.vocabulary = o->vocabulary,
                                 .width = o->width,
                                 .feed_forward_width = o->inner,
                                 .heads = o->heads,
                                 .layers = o->layers,
                                 .pre_norm = o->pre_norm,
                                 .attention_bias = true,
                                 .dropout = 0.1};
    TRY(graph_create(GRAPH_TRAIN, o->bfloat16 ? BFLOAT16 : FLOAT32, &p->graph));
    Graph *graph = p->graph;
    p->source = graph_input(graph, "source", shape_of(INT32, 2, (int64_t[]){n, b->source}));
    p->length = graph_input(graph, "source_length", shape_of(INT32, 1, &n));
    p->target = graph_input(graph, "target_input", shape_of(INT32, 2, (int64_t[]){n, b->target}));
    p->label = graph_input(graph, "target", shape_of(INT32, 1, &rows));
    p->weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, &rows));
    p->clock = graph_clock(graph);
    const Value memory = transformer_encoder(graph, &network, p->source, p->length);
    const Value hidden = transformer_decoder(graph, &network, memory, p->length, p->target);
    p->sums = loss_head(graph, transformer_logits(graph, &network, hidden), p->label, p->weight,
                        &(LossHead){.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.1});
    graph_keep(graph, p->sums);
    t->fused = graph_fuse(graph);
    graph_differentiate(graph, p->sums);
    return graph_finish(graph);
}

static Status prepare(Training *t, const Options *o)
{
    const Graph *graphs[MOST_BATCHES];
    TRY(device_open(DEVICE_CPU, 0, o->threads > 0 ? (int)o->threads : omp_get_max_threads(), &t->device));
    TRY(collective_self(&t->collective));
    TRY(arena_create(t->device, &t->arena));
    TRY(o->batches != NULL ? read_batches(t, o) : make_random(t, o));
    for (int i = 0; i < t->programs; ++i) {
        TRY(build(t, &t->program[i], o));
        graphs[i] = t->program[i].graph;
    }
    TRY(store_create(t->device, graphs, t->programs, 1, &t->store));
    for (int i = t->programs - 1; i >= 0; --i) { /* the largest first: the last in a sorted file */
        Program *p = &t->program[i];
        TRY(memory_new(&p->seconds, (size_t)o->steps, sizeof *p->seconds, "times"));
        TRY(plan_create(p->graph, t->store, t->arena, t->collective,
                        (PlanOptions){.share_memory = true, .profile = o->profile}, &p->plan));
    }
    return optimizer_create(t->store,
                            (OptimizerOptions){.name = "adam", .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-9},
                            &t->optimizer);
}

static void fill(const Program *p, Value value, const void *from)
{
    memcpy(plan_data(p->plan, value), from, shape_bytes(graph_shape(p->graph, value)));
}

static Status step(Training *t, const Program *p, int64_t index, double *loss)
{
    fill(p, p->source, p->batch.source_ids);
    fill(p, p->length, p->batch.length);
    fill(p, p->target, p->batch.target_ids);
    fill(p, p->label, p->batch.label);
    fill(p, p->weight, p->batch.weight);
    fill(p, p->clock, (int64_t[CLOCK_COUNT]){[CLOCK_STEP] = index});
    TRY(plan_run(p->plan));
    *loss = ((const double *)plan_data(p->plan, p->sums))[LOSS_SUM] / p->batch.tokens;
    TRY(optimizer_set(t->optimizer, index + 1, 1e-4, 1 / p->batch.tokens));
    return optimizer_step(t->optimizer);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The profiles of all programs, which have the same operations in the same order. */
static void report_profile(Training *t, const Options *o)
{
    const ProfileRow *rows;
    const int count = plan_profile(t->program[0].plan, &rows);
    for (int i = 0; i < count; ++i) {
        double seconds = 0, flops = 0;
        for (int k = 0; k < t->programs; ++k) {
            (void)plan_profile(t->program[k].plan, &rows);
            seconds += rows[i].seconds;
            flops += rows[i].flops;
        }
        (void)plan_profile(t->program[0].plan, &rows);
        printf("%s{\"op\": \"%s\", \"phase\": \"%s\", \"nodes\": %d, \"milliseconds\": %.3f, "
               "\"gflops_per_second\": %.1f}",
               i == 0 ? ",\n\"profile\": [" : ",\n ", rows[i].op,
               rows[i].phase == PHASE_FORWARD ? "forward" : "backward", rows[i].nodes,
               1e3 * seconds / (double)(o->steps + o->warmup), 1e-9 * flops / seconds);
    }
    if (count > 0) printf("]");
}

static void report(Training *t, const Options *o, double loss)
{
    double tokens = 0, median = 0, best = 0;
    size_t arena = 0;
    for (int i = 0; i < t->programs; ++i) {
        const Program *p = &t->program[i];
        const PlanReport made = plan_report(p->plan);
        qsort(p->seconds, (size_t)o->steps, sizeof *p->seconds, by_size);
        tokens += p->batch.tokens;
        median += p->seconds[o->steps / 2];
        best += p->seconds[0];
        if (made.arena_bytes > arena) arena = made.arena_bytes;
    }
    printf(
        "{\"program\": \"plumb\", \"threads\": %d, \"compute\": \"%s\", \"batches\": %d, \"tokens\": %.0f, "
        "\"fused\": %d, \"arena_mib\": %.1f, \"median_target_tokens_per_second\": %.1f, "
        "\"best_target_tokens_per_second\": %.1f, \"target_tokens_per_processor_second\": %.1f, "
        "\"loss\": %.4f",
        device_threads(t->device), o->bfloat16 ? "bfloat16" : "float32", t->programs, tokens, t->fused,
        (double)arena / (1 << 20), tokens / median, tokens / best,
        tokens * (double)o->steps / t->processor_seconds, loss);
    report_profile(t, o);
    printf("}\n");
}

static Status run(Training *t, const Options *o)
{
    double loss = 0;
    int64_t index = 0;
    for (int64_t pass = -o->warmup; pass < o->steps; ++pass)
        for (int i = 0; i < t->programs; ++i) {
            Program *p = &t->program[i];
            const double start = clock_seconds(CLOCK_MONOTONIC),
                         processor = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
            TRY(step(t, p, index++, &loss));
            if (pass < 0) continue;
            p->seconds[pass] = clock_seconds(CLOCK_MONOTONIC) - start;
            t->processor_seconds += clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - processor;
        }
    report(t, o, loss);
    return OK;
}

int main(int argc, char **argv)
{
    Options options = {.sentences = 128,
                       .source = 16,
                       .target = 16,
                       .vocabulary = 10000,
                       .width = 512,
                       .inner = 2048,
                       .heads = 8,
                       .layers = 6,
                       .steps = 5,
                       .warmup = 1};
    static Training t;
    Status status;
    TRY_ELSE(done, parse(argc, argv, &options));
    TRY_ELSE(done, prepare(&t, &options));
    TRY_ELSE(done, run(&t, &options));
done:
    optimizer_free(t.optimizer);
    for (int i = 0; i < MOST_BATCHES; ++i)
        plan_free(t.program[i].plan);
    store_free(t.store);
    arena_free(t.arena);
    for (int i = 0; i < MOST_BATCHES; ++i) {
        graph_free(t.program[i].graph);
        batch_free(&t.program[i].batch);
        free(t.program[i].seconds);
    }
    collective_free(t.collective);
    device_close(t.device);
    if (status == OK) return 0;
    (void)fprintf(stderr, "train_transformer: %s\n", status_message(status));
    const int code = status_code(status);
    status_free(status);
    return code;
}
