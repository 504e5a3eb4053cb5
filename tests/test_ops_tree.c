/* tree_lstm by table: a float64 program that knows nodes and their children, and no levels; trees of all shapes. */
#include "tests/support.h"

#include "tests/kernel_call.h"
#include "tests/op_test.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"
#include "engine/ops/tree_lstm.h"
#include "engine/plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))

/* ---- trees ---- */

enum { MOST_NODES = 256, MOST_LEVELS = 40, SIDES = 2 };

/* Sorted by height, as the op wants. */
typedef struct {
    int leaves, nodes, levels;
    int32_t child[MOST_NODES][SIDES]; /* of inner nodes */
    int32_t end[1 + MOST_LEVELS];
} Batch;

typedef struct {
    const char *text;
    int nodes, child[MOST_NODES][SIDES], height[MOST_NODES];
} Reader;

/* A tree is '.', a leaf, or two trees in brackets. Returns its node; children come first. */
static int read_tree(Reader *r)
{
    int child[SIDES] = {-1, -1}, height = 0;
    if (*r->text++ == '(') {
        for (int side = 0; side < SIDES; ++side) {
            child[side] = read_tree(r);
            height = r->height[child[side]] >= height ? r->height[child[side]] + 1 : height;
        }
        assert_int_equal(*r->text++, ')');
    }
    assert_true(r->nodes < MOST_NODES);
    memcpy(r->child[r->nodes], child, sizeof child);
    r->height[r->nodes] = height;
    return r->nodes++;
}

static Batch read_batch(const char *trees, int levels)
{
    static Reader r;
    static int place[MOST_NODES];
    r = (Reader){.text = trees};
    while (*r.text != '\0')
        (void)read_tree(&r);
    Batch b = {.levels = levels};
    for (int height = 0; height <= levels; ++height) {
        for (int node = 0; node < r.nodes; ++node) {
            if (r.height[node] != height) continue;
            if (height == 0) ++b.leaves;
            for (int side = 0; side < SIDES && height > 0; ++side)
                b.child[b.nodes - b.leaves][side] = place[r.child[node][side]];
            place[node] = b.nodes++;
        }
        b.end[height] = b.nodes;
    }
    assert_int_equal(b.nodes, r.nodes);
    return b;
}

/* ---- the table ---- */

typedef struct {
    const char *trees;
    TreeLstm form;
} TreeRow;

static Batch batch_of(const OpCase *op_case)
{
    const TreeRow *row = op_case->parameters;
    return read_batch(row->trees, (int)op_case->in[TREE_LSTM_LEVELS].extent[0] - 1);
}

static double fill_children(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)name;
    (void)random;
    const Batch b = batch_of(op_case);
    return index / SIDES < b.nodes - b.leaves ? b.child[index / SIDES][index % SIDES] : 123456;
}

static double fill_levels(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)name;
    (void)random;
    const Batch b = batch_of(op_case);
    return b.end[index];
}

/* Sums of about one, whatever the sizes. */
static double fill_stored(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    const TreeRow *row = op_case->parameters;
    (void)index;
    const bool bias = strstr(name, "bias") != NULL;
    const bool leaf = strstr(name, ".W_") != NULL || strstr(name, "leaf_module") != NULL;
    const int64_t in = leaf ? op_case->in[TREE_LSTM_X].extent[1] : 2 * row->form.memory;
    return random_normal(random) * (bias ? 0.5 : 1 / sqrt((double)in));
}

static Value build(Graph *graph, const OpCase *op_case, const Value in[])
{
    const TreeRow *row = op_case->parameters;
    return tree_lstm(graph, "t", in[TREE_LSTM_X], in[TREE_LSTM_CHILDREN], in[TREE_LSTM_LEVELS], row->form);
}

/* ---- the float64 program ---- */

typedef struct {
    double *data, *gradient; /* of a tensor */
} Doubles;

