/* plumb evaluate as a user types it: what it prints and writes, at any number of ranks. */
#include "tests/evaluate_cli.h"

#include "engine/base/file.h"
#include "launch/evaluate/evaluate.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_json(void **state)
{
    (void)state;
    static char output[ROOM];
    assert_int_equal(shell(output, "%s evaluate %s --json result.json", plumb, arguments()), 0);
    cJSON *root = parse_file("result.json");
    static const struct {
        const char *path;
        double value;
    } expected[] = {{"samples", 2000},
                    {"classes", 10},
                    {"temperature.ece", 2.3000000000000007},
                    {"temperature.nll", 2.400000000000001},
                    {"before.error", 0.2505},
                    {"before.top5_error", 0.058},
                    {"before.nll", 1.371617801669785},
                    {"before.ece", 0.17926856097823224},
                    {"before.mce", 0.45047863789421827},
                    {"before.ada_ece", 0.1791549043742523},
                    {"before.classwise_ece", 0.03861216213839101},
                    {"before.mean_confidence", 0.9287685609782323},
                    {"before.mean_entropy", 0.22124859604173455},
                    {"before.ece_l2", 0.20397432014498756},
                    {"before.s99.fraction", 0.665},
                    {"before.s99.accuracy", 0.8992481203007519},
                    {"after_ece.ece", 0.03287592753563773},
                    {"after_ece.ada_ece", 0.03294372031658598},
                    {"after_ece.classwise_ece", 0.012215700078547918},
                    {"after_ece.mce", 0.18425333941515976},
                    {"after_ece.nll", 0.8678686756425275},
                    {"after_nll.ece", 0.025699958024362497},
                    {"after_nll.nll", 0.8648253950506232},
                    {"after_nll.brier", 0.3563},
                    {"losses.cross_entropy", 1.371617801669785}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; ++i)
        assert_number(root, expected[i].path, expected[i].value,
                      strcmp(expected[i].path, "after_nll.brier") == 0 ? 1e-3 : 1e-9);
    static const char *const losses[] = {"cross_entropy", "label_smoothing_0.05",
                                         "brier",         "focal_1",
                                         "focal_2",       "focal_3",
                                         "flsd_53",       "flsd_532",
                                         "mmce",          "mmce_weighted"};
    const cJSON *values = cJSON_GetObjectItemCaseSensitive(root, "losses");
    assert_int_equal(cJSON_GetArraySize(values), 10);
    for (int i = 0; i < 10; ++i) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(values, losses[i]);
        assert_true(cJSON_IsNumber(value) && value->valuedouble > 0);
    }
    static const char *const stages[] = {"before", "after_ece", "after_nll"};
    for (int i = 0; i < 3; ++i) {
        const cJSON *stage = cJSON_GetObjectItemCaseSensitive(root, stages[i]);
        assert_interval(stage, "ece");
        assert_interval(stage, "ada_ece");
        assert_interval(stage, "classwise_ece");
        const cJSON *bins = cJSON_GetObjectItemCaseSensitive(stage, "bins"), *bin;
        assert_int_equal(cJSON_GetArraySize(bins), 15);
        double count = 0, ece = 0;
        cJSON_ArrayForEach(bin, bins)
        {
            const double share = cJSON_GetObjectItemCaseSensitive(bin, "count")->valuedouble;
            count += share;
            ece += share / 2000 *
                   fabs(cJSON_GetObjectItemCaseSensitive(bin, "confidence")->valuedouble -
                        cJSON_GetObjectItemCaseSensitive(bin, "accuracy")->valuedouble);
            assert_true(cJSON_GetObjectItemCaseSensitive(bin, "lower")->valuedouble <
                        cJSON_GetObjectItemCaseSensitive(bin, "upper")->valuedouble);
        }
        assert_true(count == 2000);
        assert_number(stage, "ece", ece, 1e-9);
    }
    const double entropy =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "ood"), "auroc_entropy")
            ->valuedouble;
    assert_true(entropy > 0.5 && entropy < 1);
    cJSON_Delete(root);

    /* The table says the same in percent. */
    assert_non_null(strstr(output, "T = 2.3 by ECE"));
    assert_non_null(strstr(output, "T = 2.4 by NLL"));
    assert_non_null(strstr(output, "25.05"));
    assert_non_null(strstr(output, "17.93 ["));
    assert_null(strstr(output, "worse"));

    /* A value may stand behind an equals sign. */
    static char equals[ROOM];
    assert_int_equal(shell(equals,
                           "%s evaluate $(echo '%s' | sed 's/\\(--[a-z-]*\\) /\\1=/g') --json=equals.json && "
                           "cmp equals.json result.json",
                           plumb, arguments()),
                     0);
    assert_string_equal(equals, output);

    /* On the standard output it is all there is. */
    static char text[ROOM], file[ROOM];
    assert_int_equal(shell(text, "%s evaluate %s --json - 2>table", plumb, arguments()), 0);
    assert_int_equal(shell(file, "cat result.json"), 0);
    assert_string_equal(text, file);
    assert_int_equal(shell(text, "cat table"), 0);
    assert_string_equal(text, output);
}

