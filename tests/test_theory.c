/* The paper's theory as numbers: the factor of Proposition 1, the minimisers of Figure B.1, Proposition 2, gradient norms at the last
 * layer, the linear experiment. */
#include "tests/golden.h"

#include "losses/gamma.h"
#include "losses/gradient_norm.h"
#include "losses/linear_experiment.h"
#include "losses/theory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- golden values ---- */

/* A function of two numbers over a table: rows of the first, columns of the second. */
static void check_table(const char *kind, const char *row_path, const char *value_path,
                        double (*function)(double, double))
{
    for (const GoldenCase *golden = NULL; (golden = golden_next(kind, NULL, golden)) != NULL;) {
        GoldenArray rows = golden_array(golden, row_path), columns = golden_array(golden, "inputs/gamma");
        double *got = malloc((size_t)(rows.count * columns.count) * sizeof *got);
        assert_non_null(got);
        for (int64_t i = 0; i < rows.count; ++i)
            for (int64_t k = 0; k < columns.count; ++k)
                got[i * columns.count + k] = function(rows.values[i], columns.values[k]);
        golden_check(golden, value_path, got, rows.count * columns.count, "f64");
        free(got);
        golden_array_free(&rows);
        golden_array_free(&columns);
    }
}

static void test_factor(void **state)
{
    (void)state;
    check_table("theory_g", "inputs/p", "expected_files/g", theory_factor);
    assert_true(theory_factor(0, 3) == 1 && theory_factor(1, 3) == 0);
    assert_true(theory_factor(0, 0) == 1 && theory_factor(0.7, 0) == 1 && theory_factor(1, 0) == 1);
    /* By hand: 0.5^2 - 2 0.5 0.5 ln 0.5 */
    assert_float_equal(theory_factor(0.5, 2), 0.25 + 0.5 * log(2), 1e-15);
}

static void test_deviation(void **state)
{
    (void)state;
    const float plain[] = {3, 4}, half[] = {1.5F, 2}, other[] = {1.5F, 3}, none[] = {0, 0};
    assert_true(theory_deviation(half, plain, 0.5, 2) == 0);
    assert_float_equal(theory_deviation(other, plain, 0.5, 2), 1.0 / 5, 1e-15);
    assert_true(theory_deviation(none, none, 0.5, 2) == 0);
    assert_true(theory_deviation(half, none, 0.5, 2) > 1e9);
}

static void test_minimiser(void **state)
{
    (void)state;
    check_table("theory_minimiser", "inputs/q", "expected_files/p_star", theory_minimiser);
    assert_true(theory_minimiser(0, 3) == 0 && theory_minimiser(1, 3) == 1);
    for (double q = 0.0625; q < 1; q += 0.0625) {
        assert_float_equal(theory_minimiser(q, 0), q, 1e-14); /* cross-entropy wants the truth */
        assert_float_equal(theory_minimiser(q, 3) + theory_minimiser(1 - q, 3), 1, 1e-14);
        if (q < 0.5) assert_true(theory_minimiser(q, 3) > q && theory_minimiser(q, 3) < 0.5);
    }
    /* No p next to it is better. */
    const double q = 0.8, best = theory_minimiser(q, 3);
    double value[3];
    for (int i = 0; i < 3; ++i) {
        const double p = best + (i - 1) * 1e-4;
        value[i] = -(q * pow(1 - p, 3) * log(p) + (1 - q) * pow(p, 3) * log(1 - p));
    }
    assert_true(value[1] < value[0] && value[1] < value[2]);
}

static void test_proposition_2(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("theory_gamma", NULL, golden)) != NULL;) {
        GoldenArray p0 = golden_array(golden, "inputs/p0");
        double *searched = malloc((size_t)p0.count * sizeof *searched),
               *closed = malloc((size_t)p0.count * sizeof *closed);
        assert_true(searched != NULL && closed != NULL);
        for (int64_t i = 0; i < p0.count; ++i) {
            searched[i] = theory_gamma_by_search(p0.values[i]);
            closed[i] = gamma_from_threshold(p0.values[i]);
        }
        golden_check(golden, "expected_files/gamma", searched, p0.count, "f64");
        golden_check(golden, "expected_files/gamma", closed, p0.count, "lambert");
        free(searched);
        free(closed);
        golden_array_free(&p0);
    }
    assert_true(theory_gamma_by_search(0.5) == 0);
    for (double p0 = 0.02; p0 < 0.49; p0 += 0.01)
        assert_float_equal(theory_factor(p0, theory_gamma_by_search(p0)), 1, 1e-12);
}

/* ---- gradient norms ---- */

static LossHead head_of(const char *name)
{
    static const struct {
        const char *name;
        LossHead head;
    } heads[] = {
        {"cross_entropy", {.form = SAMPLE_LABEL_SMOOTHING}},
        {"focal_1", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {1}}}},
        {"focal_2", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {2}}}},
        {"focal_3", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {3}}}},
        {"flsd_53", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {5, 3}, .limit = {0.2}, .limits = 1}}},
        {"brier", {.form = SAMPLE_BRIER}},
        {"label_smoothing_0.05_paper", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.05}},
        {"label_smoothing_0.05_uniform", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.05, .uniform = true}},
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; ++i)
        if (strcmp(heads[i].name, name) == 0) return heads[i].head;
    print_error("no loss %s\n", name);
    _fail(__FILE__, __LINE__);
    return heads[0].head;
}

