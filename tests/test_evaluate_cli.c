/* plumb evaluate on .npy files, as a user types it. */
#include "tests/golden.h"

#include "engine/base/file.h"
#include "launch/evaluate/evaluate.h"

#include <cJSON.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char scratch[4096];
static const char *plumb;

enum { ROOM = 65536 };

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Runs a shell command in the scratch folder; returns its exit code, with all that it wrote in `output`. */
__attribute__((format(printf, 2, 3))) static int shell(char output[ROOM], const char *format, ...)
{
    char command[8192], full[16384];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    (void)snprintf(full, sizeof full, "cd '%s' && %s", scratch, command);
    FILE *pipe = popen(full, "r");
    assert_non_null(pipe);
    const size_t read = fread(output, 1, ROOM - 1, pipe);
    output[read] = '\0';
    while (fgetc(pipe) != EOF) {}
    const int code = pclose(pipe);
    assert_true(WIFEXITED(code));
    return WEXITSTATUS(code);
}

/* The command must succeed; otherwise what it wrote to the standard error says why. */
static void assert_runs(int code)
{
    static char problem[ROOM];
    if (code == 0) return;
    (void)shell(problem, "cat problem");
    print_error("exit code %d: %s\n", code, problem);
    assert_int_equal(code, 0);
}

/* A file of a golden case. */
static const char *example(const char *id, const char *role)
{
    char path[256];
    (void)snprintf(path, sizeof path, "inputs/%s", role);
    return golden_path(golden_example("", id), path);
}

#define MPIRUN "mpirun --allow-run-as-root --oversubscribe --bind-to none -n"

/* The arguments for a golden case of temperature scaling. */
static const char *arguments(void)
{
    static char text[ROOM];
    (void)snprintf(text, sizeof text,
                   "--logits %s --labels %s --validation-logits %s --validation-labels %s --ood-logits %s",
                   example("temperature/k10_overconfident", "test_logits"),
                   example("temperature/k10_overconfident", "test_labels"),
                   example("temperature/k10_overconfident", "val_logits"),
                   example("temperature/k10_overconfident", "val_labels"), "ood.npy");
    return text;
}

static cJSON *parse_file(const char *name)
{
    char path[8192], *text;
    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    size_t size;
    assert_ok(file_read(path, 1 << 20, &text, &size));
    cJSON *root = cJSON_ParseWithOpts(text, NULL, true);
    assert_non_null(root);
    free(text);
    return root;
}

static void assert_number(const cJSON *root, const char *path, double want, double relative)
{
    char copy[256];
    (void)snprintf(copy, sizeof copy, "%s", path);
    const cJSON *item = root;
    for (char *part = strtok(copy, "."); part != NULL; part = strtok(NULL, "."))
        item = cJSON_GetObjectItemCaseSensitive(item, part);
    if (!cJSON_IsNumber(item)) print_error("%s is not there\n", path);
    assert_true(cJSON_IsNumber(item));
    assert_close(&item->valuedouble, &want, 1, relative, 1e-10, path);
}

static void assert_interval(const cJSON *stage, const char *metric)
{
    const cJSON *item =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(stage, "interval"), metric);
    assert_int_equal(cJSON_GetArraySize(item), 2);
    const double low = cJSON_GetArrayItem(item, 0)->valuedouble,
                 high = cJSON_GetArrayItem(item, 1)->valuedouble;
    assert_true(low > 0 && low < high && high < 1);
}

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

static void write_array(const char *name, DType type, int rank, int64_t rows, int64_t columns,
                        const void *data)
{
    char path[8192];
    const int64_t extent[] = {rows, columns};
    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    assert_ok(npy_write(path, type, rank, extent, data));
}

/* What softmax gives instead of what it takes: measured as it is, and said. */
static void test_probabilities(void **state)
{
    (void)state;
    static char output[ROOM];
    static const float rows[] = {0.25F, 0.75F, 0.9F, 0.1F};
    static const int64_t labels[] = {1, 0};
    write_array("probabilities.npy", FLOAT32, 2, 2, 2, rows);
    write_array("two.npy", INT64, 1, 2, 0, labels);
    assert_int_equal(
        shell(output, "%s evaluate --logits probabilities.npy --labels two.npy --bootstrap 0 2>&1", plumb),
        0);
    assert_non_null(strstr(output, "probabilities.npy: its rows look like probabilities"));
    assert_int_equal(shell(output,
                           "%s evaluate --logits probabilities.npy --labels two.npy --bootstrap 0 --json - "
                           "2>problem",
                           plumb),
                     0);
    assert_non_null(strstr(output, "the rows of the test logits look like probabilities"));
    assert_int_equal(shell(output, "%s evaluate --logits %s --labels %s --bootstrap 0 2>&1", plumb,
                           example("logits/k2_n64", "logits"), example("logits/k2_n64", "labels")),
                     0);
    assert_null(strstr(output, "look like"));
}

