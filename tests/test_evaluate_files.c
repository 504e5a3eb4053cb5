/* The files that plumb evaluate takes: logits, probabilities and confidences in all their spellings, and what is wrong with others. */
#include "tests/evaluate_cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probabilities), cmocka_unit_test(test_given_probabilities),
        cmocka_unit_test(test_ignored),       cmocka_unit_test(test_spellings_of_logits),
        cmocka_unit_test(test_bad_input),
    };
    return EVALUATE_TESTS(tests);
}
