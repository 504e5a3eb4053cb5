/* The golden Transformers by a plain float64 program with a backward pass of its own: that the suites' reading of the cases (norms,
 * positions, masks, losses, Adam) is the sets', to many digits more than float32 can tell. test_transformer compares our network. */
#include "tests/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- matrices and what is made of them ---- */

typedef struct {
    int64_t rows, columns;
    double *value, *gradient;
} Matrix;

typedef enum { LINEAR, ADD, RELU, NORM, EMBED, ATTENTION } Kind;

/* One operation; x, y, z: matrices that it reads; weight, bias: offsets of parameters, -1: none. */
typedef struct {
    Kind kind;
    int x, y, z, out;
    int64_t weight, bias;
    const double *ids;    /* EMBED */
    const double *length; /* ATTENTION: keys of each sentence; NULL: all */
    bool causal;
    double *weights; /* ATTENTION: [sentences][heads][queries][keys]; NORM: mean and 1 / deviation of rows */
} Step;

enum { MOST_STEPS = 256 };
typedef struct {
    int64_t width, heads, sentences, vocabulary;
    bool pre_norm, halves;
    double *parameter, *gradient;
    int64_t count;
    cJSON *index;
    Step step[MOST_STEPS];
    Matrix matrix[MOST_STEPS];
    int steps;
} Program;

static double *allocate(int64_t count)
{
    double *memory = calloc((size_t)count + 1, sizeof *memory);
    assert_non_null(memory);
    return memory;
}

/* Where a parameter stands; format and arguments name it. */
static int64_t offset_of(const Program *p, const char *stack, int layer, const char *part)
{
    char name[128];
    if (layer >= 0)
        (void)snprintf(name, sizeof name, "%s.layers.%d.%s", stack, layer, part);
    else
        (void)snprintf(name, sizeof name, "%s%s", stack, part);
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(p->index, "tensors"))
    {
        if (strcmp(cJSON_GetObjectItemCaseSensitive(item, "name")->valuestring, name) == 0)
            return (int64_t)golden_json_number(cJSON_GetObjectItemCaseSensitive(item, "offset"));
    }
    print_error("the case has no %s\n", name);
    assert_true(false);
    return -1;
}

static int append(Program *p, Step step, int64_t rows, int64_t columns)
{
    assert_true(p->steps < MOST_STEPS);
    const int out = p->steps++;
    step.out = out;
    p->step[out] = step;
    p->matrix[out] = (Matrix){rows, columns, allocate(rows * columns), allocate(rows * columns)};
    return out;
}

static int linear(Program *p, int x, int64_t weight, int64_t bias, int64_t features)
{
    const Matrix a = p->matrix[x];
    const int out =
        append(p, (Step){.kind = LINEAR, .x = x, .weight = weight, .bias = bias}, a.rows, features);
    for (int64_t r = 0; r < a.rows; ++r)
        for (int64_t o = 0; o < features; ++o) {
            double sum = bias >= 0 ? p->parameter[bias + o] : 0;
            for (int64_t c = 0; c < a.columns; ++c)
                sum += a.value[r * a.columns + c] * p->parameter[weight + o * a.columns + c];
            p->matrix[out].value[r * features + o] = sum;
        }
    return out;
}

static void linear_back(Program *p, const Step *s)
{
    const Matrix a = p->matrix[s->x], y = p->matrix[s->out];
    for (int64_t r = 0; r < a.rows; ++r)
        for (int64_t o = 0; o < y.columns; ++o) {
            const double d = y.gradient[r * y.columns + o];
            if (s->bias >= 0) p->gradient[s->bias + o] += d;
            for (int64_t c = 0; c < a.columns; ++c) {
                a.gradient[r * a.columns + c] += d * p->parameter[s->weight + o * a.columns + c];
                p->gradient[s->weight + o * a.columns + c] += d * a.value[r * a.columns + c];
            }
        }
}

static int add(Program *p, int x, int y)
{
    const Matrix a = p->matrix[x], b = p->matrix[y];
    const int out = append(p, (Step){.kind = ADD, .x = x, .y = y}, a.rows, a.columns);
    for (int64_t i = 0; i < a.rows * a.columns; ++i)
        p->matrix[out].value[i] = a.value[i] + b.value[i];
    return out;
}