/* Probabilities as they are: 0 and 1, ties, and values on the edges of bins, which belong to the bin below. */
static void test_given_probabilities(void **state)
{
    (void)state;
    static char output[ROOM];
    static const double rows[5][4] = {
        {0, 1, 0, 0}, {0.25, 0.25, 0.25, 0.25}, {0.5, 0.5, 0, 0}, {0.75, 0, 0.25, 0}, {0, 0, 0, 1}};
    static const int64_t labels[] = {1, 0, 1, 0, 2};
    write_array("edges.npy", FLOAT64, 2, 5, 4, rows);
    write_array("edge_labels.npy", INT64, 1, 5, 0, labels);
    assert_int_equal(shell(output,
                           "%s evaluate --probabilities edges.npy --labels edge_labels.npy --bins 4 "
                           "--bootstrap 0 --json edges.json",
                           plumb),
                     0);
    assert_non_null(strstr(output, "NLL                             infinite"));
    cJSON *root = parse_file("edges.json");
    const cJSON *bins =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "before"), "bins");
    static const double counts[] = {1, 1, 1, 2}, confidences[] = {0.25, 0.5, 0.75, 1},
                        right[] = {1, 0, 1, 0.5};
    for (int b = 0; b < 4; ++b) {
        const cJSON *bin = cJSON_GetArrayItem(bins, b);
        assert_number(bin, "count", counts[b], 0);
        assert_number(bin, "confidence", confidences[b], 0);
        assert_number(bin, "accuracy", right[b], 0);
    }
    assert_number(root, "before.error", 0.4, 1e-15);
    assert_number(root, "before.mean_confidence", 0.7, 1e-15);
    assert_number(root, "before.brier", (0 + 0.75 + 0.5 + 0.125 + 2) / 5, 1e-15);
    cJSON_Delete(root);

    /* One column is the probability of class 1. */
    static const double one[4] = {0.25, 1, 0, 0.5}, two[4][2] = {{0.75, 0.25}, {0, 1}, {1, 0}, {0.5, 0.5}};
    static const int64_t binary[] = {0, 1, 0, 0};
    static char want[ROOM];
    write_array("one.npy", FLOAT64, 2, 4, 1, one);
    write_array("both.npy", FLOAT64, 2, 4, 2, two);
    write_array("binary.npy", INT64, 1, 4, 0, binary);
    assert_int_equal(shell(want, "%s evaluate --probabilities both.npy --labels binary.npy", plumb), 0);
    assert_null(strstr(want, "top-5")); /* one of two is always right */
    assert_int_equal(shell(output, "%s evaluate --probabilities one.npy --labels binary.npy", plumb), 0);
    assert_string_equal(output, want);

    /* Of confidences alone the same as of the probabilities, where they say anything. */
    static const double confidence[5] = {1, 0.25, 0.5, 0.75, 1};
    static const uint8_t correct[5] = {1, 1, 0, 1, 0};
    write_array("confidence.npy", FLOAT64, 1, 5, 0, confidence);
    write_array("correct.npy", UINT8, 1, 5, 0, correct);
    for (int ranks = 1; ranks <= 2; ++ranks) {
        assert_runs(shell(output,
                          "%s %s evaluate --confidence confidence.npy --correct correct.npy --bins 4 "
                          "--bootstrap 20 --json edges%d.json 2>problem",
                          ranks == 2 ? MPIRUN " 2" : "", plumb, ranks));
        assert_null(strstr(output, "cross_entropy"));
        char name[32];
        (void)snprintf(name, sizeof name, "edges%d.json", ranks);
        root = parse_file(name);
        assert_number(root, "before.ece", (0.75 + 0.5 + 0.25 + 1) / 5, 1e-12);
        assert_number(root, "before.mce", 0.75, 1e-12);
        assert_number(root, "before.error", 0.4, 1e-15);
        assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(root, "classes")));
        assert_true(cJSON_IsNull(
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "before"), "nll")));
        cJSON_Delete(root);
    }
}

/* Samples that have no label are as if they were not there, but for their number and those of the rows. */
static void test_ignored(void **state)
{
    (void)state;
    static char output[ROOM], want[ROOM];
    static const float z[6] = {1, -2, 0.5F, 3, 9, -1}, kept[4][2] = {{0, 1}, {0, 0.5F}, {0, 3}, {0, -1}};
    static const int64_t labels[6] = {1, -100, 0, 1, -100, 1}, kept_labels[4] = {1, 0, 1, 1};
    write_array("z.npy", FLOAT32, 2, 6, 1, z); /* one logit is that of class 1, of class 0 it is 0 */
    write_array("z_labels.npy", INT64, 1, 6, 0, labels);
    write_array("kept.npy", FLOAT32, 2, 4, 2, kept);
    write_array("kept_labels.npy", INT64, 1, 4, 0, kept_labels);
    assert_int_equal(
        shell(want, "%s evaluate --logits kept.npy --labels kept_labels.npy --bootstrap 20", plumb), 0);
    for (int ranks = 1; ranks <= 2; ++ranks) {
        assert_runs(shell(output,
                          "%s %s evaluate --logits z.npy --labels z_labels.npy --bootstrap 20 --json "
                          "ignored.json 2>problem",
                          ranks == 2 ? MPIRUN " 2" : "", plumb));
        assert_non_null(strstr(output, "4 samples, 2 classes, 15 bins, 2 samples of label -100 left out"));
        assert_string_equal(strstr(output, "error %"), strstr(want, "error %"));
        cJSON *root = parse_file("ignored.json");
        assert_number(root, "ignored.test", 2, 0);
        assert_number(root, "ignored.label", -100, 0);
        cJSON_Delete(root);
    }
    assert_int_equal(shell(output,
                           "printf 'cat\ndog' >names.txt; %s evaluate --logits z.npy --labels z_labels.npy "
                           "--ignore-label 1 --bootstrap 0 2>&1",
                           plumb),
                     STATUS_INPUT);
    assert_non_null(strstr(output, "the label of row 1 is -100"));
    assert_int_equal(shell(output,
                           "%s evaluate --logits kept.npy --labels kept_labels.npy --class-names names.txt "
                           "--bootstrap 0 --json names.json",
                           plumb),
                     0);
    cJSON *root = parse_file("names.json");
    const cJSON *names = cJSON_GetObjectItemCaseSensitive(root, "class_names");
    assert_int_equal(cJSON_GetArraySize(names), 2);
    assert_string_equal(cJSON_GetArrayItem(names, 1)->valuestring, "dog");
    cJSON_Delete(root);
}

