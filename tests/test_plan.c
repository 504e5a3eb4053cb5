/* Plans: memory that is shared without being confused, buckets, micro-steps, checks; stores and checkpoints.
 */
#include "tests/support.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/base/safetensors.h"
#include "engine/device/collective_methods.h"
#include "engine/ops/ops.h"
#include "engine/plan/checkpoint.h"
#include "engine/plan/layout.h"
#include "engine/plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 6, SIDE = 5, CHANNELS = 4 };

/* ---- a network with everything that shares memory: dense concatenation, residual addition, slices ---- */

typedef struct {
    Graph *graph;
    Value x, weight, loss, output;
    Device *device;
    Store *store;
    Arena *arena;
    Collective *collective;
    Plan *plan;
} Fixture;

static Value conv_bn_relu(Graph *graph, const char *name, Value x, int64_t channels)
{
    graph_enter(graph, name);
    x = conv2d(graph, "conv", x, (Conv2d){.channels = channels, .kernel = 3, .padding = 1});
    x = relu(graph, batch_norm(graph, "bn", x, (BatchNorm){0}));
    graph_leave(graph);
    return x;
}

static void build(Fixture *f, int64_t samples, bool fuse)
{
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &f->graph));
    Graph *graph = f->graph;
    f->x = graph_input(graph, "x", shape_of(FLOAT32, 4, (const int64_t[]){samples, SIDE, SIDE, CHANNELS}));
    Value y = conv_bn_relu(graph, "stem", f->x, 8);
    for (int i = 0; i < 3; ++i) { /* a dense block: new features before old */
        char name[16];
        (void)snprintf(name, sizeof name, "dense%d", i);
        graph_enter(graph, name);
        Value new = relu(graph, batch_norm(graph, "bn", y, (BatchNorm){0}));
        new = conv2d(graph, "conv", new, (Conv2d){.channels = 4, .kernel = 1});
        graph_leave(graph);
        y = concat(graph, (const Value[]){new, y}, 2);
    }
    Value z = conv_bn_relu(graph, "left", y, 8);
    z = relu(graph, add(graph, z, slice(graph, y, 3, 8)));
    z = adaptive_average_pool2d(graph, z, 1, 1);
    z = linear(graph, "fc", flatten(graph, z), (Linear){.features = 3});
    f->output = z;
    f->weight = graph_input(graph, "weight", shape_of(FLOAT32, 2, (const int64_t[]){samples, 3}));
    f->loss = dot(graph, z, f->weight);
    graph_keep(graph, f->output);
    graph_keep(graph, f->loss);
    graph_want_gradient(graph, f->x);
    if (fuse) assert_true(graph_fuse(graph) >= 5);
    graph_differentiate(graph, f->loss);
    assert_ok(graph_finish(graph));
}

static void open_fixture(Fixture *f, int64_t samples, bool fuse, PlanOptions options)
{
    *f = (Fixture){.graph = NULL};
    build(f, samples, fuse);
    assert_ok(device_open(DEVICE_CPU, 0, 2, &f->device));
    assert_ok(store_create(f->device, (const Graph *[]){f->graph}, 1, 7, &f->store));
    assert_ok(arena_create(f->device, &f->arena));
    assert_ok(collective_self(&f->collective));
    assert_ok(plan_create(f->graph, f->store, f->arena, f->collective, options, &f->plan));
}

static void close_fixture(Fixture *f)
{
    plan_free(f->plan);
    arena_free(f->arena);
    store_free(f->store);
    device_close(f->device);
    graph_free(f->graph);
    collective_free(f->collective);
}

static void fill(float *data, int64_t count, uint64_t key)
{
    RandomStream stream = random_stream(3, RANDOM_TEST, key);
    for (int64_t i = 0; i < count; ++i)
        data[i] = (float)random_normal(&stream);
}

static void run(Fixture *f, int64_t first)
{
    const int64_t samples = graph_shape(f->graph, f->x).extent[0];
    float x[SAMPLES * SIDE * SIDE * CHANNELS], weight[SAMPLES * 3];
    fill(x, SAMPLES * SIDE * SIDE * CHANNELS, 1);
    fill(weight, SAMPLES * 3, 2);
    memcpy(plan_data(f->plan, f->x), x + first * SIDE * SIDE * CHANNELS,
           sizeof(float) * (size_t)(samples * SIDE * SIDE * CHANNELS));
    memcpy(plan_data(f->plan, f->weight), weight + first * 3, sizeof(float) * (size_t)(samples * 3));
    assert_ok(plan_run(f->plan));
}

