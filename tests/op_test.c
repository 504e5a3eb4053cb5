#include "tests/support.h"

#include "tests/op_test.h"

#include "tests/golden.h"
#include "tests/op_rows.h"

#include "engine/ops/ops.h"
#include "engine/plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIFFERENCES = 8 }; /* elements of a tensor tried by finite differences if there is a gradient */

/* One case in one type on one device. */
typedef struct {
    const OpCase *op_case;
    DType compute;
    DeviceNumerics numerics;
    Graph *graph;
    Device *device;
    Store *store;
    Arena *arena;
    Collective *collective;
    Plan *plan;
    Value input[OP_TEST_INPUTS], in[OP_TEST_TENSORS]; /* in: as in the reference */
    Value output, upstream;
    OpReference reference;
    int failures;
} Trial;

static const char *words_for(DeviceNumerics numerics)
{
    return numerics.deterministic ? ", deterministic" : "";
}

static void *allocate(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    assert_non_null(memory);
    return memory;
}

/* ---- numbers ---- */

static double round_to(DType type, double value)
{
    switch (type) {
    case FLOAT32:
        return (double)(float)value;
    case BFLOAT16:
        return (double)bfloat16_to_float(bfloat16_from_float((float)value));
    case FLOAT64:
        return value;
    default:
        return floor(value);
    }
}

static void encode(void *to, DType type, const double *from, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) {
        switch (type) {
        case FLOAT32:
            ((float *)to)[i] = (float)from[i];
            break;
        case BFLOAT16:
            ((bfloat16 *)to)[i] = bfloat16_from_float((float)from[i]);
            break;
        case FLOAT64:
            ((double *)to)[i] = from[i];
            break;
        case INT32:
            ((int32_t *)to)[i] = (int32_t)from[i];
            break;
        case INT64:
            ((int64_t *)to)[i] = (int64_t)from[i];
            break;
        default:
            ((uint8_t *)to)[i] = (uint8_t)from[i];
            break;
        }
    }
}

static void decode(double *to, DType type, const void *from, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) {
        switch (type) {
        case FLOAT32:
            to[i] = (double)((const float *)from)[i];
            break;
        case BFLOAT16:
            to[i] = (double)bfloat16_to_float(((const bfloat16 *)from)[i]);
            break;
        case FLOAT64:
            to[i] = ((const double *)from)[i];
            break;
        case INT32:
            to[i] = (double)((const int32_t *)from)[i];
            break;
        case INT64:
            to[i] = (double)((const int64_t *)from)[i];
            break;
        default:
            to[i] = (double)((const uint8_t *)from)[i];
            break;
        }
    }
}

static void upload(Trial *trial, void *to, Shape shape, const double *from)
{
    void *host = allocate(shape_count(shape), dtype_size(shape.type));
    encode(host, shape.type, from, shape_count(shape));
    assert_ok(device_upload(trial->device, to, host, shape_bytes(shape)));
    assert_ok(device_synchronize(trial->device));
    free(host);
}

/* The bytes of device memory; release with free(). */
static void *download(Trial *trial, const void *from, Shape shape)
{
    void *host = allocate(shape_count(shape), dtype_size(shape.type));
    assert_ok(device_download(trial->device, host, from, shape_bytes(shape)));
    assert_ok(device_synchronize(trial->device));
    return host;
}

/* As the golden case asks: element by element. */
static void check_elements(Trial *trial, const char *what, const double *got, const double *want,
                           int64_t count)
{
    const GoldenTolerance tolerance = golden_tolerance(trial->op_case->golden, "f32", what);
    golden_count(count);
    for (int64_t i = 0; i < count; ++i) {
        if (golden_is_close(got[i], want[i], tolerance)) continue;
        print_error("%s: %s[%lld] is %.9g, but must be %.9g\n", trial->op_case->name, what, (long long)i,
                    got[i], want[i]);
        ++trial->failures;
        return;
    }
}