static void test_without_validation(void **state)
{
    (void)state;
    static char output[ROOM];
    assert_int_equal(shell(output,
                           "%s evaluate --logits %s --labels %s --bins 10 --bootstrap 0 --json small.json",
                           plumb, example("logits/k2_n64", "logits"), example("logits/k2_n64", "labels")),
                     0);
    cJSON *root = parse_file("small.json");
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(root, "temperature")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(root, "after_ece")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(root, "after_nll")));
    assert_null(cJSON_GetObjectItemCaseSensitive(root, "ood"));
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(root, "before");
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(before, "interval")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(before, "bins")), 10);
    assert_number(root, "before.nll", 0.21986006843098066, 1e-9);
    cJSON_Delete(root);
}

/* A temperature chosen on another set that makes the test set worse. */
static void test_worse(void **state)
{
    (void)state;
    static char output[ROOM];
    assert_int_equal(
        shell(output,
              "%s evaluate --logits %s --labels %s --validation-logits %s --validation-labels %s "
              "--bootstrap 0 --json worse.json",
              plumb, example("temperature/k10_underconfident", "val_logits"),
              example("temperature/k10_underconfident", "val_labels"),
              example("temperature/k10_overconfident", "val_logits"),
              example("temperature/k10_overconfident", "val_labels")),
        0);
    assert_non_null(strstr(output, "note: temperature scaling made the test ECE worse"));
    cJSON *root = parse_file("worse.json");
    assert_true(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(root, "note")));
    cJSON_Delete(root);

    /* A grid that ends too early is a note of its own, beside this one; both ends are. */
    assert_int_equal(
        shell(output,
              "%s evaluate --logits %s --labels %s --validation-logits %s --validation-labels %s "
              "--bootstrap 0 --json worse.json --temperature-grid 2.3:2.4:0.1",
              plumb, example("temperature/k10_underconfident", "val_logits"),
              example("temperature/k10_underconfident", "val_labels"),
              example("temperature/k10_overconfident", "val_logits"),
              example("temperature/k10_overconfident", "val_labels")),
        0);
    assert_non_null(strstr(output, "note: temperature scaling made the test ECE worse"));
    assert_non_null(strstr(output, "note: T = 2.3 by ECE is the end of the grid"));
    assert_non_null(strstr(output, "top-5 error %")); /* of ten classes */
    assert_non_null(strstr(output, "note: T = 2.4 by NLL is the end of the grid"));
    root = parse_file("worse.json");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "notes")), 3);
    cJSON_Delete(root);

    /* A temperature of 1 makes nothing worse, though dividing by what is almost 1 moves the last digits. */
    assert_int_equal(
        shell(output,
              "%s evaluate --logits %s --labels %s --validation-logits %s --validation-labels %s "
              "--bootstrap 0 --temperature-grid 0.9999999:1:1",
              plumb, example("temperature/k10_underconfident", "val_logits"),
              example("temperature/k10_underconfident", "val_labels"),
              example("temperature/k10_overconfident", "val_logits"),
              example("temperature/k10_overconfident", "val_labels")),
        0);
    assert_null(strstr(output, "made the test ECE worse"));
    char path[8192], *text; /* the double is 2.4000000000000004 */
    size_t size;
    (void)snprintf(path, sizeof path, "%s/worse.json", scratch);
    assert_ok(file_read(path, 1 << 20, &text, &size));
    assert_non_null(strstr(text, "\"nll\":\t2.4\n"));
    free(text);
}

