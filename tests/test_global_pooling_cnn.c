/* The network for documents: golden values, and that cropping a batch changes nothing. Word vectors are looked up here, and
 * their gradient is added up here. */
#include "tests/golden.h"
#include "tests/network.h"

#include "engine/base/random.h"
#include "engine/plan/plan.h"
#include "losses/loss.h"
#include "models/global_pooling_cnn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A training step without dropout's chance: the network with dropout 0. */
typedef struct {
    Graph *graph;
    Device *device;
    Arena *arena;
    Collective *collective;
    Store *store;
    Plan *plan;
    Value vectors, target, weight, logits, sums;
} Step;

static void step_open(Step *step, const GlobalPoolingCnn *network, const LossOptions *loss, DType compute,
                      const int64_t vectors[3], int64_t classes, bool fuse)
{
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, compute, &graph));
    *step = (Step){.graph = graph};
    step->vectors = graph_input(graph, "vectors", shape_of(compute, 3, vectors));
    step->target = graph_input(graph, "target", shape_of(INT32, 1, vectors));
    step->weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, vectors));
    graph_want_gradient(graph, step->vectors);
    step->logits = global_pooling_cnn(graph, step->vectors, network, classes);
    graph_keep(graph, step->logits);
    step->sums = loss_build(graph, loss, step->logits, step->target, step->weight);
    graph_keep(graph, step->sums);
    /* The two pools and the maximum over time take the ReLU before them. */
    if (fuse) assert_int_equal(graph_fuse(graph), 3);
    graph_differentiate(graph, step->sums);
    assert_ok(graph_finish(graph));
    assert_ok(device_open(DEVICE_CPU, 0, 2, &step->device));
    assert_ok(arena_create(step->device, &step->arena));
    assert_ok(collective_self(&step->collective));
    assert_ok(store_create(step->device, (const Graph *[]){graph}, 1, 1, &step->store));
    assert_ok(plan_create(graph, step->store, step->arena, step->collective, PLAN_DEFAULTS, &step->plan));
}

static void step_close(Step *step)
{
    plan_free(step->plan);
    store_free(step->store);
    collective_free(step->collective);
    arena_free(step->arena);
    device_close(step->device);
    graph_free(step->graph);
}

static void step_run(Step *step, const float *vectors, const int32_t *target)
{
    const Shape shape = graph_shape(step->graph, step->vectors);
    void *to = plan_data(step->plan, step->vectors);
    for (int64_t i = 0; i < shape_count(shape); ++i) {
        if (shape.type == FLOAT32)
            ((float *)to)[i] = vectors[i];
        else
            ((bfloat16 *)to)[i] = bfloat16_from_float(vectors[i]);
    }
    float *weight = plan_data(step->plan, step->weight);
    memcpy(plan_data(step->plan, step->target), target, (size_t)shape.extent[0] * sizeof *target);
    for (int64_t i = 0; i < shape.extent[0]; ++i)
        weight[i] = 1;
    assert_ok(plan_run(step->plan));
    assert_ok(plan_check_finite(step->plan));
}

static LossOptions loss_of(const char *const settings[])
{
    LossOptions loss;
    Config *config = config_of(settings);
    assert_ok(loss_read(config, &loss));
    config_free(config);
    return loss;
}

/* ---- golden values ---- */

static GlobalPoolingCnn network_of(const GoldenCase *golden)
{
    return (GlobalPoolingCnn){.width = (int64_t)golden_number(golden, "params/channels"),
                              .kernel = (int64_t)golden_number(golden, "params/width"),
                              .pool = (int64_t)golden_number(golden, "params/pool_width"),
                              .pool_stride = (int64_t)golden_number(golden, "params/pool_stride"),
                              .dense = (int64_t)golden_number(golden, "params/dense")};
}

/* Parameters of the file but for the embedding, whose place is the first. Ours of convolutions are [out, 1, k, in], those
 * of files [out, in, k]; so the gradient goes back. */
