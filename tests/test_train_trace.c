/* Five training steps of the published code, for each of its losses: the summed loss, clipped, with momentum
 * and weight decay. */
#include "tests/network.h"

#include "engine/optim/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The published code's loss functions return a sum or a mean; what it logs for an epoch is the sum of what it
 * differentiated, which for MMCE is the batch size times the function's value, over the samples. */
typedef enum { IS_SUM, IS_MEAN } Kind;

/* The losses as cases call them, with the settings that they need. */
typedef struct {
    const char *loss;
    const char *setting; /* with %g for the number at `number` */
    const char *policy;  /* another setting, or NULL */
    const char *number;
    Kind value, logged;
} TraceLoss;

static const TraceLoss losses[] = {
    {"cross_entropy", "loss.name=cross_entropy", NULL, NULL, IS_SUM, IS_SUM},
    {"focal_loss", "loss.gamma=%g", "loss.policy=fixed", "params/gamma", IS_SUM, IS_SUM},
    {"focal_loss_adaptive", "loss.gammas=[5, 3, %g]", "loss.policy=sample", "params/gamma", IS_SUM, IS_SUM},
    {"brier_score", "loss.name=brier", NULL, NULL, IS_MEAN, IS_MEAN},
    {"mmce", "loss.lambda=%g", "loss.name=mmce", "params/lamda", IS_MEAN, IS_SUM},
    {"mmce_weighted", "loss.lambda=%g", "loss.name=mmce_weighted", "params/lamda", IS_MEAN, IS_SUM},
};

typedef struct {
    const GoldenCase *golden;
    const TraceLoss *loss;
    NetworkSettings settings;
    char text[128];
    int64_t batches, images[4], classes;
    GoldenArray x, labels;
} Trace;

static const TraceLoss *find_loss(const GoldenCase *golden)
{
    const char *name = golden_text(golden, "params/loss");
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; ++i)
        if (strcmp(losses[i].loss, name) == 0) return &losses[i];
    print_error("%s of %s: tests/test_train_trace.c has no row for the loss %s\n", golden->id, golden->folder,
                name);
    assert_true(false);
    return NULL;
}

static void add_setting(Trace *trace, const char *setting)
{
    NetworkSettings *settings = &trace->settings;
    assert_true(settings->count < NETWORK_MAX_SETTINGS - 1);
    settings->settings[settings->count++] = setting;
}

/* The last tensor of the network is the classifier's bias [classes]. */
static int64_t classes_of(const GoldenCase *golden)
{
    cJSON *index = golden_document(golden, "inputs/index");
    const cJSON *tensors = cJSON_GetObjectItemCaseSensitive(index, "tensors");
    const cJSON *last = cJSON_GetArrayItem(tensors, cJSON_GetArraySize(tensors) - 1);
    const int64_t classes = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(last, "shape"), 0)->valueint;
    cJSON_Delete(index);
    return classes;
}

static void trace_open(Trace *trace, const GoldenCase *golden)
{
    *trace = (Trace){.golden = golden,
                     .loss = find_loss(golden),
                     .batches = (int64_t)golden_number(golden, "params/batches"),
                     .classes = classes_of(golden),
                     .x = golden_array(golden, "inputs/x"),
                     .labels = golden_array(golden, "inputs/labels")};
    const int64_t batch = (int64_t)golden_number(golden, "params/batch"), *x = trace->x.extent;
    assert_true(trace->x.rank == 5 && x[0] == trace->batches && x[1] == batch);
    assert_int_equal(trace->labels.count, x[0] * x[1]);
    memcpy(trace->images, (const int64_t[]){batch, x[3], x[4], x[2]}, sizeof trace->images);
    network_settings(golden, &trace->settings);
    const TraceLoss *loss = trace->loss;
    if (loss->policy != NULL) add_setting(trace, loss->policy);
    if (loss->policy != NULL && strncmp(loss->policy, "loss.policy", strlen("loss.policy")) == 0)
        add_setting(trace, "loss.name=focal");
    if (strstr(loss->setting, "gammas") != NULL) add_setting(trace, "loss.thresholds=[0.2, 0.5]");
    (void)snprintf(trace->text, sizeof trace->text, "%s", loss->setting);
    char *place = strstr(trace->text, "%g");
    if (place != NULL)
        (void)snprintf(place, sizeof trace->text - (size_t)(place - trace->text), "%g%s",
                       golden_number(golden, loss->number),
                       loss->setting + (place - trace->text) + strlen("%g"));
    add_setting(trace, trace->text);
    if (golden_number(golden, "params/loss_mean") != 0) add_setting(trace, "loss.reduction=mean");
}

static void trace_close(Trace *trace)
{
    golden_array_free(&trace->x);
    golden_array_free(&trace->labels);
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
    golden_count(1);
}

