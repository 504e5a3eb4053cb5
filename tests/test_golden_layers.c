/* Layers against golden values: one table says how our ops make each layer of the sets. */
#include "tests/golden.h"
#include "tests/op_test.h"

#include "engine/ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t number_or(const GoldenCase *golden, const char *path, int64_t otherwise)
{
    return (int64_t)golden_number_or(golden, path, (double)otherwise);
}

/* The extent of the parameter's file along a dimension. */
static int64_t parameter_extent(const GoldenCase *golden, const char *path, int dimension)
{
    GoldenArray array = golden_array(golden, path);
    const int64_t extent = array.extent[dimension];
    golden_array_free(&array);
    return extent;
}

/* ---- builders: the case's inputs to its output ---- */

static Conv2d conv_of(const GoldenCase *golden)
{
    return (Conv2d){.channels = parameter_extent(golden, "inputs/param_weight", 0),
                    .stride = number_or(golden, "params/stride", 1),
                    .bias = golden_has(golden, "inputs/param_bias")};
}

static Value build_conv2d(Graph *graph, const OpCase *op_case, const Value in[])
{
    Conv2d conv = conv_of(op_case->golden);
    conv.kernel = (int64_t)golden_number(op_case->golden, "params/kernel");
    conv.padding = number_or(op_case->golden, "params/padding", 0);
    return conv2d(graph, "layer", in[0], conv);
}

/* Over sequences; with padding, of images of one row. */
static Value build_conv1d(Graph *graph, const OpCase *op_case, const Value in[])
{
    Conv2d conv = conv_of(op_case->golden);
    if (conv.stride == 1 && number_or(op_case->golden, "params/padding", 0) == 0)
        return conv1d(graph, "layer", in[0],
                      (Conv1d){.channels = conv.channels,
                               .kernel = (int64_t)golden_number(op_case->golden, "params/kernel"),
                               .bias = conv.bias});
    conv.kernel_height = 1;
    conv.kernel_width = (int64_t)golden_number(op_case->golden, "params/kernel");
    conv.padding_width = number_or(op_case->golden, "params/padding", 0);
    conv.one_dimensional = true;
    const Shape x = graph_shape(graph, in[0]);
    const Value row = reshape(graph, in[0], 4, (const int64_t[]){x.extent[0], 1, x.extent[1], x.extent[2]});
    return reshape(graph, conv2d(graph, "layer", row, conv), 3,
                   (const int64_t[]){x.extent[0], -1, conv.channels});
}

static Value build_batch_norm(Graph *graph, const OpCase *op_case, const Value in[])
{
    return batch_norm(graph, "layer", in[0],
                      (BatchNorm){.epsilon = golden_number(op_case->golden, "params/eps"),
                                  .momentum = golden_number_or(op_case->golden, "params/momentum", 0)});
}

static Value build_layer_norm(Graph *graph, const OpCase *op_case, const Value in[])
{
    return layer_norm(graph, "layer", in[0], golden_number(op_case->golden, "params/eps"));
}

static Value build_linear(Graph *graph, const OpCase *op_case, const Value in[])
{
    return linear(graph, "layer", in[0],
                  (Linear){.features = parameter_extent(op_case->golden, "inputs/param_weight", 0),
                           .no_bias = !golden_has(op_case->golden, "inputs/param_bias")});
}

static Value build_relu(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return relu(graph, in[0]);
}

static Value build_log_softmax(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return log_softmax(graph, in[0]);
}

static Pool2d pool_of(const GoldenCase *golden)
{
    return (Pool2d){.kernel = (int64_t)golden_number(golden, "params/kernel"),
                    .stride = number_or(golden, "params/stride", 0),
                    .padding = number_or(golden, "params/padding", 0)};
}

static Value build_average_pool(Graph *graph, const OpCase *op_case, const Value in[])
{
    return average_pool2d(graph, in[0], pool_of(op_case->golden));
}

static Value build_max_pool(Graph *graph, const OpCase *op_case, const Value in[])
{
    return max_pool2d(graph, in[0], pool_of(op_case->golden));
}

static Value build_max_pool1d(Graph *graph, const OpCase *op_case, const Value in[])
{
    return max_pool1d(graph, in[0],
                      (Pool1d){.kernel = (int64_t)golden_number(op_case->golden, "params/width"),
                               .stride = number_or(op_case->golden, "params/stride", 0)});
}

static Value build_global_max(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return global_max_pool1d(graph, in[0]);
}

static Value build_adaptive_pool(Graph *graph, const OpCase *op_case, const Value in[])
{
    return adaptive_average_pool2d(graph, in[0],
                                   (int64_t)golden_number_at(op_case->golden, "params/output", 0),
                                   (int64_t)golden_number_at(op_case->golden, "params/output", 1));
}

