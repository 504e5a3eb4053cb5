/* Training steps of a Transformer, timed: forward, label smoothing, backward, Adam. Prints one JSON object.
 *
 *     train_transformer [--sentences 128] [--source 16] [--target 16] [--vocabulary 10000] [--width 512] [--inner 2048]
 *                       [--heads 8] [--layers 6] [--steps 5] [--warmup 1] [--threads 0] [--bfloat16] [--pre-norm] [--profile]
 *
 * Sentences are random ids, all but every fourth as long as the batch; those are two shorter. Dropout 0.1, as published. */
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/plan.h"
#include "losses/loss_head.h"
#include "models/transformer.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    int64_t sentences, source, target, vocabulary, width, inner, heads, layers, steps, warmup, threads;
    bool bfloat16, pre_norm, profile;
} Options;

typedef struct {
    Device *device;
    Collective *collective;
    Arena *arena;
    Graph *graph;
    Store *store;
    Plan *plan;
    Optimizer *optimizer;
    Value source, length, target, label, weight, clock, sums;
    int32_t *ids; /* sources, lengths, targets, labels: what the inputs are filled with anew each step */
    float *weights;
    double tokens;
    int fused;
} Training;

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static Status parse(int argc, char **argv, Options *o)
{
    const struct {
        const char *name;
        int64_t *value;
    } numbers[] = {{"--sentences", &o->sentences},   {"--source", &o->source},  {"--target", &o->target},
                   {"--vocabulary", &o->vocabulary}, {"--width", &o->width},    {"--inner", &o->inner},
                   {"--heads", &o->heads},           {"--layers", &o->layers},  {"--steps", &o->steps},
                   {"--warmup", &o->warmup},         {"--threads", &o->threads}};
    const struct {
        const char *name;
        bool *value;
    } flags[] = {{"--bfloat16", &o->bfloat16}, {"--pre-norm", &o->pre_norm}, {"--profile", &o->profile}};
    for (int i = 1; i < argc; ++i) {
        bool known = false;
        for (size_t n = 0; n < sizeof flags / sizeof flags[0]; ++n)
            if (strcmp(argv[i], flags[n].name) == 0) known = *flags[n].value = true;
        for (size_t n = 0; n < sizeof numbers / sizeof numbers[0] && i + 1 < argc && !known; ++n)
            if (strcmp(argv[i], numbers[n].name) == 0) {
                *numbers[n].value = strtoll(argv[++i], NULL, 10);
                known = true;
            }
        if (!known)
            return fail(STATUS_USAGE, "%s is not an option of train_transformer, or lacks its number",
                        argv[i]);
    }
    if (o->sentences < 1 || o->source < 3 || o->target < 3 || o->vocabulary < 5 || o->steps < 1 ||
        o->warmup < 0)
        return fail(STATUS_USAGE,
                    "train_transformer needs sentences of 3 tokens or more, 5 ids or more, and steps");
    return OK;
}

static Status build(Training *t, const Options *o)
{
    const int64_t n = o->sentences, rows = n * o->target;
    const Transformer network = {.vocabulary = o->vocabulary,
                                 .width = o->width,
                                 .feed_forward_width = o->inner,
                                 .heads = o->heads,
                                 .layers = o->layers,
                                 .pre_norm = o->pre_norm,
                                 .attention_bias = true,
                                 .dropout = 0.1};
    TRY(graph_create(GRAPH_TRAIN, o->bfloat16 ? BFLOAT16 : FLOAT32, &t->graph));
    Graph *graph = t->graph;
    t->source = graph_input(graph, "source", shape_of(INT32, 2, (int64_t[]){n, o->source}));
    t->length = graph_input(graph, "source_length", shape_of(INT32, 1, &n));
    t->target = graph_input(graph, "target_input", shape_of(INT32, 2, (int64_t[]){n, o->target}));
    t->label = graph_input(graph, "target", shape_of(INT32, 1, &rows));
    t->weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, &rows));
    t->clock = graph_clock(graph);
    const Value memory = transformer_encoder(graph, &network, t->source, t->length);
    const Value hidden = transformer_decoder(graph, &network, memory, t->length, t->target);
    t->sums = loss_head(graph, transformer_logits(graph, &network, hidden), t->label, t->weight,
                        &(LossHead){.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.1});
    graph_keep(graph, t->sums);
    t->fused = graph_fuse(graph);
    graph_differentiate(graph, t->sums);
    return graph_finish(graph);
}

static Status make_batch(Training *t, const Options *o)
{
    const int64_t n = o->sentences, columns = o->source + 1 + 2 * o->target;
    TRY(memory_new(&t->ids, (size_t)(n * columns), sizeof *t->ids, "ids"));
    TRY(memory_new(&t->weights, (size_t)(n * o->target), sizeof *t->weights, "weights"));
    int32_t *source = t->ids, *length = source + n * o->source, *target = length + n,
            *label = target + n * o->target;
    RandomStream random = random_stream(1, RANDOM_TEST, 0);
    for (int64_t s = 0; s < n; ++s) {
        const int64_t shorter = s % 4 == 3 ? 2 : 0, source_tokens = o->source - shorter,
                      target_tokens = o->target - shorter;
        length[s] = (int32_t)source_tokens;
        for (int64_t p = 0; p < source_tokens; ++p)
            source[s * o->source + p] =
                p == source_tokens - 1 ? 2 : 4 + (int32_t)random_below(&random, (uint64_t)o->vocabulary - 4);
        for (int64_t p = 0; p < target_tokens; ++p) {
            label[s * o->target + p] =
                p == target_tokens - 1 ? 2 : 4 + (int32_t)random_below(&random, (uint64_t)o->vocabulary - 4);
            target[s * o->target + p] = p == 0 ? 1 : label[s * o->target + p - 1];
            t->weights[s * o->target + p] = 1;
            t->tokens += 1;
        }
    }
    return OK;
}

