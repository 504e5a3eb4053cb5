/* Whole Transformers against golden values: their losses and gradients, and five steps of training; and their files. */
#include "tests/golden.h"
#include "tests/golden_transformer.h"
#include "tests/scratch.h"
#include "tests/transformer_tensors.h"

#include "engine/base/random.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/checkpoint.h"
#include "losses/loss_head.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- networks ---- */

typedef struct {
    int64_t sentences, source_positions, target_positions;
    double *source, *length, *target, *target_length, *label, *weight;
    double tokens;
} Sentences;

static double *copied(GoldenArray *array)
{
    double *values = array->values;
    array->values = NULL;
    return values;
}

static double *lengths_of(const double *ids, int64_t rows, int64_t columns)
{
    double *length = new_items(rows, sizeof *length);
    for (int64_t i = 0; i < rows * columns; ++i)
        length[i / columns] += ids[i] != 0;
    return length;
}

/* The inputs source, decoder_input and decoder_output, with `suffix`. */
static Sentences batch_of(const GoldenCase *golden, const char *suffix)
{
    char path[3][64];
    const char *const roles[3] = {"source", "decoder_input", "decoder_output"};
    GoldenArray array[3];
    for (int i = 0; i < 3; ++i) {
        (void)snprintf(path[i], sizeof path[i], "inputs/%s%s", roles[i], suffix);
        array[i] = golden_array(golden, path[i]);
    }
    Sentences b = {.sentences = array[0].extent[0],
                   .source_positions = array[0].extent[1],
                   .target_positions = array[1].extent[1]};
    b.source = copied(&array[0]);
    b.target = copied(&array[1]);
    b.label = copied(&array[2]);
    b.length = lengths_of(b.source, b.sentences, b.source_positions);
    b.target_length = lengths_of(b.target, b.sentences, b.target_positions);
    b.weight = new_items(b.sentences * b.target_positions, sizeof *b.weight);
    for (int64_t i = 0; i < b.sentences * b.target_positions; ++i) {
        b.weight[i] = b.label[i] != 0;
        b.tokens += b.weight[i];
    }
    return b;
}

static void batch_free(Sentences *b)
{
    double *const all[] = {b->source, b->length, b->target, b->target_length, b->label, b->weight};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i)
        free(all[i]);
}

static const struct {
    const char *name;
    LossHead head;
} losses[] = {
    {"cross_entropy", {.form = SAMPLE_LABEL_SMOOTHING}},
    {"label_smoothing_0.1_torch", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.1, .uniform = true}},
    {"label_smoothing_0.1_paper", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.1}},
    {"focal_gamma1", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {1}}}},
    {"flsd_53", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {5, 3}, .limit = {0.2}, .limits = 1}}},
};
enum { LOSSES = sizeof losses / sizeof losses[0] };

/* A graph of a batch's shape. */
typedef struct {
    Value source, length, target, label, weight, memory, logits, sums;
} Inputs;

static Graph *build(const Transformer *t, const Sentences *b, const LossHead *head, GraphMode mode,
                    Inputs *in)
{
    Graph *graph;
    assert_ok(graph_create(mode, FLOAT32, &graph));
    const int64_t n = b->sentences, rows = n * b->target_positions;
    in->source = graph_input(graph, "source", shape_of(INT32, 2, (int64_t[]){n, b->source_positions}));
    in->length = graph_input(graph, "source_length", shape_of(INT32, 1, &n));
    in->target = graph_input(graph, "target_input", shape_of(INT32, 2, (int64_t[]){n, b->target_positions}));
    in->label = graph_input(graph, "target", shape_of(INT32, 1, &rows));
    in->weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, &rows));
    in->memory = transformer_encoder(graph, t, in->source, in->length);
    const Value hidden = transformer_decoder(graph, t, in->memory, in->length, in->target);
    in->logits = transformer_logits(graph, t, hidden);
    in->sums = loss_head(graph, in->logits, in->label, in->weight, head);
    graph_keep(graph, in->memory);
    graph_keep(graph, in->logits);
    graph_keep(graph, in->sums);
    (void)graph_fuse(graph);
    if (mode == GRAPH_TRAIN) graph_differentiate(graph, in->sums);
    return graph;
}

static void fill(const Machine *m, int graph, const Inputs *in, const Sentences *b)
{
    machine_put_input(m, graph, in->source, b->source);
    machine_put_input(m, graph, in->length, b->length);
    machine_put_input(m, graph, in->target, b->target);
    machine_put_input(m, graph, in->label, b->label);
    machine_put_input(m, graph, in->weight, b->weight);
}