static void test_ranks(void **state)
{
    (void)state;
    static char want[ROOM], got[ROOM];
    assert_runs(
        shell(want, "%s evaluate %s --bootstrap 200 --seed 3 --json - 2>problem", plumb, arguments()));
    for (int ranks = 1; ranks <= 4; ++ranks) {
        assert_runs(shell(got, MPIRUN " %d %s evaluate %s --bootstrap 200 --seed 3 --json - 2>problem", ranks,
                          plumb, arguments()));
        assert_string_equal(got, want);
    }
    /* More ranks than samples. */
    const char *logits = example("logits/two_samples_k2_n2", "logits");
    const char *labels = example("logits/two_samples_k2_n2", "labels");
    assert_runs(shell(want, "%s evaluate --logits %s --labels %s --json - 2>problem", plumb, logits, labels));
    assert_runs(shell(got, MPIRUN " 3 %s evaluate --logits %s --labels %s --json - 2>problem", plumb, logits,
                      labels));
    assert_string_equal(got, want);
}

/* What evaluate_progress shows at a third of the second of two sets of intervals, ten seconds after the start. */
static void test_progress(void **state)
{
    (void)state;
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY), standard_error = dup(STDERR_FILENO);
    assert_true(terminal >= 0 && standard_error >= 0);
    assert_int_equal(grantpt(terminal), 0);
    assert_int_equal(unlockpt(terminal), 0);
    const int screen = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    assert_true(screen >= 0);
    EvaluateProgress progress;
    assert_int_equal(dup2(screen, STDERR_FILENO), STDERR_FILENO);
    evaluate_progress_start(&progress, true, 2);
    const bool shown = progress.shown;
    evaluate_progress(&progress, 0.1); /* too early for a word */
    progress.started -= 10;
    progress.stage = 1;
    evaluate_progress(&progress, 0.3333);
    evaluate_progress_end(&progress);
    assert_int_equal(dup2(standard_error, STDERR_FILENO), STDERR_FILENO);
    assert_true(shown);
    char said[256] = "";
    assert_true(read(terminal, said, sizeof said - 1) > 0);
    assert_non_null(strstr(said, "intervals: 67 % done, 5 s left"));
    assert_null(strstr(strstr(said, "intervals") + 1, "intervals"));
    (void)close(screen);
    (void)close(terminal);
    (void)close(standard_error);

    evaluate_progress_start(&progress, false, 1);
    assert_false(progress.shown);
}

/* An output that cannot be written is found before the work, and the table comes if it fails at the end. */
static void test_outputs(void **state)
{
    (void)state;
    static char output[ROOM];
    const char *logits = example("logits/k2_n64", "logits"), *labels = example("logits/k2_n64", "labels");
    assert_int_equal(shell(output,
                           "%s evaluate --logits %s --labels missing.npy --json nowhere/out.json 2>&1", plumb,
                           logits),
                     STATUS_IO);
    assert_non_null(strstr(output, "nowhere/out.json"));
    assert_int_equal(shell(output,
                           "%s evaluate --logits %s --labels %s --bootstrap 0 --json /dev/full 2>problem",
                           plumb, logits, labels),
                     STATUS_IO);
    assert_non_null(strstr(output, "Classwise-ECE"));
    assert_int_equal(
        shell(output,
              "echo kept >kept.json; %s evaluate --logits %s --labels missing.npy --json kept.json "
              "2>problem; cat kept.json",
              plumb, logits),
        0);
    assert_string_equal(output, "kept\n");
}

static void test_help(void **state)
{
    (void)state;
    static char output[ROOM];
    assert_int_equal(shell(output, "%s --help", plumb), 0);
    assert_non_null(strstr(output, "  evaluate "));
    assert_int_equal(shell(output, "%s evaluate --help", plumb), 0);
    assert_non_null(strstr(output, "--validation-logits"));
    assert_int_equal(shell(output, "%s --version", plumb), 0);
    assert_memory_equal(output, "plumb ", 6);
    assert_int_equal(shell(output, "%s nonsense 2>&1", plumb), STATUS_USAGE);
    assert_non_null(strstr(output, "nonsense"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),     cmocka_unit_test(test_without_validation),
        cmocka_unit_test(test_worse),    cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_progress), cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_help),
    };
    return EVALUATE_TESTS(tests);
}
