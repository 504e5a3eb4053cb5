/* The Tree-LSTM network against golden values: every form of it, its logits, losses and gradients; and layers of another naming. */
#include "tests/golden.h"
#include "tests/machine.h"

#include "engine/ops/ops.h"
#include "engine/ops/tree_lstm.h"
#include "losses/loss_head.h"
#include "models/tree_lstm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nodes of a set's forest in the order that the op wants. */
typedef struct {
    int64_t nodes, leaves;
    int levels;
    int32_t *place;            /* [nodes] of node n of the set */
    int32_t *children, *level; /* [nodes - leaves][2], [1 + levels] */
} Order;

static int height_of(const GoldenArray *left, const GoldenArray *right, int64_t node)
{
    if (left->values[node] < 0) return 0;
    const int a = height_of(left, right, (int64_t)left->values[node]);
    const int b = height_of(left, right, (int64_t)right->values[node]);
    return 1 + (a > b ? a : b);
}

static Order order_of(const GoldenArray *left, const GoldenArray *right)
{
    Order o = {.nodes = left->count};
    int *height = calloc((size_t)o.nodes, sizeof *height);
    assert_non_null(height);
    for (int64_t n = 0; n < o.nodes; ++n) {
        height[n] = height_of(left, right, n);
        o.levels = height[n] > o.levels ? height[n] : o.levels;
        o.leaves += height[n] == 0;
    }
    assert_non_null(o.place = calloc((size_t)o.nodes, sizeof *o.place));
    assert_non_null(o.children = calloc((size_t)(2 * (o.nodes - o.leaves)), sizeof *o.children));
    assert_non_null(o.level = calloc((size_t)(1 + o.levels), sizeof *o.level));
    int32_t next = 0;
    for (int h = 0; h <= o.levels; ++h) {
        for (int64_t n = 0; n < o.nodes; ++n) {
            if (height[n] != h) continue;
            if (h > 0) {
                o.children[2 * (next - o.leaves)] = o.place[(int64_t)left->values[n]];
                o.children[2 * (next - o.leaves) + 1] = o.place[(int64_t)right->values[n]];
            }
            o.place[n] = next++;
        }
        o.level[h] = next;
    }
    free(height);
    return o;
}

static void order_free(Order *o)
{
    free(o->place);
    free(o->children);
    free(o->level);
}

static Value input(Graph *graph, const char *name, DType type, int64_t rows, int64_t columns)
{
    return graph_input(graph, name, shape_of(type, columns > 0 ? 2 : 1, (int64_t[]){rows, columns}));
}

/* ---- networks ---- */

typedef struct {
    const char *variant;
    bool leaf_gate, output_gate, nary;
} Variant;

static const Variant variants[] = {{"leaf_gate", true, false, false},
                                   {"full_gate", true, true, false},
                                   {"no_gate", false, false, false},
                                   {"nary_equations", false, false, true}};

static TreeLstmNetwork network_of(const GoldenCase *golden)
{
    const char *name = golden_text(golden, "params/variant");
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; ++i)
        if (strcmp(variants[i].variant, name) == 0)
            return (TreeLstmNetwork){.memory = (int64_t)golden_number(golden, "params/memory"),
                                     .classes = (int64_t)golden_number(golden, "params/classes"),
                                     .leaf_gate = variants[i].leaf_gate,
                                     .output_gate = variants[i].output_gate,
                                     .nary = variants[i].nary};
    print_error("%s: no such variant: %s\n", golden->id, name);
    assert_true(false);
    return (TreeLstmNetwork){0};
}

/* A class, or -1 where the node is left out. */
static int class_of(const char *labels, int label)
{
    static const struct {
        const char *labels;
        int class_of[5];
    } rules[] = {{"binary2", {0, 0, -1, 1, 1}},
                 {"binary3", {0, 0, 1, 2, 2}},
                 {"fine5", {0, 1, 2, 3, 4}},
                 {"fine5_skip_neutral", {0, 1, -1, 3, 4}}};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; ++i)
        if (strcmp(rules[i].labels, labels) == 0) return rules[i].class_of[label];
    print_error("no such labels: %s\n", labels);
    assert_true(false);
    return -1;
}

static LossHead head_of(const GoldenCase *golden)
{
    const char *name = golden_text(golden, "params/loss");
    LossHead head = {.form = SAMPLE_LABEL_SMOOTHING};
    if (strcmp(name, "cross_entropy") == 0) return head;
    assert_string_equal(name, "flsd_53");
    head.form = SAMPLE_FOCAL;
    head.gamma = (GammaPolicy){.gamma = {5, 3}, .limit = {0.2}, .limits = 1};
    return head;
}

