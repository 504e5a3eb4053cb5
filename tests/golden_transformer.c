#include "tests/golden_transformer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count_layers(const GoldenCase *golden)
{
    int layers;
    assert_int_equal(sscanf(golden_text(golden, "params/layers"), "%d", &layers),
                     1); /* "2 encoder, 2 decoder" */
    return layers;
}

Transformer golden_transformer(const GoldenCase *golden)
{
    static const char *const kinds[] = {[POSITIONS_INTERLEAVED] = "interleaved",
                                        [POSITIONS_HALVES_PAPER_FREQUENCIES] = "halves_paper_frequencies",
                                        [POSITIONS_HALVES_TENSOR2TENSOR] = "halves_tensor2tensor"};
    Transformer network = {.vocabulary = (int64_t)golden_number(golden, "params/vocabulary"),
                           .width = (int64_t)golden_number(golden, "params/d_model"),
                           .feed_forward_width = (int64_t)golden_number(golden, "params/ffn"),
                           .heads = (int64_t)golden_number(golden, "params/heads"),
                           .layers = count_layers(golden),
                           .pre_norm = strcmp(golden_text(golden, "params/norm"), "prenorm") == 0,
                           .attention_bias = true};
    while (strcmp(kinds[network.positions.kind], golden_text(golden, "params/positions")) != 0) {
        ++network.positions.kind;
        assert_true(network.positions.kind < sizeof kinds / sizeof *kinds);
    }
    return network;
}

/* PyTorch's name of the tensor for our parameter, and from which of `parts` equal parts of it on our parameter stands. */
static void find_name(const char *ours, char theirs[128], int *first, int *parts)
{
    static const struct {
        const char *ours, *theirs;
        int first, parts;
    } names[] = {
        {".self_attn.qkv_proj.weight", ".self_attn.in_proj_weight", 0, 1},
        {".self_attn.qkv_proj.bias", ".self_attn.in_proj_bias", 0, 1},
        {".encoder_attn.q_proj.weight", ".multihead_attn.in_proj_weight", 0, 3},
        {".encoder_attn.q_proj.bias", ".multihead_attn.in_proj_bias", 0, 3},
        {".encoder_attn.kv_proj.weight", ".multihead_attn.in_proj_weight", 1, 3},
        {".encoder_attn.kv_proj.bias", ".multihead_attn.in_proj_bias", 1, 3},
        {".encoder_attn.out_proj.", ".multihead_attn.out_proj.", 0, 1},
        {".fc1.", ".linear1.", 0, 1},
        {".fc2.", ".linear2.", 0, 1},
        {".self_attn_layer_norm.", ".norm1.", 0, 1},
        {".encoder_attn_layer_norm.", ".norm2.", 0, 1},
        {"encoder.embed_tokens.", "embedding.", 0, 1},
        {"encoder.layer_norm.", "encoder.norm.", 0, 1},
        {"decoder.layer_norm.", "decoder.norm.", 0, 1},
    };
    *first = 0;
    *parts = 1;
    (void)snprintf(theirs, 128, "%s", ours);
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        const char *at = strstr(ours, names[i].ours);
        if (at == NULL) continue;
        (void)snprintf(theirs, 128, "%.*s%s%s", (int)(at - ours), ours, names[i].theirs,
                       at + strlen(names[i].ours));
        *first = names[i].first;
        *parts = names[i].parts;
        return;
    }
    const char *last = strstr(ours, ".final_layer_norm.");
    if (last != NULL)
        (void)snprintf(theirs, 128, "%.*s.norm%d.%s", (int)(last - ours), ours, ours[0] == 'd' ? 3 : 2,
                       last + strlen(".final_layer_norm."));
}

static int64_t find_offset(const cJSON *index, const char *name)
{
    const cJSON *tensors = cJSON_GetObjectItemCaseSensitive(index, "tensors"), *tensor;
    cJSON_ArrayForEach(tensor, tensors)
    {
        if (strcmp(cJSON_GetObjectItemCaseSensitive(tensor, "name")->valuestring, name) == 0)
            return cJSON_GetObjectItemCaseSensitive(tensor, "offset")->valueint;
    }
    print_error("there is no tensor %s\n", name);
    assert_true(false);
    return -1;
}

void golden_transformer_fill(const GoldenCase *golden, Store *store)
{
    GoldenArray weights = golden_array(golden, "inputs/weights");
    cJSON *index = golden_document(golden, "inputs/index");
    int64_t filled = 0;
    for (int i = 0; i < store_count(store); ++i) {
        const StoreEntry *entry = store_at(store, i);
        if (entry->role != ROLE_PARAMETER) continue;
        const int64_t count = shape_count(entry->shape);
        char theirs[128];
        int first, parts;
        find_name(entry->name, theirs, &first, &parts);
        /* Of three parts ours has one or the two last. */
        const int64_t part = parts == 1 ? 0 : first == 0 ? count : count / 2;
        const double *from = weights.values + find_offset(index, theirs) + first * part;
        float *values = calloc((size_t)count, sizeof *values);
        assert_non_null(values);
        for (int64_t k = 0; k < count; ++k)
            values[k] = (float)from[k];
        assert_ok(store_fill(store, entry->name, values, count));
        free(values);
        filled += count;
    }
    assert_int_equal(filled, weights.count);
    cJSON_Delete(index);
    golden_array_free(&weights);
}