/* Calibrators fitted to the validation set: the same at any number of ranks, and again from their file. */
static void test_recalibration(void **state)
{
    (void)state;
    static char output[ROOM], want[ROOM];
    static const char methods[] = "vector,matrix:lambda=2,isotonic,histogram:scheme=equal_mass";
    const char *sets = arguments();
    assert_runs(shell(want,
                      "%s evaluate %s --bootstrap 20 --recalibrate %s --json recalibrated.json 2>problem",
                      plumb, sets, methods));
    assert_runs(shell(output,
                      MPIRUN
                      " 3 %s evaluate %s --bootstrap 20 --recalibrate %s --json other.json 2>problem && "
                      "cmp recalibrated.json other.json",
                      plumb, sets, methods));
    assert_string_equal(output, want);
    assert_non_null(strstr(want, "matrix_scaling, lambda 2, mu 1"));
    assert_non_null(strstr(want, "accuracy %"));
    cJSON *root = parse_file("recalibrated.json");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "recalibrated");
    assert_int_equal(cJSON_GetArraySize(list), 4);
    const cJSON *vector = cJSON_GetArrayItem(list, 0),
                *before = cJSON_GetObjectItemCaseSensitive(root, "before");
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(vector, "method")->valuestring, "vector_scaling");
    assert_number(vector, "accuracy_before", 1 - 0.2505, 1e-9);
    assert_interval(vector, "ece");
    const double ece = cJSON_GetObjectItemCaseSensitive(vector, "ece")->valuedouble,
                 nll = cJSON_GetObjectItemCaseSensitive(vector, "nll")->valuedouble;
    assert_true(ece < cJSON_GetObjectItemCaseSensitive(before, "ece")->valuedouble / 3);

    /* The file, and another set by it: no validation set is needed. */
    const char *logits = example("temperature/k10_overconfident", "test_logits"),
               *labels = example("temperature/k10_overconfident", "test_labels");
    assert_runs(shell(output,
                      MPIRUN
                      " 2 %s evaluate %s --bootstrap 0 --recalibrate vector --save-calibrator vector.json "
                      "2>problem",
                      plumb, sets));
    assert_runs(shell(output,
                      "%s evaluate --logits %s --labels %s --bootstrap 0 --calibrator vector.json --json "
                      "given.json 2>problem",
                      plumb, logits, labels));
    assert_non_null(strstr(output, "vector_scaling (given)"));
    cJSON *given = parse_file("given.json");
    const cJSON *again = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(given, "recalibrated"), 0);
    assert_number(again, "ece", ece, 0);
    assert_number(again, "nll", nll, 0);
    cJSON_Delete(given);
    cJSON_Delete(root);

#define KEPT "--logits kept.npy --labels kept_labels.npy"
#define WITH_VALIDATION KEPT " --validation-logits kept.npy --validation-labels kept_labels.npy"
    static const struct {
        const char *arguments;
        int code;
        const char *text;
    } wrong[] = {
        {KEPT " --calibrator vector.json", STATUS_INPUT,
         "the calibrator (vector_scaling) is for 10 classes, but kept.npy has 2"},
        {KEPT " --calibrator newer.json", STATUS_INPUT, "newer.json: the calibrator is of version 7"},
        {KEPT " --calibrator kept.npy", STATUS_INPUT, "kept.npy is no calibrator"},
        {"--probabilities both.npy --labels binary.npy --calibrator two.json", STATUS_INPUT,
         "was fitted on logits, but both.npy has probabilities"},
        {KEPT " --recalibrate vector", STATUS_USAGE, "--recalibrate is fitted to a validation set"},
        {WITH_VALIDATION " --recalibrate vector,beta --save-calibrator two.json", STATUS_USAGE,
         "--save-calibrator needs --recalibrate with one method"},
        {WITH_VALIDATION " --recalibrate plat", STATUS_USAGE, "there is no recalibration 'plat'"},
        {WITH_VALIDATION " --recalibrate vector --save-calibrator nowhere/two.json", STATUS_IO,
         "nowhere/two.json"},
        {"--confidence confidence.npy --correct correct.npy --calibrator two.json", STATUS_USAGE,
         "stand alone"},
    };
    assert_int_equal(
        shell(
            output,
            "sed 's/\"version\":\\t1/\"version\":\\t7/' vector.json >newer.json; %s evaluate " WITH_VALIDATION
            " --bootstrap 0 --recalibrate vector --save-calibrator two.json 2>&1",
            plumb),
        0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        const int code = shell(output, "%s evaluate %s --bootstrap 0 2>&1", plumb, wrong[i].arguments);
        if (code != wrong[i].code || strstr(output, wrong[i].text) == NULL)
            print_error("plumb evaluate %s\nexit code %d: %s", wrong[i].arguments, code, output);
        assert_int_equal(code, wrong[i].code);
        assert_non_null(strstr(output, wrong[i].text));
    }
}

