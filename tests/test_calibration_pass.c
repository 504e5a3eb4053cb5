/* Calibration of logits that come batch by batch, on the device that has them: bit for bit what calibration_measure
 * finds in the whole set on the host, whatever the batches, the device and the width of the processor's vectors. */
#include "tests/support.h"

#include "engine/base/random.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/temperature.h"
#include "losses/calibration/weighted_ece.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float *values;
    int32_t *labels;
    Logits logits;
} Set;

enum { SPREAD, CONFIDENT, TIED, EXTREME, FLAT, MASKED, KINDS };

static float logit_of(int kind, double uniform, int64_t row, int64_t column)
{
    switch (kind) {
    case SPREAD:
        return (float)(6 * uniform - 3);
    case CONFIDENT: /* probabilities of nearly 1, and far below 2^-50 */
        return (float)(80 * uniform * uniform - 40);
    case TIED: /* few different values, zeros of both signs among them */
        return uniform < 0.3 ? -0.0F : uniform < 0.6 ? 0.0F : (float)(int)(4 * uniform) * 0.5F;
    case MASKED: /* never the first class, so that every row has a finite logit; labels may be masked */
        return column > 0 && uniform < 0.3 ? -INFINITY : (float)(5 * uniform);
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

typedef struct {
    double temperature;
    int bins;
    int64_t batch, forgotten;
    const uint8_t *masked;
    const float *weights;  /* [count], host */
    const int64_t *number; /* likewise; NULL: rows are counted */
} Run;

static Status upload_rows(Device *device, const Set *set, const Run *run, int64_t first, int64_t count,
                          LogitRows *rows)
{
    const int64_t classes = set->logits.classes;
    const size_t values = (size_t)(count * classes) * sizeof(float), numbers = (size_t)count * sizeof(float);
    TRY(device_upload(device, (void *)(uintptr_t)rows->logits, set->values + first * classes, values));
    TRY(device_upload(device, (void *)(uintptr_t)rows->labels, set->labels + first, numbers));
    if (run->weights != NULL)
        TRY(device_upload(device, (void *)(uintptr_t)rows->weights, run->weights + first, numbers));
    if (run->number != NULL)
        TRY(device_upload(device, (void *)(uintptr_t)rows->number, run->number + first,
                          (size_t)count * sizeof(int64_t)));
    rows->rows = count;
    rows->first = set->logits.first + first;
    return OK;
}

static Status run_pass(Device *device, Collective *collective, const Set *set, const Run *run,
                       Calibration *result)
{
    const Logits *logits = &set->logits;
    const int64_t batch = run->batch;
    const CalibrationSetup setup = {.name = "made",
                                    .classes = logits->classes,
                                    .masked = run->masked,
                                    .temperature = run->temperature,
                                    .bins = run->bins,
                                    .most_rows = batch};
    CalibrationPass *pass = NULL;
    void *memory[4] = {NULL};
    Status status;
    TRY_ELSE(done, calibration_pass_open(device, &setup, &pass));
    TRY_ELSE(done, device_allocate(device, (size_t)(batch * logits->classes) * sizeof(float), "logits",
                                   &memory[0]));
    TRY_ELSE(done, device_allocate(device, (size_t)batch * sizeof(int32_t), "labels", &memory[1]));
    TRY_ELSE(done, device_allocate(device, (size_t)batch * sizeof(float), "weights", &memory[2]));
    TRY_ELSE(done, device_allocate(device, (size_t)batch * sizeof(int64_t), "numbers", &memory[3]));
    LogitRows rows = {.logits = memory[0],
                      .labels = memory[1],
                      .weights = run->weights != NULL ? memory[2] : NULL,
                      .number = run->number != NULL ? memory[3] : NULL};
    /* What was added before the beginning is forgotten, be it complete or not. */
    if (run->forgotten > 0) {
        TRY_ELSE(done, calibration_pass_begin(pass));
        TRY_ELSE(done,
                 upload_rows(device, set, run, 0, run->forgotten < batch ? run->forgotten : batch, &rows));
        TRY_ELSE(done, calibration_pass_add(pass, &rows));
    }
    TRY_ELSE(done, calibration_pass_begin(pass));
    for (int64_t first = 0; first < logits->count; first += batch) {
        const int64_t count = logits->count - first < batch ? logits->count - first : batch;
        TRY_ELSE(done, upload_rows(device, set, run, first, count, &rows));
        TRY_ELSE(done, calibration_pass_add(pass, &rows));
    }
    TRY_ELSE(done, calibration_pass_collect(pass));
    TRY_ELSE(done, calibration_pass_measure(pass, collective, result));
done:
    calibration_pass_close(pass);
    for (int i = 0; i < 4; ++i)
        device_free(device, memory[i]);
    return status;
}

static void test_same_bits(void **state)
{
    (void)state;
    static const struct {
        int64_t count, classes, batch;
        int bins;
    } cases[] = {{1, 2, 1, 15},       {3, 2, 128, 1},     {17, 3, 4, 15},     {1000, 10, 128, 15},
                 {129, 8, 128, 25},   {300, 100, 77, 15}, {257, 201, 64, 15}, {40, 1003, 16, 200},
                 {9001, 2, 9001, 15}, {5, 37000, 3, 15}};
    Device *device;
    Collective *collective;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&collective));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        for (int kind = 0; kind < KINDS; ++kind) {
            Set set = set_make(kind, cases[i].count, cases[i].classes);
            static Calibration want, got;
            const double temperature = kind == SPREAD ? 1 : 0.1 + 0.6 * kind;
            const Run run = {.temperature = temperature,
                             .bins = cases[i].bins,
                             .batch = cases[i].batch,
                             .forgotten = kind % 2 == 0 ? 0 : cases[i].count / 2};
            assert_ok(
                calibration_measure(collective, &set.logits, temperature, cases[i].bins, 2, &want, NULL));
            assert_ok(run_pass(device, collective, &set, &run, &got));
            assert_same(&got, &want);
            set_free(&set);
        }
    }
    collective_free(collective);
    device_close(device);
}