/* Parameters by their names; of the printed equations the other names of the same. */
static Doubles find(const OpCase *op_case, OpReference *r, const char *name, bool must)
{
    char full[80];
    (void)snprintf(full, sizeof full, "t.%s", name);
    for (int i = 0; i < r->in_count; ++i)
        if (strcmp(r->in[i].name, full) == 0) return (Doubles){r->in[i].data, r->in[i].gradient};
    if (must) print_error("%s has no parameter %s\n", op_case->name, full);
    assert_false(must);
    return (Doubles){0};
}

typedef struct {
    Doubles weight[SIDES], bias[SIDES];
} GateParameters;

typedef struct {
    Batch batch;
    int64_t width, memory;
    bool nary, leaf_output, output;
    Doubles leaf_weight[TREE_LEAF_PARTS], leaf_bias[TREE_LEAF_PARTS];
    GateParameters gate[TREE_GATES];
    double *c, *h;                                  /* [nodes][memory] */
    double (*gates)[TREE_GATES], *dc, *dh, *x, *dx; /* [nodes * memory] */
} Program;

static Program program_of(const OpCase *op_case, OpReference *r)
{
    static const char *const cited[TREE_GATES][SIDES] = {
        {"ilh", "irh"}, {"lflh", "lfrh"}, {"rflh", "rfrh"}, {"ulh", "urh"}, {"olh", "orh"}};
    static const char *const printed[TREE_GATES][SIDES] = {{"U_i_l", "U_i_r"},
                                                           {"U_f_ll", "U_f_lr"},
                                                           {"U_f_rl", "U_f_rr"},
                                                           {"U_u_l", "U_u_r"},
                                                           {"U_o_l", "U_o_r"}};
    static const char *const printed_bias[] = {"W_i.bias", "W_f.bias", "W_f.bias", "W_u.bias", "W_o.bias"};
    static const char *const printed_leaf[] = {"W_u", "W_o", "W_i"}, *const cited_leaf[] = {"cx", "ox"};
    const TreeRow *row = op_case->parameters;
    Program p = {.batch = batch_of(op_case),
                 .width = r->in[0].shape.extent[1],
                 .memory = row->form.memory,
                 .nary = row->form.nary,
                 .leaf_output = row->form.nary || row->form.leaf_gate,
                 .output = row->form.nary || row->form.output_gate,
                 .x = r->in[0].data,
                 .dx = r->in[0].gradient};
    char name[64];
    for (int i = 0; i < (p.nary ? 3 : p.leaf_output ? 2 : 1); ++i) {
        const char *const part = p.nary ? printed_leaf[i] : cited_leaf[i];
        (void)snprintf(name, sizeof name, "%s%s.weight", p.nary ? "" : "leaf_module.", part);
        p.leaf_weight[i] = find(op_case, r, name, true);
        (void)snprintf(name, sizeof name, "%s%s.bias", p.nary ? "" : "leaf_module.", part);
        p.leaf_bias[i] = find(op_case, r, name, true);
    }
    for (int g = 0; g < (p.output ? TREE_GATES : TREE_GATES - 1); ++g)
        for (int side = 0; side < SIDES; ++side) {
            (void)snprintf(name, sizeof name, "%s%s.weight", p.nary ? "" : "composer.",
                           (p.nary ? printed : cited)[g][side]);
            p.gate[g].weight[side] = find(op_case, r, name, true);
            (void)snprintf(name, sizeof name, "composer.%s.bias", cited[g][side]);
            if (!p.nary)
                p.gate[g].bias[side] = find(op_case, r, name, true);
            else if (side == 0)
                p.gate[g].bias[side] = find(op_case, r, printed_bias[g], true);
        }
    const size_t count = (size_t)(p.batch.nodes * p.memory) + 1;
    double **const arrays[] = {&p.c, &p.h, &p.dc, &p.dh};
    for (int i = 0; i < COUNT(arrays); ++i)
        assert_non_null(*arrays[i] = calloc(count, sizeof(double)));
    assert_non_null(p.gates = calloc(count, sizeof *p.gates));
    return p;
}

static void program_free(Program *p)
{
    free(p->c);
    free(p->h);
    free(p->dc);
    free(p->dh);
    free(p->gates);
}

static double logistic(double x) { return 1 / (1 + exp(-x)); }

