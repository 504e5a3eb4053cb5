/* Five training steps of the published code, for each of its losses: the summed loss, clipped, with momentum
 * and weight decay. */
#include "tests/network.h"

#include "engine/optim/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 5, BATCH = 16, CLASSES = 10 };

/* The published code's loss functions return a sum or a mean; what it logs for an epoch is the sum of what it
 * differentiated, which for MMCE is the batch size times the function's value, over the samples. */
typedef enum { IS_SUM, IS_MEAN } Kind;

typedef struct {
    const char *name;
    const char *settings[6];
    Kind value, logged;
} Trace;

static const Trace traces[] = {
    {"cross_entropy", {"loss.name=cross_entropy"}, IS_SUM, IS_SUM},
    {"cross_entropy_mean", {"loss.name=cross_entropy", "loss.reduction=mean"}, IS_SUM, IS_SUM},
    {"focal_gamma3", {"loss.name=focal", "loss.policy=fixed", "loss.gamma=3"}, IS_SUM, IS_SUM},
    {"flsd_53",
     {"loss.name=focal", "loss.policy=sample", "loss.gammas=[5, 3]", "loss.thresholds=[0.2]"},
     IS_SUM,
     IS_SUM},
    {"brier", {"loss.name=brier"}, IS_MEAN, IS_MEAN},
    {"mmce_l2", {"loss.name=mmce", "loss.lambda=2"}, IS_MEAN, IS_SUM},
    {"mmce_weighted_l2", {"loss.name=mmce_weighted", "loss.lambda=2"}, IS_MEAN, IS_SUM},
};

static const int64_t images_extent[4] = {BATCH, 32, 32, 3};

static void open_trace(Network *network, const Trace *trace)
{
    const char *settings[NETWORK_MAX_SETTINGS] = {"model.name=resnet50", "model.blocks=[1, 1, 1, 1]",
                                                  "model.width=4"};
    for (int i = 0; trace->settings[i] != NULL; ++i)
        settings[3 + i] = trace->settings[i];
    network_open(network, settings, FLOAT32, images_extent, CLASSES);
    network_load(network, "networks/train_trace/index.json", "networks/train_trace/weights.npy");
}

static double as(Kind kind, const double *sums)
{
    return kind == IS_SUM ? sums[LOSS_SUM] : sums[LOSS_SUM] / sums[LOSS_WEIGHT];
}

static void check_number(double got, double want, double relative, const char *name, const char *what,
                         int step)
{
    if (!(fabs(got - want) <= relative * fabs(want)))
        print_error("%s, step %d: %s is %.9g, should be %.9g\n", name, step, what, got, want);
    assert_true(fabs(got - want) <= relative * fabs(want));
}

static double list_number(const cJSON *object, const char *key, int index)
{
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(object, key), index);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

/* How far the weights after the steps are from the file's, as a share of how far they went. */
static double distance_after(Network *network, const Trace *trace)
{
    char file[128];
    (void)snprintf(file, sizeof file, "networks/train_trace/%s.weights_after.npy", trace->name);
    int64_t count, got_count;
    double *before = golden_doubles("networks/train_trace/weights.npy", NULL, NULL);
    double *want = golden_doubles(file, &count, NULL);
    double *got = network_tensors(network, "networks/train_trace/index.json", TENSORS_ALL, &got_count);
    assert_int_equal(got_count, count);
    for (int64_t i = 0; i < count; ++i) {
        want[i] -= before[i];
        got[i] -= before[i];
    }
    double distance = relative_distance(got, want, count);
    free(got);
    free(want);
    free(before);
    return distance;
}

/* Loss and accuracy over the five batches in evaluation mode. */
static void check_evaluation(Network *network, const Trace *trace, const cJSON *expected,
                             const double *images, const double *labels)
{
    NetworkStep step;
    network_step_open(&step, network, (StepOptions){.mode = GRAPH_EVALUATE, .forward_only = true});
    double correct = 0, loss = 0;
    for (int batch = 0; batch < STEPS; ++batch) {
        network_step_run(&step, images, labels, (int64_t)batch * BATCH);
        correct += network_step_sums(&step)[LOSS_CORRECT];
        loss += as(trace->logged, network_step_sums(&step));
    }
    network_step_close(&step);
    check_number(correct / (STEPS * BATCH), item_number(expected, "eval_accuracy_after"), 1e-9, trace->name,
                 "accuracy afterwards", STEPS);
    check_number(loss / (STEPS * BATCH), item_number(expected, "test_single_epoch_returned_average"), 1e-2,
                 trace->name, "loss afterwards", STEPS);
}

static void check_trace(const Trace *trace)
{
    char id[128];
    (void)snprintf(id, sizeof id, "networks/train_trace/%s", trace->name);
    cJSON *document;
    const cJSON *expected = golden_case(id, &document);
    Network network;
    open_trace(&network, trace);
    double *images = golden_doubles("networks/train_trace/x.npy", NULL, NULL);
    double *labels = golden_doubles("networks/train_trace/labels.npy", NULL, NULL);
    NetworkStep step;
    network_step_open(&step, &network, (StepOptions){.mode = GRAPH_TRAIN});
    Optimizer *optimizer;
    assert_ok(optimizer_create(
        network.store,
        (OptimizerOptions){.name = "sgd", .momentum = 0.9, .weight_decay = 5e-4, .clip_norm = 2},
        &optimizer));
    const bool mean = network.loss.reduction == REDUCTION_MEAN;

    for (int batch = 0; batch < STEPS; ++batch) {
        network_step_run(&step, images, labels, (int64_t)batch * BATCH);
        const double *sums = network_step_sums(&step);
        assert_true(sums[LOSS_WEIGHT] == BATCH);
        check_number(as(trace->value, sums), list_number(expected, "loss_function_value_per_batch", batch),
                     batch == 0 ? 1e-4 : 1e-2, trace->name, "loss", batch);
        double norm;
        assert_ok(optimizer_set(optimizer, batch + 1, 0.1, mean ? 1 / sums[LOSS_WEIGHT] : 1));
        assert_ok(optimizer_step(optimizer));
        assert_ok(optimizer_gradient_norm(optimizer, &norm));
        assert_ok(device_synchronize(store_device(network.store)));
        check_number(norm, list_number(expected, "grad_norm_before_clip_per_batch", batch),
                     batch == 0 ? 1e-3 : 1e-2, trace->name, "gradient norm", batch);
    }
    double distance = distance_after(&network, trace);
    if (!(distance < 1e-2)) print_error("%s: weights are off by %g of their way\n", trace->name, distance);
    assert_true(distance < 1e-2);

    optimizer_free(optimizer);
    network_step_close(&step);
    check_evaluation(&network, trace, expected, images, labels);
    network_close(&network);
    free(labels);
    free(images);
    cJSON_Delete(document);
}

static void test_trace(void **state) { check_trace(*state); }

int main(void)
{
    enum { TRACES = sizeof traces / sizeof traces[0] };
    struct CMUnitTest tests[TRACES];
    for (int i = 0; i < TRACES; ++i)
        tests[i] = (struct CMUnitTest){
            .name = traces[i].name, .test_func = test_trace, .initial_state = (void *)(uintptr_t)&traces[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