static void load_or_store(Step *step, const cJSON *index, double *file, bool load)
{
    const cJSON *item;
    int seen = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(index, "tensors"))
    {
        const char *name = cJSON_GetObjectItemCaseSensitive(item, "name")->valuestring;
        double *values = file + (int64_t)item_number(item, "offset");
        if (strcmp(name, "embedding.weight") == 0) continue;
        const StoreEntry *entry = store_find(step->store, name);
        if (entry == NULL) print_error("the network has no %s\n", name);
        assert_non_null(entry);
        float *ours = load ? entry->data : entry->gradient;
        const int64_t *extent = entry->shape.extent;
        for (int64_t i = 0; i < shape_count(entry->shape); ++i) {
            int64_t there = i;
            if (entry->shape.rank == 4) {
                const int64_t c = i % extent[3], k = i / extent[3] % extent[2], o = i / extent[3] / extent[2];
                there = (o * extent[3] + c) * extent[2] + k;
            }
            if (load)
                ours[i] = (float)values[there];
            else
                values[there] = (double)ours[i];
        }
        ++seen;
    }
    assert_int_equal(seen, store_count(step->store));
}

static void check_loss(const GoldenCase *golden, const char *name, const char *const settings[], bool fuse)
{
    char losses_path[128], gradients_path[128];
    (void)snprintf(losses_path, sizeof losses_path, "expected_files/loss_per_document_%s", name);
    (void)snprintf(gradients_path, sizeof gradients_path, "expected_files/grads_%s", name);
    const GlobalPoolingCnn network = network_of(golden);
    const LossOptions loss = loss_of(settings);
    cJSON *index = golden_document(golden, "inputs/index");
    GoldenArray weights = golden_array(golden, "inputs/weights"), ids = golden_array(golden, "inputs/ids");
    GoldenArray labels = golden_array(golden, "inputs/labels"), losses = golden_array(golden, losses_path);
    const int64_t size = (int64_t)golden_number(golden, "params/embedding");
    const int64_t classes = (int64_t)golden_number(golden, "params/classes");
    const int64_t documents = ids.extent[0], positions = ids.extent[1];
    Step step;
    step_open(&step, &network, &loss, FLOAT32, (const int64_t[]){documents, positions, size}, classes, fuse);
    load_or_store(&step, index, weights.values, true);
    float *vectors = calloc((size_t)(ids.count * size), sizeof *vectors);
    int32_t *target = calloc((size_t)documents, sizeof *target);
    double *got = calloc((size_t)weights.count, sizeof *got);
    assert_true(vectors != NULL && target != NULL && got != NULL);
    for (int64_t i = 0; i < ids.count * size; ++i) /* the embedding is the first tensor of the file */
        vectors[i] = (float)weights.values[(int64_t)ids.values[i / size] * size + i % size];
    for (int64_t i = 0; i < documents; ++i)
        target[i] = (int32_t)labels.values[i];
    step_run(&step, vectors, target);
    (void)golden_check_float(golden, "expected_files/logits", plan_data(step.plan, step.logits),
                             documents * classes, "f32");
    double total = 0;
    for (int64_t i = 0; i < losses.count; ++i)
        total += losses.values[i];
    const double sum = ((const double *)plan_data(step.plan, step.sums))[LOSS_SUM];
    assert_close(&sum, &total, 1, 1e-4, 1e-4, "the loss");
    load_or_store(&step, index, got, false);
    const float *d_vectors = plan_data(step.plan, graph_gradient(step.graph, step.vectors));
    for (int64_t i = 0; i < ids.count * size; ++i)
        if (ids.values[i / size] != 0)
            got[(int64_t)ids.values[i / size] * size + i % size] += (double)d_vectors[i];
    (void)golden_check(golden, gradients_path, got, weights.count, "f32");
    free(got);
    free(target);
    free(vectors);
    step_close(&step);
    golden_array_free(&losses);
    golden_array_free(&labels);
    golden_array_free(&ids);
    golden_array_free(&weights);
    cJSON_Delete(index);
}

