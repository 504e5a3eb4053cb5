/* The Transformer against golden values: attention with its projections, layers of both stacks, whole networks with their losses
 * and gradients, and five steps of training. And decoding step by step against the decoder over whole sentences. */
#include "tests/golden.h"
#include "tests/network.h"
#include "tests/scratch.h"

#include "engine/base/random.h"
#include "engine/ops/ops.h"
#include "engine/ops/positions.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/checkpoint.h"
#include "engine/plan/plan.h"
#include "losses/loss_head.h"
#include "models/transformer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- graphs made ready ---- */

enum { MOST_GRAPHS = 5 };
typedef struct {
    int count;
    Graph *graph[MOST_GRAPHS];
    Plan *plan[MOST_GRAPHS];
    Device *device;
    Collective *self;
    Store *store;
    Arena *arena;
} Machine;

static void machine_open(Machine *m)
{
    for (int i = 0; i < m->count; ++i)
        assert_ok(graph_finish(m->graph[i]));
    assert_ok(device_open(test_device(), 0, 1, &m->device));
    assert_ok(collective_self(&m->self));
    assert_ok(arena_create(m->device, &m->arena));
    assert_ok(store_create(m->device, (const Graph *const *)m->graph, m->count, 1, &m->store));
    for (int i = 0; i < m->count; ++i)
        assert_ok(plan_create(m->graph[i], m->store, m->arena, m->self, PLAN_DEFAULTS, &m->plan[i]));
}

static void machine_close(Machine *m)
{
    for (int i = 0; i < m->count; ++i)
        plan_free(m->plan[i]);
    store_free(m->store);
    arena_free(m->arena);
    collective_free(m->self);
    device_close(m->device);
    for (int i = 0; i < m->count; ++i)
        graph_free(m->graph[i]);
}

static void *allocate(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    assert_non_null(memory);
    return memory;
}

/* Doubles to device memory of that shape, and back; release with free(). */
static void put(const Machine *m, void *to, Shape shape, const double *values)
{
    const int64_t count = shape_count(shape);
    void *host = allocate(count, dtype_size(shape.type));
    for (int64_t i = 0; i < count; ++i) {
        if (shape.type == FLOAT32)
            ((float *)host)[i] = (float)values[i];
        else
            ((int32_t *)host)[i] = (int32_t)values[i];
    }
    assert_ok(device_upload(m->device, to, host, shape_bytes(shape)));
    assert_ok(device_synchronize(m->device));
    free(host);
}

static double *get(const Machine *m, const void *from, Shape shape)
{
    const int64_t count = shape_count(shape);
    double *values = allocate(count, sizeof *values);
    void *host = allocate(count, dtype_size(shape.type));
    assert_ok(device_download(m->device, host, from, shape_bytes(shape)));
    assert_ok(device_synchronize(m->device));
    for (int64_t i = 0; i < count; ++i)
        values[i] = shape.type == FLOAT32 ? (double)((const float *)host)[i] : ((const double *)host)[i];
    free(host);
    return values;
}

static void put_input(const Machine *m, int graph, Value value, const double *values)
{
    put(m, plan_data(m->plan[graph], value), graph_shape(m->graph[graph], value), values);
}

static double *get_result(const Machine *m, int graph, Value value)
{
    return get(m, plan_data(m->plan[graph], value), graph_shape(m->graph[graph], value));
}

static void run(const Machine *m, int graph)
{
    assert_ok(plan_run(m->plan[graph]));
    assert_ok(device_synchronize(m->device));
}

/* ---- names ---- */

