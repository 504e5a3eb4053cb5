/* Graphs: names, errors, fusion, differentiation. */
#include "tests/support.h"

#include "engine/graph/graph.h"
#include "engine/graph/op.h"
#include "engine/ops/ops.h"

#include <string.h>

static Graph *new_graph(GraphMode mode)
{
    Graph *graph;
    assert_ok(graph_create(mode, FLOAT32, &graph));
    return graph;
}

static Value image_input(Graph *graph)
{
    return graph_input(graph, "x", shape_of(FLOAT32, 4, (const int64_t[]){2, 4, 4, 3}));
}

static int count_op(const Graph *graph, const char *name)
{
    int count = 0;
    for (int i = 0; i < graph_node_count(graph); ++i)
        count += strcmp(graph_node_at(graph, i)->op->name, name) == 0;
    return count;
}

static void names_nest_as_in_pytorch(void **state)
{
    (void)state;
    Graph *graph = new_graph(GRAPH_TRAIN);
    Value x = image_input(graph);
    graph_enter(graph, "layer1");
    graph_enter_format(graph, "%d", 0);
    x = conv2d(graph, "conv1", x, (Conv2d){.channels = 5, .kernel = 3, .padding = 1});
    x = batch_norm(graph, "bn1", x, (BatchNorm){0});
    graph_leave(graph);
    graph_leave(graph);
    assert_ok(graph_finish(graph));
    assert_true(value_exists(graph_find(graph, "layer1.0.conv1.weight")));
    assert_true(value_exists(graph_find(graph, "layer1.0.bn1.running_mean")));
    assert_int_equal(graph_role(graph, graph_find(graph, "layer1.0.bn1.running_mean")), ROLE_STATE);
    assert_false(value_exists(graph_find(graph, "conv1.weight")));
    graph_free(graph);
}

static void the_first_error_sticks_and_names_its_scope(void **state)
{
    (void)state;
    Graph *graph = new_graph(GRAPH_TRAIN);
    Value x = image_input(graph);
    graph_enter(graph, "layer7");
    Value y = add(graph, x, graph_input(graph, "other", shape_of(FLOAT32, 1, (const int64_t[]){3})));
    assert_false(value_exists(y));
    graph_leave(graph);
    graph_enter(graph, "later");
    graph_fail(graph, STATUS_INPUT, "a second error");
    y = relu(graph, y); /* builders after an error do nothing */
    assert_false(value_exists(y));
    assert_fails(graph_finish(graph), STATUS_INPUT, "layer7: add");
    graph_free(graph);
}

static void unbalanced_scopes_and_changed_shapes_are_errors(void **state)
{
    (void)state;
    Graph *graph = new_graph(GRAPH_TRAIN);
    graph_enter(graph, "open");
    assert_fails(graph_finish(graph), STATUS_INTERNAL, "open");
    graph_free(graph);
    graph = new_graph(GRAPH_TRAIN);
    const Init init = {INIT_ZEROS, 0};
    const Value a = graph_parameter(graph, "w", shape_of(FLOAT32, 1, (const int64_t[]){3}), init);
    const Value again = graph_parameter(graph, "w", shape_of(FLOAT32, 1, (const int64_t[]){3}), init);
    assert_true(value_equal(a, again)); /* shared weights */
    (void)graph_parameter(graph, "w", shape_of(FLOAT32, 1, (const int64_t[]){4}), init);
    assert_fails(graph_finish(graph), STATUS_INPUT, "w was float32[3]");
    graph_free(graph);
    graph = new_graph(GRAPH_TRAIN);
    (void)graph_input(graph, "huge", shape_of(FLOAT32, 3, (const int64_t[]){INT64_MAX, 2, 2}));
    assert_fails(graph_finish(graph), STATUS_INPUT, "huge");
    graph_free(graph);
}

static Value normalised(Graph *graph, const char *name, Value x)
{
    return batch_norm(graph, name, x, (BatchNorm){0});
}

static void chains_are_fused_once_and_only_when_nobody_else_looks(void **state)
{
    (void)state;
    Graph *graph = new_graph(GRAPH_TRAIN);
    const Value x = image_input(graph);
    Value y = relu(graph, normalised(graph, "plain", x));
    y = relu(graph, add(graph, normalised(graph, "left", y), normalised(graph, "right", y)));
    const Value shared = normalised(graph, "shared", y);
    y = add(graph, relu(graph, shared), shared);
    const Value kept = normalised(graph, "kept", y);
    graph_keep(graph, kept);
    y = relu(graph, kept);
    graph_keep(graph, y);
    assert_int_equal(graph_fuse(graph), 2);
    assert_int_equal(count_op(graph, "batch_norm"), 5);
    assert_int_equal(count_op(graph, "relu"), 2);
    assert_int_equal(count_op(graph, "add"), 1);
    for (int i = 0; i < graph_node_count(graph); ++i) { /* every node reads only what stands before it */
        const Node *node = graph_node_at(graph, i);
        for (int k = 0; k < node->input_count; ++k)
            if (value_exists(node->input[k])) assert_true(graph_producer(graph, node->input[k]) < i);
        for (int k = 0; k < node->output_count; ++k)
            assert_int_equal(graph_producer(graph, node->output[k]), i);
    }
    assert_ok(graph_finish(graph));
    graph_free(graph);
}