static double row_dot(const double *weight, const double *vector, int64_t count)
{
    double sum = 0;
    for (int64_t k = 0; k < count; ++k)
        sum += weight[k] * vector[k];
    return sum;
}

static void forward(Program *p)
{
    const int64_t m = p->memory;
    for (int node = 0; node < p->batch.nodes; ++node)
        for (int64_t j = 0; j < m; ++j) {
            double *gate = p->gates[node * m + j], c, o = 1;
            if (node < p->batch.leaves) {
                for (int i = 0; i < TREE_LEAF_PARTS && p->leaf_weight[i].data != NULL; ++i)
                    gate[i] = p->leaf_bias[i].data[j] + row_dot(p->leaf_weight[i].data + j * p->width,
                                                                p->x + node * p->width, p->width);
                if (p->nary) gate[TREE_LEAF_CELL] = tanh(gate[TREE_LEAF_CELL]);
                if (p->nary) gate[TREE_LEAF_INPUT] = logistic(gate[TREE_LEAF_INPUT]);
                c = gate[TREE_LEAF_CELL] * (p->nary ? gate[TREE_LEAF_INPUT] : 1);
                if (p->leaf_output) o = gate[TREE_LEAF_OUTPUT] = logistic(gate[TREE_LEAF_OUTPUT]);
            } else {
                const int32_t *child = p->batch.child[node - p->batch.leaves];
                for (int g = 0; g < TREE_GATES && p->gate[g].weight[0].data != NULL; ++g) {
                    double sum = 0;
                    for (int side = 0; side < SIDES; ++side) {
                        sum += row_dot(p->gate[g].weight[side].data + j * m, p->h + child[side] * m, m);
                        if (p->gate[g].bias[side].data != NULL) sum += p->gate[g].bias[side].data[j];
                    }
                    gate[g] = g == TREE_GATE_UPDATE ? tanh(sum) : logistic(sum);
                }
                c = gate[TREE_GATE_INPUT] * gate[TREE_GATE_UPDATE] +
                    gate[TREE_GATE_LEFT_FORGET] * p->c[child[0] * m + j] +
                    gate[TREE_GATE_RIGHT_FORGET] * p->c[child[1] * m + j];
                if (p->output) o = gate[TREE_GATE_OUTPUT];
            }
            p->c[node * m + j] = c;
            p->h[node * m + j] = o * tanh(c);
        }
}

/* Adds to the gradients of a row of a weight and of a vector, d being that of their product. */
static void row_back(Doubles weight, int64_t row, double d, const double *vector, double *d_vector,
                     int64_t count)
{
    for (int64_t k = 0; k < count; ++k) {
        weight.gradient[row * count + k] += d * vector[k];
        d_vector[k] += d * weight.data[row * count + k];
    }
}

static void back_through_node(Program *p, int node)
{
    const int64_t m = p->memory;
    const bool leaf = node < p->batch.leaves;
    for (int64_t j = 0; j < m; ++j) {
        const double *gate = p->gates[node * m + j], t = tanh(p->c[node * m + j]), dh = p->dh[node * m + j];
        const bool gated = leaf ? p->leaf_output : p->output;
        const double o = !gated ? 1 : leaf ? gate[TREE_LEAF_OUTPUT] : gate[TREE_GATE_OUTPUT];
        const double dc = p->dc[node * m + j] + dh * o * (1 - t * t);
        if (leaf) {
            const double i = gate[TREE_LEAF_INPUT], u = gate[TREE_LEAF_CELL];
            const double d[TREE_LEAF_PARTS] = {p->nary ? dc * i * (1 - u * u) : dc, dh * t * o * (1 - o),
                                               dc * u * i * (1 - i)};
            for (int part = 0; part < TREE_LEAF_PARTS && p->leaf_weight[part].data != NULL; ++part) {
                p->leaf_bias[part].gradient[j] += d[part];
                row_back(p->leaf_weight[part], j, d[part], p->x + node * p->width, p->dx + node * p->width,
                         p->width);
            }
            continue;
        }
        const int32_t *child = p->batch.child[node - p->batch.leaves];
        const double i = gate[TREE_GATE_INPUT], u = gate[TREE_GATE_UPDATE], l = gate[TREE_GATE_LEFT_FORGET],
                     r = gate[TREE_GATE_RIGHT_FORGET];
        const double d[TREE_GATES] = {dc * u * i * (1 - i), dc * p->c[child[0] * m + j] * l * (1 - l),
                                      dc * p->c[child[1] * m + j] * r * (1 - r), dc * i * (1 - u * u),
                                      dh * t * o * (1 - o)};
        p->dc[child[0] * m + j] += dc * l;
        p->dc[child[1] * m + j] += dc * r;
        for (int g = 0; g < TREE_GATES && p->gate[g].weight[0].data != NULL; ++g)
            for (int side = 0; side < SIDES; ++side) {
                if (p->gate[g].bias[side].data != NULL) p->gate[g].bias[side].gradient[j] += d[g];
                row_back(p->gate[g].weight[side], j, d[g], p->h + child[side] * m, p->dh + child[side] * m,
                         m);
            }
    }
}