/* PyTorch's name of a parameter of ours, and how many times the width its rows begin below the first. */
static void translate(const char *ours, bool in_decoder, char name[160], int *widths)
{
    static const struct {
        const char *ours, *encoder, *decoder;
        int widths;
    } words[] = {
        {"encoder.embed_tokens.weight", "embedding.weight", "embedding.weight", 0},
        {"self_attn.qkv_proj.", "self_attn.in_proj_", "self_attn.in_proj_", 0},
        {"encoder_attn.q_proj.", NULL, "multihead_attn.in_proj_", 0},
        {"encoder_attn.kv_proj.", NULL, "multihead_attn.in_proj_", 1},
        {"encoder_attn.out_proj.", NULL, "multihead_attn.out_proj.", 0},
        {"fc1.", "linear1.", "linear1.", 0},
        {"fc2.", "linear2.", "linear2.", 0},
        {"self_attn_layer_norm.", "norm1.", "norm1.", 0},
        {"encoder_attn_layer_norm.", NULL, "norm2.", 0},
        {"final_layer_norm.", "norm2.", "norm3.", 0},
        {"encoder.layer_norm.", "encoder.norm.", NULL, 0},
        {"decoder.layer_norm.", NULL, "decoder.norm.", 0},
    };
    *widths = 0;
    (void)snprintf(name, 160, "%s", ours);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; ++i) {
        const char *found = strstr(ours, words[i].ours);
        if (found == NULL) continue;
        const char *theirs = in_decoder ? words[i].decoder : words[i].encoder;
        assert_non_null(theirs);
        (void)snprintf(name, 160, "%.*s%s%s", (int)(found - ours), ours, theirs,
                       found + strlen(words[i].ours));
        *widths = words[i].widths;
        return;
    }
}

/* A tensor of the golden case. */
typedef struct {
    char name[160];
    int64_t count;
    const double *values;
    double *got; /* gradients or values of ours */
} Named;
typedef struct {
    int count;
    Named tensor[96];
} NamedTensors;

/* Where a parameter of ours stands in which of them. */
static Named *find_place(NamedTensors *t, const StoreEntry *entry, bool in_decoder, int64_t *offset)
{
    char name[160];
    int widths;
    translate(entry->name, in_decoder || strncmp(entry->name, "decoder.", strlen("decoder.")) == 0, name,
              &widths);
    const int64_t columns = entry->shape.rank == 2 ? entry->shape.extent[1] : 1,
                  width = entry->shape.rank == 2 ? columns : entry->shape.extent[0] / (widths == 1 ? 2 : 1);
    *offset = widths * width * columns;
    for (int i = 0; i < t->count; ++i)
        if (strcmp(t->tensor[i].name, name) == 0) {
            assert_true(*offset + shape_count(entry->shape) <= t->tensor[i].count);
            return &t->tensor[i];
        }
    print_error("the case has no %s for %s\n", name, entry->name);
    assert_true(false);
    return NULL;
}

static void load_parameters(const Machine *m, NamedTensors *t, bool in_decoder)
{
    for (int i = 0; i < store_count(m->store); ++i) {
        const StoreEntry *entry = store_at(m->store, i);
        int64_t offset;
        const Named *place = find_place(t, entry, in_decoder, &offset);
        put(m, entry->data, entry->shape, place->values + offset);
    }
}

/* Into `got`; all of every tensor must come. */
static void collect(const Machine *m, NamedTensors *t, bool in_decoder, bool gradients)
{
    int64_t want = 0, found = 0;
    for (int i = 0; i < t->count; ++i)
        want += t->tensor[i].count;
    for (int i = 0; i < store_count(m->store); ++i) {
        const StoreEntry *entry = store_at(m->store, i);
        int64_t offset;
        const Named *place = find_place(t, entry, in_decoder, &offset);
        double *values = get(m, gradients ? entry->gradient : entry->data, entry->shape);
        memcpy(place->got + offset, values, (size_t)shape_count(entry->shape) * sizeof *values);
        found += shape_count(entry->shape);
        free(values);
    }
    assert_int_equal(found, want);
}

/* ---- layers ---- */

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
    double *first = allocate(samples, sizeof *first), *end = allocate(samples, sizeof *end);
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
    if (value_exists(l->first)) put_input(&l->m, 0, l->first, first);
    put_input(&l->m, 0, l->end, end);
    free(first);
    free(end);
    golden_array_free(&array);
}