/* All measures, at any number of ranks; JSON and table say which definition it is. */
static void test_all_measures(void **state)
{
    (void)state;
    static char output[ROOM], want[ROOM];
    const char *sets = arguments();
    assert_runs(shell(want,
                      "%s evaluate %s --bootstrap 50 --all-measures --recalibrate isotonic --json more.json "
                      "2>problem",
                      plumb, sets));
    assert_runs(shell(output,
                      MPIRUN " 3 %s evaluate %s --bootstrap 50 --all-measures --recalibrate isotonic --json "
                             "other.json 2>problem && cmp more.json other.json",
                      plumb, sets));
    assert_string_equal(output, want);
    assert_non_null(strstr(want, "SmoothECE by its continuous definition; laplacian kernel of width"));
    assert_non_null(strstr(want, "classes by their ECE"));
    cJSON *root = parse_file("more.json");
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(root, "before");
    const cJSON *more = cJSON_GetObjectItemCaseSensitive(before, "more"),
                *smooth = cJSON_GetObjectItemCaseSensitive(more, "smooth_ece"),
                *curve = cJSON_GetObjectItemCaseSensitive(smooth, "curve");
    /* An overconfident network: the same ECE at any bins, and at none. */
    const double ece = cJSON_GetObjectItemCaseSensitive(before, "ece")->valuedouble;
    assert_number(smooth, "value", ece, 0.02);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(curve, "accuracy")), 101);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(curve, "lower")), 101);
    assert_number(more, "binned_errors.top_label.equal_width.plug_in_p1", ece, 1e-6);
    assert_number(more, "binned_errors.top_label.equal_width.debiased_p2",
                  cJSON_GetObjectItemCaseSensitive(before, "ece_l2_debiased")->valuedouble, 1e-6);
    assert_number(more, "brier_decomposition.multiclass_class_by_class.brier",
                  cJSON_GetObjectItemCaseSensitive(before, "brier")->valuedouble, 1e-9);
    assert_number(more, "kernel_calibration_error.asymptotic.p", 0, 0);
    assert_number(more, "kernel_calibration_error.samples", 1000, 0);
    const cJSON *worst = cJSON_GetObjectItemCaseSensitive(more, "worst_classes"), *of;
    double last = 1, sum = 0;
    cJSON_ArrayForEach(of, worst)
    {
        const double error = cJSON_GetObjectItemCaseSensitive(of, "ece")->valuedouble;
        assert_true(error <= last);
        last = error;
        sum += error / 10;
    }
    assert_int_equal(cJSON_GetArraySize(worst), 10);
    assert_number(before, "classwise_ece_all", sum, 1e-6);
    const cJSON *bin = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(before, "bins"), 14);
    const double low = cJSON_GetObjectItemCaseSensitive(bin, "consistency_lower")->valuedouble,
                 high = cJSON_GetObjectItemCaseSensitive(bin, "consistency_upper")->valuedouble,
                 mean = cJSON_GetObjectItemCaseSensitive(bin, "confidence")->valuedouble;
    assert_true(low < mean && mean < high && high - low < 0.02);
    assert_true(cJSON_GetObjectItemCaseSensitive(bin, "accuracy")->valuedouble < low);
    const cJSON *isotonic = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(root, "recalibrated"), 0);
    assert_true(cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(isotonic, "more")));
    cJSON_Delete(root);

    /* relplot's definition, another kernel; and of confidences what they allow. */
    assert_runs(
        shell(output,
              "%s evaluate --probabilities both.npy --labels binary.npy --bootstrap 20 --all-measures "
              "--smooth-ece relplot --kernel gaussian:0.2 --class-names names.txt --json few.json 2>problem",
              plumb));
    assert_non_null(strstr(output, "SmoothECE as relplot has it; gaussian kernel of width 0.2, 4 samples"));
    assert_non_null(strstr(output, "\ndog  "));

    /* As a page: a diagram and a curve for each stage, and the table. */
    static char page[1 << 20];
    char path[8192];
    assert_runs(shell(output,
                      "%s evaluate %s --bootstrap 20 --all-measures --recalibrate 'histogram:bins=5' --html "
                      "page.html 2>problem",
                      plumb, sets));
    (void)snprintf(path, sizeof path, "%s/page.html", scratch);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    page[fread(page, 1, sizeof page - 1, file)] = '\0';
    assert_int_equal(fclose(file), 0);
    int figures = 0;
    for (const char *at = page; (at = strstr(at, "aria-label=\"Reliability diagram: ECE")) != NULL; ++at)
        ++figures;
    for (const char *at = page; (at = strstr(at, "aria-label=\"Curve of SmoothECE: ")) != NULL; ++at)
        ++figures;
    assert_int_equal(figures, 2 * 4);
    assert_non_null(strstr(page, "histogram_binning, 5 bins of equal width</figcaption>"));
    assert_non_null(strstr(page, "Classwise-ECE %"));
    assert_non_null(strstr(page, "</html>\n"));
    assert_int_equal(shell(output, "%s evaluate " KEPT " --bootstrap 0 --html nowhere/page.html 2>&1", plumb),
                     STATUS_IO);
    assert_runs(shell(output,
                      MPIRUN
                      " 2 %s evaluate --confidence confidence.npy --correct correct.npy --bootstrap 20 "
                      "--all-measures --json few.json 2>problem",
                      plumb));
    assert_non_null(strstr(output, "SmoothECE %"));
    assert_null(strstr(output, "classes by their ECE"));
    static const struct {
        const char *arguments, *text;
    } wrong[] = {
        {"--all-measures --smooth-ece half", "--smooth-ece takes continuous or relplot, not half"},
        {"--all-measures --kernel linear", "--kernel takes laplacian or gaussian"},
        {"--all-measures --kernel gaussian:-1", "--kernel takes laplacian or gaussian"},
        {"--kernel gaussian", "are about measures that --all-measures makes"},
        {"--all-measures --kernel-samples 1", "--kernel-samples takes a whole number from 2"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        assert_int_equal(
            shell(output, "%s evaluate " KEPT " --bootstrap 0 %s 2>&1", plumb, wrong[i].arguments),
            STATUS_USAGE);
        assert_non_null(strstr(output, wrong[i].text));
    }
}

