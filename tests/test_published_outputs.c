/* The outputs of public networks, probabilities or top confidences, against the figures that were published for them and
 * those of another program: ../shared/data/published-logits, whose expected.json has definitions and tolerances. */
#include "tests/support.h"

#include "engine/base/file.h"
#include "launch/evaluate/evaluate.h"
#include "launch/evaluate/evaluate_files.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static World *world;
static Collective *collective;
static char folder[4096];
static int compared;

static const double tolerance = 1e-6; /* of what another program computed in double precision */

static EvaluationResult *result; /* too large for the stack */

static const char *path_in(const cJSON *files, const char *role)
{
    static char path[2][8192];
    static int turn;
    const cJSON *file = cJSON_GetObjectItemCaseSensitive(files, role);
    assert_true(cJSON_IsString(file));
    turn = !turn;
    (void)snprintf(path[turn], sizeof path[turn], "%s/%s", folder, file->valuestring);
    return path[turn];
}

static void measure(const cJSON *files, int bins)
{
    EvaluateOptions options = evaluate_defaults();
    options.replicates = 0;
    options.bins = bins;
    if (cJSON_HasObjectItem(files, "confidence")) {
        ConfidenceFiles set;
        assert_ok(
            confidence_files_open(world, path_in(files, "confidence"), path_in(files, "correct"), &set));
        assert_ok(evaluate_confidences(world, collective, &options, &set.set, set.total, result));
        confidence_files_close(&set);
        return;
    }
    const SetFiles names = {.values = path_in(files, "test_probs"),
                            .labels = path_in(files, "test_labels"),
                            .probabilities = true,
                            .ignore_label = -100};
    FileSet set;
    assert_ok(file_set_open(world, &names, &set));
    assert_ok(evaluate_logits(world, collective, &options, &set.set, NULL, NULL, result));
    file_set_close(&set);
}

/* Compares where the case has the figure. */
static void check(const char *id, const cJSON *want, const char *key, double got, double allowed)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(want, key);
    if (item == NULL) return;
    assert_true(cJSON_IsNumber(item));
    if (!(fabs(got - item->valuedouble) <= allowed))
        print_error("%s: %s is %.12g, not %.12g\n", id, key, got, item->valuedouble);
    assert_true(fabs(got - item->valuedouble) <= allowed);
    ++compared;
}

/* One rank has all rows: this is no measure that ranks share. */
static void check_joint(const char *id, const cJSON *files, const cJSON *published)
{
    static const char key[] = "ece_joint_uniform10";
    if (cJSON_GetObjectItemCaseSensitive(published, key) == NULL) return;
    const SetFiles names = {.values = path_in(files, "test_probs"),
                            .labels = path_in(files, "test_labels"),
                            .probabilities = true,
                            .ignore_label = -100};
    const World alone = {.rank = 0, .size = 1};
    FileSet set;
    assert_ok(file_set_open(&alone, &names, &set));
    const int64_t rows = set.set.count, classes = set.set.classes;
    double *p = calloc((size_t)(rows * classes), sizeof *p), error;
    int64_t *label = calloc((size_t)rows, sizeof *label);
    assert_true(p != NULL && label != NULL);
    assert_ok(logits_probabilities(&set.set, 1, 2, p));
    for (int64_t i = 0; i < rows; ++i)
        label[i] = logits_label(&set.set, i);
    assert_ok(binned_error_joint(&(ProbabilitySet){p, label, rows, classes}, 10, &error));
    check(id, published, key, error, tolerance);
    free(p);
    free(label);
    file_set_close(&set);
}

static void check_case(const cJSON *network)
{
    const char *id = cJSON_GetObjectItemCaseSensitive(network, "id")->valuestring;
    const cJSON *files = cJSON_GetObjectItemCaseSensitive(network, "files");
    const cJSON *published = cJSON_GetObjectItemCaseSensitive(network, "published");
    const cJSON *computed =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(network, "computed"), "test");
    static const int bins[] = {10, 15, 20};
    check_joint(id, files, published);
    for (int i = 0; i < 3; ++i) {
        char key[32];
        measure(files, bins[i]);
        const Calibration *measured = &result->measured[EVALUATE_BEFORE];
        (void)snprintf(key, sizeof key, "ece%d", bins[i]);
        check(id, computed, key, measured->ece, tolerance);
        check(id, published, key, measured->ece, 0.5e-6);
        (void)snprintf(key, sizeof key, "ece%d_percent", bins[i]);
        check(id, published, key, 100 * measured->ece, 0.5e-2);
        if (bins[i] != 15) continue;
        check(id, computed, "n", (double)measured->samples, 0);
        check(id, computed, "classes", (double)measured->classes, 0);
        check(id, computed, "error", measured->error, 1e-9);
        check(id, computed, "mean_confidence", measured->mean_confidence, tolerance);
        check(id, computed, "mce15", measured->mce, tolerance);
        check(id, computed, "adaece15", measured->ada_ece, tolerance);
        check(id, computed, "classwise_ece15", measured->classwise_ece_all, tolerance);
        check(id, computed, "nll", measured->nll, tolerance);
        check(id, computed, "brier_sum", measured->brier, tolerance);
        check(id, computed, "top5_accuracy", 1 - measured->top5_error, 1e-9);
        check(id, published, "error_percent", 100 * measured->error, 0.5e-2);
    }
}

static void test_networks(void **state)
{
    (void)state;
    char *text;
    size_t size;
    (void)snprintf(folder, sizeof folder, "%s", test_data_or_skip("published-logits"));
    char path[8192];
    (void)snprintf(path, sizeof path, "%s/expected.json", folder);
    assert_ok(file_read(path, 1 << 20, &text, &size));
    cJSON *root = cJSON_Parse(text);
    const cJSON *cases = cJSON_GetObjectItemCaseSensitive(root, "cases"), *network;
    assert_true(cJSON_GetArraySize(cases) > 0);
    cJSON_ArrayForEach(network, cases) check_case(network);
    if (world->rank == 0) print_message("%d networks, %d figures\n", cJSON_GetArraySize(cases), compared);
    cJSON_Delete(root);
    free(text);
}

int main(int argc, char **argv)
{
    Status status = comm_start(&argc, &argv, &world);
    if (status == OK) status = comm_collective(world, 60, &collective);
    if (status != OK) comm_abort(world, status);
    result = calloc(1, sizeof *result);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_networks)};
    const int failures = result != NULL ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
    if (failures > 0) return 1;
    free(result);
    collective_free(collective);
    comm_stop(world);
    return 0;
}