static Status prepare(Training *t, const Options *o)
{
    TRY(device_open(DEVICE_CPU, 0, o->threads > 0 ? (int)o->threads : omp_get_max_threads(), &t->device));
    TRY(collective_self(&t->collective));
    TRY(arena_create(t->device, &t->arena));
    TRY(build(t, o));
    TRY(make_batch(t, o));
    TRY(store_create(t->device, (const Graph *const[]){t->graph}, 1, 1, &t->store));
    TRY(plan_create(t->graph, t->store, t->arena, t->collective,
                    (PlanOptions){.share_memory = true, .profile = o->profile}, &t->plan));
    return optimizer_create(t->store,
                            (OptimizerOptions){.name = "adam", .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-9},
                            &t->optimizer);
}

static Status step(Training *t, const Options *o, int64_t index, double *loss)
{
    const int64_t n = o->sentences;
    const int32_t *source = t->ids, *length = source + n * o->source, *target = length + n,
                  *label = target + n * o->target;
    memcpy(plan_data(t->plan, t->source), source, (size_t)(n * o->source) * sizeof *source);
    memcpy(plan_data(t->plan, t->length), length, (size_t)n * sizeof *length);
    memcpy(plan_data(t->plan, t->target), target, (size_t)(n * o->target) * sizeof *target);
    memcpy(plan_data(t->plan, t->label), label, (size_t)(n * o->target) * sizeof *label);
    memcpy(plan_data(t->plan, t->weight), t->weights, (size_t)(n * o->target) * sizeof *t->weights);
    memcpy(plan_data(t->plan, t->clock), (int64_t[CLOCK_COUNT]){[CLOCK_STEP] = index},
           CLOCK_COUNT * sizeof(int64_t));
    TRY(plan_run(t->plan));
    *loss = ((const double *)plan_data(t->plan, t->sums))[LOSS_SUM] / t->tokens;
    TRY(optimizer_set(t->optimizer, index + 1, 1e-4, 1 / t->tokens));
    return optimizer_step(t->optimizer);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(Training *t, const Options *o, double seconds[], double loss)
{
    qsort(seconds, (size_t)o->steps, sizeof *seconds, by_size);
    const PlanReport made = plan_report(t->plan);
    printf("{\"program\": \"plumb\", \"threads\": %d, \"compute\": \"%s\", \"tokens\": %.0f, \"fused\": %d, "
           "\"arena_mib\": %.1f, \"median_target_tokens_per_second\": %.1f, "
           "\"best_target_tokens_per_second\": %.1f, "
           "\"loss\": %.4f",
           device_threads(t->device), o->bfloat16 ? "bfloat16" : "float32", t->tokens, t->fused,
           (double)made.arena_bytes / (1 << 20), t->tokens / seconds[o->steps / 2], t->tokens / seconds[0],
           loss);
    const ProfileRow *rows;
    const int count = plan_profile(t->plan, &rows);
    for (int i = 0; i < count; ++i)
        printf("%s{\"op\": \"%s\", \"phase\": \"%s\", \"milliseconds\": %.3f}",
               i == 0 ? ",\n\"profile\": [" : ",\n ", rows[i].op,
               rows[i].phase == PHASE_FORWARD ? "forward" : "backward",
               1e3 * rows[i].seconds / (double)(o->steps + o->warmup));
    printf("%s}\n", count > 0 ? "]" : "");
}

static Status run(Training *t, const Options *o)
{
    double *seconds, loss = 0;
    TRY(memory_new(&seconds, (size_t)o->steps, sizeof *seconds, "times"));
    Status status = OK;
    for (int64_t i = -o->warmup; i < o->steps && status == OK; ++i) {
        const double start = now();
        status = step(t, o, i + o->warmup, &loss);
        if (i >= 0) seconds[i] = now() - start;
    }
    if (status == OK) report(t, o, seconds, loss);
    free(seconds);
    return status;
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
    Training t = {0};
    Status status;
    TRY_ELSE(done, parse(argc, argv, &options));
    TRY_ELSE(done, prepare(&t, &options));
    TRY_ELSE(done, run(&t, &options));
done:
    optimizer_free(t.optimizer);
    plan_free(t.plan);
    store_free(t.store);
    arena_free(t.arena);
    graph_free(t.graph);
    collective_free(t.collective);
    device_close(t.device);
    free(t.ids);
    free(t.weights);
    if (status == OK) return 0;
    (void)fprintf(stderr, "train_transformer: %s\n", status_message(status));
    const int code = status_code(status);
    status_free(status);
    return code;
}
