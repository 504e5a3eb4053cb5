#include "tests/plain_transformer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WIDTH = 64, MOST_LAYERS = 4, MOST_POSITIONS = 128 };

struct PlainTransformer {
    GoldenArray weights;
    cJSON *index;
    int vocabulary, width, heads, inner, encoder_layers, decoder_layers;
    bool prenorm;
};

/* ---- parameters ---- */

static const double *find(const PlainTransformer *network, const char *name)
{
    const cJSON *tensors = cJSON_GetObjectItemCaseSensitive(network->index, "tensors"), *tensor;
    cJSON_ArrayForEach(tensor, tensors)
    {
        if (strcmp(cJSON_GetObjectItemCaseSensitive(tensor, "name")->valuestring, name) != 0) continue;
        return network->weights.values + cJSON_GetObjectItemCaseSensitive(tensor, "offset")->valueint;
    }
    return NULL;
}

static const double *parameter(const PlainTransformer *network, const char *stack, int layer,
                               const char *name)
{
    char whole[128];
    (void)snprintf(whole, sizeof whole, "%s.layers.%d.%s", stack, layer, name);
    const double *values = find(network, whole);
    if (values == NULL) print_error("there is no parameter %s\n", whole);
    assert_non_null(values);
    return values;
}

static int count_layers(const PlainTransformer *network, const char *stack)
{
    char name[128];
    int layers = 0;
    for (; layers < MOST_LAYERS; ++layers) {
        (void)snprintf(name, sizeof name, "%s.layers.%d.norm1.weight", stack, layers);
        if (find(network, name) == NULL) break;
    }
    return layers;
}

PlainTransformer *plain_transformer_open(const GoldenCase *golden)
{
    PlainTransformer *network = calloc(1, sizeof *network);
    assert_non_null(network);
    network->weights = golden_array(golden, "inputs/weights");
    network->index = golden_document(golden, "inputs/index");
    network->vocabulary = (int)golden_number(golden, "params/vocabulary");
    network->width = (int)golden_number(golden, "params/d_model");
    network->heads = (int)golden_number(golden, "params/heads");
    network->inner = (int)golden_number(golden, "params/ffn");
    network->prenorm = strcmp(golden_text(golden, "params/norm"), "prenorm") == 0;
    network->encoder_layers = count_layers(network, "encoder");
    network->decoder_layers = count_layers(network, "decoder");
    assert_string_equal(golden_text(golden, "params/positions"), "interleaved");
    assert_true(network->width <= MOST_WIDTH && network->encoder_layers > 0 && network->decoder_layers > 0);
    return network;
}

void plain_transformer_close(PlainTransformer *network)
{
    golden_array_free(&network->weights);
    cJSON_Delete(network->index);
    free(network);
}

int plain_transformer_vocabulary(const PlainTransformer *network) { return network->vocabulary; }

/* ---- arithmetic ---- */

/* out[rows] = weight[rows, columns] x + bias */
static void product(const double *weight, const double *bias, const double *x, int rows, int columns,
                    double *out)
{
    for (int i = 0; i < rows; ++i) {
        double sum = bias != NULL ? bias[i] : 0;
        for (int j = 0; j < columns; ++j)
            sum += weight[i * columns + j] * x[j];
        out[i] = sum;
    }
}

static void normalise(const double *weight, const double *bias, int width, double *x)
{
    double mean = 0, variance = 0;
    for (int i = 0; i < width; ++i)
        mean += x[i] / width;
    for (int i = 0; i < width; ++i)
        variance += (x[i] - mean) * (x[i] - mean) / width;
    for (int i = 0; i < width; ++i)
        x[i] = (x[i] - mean) / sqrt(variance + 1e-5) * weight[i] + bias[i];
}

static void layer_normalise(const PlainTransformer *network, const char *stack, int layer, int which,
                            double *x)
{
    char weight[32], bias[32];
    (void)snprintf(weight, sizeof weight, "norm%d.weight", which);
    (void)snprintf(bias, sizeof bias, "norm%d.bias", which);
    normalise(parameter(network, stack, layer, weight), parameter(network, stack, layer, bias),
              network->width, x);
}

/* Pre-norm networks have a norm behind each stack. */
static void stack_normalise(const PlainTransformer *network, const char *stack, double *x)
{
    char weight[32], bias[32];
    if (!network->prenorm) return;
    (void)snprintf(weight, sizeof weight, "%s.norm.weight", stack);
    (void)snprintf(bias, sizeof bias, "%s.norm.bias", stack);
    normalise(find(network, weight), find(network, bias), network->width, x);
}

static void embed(const PlainTransformer *network, int32_t token, int position, double *x)
{
    const double *table = find(network, "embedding.weight");
    const int width = network->width;
    for (int i = 0; i < width; ++i) {
        const double angle = position * pow(10000, -(double)(i / 2 * 2) / width);
        x[i] = table[token * width + i] * sqrt(width) + (i % 2 == 0 ? sin(angle) : cos(angle));
    }
}