static int relu(Program *p, int x)
{
    const Matrix a = p->matrix[x];
    const int out = append(p, (Step){.kind = RELU, .x = x}, a.rows, a.columns);
    for (int64_t i = 0; i < a.rows * a.columns; ++i)
        p->matrix[out].value[i] = a.value[i] > 0 ? a.value[i] : 0;
    return out;
}

static int norm(Program *p, int x, int64_t weight, int64_t bias)
{
    const Matrix a = p->matrix[x];
    const int out =
        append(p, (Step){.kind = NORM, .x = x, .weight = weight, .bias = bias}, a.rows, a.columns);
    double *saved = p->step[out].weights = allocate(2 * a.rows);
    for (int64_t r = 0; r < a.rows; ++r) {
        const double *row = a.value + r * a.columns;
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < a.columns; ++c)
            mean += row[c] / (double)a.columns;
        for (int64_t c = 0; c < a.columns; ++c)
            variance += (row[c] - mean) * (row[c] - mean) / (double)a.columns;
        saved[2 * r] = mean;
        saved[2 * r + 1] = 1 / sqrt(variance + 1e-5);
        for (int64_t c = 0; c < a.columns; ++c)
            p->matrix[out].value[r * a.columns + c] =
                (row[c] - mean) * saved[2 * r + 1] * p->parameter[weight + c] + p->parameter[bias + c];
    }
    return out;
}

static void norm_back(Program *p, const Step *s)
{
    const Matrix a = p->matrix[s->x], y = p->matrix[s->out];
    for (int64_t r = 0; r < a.rows; ++r) {
        const double *row = a.value + r * a.columns, *dy = y.gradient + r * a.columns,
                     mean = s->weights[2 * r], inverse = s->weights[2 * r + 1];
        double h = 0, hn = 0;
        for (int64_t c = 0; c < a.columns; ++c) {
            const double n = (row[c] - mean) * inverse, g = dy[c] * p->parameter[s->weight + c];
            h += g / (double)a.columns;
            hn += g * n / (double)a.columns;
            p->gradient[s->weight + c] += dy[c] * n;
            p->gradient[s->bias + c] += dy[c];
        }
        for (int64_t c = 0; c < a.columns; ++c)
            a.gradient[r * a.columns + c] +=
                inverse * (dy[c] * p->parameter[s->weight + c] - h - (row[c] - mean) * inverse * hn);
    }
}

static int embed(Program *p, const double *ids, int64_t rows, int64_t positions)
{
    const int64_t weight = offset_of(p, "embedding.weight", -1, "");
    const int out = append(p, (Step){.kind = EMBED, .ids = ids, .weight = weight}, rows, p->width);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < p->width; ++c) {
            const int64_t half = p->width / 2, i = p->halves ? c % half : c / 2;
            const double angle =
                (double)(r % positions) * pow(1e4, -(double)i / (double)(p->halves ? half - 1 : half));
            const bool sine = p->halves ? c < half : c % 2 == 0;
            p->matrix[out].value[r * p->width + c] =
                sqrt((double)p->width) * p->parameter[weight + (int64_t)ids[r] * p->width + c] +
                (sine ? sin(angle) : cos(angle));
        }
    return out;
}

/* Queries, keys and values in matrices of their own. */
static int attention(Program *p, int query, int key, int value, const double *length, bool causal)
{
    const Matrix q = p->matrix[query], k = p->matrix[key], v = p->matrix[value];
    const int64_t queries = q.rows / p->sentences, keys = k.rows / p->sentences, d = p->width / p->heads;
    const int out = append(
        p, (Step){.kind = ATTENTION, .x = query, .y = key, .z = value, .length = length, .causal = causal},
        q.rows, p->width);
    double *all = p->step[out].weights = allocate(p->sentences * p->heads * queries * keys);
    for (int64_t i = 0; i < p->sentences * p->heads * queries; ++i) {
        const int64_t t = i % queries, h = i / queries % p->heads, n = i / queries / p->heads;
        double *weight = all + i * keys, sum = 0;
        for (int64_t s = 0; s < keys; ++s) {
            if ((causal && s > t) || (length != NULL && (double)s >= length[n])) continue;
            double score = 0;
            for (int64_t c = h * d; c < (h + 1) * d; ++c)
                score += q.value[(n * queries + t) * p->width + c] * k.value[(n * keys + s) * p->width + c];
            weight[s] = exp(score / sqrt((double)d));
            sum += weight[s];
        }
        for (int64_t s = 0; s < keys; ++s) {
            if (sum > 0) weight[s] /= sum;
            for (int64_t c = h * d; c < (h + 1) * d; ++c)
                p->matrix[out].value[(n * queries + t) * p->width + c] +=
                    weight[s] * v.value[(n * keys + s) * p->width + c];
        }
    }
    return out;
}