/* What a definition leaves nothing of is not printed as a good value, and what is infinite is. */
static void test_meaningless(void **state)
{
    (void)state;
    static char output[ROOM];
    enum { ROWS = 90, CLASSES = 4 };
    float values[ROWS][CLASSES];
    int64_t labels[ROWS];
    for (int row = 0; row < ROWS; ++row) {
        for (int k = 0; k < CLASSES; ++k)
            values[row][k] = k == 1 ? 2 : k == 3 ? -INFINITY : 0;
        labels[row] = 0;
    }
    write_array("equal.npy", FLOAT32, 2, ROWS, CLASSES, values);
    write_array("wrong.npy", INT64, 1, ROWS, 0, labels);
    assert_int_equal(
        shell(output,
              "%s evaluate --logits equal.npy --labels wrong.npy --bootstrap 50 --json equal.json 2>&1",
              plumb),
        0);
    assert_non_null(
        strstr(output, "note: AdaECE says nothing: 100% of the samples have the smallest confidence"));
    assert_non_null(strstr(output, "note: mmce_weighted says nothing"));
    assert_non_null(strstr(output,
                           "note: no sample is of class 1 or a later one: the published Classwise-ECE is the "
                           "mean over the classes below it (1 of 4)"));
    assert_non_null(strstr(output, "AdaECE %                                     -\n"));
    assert_non_null(strstr(output, "mmce_weighted           -\n"));
    cJSON *root = parse_file("equal.json");
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(root, "before");
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(before, "ada_ece")));
    assert_true(cJSON_IsNull(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(before, "interval"), "ada_ece")));
    assert_interval(before, "ece");
    cJSON_Delete(root);

    labels[33] = labels[70] = 3;
    write_array("wrong.npy", INT64, 1, ROWS, 0, labels);
    assert_int_equal(
        shell(output,
              "%s evaluate --logits equal.npy --labels wrong.npy --bootstrap 0 --validation-logits equal.npy "
              "--validation-labels wrong.npy 2>&1",
              plumb),
        0);
    assert_non_null(
        strstr(output, "note: the NLL is infinite: in 2 rows, row 33 first, the label's class is masked"));
    assert_non_null(strstr(output, "note: in 2 rows of the validation set the label's class is masked"));
    assert_non_null(strstr(output, "NLL                             infinite"));
    assert_non_null(strstr(output, "cross_entropy           infinite\n"));
    values[33][3] = values[70][3] = -1e30F;
    write_array("equal.npy", FLOAT32, 2, ROWS, CLASSES, values);
    assert_int_equal(
        shell(output, "%s evaluate --logits equal.npy --labels wrong.npy --bootstrap 0 2>&1", plumb), 0);
    assert_non_null(strstr(output, "note: the NLL of 2 rows, row 33 first, is above 10^12"));
    assert_non_null(strstr(output, "2.2222e+28"));
}

/* A measure that is small because there are many classes has digits all the same. */
static void test_small_measures(void **state)
{
    (void)state;
    static char output[ROOM];
    enum { ROWS = 300, CLASSES = 3000 };
    float *values = calloc((size_t)ROWS * CLASSES, sizeof *values);
    int64_t labels[ROWS];
    assert_non_null(values);
    for (int row = 0; row < ROWS; ++row) {
        labels[row] = row * 10 + 9;
        values[row * CLASSES + row * 10 + (row % 4 == 0)] = (float)(10 + row % 5);
    }
    write_array("wide.npy", FLOAT32, 2, ROWS, CLASSES, values);
    write_array("wide_labels.npy", INT64, 1, ROWS, 0, labels);
    free(values);
    assert_int_equal(
        shell(output,
              "%s evaluate --logits wide.npy --labels wide_labels.npy --bootstrap 50 --json wide.json",
              plumb),
        0);
    const char *line = strstr(output, "Classwise-ECE %");
    assert_non_null(line);
    double value, low;
    assert_int_equal(sscanf(line, "Classwise-ECE %% %lf [%lf", &value, &low),
                     1); /* so many classes: no interval */
    cJSON *root = parse_file("wide.json");
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(root, "before");
    const double want = 100 * cJSON_GetObjectItemCaseSensitive(before, "classwise_ece")->valuedouble;
    assert_true(want > 0 && want < 0.09);
    assert_close(&value, &want, 1, 5e-3, 0, "three digits");
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(before, "interval"), "classwise_ece")));
    cJSON_Delete(root);
    assert_int_equal(shell(output,
                           "%s evaluate --logits wide.npy --labels wide_labels.npy --bootstrap 50 "
                           "--classwise-intervals yes",
                           plumb),
                     0);
    assert_int_equal(sscanf(strstr(output, "Classwise-ECE %"), "Classwise-ECE %% %lf [%lf", &value, &low), 2);
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

/* A file of NumPy's, made by hand: `descr` and order as told, data as they are. */
static void write_numpy(const char *name, const char *descr, bool fortran_order, const char *shape,
                        const void *data, size_t bytes)
{
    char path[8192], header[128];
    (void)snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", descr,
                   fortran_order ? "True" : "False", shape);
    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    const size_t length = 118; /* of the padded header, which makes 128 bytes with what is before it */
    assert_int_equal(fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file), 10);
    assert_int_equal(fprintf(file, "%-*s\n", (int)length - 1, header), (int)length);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* The same logits as float32 in C order, as float16, transposed, and both: the same result to the bit. */
