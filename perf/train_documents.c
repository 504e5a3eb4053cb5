/* Training steps of the network for documents (models/global_pooling_cnn.h), timed: word vectors looked up, forward,
 * backward, Adam. Prints one JSON object; perf/train_documents_peer.py does the same work in PyTorch.
 *
 *     train_documents [--positions 1000] [--steps 5] [--warmup 2] [--newsgroups FOLDER] [--crop] [--profile] key=value ...
 *
 * Random words at all positions; or, with FOLDER (20news-bydate-train and -test), batches of an epoch of real documents,
 * padded in front, and with --crop cropped to what they need. The settings are plumb's: batch, compute, threads,
 * loss.name, optimizer.*. */
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/plan.h"
#include "launch/options.h"
#include "launch/settings.h"
#include "losses/loss.h"
#include "models/global_pooling_cnn.h"
#include "nlp/document_batches.h"
#include "nlp/document_ids.h"
#include "nlp/newsgroups.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VECTOR = 100, WORDS = 20000, CLASSES = 20 };

typedef struct {
    int64_t positions, steps, warmup;
    const char *newsgroups;
    bool crop, profile;
    int setting_count;
    const char **settings;
} Options;

/* The network for batches of one length. */
typedef struct {
    Graph *graph;
    Plan *plan;
    Value vectors, target, weight, sums;
} Program;

typedef struct {
    Config *config;
    LossOptions loss;
    Device *device;
    Collective *collective;
    Arena *arena;
    Store *store;
    Optimizer *optimizer;
    int64_t batch;
    BatchLengths lengths;
    Program program[DOCUMENT_MOST_LENGTHS];
    void *table; /* [WORDS + 1, VECTOR] of the compute type; the first is zero: padding */
    int32_t *ids;
    Documents documents;
    DocumentIds document_ids;
    DocumentEpoch epoch;
} Training;

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double processor_seconds(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static Status parse(int argc, char **argv, Options *options)
{
    const Option table[] = {{"positions", .number = &options->positions, .low = 1, .high = 1 << 20},
                            {"steps", .number = &options->steps, .low = 1, .high = 1 << 24},
                            {"warmup", .number = &options->warmup, .low = 0, .high = 1 << 24},
                            {"newsgroups", "a directory", .text = &options->newsgroups},
                            {"crop", .flag = &options->crop},
                            {"profile", .flag = &options->profile}};
    TRY(memory_new(&options->settings, (size_t)argc, sizeof *options->settings, "settings"));
    return options_parse(table, sizeof table / sizeof *table, argc, argv, options->settings,
                         &options->setting_count);
}

static Status build(Training *training, Program *program, int64_t positions, DType compute)
{
    TRY(graph_create(GRAPH_TRAIN, compute, &program->graph));
    Graph *graph = program->graph;
    const int64_t batch = training->batch;
    program->vectors =
        graph_input(graph, "vectors", shape_of(compute, 3, (int64_t[]){batch, positions, VECTOR}));
    program->target = graph_input(graph, "target", shape_of(INT32, 1, &batch));
    program->weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, &batch));
    const Value logits = global_pooling_cnn(graph, program->vectors, &global_pooling_cnn_published, CLASSES);
    program->sums = loss_build(graph, &training->loss, logits, program->target, program->weight);
    graph_keep(graph, program->sums);
    (void)graph_fuse(graph);
    graph_differentiate(graph, program->sums);
    return graph_finish(graph);
}