/* How far the weights after the steps are from the file's, as a share of how far they went. */
static double distance_after(Network *network, const GoldenCase *golden)
{
    int64_t count;
    GoldenArray before = golden_array(golden, "inputs/weights"),
                want = golden_array(golden, "expected_files/weights_after");
    double *got = network_tensors(network, golden, TENSORS_ALL, &count);
    assert_true(want.count == count && before.count == count);
    for (int64_t i = 0; i < count; ++i) {
        want.values[i] -= before.values[i];
        got[i] -= before.values[i];
    }
    const double distance = relative_distance(got, want.values, count);
    golden_count(count);
    free(got);
    golden_array_free(&want);
    golden_array_free(&before);
    return distance;
}

/* Loss and accuracy over the batches in evaluation mode. */
static void check_evaluation(Network *network, const Trace *trace)
{
    const GoldenCase *golden = trace->golden;
    NetworkStep step;
    network_step_open(&step, network, (StepOptions){.mode = GRAPH_EVALUATE, .forward_only = true});
    double correct = 0, loss = 0;
    const int64_t batch = trace->images[0];
    for (int64_t i = 0; i < trace->batches; ++i) {
        network_step_run(&step, trace->x.values, trace->labels.values, i * batch);
        correct += network_step_sums(&step)[LOSS_CORRECT];
        loss += as(trace->loss->logged, network_step_sums(&step));
    }
    network_step_close(&step);
    const double samples = (double)(trace->batches * batch);
    check_number(correct / samples, golden_number(golden, "expected/eval_accuracy_after"), 1e-9, golden->id,
                 "accuracy afterwards", (int)trace->batches);
    check_number(loss / samples, golden_number(golden, "expected/test_single_epoch_returned_average"), 1e-2,
                 golden->id, "loss afterwards", (int)trace->batches);
}

static void check_trace(const GoldenCase *golden)
{
    Trace trace;
    trace_open(&trace, golden);
    Network network;
    network_open(&network, trace.settings.settings, FLOAT32, trace.images, trace.classes);
    network_load(&network, golden);
    NetworkStep step;
    network_step_open(&step, &network, (StepOptions){.mode = GRAPH_TRAIN});
    Optimizer *optimizer;
    assert_ok(
        optimizer_create(network.store,
                         (OptimizerOptions){.name = "sgd",
                                            .momentum = golden_number(golden, "params/momentum"),
                                            .weight_decay = golden_number(golden, "params/weight_decay"),
                                            .clip_norm = golden_number(golden, "params/clip_grad_norm")},
                         &optimizer));
    const bool mean = network.loss.reduction == REDUCTION_MEAN;
    /* What the published code prints; with its switch for the mean it divides what it differentiates once more. */
    const double divisor = golden_number(golden, "params/loss_mean") != 0 ? (double)trace.images[0] : 1;
    double logged = 0;
    for (int i = 0; i < (int)trace.batches; ++i) {
        network_step_run(&step, trace.x.values, trace.labels.values, i * trace.images[0]);
        const double *sums = network_step_sums(&step);
        assert_true(sums[LOSS_WEIGHT] == (double)trace.images[0]);
        check_number(as(trace.loss->value, sums),
                     golden_number_at(golden, "expected/loss_function_value_per_batch", i),
                     i == 0 ? 1e-4 : 1e-2, golden->id, "loss", i);
        logged += as(trace.loss->logged, sums) / (double)trace.labels.count / divisor;
        double norm;
        assert_ok(optimizer_set(optimizer, i + 1, golden_number(golden, "params/lr"),
                                mean ? 1 / sums[LOSS_WEIGHT] : 1));
        assert_ok(optimizer_step(optimizer));
        assert_ok(optimizer_gradient_norm(optimizer, &norm));
        assert_ok(device_synchronize(store_device(network.store)));
        check_number(norm, golden_number_at(golden, "expected/grad_norm_before_clip_per_batch", i),
                     i == 0 ? 1e-3 : 1e-2, golden->id, "gradient norm", i);
    }
    const double average = golden_number(golden, "expected/train_single_epoch_returned_average");
    check_number(logged, average, 1e-2, golden->id, "average loss", (int)trace.batches);
    const double distance = distance_after(&network, golden);
    if (!(distance < 1e-2)) print_error("%s: weights are off by %g of their way\n", golden->id, distance);
    assert_true(distance < 1e-2);
    optimizer_free(optimizer);
    network_step_close(&step);
    check_evaluation(&network, &trace);
    network_close(&network);
    trace_close(&trace);
}

static void test_trace(void **state) { check_trace(*state); }

static int report(void **state)
{
    (void)state;
    print_message("%lld values\n", (long long)golden_checked());
    return 0;
}

int main(void)
{
    enum { MOST = 64 };
    static struct CMUnitTest tests[MOST];
    int count = 0;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("training_trace", "params/built", golden)) != NULL;) {
        assert_true(count < MOST);
        tests[count++] = (struct CMUnitTest){
            .name = golden->id, .test_func = test_trace, .initial_state = (void *)(uintptr_t)golden};
    }
    return _cmocka_run_group_tests("training traces", tests, (size_t)count, NULL, report);
}