static void test_golden_values(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("network_small", "params/pool_width", golden)) != NULL; ++cases) {
        static const char *const entropy[] = {"loss.name=cross_entropy", NULL};
        static const char *const focal[] = {"loss.name=focal", "loss.policy=sample", "loss.gammas=[5, 3]",
                                            "loss.thresholds=[0.2]", NULL};
        for (int fuse = 0; fuse < 2; ++fuse) {
            check_loss(golden, "cross_entropy", entropy, fuse == 1);
            check_loss(golden, "flsd_53", focal, fuse == 1);
        }
    }
    assert_true(cases > 0);
}

/* ---- cropping ---- */

enum { DOCUMENTS = 5, SIZE = 12, CLASSES = 4 };

static const LossOptions *cross_entropy(void)
{
    static LossOptions loss;
    loss = loss_of((const char *const[]){"loss.name=cross_entropy", NULL});
    return &loss;
}

/* words[i] vectors at the end of each document, made of the document and the word's place in it; in front a vector of
 * `padding` in all elements. */
static float *padded_documents(const int64_t words[], int64_t positions, float padding)
{
    float *vectors = calloc((size_t)(DOCUMENTS * positions * SIZE), sizeof *vectors);
    assert_non_null(vectors);
    for (int64_t n = 0; n < DOCUMENTS; ++n) {
        RandomStream random = random_stream(7, RANDOM_TEST, (uint64_t)n);
        for (int64_t t = 0; t < positions; ++t)
            for (int64_t c = 0; c < SIZE; ++c)
                vectors[(n * positions + t) * SIZE + c] =
                    t < positions - words[n]
                        ? padding
                        : bfloat16_to_float(bfloat16_from_float((float)random_normal(&random)));
    }
    return vectors;
}

/* Biases that are zero at the start would hide what they do. */
static void set_biases(Step *step, float scale)
{
    RandomStream random = random_stream(8, RANDOM_TEST, 0);
    for (int i = 0; i < store_count(step->store); ++i) {
        const StoreEntry *entry = store_at(step->store, i);
        if (entry->shape.rank != 1) continue;
        for (int64_t k = 0; k < shape_count(entry->shape); ++k)
            ((float *)entry->data)[k] = scale * (float)random_normal(&random);
    }
}

typedef struct {
    DType compute;
    float padding, biases;
    int64_t pool_stride, positions, cropped;
    int64_t words[DOCUMENTS];
    double
        tolerance; /* of a tensor's gradient, relative to its length; 0: the same bits, but for sums over positions */
} Crop;

/* Gradients of vectors, added up over the padding of a document; words' as they are. Returns how many padding vectors
 * there are on the way to words. */
static void compare_vectors(const Step *whole, const Step *part, const Crop *crop)
{
    const void *a = plan_data(whole->plan, graph_gradient(whole->graph, whole->vectors));
    const void *b = plan_data(part->plan, graph_gradient(part->graph, part->vectors));
    const bool narrow = crop->compute == BFLOAT16;
#define NUMBER(data, index)                                                                                  \
    (narrow ? bfloat16_to_float(((const bfloat16 *)(data))[index]) : ((const float *)(data))[index])
    double difference = 0, length = 0, padding[2] = {0, 0};
    for (int64_t n = 0; n < DOCUMENTS; ++n)
        for (int64_t t = 0; t < crop->positions; ++t)
            for (int64_t c = 0; c < SIZE; ++c) {
                const float x = NUMBER(a, (n * crop->positions + t) * SIZE + c);
                if (t < crop->positions - crop->words[n]) {
                    padding[0] += (double)x;
                    continue;
                }
                const int64_t there = t - (crop->positions - crop->cropped);
                const float y = NUMBER(b, (n * crop->cropped + there) * SIZE + c);
                if (crop->tolerance == 0) assert_true(x == y);
                difference += (double)(x - y) * (double)(x - y);
                length += (double)x * (double)x;
            }
    for (int64_t n = 0; n < DOCUMENTS; ++n)
        for (int64_t i = 0; i < (crop->cropped - crop->words[n]) * SIZE; ++i)
            padding[1] += (double)NUMBER(b, n * crop->cropped * SIZE + i);
#undef NUMBER
    assert_true(length > 0 && sqrt(difference / length) <= crop->tolerance);
    const double bound = crop->tolerance > 0 ? 10 * crop->tolerance : 1e-5;
    assert_true(fabs(padding[0] - padding[1]) <= bound * sqrt(length));
}

