/* What losses make of their settings. */
#include "tests/support.h"

#include "engine/graph/graph.h"
#include "launch/settings.h"
#include "losses/loss.h"
#include "losses/loss_head.h"

#include <stdio.h>
#include <string.h>

static Config *configure(int count, const char *const overrides[])
{
    int settings;
    const Setting *table = settings_table(&settings);
    Config *config;
    assert_ok(config_load(table, settings, NULL, count, overrides, &config));
    return config;
}

/* The head that a loss builds from settings. */
static LossHead built_head(int count, const char *const overrides[])
{
    Config *config = configure(count, overrides);
    LossOptions loss;
    assert_ok(loss_read(config, &loss));
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    const int64_t samples = 4;
    const Value logits = graph_input(graph, "logits", shape_of(FLOAT32, 2, (const int64_t[]){samples, 3}));
    const Value target = graph_input(graph, "target", shape_of(INT32, 1, &samples));
    const Value weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, &samples));
    const Value sums = loss_build(graph, &loss, logits, target, weight);
    assert_true(value_exists(sums));
    const Node *node = graph_node_at(graph, graph_producer(graph, sums));
    const Value d_out[HEAD_OUTPUTS] = {ROOT_GRADIENT, NO_VALUE, NO_VALUE, NO_VALUE};
    const bool wanted[HEAD_INPUTS] = {[HEAD_LOGITS] = true};
    Value d_in[HEAD_INPUTS] = {NO_VALUE, NO_VALUE, NO_VALUE, NO_VALUE};
    node->op->gradient(graph, node, d_out, wanted, d_in);
    assert_true(value_equal(d_in[HEAD_LOGITS], graph_output(graph, sums, HEAD_GRADIENT)));
    assert_ok(graph_finish(graph));
    assert_ok(config_check_all_read(config));
    LossHead head;
    memcpy(&head, node->attributes, sizeof head);
    assert_true(value_exists(graph_find(graph, "clock")) == head.gamma.by_epoch);
    graph_free(graph);
    config_free(config);
    return head;
}

static void test_settings_reach_the_head(void **state)
{
    (void)state;
    LossHead head = built_head(0, NULL);
    assert_true(head.form == SAMPLE_LABEL_SMOOTHING && head.alpha == 0 && head.penalty == PENALTY_NONE);
    head = built_head(1, (const char *const[]){"loss.name=label_smoothing"});
    assert_true(head.form == SAMPLE_LABEL_SMOOTHING && head.alpha == 0.05 && !head.uniform);
    head = built_head(
        3, (const char *const[]){"loss.name=label_smoothing", "loss.alpha=0.1", "loss.form=uniform"});
    assert_true(head.alpha == 0.1 && head.uniform);
    head = built_head(1, (const char *const[]){"loss.name=brier"});
    assert_true(head.form == SAMPLE_BRIER);
    head = built_head(1, (const char *const[]){"loss.name=mmce"});
    assert_true(head.penalty == PENALTY_MMCE && head.lambda == 2 && head.kernel_width == 0.4);
    head = built_head(2, (const char *const[]){"loss.name=mmce_weighted", "loss.lambda=3"});
    assert_true(head.penalty == PENALTY_MMCE_WEIGHTED && head.lambda == 3);
    head = built_head(2, (const char *const[]){"loss.name=focal", "loss.gamma=2"});
    assert_true(head.form == SAMPLE_FOCAL && head.gamma.limits == 0 && head.gamma.gamma[0] == 2);
    head = built_head(2, (const char *const[]){"loss.name=focal", "loss.policy=sample"});
    assert_true(head.gamma.limits == 1 && head.gamma.limit[0] == 0.2 && head.gamma.gamma[0] == 5 &&
                head.gamma.gamma[1] == 3 && !head.gamma.by_epoch);
    head = built_head(4, (const char *const[]){"loss.name=focal", "loss.policy=sample",
                                               "loss.gammas=[5, 3, 2]", "loss.thresholds=[0.2, 0.5]"});
    assert_true(head.gamma.limits == 2 && head.gamma.gamma[2] == 2);
    head = built_head(
        3, (const char *const[]){"loss.name=focal", "loss.policy=schedule", "loss.gammas=[5, 3, 1]"});
    assert_true(head.gamma.by_epoch && head.gamma.limits == 2 && head.gamma.limit[1] == 250);
    head = built_head(2, (const char *const[]){"loss.name=focal", "loss.policy=lambert"});
    assert_close(&head.gamma.gamma[0], (const double[]){4.850554445542199}, 1, 1e-8, 0, "lambert");
}

static void test_settings_that_contradict(void **state)
{
    (void)state;
    static const struct {
        const char *overrides[4];
        int count;
        const char *message;
    } rows[] = {
        {{"loss.name=focal", "loss.policy=sample", "loss.gammas=[5, 3, 2]"},
         3,
         "3 gammas need 2 loss.thresholds"},
        {{"loss.name=focal", "loss.policy=schedule"}, 2, "2 gammas need 1 loss.gamma_epochs"},
        {{"loss.name=focal", "loss.policy=sample", "loss.thresholds=[0.5, 0.2]", "loss.gammas=[5, 3, 2]"},
         4,
         "0.2 follows 0.5"},
        {{"loss.name=focal", "loss.policy=schedule", "loss.gamma_epochs=[5, 5]", "loss.gammas=[5, 3, 2]"},
         4,
         "5 follows 5"},
        {{"loss.name=focal", "loss.policy=sample", "loss.gammas=[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"},
         3,
         "at most 16"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        Config *config = configure(rows[i].count, rows[i].overrides);
        LossOptions loss;
        assert_fails(loss_read(config, &loss), STATUS_INPUT, rows[i].message);
        config_free(config);
    }
    Config *config = configure(1, (const char *const[]){"loss.name=label_smothing"});
    LossOptions loss;
    assert_fails(loss_read(config, &loss), STATUS_INPUT, "label_smoothing");
    config_free(config);
}

/* The reduction of a loss under loss.reduction. */
static Reduction reduction_of(const char *loss, const char *reduction)
{
    char name[64], setting[64];
    LossOptions options;
    (void)snprintf(name, sizeof name, "loss.name=%s", loss);
    (void)snprintf(setting, sizeof setting, "loss.reduction=%s", reduction);
    Config *config = configure(2, (const char *const[]){name, setting});
    /* Not all losses can be read with the defaults of the others' settings; the reduction is there all the same. */
    status_free(loss_read(config, &options));
    config_free(config);
    return options.reduction;
}

static void test_reductions(void **state)
{
    (void)state;
    int count;
    const Loss *losses = losses_table(&count);
    assert_int_equal(count, 6);
    for (int i = 0; i < count; ++i) {
        const char *name = losses[i].name;
        const bool brier = strcmp(name, "brier") == 0;
        assert_true(reduction_of(name, "published") == (brier ? REDUCTION_MEAN : REDUCTION_SUM));
        assert_true(reduction_of(name, "mean") == REDUCTION_MEAN);
        assert_true(reduction_of(name, "sum") == REDUCTION_SUM);
        assert_non_null(losses[i].help);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_reach_the_head),
        cmocka_unit_test(test_settings_that_contradict),
        cmocka_unit_test(test_reductions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