/* Rows of weight 0 are as good as not there, whatever they hold, and so are masked classes. */
static void test_weights_and_masks(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    Device *device;
    Collective *collective;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&collective));
    for (int64_t classes = 3; classes < 400; classes *= 6) {
        Set set = set_make(SPREAD, COUNT, classes), kept = set_make(SPREAD, COUNT, classes);
        static float weights[COUNT];
        uint8_t *masked = calloc((size_t)classes, 1);
        assert_non_null(masked);
        masked[1] = masked[classes - 1] = classes > 3;
        masked[1] = 1;
        int64_t count = 0;
        for (int64_t row = 0; row < COUNT; ++row) {
            weights[row] = (float)(row % 5 != 2);
            if (weights[row] == 0) {
                set.values[row * classes] = row % 2 == 0 ? NAN : INFINITY;
                set.labels[row] = row % 3 == 0 ? -1 : (int32_t)classes;
                continue;
            }
            for (int64_t k = 0; k < classes; ++k)
                kept.values[count * classes + k] = masked[k] ? -INFINITY : set.values[row * classes + k];
            kept.labels[count++] = set.labels[row];
        }
        kept.logits.count = kept.logits.total = count;
        static Calibration want, got;
        assert_ok(calibration_measure(collective, &kept.logits, 0.6, 15, 2, &want, NULL));
        if (want.large_nll_row >= 0)
            want.large_nll_row += want.large_nll_row / 4 + (want.large_nll_row % 4 > 1);
        const Run run = {.temperature = 0.6, .bins = 15, .batch = 64, .masked = masked, .weights = weights};
        assert_ok(run_pass(device, collective, &set, &run, &got));
        assert_true(want.infinite_nll_count > 0); /* labels of masked classes */
        assert_same(&got, &want);
        free(masked);
        set_free(&set);
        set_free(&kept);
    }
    collective_free(collective);
    device_close(device);
}