/* By the largest difference, relative to the largest magnitude that is expected. */
static void compare(Trial *trial, const char *what, const double *got, const double *want, int64_t count,
                    double tolerance)
{
    double scale = 0, worst = -1;
    int64_t where = 0;
    for (int64_t i = 0; i < count; ++i)
        if (isfinite(want[i]) && fabs(want[i]) > scale) scale = fabs(want[i]);
    for (int64_t i = 0; i < count; ++i) {
        double difference = fabs(got[i] - want[i]);
        if (got[i] == want[i] || (isnan(got[i]) && isnan(want[i])))
            difference = 0;
        else if (isnan(difference))
            difference = HUGE_VAL;
        if (difference > worst) {
            worst = difference;
            where = i;
        }
    }
    if (trial->op_case->golden != NULL) check_elements(trial, what, got, want, count);
    if (worst <= tolerance * scale) return;
    print_error("%s, %s%s: %s[%lld] is %.9g, but must be %.9g: %.3g of the tensor's scale %.3g\n",
                trial->op_case->name, dtype_name(trial->compute), words_for(trial->numerics), what,
                (long long)where, got[where], want[where], scale > 0 ? worst / scale : HUGE_VAL, scale);
    ++trial->failures;
}

/* ---- golden cases ---- */

/* The path of the first of several roles that the case has, or NULL. */
static const char *golden_role(const OpCase *op_case, const char *part, const char *const roles[],
                               char path[512])
{
    for (int i = 0; roles[i] != NULL; ++i) {
        assert_true(snprintf(path, 512, "%s/%s", part, roles[i]) < 512);
        if (golden_has(op_case->golden, path)) return path;
    }
    return NULL;
}

/* "layer.norm1.weight" -> "PREFIXnorm1.weight", then "PREFIXnorm1_weight", then "PREFIXweight": the names that
 * files give a layer's tensors. */
enum { SPELLINGS = 12 };
static void spell(const char *prefix, const char *name, const char *suffix, char text[SPELLINGS][256],
                  const char *roles[SPELLINGS + 1])
{
    int count = 0;
    for (const char *part = name; part != NULL && count + 2 <= SPELLINGS;
         part = strchr(part, '.') != NULL ? strchr(part, '.') + 1 : NULL) {
        (void)snprintf(text[count], 256, "%s%s%s", prefix, part, suffix);
        (void)snprintf(text[count + 1], 256, "%s%s%s", prefix, part, suffix);
        for (char *dot = text[count + 1] + strlen(prefix); (dot = strchr(dot, '.')) != NULL;)
            *dot = '_';
        roles[count] = text[count];
        roles[count + 1] = text[count + 1];
        count += 2;
    }
    roles[count] = NULL;
}

static const char *golden_tensor(const OpCase *op_case, const char *part, const char *prefix,
                                 const char *name, const char *suffix, char path[512])
{
    char text[SPELLINGS][256];
    const char *roles[SPELLINGS + 1];
    spell(prefix, name, suffix, text, roles);
    return golden_role(op_case, part, roles, path);
}

/* Into `to`, which has `shape`. Files have the channels in front of height and width, or of the length. */
static void golden_read(const OpCase *op_case, const char *path, Shape shape, double *to)
{
    GoldenArray file = golden_array(op_case->golden, path);
    const int64_t count = shape_count(shape);
    if (file.count != count)
        print_error("%s: %s has %lld elements, but must have %lld\n", op_case->name, path,
                    (long long)file.count, (long long)count);
    assert_int_equal(file.count, count);
    if (op_case->channels_first && shape.rank >= 3) {
        const int64_t n = shape.extent[0], c = shape.extent[shape.rank - 1], pixels = count / n / c;
        assert_true(file.extent[0] == n && file.extent[1] == c);
        for (int64_t i = 0; i < count; ++i) {
            const int64_t channel = i % c, pixel = i / c % pixels, sample = i / c / pixels;
            to[i] = file.values[(sample * c + channel) * pixels + pixel];
        }
    } else {
        memcpy(to, file.values, (size_t)count * sizeof *to);
    }
    golden_array_free(&file);
}

static void golden_fill(const OpCase *op_case, OpTensor *tensor)
{
    char path[512];
    if (tensor->role == ROLE_INPUT) {
        (void)snprintf(path, sizeof path, "inputs/%s", tensor->name);
    } else if (tensor->role == ROLE_PARAMETER) {
        const bool found = golden_tensor(op_case, "inputs", "param_", tensor->name, "", path) != NULL;
        if (!found) print_error("%s gives no parameter %s\n", op_case->name, tensor->name);
        assert_true(found);
    } else if (golden_tensor(op_case, "inputs", "", tensor->name, "_before", path) == NULL &&
               golden_tensor(op_case, "inputs", "", tensor->name, "", path) == NULL) {
        assert_int_equal(tensor->shape.type, INT64); /* a step counter */
        memset(tensor->data, 0, (size_t)shape_count(tensor->shape) * sizeof(double));
        return;
    }
    golden_read(op_case, path, tensor->shape, tensor->data);
}