static void attention_back(Program *p, const Step *step)
{
    const Matrix q = p->matrix[step->x], k = p->matrix[step->y], v = p->matrix[step->z],
                 y = p->matrix[step->out];
    const int64_t queries = q.rows / p->sentences, keys = k.rows / p->sentences, d = p->width / p->heads;
    double *d_weight = allocate(keys);
    for (int64_t i = 0; i < p->sentences * p->heads * queries; ++i) {
        const int64_t t = i % queries, h = i / queries % p->heads, n = i / queries / p->heads;
        const double *weight = step->weights + i * keys, *dy = y.gradient + (n * queries + t) * p->width;
        double sum = 0;
        for (int64_t s = 0; s < keys; ++s) {
            d_weight[s] = 0;
            for (int64_t c = h * d; c < (h + 1) * d; ++c) {
                d_weight[s] += dy[c] * v.value[(n * keys + s) * p->width + c];
                v.gradient[(n * keys + s) * p->width + c] += weight[s] * dy[c];
            }
            sum += weight[s] * d_weight[s];
        }
        for (int64_t s = 0; s < keys; ++s) {
            const double score = weight[s] * (d_weight[s] - sum) / sqrt((double)d);
            for (int64_t c = h * d; c < (h + 1) * d; ++c) {
                q.gradient[(n * queries + t) * p->width + c] +=
                    score * k.value[(n * keys + s) * p->width + c];
                k.gradient[(n * keys + s) * p->width + c] +=
                    score * q.value[(n * queries + t) * p->width + c];
            }
        }
    }
    free(d_weight);
}

static void back(Program *p)
{
    for (int i = p->steps - 1; i >= 0; --i) {
        const Step *s = &p->step[i];
        const Matrix y = p->matrix[s->out];
        for (int64_t e = 0; e < y.rows * y.columns; ++e) {
            const double d = y.gradient[e];
            if (s->kind == ADD) {
                p->matrix[s->x].gradient[e] += d;
                p->matrix[s->y].gradient[e] += d;
            }
            if (s->kind == RELU && y.value[e] > 0) p->matrix[s->x].gradient[e] += d;
            if (s->kind == EMBED)
                p->gradient[s->weight + (int64_t)s->ids[e / p->width] * p->width + e % p->width] +=
                    sqrt((double)p->width) * d;
        }
        if (s->kind == LINEAR) linear_back(p, s);
        if (s->kind == NORM) norm_back(p, s);
        if (s->kind == ATTENTION) attention_back(p, s);
    }
}

static void forget(Program *p)
{
    for (int i = 0; i < p->steps; ++i) {
        free(p->matrix[i].value);
        free(p->matrix[i].gradient);
        free(p->step[i].weights);
    }
    p->steps = 0;
    memset(p->step, 0, sizeof p->step);
}

/* ---- the network ---- */

static int norm_named(Program *p, int x, const char *stack, int layer, const char *name)
{
    char weight[64], bias[64];
    (void)snprintf(weight, sizeof weight, "%s.weight", name);
    (void)snprintf(bias, sizeof bias, "%s.bias", name);
    return norm(p, x, offset_of(p, stack, layer, weight), offset_of(p, stack, layer, bias));
}

static int attend(Program *p, int x, int memory, const char *stack, int layer, const char *name,
                  const double *length, bool causal)
{
    static const char *const parts[] = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"};
    int64_t at[4];
    for (int i = 0; i < 4; ++i) {
        char part[64];
        (void)snprintf(part, sizeof part, "%s.%s", name, parts[i]);
        at[i] = offset_of(p, stack, layer, part);
    }
    const int64_t d = p->width;
    const int q = linear(p, x, at[0], at[1], d), k = linear(p, memory, at[0] + d * d, at[1] + d, d),
              v = linear(p, memory, at[0] + 2 * d * d, at[1] + 2 * d, d);
    return linear(p, attention(p, q, k, v, length, causal), at[2], at[3], d);
}