/* The temperature search, too: batch by batch as all at once, with rows and classes left out. */
static void test_temperature_pass(void **state)
{
    (void)state;
    enum { COUNT = 300, CLASSES = 11, BATCH = 70 };
    Device *device;
    Collective *collective;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&collective));
    Set set = set_make(SPREAD, COUNT, CLASSES), kept = set_make(SPREAD, COUNT, CLASSES);
    static float weights[COUNT];
    const uint8_t masked[CLASSES] = {[4] = 1};
    int64_t count = 0;
    for (int64_t row = 0; row < COUNT; ++row) {
        weights[row] = (float)(row % 3 != 0);
        if (weights[row] == 0) {
            set.values[row * CLASSES] = NAN;
            set.labels[row] = -1;
            continue;
        }
        memcpy(kept.values + count * CLASSES, set.values + row * CLASSES, CLASSES * sizeof(float));
        kept.values[count * CLASSES + 4] = -INFINITY;
        kept.labels[count++] = set.labels[row];
    }
    kept.logits.count = kept.logits.total = count;
    static TemperatureSearch want, got;
    static const TemperatureGrid grids[] = {{0.1, 10, 0.1}, {0.5, 3, 0.25}};
    void *memory[3];
    assert_ok(device_allocate(device, BATCH * CLASSES * sizeof(float), "logits", &memory[0]));
    assert_ok(device_allocate(device, BATCH * sizeof(int32_t), "labels", &memory[1]));
    assert_ok(device_allocate(device, BATCH * sizeof(float), "weights", &memory[2]));
    for (int g = 0; g < 2; ++g) {
        const TemperatureSetup setup = {.name = "made",
                                        .classes = CLASSES,
                                        .masked = masked,
                                        .grid = grids[g],
                                        .bins = 15,
                                        .most_rows = BATCH};
        TemperaturePass *pass;
        assert_ok(temperature_curves(collective, &kept.logits, grids[g], 15, 2, FLOAT64, &want));
        assert_ok(temperature_pass_open(device, &setup, &pass));
        for (int time = 0; time < 2; ++time) { /* what was before a beginning is forgotten */
            temperature_pass_begin(pass);
            for (int64_t first = 0; first < COUNT; first += BATCH) {
                LogitRows rows = {.logits = memory[0], .labels = memory[1], .weights = memory[2]};
                assert_ok(upload_rows(device, &set, &(const Run){.weights = weights}, first,
                                      COUNT - first < BATCH ? COUNT - first : BATCH, &rows));
                assert_ok(temperature_pass_add(pass, &rows));
            }
            assert_ok(temperature_pass_search(pass, collective, &got));
            assert_memory_equal(&got, &want, sizeof got);
        }
        weights[0] = 1; /* a row that holds NaN counts after all */
        LogitRows rows = {.logits = memory[0], .labels = memory[1], .weights = memory[2]};
        assert_ok(upload_rows(device, &set, &(const Run){.weights = weights}, 0, 9, &rows));
        assert_fails(temperature_pass_add(pass, &rows), STATUS_NUMERIC,
                     "made: the logit of row 0, column 0 is NaN");
        weights[0] = 0;
        temperature_pass_begin(pass);
        assert_fails(temperature_pass_search(pass, collective, &got), STATUS_INPUT,
                     "made: there are no samples");
        temperature_pass_close(pass);
    }
    for (int i = 0; i < 3; ++i)
        device_free(device, memory[i]);
    set_free(&set);
    set_free(&kept);
    collective_free(collective);
    device_close(device);
}

/* The formula of weighted_ece.h, as it stands there. *nll: the mean over rows with a weight. */
static double plain_weighted_ece(const Set *set, const float weights[], const uint8_t masked[], int64_t rows,
                                 int64_t classes, double temperature, int bins, double *nll)
{
    double gap[CALIBRATION_MAX_BINS] = {0}, sum_of_gaps = 0;
    int64_t positions = 0;
    *nll = 0;
    for (int64_t row = 0; row < rows; ++row) {
        double sum = 0;
        if (weights[row] == 0) continue;
        ++positions;
        for (int64_t v = 0; v < classes; ++v)
            if (!masked[v]) sum += exp((double)set->values[row * classes + v] / temperature);
        *nll += log(sum) - (double)set->values[row * classes + set->labels[row]] / temperature;
        for (int64_t v = 0; v < classes; ++v) {
            const double p = masked[v] ? 0 : exp((double)set->values[row * classes + v] / temperature) / sum;
            int bin = 0;
            while (bin < bins - 1 && p > (double)(bin + 1) / bins)
                ++bin;
            gap[bin] += p * ((v == set->labels[row] ? 1 : 0) - p);
        }
    }
    for (int bin = 0; bin < bins; ++bin)
        sum_of_gaps += fabs(gap[bin]);
    *nll /= (double)positions;
    return sum_of_gaps / (double)positions;
}