static void golden_expect(const OpCase *op_case, OpReference *reference)
{
    char path[512];
    (void)snprintf(path, sizeof path, "expected_files/%s", op_case->output != NULL ? op_case->output : "y");
    golden_read(op_case, path, reference->shape, reference->out);
    for (int i = 0; i < reference->in_count; ++i) {
        OpTensor *tensor = &reference->in[i];
        if (tensor->role == ROLE_STATE) {
            if (golden_tensor(op_case, "expected_files", "", tensor->name, "_after", path) != NULL)
                golden_read(op_case, path, tensor->shape, tensor->after);
            else if (tensor->shape.type == INT64 && op_case->mode == GRAPH_TRAIN)
                ++*tensor->after; /* a step counter */
        } else if (tensor->gradient != NULL) {
            const char *prefix = tensor->role == ROLE_PARAMETER ? "grad_param_" : "grad_";
            const bool found =
                golden_tensor(op_case, "expected_files", prefix, tensor->name, "", path) != NULL;
            if (!found) print_error("%s gives no gradient of %s\n", op_case->name, tensor->name);
            assert_true(found);
            golden_read(op_case, path, tensor->shape, tensor->gradient);
        }
    }
}

/* ---- one trial ---- */

static void build(Trial *trial)
{
    const OpCase *op_case = trial->op_case;
    assert_ok(graph_create(op_case->mode, trial->compute, &trial->graph));
    Graph *graph = trial->graph;
    int inputs = 0;
    for (; inputs < OP_TEST_INPUTS && op_case->in[inputs].name != NULL; ++inputs) {
        const OpInput *in = &op_case->in[inputs];
        trial->input[inputs] = graph_input(
            graph, in->name, shape_of(in->typed ? in->type : trial->compute, in->rank, in->extent));
        trial->in[inputs] = trial->input[inputs];
        if (!in->typed && !op_case->no_gradient) graph_want_gradient(graph, trial->input[inputs]);
    }
    trial->output = op_case->build(graph, op_case, trial->input);
    trial->upstream = NO_VALUE;
    if (!graph_failed(graph)) {
        graph_keep(graph, trial->output);
        if (!op_case->no_gradient) {
            trial->upstream = graph_input(graph, "upstream", graph_shape(graph, trial->output));
            Value loss = dot(graph, trial->output, trial->upstream);
            graph_keep(graph, loss);
            graph_differentiate(graph, loss);
            for (int i = 0; i < inputs; ++i)
                if (value_exists(graph_gradient(graph, trial->input[i])))
                    graph_keep(graph, graph_gradient(graph, trial->input[i]));
        }
    }
    assert_ok(graph_finish(graph));
    trial->reference.in_count = inputs;
    for (int32_t id = 0; id < graph_value_count(graph); ++id) {
        const Role role = graph_role(graph, (Value){id});
        if (role != ROLE_PARAMETER && role != ROLE_STATE) continue;
        assert_true(trial->reference.in_count < OP_TEST_TENSORS);
        trial->in[trial->reference.in_count++] = (Value){id};
    }
}

