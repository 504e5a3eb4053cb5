/* Transformers by their settings. */
#include "tests/network.h"
#include "tests/support.h"

#include "models/transformer.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
