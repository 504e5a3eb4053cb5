/* Calibration of logits that come batch by batch, on the device that has them: bit for bit what calibration_measure
 * finds in the whole set on the host, whatever the batches, the device and the width of the processor's vectors. */
#include "tests/support.h"

#include "engine/base/random.h"
#include "losses/calibration/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float *values;
    int32_t *labels;
    Logits logits;
} Set;

enum { SPREAD, CONFIDENT, TIED, EXTREME, FLAT, KINDS };

static float logit_of(int kind, double uniform, int64_t row, int64_t column)
{
    switch (kind) {
    case SPREAD:
        return (float)(6 * uniform - 3);
    case CONFIDENT: /* probabilities of nearly 1, and far below 2^-50 */
        return (float)(80 * uniform * uniform - 40);
    case TIED: /* few different values, zeros of both signs among them */
        return uniform < 0.3 ? -0.0F : uniform < 0.6 ? 0.0F : (float)(int)(4 * uniform) * 0.5F;
    case EXTREME:
        return uniform < 0.1    ? 1e4F
               : uniform < 0.2  ? -1e4F
               : uniform < 0.25 ? 3e38F
               : uniform < 0.3  ? -3e38F
                                : (float)(2 * uniform);
    default:
        return (float)((row + column) % 2 == 0) * 1e-7F;
    }
}

static Set set_make(int kind, int64_t count, int64_t classes)
{
    Set set = {.values = malloc((size_t)(count * classes) * sizeof(float)),
               .labels = malloc((size_t)count * sizeof(int32_t))};
    assert_non_null(set.values);
    assert_non_null(set.labels);
    RandomStream stream = random_stream(7, RANDOM_TEST, (uint64_t)kind);
    for (int64_t row = 0; row < count; ++row) {
        int64_t best = 0;
        for (int64_t k = 0; k < classes; ++k) {
            set.values[row * classes + k] = logit_of(kind, random_uniform(&stream), row, k);
            if (set.values[row * classes + k] > set.values[row * classes + best]) best = k;
        }
        set.labels[row] = (int32_t)(row % 3 == 0 ? row * 7 % classes : best);
    }
    set.logits = (Logits){.name = "made",
                          .type = FLOAT32,
                          .values = set.values,
                          .label_type = INT32,
                          .labels = set.labels,
                          .count = count,
                          .total = count,
                          .classes = classes};
    return set;
}

static void set_free(Set *set)
{
    free(set->values);
    free(set->labels);
}

/* The same numbers, bit for bit; without the gap that the struct may have behind `bins`. */
static void assert_same(const Calibration *got, const Calibration *want)
{
    const size_t bins = offsetof(Calibration, bins), bin = offsetof(Calibration, bin);
    assert_int_equal(got->bins, want->bins);
    assert_memory_equal(got, want, bins);
    assert_memory_equal((const char *)got + bin, (const char *)want + bin, sizeof *got - bin);
}

static Status run_pass(Device *device, Collective *collective, const Set *set, int bins, int64_t batch,
                       int64_t forgotten, Calibration *result)
{
    const Logits *logits = &set->logits;
    CalibrationPass *pass = NULL;
    void *memory = NULL;
    Status status;
    TRY_ELSE(done, calibration_pass_open(device, logits, bins, &pass));
    TRY_ELSE(done,
             device_allocate(device, (size_t)(batch * logits->classes) * sizeof(float), "logits", &memory));
    /* What was added before the beginning is forgotten, be it complete or not. */
    if (forgotten > 0) {
        TRY_ELSE(done, calibration_pass_begin(pass));
        TRY_ELSE(done, calibration_pass_add(pass, memory, forgotten < batch ? forgotten : batch));
    }
    TRY_ELSE(done, calibration_pass_begin(pass));
    for (int64_t first = 0; first < logits->count; first += batch) {
        const int64_t rows = logits->count - first < batch ? logits->count - first : batch;
        TRY_ELSE(done, device_upload(device, memory, set->values + first * logits->classes,
                                     (size_t)(rows * logits->classes) * sizeof(float)));
        TRY_ELSE(done, calibration_pass_add(pass, memory, rows));
    }
    TRY_ELSE(done, calibration_pass_collect(pass));
    TRY_ELSE(done, calibration_pass_measure(pass, collective, result));
done:
    calibration_pass_close(pass);
    device_free(device, memory);
    return status;
}

static void test_same_bits(void **state)
{
    (void)state;
    static const struct {
        int64_t count, classes, batch;
        int bins;
    } cases[] = {{1, 2, 1, 15},       {3, 2, 128, 1},      {17, 3, 4, 15},
                 {1000, 10, 128, 15}, {129, 8, 128, 25},   {300, 100, 77, 15},
                 {257, 201, 64, 15},  {40, 1003, 16, 200}, {9001, 2, 9001, 15}};
    Device *device;
    Collective *collective;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&collective));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        for (int kind = 0; kind < KINDS; ++kind) {
            Set set = set_make(kind, cases[i].count, cases[i].classes);
            static Calibration want, got;
            assert_ok(calibration_measure(collective, &set.logits, 1, cases[i].bins, 2, &want, NULL));
            assert_ok(run_pass(device, collective, &set, cases[i].bins, cases[i].batch,
                               kind % 2 == 0 ? 0 : cases[i].count / 2, &got));
            assert_same(&got, &want);
            set_free(&set);
        }
    }
    collective_free(collective);
    device_close(device);
}

static void assert_refused(Device *device, Collective *collective, const Set *set, StatusCode code,
                           const char *text)
{
    static Calibration result;
    assert_fails(run_pass(device, collective, set, 15, 8, 0, &result), code, text);
}

static void test_bad_input(void **state)
{
    (void)state;
    Device *device;
    Collective *collective;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&collective));
    Set set = set_make(SPREAD, 100, 10);
    set.logits.first = 1000; /* of a later rank */
    set.values[57 * 10 + 3] = INFINITY;
    set.values[57 * 10 + 9] = NAN;
    set.values[99 * 10] = NAN;
    assert_refused(device, collective, &set, STATUS_NUMERIC,
                   "made: the logit of row 1057, column 3 is infinity");
    set.values[12 * 10 + 4] = -INFINITY;
    assert_refused(device, collective, &set, STATUS_NUMERIC, "row 1012, column 4 is -infinity");
    set.values[0] = NAN;
    assert_refused(device, collective, &set, STATUS_NUMERIC, "row 1000, column 0 is NaN");
    set.labels[31] = 10;
    assert_refused(device, collective, &set, STATUS_INPUT, "made: the label of row 1031 is 10");
    set_free(&set);

    /* Rows missing, and too many. */
    set = set_make(SPREAD, 10, 4);
    CalibrationPass *pass;
    void *memory;
    assert_ok(device_allocate(device, 40 * sizeof(float), "logits", &memory));
    assert_ok(calibration_pass_open(device, &set.logits, 15, &pass));
    assert_ok(calibration_pass_begin(pass));
    assert_ok(calibration_pass_add(pass, memory, 6));
    assert_fails(calibration_pass_collect(pass), STATUS_INTERNAL, "6 rows of 10");
    assert_fails(calibration_pass_add(pass, memory, 5), STATUS_INTERNAL, "5 rows after row 6");
    calibration_pass_close(pass);
    assert_fails(calibration_pass_open(device, &set.logits, 201, &pass), STATUS_USAGE, "201 bins");
    device_free(device, memory);
    set_free(&set);
    collective_free(collective);
    device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