/* Random numbers, or the golden ones, into the reference's tensors. */
static void fill(Trial *trial)
{
    const OpCase *op_case = trial->op_case;
    OpReference *reference = &trial->reference;
    RandomStream random = random_stream(random_name_key(op_case->name), RANDOM_TEST, 0);
    for (int i = 0; i < reference->in_count; ++i) {
        OpTensor *tensor = &reference->in[i];
        tensor->name = graph_name(trial->graph, trial->in[i]);
        tensor->role = graph_role(trial->graph, trial->in[i]);
        tensor->shape = graph_shape(trial->graph, trial->in[i]);
        const int64_t count = shape_count(tensor->shape);
        tensor->data = allocate(count, sizeof(double));
        const bool typed = tensor->role == ROLE_INPUT && op_case->in[i].typed;
        if (tensor->role != ROLE_STATE && !typed && !op_case->no_gradient)
            tensor->gradient = allocate(count, sizeof(double));
        OpFill *const function = tensor->role == ROLE_INPUT ? op_case->in[i].fill : op_case->fill_stored;
        if (op_case->golden != NULL) {
            golden_fill(op_case, tensor);
        } else {
            for (int64_t e = 0; e < count; ++e) {
                const double value =
                    function != NULL ? function(op_case, tensor->name, e, &random) : random_normal(&random);
                tensor->data[e] = round_to(tensor->shape.type, value);
            }
        }
        if (tensor->role == ROLE_STATE) {
            tensor->after = allocate(count, sizeof(double));
            memcpy(tensor->after, tensor->data, (size_t)count * sizeof(double));
        }
    }
    reference->shape = graph_shape(trial->graph, trial->output);
    const int64_t count = shape_count(reference->shape);
    reference->out = allocate(count, sizeof(double));
    reference->upstream = allocate(count, sizeof(double));
    if (op_case->no_gradient) return;
    if (op_case->golden != NULL) {
        golden_read(op_case, "inputs/upstream_gradient", reference->shape, reference->upstream);
    } else {
        for (int64_t e = 0; e < count; ++e)
            reference->upstream[e] = round_to(reference->shape.type, random_normal(&random));
    }
}

static double loss_of(const OpCase *op_case, OpReference *reference)
{
    op_case->reference(op_case, reference);
    double loss = 0;
    for (int64_t e = 0; e < shape_count(reference->shape); ++e)
        loss += reference->out[e] * reference->upstream[e];
    return loss;
}

/* Central differences of the loss. A state's update by the repeated runs is undone. */
static double finite_difference(const OpCase *op_case, OpReference *reference, OpTensor *tensor,
                                int64_t element)
{
    const double before = tensor->data[element];
    const double step = 1e-5 * (1 + fabs(before));
    double loss[2];
    for (int side = 0; side < 2; ++side) {
        tensor->data[element] = before + (side == 0 ? -step : step);
        loss[side] = loss_of(op_case, reference);
    }
    tensor->data[element] = before;
    for (int i = 0; i < reference->in_count; ++i)
        if (reference->in[i].after != NULL)
            memcpy(reference->in[i].after, reference->in[i].data,
                   (size_t)shape_count(reference->in[i].shape) * sizeof(double));
    return (loss[1] - loss[0]) / (2 * step);
}

/* The reference's gradient against finite differences in a few elements, or made of them. */
static void check_reference(Trial *trial)
{
    const OpCase *op_case = trial->op_case;
    OpReference *reference = &trial->reference;
    RandomStream random = random_stream(random_name_key(op_case->name), RANDOM_TEST, 1);
    for (int i = 0; i < reference->in_count; ++i) {
        OpTensor *tensor = &reference->in[i];
        const int64_t count = shape_count(tensor->shape);
        if (tensor->gradient == NULL) continue;
        if (op_case->gradient == NULL) {
            for (int64_t e = 0; e < count; ++e)
                tensor->gradient[e] = finite_difference(op_case, reference, tensor, e);
        } else if (trial->compute == FLOAT32 &&
                   !op_case->not_smooth) { /* in bfloat16 values coincide, and a maximum has no derivative */
            double scale = 1e-3;
            for (int64_t e = 0; e < count; ++e)
                scale = fmax(scale, fabs(tensor->gradient[e]));
            for (int trial_index = 0; trial_index < DIFFERENCES; ++trial_index) {
                const int64_t e = (int64_t)random_below(&random, (uint64_t)count);
                const double difference = finite_difference(op_case, reference, tensor, e);
                if (fabs(difference - tensor->gradient[e]) <= 1e-6 * scale) continue;
                print_error(
                    "%s: the reference's gradient of %s[%lld] is %.12g, but finite differences say %.12g\n",
                    op_case->name, tensor->name, (long long)e, tensor->gradient[e], difference);
                ++trial->failures;
            }
        }
    }
}

/* What the reference says must come out. */
static void expect(Trial *trial)
{
    const OpCase *op_case = trial->op_case;
    if (op_case->golden != NULL) {
        golden_expect(op_case, &trial->reference);
        return;
    }
    if (!op_case->no_gradient) {
        if (op_case->gradient != NULL) op_case->gradient(op_case, &trial->reference);
        check_reference(trial);
    }
    op_case->reference(op_case, &trial->reference);
}