static Status prepare(Training *training, const Options *options)
{
    const Config *config = training->config;
    const DType compute = strcmp(config_text(config, "compute"), "bfloat16") == 0 ? BFLOAT16 : FLOAT32;
    const int64_t threads = config_integer(config, "threads");
    training->batch = config_integer(config, "batch");
    TRY(loss_read(config, &training->loss));
    TRY(device_open(DEVICE_CPU, 0, threads > 0 ? (int)threads : 2, &training->device));
    TRY(collective_self(&training->collective));
    TRY(arena_create(training->device, &training->arena));
    TRY(batch_lengths(options->positions, options->crop, &training->lengths));
    for (int i = training->lengths.count - 1; i >= 0; --i) {
        Program *program = &training->program[i];
        TRY(build(training, program, training->lengths.length[i], compute));
        if (training->store == NULL)
            TRY(store_create(training->device, (const Graph *[]){program->graph}, 1, 1, &training->store));
        TRY(plan_create(program->graph, training->store, training->arena, training->collective,
                        (PlanOptions){.share_memory = true, .profile = options->profile}, &program->plan));
    }
    TRY(optimizer_create(training->store,
                         (OptimizerOptions){.name = "adam", .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
                         &training->optimizer));
    RandomStream random = random_stream(1, RANDOM_TEST, 0);
    TRY(memory_new(&training->table, (WORDS + 1) * VECTOR, dtype_size(compute), "word vectors"));
    for (int64_t i = VECTOR; i < (WORDS + 1) * VECTOR; ++i) {
        const float value = 0.4F * (float)random_normal(&random);
        if (compute == BFLOAT16)
            ((bfloat16 *)training->table)[i] = bfloat16_from_float(value);
        else
            ((float *)training->table)[i] = value;
    }
    return memory_new(&training->ids, (size_t)(training->batch * options->positions), sizeof(int32_t), "ids");
}

/* An epoch of the training part. */
static Status read_documents(Training *training, const Options *options)
{
    Vocabulary *vocabulary = NULL;
    int64_t *sample = NULL, *needed = NULL;
    Status status;
    TRY(newsgroups_read(options->newsgroups, NEWSGROUPS_BY_DATE, &training->documents));
    const Documents *documents = &training->documents;
    const int64_t count = documents->given_train > 0 ? documents->given_train : documents->count;
    TRY_ELSE(done, memory_new(&sample, (size_t)count, sizeof *sample, "documents"));
    TRY_ELSE(done, memory_new(&needed, (size_t)count, sizeof *needed, "documents"));
    for (int64_t i = 0; i < count; ++i)
        sample[i] = i;
    TRY_ELSE(done, document_vocabulary(documents, sample, count, WORDS, false, &vocabulary));
    TRY_ELSE(done, document_ids(documents, vocabulary, options->positions, &training->document_ids));
    for (int64_t i = 0; i < count; ++i)
        needed[i] = document_ids_length(&training->document_ids, i);
    const DocumentBatchOptions order = {.batch = training->batch,
                                        .margin = global_pooling_cnn_field(&global_pooling_cnn_published),
                                        .window = 32,
                                        .shuffle = true,
                                        .seed = 1};
    TRY_ELSE(done, document_batches(needed, count, &training->lengths, &order, 0, &training->epoch));
done:
    free(needed);
    free(sample);
    vocabulary_free(vocabulary);
    return status;
}

static void fill(Training *training, const Options *options, int64_t step, const Program **chosen)
{
    int length = training->lengths.count - 1;
    RandomStream random = random_stream(2, RANDOM_TEST, (uint64_t)step);
    int32_t label[4096];
    const int64_t batch = training->batch < 4096 ? training->batch : 4096;
    if (options->newsgroups != NULL) {
        const int64_t b = step % (training->epoch.batches - 1); /* but for the ragged one */
        const int64_t *order = training->epoch.order + b * batch;
        for (length = 0; training->lengths.length[length] < training->epoch.length[b];)
            ++length;
        document_ids_fill(&training->document_ids, order, batch, training->lengths.length[length],
                          training->ids);
        for (int64_t i = 0; i < batch; ++i)
            label[i] = training->documents.label[order[i]];
    } else {
        for (int64_t i = 0; i < batch * options->positions; ++i)
            training->ids[i] = (int32_t)random_below(&random, WORDS) + 1;
        for (int64_t i = 0; i < batch; ++i)
            label[i] = (int32_t)random_below(&random, CLASSES);
    }
    const Program *program = &training->program[length];
    *chosen = program;
    memcpy(plan_data(program->plan, program->target), label, (size_t)batch * sizeof *label);
    float *weight = plan_data(program->plan, program->weight);
    for (int64_t i = 0; i < batch; ++i)
        weight[i] = 1;
    const Value clock = graph_find(program->graph, "clock");
    const int64_t time[CLOCK_COUNT] = {1, 0, step, 0, 0};
    if (value_exists(clock)) memcpy(plan_data(program->plan, clock), time, sizeof time);
}

static void look_up(const Training *training, const Program *program)
{
    const Shape shape = graph_shape(program->graph, program->vectors);
    const size_t bytes = VECTOR * dtype_size(shape.type);
    char *to = plan_data(program->plan, program->vectors);
    const char *table = training->table;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < shape.extent[0] * shape.extent[1]; ++i)
        memcpy(to + (size_t)i * bytes, table + (size_t)training->ids[i] * bytes, bytes);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add_profile(cJSON *json, const Training *training)
{
    const ProfileRow *rows;
    const int count = plan_profile(training->program[training->lengths.count - 1].plan, &rows);
    cJSON *list = cJSON_AddArrayToObject(json, "profile");
    for (int i = 0; i < count; ++i) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "op", rows[i].op);
        cJSON_AddStringToObject(row, "phase", rows[i].phase == PHASE_FORWARD ? "forward" : "backward");
        cJSON_AddNumberToObject(row, "nodes", rows[i].nodes);
        cJSON_AddNumberToObject(row, "milliseconds", 1e3 * rows[i].seconds / (double)rows[i].runs);
        cJSON_AddNumberToObject(row, "gflops_per_second", 1e-9 * rows[i].flops / rows[i].seconds);
        cJSON_AddItemToArray(list, row);
    }
}