/* The tensors of the case's index, of which `values` and `got` are one array each. */
static void index_tensors(const GoldenCase *golden, const double *values, double *got, NamedTensors *t)
{
    cJSON *index = golden_document(golden, "inputs/index");
    const cJSON *item;
    t->count = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(index, "tensors"))
    {
        assert_true(t->count < (int)(sizeof t->tensor / sizeof t->tensor[0]));
        Named *tensor = &t->tensor[t->count++];
        const int64_t offset = (int64_t)golden_json_number(cJSON_GetObjectItemCaseSensitive(item, "offset"));
        const cJSON *extent;
        (void)snprintf(tensor->name, sizeof tensor->name, "%s",
                       cJSON_GetObjectItemCaseSensitive(item, "name")->valuestring);
        tensor->count = 1;
        cJSON_ArrayForEach(extent, cJSON_GetObjectItemCaseSensitive(item, "shape")) tensor->count *=
            (int64_t)golden_json_number(extent);
        tensor->values = values + offset;
        tensor->got = got + offset;
    }
    cJSON_Delete(index);
}

/* Rows of real positions alone, `columns` each. */
static void check_real(const GoldenCase *golden, const char *role, const double *all, const double *ids,
                       int64_t rows, int64_t columns)
{
    double *real = new_items(rows * columns, sizeof *real);
    int64_t count = 0;
    for (int64_t r = 0; r < rows; ++r)
        if (ids[r] != 0) memcpy(real + columns * count++, all + columns * r, (size_t)columns * sizeof *real);
    check_role(golden, role, real, count * columns);
}

/* The loss of each token is that of the batch in which it alone has weight. */
static void check_tokens(const GoldenCase *golden, const Machine *m, int graph, const Inputs *in,
                         const Sentences *b, const char *role)
{
    const int64_t rows = b->sentences * b->target_positions;
    double *weight = new_items(rows, sizeof *weight), *loss = new_items(rows, sizeof *loss);
    for (int64_t r = 0; r < rows; ++r) {
        if (b->weight[r] == 0) continue;
        weight[r] = 1;
        Sentences alone = *b;
        alone.weight = weight;
        fill(m, graph, in, &alone);
        weight[r] = 0;
        machine_run(m, graph);
        double *sums = machine_get_result(m, graph, in->sums);
        loss[r] = sums[LOSS_SUM];
        free(sums);
    }
    check_real(golden, role, loss, b->label, rows, 1);
    free(weight);
    free(loss);
}

static double norm_of(const double *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; ++i)
        sum += values[i] * values[i];
    return sqrt(sum);
}

static void check_loss(const GoldenCase *golden, const Sentences *b, const GoldenArray *weights, int loss)
{
    const Transformer t = golden_transformer(golden);
    const int64_t rows = b->sentences * b->target_positions;
    char path[128];
    Machine m = {.count = 2};
    Inputs in, forward;
    NamedTensors tensors;
    double *got = new_items(weights->count, sizeof *got);
    m.graph[0] = build(&t, b, &losses[loss].head, GRAPH_TRAIN, &in);
    m.graph[1] = build(&t, b, &losses[loss].head, GRAPH_EVALUATE, &forward);
    machine_open(&m, 1);
    index_tensors(golden, weights->values, got, &tensors);
    load_parameters(&m, &tensors, false);
    fill(&m, 0, &in, b);
    machine_run(&m, 0);
    if (loss == 0) {
        double *logits = machine_get_result(&m, 0, in.logits), *memory = machine_get_result(&m, 0, in.memory);
        check_real(golden, "logits", logits, b->label, rows, t.vocabulary);
        check_real(golden, "memory", memory, b->source, b->sentences * b->source_positions, t.width);
        free(logits);
        free(memory);
    }
    double *sums = machine_get_result(&m, 0, in.sums);
    (void)snprintf(path, sizeof path, "expected/loss_sum_%s", losses[loss].name);
    golden_check_number(golden, path, sums[LOSS_SUM], (GoldenTolerance){.relative = 1e-5});
    assert_true(sums[LOSS_WEIGHT] == golden_number(golden, "expected/real_tokens"));
    free(sums);
    collect_parameters(&m, &tensors, false, true);
    (void)snprintf(path, sizeof path, "expected/grad_norm_%s", losses[loss].name);
    golden_check_number(golden, path, norm_of(got, weights->count), (GoldenTolerance){.relative = 1e-5});
    (void)snprintf(path, sizeof path, "expected_files/grads_%s", losses[loss].name);
    if (golden_has(golden, path)) golden_check(golden, path, got, weights->count, "f32");
    (void)snprintf(path, sizeof path, "loss_per_token_%s", losses[loss].name);
    if (test_device() == DEVICE_CPU)
        check_tokens(golden, &m, 1, &forward, b, path); /* slow elsewhere, and the sum says it */
    free(got);
    machine_close(&m);
}