static int feed_forward(Program *p, int x, const char *stack, int layer, int64_t inner)
{
    const int hidden = linear(p, x, offset_of(p, stack, layer, "linear1.weight"),
                              offset_of(p, stack, layer, "linear1.bias"), inner);
    return linear(p, relu(p, hidden), offset_of(p, stack, layer, "linear2.weight"),
                  offset_of(p, stack, layer, "linear2.bias"), p->width);
}

/* Before and after a part; `name` is its norm. */
static int before(Program *p, int x, const char *stack, int layer, const char *name)
{
    return p->pre_norm ? norm_named(p, x, stack, layer, name) : x;
}
static int after(Program *p, int x, int made, const char *stack, int layer, const char *name)
{
    x = add(p, x, made);
    return p->pre_norm ? x : norm_named(p, x, stack, layer, name);
}

typedef struct {
    GoldenArray source, target, label;
    double *length;
} Batch;

static Batch batch_of(const GoldenCase *golden, const char *suffix)
{
    char path[64];
    Batch b;
    (void)snprintf(path, sizeof path, "inputs/source%s", suffix);
    b.source = golden_array(golden, path);
    (void)snprintf(path, sizeof path, "inputs/decoder_input%s", suffix);
    b.target = golden_array(golden, path);
    (void)snprintf(path, sizeof path, "inputs/decoder_output%s", suffix);
    b.label = golden_array(golden, path);
    b.length = allocate(b.source.extent[0]);
    for (int64_t i = 0; i < b.source.count; ++i)
        b.length[i / b.source.extent[1]] += b.source.values[i] != 0;
    return b;
}

static void batch_free(Batch *b)
{
    golden_array_free(&b->source);
    golden_array_free(&b->target);
    golden_array_free(&b->label);
    free(b->length);
}

/* Returns the logits, and the memory. */
static int network(Program *p, const GoldenCase *golden, const Batch *b, int *memory)
{
    int layers;
    const int64_t inner = (int64_t)golden_number(golden, "params/ffn");
    assert_int_equal(sscanf(golden_text(golden, "params/layers"), "%d encoder", &layers), 1);
    p->sentences = b->source.extent[0];
    int x = embed(p, b->source.values, b->source.count, b->source.extent[1]);
    for (int l = 0; l < layers; ++l) {
        int h = before(p, x, "encoder", l, "norm1");
        x = after(p, x, attend(p, h, h, "encoder", l, "self_attn", b->length, false), "encoder", l, "norm1");
        h = before(p, x, "encoder", l, "norm2");
        x = after(p, x, feed_forward(p, h, "encoder", l, inner), "encoder", l, "norm2");
    }
    *memory = p->pre_norm ? norm_named(p, x, "", -1, "encoder.norm") : x;
    x = embed(p, b->target.values, b->target.count, b->target.extent[1]);
    for (int l = 0; l < layers; ++l) {
        int h = before(p, x, "decoder", l, "norm1");
        x = after(p, x, attend(p, h, h, "decoder", l, "self_attn", NULL, true), "decoder", l, "norm1");
        h = before(p, x, "decoder", l, "norm2");
        x = after(p, x, attend(p, h, *memory, "decoder", l, "multihead_attn", b->length, false), "decoder", l,
                  "norm2");
        h = before(p, x, "decoder", l, "norm3");
        x = after(p, x, feed_forward(p, h, "decoder", l, inner), "decoder", l, "norm3");
    }
    if (p->pre_norm) x = norm_named(p, x, "", -1, "decoder.norm");
    return linear(p, x, offset_of(p, "embedding.weight", -1, ""), -1, p->vocabulary);
}

static Program program_of(const GoldenCase *golden, const GoldenArray *weights)
{
    Program p = {.width = (int64_t)golden_number(golden, "params/d_model"),
                 .heads = (int64_t)golden_number(golden, "params/heads"),
                 .vocabulary = (int64_t)golden_number(golden, "params/vocabulary"),
                 .pre_norm = strcmp(golden_text(golden, "params/norm"), "prenorm") == 0,
                 .halves = strcmp(golden_text(golden, "params/positions"), "halves_tensor2tensor") == 0,
                 .count = weights->count,
                 .index = golden_document(golden, "inputs/index")};
    p.parameter = allocate(p.count);
    p.gradient = allocate(p.count);
    memcpy(p.parameter, weights->values, (size_t)p.count * sizeof(double));
    return p;
}