static void reference(const OpCase *op_case, OpReference *r)
{
    Program p = program_of(op_case, r);
    forward(&p);
    memset(r->out, 0, (size_t)shape_count(r->shape) * sizeof *r->out);
    memcpy(r->out, p.h, (size_t)(p.batch.nodes * p.memory) * sizeof *r->out);
    program_free(&p);
}

static void gradient(const OpCase *op_case, OpReference *r)
{
    Program p = program_of(op_case, r);
    forward(&p);
    memcpy(p.dh, r->upstream, (size_t)(p.batch.nodes * p.memory) * sizeof *p.dh);
    for (int node = p.batch.nodes; node-- > 0;)
        back_through_node(&p, node);
    program_free(&p);
}

#define BATCH "((..)(..)).(..)((.(..)).)((..)((.(..))(..)))"
#define CHAIN29 "(((((((((((((((((((((((((((((..).).).).).).).).).).).).).).).).).).).).).).).).).).).).)"
/* leaf capacity, width; inner capacity; levels */
#define TREES(leaves, width, inner, most)                                                                    \
    {                                                                                                        \
        {"x", 2, {leaves, width}, false, FLOAT32, NULL},                                                     \
            {"children", 2, {inner, 2}, true, INT32, fill_children},                                         \
        {                                                                                                    \
            "levels", 1, {1 + (most)}, true, INT32, fill_levels                                              \
        }                                                                                                    \
    }
#define ROW(name, trees, shape, ...)                                                                         \
    {                                                                                                        \
        name, build, &(const TreeRow){trees, {__VA_ARGS__}}, shape, reference, gradient,                     \
            .fill_stored = fill_stored                                                                       \
    }

static const OpCase cases[] = {
    ROW("a leaf alone", ".", TREES(1, 4, 1, 1), .memory = 5, .leaf_gate = true),
    ROW("a tree of two leaves", "(..)", TREES(2, 4, 1, 1), .memory = 5, .leaf_gate = true),
    ROW("a left chain of height 29", CHAIN29, TREES(30, 4, 29, 29), .memory = 5, .leaf_gate = true),
    ROW("a batch", BATCH, TREES(18, 7, 13, 4), .memory = 9, .leaf_gate = true),
    ROW("a batch with padding", BATCH, TREES(23, 7, 21, 9), .memory = 9, .leaf_gate = true),
    ROW("no gates", BATCH, TREES(20, 7, 15, 5), .memory = 9),
    ROW("all gates", BATCH, TREES(20, 7, 15, 5), .memory = 9, .leaf_gate = true, .output_gate = true),
    ROW("the output gate alone", BATCH, TREES(20, 7, 15, 5), .memory = 9, .output_gate = true),
    ROW("the printed equations", BATCH, TREES(20, 7, 15, 5), .memory = 9, .nary = true),
    ROW("whole vectors", BATCH BATCH, TREES(40, 32, 30, 6), .memory = 32, .leaf_gate = true),
    ROW("many vectors, the last in part", CHAIN29 BATCH BATCH BATCH, TREES(90, 101, 80, 30), .memory = 83,
        .leaf_gate = true, .output_gate = true),
    ROW("many columns, one unit", BATCH, TREES(20, 150, 15, 5), .memory = 1, .leaf_gate = true),
    ROW("one column, many units", BATCH, TREES(20, 1, 15, 5), .memory = 50, .leaf_gate = true),
    ROW("more nodes than a sum's block", CHAIN29 CHAIN29 CHAIN29 CHAIN29, TREES(120, 6, 116, 29), .memory = 6,
        .leaf_gate = true),
};