static void gradients_reach_what_the_loss_depends_on(void **state)
{
    (void)state;
    Graph *graph = new_graph(GRAPH_TRAIN);
    const Value x = image_input(graph);
    const Value weight = graph_input(graph, "upstream", shape_of(FLOAT32, 4, (const int64_t[]){2, 4, 4, 3}));
    (void)conv2d(graph, "unused", x, (Conv2d){.channels = 3, .kernel = 1});
    Value y = conv2d(graph, "used", x, (Conv2d){.channels = 3, .kernel = 1, .bias = true});
    y = add(graph, relu(graph, y), y); /* used twice: its gradient is a sum */
    const Value loss = dot(graph, y, weight);
    graph_keep(graph, loss);
    graph_want_gradient(graph, x);
    const int forward = graph_node_count(graph);
    graph_differentiate(graph, loss);
    assert_ok(graph_finish(graph));
    assert_true(graph_node_count(graph) > forward);
    assert_int_equal(count_op(graph, "add"), 2);
    assert_true(value_exists(graph_gradient(graph, graph_find(graph, "used.weight"))));
    assert_true(value_exists(graph_gradient(graph, graph_find(graph, "used.bias"))));
    assert_false(value_exists(graph_gradient(graph, graph_find(graph, "unused.weight"))));
    assert_true(value_exists(graph_gradient(graph, x)));
    assert_true(shape_equal(graph_shape(graph, graph_gradient(graph, x)), graph_shape(graph, x)));
    for (int i = 0; i < graph_node_count(graph); ++i) {
        const Node *node = graph_node_at(graph, i);
        assert_int_equal(node->phase, i < forward ? PHASE_FORWARD : PHASE_BACKWARD);
        if (i >= forward) assert_in_range(node->forward, 0, forward - 1);
    }
    graph_free(graph);
}

/* x -> batch norm and -> ReLU, in either order: the gradient that is made last adds the other's, inside batch
 * norm's backward if it is that one, by a node of its own if not. */
static void a_node_with_an_addend_adds_the_gradient_made_before_it(void **state)
{
    (void)state;
    for (int norm_first = 0; norm_first < 2; ++norm_first) {
        Graph *graph = new_graph(GRAPH_TRAIN);
        const Value x = conv2d(graph, "conv", image_input(graph), (Conv2d){.channels = 3, .kernel = 1});
        Value branch[2];
        for (int i = 0; i < 2; ++i)
            branch[i] =
                (i == 0) == norm_first ? batch_norm(graph, "norm", x, (BatchNorm){0}) : relu(graph, x);
        const Value y = add(graph, branch[0], branch[1]);
        const Value loss = dot(graph, y, graph_input(graph, "upstream", graph_shape(graph, y)));
        graph_keep(graph, loss);
        graph_differentiate(graph, loss);
        assert_ok(graph_finish(graph));
        assert_int_equal(count_op(graph, "add"), norm_first ? 1 : 2);
        for (int i = 0; i < graph_node_count(graph); ++i) {
            const Node *node = graph_node_at(graph, i);
            if (strcmp(node->op->name, "batch_norm_backward") != 0) continue;
            const Value addend = node->input[node->op->addend];
            assert_int_equal(value_exists(addend), norm_first);
            if (!norm_first) continue;
            assert_string_equal(graph_node_at(graph, graph_producer(graph, addend))->op->name,
                                "relu_backward");
            assert_true(value_equal(graph_gradient(graph, x), node->output[0]));
        }
        graph_free(graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_nest_as_in_pytorch),
        cmocka_unit_test(the_first_error_sticks_and_names_its_scope),
        cmocka_unit_test(unbalanced_scopes_and_changed_shapes_are_errors),
        cmocka_unit_test(chains_are_fused_once_and_only_when_nobody_else_looks),
        cmocka_unit_test(gradients_reach_what_the_loss_depends_on),
        cmocka_unit_test(a_node_with_an_addend_adds_the_gradient_made_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