static void test_networks(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("network_small", "params/positions", golden)) != NULL; ++cases) {
        Sentences b = batch_of(golden, "");
        GoldenArray weights = golden_array(golden, "inputs/weights");
        for (int loss = 0; loss < LOSSES; ++loss) {
            char path[128];
            (void)snprintf(path, sizeof path, "expected_files/grads_%s", losses[loss].name);
            if (test_device() == DEVICE_CPU || loss == 0 || golden_has(golden, path))
                check_loss(golden, &b, &weights, loss);
        }
        golden_array_free(&weights);
        batch_free(&b);
    }
    print_message("%d networks, %lld values\n", cases, (long long)golden_checked());
    if (cases == 0) skip();
}

/* ---- training ---- */

static const LossHead *loss_named(const char *name)
{
    for (int i = 0; i < LOSSES; ++i)
        if (strcmp(losses[i].name, name) == 0) return &losses[i].head;
    print_error("no loss %s\n", name);
    assert_true(false);
    return NULL;
}

/* Adam divides the gradient of the key biases, which is rounding alone, by its own size: these are left out. */
static bool is_key_bias(const GoldenCase *golden, int64_t element)
{
    const cJSON *range;
    cJSON_ArrayForEach(range, golden_item(golden, "expected/key_bias_ranges"))
    {
        if (element >= (int64_t)golden_json_number(cJSON_GetArrayItem(range, 0)) &&
            element < (int64_t)golden_json_number(cJSON_GetArrayItem(range, 1)))
            return true;
    }
    return false;
}

/* "rtol 1e-3, atol 1e-3 outside key_bias_ranges, at most 1 % of the elements beyond it" */
static void check_parameters(const GoldenCase *golden, const double *got, const double *want, int64_t count,
                             int step)
{
    static const GoldenTolerance tolerance = {.relative = 1e-3, .absolute = 1e-3};
    int64_t compared = 0, beyond = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (is_key_bias(golden, i)) continue;
        ++compared;
        beyond += !golden_is_close(got[i], want[i], tolerance);
    }
    if (100 * beyond > compared)
        print_error("%s, step %d: %lld of %lld parameters are elsewhere\n", golden->id, step,
                    (long long)beyond, (long long)compared);
    assert_true(100 * beyond <= compared);
    golden_count(compared);
}