static void test_spellings_of_logits(void **state)
{
    (void)state;
    static char want[ROOM], got[ROOM];
    static const float plain[8] = {1, -2, 0.5F, 3, 0, 6.103515625e-5F, -1.5F, 2048}; /* [4,2] */
    static const uint16_t half[8] = {0x3c00, 0xc000, 0x3800, 0x4200, 0, 0x0400, 0xbe00, 0x6800};
    static const int64_t labels[4] = {0, 1, 0, 1};
    float transposed[8];
    uint16_t half_transposed[8];
    for (int row = 0; row < 4; ++row)
        for (int column = 0; column < 2; ++column) {
            transposed[column * 4 + row] = plain[row * 2 + column];
            half_transposed[column * 4 + row] = half[row * 2 + column];
        }
    write_array("logits_c.npy", FLOAT32, 2, 4, 2, plain);
    write_array("labels_c.npy", INT64, 1, 4, 0, labels);
    write_numpy("half_c.npy", "<f2", false, "(4, 2)", half, sizeof half);
    write_numpy("logits_f.npy", "<f4", true, "(4, 2)", transposed, sizeof transposed);
    write_numpy("half_f.npy", "<f2", true, "(4, 2)", half_transposed, sizeof half_transposed);
    write_numpy("labels_f.npy", "<i8", true, "(4,)", labels, sizeof labels);
    assert_int_equal(
        shell(want, "%s evaluate --logits logits_c.npy --labels labels_c.npy --json - 2>problem", plumb), 0);
    static const char *const names[] = {"half_c", "logits_f", "half_f"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        for (int ranks = 1; ranks <= 2; ++ranks) {
            char launcher[256] = "";
            if (ranks == 2) (void)snprintf(launcher, sizeof launcher, MPIRUN " 2");
            assert_runs(shell(got, "%s %s evaluate --logits %s.npy --labels labels_f.npy --json - 2>problem",
                              launcher, plumb, names[i]));
            assert_string_equal(got, want);
        }
    write_numpy("big_endian.npy", ">f4", false, "(4, 2)", plain, sizeof plain);
    assert_int_equal(shell(got, "%s evaluate --logits big_endian.npy --labels labels_c.npy 2>&1", plumb),
                     STATUS_INPUT);
    assert_non_null(strstr(got, "big_endian.npy: element type '>f4' is big-endian"));
    assert_non_null(strstr(got, "astype('<f4')"));
}

static void write_bad_files(void)
{
    float values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    double reals[4] = {0, 1, 2, 1};
    int64_t labels[4] = {0, 1, 2, 1};
    write_array("good.npy", FLOAT32, 2, 4, 3, values);
    write_array("labels.npy", INT64, 1, 4, 0, labels);
    write_array("short.npy", INT64, 1, 3, 0, labels);
    write_array("reals.npy", FLOAT64, 1, 4, 0, reals);
    write_numpy("bytes.npy", "|i1", false, "(4, 2)", values, 8);
    write_numpy("brain.npy", "|V2", false, "(4, 2)", values, 16);
    write_array("flat.npy", FLOAT32, 1, 12, 0, values);
    write_array("square.npy", INT64, 2, 2, 2, labels);
    write_array("integers.npy", INT64, 2, 2, 2, labels);
    write_array("empty.npy", FLOAT32, 2, 0, 3, values);
    write_array("none.npy", INT64, 1, 0, 0, labels);
    write_array("other.npy", FLOAT32, 2, 6, 2, values);
    double thirds[12] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0}, pairs[4] = {1, 0, 0.5, 0.5};
    write_array("thirds.npy", FLOAT64, 2, 4, 3, thirds);
    write_array("pairs.npy", FLOAT64, 2, 2, 2, pairs);
    values[7] = NAN;
    write_array("nan.npy", FLOAT32, 2, 4, 3, values);
    values[7] = INFINITY;
    write_array("infinite.npy", FLOAT32, 2, 4, 3, values);
    const double uneven[4][3] = {{0, 0, 1}, {0.25, 0.5, 0.25}, {0.3, 0.3, 0.3}, {1, 0, 0}};
    const double confident[4] = {0, 1, 0.5, 1.5};
    const uint8_t right[4] = {0, 1, 1, 0};
    const int64_t ignored[4] = {-100, -100, -100, -100}, first_ignored[4] = {-100, 1, 2, 1};
    write_array("uneven.npy", FLOAT64, 2, 4, 3, uneven);
    const double halves[4] = {0.5, 0.5, 0.5, 0.5};
    write_array("halves.npy", FLOAT64, 1, 4, 0, halves);
    write_array("confident.npy", FLOAT64, 1, 4, 0, confident);
    write_array("right.npy", UINT8, 1, 4, 0, right);
    write_array("ignored.npy", INT64, 1, 4, 0, ignored);
    write_array("first_ignored.npy", INT64, 1, 4, 0, first_ignored);
    labels[3] = 3;
    write_array("large.npy", INT64, 1, 4, 0, labels);
    labels[3] = -1;
    write_array("negative.npy", INT64, 1, 4, 0, labels);
}