/* Part `part` of the projection in (0: query, 1: key, 2: value) of the attention `name`. */
static void project(const PlainTransformer *network, const char *stack, int layer, const char *name, int part,
                    const double *x, double *out)
{
    char weight[64], bias[64];
    const int width = network->width;
    (void)snprintf(weight, sizeof weight, "%s.in_proj_weight", name);
    (void)snprintf(bias, sizeof bias, "%s.in_proj_bias", name);
    product(parameter(network, stack, layer, weight) + part * width * width,
            parameter(network, stack, layer, bias) + part * width, x, width, width, out);
}

/* Adds to x the attention of query over `count` keys and values, given by their addresses. */
static void attend(const PlainTransformer *network, const char *stack, int layer, const char *name,
                   const double *query, const double *const key[], const double *const value[], int count,
                   double *x)
{
    const int width = network->width, part = width / network->heads;
    double mixed[MOST_WIDTH] = {0}, out[MOST_WIDTH], weight[MOST_POSITIONS];
    char matrix[64], bias[64];
    assert_true(count <= MOST_POSITIONS);
    for (int head = 0; head < network->heads; ++head) {
        double highest = -INFINITY, total = 0;
        for (int i = 0; i < count; ++i) {
            weight[i] = 0;
            for (int j = head * part; j < (head + 1) * part; ++j)
                weight[i] += query[j] * key[i][j] / sqrt(part);
            if (weight[i] > highest) highest = weight[i];
        }
        for (int i = 0; i < count; ++i)
            total += weight[i] = exp(weight[i] - highest);
        for (int i = 0; i < count; ++i)
            for (int j = head * part; j < (head + 1) * part; ++j)
                mixed[j] += weight[i] / total * value[i][j];
    }
    (void)snprintf(matrix, sizeof matrix, "%s.out_proj.weight", name);
    (void)snprintf(bias, sizeof bias, "%s.out_proj.bias", name);
    product(parameter(network, stack, layer, matrix), parameter(network, stack, layer, bias), mixed, width,
            width, out);
    for (int i = 0; i < width; ++i)
        x[i] += out[i];
}

/* The last part of a layer, with norm number `which`. */
static void feed_forward(const PlainTransformer *network, const char *stack, int layer, int which, double *x)
{
    double in[MOST_WIDTH], inner[4 * MOST_WIDTH], out[MOST_WIDTH];
    assert_true(network->inner <= 4 * MOST_WIDTH);
    memcpy(in, x, sizeof in);
    if (network->prenorm) layer_normalise(network, stack, layer, which, in);
    product(parameter(network, stack, layer, "linear1.weight"),
            parameter(network, stack, layer, "linear1.bias"), in, network->inner, network->width, inner);
    for (int i = 0; i < network->inner; ++i)
        if (inner[i] < 0) inner[i] = 0;
    product(parameter(network, stack, layer, "linear2.weight"),
            parameter(network, stack, layer, "linear2.bias"), inner, network->width, network->inner, out);
    for (int i = 0; i < network->width; ++i)
        x[i] += out[i];
    if (!network->prenorm) layer_normalise(network, stack, layer, which, x);
}

/* ---- a sentence ---- */

/* A beginning: its last token's keys and values, and what follows. */
typedef struct {
    int before, length;
    int32_t token;
    double key[MOST_LAYERS][MOST_WIDTH], value[MOST_LAYERS][MOST_WIDTH];
    double *logits;
} Beginning;

struct PlainSentence {
    const PlainTransformer *network;
    int length, count, capacity;
    double (*memory)[MOST_WIDTH];                                              /* [length] */
    double (*key[MOST_LAYERS])[MOST_WIDTH], (*value[MOST_LAYERS])[MOST_WIDTH]; /* of the memory */
    Beginning *beginning;
};

static void encode_layer(const PlainTransformer *network, int layer, double (*x)[MOST_WIDTH], int length)
{
    double(*query)[MOST_WIDTH] = calloc((size_t)length, sizeof *query);
    double(*key)[MOST_WIDTH] = calloc((size_t)length, sizeof *key);
    double(*value)[MOST_WIDTH] = calloc((size_t)length, sizeof *value);
    const double *keys[MOST_POSITIONS], *values[MOST_POSITIONS];
    assert_true(query != NULL && key != NULL && value != NULL && length <= MOST_POSITIONS);
    for (int i = 0; i < length; ++i) {
        double in[MOST_WIDTH];
        memcpy(in, x[i], sizeof in);
        if (network->prenorm) layer_normalise(network, "encoder", layer, 1, in);
        project(network, "encoder", layer, "self_attn", 0, in, query[i]);
        project(network, "encoder", layer, "self_attn", 1, in, key[i]);
        project(network, "encoder", layer, "self_attn", 2, in, value[i]);
        keys[i] = key[i];
        values[i] = value[i];
    }
    for (int i = 0; i < length; ++i) {
        attend(network, "encoder", layer, "self_attn", query[i], keys, values, length, x[i]);
        if (!network->prenorm) layer_normalise(network, "encoder", layer, 1, x[i]);
        feed_forward(network, "encoder", layer, 2, x[i]);
    }
    free(query);
    free(key);
    free(value);
}