static void program_free(Program *p)
{
    forget(p);
    free(p->parameter);
    free(p->gradient);
    cJSON_Delete(p->index);
}

/* ---- losses ---- */

typedef struct {
    const char *name;
    double alpha; /* label smoothing */
    bool uniform, focal, by_sample;
} LossForm;
static const LossForm losses[] = {
    {.name = "cross_entropy"},
    {.name = "label_smoothing_0.1_torch", .alpha = 0.1, .uniform = true},
    {.name = "label_smoothing_0.1_paper", .alpha = 0.1},
    {.name = "focal_gamma1", .focal = true},
    {.name = "flsd_53", .focal = true, .by_sample = true},
};
enum { LOSSES = sizeof losses / sizeof losses[0] };

/* Of one row of logits; its gradient into d. */
static double loss_of(const LossForm *form, const double *logit, int64_t classes, int64_t label, double *d)
{
    double most = logit[0], loss = 0;
    for (int64_t k = 1; k < classes; ++k)
        most = fmax(most, logit[k]);
    double sum = exp(logit[0] - most);
    for (int64_t k = 1; k < classes; ++k)
        sum += exp(logit[k] - most);
    const double total = log(sum) + most, right = logit[label] - total, p = exp(right);
    if (form->focal) {
        const double gamma = form->by_sample ? (p < 0.2 ? 5 : 3) : 1;
        /* f(log p) = -(1 - p)^gamma log p; its derivative by log p */
        const double slope = gamma * pow(1 - p, gamma - 1) * p * right - pow(1 - p, gamma);
        for (int64_t k = 0; k < classes; ++k)
            d[k] = slope * ((k == label) - exp(logit[k] - total));
        return -pow(1 - p, gamma) * right;
    }
    const double wrong = form->uniform ? form->alpha / (double)classes : form->alpha / (double)(classes - 1);
    for (int64_t k = 0; k < classes; ++k) {
        const double weight = k != label ? wrong : form->uniform ? 1 - form->alpha + wrong : 1 - form->alpha;
        loss -= weight * (logit[k] - total);
        d[k] = exp(logit[k] - total) - weight;
    }
    return loss;
}

/* Sum over the real tokens, their gradients divided by `divisor`; loss of each into `each` (NULL: nowhere). */
static double losses_of(Program *p, int logits, const Batch *b, const LossForm *form, double divisor,
                        double *each, int64_t *tokens)
{
    const Matrix m = p->matrix[logits];
    double sum = 0;
    *tokens = 0;
    for (int64_t r = 0; r < m.rows; ++r) {
        if (b->label.values[r] == 0) continue;
        double *d = m.gradient + r * m.columns;
        const double loss = loss_of(form, m.value + r * m.columns, m.columns, (int64_t)b->label.values[r], d);
        for (int64_t k = 0; k < m.columns; ++k)
            d[k] /= divisor;
        if (each != NULL) each[*tokens] = loss;
        ++*tokens;
        sum += loss;
    }
    return sum;
}

static void check_role(const GoldenCase *golden, const char *role, const char *name, const double *got,
                       int64_t count)
{
    char path[128];
    (void)snprintf(path, sizeof path, "expected_files/%s%s", role, name);
    if (golden_has(golden, path)) golden_check(golden, path, got, count, "f64");
}

static void check_real(const GoldenCase *golden, const char *role, const Matrix *m, const double *ids)
{
    double *real = allocate(m->rows * m->columns);
    int64_t count = 0;
    for (int64_t r = 0; r < m->rows; ++r)
        if (ids[r] != 0)
            memcpy(real + m->columns * count++, m->value + m->columns * r, (size_t)m->columns * sizeof *real);
    check_role(golden, role, "", real, count * m->columns);
    free(real);
}