static void sharing_memory_changes_no_bit(void **state)
{
    (void)state;
    for (int fuse = 0; fuse < 2; ++fuse) {
        Fixture shared, apart;
        open_fixture(&shared, SAMPLES, fuse == 1, PLAN_DEFAULTS);
        open_fixture(&apart, SAMPLES, fuse == 1, (PlanOptions){.share_memory = false});
        for (int repeat = 0; repeat < 3; ++repeat) { /* running statistics change from run to run */
            run(&shared, 0);
            run(&apart, 0);
            assert_memory_equal(plan_data(shared.plan, shared.output), plan_data(apart.plan, apart.output),
                                SAMPLES * 3 * sizeof(float));
            assert_memory_equal(plan_data(shared.plan, shared.loss), plan_data(apart.plan, apart.loss),
                                sizeof(double));
            assert_memory_equal(store_gradients(shared.store), store_gradients(apart.store),
                                sizeof(float) * (size_t)store_flat_count(apart.store));
            assert_memory_equal(plan_data(shared.plan, graph_gradient(shared.graph, shared.x)),
                                plan_data(apart.plan, graph_gradient(apart.graph, apart.x)),
                                sizeof(float) * SAMPLES * SIDE * SIDE * CHANNELS);
        }
        const PlanReport report = plan_report(shared.plan), all = plan_report(apart.plan);
        assert_true(report.arena_bytes < all.arena_bytes);
        assert_true(report.arena_bytes < report.tensor_bytes);
        assert_true(report.views > 0);
        assert_true(report.flops > 0 && report.flops == all.flops);
        close_fixture(&shared);
        close_fixture(&apart);
    }
}

/* Two values in use at the same time may share a buffer only side by side (columns of the same rows) or when
 * one is a view of the other; buffers in use at the same time do not overlap in the arena. */
static void live_buffers_do_not_overlap(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, SAMPLES, true, PLAN_DEFAULTS);
    bool *is_gradient = calloc((size_t)graph_value_count(f.graph), sizeof *is_gradient);
    assert_non_null(is_gradient);
    Layout layout;
    assert_ok(layout_create(f.graph, DEVICE_CPU, is_gradient, true, &layout));
    for (int i = layout.scratch; i < layout.buffer_count; ++i)
        layout.buffer[i].bytes = 1000;
    assert_ok(layout_assign_offsets(&layout));
    for (int i = 0; i < layout.buffer_count; ++i) {
        const Buffer *a = &layout.buffer[i];
        assert_true(a->offset % 256 == 0 && a->offset + a->bytes <= layout.arena_bytes);
        for (int k = 0; k < i; ++k) {
            const Buffer *b = &layout.buffer[k];
            const bool together = a->first <= b->last && b->first <= a->last;
            const bool apart = a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
            if (together && a->bytes > 0 && b->bytes > 0) assert_true(apart);
        }
    }
    for (int v = 0; v < graph_value_count(f.graph); ++v) {
        const Place *place = &layout.place[v];
        if (place->buffer < 0) continue;
        assert_true(layout.buffer[place->buffer].first <= place->first &&
                    layout.buffer[place->buffer].last >= place->last);
        assert_true(place->column + shape_columns(graph_shape(f.graph, (Value){v})) <= place->stride);
    }
    layout_free(&layout);
    free(is_gradient);
    close_fixture(&f);
}

static void profiling_counts_every_node_once(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, SAMPLES, true, (PlanOptions){.share_memory = true, .profile = true});
    run(&f, 0);
    run(&f, 0);
    const ProfileRow *row;
    const int rows = plan_profile(f.plan, &row);
    int nodes = 0;
    double flops = 0;
    for (int i = 0; i < rows; ++i) {
        nodes += row[i].nodes;
        flops += row[i].flops;
        assert_int_equal(row[i].runs, 2);
        assert_true(row[i].seconds >= 0);
    }
    assert_int_equal(nodes, graph_node_count(f.graph));
    assert_true(fabs(flops - 2 * plan_report(f.plan).flops) <= 1e-9 * flops);
    close_fixture(&f);
}

