#include "models/transformer.h"

#include <math.h>

static Attention heads_of(const Transformer *t, bool causal)
{
    return (Attention){.heads = t->heads, .causal = causal, .dropout = t->attention_dropout};
}

/* A projection of attention: of queries, keys and values, or some of them, which files hold each for itself. length: of x's
 * sentences, or NO_VALUE, as below. */
static Value project(Graph *graph, const Transformer *t, const char *name, Value x, Value length, Linear form)
{
    form.no_bias = !t->attention_bias;
    form.init = INIT_GLOROT_UNIFORM;
    form.type = graph_compute_type(graph);
    return linear_sequences(graph, name, x, length, form);
}

static Value norm(Graph *graph, const char *name, Value x) { return layer_norm(graph, name, x, 0); }

/* Before a part of a layer. */
static Value norm_before(Graph *graph, const Transformer *t, const char *name, Value x)
{
    return t->pre_norm ? norm(graph, name, x) : x;
}

/* After it: what the part has made of x is added to x. */
static Value join(Graph *graph, const Transformer *t, const char *drop, const char *name, Value x, Value made)
{
    x = add(graph, x, dropout(graph, drop, made, t->dropout));
    return t->pre_norm ? x : norm(graph, name, x);
}

/* Of pre-norm, after the last layer. */
static Value norm_last(Graph *graph, const Transformer *t, Value x)
{
    return t->pre_norm ? norm(graph, "layer_norm", x) : x;
}

static Value feed_forward(Graph *graph, const Transformer *t, Value x, Value length)
{
    Linear form = {
        .features = t->feed_forward_width, .init = INIT_GLOROT_UNIFORM, .type = graph_compute_type(graph)};
    Value made = norm_before(graph, t, "final_layer_norm", x);
    made = linear_sequences(graph, "fc1", made, length, form);
    made = dropout(graph, "relu_dropout", relu(graph, made), t->relu_dropout);
    form.features = t->width;
    made = linear_sequences(graph, "fc2", made, length, form);
    return join(graph, t, "fc2_dropout", "final_layer_norm", x, made);
}

/* Queries, keys and values side by side. */
static Value project_self(Graph *graph, const Transformer *t, Value x, Value length)
{
    return project(graph, t, "qkv_proj", x, length,
                   (Linear){.features = 3 * t->width, .parts = {"q_proj", "k_proj", "v_proj"}});
}

static Value project_out(Graph *graph, const Transformer *t, Value x, Value length)
{
    return project(graph, t, "out_proj", x, length, (Linear){.features = t->width});
}

static Value self_attention(Graph *graph, const Transformer *t, Value x, Value length, bool causal)
{
    Value made = norm_before(graph, t, "self_attn_layer_norm", x);
    graph_enter(graph, "self_attn");
    AttentionKeys keys = ATTENTION_SELF;
    keys.end = length;
    made = attention(graph, project_self(graph, t, made, length), keys, heads_of(t, causal));
    made = project_out(graph, t, made, length);
    graph_leave(graph);
    return join(graph, t, "self_attn_dropout", "self_attn_layer_norm", x, made);
}

static Value project_memory(Graph *graph, const Transformer *t, Value memory, Value length)
{
    return project(
        graph, t, "kv_proj", memory, length,
        (Linear){.features = 2 * t->width, .fan_out = 3 * t->width, .parts = {"k_proj", "v_proj"}});
}

/* Queries of x [N,Lq,width]; or of x [R,width], of which R / samples in turn belong to a sample (samples > 0). */
static Value attend_to(Graph *graph, const Transformer *t, Value x, int64_t samples, AttentionKeys keys)
{
    Value query =
        project(graph, t, "q_proj", x, NO_VALUE, (Linear){.features = t->width, .fan_out = 3 * t->width});
    if (samples > 0) query = reshape(graph, query, 3, (int64_t[]){samples, -1, t->width});
    Value made = attention(graph, query, keys, heads_of(t, false));
    if (samples > 0) made = reshape(graph, made, 2, (int64_t[]){-1, t->width});
    return project_out(graph, t, made, NO_VALUE);
}

static void enter_layer(Graph *graph, const char *stack, int64_t layer)
{
    graph_enter_format(graph, "%s.layers.%lld", stack, (long long)layer);
}

/* The one matrix. Others' files may hold it under the names of its other uses, or several times; fairseq's also hold the
 * version of its layers, and an empty tensor in place of computed positions. */
static Value shared_matrix(Graph *graph, const Transformer *t)
{
    const Value weight = graph_parameter(graph, "encoder.embed_tokens.weight",
                                         shape_of(FLOAT32, 2, (int64_t[]){t->vocabulary, t->width}),
                                         (Init){INIT_NORMAL, 1 / sqrt((double)t->width)});
    graph_set_file_names(
        graph, weight,
        (FileNames){.others = 2,
                    .other = {"decoder.embed_tokens.weight", "decoder.output_projection.weight"},
                    .beside_count = 2,
                    .beside = {"*coder.version", "*coder.embed_positions._float_tensor"}});
    return weight;
}

/* INT32 [...] -> [...,width]: its rows, scaled. */
static Value embed(Graph *graph, const Transformer *t, Value ids)
{
    (void)shared_matrix(graph, t);
    return embedding(graph, "encoder.embed_tokens", ids,
                     (Embedding){.rows = t->vocabulary, .width = t->width, .scale = sqrt((double)t->width)});
}

static Value embed_with_positions(Graph *graph, const Transformer *t, const char *stack, Value ids,
                                  Value position, int64_t most)
{
    Positions form = t->positions;
    if (form.kind != POSITIONS_LEARNED) form.most = most;
    Value x = embed(graph, t, ids);
    graph_enter(graph, stack);
    x = dropout(graph, "embed_dropout", positions(graph, "embed_positions", x, position, form), t->dropout);
    graph_leave(graph);
    return x;
}