static void trees_of_all_shapes(void **state)
{
    (void)state;
    op_test_cases(cases, COUNT(cases), test_device());
}

/* ---- threads ---- */

/* Forward and backward of one batch by that many threads, all results one after the other; release with free(). */
static float *run_with_threads(int threads, int64_t *count)
{
    enum { LEAVES = 90, INNER = 80, LEVELS = 30, WIDTH = 70, MEMORY = 67 };
    const Batch b = read_batch(CHAIN29 BATCH BATCH BATCH, LEVELS);
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    const Value x = graph_input(graph, "x", shape_of(FLOAT32, 2, (int64_t[]){LEAVES, WIDTH}));
    const Value children = graph_input(graph, "children", shape_of(INT32, 2, (int64_t[]){INNER, SIDES}));
    const Value levels = graph_input(graph, "levels", shape_of(INT32, 1, (int64_t[]){1 + LEVELS}));
    graph_want_gradient(graph, x);
    const Value h =
        tree_lstm(graph, "t", x, children, levels, (TreeLstm){.memory = MEMORY, .leaf_gate = true});
    const Value upstream = graph_input(graph, "upstream", graph_shape(graph, h));
    graph_keep(graph, h);
    graph_differentiate(graph, dot(graph, h, upstream));
    assert_ok(graph_finish(graph));
    Device *device;
    Arena *arena;
    Store *store;
    Collective *self;
    Plan *plan;
    assert_ok(device_open(DEVICE_CPU, 0, threads, &device));
    assert_ok(collective_self(&self));
    assert_ok(arena_create(device, &arena));
    assert_ok(store_create(device, (const Graph *const[]){graph}, 1, 7, &store));
    assert_ok(plan_create(graph, store, arena, self, PLAN_DEFAULTS, &plan));
    RandomStream random = random_stream(3, RANDOM_TEST, 0);
    const Value filled[] = {x, upstream};
    for (int i = 0; i < COUNT(filled); ++i)
        for (int64_t e = 0; e < shape_count(graph_shape(graph, filled[i])); ++e)
            ((float *)plan_data(plan, filled[i]))[e] = (float)random_normal(&random);
    memcpy(plan_data(plan, children), b.child, sizeof(int32_t[INNER][SIDES]));
    memcpy(plan_data(plan, levels), b.end, sizeof(int32_t[1 + LEVELS]));
    assert_ok(plan_run(plan));
    const int64_t outputs = shape_count(graph_shape(graph, h)), inputs = LEAVES * WIDTH;
    *count = outputs + inputs + store_flat_count(store);
    float *all = malloc((size_t)*count * sizeof *all);
    assert_non_null(all);
    memcpy(all, plan_data(plan, h), (size_t)outputs * sizeof *all);
    memcpy(all + outputs, plan_data(plan, graph_gradient(graph, x)), (size_t)inputs * sizeof *all);
    memcpy(all + outputs + inputs, store_gradients(store), (size_t)store_flat_count(store) * sizeof *all);
    plan_free(plan);
    store_free(store);
    arena_free(arena);
    collective_free(self);
    device_close(device);
    graph_free(graph);
    return all;
}

static void bits_are_those_of_one_thread(void **state)
{
    (void)state;
    int64_t count;
    float *one = run_with_threads(1, &count);
    for (int threads = 2; threads <= 7; ++threads) {
        float *more = run_with_threads(threads, &count);
        assert_memory_equal(one, more, (size_t)count * sizeof *one);
        free(more);
    }
    free(one);
}