/* ---- reductions ---- */

typedef struct {
    const float *base;
    int64_t next; /* element at which the next gradient bucket must start */
    int sums, joins;
} Recorder;

static Status record_sum(Collective *collective, Span span, Stream after)
{
    (void)after;
    Recorder *recorder = collective->implementation;
    ++recorder->sums;
    if (span.type == FLOAT32) {
        assert_ptr_equal(span.data, recorder->base + recorder->next);
        recorder->next += span.count;
    }
    return OK;
}
static Status record_join(Collective *collective, Stream stream)
{
    (void)stream;
    ++((Recorder *)collective->implementation)->joins;
    return OK;
}
static Status healthy(Collective *collective)
{
    (void)collective;
    return OK;
}

static void buckets_cover_the_gradient_in_order(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, SAMPLES, true, PLAN_DEFAULTS);
    Recorder recorder = {.base = store_gradients(f.store)};
    static const CollectiveMethods methods = {.sum = record_sum, .join = record_join, .health = healthy};
    Collective collective = {.size = 2, .methods = &methods, .implementation = &recorder};
    Plan *plan;
    assert_ok(plan_create(f.graph, f.store, f.arena, &collective,
                          (PlanOptions){.share_memory = true, .bucket_bytes = 512}, &plan));
    assert_ok(plan_reduce(plan, f.loss));
    assert_fails(plan_reduce(plan, NO_VALUE), STATUS_INTERNAL, "kept");
    memset(plan_data(plan, f.x), 0, sizeof(float) * SAMPLES * SIDE * SIDE * CHANNELS);
    memset(plan_data(plan, f.weight), 0, sizeof(float) * SAMPLES * 3);
    assert_ok(plan_run(plan));
    assert_int_equal(recorder.next, store_flat_count(f.store));
    assert_true(plan_report(plan).buckets > 2);
    assert_int_equal(recorder.sums, plan_report(plan).buckets + 1);
    assert_int_equal(recorder.joins, 1);
    plan_free(plan);
    close_fixture(&f);
}

/* The sum of two ranks with the same gradients. */
static Status double_sum(Collective *collective, Span span, Stream after)
{
    (void)after;
    Recorder *recorder = collective->implementation;
    ++recorder->sums;
    if (span.type != BFLOAT16) return OK; /* the loss */
    bfloat16 *values = span.data;
    for (int64_t i = 0; i < span.count; ++i)
        values[i] = bfloat16_from_float(2 * bfloat16_to_float(values[i]));
    recorder->next += span.count;
    return OK;
}

static void gradients_travel_as_bfloat16(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, SAMPLES, true, PLAN_DEFAULTS);
    const int64_t count = store_flat_count(f.store);
    float *alone = calloc((size_t)count, sizeof *alone);
    assert_non_null(alone);
    for (int ranks = 1; ranks <= 2; ++ranks) {
        Recorder recorder = {.sums = 0};
        static const CollectiveMethods methods = {.sum = double_sum, .join = record_join, .health = healthy};
        Collective collective = {.size = ranks, .methods = &methods, .implementation = &recorder};
        Plan *plan;
        assert_ok(plan_create(f.graph, f.store, f.arena, &collective,
                              (PlanOptions){.bucket_bytes = 512, .gradient_type = BFLOAT16}, &plan));
        float *x = plan_data(plan, f.x), *weight = plan_data(plan, f.weight);
        for (int i = 0; i < SAMPLES * SIDE * SIDE * CHANNELS; ++i)
            x[i] = 0.01F * (float)(i * 37 % 101) - 0.5F;
        for (int i = 0; i < SAMPLES * 3; ++i)
            weight[i] = 1 + 0.1F * (float)i;
        assert_ok(plan_run(plan));
        const float *gradient = store_gradients(f.store);
        double norm = 0;
        for (int64_t i = 0; i < count; ++i) {
            /* One rank has nobody to send them to, and keeps them as they are. */
            if (ranks == 1) alone[i] = gradient[i];
            if (ranks == 2) assert_true(gradient[i] == 2 * bfloat16_to_float(bfloat16_from_float(alone[i])));
            norm += (double)gradient[i] * (double)gradient[i];
        }
        assert_true(norm > 0);
        assert_int_equal(recorder.next, ranks == 1 ? 0 : count);
        plan_free(plan);
    }
    free(alone);
    close_fixture(&f);
}