PlainSentence *plain_sentence_open(const PlainTransformer *network, const int32_t source[], int length)
{
    PlainSentence *sentence = calloc(1, sizeof *sentence);
    assert_non_null(sentence);
    *sentence = (PlainSentence){.network = network, .length = length};
    sentence->memory = calloc((size_t)length, sizeof *sentence->memory);
    assert_non_null(sentence->memory);
    for (int i = 0; i < length; ++i)
        embed(network, source[i], i, sentence->memory[i]);
    for (int layer = 0; layer < network->encoder_layers; ++layer)
        encode_layer(network, layer, sentence->memory, length);
    for (int i = 0; i < length; ++i)
        stack_normalise(network, "encoder", sentence->memory[i]);
    for (int layer = 0; layer < network->decoder_layers; ++layer) {
        sentence->key[layer] = calloc((size_t)length, sizeof *sentence->key[layer]);
        sentence->value[layer] = calloc((size_t)length, sizeof *sentence->value[layer]);
        assert_true(sentence->key[layer] != NULL && sentence->value[layer] != NULL);
        for (int i = 0; i < length; ++i) {
            project(network, "decoder", layer, "multihead_attn", 1, sentence->memory[i],
                    sentence->key[layer][i]);
            project(network, "decoder", layer, "multihead_attn", 2, sentence->memory[i],
                    sentence->value[layer][i]);
        }
    }
    return sentence;
}

void plain_sentence_close(PlainSentence *sentence)
{
    for (int i = 0; i < sentence->count; ++i)
        free(sentence->beginning[i].logits);
    for (int layer = 0; layer < MOST_LAYERS; ++layer) {
        free(sentence->key[layer]);
        free(sentence->value[layer]);
    }
    free(sentence->beginning);
    free(sentence->memory);
    free(sentence);
}

static void decode_layer(PlainSentence *sentence, int layer, Beginning *last, double *x)
{
    const PlainTransformer *network = sentence->network;
    const double *keys[MOST_POSITIONS], *values[MOST_POSITIONS];
    double in[MOST_WIDTH], query[MOST_WIDTH];
    memcpy(in, x, sizeof in);
    if (network->prenorm) layer_normalise(network, "decoder", layer, 1, in);
    project(network, "decoder", layer, "self_attn", 0, in, query);
    project(network, "decoder", layer, "self_attn", 1, in, last->key[layer]);
    project(network, "decoder", layer, "self_attn", 2, in, last->value[layer]);
    const Beginning *one = last;
    for (int i = last->length; i-- > 0; one = &sentence->beginning[one->before >= 0 ? one->before : 0]) {
        keys[i] = one->key[layer];
        values[i] = one->value[layer];
    }
    attend(network, "decoder", layer, "self_attn", query, keys, values, last->length, x);
    if (!network->prenorm) layer_normalise(network, "decoder", layer, 1, x);
    memcpy(in, x, sizeof in);
    if (network->prenorm) layer_normalise(network, "decoder", layer, 2, in);
    project(network, "decoder", layer, "multihead_attn", 0, in, query);
    for (int i = 0; i < sentence->length; ++i) {
        keys[i] = sentence->key[layer][i];
        values[i] = sentence->value[layer][i];
    }
    attend(network, "decoder", layer, "multihead_attn", query, keys, values, sentence->length, x);
    if (!network->prenorm) layer_normalise(network, "decoder", layer, 2, x);
    feed_forward(network, "decoder", layer, 3, x);
}

int plain_sentence_extend(PlainSentence *sentence, int before, int32_t token)
{
    for (int i = before + 1; i < sentence->count; ++i)
        if (sentence->beginning[i].before == before && sentence->beginning[i].token == token) return i;
    if (sentence->count == sentence->capacity) {
        sentence->capacity = 2 * sentence->capacity + 16;
        sentence->beginning =
            realloc(sentence->beginning, (size_t)sentence->capacity * sizeof *sentence->beginning);
        assert_non_null(sentence->beginning);
    }
    const PlainTransformer *network = sentence->network;
    Beginning *last = &sentence->beginning[sentence->count];
    *last = (Beginning){.before = before,
                        .length = before >= 0 ? sentence->beginning[before].length + 1 : 1,
                        .token = token,
                        .logits = calloc((size_t)network->vocabulary, sizeof(double))};
    assert_non_null(last->logits);
    double x[MOST_WIDTH] = {0};
    embed(network, token, last->length - 1, x);
    for (int layer = 0; layer < network->decoder_layers; ++layer)
        decode_layer(sentence, layer, last, x);
    stack_normalise(network, "decoder", x);
    product(find(network, "embedding.weight"), NULL, x, network->vocabulary, network->width, last->logits);
    return sentence->count++;
}

const double *plain_sentence_logits(const PlainSentence *sentence, int beginning)
{
    return sentence->beginning[beginning].logits;
}