static void check_trace(const GoldenCase *golden)
{
    const Transformer t = golden_transformer(golden);
    const int steps = (int)golden_number(golden, "params/steps");
    GoldenArray weights = golden_array(golden, "inputs/weights"),
                after = golden_array(golden, "expected_files/parameters_after_steps");
    Machine m = {.count = steps};
    Sentences batch[MACHINE_MOST_GRAPHS];
    Inputs in[MACHINE_MOST_GRAPHS];
    NamedTensors tensors;
    double *got = new_items(weights.count, sizeof *got);
    assert_true(steps <= MACHINE_MOST_GRAPHS);
    for (int s = 0; s < steps; ++s) {
        char suffix[16];
        (void)snprintf(suffix, sizeof suffix, "_%d", s);
        batch[s] = batch_of(golden, suffix);
        m.graph[s] =
            build(&t, &batch[s], loss_named(golden_text(golden, "params/loss")), GRAPH_TRAIN, &in[s]);
    }
    machine_open(&m, 1);
    index_tensors(golden, weights.values, got, &tensors);
    load_parameters(&m, &tensors, false);
    Optimizer *optimizer;
    assert_ok(optimizer_create(
        m.store, (OptimizerOptions){.name = "adam", .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-9},
        &optimizer));
    const Schedule schedule = {.name = "inverse_square_root",
                               .learning_rate = 1,
                               .warmup_steps = (int64_t)golden_number(golden, "params/warmup"),
                               .model_width = t.width};
    for (int s = 0; s < steps; ++s) {
        double norm = 0;
        fill(&m, s, &in[s], &batch[s]);
        machine_run(&m, s);
        double *sums = machine_get_result(&m, s, in[s].sums);
        const cJSON *step = cJSON_GetArrayItem(golden_item(golden, "expected/steps"), s);
        assert_true(sums[LOSS_WEIGHT] ==
                    golden_json_number(cJSON_GetObjectItemCaseSensitive(step, "tokens")));
        const double mean = sums[LOSS_SUM] / sums[LOSS_WEIGHT],
                     rate = schedule_learning_rate(&schedule, 0, s + 1);
        assert_true(golden_is_close(mean,
                                    golden_json_number(cJSON_GetObjectItemCaseSensitive(step, "loss_mean")),
                                    golden_tolerance(golden, "f32", "loss_mean")));
        assert_true(golden_is_close(rate, golden_json_number(cJSON_GetObjectItemCaseSensitive(step, "lr")),
                                    (GoldenTolerance){.relative = 1e-12}));
        assert_ok(optimizer_set(optimizer, s + 1, rate, 1 / sums[LOSS_WEIGHT]));
        assert_ok(optimizer_step(optimizer));
        assert_ok(optimizer_gradient_norm(optimizer, &norm));
        assert_ok(device_synchronize(m.device));
        assert_true(golden_is_close(norm,
                                    golden_json_number(cJSON_GetObjectItemCaseSensitive(step, "grad_norm")),
                                    (GoldenTolerance){.relative = 2e-3}));
        free(sums);
        collect_parameters(&m, &tensors, false, false);
        check_parameters(golden, got, after.values + s * weights.count, weights.count, s + 1);
    }
    optimizer_free(optimizer);
    free(got);
    machine_close(&m);
    for (int s = 0; s < steps; ++s)
        batch_free(&batch[s]);
    golden_array_free(&weights);
    golden_array_free(&after);
}

static void test_training(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("training_trace", "params/positions", golden)) != NULL; ++cases)
        check_trace(golden);
    if (cases == 0) skip();
}

/* ---- files ---- */

static void open_small(Machine *m, uint64_t seed)
{
    const Transformer t = {.vocabulary = 11,
                           .width = 8,
                           .feed_forward_width = 12,
                           .heads = 2,
                           .layers = 1,
                           .attention_bias = true};
    const Sentences b = {.sentences = 2, .source_positions = 3, .target_positions = 4};
    Inputs in;
    *m = (Machine){.count = 1};
    m->graph[0] = build(&t, &b, &losses[0].head, GRAPH_TRAIN, &in);
    machine_open(m, 1);
    /* Other values than those of the first. */
    for (int i = 0; i < store_count(m->store) && seed > 0; ++i) {
        const StoreEntry *entry = store_at(m->store, i);
        double *values = machine_get(m, entry->data, entry->shape);
        RandomStream random = random_stream(seed, RANDOM_TEST, (uint64_t)i);
        for (int64_t e = 0; e < shape_count(entry->shape); ++e)
            values[e] = random_normal(&random);
        machine_put(m, entry->data, entry->shape, values);
        free(values);
    }
}

static void assert_same_parameters(const Machine *a, const Machine *b)
{
    for (int i = 0; i < store_count(a->store); ++i) {
        const StoreEntry *entry = store_at(a->store, i);
        double *left = machine_get(a, entry->data, entry->shape),
               *right = machine_get(b, store_find(b->store, entry->name)->data, entry->shape);
        assert_memory_equal(left, right, sizeof *left * (size_t)shape_count(entry->shape));
        free(left);
        free(right);
    }
}