static void check_crop(const Crop *crop)
{
    GlobalPoolingCnn network = global_pooling_cnn_published;
    network.width = 24;
    network.dense = 16;
    network.dropout = 0;
    network.pool_stride = crop->pool_stride;
    const int32_t target[DOCUMENTS] = {0, 1, 2, 3, 1};
    Step step[2];
    for (int i = 0; i < 2; ++i) {
        const int64_t positions = i == 0 ? crop->positions : crop->cropped;
        float *vectors = padded_documents(crop->words, positions, crop->padding);
        step_open(&step[i], &network, cross_entropy(), crop->compute,
                  (const int64_t[]){DOCUMENTS, positions, SIZE}, CLASSES, true);
        set_biases(&step[i], crop->biases);
        step_run(&step[i], vectors, target);
        free(vectors);
    }
    /* Products over windows have one order of sums wherever a window is, so the maxima are the same bits. */
    assert_memory_equal(plan_data(step[0].plan, step[0].logits), plan_data(step[1].plan, step[1].logits),
                        DOCUMENTS * CLASSES * sizeof(float));
    for (int i = 0; i < store_count(step[0].store); ++i) {
        const StoreEntry *whole = store_at(step[0].store, i), *part = store_find(step[1].store, whole->name);
        const int64_t count = shape_count(whole->shape);
        double difference = 0, length = 0;
        for (int64_t k = 0; k < count; ++k) {
            const double x = (double)((const float *)whole->gradient)[k];
            const double y = (double)((const float *)part->gradient)[k];
            difference += (x - y) * (x - y);
            length += x * x;
        }
        assert_true(length > 0);
        /* A window of padding that is the first maximum of several positions after cropping may have been several
         * windows before: the same products, added in another order. */
        const bool summed = strncmp(whole->name, "conv", 4) == 0;
        const double bound = crop->tolerance > 0 ? crop->tolerance : summed ? 1e-6 : 0;
        if (!(sqrt(difference / length) <= bound))
            print_error("%s: the gradient is off by %g\n", whole->name, sqrt(difference / length));
        assert_true(sqrt(difference / length) <= bound);
    }
    compare_vectors(&step[0], &step[1], crop);
    for (int i = 0; i < 2; ++i)
        step_close(&step[i]);
}

/* The longest document and 21 positions; an empty document; one that stays whole. */
static const Crop crops[] = {
    {FLOAT32, 0, 0.3F, 1, 300, 81, {60, 3, 0, 17, 41}, 0},
    {FLOAT32, 0, 3.0F, 1, 300, 81, {60, 3, 0, 17, 41}, 0}, /* padding wins many maxima */
    {FLOAT32, 0.5F, 0.3F, 1, 300, 81, {60, 3, 0, 17, 41}, 0},
    {FLOAT32, 0, 0.3F, 1, 1000, 233, {212, 148, 0, 1, 77}, 0},
    {FLOAT32, 0, 0.3F, 1, 100, 81, {60, 60, 60, 60, 59}, 0},
    {FLOAT32, 0, 0.3F, 5, 299, 299 - 25 * 3, {60, 3, 0, 17, 41}, 0}, /* by steps of the pools */
    {BFLOAT16, 0, 0.3F, 1, 300, 81, {60, 3, 0, 17, 41}, 2e-2},
};

static void test_cropping_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof crops / sizeof crops[0]; ++i)
        check_crop(&crops[i]);
}

