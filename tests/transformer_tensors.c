#include "tests/transformer_tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void load_parameters(const Machine *m, NamedTensors *t, bool in_decoder)
{
    for (int i = 0; i < store_count(m->store); ++i) {
        const StoreEntry *entry = store_at(m->store, i);
        int64_t offset;
        const Named *place = find_place(t, entry, in_decoder, &offset);
        machine_put(m, entry->data, entry->shape, place->values + offset);
    }
}

void collect_parameters(const Machine *m, NamedTensors *t, bool in_decoder, bool gradients)
{
    int64_t want = 0, found = 0;
    for (int i = 0; i < t->count; ++i)
        want += t->tensor[i].count;
    for (int i = 0; i < store_count(m->store); ++i) {
        const StoreEntry *entry = store_at(m->store, i);
        int64_t offset;
        const Named *place = find_place(t, entry, in_decoder, &offset);
        double *values = machine_get(m, gradients ? entry->gradient : entry->data, entry->shape);
        memcpy(place->got + offset, values, (size_t)shape_count(entry->shape) * sizeof *values);
        found += shape_count(entry->shape);
        free(values);
    }
    assert_int_equal(found, want);
}

void check_role(const GoldenCase *golden, const char *role, double *got, int64_t count)
{
    char path[256];
    (void)snprintf(path, sizeof path, "expected_files/%s", role);
    golden_check(golden, path, got, count, "f32");
    free(got);
}
