/* The Transformer's parts against golden values: attention with its projections, layers of both stacks, tables of positions. */
#include "tests/golden.h"
#include "tests/transformer_tensors.h"

#include "engine/ops/ops.h"
#include "engine/ops/positions.h"
#include "models/transformer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const GoldenCase *golden;
    const char *mask; /* path of the mask of padding; NULL: none */
    bool decoder;
    Machine m;
    Value first, end;
} Layer;

static Value add_input(Layer *l, const char *role)
{
    char path[160];
    (void)snprintf(path, sizeof path, "inputs/%s", role);
    GoldenArray array = golden_array(l->golden, path);
    const Value value = graph_input(l->m.graph[0], role, shape_of(FLOAT32, array.rank, array.extent));
    graph_want_gradient(l->m.graph[0], value);
    golden_array_free(&array);
    return value;
}

/* An input for where keys begin or end, if there is padding. */
static Value add_list(Layer *l, const char *name)
{
    if (l->mask == NULL) return NO_VALUE;
    GoldenArray array = golden_array(l->golden, l->mask);
    const Value value = graph_input(l->m.graph[0], name, shape_of(INT32, 1, array.extent));
    golden_array_free(&array);
    return value;
}

static Value add_parameter(Layer *l, const char *name)
{
    char path[160];
    (void)snprintf(path, sizeof path, "inputs/param_%s", name);
    GoldenArray array = golden_array(l->golden, path);
    const Value value = graph_parameter(l->m.graph[0], name, shape_of(FLOAT32, array.rank, array.extent),
                                        (Init){.kind = INIT_ZEROS});
    golden_array_free(&array);
    return value;
}

/* Where the keys begin and end that are not padding. Padding must be all before and behind; but attention to a memory does not
 * depend on the order of its rows, so there `order` says which row of the file stands where, real ones first. */
static void fill_lists(const Layer *l, int64_t *order)
{
    GoldenArray array = golden_array(l->golden, l->mask);
    const int64_t samples = array.extent[0], keys = array.extent[1];
    double *first = new_items(samples, sizeof *first), *end = new_items(samples, sizeof *end);
    for (int64_t n = 0; n < samples; ++n) {
        const double *ignored = array.values + n * keys;
        int64_t from = 0, to = keys, real = 0;
        while (from < keys && ignored[from] != 0)
            ++from;
        while (to > from && ignored[to - 1] != 0)
            --to;
        for (int pass = 0; pass < 2 && order != NULL; ++pass)
            for (int64_t k = 0; k < keys; ++k)
                if ((ignored[k] != 0) == (pass == 1)) order[n * keys + real++] = k;
        for (int64_t k = from; k < to && order == NULL; ++k)
            assert_true(ignored[k] == 0);
        if (order != NULL) {
            from = to = 0;
            for (int64_t k = 0; k < keys; ++k)
                to += ignored[k] == 0;
        }
        if (from == to) from = to = 0;
        assert_true(from == 0 || value_exists(l->first));
        first[n] = (double)from;
        end[n] = (double)to;
    }
    if (value_exists(l->first)) machine_put_input(&l->m, 0, l->first, first);
    machine_put_input(&l->m, 0, l->end, end);
    free(first);
    free(end);
    golden_array_free(&array);
}

/* Rows of values [N,keys,columns] in that order, or back. */
static void reorder(double *values, Shape shape, const int64_t *order, bool back)
{
    const int64_t rows = shape.extent[0] * shape.extent[1], columns = shape.extent[2];
    double *copy = new_items(rows * columns, sizeof *copy);
    memcpy(copy, values, (size_t)(rows * columns) * sizeof *copy);
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t other = r / shape.extent[1] * shape.extent[1] + order[r];
        memcpy(values + (back ? other : r) * columns, copy + (back ? r : other) * columns,
               (size_t)columns * sizeof *copy);
    }
    free(copy);
}