static Status measure(Training *training, const Options *options)
{
    double *seconds = NULL, wall = 0, processor = 0, loss = 0, positions = 0;
    Status status;
    TRY(memory_new(&seconds, (size_t)options->steps, sizeof *seconds, "times"));
    for (int64_t step = 0; step < options->warmup + options->steps; ++step) {
        const Program *program;
        fill(training, options, step, &program);
        const double start = now(), processor_start = processor_seconds();
        look_up(training, program);
        TRY_ELSE(done, optimizer_set(training->optimizer, step + 1, 1e-3, 1 / (double)training->batch));
        TRY_ELSE(done, plan_run(program->plan));
        TRY_ELSE(done, optimizer_step(training->optimizer));
        const double *sums = plan_data(program->plan, program->sums);
        loss = sums[LOSS_SUM] / sums[LOSS_WEIGHT];
        if (step < options->warmup) continue;
        seconds[step - options->warmup] = now() - start;
        wall += now() - start;
        processor += processor_seconds() - processor_start;
        positions += (double)graph_shape(program->graph, program->vectors).extent[1];
    }
    const double batch = (double)training->batch, steps = (double)options->steps;
    qsort(seconds, (size_t)options->steps, sizeof *seconds, by_size);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "program", "plumb");
    cJSON_AddStringToObject(json, "compute", config_text(training->config, "compute"));
    cJSON_AddNumberToObject(json, "threads", device_threads(training->device));
    cJSON_AddNumberToObject(json, "batch", batch);
    cJSON_AddNumberToObject(json, "mean_positions", positions / steps);
    cJSON_AddNumberToObject(json, "documents_per_second", batch / seconds[options->steps / 2]);
    cJSON_AddNumberToObject(json, "best_documents_per_second", batch / seconds[0]);
    cJSON_AddNumberToObject(json, "mean_documents_per_second", batch * steps / wall);
    cJSON_AddNumberToObject(json, "documents_per_processor_second", batch * steps / processor);
    cJSON_AddNumberToObject(json, "loss", loss);
    if (options->profile) add_profile(json, training);
    char *text = cJSON_PrintUnformatted(json);
    if (text != NULL) (void)puts(text);
    free(text);
    cJSON_Delete(json);
done:
    free(seconds);
    return status;
}

static void release(Training *training)
{
    document_epoch_free(&training->epoch);
    document_ids_free(&training->document_ids);
    documents_free(&training->documents);
    free(training->ids);
    free(training->table);
    optimizer_free(training->optimizer);
    for (int i = 0; i < DOCUMENT_MOST_LENGTHS; ++i) {
        plan_free(training->program[i].plan);
        graph_free(training->program[i].graph);
    }
    store_free(training->store);
    arena_free(training->arena);
    collective_free(training->collective);
    device_close(training->device);
    config_free(training->config);
}

int main(int argc, char **argv)
{
    Options options = {.positions = 1000, .steps = 5, .warmup = 2};
    Training training = {0};
    int rows;
    const Setting *table = settings_table(&rows);
    Status status = parse(argc, argv, &options);
    if (status == OK)
        status = config_load(table, rows, NULL, options.setting_count, options.settings, &training.config);
    if (status == OK) status = prepare(&training, &options);
    if (status == OK && options.newsgroups != NULL) status = read_documents(&training, &options);
    if (status == OK) status = measure(&training, &options);
    release(&training);
    free(options.settings);
    if (status == OK) return 0;
    (void)fprintf(stderr, "train_documents: %s\n", status_message(status));
    const int code = (int)status_code(status);
    status_free(status);
    return code;
}