static Value build_table(Graph *graph, const OpCase *op_case, const Value in[], bool padded)
{
    return embedding(graph, "layer", in[0],
                     (Embedding){.rows = parameter_extent(op_case->golden, "inputs/param_weight", 0),
                                 .width = parameter_extent(op_case->golden, "inputs/param_weight", 1),
                                 .padded = padded,
                                 .padding_row = number_or(op_case->golden, "params/padding_index", 0)});
}

static Value build_embedding(Graph *graph, const OpCase *op_case, const Value in[])
{
    return build_table(graph, op_case, in, false);
}

static Value build_padded_embedding(Graph *graph, const OpCase *op_case, const Value in[])
{
    return build_table(graph, op_case, in, true);
}

static Value build_scaled_embedding(Graph *graph, const OpCase *op_case, const Value in[], int64_t *width)
{
    *width = parameter_extent(op_case->golden, "inputs/param_weight", 1);
    return embedding(graph, "layer", in[0],
                     (Embedding){.rows = parameter_extent(op_case->golden, "inputs/param_weight", 0),
                                 .width = *width,
                                 .scale = sqrt((double)*width)});
}

static Value build_embedding_with_positions(Graph *graph, const OpCase *op_case, const Value in[])
{
    static const char *const names[] = {[POSITIONS_INTERLEAVED] = "interleaved",
                                        [POSITIONS_HALVES_PAPER_FREQUENCIES] = "halves_paper_frequencies",
                                        [POSITIONS_HALVES_TENSOR2TENSOR] = "halves_tensor2tensor"};
    Positions form = {.kind = POSITIONS_INTERLEAVED};
    while (strcmp(names[form.kind], golden_text(op_case->golden, "params/positions")) != 0) {
        ++form.kind;
        assert_true(form.kind <= POSITIONS_HALVES_TENSOR2TENSOR);
    }
    int64_t width;
    const Value x = build_scaled_embedding(graph, op_case, in, &width);
    return positions(graph, "positions", x, NO_VALUE, form);
}

static Value build_tied_embedding(Graph *graph, const OpCase *op_case, const Value in[])
{
    int64_t width;
    const Value x = build_scaled_embedding(graph, op_case, in, &width);
    return linear_with(graph, x, graph_find(graph, "layer.weight"), NO_VALUE, FLOAT32);
}

static Value build_feed_forward(Graph *graph, const OpCase *op_case, const Value in[])
{
    const int64_t hidden = parameter_extent(op_case->golden, "inputs/param_linear1_weight", 0),
                  features = parameter_extent(op_case->golden, "inputs/param_linear2_weight", 0);
    const Value x = relu(graph, linear(graph, "linear1", in[0], (Linear){.features = hidden}));
    return linear(graph, "linear2", x, (Linear){.features = features});
}

/* ---- the table ---- */

typedef struct {
    const char *layer;       /* as the sets call it */
    const char *mark, *text; /* only cases that have `text` at the path `mark`; NULL: all */
    Value (*build)(Graph *, const OpCase *, const Value in[]);
    const char *why; /* without `build`: why */
    GraphMode mode;
    bool channels_first;   /* the files have (N, C, H, W) or (N, C, L) */
    bool chosen_by_timing; /* see OpCase */
} Layer;

