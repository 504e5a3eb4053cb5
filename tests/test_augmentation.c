/* From the table of bytes to the network's input: what the loader chose, as the op augment makes it, against
 * the textbook way in double precision: pad the image, cut the crop out, mirror it, normalise. */
#include "tests/support.h"

#include "engine/base/random.h"
#include "engine/data/images/image_source.h"
#include "engine/data/images/reader.h"
#include "engine/data/loader.h"
#include "engine/ops/ops.h"
#include "engine/plan/plan.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 30, HEIGHT = 7, WIDTH = 9, BATCH = 8, LARGEST = 3 };

typedef struct {
    int64_t channels, padding;
    bool flip;
    DType compute;
} Case;

static Dataset *make_dataset(int64_t channels)
{
    ImageTable *table;
    assert_ok(image_table_new((ImageTableSize){"noise", ROWS, 4, HEIGHT, WIDTH, channels, 10}, &table));
    RandomStream stream = random_stream(1, RANDOM_TEST, 0);
    for (int64_t i = 0; i < table->rows * image_table_row_bytes(table); ++i)
        table->pixels[i] = (uint8_t)random_below(&stream, 256);
    static const Normalisation normalisation = {{0.4914F, 0.4822F, 0.4465F}, {0.2023F, 0.1994F, 0.2010F}};
    const DatasetOptions options = {.validation = -1};
    assert_ok(image_table_split(table, &options, (HoldOut){.usual = 5}));
    for (int split = 0; split < SPLIT_COUNT; ++split)
        image_table_normalise(table, (Split)split, &normalisation);
    return &table->dataset;
}

static void reference(const Dataset *dataset, const Case *c, const int64_t *row, const int32_t *crop,
                      int64_t i, double *want)
{
    enum { PADDED_HEIGHT = HEIGHT + 2 * LARGEST, PADDED_WIDTH = WIDTH + 2 * LARGEST };
    const DataSplit *split = &dataset->split[SPLIT_TRAIN];
    const uint8_t *image = split->table + row[i] * HEIGHT * WIDTH * c->channels;
    uint8_t padded[PADDED_HEIGHT][PADDED_WIDTH][4];
    memset(padded, 0, sizeof padded);
    for (int64_t y = 0; y < HEIGHT; ++y)
        for (int64_t x = 0; x < WIDTH; ++x)
            memcpy(padded[y + c->padding][x + c->padding], image + (y * WIDTH + x) * c->channels,
                   (size_t)c->channels);
    const int32_t top = crop[3 * i], left = crop[3 * i + 1], mirror = crop[3 * i + 2];
    for (int64_t y = 0; y < HEIGHT; ++y)
        for (int64_t x = 0; x < WIDTH; ++x)
            for (int64_t k = 0; k < c->channels; ++k) {
                const int64_t from = mirror != 0 ? WIDTH - 1 - x : x;
                const double pixel = padded[top + y][left + from][k] / 255.0;
                want[(y * WIDTH + x) * c->channels + k] =
                    (pixel - (double)split->mean[k]) / (double)split->deviation[k];
            }
}

/* Two epochs, so that all kinds of crop are met. */
static void run_case(const Case *c)
{
    Dataset *dataset = make_dataset(c->channels);
    const DataSplit *split = &dataset->split[SPLIT_TRAIN];
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, c->compute, &graph));
    const Value table = graph_external_input(
        graph, "table", shape_of(UINT8, 4, (int64_t[]){split->rows, HEIGHT, WIDTH, c->channels}));
    const Value index = graph_input(graph, "index", shape_of(INT64, 1, (int64_t[]){BATCH}));
    const Value crop = graph_input(graph, "crop", shape_of(INT32, 2, (int64_t[]){BATCH, 3}));
    Augment options = {.padding = c->padding, .flip = c->flip};
    memcpy(options.mean, split->mean, sizeof options.mean);
    memcpy(options.deviation, split->deviation, sizeof options.deviation);
    const Value images = augment(graph, table, index, crop, options);
    graph_keep(graph, images);
    assert_ok(graph_finish(graph));

    Device *device;
    Store *store;
    Arena *arena;
    Collective *alone;
    Plan *plan;
    assert_ok(device_open(DEVICE_CPU, 0, 2, &device));
    assert_ok(store_create(device, (const Graph *[]){graph}, 1, 1, &store));
    assert_ok(arena_create(device, &arena));
    assert_ok(collective_self(&alone));
    assert_ok(plan_create(graph, store, arena, alone, PLAN_DEFAULTS, &plan));
    plan_bind(plan, table, (void *)(uintptr_t)split->table); /* only read */

    Source *source;
    Loader *loader;
    const ImageSourceOptions chosen = {
        .batches = {.batch = BATCH, .parts = 1, .ranks = 1, .seed = 5, .training = true},
        .split = SPLIT_TRAIN,
        .crop_padding = c->padding,
        .flip = c->flip};
    assert_ok(image_source_open(dataset, &chosen, &source));
    assert_ok(loader_open(source, &loader));
    enum { IMAGE = HEIGHT * WIDTH * 3 };
    double *want = calloc(IMAGE, sizeof *want), *got = calloc(IMAGE, sizeof *got);
    assert_non_null(want);
    assert_non_null(got);
    const int64_t image = HEIGHT * WIDTH * c->channels;
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
        assert_ok(loader_start(loader, epoch, 0));
        for (;;) {
            const Batch *batch;
            assert_ok(loader_next(loader, &batch));
            if (batch == NULL) break;
            const int64_t *rows = batch->part[0].field[batch_shape_find(&source->shape[0], "index")];
            const int32_t *crops = batch->part[0].field[batch_shape_find(&source->shape[0], "crop")];
            assert_ok(device_upload(device, plan_data(plan, index), rows, BATCH * sizeof(int64_t)));
            assert_ok(device_upload(device, plan_data(plan, crop), crops, BATCH * 3 * sizeof(int32_t)));
            assert_ok(plan_run(plan));
            for (int64_t i = 0; i < BATCH; ++i) {
                reference(dataset, c, rows, crops, i, want);
                for (int64_t p = 0; p < image; ++p)
                    got[p] = c->compute == FLOAT32
                                 ? (double)((const float *)plan_data(plan, images))[i * image + p]
                                 : (double)bfloat16_to_float(
                                       ((const bfloat16 *)plan_data(plan, images))[i * image + p]);
                const double relative = c->compute == FLOAT32 ? 1e-6 : 1.0 / 256;
                assert_close(got, want, image, relative, 1e-6, "pixels");
            }
        }
    }
    free(want);
    free(got);
    loader_close(loader);
    source_free(source);
    plan_free(plan);
    collective_free(alone);
    arena_free(arena);
    store_free(store);
    device_close(device);
    graph_free(graph);
    dataset_close(dataset);
}

static void batches_become_pixels(void **state)
{
    (void)state;
    static const Case cases[] = {
        {3, 0, false, FLOAT32}, {3, LARGEST, true, FLOAT32}, {3, LARGEST, false, FLOAT32},
        {3, 0, true, FLOAT32},  {1, 2, true, FLOAT32},       {3, LARGEST, true, BFLOAT16},
        {1, 1, true, BFLOAT16},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i)
        run_case(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_become_pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