static void run(Trial *trial)
{
    for (int i = 0; i < trial->reference.in_count; ++i) {
        const OpTensor *tensor = &trial->reference.in[i];
        void *to;
        if (tensor->role == ROLE_INPUT) {
            to = plan_data(trial->plan, trial->in[i]);
        } else {
            const StoreEntry *entry = store_find(trial->store, tensor->name);
            assert_non_null(entry);
            to = entry->data;
        }
        upload(trial, to, tensor->shape, tensor->data);
    }
    if (value_exists(trial->upstream))
        upload(trial, plan_data(trial->plan, trial->upstream), trial->reference.shape,
               trial->reference.upstream);
    const Value clock = graph_find(trial->graph, "clock");
    if (value_exists(clock))
        assert_ok(device_upload(trial->device, plan_data(trial->plan, clock), trial->op_case->clock,
                                sizeof trial->op_case->clock));
    assert_ok(plan_run(trial->plan));
    assert_ok(device_synchronize(trial->device));
}

/* The gradient of a table that is trained by rows, as a whole. */
static void *download_rows(Trial *trial, const StoreEntry *entry)
{
    const int64_t most = entry->all_rows.most, columns = shape_columns(entry->shape);
    int32_t *list = allocate(ROW_LIST_HEAD + most, sizeof *list);
    float *whole = allocate(shape_count(entry->shape), sizeof *whole);
    float *rows =
        download(trial, entry->all_rows.gradient, shape_of(FLOAT32, 2, (const int64_t[]){most, columns}));
    assert_ok(device_download(trial->device, list, entry->all_rows.list,
                              (size_t)(ROW_LIST_HEAD + most) * sizeof *list));
    assert_ok(device_synchronize(trial->device));
    for (int32_t i = 0; i < list[0]; ++i) {
        const int32_t row = list[ROW_LIST_HEAD + i];
        assert_true(row < shape_rows(entry->shape) && row > (i > 0 ? list[ROW_LIST_HEAD + i - 1] : -1));
        memcpy(whole + row * columns, rows + i * columns, (size_t)columns * sizeof *whole);
    }
    free(list);
    free(rows);
    return whole;
}

/* All that the plan computed, one after the other: output, then for each tensor its gradient or new state.
 * NULL where there is none. */
static void collect(Trial *trial, void *result[OP_TEST_TENSORS + 1])
{
    result[0] = download(trial, plan_data(trial->plan, trial->output), trial->reference.shape);
    for (int i = 0; i < trial->reference.in_count; ++i) {
        const OpTensor *tensor = &trial->reference.in[i];
        const StoreEntry *entry = tensor->role == ROLE_INPUT ? NULL : store_find(trial->store, tensor->name);
        result[i + 1] = NULL;
        if (tensor->role == ROLE_STATE) {
            result[i + 1] = download(trial, entry->data, tensor->shape);
        } else if (tensor->gradient != NULL) {
            const Value gradient = graph_gradient(trial->graph, trial->in[i]);
            if (!value_exists(gradient)) continue;
            if (entry != NULL && entry->by_rows) {
                result[i + 1] = download_rows(trial, entry);
                continue;
            }
            const void *from =
                tensor->role == ROLE_PARAMETER ? entry->gradient : plan_data(trial->plan, gradient);
            result[i + 1] = download(trial, from, tensor->shape);
        }
    }
}

static void compare_results(Trial *trial, void *const result[OP_TEST_TENSORS + 1])
{
    const OpCase *op_case = trial->op_case;
    const int type = trial->compute == BFLOAT16;
    const double tolerance = op_case->tolerance[type] > 0 ? op_case->tolerance[type]
                             : type == 1                  ? 2e-2
                                                          : 1e-5;
    const OpReference *reference = &trial->reference;
    double *got = allocate(shape_count(reference->shape), sizeof(double));
    decode(got, reference->shape.type, result[0], shape_count(reference->shape));
    compare(trial, "output", got, reference->out, shape_count(reference->shape), tolerance);
    free(got);
    for (int i = 0; i < reference->in_count; ++i) {
        const OpTensor *tensor = &reference->in[i];
        const double *want = tensor->role == ROLE_STATE ? tensor->after : tensor->gradient;
        if (want == NULL) continue;
        char what[128];
        (void)snprintf(what, sizeof what, tensor->role == ROLE_STATE ? "%s" : "gradient of %s", tensor->name);
        const int64_t count = shape_count(tensor->shape);
        got = allocate(count, sizeof(double)); /* a gradient that nobody computes is zero */
        if (result[i + 1] != NULL) decode(got, tensor->shape.type, result[i + 1], count);
        compare(trial, what, got, want, count, tolerance);
        free(got);
    }
}