/* ---- bad batches ---- */

/* What a batch of 2 leaves and 1 node that is described so gives: the status of the op on the CPU. */
static Status run_described(const int32_t levels[2], const int32_t children[2])
{
    enum { LEAVES = 2, WIDTH = 3, MEMORY = 4, ROWS = 3 };
    float x[LEAVES * WIDTH] = {0}, weight[MEMORY * MEMORY] = {0}, h[ROWS * MEMORY],
                     cells[ROWS * TREE_LSTM_UNIT_BLOCK], gates[ROWS * TREE_LSTM_UNIT_BLOCK * TREE_GATES];
    int32_t level[2], child[2];
    memcpy(level, levels, sizeof level);
    memcpy(child, children, sizeof child);
    const TreeLstmAttributes a = {.leaf_part = {[TREE_LEAF_CELL] = true}};
    Call call = {.attributes = &a};
    for (int i = TREE_LSTM_FIRST_PARAMETER; i < TREE_LSTM_INPUTS; ++i)
        call.in[i] = (Tensor){.shape = {.rank = -1}};
    call.in[TREE_LSTM_X] = tensor_floats(x, LEAVES, WIDTH, WIDTH);
    call.in[TREE_LSTM_CHILDREN] =
        (Tensor){.data = child, .shape = shape_of(INT32, 2, (int64_t[]){1, SIDES}), .stride = SIDES};
    call.in[TREE_LSTM_LEVELS] =
        (Tensor){.data = level, .shape = shape_of(INT32, 1, (int64_t[]){2}), .stride = 2};
    call.in[TREE_LSTM_LEAF_WEIGHT] = tensor_floats(weight, MEMORY, WIDTH, WIDTH);
    for (int g = 0; g < TREE_GATE_OUTPUT; ++g)
        call.in[TREE_LSTM_LEFT_WEIGHT + g] = call.in[TREE_LSTM_RIGHT_WEIGHT + g] =
            tensor_floats(weight, MEMORY, MEMORY, MEMORY);
    call.out[TREE_LSTM_H] = tensor_floats(h, ROWS, MEMORY, MEMORY);
    call.out[TREE_LSTM_CELLS] = tensor_floats(cells, ROWS, TREE_LSTM_UNIT_BLOCK, TREE_LSTM_UNIT_BLOCK);
    call.out[TREE_LSTM_GATES] = tensor_floats(gates, ROWS, TREE_LSTM_UNIT_BLOCK * TREE_GATE_OUTPUT,
                                              TREE_LSTM_UNIT_BLOCK * TREE_GATE_OUTPUT);
    return kernel_call_on(DEVICE_CPU, &tree_lstm_op, &call, TREE_LSTM_INPUTS, 1, 0, NULL);
}

static void batches_beyond_their_arrays_are_refused(void **state)
{
    (void)state;
    const int32_t good[2] = {0, 1};
    assert_ok(run_described((int32_t[]){2, 3}, good));
    assert_ok(run_described((int32_t[]){0, 0}, (int32_t[]){99, 99}));
    const struct {
        int32_t levels[2], children[2];
        const char *message;
    } bad[] = {{{3, 3}, {0, 1}, "3 leaves and 3 nodes in arrays for 2 leaves"},
               {{-1, 0}, {0, 1}, "-1 leaves"},
               {{1, 3}, {0, 0}, "1 leaves and 3 nodes in arrays for 2 leaves and 1 inner nodes"},
               {{2, 1}, {0, 1}, "level 1 of a batch of trees ends before it begins"},
               {{2, 3}, {0, 2}, "node 2 of level 1 has child 2"},
               {{2, 3}, {-1, 1}, "node 2 of level 1 has child -1"}};
    for (int i = 0; i < COUNT(bad); ++i) {
        assert_fails(run_described(bad[i].levels, bad[i].children), STATUS_INTERNAL, bad[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_of_all_shapes),
        cmocka_unit_test(bits_are_those_of_one_thread),
        cmocka_unit_test(batches_beyond_their_arrays_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