/* The case's parameters, from their files. */
static void read_tensors(const GoldenCase *golden, NamedTensors *t)
{
    const cJSON *role;
    t->count = 0;
    cJSON_ArrayForEach(role, golden_item(golden, "inputs"))
    {
        if (strncmp(role->string, "param_", strlen("param_")) != 0) continue;
        assert_true(t->count < (int)(sizeof t->tensor / sizeof t->tensor[0]));
        Named *tensor = &t->tensor[t->count++];
        (void)snprintf(tensor->name, sizeof tensor->name, "%s", role->string + strlen("param_"));
        char path[160];
        (void)snprintf(path, sizeof path, "inputs/%s", role->string);
        GoldenArray array = golden_array(golden, path);
        tensor->count = array.count;
        tensor->values = array.values;
        tensor->got = new_items(array.count, sizeof(double));
    }
}

static void layer_check(Layer *l, Value y)
{
    static const char *const inputs[] = {"x", "q", "memory"};
    Graph *graph = l->m.graph[0];
    graph_keep(graph, y);
    const Value upstream = graph_input(graph, "upstream", graph_shape(graph, y));
    graph_differentiate(graph, dot(graph, y, upstream));
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; ++i)
        graph_keep(graph, graph_gradient(graph, graph_find(graph, inputs[i])));
    machine_open(&l->m, 1);
    NamedTensors t;
    read_tensors(l->golden, &t);
    load_parameters(&l->m, &t, l->decoder);
    const Value memory = graph_find(graph, "memory");
    int64_t *order = NULL;
    if (l->mask != NULL && value_exists(memory))
        order = new_items(shape_rows(graph_shape(graph, memory)), sizeof *order);
    if (l->mask != NULL) fill_lists(l, order);
    GoldenArray array = golden_array(l->golden, "inputs/upstream_gradient");
    machine_put_input(&l->m, 0, upstream, array.values);
    golden_array_free(&array);
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; ++i) {
        const Value value = graph_find(graph, inputs[i]);
        if (!value_exists(value)) continue;
        char path[64];
        (void)snprintf(path, sizeof path, "inputs/%s", inputs[i]);
        array = golden_array(l->golden, path);
        if (order != NULL && value_equal(value, memory))
            reorder(array.values, graph_shape(graph, value), order, false);
        machine_put_input(&l->m, 0, value, array.values);
        golden_array_free(&array);
    }
    machine_run(&l->m, 0);
    check_role(l->golden, "y", machine_get_result(&l->m, 0, y), shape_count(graph_shape(graph, y)));
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; ++i) {
        char role[32];
        const Value value = graph_find(graph, inputs[i]);
        if (!value_exists(value)) continue;
        (void)snprintf(role, sizeof role, "grad_%s", inputs[i]);
        double *got = machine_get_result(&l->m, 0, graph_gradient(graph, value));
        if (order != NULL && value_equal(value, memory)) reorder(got, graph_shape(graph, value), order, true);
        check_role(l->golden, role, got, shape_count(graph_shape(graph, value)));
    }
    free(order);
    collect_parameters(&l->m, &t, l->decoder, true);
    for (int i = 0; i < t.count; ++i) {
        char role[200];
        (void)snprintf(role, sizeof role, "grad_param_%s", t.tensor[i].name);
        check_role(l->golden, role, t.tensor[i].got, t.tensor[i].count);
        free((void *)(uintptr_t)t.tensor[i].values);
    }
    machine_close(&l->m);
}

static const char *mask_of(const GoldenCase *golden)
{
    static const char *const masks[] = {"inputs/key_padding_mask_1_means_ignore",
                                        "inputs/padding_mask_1_means_ignore",
                                        "inputs/memory_padding_mask_1_means_ignore"};
    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; ++i)
        if (golden_has(golden, masks[i])) return masks[i];
    return NULL;
}

static Layer layer_of(const GoldenCase *golden)
{
    Layer l = {.golden = golden, .mask = mask_of(golden), .m.count = 1, .first = NO_VALUE};
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &l.m.graph[0]));
    l.end = add_list(&l, "end");
    return l;
}