static void gradients_lie_in_the_order_of_backward(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, SAMPLES, true, PLAN_DEFAULTS);
    int last = -1;
    int64_t parameters = 0;
    for (int i = 0; i < store_count(f.store); ++i) {
        const StoreEntry *entry = store_at(f.store, i);
        if (entry->role != ROLE_PARAMETER) continue;
        const int producer =
            graph_producer(f.graph, graph_gradient(f.graph, graph_find(f.graph, entry->name)));
        assert_true(producer >= last);
        assert_int_equal(entry->offset % 16, 0);
        last = producer;
        parameters += shape_count(entry->shape);
    }
    assert_int_equal(parameters, store_parameter_count(f.store));
    assert_string_equal(store_at(f.store, 0)->name[0] == 'f' ? "fc" : "",
                        "fc"); /* the last layer's gradient is first */
    close_fixture(&f);
}

/* A linear network without batch statistics: the parts of a batch add up to the whole exactly up to rounding.
 */
static void micro_steps_add_up(void **state)
{
    (void)state;
    double *want = NULL;
    for (int parts = 1; parts <= 3; ++parts) {
        const int64_t samples = SAMPLES / parts;
        Fixture f = {.graph = NULL};
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &f.graph));
        f.x =
            graph_input(f.graph, "x", shape_of(FLOAT32, 4, (const int64_t[]){samples, SIDE, SIDE, CHANNELS}));
        f.weight = graph_input(f.graph, "weight", shape_of(FLOAT32, 2, (const int64_t[]){samples, 3}));
        f.output = linear(f.graph, "fc", flatten(f.graph, f.x), (Linear){.features = 3});
        f.loss = dot(f.graph, f.output, f.weight);
        graph_keep(f.graph, f.loss);
        graph_differentiate(f.graph, f.loss);
        assert_ok(graph_finish(f.graph));
        assert_ok(device_open(DEVICE_CPU, 0, 2, &f.device));
        assert_ok(store_create(f.device, (const Graph *[]){f.graph}, 1, 7, &f.store));
        assert_ok(arena_create(f.device, &f.arena));
        assert_ok(collective_self(&f.collective));
        assert_ok(plan_create(f.graph, f.store, f.arena, f.collective, PLAN_DEFAULTS, &f.plan));
        for (int repeat = 0; repeat < 2; ++repeat) /* the second time must not remember the first */
            for (int part = 0; part < parts; ++part) {
                plan_set_micro_step(f.plan, part, parts);
                run(&f, part * samples);
            }
        const int64_t count = store_flat_count(f.store);
        if (want == NULL) {
            want = calloc((size_t)count, sizeof *want);
            assert_non_null(want);
            for (int64_t i = 0; i < count; ++i)
                want[i] = (double)store_gradients(f.store)[i];
        }
        assert_close_float(store_gradients(f.store), want, count, 1e-5, 1e-5, "gradient");
        close_fixture(&f);
    }
    free(want);
}

/* ---- checks ---- */

static void what_is_not_finite_is_named(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, SAMPLES, true, PLAN_DEFAULTS);
    run(&f, 0);
    assert_ok(plan_check_finite(f.plan));
    const StoreEntry *entry = store_find(f.store, "left.conv.weight");
    assert_non_null(entry);
    entry->gradient[2] = NAN;
    assert_fails(plan_check_finite(f.plan), STATUS_NUMERIC,
                 "the gradient of left.conv.weight is NaN at element 2");
    ((float *)plan_data(f.plan, f.output))[1] = INFINITY;
    assert_fails(plan_check_finite(f.plan), STATUS_NUMERIC, "fc.linear is infinite at element 1");
    ((float *)entry->data)[0] = NAN;
    assert_fails(plan_check_finite(f.plan), STATUS_NUMERIC, "parameter left.conv.weight");
    close_fixture(&f);
}