/* Where a tensor of the index stands in the store; NULL: nowhere. */
static const StoreEntry *entry_of(const Machine *m, const cJSON *item)
{
    return store_find(m->store, cJSON_GetObjectItemCaseSensitive(item, "name")->valuestring);
}

static int64_t offset_of(const cJSON *item)
{
    return (int64_t)golden_json_number(cJSON_GetObjectItemCaseSensitive(item, "offset"));
}

typedef struct {
    const GoldenCase *golden;
    Order order;
    GoldenArray words, labels, weights;
    cJSON *index;
    int64_t width;
    Machine m;
    Value vectors, children, levels, target, weight, logits, sums;
} Network;

static void network_build(Network *n)
{
    const TreeLstmNetwork network = network_of(n->golden);
    const LossHead head = head_of(n->golden);
    const int64_t nodes = n->order.nodes, leaves = n->order.leaves;
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    n->vectors = input(graph, "vectors", FLOAT32, leaves, n->width);
    n->children = input(graph, "children", INT32, nodes - leaves, 2);
    n->levels = input(graph, "levels", INT32, 1 + n->order.levels, 0);
    n->target = input(graph, "target", INT32, nodes, 0);
    n->weight = input(graph, "weight", FLOAT32, nodes, 0);
    graph_want_gradient(graph, n->vectors);
    n->logits = tree_lstm_logits(graph, &network, n->vectors, n->children, n->levels, NO_VALUE);
    graph_keep(graph, n->logits);
    n->sums = loss_head(graph, n->logits, n->target, n->weight, &head);
    graph_keep(graph, n->sums);
    graph_differentiate(graph, n->sums);
    n->m = (Machine){.count = 1, .graph = {graph}};
    machine_open(&n->m, 2);
}

/* Parameters into the store, word vectors into the input; nodes in the op's order. */
static void network_fill(Network *n)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(n->index, "tensors"))
    {
        const StoreEntry *entry = entry_of(&n->m, item);
        for (int64_t i = 0; entry != NULL && i < shape_count(entry->shape); ++i)
            ((float *)entry->data)[i] = (float)n->weights.values[offset_of(item) + i];
    }
    float *vectors = plan_data(n->m.plan[0], n->vectors), *weight = plan_data(n->m.plan[0], n->weight);
    int32_t *target = plan_data(n->m.plan[0], n->target);
    memcpy(plan_data(n->m.plan[0], n->children), n->order.children,
           (size_t)(2 * (n->order.nodes - n->order.leaves)) * sizeof(int32_t));
    memcpy(plan_data(n->m.plan[0], n->levels), n->order.level,
           (size_t)(1 + n->order.levels) * sizeof(int32_t));
    for (int64_t node = 0; node < n->order.nodes; ++node) {
        const int32_t at = n->order.place[node];
        const int class = class_of(golden_text(n->golden, "params/labels"), (int)n->labels.values[node]);
        target[at] = class < 0 ? 0 : class;
        weight[at] = class < 0 ? 0 : 1;
        if (at < n->order.leaves)
            for (int64_t k = 0; k < n->width; ++k) /* the embedding stands first in the file */
                vectors[at * n->width + k] =
                    (float)n->weights.values[(int64_t)n->words.values[node] * n->width + k];
    }
}

/* Gradients in the order of the file. */
static void network_check_gradients(Network *n)
{
    double *got = calloc((size_t)n->weights.count, sizeof *got);
    assert_non_null(got);
    const float *vectors = plan_data(n->m.plan[0], graph_gradient(n->m.graph[0], n->vectors));
    for (int64_t node = 0; node < n->order.nodes; ++node)
        for (int64_t k = 0; k < n->width && n->order.place[node] < n->order.leaves; ++k)
            got[(int64_t)n->words.values[node] * n->width + k] +=
                (double)vectors[n->order.place[node] * n->width + k];
    int in_store = 0, absent = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(n->index, "tensors"))
    {
        const StoreEntry *entry = entry_of(&n->m, item);
        if (entry == NULL) {
            const char *name = cJSON_GetObjectItemCaseSensitive(item, "name")->valuestring;
            /* W_f's gradient is 0 and stays so in `got`. */
            assert_true(strcmp(name, "embedding.weight") == 0 || strcmp(name, "W_f.weight") == 0);
            ++absent;
            continue;
        }
        ++in_store;
        for (int64_t i = 0; i < shape_count(entry->shape); ++i)
            got[offset_of(item) + i] = (double)entry->gradient[i];
    }
    assert_int_equal(in_store, store_count(n->m.store));
    assert_true(absent <= 2);
    golden_check(n->golden, "expected_files/grads", got, n->weights.count, "f32");
    free(got);
}