/* The receptive field is what a change of one word can reach. */
static void test_field(void **state)
{
    (void)state;
    assert_int_equal(global_pooling_cnn_field(&global_pooling_cnn_published), 21);
    GlobalPoolingCnn strided = global_pooling_cnn_published;
    strided.pool_stride = 5;
    assert_int_equal(global_pooling_cnn_field(&strided), 149);
    /* A position less than the field is refused, the field itself is not. */
    for (int less = 0; less < 2; ++less) {
        Graph *graph;
        assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
        const Value x = graph_input(graph, "x", shape_of(FLOAT32, 3, (const int64_t[]){2, 149 - less, 3}));
        const Value logits = global_pooling_cnn(graph, x, &strided, 7);
        if (less == 0) {
            assert_int_equal(shape_columns(graph_shape(graph, logits)), 7);
            assert_ok(graph_finish(graph));
        } else {
            assert_fails(graph_finish(graph), STATUS_INPUT, "at least 149 positions, not float32[2, 148, 3]");
        }
        graph_free(graph);
    }
}

/* Glorot's bounds: sqrt(6 / (fan in + fan out)), biases 0; and the names and layouts of PyTorch's files. */
static void test_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int rank;
        int64_t extent[4];
        double bound;
    } expected[] = {
        {"conv1.weight", 4, {128, 1, 5, 100}, 0.0725476250110012}, /* sqrt(6 / (500 + 640)) */
        {"conv1.bias", 1, {128}, 0},
        {"conv2.weight", 4, {128, 1, 5, 128}, 0.06846531968814577}, /* sqrt(6 / 1280) */
        {"conv2.bias", 1, {128}, 0},
        {"conv3.weight", 4, {128, 1, 5, 128}, 0.06846531968814577},
        {"conv3.bias", 1, {128}, 0},
        {"dense.weight", 2, {128, 128}, 0.15309310892394862}, /* sqrt(6 / 256) */
        {"dense.bias", 1, {128}, 0},
        {"output.weight", 2, {20, 128}, 0.2013468165641966}, /* sqrt(6 / 148) */
        {"output.bias", 1, {20}, 0},
    };
    Step step;
    step_open(&step, &global_pooling_cnn_published, cross_entropy(), FLOAT32, (const int64_t[]){1, 21, 100},
              20, true);
    assert_int_equal(store_count(step.store), sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; ++i) {
        const StoreEntry *entry = store_find(step.store, expected[i].name);
        assert_non_null(entry);
        assert_true(shape_equal(entry->shape, shape_of(FLOAT32, expected[i].rank, expected[i].extent)));
        double largest = 0, squares = 0;
        for (int64_t k = 0; k < shape_count(entry->shape); ++k) {
            const double value = (double)((const float *)entry->data)[k];
            largest = fmax(largest, fabs(value));
            squares += value * value;
        }
        const double deviation = sqrt(squares / (double)shape_count(entry->shape));
        assert_true(largest <= expected[i].bound * (1 + 1e-6) && largest >= 0.99 * expected[i].bound);
        assert_true(fabs(deviation - expected[i].bound / sqrt(3)) <= 0.03 * expected[i].bound);
    }
    step_close(&step);
}

/* No node computes a gradient of vectors that nobody wants: they are frozen. */
static void test_frozen_vectors_have_no_gradient(void **state)
{
    (void)state;
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    const int64_t shape[] = {2, 40, 6};
    const Value x = graph_input(graph, "vectors", shape_of(FLOAT32, 3, shape));
    const Value target = graph_input(graph, "target", shape_of(INT32, 1, shape));
    const Value weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, shape));
    const Value logits = global_pooling_cnn(graph, x, &global_pooling_cnn_published, 3);
    (void)graph_fuse(graph);
    graph_differentiate(graph, loss_build(graph, cross_entropy(), logits, target, weight));
    int data = 0, weights = 0;
    for (int i = 0; i < graph_node_count(graph); ++i) {
        const char *name = graph_node_at(graph, i)->op->name;
        data += strcmp(name, "conv1d_backward_data") == 0;
        weights += strcmp(name, "conv1d_backward_weights") == 0;
    }
    assert_int_equal(weights, 3);
    assert_int_equal(data, 2);
    assert_ok(graph_finish(graph));
    graph_free(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_values),
        cmocka_unit_test(test_cropping_changes_nothing),
        cmocka_unit_test(test_field),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_frozen_vectors_have_no_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
