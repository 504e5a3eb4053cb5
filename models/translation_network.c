/* The Transformers as networks with settings. */
#include "models/networks.h"

#include <string.h>

static Status read_positions(const Config *config, Positions *positions)
{
    static const char *const names[] = {
        [POSITIONS_INTERLEAVED] = "interleaved",
        [POSITIONS_HALVES_PAPER_FREQUENCIES] = "halves_paper_frequencies",
        [POSITIONS_HALVES_TENSOR2TENSOR] = "halves_tensor2tensor",
        [POSITIONS_LEARNED] = "learned",
    };
    const char *name = config_text(config, "model.positions");
    *positions = (Positions){.kind = POSITIONS_INTERLEAVED};
    while (strcmp(names[positions->kind], name) != 0)
        ++positions->kind; /* the table of settings lets no other name pass */
    if (positions->kind == POSITIONS_LEARNED) positions->most = config_integer(config, "model.max_positions");
    return OK;
}

static int64_t read_size(const Config *config, const char *name, int64_t published)
{
    const int64_t size = config_integer(config, name);
    return size > 0 ? size : published;
}

Status translation_network_read(const Config *config, ModelOptions *options)
{
    const PublishedTransformer *published = options->model->published;
    Transformer *t = &options->transformer;
    t->width = read_size(config, "model.width", published->width);
    options->model_width = t->width;
    t->feed_forward_width = read_size(config, "model.feed_forward_width", published->feed_forward_width);
    t->heads = read_size(config, "model.heads", published->heads);
    t->layers = read_size(config, "model.layers", published->layers);
    t->pre_norm = strcmp(config_text(config, "model.norm"), "pre") == 0;
    t->attention_bias = config_flag(config, "model.attention_bias");
    t->dropout = config_real(config, "model.residual_dropout");
    if (t->dropout < 0) t->dropout = published->dropout;
    t->attention_dropout = config_real(config, "model.attention_dropout");
    t->relu_dropout = config_real(config, "model.relu_dropout");
    TRY(read_positions(config, &t->positions));
    if (t->width % t->heads != 0)
        return config_error(config, "model.heads", "a width of %lld cannot be shared by %lld heads",
                            (long long)t->width, (long long)t->heads);
    if (t->positions.kind != POSITIONS_LEARNED && t->width % 2 != 0)
        return config_error(config, "model.width",
                            "sines and cosines of positions need an even width, not %lld",
                            (long long)t->width);
    return OK;
}

Value translation_network_build(Graph *graph, const ModelOptions *options, const Value input[],
                                int64_t classes)
{
    Transformer t = options->transformer;
    t.vocabulary = classes;
    const Value length = input[TRANSLATION_SOURCE_LENGTH_INPUT];
    const Value memory = transformer_encoder(graph, &t, input[TRANSLATION_SOURCE_INPUT], length);
    const Value hidden = transformer_decoder(graph, &t, memory, length, input[TRANSLATION_TARGET_INPUT]);
    return transformer_logits(graph, &t, hidden);
}