static void check_network(const GoldenCase *golden)
{
    GoldenArray left = golden_array(golden, "inputs/left"), right = golden_array(golden, "inputs/right");
    Network n = {.golden = golden,
                 .order = order_of(&left, &right),
                 .words = golden_array(golden, "inputs/word_ids"),
                 .labels = golden_array(golden, "inputs/node_labels"),
                 .weights = golden_array(golden, "inputs/weights"),
                 .index = golden_document(golden, "inputs/index"),
                 .width = (int64_t)golden_number(golden, "params/embedding")};
    network_build(&n);
    network_fill(&n);
    assert_ok(plan_run(n.m.plan[0]));
    const int64_t classes = (int64_t)golden_number(golden, "params/classes");
    double *got = calloc((size_t)(n.order.nodes * classes), sizeof *got);
    assert_non_null(got);
    const float *logits = plan_data(n.m.plan[0], n.logits);
    for (int64_t i = 0; i < n.order.nodes * classes; ++i)
        got[i] = (double)logits[n.order.place[i / classes] * classes + i % classes];
    golden_check(golden, "expected_files/logits", got, n.order.nodes * classes, "f32");
    free(got);
    const double *sums = plan_data(n.m.plan[0], n.sums);
    golden_check_number(golden, "expected/loss_sum", sums[LOSS_SUM], (GoldenTolerance){.relative = 1e-5});
    assert_true(sums[LOSS_WEIGHT] == golden_number(golden, "expected/nodes_in_loss"));
    network_check_gradients(&n);
    machine_close(&n.m);
    order_free(&n.order);
    golden_array_free(&left);
    golden_array_free(&right);
    golden_array_free(&n.words);
    golden_array_free(&n.labels);
    golden_array_free(&n.weights);
    cJSON_Delete(n.index);
}

/* ---- layers ---- */

/* The inputs of the op under the names of the sets' layers; `separate`: a leaf module beside the composer. */
typedef struct {
    int input;
    const char *printed, *separate; /* NULL: absent */
} LayerParameter;

static const LayerParameter layer_parameters[] = {
    {TREE_LSTM_LEAF_WEIGHT + TREE_LEAF_CELL, "W_u", "W_c"},
    {TREE_LSTM_LEAF_WEIGHT + TREE_LEAF_OUTPUT, "W_o", "W_o"},
    {TREE_LSTM_LEAF_WEIGHT + TREE_LEAF_INPUT, "W_i", NULL},
    {TREE_LSTM_LEAF_BIAS + TREE_LEAF_CELL, "b_u", "b_c"},
    {TREE_LSTM_LEAF_BIAS + TREE_LEAF_OUTPUT, "b_o", "b_o"},
    {TREE_LSTM_LEAF_BIAS + TREE_LEAF_INPUT, "b_i", NULL},
    {TREE_LSTM_LEFT_WEIGHT + TREE_GATE_INPUT, "U_i_l", "U_i_l"},
    {TREE_LSTM_LEFT_WEIGHT + TREE_GATE_LEFT_FORGET, "U_fl_l", "U_fl_l"},
    {TREE_LSTM_LEFT_WEIGHT + TREE_GATE_RIGHT_FORGET, "U_fr_l", "U_fr_l"},
    {TREE_LSTM_LEFT_WEIGHT + TREE_GATE_UPDATE, "U_u_l", "U_u_l"},
    {TREE_LSTM_LEFT_WEIGHT + TREE_GATE_OUTPUT, "U_o_l", "U_o_l"},
    {TREE_LSTM_RIGHT_WEIGHT + TREE_GATE_INPUT, "U_i_r", "U_i_r"},
    {TREE_LSTM_RIGHT_WEIGHT + TREE_GATE_LEFT_FORGET, "U_fl_r", "U_fl_r"},
    {TREE_LSTM_RIGHT_WEIGHT + TREE_GATE_RIGHT_FORGET, "U_fr_r", "U_fr_r"},
    {TREE_LSTM_RIGHT_WEIGHT + TREE_GATE_UPDATE, "U_u_r", "U_u_r"},
    {TREE_LSTM_RIGHT_WEIGHT + TREE_GATE_OUTPUT, "U_o_r", "U_o_r"},
    {TREE_LSTM_LEFT_BIAS + TREE_GATE_INPUT, "b_i", "bc_i"},
    {TREE_LSTM_LEFT_BIAS + TREE_GATE_LEFT_FORGET, "b_f", "bc_f"},
    {TREE_LSTM_LEFT_BIAS + TREE_GATE_RIGHT_FORGET, "b_f", "bc_f"},
    {TREE_LSTM_LEFT_BIAS + TREE_GATE_UPDATE, "b_u", "bc_u"},
    {TREE_LSTM_LEFT_BIAS + TREE_GATE_OUTPUT, "b_o", "bc_o"},
};