static bool check(Graph *graph, const Transformer *t)
{
    if (graph_failed(graph)) return false;
    if (t->vocabulary < 1 || t->width < 1 || t->feed_forward_width < 1 || t->layers < 1 || t->heads < 1 ||
        t->width % t->heads != 0) {
        graph_fail(
            graph, STATUS_INPUT,
            "a transformer of width %lld and %lld heads, feed-forward width %lld, %lld layers and %lld "
            "ids: the width must be a multiple of the heads",
            (long long)t->width, (long long)t->heads, (long long)t->feed_forward_width, (long long)t->layers,
            (long long)t->vocabulary);
        return false;
    }
    return true;
}

Value transformer_encoder_layer(Graph *graph, const Transformer *t, Value x, Value length)
{
    return feed_forward(graph, t, self_attention(graph, t, x, length, false), length);
}

Value transformer_decoder_layer(Graph *graph, const Transformer *t, Value x, Value memory,
                                Value source_length)
{
    x = self_attention(graph, t, x, NO_VALUE, true);
    const Value before = norm_before(graph, t, "encoder_attn_layer_norm", x);
    graph_enter(graph, "encoder_attn");
    AttentionKeys keys = ATTENTION_SELF;
    keys.key_value = project_memory(graph, t, memory, source_length);
    keys.end = source_length;
    const Value made = attend_to(graph, t, before, 0, keys);
    graph_leave(graph);
    x = join(graph, t, "encoder_attn_dropout", "encoder_attn_layer_norm", x, made);
    return feed_forward(graph, t, x, NO_VALUE);
}

/* Of a whole stack, after the last layer. */
static Value end_stack(Graph *graph, const Transformer *t, const char *stack, Value x)
{
    graph_enter(graph, stack);
    x = norm_last(graph, t, x);
    graph_leave(graph);
    return x;
}

Value transformer_encoder(Graph *graph, const Transformer *t, Value source, Value length)
{
    if (!check(graph, t)) return NO_VALUE;
    Value x = embed_with_positions(graph, t, "encoder", source, NO_VALUE, 0);
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        enter_layer(graph, "encoder", layer);
        x = transformer_encoder_layer(graph, t, x, length);
        graph_leave(graph);
    }
    return end_stack(graph, t, "encoder", x);
}

Value transformer_decoder(Graph *graph, const Transformer *t, Value memory, Value source_length, Value target)
{
    if (!check(graph, t)) return NO_VALUE;
    Value x = embed_with_positions(graph, t, "decoder", target, NO_VALUE, 0);
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        enter_layer(graph, "decoder", layer);
        x = transformer_decoder_layer(graph, t, x, memory, source_length);
        graph_leave(graph);
    }
    return end_stack(graph, t, "decoder", x);
}

Value transformer_logits(Graph *graph, const Transformer *t, Value hidden)
{
    if (!check(graph, t)) return NO_VALUE;
    const Value weight = shared_matrix(graph, t);
    graph_enter(graph, "decoder.output_projection");
    const Value logits =
        linear_with(graph, reshape(graph, hidden, 2, (int64_t[]){-1, t->width}), weight, NO_VALUE, FLOAT32);
    graph_leave(graph);
    return logits;
}

Value transformer_memory(Graph *graph, const Transformer *t, int64_t layer, Value memory, Value length)
{
    if (!check(graph, t)) return NO_VALUE;
    enter_layer(graph, "decoder", layer);
    graph_enter(graph, "encoder_attn");
    const Value keys = project_memory(graph, t, memory, length);
    graph_leave(graph);
    graph_leave(graph);
    return keys;
}

Value transformer_step(Graph *graph, const Transformer *t, const TransformerStep *step)
{
    if (!check(graph, t)) return NO_VALUE;
    const int64_t rows = graph_shape(graph, step->token).extent[0];
    const int64_t samples = value_exists(step->sentence) ? graph_shape(graph, step->sentence).extent[0]
                                                         : graph_shape(graph, step->memory[0]).extent[0];
    if (samples < 1 || rows % samples != 0) {
        graph_fail(graph, STATUS_INPUT, "a step of %lld hypotheses of %lld sentences", (long long)rows,
                   (long long)samples);
        return NO_VALUE;
    }
    Value x = embed_with_positions(graph, t, "decoder", step->token, step->position,
                                   graph_shape(graph, step->table).extent[1]);
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        enter_layer(graph, "decoder", layer);
        Value before = norm_before(graph, t, "self_attn_layer_norm", x);
        graph_enter(graph, "self_attn");
        Value made = attention_step(graph, project_self(graph, t, before, NO_VALUE), step->cache[layer],
                                    step->table, step->position, t->heads);
        made = project_out(graph, t, made, NO_VALUE);
        graph_leave(graph);
        x = join(graph, t, "self_attn_dropout", "self_attn_layer_norm", x, made);
        before = norm_before(graph, t, "encoder_attn_layer_norm", x);
        graph_enter(graph, "encoder_attn");
        const AttentionKeys keys = {.key_value = step->memory[layer],
                                    .first = NO_VALUE,
                                    .end = step->source_length,
                                    .row = step->sentence};
        made = attend_to(graph, t, before, samples, keys);
        graph_leave(graph);
        x = join(graph, t, "encoder_attn_dropout", "encoder_attn_layer_norm", x, made);
        x = feed_forward(graph, t, x, NO_VALUE);
        graph_leave(graph);
    }
    return end_stack(graph, t, "decoder", x);
}