static void compare_bits(Trial *trial, void *const first[], void *const second[])
{
    for (int i = 0; i <= trial->reference.in_count; ++i) {
        const Shape shape = i == 0 ? trial->reference.shape : trial->reference.in[i - 1].shape;
        if (first[i] == NULL || memcmp(first[i], second[i], shape_bytes(shape)) == 0) continue;
        print_error("%s, %s%s: a second run gave other bits for %s\n", trial->op_case->name,
                    dtype_name(trial->compute), words_for(trial->numerics),
                    i == 0 ? "the output" : trial->reference.in[i - 1].name);
        ++trial->failures;
    }
}

/* Every node of the graph had a part in what was compared with a float64 program. */
static void record_rows(const Trial *trial)
{
    if (trial->op_case->golden != NULL) return;
    for (int n = 0; n < graph_node_count(trial->graph); ++n) {
        const Op *op = graph_node_at(trial->graph, n)->op;
        op_rows_record(op, OP_ROW_REFERENCE);
        if (!trial->op_case->no_gradient) op_rows_record(op, OP_ROW_DIFFERENCES);
    }
}

static int try_case(const OpCase *op_case, DType compute, DeviceKind kind, DeviceNumerics numerics)
{
    Trial trial = {.op_case = op_case, .compute = compute, .numerics = numerics};
    build(&trial);
    fill(&trial);
    assert_ok(device_open(kind, 0, 0, &trial.device));
    device_set_numerics(trial.device, numerics);
    assert_ok(collective_self(&trial.collective));
    assert_ok(arena_create(trial.device, &trial.arena));
    assert_ok(store_create(trial.device, (const Graph *[]){trial.graph}, 1, 1, &trial.store));
    assert_ok(plan_create(trial.graph, trial.store, trial.arena, trial.collective,
                          (PlanOptions){.share_memory = true, .packs = op_case->packs}, &trial.plan));
    expect(&trial);
    void *result[2][OP_TEST_TENSORS + 1];
    for (int i = 0; i < 2; ++i) {
        run(&trial);
        collect(&trial, result[i]);
    }
    compare_results(&trial, result[0]);
    record_rows(&trial);
    if (kind == DEVICE_CPU || !op_case->chosen_by_timing || numerics.deterministic)
        compare_bits(&trial, result[0], result[1]);

    for (int i = 0; i < 2; ++i)
        for (int j = 0; j <= trial.reference.in_count; ++j)
            free(result[i][j]);
    for (int i = 0; i < trial.reference.in_count; ++i) {
        free(trial.reference.in[i].data);
        free(trial.reference.in[i].gradient);
        free(trial.reference.in[i].after);
    }
    free(trial.reference.out);
    free(trial.reference.upstream);
    plan_free(trial.plan);
    store_free(trial.store);
    arena_free(trial.arena);
    collective_free(trial.collective);
    device_close(trial.device);
    graph_free(trial.graph);
    return trial.failures;
}

void op_test_cases(const OpCase cases[], int count, DeviceKind kind)
{
    int failures = 0;
    for (int i = 0; i < count; ++i) {
        const int rounds = kind != DEVICE_CPU && cases[i].chosen_by_timing ? 2 : 1;
        for (int round = 0; round < rounds; ++round) {
            const DeviceNumerics numerics = {.deterministic = round == 1};
            failures += try_case(&cases[i], FLOAT32, kind, numerics);
            if (!cases[i].float32_only && cases[i].golden == NULL)
                failures += try_case(&cases[i], BFLOAT16, kind, numerics);
        }
    }
    assert_int_equal(failures, 0);
}

void op_test_errors(const OpError errors[], int count)
{
    for (int i = 0; i < count; ++i) {
        Graph *graph;
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
        (void)errors[i].build(graph, graph_input(graph, "x", errors[i].shape));
        assert_fails(graph_finish(graph), STATUS_INPUT, errors[i].text);
        graph_free(graph);
    }
}