/* Rows of a file, in the set's order of nodes, to the op's order or back. */
static void reorder(const Order *order, int64_t columns, int64_t rows, const double *file, float *op,
                    double *back)
{
    for (int64_t node = 0; node < order->nodes; ++node)
        for (int64_t k = 0; k < columns && order->place[node] < rows; ++k) {
            if (file != NULL)
                op[order->place[node] * columns + k] = (float)file[node * columns + k];
            else if (back != NULL)
                back[node * columns + k] = (double)op[order->place[node] * columns + k];
        }
}

static void check_layer(const GoldenCase *golden)
{
    GoldenArray left = golden_array(golden, "inputs/left"), right = golden_array(golden, "inputs/right");
    GoldenArray x = golden_array(golden, "inputs/x"), dh = golden_array(golden, "inputs/upstream_gradient");
    Order order = order_of(&left, &right);
    const bool separate = golden_has(golden, "inputs/param_W_c");
    const int64_t width = x.extent[1], memory = dh.extent[1];
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    Value in[TREE_LSTM_INPUTS];
    for (int i = 0; i < TREE_LSTM_INPUTS; ++i)
        in[i] = NO_VALUE;
    in[TREE_LSTM_X] = input(graph, "x", FLOAT32, order.leaves, width);
    in[TREE_LSTM_CHILDREN] = input(graph, "children", INT32, order.nodes - order.leaves, 2);
    in[TREE_LSTM_LEVELS] = input(graph, "levels", INT32, 1 + order.levels, 0);
    for (size_t i = 0; i < sizeof layer_parameters / sizeof layer_parameters[0]; ++i) {
        const LayerParameter *p = &layer_parameters[i];
        const char *name = separate ? p->separate : p->printed;
        char path[64];
        if (name == NULL) continue;
        (void)snprintf(path, sizeof path, "inputs/param_%s", name);
        GoldenArray array = golden_array(golden, path);
        in[p->input] = graph_parameter(graph, name, shape_of(FLOAT32, array.rank, array.extent), (Init){0});
        golden_array_free(&array);
    }
    const Value h = tree_lstm_node(graph, in),
                upstream = input(graph, "upstream", FLOAT32, order.nodes, memory);
    graph_keep(graph, h);
    graph_differentiate(graph, dot(graph, h, upstream));
    Machine m = {.count = 1, .graph = {graph}};
    machine_open(&m, 2);
    for (int i = 0; i < store_count(m.store); ++i) {
        const StoreEntry *entry = store_at(m.store, i);
        char path[64];
        (void)snprintf(path, sizeof path, "inputs/param_%s", entry->name);
        GoldenArray array = golden_array(golden, path);
        for (int64_t e = 0; e < array.count; ++e)
            ((float *)entry->data)[e] = (float)array.values[e];
        golden_array_free(&array);
    }
    reorder(&order, width, order.leaves, x.values, plan_data(m.plan[0], in[TREE_LSTM_X]), NULL);
    reorder(&order, memory, order.nodes, dh.values, plan_data(m.plan[0], upstream), NULL);
    memcpy(plan_data(m.plan[0], in[TREE_LSTM_CHILDREN]), order.children,
           (size_t)(2 * (order.nodes - order.leaves)) * sizeof(int32_t));
    memcpy(plan_data(m.plan[0], in[TREE_LSTM_LEVELS]), order.level,
           (size_t)(1 + order.levels) * sizeof(int32_t));
    assert_ok(plan_run(m.plan[0]));
    double *got = calloc((size_t)(order.nodes * memory), sizeof *got);
    assert_non_null(got);
    reorder(&order, memory, order.nodes, NULL, plan_data(m.plan[0], h), got);
    golden_check(golden, "expected_files/h", got, order.nodes * memory, "f32");
    free(got);
    for (int i = 0; i < store_count(m.store); ++i) {
        const StoreEntry *entry = store_at(m.store, i);
        char path[64];
        (void)snprintf(path, sizeof path, "expected_files/grad_param_%s", entry->name);
        golden_check_float(golden, path, entry->gradient, shape_count(entry->shape), "f32");
    }
    machine_close(&m);
    order_free(&order);
    golden_array_free(&left);
    golden_array_free(&right);
    golden_array_free(&x);
    golden_array_free(&dh);
}

static void layers_are_the_golden_ones(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("layer", "inputs/param_U_fl_l", golden)) != NULL;) {
        if (strcmp(golden_text(golden, "layer"), "binary (N-ary, N=2) Tree-LSTM") == 0)
            continue; /* x at inner nodes */
        check_layer(golden);
        ++cases;
    }
    if (cases == 0) skip();
}

static void networks_are_the_golden_ones(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("network_small", "params/variant", golden)) != NULL; ++cases)
        check_network(golden);
    if (cases == 0) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_are_the_golden_ones),
        cmocka_unit_test(layers_are_the_golden_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