static void external_inputs_must_be_bound(void **state)
{
    (void)state;
    Fixture f = {.graph = NULL};
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &f.graph));
    f.x = graph_external_input(f.graph, "table", shape_of(FLOAT32, 2, (const int64_t[]){2, 3}));
    f.output = relu(f.graph, f.x);
    graph_keep(f.graph, f.output);
    assert_ok(graph_finish(f.graph));
    assert_ok(device_open(DEVICE_CPU, 0, 1, &f.device));
    assert_ok(store_create(f.device, (const Graph *[]){f.graph}, 1, 7, &f.store));
    assert_ok(arena_create(f.device, &f.arena));
    assert_ok(collective_self(&f.collective));
    assert_ok(plan_create(f.graph, f.store, f.arena, f.collective, PLAN_DEFAULTS, &f.plan));
    assert_fails(plan_run(f.plan), STATUS_INTERNAL, "table");
    float table[] = {1, -2, 3, -4, 5, -6};
    plan_bind(f.plan, f.x, table);
    assert_ok(plan_run(f.plan));
    assert_true(((float *)plan_data(f.plan, f.output))[2] == 3.0F);
    assert_true(((float *)plan_data(f.plan, f.output))[1] == 0.0F);
    assert_true(table[1] == -2.0F); /* what the caller bound is never overwritten */
    close_fixture(&f);
}

static void a_growing_arena_moves_every_plan(void **state)
{
    (void)state;
    Fixture small;
    open_fixture(&small, 1, true, PLAN_DEFAULTS);
    run(&small, 0);
    float before[3];
    memcpy(before, plan_data(small.plan, small.output), sizeof before);
    Fixture large = {.graph = NULL};
    build(&large, SAMPLES, true);
    assert_ok(
        plan_create(large.graph, small.store, small.arena, small.collective, PLAN_DEFAULTS, &large.plan));
    run(&small, 0);
    assert_memory_equal(before, plan_data(small.plan, small.output), sizeof before);
    plan_free(large.plan);
    graph_free(large.graph);
    close_fixture(&small);
}

static void another_shape_in_the_store_is_named(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, 1, true, PLAN_DEFAULTS);
    Graph *graph;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    const Value x = graph_input(graph, "x", shape_of(FLOAT32, 2, (const int64_t[]){1, 9}));
    (void)linear(graph, "fc", x, (Linear){.features = 3});
    assert_ok(graph_finish(graph));
    Plan *plan;
    assert_fails(plan_create(graph, f.store, f.arena, f.collective, PLAN_DEFAULTS, &plan), STATUS_INPUT,
                 "fc.weight is float32[3, 8]");
    graph_free(graph);
    close_fixture(&f);
}

/* ---- checkpoints ---- */