static void check_network(const GoldenCase *golden)
{
    GoldenArray weights = golden_array(golden, "inputs/weights");
    Batch b = batch_of(golden, "");
    static Program p;
    p = program_of(golden, &weights);
    for (int l = 0; l < LOSSES; ++l) {
        int memory;
        int64_t tokens;
        double *each = allocate(b.label.count);
        memset(p.gradient, 0, (size_t)p.count * sizeof(double));
        const int logits = network(&p, golden, &b, &memory);
        if (l == 0) {
            check_real(golden, "logits", &p.matrix[logits], b.label.values);
            check_real(golden, "memory", &p.matrix[memory], b.source.values);
        }
        (void)losses_of(&p, logits, &b, &losses[l], 1, each, &tokens);
        check_role(golden, "loss_per_token_", losses[l].name, each, tokens);
        back(&p);
        check_role(golden, "grads_", losses[l].name, p.gradient, p.count);
        forget(&p);
        free(each);
    }
    program_free(&p);
    batch_free(&b);
    golden_array_free(&weights);
}

static void test_networks(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("network_small", "params/positions", golden)) != NULL; ++cases)
        check_network(golden);
    print_message("%d networks, %lld values\n", cases, (long long)golden_checked());
    if (cases == 0) skip();
}

/* ---- training ---- */

static void check_parameters(const GoldenCase *golden, const double *got, const double *want, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) {
        GoldenTolerance tolerance = golden_tolerance(golden, "f64", "parameters_after_steps");
        const cJSON *range;
        cJSON_ArrayForEach(range, golden_item(golden, "expected/key_bias_ranges"))
        {
            if (i >= (int64_t)golden_json_number(cJSON_GetArrayItem(range, 0)) &&
                i < (int64_t)golden_json_number(cJSON_GetArrayItem(range, 1)))
                tolerance =
                    (GoldenTolerance){.absolute = golden_number(golden, "tolerance/f64/key_biases/atol")};
        }
        if (!golden_is_close(got[i], want[i], tolerance))
            print_error("%s: parameter %lld is %.15g, but must be %.15g\n", golden->id, (long long)i, got[i],
                        want[i]);
        assert_true(golden_is_close(got[i], want[i], tolerance));
    }
    golden_count(count);
}

static void check_trace(const GoldenCase *golden)
{
    static const double beta1 = 0.9, beta2 = 0.98, epsilon = 1e-9;
    GoldenArray weights = golden_array(golden, "inputs/weights"),
                want = golden_array(golden, "expected_files/parameters_after_steps");
    static Program p;
    p = program_of(golden, &weights);
    double *first = allocate(p.count), *second = allocate(p.count);
    const LossForm *form = NULL;
    for (int l = 0; l < LOSSES; ++l)
        if (strcmp(losses[l].name, golden_text(golden, "params/loss")) == 0) form = &losses[l];
    assert_non_null(form);
    for (int s = 0; s < golden_length(golden, "expected/steps"); ++s) {
        const cJSON *step = cJSON_GetArrayItem(golden_item(golden, "expected/steps"), s);
        char suffix[16];
        int memory;
        int64_t tokens;
        (void)snprintf(suffix, sizeof suffix, "_%d", s);
        Batch b = batch_of(golden, suffix);
        const double all = golden_json_number(cJSON_GetObjectItemCaseSensitive(step, "tokens")),
                     rate = golden_json_number(cJSON_GetObjectItemCaseSensitive(step, "lr"));
        memset(p.gradient, 0, (size_t)p.count * sizeof(double));
        const double loss =
            losses_of(&p, network(&p, golden, &b, &memory), &b, form, all, NULL, &tokens) / all;
        assert_true((double)tokens == all);
        assert_true(golden_is_close(loss,
                                    golden_json_number(cJSON_GetObjectItemCaseSensitive(step, "loss_mean")),
                                    (GoldenTolerance){.relative = 1e-8}));
        back(&p);
        forget(&p);
        for (int64_t i = 0; i < p.count; ++i) {
            const double g = p.gradient[i];
            first[i] = beta1 * first[i] + (1 - beta1) * g;
            second[i] = beta2 * second[i] + (1 - beta2) * g * g;
            p.parameter[i] -= rate * (first[i] / (1 - pow(beta1, s + 1))) /
                              (sqrt(second[i] / (1 - pow(beta2, s + 1))) + epsilon);
        }
        check_parameters(golden, p.parameter, want.values + s * p.count, p.count);
        batch_free(&b);
    }
    free(first);
    free(second);
    program_free(&p);
    golden_array_free(&weights);
    golden_array_free(&want);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