static void test_weighted_ece(void **state)
{
    (void)state;
    enum { COUNT = 300, CLASSES = 37 };
    static const double temperatures[] = {1, 0.4, 2.5};
    Device *device;
    Collective *collective;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&collective));
    Set set = set_make(SPREAD, COUNT, CLASSES);
    static float weights[COUNT];
    static const uint8_t masked[CLASSES] = {[4] = 1};
    for (int64_t row = 0; row < COUNT; ++row) {
        weights[row] = (float)(row % 3 != 0);
        if (weights[row] == 0) set.values[row * CLASSES] = NAN;
        if (set.labels[row] == 4) set.labels[row] = 5;
    }
    for (int b = 0; b < 3; ++b) {
        const int bins = (int[]){1, 15, 20}[b];
        double first[3] = {0}, value[3], nll[3], mean;
        for (int64_t batch = 70; batch <= COUNT; batch += COUNT - 70) {
            const WeightedEceSetup setup = {.name = "made",
                                            .classes = CLASSES,
                                            .masked = masked,
                                            .temperatures = 3,
                                            .temperature = {1, 0.4, 2.5},
                                            .bins = bins,
                                            .most_rows = batch};
            void *memory[3];
            WeightedEcePass *pass;
            assert_ok(device_allocate(device, (size_t)batch * CLASSES * sizeof(float), "logits", &memory[0]));
            assert_ok(device_allocate(device, (size_t)batch * sizeof(int32_t), "labels", &memory[1]));
            assert_ok(device_allocate(device, (size_t)batch * sizeof(float), "weights", &memory[2]));
            assert_ok(weighted_ece_open(device, &setup, &pass));
            memset(nll, 0, sizeof nll);
            int counted = 0;
            for (int64_t at = 0; at < COUNT; at += batch) {
                LogitRows rows = {.logits = memory[0], .labels = memory[1], .weights = memory[2]};
                assert_ok(upload_rows(device, &set, &(const Run){.weights = weights}, at,
                                      COUNT - at < batch ? COUNT - at : batch, &rows));
                static double of_row[3 * COUNT];
                assert_ok(weighted_ece_add(pass, &rows, of_row));
                for (int64_t row = 0; row < rows.rows; ++row) {
                    if (weights[at + row] == 0) continue;
                    ++counted;
                    for (int t = 0; t < 3; ++t)
                        nll[t] += of_row[t * rows.rows + row];
                }
            }
            for (int t = 0; t < 3; ++t)
                nll[t] /= counted;
            assert_ok(weighted_ece_measure(pass, collective, value));
            if (batch == 70)
                memcpy(first, value, sizeof first);
            else
                assert_memory_equal(value, first, sizeof first); /* whatever the batches */
            weighted_ece_close(pass);
            for (int i = 0; i < 3; ++i)
                device_free(device, memory[i]);
        }
        for (int t = 0; t < 3; ++t) {
            assert_float_equal(
                value[t],
                plain_weighted_ece(&set, weights, masked, COUNT, CLASSES, temperatures[t], bins, &mean),
                1e-6);
            assert_float_equal(nll[t], mean, 1e-6);
        }
    }
    const WeightedEceSetup wrong = {
        .name = "made", .classes = CLASSES, .temperatures = 1, .bins = 500, .most_rows = 1};
    WeightedEcePass *pass;
    assert_fails(weighted_ece_open(device, &wrong, &pass), STATUS_USAGE, "500 bins");
    set_free(&set);
    collective_free(collective);
    device_close(device);
}

static void assert_refused(Device *device, Collective *collective, const Set *set, const Run *run,
                           StatusCode code, const char *text)
{
    static Calibration result;
    assert_fails(run_pass(device, collective, set, run, &result), code, text);
}

/* Rows of several samples come in any order: messages name the sample. */
static void test_samples_are_named(void **state)
{
    (void)state;
    Device *device;
    Collective *collective;
    int64_t number[100];
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&collective));
    for (int i = 0; i < 100; ++i)
        number[i] = 5000 + 3 * i;
    const Run run = {.temperature = 1, .bins = 15, .batch = 8, .number = number};
    Set set = set_make(SPREAD, 100, 10);
    set.labels[98] = 10;
    assert_refused(device, collective, &set, &run, STATUS_INPUT, "made: the label of row 5294 is");
    set.values[57 * 10 + 3] = INFINITY;
    assert_refused(device, collective, &set, &run, STATUS_NUMERIC,
                   "made: the logit of row 5171, column 3 is infinity");
    set_free(&set);
    collective_free(collective);
    device_close(device);
}