static void checkpoints_bring_everything_back(void **state)
{
    (void)state;
    char folder[4096], path[8192];
    test_scratch_make(folder);
    Fixture f, g;
    open_fixture(&f, SAMPLES, true, PLAN_DEFAULTS);
    float *momentum, *other;
    assert_ok(store_flat(f.store, "momentum", false, &momentum));
    run(&f, 0);
    for (int64_t i = 0; i < store_flat_count(f.store); ++i)
        momentum[i] = 0;
    for (int i = 0; i < store_count(f.store); ++i) {
        const StoreEntry *entry = store_at(f.store, i);
        if (entry->role == ROLE_PARAMETER)
            fill(momentum + entry->offset, shape_count(entry->shape), 10 + (uint64_t)i);
    }
    const SafeMetadata metadata[] = {{"step", "12"}, {"epoch", "3"}};
    assert_false(checkpoint_exists(folder, "step-12"));
    assert_ok(checkpoint_save(f.store, folder, "step-12", metadata, 2));
    assert_true(checkpoint_exists(folder, "step-12"));

    open_fixture(&g, SAMPLES, true, PLAN_DEFAULTS);
    assert_ok(store_flat(g.store, "momentum", false, &other));
    memset(store_parameters(g.store), 0, sizeof(float) * (size_t)store_flat_count(g.store));
    SafeFile *file;
    assert_ok(checkpoint_load(g.store, folder, "step-12", &file));
    assert_string_equal(safetensors_metadata(file, "step"), "12");
    /* PyTorch's layout: [out, in, height, width]. */
    const SafeTensor *tensor = safetensors_find(file, "stem.conv.weight");
    assert_int_equal(tensor->extent[0], 8);
    assert_int_equal(tensor->extent[1], CHANNELS);
    assert_int_equal(tensor->extent[2], 3);
    const float *in_memory = store_find(f.store, "stem.conv.weight")->data, *in_file = tensor->data;
    assert_true(in_file[((2 * CHANNELS + 1) * 3 + 0) * 3 + 2] ==
                in_memory[((2 * 3 + 0) * 3 + 2) * CHANNELS + 1]);
    safetensors_close(file);
    assert_memory_equal(store_parameters(f.store), store_parameters(g.store),
                        sizeof(float) * (size_t)store_flat_count(f.store));
    assert_memory_equal(momentum, other, sizeof(float) * (size_t)store_flat_count(f.store));
    const StoreEntry *mean = store_find(f.store, "stem.bn.running_mean"),
                     *tracked = store_find(g.store, "stem.bn.num_batches_tracked");
    assert_memory_equal(mean->data, store_find(g.store, "stem.bn.running_mean")->data,
                        shape_bytes(mean->shape));
    assert_int_equal(*(int64_t *)tracked->data, 1);

    /* Another network, a later format, a pair that does not belong together, a missing half. */
    Graph *graph;
    Store *wrong;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    (void)linear(graph, "fc", graph_input(graph, "x", shape_of(FLOAT32, 2, (const int64_t[]){1, 9})),
                 (Linear){.features = 3});
    assert_ok(graph_finish(graph));
    assert_ok(store_create(f.device, (const Graph *[]){graph}, 1, 1, &wrong));
    assert_fails(checkpoint_load(wrong, folder, "step-12", NULL), STATUS_INPUT, "fc.weight");
    store_free(wrong);
    graph_free(graph);
    const float one = 1;
    const SafeTensor newer = {
        .name = "fc.weight", .type = FLOAT32, .rank = 0, .data = &one, .bytes = sizeof one};
    (void)snprintf(path, sizeof path, "%s/newer.model.safetensors", folder);
    assert_ok(safetensors_write(path, &newer, 1, &(SafeMetadata){"plumb.format", "99"}, 1));
    assert_fails(checkpoint_load(g.store, folder, "newer", NULL), STATUS_INPUT, "newer plumb");
    HostCopy *model;
    assert_ok(checkpoint_copy_model(f.store, &model));
    assert_ok(checkpoint_write_model(model, folder, "step-12", &(SafeMetadata){"step", "13"}, 1));
    host_copy_free(model);
    assert_fails(checkpoint_load(g.store, folder, "step-12", NULL), STATUS_INPUT, "do not belong together");
    assert_fails(checkpoint_load(g.store, folder, "absent", NULL), STATUS_IO, "absent.model.safetensors");
    checkpoint_remove(folder, "step-12");
    assert_false(checkpoint_exists(folder, "step-12"));
    close_fixture(&f);
    close_fixture(&g);
    test_scratch_remove(folder);
}