/* Projections of one matrix [3 width,width], as in PyTorch. */
static void check_attention(const GoldenCase *golden)
{
    Layer l = layer_of(golden);
    Graph *graph = l.m.graph[0];
    const int64_t width = (int64_t)golden_number(golden, "params/d_model");
    const Attention form = {.heads = (int64_t)golden_number(golden, "params/heads"),
                            .causal = golden_number_or(golden, "params/causal", 0) != 0};
    const Value weight = add_parameter(&l, "in_proj_weight"), bias = add_parameter(&l, "in_proj_bias");
    const Value out_weight = add_parameter(&l, "out_proj_weight"),
                out_bias = add_parameter(&l, "out_proj_bias");
    AttentionKeys keys = ATTENTION_SELF;
    l.first = keys.first = add_list(&l, "first");
    keys.end = l.end;
    Value y;
    if (golden_has(golden, "inputs/x")) {
        y = attention(graph, linear_with(graph, add_input(&l, "x"), weight, bias, FLOAT32), keys, form);
    } else {
        const Value query = linear_with(graph, add_input(&l, "q"), weight, bias, FLOAT32);
        const Value memory = linear_with(graph, add_input(&l, "memory"), weight, bias, FLOAT32);
        keys.key_value = slice(graph, memory, width, 2 * width);
        y = attention(graph, slice(graph, query, 0, width), keys, form);
    }
    layer_check(&l, linear_with(graph, y, out_weight, out_bias, FLOAT32));
}

static void check_layer(const GoldenCase *golden, bool decoder)
{
    Layer l = layer_of(golden);
    Graph *graph = l.m.graph[0];
    l.decoder = decoder;
    const Transformer t = {.width = (int64_t)golden_number(golden, "params/d_model"),
                           .heads = (int64_t)golden_number(golden, "params/heads"),
                           .feed_forward_width = (int64_t)golden_number(golden, "params/d_ff"),
                           .attention_bias = true};
    const Value x = add_input(&l, "x");
    /* The golden case has gradients and results behind the sentences' ends, too: products as small as these leave no rows out. */
    layer_check(&l, decoder ? transformer_decoder_layer(graph, &t, x, add_input(&l, "memory"), l.end)
                            : transformer_encoder_layer(graph, &t, x, l.end));
}

static PositionKind positions_of(const char *name)
{
    static const char *const names[] = {"interleaved", "halves_paper_frequencies", "halves_tensor2tensor"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i)
        if (strcmp(names[i], name) == 0) return (PositionKind)i;
    print_error("positions %s are not known\n", name);
    assert_true(false);
    return POSITIONS_INTERLEAVED;
}

/* All positions 0, 1, ..., or those of params/rows. To the last bit of float. */
static void check_table(const GoldenCase *golden)
{
    GoldenArray want = golden_array(golden, "expected_files/pe");
    const int64_t rows = want.extent[0], width = want.extent[1];
    const bool chosen = golden_has(golden, "params/rows");
    const int64_t count = chosen ? 1 + (int64_t)golden_number_at(golden, "params/rows", (int)rows - 1) : rows;
    float *table = new_items(count * width, sizeof *table);
    positions_table(chosen ? positions_of(golden_text(golden, "params/positions")) : POSITIONS_INTERLEAVED,
                    count, width, table);
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t p = chosen ? (int64_t)golden_number_at(golden, "params/rows", (int)r) : r;
        for (int64_t c = 0; c < width; ++c)
            assert_true(golden_is_close((double)table[p * width + c], want.values[r * width + c],
                                        (GoldenTolerance){.absolute = 6e-8}));
    }
    golden_count(rows * width);
    free(table);
    golden_array_free(&want);
}

static void test_layers(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("layer", NULL, golden)) != NULL; ++cases) {
        const char *layer = golden_text(golden, "layer");
        if (strncmp(layer, "multi-head", strlen("multi-head")) == 0)
            check_attention(golden);
        else if (strncmp(layer, "Transformer", strlen("Transformer")) == 0)
            check_layer(golden, strstr(layer, "decoder") != NULL);
        else if (strncmp(layer, "sinusoidal position", strlen("sinusoidal position")) == 0)
            check_table(golden);
        else
            --cases;
    }
    print_message("%d layers, %lld values\n", cases, (long long)golden_checked());
    if (cases == 0) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