static void test_golden_norms(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("gradient_norms", NULL, golden)) != NULL;) {
        GoldenArray features = golden_array(golden, "inputs/features"),
                    weights = golden_array(golden, "inputs/weights"),
                    bias = golden_array(golden, "inputs/bias"),
                    labels = golden_array(golden, "inputs/labels");
        const int64_t samples = labels.count, classes = bias.count, width = features.count / samples;
        const int losses = golden_length(golden, "params/losses");
        double *got = malloc((size_t)(losses * samples * 3) * sizeof *got),
               *row = malloc((size_t)classes * sizeof *row);
        float *read = malloc((size_t)width * sizeof *read);
        assert_true(got != NULL && row != NULL && read != NULL);
        bool single = true; /* are the features float32 numbers? */
        for (int l = 0; l < losses; ++l) {
            const LossHead head =
                head_of(cJSON_GetArrayItem(golden_item(golden, "params/losses"), l)->valuestring);
            for (int64_t i = 0; i < samples; ++i) {
                for (int64_t f = 0; f < width; ++f) {
                    read[f] = (float)features.values[i * width + f];
                    single = single && (double)read[f] == features.values[i * width + f];
                }
                for (int64_t k = 0; k < classes; ++k) {
                    row[k] = bias.values[k];
                    for (int64_t f = 0; f < width; ++f)
                        row[k] += weights.values[k * width + f] * features.values[i * width + f];
                }
                const GradientNorm norm =
                    gradient_norm(&head, 0, row, classes, (int64_t)labels.values[i], read, width);
                double *to = got + (l * samples + i) * 3;
                to[0] = norm.logits;
                to[1] = norm.weights;
                to[2] = norm.layer;
            }
        }
        golden_check(golden, "expected_files/norms", got, losses * samples * 3, single ? "f64" : "f32");
        free(got);
        free(row);
        free(read);
        golden_array_free(&features);
        golden_array_free(&weights);
        golden_array_free(&bias);
        golden_array_free(&labels);
    }
}

/* One sample by hand: two equal logits, so p = (1/2, 1/2) and dL/dlogits = (-1/2, 1/2); features (3, 4). */
static void test_norm_by_hand(void **state)
{
    (void)state;
    const LossHead plain = {.form = SAMPLE_LABEL_SMOOTHING},
                   focal = {.form = SAMPLE_FOCAL, .gamma = {.gamma = {2}}};
    const float features[] = {3, 4};
    double row[] = {7, 7};
    const GradientNorm norm = gradient_norm(&plain, 0, row, 2, 0, features, 2);
    assert_float_equal(norm.logits, sqrt(0.5), 1e-15);
    assert_float_equal(norm.weights, 5 * sqrt(0.5), 1e-14);
    assert_float_equal(norm.layer, sqrt(26 * 0.5), 1e-14);
    row[0] = row[1] = 7;
    assert_float_equal(gradient_norm(&focal, 0, row, 2, 0, features, 2).layer,
                       theory_factor(0.5, 2) * norm.layer, 1e-14);
    row[0] = 0, row[1] = -1e4; /* the label is certain: nothing is left, and nothing is NaN */
    assert_true(gradient_norm(&focal, 0, row, 2, 0, features, 2).layer == 0);
    row[0] = NAN, row[1] = 0;
    assert_true(isnan(gradient_norm(&plain, 0, row, 2, 0, features, 2).layer));
}

static void test_bins(void **state)
{
    (void)state;
    assert_int_equal(gradient_norm_bin(0), 0);
    assert_int_equal(gradient_norm_bin(1e-300), 0);
    assert_int_equal(gradient_norm_bin(1), NORM_BIN_OF_ONE);
    assert_int_equal(gradient_norm_bin(1.99), NORM_BIN_OF_ONE + 3);
    assert_int_equal(gradient_norm_bin(2), NORM_BIN_OF_ONE + 4);
    assert_int_equal(gradient_norm_bin(1e300), NORM_BINS - 1);
    for (int bin = 1; bin < NORM_BINS; ++bin)
        assert_int_equal(gradient_norm_bin(gradient_norm_bin_start(bin) * 1.01), bin);
}

/* ---- the linear experiment ---- */

static void test_linear_experiment(void **state)
{
    (void)state;
    static LinearData data;
    static LinearResult plain, focal;
    const LossHead cross_entropy = {.form = SAMPLE_LABEL_SMOOTHING},
                   focal_3 = {.form = SAMPLE_FOCAL, .gamma = {.gamma = {3}}};
    linear_data(&data);
    linear_train(&data, &cross_entropy, &plain);
    linear_train(&data, &focal_3, &focal);
    assert_int_equal(plain.records, focal.records);
    assert_int_equal(plain.record[plain.records - 1].step, LINEAR_STEPS);
    const LinearRecord *last = &plain.record[plain.records - 1], *other = &focal.record[focal.records - 1];
    /* Both separate the training points; cross-entropy goes on to grow, and is surer of its mistakes. */
    assert_true(last->train_error == 0 && other->train_error == 0);
    for (int i = plain.records / 2; i < plain.records; ++i) {
        assert_true(plain.record[i].weight_norm > plain.record[i - 1].weight_norm);
        assert_true(plain.record[i].weight_norm > focal.record[i].weight_norm);
        assert_true(plain.record[i].logit_norm > focal.record[i].logit_norm);
        assert_true(plain.record[i].wrong_confidence > focal.record[i].wrong_confidence);
    }
    assert_true(last->weight_norm > 1.2 * other->weight_norm);
    assert_true(last->test_error > 0.02 && last->test_error < 0.3);
    assert_true(last->test_nll > other->test_nll);
    /* The two classes' logits are opposite all along, as they begin. */
    assert_float_equal(plain.weight[0][0], -plain.weight[1][0], 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factor),       cmocka_unit_test(test_deviation),
        cmocka_unit_test(test_minimiser),    cmocka_unit_test(test_proposition_2),
        cmocka_unit_test(test_golden_norms), cmocka_unit_test(test_norm_by_hand),
        cmocka_unit_test(test_bins),         cmocka_unit_test(test_linear_experiment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