/* Files have fairseq's names: queries, keys and values are three matrices there. */
static void test_files(void **state)
{
    (void)state;
    Machine saved, loaded;
    float *moment;
    SafeFile *file;
    open_small(&saved, 3);
    open_small(&loaded, 0);
    assert_ok(store_flat(saved.store, "moment", false, &moment));
    assert_ok(device_upload(saved.device, moment, store_parameters(saved.store),
                            sizeof *moment * (size_t)store_flat_count(saved.store)));
    assert_ok(store_flat(loaded.store, "moment", false, &moment));
    assert_ok(checkpoint_save(saved.store, scratch, "step-1", NULL, 0));
    assert_ok(checkpoint_load(loaded.store, scratch, "step-1", &file));
    assert_same_parameters(&saved, &loaded);
    double *state_of =
        machine_get(&loaded, moment, shape_of(FLOAT32, 1, (int64_t[]){store_flat_count(loaded.store)}));
    for (int i = 0; i < store_count(saved.store); ++i) {
        const StoreEntry *entry = store_at(saved.store, i);
        double *values = machine_get(&saved, entry->data, entry->shape);
        assert_memory_equal(values, state_of + entry->offset,
                            sizeof *values * (size_t)shape_count(entry->shape));
        free(values);
    }
    free(state_of);
    static const char *const names[] = {"encoder.layers.0.self_attn.q_proj.weight",
                                        "encoder.layers.0.self_attn.v_proj.bias",
                                        "encoder.layers.0.self_attn_layer_norm.weight",
                                        "decoder.layers.0.encoder_attn.k_proj.weight",
                                        "decoder.layers.0.encoder_attn.q_proj.weight",
                                        "decoder.layers.0.encoder_attn_layer_norm.bias",
                                        "decoder.layers.0.final_layer_norm.bias",
                                        "decoder.layers.0.fc2.weight",
                                        "encoder.embed_tokens.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i)
        assert_non_null(safetensors_find(file, names[i]));
    const float *value = safetensors_find(file, "encoder.layers.0.self_attn.v_proj.weight")->data;
    double *joined =
        machine_get(&saved, store_find(saved.store, "encoder.layers.0.self_attn.qkv_proj.weight")->data,
                    shape_of(FLOAT32, 2, (int64_t[]){24, 8}));
    for (int i = 0; i < 64; ++i)
        assert_true((double)value[i] == joined[128 + i]);
    free(joined);
    /* As others write them: the matrix under another name, or twice. */
    for (int copies = 1; copies <= 2; ++copies) {
        static SafeTensor tensor[96];
        int count = 0;
        for (; count < safetensors_count(file); ++count) {
            tensor[count] = *safetensors_at(file, count);
            if (strcmp(tensor[count].name, "encoder.embed_tokens.weight") != 0) continue;
            tensor[count].name = copies == 1 ? "decoder.output_projection.weight" : tensor[count].name;
            tensor[95] = tensor[count];
        }
        tensor[95].name = "decoder.embed_tokens.weight";
        if (copies == 2) tensor[count++] = tensor[95];
        assert_ok(safetensors_write(in_scratch("other.safetensors"), tensor, count, NULL, 0));
        machine_close(&loaded);
        open_small(&loaded, 0);
        assert_ok(checkpoint_load_weights(loaded.store, in_scratch("other.safetensors"), "", NULL));
        assert_same_parameters(&saved, &loaded);
        /* What fairseq's files hold beside, and what none do. */
        const float one = 3;
        static const char *const beside[] = {"encoder.version", "decoder.version",
                                             "encoder.embed_positions._float_tensor",
                                             "decoder.embed_positions._float_tensor"};
        for (int i = 0; i < 4; ++i)
            tensor[count++] = (SafeTensor){.name = beside[i],
                                           .type = FLOAT32,
                                           .rank = 1,
                                           .extent = {1},
                                           .data = &one,
                                           .bytes = sizeof one};
        assert_ok(safetensors_write(in_scratch("other.safetensors"), tensor, count, NULL, 0));
        assert_ok(checkpoint_load_weights(loaded.store, in_scratch("other.safetensors"), "", NULL));
        tensor[count - 1].name = "decoder.embed_positions.weight";
        assert_ok(safetensors_write(in_scratch("other.safetensors"), tensor, count, NULL, 0));
        assert_fails(checkpoint_load_weights(loaded.store, in_scratch("other.safetensors"), "", NULL),
                     STATUS_INPUT, "holds decoder.embed_positions.weight, which this network does not have");
        if (copies == 1) continue;
        /* A matrix for each use is another network. */
        float *own = malloc(tensor[95].bytes);
        assert_non_null(own);
        memcpy(own, tensor[95].data, tensor[95].bytes);
        own[7] += 0.5F;
        count -= 4;
        tensor[count - 1].data = own;
        for (int pattern = 0; pattern < 2; ++pattern) {
            assert_ok(safetensors_write(in_scratch("other.safetensors"), tensor, count, NULL, 0));
            assert_fails(checkpoint_load_weights(loaded.store, in_scratch("other.safetensors"),
                                                 pattern == 0 ? "" : "encoder.*", NULL),
                         STATUS_INPUT,
                         "decoder.embed_tokens.weight is not encoder.embed_tokens.weight again");
        }
        free(own);
    }
    safetensors_close(file);
    machine_close(&saved);
    machine_close(&loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_training),
        SCRATCH(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