/* The first row that fits a case is its. */
static const Layer layers[] = {
    {"conv2d", .build = build_conv2d, .channels_first = true, .chosen_by_timing = true},
    {"conv1d", .build = build_conv1d, .channels_first = true, .chosen_by_timing = true},
    {"batch norm, training mode", .build = build_batch_norm, .channels_first = true},
    {"batch norm, evaluation mode", .build = build_batch_norm, .channels_first = true,
     .mode = GRAPH_EVALUATE},
    {"layer norm over the last axis", .build = build_layer_norm},
    {"linear", .build = build_linear},
    {"ReLU", .build = build_relu},
    {"log-softmax", .build = build_log_softmax},
    {"average pool", .build = build_average_pool, .channels_first = true},
    {"adaptive average pool", .build = build_adaptive_pool, .channels_first = true},
    {"max pool", .build = build_max_pool, .channels_first = true},

    {"global max over the last axis", "params/ties", "even",
     .why = "for reference only: ties go to the first maximum"},
    {"global max over the last axis", .build = build_global_max, .channels_first = true},
    {"maxpool1d", .build = build_max_pool1d, .channels_first = true},
    {"embedding lookup", .build = build_embedding},
    {"embedding lookup with padding index 0", .build = build_padded_embedding},
    {"embedding lookup with a padding index and repeated ids", .build = build_padded_embedding},
    {"binary (N-ary, N=2) Tree-LSTM", .why = "inner nodes have vectors there, as no tree of sentences does"},
    {"binary Tree-LSTM, constituency use (input vectors at leaves only)", .why = "read by test_tree_network"},
    {"binary Tree-LSTM with separate leaf and composer modules (common code variant, optional)",
     .why = "read by test_tree_network"},
    {"scaled embedding plus sinusoidal positions", .build = build_embedding_with_positions},
    {"position-wise feed-forward", .build = build_feed_forward},
    {"embedding used as input and as output projection", .build = build_tied_embedding},
    {"multi-head self-attention", .why = "read by test_transformer_layers"},
    {"multi-head cross-attention", .why = "read by test_transformer_layers"},
    {"sinusoidal positions (Vaswani 2017)", .why = "read by test_transformer_layers"},
    {"sinusoidal position table", .why = "read by test_transformer_layers"},
    {"Transformer encoder layer, post-norm, ReLU feed-forward, no dropout",
     .why = "read by test_transformer_layers"},
    {"Transformer decoder layer, post-norm, ReLU feed-forward, no dropout",
     .why = "read by test_transformer_layers"},
};
enum { LAYERS = sizeof layers / sizeof layers[0] };

static const Layer *find_layer(const GoldenCase *golden)
{
    const char *name = golden_text(golden, "layer");
    for (int i = 0; i < LAYERS; ++i) {
        if (strcmp(layers[i].layer, name) != 0) continue;
        if (layers[i].mark == NULL || (golden_has(golden, layers[i].mark) &&
                                       strcmp(golden_text(golden, layers[i].mark), layers[i].text) == 0))
            return &layers[i];
    }
    return NULL;
}

/* ---- a case as a row of op_test ---- */

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Inputs of the graph: neither parameters nor statistics, nor the gradient from behind. */
static bool is_input(const char *role)
{
    return !starts_with(role, "param_") && !starts_with(role, "running_") &&
           strcmp(role, "upstream_gradient") != 0;
}

static void add_input(OpCase *op_case, int index, const char *role)
{
    char path[256];
    assert_true(index < OP_TEST_INPUTS);
    (void)snprintf(path, sizeof path, "inputs/%s", role);
    GoldenArray array = golden_array(op_case->golden, path);
    OpInput *in = &op_case->in[index];
    *in = (OpInput){.name = role, .rank = array.rank, .typed = array.type == INT64, .type = INT32};
    memcpy(in->extent, array.extent, (size_t)array.rank * sizeof *in->extent);
    if (op_case->channels_first && array.rank >= 3) {
        memmove(&in->extent[1], &array.extent[2], (size_t)(array.rank - 2) * sizeof *in->extent);
        in->extent[array.rank - 1] = array.extent[1];
    }
    golden_array_free(&array);
}

/* The bound on a tensor as a whole, relative to its largest element, is a tenth of that on each element. */
static OpCase case_of(const GoldenCase *golden, const Layer *layer)
{
    OpCase op_case = {.name = golden->id,
                      .build = layer->build,
                      .golden = golden,
                      .mode = layer->mode,
                      .channels_first = layer->channels_first,
                      .chosen_by_timing = layer->chosen_by_timing,
                      .tolerance = {golden_tolerance(golden, "f32", "y").relative / 10}};
    int inputs = 0;
    const cJSON *role;
    cJSON_ArrayForEach(role, golden_item(golden, "inputs"))
    {
        if (is_input(role->string)) add_input(&op_case, inputs++, role->string);
    }
    return op_case;
}

static void test_layers(void **state)
{
    (void)state;
    int not_yet[LAYERS] = {0}, unknown = 0, checked = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("layer", NULL, golden)) != NULL;) {
        const Layer *layer = find_layer(golden);
        if (layer == NULL) {
            print_error("%s of %s: tests/test_golden_layers.c has no row for the layer \"%s\"\n", golden->id,
                        golden->folder, golden_text(golden, "layer"));
            ++unknown;
        } else if (layer->build == NULL) {
            ++not_yet[layer - layers];
        } else {
            const OpCase op_case = case_of(golden, layer);
            op_test_cases(&op_case, 1, test_device());
            ++checked;
        }
    }
    for (int i = 0; i < LAYERS; ++i)
        if (not_yet[i] > 0)
            print_message("not checked: %d cases of %s (%s)\n", not_yet[i], layers[i].layer, layers[i].why);
    print_message("%d layers, %lld values\n", checked, (long long)golden_checked());
    assert_int_equal(unknown, 0);
    assert_true(checked > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