/* Rows of values [N,keys,columns] in that order, or back. */
static void reorder(double *values, Shape shape, const int64_t *order, bool back)
{
    const int64_t rows = shape.extent[0] * shape.extent[1], columns = shape.extent[2];
    double *copy = allocate(rows * columns, sizeof *copy);
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
        tensor->got = allocate(array.count, sizeof(double));
    }
}

static void check_role(const GoldenCase *golden, const char *role, double *got, int64_t count)
{
    char path[256];
    (void)snprintf(path, sizeof path, "expected_files/%s", role);
    golden_check(golden, path, got, count, "f32");
    free(got);
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
    machine_open(&l->m);
    NamedTensors t;
    read_tensors(l->golden, &t);
    load_parameters(&l->m, &t, l->decoder);
    const Value memory = graph_find(graph, "memory");
    int64_t *order = NULL;
    if (l->mask != NULL && value_exists(memory))
        order = allocate(shape_rows(graph_shape(graph, memory)), sizeof *order);
    if (l->mask != NULL) fill_lists(l, order);
    GoldenArray array = golden_array(l->golden, "inputs/upstream_gradient");
    put_input(&l->m, 0, upstream, array.values);
    golden_array_free(&array);
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; ++i) {
        const Value value = graph_find(graph, inputs[i]);
        if (!value_exists(value)) continue;
        char path[64];
        (void)snprintf(path, sizeof path, "inputs/%s", inputs[i]);
        array = golden_array(l->golden, path);
        if (order != NULL && value_equal(value, memory))
            reorder(array.values, graph_shape(graph, value), order, false);
        put_input(&l->m, 0, value, array.values);
        golden_array_free(&array);
    }
    run(&l->m, 0);
    check_role(l->golden, "y", get_result(&l->m, 0, y), shape_count(graph_shape(graph, y)));
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; ++i) {
        char role[32];
        const Value value = graph_find(graph, inputs[i]);
        if (!value_exists(value)) continue;
        (void)snprintf(role, sizeof role, "grad_%s", inputs[i]);
        double *got = get_result(&l->m, 0, graph_gradient(graph, value));
        if (order != NULL && value_equal(value, memory)) reorder(got, graph_shape(graph, value), order, true);
        check_role(l->golden, role, got, shape_count(graph_shape(graph, value)));
    }
    free(order);
    collect(&l->m, &t, l->decoder, true);
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
    float *table = allocate(count * width, sizeof *table);
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
    double *length = allocate(rows, sizeof *length);
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
    b.weight = allocate(b.sentences * b.target_positions, sizeof *b.weight);
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