/* So does the temperature search of a row that has a finite logit only where a class is left out. */
static void test_masked_sample_is_named(void **state)
{
    (void)state;
    enum { ROWS = 8, CLASSES = 3 };
    Device *device;
    TemperaturePass *pass;
    int64_t number[ROWS];
    void *memory[3];
    const uint8_t masked[CLASSES] = {0, 1, 0};
    const TemperatureSetup setup = {.name = "made",
                                    .classes = CLASSES,
                                    .masked = masked,
                                    .grid = {1, 2, 0.5},
                                    .bins = 15,
                                    .most_rows = ROWS};
    Set set = set_make(SPREAD, ROWS, CLASSES);
    set.values[5 * CLASSES] = set.values[5 * CLASSES + 2] = -INFINITY;
    for (int i = 0; i < ROWS; ++i)
        number[i] = 70 - i;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(device_allocate(device, ROWS * CLASSES * sizeof(float), "logits", &memory[0]));
    assert_ok(device_allocate(device, ROWS * sizeof(int32_t), "labels", &memory[1]));
    assert_ok(device_allocate(device, ROWS * sizeof(int64_t), "numbers", &memory[2]));
    LogitRows rows = {.logits = memory[0], .labels = memory[1], .number = memory[2]};
    assert_ok(upload_rows(device, &set, &(const Run){.number = number}, 0, ROWS, &rows));
    assert_ok(temperature_pass_open(device, &setup, &pass));
    temperature_pass_begin(pass);
    assert_fails(temperature_pass_add(pass, &rows), STATUS_NUMERIC,
                 "made: all logits of row 65 are -infinity");
    temperature_pass_close(pass);
    for (int i = 0; i < 3; ++i)
        device_free(device, memory[i]);
    device_close(device);
    set_free(&set);
}

static void test_bad_input(void **state)
{
    (void)state;
    Device *device;
    Collective *collective;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&collective));
    Run run = {.temperature = 1, .bins = 15, .batch = 8};
    Set set = set_make(SPREAD, 100, 10);
    set.logits.first = 1000; /* of a later rank */
    set.labels[98] = 10;
    assert_refused(device, collective, &set, &run, STATUS_INPUT, "made: the label of row 1098 is");
    set.labels[96] = -1;
    assert_refused(device, collective, &set, &run, STATUS_INPUT, "made: the label of row 1096 is");
    for (int k = 0; k < 10; ++k)
        set.values[95 * 10 + k] = -INFINITY;
    assert_refused(device, collective, &set, &run, STATUS_NUMERIC,
                   "made: all logits of row 1095 are -infinity");
    set.values[57 * 10 + 3] = INFINITY;
    set.values[57 * 10 + 9] = NAN;
    set.values[99 * 10] = NAN;
    assert_refused(device, collective, &set, &run, STATUS_NUMERIC,
                   "made: the logit of row 1057, column 3 is infinity");
    set.values[12 * 10 + 4] = -INFINITY; /* a masked class */
    assert_refused(device, collective, &set, &run, STATUS_NUMERIC,
                   "made: the logit of row 1057, column 3 is infinity");
    set.values[0] = NAN;
    assert_refused(device, collective, &set, &run, STATUS_NUMERIC, "row 1000, column 0 is NaN");
    static float weights[100];
    weights[1] = 0.5F;
    run.weights = weights;
    assert_refused(device, collective, &set, &run, STATUS_INPUT, "the weight of row 1001 is neither 0 nor 1");
    weights[1] = 0;
    assert_refused(device, collective, &set, &run, STATUS_INPUT, "made: there are no samples");
    run.weights = NULL;
    run.bins = 201;
    assert_refused(device, collective, &set, &run, STATUS_USAGE, "201 bins");
    run.bins = 15;
    run.temperature = 0;
    assert_refused(device, collective, &set, &run, STATUS_USAGE, "temperature");
    const uint8_t all[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    run.temperature = 1;
    run.masked = all;
    assert_refused(device, collective, &set, &run, STATUS_INPUT, "all classes are masked");
    set_free(&set);

    /* More rows than were announced. */
    set = set_make(SPREAD, 10, 4);
    CalibrationPass *pass;
    const CalibrationSetup setup = {
        .name = "made", .classes = 4, .temperature = 1, .bins = 15, .most_rows = 6};
    assert_ok(calibration_pass_open(device, &setup, &pass));
    assert_ok(calibration_pass_begin(pass));
    assert_fails(calibration_pass_add(pass, &(LogitRows){.rows = 7}), STATUS_INTERNAL, "a batch of 7 rows");
    calibration_pass_close(pass);
    set_free(&set);
    collective_free(collective);
    device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),        cmocka_unit_test(test_weights_and_masks),
        cmocka_unit_test(test_temperature_pass), cmocka_unit_test(test_masked_sample_is_named),
        cmocka_unit_test(test_weighted_ece),     cmocka_unit_test(test_samples_are_named),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