static void starting_weights_may_come_from_pytorch(void **state)
{
    (void)state;
    char folder[4096], path[8192];
    test_scratch_make(folder);
    (void)snprintf(path, sizeof path, "%s/weights.safetensors", folder);
    Fixture f;
    open_fixture(&f, 1, true, PLAN_DEFAULTS);
    SafeTensor tensor[64];
    char name[64][64];
    int count = 0;
    float *ones = malloc(sizeof(float) * 4096);
    assert_non_null(ones);
    for (int i = 0; i < 4096; ++i)
        ones[i] = 1.0F;
    for (int i = 0; i < store_count(f.store); ++i) {
        const StoreEntry *entry = store_at(f.store, i);
        if (entry->role != ROLE_PARAMETER) continue;
        (void)snprintf(name[count], sizeof name[count], "module.%s", entry->name);
        tensor[count] = (SafeTensor){.name = name[count],
                                     .type = FLOAT32,
                                     .rank = entry->shape.rank,
                                     .data = ones,
                                     .bytes = shape_bytes(entry->shape)};
        memcpy(tensor[count].extent, entry->shape.extent, sizeof entry->shape.extent);
        if (entry->shape.rank == 4) {
            tensor[count].extent[1] = entry->shape.extent[3];
            tensor[count].extent[2] = entry->shape.extent[1];
            tensor[count].extent[3] = entry->shape.extent[2];
        }
        ++count;
    }
    assert_ok(safetensors_write(path, tensor, count, NULL, 0));
    assert_ok(checkpoint_load_weights(f.store, path, "", NULL));
    assert_true(((float *)store_find(f.store, "fc.weight")->data)[5] == 1.0F);
    assert_ok(safetensors_write(path, tensor, count - 1, NULL, 0));
    ((float *)store_find(f.store, "fc.weight")->data)[5] = 2.0F;
    assert_fails(checkpoint_load_weights(f.store, path, "", NULL), STATUS_INPUT, "has no tensor");
    assert_true(((float *)store_find(f.store, "fc.weight")->data)[5] == 2.0F); /* all or nothing */
    /* As bfloat16 and float64, which PyTorch's files may have; and no weights at all. */
    enum { ELEMENT = 7 };
    bfloat16 *narrow = malloc(sizeof *narrow * 4096);
    double *wide = malloc(sizeof *wide * 4096);
    assert_non_null(narrow);
    assert_non_null(wide);
    for (int i = 0; i < 4096; ++i) {
        narrow[i] = bfloat16_from_float(1.5F);
        wide[i] = 0.1;
    }
    for (int i = 0; i < count; ++i) {
        const bool as_double = i % 2 == 0;
        tensor[i].bytes = tensor[i].bytes / sizeof(float) * (as_double ? sizeof(double) : sizeof(bfloat16));
        tensor[i].type = as_double ? FLOAT64 : BFLOAT16;
        tensor[i].data = as_double ? (const void *)wide : narrow;
    }
    assert_ok(safetensors_write(path, tensor, count, NULL, 0));
    assert_ok(checkpoint_load_weights(f.store, path, "", NULL));
    for (int i = 0; i < count; ++i) {
        const float *read = store_find(f.store, name[i] + strlen("module."))->data;
        assert_true(read[0] == (i % 2 == 0 ? 0.1F : 1.5F));
    }
    static const struct {
        double value;
        const char *message;
    } bad[] = {{NAN, "element 7 is NaN"}, {1e300, "element 7 is infinite as float32"}};
    for (int i = 0; i < 2; ++i) {
        wide[ELEMENT] = bad[i].value;
        assert_ok(safetensors_write(path, tensor, count, NULL, 0));
        assert_fails(checkpoint_load_weights(f.store, path, "", NULL), STATUS_INPUT, bad[i].message);
    }
    /* Some of them, from a file that holds others, too. */
    wide[ELEMENT] = 0.2;
    tensor[0].data = wide;
    tensor[0].type = FLOAT64;
    (void)snprintf(name[count > 0 ? count - 1 : 0], sizeof name[0], "of.another.network");
    assert_ok(safetensors_write(path, tensor, count, NULL, 0));
    ((float *)store_find(f.store, "fc.weight")->data)[5] = 2.0F;
    char *kept;
    assert_ok(checkpoint_load_weights(f.store, path, "left.*", &kept));
    assert_true(((float *)store_find(f.store, "fc.weight")->data)[5] == 2.0F);
    assert_non_null(strstr(kept, ", "));
    assert_null(strstr(kept, "left."));
    free(kept);
    assert_fails(checkpoint_load_weights(f.store, path, "", NULL), STATUS_INPUT, "holds of.another.network");
    assert_fails(checkpoint_load_weights(f.store, path, "lefd.conv.weight", NULL), STATUS_INPUT,
                 "lefd.conv.weight fits no parameter of this network; the nearest is left.conv.weight");
    free(narrow);
    free(wide);
    free(ones);
    close_fixture(&f);
    test_scratch_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharing_memory_changes_no_bit),
        cmocka_unit_test(live_buffers_do_not_overlap),
        cmocka_unit_test(profiling_counts_every_node_once),
        cmocka_unit_test(buckets_cover_the_gradient_in_order),
        cmocka_unit_test(gradients_travel_as_bfloat16),
        cmocka_unit_test(gradients_lie_in_the_order_of_backward),
        cmocka_unit_test(micro_steps_add_up),
        cmocka_unit_test(what_is_not_finite_is_named),
        cmocka_unit_test(external_inputs_must_be_bound),
        cmocka_unit_test(a_growing_arena_moves_every_plan),
        cmocka_unit_test(another_shape_in_the_store_is_named),
        cmocka_unit_test(checkpoints_bring_everything_back),
        cmocka_unit_test(starting_weights_may_come_from_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