static Transformer transformer_of(const GoldenCase *golden)
{
    int layers;
    assert_int_equal(sscanf(golden_text(golden, "params/layers"), "%d encoder", &layers), 1);
    return (Transformer){.vocabulary = (int64_t)golden_number(golden, "params/vocabulary"),
                         .width = (int64_t)golden_number(golden, "params/d_model"),
                         .feed_forward_width = (int64_t)golden_number(golden, "params/ffn"),
                         .heads = (int64_t)golden_number(golden, "params/heads"),
                         .layers = layers,
                         .pre_norm = strcmp(golden_text(golden, "params/norm"), "prenorm") == 0,
                         .attention_bias = true,
                         .positions = {.kind = positions_of(golden_text(golden, "params/positions"))}};
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
    put_input(m, graph, in->source, b->source);
    put_input(m, graph, in->length, b->length);
    put_input(m, graph, in->target, b->target);
    put_input(m, graph, in->label, b->label);
    put_input(m, graph, in->weight, b->weight);
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
    double *real = allocate(rows * columns, sizeof *real);
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
    double *weight = allocate(rows, sizeof *weight), *loss = allocate(rows, sizeof *loss);
    for (int64_t r = 0; r < rows; ++r) {
        if (b->weight[r] == 0) continue;
        weight[r] = 1;
        Sentences alone = *b;
        alone.weight = weight;
        fill(m, graph, in, &alone);
        weight[r] = 0;
        run(m, graph);
        double *sums = get_result(m, graph, in->sums);
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
    const Transformer t = transformer_of(golden);
    const int64_t rows = b->sentences * b->target_positions;
    char path[128];
    Machine m = {.count = 2};
    Inputs in, forward;
    NamedTensors tensors;
    double *got = allocate(weights->count, sizeof *got);
    m.graph[0] = build(&t, b, &losses[loss].head, GRAPH_TRAIN, &in);
    m.graph[1] = build(&t, b, &losses[loss].head, GRAPH_EVALUATE, &forward);
    machine_open(&m);
    index_tensors(golden, weights->values, got, &tensors);
    load_parameters(&m, &tensors, false);
    fill(&m, 0, &in, b);
    run(&m, 0);
    if (loss == 0) {
        double *logits = get_result(&m, 0, in.logits), *memory = get_result(&m, 0, in.memory);
        check_real(golden, "logits", logits, b->label, rows, t.vocabulary);
        check_real(golden, "memory", memory, b->source, b->sentences * b->source_positions, t.width);
        free(logits);
        free(memory);
    }
    double *sums = get_result(&m, 0, in.sums);
    (void)snprintf(path, sizeof path, "expected/loss_sum_%s", losses[loss].name);
    golden_check_number(golden, path, sums[LOSS_SUM], (GoldenTolerance){.relative = 1e-5});
    assert_true(sums[LOSS_WEIGHT] == golden_number(golden, "expected/real_tokens"));
    free(sums);
    collect(&m, &tensors, false, true);
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
    const Transformer t = transformer_of(golden);
    const int steps = (int)golden_number(golden, "params/steps");
    GoldenArray weights = golden_array(golden, "inputs/weights"),
                after = golden_array(golden, "expected_files/parameters_after_steps");
    Machine m = {.count = steps};
    Sentences batch[MOST_GRAPHS];
    Inputs in[MOST_GRAPHS];
    NamedTensors tensors;
    double *got = allocate(weights.count, sizeof *got);
    assert_true(steps <= MOST_GRAPHS);
    for (int s = 0; s < steps; ++s) {
        char suffix[16];
        (void)snprintf(suffix, sizeof suffix, "_%d", s);
        batch[s] = batch_of(golden, suffix);
        m.graph[s] =
            build(&t, &batch[s], loss_named(golden_text(golden, "params/loss")), GRAPH_TRAIN, &in[s]);
    }
    machine_open(&m);
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
        run(&m, s);
        double *sums = get_result(&m, s, in[s].sums);
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
        collect(&m, &tensors, false, false);
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

/* ---- settings ---- */

/* Parameters of the network of these settings over 1,000 ids. */
static int64_t parameters_of(const char *const settings[])
{
    Config *config = config_of(settings);
    ModelOptions options;
    Graph *graph;
    assert_ok(model_read(config, &options));
    assert_int_equal(options.model->input, MODEL_OF_TRANSLATION);
    assert_int_equal(options.model_width, options.transformer.width);
    assert_ok(graph_create(GRAPH_TRAIN, BFLOAT16, &graph));
    const int64_t two = 2;
    const Value input[] = {
        [TRANSLATION_SOURCE_INPUT] = graph_input(graph, "source", shape_of(INT32, 2, (int64_t[]){2, 5})),
        [TRANSLATION_SOURCE_LENGTH_INPUT] = graph_input(graph, "source_length", shape_of(INT32, 1, &two)),
        [TRANSLATION_TARGET_INPUT] =
            graph_input(graph, "target_input", shape_of(INT32, 2, (int64_t[]){2, 3})),
        [TRANSLATION_TARGET_LENGTH_INPUT] = graph_input(graph, "target_length", shape_of(INT32, 1, &two))};
    const Value logits = model_build(graph, &options, input, 1000);
    assert_true(shape_equal(graph_shape(graph, logits), shape_of(FLOAT32, 2, (int64_t[]){6, 1000})));
    assert_ok(graph_finish(graph));
    int64_t count = 0;
    for (int32_t id = 0; id < graph_value_count(graph); ++id)
        if (graph_role(graph, (Value){id}) == ROLE_PARAMETER)
            count += shape_count(graph_shape(graph, (Value){id}));
    graph_free(graph);
    config_free(config);
    return count;
}

static void test_sizes(void **state)
{
    (void)state;
    /* A layer's numbers: attention 4 d (d + 1), feed-forward 2 d f + f + d, norms 2 d each. */
    const int64_t base = 6 * (3152384 + 4204032), big = 6 * (12596224 + 16796672);
    assert_int_equal(parameters_of((const char *const[]){"model.name=transformer_base", NULL}),
                     base + 512 * 1000);
    assert_int_equal(
        parameters_of((const char *const[]){"model.name=transformer_base", "model.norm=pre", NULL}),
        base + 512 * 1000 + 2 * 2 * 512);
    assert_int_equal(parameters_of((const char *const[]){"model.name=transformer_base",
                                                         "model.attention_bias=false", NULL}),
                     base + 512 * 1000 - 18 * 4 * 512);
    assert_int_equal(parameters_of((const char *const[]){"model.name=transformer_big", NULL}),
                     big + 1024 * 1000);
    assert_int_equal(
        parameters_of((const char *const[]){"model.name=transformer", "model.layers=1", "model.width=8",
                                            "model.heads=2", "model.feed_forward_width=12",
                                            "model.positions=learned", "model.max_positions=7", NULL}),
        (4 * 8 * 9 + 2 * 8 * 12 + 20 + 2 * 16) + (2 * 4 * 8 * 9 + 2 * 8 * 12 + 20 + 3 * 16) + 8 * 1000 +
            2 * 7 * 8);
}

static void test_settings(void **state)
{
    (void)state;
    const struct {
        const char *settings[4];
        const char *text;
    } bad[] = {
        {{"model.name=transformer_base", "model.heads=7", NULL},
         "a width of 512 cannot be shared by 7 heads"},
        {{"model.name=transformer", "model.width=9", "model.heads=3", NULL}, "need an even width, not 9"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        Config *config = config_of(bad[i].settings);
        ModelOptions options;
        assert_fails(model_read(config, &options), STATUS_INPUT, bad[i].text);
        config_free(config);
    }
    Config *config =
        config_of((const char *const[]){"model.name=transformer_big", "model.attention_dropout=0.1", NULL});
    ModelOptions options;
    assert_ok(model_read(config, &options));
    assert_true(options.transformer.dropout == 0.3 && options.transformer.attention_dropout == 0.1 &&
                options.transformer.relu_dropout == 0 && options.transformer.heads == 16);
    config_free(config);
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
    machine_open(m);
    /* Other values than those of the first. */
    for (int i = 0; i < store_count(m->store) && seed > 0; ++i) {
        const StoreEntry *entry = store_at(m->store, i);
        double *values = get(m, entry->data, entry->shape);
        RandomStream random = random_stream(seed, RANDOM_TEST, (uint64_t)i);
        for (int64_t e = 0; e < shape_count(entry->shape); ++e)
            values[e] = random_normal(&random);
        put(m, entry->data, entry->shape, values);
        free(values);
    }
}

static void assert_same_parameters(const Machine *a, const Machine *b)
{
    for (int i = 0; i < store_count(a->store); ++i) {
        const StoreEntry *entry = store_at(a->store, i);
        double *left = get(a, entry->data, entry->shape),
               *right = get(b, store_find(b->store, entry->name)->data, entry->shape);
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
        get(&loaded, moment, shape_of(FLOAT32, 1, (int64_t[]){store_flat_count(loaded.store)}));
    for (int i = 0; i < store_count(saved.store); ++i) {
        const StoreEntry *entry = store_at(saved.store, i);
        double *values = get(&saved, entry->data, entry->shape);
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
    double *joined = get(&saved, store_find(saved.store, "encoder.layers.0.self_attn.qkv_proj.weight")->data,
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
        tensor[0].name = "decoder.version";
        assert_ok(safetensors_write(in_scratch("other.safetensors"), tensor, count, NULL, 0));
        assert_fails(checkpoint_load_weights(loaded.store, in_scratch("other.safetensors"), "", NULL),
                     STATUS_INPUT, "holds decoder.version, which this network does not have");
    }
    safetensors_close(file);
    machine_close(&saved);
    machine_close(&loaded);
}

/* ---- decoding ---- */

enum {
    SENTENCES = 3,
    SOURCE = 6,
    TARGET = 5,
    BEAM = 2,
    HYPOTHESES = SENTENCES * BEAM,
    ROOM = 7,
    SLOTS = 9,
    WIDTH = 24,
    IDS = 11
};

/* The slot of a hypothesis changes from position to position, as after reordering. */
static int slot_of(int hypothesis, int position) { return (hypothesis * 2 + position * 5) % SLOTS; }

typedef struct {
    Value source, length, target, logits, memory[2];
} Whole;
typedef struct {
    Value token, position, table, sentence, length, memory[2], cache[2], logits;
} Step;

static Graph *build_whole(const Transformer *t, Whole *w)
{
    Graph *graph;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    w->source = graph_input(graph, "source", shape_of(INT32, 2, (int64_t[]){SENTENCES, SOURCE}));
    w->length = graph_input(graph, "source_length", shape_of(INT32, 1, (int64_t[]){SENTENCES}));
    w->target = graph_input(graph, "target_input", shape_of(INT32, 2, (int64_t[]){SENTENCES, TARGET}));
    const Value memory = transformer_encoder(graph, t, w->source, w->length);
    w->logits = transformer_logits(graph, t, transformer_decoder(graph, t, memory, w->length, w->target));
    graph_keep(graph, w->logits);
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        w->memory[layer] = transformer_memory(graph, t, layer, memory);
        graph_keep(graph, w->memory[layer]);
    }
    return graph;
}

/* Row i of the memories is sentence SENTENCES - i of a larger array, in which one row is of no use. */
enum { MEMORIES = SENTENCES + 1 };

static Graph *build_step(const Transformer *t, Step *s)
{
    Graph *graph;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    s->token = graph_input(graph, "token", shape_of(INT32, 1, (int64_t[]){HYPOTHESES}));
    s->position = graph_input(graph, "position", shape_of(INT32, 1, (int64_t[]){HYPOTHESES}));
    s->table = graph_input(graph, "table", shape_of(INT32, 2, (int64_t[]){HYPOTHESES, ROOM}));
    s->sentence = graph_input(graph, "sentence", shape_of(INT32, 1, (int64_t[]){SENTENCES}));
    s->length = graph_input(graph, "source_length", shape_of(INT32, 1, (int64_t[]){MEMORIES}));
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        char name[32];
        (void)snprintf(name, sizeof name, "memory%lld", (long long)layer);
        s->memory[layer] =
            graph_input(graph, name, shape_of(FLOAT32, 3, (int64_t[]){MEMORIES, SOURCE, 2 * t->width}));
        (void)snprintf(name, sizeof name, "cache%lld", (long long)layer);
        s->cache[layer] =
            graph_transient_state(graph, name, shape_of(FLOAT32, 3, (int64_t[]){SLOTS, ROOM, 2 * t->width}),
                                  (Init){.kind = INIT_ZEROS});
    }
    const TransformerStep step = {.token = s->token,
                                  .position = s->position,
                                  .table = s->table,
                                  .sentence = s->sentence,
                                  .source_length = s->length,
                                  .memory = s->memory,
                                  .cache = s->cache};
    s->logits = transformer_logits(graph, t, transformer_step(graph, t, &step));
    graph_keep(graph, s->logits);
    return graph;
}

static void check_decoding(const Transformer *t)
{
    static const double source[SENTENCES * SOURCE] = {5, 9, 3, 7, 4, 2, 8, 2, 0, 0, 0, 0, 6, 3, 10, 2, 0, 0};
    static const double length[SENTENCES] = {6, 2, 4};
    static const double target[SENTENCES * TARGET] = {1, 4, 9, 9, 3, 1, 6, 5, 10, 7, 1, 8, 3, 4, 4};
    Machine m = {.count = 2};
    Whole whole;
    Step step;
    m.graph[0] = build_whole(t, &whole);
    m.graph[1] = build_step(t, &step);
    machine_open(&m);
    put_input(&m, 0, whole.source, source);
    put_input(&m, 0, whole.length, length);
    put_input(&m, 0, whole.target, target);
    run(&m, 0);
    double *want = get_result(&m, 0, whole.logits), *memory[2];
    const int64_t row = SOURCE * 2 * t->width;
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        double *made = get_result(&m, 0, whole.memory[layer]);
        memory[layer] = allocate(MEMORIES * row, sizeof *memory[layer]);
        for (int i = 0; i < SENTENCES; ++i)
            memcpy(memory[layer] + (SENTENCES - i) * row, made + i * row, (size_t)row * sizeof *made);
        for (int64_t e = 0; e < row; ++e)
            memory[layer][e] = (double)NAN;
        free(made);
    }
    for (int place = 0; place < TARGET; ++place) {
        double token[HYPOTHESES], position[HYPOTHESES], table[HYPOTHESES * ROOM], sentence[SENTENCES],
            lengths[MEMORIES] = {SOURCE};
        for (int r = 0; r < HYPOTHESES; ++r) {
            token[r] = target[r / BEAM * TARGET + place];
            position[r] = place;
            for (int p = 0; p < ROOM; ++p)
                table[r * ROOM + p] = p <= place ? slot_of(r, p) : -7;
        }
        for (int i = 0; i < SENTENCES; ++i) {
            sentence[i] = SENTENCES - i;
            lengths[SENTENCES - i] = length[i];
        }
        put_input(&m, 1, step.token, token);
        put_input(&m, 1, step.position, position);
        put_input(&m, 1, step.table, table);
        put_input(&m, 1, step.sentence, sentence);
        put_input(&m, 1, step.length, lengths);
        for (int64_t layer = 0; layer < t->layers; ++layer)
            put_input(&m, 1, step.memory[layer], memory[layer]);
        run(&m, 1);
        double *got = get_result(&m, 1, step.logits);
        for (int r = 0; r < HYPOTHESES; ++r)
            for (int k = 0; k < IDS; ++k)
                assert_true(golden_is_close(got[r * IDS + k], want[(r / BEAM * TARGET + place) * IDS + k],
                                            (GoldenTolerance){.relative = 1e-4, .absolute = 1e-5}));
        free(got);
    }
    free(want);
    for (int64_t layer = 0; layer < t->layers; ++layer)
        free(memory[layer]);
    machine_close(&m);
}

static void test_decoding(void **state)
{
    (void)state;
    for (int form = 0; form < 3; ++form) {
        const Transformer t = {.vocabulary = IDS,
                               .width = WIDTH,
                               .feed_forward_width = 32,
                               .heads = 3,
                               .layers = 2,
                               .pre_norm = form == 1,
                               .attention_bias = form != 2,
                               .positions = {.kind = form == 2 ? POSITIONS_LEARNED : POSITIONS_INTERLEAVED,
                                             .most = form == 2 ? 9 : 0}};
        check_decoding(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),   cmocka_unit_test(test_networks),
        cmocka_unit_test(test_training), SCRATCH(test_files),
        cmocka_unit_test(test_sizes),    cmocka_unit_test(test_settings),
        cmocka_unit_test(test_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
