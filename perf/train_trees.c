/* Training of the Tree-LSTM on the trees of SST, timed: batches built, word vectors gathered, forward, backward, AdaGrad on the
 * weights, plain SGD on the rows of the vectors. Prints one JSON object; perf/train_trees_peer.py does the same work in PyTorch.
 *
 *     train_trees FILE [--batch 25] [--steps 60] [--warmup 10] [--threads 0] [--output-gate] [--profile]
 *
 * FILE: train.txt(.gz). Vectors of 300 and memory of 150, five classes at every node, dropout 0.5, float32, as the peer. */
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/plan.h"
#include "launch/options.h"
#include "losses/loss_head.h"
#include "models/tree_lstm.h"
#include "nlp/tree_batch.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WIDTH = 300, MEMORY = 150, CLASSES = 5 };

typedef struct {
    const char *path;
    int64_t batch, steps, warmup, threads;
    bool output_gate, profile;
} Options;

typedef struct {
    Trees trees;
    int32_t *id;    /* of every leaf */
    float *table;   /* [words][WIDTH] */
    int64_t *order; /* of the trees */
    TreeBatchRoom room;
    Device *device;
    Collective *collective;
    Arena *arena;
    Graph *graph;
    Store *store;
    Plan *plan;
    Optimizer *optimizer;
    Value vectors, children, levels, target, weight, clock, sums;
    int32_t *word, *root;
} Training;

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static Status parse(int argc, char **argv, Options *options)
{
    const Option table[] = {{"batch", .number = &options->batch, .low = 1, .high = 1 << 20},
                            {"steps", .number = &options->steps, .low = 1, .high = 1 << 24},
                            {"warmup", .number = &options->warmup, .low = 0, .high = 1 << 24},
                            {"threads", .number = &options->threads, .low = 0, .high = 1 << 12},
                            {"output-gate", .flag = &options->output_gate},
                            {"profile", .flag = &options->profile}};
    const char **words;
    int count = 0;
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "words"));
    Status status = options_parse(table, sizeof table / sizeof *table, argc, argv, words, &count);
    if (status == OK && count != 1)
        status = fail(STATUS_USAGE, "train_trees needs one file of trees, but was given %d", count);
    if (status == OK) options->path = words[0];
    free(words);
    return status;
}

/* Trees in a random order, words with random vectors. */
static Status load(Training *t, const Options *options)
{
    TRY(trees_read(options->path, (TreeOptions){0}, &t->trees));
    Vocabulary *vocabulary;
    TRY(trees_vocabulary((const Trees *[]){&t->trees}, 1, &vocabulary));
    const int64_t words = vocabulary_size(vocabulary);
    TRY(memory_new(&t->id, (size_t)t->trees.leaves, sizeof *t->id, "words"));
    trees_ids(&t->trees, vocabulary, t->id, NULL);
    vocabulary_free(vocabulary);
    TRY(memory_new(&t->table, (size_t)(words * WIDTH), sizeof *t->table, "word vectors"));
    RandomStream random = random_stream(1, RANDOM_TEST, 0);
    for (int64_t i = 0; i < words * WIDTH; ++i)
        t->table[i] = (float)random_normal(&random) * 0.1F;
    TRY(memory_new(&t->order, (size_t)t->trees.count, sizeof *t->order, "trees"));
    for (int64_t i = 0; i < t->trees.count; ++i) {
        const int64_t other = (int64_t)random_below(&random, (uint64_t)i + 1);
        t->order[i] = t->order[other];
        t->order[other] = i;
    }
    t->room = tree_batch_room(&t->trees, t->order, t->trees.count, options->batch);
    return OK;
}

static Status build(Training *t, const Options *options)
{
    const int64_t leaves = t->room.leaves, inner = t->room.inner;
    TRY(graph_create(GRAPH_TRAIN, FLOAT32, &t->graph));
    Graph *graph = t->graph;
    t->vectors = graph_input(graph, "vectors", shape_of(FLOAT32, 2, (int64_t[]){leaves, WIDTH}));
    t->children = graph_input(graph, "children", shape_of(INT32, 2, (int64_t[]){inner, 2}));
    t->levels = graph_input(graph, "levels", shape_of(INT32, 1, (int64_t[]){1 + t->room.levels}));
    t->target = graph_input(graph, "target", shape_of(INT32, 1, (int64_t[]){leaves + inner}));
    t->weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, (int64_t[]){leaves + inner}));
    t->clock = graph_clock(graph);
    graph_want_gradient(graph, t->vectors);
    TreeLstmNetwork network = TREE_LSTM_CITED;
    network.memory = MEMORY;
    network.classes = CLASSES;
    network.output_gate = options->output_gate;
    const Value logits = tree_lstm_logits(graph, &network, t->vectors, t->children, t->levels, NO_VALUE);
    t->sums = loss_head(graph, logits, t->target, t->weight, &(LossHead){.form = SAMPLE_LABEL_SMOOTHING});
    graph_keep(graph, t->sums);
    graph_differentiate(graph, t->sums);
    return graph_finish(graph);
}

