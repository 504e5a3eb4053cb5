/* The measures of plumb evaluate that are not the usual ones: recalibration, --all-measures, and those that say nothing or little. */
#include "tests/evaluate_cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Four samples of two classes: logits, probabilities, and the classes' names; and five confidences. */
static void write_few(void)
{
    static const float logits[4][2] = {{0, 1}, {0, 0.5F}, {0, 3}, {0, -1}};
    static const double probabilities[4][2] = {{0.75, 0.25}, {0, 1}, {1, 0}, {0.5, 0.5}};
    static const int64_t logit_labels[] = {1, 0, 1, 1}, probability_labels[] = {0, 1, 0, 0};
    write_array("kept.npy", FLOAT32, 2, 4, 2, logits);
    write_array("kept_labels.npy", INT64, 1, 4, 0, logit_labels);
    write_array("both.npy", FLOAT64, 2, 4, 2, probabilities);
    write_array("binary.npy", INT64, 1, 4, 0, probability_labels);
    write_plain(in_scratch("names.txt"), "cat\ndog", 7);
    write_array("confidence.npy", FLOAT64, 1, 5, 0, (const double[]){1, 0.25, 0.5, 0.75, 1});
    write_array("correct.npy", UINT8, 1, 5, 0, (const uint8_t[]){1, 1, 0, 1, 0});
}

/* Calibrators fitted to the validation set: the same at any number of ranks, and again from their file. */
static void test_recalibration(void **state)
{
    (void)state;
    static char output[ROOM], want[ROOM];
    static const char methods[] = "vector,matrix:lambda=2,isotonic,histogram:scheme=equal_mass";
    const char *sets = arguments();
    write_few();
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
         "vector.json is a calibrator of 10 classes, but kept.npy has 2"},
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
    write_few();
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
    assert_non_null(
        strstr(output, "\n-: p = 1 is debiased by the spread within each bin")); /* of 4 samples */

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
    assert_null(strstr(output, "marginal, equal width")); /* what needs all classes is left out */
    assert_null(strstr(output, "class by class"));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recalibration),
        cmocka_unit_test(test_all_measures),
        cmocka_unit_test(test_meaningless),
        cmocka_unit_test(test_small_measures),
    };
    return EVALUATE_TESTS(tests);
}