static void test_bad_input(void **state)
{
    (void)state;
    static char output[ROOM];
    write_bad_files();
    /* 10 seconds, and what a busy machine makes of starting ranks. */
    const double before = now();
    assert_runs(shell(output, MPIRUN " 2 %s --version 2>problem", plumb));
    const double limit = 10 + 5 * (now() - before);
    assert_int_equal(shell(output,
                           "head -c 140 good.npy >cut.npy; echo text >text.npy; : >void.npy; printf "
                           "'PK\\003\\004 and more' >many.npz; printf 'cat\\r\\ndog\\n' >two.txt; printf "
                           "'cat\\n\\ndog\\n' >gap.txt"),
                     0);
    static const struct {
        const char *arguments;
        int code;
        const char *text; /* NULL: only that there is one message */
    } cases[] = {
        {"--logits good.npy --labels short.npy", STATUS_INPUT,
         "short.npy has 3 labels, but good.npy has 4 rows"},
        {"--logits nan.npy --labels labels.npy", STATUS_NUMERIC,
         "nan.npy: the logit of row 2, column 1 is NaN"},
        {"--logits infinite.npy --labels labels.npy", STATUS_NUMERIC, "row 2, column 1 is infinity"},
        {"--logits good.npy --labels large.npy", STATUS_INPUT,
         "large.npy: the label of row 3 is 3; with 3 classes"},
        {"--logits good.npy --labels negative.npy", STATUS_INPUT, "negative.npy: the label of row 3 is -1"},
        {"--logits good.npy --labels reals.npy", STATUS_INPUT,
         "reals.npy: labels are integers, not float64 (if they are whole numbers: save "
         "array.astype('int64'))"},
        {"--logits flat.npy --labels labels.npy", STATUS_INPUT,
         "of class 1 of two: save array.reshape(-1, 1)"},
        {"--logits good.npy --labels square.npy", STATUS_INPUT, "of one-hot rows array.argmax(1)"},
        {"--logits integers.npy --labels labels.npy", STATUS_INPUT,
         "integers.npy: logits are float16, float32 or float64, not int64"},
        {"--logits bytes.npy --labels labels.npy", STATUS_INPUT,
         "bytes.npy: logits are float16, float32 or float64, not int8"},
        {"--logits brain.npy --labels labels.npy", STATUS_INPUT,
         "brain.npy: element type '|V2' is bfloat16 as NumPy saves it"},
        {"--logits many.npz --labels labels.npy", STATUS_INPUT, "many.npz: an archive of arrays (.npz)"},
        {"elsewhere", STATUS_IO, "there is no run elsewhere"},
        {".", STATUS_INPUT, ". is no run"},
        {"good.npy", STATUS_USAGE, "good.npy is a file, not a run"},
        {"--logits good.npy --labels labels.npy --temperature-grid 1:0:1", STATUS_USAGE,
         "temperatures from 1 to 0"},
        {"--logits good.npy --labels labels.npy --classwise-intervals maybe", STATUS_USAGE,
         "--classwise-intervals takes yes, no or auto, not maybe"},
        {"--probabilities good.npy --labels labels.npy", STATUS_INPUT,
         "good.npy: the probability of row 0, column 2 is 2; it must be in 0..1"},
        {"--probabilities uneven.npy --labels labels.npy", STATUS_INPUT,
         "uneven.npy: the probabilities of row 2 sum to 0.9; they must sum to 1 within 0.001"},
        {"--probabilities nan.npy --labels labels.npy", STATUS_INPUT, "row 0, column 2 is 2"},
        {"--logits good.npy --probabilities good.npy --labels labels.npy", STATUS_USAGE,
         "--logits and --probabilities exclude each other"},
        {"--probabilities uneven.npy --labels labels.npy --validation-logits good.npy --validation-labels "
         "labels.npy",
         STATUS_USAGE, "all sets are logits, or all are probabilities"},
        {"--probabilities uneven.npy", STATUS_USAGE, "--probabilities needs --labels"},
        {"--confidence halves.npy --correct labels.npy", STATUS_INPUT,
         "labels.npy: row 2 is 2; it must be 1 where the prediction is right"},
        {"--confidence confident.npy --correct right.npy", STATUS_INPUT,
         "confident.npy: the confidence of row 3 is 1.5; it must be in 0..1"},
        {"--confidence reals.npy --correct short.npy", STATUS_INPUT,
         "short.npy has 3 samples, but reals.npy has 4"},
        {"--confidence good.npy --correct right.npy", STATUS_INPUT, "good.npy: confidences have 1 dimension"},
        {"--confidence labels.npy --correct right.npy", STATUS_INPUT,
         "labels.npy: confidences are float16, float32 or float64, not int64"},
        {"--confidence reals.npy", STATUS_USAGE, "--confidence and --correct go together"},
        {"--confidence reals.npy --correct right.npy --labels labels.npy", STATUS_USAGE, "stand alone"},
        {"--confidence reals.npy --correct right.npy --recalibrate isotonic", STATUS_USAGE, "stand alone"},
        {"--confidence reals.npy --correct right.npy --ignore-label -100", STATUS_USAGE,
         "--ignore-label is about labels"},
        {"--logits good.npy --labels labels.npy --kernel-samples 1000", STATUS_USAGE,
         "--kernel-samples are about measures that --all-measures makes"},
        {"--logits good.npy --labels labels.npy --recalibrate beta,vector,vector_scaling", STATUS_USAGE,
         "--recalibrate names vector_scaling twice"},
        {"--logits good.npy --labels labels.npy --recalibrate histogram:bins=5,histogram", STATUS_USAGE,
         "is fitted to a validation set"},
        {"--probabilities thirds.npy --labels labels.npy --ood-probabilities pairs.npy", STATUS_INPUT,
         "pairs.npy: probabilities of 2 classes, but thirds.npy has 3"},
        {"--logits good.npy --labels labels.npy --ignore-label x", STATUS_USAGE, "--ignore-label takes"},
        {"--logits good.npy --labels ignored.npy", STATUS_INPUT,
         "ignored.npy: all labels are -100, and samples of that label are left out"},
        {"--logits nan.npy --labels first_ignored.npy", STATUS_NUMERIC,
         "the logit of row 2, column 1 is NaN"},
        {"--logits good.npy --labels labels.npy --class-names two.txt", STATUS_INPUT,
         "two.txt has 2 names, but good.npy has 3 classes"},
        {"--logits good.npy --labels labels.npy --class-names gap.txt", STATUS_INPUT,
         "gap.txt, line 2: the line is empty"},
        {"--logits good.npy --labels labels.npy --class-names void.npy", STATUS_INPUT,
         "void.npy: there are no names"},
        {"--logits empty.npy --labels none.npy", STATUS_INPUT, "empty.npy: there are no samples"},
        {"--logits cut.npy --labels labels.npy", STATUS_INPUT, "cut.npy"},
        {"--logits text.npy --labels labels.npy", STATUS_INPUT, "text.npy"},
        {"--logits void.npy --labels labels.npy", STATUS_INPUT, "void.npy"},
        {"--logits missing.npy --labels labels.npy", STATUS_IO, "missing.npy"},
        {"--logits good.npy --labels labels.npy --ood-logits other.npy", STATUS_INPUT,
         "other.npy: logits of 2 classes, but good.npy has 3"},
        {"--logits good.npy --labels labels.npy --ood-logits nan.npy", STATUS_NUMERIC, "nan.npy"},
        {"--logits good.npy --labels labels.npy --validation-logits nan.npy --validation-labels labels.npy",
         STATUS_NUMERIC, "nan.npy"},
        {"--logits good.npy --labels labels.npy --validation-logits good.npy", STATUS_USAGE, "go together"},
        {"--logits good.npy", STATUS_USAGE, "--labels"},
        {"", STATUS_USAGE, "--logits"},
        {"--logits good.npy --labels labels.npy --bins 0", STATUS_USAGE,
         "--bins takes a whole number from 1 to"},
        {"--logits good.npy --labels labels.npy --bins 15x", STATUS_USAGE, "not '15x'"},
        {"--logits good.npy --labels labels.npy --bootstrap -1", STATUS_USAGE, "--bootstrap takes"},
        {"--logits good.npy --labels labels.npy --seed 99999999999999999999", STATUS_USAGE, "--seed takes"},
        {"--logits good.npy --labels labels.npy --sed 1", STATUS_USAGE,
         "plumb evaluate does not know --sed; did you mean --seed?"},
        {"--logits good.npy --labels labels.npy -b 1", STATUS_USAGE, "plumb evaluate does not know -b"},
        {"--logits=good.npy --labels=labels.npy --sed=1", STATUS_USAGE,
         "plumb evaluate does not know --sed;"},
        {"--logits=good.npy --labels=labels.npy --bins=0", STATUS_USAGE,
         "--bins takes a whole number from 1 to"},
        {"--logits=good.npy --labels=", STATUS_USAGE, "--labels needs a file"},
        {"--logits --labels labels.npy", STATUS_USAGE, "--logits needs a file"},
        {"--logits good.npy --labels labels.npy --seed 1 --seed=2", STATUS_USAGE, "--seed is given twice"},
        {"run other", STATUS_USAGE, "takes one run, not also other"},
        {"--logits good.npy --labels", STATUS_USAGE, "--labels needs a file"},
        {"--logits good.npy --labels labels.npy --split test", STATUS_USAGE, "--split"},
        {"run --logits good.npy", STATUS_USAGE, "not both"},
        {"--logits good.npy --labels labels.npy --json nowhere/out.json", STATUS_IO, "nowhere/out.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        for (int ranks = 1; ranks <= 2; ++ranks) {
            /* Starting ranks takes its time: a few cases will do, one of them known to the last rank only. */
            if (ranks == 2 && i % 5 != 1) continue;
            const double start = now();
            char launcher[256] = "";
            if (ranks == 2) (void)snprintf(launcher, sizeof launcher, MPIRUN " 2");
            const int code =
                shell(output, "%s %s evaluate %s 2>&1 >/dev/null", launcher, plumb, cases[i].arguments);
            if (code != cases[i].code || strstr(output, cases[i].text) == NULL)
                print_error("plumb evaluate %s\nexit code %d: %s", cases[i].arguments, code, output);
            assert_int_equal(code, cases[i].code);
            const char *said = strstr(output, cases[i].text);
            assert_non_null(said);
            assert_null(strstr(said + 1, cases[i].text)); /* once */
            if (ranks == 1)
                assert_ptr_equal(strchr(output, '\n'), output + strlen(output) - 1); /* one line */
            const double seconds = now() - start;
            if (seconds >= limit) print_error("%s: %.1f s\n", cases[i].arguments, seconds);
            assert_true(seconds < limit);
        }
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
    plumb = getenv("PLUMB");
    if (plumb == NULL) plumb = TEST_BINARY_DIR "/plumb";
    test_scratch_make(scratch);
    char output[ROOM];
    assert_int_equal(shell(output, "cp %s ood.npy", example("ood/k10_typical", "ood_logits")), 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_without_validation),
        cmocka_unit_test(test_probabilities),
        cmocka_unit_test(test_worse),
        cmocka_unit_test(test_given_probabilities),
        cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_recalibration),
        cmocka_unit_test(test_all_measures),
        cmocka_unit_test(test_meaningless),
        cmocka_unit_test(test_small_measures),
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_spellings_of_logits),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_help),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    test_scratch_remove(scratch);
    return failures;
}