static Status prepare(Training *t, const Options *options)
{
    TRY(device_open(DEVICE_CPU, 0, options->threads > 0 ? (int)options->threads : omp_get_max_threads(),
                    &t->device));
    TRY(collective_self(&t->collective));
    TRY(arena_create(t->device, &t->arena));
    TRY(build(t, options));
    TRY(store_create(t->device, (const Graph *const[]){t->graph}, 1, 1, &t->store));
    TRY(plan_create(t->graph, t->store, t->arena, t->collective,
                    (PlanOptions){.share_memory = true, .profile = options->profile}, &t->plan));
    TRY(memory_new(&t->word, (size_t)t->room.leaves, sizeof *t->word, "words"));
    TRY(memory_new(&t->root, (size_t)t->room.trees, sizeof *t->root, "roots"));
    return optimizer_create(t->store,
                            (OptimizerOptions){.name = "adagrad", .weight_decay = 1e-4, .epsilon = 1e-10},
                            &t->optimizer);
}

static Status step(Training *t, const Options *options, int64_t index, double *loss)
{
    const double rate = 0.05, vector_rate = 0.1, scale = 1 / (double)options->batch;
    const int64_t batches = t->trees.count / options->batch, first = index % batches * options->batch;
    TreeBatch batch = {.word = t->word,
                       .root = t->root,
                       .children = plan_data(t->plan, t->children),
                       .levels = plan_data(t->plan, t->levels),
                       .target = plan_data(t->plan, t->target),
                       .weight = plan_data(t->plan, t->weight)};
    TRY(tree_batch_fill(&t->trees, t->id, TREE_FINE5, t->order + first, options->batch, t->room, &batch));
    const int64_t leaves = batch.levels[0];
    float *vectors = plan_data(t->plan, t->vectors);
    for (int64_t i = 0; i < leaves; ++i)
        memcpy(vectors + i * WIDTH, t->table + (int64_t)t->word[i] * WIDTH, WIDTH * sizeof *vectors);
    memcpy(plan_data(t->plan, t->clock), (int64_t[CLOCK_COUNT]){[CLOCK_STEP] = index},
           CLOCK_COUNT * sizeof(int64_t));
    TRY(plan_run(t->plan));
    const float *gradient = plan_data(t->plan, graph_gradient(t->graph, t->vectors));
    const float factor = (float)(vector_rate * scale);
    for (int64_t i = 0; i < leaves; ++i)
        for (int64_t k = 0; k < WIDTH; ++k)
            t->table[(int64_t)t->word[i] * WIDTH + k] -= factor * gradient[i * WIDTH + k];
    *loss = ((const double *)plan_data(t->plan, t->sums))[LOSS_SUM] * scale;
    TRY(optimizer_set(t->optimizer, index + 1, rate, scale));
    return optimizer_step(t->optimizer);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(Training *t, const Options *options, double seconds[], double total, double loss)
{
    qsort(seconds, (size_t)options->steps, sizeof *seconds, by_size);
    const double batch = (double)options->batch;
    printf("{\"program\": \"plumb\", \"batch\": %lld, \"threads\": %d, \"trees_per_second\": %.1f, "
           "\"median_trees_per_second\": %.1f, \"best_trees_per_second\": %.1f, \"loss\": %.4f",
           (long long)options->batch, device_threads(t->device), batch * (double)options->steps / total,
           batch / seconds[options->steps / 2], batch / seconds[0], loss);
    const ProfileRow *rows;
    const int count = plan_profile(t->plan, &rows);
    for (int i = 0; i < count; ++i)
        printf("%s{\"op\": \"%s\", \"phase\": \"%s\", \"milliseconds\": %.3f}",
               i == 0 ? ", \"profile\": [" : ", ", rows[i].op,
               rows[i].phase == PHASE_FORWARD ? "forward" : "backward",
               1e3 * rows[i].seconds / (double)rows[i].runs);
    printf("%s}\n", count > 0 ? "]" : "");
}

static Status run(Training *t, const Options *options)
{
    double *seconds, loss = 0, begin = 0;
    TRY(memory_new(&seconds, (size_t)options->steps, sizeof *seconds, "times"));
    for (int64_t i = -options->warmup; i < options->steps; ++i) {
        const double start = now();
        if (i == 0) begin = start;
        const Status status = step(t, options, i + options->warmup, &loss);
        if (status != OK) {
            free(seconds);
            return status;
        }
        if (i >= 0) seconds[i] = now() - start;
    }
    report(t, options, seconds, now() - begin, loss);
    free(seconds);
    return OK;
}

int main(int argc, char **argv)
{
    Options options = {.batch = 25, .steps = 60, .warmup = 10};
    Training t = {0};
    Status status;
    TRY_ELSE(done, parse(argc, argv, &options));
    TRY_ELSE(done, load(&t, &options));
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
    trees_free(&t.trees);
    free(t.id);
    free(t.table);
    free(t.order);
    free(t.word);
    free(t.root);
    if (status == OK) return 0;
    (void)fprintf(stderr, "train_trees: %s\n", status_message(status));
    const int code = status_code(status);
    status_free(status);
    return code;
}
